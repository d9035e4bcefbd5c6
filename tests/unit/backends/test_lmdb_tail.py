"""The packed log of the LMDB journal: folding at every point, crashes between, damage in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.backends import lmdb as lmdb_module
from runtime.backends import lmdb_tail
from runtime.backends.lmdb import LmdbJournal
from runtime.backends.lmdb_tail import Placed, pack_group, unpack_group
from runtime.durable.journal import StoreDamaged, StoreFull

from .stores import LmdbStore, entries, entry, snapshot

KEYS = [f"k{n}" for n in range(5)]


@pytest.fixture
def store(tmp_path: Path) -> LmdbStore:
    return LmdbStore(tmp_path / "store")


def small(monkeypatch: pytest.MonkeyPatch, *, size: int = 400, portion: int = 3, deleted: int = 2) -> None:
    """Fold early and little at a time, so that every step lies between two commits."""
    monkeypatch.setattr(lmdb_module, "FOLD_BYTES", size)
    monkeypatch.setattr(lmdb_module, "FOLD_ENTRIES", portion)
    monkeypatch.setattr(lmdb_module, "_DELETED_GROUPS", deleted)


def rows_of(journal: LmdbJournal) -> tuple[int, int]:
    """How many entries lie in rows of their own, and how many groups in the log."""
    with journal._store.environment.begin() as txn:
        return txn.stat(journal._store.entries)["entries"], txn.stat(journal._store.log)["entries"]


def test_a_group_is_unpacked_as_it_was_packed() -> None:
    """A group gives back each record with its place."""
    group = [*entries("a", 1, 3), entry("b", 7, 2)]
    rows = [one.pack() for one in group]
    placed = [Placed(one.key, one.sequence, one.epoch, row) for one, row in zip(group, rows, strict=True)]
    assert unpack_group(pack_group(group, rows)) == placed


def test_a_changed_index_is_refused_and_a_changed_record_is_not_the_index_s_matter() -> None:
    """Any flipped bit in front is found; one in a record leaves the others where they are."""
    group = entries("a", 1, 2)
    rows = [one.pack() for one in group]
    packed = pack_group(group, rows)
    front = len(packed) - sum(map(len, rows))
    for at in range(len(packed)):
        found = unpack_group(packed[:at] + bytes([packed[at] ^ 4]) + packed[at + 1 :])
        assert (found is None) == (at < front)
    assert all(unpack_group(packed[:at]) is None for at in range(len(packed)))
    assert unpack_group(packed + b"x") is None


def test_a_crash_between_any_two_commits_loses_nothing(store: LmdbStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every stage of folding, a store that is opened anew reads the same."""
    small(monkeypatch)
    stages = set()
    for round_ in range(1, 40):
        journal = store.open()
        journal.commit([entry(key, round_) for key in KEYS], [snapshot("k1", round_)] if round_ % 7 == 0 else [])
        if round_ % 3:
            journal.close()
            journal = store.open()
        for key in KEYS:
            assert journal.read(key) == entries(key, 1, round_)
        assert journal.head("k0") == round_
        assert (journal.stats().keys, journal.stats().entries) == (5, 5 * round_)
        assert journal.keys() == KEYS
        stages.add((bool(journal._tail().folding_to), journal._tail().done))
        journal.close()
    folded, groups = rows_of(journal := store.open())
    journal.close()
    assert folded > 50
    assert groups < 39
    assert {fold for fold, _ in stages} == {True, False}


def test_folding_keeps_up_with_any_load(store: LmdbStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large commits fold as much as they bring, so the log stays short."""
    small(monkeypatch, size=2000, portion=1, deleted=1000)
    journal = store.open()
    longest = 0
    for round_ in range(50):
        journal.commit(entries("a", round_ * 20 + 1, round_ * 20 + 20))
        longest = max(longest, len(journal._tail()))
    assert longest <= 200
    journal.close()


def test_fold_empties_the_log(store: LmdbStore) -> None:
    """After `fold` every entry lies in a row of its own."""
    journal = store.open()
    for n in range(1, 700):
        journal.commit([entry("a", n)])
    journal.fold()
    assert rows_of(journal) == (699, 0)
    journal.commit([entry("a", 700)])
    assert journal.read("a", 690) == entries("a", 691, 700)
    journal.close()


def test_a_lost_or_damaged_group_is_found(store: LmdbStore) -> None:
    """A group that is gone, or whose index is not what was written, is refused before anything is served."""
    second = (2).to_bytes(8, "big")

    def changed(journal: LmdbJournal, value: bytes) -> bytes:
        """Put another value in the place of group 2, b"" for none; returns the one that was there."""
        log = journal._store.log
        kept: bytes = journal._store.read(lambda txn: txn.get(second, db=log)) or b""
        if value:
            journal._store.write(lambda txn: txn.put(second, value, db=log))
        else:
            journal._store.write(lambda txn: txn.delete(second, db=log))
        return kept

    for ruined in (b"", b"x" * 40):
        journal = store.open()
        head = journal.head("a")
        for n in range(head + 1, head + 4):
            journal.commit([entry("a", n)])
        kept = changed(journal, ruined)
        journal.close()
        journal = store.open()
        with pytest.raises(StoreDamaged, match="group 2 of its log"):
            journal.load("a")
        with pytest.raises(StoreDamaged, match="group 2 of its log"):
            journal.commit([entry("a", head + 4)])
        changed(journal, kept)
        journal.close()


def test_a_failed_commit_leaves_the_log_as_it_was(store: LmdbStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """After StoreFull in the middle of folding nothing is forgotten and nothing is twice there."""
    small(monkeypatch, size=100)
    journal = store.open()
    for n in range(1, 6):
        journal.commit([entry(key, n) for key in KEYS])
    real = LmdbJournal._fold

    def full(self: LmdbJournal, *args: object) -> None:
        real(self, *args)
        raise StoreFull(self.path, "no room, says the test")

    monkeypatch.setattr(LmdbJournal, "_fold", full)
    refused = 0
    for _ in range(3):
        try:
            journal.commit([entry(key, 6) for key in KEYS])
        except StoreFull:
            refused += 1
        else:
            break
    assert refused
    monkeypatch.setattr(LmdbJournal, "_fold", real)
    if journal.head("k0") == 5:
        journal.commit([entry(key, 6) for key in KEYS])
    journal.fold()
    assert [journal.read(key) for key in KEYS] == [entries(key, 1, 6) for key in KEYS]
    assert lmdb_tail.FOLD_BYTES > 100
    journal.close()
