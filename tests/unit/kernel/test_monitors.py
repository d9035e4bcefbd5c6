"""Monitors: one direction, any number of them, each told once."""

from __future__ import annotations

import pytest
import trio

from runtime import (
    KILL,
    KILLED,
    NOPROC,
    NORMAL,
    Down,
    Exit,
    Misuse,
    demonitor,
    exit,
    exit_with,
    is_alive,
    link,
    monitor,
    process_info,
    receive,
    register,
    self_pid,
    send_nowait,
    spawn,
    spawn_monitor,
    trap_exit,
    unregister,
    whereis,
)
from tests.support.processes import as_process, ended, exit_and_wait, idle, mail


def counts(pid):
    info = process_info(pid)
    assert info is not None
    return info.monitors, info.watchers


@as_process
async def test_a_monitor_looks_in_one_direction(node):
    """The watcher's end is nothing to the watched, which never learns of it (P21, P30)."""
    pid = spawn(idle)

    async def watches():
        monitor(pid)

    assert await ended(watches) is NORMAL
    assert (is_alive(pid), counts(pid)) == (True, (0, 0))


@pytest.mark.parametrize("reason", [NORMAL, "boom", KILL], ids=repr)
@as_process
async def test_a_down_has_the_true_reason(node, reason):
    """The reason of a Down is the exit reason, NORMAL included (P26)."""

    async def ends():
        exit_with(reason)

    pid, ref = spawn_monitor(ends)
    assert await mail() == [Down(ref, pid, reason)]


@as_process
async def test_each_monitor_is_told_once_in_order_of_creation(node):
    """N monitors give N Downs with their own references, in the order in which they were made (P21, P22)."""
    pid = spawn(idle)
    refs = [monitor(pid) for _ in range(5)]
    assert counts(pid) == (0, 5)
    exit(pid, "boom")
    assert await mail() == [Down(ref, pid, "boom") for ref in refs]
    assert counts(self_pid())[0] == 0


@as_process
async def test_monitoring_the_dead_tells_of_noproc(node):
    """A dead pid gives a Down with NOPROC, after the caller's next checkpoint and not before (P23)."""
    pid = spawn(idle)
    await exit_and_wait(pid, "x")
    ref = monitor(pid)
    info = process_info(self_pid())
    assert info is not None
    assert (info.queue, await mail()) == (0, [Down(ref, pid, NOPROC)])


@as_process
async def test_monitoring_a_dying_process_tells_of_noproc(node):
    """A monitor that comes after a deadly signal of the same sender finds nobody (P23, P34)."""
    pid = spawn(idle)
    exit(pid, "boom")
    ref = monitor(pid)
    assert await mail() == [Down(ref, pid, NOPROC)]


@as_process
async def test_monitoring_a_free_name_tells_of_noproc(node):
    """A name that nobody has gives a Down for that name (P23)."""
    ref = monitor("nobody")
    assert await mail() == [Down(ref, "nobody", NOPROC)]


@as_process
async def test_a_monitor_by_name_is_bound_to_whoever_has_it_now(node):
    """The Down names the name; a later holder of that name is not watched (P24)."""
    first, second = spawn(idle), spawn(idle)
    register("it", first)
    ref = monitor("it")
    unregister("it")
    register("it", second)
    exit(second, "not watched")
    assert await mail() == []
    exit(first, "watched")
    assert await mail() == [Down(ref, "it", "watched")]


@as_process
async def test_a_monitor_of_oneself_never_fires(node):
    """Watching oneself gives a reference and nothing else (P25)."""
    ref = monitor(self_pid())
    assert await mail() == []
    assert (demonitor(ref, flush=True), await mail()) == (demonitor(ref), [])


@as_process
async def test_demonitor_stops_the_down(node):
    """After `demonitor` of an active monitor, which says True, no Down comes (P27)."""
    pid = spawn(idle)
    kept, dropped = monitor(pid), monitor(pid)
    assert (demonitor(dropped), counts(pid)) == (True, (0, 1))
    exit(pid, "boom")
    assert await mail() == [Down(kept, pid, "boom")]


@as_process
async def test_demonitor_of_a_dying_process_stops_the_down(node):
    """A monitor that has not fired yet can be stopped, even if its process is about to end (P27)."""
    pid, ref = spawn_monitor(idle)
    exit(pid, "boom")
    assert (demonitor(ref), await mail()) == (True, [])


