"""A journal in memory, for tests and simulation: every promise of the port but durability past the program.

`MemoryDisk` is what outlives a journal: drop the journal (`disk.crash()`), open another on the same disk, and
recovery runs as after a kill -9. The disk keeps packed records, so a record is decoded and its checksum
verified as often as with a real store, and it can be made to fail in the ways a real one does.

    >>> disk = MemoryDisk()
    >>> MemoryJournal(disk).epoch
    1
    >>> disk.crash()
    >>> MemoryJournal(disk).epoch
    2
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import final

from ..durable.fence import claimed, pack_fence, row_of, sealed, unpack_fence, written
from ..durable.journal import (
    NO_FENCES,
    NO_FLOORS,
    EntriesDropped,
    Fence,
    Head,
    Journal,
    JournalStats,
    StoreClosed,
    StoreDamaged,
    StoreFailed,
    StoreForeign,
    StoreFull,
    StoreInUse,
    advance,
    check_meta,
    checked_entry,
    checked_snapshot,
    newest,
    touched,
)
from ..durable.record import Entry, Snapshot
from ..errors import Misuse


@final
class MemoryDisk:
    """What a memory journal is kept on; it outlives the journal.

    Attributes:
        full: while it is set, every write raises StoreFull and changes nothing.
        broken: while it is set, the next write fails the journal that tries it (StoreFailed).
        probe: called with "staged" when a commit is about to become durable and with "synced" when it just
            has. An exception from it is a crash there: the journal is of no more use, and the group is lost
            after "staged", kept but unacknowledged after "synced".
    """

    def __init__(self, name: str = ":memory:") -> None:
        self.name = name
        self.full = False
        self.broken = False
        self.probe: Callable[[str], None] | None = None
        self.epoch = 0
        self.node = ""
        self.position = 0
        # Packed records; a key's entry n is at index n - 1. One that was dropped is empty.
        self.entries: dict[str, list[bytes]] = {}
        self.floors: dict[str, int] = {}
        self.snapshots: dict[str, bytes] = {}
        self.heads: dict[str, Head] = {}
        self.meta: dict[str, bytes] = {}
        self.owner: MemoryJournal | None = None

    def crash(self) -> None:
        """End the journal that is open on this disk as kill -9 would: what was committed stays."""
        if self.owner is not None:
            self.owner.close()

    def drop(self, key: str, floor: int) -> None:
        """Keep a key's entries from `floor` on, if it was not higher before."""
        first = self.floors.get(key, 1)
        if floor > first:
            self.entries[key][first - 1 : floor - 1] = [b""] * (floor - first)
            self.floors[key] = floor

    def damage(self, key: str, sequence: int, bit: int = 0) -> None:
        """Flip one bit of an entry, counted from its record's first."""
        rows = self.entries[key]
        damaged = bytearray(rows[sequence - 1])
        damaged[bit // 8] ^= 1 << bit % 8
        rows[sequence - 1] = bytes(damaged)


@final
class MemoryJournal:
    """A `Journal` on a `MemoryDisk`.

    Args:
        disk: where it is kept; a new one by default.
        node: whose store it is; "" asks nothing. The first name given is kept.
        read_only: refuse writes, and leave the epoch as it is.

    Raises:
        StoreInUse: another journal is open on the disk.
        StoreForeign: the disk belongs to another node.
    """

    def __init__(self, disk: MemoryDisk | None = None, *, node: str = "", read_only: bool = False) -> None:
        self._disk = disk = MemoryDisk() if disk is None else disk
        if disk.owner is not None:
            raise StoreInUse(disk.name, 0)
        if node and disk.node and node != disk.node:
            raise StoreForeign(disk.name, f"the store of node {disk.node!r}, not of {node!r}")
        if disk.full and not read_only:
            raise StoreFull(disk.name, "the simulated disk is full")
        self._read_only = read_only
        self._closed = False
        self._failure = ""
        self._commits = 0
        if not read_only:
            disk.node = disk.node or node
            disk.epoch += 1
        self._epoch = disk.epoch
        disk.owner = self

    @property
    def epoch(self) -> int:
        return self._epoch

    @property
    def path(self) -> str:
        return self._disk.name

    def commit(
        self,
        entries: Sequence[Entry],
        snapshots: Sequence[Snapshot] = (),
        floors: Mapping[str, int] = NO_FLOORS,
        fences: Mapping[int, int] = NO_FENCES,
    ) -> None:
        disk = self._writable()
        if not entries and not snapshots:
            return
        rows = {shard: written(disk.name, shard, epoch, self.fence(shard)) for shard, epoch in fences.items()}
        packed = [(entry.key, entry.pack(position)) for position, entry in enumerate(entries, disk.position + 1)]
        kept = [(key, snapshot.sequence, snapshot.pack()) for key, snapshot in newest(snapshots).items()]
        heads = {key: disk.heads.get(key, Head()) for key in touched(entries, snapshots)}
        advance(heads, entries, snapshots, disk.name, floors)
        self._strike("staged")
        for key, row in packed:
            disk.entries.setdefault(key, []).append(row)
        for key, sequence, row in kept:
            stored = disk.snapshots.get(key)
            try:
                if stored is not None and checked_snapshot(stored, key, disk.name).sequence > sequence:
                    continue
            except StoreDamaged:
                pass  # the new one comes from a whole state; one bad snapshot must not fail others' commit
            disk.snapshots[key] = row
        disk.heads.update({key: heads[key] for key, _ in packed})
        for key, floor in floors.items():
            disk.drop(key, floor)
        disk.meta.update({row_of(shard): pack_fence(fence) for shard, fence in rows.items()})
        disk.position += len(packed)
        self._commits += 1
        self._strike("synced")

    def head(self, key: str) -> int:
        return self._usable().heads.get(key, Head()).sequence

    def load(self, key: str) -> tuple[Snapshot | None, list[Entry]]:
        disk = self._usable()
        stored = disk.snapshots.get(key)
        if stored is None:
            return None, self.read(key)
        snapshot = checked_snapshot(stored, key, disk.name)
        return snapshot, self.read(key, snapshot.sequence)

    def first(self, key: str) -> int:
        return self._usable().floors.get(key, 1)

    def read(self, key: str, after: int = 0, limit: int | None = None) -> list[Entry]:
        disk = self._usable()
        if max(after, 0) + 1 < disk.floors.get(key, 1):
            raise EntriesDropped(disk.name, key, max(after, 0) + 1, disk.floors[key])
        rows = disk.entries.get(key, [])
        if len(rows) != disk.heads.get(key, Head()).sequence:
            raise StoreDamaged(disk.name, f"{len(rows)} entries", key, len(rows))
        first = max(after, 0)
        last = len(rows) if limit is None else min(len(rows), first + limit)
        return [checked_entry(rows[n], key, n + 1, disk.name) for n in range(first, last)]

    def keys(self, prefix: str = "") -> list[str]:
        return sorted(key for key in self._usable().heads if key.startswith(prefix))

    def get_meta(self, name: str) -> bytes | None:
        check_meta(name, b"")
        return self._usable().meta.get(name)

    def set_meta(self, name: str, value: bytes) -> None:
        check_meta(name, value)
        disk = self._writable()
        self._strike("staged")
        disk.meta[name] = bytes(value)
        self._strike("synced")

    def claim(self, epochs: Mapping[int, int]) -> None:
        disk = self._writable()
        rows = {shard: claimed(disk.name, shard, epoch, self.fence(shard)) for shard, epoch in epochs.items()}
        self._put_fences(rows)

    def seal(self, shard: int, epoch: int) -> None:
        disk = self._writable()
        self._put_fences({shard: sealed(disk.name, shard, epoch, self.fence(shard))})

    def fence(self, shard: int) -> Fence:
        disk = self._usable()
        return unpack_fence(disk.meta.get(row_of(shard)), shard, disk.name)

    def _put_fences(self, fences: Mapping[int, Fence]) -> None:
        self._strike("staged")
        self._disk.meta.update({row_of(shard): pack_fence(fence) for shard, fence in fences.items()})
        self._strike("synced")

    def stats(self) -> JournalStats:
        disk = self._usable()
        return JournalStats(
            keys=len(disk.heads),
            entries=sum(map(len, disk.entries.values())) - sum(floor - 1 for floor in disk.floors.values()),
            snapshots=len(disk.snapshots),
            commits=self._commits,
            bytes_used=sum(len(row) for rows in disk.entries.values() for row in rows)
            + sum(map(len, disk.snapshots.values())),
            bytes_limit=0,
            position=disk.position,
            full=disk.full,
        )

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._disk.owner = None

    def _usable(self) -> MemoryDisk:
        if self._closed:
            raise StoreClosed(self._disk.name, "it was closed")
        if self._failure:
            raise StoreFailed(self._disk.name, self._failure)
        return self._disk

    def _writable(self) -> MemoryDisk:
        disk = self._usable()
        if self._read_only:
            raise Misuse(f"the store {disk.name} was opened for reading only: open it for writing")
        if disk.full:
            raise StoreFull(disk.name, "the simulated disk is full")
        if disk.broken:
            self._failure = "the simulated disk is broken"
            raise StoreFailed(disk.name, self._failure)
        return disk

    def _strike(self, point: str) -> None:
        """Let the probe crash the commit here; then this journal never knows how far it came."""
        if self._disk.probe is None:
            return
        try:
            self._disk.probe(point)
        except BaseException:
            self._failure = f"it crashed with a commit {point}"
            raise


# The type checker holds the class against the port here.
_port: type[Journal] = MemoryJournal
