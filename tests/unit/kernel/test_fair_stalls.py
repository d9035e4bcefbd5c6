"""A callback that holds the loop is found out: once in the log while it lasts, once as a `Stall` when it is over.

The watchman is called by hand, from the held loop itself or beside it, under a clock that the test moves; one
test has the real World's thread and the real clock.
"""

from __future__ import annotations

import logging
import threading

import pytest
import trio

from runtime import Call, GenServer, call, cast, message, register, start, sys
from runtime.backends.coordination import LocalCoordination
from runtime.kernel.stalls import INTERVAL, PATIENCE, Watchman
from runtime.testing import SeededWorld, Trace
from supervisors import Node


@message("test.stalls.hold")
class Hold(Call[str]):
    pass


class Holder(GenServer):
    """Does what a test gives it, within a callback."""

    def init(self, doing):
        self.doing = doing

    def handle_call(self, request, caller):
        self.doing()
        return "done"

    async def handle_cast(self, request):
        self.doing()


def no_store(path, node):
    raise AssertionError("there is no store here")


class Held:
    """A watchman over the loop of a running test, and a clock for it; `look_for` looks from another thread."""

    def __init__(self, node):
        self.now = 0.0
        self.stalls = []
        self.watchman = Watchman(node.table)
        self.watchman._clock = lambda: self.now
        node.table.stall_listeners.append(self.stalls.append)

    def look_for(self, seconds):
        """Look as the World would, for so long, while the calling code holds the loop."""
        for _ in range(round(seconds / INTERVAL) + 1):
            looker = threading.Thread(target=self.watchman.look)
            looker.start()
            looker.join()
            self.now += INTERVAL


@pytest.fixture
async def held(node):
    return Held(node)


async def passes(count=5):
    """Let the loop go round."""
    for _ in range(count):
        await trio.lowlevel.checkpoint()


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if "held the loop" in record.getMessage()]


async def test_a_call_that_holds_the_loop_is_told_of(held, caplog):
    """Pid, label, name, the type of the message, the stack and the time: all to find it by (P43)."""
    pid = await start(Holder, lambda: held.look_for(1.0))
    register("holder", pid)
    assert await call(pid, Hold()) == "done"
    await passes()
    (stall,) = held.stalls
    assert (stall.pid, stall.label, stall.names, stall.message) == (pid, "Holder", ("holder",), "Hold")
    assert "in handle_call" in stall.stack
    assert "look_for" in stall.stack
    assert stall.seconds == pytest.approx(1.0, abs=3 * INTERVAL)
    assert str(pid) in str(stall)


async def test_it_is_told_once_and_while_it_lasts(held, caplog):
    """The log has one line for a stall, however long, and has it before the callback returns."""
    seen = []

    def doing():
        held.look_for(PATIENCE)
        held.look_for(PATIENCE)
        seen.append(len(warnings_of(caplog)))
        held.look_for(5.0)

    await cast(await start(Holder, doing), "go")
    await passes()
    assert seen == [1]
    assert len(warnings_of(caplog)) == len(held.stalls) == 1
    assert held.stalls[0].message == "str"


async def test_the_next_stall_is_another_one(held, caplog):
    """A process that holds the loop again is told of again."""
    pid = await start(Holder, lambda: held.look_for(0.5))
    for _ in range(3):
        await call(pid, Hold())
    await passes()
    assert len(warnings_of(caplog)) == len(held.stalls) == 3


async def test_short_callbacks_are_none(held, caplog):
    """Many that are each within the limit are no stall, for others run in between."""
    pid = await start(Holder, lambda: held.look_for(0.1))
    for _ in range(20):
        await call(pid, Hold())
    await passes()
    assert held.stalls == warnings_of(caplog) == []


async def test_an_idle_loop_is_none(held, caplog):
    """A loop in which nobody runs does not stall: it waits."""
    held.look_for(5.0)
    await trio.sleep(5.0)  # virtual
    await passes()
    assert held.stalls == warnings_of(caplog) == []


async def test_an_init_that_holds_the_loop_is_its_own(held):
    """A plain init runs within the start, in the starter's task; the process that is to be is named all the same."""

    class Slow(GenServer):
        def init(self):
            held.look_for(0.5)

    pid = await start(Slow)
    await passes()
    (stall,) = held.stalls
    assert (stall.pid, stall.label) == (pid, Slow.__qualname__)
    assert "in init" in stall.stack


async def test_other_nodes_processes_are_theirs(held):
    """Of two nodes in one program each tells of its own processes only."""
    async with Node("other") as other:
        told = []
        other.table.stall_listeners.append(told.append)
        pid = await start(Holder, lambda: held.look_for(0.5))
        await call(pid, Hold())
        await passes()
        assert held.stalls == told == []
        assert pid.node == "other"


async def test_a_stall_that_ends_the_process_is_told(held):
    """A callback that raises at the end of its stall does not take the report along."""

    def doing():
        held.look_for(0.5)
        raise ValueError("after a while")

    pid = await start(Holder, doing)
    await cast(pid, "go")
    await passes()
    assert pid._process is None
    assert [stall.pid for stall in held.stalls] == [pid]


async def test_sys_messages_are_named_too(held):
    """What holds the loop while no message is in hand is told without one."""

    class Shows(GenServer):
        def format_status(self, value):
            held.look_for(0.5)
            return value

        def state(self):
            held.look_for(0.5)
            return 1

    assert await sys.get_state(await start(Shows)) is not None
    await passes()
    assert all(stall.label == Shows.__qualname__ for stall in held.stalls)


def test_the_real_world_watches(caplog):
    """With the real clock and the World's own thread: a callback that spins until it is told of is told of."""

    def spin():
        for _ in range(10**9):  # ends when it is found out; the bound keeps a failure from hanging
            if warnings_of(caplog):
                return

    async def main():
        async with Node("real") as node:
            stalls = []
            node.table.stall_listeners.append(stalls.append)
            await call(await start(Holder, spin), Hold(), timeout=60.0)
            await passes()
            assert [stall.message for stall in stalls] == ["Hold"]
            assert "in spin" in stalls[0].stack

    with caplog.at_level(logging.WARNING, "banyan"):
        trio.run(main)
    assert len(warnings_of(caplog)) == 1


def test_a_seeded_world_never_looks():
    """In a simulation nobody looks: a run must not depend on how fast the machine is."""
    world = SeededWorld(1, open_store=no_store, coordination=LocalCoordination(), trace=Trace())
    threads, looked = threading.active_count(), []
    with world.beside(lambda: looked.append(1), 0.0):
        assert threading.active_count() == threads
    assert looked == []
