"""A process of a shard writes under the shard's epoch, and ends in order when that is over."""

from __future__ import annotations

import pytest
import trio

from runtime import CalleeExited, Down, Kept, Shutdown, StartFailed, call, cast, monitor, periodic, receive, start
from runtime.backends.memory import MemoryDisk, MemoryJournal
from runtime.durable.durability import Owned
from runtime.durable.fence import seal_shard
from runtime.durable.journal import Fence, Fenced, SequenceConflict
from runtime.durable.record import Snapshot
from runtime.durable.writer import RELAXED, WRITER, JournalWriter, writer_of
from tests.support.processes import as_process, running_node
from tests.unit.backends.stores import entry

from .purse import Plain, Purse, Read, Take, settled
from .test_fence import Author

KINDS = pytest.mark.parametrize("kind", [Purse, Plain], ids=["events", "plain"])


async def why_it_ended(ref):
    """The reason in the notice of a monitor."""
    down = await receive(lambda message: isinstance(message, Down) and message.ref is ref)
    return down.reason


class Owner(Author):
    """Keeps what the writer says, refusals by a fence too."""

    def _journal_lost(self, error):
        self.told.append(type(error))


@KINDS
@as_process
async def test_entries_bear_the_epoch_of_the_shard(node, kind):
    """The journal of a process in a shard names the shard's epoch, and it recovers under the next one."""
    node.journal.claim({7: 30})
    pid = await start(kind, "purse", Owned(7, 30))
    assert await call(pid, Take(3)) == 7
    node.journal.claim({7: 31})
    pid = await start(kind, "purse", Kept("durable"), Owned(7, 31))
    assert await call(pid, Take(3)) == 4
    assert [one.epoch for one in node.journal.read("purse")] == [30, 31]


@KINDS
@pytest.mark.parametrize("how", ["sealed", "claimed"])
@pytest.mark.parametrize("durability", ["durable", "relaxed", periodic(1)], ids=str)
@as_process
async def test_a_process_of_a_shard_that_was_given_away_ends(node, kind, how, durability):
    """After a seal or another's claim its next write is refused: nothing is written, and it ends in order, fenced."""
    node.journal.claim({7: 30})
    store = node.table.services[RELAXED] if durability == "relaxed" else node
    pid = await start(kind, "purse", Kept(durability), Owned(7, 30))
    await call(pid, Take(3))
    await trio.sleep(2)  # virtual
    before = store.journal.load("purse")
    if how == "sealed":
        seal_shard(node.journal, node.table.services[RELAXED], 7, 30)
    else:
        node.journal.claim({7: 31})
        if durability == "relaxed":
            writer_of(node.table, RELAXED).epoch_for(Owned(7, 31))
    ref = monitor(pid)
    await cast(pid, Take(1))
    reason = await why_it_ended(ref)
    assert isinstance(reason, Shutdown)
    assert isinstance(reason.detail, Fenced)
    assert (reason.detail.shard, reason.detail.epoch) == (7, 30)
    assert store.journal.load("purse") == before


@as_process
async def test_who_waits_for_a_fenced_process_hears_of_it(node):
    """A call whose commit the fence refuses fails; it is not answered as if it had been done."""
    node.journal.claim({7: 30})
    pid = await start(Purse, "purse", Owned(7, 30))
    seal_shard(node.journal, None, 7, 30)
    with pytest.raises(CalleeExited, match="Fenced"):
        await call(pid, Take(3))


@pytest.mark.parametrize("epoch", [29, 31])
@pytest.mark.parametrize("durability", ["durable", "relaxed"])
@as_process
async def test_a_process_does_not_start_under_another_epoch(node, durability, epoch):
    """Whoever starts a process of a shard under an epoch that is not claimed here is refused with the reason."""
    node.journal.claim({7: 30})
    with pytest.raises(StartFailed) as failed:
        await start(Purse, "purse", Kept(durability), Owned(7, epoch))
    assert isinstance(failed.value.reason.error, Fenced)


