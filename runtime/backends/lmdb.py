"""The journal in LMDB: one environment, one owner, every commit on the disk before it returns.

A commit is one LMDB transaction: all of the group or nothing. It appends its entries to the log as one row,
because touching a page for every process in the group costs more than the sync does; later commits fold a
portion of the log into `entries` (`lmdb_tail`). Each entry gets its position, one more than the entry
committed before it, and keeps it: the positions order all that the node has ever accepted.

How the rows look is said in `lmdb_rows`, how a transaction is run and what its failure means in `lmdb_store`,
which directory it is and whether LMDB may be let near it in `lmdb_boot`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Final, TypeVar, final

from ..durable.fence import written
from ..durable.journal import (
    NO_FENCES,
    NO_FLOORS,
    NO_HOMES,
    EntriesDropped,
    Head,
    Journal,
    JournalStats,
    StoreDamaged,
    StoreForeign,
    StoreNewer,
    advance,
    check_meta,
    checked_entry,
    checked_snapshot,
    newest,
    touched,
)
from ..durable.record import FORMAT, MAX_KEY, Entry, Snapshot
from . import lmdb_rows as layout
from .lmdb_boot import DATA
from .lmdb_floors import SWEPT_ROWS, pack_floor, unpack_floor
from .lmdb_pages import Pages
from .lmdb_rows import Bounds
from .lmdb_shards import LmdbShards
from .lmdb_store import MAP_SIZE, Store, Transaction
from .lmdb_tail import FOLD_BYTES, FOLD_ENTRIES, Portion, Tail, pack_group, unpack_group

T = TypeVar("T")

# A head costs some 200 bytes of memory and 2 us to look up; processes that work are far fewer.
_CACHED_HEADS: Final = 65536
# Groups deleted with one commit after they were folded.
_DELETED_GROUPS: Final = 512


@final
class LmdbJournal(LmdbShards):
    """A `Journal` kept in a directory. Made by `open`; may be used from any one thread at a time."""

    def __init__(self, store: Store, *, wall: float, node: str) -> None:
        super().__init__(store)
        self._commits = 0
        self._cached: dict[str, Head] = {}
        # What the log holds. None: to be read (again).
        self._held: Tail | None = None
        store.doubt = self._forget
        self._epoch = store.read(self._checked_epoch) if store.read_only else self._begin_epoch(wall, node)
        store.epoch = self._epoch

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        wall: Callable[[], float],
        node: str = "",
        map_size: int = MAP_SIZE,
        read_only: bool = False,
        relaxed: bool = False,
        adopter: str = "",
    ) -> LmdbJournal:
        """Open the store in a directory, or make one in a new or empty directory.

        Boots in constant time, whatever the store holds, also after a kill -9. The epoch is one more than
        at the last open, durably, before this returns.

        Args:
            path: the store's own directory; made (0700) if it is not there, with those above it.
            wall: seconds since the Unix epoch; kept with the epoch, for people.
            node: whose store it is; "" asks nothing. The first name given is kept and held against later
                ones.
            map_size: bytes of address space to map, at least 16 MiB. More than the store will ever hold
                costs nothing; halved as often as the system refuses it, doubled whenever it is full.
            read_only: read a store that no node has open; several readers may. Changes nothing in it.
            relaxed: a loss of power may take the last group that was committed; kill -9 takes nothing.
            adopter: the node that opens it in the place of its own; then it must be there, and whoever finds it in
                use is told by whom.

        Raises:
            StoreInUse: another process has it open, or this one.
            StoreNotWritable: the directory cannot be made or written.
            StoreForeign: it holds other things, or another node's store.
            StoreNewer: it is of a later format.
            StoreDamaged: its marker, its meta pages or its length are not what was written, or it is an older
                copy of what has run here.
            StoreMissing: `read_only` or adopted, and there is none.
            StoreFull, StoreFailed: no room; anything else.
        """
        path, metasync = os.fspath(path), not relaxed
        with Store.opening(path, map_size, read_only=read_only, metasync=metasync, adopter=adopter) as store:
            return cls(store, wall=wall(), node=node)

    @property
    def epoch(self) -> int:
        return self._epoch

    @property
    def path(self) -> str:
        return self._path

    @property
    def bounds(self) -> Bounds:
        """Of the log, as they are now."""
        self._tail()
        return self._bounds

    # -- writing -------------------------------------------------------------------------------------

    def commit(
        self,
        entries: Sequence[Entry],
        snapshots: Sequence[Snapshot] = (),
        floors: Mapping[str, int] = NO_FLOORS,
        fences: Mapping[int, int] = NO_FENCES,
        homes: Mapping[str, int] = NO_HOMES,
    ) -> None:
        store = self._store
        store.check_writable()
        if entries:
            store.check_room()
        if entries or snapshots or homes:
            self._commit(entries, snapshots, floors, fences, homes)
            self._commits += 1

    def fold(self) -> None:
        """Put all that the log holds into the rows where it belongs, and empty it; errors as for `commit`."""
        self._store.check_writable()
        while self._tail() or self._bounds.first <= self._bounds.last:
            if not self._tail().folding_to:
                self._tail().begin(self._bounds.last)
            self._commit((), ())

    def _commit(
        self,
        entries: Sequence[Entry],
        snapshots: Sequence[Snapshot],
        floors: Mapping[str, int] = NO_FLOORS,
        fences: Mapping[int, int] = NO_FENCES,
        homes: Mapping[str, int] = NO_HOMES,
        *,
        folded: int = 0,
    ) -> None:
        with self._store.writing:
            self._commit_alone(entries, snapshots, floors, fences, homes, folded)

    def _commit_alone(
        self,
        entries: Sequence[Entry],
        snapshots: Sequence[Snapshot],
        floors: Mapping[str, int],
        fences: Mapping[int, int],
        homes: Mapping[str, int],
        least: int,
    ) -> None:
        """Write a group, and fold some of what was written before: `least` entries, or more."""
        tail, bounds = self._tail(), self._bounds
        # Packed before the transaction begins: a record out of its bounds is refused with nothing begun.
        rows = [entry.pack(position) for position, entry in enumerate(entries, bounds.position + 1)]
        group = pack_group(entries, rows) if rows else b""
        kept = [(snapshot, snapshot.pack()) for snapshot in newest(snapshots).values()]
        keys = touched(entries, snapshots)
        store, in_log, cached = self._store, tail.heads, self._cached

        def work(txn: Transaction) -> tuple[dict[str, Head], Bounds, list[Portion]]:
            for shard, epoch in fences.items():
                self._put_fence(txn, shard, epoch, written)
            first, last = bounds.first, bounds.last
            heads = {key: in_log.get(key) or cached.get(key) or self._head(txn, key) for key in keys}
            advance(heads, entries, snapshots, self._path, floors)
            if group:
                last += 1
                if not txn.put(layout.number_key(last), group, overwrite=False, append=True, db=store.log):
                    raise StoreDamaged(self._path, f"group {last} of its log exists, though the last one is {last - 1}")
            for snapshot, packed in kept:
                self._put_snapshot(txn, snapshot, packed)
            for key, floor in floors.items():
                self._raise_floor(txn, key, floor)
            for key, shard in homes.items():
                self._note_home(txn, key, shard, heads.get(key))
            folded: list[Portion] = []
            if tail.done:
                until = min(tail.folding_to, first + _DELETED_GROUPS - 1)
                for number in range(first, until + 1):
                    txn.delete(layout.number_key(number), db=store.log)
                first = until + 1
            elif tail.folding_to:
                folded = tail.portion(max(FOLD_ENTRIES, 2 * len(rows), least))
                self._fold(txn, folded)
            moved = Bounds(first, last, bounds.position + len(rows))
            if (first, last) != (bounds.first, bounds.last):
                txn.put(layout.BOUNDS_ROW, moved.pack(), db=store.meta)
            return heads, moved, folded

        heads, self._bounds, folded = store.write(work)
        self._remember(heads)
        tail.folded(folded)
        tail.take(entries, rows, heads)
        if tail.folding_to and self._bounds.first > tail.folding_to:
            tail.finish()
        self._begin_folding(tail)

    def _raise_floor(self, txn: Transaction, key: str, floor: int) -> None:
        """Keep a key's history from `floor` on, and delete some of what lies below."""
        before, unswept = unpack_floor(key, txn.get(key.encode(), db=self._store.floors), self._path)
        last = self._stored_head(txn, key).sequence
        first = max(before, floor)
        for sequence in range(unswept, min(first, last + 1, unswept + SWEPT_ROWS)):
            txn.delete(layout.entry_key(key, sequence), db=self._store.entries)
            unswept = sequence + 1
        txn.put(key.encode(), pack_floor(key, first, unswept), db=self._store.floors)

    def _first(self, txn: Transaction, key: str) -> int:
        if self._store.floors is None:
            return 1
        return unpack_floor(key, txn.get(layout.name(key), db=self._store.floors), self._path)[0]

    def _begin_folding(self, tail: Tail) -> None:
        if tail.size >= FOLD_BYTES and not tail.folding_to:
            tail.begin(self._bounds.last)

    def _fold(self, txn: Transaction, portion: list[Portion]) -> None:
        """Put entries of the log where they belong, and say in the heads how far they go."""
        put, entries, heads = txn.put, self._store.entries, self._store.heads
        for key, rows, head in portion:
            for sequence, packed in rows:
                put(layout.entry_key(key, sequence), packed, db=entries)
            put(key.encode(), layout.pack_head(key, head), db=heads)

    def _tail(self) -> Tail:
        """What the log holds; read from the store if that is not known."""
        if self._held is not None:
            return self._held
        store = self._store

        def work(txn: Transaction) -> Tail:
            tail = Tail()
            stored = layout.unsummed(layout.BOUNDS_ROW, txn.get(layout.BOUNDS_ROW, db=store.meta), self._path)
            self._bounds = bounds = Bounds.unpack(stored, self._path)
            first, last = bounds.first, bounds.last
            held = txn.stat(store.log)["entries"]
            if held > last - first + 1:
                raise StoreDamaged(self._path, f"its log has {held} groups, and should go from {first} to {last}")
            for number in range(first, last + 1):
                packed = txn.get(layout.number_key(number), db=store.log)
                group = unpack_group(packed) if packed is not None else None
                if group is None:
                    raise StoreDamaged(self._path, f"group {number} of its log, which goes from {first} to {last}")
                for one in group:
                    head = tail.heads.get(one.key) or self._stored_head(txn, one.key)
                    if one.sequence <= head.sequence:
                        continue  # folded before, and its group not deleted yet
                    if one.sequence != head.sequence + 1:
                        raise StoreDamaged(
                            self._path, f"it is missing, and {one.sequence} exists", one.key, head.sequence + 1
                        )
                    tail.add(one.key, one.sequence, one.epoch, one.packed)
                if not tail.heads:
                    tail.begin(number)  # all folded up to here: what is left to do is to delete it
            return tail

        self._held = tail = store.read(work)
        self._begin_folding(tail)
        return tail

    def _put_snapshot(self, txn: Transaction, snapshot: Snapshot, packed: bytes) -> None:
        name = snapshot.key.encode()
        stored = txn.get(name, db=self._store.snapshots)
        if stored is not None:
            try:
                if checked_snapshot(stored, snapshot.key, self._path).sequence > snapshot.sequence:
                    return
            except StoreDamaged:
                pass  # the new one comes from a whole state; one bad snapshot must not fail others' commit
        txn.put(name, packed, db=self._store.snapshots)

    def set_meta(self, name: str, value: bytes) -> None:
        key = b"m" + check_meta(name, value)
        store = self._store
        store.check_writable()
        store.write(lambda txn: txn.put(key, layout.summed(key, value), db=store.meta))

    def _forget(self) -> None:
        """Nobody knows what the store holds now: read it anew."""
        self._cached.clear()
        self._held = None

    def _remember(self, heads: Mapping[str, Head]) -> None:
        cached = self._cached
        cached.update(heads)
        if len(cached) > _CACHED_HEADS:
            for key in list(islice(cached, len(cached) // 2)):
                del cached[key]

    # -- reading -------------------------------------------------------------------------------------

    def head(self, key: str) -> int:
        self._store.check_usable()
        cached = self._cached.get(key)
        if cached is None:
            cached = self._read(lambda txn: self._head(txn, key))
            self._remember({key: cached})
        return cached.sequence

    def load(self, key: str) -> tuple[Snapshot | None, list[Entry]]:
        def work(txn: Transaction) -> tuple[Snapshot | None, list[Entry]]:
            stored = txn.get(layout.name(key), db=self._store.snapshots)
            if stored is None:
                return None, self._history(txn, key, 0, None)
            snapshot = checked_snapshot(stored, key, self._path)
            head = self._head(txn, key).sequence
            if snapshot.sequence > head:
                raise StoreDamaged(self._path, f"its snapshot is of {snapshot.sequence}, its head {head}", key)
            return snapshot, self._history(txn, key, snapshot.sequence, None)

        return self._read(work)

    def first(self, key: str) -> int:
        return self._read(lambda txn: self._first(txn, key))

    def read(self, key: str, after: int = 0, limit: int | None = None) -> list[Entry]:
        return self._read(lambda txn: self._history(txn, key, max(after, 0), limit))

    def _history(self, txn: Transaction, key: str, after: int, limit: int | None) -> list[Entry]:
        """A key's entries above `after`; refused if one is missing, the last one too.

        Each is looked up by itself: a cursor that steps onto a zeroed page ends the program (an assertion in
        `mdb_cursor_next`), where a look-up reports it.
        """
        stored = self._stored_head(txn, key).sequence
        head = self._head(txn, key).sequence
        first = self._first(txn, key)
        if after + 1 < first:
            raise EntriesDropped(self._path, key, after + 1, first)
        last = head if limit is None else min(head, after + limit)
        found: list[Entry] = []
        for sequence in range(after + 1, min(last, stored) + 1):
            packed = txn.get(layout.entry_key(key, sequence), db=self._store.entries)
            if packed is None:
                raise StoreDamaged(self._path, f"it is missing, though there are {head}", key, sequence)
            found.append(checked_entry(packed, key, sequence, self._path))
        for sequence, packed in self._tail().rows(key):
            if after < sequence <= last:
                found.append(checked_entry(packed, key, sequence, self._path))
        return found

    def _head(self, txn: Transaction, key: str) -> Head:
        head = self._tail().heads.get(key) or self._cached.get(key)
        if head is None:
            head = self._stored_head(txn, key)
            # Asked for even if the head says that there is nothing: the head may be what was lost.
            if txn.get(layout.entry_key(key, head.sequence + 1), db=self._store.entries) is not None:
                raise StoreDamaged(
                    self._path, f"it exists, though the last one is {head.sequence}", key, head.sequence + 1
                )
        return head

    def _stored_head(self, txn: Transaction, key: str) -> Head:
        return layout.unpack_head(key, txn.get(layout.name(key), db=self._store.heads), self._path)

    def keys(self, prefix: str = "") -> list[str]:
        # The one operation that walks from page to page.
        def work(txn: Transaction) -> list[str]:
            with Pages.reading(os.path.join(self._path, DATA)) as pages:
                if pages.check(b"heads"):
                    raise StoreDamaged(self._path, f"page {pages.broken[0]} of {DATA} is not one of its heads")
            wanted = prefix.encode()
            found = [key for key in self._tail().heads if key.startswith(prefix)]
            cursor = txn.cursor(self._store.heads)
            if len(wanted) <= MAX_KEY and (cursor.set_range(wanted) if wanted else cursor.first()):
                for row in cursor.iternext(keys=True, values=False):
                    if not row.startswith(wanted):
                        break
                    found.append(row.decode())
            return sorted(dict.fromkeys(found), key=str.encode)

        return self._read(work)

    def get_meta(self, name: str) -> bytes | None:
        key = b"m" + check_meta(name, b"")
        return self._store.read(lambda txn: self._stored_meta(txn, key))

    def stats(self) -> JournalStats:
        store = self._store

        def work(txn: Transaction) -> JournalStats:
            info = store.environment.info()
            return JournalStats(
                keys=txn.stat(store.heads)["entries"] + self._unfolded_keys(txn),
                entries=txn.stat(store.entries)["entries"] + len(self._tail()),
                snapshots=txn.stat(store.snapshots)["entries"],
                commits=self._commits,
                bytes_used=(info["last_pgno"] + 1) * txn.stat(store.heads)["psize"],
                bytes_limit=info["map_size"],
                position=self._bounds.position,
                full=store.ballast.lacking,
            )

        return self._read(work)

    def _unfolded_keys(self, txn: Transaction) -> int:
        return sum(1 for key in self._tail().heads if txn.get(key.encode(), db=self._store.heads) is None)

    def check_readers(self) -> int:
        """Free the slots of readers that died; how many. An old reader keeps pages from being used again."""
        self._store.check_usable()
        return self._store.environment.reader_check()

    def _read(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in a read transaction that ends with it, with the log's content at hand."""
        self._store.check_usable()
        self._tail()
        return self._store.read(work)

    # -- opening and closing -------------------------------------------------------------------------

    def _begin_epoch(self, wall: float, node: str) -> int:
        """Check whose store it is and of which format, and raise the epoch; one transaction."""
        store = self._store

        def work(txn: Transaction) -> int:
            new = txn.stat(store.meta)["entries"] == 0
            if new and store.claim.made == "ready":
                raise StoreDamaged(self._path, "its format and epoch are gone")
            if new:
                txn.put(layout.FORMAT_ROW, layout.summed(layout.FORMAT_ROW, str(FORMAT).encode()), db=store.meta)
            epoch = 1 + (0 if new else self._checked_epoch(txn))
            txn.put(layout.EPOCH_ROW, layout.pack_epoch(epoch, wall), db=store.meta)
            owner = (self._stored_meta(txn, layout.NODE_ROW) or b"").decode()
            if node and owner and node != owner:
                raise StoreForeign(self._path, f"the store of node {owner!r}, not of {node!r}")
            if node and not owner:
                txn.put(layout.NODE_ROW, layout.summed(layout.NODE_ROW, node.encode()), db=store.meta)
            return epoch

        return store.write(work)

    def _checked_epoch(self, txn: Transaction) -> int:
        found = self._stored_meta(txn, layout.FORMAT_ROW)
        epoch = layout.unpack_epoch(self._stored_meta(txn, layout.EPOCH_ROW))
        if found is None or not epoch or not found.isdigit():
            raise StoreDamaged(self._path, "its format or epoch is gone")
        if int(found) > FORMAT:
            raise StoreNewer(self._path, int(found))
        if epoch < self._store.claim.epoch:
            raise StoreDamaged(
                self._path, f"its data is of epoch {epoch}, but epoch {self._store.claim.epoch} ran here: an older copy"
            )
        return epoch

    def close(self) -> None:
        self._store.close()


# The type checker holds the class against the port here.
_port: type[Journal] = LmdbJournal
