"""An LMDB environment with one owner: its transactions, what their failures mean, and its end.

Durability: what `write` returned from survives kill -9 and power loss, torn sectors included (sync and
metasync are on, the latter not for a relaxed store; the file is never mapped for writing, because then a full
disk is a SIGBUS). LMDB carries on after a failed fdatasync as if nothing had happened, so any error but "no
room" ends the store. A store that finds no room gives up its ballast and refuses new entries until there is
room again.

Nothing that is open in LMDB outlives a call: no read transaction is kept, since an old one makes the file
grow without bound, and the map may grow between calls only. Which directory, whose it is and whether the
file may be mapped at all is decided in `lmdb_boot`. Sources: LMDB's `lmdb.h`; design facts from 4,000 crash
and power-loss runs.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias, TypeVar, final

import lmdb

from ..durable.journal import StoreClosed, StoreDamaged, StoreError, StoreFailed, StoreFull
from ..errors import BanyanError, Misuse
from . import lmdb_boot as boot
from .lmdb_ballast import Ballast
from .lmdb_floors import FLOORS
from .lmdb_homes import SHARDS
from .lmdb_rows import DATABASES, TRANSACTION_ROW, pack_transaction, unpack_transaction, unsummed

T = TypeVar("T")
# The class can be subscripted by the type checker only.
Transaction: TypeAlias = "lmdb.Transaction[bytes]"

MAP_SIZE: Final = 64 << 30  # bytes of address space, not of disk
# Write transactions after which the slots of dead readers are freed: a copier that was killed would
# otherwise keep pages from being used again for ever.
_READERS_EVERY = 1024

# Stores of this process, by id, for the guard below.
_open: weakref.WeakValueDictionary[int, Store] = weakref.WeakValueDictionary()


def _after_fork() -> None:
    # A child that wrote would corrupt the parent's store, and one that lived on would keep its lock.
    for store in list(_open.values()):
        store.disown()


os.register_at_fork(after_in_child=_after_fork)


def check_transaction(txn: Transaction, meta: lmdb._Database, path: str) -> None:
    """Refuse a store whose rows are older than its meta page: a page that was lost on the way to the disk.

    Raises: StoreDamaged.
    """
    stored = unpack_transaction(unsummed(TRANSACTION_ROW, txn.get(TRANSACTION_ROW, db=meta), path))
    # A compact copy counts its transactions from the first again; a store of the first days has no such row.
    if 0 < stored < txn.id():
        found = f"its rows are of transaction {stored}, and its last one is {txn.id()}"
        raise StoreDamaged(path, f"{boot.DATA} is in part older than the rest: {found}")


@final
class Store:
    """One open environment. Made by `opening`; may be used from any one thread at a time.

    Attributes:
        environment: LMDB's.
        meta, log, entries, snapshots, heads: its databases.
        floors, shards: those of `lmdb_floors` and `lmdb_homes`; None if they are not there.
        epoch: noted for the next owner, once its user has said it.
        doubt: called when nobody knows what the store holds, so that what was remembered is forgotten.
    """

    def __init__(self, claim: boot.Claim, environment: lmdb.Environment, *, read_only: bool) -> None:
        self.claim = claim
        self.path = claim.path
        self.environment = environment
        self.read_only = read_only
        self.epoch = claim.epoch
        self.doubt: Callable[[], None] = lambda: None
        self.ballast = Ballast(claim.path)
        self._pid = os.getpid()
        self._closed = ""  # why, once it is
        self._failure = ""
        self._written = 0
        # LMDB has one writer; and while the map grows nobody may read. Held for one call only, and the first
        # by who must know that nobody writes between two of its calls.
        self.writing = threading.RLock()
        self._mapped = threading.Lock()
        self.meta = environment.open_db(DATABASES[0], create=not read_only)
        if claim.made == "ready":
            self.read(lambda txn: check_transaction(txn, self.meta, self.path))
        self.log, self.entries, self.snapshots, self.heads = (
            environment.open_db(name, create=not read_only) for name in DATABASES[1:]
        )
        self.floors, self.shards = self._later(FLOORS), self._later(SHARDS)
        _open[id(self)] = self

    def _later(self, name: bytes) -> lmdb._Database | None:
        """A database that stores of the first days do not have; one that is only read does not get it."""
        try:
            return self.environment.open_db(name, create=not self.read_only)
        except (lmdb.NotFoundError, lmdb.ReadonlyError):
            return None

    @classmethod
    @contextmanager
    def opening(
        cls, path: str, map_size: int, *, read_only: bool, metasync: bool = True, adopter: str = ""
    ) -> Iterator[Store]:
        """Open a directory's store; the block makes it ready, and closes it if it fails.

        Raises: as `LmdbJournal.open`, whatever the block raises of LMDB or the system included.
        """
        claim = boot.claim(path, read_only=read_only, adopter=adopter)
        environment: lmdb.Environment | None = None
        try:
            if not read_only:
                claim.note(os.getpid(), claim.epoch, claim.transaction)
            if claim.made == "ready":
                boot.check_data(path, claim.transaction)
            else:
                boot.discard(path)
                boot.mark(path, "making")
            environment = boot.environment(path, map_size, read_only=read_only, metasync=metasync)
            store = cls(claim, environment, read_only=read_only)
            yield store
            if not metasync:
                # Its being there and its epoch are not what may be lost.
                environment.sync(True)
            if claim.made != "ready":
                boot.mark(path, "ready")
            if not read_only:
                store.note(os.getpid())
                store.ballast.hold()
        except BaseException as error:
            if environment is not None:
                environment.close()
            claim.release()
            if isinstance(error, lmdb.Error):
                raise boot.told_by_lmdb(path, error) from error
            if isinstance(error, OSError):
                raise boot.told(path, error) from error
            raise

    def note(self, pid: int) -> None:
        """Tell who is here, and how far the store has come: an older copy of it will show."""
        self.claim.note(pid, self.epoch, self.environment.info()["last_txnid"])

    # -- transactions --------------------------------------------------------------------------------

    def read(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in a read transaction that ends with it."""
        self.check_usable()
        with self._mapped:
            try:
                with self.environment.begin() as txn:
                    return work(txn)
            except boot.DAMAGE as error:
                raise StoreDamaged(self.path, str(error)) from error
            except lmdb.Error as error:
                self._failure = str(error)
                raise StoreFailed(self.path, self._failure) from error

    def write(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in a transaction and commit; if the map is full, grow it and do it again."""
        with self.writing:
            self._written += 1
            if self._written % _READERS_EVERY == 0:
                self.environment.reader_check()
            while True:
                try:
                    with self.environment.begin(write=True) as txn:
                        done = work(txn)
                        txn.put(TRANSACTION_ROW, pack_transaction(txn.id()), db=self.meta)
                        return done
                except lmdb.MapFullError:
                    self._grow()
                except lmdb.Error as error:
                    raise self._refused(error) from error
                except BanyanError:
                    raise  # refused by `work`: the transaction was aborted
                except BaseException:
                    # An interrupt, before the commit or after it: the next one reads the heads anew.
                    self.doubt()
                    raise

    def sync_last(self) -> None:
        """Have the last transaction survive a loss of power also in a relaxed store."""
        if not self.environment.flags()["metasync"]:
            try:
                self.environment.sync(True)
            except lmdb.Error as error:
                raise self._refused(error) from error

    def _refused(self, error: lmdb.Error) -> StoreError:
        """What a failed write means. Only a lack of room leaves the store usable."""
        self.doubt()
        if boot.no_room(self.path, error):
            # The pages that were written belong to no transaction, so it does not matter whether they reached
            # the disk. Not so if the meta page itself failed: then LMDB refuses every further transaction.
            try:
                self.environment.begin().abort()
            except lmdb.Error as panic:
                error = panic
            else:
                self.ballast.give_up()
                return StoreFull(self.path, f"no space left ({error})")
        self._failure = str(error)
        if isinstance(error, boot.DAMAGE):
            return StoreDamaged(self.path, str(error))
        return StoreFailed(self.path, self._failure)

    def check_room(self) -> None:
        """Refuse new entries while the disk is full, without trying; StoreFull. Ends by itself."""
        if self.ballast.lacking and not self.ballast.recovered():
            raise StoreFull(self.path, "its disk is full, and it takes no new entries until there is room")

    def _grow(self) -> None:
        """Double the map. No transaction of ours is open: writers wait for us, readers for the lock."""
        with self._mapped:
            try:
                self.environment.set_mapsize(self.environment.info()["map_size"] * 2)
            except lmdb.Error as error:
                raise StoreFull(self.path, f"the store's map cannot grow ({error})") from error

    # -- whose it is, and its end --------------------------------------------------------------------

    def close(self) -> None:
        """Give the store free for another owner. Harmless if done twice."""
        if self._closed:
            return
        self._closed = "it was closed"
        _open.pop(id(self), None)
        if os.getpid() != self._pid:
            self.disown()
            return
        if not self.read_only:
            if not self._failure:
                self.sync_last()
                self.note(0)
            self.ballast.drop()
        self.environment.close()
        self.claim.release()

    def disown(self) -> None:
        """In a forked child: never touch the store again, and do not keep the parent's lock."""
        self._closed = f"it belongs to process {self._pid}, from which this one was forked"
        self.claim.disown()

    def check_usable(self) -> None:
        """Raises StoreClosed or StoreFailed if nothing can be asked any more."""
        if os.getpid() != self._pid and not self._closed:
            self.disown()
        if self._closed:
            raise StoreClosed(self.path, self._closed)
        if self._failure:
            raise StoreFailed(self.path, self._failure)

    def check_writable(self) -> None:
        """Raises as `check_usable`, and Misuse if the store was opened for reading."""
        self.check_usable()
        if self.read_only:
            raise Misuse(f"the store {self.path} was opened for reading only: open it for writing")
