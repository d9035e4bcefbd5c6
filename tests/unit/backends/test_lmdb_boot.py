"""Every store that must not be opened is refused, with its own error, before LMDB maps a byte of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.backends import lmdb_boot as boot
from runtime.backends.lmdb import LmdbJournal
from runtime.durable.journal import (
    StoreDamaged,
    StoreError,
    StoreForeign,
    StoreInUse,
    StoreMissing,
    StoreNewer,
    StoreNotWritable,
)
from tests.support.forked import run_forked

from .stores import LmdbStore, entries, entry, snapshot

ROOT = Path(__file__).parents[3]
PAGE = 4096


def opened(path: Path, *, read_only: bool = False) -> LmdbJournal:
    return LmdbJournal.open(path, wall=lambda: 1.7e9, read_only=read_only)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A closed store with a few pages in it."""
    path = tmp_path / "store"
    journal = opened(path)
    for n in range(1, 30):
        journal.commit([entry("ann", n), entry("big", n, payload=bytes(5000))], [snapshot("ann", n)])
    journal.close()
    return path


def files(path: Path) -> dict[str, bytes]:
    """What lies in a directory, apart from the note of who tried to open it."""
    return {p.name: p.read_bytes() for p in sorted(path.iterdir()) if p.is_file() and p.name != boot.LOCK}


def refused(path: Path, error: type[StoreError], text: str) -> StoreError:
    """The error with which a store is refused, for writing and for reading alike; nothing in it changes."""
    before = files(path) if path.is_dir() else {}
    with pytest.raises(error, match=text):
        opened(path, read_only=True)
    with pytest.raises(error, match=text) as caught:
        opened(path)
    assert (files(path) if path.is_dir() else {}) == before
    assert caught.value.path == str(path)
    assert len(str(caught.value).split("; ")) == 2, "what: why; what next"
    return caught.value


# -- in use ----------------------------------------------------------------------------------------------

HOLDER = """
import sys
from runtime.backends.lmdb import LmdbJournal
journal = LmdbJournal.open(sys.argv[1], wall=lambda: 0.0)
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(store: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the store open."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, store],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        yield child
        child.kill()


@pytest.mark.processes
def test_a_store_in_use_names_the_process_that_holds_it(store: Path, holder: subprocess.Popen[str]) -> None:
    """A store that another process has open is refused, naming its pid; after kill -9 it opens at once."""
    for read_only in (False, True):
        with pytest.raises(StoreInUse, match=f"process {holder.pid} ") as caught:
            opened(store, read_only=read_only)
        assert caught.value.pid == holder.pid
    holder.kill()
    holder.wait()
    journal = opened(store)
    assert journal.epoch == 3
    journal.close()


def test_readers_share_a_store(store: Path) -> None:
    """Several processes may read a store that nobody writes, and they keep a writer out."""
    reader = opened(store, read_only=True)
    program = (
        "import sys\n"
        "from runtime.backends.lmdb import LmdbJournal\n"
        "print(LmdbJournal.open(sys.argv[1], wall=lambda: 0.0, read_only=True).head('ann'))\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, store], cwd=ROOT, capture_output=True, check=True)
    assert ended.stdout == b"29\n"
    with pytest.raises(StoreInUse):
        opened(store)
    reader.close()
    opened(store).close()


def test_a_store_opened_twice_in_one_process_names_it(store: Path) -> None:
    """Two journals of one process cannot share a store either."""
    for read_only in (False, True):
        journal = opened(store, read_only=read_only)
        with pytest.raises(StoreInUse) as caught:
            opened(store, read_only=read_only)
        assert caught.value.pid == os.getpid()
        journal.close()


# -- not writable, missing, foreign ----------------------------------------------------------------------


def test_a_file_in_the_directorys_place_is_refused(tmp_path: Path) -> None:
    """A file where the directory should be, or above it, is told as such and left alone."""
    file = tmp_path / "file"
    file.write_text("mine")
    for path in (file, file / "store"):
        with pytest.raises(StoreNotWritable, match=r"is a file|Not a directory"):
            opened(path)
    assert file.read_text() == "mine"


@pytest.mark.parametrize("path", ["/proc/banyan-store", "/proc/sys/banyan/store", "/sys/banyan-store"])
def test_a_place_that_cannot_be_written_is_refused(path: str) -> None:
    """A directory that cannot be made is told with the system's own reason."""
    # Places where not even root can, because tests may run as root.
    with pytest.raises(StoreNotWritable) as caught:
        opened(Path(path))
    assert caught.value.reason in {
        "No such file or directory",
        "Operation not permitted",
        "Permission denied",
    }


