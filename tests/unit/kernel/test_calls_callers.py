"""Who calls: callers that leave or are killed, helper tasks, other nodes; and the strange things that they say."""

from __future__ import annotations

import pytest
import trio

from runtime import (
    KILL,
    KILLED,
    NORMAL,
    CalleeExited,
    CallTimeout,
    Crash,
    GenServer,
    NoProcess,
    call,
    exit,
    exit_with,
    is_alive,
    link,
    process_info,
    send_nowait,
    spawn,
    spawn_monitor,
    start,
    unlink,
    whereis,
)
from supervisors import Node
from tests.support.processes import as_process, end_of, ended, exit_and_wait, idle, inside, mail

from .serving import Does, Work, Worker

# -- the caller leaves ---------------------------------------------------------------------------------


async def test_a_caller_may_be_cancelled(node):
    """A cancel scope around a call ends the wait; the callee goes on, the late reply is dropped (N13)."""
    server = await start(Worker)
    with trio.move_on_after(1) as scope:
        await call(server, Work(3))
    assert (scope.cancelled_caught, await call(server, Work(0))) == (True, 2)


@as_process
async def test_a_caller_may_be_killed(node):
    """A process that is killed while it waits for a reply ends at once; the callee does not notice (N13)."""
    server = await start(Worker)
    pid, _ = spawn_monitor(call, server, Work(3))
    await trio.testing.wait_all_tasks_blocked()
    exit(pid, KILL)
    (down,) = await mail()
    assert (down.reason, trio.current_time()) == (KILLED, 0.0)
    assert await call(server, Work(0), timeout=100) == 2


@as_process
async def test_a_dead_callers_request_is_still_carried_out(node):
    """At most once, but accepted: what was sent before the caller died is handled (N7)."""
    seen, server = [], await start(Worker)

    async def client():
        await call(server, lambda caller: seen.append(1))

    with pytest.raises(CallTimeout):
        await call(server, Work(10), timeout=1)
    pid = spawn(client)
    await trio.testing.wait_all_tasks_blocked()
    exit(pid, KILL)
    await trio.testing.wait_all_tasks_blocked()
    info = process_info(server)
    assert info is not None
    assert info.queue == 1


# -- from tasks and strange objects --------------------------------------------------------------------


@as_process
async def test_helper_tasks_call_side_by_side(node):
    """Tasks that a process started call at the same time, each with its own reply."""
    replies = {}
    server = await start(Does)

    async def helper(number):
        replies[number] = await call(server, number)

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(helper, number)
    assert replies == {number: number for number in range(20)}


class Evil:
    """An object of which nothing can be said."""

    def __repr__(self):
        raise RuntimeError("no words")

    __str__ = __repr__


@as_process
async def test_what_cannot_be_printed_harms_nobody(node):
    """A request or reason whose repr fails is still carried, and every error about it is still raised."""
    with pytest.raises(NoProcess):
        await call("nobody", Evil())
    with pytest.raises(CallTimeout):
        await call(spawn(idle), Evil(), timeout=1)
    reason = Evil()
    server = await start(Does)
    with pytest.raises(CalleeExited) as caught:
        await call(server, lambda caller: exit_with(reason))
    assert caught.value.reason is reason
    assert await exit_and_wait(spawn(idle), reason) is reason


class Busybody:
    """A message with attributes that the runtime's own messages have."""

    fail = True
    request = "mine"
    message = "mine"
    answer = None


@pytest.mark.parametrize("how", ["waiting", "in hand"])
@as_process
async def test_a_message_may_have_any_attribute(node, how):
    """What an application's message is like inside has no meaning to the runtime, whatever becomes of it."""

    class Chokes(GenServer):
        def handle_info(self, message):
            raise ValueError("choked")

    pid = spawn(idle) if how == "waiting" else await start(Chokes)
    pid_end = spawn_monitor(_end_reason, pid)
    await trio.testing.wait_all_tasks_blocked()
    send_nowait(pid, Busybody())
    if how == "waiting":
        exit(pid, "boom")
    (down,) = await mail()
    assert (down.monitored, is_alive(pid)) == (pid_end[0], False)


async def _end_reason(pid):
    return await end_of(pid)


@as_process
async def test_attributes_that_raise_harm_nobody(node):
    """A message whose attributes cannot be read is a message like any other."""

    class Hostile:
        def __getattr__(self, name):
            raise RuntimeError(name)

    class Chokes(GenServer):
        def handle_info(self, message):
            raise ValueError("choked")

    pid = await start(Chokes)
    waiting = spawn(idle)
    send_nowait(pid, Hostile())
    send_nowait(waiting, Hostile())
    reason = await end_of(pid)
    assert isinstance(reason, Crash)
    assert await exit_and_wait(waiting, "x") == "x"


# -- several nodes -------------------------------------------------------------------------------------


async def test_processes_of_two_nodes_in_one_program_call_each_other(node):
    """A pid of another node in the same program is called, linked and monitored like one's own."""
    here = await start(Worker)
    async with Node("other"):

        async def caller():
            return await call(here, Work(1)), whereis("nothing")

        assert await inside(caller) == (1, None)


@as_process
async def test_unlinking_in_time_keeps_a_caller_alive(node):
    """The end of a callee that is linked fails the call and ends the caller; unlinked it only fails the call."""
    server = await start(Does)

    async def client(stay):
        link(server2)
        if stay:
            unlink(server2)
        with pytest.raises(CalleeExited):
            await call(server2, lambda caller: exit_with("boom"))

    server2 = server
    assert await ended(client, True) is NORMAL
    server2 = await start(Does)
    assert await ended(client, False) == "boom"
