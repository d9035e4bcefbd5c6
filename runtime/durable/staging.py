"""Staging: what may be done with a shard whose records are on their way into a store, or out of it for good.

A staged shard has a row of its own beside its fence: a note that its mover keeps for a restart. As long as it
is there the shard cannot be claimed, so that nobody serves what is not whole; an empty note says that what is
here is being erased. An erasure begins with that row and ends with taking it away, so it goes on after a
crash, and what is left of a shard is never taken for all of it.

    name of the row   stage/00042, a value of `Journal.set_meta`'s kind
    value             the note; empty: being erased

The rules are pure; a backend applies them within its transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

from ..errors import Misuse
from .carriage import Piece
from .fence import MAX_SHARD, check_epoch, row_of
from .journal import (
    MAX_META,
    Fence,
    Fenced,
    Head,
    SequenceConflict,
    StoreDamaged,
    StoreNewer,
    checked_snapshot,
)
from .record import MAX_KEY, DamagedRecord, NewerRecord, moved_entry

_PREFIX: Final = "stage/"
# The note of a shard that is being erased.
ERASING: Final = b""


def stage_of(shard: int) -> str:
    """The name of a shard's row. Raises: Misuse: that is no shard's number."""
    return _PREFIX + row_of(shard).partition("/")[2]


def staged_shard(name: str, path: str) -> int | None:
    """The shard of a row's name; None if it is no such row. Raises: StoreDamaged: it looks like one and is none."""
    if not name.startswith(_PREFIX):
        return None
    number = name.removeprefix(_PREFIX)
    if len(number) != 5 or not number.isdecimal() or int(number) > MAX_SHARD:
        raise StoreDamaged(path, f"{name!r} names no shard")
    return int(number)


def check_claim(path: str, shard: int, epoch: int, found: Fence, stage: bytes | None) -> None:
    """Let nobody claim a staged shard. Raises: Fenced."""
    if stage is not None:
        raise Fenced(path, shard, epoch, found, staged=True)


def check_reserve(path: str, shard: int, note: bytes, found: Fence, stage: bytes | None, *, kept: bool) -> None:
    """Let a shard be staged anew, or again.

    Args:
        kept: whether the index has keys of it.

    Raises: Misuse.
    """
    if not 1 <= len(note) <= MAX_META:
        raise Misuse(f"wanted a note of 1 to {MAX_META} bytes for shard {shard}, got {len(note)}")
    if stage == ERASING:
        raise Misuse(f"shard {shard} is being erased in {path}: end that first")
    if stage is not None:
        return
    if found.epoch and not found.sealed:
        raise Misuse(f"shard {shard} is open in {path} under epoch {found.epoch}: it is not to be moved there")
    if kept:
        raise Misuse(f"something of shard {shard} is kept in {path}: erase it first")


def check_staged(path: str, shard: int, stage: bytes | None) -> None:
    """Let pieces of a shard be installed. Raises: Misuse."""
    if not stage:
        why = "it was not reserved" if stage is None else "it is being erased"
        raise Misuse(f"nothing of shard {shard} can be installed in {path}: {why}")


def check_note(path: str, shard: int, note: bytes | None) -> None:
    """Let a note take another's place. Raises: Misuse."""
    if note is not None and not 1 <= len(note) <= MAX_META:
        raise Misuse(f"wanted a note of 1 to {MAX_META} bytes for shard {shard} of {path}, got {len(note)}")


def check_settle(path: str, shard: int, found: Fence, stage: bytes | None) -> None:
    """Let a staged shard be this node's. Raises: Misuse."""
    if stage == ERASING:
        raise Misuse(f"shard {shard} is being erased in {path}: it cannot be settled")
    if stage is not None and (found.sealed or not found.epoch):
        raise Misuse(f"shard {shard} cannot be settled in {path}: its last pieces, with their epoch, have not come")


