"""What every journal promises of shards that come and go: whoever keeps it, all of one is there, or nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from runtime.durable.carriage import Piece
from runtime.durable.fence import MAX_SHARD, NodeFences
from runtime.durable.journal import (
    MAX_META,
    Fence,
    Fenced,
    Journal,
    SequenceConflict,
    StoreDamaged,
    StoreNewer,
)
from runtime.durable.record import Entry, Snapshot
from runtime.errors import Misuse

from .stores import LmdbStore, MemoryStore, SimulatedStore, Store, carry, entries, entry, snapshot

SHARD = 7
LARGE = 1 << 20


@pytest.fixture(params=["memory", "simulated", "lmdb"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Store, Store]:
    if request.param == "simulated":
        return SimulatedStore(), SimulatedStore()
    if request.param == "memory":
        return MemoryStore(), MemoryStore()
    return LmdbStore(tmp_path / "source"), LmdbStore(tmp_path / "target")


@pytest.fixture
def source(stores: tuple[Store, Store]) -> Iterator[Journal]:
    journal = stores[0].open()
    journal.claim({SHARD: 5})
    yield journal
    journal.close()


@pytest.fixture
def target(stores: tuple[Store, Store]) -> Iterator[Journal]:
    journal = stores[1].open()
    yield journal
    journal.close()


def write(
    journal: Journal,
    group: Sequence[Entry],
    snapshots: Sequence[Snapshot] = (),
    floors: Mapping[str, int] = {},
    epoch: int = 5,
) -> None:
    """Commit entries of the shard, and note their keys."""
    journal.commit(group, snapshots, floors, {SHARD: epoch}, {one.key: SHARD for one in group})


def fill(journal: Journal, keys: int = 3, count: int = 4) -> None:
    """Commit some keys of the shard, one group for each sequence, and one of no shard between them."""
    for n in range(1, count + 1):
        write(journal, [entry(f"R/{key}", n, epoch=5) for key in range(keys)])
        journal.commit([entry("other", n)])


def all_of(journal: Journal) -> dict[str, Any]:
    """All that a journal says of each of its keys."""
    keys = journal.keys()
    return {key: (journal.first(key), journal.load(key), journal.head(key)) for key in keys}


# -- the index -------------------------------------------------------------------------------------------


def test_a_key_with_a_home_is_found_by_its_shard(stores: tuple[Store, Store]) -> None:
    """The keys of a shard are listed in the order of their bytes, also after a reopen; others' are not."""
    journal = stores[0].open()
    journal.claim({SHARD: 5, 8: 5})
    names = ["b", "a", "a/b", "é", "\U0001f0a1", "\uffff", "z" * 255]
    for name in names:
        journal.commit([entry(name, 1, epoch=5)], fences={SHARD: 5}, homes={name: SHARD})
    journal.commit([entry("x", 1, epoch=5), entry("y", 1)], fences={8: 5}, homes={"x": 8})
    ordered = sorted(names, key=str.encode)
    for _ in range(2):
        assert journal.shard_keys(SHARD) == ordered
        assert (journal.shard_keys(8), journal.shard_keys(9)) == (["x"], [])
        journal.close()
        journal = stores[0].open()
    assert journal.shard_keys(SHARD, limit=3) == ordered[:3]
    assert journal.shard_keys(SHARD, ordered[2], 2) == ordered[3:5]
    assert journal.shard_keys(SHARD, ordered[-1]) == journal.shard_keys(SHARD, limit=0) == []
    journal.close()


def test_a_home_is_noted_once_and_later_too(source: Journal) -> None:
    """Noting a key again changes nothing, and one that was written before can be noted alone."""
    source.commit([entry("old", 1)])
    for _ in range(2):
        source.commit([], homes={"old": SHARD})
    write(source, [entry("new", 1, epoch=5)])
    write(source, [entry("new", 2, epoch=5)])
    assert source.shard_keys(SHARD) == ["new", "old"]


def test_a_key_without_entries_has_no_home(source: Journal) -> None:
    """What has no history is not noted, and the group with it is refused whole."""
    with pytest.raises(Misuse, match="'b' has none"):
        source.commit([entry("a", 1)], homes={"b": SHARD})
    with pytest.raises(Misuse):
        source.commit([entry("a", 1)], homes={"a": MAX_SHARD + 1})
    assert (source.keys(), source.shard_keys(SHARD)) == ([], [])


