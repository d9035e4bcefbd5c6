"""The full check of a store: what it counts, and that whatever is wrong is named by key and position."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.backends import lmdb_boot as boot
from runtime.backends import lmdb_rows as layout
from runtime.backends.apart import Died, apart
from runtime.backends.lmdb import LmdbJournal
from runtime.backends.lmdb_check import MOST, Problem, check
from runtime.codec.cbor import encode
from runtime.durable.journal import Head, StoreInUse, StoreMissing, StoreNewer
from runtime.durable.record import Snapshot

from .stores import LmdbStore, entries, entry, snapshot


@pytest.fixture
def store(tmp_path: Path) -> LmdbStore:
    """Two processes of ten entries, half of them folded; one has a snapshot."""
    store = LmdbStore(tmp_path / "store")
    journal = LmdbJournal.open(store.path, wall=lambda: 1e9, node="room")
    for n in range(1, 6):
        journal.commit([entry("ann", n), entry("bob", n)])
    journal.fold()
    journal.commit(entries("ann", 6, 10), [saved("ann", 8)])
    journal.commit(entries("bob", 6, 10))
    journal.close()
    return store


def saved(key: str, sequence: int, *replies: Any) -> Snapshot:
    """A snapshot with a table of senders."""
    return snapshot(key, sequence, encode(("state", replies)))


def changed(store: LmdbStore, work: Callable[[Any, LmdbJournal], object]) -> None:
    """Change rows of a store behind its back."""
    journal = LmdbJournal.open(store.path, wall=lambda: 1e9)
    journal._store.write(lambda txn: work(txn, journal))
    journal.close()


def problems(store: LmdbStore) -> list[Problem]:
    """What a check finds, which changes nothing."""
    before = {p.name: p.read_bytes() for p in store.path.iterdir()}
    found = check(str(store.path))
    assert {p.name: p.read_bytes() for p in store.path.iterdir()} == before
    return found.problems


def test_a_clean_store_is_counted(store: LmdbStore) -> None:
    """A check of a whole store finds nothing wrong and counts what is in it, folded or not."""
    told: list[tuple[str, int, int]] = []
    report = check(str(store.path), lambda *said: told.append(said))
    assert report.problems == []
    assert (report.keys, report.entries, report.snapshots, report.groups) == (2, 20, 1, 2)
    assert (report.epoch, report.position, report.node, report.wall) == (1, 20, "room", 1.5)
    assert report.to_json()["clean"] is True
    size = (store.path / "data.mdb").stat().st_size
    assert told == [("pages", 0, size), ("pages", size, size)]


def test_an_empty_store_is_clean(tmp_path: Path) -> None:
    """A store that nobody has written to is whole."""
    LmdbStore(tmp_path / "store").open().close()
    assert problems(LmdbStore(tmp_path / "store")) == []


def test_a_flipped_bit_is_named(store: LmdbStore) -> None:
    """A record whose bits changed is named by key, sequence and position, wherever it lies."""
    store.damage(entry("ann", 3))
    store.damage(entry("bob", 9))
    store.damage(saved("ann", 8))
    found = problems(store)
    assert [(p.key, p.sequence) for p in found if p.key] == [("ann", 3), ("ann", 0), ("bob", 9)]
    assert all("checksum" in p.what for p in found if p.key)
    assert [str(p) for p in found if not p.key] == [
        "no whole entry has position 5 of 20",
        "no whole entry has position 19 of 20",
    ]


@pytest.mark.parametrize(
    ("ruin", "key", "sequence", "text"),
    [
        (lambda txn, s: txn.delete(layout.entry_key("ann", 2), db=s.entries), "ann", 2, "it is missing"),
        (lambda txn, s: txn.delete(b"bob", db=s.heads), "bob", 1, "it is missing, and 6 is in the log"),
        (
            lambda txn, s: txn.put(layout.entry_key("ann", 9), entry("ann", 9).pack(9), db=s.entries),
            *("ann", 9, "it exists, though the last one is 5"),
        ),
        (
            lambda txn, s: txn.put(layout.entry_key("ann", 2), entry("ann", 2).pack(1), db=s.entries),
            *("ann", 2, "another entry has its position"),
        ),
        (
            lambda txn, s: txn.put(layout.entry_key("ann", 2), entry("ann", 2, epoch=9).pack(3), db=s.entries),
            *("ann", 2, "it is of epoch 9, the store of 2"),
        ),
        (
            lambda txn, s: txn.put(layout.entry_key("ann", 2), entry("ann", 2).pack(99), db=s.entries),
            *("ann", 2, "its position is after the last one, 20"),
        ),
        (
            lambda txn, s: txn.put(layout.entry_key("ann", 2), entry("ann", 3).pack(3), db=s.entries),
            *("ann", 2, "'ann' number 3"),
        ),
        (lambda txn, s: txn.put(b"ann", b"x" * 20, db=s.heads), "ann", 0, "its head does not match"),
        (
            lambda txn, s: txn.put(b"bob", saved("bob", 12).pack(), db=s.snapshots),
            *("bob", 12, "its snapshot is of 12, its head 10"),
        ),
        (
            lambda txn, s: txn.put(b"bob", snapshot("bob", 3, encode(("state", ("x",)))).pack(), db=s.snapshots),
            *("bob", 3, "no table of senders"),
        ),
        (lambda txn, s: txn.delete(layout.number_key(6), db=s.log), "", 0, "group 6 of the log is missing"),
        (lambda txn, s: txn.put(layout.number_key(6), b"x" * 40, db=s.log), "", 0, "group 6 of the log is not what"),
        (lambda txn, s: txn.put(layout.number_key(9), b"x", db=s.log), "", 0, "the log has 3 groups"),
        (lambda txn, s: txn.put(b"mx", b"xxxxv", db=s.meta), "", 0, "its 'x' does not match its checksum"),
        (lambda txn, s: txn.delete(layout.FORMAT_ROW, db=s.meta), "", 0, "its format or epoch is gone"),
        (lambda txn, s: txn.put(b"xx", b"x", db=s.entries), "", 0, "a row of entries is nobody's"),
    ],
)
def test_what_is_wrong_is_named(
    store: LmdbStore, ruin: Callable[[Any, Any], object], key: str, sequence: int, text: str
) -> None:
    """Rows that are missing, too many, in another's place or of other content are found, with their place."""
    changed(store, lambda txn, journal: ruin(txn, journal._store))
    found = [p for p in problems(store) if text in p.what]
    assert [(p.key, p.sequence) for p in found] == [(key, sequence)]


