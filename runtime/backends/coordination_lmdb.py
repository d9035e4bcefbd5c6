"""Coordination among the node processes of one machine: a small LMDB environment that all of them have open.

LMDB has one writer at a time, over all processes, so a write transaction is the compare-and-set. What was agreed
survives a loss of power, and costs one sync: LMDB syncs the pages of a transaction, and not the page that makes it
the last one, so that only that transaction can be undone. It is therefore noted first, in room that LMDB's two meta
pages have to spare, which the same sync puts on the disk; whoever opens the store makes what is noted and missing,
before it reads or changes anything. The two are used in turn, because the last transaction but one is safe only when
the last one has been synced. A transaction that is too big to be noted says so in its note, and takes a second sync.
After that reading never waits for a writer.

This needs a disk whose sectors of 512 bytes (or larger) are each old or new after a loss of power: both meta pages may
be under way to it at once, and a sector of each that is neither would leave none. docs/decisions/0017 has the reasons.

A process that is stopped (SIGSTOP) inside a write transaction keeps every other writer waiting until it goes on
or dies; if it dies, LMDB takes the lock from it. So no write transaction is made on the loop, nor while the store is
opened: each runs in a thread that the caller may leave behind when its time is over. At most one of them waits in
LMDB; those behind it give up before they have begun. One left behind may still make its change later, see
`runtime.cluster.coordination`.

    row      name -> u32 crc32 of name, version and value; u64 version; value
    format   the one row whose name begins with a zero byte
    note     u32 crc32 of the rest; u64 transaction; u16 bytes, or 0 for "not noted"; of each row that it set: u16,
             u16, name, row

Nothing big is kept here, and nothing that a node needs to recover its own state. The directory is 0700, its
files are 0600. Source: LMDB's `lmdb.h`, "caveats"; design facts from processes stopped in a transaction.
"""

from __future__ import annotations

import errno
import os
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, Protocol, TypeVar, final
from zlib import crc32

import lmdb

from ..cluster.coordination import CoordinationUnreachable, check_change
from ..durable.journal import StoreClosed, StoreDamaged, StoreError, StoreForeign, StoreNewer
from ..kernel.world import Coordination
from . import lmdb_boot as boot
from .lmdb_store import Transaction

T = TypeVar("T")

FORMAT: Final = 1
_FORMAT_ROW: Final = b"\0banyan coordination"
_HEAD = struct.Struct(">IQ")
_MAP_SIZE: Final = 1 << 30  # bytes of address space, not of disk
# A note lies from here to the end of a meta page, of which LMDB uses less than 160 bytes.
_NOTE_AT: Final = 1024
_NOTE = struct.Struct(">IQH")
_NOTED = struct.Struct(">HH")
# Write transactions after which the slots of dead readers are freed.
_READERS_EVERY: Final = 256
# Seconds that a change waits for an earlier one of this program.
_PATIENCE: Final = 2.0


class OffLoop(Protocol):
    """`World.run_blocking`."""

    async def __call__(self, work: Callable[[], T], *, abandon: bool = False) -> T: ...


