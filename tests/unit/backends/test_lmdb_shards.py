"""Shards in LMDB: every crash in a move, the log, damage, the check, backups, and room."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.backends import lmdb as backend
from runtime.backends import lmdb_rows as layout
from runtime.backends.lmdb import LmdbJournal
from runtime.backends.lmdb_backup import backup
from runtime.backends.lmdb_check import Problem, check
from runtime.backends.lmdb_homes import home_row, home_value
from runtime.backends.lmdb_restore import restore
from runtime.backends.lmdb_store import Store
from runtime.codec.cbor import encode
from runtime.durable.carriage import Piece
from runtime.durable.journal import Fence, Fenced, PositionGone, StoreDamaged, StoreFull
from runtime.durable.record import Snapshot
from runtime.durable.staging import stage_of

from .stores import carry, entries, entry, snapshot

SHARD = 7
NOW = 2e9
KEYS = ["R/a", "R/b", "R/cut"]


def opened(path: Path) -> LmdbJournal:
    return LmdbJournal.open(path, wall=lambda: 1e9)


def saved(key: str, sequence: int) -> Snapshot:
    """A snapshot with a table of senders, as a check wants it."""
    return snapshot(key, sequence, encode(("state", ())))


def fill(journal: LmdbJournal, *, folded: bool = False) -> None:
    """Entries of three keys of a shard, one of them shortened, and of one that is of none, mixed in the log."""
    journal.claim({SHARD: 5})
    for n in range(1, 7):
        group = [entry(key, n, epoch=5) for key in KEYS]
        journal.commit([entry("other", n), *group], [], {}, {SHARD: 5}, dict.fromkeys(KEYS, SHARD))
        if folded and n == 4:
            journal.fold()
    journal.commit([], [saved("R/cut", 5)], {"R/cut": 4}, {SHARD: 5})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is folded early, and in many steps."""
    monkeypatch.setattr(backend, "FOLD_BYTES", 700)
    monkeypatch.setattr(backend, "FOLD_ENTRIES", 2)
    monkeypatch.setattr(backend, "_DELETED_GROUPS", 2)


# -- crashes ---------------------------------------------------------------------------------------------


def crashes(tmp_path: Path, path: Path, work: Callable[[LmdbJournal], None]) -> list[Path]:
    """What the files of a store held after each transaction of some work: what a kill -9 leaves at any moment.

    One that strikes within a transaction leaves what was there before it; `tests/crash` has that on real files.
    """
    images: list[Path] = []
    real = Store.write

    def write(self: Store, change: Callable[[Any], Any]) -> Any:
        done = real(self, change)
        if self.path == str(path):
            images.append(tmp_path / f"image {len(images)}")
            shutil.copytree(path, images[-1], ignore=shutil.ignore_patterns("banyan.ballast", "lock.mdb"))
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "write", write)
        journal = opened(path)
        work(journal)
    journal.close()
    assert len(images) > 5
    return images


def all_of(journal: LmdbJournal) -> dict[str, Any]:
    keys = journal.keys()
    return {key: (journal.first(key), journal.load(key), journal.head(key)) for key in keys}


@pytest.mark.parametrize("folded", [False, True])
def test_an_erasure_may_be_struck_anywhere(tmp_path: Path, path: Path, folded: bool) -> None:
    """After each crash nothing else is harmed, what went does not come back, and the rest goes."""
    journal = opened(path)
    fill(journal, folded=folded)
    journal.seal(SHARD, 5)
    journal.close()

    def erase(journal: LmdbJournal) -> None:
        while not journal.erase(SHARD, 3):
            journal.commit([entry("other", journal.head("other") + 1)])  # life goes on

    left: set[int] = set()
    for image in crashes(tmp_path, path, erase):
        assert check(str(image)).problems == []
        journal = opened(image)
        left.add(sum(journal.head(key) for key in KEYS))
        others = journal.head("other")
        assert journal.read("other") == entries("other", 1, others)
        if journal.staged():
            with pytest.raises(Fenced):
                journal.claim({SHARD: 6})
        erase(journal)
        journal.close()
        journal = opened(image)
        assert (journal.keys(), journal.shard_keys(SHARD), journal.staged()) == (["other"], [], {})
        assert journal.fence(SHARD) == Fence(5, sealed=True)
        journal.claim({SHARD: 6})
        journal.commit([entry("R/a", 1, epoch=6)], fences={SHARD: 6}, homes={"R/a": SHARD})
        journal.close()
        assert check(str(image)).problems == []
    assert len(left) > 5


