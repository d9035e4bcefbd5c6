"""Coordination among the node processes of one machine: a small LMDB environment that all of them have open.

LMDB has one writer at a time, over all processes, so a write transaction is the compare-and-set. It syncs before
it ends: what was agreed survives a loss of power. Reading never waits for a writer.

A process that is stopped (SIGSTOP) inside a write transaction keeps every other writer waiting until it goes on
or dies; if it dies, LMDB takes the lock from it. So no transaction is made on the loop: each runs in a thread
that the caller may leave behind when its time is over. At most one of them waits in LMDB; those behind it give
up before they have begun. One left behind may still make its change later, see `runtime.cluster.coordination`.

    row      name -> u32 crc32 of name, version and value; u64 version; value
    format   the one row whose name begins with a zero byte

Nothing big is kept here, and nothing that a node needs to recover its own state. The directory is 0700, its
files are 0600. Source: LMDB's `lmdb.h`, "caveats"; design facts from processes stopped in a transaction.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
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

    def __init__(self, path: str, environment: lmdb.Environment, off_loop: OffLoop) -> None:
        self.path = path
        self._environment = environment
        self._off_loop = off_loop
        self._pid = os.getpid()
        self._written = 0
        self._unusable = ""  # why, once it is
        # Held by the thread that writes, also while it waits for other processes; and by those that read.
        self._writing = threading.Lock()
        self._reading = threading.Lock()

    @classmethod
    def open(cls, path: str | os.PathLike[str], off_loop: OffLoop) -> LmdbCoordination:
        """Open the store in a directory, or make one in a new or empty directory. Waits for the disk.

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
        try:
            boot.make(path)
            _check_directory(path)
            environment = boot.environment(path, _MAP_SIZE, read_only=False)
            _check_format(path, environment)
        except BaseException as error:
            if environment is not None:
                environment.close()
            if isinstance(error, lmdb.Error):
                raise boot.told_by_lmdb(path, error) from error
            if isinstance(error, OSError):
                raise boot.told(path, error) from error
            raise
        return cls(path, environment, off_loop)

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
                self._environment.close()
        finally:
            self._writing.release()

    # -- in a thread ---------------------------------------------------------------------------------

    def _read(self, prefix: str) -> dict[str, tuple[int, bytes]]:
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
        if not self._writing.acquire(timeout=_PATIENCE):
            raise CoordinationUnreachable("change rows", "an earlier change of this program still waits")
        try:
            self._check_usable()
            self._written += 1
            if self._written % _READERS_EVERY == 0:
                self._environment.reader_check()
            with self._environment.begin(write=True) as txn:
                return [self._set(txn, *change) for change in changes]
        except lmdb.Error as error:
            raise self._failed("change rows", error) from error
        finally:
            self._writing.release()

    def _set(self, txn: Transaction, name: bytes, expected: int, value: bytes) -> bool:
        stored = txn.get(name)
        version = self._unpacked(name, stored)[0] if stored is not None else 0
        if version != expected:
            return False
        txn.put(name, _packed(name, expected + 1, value))
        return True

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


def _check_format(path: str, environment: lmdb.Environment) -> None:
    with environment.begin() as txn:
        found = txn.get(_FORMAT_ROW)
    if found is None:
        with environment.begin(write=True) as txn:
            # Asked again: another node may have been faster.
            found = txn.get(_FORMAT_ROW)
            if found is None:
                if txn.stat()["entries"]:
                    raise StoreForeign(path, "an LMDB store of something else")
                found = b"%d" % FORMAT
                txn.put(_FORMAT_ROW, found)
    if not found.isdigit():
        raise StoreDamaged(path, "its format is gone")
    if int(found) > FORMAT:
        raise StoreNewer(path, int(found), FORMAT)


# The type checker holds the class against the seam here.
_port: type[Coordination] = LmdbCoordination
