"""A server that has had no message yet has no task; nobody can tell by what it does."""

from __future__ import annotations

from typing import ClassVar

import pytest
import trio
import trio.testing

from runtime import KILL, KILLED, SHUTDOWN, GenServer, call, exit, is_alive, link, monitor, start, sys
from runtime.observe.inside import stack
from supervisors import DynamicSupervisor, Node, child, start_child, terminate_child, which_children
from tests.support.processes import as_process, mail


class Plain(GenServer):
    """Keeps what it was told, and with whom it is linked."""

    def init(self, peer=None):
        self.ends = []
        if peer is not None:
            link(peer)

    def handle_call(self, request, caller):
        return request


class Careful(Plain):
    """Traps exits, so that its `terminate` runs."""

    trap_exit = True
    said: ClassVar[list[object]] = []

    def terminate(self, reason):
        Careful.said.append(reason)


class Nest(DynamicSupervisor):
    """Where they live."""


async def test_a_server_gets_its_task_with_its_first_message(node):
    """Until then it is alive and shows where it will wait; the call that comes is answered as any."""
    pid = await start(Plain)
    process = pid._process
    await trio.testing.wait_all_tasks_blocked()
    assert process.task is None
    assert is_alive(pid)
    assert [frame.function for frame in stack(process)] == ["GenServer.__live"]
    assert await call(pid, 1) == 1
    assert process.task is not None
    assert process.resting is None
    assert await call(pid, 2) == 2


async def test_a_system_message_is_a_message(node):
    """`sys` finds a server that has no task yet, and can stop it."""
    pid = await start(Plain)
    assert await sys.get_state(pid) == {"ends": []}
    await sys.stop(await start(Plain), "enough")


@pytest.mark.parametrize(("sent", "told"), [(KILL, KILLED), (SHUTDOWN, SHUTDOWN), ("odd", "odd")])
@as_process
async def test_a_signal_ends_it_with_its_reason(node, sent, told):
    """An exit signal is something that comes for it too; whoever watches learns the reason."""
    pid = await start(Plain)
    ref = monitor(pid)
    exit(pid, sent)
    (down,) = await mail()
    assert (down.ref, down.reason) == (ref, told)
    assert not is_alive(pid)


@pytest.mark.parametrize("called", [False, True], ids=["resting", "waiting"])
async def test_a_child_is_stopped_with_or_without_a_task(node, called):
    """`terminate_child` ends it before it returns, and leaves neither a name nor a child behind."""
    nest = await start(Nest)
    pid = await start_child(nest, child("one", Plain, restart="temporary", name="one"))
    if called:
        await call(pid, None)
        await trio.testing.wait_all_tasks_blocked()
    process = pid._process
    await terminate_child(nest, pid)
    assert process.exiting is SHUTDOWN
    assert not is_alive(pid)
    assert await which_children(nest) == []
    assert await start_child(nest, child("two", Plain, restart="temporary", name="one")) is not None


async def test_who_traps_exits_says_its_last_words(node):
    """A resting server that traps exits is given its task, so that `terminate` runs."""
    Careful.said.clear()
    nest = await start(Nest)
    pid = await start_child(nest, child("one", Careful, restart="temporary"))
    await terminate_child(nest, pid)
    assert Careful.said == [SHUTDOWN]


async def test_the_hosts_cancellation_ends_those_that_rest():
    """Trio's word reaches who has no task as well: supervised or not, linked with each other or not."""
    ended = []
    with trio.CancelScope() as scope:
        async with Node("n"):
            nest = await start(Nest)
            first = await start_child(nest, child("one", Plain))
            pids = [first, await start_child(nest, child("two", Plain, first)), await start(Plain)]
            pids.append(await start(Plain, pids[-1]))
            ended = [pid._process for pid in pids]
            assert [process.task for process in ended] == [None] * 4
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert [process.exiting for process in ended] == [SHUTDOWN] * 4
