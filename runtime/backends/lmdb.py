"""The journal in LMDB: one environment, one owner, every commit on the disk before it returns.

Durability: what `commit` returned from survives kill -9 and power loss, torn sectors included (sync and
metasync are on; the file is never mapped for writing, because then a full disk is a SIGBUS). A commit is one
LMDB transaction: all of the group or nothing. LMDB carries on after a failed fdatasync as if nothing had
happened, so any error but "no room" ends this journal.

Layout, four databases in one environment:

    meta        name -> crc32, value             format, epoch, node, and what `set_meta` keeps
    entries     key length, key, sequence -> record    a key's entries lie together, in order
    snapshots   key -> record
    heads       key -> sequence, epoch, crc32    shows when a key's last entries are gone

Nothing that is open in LMDB outlives a call: no read transaction is kept, since an old one makes the file
grow without bound, and the map may grow between calls only. Which directory, whose it is and whether the
file may be mapped at all is decided in `lmdb_boot`. Sources: LMDB's `lmdb.h`; design facts from 4,000 crash
and power-loss runs.
"""

from __future__ import annotations

import os
import struct
import threading
import weakref
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final, TypeVar, final
from zlib import crc32

import lmdb

from ..durable.journal import (
    Head,
    Journal,
    JournalStats,
    StoreClosed,
    StoreDamaged,
    StoreError,
    StoreFailed,
    StoreForeign,
    StoreFull,
    StoreNewer,
    advance,
    check_meta,
    checked_entry,
    checked_snapshot,
    newest,
    touched,
)
from ..durable.record import FORMAT, MAX_KEY, Entry, Snapshot
from ..errors import BanyanError, Misuse
from . import lmdb_boot as boot

T = TypeVar("T")

MAP_SIZE: Final = 64 << 30  # bytes of address space, not of disk
# A head costs some 200 bytes of memory and 2 us to look up; processes that work are far fewer.
_CACHED_HEADS: Final = 65536

_HEAD = struct.Struct(">QQ")
_EPOCH = struct.Struct(">Qd")  # the incarnation, and when it was opened, in seconds since the Unix epoch
_CRC = struct.Struct(">I")
_SEQUENCE = struct.Struct(">Q")

# Journals of this process, by id of their environment, for the guard below.
_open: weakref.WeakValueDictionary[int, LmdbJournal] = weakref.WeakValueDictionary()


def _after_fork() -> None:
    # A child that wrote would corrupt the parent's store, and one that lived on would keep its lock.
    for journal in list(_open.values()):
        journal._disown()


os.register_at_fork(after_in_child=_after_fork)


