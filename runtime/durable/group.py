"""What a journal's writer was handed and has not committed: the next group, and those who wait for it.

Source: the group commit of DeWitt et al.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, final

from ..errors import NoProcess
from ..kernel.requests import Waiting
from .journal import Fenced
from .record import Entry, Snapshot


class Author(Protocol):
    """Who hands over entries, and is told what became of them. Neither method may wait or raise."""

    def _journal_settled(self, sequence: int) -> None:
        """Every entry up to this one is on the disk."""

    def _journal_lost(self, error: Exception) -> None:
        """No entry that was not settled is on the disk, nor will be."""


class StoreGivenUp(NoProcess):
    """Nobody writes to an adopted store any more: its shards' processes end in order, and go on elsewhere."""

    def __init__(self, name: str) -> None:
        super().__init__("the adopted store was given up: its shards are served where it is opened next", name)


@final
class Group(Waiting):
    """What was handed over and is not on the disk: entries with their authors, snapshots, and floors.

    Args:
        name: of the writer.
        adopted: whether its store is another node's.
    """

    __slots__ = ("adopted", "authors", "entries", "fenced", "floors", "name", "saved", "snapshots")

    def __init__(self, name: str, *, adopted: bool = False) -> None:
        self.name = name
        self.adopted = adopted
        self.entries: list[Entry] = []
        self.authors: list[Author] = []
        self.snapshots: list[Snapshot] = []
        self.floors: dict[str, int] = {}
        # Snapshots that stand or fall with an entry of the group, and their floors.
        self.saved: list[tuple[Entry, Snapshot, int]] = []
        # Those of the entries and snapshots that belong to a shard.
        self.fenced: list[tuple[Entry | Snapshot, int]] = []

    def __len__(self) -> int:
        return len(self.entries) + len(self.snapshots)

    def has(self, key: str) -> bool:
        """Whether something of a key is in it."""
        return any(one.key == key for one in self.entries) or any(one.key == key for one in self.snapshots)

    def keep(self, snapshot: Snapshot, floor: int) -> None:
        """Take a snapshot and its key's new floor, 0 for none."""
        self.snapshots.append(snapshot)
        if floor > 1:
            self.floors[snapshot.key] = max(floor, self.floors.get(snapshot.key, 0))

    def bar(self, barred: dict[int, Fenced | None]) -> None:
        """Take out the snapshots of shards that may not be written, by their ids."""
        for snapshot in [one for one in self.snapshots if barred.get(id(one)) is not None]:
            self.snapshots.remove(snapshot)
            self.floors.pop(snapshot.key, None)

    def fail(self, reason: object) -> None:
        """The writer has ended: nobody will ever commit these."""
        authors = {id(author): author for author in self.authors}
        error = NoProcess(f"the journal's writer has ended ({reason!r}): start again from the store", self.name)
        if self.adopted:
            error = StoreGivenUp(self.name)
        self.clear()
        for author in authors.values():
            author._journal_lost(error)

    def homes(
        self, barred: dict[int, Fenced | None], noted: Mapping[str, int], head: Callable[[str], int], *, some: bool
    ) -> dict[str, int]:
        """The shards of keys that are to be noted with this group.

        Args:
            barred: as of `bar`.
            noted: the keys that were, each with the epoch of its shard then.
            head: the last entry of a key.
            some: whether some entries were taken out since they were handed over.
        """
        found = {
            record.key: shard
            for record, shard in self.fenced
            if noted.get(record.key) != record.epoch and barred[id(record)] is None
        }
        if found and some:
            left = {entry.key for entry in self.entries}
            found = {key: shard for key, shard in found.items() if key in left or head(key)}
        return found

    def clear(self) -> None:
        """Forget all of it."""
        self.entries.clear()
        self.authors.clear()
        self.snapshots.clear()
        self.floors.clear()
        self.saved.clear()
        self.fenced.clear()
