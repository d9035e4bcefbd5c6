"""Floors in LMDB: how rows go, what a damaged floor does, and a relaxed store's opening."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.backends import lmdb as backend
from runtime.backends.lmdb import LmdbJournal
from runtime.backends.lmdb_floors import pack_floor, unpack_floor
from runtime.durable.journal import EntriesDropped, StoreDamaged

from .stores import LmdbStore, entries, snapshot


def rows(journal: LmdbJournal) -> int:
    """How many entries have rows of their own."""
    with journal._store.environment.begin() as txn:
        found: int = txn.stat(journal._store.entries)["entries"]
    return found


def test_rows_go_a_bounded_number_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A floor is in force at once; the rows below it go with it and with later ones, over reopens."""
    monkeypatch.setattr(backend, "SWEPT_ROWS", 10)
    store = LmdbStore(tmp_path / "store")
    journal = store.open()
    assert isinstance(journal, LmdbJournal)
    journal.commit(entries("a", 1, 40))
    journal.fold()
    left = []
    for _ in range(5):
        journal.commit([], [snapshot("a", 40)], {"a": 36})
        assert (journal.first("a"), journal.read("a", 35)) == (36, entries("a", 36, 40))
        left.append(rows(journal))
        journal.close()
        journal = store.open()
        assert isinstance(journal, LmdbJournal)
    assert left == [30, 20, 10, 5, 5]
    journal.close()


def test_entries_that_are_folded_later_go_with_the_next_floor(tmp_path: Path) -> None:
    """What lies in the log when its floor comes has no row yet; none is left behind for ever."""
    journal = LmdbStore(tmp_path / "store").open()
    assert isinstance(journal, LmdbJournal)
    journal.commit(entries("a", 1, 20), [snapshot("a", 20)], {"a": 15})
    journal.fold()
    with pytest.raises(EntriesDropped):
        journal.read("a", 3)
    assert rows(journal) == 20
    journal.commit(entries("a", 21, 21), [snapshot("a", 21)], {"a": 16})
    assert rows(journal) == 5
    assert journal.read("a", 15) == entries("a", 16, 21)
    journal.close()


def test_a_damaged_floor_stops_its_key_only(tmp_path: Path) -> None:
    """A flipped bit in a floor is found by its checksum, and names the key."""
    store = LmdbStore(tmp_path / "store")
    journal = store.open()
    journal.commit([*entries("a", 1, 5), *entries("b", 1, 2)], [snapshot("a", 5)], {"a": 4})
    journal.close()
    packed = pack_floor("a", 4, 1)
    store.replace(packed, bytes([packed[0], packed[1] ^ 1]) + packed[2:])
    journal = store.open()
    for read in (journal.first, journal.load):
        with pytest.raises(StoreDamaged) as caught:
            read("a")
        assert caught.value.key == "a"
    assert journal.read("b") == entries("b", 1, 2)
    journal.close()


def test_a_floor_belongs_to_its_key() -> None:
    """A floor in another key's place is damage; none is a history from its first entry on."""
    assert unpack_floor("a", pack_floor("a", 7, 3), "store") == (7, 3)
    assert unpack_floor("a", None, "store") == (1, 1)
    for wrong in (pack_floor("b", 7, 3), b"", pack_floor("a", 7, 3)[:-1]):
        with pytest.raises(StoreDamaged):
            unpack_floor("a", wrong, "store")


def test_a_relaxed_store_is_opened_with_metasync_off(tmp_path: Path) -> None:
    """Only its last group is at risk: data is synced, and all that makes it a store is synced in full."""
    for epoch in (1, 2, 3):
        journal = LmdbJournal.open(tmp_path / "store", wall=lambda: 1e9, relaxed=True)
        flags = journal._store.environment.flags()
        assert (flags["sync"], flags["metasync"], flags["writemap"], journal.epoch) == (True, False, False, epoch)
        journal.commit(entries("a", epoch, epoch))
        journal.close()
    journal = LmdbJournal.open(tmp_path / "store", wall=lambda: 1e9, read_only=True)
    assert journal.head("a") == 3
    journal.close()
