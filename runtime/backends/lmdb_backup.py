"""Backups of a store, made while its node runs or rests.

A backup is a directory with two files: `data.mdb`, a compact copy of the store at one moment, and
`banyan.backup`, which is written last and says what the other must be. Without it, or if the other is not
what it says, there is no backup: it was cut. The copy is made in a process of its own that reads beside the
node, in one read transaction that is bounded in time, because an old reader makes the store grow.

The relaxed store of a node, if there is one, is copied after it, into the folder `relaxed`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, final

import lmdb

from ..durable.journal import (
    NotABackup,
    StoreDamaged,
    StoreFailed,
    StoreMissing,
    StoreNewer,
    StoreNotEmpty,
)
from ..durable.record import FORMAT
from . import lmdb_boot as boot
from .apart import Died, apart
from .lmdb_ballast import NAME as BALLAST
from .lmdb_check import RELAXED, Progress, check_data
from .lmdb_store import MAP_SIZE

MARKER: Final = "banyan.backup"
_KIND: Final = "banyan journal"
_CHUNK: Final = 4 << 20  # bytes
# Rows deleted in one transaction.
_BATCH: Final = 4096


@final
@dataclass(frozen=True, slots=True)
class Backup:
    """What a backup holds; kept in it.

    Attributes:
        node: whose store it was; "" if it said nothing.
        epoch, position: the last ones in it.
        keys, entries, snapshots: how many.
        wall: when it was made, in seconds since the Unix epoch.
        bytes, sha256: what its data file must be.
        relaxed: the same of the relaxed store; None if there is none.
        format: of the records.
    """

    node: str
    epoch: int
    position: int
    keys: int
    entries: int
    snapshots: int
    wall: float
    bytes: int
    sha256: str
    relaxed: Backup | None = None
    format: int = FORMAT


def backup(
    source: str, destination: str, *, wall: float, limit: float = 600.0, progress: Progress = lambda *_: None
) -> Backup:
    """Copy a store, whether a node has it open or not, and check the copy.

    Args:
        source: the store's directory.
        destination: a new or an empty directory.
        wall: now, in seconds since the Unix epoch.
        limit: seconds that the copy may take, because it keeps the node's pages from being used again.
        progress: told how far the check of the copy is.

    Raises:
        StoreMissing, StoreNewer: there is no store that can be read.
        StoreDamaged: the store is damaged, or its copy; nothing is left of the copy.
        StoreNotEmpty, StoreNotWritable, StoreFull, StoreFailed: the destination.
    """
    boot.look(source)
    made = empty(destination)
    within = os.path.join(destination, RELAXED)
    try:
        kept = _keep(source, destination, wall, limit, progress)
        if _is_ready(os.path.join(source, RELAXED)):
            boot.make(within)
            relaxed = _keep(os.path.join(source, RELAXED), within, wall, limit, progress)
            kept = replace(kept, relaxed=relaxed)
        boot.write_small(destination, MARKER, {"backup": _KIND, **asdict(kept)})
    except BaseException as error:
        undo(within, True)
        undo(destination, made)
        if isinstance(error, OSError):
            raise boot.told(destination, error) from error
        raise
    return kept


def _is_ready(path: str) -> bool:
    try:
        boot.look(path)
    except StoreMissing:
        return False
    return True


def _keep(source: str, destination: str, wall: float, limit: float, progress: Progress) -> Backup:
    """Copy one store's data file, and check the copy."""
    data = os.path.join(destination, boot.DATA)
    _copy(source, data, limit)
    boot.sync_directory(destination)
    report = check_data(destination, progress)
    if report.found:
        raise StoreDamaged(source, f"{report.found} problems, the first is: {report.problems[0]}")
    size, digest = _digest(data)
    return Backup(
        node=report.node,
        epoch=report.epoch,
        position=report.position,
        keys=report.keys,
        entries=report.entries,
        snapshots=report.snapshots,
        wall=wall,
        bytes=size,
        sha256=digest,
    )


def _copy(source: str, data: str, limit: float) -> None:
    fd = os.open(data, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:

        def copy(_: Callable[[int], None]) -> int:
            try:
                with boot.environment(source, MAP_SIZE, read_only=True, beside=True) as environment:
                    environment.copyfd(fd, compact=True)
                os.fsync(fd)
            except lmdb.Error as error:
                code: int = getattr(error, "code", 0)
                if code in boot.NO_ROOM or isinstance(error, lmdb.DiskError):
                    return boot.NO_ROOM[0]
                raise
            except OSError as error:
                return error.errno or 5
            return 0

        failed = apart(copy, lambda _: None, limit)
        if failed:
            raise OSError(failed, os.strerror(failed))
    except Died as died:
        raise StoreFailed(source, f"it could not be copied: {died.why}") from died
    finally:
        os.close(fd)


def _digest(file: str) -> tuple[int, str]:
    size, digest = 0, hashlib.sha256()
    with open(file, "rb") as data:
        while chunk := data.read(_CHUNK):
            size += len(chunk)
            digest.update(chunk)
    return size, digest.hexdigest()


def empty(path: str) -> bool:
    """Make sure that a directory is there and holds nothing; whether it had to be made."""
    made = not os.path.lexists(path)
    try:
        boot.make(path)
        for name in sorted(os.listdir(path)):
            if name != "lost+found":
                raise StoreNotEmpty(path, name)
    except OSError as error:
        raise boot.told(path, error) from error
    return made


def undo(path: str, made: bool) -> None:
    """Leave a directory as it was found: empty, or not there."""
    names = (boot.DATA, "lock.mdb", boot.LOCK, boot.MARKER, boot.MARKER + ".new", MARKER + ".new", BALLAST)
    for name in names:
        try:
            os.unlink(os.path.join(path, name))
        except OSError:
            pass  # never made, or the disk is gone: the marker of a whole one is missing in any case
    if made:
        try:
            os.rmdir(path)
        except OSError:
            pass  # it holds what is not ours


def read_marker(path: str) -> Backup:
    """What a backup says of itself; its data is not looked at.

    Raises: StoreMissing, NotABackup, StoreNewer.
    """
    try:
        with open(os.path.join(path, MARKER), "rb") as file:
            said = json.loads(file.read(65536))
    except FileNotFoundError:
        if not os.path.exists(path):
            raise StoreMissing(path) from None
        if os.path.exists(os.path.join(path, boot.MARKER)):
            raise NotABackup(path, "it is a store, not a backup", "make a backup of it: banyan backup") from None
        raise NotABackup(path, f"{MARKER} is not there: it is none, or it was cut") from None
    except (OSError, ValueError) as error:
        raise NotABackup(path, f"{MARKER} does not hold what was written ({error})") from None
    try:
        if said.pop("backup") != _KIND:
            raise KeyError
        if said["format"] > FORMAT:
            raise StoreNewer(path, said["format"])
        kept = _backup_of(said)
    except (KeyError, TypeError, AttributeError):
        raise NotABackup(path, f"{MARKER} does not hold what was written") from None
    return kept


def _backup_of(said: dict[str, Any]) -> Backup:
    relaxed = said["relaxed"]
    fields = {name: said[name] for name in Backup.__dataclass_fields__}
    return Backup(**fields | {"relaxed": None if relaxed is None else _backup_of(relaxed)})