@as_process
async def test_demonitor_without_flush_leaves_a_queued_down(node):
    """A Down that is already in the mailbox stays there, and `demonitor` says False (P27, P28)."""
    pid, ref = spawn_monitor(idle)
    exit(pid, "boom")
    await trio.testing.wait_all_tasks_blocked()
    assert (demonitor(ref), await mail()) == (False, [Down(ref, pid, "boom")])


@as_process
async def test_demonitor_with_flush_removes_a_queued_down_only(node):
    """`flush` takes that monitor's Down out of the mailbox and leaves every other message in order (P27)."""
    pid = spawn(idle)
    first, second = monitor(pid), monitor(pid)
    send_nowait(self_pid(), 1)
    exit(pid, "boom")
    await trio.testing.wait_all_tasks_blocked()
    send_nowait(self_pid(), 2)
    assert demonitor(first, flush=True) is False
    assert demonitor(first, flush=True) is False
    assert await mail() == [1, Down(second, pid, "boom"), 2]


@as_process
async def test_demonitor_with_flush_of_an_active_monitor_says_true(node):
    """`flush` with a monitor that is still active has nothing to drop (P27)."""
    _, ref = spawn_monitor(idle)
    assert [demonitor(ref, flush=True), demonitor(ref, flush=True)] == [True, False]


@as_process
async def test_demonitor_before_noproc_arrives_stops_it(node):
    """The Down of a monitor on something dead can be stopped before it has come (P27)."""
    refs = [monitor("nobody"), monitor("nobody")]
    assert demonitor(refs[1], flush=True) is False
    demonitor(refs[0])
    assert await mail() == []


@as_process
async def test_demonitor_of_an_unknown_reference_is_silent(node):
    """A reference that is used up, or is of a timer, says False (P29)."""
    pid, ref = spawn_monitor(idle)
    exit(pid, "x")
    await mail()
    assert demonitor(ref) is False


@as_process
async def test_only_the_watcher_can_stop_its_monitor(node):
    """A reference in another process's hands stops nothing (P27)."""
    pid, ref = spawn_monitor(idle)
    said = []

    async def stranger():
        said.append(demonitor(ref, flush=True))

    await ended(stranger)
    exit(pid, "boom")
    assert (said, await mail()) == ([False], [Down(ref, pid, "boom")])


@as_process
async def test_an_exit_comes_before_a_down(node):
    """One who is linked and monitors gets the Exit first, then its Downs (P36)."""
    trap_exit(True)
    pid, ref = spawn_monitor(idle)
    link(pid)
    exit(pid, "boom")
    assert await mail() == [Exit(pid, "boom"), Down(ref, pid, "boom")]


@as_process
async def test_a_name_is_free_before_its_down_is_seen(node):
    """Whoever has the Down, or the Exit, can register the name at once (P40)."""
    trap_exit(True)
    for _ in range(20):
        pid, _ = spawn_monitor(idle)
        register("it", pid)
        link(pid)
        exit(pid, KILL)
        assert isinstance(await receive(), Exit)
        assert whereis("it") is None
        register("it")
        unregister("it")
        assert (await receive(Down)).reason is KILLED


@as_process
async def test_the_death_of_a_watcher_forgets_its_monitors(node):
    """The watched keeps no trace of a dead watcher (P21)."""
    pid = spawn(idle)

    async def watches():
        for _ in range(3):
            monitor(pid)
        await receive()

    watcher = spawn(watches)
    await trio.testing.wait_all_tasks_blocked()
    before = counts(pid)
    await exit_and_wait(watcher, KILL)
    assert (before, counts(pid)) == ((0, 3), (0, 0))


@as_process
async def test_two_processes_may_watch_each_other(node):
    """A mutual monitor tells the one that is left."""
    to = self_pid()

    async def other():
        monitor(to)
        exit_with(await receive())

    pid, ref = spawn_monitor(other)
    send_nowait(pid, "bye")
    assert await mail() == [Down(ref, pid, "bye")]


@pytest.mark.parametrize("what", [None, 5, b"name"], ids=repr)
@as_process
async def test_only_a_pid_or_name_can_be_watched(node, what):
    """Anything else is misuse."""
    with pytest.raises(Misuse, match="a destination is"):
        monitor(what)
