"""Stores made from backups, as they were at the end or at any point before it.

A position counts all entries of a store, whatever their key, in the order in which they were committed. To
restore to a position is to leave out every entry after it, and each snapshot that knows of one. What
`Journal.set_meta` keeps has no position and stays as it was, and so do the fences and the notes of staged
shards; what was erased, because its shard went to another node, is in no later backup. A relaxed store has
positions of its own: it is taken back to the time of the entry that was named.

A store that was restored goes on in a later epoch than any that the lost one can have reached: the second of
its restoring. Until it is whole, its marker says that it is being restored, and nothing opens it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, final

import lmdb

from ..durable.journal import Head, NotABackup, PositionGone, StoreDamaged, checked_entry, checked_snapshot
from . import lmdb_boot as boot
from . import lmdb_rows as layout
from .lmdb import LmdbJournal
from .lmdb_backup import Backup, empty, read_marker, undo
from .lmdb_check import RELAXED, Progress
from .lmdb_floors import unpack_floor
from .lmdb_homes import unpack_home
from .lmdb_store import MAP_SIZE, Store, Transaction

_CHUNK: Final = 4 << 20  # bytes
# Rows deleted in one transaction.
_BATCH: Final = 4096


@final
@dataclass(frozen=True, slots=True)
class Restored:
    """A store that was made from a backup.

    Attributes:
        node: whose it is.
        epoch: the one that the next node to open it follows.
        position: its last one; `dropped` is how many entries of the backup came after it, those of its relaxed
            store included.
    """

    node: str
    epoch: int
    position: int
    dropped: int


def restore(
    source: str,
    destination: str,
    *,
    wall: float,
    position: int | None = None,
    until: float | None = None,
    progress: Progress = lambda *_: None,
) -> Restored:
    """Make a store from a backup, with all that is in it or only what was there at one point.

    Args:
        source: the backup.
        destination: a new or an empty directory.
        wall: now, in seconds since the Unix epoch.
        position: the last entry to keep.
        until: keep what lies before the first entry accepted after this time, in seconds since the Unix
            epoch. Not both.
        progress: told how many bytes were copied.

    Raises:
        StoreMissing, NotABackup, StoreNewer: there is no whole backup.
        PositionGone: the point was never reached, or is no longer known.
        StoreNotEmpty, StoreNotWritable, StoreInUse, StoreFull, StoreFailed: the destination.
    """
    kept = read_marker(source)
    if position is not None and not 1 <= position <= kept.position:
        raise PositionGone(source, f"position {position}", f"it holds the positions 1 to {kept.position}")
    if until is not None and until > kept.wall:
        raise PositionGone(source, f"the time {until:.3f}", f"it was made at {kept.wall:.3f}")
    made = empty(destination)
    within = os.path.join(destination, RELAXED)
    try:
        claim = boot.claim(destination, read_only=False)
        try:
            boot.mark(destination, "restoring")
            _bring(source, destination, kept, progress)
            restored, moment = _cut(claim, source, kept, wall, position, until)
            if kept.relaxed is not None:
                dropped = _restore_relaxed(source, within, kept.relaxed, wall, moment, progress)
                restored = replace(restored, dropped=restored.dropped + dropped)
            boot.mark(destination, "ready")
        finally:
            claim.release()
    except BaseException as error:
        undo(within, True)
        undo(destination, made)
        if isinstance(error, OSError):
            raise boot.told(destination, error) from error
        if isinstance(error, lmdb.Error):
            raise boot.told_by_lmdb(destination, error) from error
        raise
    return restored


def _restore_relaxed(
    source: str, within: str, kept: Backup, wall: float, moment: float | None, progress: Progress
) -> int:
    """Bring the relaxed store to a time, None for its end; how many of its entries came after."""
    claim = boot.claim(within, read_only=False)
    try:
        boot.mark(within, "restoring")
        _bring(os.path.join(source, RELAXED), within, kept, progress)
        restored, _ = _cut(claim, source, kept, wall, None, moment, may_be_empty=True)
        boot.mark(within, "ready")
    finally:
        claim.release()
    return restored.dropped


def _bring(source: str, destination: str, kept: Backup, progress: Progress) -> None:
    """Copy the data file and compare what was copied with what the backup says."""
    digest, size = hashlib.sha256(), 0
    original = os.path.join(source, boot.DATA)
    if not os.path.isfile(original):
        raise NotABackup(source, f"{boot.DATA} is not there: it was cut")
    fd = os.open(os.path.join(destination, boot.DATA), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as copy, open(original, "rb") as data:
        while chunk := data.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
            copy.write(chunk)
            progress("bytes", size, kept.bytes)
        copy.flush()
        os.fsync(fd)
    if size != kept.bytes:
        raise NotABackup(source, f"{boot.DATA} has {size} bytes and should have {kept.bytes}: it was cut")
    if digest.hexdigest() != kept.sha256:
        raise NotABackup(source, f"{boot.DATA} is not what was written: its sha256 is another")
    boot.check_data(destination)


def _cut(
    claim: boot.Claim,
    source: str,
    kept: Backup,
    wall: float,
    position: int | None,
    until: float | None,
    *,
    may_be_empty: bool = False,
) -> tuple[Restored, float | None]:
    """Leave out what came after the point, and raise the epoch; also the time of the point, None for the end."""
    environment = boot.environment(claim.path, MAP_SIZE, read_only=False)
    try:
        store = Store(claim, environment, read_only=False)
        journal = LmdbJournal(store, wall=wall, node="")
        dropped, last = 0, kept.position
        if position is not None or until is not None:
            journal.fold()
            if position is not None:
                last = position
                if kept.relaxed is not None:
                    until = store.read(lambda txn: _time_of(store, txn, last))
            elif until is not None:
                moment = until
                last = store.read(lambda txn: _position_at(store, txn, moment, kept.position))
                if not last and not may_be_empty:
                    raise PositionGone(source, f"the time {until:.3f}", "nothing had been committed by then")
            dropped = _drop(store, source, last)
            _forget_homes(store)
            _count_again(store, last)
        # Later than any that the lost store can have reached, if its node did not start every second.
        epoch = max(journal.epoch, int(wall))
        bounds = journal.bounds
        bounds.position = last
        store.write(
            lambda txn: (
                txn.put(layout.EPOCH_ROW, layout.pack_epoch(epoch, wall), db=store.meta),
                txn.put(layout.BOUNDS_ROW, bounds.pack(), db=store.meta),
            )
        )
        store.epoch = epoch
        store.note(0)
    finally:
        environment.close()
    return Restored(kept.node, epoch, last, dropped), until


def _time_of(store: Store, txn: Transaction, position: int) -> float:
    """When the entry of a position was accepted."""
    for row, packed in txn.cursor(store.entries):
        place = layout.entry_place(row)
        assert place is not None
        entry = checked_entry(packed, *place, store.path)
        if entry.feed == position:
            return entry.wall
    raise PositionGone(store.path, f"position {position}", "it was dropped, and with it the time of the relaxed store")


def _position_at(store: Store, txn: Transaction, until: float, last: int) -> int:
    """The last position before the first entry that is later than a time."""
    found = last
    for row, packed in txn.cursor(store.entries):
        place = layout.entry_place(row)
        assert place is not None
        entry = checked_entry(packed, *place, store.path)
        if entry.wall > until and entry.feed <= found:
            found = max(entry.feed - 1, 0)
    return found


@final
@dataclass(frozen=True, slots=True)
class _Shorter:
    """What becomes of one key: its last entry that stays, and whether its snapshot goes."""

    key: str
    head: Head
    last: int
    without_snapshot: bool


def _drop(store: Store, source: str, position: int) -> int:
    """Delete all after a position; how many entries. Refused before anything is deleted."""
    plans = store.read(lambda txn: list(_plans(store, txn, source, position)))
    dropped = 0
    at = 0
    while at < len(plans):
        rows: list[bytes] = []
        heads: list[_Shorter] = []
        while at < len(plans) and len(rows) < _BATCH:
            plan = plans[at]
            rows += [layout.entry_key(plan.key, n) for n in range(plan.head.sequence + 1, plan.last + 1)]
            heads.append(plan)
            at += 1

        def work(txn: Transaction, rows: list[bytes] = rows, heads: list[_Shorter] = heads) -> None:
            for row in rows:
                txn.delete(row, db=store.entries)
            for plan in heads:
                name = plan.key.encode()
                if plan.head.sequence:
                    txn.put(name, layout.pack_head(plan.key, plan.head), db=store.heads)
                else:
                    txn.delete(name, db=store.heads)
                if plan.without_snapshot:
                    txn.delete(name, db=store.snapshots)

        store.write(work)
        dropped += len(rows)
    return dropped


def _forget_homes(store: Store) -> None:
    """Take the keys of which nothing stays out of the index of shards."""
    index = store.shards

    def work(txn: Transaction) -> None:
        gone = []
        for row, value in txn.cursor(index):
            _, key = unpack_home(row, value, store.path)
            if txn.get(key.encode(), db=store.heads) is None:
                gone.append(row)
        for row in gone:
            txn.delete(row, db=index)

    if index is not None:
        store.write(work)


def _count_again(store: Store, position: int) -> None:
    """Say of the positions up to the last one how many no head counts, if shards have come or gone."""

    def work(txn: Transaction) -> None:
        if txn.get(layout.OWED_ROW, db=store.meta) is not None:
            heads = 0
            for raw, value in txn.cursor(store.heads):
                heads += layout.unpack_head(raw.decode(), value, store.path).sequence
            txn.put(layout.OWED_ROW, layout.pack_owed(position - heads), db=store.meta)

    store.write(work)


def _plans(store: Store, txn: Transaction, source: str, position: int) -> Iterator[_Shorter]:
    path = store.path
    for raw in txn.cursor(store.heads).iternext(keys=True, values=False):
        key = raw.decode()
        gone = PositionGone(source, f"position {position}", f"the beginning of {key!r} was dropped, and it was there")
        last = layout.unpack_head(key, txn.get(raw, db=store.heads), path).sequence
        first = unpack_floor(key, txn.get(raw, db=store.floors), path)[0]
        sequence, epoch = last, 0
        while sequence >= first:
            packed = txn.get(layout.entry_key(key, sequence), db=store.entries)
            if packed is None:
                raise StoreDamaged(path, "it is missing", key, sequence)
            entry = checked_entry(packed, key, sequence, path)
            if entry.feed <= position:
                epoch = entry.epoch
                break
            sequence -= 1
        if sequence == last:
            continue
        if 0 < sequence < first:
            raise gone
        stored = txn.get(raw, db=store.snapshots)
        ahead = stored is not None and checked_snapshot(stored, key, path).sequence > sequence
        if ahead and first > 1:
            raise gone
        yield _Shorter(key, Head(sequence, epoch), last, ahead)
