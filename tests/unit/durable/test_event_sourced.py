"""A durable process: what it says when, and what it is after failures; over a store in memory."""

from __future__ import annotations

import pytest
import trio

from runtime import (
    KILL,
    Refused,
    Session,
    call,
    cast,
    exit,
    is_alive,
    monitor,
    receive,
    start,
    sys,
    whereis,
)
from runtime.durable.commands import Numbered
from runtime.durable.journal import SequenceConflict, StoreFull
from runtime.durable.writer import WRITER, writer_of
from runtime.errors import CalleeExited, NoProcess
from tests.support.processes import as_process

from .purse import Break, Purse, Read, Take, Taken, asked, settled


class Told(Purse):
    """One that does something at each commit, so that its replies go through its own hands."""

    def setup(self, log):
        self.log = log

    def committed(self, state, events):
        self.log.append((state, events))


@pytest.fixture(params=["plain", "hooked"])
def purse(request):
    """Starts a purse of either kind: with the writer's short way, and with its own."""

    async def make(key="purse"):
        return await (start(Purse, key, name=key) if request.param == "plain" else start(Told, key, [], name=key))

    return make


async def test_nothing_leaves_before_the_commit(node, purse):
    """Replies, and refusals that follow from what is under way, wait for the commit; queries see committed state."""
    pid = await purse()
    await sys.suspend(WRITER)
    first = await asked(call, pid, Take(8))
    second = await asked(call, pid, Take(8))
    third = await asked(call, pid, Take(0))
    assert (first, second, third, await call(pid, Read())) == ([], [], [], 10)
    await sys.resume(WRITER)
    await settled()
    assert (first, third, await call(pid, Read())) == ([2], [2], 2)
    assert [str(error) for error in second] == ["only 2 left"]
    assert node.journal.head("purse") == 1


async def test_a_process_goes_on_while_its_commits_are_under_way(node, purse):
    """Ten commands of ten callers are one group."""
    pid = await purse()
    await sys.suspend(WRITER)
    outcomes = [await asked(call, pid, Take(1)) for _ in range(10)]
    before = writer_of(node.table).groups
    await sys.resume(WRITER)
    await settled()
    assert [one for [one] in outcomes] == list(range(9, -1, -1))
    assert writer_of(node.table).groups == before + 1


async def test_a_process_that_starts_has_nothing_committed_but_its_own(node, purse):
    """Others' entries wait for their own group; what a predecessor of the same key had handed over is committed."""
    pid = await purse()
    await sys.suspend(WRITER)
    outcome = await asked(call, pid, Take(1))
    before = writer_of(node.table).groups
    await purse("other")
    assert (writer_of(node.table).groups, outcome) == (before, [])
    again = await start(Purse, "purse")
    await settled()
    assert (writer_of(node.table).groups, outcome) == (before + 1, [9])
    assert await call(again, Read()) == 9
    await sys.resume(WRITER)


async def test_a_command_repeated_while_under_way_is_applied_once(node, purse):
    """The same number again gets the same reply, when the first is committed."""
    pid = await purse()
    await sys.suspend(WRITER)
    first = await asked(call, pid, Numbered("ann", 1, Take(3)))
    again = await asked(call, pid, Numbered("ann", 1, Take(3)))
    assert (first, again) == ([], [])
    await sys.resume(WRITER)
    await settled()
    assert (first, again, await call(pid, Read()), node.journal.head("purse")) == ([7], [7], 7, 1)


async def test_a_full_disk_is_a_refusal_and_the_state_is_as_before(node, purse):
    """No room: every caller behind the failed commit gets StoreFull, the process lives on, and later works again."""
    pid = await purse()
    assert await call(pid, Take(1)) == 9
    disk = node.journal._disk
    await sys.suspend(WRITER)
    outcomes = [await asked(call, pid, Take(2)) for _ in range(3)]
    disk.full = True
    await sys.resume(WRITER)
    await settled()
    assert [type(one) for [one] in outcomes] == [StoreFull] * 3
    assert (await call(pid, Read()), is_alive(pid)) == (9, True)
    with pytest.raises(StoreFull):
        await call(pid, Take(1))
    disk.full = False
    assert await call(pid, Take(2)) == 7
    assert node.journal.head("purse") == 2


async def test_a_session_outlives_a_full_disk(node, purse):
    """A session repeats its command until there is room, and it is applied once."""
    pid = await purse()
    disk = node.journal._disk
    disk.full = True
    outcome = await asked(Session("ann").command, pid, Take(4))
    assert outcome == []
    disk.full = False
    await trio.sleep(1)  # virtual
    assert (outcome, node.journal.head("purse")) == ([6], 1)