def test_a_staging_may_be_struck_anywhere(tmp_path: Path, path: Path) -> None:
    """After each crash it goes on where it was, or is erased; under its epoch it is whole."""
    source = opened(tmp_path / "source")
    fill(source)
    target = opened(path)
    target.commit(entries("mine", 1, 3))
    target.close()
    wanted = {key: source.load(key) for key in KEYS}

    def stage(target: LmdbJournal) -> None:
        target.reserve(SHARD, b"move")
        carry(source, target, SHARD, size=200)
        target.install(SHARD, [], b"all", 6)
        target.settle(SHARD)

    stages: set[str] = set()
    for number, image in enumerate(crashes(tmp_path, path, stage)):
        assert check(str(image)).problems == []
        target = opened(image)
        note = target.staged().get(SHARD)
        if target.fence(SHARD) == Fence(6, written=True):
            assert {key: target.load(key) for key in KEYS} == wanted
            stages.add("settled" if note is None else "all")
        else:
            assert target.fence(SHARD) == Fence()
            stages.add("nothing" if note is None else "some")
        if note is not None and number % 2:
            while not target.erase(SHARD, 2):
                pass
            assert target.shard_keys(SHARD) == []
        elif note == b"all":
            target.settle(SHARD)
        elif target.fence(SHARD) == Fence():
            stage(target)
        if target.fence(SHARD).written:
            assert {key: target.load(key) for key in KEYS} == wanted
        else:
            assert target.keys() == ["mine"]
        target.commit(entries("mine", 4, 4))
        target.close()
        assert check(str(image)).problems == []
        target = opened(image)
        assert target.read("mine") == entries("mine", 1, 4)
        target.close()
    assert stages == {"nothing", "some", "all", "settled"}
    source.close()


def test_what_is_in_the_log_does_not_come_back(path: Path) -> None:
    """An erasure waits until no group of the log has an entry of the shard, over any number of boots."""
    journal = opened(path)
    fill(journal)
    assert journal.bounds.first <= journal.bounds.last
    journal.seal(SHARD, 5)
    slices = 0
    while not journal.erase(SHARD, 2):
        slices += 1
        journal.close()
        journal = opened(path)
        assert journal.read("other") == entries("other", 1, 6)
    assert slices > 10
    for _ in range(2):
        assert journal.keys() == ["other"]
        journal.close()
        journal = opened(path)
    journal.close()


@pytest.mark.parametrize("claim", [0, 6])
def test_only_what_was_written_here_can_be_in_the_log(tmp_path: Path, path: Path, claim: int) -> None:
    """A voided move is erased at once, unless its shard had been open."""
    source, target = opened(tmp_path / "source"), opened(path)
    fill(source)
    for n in range(1, 9):
        target.commit([entry("mine", n)])
    target.reserve(SHARD, b"1")
    carry(source, target, SHARD)
    if claim:
        target.install(SHARD, [], claim=claim)
        target.commit([entry("R/a", 7, epoch=6)], fences={SHARD: 6}, homes={"R/a": SHARD})
        target.seal(SHARD, claim)
    assert target.erase(SHARD) is not bool(claim)
    while not target.erase(SHARD):
        pass
    target.close()
    target = opened(path)
    assert (target.keys(), target.read("mine")) == (["mine"], entries("mine", 1, 8))
    target.close()
    source.close()