def preclaimed(path: str, shard: int, epoch: int, found: Fence) -> Fence:
    """The row after the last pieces of a staged shard; the same epoch may come twice. Raises: Fenced, Misuse."""
    check_epoch(shard, epoch)
    if epoch < found.epoch or (epoch == found.epoch and found.sealed):
        raise Fenced(path, shard, epoch, found)
    return Fence(epoch, written=True)


def closed(path: str, shard: int, found: Fence, stage: bytes | None) -> Fence:
    """The row with the first step of an erasure. Raises: Misuse: the shard is open, and not staged."""
    if stage is None and found.epoch and not found.sealed:
        raise Misuse(f"shard {shard} is open in {path} under epoch {found.epoch}: seal it before it is erased")
    return Fence(found.epoch, bool(found.epoch), found.written)


def emptied(found: Fence) -> Fence:
    """The row with the last step of an erasure."""
    return Fence(found.epoch, found.sealed)


def check_home(key: str, shard: int, head: Head | None) -> None:
    """Let a key be noted as a shard's. Raises: Misuse."""
    row_of(shard)
    if head is None or not head.sequence:
        raise Misuse(f"wanted a key that has entries for shard {shard}, and {key!r} has none")


# -- pieces ----------------------------------------------------------------------------------------------


@final
@dataclass(slots=True)
class Place:
    """Where a key stands in the store that a piece comes into: its head, its floor, its snapshot's sequence."""

    head: Head
    first: int = 1
    snapshot: int = 0


@final
@dataclass(frozen=True, slots=True)
class Fitted:
    """What a piece puts into a store: entries by sequence, and the key's new head, floor and snapshot.

    `snapshot` is b"" if the one that is there stays.
    """

    key: str
    rows: list[tuple[int, bytes]]
    head: Head
    first: int
    snapshot: bytes


def fit(piece: Piece, place: Place, position: int, path: str) -> Fitted:
    """Check all of a piece, and say what it puts into a store; changes `place` to what is there then.

    Args:
        position: of the store's last entry; those of the piece get the next ones.

    Raises: SequenceConflict, StoreDamaged, StoreNewer, Misuse, as `Carriage.install`.
    """
    key, head = piece.key, place.head
    if not 1 <= len(key.encode()) <= MAX_KEY:
        raise Misuse(f"wanted a key of 1 to {MAX_KEY} bytes of UTF-8, got {len(key.encode())}")
    if piece.after < piece.first - 1:
        raise SequenceConflict(key, piece.first - 1, piece.after, path=path)
    if piece.after > head.sequence and piece.after >= piece.first:
        raise SequenceConflict(key, head.sequence + 1, piece.after + 1, path=path)
    rows: list[tuple[int, bytes]] = []
    epoch, sequence = head.epoch if head.sequence >= piece.after else 0, piece.after
    for packed in piece.entries:
        sequence += 1
        try:
            moved, found = moved_entry(packed, key, sequence, position + len(rows) + 1)
        except DamagedRecord as error:
            raise StoreDamaged(path, f"wanted {error.wanted}, got {error.found}", key, sequence) from error
        except NewerRecord as error:
            raise StoreNewer(path, error.found) from error
        if sequence <= head.sequence:
            continue
        if found < epoch:
            raise SequenceConflict(key, epoch, found, "epoch", path)
        epoch = found
        rows.append((sequence, moved))
    if rows:
        head = Head(sequence, epoch)
    elif piece.after > head.sequence:
        if not piece.snapshot:
            raise SequenceConflict(key, piece.after, 0, "snapshot", path)  # a history of which nothing is left
        head = Head(piece.after, piece.epoch)
    snapshot = b""
    if piece.snapshot:
        kept = checked_snapshot(piece.snapshot, key, path).sequence
        if not 1 <= kept <= head.sequence:
            raise SequenceConflict(key, head.sequence, kept, "snapshot", path)
        if kept >= place.snapshot:
            snapshot, place.snapshot = piece.snapshot, kept
    place.head, place.first = head, max(place.first, piece.first)
    return Fitted(key, rows, head, place.first, snapshot)
