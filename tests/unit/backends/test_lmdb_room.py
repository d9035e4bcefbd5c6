"""A full disk: new entries are refused by type and without trying, the rest goes on, and it ends by itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest

from runtime.backends import lmdb_ballast
from runtime.backends.lmdb import LmdbJournal
from runtime.backends.lmdb_ballast import NAME, SIZE, Ballast
from runtime.backends.lmdb_check import check
from runtime.durable.journal import StoreFull

from .stores import LmdbStore, entries, entry, snapshot

ROOM = 64 << 20


def opened(path: Path) -> LmdbJournal:
    return LmdbJournal.open(path, wall=lambda: 1e9)


class Disk:
    """What `os.statvfs` says of a disk that a test fills and empties."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.total = self.room = 1 << 30
        real = os.statvfs

        def statvfs(path: str) -> Any:
            found = list(real(path))
            found[:6] = [4096, 4096, self.total >> 12, self.room >> 12, self.room >> 12, 1000]
            return os.statvfs_result(found)

        monkeypatch.setattr(os, "statvfs", statvfs)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


# -- the ballast -----------------------------------------------------------------------------------------


def test_ballast_is_held_while_a_node_runs(tmp_path: Path, disk: Disk) -> None:
    """An open store holds a file that takes room and is nobody else's; a closed one holds none."""
    journal = opened(tmp_path / "store")
    held = (tmp_path / "store" / NAME).stat()
    assert (held.st_size, held.st_blocks * 512 >= SIZE, held.st_mode & 0o777) == (SIZE, True, 0o600)
    journal.close()
    assert not (tmp_path / "store" / NAME).exists()


def test_a_small_disk_has_none(tmp_path: Path, disk: Disk) -> None:
    """Where it would be a large part of what is left, no ballast is held."""
    disk.room = 3 * SIZE
    journal = opened(tmp_path / "store")
    assert not (tmp_path / "store" / NAME).exists()
    journal.close()


def test_ballast_of_the_dead_is_taken_over(tmp_path: Path, disk: Disk) -> None:
    """What a killed node has left behind is held by the next."""
    opened(tmp_path / "store").close()
    (tmp_path / "store" / NAME).write_bytes(b"x")
    journal = opened(tmp_path / "store")
    assert (tmp_path / "store" / NAME).stat().st_size == SIZE
    journal.close()


def test_ballast_never_fails(tmp_path: Path, disk: Disk) -> None:
    """A file that cannot be made or removed, or a directory that is gone, is no reason to fail."""
    (tmp_path / "taken" / NAME).mkdir(parents=True)
    for name in ("taken", "none"):
        ballast = Ballast(str(tmp_path / name))
        ballast.hold()
        ballast.give_up()
        assert ballast.lacking
        assert ballast.recovered() == (name == "taken")


# -- fault injection -------------------------------------------------------------------------------------


class Full:
    """An LMDB environment that finds no room for anything above a size."""

    def __init__(self, journal: LmdbJournal) -> None:
        self.real = journal._store.environment
        self.tried = 0
        journal._store.environment = self  # type: ignore[assignment]  # it quacks

    def begin(self, write: bool = False) -> Any:
        if write:
            self.tried += 1
            raise lmdb.DiskError("mdb_txn_commit: no space left on device")
        return self.real.begin()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


def test_a_full_disk_sheds_load_and_recovers(tmp_path: Path, disk: Disk) -> None:
    """After the first failure the ballast goes and entries are refused untried, until there is room again."""
    journal = opened(tmp_path / "store")
    journal.commit(entries("a", 1, 3))
    full = Full(journal)
    disk.room = 0
    for _ in range(50):
        with pytest.raises(StoreFull):
            journal.commit([entry("a", 4)])
    assert full.tried == 1
    assert journal.stats().full
    assert not (tmp_path / "store" / NAME).exists()
    assert journal.load("a") == (None, entries("a", 1, 3))
    # What needs little room is still tried, and here it has it: the ballast was given up for this.
    journal._store.environment = full.real
    journal.commit([], [snapshot("a", 3)])
    journal.set_meta("small", b"value")
    disk.room = SIZE
    with pytest.raises(StoreFull):
        journal.commit([entry("a", 4)])
    disk.room = ROOM
    journal.commit([entry("a", 4)])
    assert not journal.stats().full
    assert (tmp_path / "store" / NAME).exists()
    assert journal.load("a") == (snapshot("a", 3), [entry("a", 4)])
    journal.close()