def test_a_read_only_file_system_can_be_read_but_not_written(store: Path) -> None:
    """On a file system without writing a store is refused to a writer and served to a reader."""
    if subprocess.run(["mount", "--bind", store, store], capture_output=True, check=False).returncode:
        pytest.skip("mounting takes root")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", store], check=True)
        with pytest.raises(StoreNotWritable, match="Read-only"):
            opened(store)
        reader = opened(store, read_only=True)
        assert reader.head("ann") == 29
        reader.close()
    finally:
        subprocess.run(["umount", store], check=True)


def test_reading_makes_nothing(tmp_path: Path) -> None:
    """A store that should be read is not made: neither its directory nor a file in it."""
    with pytest.raises(StoreMissing):
        opened(tmp_path / "nothing", read_only=True)
    with pytest.raises(StoreMissing):
        opened(tmp_path, read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_a_foreign_directory_is_left_alone(tmp_path: Path) -> None:
    """A directory that holds other things is refused, naming one, and not a file is added to it."""
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(StoreForeign, match=r"thesis\.tex") as caught:
        opened(tmp_path)
    assert caught.value.found == f"'thesis.tex' and no {boot.MARKER}"
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_lmdb_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    """An LMDB environment without our marker is not ours."""
    import lmdb

    with lmdb.open(str(tmp_path)) as other, other.begin(write=True) as txn:
        txn.put(b"theirs", b"x")
    with pytest.raises(StoreForeign, match=r"data\.mdb"):
        opened(tmp_path)
    with lmdb.open(str(tmp_path)) as other, other.begin() as txn:
        assert txn.get(b"theirs") == b"x"


def test_other_files_beside_a_store_do_no_harm(store: Path) -> None:
    """What a person puts beside a store's files later does not close it."""
    (store / "notes.txt").write_text("x")
    opened(store).close()


# -- newer -----------------------------------------------------------------------------------------------


def test_a_marker_of_a_later_format_is_refused(store: Path) -> None:
    """A store whose marker names a later format is left alone, also if LMDB could open it."""
    marker = json.loads((store / boot.MARKER).read_text())
    (store / boot.MARKER).write_text(json.dumps(marker | {"format": 2, "more": True}))
    error = refused(store, StoreNewer, "format 2")
    assert isinstance(error, StoreNewer)
    assert (error.found, error.supported) == (2, 1)


def test_a_format_row_of_a_later_format_is_refused(store: Path) -> None:
    """A store whose format row names a later format is refused, and its epoch stays."""
    from runtime.backends.lmdb_rows import summed

    journal = opened(store)
    journal._store.write(lambda txn: txn.put(b"iformat", summed(b"iformat", b"2"), db=journal._store.meta))
    journal.close()
    refused(store, StoreNewer, "format 2")


# -- damaged ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "length",
    [0, 1, 15, 151, PAGE - 1, PAGE, PAGE + 100, 2 * PAGE - 1, 2 * PAGE, 3 * PAGE, -10 * PAGE, -PAGE, -1],
)
def test_a_truncated_file_is_refused(store: Path, length: int) -> None:
    """A data file that lost its end, at whatever point, is refused before it is mapped (else: SIGBUS)."""
    data = store / boot.DATA
    os.truncate(data, length if length >= 0 else data.stat().st_size + length)
    refused(store, StoreDamaged, r"empty|ends within|pages end at")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda data: bytes(len(data)), "magic 0x00000000"),
        (lambda data: b"\xa5" * len(data), "magic 0xa5a5a5a5"),
        (lambda data: bytes(PAGE) + data[PAGE:], "meta page 0"),
        (lambda data: data[:PAGE] + bytes(PAGE) + data[2 * PAGE :], "meta page 1"),
        (lambda data: data[PAGE : 2 * PAGE] + data[PAGE:], "meta page 0"),
        (lambda data: data[:PAGE] + data[:PAGE] + data[2 * PAGE :], "meta page 1"),
        (lambda data: data[:20] + b"\x03\x00\x00\x00" + data[24:], "LMDB format 3"),
        (lambda data: data[:40] + b"\x00" * 4 + data[44:], "contradicts"),
        (lambda data: data[: PAGE + 40] + b"\x00\x20\x00\x00" + data[PAGE + 44 :], "contradicts"),
        (lambda data: b"", "empty"),
    ],
    ids=[
        "all zeroes",
        "garbage",
        "meta page 0 zeroed",
        "meta page 1 zeroed",
        "meta page 1 over 0",
        "meta page 0 over 1",
        "LMDB's other format",
        "no page size",
        "two page sizes",
        "emptied",
    ],
)
def test_a_ruined_file_is_refused(store: Path, change: Callable[[bytes], bytes], found: str) -> None:
    """A data file that is not LMDB's any more is refused with what was found, and never made anew."""
    data = store / boot.DATA
    data.write_bytes(change(data.read_bytes()))
    error = refused(store, StoreDamaged, found)
    assert isinstance(error, StoreDamaged)
    assert (error.key, error.sequence) == ("", 0)