def test_an_erasure_ends_while_others_write(path: Path) -> None:
    """What is appended meanwhile is not waited for."""
    journal = opened(path)
    fill(journal)
    journal.seal(SHARD, 5)
    for n in range(7, 200):
        journal.commit([entry("other", n, payload=bytes(300))])
        if journal.erase(SHARD, 10):
            break
    assert journal.keys() == ["other"]
    assert journal.bounds.first <= journal.bounds.last
    journal.close()


# -- room and damage -------------------------------------------------------------------------------------


def test_a_map_that_grows_in_an_install_gives_no_position_twice(path: Path) -> None:
    """A transaction that is done again begins where the first one did."""
    journal = LmdbJournal.open(path, wall=lambda: 1e9, map_size=1 << 20)
    journal.reserve(SHARD, b"1")
    for n in range(1, 9):
        packed = entry("R/a", n, epoch=5, payload=bytes(1 << 20)).pack()
        journal.install(SHARD, [Piece("R/a", 1, n - 1, 5, (packed,))])
    assert [one.feed for one in journal.read("R/a")] == list(range(1, 9))
    journal.close()
    assert check(str(path)).problems == []


def test_a_full_disk_takes_no_pieces(path: Path) -> None:
    """While there is no room nothing is installed, and what is there can be erased."""
    journal = opened(path)
    journal.reserve(SHARD, b"1")
    packed = entry("R/a", 1).pack()
    journal.install(SHARD, [Piece("R/a", 1, 0, 1, (packed,))])
    journal._store.ballast.lacking = True
    journal._store.ballast.recovered = lambda: False  # type: ignore[method-assign]  # no room comes back
    with pytest.raises(StoreFull):
        journal.install(SHARD, [Piece("R/b", 1, 0, 1, (entry("R/b", 1).pack(),))])
    while not journal.erase(SHARD):
        pass
    assert journal.keys() == []
    journal.close()


def test_a_damaged_row_of_the_index_is_found(path: Path) -> None:
    """It is not passed over: what it says would be left behind."""
    journal = opened(path)
    fill(journal)
    journal._store.write(lambda txn: txn.put(home_row(SHARD, b"R/b"), b"xxxx", db=journal._store.shards))
    with pytest.raises(StoreDamaged, match="index of shards"):
        journal.shard_keys(SHARD)
    assert journal.shard_keys(8) == []
    journal.close()


def test_a_lost_entry_or_snapshot_is_not_passed_over(path: Path) -> None:
    """A piece is refused if the key is not whole."""
    journal = opened(path)
    fill(journal)
    journal.fold()
    store = journal._store
    store.write(lambda txn: txn.delete(layout.entry_key("R/a", 3), db=store.entries))
    store.write(lambda txn: txn.put(b"R/b", bytes(60), db=store.snapshots))
    store.write(lambda txn: txn.put(b"R/cut", saved("R/cut", 99).pack(), db=store.snapshots))
    for key in KEYS:
        with pytest.raises(StoreDamaged) as refused:
            journal.piece(key, 0, 1 << 20)
        assert refused.value.key == key
    journal.close()


# -- the check -------------------------------------------------------------------------------------------


def test_a_staged_shard_is_no_problem(tmp_path: Path, path: Path) -> None:
    """Half a shard, with floors ahead of snapshots and epochs of elsewhere, is what a staged one may be."""
    source, target = opened(tmp_path / "source"), opened(path)
    fill(source)
    target.reserve(SHARD, b"1")
    target.install(SHARD, [source.piece("R/cut", 0, 1)])
    target.close()
    report = check(str(path))
    assert (report.problems, report.keys, report.entries, report.position) == ([], 1, 1, 1)
    source.close()


