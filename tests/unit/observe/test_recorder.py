"""What is kept of crashes and stalls, and that nothing is paid where nothing is kept."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from trio.testing import wait_all_tasks_blocked

from runtime import SHUTDOWN, CalleeExited, GenServer, call, cast, start
from runtime.kernel.stalls import Stall
from runtime.observe.recorder import CRASHES, Recorder, recorder_of
from supervisors import Node
from tests.unit.observe.bank import bank


@pytest.fixture
async def node(autojump_clock) -> AsyncIterator[Node]:
    async with bank() as node:
        recorder_of(node.table)
        yield node


async def crash(node: Node) -> None:
    """Have the safe fail, and wait until it is there again."""
    with pytest.raises(CalleeExited):
        await call("safe", "break")
    await wait_all_tasks_blocked()


async def test_a_crash_is_kept_with_a_look_inside(node):
    """Reason, last message, state at the end and the place are kept, as the process allows."""
    await crash(node)
    recorder = recorder_of(node.table)
    (one,) = recorder.crashes()
    assert (one.name, one.label, one.reason) == ("safe", "Safe", "Crash(ValueError('odd'))")
    assert (one.last_message, one.recent) == ("'<redacted>'", ())
    assert one.fields == {"number": "'<redacted>'", "open": "False"}
    assert [frame.function for frame in one.trace][-1] == "Safe.handle_call"
    assert "secret" not in repr(one)
    assert recorder.crashes("safe") == recorder.crashes("Safe") == recorder.crashes(one.pid) == (one,)
    assert recorder.crashes("other") == ()


async def test_an_orderly_end_is_no_crash(node):
    """What ends in order leaves nothing behind."""
    node.table.names["safe"].exit_signal(node.root, "shutdown")
    node.table.names["wallet/p-7"].exit_signal(node.root, SHUTDOWN)
    await wait_all_tasks_blocked()
    assert [one.name for one in recorder_of(node.table).crashes()] == ["safe"]


async def test_the_messages_before_a_crash_are_kept_when_asked_for(node):
    """From `keep` on each process keeps its last messages, one born later too; 0 ends that."""
    recorder = recorder_of(node.table)
    assert recorder.keep(2) == len([p for p in node.table.processes.values() if p.behaviour is not None])
    await wait_all_tasks_blocked()
    for number in range(5):
        await call("safe", number)
    await crash(node)
    (one,) = recorder.crashes()
    assert len(one.recent) == 2
    assert "got call '<redacted>'" in one.recent[-1]
    await call("safe", 1)
    await crash(node)
    assert len(recorder.crashes()[0].recent) == 2
    recorder.keep(0)
    await wait_all_tasks_blocked()
    assert node.table.trace is None
    assert all(process.debug is None for process in node.table.processes.values() if process.behaviour is not None)


async def test_nothing_watches_while_nothing_is_recorded(node):
    """With the recorder there and off, no process has a debug and no birth is reported: the paths are the same."""
    assert node.table.trace is None
    await cast("safe", 1)
    await wait_all_tasks_blocked()
    assert all(process.debug is None for process in node.table.processes.values())


async def test_only_so_many_crashes_are_kept(node):
    """Beyond the bound the oldest is forgotten; how many there were is still known."""

    class Brief(GenServer):
        def handle_cast(self, request):
            raise ValueError(request)

    for number in range(CRASHES + 3):
        await cast(await start(Brief), number)
    await wait_all_tasks_blocked()
    recorder = recorder_of(node.table)
    assert (recorder.crashed, len(recorder.crashes(limit=1000))) == (CRASHES + 3, CRASHES)
    assert len({one.reason for one in recorder.crashes(limit=1000)}) == CRASHES


async def test_a_state_that_fails_does_not_harm_the_end(node):
    """A process whose `state` raises is reported all the same, and its links are told."""

    class Odd(GenServer):
        trap_exit = False

        def state(self):
            raise RuntimeError("no state")

        def handle_cast(self, request):
            raise ValueError("odd")

    await cast(await start(Odd), 1)
    await wait_all_tasks_blocked()
    assert recorder_of(node.table).crashes()[0].state == "<no state: RuntimeError>"


async def test_stalls_are_kept(node):
    """A stall that is over is kept with its time, newest first."""
    safe = node.table.names["safe"]
    for seconds in (0.5, 0.7):
        stall = Stall(1.0, safe.pid, safe.label, ("safe",), "int", seconds, "stack")
        for listener in node.table.stall_listeners:
            listener(stall)
    assert [(one.name, one.seconds) for one in recorder_of(node.table).stalls()] == [("safe", 0.7), ("safe", 0.5)]


async def test_a_closed_recorder_hears_nothing_more(node):
    """After `close` its table knows nothing of it."""
    recorder = Recorder(node.table)
    recorder.close()
    await crash(node)
    assert (recorder.crashes(), len(recorder_of(node.table).crashes())) == ((), 1)