@final
class LmdbCoordination:
    """A `Coordination` in a directory that the node processes of one machine share. Made by `open`."""

    def __init__(self, path: str, environment: lmdb.Environment, file: int, off_loop: OffLoop) -> None:
        self.path = path
        self._environment = environment
        self._off_loop = off_loop
        self._file = file
        self._page_size: int = environment.stat()["psize"]
        self._pid = os.getpid()
        self._written = 0
        self._made_up = False
        self._unusable = ""  # why, once it is
        # Held by the thread that writes, also while it waits for other processes; and by those that read.
        self._writing = threading.Lock()
        self._reading = threading.Lock()

    @classmethod
    def open(cls, path: str | os.PathLike[str], off_loop: OffLoop) -> LmdbCoordination:
        """Open the store in a directory, or make one in a new or empty directory. Waits for the disk, and for nobody.

        Args:
            path: a directory on a local disk, the same for all nodes; made (0700) with those above it.
            off_loop: `World.run_blocking`.

        Raises:
            StoreForeign: it holds something else. StoreNewer: it is of a later format.
            StoreInUse: this program has it open. StoreDamaged: it is not what was written.
            StoreNotWritable, StoreFull, StoreFailed: what the system says.
        """
        path = os.fspath(path)
        environment: lmdb.Environment | None = None
        file = -1
        try:
            boot.make(path)
            _check_directory(path)
            # What metasync would keep is in the notes: see above, and decision 0017.
            environment = boot.environment(path, _MAP_SIZE, read_only=False, metasync=False)  # allowed: it is noted
            with environment.begin() as txn:
                begun = _has_format(path, txn)
            if not begun:
                environment.sync(True)  # or a loss of power could leave half of an empty store, and then none
            file = os.open(os.path.join(path, boot.DATA), os.O_RDWR | os.O_CLOEXEC)
            return cls(path, environment, file, off_loop)
        except BaseException as error:
            if environment is not None:
                environment.close()
            if file >= 0:
                os.close(file)
            if isinstance(error, lmdb.Error):
                raise boot.told_by_lmdb(path, error) from error
            if isinstance(error, OSError):
                raise boot.told(path, error) from error
            raise

    async def read(self, prefix: str) -> Mapping[str, tuple[int, bytes]]:
        return await self._off_loop(lambda: self._read(prefix), abandon=True)

    async def compare_and_set(self, changes: Sequence[tuple[str, int, bytes]]) -> list[bool]:
        rows = [(check_change(*change), *change[1:]) for change in changes]
        return await self._off_loop(lambda: self._set_all(rows), abandon=True)

    def close(self) -> None:
        """Be done with it. Harmless if done twice.

        If a transaction waits for another process even now, the environment stays open until this one ends.
        """
        self._unusable = self._unusable or "it was closed"
        if os.getpid() != self._pid or not self._writing.acquire(timeout=0.1):
            return
        try:
            with self._reading:
                if self._file >= 0:
                    self._environment.close()
                    os.close(self._file)
                    self._file = -1
        finally:
            self._writing.release()

    # -- in a thread ---------------------------------------------------------------------------------

    @contextmanager
    def _turn(self, what: str) -> Iterator[None]:
        """One thread at a time may write, and none before what is missing is made up for."""
        if not self._writing.acquire(timeout=_PATIENCE):
            raise CoordinationUnreachable(what, "an earlier change of this program still waits")
        try:
            self._check_usable()
            if not self._made_up:
                self._make_up()
                self._made_up = True
            yield
        except OSError as error:
            self._unusable = str(error)
            raise CoordinationUnreachable(what, str(error)) from error
        except lmdb.Error as error:
            raise self._failed(what, error) from error
        finally:
            self._writing.release()

    def _read(self, prefix: str) -> dict[str, tuple[int, bytes]]:
        if not self._made_up:
            with self._turn("read"):
                pass
        with self._reading:
            self._check_usable()
            try:
                with self._environment.begin() as txn:
                    return self._rows(txn, prefix.encode())
            except lmdb.Error as error:
                raise self._failed("read", error) from error

    def _rows(self, txn: Transaction, prefix: bytes) -> dict[str, tuple[int, bytes]]:
        found: dict[str, tuple[int, bytes]] = {}
        cursor = txn.cursor()
        # The format's row is before all others.
        if cursor.set_range(prefix or b"\1"):
            for name, stored in cursor:
                if not name.startswith(prefix):
                    break
                found[name.decode()] = self._unpacked(name, stored)
        return found

    def _set_all(self, changes: Sequence[tuple[bytes, int, bytes]]) -> list[bool]:
        with self._turn("change rows"):
            self._written += 1
            if self._written % _READERS_EVERY == 0:
                self._environment.reader_check()
            with self._environment.begin(write=True) as txn:
                rows = [] if _has_format(self.path, txn) else [(_FORMAT_ROW, b"%d" % FORMAT)]
                for name, stored in rows:
                    txn.put(name, stored)
                made = [self._set(txn, *change) for change in changes]
                for (name, expected, value), done in zip(changes, made, strict=True):
                    if done:
                        rows.append((name, _packed(name, expected + 1, value)))
                noted = self._note(txn.id(), rows)
            if not noted:
                self._environment.sync(True)
            return made

    def _set(self, txn: Transaction, name: bytes, expected: int, value: bytes) -> bool:
        stored = txn.get(name)
        version = self._unpacked(name, stored)[0] if stored is not None else 0
        if version != expected:
            return False
        txn.put(name, _packed(name, expected + 1, value))
        return True

    def _note(self, transaction: int, rows: Sequence[tuple[bytes, bytes]]) -> bool:
        """Note the rows that a transaction sets, before it is committed; False if that is too much."""
        size = sum(_NOTED.size + len(name) + len(stored) for name, stored in rows)
        fits = _NOTE_AT + _NOTE.size + size <= self._page_size
        body = b""
        if fits:
            body = b"".join(_NOTED.pack(len(name), len(stored)) + name + stored for name, stored in rows)
        if rows:
            # Also if it does not fit: who died in this transaction before us may have noted another one here.
            self._write_note(transaction, body)
        return fits

    def _write_note(self, transaction: int, body: bytes) -> None:
        head = transaction.to_bytes(8, "big") + len(body).to_bytes(2, "big")
        note = crc32(head + body).to_bytes(4, "big") + head + body
        if os.pwrite(self._file, note, transaction % 2 * self._page_size + _NOTE_AT) != len(note):
            raise OSError(errno.EIO, "a note was written in part")

    def _notes(self) -> dict[int, list[tuple[bytes, bytes]]]:
        """The rows of each transaction whose note is whole and not empty."""
        found: dict[int, list[tuple[bytes, bytes]]] = {}
        for page in range(2):
            data = os.pread(self._file, self._page_size - _NOTE_AT, page * self._page_size + _NOTE_AT)
            checksum, transaction, size = _NOTE.unpack_from(data)
            body = data[_NOTE.size : _NOTE.size + size]
            if not size or checksum != crc32(data[4 : _NOTE.size] + body):
                continue
            rows = found[transaction] = []
            at = 0
            while at < size:
                name, stored = _NOTED.unpack_from(body, at)
                at += _NOTED.size + name + stored
                rows.append((body[at - stored - name : at - stored], body[at - stored : at]))
        return found

    def _make_up(self) -> None:
        """Make what is noted and missing: a loss of power has undone it, or who was about to make it has died.

        Waits for other writers only if something is, or if one of them is just between its note and its end.
        """
        with self._environment.begin() as txn:
            if max(self._notes(), default=0) <= txn.id():
                return
        while self._make_next():
            pass

    def _make_next(self) -> bool:
        """Make the next transaction as it is noted; False if it is not.

        The note of exactly this one was written in the very state that is here now, and stays as its note. One
        that is behind it followed another transaction, which nobody has; if it were left, it could some day
        seem to follow one that it has never seen.
        """
        with self._environment.begin(write=True) as txn:
            notes = self._notes()
            rows = notes.get(txn.id(), [])
            for name, stored in rows:
                txn.put(name, stored)
            later = [transaction for transaction in notes if transaction > txn.id()]
            if not rows and later:
                for transaction in later:
                    self._write_note(transaction, b"")
                # Before another one can be noted.
                os.fsync(self._file)
        return bool(rows)

    def _unpacked(self, name: bytes, stored: bytes) -> tuple[int, bytes]:
        if len(stored) >= _HEAD.size:
            version, value = _HEAD.unpack_from(stored)[1], stored[_HEAD.size :]
            if stored == _packed(name, version, value):
                return version, value
        raise StoreDamaged(self.path, f"its row {name.decode(errors='replace')!r} does not match its checksum")

    def _failed(self, what: str, error: lmdb.Error) -> StoreError | CoordinationUnreachable:
        """What a failed transaction means: after anything but a lack of room nothing can be trusted."""
        if isinstance(error, boot.DAMAGE):
            self._unusable = str(error)
            return StoreDamaged(self.path, str(error))
        if not boot.no_room(self.path, error):
            self._unusable = str(error)
        return CoordinationUnreachable(what, str(error))

    def _check_usable(self) -> None:
        if os.getpid() != self._pid:
            raise StoreClosed(self.path, f"it belongs to process {self._pid}, from which this one was forked")
        if self._unusable == "it was closed":
            raise StoreClosed(self.path, self._unusable)
        if self._unusable:
            raise CoordinationUnreachable("use it any more", f"an earlier transaction failed ({self._unusable})")


