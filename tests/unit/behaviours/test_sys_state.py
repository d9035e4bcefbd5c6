"""The state of a process replaced from outside, its status, and the end that nobody waits for."""

from __future__ import annotations

import pytest
import trio

from runtime import (
    KILLED,
    NORMAL,
    SHUTDOWN,
    CalleeExited,
    CallingSelf,
    Crash,
    Down,
    GenServer,
    Misuse,
    NoProcess,
    call,
    cast_nowait,
    exit_with,
    is_alive,
    monitor,
    receive,
    self_pid,
    start,
    start_link,
    sys,
)
from supervisors import Supervisor, child
from tests.support.processes import as_process, idle, mail
from tests.unit.behaviours.servers import KINDS


class Counter(GenServer):
    def init(self, start=0):
        self.count = start
        self._secret = "kept"

    def handle_call(self, request, caller):
        self.count += request
        return self.count, self._secret


class WaitingCounter(Counter):
    async def handle_call(self, request, caller):
        return super().handle_call(request, caller)


COUNTERS = [Counter, WaitingCounter]

LOOKS = [
    sys.get_state,
    sys.get_status,
    sys.suspend,
    sys.resume,
    sys.terminate,
    sys.stop,
    sys.no_debug,
    lambda pid: sys.replace_state(pid, dict),
    lambda pid: sys.change_code(pid, Counter),
    lambda pid: sys.trace(pid, True),
    lambda pid: sys.log(pid, "get"),
    lambda pid: sys.statistics(pid, "get"),
    lambda pid: sys.install(pid, print),
    lambda pid: sys.remove(pid, print),
]


# -- replace_state -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", COUNTERS)
@pytest.mark.parametrize("suspended", [False, True])
@as_process
async def test_a_state_is_replaced(node, kind, suspended):
    """The function gets what get_state shows and returns the new state; private attributes stay (Y5)."""
    pid = await start(kind, 7)
    if suspended:
        await sys.suspend(pid)
    assert await sys.replace_state(pid, lambda state: {"count": state["count"] * 6}) == {"count": 42}
    assert await sys.get_state(pid) == {"count": 42}
    await sys.resume(pid)
    assert await call(pid, 1) == (43, "kept")


def _exits(_state):
    exit_with("out")


@pytest.mark.parametrize("kind", COUNTERS)
@pytest.mark.parametrize("function", [lambda _: 1 / 0, _exits], ids=["raises", "exits"])
@as_process
async def test_a_failing_function_changes_nothing(node, kind, function):
    """CallbackFailed is raised at the asker, with the reason; state and server are unharmed (Y5)."""
    pid = await start(kind, 7)
    with pytest.raises(sys.CallbackFailed, match="replace_state failed") as caught:
        await sys.replace_state(pid, function)
    assert caught.value.callback == "replace_state"
    reason = caught.value.reason
    assert reason == "out" or isinstance(reason, Crash)
    assert await call(pid, 1) == (8, "kept")


@pytest.mark.parametrize("state", [None, 3, {"_secret": 1}, {"not a name": 1}, {1: 2}], ids=repr)
@as_process
async def test_a_state_of_the_wrong_form_is_refused(node, state):
    """A GenServer's state is a dict of public attributes; anything else leaves it as it was (Y5)."""
    pid = await start(Counter, 7)
    with pytest.raises(sys.CallbackFailed) as caught:
        await sys.replace_state(pid, lambda _: state)
    assert isinstance(caught.value.__cause__, Misuse)
    assert await call(pid, 1) == (8, "kept")


@as_process
async def test_a_state_of_its_own_making_needs_both_halves(node):
    """A server that overrides `state` overrides `replace_state` too, or its state cannot be replaced (Y4, Y5)."""

    class Half(Counter):
        def state(self):
            return self.count

    class Whole(Half):
        def replace_state(self, state):
            self.count = state

    half, whole = await start(Half, 1), await start(Whole, 1)
    with pytest.raises(sys.CallbackFailed, match="override replace_state"):
        await sys.replace_state(half, lambda count: count + 1)
    assert await sys.replace_state(whole, lambda count: count + 1) == 2
    assert (await sys.get_state(half), await sys.get_state(whole)) == (1, 2)


@as_process
async def test_replace_state_wants_a_function(node):
    """Anything else is Misuse at the caller (Y5)."""
    pid = await start(Counter)
    with pytest.raises(Misuse):
        await sys.replace_state(pid, {"count": 3})


