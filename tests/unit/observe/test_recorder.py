"""What is kept of crashes and stalls, and that nothing is paid where nothing is kept."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest
from trio.testing import wait_all_tasks_blocked

from runtime import SHUTDOWN, CalleeExited, GenServer, call, cast, start
from runtime.kernel.stalls import Stall
from runtime.observe import text
from runtime.observe.recorder import CRASHES, Recorder, recorder_of
from supervisors import Node
from tests.unit.observe.bank import Break, Deposit, bank


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
    assert await recorder.keep(2) == len([p for p in node.table.processes.values() if p.behaviour is not None])
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
    await recorder.keep(0)
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


async def test_what_each_message_changed_is_kept_with_it(node):
    """Beside each of the last messages stands what it changed in the state, as the process shows that."""
    recorder = recorder_of(node.table)
    await recorder.keep(4)
    await wait_all_tasks_blocked()
    for amount in (1, 5, 7):
        await call("account/ann", Deposit(amount))
    with pytest.raises(CalleeExited):
        await call("account/ann", Break())
    await wait_all_tasks_blocked()
    (one,) = recorder.crashes("account/ann")
    assert [line.partition("got call ")[2] for line in one.recent] == [
        *("Deposit(amount=1)", "Deposit(amount=5)", "Deposit(amount=7)", "Break(note='')")
    ]
    assert [[str(each) for each in changes] for changes in one.changes] == [
        *(["total +1", "last +1"], ["total +5", "last +4"], ["total +7", "last +2"], [])
    ]
    said = {"total": 1, "recording": 4, "crashes": [one]}
    lines = list(text.crashes(msgspec.to_builtins(said), str))
    assert "      changed: total +5, last +4" in lines


async def test_what_is_hidden_is_hidden_in_what_changed(node):
    """A part that a process does not show is in no difference either."""
    recorder = recorder_of(node.table)
    await recorder.keep(4)
    await wait_all_tasks_blocked()
    await cast("safe", "4712-secret")
    await crash(node)
    assert recorder.crashes()[0].changes == ((), ())
    assert "secret" not in repr(recorder.crashes())


async def test_another_number_is_taken_on_by_all(node):
    """Whoever keeps four messages and is told to keep two keeps two; whoever is born then, too."""
    recorder = recorder_of(node.table)
    for count in (4, 2):
        await recorder.keep(count)
    await wait_all_tasks_blocked()
    for _ in range(2):
        for number in range(5):
            await call("safe", number)
        await crash(node)
        assert len(recorder.crashes()[0].recent) == 2
