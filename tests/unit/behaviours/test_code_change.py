"""Newly loaded code in a running process: the class changes, the process stays."""

from __future__ import annotations

import importlib
import sys as python
import types
from typing import Any

import pytest
import trio

from runtime import (
    KILL,
    KILLED,
    TIMEOUT,
    EventSourced,
    GenServer,
    Misuse,
    NoReply,
    Pid,
    call,
    cast,
    cast_nowait,
    is_alive,
    message,
    monitor,
    start,
    start_link,
    sys,
    whereis,
)
from supervisors import Supervisor, child
from tests.support.processes import as_process, exit_and_wait, mail, running_node

FIRST = """
from runtime import GenServer

class Counter(GenServer):
    def init(self):
        self.count = 0

    def handle_call(self, request, caller):
        return self.count

    def handle_cast(self, request):
        self.count += 1
"""

SECOND = '''
from runtime import GenServer

class Counter(GenServer):
    """Counts by what is asked, and keeps a total under another name."""

    def init(self):
        self.total, self.steps = 0, []

    def code_change(self, old_vsn, state, extra):
        if old_vsn != 1:
            raise ValueError(f"no way from version {old_vsn}")
        return {"total": state["count"] * extra, "steps": []}

    def handle_call(self, request, caller):
        return self.total, self.steps

    def handle_cast(self, request):
        self.total += request
        self.steps.append(request)
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of its own, whose source a test may edit: `module.edit(text)` reloads it."""
    monkeypatch.setattr(python, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "counting_for_a_test.py"
    path.write_text(FIRST)
    loaded = importlib.import_module("counting_for_a_test")

    def edit(text):
        path.write_text(text)
        return importlib.reload(loaded)

    monkeypatch.setattr(loaded, "edit", edit, raising=False)
    yield loaded
    python.modules.pop("counting_for_a_test")


async def change(pid: Pid | str, code: Any, old_vsn: Any = None, extra: Any = None) -> None:
    """Suspend, change, resume: as an operator does it."""
    await sys.suspend(pid)
    try:
        await sys.change_code(pid, code, old_vsn, extra)
    finally:
        await sys.resume(pid)


@as_process
async def test_an_edited_module_is_taken_on_by_a_running_process(node, module):
    """The process keeps pid, name, links and queue; code_change makes its new state from the old one (Y6)."""
    pid = await start_link(module.Counter, name="counter")
    ref = monitor(pid)
    for _ in range(3):
        await cast(pid, 10)
    assert await call("counter", "how many?") == 3
    await sys.suspend("counter")
    cast_nowait("counter", 10)  # waits in the queue, and is handled by the new code
    await sys.change_code("counter", module.edit(SECOND), 1, 100)
    assert await sys.get_state("counter") == {"total": 300, "steps": []}
    await sys.resume("counter")
    assert await call("counter", "how many?") == (310, [10])
    assert (whereis("counter"), await mail()) == (pid, [])
    assert (await sys.get_status(pid)).module is module.Counter
    await sys.stop(pid)
    assert [down.ref for down in await mail() if hasattr(down, "ref")] == [ref]


@as_process
async def test_a_reload_alone_changes_nothing(node, module):
    """Running processes go on with the class that they have; new ones get the new one (Y6)."""
    old = await start(module.Counter)
    module.edit(SECOND)
    new = await start(module.Counter)
    assert (await call(old, None), await call(new, None)) == (0, (0, []))


@as_process
async def test_code_changes_only_while_suspended(node, module):
    """On a running process change_code is NotSuspended, and nothing has happened (Y6)."""
    pid = await start(module.Counter)
    with pytest.raises(sys.NotSuspended, match="suspend it"):
        await sys.change_code(pid, module.edit(SECOND), 1, 1)
    assert await call(pid, None) == 0


@as_process
async def test_without_code_change_the_old_code_stays(node, module):
    """A class without `code_change` cannot be changed to: the old class and state stay (Y6)."""
    old = module.Counter
    pid = await start(old)
    await cast(pid, 1)
    with pytest.raises(sys.CallbackFailed) as caught:
        await change(pid, module.edit(FIRST.replace("return self.count", "return -self.count")))
    assert isinstance(caught.value.__cause__, NotImplementedError)
    assert (await call(pid, None), (await sys.get_status(pid)).module) == (1, old)


@as_process
async def test_a_failing_code_change_is_undone(node, module):
    """What `code_change` raises is the asker's; class and attributes are as before (Y6)."""
    pid = await start(module.Counter)
    await cast(pid, 1)
    touches = SECOND.replace("raise Val", "self.count = self.extra = 99; raise Val")
    with pytest.raises(sys.CallbackFailed, match="no way from version 7") as caught:
        await change(pid, module.edit(touches), 7)
    assert caught.value.callback == "code_change"
    assert (await sys.get_state(pid), await call(pid, None)) == ({"count": 1}, 1)
    await change(pid, module, 1, 2)
    assert await call(pid, None) == (2, [])


class Plain(GenServer):
    def init(self):
        self.count = 1
        self._hidden = "kept"

    def handle_call(self, request, caller):
        return "plain", self.count, self._hidden


class Waits(Plain):
    """The next version of Plain, with callbacks that wait."""

    def code_change(self, old_vsn, state, extra):
        self.count += 1  # changed in place: nothing to return

    async def handle_call(self, request, caller):
        await trio.sleep(request)  # virtual
        return "waits", self.count, self._hidden


class PlainAgain(Waits):
    def code_change(self, old_vsn, state, extra):
        return {"count": 50}

    def handle_call(self, request, caller):
        return "plain again", self.count, self._hidden


@as_process
async def test_callbacks_may_begin_and_cease_to_wait(node):
    """Plain callbacks may become waiting ones and back; private attributes stay (Y6)."""
    pid = await start(Plain)
    assert await call(pid, 1) == ("plain", 1, "kept")
    await change(pid, Waits)
    assert (await call(pid, 2), trio.current_time()) == (("waits", 2, "kept"), 2.0)
    await change(pid, PlainAgain)
    assert await call(pid, 2) == ("plain again", 50, "kept")
    await sys.stop(pid, "done")
    assert not is_alive(pid)


@pytest.mark.parametrize("reason", [KILL, "boom"], ids=repr)
@as_process
async def test_a_wait_that_came_with_new_code_can_be_ended(node, reason):
    """An exit signal ends a callback that waits, though the process began with plain ones (P5, P8, Y6)."""
    pid = await start(Plain)
    await change(pid, Waits)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_ends, pid)
        await trio.testing.wait_all_tasks_blocked()
        assert await exit_and_wait(pid, reason) == (KILLED if reason is KILL else reason)
    assert trio.current_time() == 0.0


async def _ends(pid):
    with pytest.raises(Exception, match="before it replied"):
        await call(pid, 100, timeout=1000)


@as_process
async def test_a_timeout_outlives_the_change(node):
    """The wait of a callback's timeout starts anew after the change, with the new class's callbacks (N21, Y6)."""
    seen: list[Any] = []

    class Before(GenServer):
        def init(self):
            return NoReply(timeout=3)

    class After(Before):
        def code_change(self, old_vsn, state, extra):
            return None

        async def handle_info(self, message):
            seen.append((message, trio.current_time()))

    pid = await start(Before)
    await trio.sleep(2)  # virtual
    await sys.suspend(pid)
    await trio.sleep(10)  # virtual: it does not run while suspended
    await sys.change_code(pid, After)
    await sys.resume(pid)
    await trio.sleep(10)  # virtual
    assert seen == [(TIMEOUT, 15.0)]


@as_process
async def test_watchers_stay_when_the_code_changes(node):
    """Whoever watches goes on watching, and sees the new callbacks (Y6, Y7)."""
    pid = await start(Plain, debug=["log"])
    await change(pid, Waits)
    await call(pid, 0)
    assert sys.In("call", 0) in await sys.log(pid, "get")


class Slotted:
    __slots__ = ("x",)


class Elsewhere(Slotted, GenServer):
    """No Plain can become one of these: its instances are laid out in another way."""


@pytest.mark.parametrize("code", [types.ModuleType("empty"), Elsewhere, int], ids=repr)
@as_process
async def test_code_that_does_not_fit_is_refused(node, code):
    """A module without the class, or a class that no instance can become, changes nothing (Y6)."""
    pid = await start(Plain)
    with pytest.raises(sys.CallbackFailed) as caught:
        await change(pid, code)
    assert isinstance(caught.value.__cause__, Misuse)
    assert await call(pid, 1) == ("plain", 1, "kept")


@as_process
async def test_change_code_wants_a_class_or_a_module(node):
    """Anything else is Misuse at the caller (Y6)."""
    pid = await start(Plain)
    with pytest.raises(Misuse, match="newly loaded class"):
        await sys.change_code(pid, "counter")


@as_process
async def test_code_change_must_not_wait(node):
    """A `code_change` that waits is refused, and undone (Y6)."""

    class Slow(Plain):
        async def code_change(self, old_vsn, state, extra):
            raise AssertionError("it never runs")

    pid = await start(Plain)
    with pytest.raises(sys.CallbackFailed, match="must not wait"):
        await change(pid, Slow)
    assert await call(pid, 1) == ("plain", 1, "kept")


class Room(Supervisor):
    def init(self):
        return [child("plain", Plain, name="plain")]


@as_process
async def test_a_restart_uses_the_class_of_the_child_spec(node):
    """A supervisor knows nothing of the change: what it restarts is what its spec says (Y6, S61)."""
    await start_link(Room)
    await change("plain", Waits)
    assert (await call("plain", 0))[0] == "waits"
    await exit_and_wait(whereis("plain"), KILL)
    await trio.testing.wait_all_tasks_blocked()
    assert await call("plain", 0) == ("plain", 1, "kept")


# -- durable processes ---------------------------------------------------------------------------------


@message("code_change.earned")
class Earned:
    points: int


class Score(EventSourced[int, Earned]):
    def initial(self, key):
        return 0

    def handle(self, state, command):
        return (None, state) if command == "read" else (Earned(command), state + command)

    def apply(self, state, event):
        return state + event.points


class ScoreInTens(Score):
    """The next version counts in tens."""

    def code_change(self, old_vsn, state, extra):
        return state * 10

    def handle(self, state, command):
        return (None, state) if command == "read" else (Earned(command), state + command * 10)

    def apply(self, state, event):
        return state + event.points * 10


async def test_a_durable_process_takes_on_code_and_recovers_with_it():
    """code_change does what a recovery by the new class does: the state is the same after it (Y6)."""
    async with running_node(data=":memory:"):
        pid = await start(Score, "score", name="score")
        assert await call(pid, 5) == 5
        await change(pid, ScoreInTens)
        assert (await call(pid, "read"), await call(pid, 1)) == (50, 60)
        await sys.stop(pid)
        again = await start(ScoreInTens, "score")
        assert await call(again, "read") == 60


async def test_a_durable_state_cannot_be_replaced():
    """The journal says what the state is: replace_state is refused, and changes nothing (Y5)."""
    async with running_node(data=":memory:"):
        pid = await start(Score, "score")
        await call(pid, 5)
        with pytest.raises(sys.CallbackFailed, match="send it a command"):
            await sys.replace_state(pid, lambda state: state + 1)
        assert await call(pid, "read") == 5
