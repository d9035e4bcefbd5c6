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

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import final

from ..durable import staging
from ..durable.carriage import Piece
from ..durable.fence import claimed, pack_fence, row_of, sealed, unpack_fence, written
from ..durable.journal import (
    NO_FENCES,
    NO_FLOORS,
    NO_HOMES,
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
from ..durable.record import Entry, Snapshot, snapshot_sequence
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
        # The keys that were noted as a shard's.
        self.homes: dict[int, set[str]] = {}
        self.owner: MemoryJournal | None = None

    def crash(self) -> None:
        """End the journal that is open on this disk as kill -9 would: what was committed stays."""
        if self.owner is not None:
            self.owner.close()

    def drop(self, key: str, floor: int) -> None:
        """Keep a key's entries from `floor` on, if it was not higher before."""
        first = self.floors.get(key, 1)
        if floor > first:
            self.entries.setdefault(key, [])[first - 1 : floor - 1] = [b""] * (floor - first)
            self.floors[key] = floor

    # -- shards that come and go ---------------------------------------------------------------------

    def fence(self, shard: int) -> Fence:
        """A shard's row."""
        return unpack_fence(self.meta.get(row_of(shard)), shard, self.name)

    def stage(self, shard: int) -> bytes | None:
        """The note of a staged shard, None if it is not staged."""
        return self.meta.get(staging.stage_of(shard))

    def place(self, key: str) -> staging.Place:
        """Where a key stands."""
        snapshot = self.snapshots.get(key, b"")
        return staging.Place(self.heads.get(key, Head()), self.floors.get(key, 1), snapshot_sequence(snapshot))

    def piece(self, key: str, after: int, size: int, snapshot_after: int) -> Piece:
        """As `Journal.piece`."""
        place = self.place(key)
        after = min(max(after, place.first - 1), place.head.sequence)
        rows: list[bytes] = []
        for row in self.entries.get(key, [])[after:]:
            if rows and size < len(row):
                break
            rows.append(row)
            size -= len(row)
        wanted = max(snapshot_after, 0) < place.snapshot <= after + len(rows)
        epoch = Entry.unpack(rows[-1]).epoch if rows else place.head.epoch
        return Piece(key, place.first, after, epoch, tuple(rows), self.snapshots[key] if wanted else b"")

    def fit(self, pieces: Iterable[Piece]) -> list[staging.Fitted]:
        """What pieces put here; raises as `Journal.install`."""
        places: dict[str, staging.Place] = {}
        fitted: list[staging.Fitted] = []
        position = self.position
        for piece in pieces:
            place = places.setdefault(piece.key, self.place(piece.key))
            fitted.append(staging.fit(piece, place, position, self.name))
            position += len(fitted[-1].rows)
        return fitted

    def put(self, shard: int, fitted: Iterable[staging.Fitted]) -> None:
        """Put what was fitted into its places."""
        for one in fitted:
            self.drop(one.key, one.first)
            self.entries.setdefault(one.key, []).extend(row for _, row in one.rows)
            self.heads[one.key] = one.head
            self.position += len(one.rows)
            if one.snapshot:
                self.snapshots[one.key] = one.snapshot
            self.homes.setdefault(shard, set()).add(one.key)

    def to_reserve(self, shard: int, note: bytes) -> dict[str, bytes]:
        """The rows that change with a reservation; raises as `Journal.reserve`."""
        kept = bool(self.homes.get(shard))
        staging.check_reserve(self.name, shard, note, self.fence(shard), self.stage(shard), kept=kept)
        return {staging.stage_of(shard): bytes(note)}

    def to_install(self, shard: int, note: bytes | None, claim: int) -> dict[str, bytes]:
        """The rows that change with pieces; raises as `Journal.install`."""
        staging.check_staged(self.name, shard, self.stage(shard))
        staging.check_note(self.name, shard, note)
        rows = {} if note is None else {staging.stage_of(shard): bytes(note)}
        if claim:
            rows[row_of(shard)] = pack_fence(staging.preclaimed(self.name, shard, claim, self.fence(shard)))
        return rows

    def to_erase(self, shard: int, limit: int) -> tuple[list[str], dict[str, bytes | None]]:
        """The keys that go, and the rows that change, None for those that go too; nothing if all is gone."""
        found, stage = self.fence(shard), self.stage(shard)
        fence = staging.closed(self.name, shard, found, stage)
        kept = self.homes.get(shard, set())
        if not kept and stage is None and not fence.written:
            return [], {}
        keys: list[str] = []
        for key in sorted(kept, key=str.encode):
            if limit <= 0:
                break
            keys.append(key)
            limit -= max(1, len(self.entries[key]))
        over = len(keys) == len(kept)
        rows: dict[str, bytes | None] = {staging.stage_of(shard): None if over else staging.ERASING}
        if found.epoch:
            rows[row_of(shard)] = pack_fence(staging.emptied(fence) if over else fence)
        return keys, rows

    def erase(self, shard: int, keys: Iterable[str]) -> None:
        """Forget keys of a shard."""
        for key in keys:
            self.entries.pop(key, None)
            self.floors.pop(key, None)
            self.snapshots.pop(key, None)
            self.heads.pop(key, None)
            self.homes[shard].discard(key)

    def change(self, rows: Mapping[str, bytes | None]) -> None:
        """Put rows, and take those away that are None."""
        for name, value in rows.items():
            if value is None:
                self.meta.pop(name, None)
            else:
                self.meta[name] = value

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
        homes: Mapping[str, int] = NO_HOMES,
    ) -> None:
        disk = self._writable()
        if not entries and not snapshots and not homes:
            return
        rows = {shard: written(disk.name, shard, epoch, self.fence(shard)) for shard, epoch in fences.items()}
        packed = [(entry.key, entry.pack(position)) for position, entry in enumerate(entries, disk.position + 1)]
        kept = [(key, snapshot.sequence, snapshot.pack()) for key, snapshot in newest(snapshots).items()]
        heads = {key: disk.heads.get(key, Head()) for key in touched(entries, snapshots)}
        advance(heads, entries, snapshots, disk.name, floors)
        for key, shard in homes.items():
            staging.check_home(key, shard, heads.get(key) or disk.heads.get(key))
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
        for key, shard in homes.items():
            disk.homes.setdefault(shard, set()).add(key)
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
        rows: dict[int, Fence] = {}
        for shard, epoch in epochs.items():
            found = disk.fence(shard)
            staging.check_claim(disk.name, shard, epoch, found, disk.stage(shard))
            rows[shard] = claimed(disk.name, shard, epoch, found)
        self._put_fences(rows)

    def seal(self, shard: int, epoch: int) -> None:
        disk = self._writable()
        self._put_fences({shard: sealed(disk.name, shard, epoch, self.fence(shard))})

    def fence(self, shard: int) -> Fence:
        return self._usable().fence(shard)

    def _put_fences(self, fences: Mapping[int, Fence]) -> None:
        self._change({row_of(shard): pack_fence(fence) for shard, fence in fences.items()})

    # -- shards that come and go ---------------------------------------------------------------------

    def shard_keys(self, shard: int, after: str = "", limit: int = 1000) -> list[str]:
        row_of(shard)
        kept, least = self._usable().homes.get(shard, set()), after.encode()
        return sorted((key for key in kept if key.encode() > least), key=str.encode)[:limit]

    def piece(self, key: str, after: int, size: int, snapshot_after: int = -1) -> Piece:
        return self._usable().piece(key, after, size, snapshot_after)

    def reserve(self, shard: int, note: bytes) -> None:
        disk = self._writable()
        self._change(disk.to_reserve(shard, note))

    def staged(self) -> dict[int, bytes]:
        disk = self._usable()
        found = {staging.staged_shard(name, disk.name): note for name, note in sorted(disk.meta.items())}
        return {shard: note for shard, note in found.items() if shard is not None}

    def install(self, shard: int, pieces: Sequence[Piece], note: bytes | None = None, claim: int = 0) -> None:
        disk = self._writable()
        rows = disk.to_install(shard, note, claim)
        fitted = disk.fit(pieces)
        self._change(rows, lambda: disk.put(shard, fitted))

    def settle(self, shard: int) -> None:
        disk = self._writable()
        staging.check_settle(disk.name, shard, disk.fence(shard), disk.stage(shard))
        self._change({staging.stage_of(shard): None})

    def erase(self, shard: int, limit: int = 2000) -> bool:
        disk = self._writable()
        keys, rows = disk.to_erase(shard, limit)
        if rows:
            self._change(rows, lambda: disk.erase(shard, keys))
        return rows.get(staging.stage_of(shard)) is None

    def _change(self, rows: Mapping[str, bytes | None], work: Callable[[], None] = lambda: None) -> None:
        self._strike("staged")
        work()
        self._disk.change(rows)
        self._strike("synced")

    # -- the rest ------------------------------------------------------------------------------------

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