def test_a_missing_data_file_is_refused(store: Path) -> None:
    """A store whose data file is gone is damaged, not new."""
    (store / boot.DATA).unlink()
    refused(store, StoreDamaged, "gone")


def test_a_missing_marker_is_refused(store: Path) -> None:
    """A store without its marker is damaged as long as its lock remembers an epoch, with data or without."""
    (store / boot.MARKER).unlink()
    refused(store, StoreDamaged, "epoch 1")
    (store / boot.DATA).unlink()
    refused(store, StoreDamaged, "epoch 1")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "7", '{"store": "x", "format": 1, "state": "ready"}', '{"store": "banyan journal"}'],
)
def test_a_ruined_marker_is_refused(store: Path, text: str) -> None:
    """A marker that does not hold what was written is damage."""
    (store / boot.MARKER).write_text(text)
    refused(store, StoreDamaged, boot.MARKER)


def test_an_emptied_environment_is_refused(store: Path, tmp_path: Path) -> None:
    """A whole but empty LMDB file in the place of the data is damage: an older copy, or format and epoch are gone."""
    import lmdb

    lmdb.open(str(tmp_path / "empty"), lib_version=0).close()
    (tmp_path / "empty" / boot.DATA).replace(store / boot.DATA)
    with pytest.raises(StoreDamaged, match="an older copy: its last transaction is 0"):
        opened(store)
    (store / boot.LOCK).unlink()
    with pytest.raises(StoreDamaged):
        opened(store, read_only=True)
    with pytest.raises(StoreDamaged, match="gone"):
        opened(store)
    with pytest.raises(StoreDamaged, match="gone"):
        opened(store)


EVERY_PAGE = """
import sys
from pathlib import Path
from typing import Any
from runtime.backends.lmdb import LmdbJournal
from runtime.durable.journal import StoreDamaged
from tests.unit.backends.stores import entries, entry, snapshot

path, page = Path(sys.argv[1]), 4096
whole, lock = (path / "data.mdb").read_bytes(), (path / "banyan.lock").read_bytes()
right = {"ann": entries("ann", 1, 29), "big": [entry("big", n, payload=bytes(5000)) for n in range(1, 30)]}
found = 0
for number in range(len(whole) // page):
    for other in (bytes(page), b"\\xff" * page, whole[-page:]):
        damaged = whole[: number * page] + other + whole[(number + 1) * page :]
        (path / "data.mdb").write_bytes(damaged)
        # The note of how far the last attempt came would tell that this file is older.
        (path / "banyan.lock").write_bytes(lock)
        try:
            journal = LmdbJournal.open(path, wall=lambda: 0.0)
        except StoreDamaged:
            found += 1
            continue
        for key, wanted in right.items():
            try:
                state, later = journal.load(key)
                # A page that an older one has replaced may hold an older snapshot, which is as good.
                since = state.sequence if state else 0
                assert state in (None, snapshot(key, since)), (number, key)
                assert later == wanted[since:], (number, key)
                assert journal.read(key) == wanted, (number, key)
            except StoreDamaged:
                found += 1
        journal.close()
print(found)
"""