def test_a_process_that_vanished_as_a_whole_is_found(store: LmdbStore) -> None:
    """Nothing tells of a key whose every row is gone but the positions that nobody has."""

    def vanish(txn: Any, journal: LmdbJournal) -> None:
        txn.delete(b"bob", db=journal._store.heads)
        for n in range(1, 11):
            txn.delete(layout.entry_key("bob", n), db=journal._store.entries)

    journal = LmdbJournal.open(store.path, wall=lambda: 1e9)
    journal.fold()
    journal.close()
    changed(store, vanish)
    assert [str(p) for p in problems(store)] == [
        *(f"no whole entry has position {n} of 20" for n in (2, 4, 6, 8, 10)),
        "no whole entry has positions 16 to 20 of 20",
    ]


def test_many_problems_are_counted_and_not_all_told(tmp_path: Path) -> None:
    """The list is bounded; the number of problems is not."""
    store = LmdbStore(tmp_path / "store")
    journal = store.open()
    journal.commit(entries("ann", 1, 2 * MOST))
    assert isinstance(journal, LmdbJournal)
    journal.fold()
    journal.close()
    changed(
        store,
        lambda txn, j: [txn.delete(layout.entry_key("ann", n), db=j._store.entries) for n in range(1, 2 * MOST)],
    )
    report = check(str(store.path))
    assert (len(report.problems), report.found) == (MOST, 2 * MOST)


def test_a_head_is_held_against_its_rows(store: LmdbStore) -> None:
    """A head that says less than there is does not hide the rest."""
    changed(store, lambda txn, j: txn.put(b"ann", layout.pack_head("ann", Head(3, 1)), db=j._store.heads))
    assert ("ann", 4) in [(p.key, p.sequence) for p in problems(store)]


def test_ruined_pages_are_named(store: LmdbStore) -> None:
    """A zeroed page is found by the walk over the pages; what can still be read is checked all the same."""
    data = store.path / "data.mdb"
    whole = data.read_bytes()
    named = 0
    for page in range(2, len(whole) // 4096):
        data.write_bytes(whole[: page * 4096] + bytes(4096) + whole[(page + 1) * 4096 :])
        named += any(f"page {page}" in p.what for p in problems(store))
    assert named >= 4
    data.write_bytes(whole[:8192])
    assert "its pages end at" in problems(store)[0].what


def test_an_older_copy_is_named(store: LmdbStore) -> None:
    """A data file that is older than what was here is damage, whole as it is."""
    older = (store.path / "data.mdb").read_bytes()
    journal = store.open()
    journal.commit([entry("ann", 11)])
    journal.close()
    (store.path / "data.mdb").write_bytes(older)
    assert "an older copy" in problems(store)[0].what


def test_a_check_needs_a_store_that_rests(store: LmdbStore, tmp_path: Path) -> None:
    """A store in use, a missing one and a newer one are not checked."""
    journal = store.open()
    with pytest.raises(StoreInUse):
        check(str(store.path))
    journal.close()
    with pytest.raises(StoreMissing):
        check(str(tmp_path / "none"))
    changed(
        store,
        lambda txn, j: txn.put(layout.FORMAT_ROW, layout.summed(layout.FORMAT_ROW, b"9"), db=j._store.meta),
    )
    with pytest.raises(StoreNewer):
        check(str(store.path))
    (store.path / boot.MARKER).write_bytes(b"x")
    assert problems(store)[0].what == "banyan.store does not hold what was written"


# -- work in a process of its own ------------------------------------------------------------------------


def test_what_a_child_returns_and_says_is_heard() -> None:
    """The child's answer comes back, and its progress on the way."""
    said: list[int] = []

    def work(say: Callable[[int], None]) -> list[str]:
        say(1)
        say(2)
        return ["x" * 100_000]

    assert apart(work, said.append, 60.0) == ["x" * 100_000]
    assert said[-1] == 2


def test_a_child_that_dies_is_a_finding() -> None:
    """A signal, an exception and silence are told as what they are, and leave no child behind."""
    with pytest.raises(Died, match="SIGKILL"):
        apart(lambda _: os.kill(os.getpid(), signal.SIGKILL), lambda _: None, 60.0)
    with pytest.raises(Died, match="ZeroDivisionError"):
        apart(lambda _: 1 // 0, lambda _: None, 60.0)
    with pytest.raises(Died, match="not done after"):
        apart(lambda _: signal.pause(), lambda _: None, 0.05)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