def test_a_refused_group_notes_nothing(source: Journal) -> None:
    """The index changes with the group, or not at all."""
    for fences, sequence in (({SHARD: 4}, 1), ({SHARD: 5}, 2)):
        with pytest.raises((Fenced, SequenceConflict)):
            source.commit([entry("a", sequence, epoch=5)], fences=fences, homes={"a": SHARD})
    assert source.shard_keys(SHARD) == []


# -- pieces ----------------------------------------------------------------------------------------------


def test_a_piece_has_what_is_wanted(source: Journal) -> None:
    """A key's entries come in parts of about a size, one at least, and say where they belong."""
    write(source, [entry("a", n, epoch=5, payload=bytes(1000)) for n in range(1, 11)])
    whole = source.piece("a", 0, LARGE)
    assert (whole.key, whole.first, whole.after, whole.last, whole.epoch) == ("a", 1, 0, 10, 5)
    assert [Entry.unpack(packed, key="a").sequence for packed in whole.entries] == list(range(1, 11))
    assert whole.snapshot == b""
    part = source.piece("a", 3, 2500)
    assert (part.after, part.last, part.entries) == (3, 5, whole.entries[3:5])
    assert source.piece("a", 3, 0).entries == whole.entries[3:4]
    assert source.piece("a", 10, LARGE) == Piece("a", 1, 10, 5, ())
    assert source.piece("a", 99, LARGE) == Piece("a", 1, 10, 5, ())
    assert source.piece("nobody", 0, LARGE) == Piece("nobody", 1, 0, 0, ())


def test_a_snapshot_comes_with_the_entry_it_was_made_at(source: Journal) -> None:
    """It is never ahead of the entries, and is sent once."""
    kept = snapshot("a", 6)
    write(source, [entry("a", n, epoch=5, payload=bytes(100)) for n in range(1, 9)], [kept])
    assert source.piece("a", 0, 400).snapshot == b""
    assert source.piece("a", 0, LARGE).snapshot == source.piece("a", 6, 1).snapshot == kept.pack()
    assert source.piece("a", 8, 1, 5) == Piece("a", 1, 8, 5, (), kept.pack())
    assert source.piece("a", 8, 1, 6).snapshot == b""


def test_a_piece_begins_at_the_floor(source: Journal) -> None:
    """What was dropped is not there to be sent; a key of which all was dropped has its snapshot."""
    write(source, entries("a", 1, 9, epoch=5), [snapshot("a", 8)], {"a": 6})
    part = source.piece("a", 0, LARGE)
    assert (part.first, part.after, part.last, len(part.entries)) == (6, 5, 9, 4)
    write(source, entries("b", 1, 3, epoch=5), [snapshot("b", 3)], {"b": 4})
    assert source.piece("b", 0, LARGE) == Piece("b", 4, 3, 5, (), snapshot("b", 3).pack())


# -- staging ---------------------------------------------------------------------------------------------


def test_a_shard_is_carried_whole(stores: tuple[Store, Store], source: Journal, target: Journal) -> None:
    """Entries, snapshots, floors and heads arrive as they were, in the next positions; the node's own stay."""
    fill(source)
    write(source, entries("R/cut", 1, 9, epoch=5), [snapshot("R/cut", 8)], {"R/cut": 6})
    write(source, entries("R/all", 1, 3, epoch=5), [snapshot("R/all", 3)], {"R/all": 4})
    target.commit(entries("mine", 1, 2))
    wanted = all_of(source)
    del wanted["other"]
    target.reserve(SHARD, b"move 1")
    carry(source, target, SHARD, size=300)
    target.install(SHARD, [], b"all", 6)
    assert target.staged() == {SHARD: b"all"}
    assert target.fence(SHARD) == Fence(6, written=True)
    target.settle(SHARD)
    target.settle(SHARD)
    for _ in range(2):
        assert target.staged() == {}
        got = all_of(target)
        assert got.pop("mine") == (1, (None, entries("mine", 1, 2)), 2)
        assert got == wanted
        assert target.shard_keys(SHARD) == ["R/0", "R/1", "R/2", "R/all", "R/cut"]
        positions = [one.feed for key in (*got, "mine") for one in target.read(key, target.first(key) - 1)]
        assert sorted(positions) == list(range(1, 2 + 12 + 4 + 1))
        assert target.stats().position == 18
        target.close()
        target = stores[1].open()
    write(target, [entry("R/cut", 10, epoch=6), entry("R/all", 4, epoch=6)], epoch=6)
    assert target.read("R/cut", 8) == [entry("R/cut", 9, epoch=5), entry("R/cut", 10, epoch=6)]
    target.close()


