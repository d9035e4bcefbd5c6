"""Files ruined at random places: what is served is right or refused by name, and no program dies of it."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import lmdb.verify  # noqa: F401  # here once, not in each child that checks
import pytest

from runtime.backends.lmdb import LmdbJournal
from runtime.backends.lmdb_check import check
from runtime.codec.cbor import encode
from runtime.durable.journal import StoreDamaged, StoreFailed
from runtime.durable.record import Entry, Snapshot

from .stores import LmdbStore, entries, entry, snapshot

ROOT = Path(__file__).parents[3]
PAGE = 4096
# So many that no database has all of its rows in one page.
KEYS = [f"key/{n:03}" for n in range(150)]
LAST = 8
TRIALS = 60


def record(key: str, sequence: int) -> Entry:
    """Some entries are longer than a page."""
    return entry(key, sequence, payload=bytes([sequence]) * (5000 if key.endswith("7") and sequence == 3 else 40))


def state(key: str, sequence: int) -> Snapshot:
    return snapshot(key, sequence, encode(((key, sequence), ())))


def write(path: Path) -> None:
    """A store whose rows lie in the log and in their places, with snapshots, and with pages of older days."""
    journal = LmdbStore(path).open()
    assert isinstance(journal, LmdbJournal)
    for n in range(1, LAST + 1):
        journal.commit([record(key, n) for key in KEYS], [state(key, n) for key in KEYS] if n % 3 == 0 else [])
        if n == 6:
            journal.fold()
    journal.close()


def ruin(data: bytearray, older: bytes, rng: random.Random) -> str:
    """Change a data file as disks and people do; what was done."""
    page = rng.randrange(len(data) // PAGE) * PAGE
    match kind := rng.choice(["bit", "bits of a head", "zeroed", "garbled", "stale", "another", "cut", "older"]):
        case "bit":
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        case "bits of a head":
            for _ in range(3):
                data[page + rng.randrange(80)] ^= 1 << rng.randrange(8)
        case "zeroed":
            data[page : page + PAGE] = bytes(PAGE)
        case "garbled":
            data[page : page + PAGE] = rng.randbytes(PAGE)
        case "stale":
            page = min(page, len(older) - PAGE)
            data[page : page + PAGE] = older[page : page + PAGE]
        case "another":
            other = rng.randrange(len(data) // PAGE) * PAGE
            data[page : page + PAGE] = data[other : other + PAGE]
        case "cut":
            del data[rng.randrange(len(data)) :]
        case "older":
            data[:] = older
    return kind


def judge(path: Path) -> str:
    """Read and write all of a ruined store; what it was like. AssertionError: it served what is wrong."""
    clean = not check(str(path)).found
    try:
        journal = LmdbStore(path).open()
    except StoreDamaged:
        assert not clean
        return "refused"
    hit = 0
    for key in KEYS:
        try:
            saved, later = journal.load(key)
            since = saved.sequence if saved else 0
            # A snapshot of older days is as good, with the entries after it.
            assert saved in (None, state(key, since)), key
            assert later == [record(key, n) for n in range(since + 1, LAST + 1)], key
            assert journal.read(key) == [record(key, n) for n in range(1, LAST + 1)], key
            assert journal.head(key) == LAST, key
        except StoreDamaged:
            hit += 1
    try:
        assert set(journal.keys()) == set(KEYS)
    except StoreDamaged:
        hit += 1
    assert not (clean and hit), "a check found nothing"
    try:
        journal.commit([record(key, LAST + 1) for key in KEYS])
        assert hit or [len(journal.read(key)) for key in KEYS] == [LAST + 1] * len(KEYS)
        journal.fold()
    except (StoreDamaged, StoreFailed):
        hit += 1
    journal.close()
    return "quarantined" if hit else "served"


def quietly(work: Callable[[], int], devnull: int) -> int:
    """Run `work` with its children's last words to nobody."""
    told = os.dup(2)
    os.dup2(devnull, 2)
    try:
        return work()
    finally:
        os.dup2(told, 2)
        os.close(told)


def main(folder: Path, seed: int) -> None:
    """Ruin a store again and again, and judge each in a child of its own."""
    rng = random.Random(seed)
    write(folder / "whole")
    older = (folder / "whole" / "data.mdb").read_bytes()
    journal = LmdbStore(folder / "whole").open()
    journal.close()
    said: Counter[str] = Counter()
    devnull = os.open(os.devnull, os.O_WRONLY)
    path = folder / "ruined"
    for trial in range(TRIALS):
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(folder / "whole", path)
        data = bytearray((path / "data.mdb").read_bytes())
        kind = ruin(data, older, rng)
        (path / "data.mdb").write_bytes(data)
        pid = os.fork()
        if pid == 0:
            # Where LMDB itself, and Python's fault handler, write what ended them.
            told = os.dup(2)
            os.dup2(devnull, 2)
            try:
                said_by_child = judge(path)
                os._exit(["refused", "quarantined", "served"].index(said_by_child))
            except BaseException as error:
                os.write(told, f"seed {seed} trial {trial}, {kind}: {type(error).__name__}: {error}\n".encode())
                os._exit(3)
        status = os.waitpid(pid, 0)[1]
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGABRT and kind in ("another", "garbled"):
            # LMDB takes a page for what its flags say; by chance those of foreign bytes can be a branch's.
            assert quietly(lambda: check(str(path)).found, devnull)
            said["ended"] += 1
            continue
        if os.WIFSIGNALED(status):
            os.write(2, f"seed {seed} trial {trial}, {kind}: signal {os.WTERMSIG(status)}\n".encode())
        said[str(os.waitstatus_to_exitcode(status))] += 1
    os.write(1, json.dumps(said).encode())