@pytest.mark.processes
def test_any_ruined_page_is_found_or_does_no_harm(store: Path) -> None:
    """With any one page zeroed, garbled or replaced, what is served is right or refused, and nothing dies."""
    ended = subprocess.run(
        [sys.executable, "-c", EVERY_PAGE, store],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert int(ended.stdout) > 50


def test_a_file_that_only_lacks_free_pages_is_served(tmp_path: Path) -> None:
    """A file that is shorter than its page count, but lacks no page in use, is whole."""
    path = tmp_path / "store"
    journal = opened(path)
    journal.commit(entries("ann", 1, 3))
    # A value of many pages that is taken back in the same transaction: its pages are counted, never written.
    meta = journal._store.meta
    journal._store.write(lambda txn: (txn.put(b"mx", bytes(50 * PAGE), db=meta), txn.delete(b"mx", db=meta)))
    journal.close()
    data = path / boot.DATA
    last = max(int.from_bytes(data.read_bytes()[n : n + 8], "little") for n in (136, PAGE + 136))
    assert data.stat().st_size < (last + 1) * PAGE
    for _ in range(3):
        journal = opened(path)
        assert journal.load("ann") == (None, entries("ann", 1, 3))
        journal.close()


# -- a store that was never finished ---------------------------------------------------------------------


def test_a_making_that_crashed_is_done_again(tmp_path: Path) -> None:
    """Whatever a crash while a store was made has left, in any order, the next open makes it anew."""
    path = tmp_path / "store"
    path.mkdir()
    (path / boot.LOCK).touch()
    opened(path).close()

    path = tmp_path / "marked"
    path.mkdir()
    boot.mark(str(path), "making")
    opened(path).close()

    path = tmp_path / "half"
    path.mkdir()
    boot.mark(str(path), "making")
    (path / boot.DATA).write_bytes(b"\0" * 5000)
    (path / "lock.mdb").write_bytes(b"x")
    (path / (boot.MARKER + ".new")).write_bytes(b"{")
    with pytest.raises(StoreMissing):
        opened(path, read_only=True)
    journal = opened(path)
    assert journal.epoch == 1
    journal.commit([entry("a", 1)])
    journal.close()
    opened(path).close()


def make_until(arguments: list[str]) -> int:
    """Make a store in a path, and be killed at the step of that number, if it comes to it."""
    path, left = arguments[0], int(arguments[1])

    def stepping(owner: object, name: str, *, after: bool = False) -> None:
        real = getattr(owner, name)

        def step(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            if after:
                real(*args, **kwargs)
            left -= 1
            if left == 0:
                os.kill(os.getpid(), 9)
            return None if after else real(*args, **kwargs)

        setattr(owner, name, step)

    for name in ("claim", "discard", "mark", "environment", "sync_directory", "told"):
        stepping(boot, name)
    stepping(os, "rename", after=True)
    LmdbJournal.open(path, wall=lambda: 0.0).close()
    return 0


@pytest.mark.processes
def test_a_kill_at_any_step_of_the_making_leaves_a_store_that_opens(tmp_path: Path) -> None:
    """Killed with SIGKILL at each step of making a store, the next open makes or finishes it."""
    killed = 0
    for step in range(1, 30):
        path = tmp_path / f"store{step}"
        ended = run_forked(make_until, [str(path), str(step)], cwd=ROOT, env=os.environ, limit=60.0)
        journal = opened(path)
        assert journal.keys() == []
        journal.commit([entry("a", 1)])
        journal.close()
        if ended.returncode == 0:
            break
        assert ended.returncode == -9
        killed += 1
    assert killed >= 10


def test_a_stranger_beside_an_unfinished_store_is_kept(tmp_path: Path) -> None:
    """Only what the making itself left is removed; a store in use keeps its directory to itself."""
    path = tmp_path / "store"
    path.mkdir()
    boot.mark(str(path), "making")
    (path / "notes.txt").write_text("x")
    opened(path).close()
    assert (path / "notes.txt").read_text() == "x"


def test_open_again_after_a_refusal(store: Path) -> None:
    """A refused open leaves no lock behind: mended, the store opens."""
    marker = (store / boot.MARKER).read_bytes()
    (store / boot.MARKER).write_text("{")
    refused(store, StoreDamaged, boot.MARKER)
    (store / boot.MARKER).write_bytes(marker)
    journal = opened(store)
    assert LmdbStore(store).path == store
    assert journal.head("ann") == 29
    journal.close()
