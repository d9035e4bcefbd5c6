"""The writer notes which keys a shard has, and tells who copies it what changes meanwhile."""

from __future__ import annotations

import pytest
import trio

from runtime import Kept, call, periodic, start
from runtime.durable import writer as writers
from runtime.durable.durability import Owned
from runtime.durable.group import Group
from runtime.durable.record import Snapshot
from runtime.durable.writer import RELAXED, writer_of
from tests.support.processes import as_process
from tests.unit.backends.stores import entry

from .purse import Plain, Purse, Take
from .test_shard_fence import Owner


@pytest.mark.parametrize("kind", [Purse, Plain], ids=["events", "plain"])
@pytest.mark.parametrize("durability", ["durable", "relaxed", periodic(1)], ids=str)
@as_process
async def test_what_a_shard_writes_is_found_by_it(node, kind, durability):
    """Each process of a shard is in the index of its own store from its first commit on; others are in none."""
    node.journal.claim({7: 30, 8: 30})
    store = node.table.services[RELAXED] if durability == "relaxed" else node
    for name, shard in (("b", 7), ("a", 7), ("c", 8)):
        pid = await start(kind, name, Kept(durability), Owned(shard, 30))
        await call(pid, Take(1))
    free = await start(kind, "free", Kept(durability))
    await call(free, Take(1))
    await trio.sleep(2)  # virtual
    assert [store.journal.shard_keys(shard) for shard in (7, 8, 9)] == [["a", "b"], ["c"], []]


@as_process
async def test_a_key_is_noted_again_under_a_new_epoch(node):
    """Once in each time of owning the shard, and not with each commit: a store from before gets its index so."""
    journal, writer = node.journal, writer_of(node.table)
    told = []
    real = journal.commit

    def commit(*group):
        told.append(dict(group[4]) if len(group) > 4 else {})
        real(*group)

    journal.commit = commit
    for epoch in (30, 31):
        journal.claim({7: epoch})
        for _ in range(2):
            writer.append(entry("a", journal.head("a") + 1, epoch=epoch), Owner(), shard=7)
            writer.append(entry("b", journal.head("b") + 1, epoch=journal.epoch), Owner())
            writer.flush()
    assert told == [{"a": 7}, {}, {"a": 7}, {}]
    assert journal.shard_keys(7) == ["a"]


@as_process
async def test_what_is_not_committed_is_not_noted(node):
    """Refused entries leave no key behind, nor is one that failed held for noted."""
    journal, writer = node.journal, writer_of(node.table)
    journal.claim({7: 30})
    changed = writer.watch_shard(7)
    writer.append(entry("gap", 2, epoch=30), Owner(), shard=7)
    writer.append(entry("old", 1, epoch=29), Owner(), shard=7)
    writer.append(entry("good", 1, epoch=30), Owner(), shard=7)
    writer.flush()
    assert (journal.shard_keys(7), "old" in changed) == (["good"], False)
    journal._disk.full = True
    writer.append(entry("full", 1, epoch=30), Owner(), shard=7)
    writer.flush()
    assert "full" not in changed
    journal._disk.full = False
    writer.append(entry("full", 1, epoch=30), Owner(), shard=7)
    writer.flush()
    assert journal.shard_keys(7) == ["full", "good"]


@as_process
async def test_forgetting_what_was_noted_does_no_harm(node, monkeypatch):
    """The writer's memory of noted keys is bounded; a key is noted once more."""
    monkeypatch.setattr(writers, "_NOTED", 2)
    journal, writer = node.journal, writer_of(node.table)
    journal.claim({7: 30})
    for n in range(1, 3):
        for key in "abcde":
            writer.append(entry(key, n, epoch=30), Owner(), shard=7)
            writer.flush()
    assert journal.shard_keys(7) == list("abcde")
    assert len(writer._noted) <= 3


@as_process
async def test_a_watch_tells_what_was_written(node):
    """The keys of entries and snapshots, of that shard only, after their commit and not before; until it ends."""
    journal, writer = node.journal, writer_of(node.table)
    journal.claim({7: 30, 8: 30})
    writer.append(entry("a", 1, epoch=30), Owner(), shard=7)
    writer.flush()
    changed = writer.watch_shard(7)
    assert changed == set()
    writer.append(entry("b", 1, epoch=30), Owner(), shard=7)
    writer.append(entry("c", 1, epoch=30), Owner(), shard=8)
    assert changed == set()
    writer.flush()
    assert changed == {"b"}
    changed.discard("b")
    writer.keep(Snapshot("a", 1, 30, 1, 1.5, b"state"), shard=7)
    writer.flush()
    assert changed == {"a"}
    again = writer.watch_shard(7)
    writer.unwatch_shard(8)
    writer.append(entry("b", 2, epoch=30), Owner(), shard=7)
    writer.flush()
    assert (changed, again) == ({"a"}, {"b"})
    writer.unwatch_shard(7)
    writer.append(entry("b", 3, epoch=30), Owner(), shard=7)
    writer.flush()
    assert again == {"b"}


@as_process
async def test_a_watch_does_not_make_a_store(node):
    """Who watches a relaxed store that nobody has used does not open it."""
    relaxed = node.table.services[RELAXED]
    writer = writer_of(node.table, RELAXED)
    writer.watch_shard(7)
    writer.unwatch_shard(7)
    assert (relaxed.made, relaxed.opened) == (False, False)


def test_a_group_names_the_homes_of_what_is_left():
    """Of entries that were taken out the key is noted only if it has a history."""
    group = Group("journal.writer")
    first, second = entry("a", 1), entry("b", 5)
    group.entries.append(first)
    group.fenced += [(first, 7), (second, 7)]
    barred = {id(first): None, id(second): None}
    assert group.homes(barred, {}, lambda key: 0, some=True) == {"a": 7}
    assert group.homes(barred, {}, lambda key: 4, some=True) == {"a": 7, "b": 7}
    assert group.homes(barred, {"a": 1}, lambda key: 0, some=False) == {"b": 7}
