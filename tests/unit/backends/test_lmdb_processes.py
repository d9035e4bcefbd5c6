"""The LMDB journal among threads and processes: readers, forks, interrupts, its death by SIGKILL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.backends.lmdb import LmdbJournal
from runtime.durable.journal import SequenceConflict, StoreClosed
from runtime.durable.record import Entry

from .stores import LmdbStore, entries, entry, snapshot

ROOT = Path(__file__).parents[3]


@pytest.fixture
def store(tmp_path: Path) -> LmdbStore:
    return LmdbStore(tmp_path / "store")


def opened(store: LmdbStore) -> LmdbJournal:
    return LmdbJournal.open(store.path, wall=lambda: 1.7e9)


@pytest.fixture
def journal(store: LmdbStore) -> Iterator[LmdbJournal]:
    journal = opened(store)
    yield journal
    journal.close()


def test_no_reader_outlives_a_call(journal: LmdbJournal) -> None:
    """Between calls no read transaction is open, so old pages are used again."""
    journal.commit(entries("a", 1, 3), [snapshot("a", 1)])
    journal.load("a")
    journal.read("a")
    journal.keys()
    journal.stats()
    assert "(no active readers)" in journal._store.environment.readers()
    assert journal.check_readers() == 0


def test_heads_are_right_beyond_the_cache(journal: LmdbJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    """With more keys than are kept in memory, each commit is still judged by its key's own head."""
    monkeypatch.setattr("runtime.backends.lmdb._CACHED_HEADS", 8)
    for sequence in range(1, 4):
        for n in range(30):
            journal.commit([entry(f"k{n}", sequence)])
            assert len(journal._cached) <= 8
    with pytest.raises(SequenceConflict):
        journal.commit([entry("k0", 3)])
    assert [journal.head(f"k{n}") for n in range(30)] == [3] * 30


def test_several_threads_take_turns(journal: LmdbJournal) -> None:
    """Commits from several threads do not hang and do not mix."""

    def work(key: str) -> None:
        for sequence in range(1, 21):
            journal.commit([entry(key, sequence)])
            journal.load(key)

    threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [journal.load(f"t{n}") for n in range(4)] == [(None, entries(f"t{n}", 1, 20)) for n in range(4)]


def test_an_interrupted_commit_is_judged_anew(journal: LmdbJournal) -> None:
    """An interrupt in a commit leaves the journal usable, with heads read again from the store."""
    journal.commit([entry("a", 1)])

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        journal._store.write(interrupted)
    assert journal._cached == {}
    journal.commit([entry("a", 2)])
    assert journal.load("a") == (None, entries("a", 1, 2))


def forked(work: Callable[[], object]) -> str:
    """What `work` raises or returns in a forked child, as text."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            said = repr(work())
        except BaseException as error:
            said = type(error).__name__ + ": " + str(error)
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    return said


def test_a_forked_child_cannot_touch_the_store(journal: LmdbJournal) -> None:
    """In a forked child every call raises, naming the process that the store belongs to."""
    journal.commit([entry("a", 1)])
    for call in (
        lambda: journal.commit([entry("a", 2)]),
        lambda: journal.load("a"),
        lambda: journal.head("a"),
    ):
        said = forked(call)
        assert said.startswith("StoreClosed")
        assert str(os.getpid()) in said
    assert forked(journal.close) == "None"
    journal.commit([entry("a", 2)])
    assert journal.load("a") == (None, entries("a", 1, 2))


def test_a_child_of_foreign_code_is_stopped_too(journal: LmdbJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork that Python was not told of is found by the process's number."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with pytest.raises(StoreClosed, match="forked"):
        journal.head("a")


def test_a_forked_child_does_not_keep_the_store(store: LmdbStore) -> None:
    """The store is free when its owner closes it or dies, even if a forked child lives on."""
    program = (
        "import os, sys\n"
        "from runtime.backends.lmdb import LmdbJournal\n"
        "journal = LmdbJournal.open(sys.argv[1], wall=lambda: 0.0)\n"
        "if os.fork() == 0:\n"
        "    os.write(1, b'child %d\\n' % os.getpid())\n"
        "    sys.stdin.read()\n"
        "    os._exit(0)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, store.path], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline().startswith(b"child ")
        assert child.wait(60) == -signal.SIGKILL
        opened(store).close()


WRITER = """
import sys
from runtime.backends.lmdb import LmdbJournal
from tests.unit.backends.stores import entry, snapshot

journal = LmdbJournal.open(sys.argv[1], wall=lambda: 0.0)
print("open", journal.epoch, flush=True)
sequence = journal.head("a")
while True:
    sequence += 1
    group = [entry("a", sequence, journal.epoch), entry(f"b{sequence}", 1, journal.epoch)]
    journal.commit(group, [snapshot("a", sequence)] if sequence % 7 == 0 else [])
    print("acked", sequence, flush=True)
"""


@pytest.mark.processes
def test_kill_9_loses_nothing_acknowledged(store: LmdbStore) -> None:
    """A process killed while it commits has lost nothing that it had acknowledged; no group is half there."""
    acked = 0
    for cycle in range(1, 6):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, store.path], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == f"open {2 * cycle - 1}\n"
            for _ in range(13 * cycle):
                acked = int(child.stdout.readline().split()[1])
            child.kill()
            for line in child.stdout:
                if line.startswith("acked ") and line.endswith("\n"):
                    acked = int(line.split()[1])
        journal = opened(store)
        assert journal.epoch == 2 * cycle
        head = journal.head("a")
        assert head in (acked, acked + 1)
        whole: list[Entry] = journal.read("a")
        assert [e.sequence for e in whole] == list(range(1, head + 1))
        assert journal.load("a")[1] == whole[head - head % 7 :]
        assert journal.keys("b") == sorted(f"b{n}" for n in range(1, head + 1))
        journal.close()
    from lmdb import verify

    assert verify.verify(str(store.path)) == []