@final
class LmdbJournal:
    """A `Journal` kept in a directory. Made by `open`; may be used from any one thread at a time."""

    def __init__(
        self, claim: boot.Claim, environment: lmdb.Environment, *, wall: float, node: str, read_only: bool
    ) -> None:
        self._claim = claim
        self._path = claim.path
        self._environment = environment
        self._read_only = read_only
        self._pid = os.getpid()
        self._closed = ""  # why, once it is
        self._failure = ""
        self._commits = 0
        self._cached: dict[str, Head] = {}
        # LMDB has one writer; and while the map grows nobody may read. Held for one call only.
        self._writing = threading.Lock()
        self._mapped = threading.Lock()
        self._meta, self._entries, self._snapshots, self._heads = (
            self._database(name) for name in (b"meta", b"entries", b"snapshots", b"heads")
        )
        self._epoch = self._begin_epoch(wall, node) if not read_only else self._last_epoch()
        _open[id(environment)] = self

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        wall: Callable[[], float],
        node: str = "",
        map_size: int = MAP_SIZE,
        read_only: bool = False,
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

        Raises:
            StoreInUse: another process has it open, or this one.
            StoreNotWritable: the directory cannot be made or written.
            StoreForeign: it holds other things, or another node's store.
            StoreNewer: it is of a later format.
            StoreDamaged: its marker, its meta pages or its length are not what was written.
            StoreMissing: `read_only`, and there is none.
            StoreFull, StoreFailed: no room; anything else.
        """
        claim = boot.claim(os.fspath(path), read_only=read_only)
        environment: lmdb.Environment | None = None
        try:
            if not read_only:
                claim.note(os.getpid(), claim.epoch)
            if claim.made == "ready":
                boot.check_data(claim.path)
            else:
                boot.discard(claim.path)
                boot.mark(claim.path, "making")
            environment = boot.environment(claim.path, map_size, read_only=read_only)
            journal = cls(claim, environment, wall=wall(), node=node, read_only=read_only)
            if claim.made != "ready":
                boot.mark(claim.path, "ready")
            if not read_only:
                claim.note(os.getpid(), journal.epoch)
        except BaseException as error:
            if environment is not None:
                environment.close()
            claim.release()
            if isinstance(error, lmdb.Error):
                raise boot.told_by_lmdb(claim.path, error) from error
            if isinstance(error, OSError):
                raise boot.told(claim.path, error) from error
            raise
        return journal

    @property
    def epoch(self) -> int:
        return self._epoch

    @property
    def path(self) -> str:
        return self._path

    # -- writing -------------------------------------------------------------------------------------

    def commit(self, entries: Sequence[Entry], snapshots: Sequence[Snapshot] = ()) -> None:
        self._check_writable()
        if not entries and not snapshots:
            return
        # Packed before the transaction begins: a record out of its bounds is refused with nothing begun.
        rows = [(entry, entry.pack()) for entry in entries]
        kept = [(snapshot, snapshot.pack()) for snapshot in newest(snapshots).values()]
        keys = touched(entries, snapshots)

        def work(txn: lmdb.Transaction[bytes]) -> dict[str, Head]:
            heads = {key: self._cached.get(key) or self._stored_head(txn, key) for key in keys}
            advance(heads, entries, snapshots, self._path)
            put = txn.put
            for entry, packed in rows:
                row = _entry_key(entry.key, entry.sequence)
                if not put(row, packed, overwrite=False, db=self._entries):
                    raise StoreDamaged(self._path, "an entry after its key's last", entry.key, entry.sequence)
            for key in dict.fromkeys([entry.key for entry in entries]):
                put(key.encode(), _pack_head(key, heads[key]), db=self._heads)
            for snapshot, packed in kept:
                self._put_snapshot(txn, snapshot, packed)
            return heads

        heads = self._write(work)
        self._remember(heads)
        self._commits += 1

    def _put_snapshot(self, txn: lmdb.Transaction[bytes], snapshot: Snapshot, packed: bytes) -> None:
        name = snapshot.key.encode()
        stored = txn.get(name, db=self._snapshots)
        if stored is not None:
            try:
                if checked_snapshot(stored, snapshot.key, self._path).sequence > snapshot.sequence:
                    return
            except StoreDamaged:
                pass  # the new one comes from a whole state; one bad snapshot must not fail others' commit
        txn.put(name, packed, db=self._snapshots)

    def set_meta(self, name: str, value: bytes) -> None:
        key = b"m" + check_meta(name, value)
        self._check_writable()
        self._write(lambda txn: txn.put(key, _summed(key, value), db=self._meta))

    def _write(self, work: Callable[[lmdb.Transaction[bytes]], T]) -> T:
        """Run `work` in a transaction and commit; if the map is full, grow it and do it again."""
        with self._writing:
            while True:
                try:
                    with self._environment.begin(write=True) as txn:
                        return work(txn)
                except lmdb.MapFullError:
                    self._grow()
                except lmdb.Error as error:
                    raise self._refused(error) from error
                except BanyanError:
                    raise  # refused by `work`: the transaction was aborted
                except BaseException:
                    # An interrupt, before the commit or after it: the next one reads the heads anew.
                    self._cached.clear()
                    raise

    def _refused(self, error: lmdb.Error) -> StoreError:
        """What a failed write means. Only a lack of room leaves the journal usable."""
        self._cached.clear()
        if boot.no_room(self._path, error):
            # The pages that were written belong to no transaction, so it does not matter whether they reached
            # the disk. Not so if the meta page itself failed: then LMDB refuses every further transaction.
            try:
                self._environment.begin().abort()
            except lmdb.Error as panic:
                error = panic
            else:
                return StoreFull(self._path, f"no space left ({error})")
        self._failure = str(error)
        if isinstance(error, boot.DAMAGE):
            return StoreDamaged(self._path, str(error))
        return StoreFailed(self._path, self._failure)

    def _grow(self) -> None:
        """Double the map. No transaction of ours is open: writers wait for us, readers for the lock."""
        with self._mapped:
            try:
                self._environment.set_mapsize(self._environment.info()["map_size"] * 2)
            except lmdb.Error as error:
                raise StoreFull(self._path, f"the store's map cannot grow ({error})") from error

    def _remember(self, heads: dict[str, Head]) -> None:
        cached = self._cached
        cached.update(heads)
        if len(cached) > _CACHED_HEADS:
            for key in list(islice(cached, len(cached) // 2)):
                del cached[key]

    # -- reading -------------------------------------------------------------------------------------

    def head(self, key: str) -> int:
        self._check_usable()
        cached = self._cached.get(key)
        if cached is None:
            cached = self._read(lambda txn: self._stored_head(txn, key))
            self._remember({key: cached})
        return cached.sequence

    def load(self, key: str) -> tuple[Snapshot | None, list[Entry]]:
        def work(txn: lmdb.Transaction[bytes]) -> tuple[Snapshot | None, list[Entry]]:
            stored = txn.get(_name(key), db=self._snapshots)
            if stored is None:
                return None, self._history(txn, key, 0, None)
            snapshot = checked_snapshot(stored, key, self._path)
            head = self._stored_head(txn, key).sequence
            if snapshot.sequence > head:
                raise StoreDamaged(self._path, f"its snapshot is of {snapshot.sequence}, its head {head}", key)
            return snapshot, self._history(txn, key, snapshot.sequence, None)

        return self._read(work)

    def read(self, key: str, after: int = 0, limit: int | None = None) -> list[Entry]:
        return self._read(lambda txn: self._history(txn, key, max(after, 0), limit))

    def _history(self, txn: lmdb.Transaction[bytes], key: str, after: int, limit: int | None) -> list[Entry]:
        """A key's entries above `after`; refused if one is missing, the last one too.

        Each is looked up by itself: a cursor that steps onto a zeroed page ends the program (an assertion in
        `mdb_cursor_next`), where a look-up reports it.
        """
        head = self._stored_head(txn, key).sequence
        last = head if limit is None else min(head, after + limit)
        found: list[Entry] = []
        for sequence in range(after + 1, last + 1):
            packed = txn.get(_entry_key(key, sequence), db=self._entries)
            if packed is None:
                raise StoreDamaged(self._path, f"it is missing, though there are {head}", key, sequence)
            found.append(checked_entry(packed, key, sequence, self._path))
        # Asked for even if the head says that there is nothing: the head may be what was lost.
        if txn.get(_entry_key(key, head + 1), db=self._entries) is not None:
            raise StoreDamaged(self._path, f"it exists, though the last one is {head}", key, head + 1)
        return found

    def _stored_head(self, txn: lmdb.Transaction[bytes], key: str) -> Head:
        stored = txn.get(_name(key), db=self._heads)
        if stored is None:
            return Head()
        if len(stored) == _HEAD.size + _CRC.size:
            head = Head(*_HEAD.unpack_from(stored))
            if stored == _pack_head(key, head):
                return head
        raise StoreDamaged(self._path, "its head does not match its checksum", key)

    def keys(self, prefix: str = "") -> list[str]:
        # The one operation that walks from page to page; on a zeroed page of heads LMDB ends the program.
        def work(txn: lmdb.Transaction[bytes]) -> list[str]:
            wanted = prefix.encode()
            found = []
            cursor = txn.cursor(self._heads)
            if len(wanted) <= MAX_KEY and (cursor.set_range(wanted) if wanted else cursor.first()):
                for row in cursor.iternext(keys=True, values=False):
                    if not row.startswith(wanted):
                        break
                    found.append(row.decode())
            return found

        return self._read(work)

    def get_meta(self, name: str) -> bytes | None:
        key = b"m" + check_meta(name, b"")
        return self._read(lambda txn: self._stored_meta(txn, key))

    def stats(self) -> JournalStats:
        def work(txn: lmdb.Transaction[bytes]) -> JournalStats:
            info = self._environment.info()
            return JournalStats(
                keys=txn.stat(self._heads)["entries"],
                entries=txn.stat(self._entries)["entries"],
                snapshots=txn.stat(self._snapshots)["entries"],
                commits=self._commits,
                bytes_used=(info["last_pgno"] + 1) * txn.stat(self._heads)["psize"],
                bytes_limit=info["map_size"],
            )

        return self._read(work)

    def check_readers(self) -> int:
        """Free the slots of readers that died; how many. An old reader keeps pages from being used again."""
        self._check_usable()
        return self._environment.reader_check()

    def _read(self, work: Callable[[lmdb.Transaction[bytes]], T]) -> T:
        """Run `work` in a read transaction that ends with it."""
        self._check_usable()
        with self._mapped:
            try:
                with self._environment.begin() as txn:
                    return work(txn)
            except boot.DAMAGE as error:
                raise StoreDamaged(self._path, str(error)) from error
            except lmdb.Error as error:
                self._failure = str(error)
                raise StoreFailed(self._path, self._failure) from error

    # -- opening and closing -------------------------------------------------------------------------

    def _database(self, name: bytes) -> lmdb._Database:
        return self._environment.open_db(name, create=not self._read_only)

    def _begin_epoch(self, wall: float, node: str) -> int:
        """Check whose store it is and of which format, and raise the epoch; one transaction."""

        def work(txn: lmdb.Transaction[bytes]) -> int:
            new = txn.stat(self._meta)["entries"] == 0
            if new and self._claim.made == "ready":
                raise StoreDamaged(self._path, "its format and epoch are gone")
            if new:
                txn.put(b"iformat", _summed(b"iformat", str(FORMAT).encode()), db=self._meta)
            epoch = 1 + (0 if new else self._checked_epoch(txn))
            txn.put(b"iepoch", _summed(b"iepoch", _EPOCH.pack(epoch, wall)), db=self._meta)
            owner = (self._stored_meta(txn, b"inode") or b"").decode()
            if node and owner and node != owner:
                raise StoreForeign(self._path, f"the store of node {owner!r}, not of {node!r}")
            if node and not owner:
                txn.put(b"inode", _summed(b"inode", node.encode()), db=self._meta)
            return epoch

        return self._write(work)

    def _last_epoch(self) -> int:
        return self._read(self._checked_epoch)

    def _checked_epoch(self, txn: lmdb.Transaction[bytes]) -> int:
        found = self._stored_meta(txn, b"iformat")
        stored = self._stored_meta(txn, b"iepoch")
        if found is None or stored is None or not found.isdigit() or len(stored) != _EPOCH.size:
            raise StoreDamaged(self._path, "its format or epoch is gone")
        if int(found) > FORMAT:
            raise StoreNewer(self._path, int(found))
        epoch: int = _EPOCH.unpack(stored)[0]
        return epoch

    def _stored_meta(self, txn: lmdb.Transaction[bytes], key: bytes) -> bytes | None:
        stored = txn.get(key, db=self._meta)
        if stored is None:
            return None
        value = stored[_CRC.size :]
        if stored != _summed(key, value):
            raise StoreDamaged(self._path, f"its {key[1:].decode()!r} does not match its checksum")
        return value

    def close(self) -> None:
        if self._closed:
            return
        self._closed = "it was closed"
        _open.pop(id(self._environment), None)
        if os.getpid() != self._pid:
            self._disown()
            return
        self._environment.close()
        if not self._read_only:
            self._claim.note(0, self._epoch)
        self._claim.release()

    def _disown(self) -> None:
        """In a forked child: never touch the store again, and do not keep the parent's lock."""
        self._closed = f"it belongs to process {self._pid}, from which this one was forked"
        self._claim.disown()

    def _check_usable(self) -> None:
        if os.getpid() != self._pid and not self._closed:
            self._disown()
        if self._closed:
            raise StoreClosed(self._path, self._closed)
        if self._failure:
            raise StoreFailed(self._path, self._failure)

    def _check_writable(self) -> None:
        self._check_usable()
        if self._read_only:
            raise Misuse(f"the store {self._path} was opened for reading only: open it for writing")


def _name(key: str) -> bytes:
    name = key.encode()
    if not 1 <= len(name) <= MAX_KEY:
        raise Misuse(f"wanted a key of 1 to {MAX_KEY} bytes of UTF-8, got {len(name)}: use another name")
    return name


def _entry_key(key: str, sequence: int) -> bytes:
    # The length goes first, so that "a" and "ab" do not mix, and a key's rows lie together in order.
    raw = key.encode()
    return b"%c%b%b" % (len(raw), raw, _SEQUENCE.pack(sequence))


def _pack_head(key: str, head: Head) -> bytes:
    packed = _HEAD.pack(head.sequence, head.epoch)
    return packed + _CRC.pack(crc32(packed, crc32(key.encode())))


def _summed(key: bytes, value: bytes) -> bytes:
    return _CRC.pack(crc32(value, crc32(key))) + value


# The type checker holds the class against the port here.
_port: type[Journal] = LmdbJournal
