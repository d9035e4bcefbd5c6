"""A store's directory: whose it is, whether it is whole, and whether LMDB may be let near it.

LMDB maps its file: a page that the file no longer holds is a SIGBUS, not an error, so everything that can be
known about the file is found out here, by reading, before LMDB opens it. All checks are O(1); one that may
take longer (`lmdb.verify`) runs only for a file that is too short by a little, to tell a truncated one from
one whose last pages were free and never written.

What lies in the directory (0700, files 0600):

    banyan.store   says that this is a store, of which format, and whether its making was finished
    banyan.lock    held with flock by the owner; tells the owner's pid, the last epoch that ran here, and the
                   transaction that the data had reached at least
    banyan.ballast room kept aside; only while a node runs (`lmdb_ballast`)
    data.mdb, lock.mdb   LMDB's

The marker is written as "making" before LMDB is first called and as "ready" after its first commit, so a
crash while a store is being made can be told from a store whose data was lost: only the first is made anew.
Source: the locking and CURRENT-file protocol of LevelDB; LMDB's `mdb_env_read_header`.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import struct
from dataclasses import dataclass
from typing import Final, Literal, final

import lmdb

from ..durable.journal import (
    StoreDamaged,
    StoreError,
    StoreFailed,
    StoreForeign,
    StoreFull,
    StoreInUse,
    StoreMissing,
    StoreNewer,
    StoreNotReadable,
    StoreNotWritable,
)
from ..durable.record import FORMAT
from .lmdb_ballast import NAME as BALLAST
from .lmdb_pages import Pages

MARKER: Final = "banyan.store"
LOCK: Final = "banyan.lock"
DATA: Final = "data.mdb"
_OWN = (MARKER, MARKER + ".new", LOCK, "lock.mdb", BALLAST)
_KIND = "banyan journal"

# LMDB 0.9, 64 bit, native byte order: page header, then the meta record.
_MAGIC, _VERSION, _IS_META = 0xBEEFC0DE, 1, 0x08
_PAGE = struct.Struct("=QHH4x")  # page number, pad, flags
_META = struct.Struct("=II8x8xI92xQQ")  # magic, version, page size, last page, transaction
_HEAD = _PAGE.size + _META.size
# A file that is short by more pages than one commit leaves free at its end is truncated; no need to walk it.
_FREE_TAIL = 1024

_LEAST_MAP: Final = 16 << 20  # bytes
_LITTLE_ROOM: Final = 256 << 10  # bytes
# Of what an owner notes in the lock, and then a newline: always as much, or the end of a longer one would be left.
_NOTE: Final = 127  # bytes

NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What LMDB says of pages, records or databases that are not as it left them.
DAMAGE: Final = (
    *(lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError, lmdb.VersionMismatchError),
    *(lmdb.IncompatibleError, lmdb.BadDbiError, lmdb.CursorFullError, lmdb.NotFoundError),
    lmdb.BadTxnError,  # an earlier step of the same transaction met a bad page and could not say so
)
Made = Literal["new", "making", "restoring", "ready"]


@final
@dataclass(slots=True)
class Claim:
    """A directory that is ours until `release`.

    `made` says how far its store has come; `epoch` and `transaction` which one ran here last and how far its
    data had come at least, as far as they were noted. `adopter` is the node that took it in the place of its own.
    """

    path: str
    lock: int
    made: Made
    epoch: int
    transaction: int = 0
    adopter: str = ""

    def note(self, pid: int, epoch: int, transaction: int = 0) -> None:
        """Tell who asks next who is here, and what must be here. Best effort: the flock is what counts."""
        noted = {"pid": pid, "epoch": epoch, "transaction": transaction}
        text = json.dumps({**noted, "adopter": self.adopter} if pid and self.adopter else noted).encode()
        if len(text) > _NOTE:  # such a name is left out
            text = json.dumps(noted).encode()
        text = text.ljust(_NOTE) + b"\n"
        try:
            os.pwrite(self.lock, text, 0)
        except OSError:
            pass

    def disown(self) -> None:
        """Close the lock without giving it up: for a forked child, whose parent still holds it."""
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1

    def release(self) -> None:
        """Give the directory free for the next owner."""
        if self.lock >= 0:
            # Unlocked by name, not only closed: a child forked by foreign code may have inherited it.
            fcntl.flock(self.lock, fcntl.LOCK_UN)
        self.disown()


def claim(path: str, *, read_only: bool, adopter: str = "") -> Claim:
    """Take the directory for this process, making it if need be, and look at its marker.

    Args:
        path: the directory. With `read_only` it must hold a store; it is shared with other readers.
        adopter: the node that takes it in the place of its own; then it must hold a store as well.

    Raises:
        StoreInUse, StoreMissing, StoreNotWritable, StoreForeign, StoreNewer, StoreDamaged, StoreFull,
        StoreFailed.
    """
    try:
        if not read_only and not adopter:
            make(path)
        elif not _there(os.path.join(path, MARKER)) and not _there(os.path.join(path, LOCK)):
            raise StoreMissing(path)
        _refuse_foreign(path)
        lock = _lock(path, read_only)
    except OSError as error:
        raise told(path, error, read_only=read_only) from error
    taken = Claim(path, lock, "new", 0, adopter=adopter)
    try:
        noted = _note(lock)
        taken.epoch, taken.transaction = _whole(noted, "epoch"), _whole(noted, "transaction")
        taken.made = _made(path, taken.epoch)
        if (read_only or adopter) and taken.made != "ready":
            raise StoreMissing(path)
    except OSError as error:
        taken.release()
        raise told(path, error, read_only=read_only) from error
    except StoreError:
        taken.release()
        raise
    return taken


def look(path: str) -> None:
    """Look at a directory whose store is to be read while its owner may be at work.

    Raises: as `claim`, without StoreInUse.
    """
    try:
        if not _there(os.path.join(path, MARKER)):
            raise StoreMissing(path)
        if _made(path, 0) != "ready":
            raise StoreMissing(path)
    except OSError as error:
        raise told(path, error, read_only=True) from error
    check_data(path)


def _there(path: str) -> bool:
    """Whether there is such a file; raises OSError if that cannot be seen, which is no reason to say no."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def make(path: str) -> None:
    """Make the directory and those above it, each with its name on the disk."""
    missing = []
    above = os.path.abspath(path)
    while not os.path.lexists(above):
        missing.append(above)
        above = os.path.dirname(above)
    if not os.path.isdir(above):
        raise StoreNotWritable(path, f"{above} is a file, not a directory")
    for directory in reversed(missing):
        try:
            os.mkdir(directory, 0o700)
        except FileExistsError:
            pass  # another node of this user was faster
        # LMDB fsyncs its files, but nobody else fsyncs the name under which they are found.
        sync_directory(os.path.dirname(directory))


