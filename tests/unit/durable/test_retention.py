"""What a process drops of its history, and what it never does; snapshotted processes over the same."""

from __future__ import annotations

import pytest
import trio

from runtime import AlreadyDone, Session, call, start
from runtime.durable.commands import Numbered
from runtime.durable.durability import keep_entries, keep_seconds
from runtime.durable.journal import EntriesDropped
from runtime.durable.record import Entry
from runtime.durable.recovery import floor_of

from .purse import Plain, Purse, Read, Take, killed, settled


class Rich(Purse):
    """A thousand coins, and a snapshot every ten entries."""

    snapshot_every = 10

    def initial(self, key):
        return 1000


def kept(retain):
    return type("Kept", (Rich,), {"retain": retain, "__module__": __name__})


@pytest.mark.parametrize(
    ("retain", "first"), [(None, 1), (keep_entries(0), 31), (keep_entries(5), 26), (keep_entries(100), 1)], ids=str
)
async def test_entries_before_a_snapshot_are_dropped_by_count(node, retain, first):
    """So many before the newest snapshot stay, and all after it; a process recovers as if none was dropped."""
    kind = kept(retain)
    pid = await start(kind, "purse", name="purse")
    session = Session("ann")
    for _ in range(34):
        await session.command(pid, Take(1))
    assert (node.journal.first("purse"), node.journal.head("purse")) == (first, 34)
    assert [entry.sequence for entry in node.journal.read("purse", first - 1)] == list(range(first, 35))
    await killed(pid)
    pid = await start(kind, "purse", name="purse")
    assert await call(pid, Read()) == 966
    if first > 1:
        with pytest.raises(EntriesDropped) as caught:
            kind.past(node.journal, "purse")
        assert (caught.value.key, caught.value.asked, caught.value.first) == ("purse", 1, first)


async def test_entries_are_dropped_by_age(node):
    """What was accepted longer ago goes with the next snapshot, and never what is behind that."""
    pid = await start(kept(keep_seconds(100)), "purse", name="purse")
    for _ in range(40):
        await call(pid, Take(1))
        await trio.sleep(10)  # virtual
    assert node.journal.first("purse") == 30
    await trio.sleep(10_000)  # virtual
    for _ in range(10):
        await call(pid, Take(1))
    await settled()
    assert node.journal.first("purse") == 41


async def test_what_was_answered_outlives_its_entry(node):
    """The table of numbered commands is in the snapshot: a command whose entry was dropped is not applied again."""
    kind = kept(keep_entries(0))
    pid = await start(kind, "purse", name="purse")
    for number in range(1, 101):
        await call(pid, Numbered("ann", number, Take(1)))
    await killed(pid)
    pid = await start(kind, "purse", name="purse")
    assert await call(pid, Numbered("ann", 60, Take(1))) == 940
    assert await call(pid, Numbered("ann", 1, Take(1))) == AlreadyDone("ann", 1)
    assert (await call(pid, Read()), node.journal.first("purse")) == (900, 101)


async def test_a_policy_that_is_taken_on_later_drops_what_was_kept(node):
    """Retention is the class's of today."""
    pid = await start(Rich, "purse", name="purse")
    for _ in range(25):
        await call(pid, Take(1))
    await killed(pid)
    pid = await start(kept(keep_entries(2)), "purse", name="purse")
    assert node.journal.first("purse") == 1
    for _ in range(5):
        await call(pid, Take(1))
    await settled()
    assert node.journal.first("purse") == 29


def test_the_floor_by_age_needs_few_reads():
    """It is found by halving, also in a long history."""
    reads = []

    class Long:
        def first(self, key):
            return 1

        def read(self, key, after, limit):
            reads.append(after)
            return [Entry(key, after + 1, 1, 1, "", 0, float(after + 1), 0, b"")]

    assert floor_of(keep_seconds(1000), Long(), "a", 100_000, 100_000.0) == 99_000
    assert len(reads) < 20


async def test_a_snapshotted_process_keeps_each_state_before_its_reply(node):
    """Durable without events: what was answered survives, repeated numbers are answered, history stays short."""
    pid = await start(Plain, "purse", name="purse")
    for number in (1, 2, 3):
        await call(pid, Numbered("ann", number, Take(2)))
    assert await call(pid, Take(0)) == 4
    assert node.journal.head("purse") == 3
    await killed(pid)
    pid = await start(Plain, "purse", name="purse")
    assert (await call(pid, Read()), await call(pid, Numbered("ann", 2, Take(2)))) == (4, 6)


async def test_a_snapshotted_process_drops_what_a_snapshot_stands_for(node):
    """By default nothing is kept behind a snapshot."""

    class Long(Plain):
        snapshot_every = 10

        def initial(self, key):
            return 1000

    pid = await start(Long, "purse", name="purse")
    for _ in range(34):
        await call(pid, Take(1))
    assert (node.journal.first("purse"), len(node.journal.read("purse", 30))) == (31, 4)
    await killed(pid)
    assert await call(await start(Long, "purse"), Read()) == 966