def test_a_chunk_may_come_twice(source: Journal, target: Journal) -> None:
    """What is there is passed over, what is new behind it goes in."""
    fill(source, 1, 4)
    target.reserve(SHARD, b"1")
    first = source.piece("R/0", 0, 1)
    rest = source.piece("R/0", 0, LARGE)
    for pieces in ([first], [first, first], [rest], [rest, first]):
        target.install(SHARD, pieces)
    assert target.read("R/0") == source.read("R/0")
    assert target.stats().position == 4


def test_what_follows_comes_after(source: Journal, target: Journal) -> None:
    """After a copy, later pieces bring later entries, newer snapshots, higher floors, and keys that were not there."""
    write(source, entries("a", 1, 5, epoch=5))
    target.reserve(SHARD, b"1")
    carry(source, target, SHARD)
    write(source, entries("a", 6, 8, epoch=5), [snapshot("a", 7)], {"a": 4})
    write(source, entries("b", 1, 1, epoch=5))
    target.install(SHARD, [source.piece("a", 5, LARGE, 0), source.piece("b", 0, LARGE)])
    assert all_of(target) == all_of(source)
    write(source, [entry("a", 9, epoch=5)], [snapshot("a", 9)], {"a": 10})
    target.install(SHARD, [source.piece("a", 8, LARGE, 7)])
    assert all_of(target) == all_of(source)


def test_what_the_source_dropped_meanwhile_is_not_missed(source: Journal, target: Journal) -> None:
    """A floor may overtake what was copied: then the rest begins there."""
    write(source, entries("a", 1, 20, epoch=5))
    target.reserve(SHARD, b"1")
    target.install(SHARD, [source.piece("a", 0, 1)])
    write(source, entries("a", 21, 21, epoch=5), [snapshot("a", 20)], {"a": 15})
    target.install(SHARD, [source.piece("a", 1, LARGE)])
    assert all_of(target) == all_of(source)
    assert target.stats().position == 1 + 7


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"after": 3}, SequenceConflict),
        ({"after": 1}, StoreDamaged),
        ({"first": 9}, SequenceConflict),
        ({"first": 99, "after": 98, "entries": ()}, SequenceConflict),
        ({"key": "b"}, SequenceConflict),
        ({"key": "b", "first": 3}, StoreDamaged),
        ({"key": "é" * 200}, Misuse),
        ({"entries": (b"nonsense",)}, StoreDamaged),
        ({"snapshot": b"nonsense"}, StoreDamaged),
        ({"snapshot": Snapshot("b", 1, 1, 1, 1.5, b"").pack()}, StoreDamaged),
        ({"snapshot": Snapshot("a", 9, 1, 1, 1.5, b"").pack()}, SequenceConflict),
    ],
)
def test_a_wrong_piece_changes_nothing(target: Journal, change: dict[str, Any], error: type[Exception]) -> None:
    """A gap, another's record, a damaged one, a snapshot ahead: refused, with the whole pieces beside it."""
    target.reserve(SHARD, b"1")
    rows = tuple(one.pack() for one in entries("a", 3, 4))
    target.install(SHARD, [Piece("a", 1, 0, 1, tuple(one.pack() for one in entries("a", 1, 2)))])
    wrong = structs.replace(Piece("a", 1, 2, 1, rows), **change)
    with pytest.raises(error):
        target.install(SHARD, [Piece("c", 1, 0, 1, (entry("c", 1).pack(),)), wrong], b"2", 6)
    assert (target.keys(), target.head("a"), target.stats().position) == (["a"], 2, 2)
    assert (target.shard_keys(SHARD), target.staged(), target.fence(SHARD)) == (["a"], {SHARD: b"1"}, Fence())
    target.install(SHARD, [Piece("a", 1, 2, 1, rows)])


def test_every_bit_of_a_record_counts(target: Journal) -> None:
    """No flipped bit gets in."""
    target.reserve(SHARD, b"1")
    packed = entry("a", 1).pack()
    for at in range(len(packed)):
        damaged = packed[:at] + bytes([packed[at] ^ 1]) + packed[at + 1 :]
        with pytest.raises((StoreDamaged, StoreNewer)):
            target.install(SHARD, [Piece("a", 1, 0, 1, (damaged,))])
    assert target.keys() == []


