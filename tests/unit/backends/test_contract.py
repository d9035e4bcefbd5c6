"""What every journal promises, whoever keeps it: one suite over all backends."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from msgspec import structs

from runtime.durable.journal import (
    MAX_META,
    EntriesDropped,
    Journal,
    SequenceConflict,
    StoreClosed,
    StoreDamaged,
    StoreForeign,
    StoreInUse,
)
from runtime.durable.record import MAX_PAYLOAD
from runtime.errors import Misuse

from .stores import Store, entries, entry, snapshot


def test_a_backend_is_a_journal(journal: Journal) -> None:
    """Every backend is an instance of the port."""
    assert isinstance(journal, Journal)


def test_a_new_journal_is_empty(journal: Journal) -> None:
    """A new journal knows no key, and answers for unknown keys as for empty ones."""
    assert journal.keys() == []
    assert journal.head("a") == 0
    assert journal.load("a") == (None, [])
    assert journal.read("a") == []
    assert journal.get_meta("x") is None
    stats = journal.stats()
    assert (stats.keys, stats.entries, stats.snapshots, stats.commits) == (0, 0, 0, 0)


def test_what_was_committed_is_read(journal: Journal) -> None:
    """Entries of several keys in one group are read back in their own order, equal."""
    group = [entry("b", 1), entry("a", 1, payload=b""), entry("b", 2, number=9, sender="", feed=3)]
    journal.commit(group)
    assert journal.load("a") == (None, [group[1]])
    assert journal.load("b") == (None, [group[0], group[2]])
    assert (journal.head("a"), journal.head("b")) == (1, 2)


def test_what_was_committed_is_there_after_a_reopen(store: Store) -> None:
    """A journal that is opened again holds what was committed, and its epoch is one more."""
    journal = store.open()
    journal.commit(entries("a", 1, 3), [snapshot("a", 2)])
    journal.set_meta("m", b"v")
    first = journal.epoch
    journal.close()
    for again in (1, 2, 3):
        journal = store.open()
        assert journal.epoch == first + again
        assert journal.load("a") == (snapshot("a", 2), entries("a", 3, 3))
        assert journal.head("a") == 3
        assert journal.get_meta("m") == b"v"
        journal.close()


def test_recovery_begins_at_the_newest_snapshot(journal: Journal) -> None:
    """`load` gives the newest snapshot and the entries after it; `read` still gives them all."""
    journal.commit(entries("a", 1, 5))
    journal.commit([], [snapshot("a", 3)])
    assert journal.load("a") == (snapshot("a", 3), entries("a", 4, 5))
    journal.commit(entries("a", 6, 6), [snapshot("a", 6), snapshot("a", 5)])
    assert journal.load("a") == (snapshot("a", 6), [])
    assert journal.read("a") == entries("a", 1, 6)
    assert journal.stats().snapshots == 1


def test_an_older_snapshot_is_passed_over(journal: Journal) -> None:
    """A snapshot that arrives late does not replace a newer one; one of the same sequence does."""
    journal.commit(entries("a", 1, 3), [snapshot("a", 3)])
    journal.commit([], [snapshot("a", 2)])
    assert journal.load("a") == (snapshot("a", 3), [])
    other = snapshot("a", 3, b"of a later schema")
    journal.commit([], [other])
    assert journal.load("a") == (other, [])


def test_history_is_read_in_parts(journal: Journal) -> None:
    """`read` gives what lies above `after`, at most `limit` entries, and nothing beyond the end."""
    journal.commit(entries("a", 1, 300))
    assert journal.read("a", 298) == entries("a", 299, 300)
    assert journal.read("a", 10, 3) == entries("a", 11, 13)
    assert journal.read("a", 300) == journal.read("a", 1000) == journal.read("a", 5, 0) == []
    assert journal.read("a", -1, 1) == entries("a", 1, 1)
    assert journal.read("a", 299, 1000) == entries("a", 300, 300)


def test_keys_do_not_mix(journal: Journal) -> None:
    """Keys that begin alike keep their histories apart, and are listed by prefix in byte order."""
    names = ["a", "a/", "a/b", "ab", "a\x00", "é", "z" * 255, "\U0001f0a1", "\uffff"]
    for name in names:
        journal.commit(entries(name, 1, 2))
    assert journal.keys() == sorted(names, key=str.encode)
    assert journal.keys("a") == ["a", "a\x00", "a/", "a/b", "ab"]
    assert journal.keys("a/") == ["a/", "a/b"]
    assert journal.keys("nobody") == journal.keys("x" * 1000) == []
    for name in names:
        assert journal.load(name) == (None, entries(name, 1, 2))


@pytest.mark.parametrize(
    ("group", "wanted", "came", "what"),
    [
        ([entry("a", 4, 2)], 3, 4, "sequence"),
        ([entry("a", 2, 2)], 3, 2, "sequence"),
        ([entry("b", 2)], 1, 2, "sequence"),
        ([entry("a", 3, 2), entry("a", 3, 2)], 4, 3, "sequence"),
        ([entry("b", 1), entry("a", 3, 2), entry("a", 5, 2)], 4, 5, "sequence"),
        ([entry("a", 3, 1)], 2, 1, "epoch"),
        ([entry("a", 3, 9), entry("a", 4, 8)], 9, 8, "epoch"),
    ],
    ids=[
        "a gap",
        "again",
        "not the first",
        "twice in a group",
        "a gap in a group",
        "older epoch",
        "epoch falls",
    ],
)
def test_an_entry_that_is_not_next_is_refused(
    journal: Journal, group: list[Any], wanted: int, came: int, what: str
) -> None:
    """An entry that is not its key's next, or of an older epoch, is refused with all of its group."""
    journal.commit(entries("a", 1, 2, epoch=2))
    before = journal.stats()
    with pytest.raises(SequenceConflict) as caught:
        journal.commit(group, [snapshot("a", 1)])
    conflict = caught.value
    assert (conflict.key, conflict.wanted, conflict.came) == (group[-1].key, wanted, came)
    assert conflict.what == what
    assert journal.stats() == before
    assert journal.load("a") == (None, entries("a", 1, 2, epoch=2))
    assert journal.keys() == ["a"]
    journal.commit([entry("b", 1), entry("a", 3, 2)])
    assert (journal.head("a"), journal.head("b")) == (3, 1)