@pytest.mark.parametrize(
    ("ruin", "problem"),
    [
        (
            lambda txn, s: txn.put(home_row(SHARD, b"nobody"), home_value(home_row(SHARD, b"nobody")), db=s.shards),
            Problem("it is noted in shard 7, and has no entry", "nobody"),
        ),
        (
            lambda txn, s: txn.put(home_row(8, b"R/a"), home_value(home_row(8, b"R/a")), db=s.shards),
            Problem("it is noted in shard 7 and in 8", "R/a"),
        ),
        (
            lambda txn, s: txn.put(home_row(8, b"R/a"), b"", db=s.shards),
            Problem(r"a row of its index of shards is not what was written: b'\x00\x08R/a'"),
        ),
        (
            lambda txn, s: txn.put(b"mstage/x", layout.summed(b"mstage/x", b""), db=s.meta),
            Problem("'stage/x' names no shard"),
        ),
        (
            lambda txn, s: txn.put(layout.OWED_ROW, layout.summed(layout.OWED_ROW, b"x"), db=s.meta),
            Problem("the number of positions that shards took with them is gone"),
        ),
    ],
)
def test_what_is_wrong_with_shards_is_told(path: Path, ruin: Callable[..., object], problem: Problem) -> None:
    """A key that is noted and not there, one that is in two shards, rows that are not what was written."""
    journal = opened(path)
    fill(journal)
    journal._store.write(lambda txn: ruin(txn, journal._store))
    journal.close()
    assert check(str(path)).problems == [problem]


def test_what_was_erased_is_told_from_what_is_lost(path: Path) -> None:
    """Positions that went with a shard are counted; one more that is missing is found."""
    journal = opened(path)
    fill(journal)
    journal.seal(SHARD, 5)
    while not journal.erase(SHARD):
        pass
    journal.reserve(SHARD, b"1")
    journal.install(
        SHARD, [Piece("R/cut", 4, 3, 5, (entry("R/cut", 4, epoch=5).pack(),), saved("R/cut", 4).pack())], claim=6
    )
    journal.settle(SHARD)
    journal.fold()
    journal.close()
    assert check(str(path)).problems == []
    journal = opened(path)
    store = journal._store
    # As if a process had vanished as a whole.
    store.write(lambda txn: txn.delete(b"other", db=store.heads))
    for n in range(1, 7):
        store.write(lambda txn, n=n: txn.delete(layout.entry_key("other", n), db=store.entries))
    journal.close()
    [problem] = check(str(path)).problems
    assert problem.what == "no whole entry has 24 positions, but 18 were dropped"


# -- backups ---------------------------------------------------------------------------------------------


def test_a_backup_has_the_index_and_what_is_staged(tmp_path: Path, path: Path) -> None:
    """A store made from a backup goes on with its moves; the notes and fences are as they were."""
    journal = opened(path)
    fill(journal)
    journal.reserve(8, b"note")
    journal.install(8, [Piece("R/new", 3, 2, 9, (entry("R/new", 3, epoch=9).pack(),))])
    journal.close()
    backup(str(path), str(tmp_path / "backup"), wall=NOW)
    restore(str(tmp_path / "backup"), str(tmp_path / "again"), wall=NOW)
    journal = opened(tmp_path / "again")
    assert (journal.shard_keys(SHARD), journal.shard_keys(8), journal.staged()) == (KEYS, ["R/new"], {8: b"note"})
    assert journal.fence(SHARD) == Fence(5, written=True)
    while not journal.erase(8):
        pass
    journal.close()
    assert check(str(tmp_path / "again")).problems == []


