"""The part of the journal in LMDB that is about shards: their fences, and how they come and go.

What comes is put straight into the rows where it belongs, as a portion of the log would be, since a piece has
many entries of one key. What goes is first waited for: as long as the log holds a group that may have an entry
of the shard, its rows must stay, because a boot puts back what the log has beyond the rows. So an erasure folds
the log up to where it stood, a slice at a time, and then deletes: of each key the snapshot, the entries from
the last one down, with the head following, and in the end the head, the floor and the row of the index.

The positions that go with that are counted in a row of `meta`, so that a check can tell what was erased from
what is lost: the last position is the sum of all heads and of that row.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from ..durable import staging
from ..durable.carriage import Piece
from ..durable.fence import claimed, pack_fence, row_of, sealed, unpack_fence
from ..durable.journal import Fence, Head, StoreDamaged, checked_snapshot
from ..durable.record import Entry, Snapshot, entry_epoch, snapshot_sequence
from . import lmdb_rows as layout
from .lmdb_boot import DATA
from .lmdb_floors import pack_floor, unpack_floor
from .lmdb_homes import SHARDS, home_row, home_value, unpack_home
from .lmdb_pages import Pages
from .lmdb_rows import Bounds
from .lmdb_store import Store, Transaction
from .lmdb_tail import Tail

T = TypeVar("T")
# A rule of `runtime.durable.fence`: path, shard, epoch and the row that was found -> the row to be.
FenceRule = Callable[[str, int, int, Fence], Fence]


class LmdbShards(ABC):
    """What `LmdbJournal` does for shards; the abstract methods are what it needs for that."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._path = store.path
        self._bounds = Bounds()
        # By shard that is being erased: the last group of the log that may have something of it.
        self._log_until: dict[int, int] = {}
        self._index_is_whole = False

    @abstractmethod
    def _tail(self) -> Tail:
        """What the log holds; makes `_bounds` what it is."""

    @abstractmethod
    def _head(self, txn: Transaction, key: str) -> Head: ...

    @abstractmethod
    def _stored_head(self, txn: Transaction, key: str) -> Head: ...

    @abstractmethod
    def _first(self, txn: Transaction, key: str) -> int: ...

    @abstractmethod
    def _raise_floor(self, txn: Transaction, key: str, floor: int) -> None: ...

    @abstractmethod
    def _remember(self, heads: Mapping[str, Head]) -> None: ...

    @abstractmethod
    def _commit(self, entries: Sequence[Entry], snapshots: Sequence[Snapshot], *, folded: int) -> None: ...

    @abstractmethod
    def fold(self) -> None: ...

    @abstractmethod
    def _read(self, work: Callable[[Transaction], T]) -> T: ...

    # -- fences --------------------------------------------------------------------------------------

    def claim(self, epochs: Mapping[int, int]) -> None:
        def work(txn: Transaction) -> None:
            for shard, epoch in epochs.items():
                staging.check_claim(self._path, shard, epoch, self._fence(txn, shard), self._stage(txn, shard))
                self._put_fence(txn, shard, epoch, claimed)

        self._store.check_writable()
        self._store.write(work)

    def seal(self, shard: int, epoch: int) -> None:
        self._store.check_writable()
        self._store.write(lambda txn: self._put_fence(txn, shard, epoch, sealed))

    def fence(self, shard: int) -> Fence:
        row_of(shard)
        return self._store.read(lambda txn: self._fence(txn, shard))

    def _fence(self, txn: Transaction, shard: int) -> Fence:
        return unpack_fence(self._stored_meta(txn, b"m" + row_of(shard).encode()), shard, self._path)

    def _put_fence(self, txn: Transaction, shard: int, epoch: int, judge: FenceRule) -> None:
        found = self._fence(txn, shard)
        self._change_fence(txn, shard, found, judge(self._path, shard, epoch, found))

    def _change_fence(self, txn: Transaction, shard: int, found: Fence, fence: Fence) -> None:
        if fence != found:
            self._put_meta(txn, b"m" + row_of(shard).encode(), pack_fence(fence))

    def _stored_meta(self, txn: Transaction, row: bytes) -> bytes | None:
        return layout.unsummed(row, txn.get(row, db=self._store.meta), self._path)

    def _put_meta(self, txn: Transaction, row: bytes, value: bytes) -> None:
        txn.put(row, layout.summed(row, value), db=self._store.meta)

    # -- the index -----------------------------------------------------------------------------------

    def shard_keys(self, shard: int, after: str = "", limit: int = 1000) -> list[str]:
        row_of(shard)
        self._store.check_usable()
        if not self._index_is_whole:
            # A cursor that steps onto a ruined page ends the program; what is written later is looked at by LMDB.
            with Pages.reading(os.path.join(self._path, DATA)) as pages:
                if pages.check(SHARDS):
                    raise StoreDamaged(self._path, f"page {pages.broken[0]} of {DATA} is not one of its index")
            self._index_is_whole = True
        return self._store.read(lambda txn: self._homes(txn, shard, after, limit))

    def _homes(self, txn: Transaction, shard: int, after: str, limit: int) -> list[str]:
        """The keys of a shard above one."""
        found: list[str] = []
        if self._store.shards is None:
            return found
        cursor = txn.cursor(self._store.shards)
        # No key is longer than 255 bytes, and the least one above another has a zero behind it.
        if limit > 0 and cursor.set_range(home_row(shard, after.encode()[:256] + b"\0")):
            for row, value in cursor.iternext():
                home, key = unpack_home(row, value, self._path)
                if home != shard or len(found) == limit:
                    break
                found.append(key)
        return found

    def _note_home(self, txn: Transaction, key: str, shard: int, head: Head | None = None) -> None:
        staging.check_home(key, shard, head or self._head(txn, key))
        row = home_row(shard, key.encode())
        txn.put(row, home_value(row), overwrite=False, db=self._store.shards)

    # -- what goes out -------------------------------------------------------------------------------

    def piece(self, key: str, after: int, size: int, snapshot_after: int = -1) -> Piece:
        return self._read(lambda txn: self._piece(txn, key, after, size, max(snapshot_after, 0)))

    def _piece(self, txn: Transaction, key: str, after: int, size: int, snapshot_after: int) -> Piece:
        stored = self._stored_head(txn, key)
        head, first = self._tail().heads.get(key) or stored, self._first(txn, key)
        after = min(max(after, first - 1), head.sequence)
        rows: list[bytes] = []
        for packed in self._rows(txn, key, after, stored.sequence):
            if rows and len(packed) > size:
                break
            rows.append(packed)
            size -= len(packed)
        epoch = entry_epoch(rows[-1]) if rows else head.epoch
        snapshot = txn.get(layout.name(key), db=self._store.snapshots) or b""
        if snapshot and not snapshot_after < snapshot_sequence(snapshot) <= after + len(rows):
            # Not to be sent; or what it says of itself is not true.
            if checked_snapshot(snapshot, key, self._path).sequence > head.sequence:
                raise StoreDamaged(self._path, f"its snapshot is ahead of its head, {head.sequence}", key)
            snapshot = b""
        return Piece(key, first, after, epoch, tuple(rows), snapshot)

    def _rows(self, txn: Transaction, key: str, after: int, stored: int) -> Iterator[bytes]:
        """A key's packed entries above `after`; `stored` is the last one that has a row."""
        for sequence in range(after + 1, stored + 1):
            packed = txn.get(layout.entry_key(key, sequence), db=self._store.entries)
            if packed is None:
                raise StoreDamaged(self._path, f"it is missing, though there are {stored}", key, sequence)
            yield packed
        for sequence, packed in self._tail().rows(key):
            if sequence > after:
                yield packed

    # -- what comes in -------------------------------------------------------------------------------

    def reserve(self, shard: int, note: bytes) -> None:
        def work(txn: Transaction) -> None:
            found, stage = self._fence(txn, shard), self._stage(txn, shard)
            staging.check_reserve(self._path, shard, note, found, stage, kept=bool(self._homes(txn, shard, "", 1)))
            self._put_meta(txn, _stage_row(shard), note)

        self._write(work)

    def staged(self) -> dict[int, bytes]:
        def work(txn: Transaction) -> dict[int, bytes]:
            found: dict[int, bytes] = {}
            cursor = txn.cursor(self._store.meta)
            if cursor.set_range(_STAGES):
                for row in cursor.iternext(keys=True, values=False):
                    shard = staging.staged_shard(row[1:].decode(errors="replace"), self._path)
                    if shard is None:
                        break
                    found[shard] = self._stored_meta(txn, row) or staging.ERASING
            return found

        return self._store.read(work)

    def install(self, shard: int, pieces: Sequence[Piece], note: bytes | None = None, claim: int = 0) -> None:
        store = self._store
        store.check_writable()
        if pieces:
            store.check_room()
        staging.check_note(self._path, shard, note)
        in_log = self._tail().heads
        if any(piece.key in in_log for piece in pieces):
            self.fold()  # what comes goes behind what is there, and that must be in its rows

        def work(txn: Transaction) -> tuple[dict[str, Head], Bounds]:
            staging.check_staged(self._path, shard, self._stage(txn, shard))
            if claim:
                found = self._fence(txn, shard)
                self._change_fence(txn, shard, found, staging.preclaimed(self._path, shard, claim, found))
            if note is not None:
                self._put_meta(txn, _stage_row(shard), note)
            bounds = self._bounds
            heads, position, owed = self._put_pieces(txn, shard, pieces, bounds.position)
            moved = Bounds(bounds.first, bounds.last, position)
            if position != bounds.position:
                txn.put(layout.BOUNDS_ROW, moved.pack(), db=store.meta)
            self._owe(txn, owed)
            return heads, moved

        with store.writing:
            heads, self._bounds = store.write(work)
            self._remember(heads)
        store.sync_last()

    def _put_pieces(
        self, txn: Transaction, shard: int, pieces: Sequence[Piece], position: int
    ) -> tuple[dict[str, Head], int, int]:
        """Put pieces into their places; the heads then, the last position, and the positions no head counts."""
        places: dict[str, staging.Place] = {}
        heads: dict[str, Head] = {}
        owed = 0
        for piece in pieces:
            key = piece.key
            place = places.get(key)
            if place is None:
                place = places[key] = self._place(txn, key)
            last, first = place.head.sequence, place.first
            fitted = staging.fit(piece, place, position, self._path)
            position += len(fitted.rows)
            owed += len(fitted.rows) - (fitted.head.sequence - last)
            self._put_fitted(txn, fitted, first, last)
            if key not in heads:
                self._note_home(txn, key, shard, fitted.head)
            heads[key] = fitted.head
        return heads, position, owed

    def _place(self, txn: Transaction, key: str) -> staging.Place:
        head = self._stored_head(txn, key)
        if not head.sequence:
            return staging.Place(head)  # there is nothing else of a key without a head
        snapshot = txn.get(key.encode(), db=self._store.snapshots)
        return staging.Place(head, self._first(txn, key), snapshot_sequence(snapshot) if snapshot is not None else 0)

    def _put_fitted(self, txn: Transaction, fitted: staging.Fitted, first: int, last: int) -> None:
        """Put one piece into its rows; `first` and `last` are the key's entries up to now."""
        key, put, store = fitted.key, txn.put, self._store
        name = key.encode()
        if fitted.first > first:
            if last < fitted.first:
                self._leave_behind(txn, key, fitted.first, last)
            else:
                self._raise_floor(txn, key, fitted.first)
        for sequence, packed in fitted.rows:
            if not put(layout.entry_key(key, sequence), packed, overwrite=False, db=store.entries):
                raise StoreDamaged(self._path, f"it exists, though the last one is {last}", key, sequence)
        put(name, layout.pack_head(key, fitted.head), db=store.heads)
        if fitted.snapshot:
            put(name, fitted.snapshot, db=store.snapshots)

    def _leave_behind(self, txn: Transaction, key: str, floor: int, last: int) -> None:
        """Raise a floor over all that is here of a key."""
        name = key.encode()
        _, unswept = unpack_floor(key, txn.get(name, db=self._store.floors), self._path)
        for sequence in range(unswept, last + 1):
            txn.delete(layout.entry_key(key, sequence), db=self._store.entries)
        txn.put(name, pack_floor(key, floor, floor), db=self._store.floors)

    def settle(self, shard: int) -> None:
        def work(txn: Transaction) -> None:
            staging.check_settle(self._path, shard, self._fence(txn, shard), self._stage(txn, shard))
            txn.delete(_stage_row(shard), db=self._store.meta)

        self._write(work)

    # -- what goes for good --------------------------------------------------------------------------

    def erase(self, shard: int, limit: int = 2000) -> bool:
        store = self._store
        store.check_writable()
        with store.writing:
            tail = self._tail()
            if not self._begin_to_erase(shard):
                return True
            if self._bounds.first <= self._log_until[shard]:
                if not tail.folding_to:
                    tail.begin(self._bounds.last)
                self._commit((), (), folded=limit)
                return False
            heads, over = store.write(lambda txn: self._erase(txn, shard, max(limit, 1)))
            self._remember(heads)
            if over:
                del self._log_until[shard]
        return over

    def _begin_to_erase(self, shard: int) -> bool:
        """Close a shard, and say durably that it is being erased; False if there is nothing of it."""

        def look(txn: Transaction) -> tuple[Fence, Fence, bytes | None, bool]:
            found, stage = self._fence(txn, shard), self._stage(txn, shard)
            fence = staging.closed(self._path, shard, found, stage)
            return found, fence, stage, bool(self._homes(txn, shard, "", 1))

        found, fence, stage, kept = self._store.read(look)
        if stage is None and not kept and not fence.written:
            return False
        if stage != staging.ERASING or fence != found:

            def close(txn: Transaction) -> None:
                self._change_fence(txn, shard, found, fence)
                self._put_meta(txn, _stage_row(shard), staging.ERASING)

            self._store.write(close)
            # Where nobody has ever written it, the log has nothing of it: pieces go straight into their rows.
            self._log_until[shard] = self._bounds.last if stage is None or found.written else 0
        # Begun in an earlier life: the log has nothing of it that came since.
        self._log_until.setdefault(shard, self._bounds.last)
        return True

    def _erase(self, txn: Transaction, shard: int, limit: int) -> tuple[dict[str, Head], bool]:
        """Delete some rows of a shard that has none in the log; the heads then, and whether nothing is left."""
        keys = self._homes(txn, shard, "", limit + 1)
        heads: dict[str, Head] = {}
        owed, left = 0, limit
        for key in keys:
            before = self._stored_head(txn, key)
            heads[key], left = self._erase_rows(txn, key, before, left)
            owed += before.sequence - heads[key].sequence
            if not heads[key].sequence:
                txn.delete(home_row(shard, key.encode()), db=self._store.shards)
            if left <= 0:
                break
        over = len(heads) == len(keys) and not (keys and heads[keys[-1]].sequence)
        if over:
            txn.delete(_stage_row(shard), db=self._store.meta)
            found = self._fence(txn, shard)
            self._change_fence(txn, shard, found, staging.emptied(found))
        self._owe(txn, owed)
        return heads, over

    def _erase_rows(self, txn: Transaction, key: str, head: Head, left: int) -> tuple[Head, int]:
        """Delete up to `left` of a key's records; the head then, of no entry if all are gone, and what is left."""
        delete, store, name = txn.delete, self._store, key.encode()
        delete(name, db=store.snapshots)
        floor = txn.get(name, db=store.floors)
        first, unswept = unpack_floor(key, floor, self._path)
        while left > 0 and unswept < first and unswept <= head.sequence:
            delete(layout.entry_key(key, unswept), db=store.entries)
            unswept += 1
            left -= 1
        last = head.sequence
        while left > 0 and last >= first:
            delete(layout.entry_key(key, last), db=store.entries)
            last -= 1
            left -= 1
        if left <= 0:
            if floor is not None:
                txn.put(name, pack_floor(key, first, unswept), db=store.floors)
            head = Head(last, head.epoch)
            if last:
                txn.put(name, layout.pack_head(key, head), db=store.heads)
                return head, left
        delete(name, db=store.floors)
        delete(name, db=store.heads)
        return Head(), left - 1

    def _stage(self, txn: Transaction, shard: int) -> bytes | None:
        return self._stored_meta(txn, _stage_row(shard))

    def _owe(self, txn: Transaction, more: int) -> None:
        if more:
            owed = layout.unpack_owed(self._stored_meta(txn, layout.OWED_ROW), self._path)
            txn.put(layout.OWED_ROW, layout.pack_owed(owed + more), db=self._store.meta)

    def _write(self, work: Callable[[Transaction], None]) -> None:
        self._store.check_writable()
        self._store.write(work)


_STAGES = b"mstage/"


def _stage_row(shard: int) -> bytes:
    return b"m" + staging.stage_of(shard).encode()
