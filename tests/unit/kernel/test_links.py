"""Links: failure travels both ways, once, and with its reason."""

from __future__ import annotations

import pytest
import trio

from runtime import (
    KILL,
    NOPROC,
    NORMAL,
    SHUTDOWN,
    Exit,
    Misuse,
    NoProcess,
    Pid,
    exit,
    exit_with,
    is_alive,
    link,
    process_info,
    receive,
    self_pid,
    send_nowait,
    spawn,
    spawn_link,
    trap_exit,
    unlink,
)
from tests.support.processes import as_process, end_of, ended, exit_and_wait, idle, mail


def links_of(pid):
    info = process_info(pid)
    assert info is not None
    return info.links


@as_process
async def test_a_link_works_in_both_directions(node):
    """Whoever of two linked processes ends first, the other gets its reason (P12, P14)."""
    trap_exit(True)
    to = self_pid()

    async def linker():
        link(to)
        await trio.sleep_forever()

    ours, theirs = spawn(idle), spawn(linker)
    link(ours)
    await mail()
    assert (links_of(self_pid()), links_of(ours), links_of(theirs)) == (2, 1, 1)
    exit(ours, "one")
    exit(theirs, "two")
    assert sorted(await mail(), key=repr) == sorted([Exit(ours, "one"), Exit(theirs, "two")], key=repr)
    assert links_of(self_pid()) == 0


@as_process
async def test_linking_twice_is_one_link(node):
    """There is at most one link per pair, so one unlink removes it and one death gives one Exit (P12)."""
    trap_exit(True)
    first, second = spawn(idle), spawn(idle)
    for pid in (first, first, second, second):
        link(pid)
    unlink(first)
    assert (links_of(self_pid()), links_of(first)) == (1, 0)
    exit(first, "unseen")
    exit(second, "seen")
    assert await mail() == [Exit(second, "seen")]


@as_process
async def test_a_link_to_oneself_has_no_effect(node):
    """Linking to oneself is allowed and does nothing (P13)."""
    link(self_pid())
    unlink(self_pid())
    assert (links_of(self_pid()), await mail()) == (0, [])


@pytest.mark.parametrize("reason", ["boom", SHUTDOWN, KILL, NOPROC], ids=repr)
@as_process
async def test_a_death_takes_the_linked_processes_with_its_reason(node, reason):
    """A process that does not trap exits dies with the very reason of the link (P5, P9, P14)."""

    async def dies():
        await receive()
        exit_with(reason)

    async def linked():
        pid = spawn_link(dies)
        send_nowait(pid, "go")
        await trio.sleep_forever()

    assert await ended(linked) is reason


@as_process
async def test_a_normal_end_kills_nobody(node):
    """A link to a process that ends normally takes nobody with it (P6, P14)."""
    pid = spawn_link(trio.lowlevel.checkpoint)
    await end_of(pid)
    assert (await mail(), links_of(self_pid())) == ([], 0)


@as_process
async def test_a_normal_end_is_told_to_one_who_traps(node):
    """One who traps exits finds a normal end in the mailbox too (P7)."""
    trap_exit(True)
    pid = spawn_link(trio.lowlevel.checkpoint)
    assert await mail() == [Exit(pid, NORMAL)]


@as_process
async def test_linking_to_the_dead_is_an_error_for_one_who_does_not_trap(node):
    """`link` to a dead pid raises NoProcess, and whoever catches it lives on (P15)."""
    pid = spawn(idle)
    await exit_and_wait(pid, "x")
    with pytest.raises(NoProcess, match="not alive") as caught:
        link(pid)
    assert (caught.value.destination, await mail()) == (pid, [])


@as_process
async def test_linking_to_the_dead_gives_an_exit_to_one_who_traps(node):
    """One who traps has Exit(pid, NOPROC) in the mailbox when `link` returns, each time (P15)."""
    pid = spawn(idle)
    await exit_and_wait(pid, "x")
    trap_exit(True)
    link(pid)
    trap_exit(False)
    assert [await receive(timeout=0), await mail()] == [Exit(pid, NOPROC), []]


@as_process
async def test_linking_to_a_dying_process_kills_one_who_does_not_trap(node):
    """A process with a signal on its way counts as alive: `link` returns, then NOPROC follows (P15)."""
    steps = []

    async def links_late():
        pid = spawn(idle)
        exit(pid, "boom")
        link(pid)
        steps.append("link returned")
        await trio.sleep_forever()

    assert (await ended(links_late), steps) == (NOPROC, ["link returned"])


