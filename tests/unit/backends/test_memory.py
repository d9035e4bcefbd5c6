"""The memory journal's own side: a disk that outlives it, and faults on demand."""

from __future__ import annotations

import pytest

from runtime.backends.memory import MemoryDisk, MemoryJournal
from runtime.durable.journal import StoreClosed, StoreDamaged, StoreFailed, StoreFull

from .stores import entries, entry, snapshot


def test_a_crash_keeps_what_was_committed() -> None:
    """After a crash the old journal is of no use, and a new one on the same disk holds every commit."""
    disk = MemoryDisk()
    journal = MemoryJournal(disk)
    journal.commit(entries("a", 1, 2), [snapshot("a", 1)])
    disk.crash()
    with pytest.raises(StoreClosed):
        journal.commit([entry("a", 3)])
    again = MemoryJournal(disk)
    assert again.epoch == journal.epoch + 1
    assert again.load("a") == (snapshot("a", 1), entries("a", 2, 2))


@pytest.mark.parametrize(("point", "kept"), [("staged", 1), ("synced", 2)])
def test_a_crash_in_a_commit_is_before_it_or_after_it(point: str, kept: int) -> None:
    """A commit that crashes is there as a whole or not at all; the journal that tried it never goes on."""

    class Crash(BaseException):
        pass

    def probe(reached: str) -> None:
        if reached == point:
            raise Crash

    disk = MemoryDisk()
    journal = MemoryJournal(disk)
    journal.commit([entry("a", 1), entry("b", 1)])
    disk.probe = probe
    with pytest.raises(Crash):
        journal.commit([entry("a", 2), entry("b", 2)])
    with pytest.raises(StoreFailed, match=point):
        journal.head("a")
    disk.probe = None
    disk.crash()
    again = MemoryJournal(disk)
    assert again.load("a") == (None, entries("a", 1, kept))
    assert again.load("b") == (None, entries("b", 1, kept))


def test_a_full_disk_refuses_and_recovers() -> None:
    """While the disk is full a commit changes nothing; with room again the same commit succeeds."""
    disk = MemoryDisk()
    journal = MemoryJournal(disk)
    disk.full = True
    for write in (lambda: journal.commit([entry("a", 1)]), lambda: journal.set_meta("m", b"v")):
        with pytest.raises(StoreFull):
            write()
    assert (journal.keys(), journal.get_meta("m")) == ([], None)
    disk.full = False
    journal.commit([entry("a", 1)])
    assert journal.head("a") == 1


def test_a_broken_disk_ends_the_journal() -> None:
    """After a failed write the journal serves nothing more, also when the disk works again."""
    disk = MemoryDisk()
    journal = MemoryJournal(disk)
    disk.broken = True
    with pytest.raises(StoreFailed):
        journal.commit([entry("a", 1)])
    disk.broken = False
    with pytest.raises(StoreFailed):
        journal.keys()


def test_a_full_disk_cannot_be_opened() -> None:
    """Opening writes the epoch, so it needs room; opening for reading does not."""
    disk = MemoryDisk()
    MemoryJournal(disk).close()
    disk.full = True
    with pytest.raises(StoreFull):
        MemoryJournal(disk)
    assert MemoryJournal(disk, read_only=True).epoch == 1


def test_a_lost_entry_is_found() -> None:
    """A key whose last entry is gone is refused."""
    disk = MemoryDisk()
    journal = MemoryJournal(disk)
    journal.commit(entries("a", 1, 3))
    disk.entries["a"].pop()
    with pytest.raises(StoreDamaged):
        journal.load("a")