def test_a_disk_that_fills_again_is_found_again(tmp_path: Path, disk: Disk) -> None:
    """Full, room, full, room: each time the same."""
    journal = opened(tmp_path / "store")
    real = journal._store.environment
    for n in range(1, 4):
        disk.room = ROOM
        journal._store.environment = real
        journal.commit([entry("a", n)])
        full, disk.room = Full(journal), 0
        for _ in range(3):
            with pytest.raises(StoreFull):
                journal.commit([entry("a", n + 1)])
        assert full.tried == 1
    journal._store.environment = real
    journal.close()


def test_a_tiny_disk_recovers_too(tmp_path: Path, disk: Disk) -> None:
    """A disk on which a megabyte is never free is full until a sixteenth of it is; a large one wants its megabyte."""
    for total, least in ((3 << 20, 192 << 10), (16 << 20, 1 << 20), (20 << 20, 1 << 20)):
        disk.total, disk.room = total, 0
        ballast = Ballast(str(tmp_path))
        ballast.give_up()
        disk.room = least - 4096
        assert not ballast.recovered()
        disk.room = least
        assert ballast.recovered()
        assert not ballast.lacking


# -- a real small disk -----------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts a file system of so many MiB."""
    path = tmp_path / "disk"

    def mount(size: int) -> Path:
        path.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}m", "tmpfs", path], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip("mounting a small file system takes root")
        return path

    yield mount
    subprocess.run(["umount", "-l", path], capture_output=True, check=False)


def committed_until_full(journal: LmdbJournal) -> int:
    """How many entries of "a" found room before one was refused."""
    for sequence in range(1, 10_000):
        try:
            journal.commit([entry("a", sequence, payload=bytes(20_000))])
        except StoreFull:
            return sequence - 1
    raise AssertionError("the disk is never full")


def test_a_really_full_disk(small_disk: Callable[[int], Path]) -> None:
    """On a disk that somebody fills, what was acknowledged stays, snapshots go on, and room brings all back."""
    path = small_disk(40)
    store = LmdbStore(path / "store")
    journal = opened(store.path)
    assert (store.path / NAME).exists()
    with open(path / "hog", "wb", buffering=0) as hog:
        while os.statvfs(path).f_bavail:
            hog.write(bytes(65536))
    acked = committed_until_full(journal)
    for _ in range(20):
        with pytest.raises(StoreFull):
            journal.commit([entry("b", 1)])
    assert journal.stats().full
    assert journal.head("a") == acked
    for sequence in range(1, acked + 1):
        journal.commit([], [snapshot("a", sequence)])
    journal.set_meta("name", b"value")
    journal.fold()
    (path / "hog").unlink()
    journal.commit([entry("a", acked + 1)])
    assert not journal.stats().full
    assert (store.path / NAME).exists()
    journal.close()
    assert check(str(store.path)).problems == []


def test_a_really_tiny_disk_recovers(small_disk: Callable[[int], Path]) -> None:
    """On a disk of 3 MiB a store that was refused for want of room takes entries again once there is some."""
    path = small_disk(3)
    (path / "hog").write_bytes(bytes(800_000))
    store = LmdbStore(path / "store")
    journal = opened(store.path)
    acked = committed_until_full(journal)
    with pytest.raises(StoreFull):
        journal.commit([entry("a", acked + 1)])
    (path / "hog").unlink()
    assert os.statvfs(path).f_bavail * 4096 < 1 << 20
    journal.commit([entry("a", acked + 1)])
    assert not journal.stats().full
    journal.close()
    assert check(str(store.path)).problems == []


def test_a_full_map_is_grown_in_the_middle_of_folding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However small the map, no command fails for it: entries, snapshots, folding and values all get room."""
    journal = LmdbJournal.open(tmp_path / "store", wall=lambda: 1e9, map_size=1 << 18)
    for n in range(1, 40):
        journal.commit([entry(f"k{m}", n, payload=bytes(4000)) for m in range(40)], [snapshot("k1", n)])
    journal.fold()
    journal.set_meta("large", bytes(60_000))
    assert journal.stats().entries == 39 * 40
    journal.close()
    assert check(str(tmp_path / "store")).problems == []
    assert lmdb_ballast.SIZE == 4 << 20