@as_process
async def test_linking_to_a_dying_process_is_told_to_one_who_traps(node):
    """One who traps finds NOPROC for a process with a signal on its way (P15)."""
    trap_exit(True)
    pid = spawn(idle)
    exit(pid, "boom")
    link(pid)
    assert await mail() == [Exit(pid, NOPROC)]


@as_process
async def test_a_dying_process_that_is_linked_already_sends_its_own_reason(node):
    """Linking again to a dying process that is linked adds nothing (P12)."""
    trap_exit(True)
    pid = spawn_link(idle)
    exit(pid, "boom")
    link(pid)
    assert await mail() == [Exit(pid, "boom")]


@as_process
async def test_after_unlink_no_exit_comes(node):
    """Once `unlink` has returned no Exit of that link arrives, even if the other is already dying (P17)."""
    trap_exit(True)
    pid = spawn_link(idle)
    exit(pid, "boom")
    unlink(pid)
    assert (await mail(), is_alive(pid)) == ([], False)


@as_process
async def test_unlink_leaves_what_is_in_the_mailbox(node):
    """An Exit that has already arrived stays after `unlink` (P17)."""
    trap_exit(True)
    pid = spawn_link(idle)
    exit(pid, "boom")
    await trio.testing.wait_all_tasks_blocked()
    unlink(pid)
    assert await mail() == [Exit(pid, "boom")]


@as_process
async def test_either_side_may_unlink(node):
    """The side that did not link may remove the link (P12)."""
    trap_exit(True)
    parent = self_pid()

    async def leaves():
        unlink(parent)
        exit_with("boom")

    spawn_link(leaves)
    assert (await mail(), links_of(self_pid())) == ([], 0)


@as_process
async def test_unlinking_what_is_not_linked_has_no_effect(node):
    """`unlink` of a stranger, or of a dead process, does nothing (P18)."""
    pid = spawn(idle)
    unlink(pid)
    await exit_and_wait(pid, "x")
    unlink(pid)
    assert await mail() == []


@as_process
async def test_a_ring_of_links_dies_once_and_with_one_reason(node):
    """A cycle of links ends: each process dies once, with the first signal that reached it (P48)."""
    pids = [spawn(_links_to_what_it_is_told) for _ in range(20)]
    for one, other in zip(pids, [*pids[1:], pids[0]], strict=True):
        send_nowait(one, other)
    await mail()
    assert [links_of(pid) for pid in pids] == [2] * 20
    watchers = [spawn(_reports_the_end_of, pid, self_pid()) for pid in pids]
    await trio.testing.wait_all_tasks_blocked()
    exit(pids[7], "boom")
    assert await mail() == ["boom"] * len(watchers)


@as_process
async def test_two_deaths_at_once_in_a_cycle_give_each_process_one_reason(node):
    """Where two signals race through a cycle, every process still dies once, with one of them (P48)."""
    pids = [spawn(_links_to_what_it_is_told) for _ in range(9)]
    for one, other in zip(pids, [*pids[1:], pids[0]], strict=True):
        send_nowait(one, other)
    for pid in pids:
        spawn(_reports_the_end_of, pid, self_pid())
    await trio.testing.wait_all_tasks_blocked()
    exit(pids[0], "left")
    exit(pids[4], "right")
    reasons = await mail()
    assert (len(reasons), set(reasons)) == (9, {"left", "right"})


async def _links_to_what_it_is_told():
    link(await receive(Pid))
    await trio.sleep_forever()


async def _reports_the_end_of(pid, to):
    send_nowait(to, await end_of(pid))


@as_process
async def test_one_who_traps_stops_the_avalanche(node):
    """A death goes along a chain of links up to the first process that traps exits (P7, P14)."""
    trap_exit(True)

    async def parent():
        spawn_link(_dies_when_told)
        await trio.sleep_forever()

    pid = spawn_link(parent)
    await trio.testing.wait_all_tasks_blocked()
    exit(pid, "boom")
    assert (await mail(), is_alive(self_pid())) == ([Exit(pid, "boom")], True)


async def _dies_when_told():
    exit_with(await receive())


@pytest.mark.parametrize("act", [link, unlink])
@as_process
async def test_a_link_is_between_pids(node, act):
    """A name, or any other thing that is no pid, is misuse."""
    with pytest.raises(Misuse, match="Pid"):
        act("a name")
