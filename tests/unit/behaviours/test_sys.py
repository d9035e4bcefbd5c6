"""System messages: look, hold, let go, stop, between callbacks and before everything that waits."""

from __future__ import annotations

import pytest
import trio

from runtime import (
    KILL,
    KILLED,
    NORMAL,
    SHUTDOWN,
    CalleeExited,
    CallTimeout,
    Crash,
    Down,
    Exit,
    GenServer,
    NoProcess,
    Stop,
    call,
    cast,
    cast_nowait,
    exit,
    is_alive,
    link,
    monitor,
    process_info,
    receive,
    self_pid,
    send_nowait,
    spawn,
    start,
    start_link,
    sys,
    trap_exit,
)
from supervisors import Supervisor, child
from tests.support.processes import as_process, exit_and_wait, idle, mail
from tests.unit.behaviours.servers import KINDS, TRAPPING, Plain, PlainTrapping, Waits


class Counter(GenServer):
    def init(self, start=0):
        self.count = start
        self._hidden = "private"

    def handle_call(self, request, caller):
        self.count += request
        return self.count

    def handle_cast(self, request):
        self.count += request


class WaitingCounter(Counter):
    async def handle_cast(self, request):
        await trio.sleep(request)  # virtual
        self.count += request


COUNTERS = [Counter, WaitingCounter]


# -- look ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", COUNTERS)
@as_process
async def test_get_state_shows_the_public_attributes(node, kind):
    """`get_state` is what `state` returns: by default the attributes without an underscore (Y4)."""
    pid = await start(kind, 7)
    assert await sys.get_state(pid) == {"count": 7}


@as_process
async def test_get_state_comes_between_callbacks_in_order(node):
    """Looking waits for what was sent before it (P34, Y1)."""
    pid = await start(WaitingCounter)
    for _ in range(3):
        cast_nowait(pid, 1)
    assert (await sys.get_state(pid, timeout=100), trio.current_time()) == ({"count": 3}, 3.0)


@as_process
async def test_a_blocked_callback_makes_a_look_time_out(node):
    """A server that is busy for longer than the timeout is not harmed by the look (Y10)."""
    pid = await start(WaitingCounter)
    await cast(pid, 10)
    with pytest.raises(CallTimeout):
        await sys.get_state(pid)
    assert trio.current_time() == 5.0
    assert await sys.get_state(pid, timeout=100) == {"count": 10}


@pytest.mark.parametrize("kind", COUNTERS)
@as_process
async def test_a_state_that_cannot_be_shown_is_the_lookers_error(node, kind):
    """A failing `state` is raised at whoever looks; the server lives (Y5)."""

    class Opaque(kind):
        def state(self):
            raise LookupError("nothing to see")

    pid = await start(Opaque)
    with pytest.raises(LookupError, match="nothing to see"):
        await sys.get_state(pid)
    assert await call(pid, 1) == 1
    await sys.suspend(pid)
    with pytest.raises(LookupError):
        await sys.get_state(pid)
    await sys.resume(pid)
    assert await call(pid, 1) == 2


@pytest.mark.parametrize("ask", [sys.get_state, sys.suspend, sys.resume, sys.stop])
@as_process
async def test_asking_the_dead_fails_at_once(node, ask):
    """System requests to nobody raise NoProcess (L10)."""
    pid = await start(Counter)
    await sys.stop(pid)
    for destination in (pid, "nobody"):
        with pytest.raises(NoProcess):
            await ask(destination)


@as_process
async def test_a_server_that_ends_fails_the_look(node):
    """Whoever looks at a server that ends first learns its reason (N8)."""
    pid = await start(WaitingCounter)
    await cast(pid, 1)
    await cast(pid, "no number")
    with pytest.raises(CalleeExited) as caught:
        await sys.get_state(pid)
    assert isinstance(caught.value.reason, Crash)