async def test_a_kill_with_commits_under_way_loses_no_entry_and_keeps_no_caller(node, purse):
    """Callers of a killed process hear of it at once; its successor reads what it had handed over."""
    pid = await purse()
    await sys.suspend(WRITER)
    outcome = await asked(call, pid, Numbered("ann", 1, Take(3)))
    exit(pid, KILL)
    await settled()
    assert type(outcome[0]) is CalleeExited
    pid = await purse()
    assert (await call(pid, Read()), await call(pid, Numbered("ann", 1, Take(3)))) == (7, 7)
    await sys.resume(WRITER)
    await settled()
    assert node.journal.head("purse") == 1


@as_process
async def test_a_writer_that_ends_takes_those_whose_entries_it_held(node, purse):
    """What nobody will commit must not live on as a state: the process ends, and its successor reads the store."""
    pid = await purse()
    idle = await purse("idle")
    monitor(pid)
    await sys.suspend(WRITER)
    outcome = await asked(call, pid, Take(3))
    exit(whereis(WRITER), KILL)
    down = await receive()
    assert (down.monitored, type(down.reason.error)) == (pid, NoProcess)
    await settled()
    assert (type(outcome[0]), is_alive(idle)) == (CalleeExited, True)
    pid = await purse()
    assert (await call(pid, Read()), await call(pid, Take(3)), await call(idle, Take(3))) == (10, 7, 7)


@as_process
async def test_a_stale_incarnation_ends(node, purse):
    """Somebody else has written under the same key: the process ends and nothing of its own is kept."""
    pid = await purse()
    monitor(pid)
    other = await start(Purse, "purse")
    assert await call(other, Take(1)) == 9
    outcome = await asked(call, pid, Take(5))
    down = await receive()
    assert (down.monitored, type(down.reason.error), type(outcome[0])) == (pid, SequenceConflict, CalleeExited)
    assert (await call(other, Take(1)), node.journal.head("purse")) == (8, 2)


@as_process
async def test_a_crash_in_handle_leaves_what_was_accepted(node, purse):
    """A command that crashes its process undoes nothing that was accepted before it."""
    pid = await purse()
    monitor(pid)
    await sys.suspend(WRITER)
    first = await asked(call, pid, Take(3))
    second = await asked(call, pid, Break())
    assert type((await receive()).reason.error) is ValueError
    assert [type(one) for [one] in (first, second)] == [CalleeExited] * 2
    await sys.resume(WRITER)
    await settled()
    assert await call(await purse(), Read()) == 7


async def test_a_snapshot_holds_committed_outcomes_only(node):
    """A snapshot taken while more is under way says nothing of that."""

    class Often(Purse):
        snapshot_every = 1

    pid = await start(Often, "often", name="often")
    await sys.suspend(WRITER)
    for number in (1, 2, 3):
        await asked(call, pid, Numbered("ann", number, Take(1)))
    await sys.resume(WRITER)
    await settled()
    exit(pid, KILL)
    await settled()
    snapshot, entries = node.journal.load("often")
    assert (snapshot.sequence, entries) == (3, [])
    pid = await start(Often, "often", name="often")
    assert (await call(pid, Numbered("ann", 3, Take(1))), await call(pid, Read())) == (7, 7)


async def test_committed_runs_for_each_entry_before_its_reply(node):
    """The hook sees every entry with its own state, in order, also when several are committed at once."""
    pid = await start(Told, "told", log := [], name="told")
    await sys.suspend(WRITER)
    outcomes = [await asked(call, pid, Take(amount)) for amount in (1, 2)]
    await cast(pid, Take(3))
    await settled()
    assert log == []
    await sys.resume(WRITER)
    await settled()
    assert log == [(9, (Taken(1),)), (7, (Taken(2),)), (4, (Taken(3),))]
    assert outcomes == [[9], [7]]


async def test_a_large_burst_is_committed_without_waiting_for_the_writer(node, purse, monkeypatch):
    """What is under way has a bound: the process that would make a group too large commits it."""
    monkeypatch.setattr("runtime.durable.writer.LARGEST_GROUP", 4)
    pid = await purse()
    await sys.suspend(WRITER)
    outcomes = [await asked(call, pid, Take(1)) for _ in range(5)]
    assert (outcomes, node.journal.head("purse")) == ([[9], [8], [7], [6], []], 4)
    await sys.resume(WRITER)


async def test_refused_changes_nothing(node, purse):
    """A refusal is raised at the caller, nothing is journalled and its number is free again."""
    pid = await purse()
    session = Session("ann")
    with pytest.raises(Refused, match="only 10"):
        await session.command(pid, Take(11))
    assert (session.number, node.journal.head("purse"), await session.command(pid, Take(1))) == (0, 0, 9)