def test_epochs_do_not_fall(target: Journal) -> None:
    """Within a key an entry of an older epoch than the one before is refused."""
    target.reserve(SHARD, b"1")
    rows = (entry("a", 1, epoch=5).pack(), entry("a", 2, epoch=4).pack())
    with pytest.raises(SequenceConflict) as refused:
        target.install(SHARD, [Piece("a", 1, 0, 4, rows)])
    assert refused.value.what == "epoch"
    target.install(SHARD, [Piece("a", 1, 0, 5, rows[:1])])
    with pytest.raises(SequenceConflict):
        target.install(SHARD, [Piece("a", 1, 1, 4, rows[1:])])


# -- who may do what -------------------------------------------------------------------------------------


def test_a_staged_shard_is_not_claimed(target: Journal) -> None:
    """Until it is settled nobody opens it, but its own last pieces, under their epoch."""
    target.reserve(SHARD, b"1")
    with pytest.raises(Fenced, match="it is staged"):
        target.claim({1: 6, SHARD: 6})
    assert (target.fence(1), target.fence(SHARD)) == (Fence(), Fence())
    for _ in range(2):
        target.install(SHARD, [], claim=6)
    for epoch in (5, 6):
        with pytest.raises(Fenced, match="it is staged"):
            target.claim({SHARD: epoch + 1})
    assert NodeFences(target).claim({1: 6, SHARD: 7}) == [SHARD]
    write(target, [entry("a", 1, epoch=6)], epoch=6)
    target.settle(SHARD)
    target.claim({SHARD: 7})


@pytest.mark.parametrize("epoch", [4, 5])
def test_last_pieces_come_under_a_new_epoch(target: Journal, epoch: int) -> None:
    """A shard that was owned here before is not written again under an epoch that was sealed, or an older one."""
    target.claim({SHARD: 5})
    target.seal(SHARD, 5)
    target.reserve(SHARD, b"1")
    with pytest.raises(Fenced):
        target.install(SHARD, [Piece("a", 1, 0, 1, (entry("a", 1).pack(),))], claim=epoch)
    assert (target.keys(), target.fence(SHARD)) == ([], Fence(5, sealed=True))
    target.install(SHARD, [], claim=6)


def test_an_open_shard_is_not_staged(source: Journal) -> None:
    """An owner takes in nothing of its own shard, and erases nothing of it."""
    fill(source)
    before = all_of(source)
    with pytest.raises(Misuse, match="open"):
        source.reserve(SHARD, b"1")
    with pytest.raises(Misuse, match="open"):
        source.erase(SHARD)
    with pytest.raises(Misuse, match="not reserved"):
        source.install(SHARD, [])
    assert all_of(source) == before


def test_what_is_kept_is_erased_before_it_comes_again(source: Journal) -> None:
    """A sealed copy is in the way of a new one."""
    fill(source)
    source.seal(SHARD, 5)
    with pytest.raises(Misuse, match="erase it first"):
        source.reserve(SHARD, b"1")
    while not source.erase(SHARD):
        pass
    source.reserve(SHARD, b"1")


@pytest.mark.parametrize("note", [b"", bytes(MAX_META + 1)])
def test_a_note_has_bounds(target: Journal, note: bytes) -> None:
    """An empty note would mean an erasure."""
    with pytest.raises(Misuse):
        target.reserve(SHARD, note)
    target.reserve(SHARD, b"1")
    with pytest.raises(Misuse):
        target.install(SHARD, [], note)
    with pytest.raises(Misuse):
        target.reserve(MAX_SHARD + 1, b"1")
    assert target.staged() == {SHARD: b"1"}


def test_notes_are_there_after_a_reopen(stores: tuple[Store, Store]) -> None:
    """A restarted mover finds what it was about, and how far it came."""
    journal = stores[1].open()
    journal.reserve(SHARD, b"1")
    journal.reserve(65535, bytes(MAX_META))
    journal.reserve(SHARD, b"2")
    journal.install(SHARD, [Piece("a", 1, 0, 1, (entry("a", 1).pack(),))], b"3")
    journal.close()
    journal = stores[1].open()
    assert journal.staged() == {SHARD: b"3", 65535: bytes(MAX_META)}
    assert (journal.shard_keys(SHARD), journal.head("a")) == (["a"], 1)
    with pytest.raises(Misuse, match="last pieces"):
        journal.settle(SHARD)
    journal.install(SHARD, [Piece("a", 1, 1, 2, (entry("a", 2, 2).pack(),))], claim=3)
    journal.settle(SHARD)
    assert journal.staged() == {65535: bytes(MAX_META)}
    journal.close()