def _packed(name: bytes, version: int, value: bytes) -> bytes:
    rest = version.to_bytes(8, "big") + value
    return crc32(rest, crc32(name)).to_bytes(4, "big") + rest


def _check_directory(path: str) -> None:
    """Refuse a directory of somebody else, and a data file that LMDB would fall over."""
    names = sorted(name for name in os.listdir(path) if name != "lost+found")
    if boot.MARKER in names:
        raise StoreForeign(path, "a node's own store")
    if boot.DATA not in names:
        if names not in ([], ["lock.mdb"]):
            raise StoreForeign(path, f"{names[0]!r} and no {boot.DATA}")
    elif os.path.getsize(os.path.join(path, boot.DATA)):  # another node may just be making it
        boot.check_data(path)


def _has_format(path: str, txn: Transaction) -> bool:
    """Whether its format is there, and is ours; False if it has nothing yet."""
    found = txn.get(_FORMAT_ROW)
    if found is None:
        if txn.stat()["entries"]:
            raise StoreForeign(path, "an LMDB store of something else")
        return False
    if not found.isdigit():
        raise StoreDamaged(path, "its format is gone")
    if int(found) > FORMAT:
        raise StoreNewer(path, int(found), FORMAT)
    return True


# The type checker holds the class against the seam here.
_port: type[Coordination] = LmdbCoordination