@pytest.mark.parametrize("sequence", [0, 3])
def test_a_snapshot_beyond_the_head_is_refused(journal: Journal, sequence: int) -> None:
    """A snapshot of entries that are not there is refused with all of its group."""
    with pytest.raises(SequenceConflict):
        journal.commit(entries("a", 1, 2), [snapshot("a", sequence)])
    assert journal.load("a") == (None, [])


def test_the_epoch_of_a_key_is_kept_over_a_reopen(store: Store) -> None:
    """An entry of an older epoch is refused after a reopen too: the fence is durable."""
    journal = store.open()
    journal.commit([entry("a", 1, 5)])
    journal.close()
    journal = store.open()
    with pytest.raises(SequenceConflict, match="epoch"):
        journal.commit([entry("a", 2, 4)])
    journal.commit([entry("a", 2, 5)])
    journal.close()


@pytest.mark.parametrize(
    "change",
    [
        {"payload": bytes(MAX_PAYLOAD + 1)},
        {"key": "x" * 256},
        {"key": ""},
        {"epoch": -1},
        {"sender": "y" * 300},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_record_out_of_bounds_is_misuse(journal: Journal, change: dict[str, Any]) -> None:
    """A record that the format cannot hold is refused with all of its group, and the journal goes on."""
    with pytest.raises(Misuse):
        journal.commit([entry("b", 1), structs.replace(entry("a", 1), **change)])
    assert journal.keys() == []
    journal.commit([entry("b", 1)])
    assert journal.keys() == ["b"]


def test_nothing_is_committed_for_nothing(journal: Journal) -> None:
    """An empty group costs nothing and counts for nothing."""
    journal.commit([])
    assert journal.stats().commits == 0


def test_large_and_many_records_are_kept(journal: Journal) -> None:
    """Payloads beyond a page and groups beyond a thousand come back equal."""
    large = [entry("large", n, payload=hashlib.sha256(b"%d" % n).digest() * 5000) for n in range(1, 6)]
    journal.commit(large, [snapshot("large", 5, bytes(1 << 20))])
    assert journal.read("large") == large
    assert journal.load("large") == (snapshot("large", 5, bytes(1 << 20)), [])
    journal.commit([entry(f"k{n}", 1) for n in range(2000)])
    assert len(journal.keys("k")) == 2000
    assert journal.stats().entries == 2005


def test_named_values_are_kept(journal: Journal) -> None:
    """Named values are overwritten and read; what is too long is refused."""
    journal.set_meta("a", b"1")
    journal.set_meta("a", b"2")
    journal.set_meta("é" * 127, bytes(MAX_META))
    assert (journal.get_meta("a"), journal.get_meta("é" * 127)) == (b"2", bytes(MAX_META))
    for name, value in (("", b""), ("x" * 256, b""), ("a", bytes(MAX_META + 1))):
        with pytest.raises(Misuse):
            journal.set_meta(name, value)
    assert journal.get_meta("a") == b"2"


def test_a_damaged_entry_is_found_and_the_others_served(store: Store) -> None:
    """A flipped bit stops its own process only, and names key and sequence."""
    journal = store.open()
    journal.commit([*entries("ann", 1, 3), *entries("bob", 1, 2)])
    journal.close()
    store.damage(entry("ann", 2))
    journal = store.open()
    for read in (journal.load, journal.read):
        with pytest.raises(StoreDamaged) as caught:
            read("ann")
        assert (caught.value.key, caught.value.sequence) == ("ann", 2)
    assert journal.read("ann", 2) == entries("ann", 3, 3)
    assert journal.load("bob") == (None, entries("bob", 1, 2))
    journal.commit([entry("bob", 3)])
    journal.close()


def test_a_damaged_snapshot_is_found(store: Store) -> None:
    """A snapshot with a flipped bit is refused, not passed over in silence."""
    journal = store.open()
    journal.commit(entries("ann", 1, 3), [snapshot("ann", 2)])
    journal.close()
    store.damage(snapshot("ann", 2))
    journal = store.open()
    with pytest.raises(StoreDamaged, match="snapshot") as caught:
        journal.load("ann")
    assert caught.value.key == "ann"
    assert journal.read("ann") == entries("ann", 1, 3)
    journal.close()


def test_a_damaged_snapshot_does_not_fail_the_others(store: Store) -> None:
    """A group goes through though a snapshot that it replaces is damaged; the new one is served."""
    journal = store.open()
    journal.commit([*entries("ann", 1, 3), entry("bob", 1)], [snapshot("ann", 2)])
    journal.close()
    store.damage(snapshot("ann", 2))
    journal = store.open()
    journal.commit([entry("bob", 2)], [snapshot("ann", 3)])
    assert journal.load("ann") == (snapshot("ann", 3), [])
    assert journal.head("bob") == 2
    journal.close()


def test_one_owner_at_a_time(store: Store) -> None:
    """A store that is open cannot be opened, to write or to read; closed, it can."""
    journal = store.open()
    with pytest.raises(StoreInUse):
        store.open()
    with pytest.raises(StoreInUse):
        store.open(read_only=True)
    journal.commit([entry("a", 1)])
    journal.close()
    store.open().close()


def test_a_closed_journal_serves_nothing(store: Store) -> None:
    """Every call after `close` says that it was closed; closing again is harmless."""
    journal = store.open()
    journal.commit([entry("a", 1)])
    journal.close()
    journal.close()
    calls: list[Any] = [
        lambda: journal.commit([entry("a", 2)]),
        lambda: journal.head("a"),
        lambda: journal.load("a"),
        lambda: journal.read("a"),
        journal.keys,
        lambda: journal.get_meta("a"),
        lambda: journal.set_meta("a", b""),
        journal.stats,
    ]
    for call in calls:
        with pytest.raises(StoreClosed, match="closed"):
            call()


def test_a_store_belongs_to_its_node(store: Store) -> None:
    """A store keeps its node's name, and refuses another node; one without a name asks nothing."""
    store.open().close()
    store.open(node="room-1").close()
    with pytest.raises(StoreForeign, match="room-1"):
        store.open(node="room-2")
    store.open(node="room-1").close()
    store.open().close()


def test_reading_changes_nothing(store: Store) -> None:
    """A journal opened for reading serves, keeps the epoch, and refuses to write."""
    journal = store.open()
    journal.commit(entries("a", 1, 2), [snapshot("a", 1)])
    journal.set_meta("m", b"v")
    epoch = journal.epoch
    journal.close()
    reader = store.open(read_only=True)
    assert reader.epoch == epoch
    assert reader.load("a") == (snapshot("a", 1), entries("a", 2, 2))
    assert (reader.head("a"), reader.keys(), reader.get_meta("m")) == (2, ["a"], b"v")
    for write in (lambda: reader.commit([entry("a", 3)]), lambda: reader.set_meta("m", b"")):
        with pytest.raises(Misuse, match="reading"):
            write()
    reader.close()
    journal = store.open()
    assert journal.epoch == epoch + 1
    journal.close()


def test_entries_below_a_floor_are_dropped(store: Store) -> None:
    """A floor comes with a snapshot; below it nothing is read, by name, now and after a reopen."""
    journal = store.open()
    journal.commit([*entries("a", 1, 5), *entries("b", 1, 2)])
    assert (journal.first("a"), journal.first("nobody")) == (1, 1)
    journal.commit(entries("a", 6, 6), [snapshot("a", 6)], {"a": 4})
    for _ in (1, 2):
        assert (journal.first("a"), journal.head("a"), journal.first("b")) == (4, 6, 1)
        assert journal.load("a") == (snapshot("a", 6), [])
        assert journal.read("a", 3) == entries("a", 4, 6)
        for after in (0, 2):
            with pytest.raises(EntriesDropped) as caught:
                journal.read("a", after)
            assert (caught.value.key, caught.value.asked, caught.value.first) == ("a", after + 1, 4)
        assert journal.read("b") == entries("b", 1, 2)
        journal.close()
        journal = store.open()
    journal.commit(entries("a", 7, 7), [snapshot("a", 7)], {"a": 8})
    assert journal.load("a") == (snapshot("a", 7), [])
    assert journal.read("a", 7) == []
    journal.commit(entries("a", 8, 8))
    assert journal.read("a", 7) == entries("a", 8, 8)
    assert journal.keys() == ["a", "b"]
    journal.close()


def test_a_floor_never_falls(journal: Journal) -> None:
    """A lower floor that comes late changes nothing."""
    journal.commit(entries("a", 1, 4), [snapshot("a", 4)], {"a": 4})
    journal.commit([], [snapshot("a", 3)], {"a": 2})
    assert (journal.first("a"), journal.read("a", 3)) == (4, entries("a", 4, 4))


@pytest.mark.parametrize(("floor", "kept"), [(4, [2]), (2, []), (0, [2]), (3, [1])])
def test_a_floor_beyond_its_snapshot_is_refused(journal: Journal, floor: int, kept: list[int]) -> None:
    """What no snapshot of the same group stands for cannot be dropped; all of the group is refused."""
    journal.commit(entries("a", 1, 3))
    with pytest.raises(SequenceConflict) as caught:
        journal.commit([entry("b", 1)], [snapshot("a", n) for n in kept], {"a": floor})
    assert (caught.value.key, caught.value.what, caught.value.came) == ("a", "floor", floor)
    assert (journal.read("a"), journal.keys()) == (entries("a", 1, 3), ["a"])


def test_dropped_entries_give_their_room_back(journal: Journal) -> None:
    """Over a long life with floors the store stays small, also where rows had been folded before."""
    fold = getattr(journal, "fold", lambda: None)
    for n in range(1, 61):
        journal.commit([entry("a", n, payload=bytes(20_000))], [snapshot("a", n)], {"a": n - 1} if n > 2 else {})
        fold()
    assert journal.read("a", 58) == [entry("a", n, payload=bytes(20_000)) for n in (59, 60)]
    assert journal.stats().entries <= 3
    assert journal.stats().bytes_used < 1_000_000


def test_every_entry_has_its_position(store: Store) -> None:
    """Positions count all entries of a store in the order of their commits, over opens, and skip none."""
    journal = store.open()
    assert journal.stats().position == 0
    journal.commit([entry("b", 1), entry("a", 1, feed=77), entry("b", 2)])
    with pytest.raises(SequenceConflict):
        journal.commit([entry("a", 2), entry("b", 9)])
    journal.commit([entry("a", 2)], [snapshot("a", 2)])
    journal.close()
    journal = store.open()
    journal.commit([], [snapshot("b", 2)])
    journal.commit([entry("c", 1)])
    assert [one.feed for key in ("a", "b", "c") for one in journal.read(key)] == [2, 4, 1, 3, 5]
    assert journal.stats().position == 5
    journal.close()


def test_a_position_is_no_part_of_what_an_entry_says() -> None:
    """Entries that differ in their position only are equal, and it is kept all the same."""
    one = entry("a", 1, feed=3)
    assert one == entry("a", 1, feed=4)
    assert type(one).unpack(one.pack()).feed == 3
    assert one.pack(9) == entry("a", 1, feed=9).pack() != one.pack()