# -- erasing ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 5, 2000])
def test_an_erased_shard_leaves_nothing(stores: tuple[Store, Store], source: Journal, limit: int) -> None:
    """A sealed copy goes bit by bit, and with it its keys, floors and snapshots; nothing else goes."""
    source.commit([entry("a", 1)])
    fill(source)
    write(source, entries("R/cut", 1, 9, epoch=5), [snapshot("R/cut", 8)], {"R/cut": 6})
    source.seal(SHARD, 5)
    while not source.erase(SHARD, limit):
        assert source.staged() == {SHARD: b""}
        with pytest.raises(Fenced):
            source.claim({SHARD: 6})
        for refused in (source.settle, lambda shard: source.reserve(shard, b"1")):
            with pytest.raises(Misuse, match="being erased"):
                refused(SHARD)
        with pytest.raises(Misuse, match="being erased"):
            source.install(SHARD, [])
    assert source.erase(SHARD)
    for _ in range(2):
        assert (source.keys(), source.shard_keys(SHARD), source.staged()) == (["a", "other"], [], {})
        assert (source.load("R/cut"), source.first("R/cut"), source.head("R/cut")) == ((None, []), 1, 0)
        assert (source.load("other"), source.fence(SHARD)) == ((None, entries("other", 1, 4)), Fence(5, sealed=True))
        source.close()
        source = stores[0].open()
    source.claim({SHARD: 6})
    write(source, entries("R/cut", 1, 2, epoch=6), epoch=6)
    assert source.load("R/cut") == (None, entries("R/cut", 1, 2, epoch=6))
    source.close()


@pytest.mark.parametrize("claim", [0, 6])
def test_a_voided_move_leaves_nothing(stores: tuple[Store, Store], source: Journal, claim: int) -> None:
    """What was staged goes, before its last pieces or after; then it can be staged again."""
    fill(source)
    target = stores[1].open()
    target.commit(entries("mine", 1, 2))
    before = all_of(target)
    for n in range(2):
        target.reserve(SHARD, b"1")
        carry(source, target, SHARD)
        target.install(SHARD, [], claim=claim and claim + n)
        while not target.erase(SHARD, 5):
            pass
        assert (all_of(target), target.staged()) == (before, {})
        assert target.fence(SHARD) == (Fence(6 + n, sealed=True) if claim else Fence())
        target.close()
        target = stores[1].open()
    assert (all_of(target), target.staged(), target.shard_keys(SHARD)) == (before, {}, [])
    target.commit(entries("mine", 3, 3))
    target.close()


def test_an_empty_shard_is_erased_at_once(target: Journal) -> None:
    """Nothing is there of a shard that was never here, or only reserved."""
    assert target.erase(SHARD)
    target.reserve(SHARD, b"1")
    assert target.erase(SHARD)
    assert (target.staged(), target.fence(SHARD)) == ({}, Fence())


def test_an_erasure_goes_on_after_a_reopen(stores: tuple[Store, Store]) -> None:
    """What was begun is found by its empty note, and ends."""
    journal = stores[0].open()
    journal.claim({SHARD: 5})
    fill(journal, 6)
    journal.seal(SHARD, 5)
    slices = 0
    while not journal.erase(SHARD, 4):
        slices += 1
        assert journal.staged() == {SHARD: b""}
        journal.close()
        journal = stores[0].open()
        assert journal.read("other") == entries("other", 1, 4)
    assert slices > 3
    assert (journal.keys(), journal.staged()) == (["other"], {})
    journal.close()


def test_it_goes_and_comes_back(stores: tuple[Store, Store], source: Journal, target: Journal) -> None:
    """A shard that travels to and fro several times is the same as if it had stayed."""
    fill(source, 2, 2)
    here, there, epoch = source, target, 5
    for n in range(3, 7):
        here.seal(SHARD, epoch)
        there.reserve(SHARD, b"1")
        carry(here, there, SHARD, size=1)
        epoch += 1
        there.install(SHARD, [], claim=epoch)
        there.settle(SHARD)
        while not here.erase(SHARD, 3):
            pass
        here, there = there, here
        write(here, [entry(f"R/{key}", n, epoch=epoch) for key in range(2)], epoch=epoch)
    for key in ("R/0", "R/1"):
        assert [one.epoch for one in here.read(key)] == [5, 5, 6, 7, 8, 9]
        assert [one.sequence for one in here.read(key)] == [1, 2, 3, 4, 5, 6]
        assert there.head(key) == 0
