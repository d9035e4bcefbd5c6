"""How a journal's rows look in LMDB: the names of the databases, and every key and value that is not a record.

    meta        name -> crc32, value             format, epoch, node, bounds; what `set_meta` keeps
    log         group -> packed entries          what is not folded yet, as it was committed
    entries     key length, key, sequence -> record    a key's entries lie together, in order
    snapshots   key -> record
    heads       key -> sequence, epoch, crc32    of `entries`: shows when a key's last ones are gone
    floors, shards                               see `lmdb_floors`, `lmdb_homes`

Each value has a checksum that covers its key too, so that a row in another's place is found.
"""

from __future__ import annotations

import struct
from typing import Final, final
from zlib import crc32

from ..durable.journal import Head, StoreDamaged
from ..durable.record import MAX_KEY
from ..errors import Misuse

DATABASES: Final = (b"meta", b"log", b"entries", b"snapshots", b"heads")

# Rows of `meta`: the store's own begin with i, those of `set_meta` with m.
FORMAT_ROW: Final = b"iformat"
EPOCH_ROW: Final = b"iepoch"
NODE_ROW: Final = b"inode"
BOUNDS_ROW: Final = b"ilog"
TRANSACTION_ROW: Final = b"itransaction"
# The positions that were given and that no head counts: of shards that came and went (`lmdb_shards`).
OWED_ROW: Final = b"iowed"

_HEAD = struct.Struct(">QQ")
_EPOCH = struct.Struct(">Qd")  # the incarnation, and when it was opened, in seconds since the Unix epoch
_BOUNDS = struct.Struct(">QQQ")
_CRC = struct.Struct(">I")
_NUMBER = struct.Struct(">Q")
_OWED = struct.Struct(">q")


@final
class Bounds:
    """Of the log: the first group that is not deleted and the last one; and the last position given."""

    __slots__ = ("first", "last", "position")

    def __init__(self, first: int = 1, last: int = 0, position: int = 0) -> None:
        self.first = first
        self.last = last
        self.position = position

    def pack(self) -> bytes:
        """The row's value."""
        return summed(BOUNDS_ROW, _BOUNDS.pack(self.first, self.last, self.position))

    @classmethod
    def unpack(cls, value: bytes | None, path: str) -> Bounds:
        """The bounds in a value whose checksum held, those of an empty log if there is none; StoreDamaged."""
        if value is None:
            return cls()
        if len(value) != _BOUNDS.size:
            raise StoreDamaged(path, "the bounds of its log are gone")
        return cls(*_BOUNDS.unpack(value))


def pack_transaction(transaction: int) -> bytes:
    """The row that each transaction writes: LMDB's number of it."""
    return summed(TRANSACTION_ROW, _NUMBER.pack(transaction))


def unpack_transaction(value: bytes | None) -> int:
    """The number in a value whose checksum held; 0 if there is none."""
    if value is None or len(value) != _NUMBER.size:
        return 0
    number: int = _NUMBER.unpack(value)[0]
    return number


def pack_owed(owed: int) -> bytes:
    """The row of the positions that no head counts."""
    return summed(OWED_ROW, _OWED.pack(owed))


def unpack_owed(value: bytes | None, path: str) -> int:
    """Their number in a value whose checksum held, 0 if there is none; StoreDamaged."""
    if value is None:
        return 0
    if len(value) != _OWED.size:
        raise StoreDamaged(path, "the number of positions that shards took with them is gone")
    owed: int = _OWED.unpack(value)[0]
    return owed


def number_key(number: int) -> bytes:
    """The key of a group in the log."""
    return _NUMBER.pack(number)


def name(key: str) -> bytes:
    """A process's key as it is stored; Misuse if it cannot be."""
    raw = key.encode()
    if not 1 <= len(raw) <= MAX_KEY:
        raise Misuse(f"wanted a key of 1 to {MAX_KEY} bytes of UTF-8, got {len(raw)}: use another name")
    return raw


def entry_key(key: str, sequence: int) -> bytes:
    """Where an entry lies."""
    # The length goes first, so that "a" and "ab" do not mix, and a key's rows lie together in order.
    raw = key.encode()
    return b"%c%b%b" % (len(raw), raw, _NUMBER.pack(sequence))


def entry_place(row: bytes) -> tuple[str, int] | None:
    """The key and the sequence of an entry's row; None if it is none."""
    if len(row) < 1 + _NUMBER.size or row[0] != len(row) - 1 - _NUMBER.size:
        return None
    try:
        return row[1 : -_NUMBER.size].decode(), _NUMBER.unpack(row[-_NUMBER.size :])[0]
    except UnicodeDecodeError:
        return None


def pack_head(key: str, head: Head) -> bytes:
    """The value of a head."""
    packed = _HEAD.pack(head.sequence, head.epoch)
    return packed + _CRC.pack(crc32(packed, crc32(key.encode())))


def unpack_head(key: str, value: bytes | None, path: str) -> Head:
    """The head in a value, that of a key without entries if there is none; StoreDamaged."""
    if value is None:
        return Head()
    if len(value) == _HEAD.size + _CRC.size:
        head = Head(*_HEAD.unpack_from(value))
        if value == pack_head(key, head):
            return head
    raise StoreDamaged(path, "its head does not match its checksum", key)


def summed(row: bytes, value: bytes) -> bytes:
    """A value of `meta` behind its checksum."""
    return _CRC.pack(crc32(value, crc32(row))) + value


def unsummed(row: bytes, stored: bytes | None, path: str) -> bytes | None:
    """The value of a row of `meta`, None if there is none; StoreDamaged if it is not what was written."""
    if stored is None:
        return None
    value = stored[_CRC.size :]
    if stored != summed(row, value):
        raise StoreDamaged(path, f"its {row[1:].decode(errors='replace')!r} does not match its checksum")
    return value


def pack_epoch(epoch: int, wall: float) -> bytes:
    """The row of the store's epoch."""
    return summed(EPOCH_ROW, _EPOCH.pack(epoch, wall))


def unpack_epoch(value: bytes | None) -> int:
    """The epoch in a value whose checksum held; 0 if there is none."""
    if value is None or len(value) != _EPOCH.size:
        return 0
    epoch: int = _EPOCH.unpack(value)[0]
    return epoch