@pytest.mark.processes
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_ruined_store_is_refused_or_quarantined_or_right(tmp_path: Path, seed: int) -> None:
    """Bits flipped, pages zeroed, garbled, swapped or stale, the file cut or old: nothing wrong is ever served.

    A page of foreign bytes may end the program in LMDB, rarely; a check finds it all the same.
    """
    program = "import sys; from pathlib import Path; from tests.unit.backends.test_lmdb_damage import main\n"
    ended = subprocess.run(
        [sys.executable, "-c", program + "main(Path(sys.argv[1]), int(sys.argv[2]))", tmp_path, str(seed)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    said = json.loads(ended.stdout)
    assert set(said) <= {"0", "1", "2", "ended"}
    assert said.get("ended", 0) <= 2
    assert min(said["0"], said["1"]) >= 3


def test_a_damaged_process_leaves_the_others_alone(tmp_path: Path) -> None:
    """A record whose bits have changed quarantines its process, named with its sequence, and no other."""
    store = LmdbStore(tmp_path / "store")
    journal = store.open()
    journal.commit([*entries("ann", 1, 5), *entries("bob", 1, 5)])
    journal.close()
    store.damage(entry("ann", 3))
    journal = store.open()
    with pytest.raises(StoreDamaged, match="'ann' from record 3") as caught:
        journal.load("ann")
    assert (caught.value.key, caught.value.sequence) == ("ann", 3)
    journal.commit([entry("bob", 6)])
    assert journal.read("bob") == entries("bob", 1, 6)
    journal.close()


def test_an_older_copy_of_the_data_is_refused(tmp_path: Path) -> None:
    """A whole but older data file is refused, after an orderly end and after a kill, for writing and reading."""
    store = LmdbStore(tmp_path / "store")
    journal = store.open()
    journal.commit([entry("ann", 1)])
    older = (store.path / "data.mdb").read_bytes()
    journal.commit([entry("ann", 2)])
    journal.close()
    whole = (store.path / "data.mdb").read_bytes()
    (store.path / "data.mdb").write_bytes(older)
    for read_only in (False, True):
        with pytest.raises(StoreDamaged, match="an older copy"):
            store.open(read_only=read_only)
    (store.path / "data.mdb").write_bytes(whole)
    # What a killed node noted when it opened the store is the least that must be there.
    program = "from tests.unit.backends.stores import LmdbStore; from pathlib import Path; import os, sys\n"
    program += "LmdbStore(Path(sys.argv[1])).open(); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", program, store.path], cwd=ROOT, check=False)
    (store.path / "data.mdb").write_bytes(whole)
    with pytest.raises(StoreDamaged, match="an older copy"):
        store.open()


def test_a_page_that_was_lost_on_its_way_is_found(tmp_path: Path) -> None:
    """The disk kept an older state of any one page: no acknowledged entry is missing without a word."""
    store = LmdbStore(tmp_path / "store")
    states: list[bytes] = []
    journal = store.open()
    for n in range(1, 25):
        journal.commit([entry("ann", n), entry("bob", n)], [snapshot("bob", n)] if n % 5 == 0 else [])
        if n == 12:
            assert isinstance(journal, LmdbJournal)
            journal.fold()
        states.append((store.path / "data.mdb").read_bytes())
    last = states.pop()
    refused = 0
    journal.close()
    whole, lock = (store.path / "data.mdb").read_bytes(), (store.path / "banyan.lock").read_bytes()
    assert last[2 * PAGE :] == whole[2 * PAGE :]
    tried = set()
    for older in states:
        for at in range(2 * PAGE, len(older), PAGE):
            page = older[at : at + PAGE]
            if page == whole[at : at + PAGE] or (at, page) in tried:
                continue
            tried.add((at, page))
            (store.path / "data.mdb").write_bytes(whole[:at] + page + whole[at + PAGE :])
            (store.path / "banyan.lock").write_bytes(lock)
            try:
                again = store.open(read_only=True)
            except StoreDamaged:
                refused += 1
                continue
            for key in ("ann", "bob"):
                try:
                    assert again.read(key) == entries(key, 1, 24)
                except StoreDamaged:
                    refused += 1
            again.close()
    assert refused > 20