@pytest.mark.parametrize("position", [2, 8, 24, 26])
def test_a_store_is_taken_back_to_before_a_move(tmp_path: Path, path: Path, position: int) -> None:
    """The keys that had come by then are in the index, others are not; the positions are counted anew."""
    journal = opened(path)
    journal.claim({SHARD: 5})
    for n in range(1, 7):
        keys = ["R/a", "R/b"] if n > 1 else ["R/a"]
        group = [entry(key, journal.head(key) + 1, epoch=5) for key in keys]
        journal.commit([entry("other", n), *group], fences={SHARD: 5}, homes=dict.fromkeys(keys, SHARD))
    journal.reserve(8, b"1")
    rows = tuple(entry("S/x", n, epoch=9).pack() for n in range(1, 10))
    journal.install(8, [Piece("S/x", 1, 0, 9, rows)], claim=10)
    journal.settle(8)
    assert journal.stats().position == 26
    journal.close()
    backup(str(path), str(tmp_path / "backup"), wall=NOW)
    restore(str(tmp_path / "backup"), str(tmp_path / "again"), wall=NOW, position=position)
    again = opened(tmp_path / "again")
    heads = {key: again.head(key) for key in ("other", "R/a", "R/b", "S/x")}
    assert sum(heads.values()) == position
    assert again.shard_keys(SHARD) == [key for key in ("R/a", "R/b") if heads[key]]
    assert again.shard_keys(8) == [key for key in ("S/x",) if heads[key]]
    again.close()
    assert check(str(tmp_path / "again")).problems == []


def test_a_store_is_taken_back_after_an_erasure(tmp_path: Path, path: Path) -> None:
    """What had gone by the time of the backup is not in it, to whatever point it is taken."""
    journal = opened(path)
    fill(journal)
    journal.seal(SHARD, 5)
    while not journal.erase(SHARD):
        pass
    journal.commit(entries("other", 7, 9))
    journal.close()
    backup(str(path), str(tmp_path / "backup"), wall=NOW)
    restore(str(tmp_path / "backup"), str(tmp_path / "again"), wall=NOW, position=9)
    again = opened(tmp_path / "again")
    assert (again.keys(), again.read("other"), again.stats().position) == (["other"], entries("other", 1, 3), 9)
    again.commit(entries("other", 4, 4))
    again.close()
    assert check(str(tmp_path / "again")).problems == []


def test_a_shortened_history_that_came_later_is_in_the_way(tmp_path: Path, path: Path) -> None:
    """Nothing tells whether what was dropped of it had been here: no store is made that could lack it."""
    journal = opened(path)
    journal.commit(entries("other", 1, 3))
    journal.reserve(SHARD, b"1")
    journal.install(
        SHARD, [Piece("R/x", 3, 2, 9, (entry("R/x", 3, epoch=9).pack(),), saved("R/x", 3).pack())], claim=10
    )
    journal.settle(SHARD)
    journal.close()
    backup(str(path), str(tmp_path / "backup"), wall=NOW)
    with pytest.raises(PositionGone):
        restore(str(tmp_path / "backup"), str(tmp_path / "again"), wall=NOW, position=2)


# -- small things ----------------------------------------------------------------------------------------


def test_the_rows_are_of_fixed_form() -> None:
    """Their bytes are a format: stores hold them for ever."""
    assert home_row(258, b"R/a") == b"\x01\x02R/a"
    assert home_value(b"\x01\x02R/a") == bytes.fromhex("16da855b")
    assert layout.pack_owed(-2)[4:] == b"\xff" * 7 + b"\xfe"
    assert stage_of(42) == "stage/00042"


def test_a_relaxed_store_keeps_what_was_installed(path: Path) -> None:
    """What the source will erase does not hang on a later sync."""
    journal = LmdbJournal.open(path, wall=lambda: 1e9, relaxed=True)
    synced = []
    real = journal._store.sync_last
    journal._store.sync_last = lambda: (synced.append(1), real())[1]  # type: ignore[method-assign]  # it is counted
    journal.reserve(SHARD, b"1")
    journal.install(SHARD, [Piece("R/a", 1, 0, 1, (entry("R/a", 1).pack(),))])
    assert synced == [1]
    journal.close()
