"""The LMDB journal's own side: its files, its faults, its death by SIGKILL."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest

from runtime.backends.lmdb import LmdbJournal
from runtime.durable.journal import (
    StoreDamaged,
    StoreFailed,
    StoreFull,
    StoreNewer,
)
from tests.support.outside import tool

from .stores import LmdbStore, entries, entry, snapshot

ROOT = Path(__file__).parents[3]


def wall() -> float:
    return 1.7e9


@pytest.fixture
def store(tmp_path: Path) -> LmdbStore:
    return LmdbStore(tmp_path / "store")


def opened(store: LmdbStore, **more: Any) -> LmdbJournal:
    return LmdbJournal.open(store.path, wall=wall, **more)


@pytest.fixture
def journal(store: LmdbStore) -> Iterator[LmdbJournal]:
    journal = opened(store)
    yield journal
    journal.close()


# -- its files -------------------------------------------------------------------------------------------


def test_a_store_is_private(store: LmdbStore) -> None:
    """The directory is 0700 and its files 0600, whatever the umask allows."""
    before = os.umask(0)
    try:
        opened(store).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in store.path.iterdir()}
    assert modes == dict.fromkeys(["banyan.lock", "banyan.store", "data.mdb", "lock.mdb"], 0o600)


def test_commits_are_synced_and_never_written_through_a_map(journal: LmdbJournal) -> None:
    """LMDB runs with sync and metasync, and does not map its file for writing."""
    flags = journal._store.environment.flags()
    assert (flags["sync"], flags["metasync"], flags["writemap"], flags["map_async"]) == (
        True,
        True,
        False,
        False,
    )


def test_a_commit_is_on_the_disk_before_it_returns(store: LmdbStore, tmp_path: Path) -> None:
    """Each commit writes its pages, syncs them, and only then writes the meta page, itself synced."""
    log = tmp_path / "trace"
    program = (
        "import sys\n"
        "from runtime.backends.lmdb import LmdbJournal\n"
        "from tests.unit.backends.stores import entry\n"
        "journal = LmdbJournal.open(sys.argv[1], wall=lambda: 0.0)\n"
        "journal.commit([entry('a', 1)])\n"
        "print('acked', flush=True)\n"
        "journal.close()\n"
    )
    calls = "trace=openat,pwrite64,pwritev,fdatasync,fsync,msync,write"
    subprocess.run(
        [
            tool("strace"),
            "-f",
            "-y",
            "-e",
            calls,
            "-o",
            str(log),
            sys.executable,
            "-c",
            program,
            str(store.path),
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=60,
    )
    lines = [line for line in log.read_text().splitlines() if "data.mdb" in line or "acked" in line]
    acked = next(n for n, line in enumerate(lines) if "acked" in line)
    synced = max(n for n, line in enumerate(lines[:acked]) if "fdatasync" in line)
    assert [re.sub(r"^\d+ +(\w+).*", r"\1", line) for line in lines[synced - 1 : acked]] == [
        "pwritev" if "pwritev" in lines[synced - 1] else "pwrite64",
        "fdatasync",
        "pwrite64",
    ]
    # The meta page's own descriptor is opened so that each of its writes is synced.
    assert any("data.mdb" in line and "O_DSYNC" in line for line in lines)


def test_the_names_of_a_new_store_are_synced(store: LmdbStore, tmp_path: Path) -> None:
    """The directories above a new store are fsynced, and the store's own, before it is called ready."""
    log = tmp_path / "trace"
    path = store.path / "deep" / "er"
    program = (
        "import sys\n"
        "from runtime.backends.lmdb import LmdbJournal\n"
        "LmdbJournal.open(sys.argv[1], wall=lambda: 0.0).close()\n"
    )
    subprocess.run(
        [
            tool("strace"),
            "-f",
            "-y",
            "-e",
            "trace=fsync,rename",
            "-o",
            str(log),
            sys.executable,
            "-c",
            program,
            path,
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=60,
    )
    synced = re.findall(r"fsync\(\d+<([^>]*)>\)", log.read_text())
    assert synced[:3] == [str(tmp_path), str(store.path), str(path.parent)]
    assert synced.count(str(path)) >= 3


# -- its faults ------------------------------------------------------------------------------------------


def test_a_full_map_grows_and_the_commit_succeeds(store: LmdbStore) -> None:
    """A commit that does not fit the map is not failed: the map is doubled until it fits."""
    journal = opened(store, map_size=1 << 20)
    large = [entry("a", n, payload=os.urandom(1 << 20)) for n in range(1, 9)]
    journal.commit([entry("b", 1)])
    journal.commit(large)
    assert journal.read("a") == large
    assert journal.read("b") == entries("b", 1, 1)
    assert journal.stats().bytes_limit > 8 << 20
    journal.close()
    journal = opened(store, map_size=1 << 20)
    assert journal.read("a") == large
    journal.commit([entry("a", 9)])
    journal.close()


def test_a_map_that_the_system_refuses_is_halved(store: LmdbStore) -> None:
    """Under a limit on address space the map shrinks until it is granted."""
    program = (
        "import resource, sys\n"
        "from runtime.backends.lmdb import LmdbJournal\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "print(LmdbJournal.open(sys.argv[1], wall=lambda: 0.0).stats().bytes_limit)\n"
    )
    ended = run(program, store.path)
    assert 16 << 20 <= int(ended.stdout) < 1 << 30


def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a Python program that must succeed."""
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", path], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a small file system takes root")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def test_a_full_disk_refuses_and_recovers(small_disk: Path) -> None:
    """A commit that finds no room leaves nothing behind; with room again the same commit succeeds."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(3 << 20))
    store = LmdbStore(small_disk / "store")
    journal = opened(store)
    journal.commit(entries("a", 1, 2))
    large = [entry("a", 3, payload=bytes(1 << 20)), entry("b", 1)]
    for _ in range(3):
        with pytest.raises(StoreFull) as caught:
            journal.commit(large)
        assert caught.value.path == str(store.path)
        assert journal.load("a") == (None, entries("a", 1, 2))
        assert journal.head("b") == 0
    ballast.unlink()
    journal.commit(large)
    journal.close()
    journal = opened(store)
    assert journal.read("a") == [*entries("a", 1, 2), large[0]]
    assert journal.read("b") == [large[1]]
    journal.close()


def test_a_full_disk_cannot_hold_a_new_store(small_disk: Path) -> None:
    """Making a store without room for it is refused, and works once there is room."""
    ballast = small_disk / "ballast"
    fd = os.open(ballast, os.O_CREAT | os.O_WRONLY)
    while os.statvfs(small_disk).f_bavail:
        os.write(fd, bytes(4096))
    os.close(fd)
    store = LmdbStore(small_disk / "store")
    with pytest.raises(StoreFull):
        opened(store)
    ballast.unlink()
    journal = opened(store)
    journal.commit([entry("a", 1)])
    journal.close()


class Failing:
    """An LMDB environment whose next write transaction fails on commit."""

    def __init__(self, real: lmdb.Environment, error: lmdb.Error) -> None:
        self.real = real
        self.error: lmdb.Error | None = error

    def begin(self, write: bool = False) -> Any:
        if write and self.error is not None:
            error, self.error = self.error, None
            raise error
        return self.real.begin(write=write)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (lmdb.Error("mdb_txn_commit", 5), StoreFailed),
        (lmdb.PanicError("mdb_txn_begin"), StoreFailed),
        (lmdb.CorruptedError("mdb_put"), StoreDamaged),
    ],
    ids=["EIO", "panic", "a corrupt page"],
)
def test_any_other_failed_commit_ends_the_journal(
    journal: LmdbJournal, error: lmdb.Error, raised: type[Exception]
) -> None:
    """LMDB carries on after a failed fdatasync; the journal does not: it serves nothing more."""
    journal.commit([entry("a", 1)])
    journal._store.environment = Failing(journal._store.environment, error)  # type: ignore[assignment]  # it quacks
    with pytest.raises(raised):
        journal.commit([entry("a", 2)])
    calls: list[Callable[[], object]] = [
        lambda: journal.commit([entry("a", 2)]),
        lambda: journal.head("a"),
        lambda: journal.load("a"),
        journal.keys,
        journal.stats,
    ]
    for call in calls:
        with pytest.raises(StoreFailed):
            call()