def sync_directory(path: str) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _refuse_foreign(path: str) -> None:
    """Leave a directory alone that holds other things and no marker of ours."""
    names = sorted(os.listdir(path))
    if MARKER in names:
        return
    # An empty file system's own directory is no content. data.mdb without a marker is somebody's LMDB.
    foreign = [name for name in names if name not in _OWN and name != "lost+found"]
    if foreign and not (foreign == [DATA] and LOCK in names):
        raise StoreForeign(path, f"{foreign[0]!r} and no {MARKER}")


def _lock(path: str, read_only: bool) -> int:
    name = os.path.join(path, LOCK)
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        lock = os.open(name, flags | (os.O_RDONLY if read_only else os.O_RDWR | os.O_CREAT), 0o600)
    except FileNotFoundError:
        # A store copied without its lock: whoever wants to write here makes one first.
        lock = os.open(name, flags | os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, (fcntl.LOCK_SH if read_only else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        noted = _note(lock)
        os.close(lock)
        raise StoreInUse(path, _whole(noted, "pid"), str(noted.get("adopter", ""))) from None
    except OSError:
        os.close(lock)
        raise
    return lock


def _note(lock: int) -> dict[str, object]:
    """What the last owner noted; empty if it is not to be read."""
    try:
        noted = json.loads(os.pread(lock, 256, 0))
    except ValueError:
        return {}
    return noted if isinstance(noted, dict) else {}


def _whole(noted: dict[str, object], name: str) -> int:
    """A whole number in such a note; 0 for none."""
    value = noted.get(name)
    return value if type(value) is int else 0


def _made(path: str, epoch: int) -> Made:
    """How far the store has come, by its marker and by the last epoch that was noted."""
    try:
        with open(os.path.join(path, MARKER), "rb") as file:
            text = file.read(4096)
    except FileNotFoundError:
        if epoch or os.path.exists(os.path.join(path, DATA)):
            raise StoreDamaged(path, f"{MARKER} is gone, but a store was here (epoch {epoch})") from None
        return "new"
    try:
        marker = json.loads(text)
        kind, version, state = marker["store"], marker["format"], marker["state"]
    except (ValueError, KeyError, TypeError):
        raise StoreDamaged(path, f"{MARKER} does not hold what was written") from None
    if kind != _KIND or type(version) is not int or version < 1:
        raise StoreDamaged(path, f"{MARKER} names no format")
    if version > FORMAT:
        raise StoreNewer(path, version)
    if state == "making" and not epoch:
        return "making"
    if state == "restoring":
        raise StoreDamaged(path, "it was being restored, and that did not come to its end")
    return "ready"


def mark(path: str, made: Made) -> None:
    """Write the marker so that a crash leaves the old one or the new one."""
    write_small(path, MARKER, {"store": _KIND, "format": FORMAT, "state": made})


def write_small(path: str, file: str, value: dict[str, object]) -> None:
    """Write a small file of JSON, durably; a crash leaves the old one or the new one."""
    name = os.path.join(path, file)
    text = json.dumps(value).encode() + b"\n"
    fd = os.open(name + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        while text:
            text = text[os.write(fd, text) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(name + ".new", name)
    sync_directory(path)


def discard(path: str) -> None:
    """Remove what a making that never finished has left. Nothing in it was ever acknowledged."""
    for name in (DATA, "lock.mdb"):
        try:
            os.unlink(os.path.join(path, name))
        except FileNotFoundError:
            pass
    sync_directory(path)


def check_data(path: str, reached: int = 0) -> None:
    """Refuse a data file that LMDB would misread or fall over. O(1); opens it for reading only.

    Args:
        path: the store's directory.
        reached: the transaction that it must have reached.

    Raises:
        StoreDamaged: missing, empty, not LMDB's, one of its two meta pages is not whole, the file ends before
            its last page, or it is older than what was here.
    """
    name = os.path.join(path, DATA)
    try:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise StoreDamaged(path, f"{DATA} is gone") from None
    except OSError as error:
        raise told(path, error) from error
    try:
        size = os.fstat(fd).st_size
        if size == 0:
            raise StoreDamaged(path, f"{DATA} is empty")
        page_size, last, transaction = _meta(path, fd, 0, 0)
        _, other_last, other = _meta(path, fd, 1, page_size)
        end = (1 + (other_last if other > transaction else last)) * page_size
    finally:
        os.close(fd)
    if max(transaction, other) < reached:
        found = f"its last transaction is {max(transaction, other)}, but {reached} were committed here"
        raise StoreDamaged(path, f"{DATA} is an older copy: {found}")
    if size < end:
        _tell_free_from_truncated(path, name, size, end, page_size)


def _meta(path: str, fd: int, number: int, page_size: int) -> tuple[int, int, int]:
    """(page size, last page, transaction) of one meta page; page 0 tells where page 1 lies."""
    head = os.pread(fd, _HEAD, number * page_size)
    if len(head) < _HEAD:
        raise StoreDamaged(path, f"{DATA} ends within its meta page {number}")
    page, _, flags = _PAGE.unpack_from(head)
    magic, version, size, last, transaction = _META.unpack_from(head, _PAGE.size)
    if magic != _MAGIC:
        raise StoreDamaged(path, f"meta page {number} of {DATA} has magic {magic:#010x}, not {_MAGIC:#010x}")
    if version != _VERSION:
        raise StoreDamaged(path, f"meta page {number} of {DATA} is of LMDB format {version}, not {_VERSION}")
    right_size = size == page_size if number else 512 <= size <= 65536 and size & (size - 1) == 0
    # LMDB writes transaction n into page n % 2, so a page copied over its twin shows.
    right_turn = not transaction or transaction % 2 == number
    if page != number or not flags & _IS_META or not right_size or last < 1 or not right_turn:
        raise StoreDamaged(path, f"meta page {number} of {DATA} contradicts itself")
    return size, last, transaction


def environment(
    path: str, map_size: int, *, read_only: bool, beside: bool = False, metasync: bool = True
) -> lmdb.Environment:
    """LMDB's environment, with the largest map up to `map_size` bytes that the system grants.

    Args:
        path: the store's directory.
        map_size: bytes of address space.
        read_only: to read only.
        beside: a writer may be at work meanwhile, so its readers' table is used.
        metasync: whether a commit's own meta page is on the disk when it returns; if not, a loss of power
            may take the last commit, and harms no other.

    Raises lmdb.Error; see `told_by_lmdb`.
    """
    while True:
        try:
            opened = lmdb.open(
                path,
                map_size=map_size,
                create=False,
                mode=0o600,
                max_dbs=8,
                readonly=read_only,
                metasync=metasync,
                # Readers share a flock that keeps every writer out, and may have no right to write a lock.
                lock=not read_only or beside,
                lib_version=0,
            )
        except lmdb.MemoryError:
            if map_size // 2 < _LEAST_MAP:
                raise
            map_size //= 2
            continue
        if not read_only:
            sync_directory(path)
            opened.reader_check()
        return opened


def _tell_free_from_truncated(path: str, name: str, size: int, end: int, page_size: int) -> None:
    """Refuse a file that lacks pages in use.

    Pages that one transaction takes and gives back are counted but never written, so a whole file may be
    shorter than its count. Only a walk over the pages in use can tell; the reading never maps the file.
    """
    found = f"{DATA} has {size} bytes, but its pages end at {end}"
    if end - size > _FREE_TAIL * page_size:
        raise StoreDamaged(path, found)
    from lmdb import verify

    try:
        problems: list[str] = verify.verify(name, subdir=False)  # type: ignore[no-untyped-call]  # it has no stub
    except verify.VerifyError as error:
        raise StoreDamaged(path, f"{found} ({error})") from error
    if problems:
        raise StoreDamaged(path, f"{found} ({problems[0]})")
    # Of a value that takes several pages the walk reads only the first.
    with Pages.reading(name) as pages:
        lost = set(range(size // page_size, end // page_size)) - pages.free()
    if lost:
        raise StoreDamaged(path, f"{found} (page {min(lost)} is in use)")


def told(path: str, error: OSError, *, read_only: bool = False) -> StoreError:
    """The store error for what the operating system said while the store was opened."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in NO_ROOM:
        return StoreFull(path, reason)
    if error.errno in (errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        return StoreFailed(path, reason)
    return StoreNotReadable(path, reason) if read_only else StoreNotWritable(path, reason)


def no_room(path: str, error: lmdb.Error) -> bool:
    """Whether a write failed for lack of room.

    A write that the disk took in part reaches us as EIO ("short write", `mdb_page_flush`); it has used up
    the last of the room, which a failing disk has not. In doubt it is a failing disk.
    """
    code = getattr(error, "code", 0)
    if isinstance(error, lmdb.DiskError) or code in NO_ROOM:
        return True
    if code != errno.EIO:
        return False
    room = os.statvfs(path)
    return room.f_bavail * room.f_frsize < _LITTLE_ROOM


def told_by_lmdb(path: str, error: lmdb.Error) -> StoreError:
    """The store error for what LMDB said while the store was opened."""
    if no_room(path, error):
        return StoreFull(path, str(error))
    if isinstance(error, lmdb.ReadonlyError):
        return StoreNotWritable(path, str(error))
    if isinstance(error, DAMAGE):
        return StoreDamaged(path, str(error))
    if "already open" in str(error):
        return StoreInUse(path, os.getpid())
    return StoreFailed(path, str(error))