@as_process
async def test_one_fenced_shard_does_not_stop_the_others(node):
    """In one group, what belongs to another shard or to none is written, and only the given-away shard is refused."""
    journal, writer = node.journal, writer_of(node.table)
    journal.claim({1: 30, 2: 30})
    gone, living, free = Owner(), Owner(), Owner()
    writer.append(entry("a", 1, epoch=30), gone, shard=1)
    writer.append(entry("b", 1, epoch=30), living, shard=2)
    writer.append(entry("c", 1, epoch=journal.epoch), free)
    journal.seal(1, 30)
    writer.flush()
    assert (gone.told, living.told, free.told) == ([Fenced], [1], [1])
    assert journal.keys() == ["b", "c"]


@as_process
async def test_a_snapshot_of_a_fenced_shard_is_not_kept(node):
    """A snapshot, and the entries that it would drop, stay as they were once the shard is sealed."""
    journal, writer = node.journal, writer_of(node.table)
    journal.claim({1: 30})
    pid = await start(Plain, "purse", Owned(1, 30))
    await call(pid, Take(1))
    before = journal.load("purse")
    snapshot = before[1][0]
    journal.seal(1, 30)
    writer.keep(Snapshot("purse", 1, 30, snapshot.schema, 1.0, b""), 1, shard=1)
    writer.flush()
    assert journal.load("purse") == before


@as_process
async def test_the_shards_epoch_stands_above_the_life_of_the_node(node):
    """A key that was written without a shard goes on in one only under an epoch that is not below its last."""
    journal, writer = node.journal, writer_of(node.table)
    author = Owner()
    journal.claim({1: 30})
    journal.claim({2: 40})
    writer.append(entry("a", 1, epoch=40), author, shard=2)
    writer.append(entry("a", 2, epoch=30), author, shard=1)
    with pytest.raises(SequenceConflict):
        journal.commit([entry("a", 1, epoch=40), entry("a", 2, epoch=30)])
    writer.flush()
    await settled()
    assert journal.keys() == []
    assert author.told == [SequenceConflict]


async def test_the_relaxed_store_follows_the_durable_one(tmp_path):
    """The relaxed store takes over a claim when its first process starts, and a seal with the other's."""
    async with running_node(data=tmp_path / "store") as node:
        node.journal.claim({7: 30})
        relaxed = node.table.services[RELAXED]
        seal_shard(node.journal, relaxed, 7, 30)
        assert not relaxed.made
        node.journal.claim({7: 31})
        await start(Purse, "purse", Kept("relaxed"), Owned(7, 31))
        assert relaxed.journal.fence(7) == Fence(31)
        seal_shard(node.journal, relaxed, 7, 31)
        assert (relaxed.journal.fence(7), node.journal.fence(7)) == (Fence(31, sealed=True),) * 2
        assert writer_of(node.table, WRITER).journal.keys() == []


@as_process
async def test_a_process_writes_to_an_adopted_store(node):
    """With another writer's name its history is in that writer's store, whose fence it has to pass."""
    adopted = MemoryJournal(MemoryDisk("b"), node="b")
    await start(JournalWriter, adopted, "journal.b")
    adopted.claim({7: 30})
    pid = await start(Purse, "purse", Owned(7, 30, "journal.b"))
    assert await call(pid, Take(3)) == 7
    assert (adopted.keys(), node.journal.keys(), adopted.fence(7)) == (["purse"], [], Fence(30, written=True))
    adopted.seal(7, 30)
    with pytest.raises(CalleeExited, match="Fenced"):
        await call(pid, Take(3))
    with pytest.raises(StartFailed, match="not adopted"):
        await start(Purse, "purse", Kept("relaxed"), Owned(7, 30, "journal.b"))


@as_process
async def test_a_volatile_process_of_a_shard_writes_nothing(node):
    """A volatile process takes its shard as an argument like the others, and no row speaks against it."""
    pid = await start(Purse, "purse", Kept("volatile"), Owned(7, 1))
    assert await call(pid, Take(3)) == await call(pid, Read()) == 7