FAIL_THE_FOURTH = ["strace", "-f", "-o", "/dev/null", "-e", "inject=fdatasync:error=EIO:when=4"]


def test_a_failed_sync_ends_the_journal_for_real(store: LmdbStore) -> None:
    """An fdatasync that the kernel answers with EIO makes the commit StoreFailed and the journal useless."""
    program = (
        "import sys\n"
        "from runtime.backends.lmdb import LmdbJournal\n"
        "from runtime.durable.journal import StoreFailed\n"
        "from tests.unit.backends.stores import entry\n"
        "journal = LmdbJournal.open(sys.argv[1], wall=lambda: 0.0)\n"
        "said = []\n"
        "for n in range(1, 6):\n"
        "    try: journal.commit([entry('a', n)])\n"
        "    except StoreFailed: said.append('failed')\n"
        "    else: said.append('acked')\n"
        "print(*said)\n"
    )
    opened(store).close()
    ended = subprocess.run(
        [*FAIL_THE_FOURTH, sys.executable, "-c", program, str(store.path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = ended.stdout.split()
    assert said == ["acked"] * said.index("failed") + ["failed"] * (5 - said.index("failed"))
    journal = opened(store)
    assert journal.head("a") >= said.count("acked")
    journal.close()


# -- what a record's place tells -------------------------------------------------------------------------


def test_swapped_records_are_found(store: LmdbStore) -> None:
    """Two whole records that changed places are found by their keys and sequences."""
    journal = opened(store)
    ann, bob = entry("ann", 1), entry("bob", 1)
    journal.commit([ann, bob, entry("ann", 2)])
    journal.close()
    one, two = ann.pack(1), bob.pack(2)
    assert len(one) == len(two)
    store.replace(one, b"\xa5" * len(one))
    store.replace(two, one)
    store.replace(b"\xa5" * len(one), two)
    journal = opened(store)
    for key in ("ann", "bob"):
        with pytest.raises(StoreDamaged, match="number 1") as caught:
            journal.load(key)
        assert (caught.value.key, caught.value.sequence) == (key, 1)
    journal.close()


def rows(journal: LmdbJournal, work: Callable[[lmdb.Transaction[bytes]], object]) -> None:
    """Change the store behind the journal's back."""
    journal._store.write(work)
    journal._forget()


def test_a_missing_entry_is_found(journal: LmdbJournal) -> None:
    """A history with a gap, without its end, or longer than its head is refused."""
    for key in ("gap", "end", "more", "none"):
        journal.commit(entries(key, 1, 4))
    journal.fold()

    def row(key: str, sequence: int) -> bytes:
        return bytes([len(key)]) + key.encode() + sequence.to_bytes(8, "big")

    def work(txn: lmdb.Transaction[bytes]) -> None:
        txn.delete(row("gap", 2), db=journal._store.entries)
        txn.delete(row("end", 4), db=journal._store.entries)
        txn.put(row("more", 5), entry("more", 5).pack(), db=journal._store.entries)
        txn.delete(b"none", db=journal._store.heads)

    rows(journal, work)
    for key, sequence in (("gap", 2), ("end", 4), ("more", 5), ("none", 1)):
        with pytest.raises(StoreDamaged) as caught:
            journal.load(key)
        assert (caught.value.key, caught.value.sequence) == (key, sequence)
    with pytest.raises(StoreDamaged):
        journal.commit([entry("more", 5)])
    with pytest.raises(StoreDamaged):
        journal.commit([entry("none", 1)])


def test_a_snapshot_beyond_its_head_is_found(journal: LmdbJournal) -> None:
    """A snapshot of entries that the journal does not have is refused."""
    journal.commit(entries("a", 1, 2))
    rows(journal, lambda txn: txn.put(b"a", snapshot("a", 3).pack(), db=journal._store.snapshots))
    with pytest.raises(StoreDamaged, match="snapshot"):
        journal.load("a")


def test_a_damaged_head_is_found(journal: LmdbJournal) -> None:
    """A head whose checksum is wrong stops its key, for reads and for commits."""
    journal.commit([entry("a", 1), entry("b", 1)])
    journal.fold()
    rows(journal, lambda txn: txn.put(b"a", bytes(20), db=journal._store.heads))
    for call in (
        lambda: journal.head("a"),
        lambda: journal.load("a"),
        lambda: journal.commit([entry("a", 2)]),
    ):
        with pytest.raises(StoreDamaged) as caught:
            call()
        assert caught.value.key == "a"
    journal.commit([entry("b", 2)])


def test_a_record_of_a_later_format_is_told_from_damage(journal: LmdbJournal) -> None:
    """A whole record of format 2 raises StoreNewer."""
    from tests.unit.durable.test_record import resummed

    journal.commit([entry("a", 1)])
    journal.fold()
    later = resummed(b"\x02" + entry("a", 1).pack()[1:])
    rows(journal, lambda txn: txn.put(b"\x01a" + (1).to_bytes(8, "big"), later, db=journal._store.entries))
    with pytest.raises(StoreNewer) as caught:
        journal.load("a")
    assert (caught.value.found, caught.value.supported) == (2, 1)


def test_a_damaged_named_value_is_found(journal: LmdbJournal) -> None:
    """A named value whose checksum is wrong is refused."""
    journal.set_meta("m", b"v")
    rows(journal, lambda txn: txn.put(b"mm", b"xxxxv", db=journal._store.meta))
    with pytest.raises(StoreDamaged, match="'m'"):
        journal.get_meta("m")
