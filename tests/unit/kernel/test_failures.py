"""Exceptions, cancellation and clean-up: what becomes an exit reason, and what does not."""

from __future__ import annotations

import pytest
import trio

from runtime import (
    KILL,
    KILLED,
    NORMAL,
    CalleeExited,
    Crash,
    Down,
    GenServer,
    call,
    exit,
    exit_with,
    is_alive,
    monitor,
    receive,
    self_pid,
    send_nowait,
    spawn,
    spawn_link,
    spawn_monitor,
    start,
    sys,
)
from tests.support.processes import as_process, ended, exit_and_wait, idle, mail, running_node

from .serving import Awaits, raises


def crash_of(reason) -> BaseException:
    assert isinstance(reason, Crash)
    return reason.error


# -- groups --------------------------------------------------------------------------------------------


@as_process
async def test_a_group_from_a_handlers_nursery_is_the_crash(node):
    """A handler that opened a nursery and lost a task in it crashes with the group (P3, N17)."""
    error = ValueError("in a task")
    log: list[object] = []

    async def handler():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(raises, error)

    with pytest.raises(CalleeExited) as caught:
        await call(await start(Awaits, log), handler)
    group = crash_of(caught.value.reason)
    assert isinstance(group, ExceptionGroup)
    assert group.exceptions == (error,)
    assert [crash_of(reason) for reason in log] == [group]


@as_process
async def test_an_error_beside_a_kill_does_not_reach_the_nursery(node):
    """A clean-up that raises while the process is being killed changes neither its reason nor anybody else (P48)."""

    async def careless():
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("in the clean-up")

    pid, _ = spawn_monitor(careless)
    await trio.testing.wait_all_tasks_blocked()
    exit(pid, KILL)
    (down,) = await mail()
    assert down.reason is KILLED


@as_process
async def test_errors_in_many_cancelled_tasks_do_not_reach_the_nursery(node):
    """A killed process whose helper tasks all raise in their clean-up still ends with the kill (P48)."""

    async def careless():
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("in the clean-up")

    async def opens():
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(careless)

    pid, _ = spawn_monitor(opens)
    await trio.testing.wait_all_tasks_blocked()
    exit(pid, "boom")
    (down,) = await mail()
    assert down.reason == "boom"


async def test_an_error_in_a_clean_up_that_the_host_cancelled_stays_in_the_process():
    """When the host cancels, an error in a process's clean-up is its crash and the host sees nothing of it."""
    log: list[object] = []

    async def careless():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                await trio.sleep_forever()
            finally:
                log.append("clean-up")
                raise ValueError("in the clean-up")

    with trio.CancelScope() as scope:
        async with running_node():
            spawn(careless)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
            await trio.sleep_forever()
    assert (scope.cancelled_caught, log) == (True, ["clean-up"])


# -- exits from within ---------------------------------------------------------------------------------


@as_process
async def test_an_exit_inside_nested_cancel_scopes_ends_the_process(node):
    """`exit_with` goes through any cancel scopes on its way (P2)."""

    async def ends():
        with trio.move_on_after(10), trio.CancelScope(shield=True):
            with trio.fail_after(5):
                await trio.lowlevel.checkpoint()
                exit_with("deep")

    assert await ended(ends) == "deep"


@as_process
async def test_an_exit_inside_a_nested_nursery_ends_the_process(node):
    """`exit_with` in a helper task ends the whole process with that reason, its siblings cancelled (P2)."""
    steps = []

    async def sibling():
        try:
            await trio.sleep_forever()
        finally:
            steps.append("sibling cancelled")

    async def ends():
        async with trio.open_nursery() as outer:
            outer.start_soon(sibling)
            async with trio.open_nursery() as inner:
                inner.start_soon(raises_exit, "deep")
                await trio.sleep_forever()

    async def raises_exit(reason):
        await trio.lowlevel.checkpoint()
        exit_with(reason)

    assert (await ended(ends), steps) == ("deep", ["sibling cancelled"])


@as_process
async def test_an_exit_beside_an_error_is_the_reason(node):
    """Where one helper task exits and another fails, the exit is the reason."""

    async def ends():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(raises, ValueError("beside"))
            nursery.start_soon(_exits, "on purpose")

    assert await ended(ends) == "on purpose"


async def _exits(reason):
    exit_with(reason)


@as_process
async def test_an_exit_in_a_handlers_nursery_runs_terminate(node):
    """A callback that exits in a helper task has `terminate` called like one that exits itself (N17, N19)."""
    log: list[object] = []

    async def handler():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_exits, "deep")

    with pytest.raises(CalleeExited) as caught:
        await call(await start(Awaits, log), handler)
    assert (caught.value.reason, log) == ("deep", ["deep"])


@as_process
async def test_a_signal_to_oneself_from_a_helper_task_ends_the_process(node):
    """`exit(self_pid(), R)` works in a task that the process started (P11)."""

    async def helper():
        exit(self_pid(), "from a helper")

    async def ends():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(helper)
            await trio.sleep_forever()

    assert await ended(ends) == "from a helper"


# -- the application's own cancel scopes ---------------------------------------------------------------


@as_process
async def test_a_timeout_inside_a_handler_is_the_handlers_business(node):
    """A cancel scope that ends inside a callback ends nothing else."""

    async def handler():
        with trio.move_on_after(1):
            await trio.sleep_forever()
        return "moved on"

    server = await start(Awaits)
    assert [await call(server, handler), await call(server, handler)] == ["moved on", "moved on"]