# -- status --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", COUNTERS)
@as_process
async def test_status_tells_all(node, kind):
    """get_status tells class, parent, whether it is suspended, what watches, and the state (Y9, L9)."""
    pid = await start_link(kind, 7)
    status = await sys.get_status(pid)
    assert (status.pid, status.module, status.state, status.parent) == (pid, kind, "running", self_pid())
    assert (status.debug, status.log, status.misc) == ((), (), {"count": 7})
    await sys.log(pid, 1)
    await call(pid, 1)
    await sys.suspend(pid)
    status = await sys.get_status(pid)
    assert (status.state, status.debug, len(status.log), status.misc) == ("suspended", ("log",), 1, {"count": 8})
    assert (await sys.get_status(await start(kind))).parent is None


@as_process
async def test_status_hides_what_the_server_hides(node):
    """The state in a status passes through `format_status`; get_state shows it plainly (N29, Y9)."""

    class Vault(Counter):
        def format_status(self, value):
            return {**value, "count": "hidden"}

    pid = await start(Vault, 7)
    assert (await sys.get_status(pid)).misc == {"count": "hidden"}
    assert await sys.get_state(pid) == {"count": 7}


@as_process
async def test_a_state_that_cannot_be_shown_fails_the_status_only(node):
    """A failing `state` or `format_status` is the asker's error; the server lives (Y9)."""

    class Opaque(Counter):
        def format_status(self, value):
            raise LookupError("nothing to see")

    pid = await start(Opaque)
    with pytest.raises(sys.CallbackFailed) as caught:
        await sys.get_status(pid)
    assert isinstance(caught.value.__cause__, LookupError)
    assert await call(pid, 1) == (1, "kept")


# -- terminate -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suspended", [False, True])
@pytest.mark.parametrize("reason", [NORMAL, SHUTDOWN, "boom"], ids=repr)
@as_process
async def test_terminate_is_accepted_and_ends_the_process(node, kind, suspended, reason):
    """`sys.terminate` returns when accepted; then terminate(R) runs and the process ends with R (Y8)."""
    pid = await start(kind, None, log := [])
    ref = monitor(pid)
    if suspended:
        await sys.suspend(pid)
        cast_nowait(pid, "never handled")
    await sys.terminate(pid, reason)
    assert (await mail(), log) == ([Down(ref, pid, reason)], [("terminate", reason)])


@as_process
async def test_terminate_does_not_tell_what_became_of_it(node):
    """Whatever `terminate` does after that, the asker has had its answer; `stop` tells (Y8, L10)."""

    class Fails(Counter):
        async def terminate(self, reason):
            await trio.sleep(3)  # virtual
            exit_with("another")

    pid = await start(Fails)
    ref = monitor(pid)
    await sys.terminate(pid)
    assert (trio.current_time(), is_alive(pid)) == (0.0, True)
    assert await receive() == Down(ref, pid, "another")
    with pytest.raises(CalleeExited) as caught:
        await sys.stop(await start(Fails))
    assert caught.value.reason == "another"


# -- whoever asks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("ask", LOOKS)
@as_process
async def test_the_dead_answer_nothing(node, ask):
    """Every system request to a dead pid or a free name is NoProcess at once (Y1, L10)."""
    pid = await start(Counter)
    await sys.stop(pid)
    for destination in (pid, "nobody"):
        with pytest.raises(NoProcess):
            await ask(destination)


@pytest.mark.parametrize("ask", LOOKS)
@as_process
async def test_a_process_cannot_ask_itself(node, ask):
    """A process that asks itself could only time out: CallingSelf, at once (N9)."""

    class Curious(GenServer):
        async def handle_call(self, request, caller):
            with pytest.raises(CallingSelf):
                await ask(self_pid())
            return trio.current_time()

    assert await call(await start(Curious), None) == 0.0


@as_process
async def test_a_request_that_meets_the_end_is_answered(node):
    """Whoever asks a suspended process that is killed learns of it at once (Y1, N8)."""
    pid = await start(Counter)
    await sys.suspend(pid)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_is_refused, pid)
        await trio.testing.wait_all_tasks_blocked()
        await sys.terminate(pid, KILLED)


async def _is_refused(pid):
    with pytest.raises(CalleeExited):
        await call(pid, 1)


# -- other behaviours ----------------------------------------------------------------------------------


class Room(Supervisor):
    def init(self):
        return [child("a", Counter), child("b", idle)]


@as_process
async def test_a_supervisor_has_a_status_but_no_state_to_replace(node):
    """A supervisor shows its children; they cannot be replaced by a value from outside (Y5, Y9)."""
    pid = await start(Room)
    assert (await sys.get_status(pid)).misc == {"a": "up", "b": "up"}
    with pytest.raises(sys.CallbackFailed):
        await sys.replace_state(pid, lambda state: {})
    await sys.terminate(pid, SHUTDOWN)
    await trio.testing.wait_all_tasks_blocked()
    assert not is_alive(pid)