# -- hold and let go -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_a_suspended_server_serves_system_messages_only(node, kind):
    """While suspended messages wait in order and calls time out; after resume all are handled in order (Y2, Y3)."""
    pid = await start(kind, None, log := [])
    await sys.suspend(pid)
    info = process_info(pid)
    assert info is not None
    assert info.state == "suspended"
    await cast(pid, 1)
    send_nowait(pid, 2)
    with pytest.raises(CallTimeout):
        await call(pid, lambda server, caller: server.log.append("late"), timeout=3)
    await cast(pid, 3)
    assert (await sys.get_state(pid), log) == ({"log": []}, [])
    await sys.resume(pid)
    await call(pid, "now")
    assert log == [("cast", 1), ("info", 2), "late", ("cast", 3)]


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_suspending_is_idempotent(node, kind):
    """Twice suspended takes one resume; resuming one that runs is fine (Y11)."""
    pid = await start(kind)
    await sys.resume(pid)
    for _ in range(3):
        await sys.suspend(pid)
    await sys.resume(pid)
    assert await call(pid, "runs") == "runs"


@pytest.mark.parametrize("kind", TRAPPING)
@as_process
async def test_the_parents_signal_ends_a_suspended_server(node, kind):
    """The parent's exit acts at once while suspended; exits of others wait (Y12, N19)."""
    trap_exit(True)
    pid = await start_link(kind, None, log := [])
    await sys.suspend(pid)
    other = spawn(_links_and_ends, pid)
    cast_nowait(pid, "waits")
    await trio.testing.wait_all_tasks_blocked()
    assert (is_alive(pid), log) == (True, [])
    exit(pid, SHUTDOWN)
    assert (await mail(), log) == ([Exit(pid, SHUTDOWN)], [("terminate", SHUTDOWN)])
    assert not is_alive(other)


async def _links_and_ends(pid):
    link(pid)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reason", ["boom", KILL], ids=repr)
@as_process
async def test_a_signal_ends_a_suspended_server(node, kind, reason):
    """A signal takes a suspended server that does not trap (N19)."""
    pid = await start(kind, None, log := [])
    await sys.suspend(pid)
    assert (await exit_and_wait(pid, reason), log) == (KILLED if reason is KILL else reason, [])


@as_process
async def test_a_suspended_server_is_suspended_in_the_order_of_its_mailbox(node):
    """What was sent before the suspend is handled before it (P34)."""
    pid = await start(WaitingCounter)
    await cast(pid, 2)
    await sys.suspend(pid)
    assert (trio.current_time(), await sys.get_state(pid)) == (2.0, {"count": 2})


@pytest.mark.parametrize("kind", TRAPPING)
@as_process
async def test_a_suspended_server_finds_what_is_for_now_behind_what_is_not(node, kind):
    """Downs, exits of others and messages may wait before and after a system message: it is served (Y2, Y3)."""
    pid = await start(kind, None, log := [])
    dies = spawn(idle)
    await call(pid, lambda server, caller: monitor(dies) and None)
    await sys.suspend(pid)
    await exit_and_wait(dies, "boom")
    for number in range(3):
        cast_nowait(pid, number)
        exit(pid, number)
        assert await sys.get_state(pid) == {"log": []}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sys.get_state, pid)
            nursery.start_soon(sys.suspend, pid)
            cast_nowait(pid, "between")
            nursery.start_soon(sys.get_state, pid)
    await sys.resume(pid)
    await sys.get_state(pid)
    kinds = [getattr(entry[1], "reason", entry[1]) for entry in log]
    assert kinds[:4] == ["boom", 0, 0, "between"]
    assert len(kinds) == 1 + 3 * 3