@as_process
async def test_a_fail_after_that_is_not_caught_is_a_crash(node):
    """TooSlowError is an error like any other."""

    async def handler():
        with trio.fail_after(1):
            await trio.sleep_forever()

    with pytest.raises(CalleeExited) as caught:
        await call(await start(Awaits), handler)
    assert isinstance(crash_of(caught.value.reason), trio.TooSlowError)


@as_process
async def test_a_cancelled_scope_that_is_still_open_does_not_end_the_process(node):
    """A scope that the process cancelled itself and left is over (peers: closing in a nested scope)."""

    async def ends_well():
        with trio.CancelScope() as scope:
            scope.cancel()
            await receive()
        await trio.lowlevel.checkpoint()

    assert await ended(ends_well) is NORMAL


@as_process
async def test_a_kill_waits_for_a_shield(node):
    """A shielded section runs to its end, then the process is gone; nothing else runs (P42, P43)."""
    steps = []

    async def shielded():
        with trio.CancelScope(shield=True):
            await trio.sleep(3)  # virtual
            steps.append("shielded part")
        await trio.lowlevel.checkpoint()
        steps.append("after")

    pid, _ = spawn_monitor(shielded)
    await trio.testing.wait_all_tasks_blocked()
    exit(pid, KILL)
    assert not is_alive(pid)
    down = await receive(Down)
    assert (down.reason, steps, trio.current_time()) == (KILLED, ["shielded part"], 3.0)


@as_process
async def test_a_kill_in_a_handler_that_shields_waits_for_its_end_only(node):
    """A server that is killed in a shielded handler still gives that reply, then ends without terminate (P42)."""
    log: list[object] = []
    server = await start(Awaits, log)

    async def handler():
        with trio.CancelScope(shield=True):
            await trio.sleep(3)  # virtual
        return "done"

    async def kills():
        await trio.sleep(1)  # virtual
        exit(server, KILL)

    spawn(kills)
    ref = monitor(server)
    assert await call(server, handler, timeout=100) == "done"
    assert (await mail(), log, trio.current_time()) == ([Down(ref, server, KILLED)], [], 3.0)


@as_process
async def test_a_killed_process_runs_its_finally_but_cannot_wait_in_it(node):
    """Clean-up of a killed process runs up to its first wait (P42)."""
    steps = []

    async def cleans_up():
        try:
            await trio.sleep_forever()
        finally:
            steps.append("finally")
            await trio.lowlevel.checkpoint()
            steps.append("waited")

    pid, _ = spawn_monitor(cleans_up)
    await trio.testing.wait_all_tasks_blocked()
    exit(pid, KILL)
    (down,) = await mail()
    assert (down.reason, steps) == (KILLED, ["finally"])


# -- a signal that comes while the process runs --------------------------------------------------------


class Plain(GenServer):
    """Plain callbacks only, so it needs no cancel scope."""

    def handle_call(self, request, caller):
        return request() if callable(request) else request

    def handle_info(self, message):
        if callable(message):
            message()


@as_process
async def test_a_signal_to_a_server_that_is_running_is_not_lost(node):
    """A signal that a plain callback brings upon its own process ends it before it waits again (P5, P15)."""
    server = await start(Plain)
    monitor_of = await _watch(server)

    def links_and_loses():
        child = spawn_link(idle)
        exit(child, "boom")

    assert await call(server, links_and_loses) is None
    assert await monitor_of() == "boom"


@as_process
async def test_a_message_and_a_kill_at_once_end_a_suspended_server(node):
    """A kill that comes with a message to a suspended server takes effect (P8, Y2)."""
    server = await start(Plain)
    await sys.suspend(server)
    monitor_of = await _watch(server)
    send_nowait(server, "x")
    exit(server, KILL)
    assert await monitor_of() is KILLED


@as_process
async def test_a_message_and_a_kill_at_once_end_an_idle_server(node):
    """A kill that comes with a message ends the server, and the message is not handled (P8)."""
    ran = []
    server = await start(Plain)
    monitor_of = await _watch(server)
    send_nowait(server, lambda: ran.append(1))
    exit(server, KILL)
    assert (await monitor_of(), ran) == (KILLED, [])


async def _watch(pid):
    """A function that waits for the end of a process, which is watched from now on."""
    ref = monitor(pid)
    await trio.testing.wait_all_tasks_blocked()

    async def wait():
        down = await receive(lambda m: isinstance(m, Down) and m.ref is ref, timeout=1000)
        assert isinstance(down, Down)
        return down.reason

    return wait


@as_process
async def test_exit_with_kill_in_a_callback_runs_no_terminate(node):
    """A server that sends KILL to itself is killed: no callback runs any more (P8, N19)."""
    log: list[object] = []

    class Trapping(Awaits):
        trap_exit = True

    async def handler():
        exit(self_pid(), KILL)

    with pytest.raises(CalleeExited) as caught:
        await call(await start(Trapping, log), handler)
    assert (caught.value.reason, log) == (KILLED, [])


# -- what a crash leaves, and what it does not touch ---------------------------------------------------


@as_process
async def test_a_crash_keeps_its_traceback(node):
    """The traceback of a Crash names the place, after the process is long gone (P3)."""

    async def broken_here():
        raise ValueError("boom")

    reason = await ended(broken_here)
    assert isinstance(reason, Crash)
    assert "in broken_here" in reason.traceback()


@as_process
async def test_siblings_of_a_crash_run_on(node):
    """Hundreds of crashes beside it do not disturb a process (the law of nursery and link)."""
    survivor = await start(Plain)
    for number in range(100):
        spawn(raises, ValueError(number))
    assert [await call(survivor, 1), await exit_and_wait(survivor, "now")] == [1, "now"]