# -- stop ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reason", [NORMAL, SHUTDOWN, "boom"], ids=repr)
@pytest.mark.parametrize("suspended", [False, True])
@as_process
async def test_stop_terminates_and_waits(node, kind, reason, suspended):
    """`stop` runs terminate(R) before messages that wait, also while suspended, and waits for the end (L10, Y8)."""
    pid = await start(kind, None, log := [])
    ref = monitor(pid)
    await sys.suspend(pid)
    cast_nowait(pid, "never handled")
    if not suspended:
        await sys.resume(pid)
        await sys.suspend(pid)
        log.clear()
    cast_nowait(pid, "never handled")
    await sys.stop(pid, reason)
    assert (is_alive(pid), log) == (False, [("terminate", reason)])
    assert await mail() == [Down(ref, pid, reason)]


@as_process
async def test_stop_overtakes_a_long_queue(node):
    """A stop is served before the messages that wait (L10)."""
    pid = await start(WaitingCounter)
    for _ in range(5):
        cast_nowait(pid, 1)
    await trio.testing.wait_all_tasks_blocked()
    await sys.stop(pid)
    assert trio.current_time() == 1.0


@as_process
async def test_stop_tells_of_another_end(node):
    """A server that ends with another reason than told, because terminate failed, is CalleeExited (L10)."""

    class Fails(Plain):
        def terminate(self, reason):
            raise ValueError("in terminate")

    with pytest.raises(CalleeExited, match="told to stop with") as caught:
        await sys.stop(await start(Fails))
    assert isinstance(caught.value.reason, Crash)
    assert isinstance(caught.value.reason.error, ValueError)


@as_process
async def test_stop_gives_up_after_its_timeout(node):
    """A server that does not end in time is not killed by `stop` (L10)."""

    class Hangs(Plain):
        async def terminate(self, reason):
            await trio.sleep(10)  # virtual

    pid = await start(Hangs)
    with pytest.raises(CallTimeout):
        await sys.stop(pid, timeout=3)
    assert (trio.current_time(), is_alive(pid)) == (3.0, True)
    ref = monitor(pid)
    assert (await receive(), trio.current_time()) == (Down(ref, pid, NORMAL), 10.0)


@as_process
async def test_stop_waits_for_a_process_that_ends_by_itself(node):
    """A server that ends while it is being stopped tells its own reason (L10)."""

    class Slow(GenServer):
        async def handle_cast(self, request):
            await trio.sleep(2)  # virtual
            return Stop("on my own")

    pid = await start(Slow)
    await cast(pid, 1)
    await trio.sleep(1)  # virtual: the handler is at work
    with pytest.raises(CalleeExited) as caught:
        await sys.stop(pid)
    assert (caught.value.reason, trio.current_time()) == ("on my own", 2.0)


@as_process
async def test_two_may_stop_one_server(node):
    """Everybody who stops a server hears of its end."""
    pid = await start(Waits)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(sys.stop, pid)
    assert not is_alive(pid)


async def test_the_host_may_stop_a_server(node):
    """Host code uses `sys` as any process does."""
    pid = await start(PlainTrapping, None, log := [])
    await sys.stop(pid, "by the host")
    assert (is_alive(pid), log) == (False, [("terminate", "by the host")])


# -- supervisors ---------------------------------------------------------------------------------------


class Room(Supervisor):
    def init(self):
        return [child("a", Counter), child("b", idle)]


@as_process
async def test_a_supervisor_answers_system_messages(node):
    """A supervisor can be looked into, held, let go and stopped like any behaviour (Y1)."""
    pid = await start(Room)
    assert await sys.get_state(pid) == {"a": "up", "b": "up"}
    await sys.suspend(pid)
    assert await sys.get_state(pid) == {"a": "up", "b": "up"}
    await sys.resume(pid)
    await sys.stop(pid, SHUTDOWN)
    assert not is_alive(pid)


@as_process
async def test_a_plain_process_gets_no_system_message_it_could_mistake(node):
    """Looking at a process without a class times out and leaves it alive (Y1)."""
    pid = spawn(idle)
    with pytest.raises(CallTimeout):
        await sys.get_state(pid)
    assert (is_alive(pid), is_alive(self_pid())) == (True, True)
