"""Journal format 1: what one accepted command left behind, and a process's state at one point, as bytes.

An `Entry` is the outcome of one command for one process; a `Snapshot` is what the entries up to its sequence
amount to. Both are packed under one fixed header that begins with the format's version and ends with a crc32
over all that follows the checksum's own field and all before it: header, key, sender and payload. The key
and the sequence are part of the record, so that a record which was moved or copied to another place is
found, and not only one whose bits have changed. Nothing is compressed and nothing is implied.

    offset  entry                                snapshot
    0       u8  format version, 1                u8  format version, 1
    1       u8  kind, 0x45 "E"                   u8  kind, 0x53 "S"
    2       u8  length of key, u8 of sender      u8  length of key, u8 zero
    4       u32 crc32 of all other bytes         u32 crc32 of all other bytes
    8       u32 schema                           u32 schema
    12      u32 length of payload                u32 length of payload
    16      u64 sequence                         u64 sequence
    24      u64 epoch                            u64 epoch
    32      f64 wall                             f64 wall
    40      u64 number                           key, payload
    48      u64 feed
    56      key, sender, payload

All numbers are big-endian. A file of these bytes is kept in tests/golden and must be readable for ever; a
change of format raises the version and adds a reader for the old one. Source: the record framing of Kafka
and of etcd's write-ahead log.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, final
from zlib import crc32

import msgspec

from ..errors import BanyanError, Misuse

FORMAT: Final = 1
MAX_KEY: Final = 255  # bytes of UTF-8
MAX_PAYLOAD: Final = 64 << 20  # bytes; larger states travel in parts
_ENTRY: Final = 0x45
_SNAPSHOT: Final = 0x53
# version, kind, length of key, of sender; crc, schema, length of payload; sequence, epoch, wall; number, feed
_ENTRY_HEAD = struct.Struct(">BBBBIIIQQdQQ")
_ENTRY_REST = struct.Struct(">IIQQdQQ")  # the same from the schema on
_SNAPSHOT_HEAD = struct.Struct(">BBBBIIIQQd")
_CRC = struct.Struct(">I")
_POSITION = struct.Struct(">Q")
_FEED: Final = 48  # the position's offset, the last of an entry's head
_LARGEST = (1 << 64) - 1


class DamagedRecord(BanyanError):
    """A record whose bytes are not what was written, or that lies in another's place.

    `key` and `sequence` say which record was asked for (or, if nobody asked, what its header claims);
    `wanted` and `found` say what is wrong. Nothing of it may be used.
    """

    def __init__(self, key: str, sequence: int, wanted: str, found: str) -> None:
        super().__init__(
            f"record {sequence} of {key or 'an unknown key'!r} is damaged: wanted {wanted}, found {found}; "
            "restore it from a backup"
        )
        self.key = key
        self.sequence = sequence
        self.wanted = wanted
        self.found = found


class NewerRecord(BanyanError):
    """A whole record of a format after FORMAT, which this program cannot read; `found`, `supported`."""

    def __init__(self, key: str, sequence: int, found: int) -> None:
        super().__init__(
            f"record {sequence} of {key or 'an unknown key'!r} is of format {found}, and this program reads "
            f"up to {FORMAT}: use the program that wrote it, or a newer one"
        )
        self.key = key
        self.sequence = sequence
        self.found = found
        self.supported = FORMAT


@final
class Entry(msgspec.Struct, frozen=True, gc=False):
    """The outcome of one command for one process.

    A struct: one is made for each command, in a fifth of the time of a frozen dataclass. It holds nothing that could
    refer back to it, so the garbage collector need not know of it.

    Attributes:
        key: the process's lasting identity such as "wallet/ann"; 1 to 255 bytes of UTF-8.
        sequence: 1 for a key's first entry, then one more each time, without a gap.
        epoch: which incarnation wrote it; never falls within a key.
        schema: the version of the process class's state, from 0.
        sender: who sent the numbered command; "" for none; at most 255 bytes of UTF-8.
        number: the command's number; 0 for none.
        wall: when it was accepted, in seconds since the Unix epoch. For people and retention; nothing is
            ordered by it.
        feed: its position: 1 for the first entry of a store, then one more for each, whatever its key. The
            journal gives it with the commit; 0 before. No part of what an entry says: two that differ only
            in this are equal.
        payload: events and reply, as the codec wrote them; at most MAX_PAYLOAD bytes.
    """

    key: str
    sequence: int
    epoch: int
    schema: int
    sender: str
    number: int
    wall: float
    feed: int
    payload: bytes

    def __eq__(self, other: object) -> bool:
        return type(other) is Entry and _what(self) == _what(other)

    def __hash__(self) -> int:
        return hash(_what(self))

    def pack(self, position: int | None = None) -> bytes:
        """The record's bytes in format 1, with `position` as its feed if given; `Misuse` if out of bounds."""
        payload, sequence = self.payload, self.sequence
        try:
            key, sender = self.key.encode(), self.sender.encode()
        except UnicodeEncodeError as error:
            raise _no_text() from error
        if not 1 <= len(key) <= MAX_KEY or len(sender) > MAX_KEY or len(payload) > MAX_PAYLOAD:
            raise _too_long(len(key), len(sender), len(payload))
        if sequence < 1:
            raise Misuse(f"sequences of {self.key!r} count from 1, got {sequence}")
        try:
            head = _ENTRY_REST.pack(
                self.schema,
                len(payload),
                sequence,
                self.epoch,
                self.wall,
                self.number,
                self.feed if position is None else position,
            )
        except struct.error as error:
            raise _out_of_bounds(self, error) from error
        start = bytes((FORMAT, _ENTRY, len(key), len(sender)))
        rest = b"".join((head, key, sender, payload))
        return b"".join((start, crc32(rest, crc32(start)).to_bytes(4, "big"), rest))

    @classmethod
    def unpack(cls, data: bytes, *, key: str = "", sequence: int = 0) -> Entry:
        """The entry that `pack` made into `data`.

        Args:
            data: the record and nothing behind it.
            key, sequence: which record was asked for, if known; another one is refused.

        Raises:
            DamagedRecord: the bytes are not what was written, or belong to another key or sequence.
            NewerRecord: the record is of a later format.
        """
        _check(data, key, sequence, _ENTRY, _ENTRY_HEAD.size)
        _, _, named, sent, _, schema, size, found, epoch, wall, number, feed = _ENTRY_HEAD.unpack_from(data)
        start = _ENTRY_HEAD.size + named
        end = start + sent
        if len(data) != end + size:
            raise DamagedRecord(key, sequence, f"{end + size} bytes", f"{len(data)}")
        name = _text(data[_ENTRY_HEAD.size : start], key, sequence)
        _expect(key, sequence, name, found)
        sender = _text(data[start:end], key, sequence)
        return cls(name, found, epoch, schema, sender, number, wall, feed, bytes(data[end:]))


def moved_entry(data: bytes, key: str, sequence: int, position: int) -> tuple[bytes, int]:
    """A packed entry as it is packed with another position, and its epoch; in a tenth of the time of doing that.

    Args:
        key, sequence: which record it must be.

    Raises: as `Entry.unpack`.
    """
    _check(data, key, sequence, _ENTRY, _ENTRY_HEAD.size)
    _, _, named, sent, _, _, size, found, epoch, _, _, _ = _ENTRY_HEAD.unpack_from(data)
    start = _ENTRY_HEAD.size + named
    if len(data) != start + sent + size:
        raise DamagedRecord(key, sequence, f"{start + sent + size} bytes", f"{len(data)}")
    _expect(key, sequence, _text(data[_ENTRY_HEAD.size : start], key, sequence), found)
    rest = b"".join((data[8:_FEED], _POSITION.pack(position), data[_ENTRY_HEAD.size :]))
    return b"".join((data[:4], _CRC.pack(crc32(rest, crc32(data[:4]))), rest)), epoch


def entry_epoch(data: bytes) -> int:
    """What a packed entry's header says its epoch is; 0 if it is too short for one. Nothing is checked."""
    if len(data) < _ENTRY_HEAD.size:
        return 0
    epoch: int = _ENTRY_HEAD.unpack_from(data)[8]
    return epoch


def snapshot_sequence(data: bytes) -> int:
    """What a packed snapshot's header says its sequence is; 0 if it is too short for one. Nothing is checked."""
    if len(data) < _SNAPSHOT_HEAD.size:
        return 0
    sequence: int = _SNAPSHOT_HEAD.unpack_from(data)[7]
    return sequence


# What two equal entries have in common.
_what = attrgetter("key", "sequence", "epoch", "schema", "sender", "number", "wall", "payload")


@final
@dataclass(frozen=True, slots=True)
class Snapshot:
    """A process's state after the entry with its `sequence`; the fields mean what they mean in `Entry`."""

    key: str
    sequence: int
    epoch: int
    schema: int
    wall: float
    payload: bytes

    def pack(self) -> bytes:
        """The record's bytes in format 1; `Misuse` if a value is out of its bounds."""
        key, payload = _bytes(self.key), self.payload
        if not 1 <= len(key) <= MAX_KEY or len(payload) > MAX_PAYLOAD:
            raise _too_long(len(key), 0, len(payload))
        try:
            head = _SNAPSHOT_HEAD.pack(
                FORMAT,
                _SNAPSHOT,
                len(key),
                0,
                0,
                self.schema,
                len(payload),
                self.sequence,
                self.epoch,
                self.wall,
            )
        except struct.error as error:
            raise _out_of_bounds(self, error) from error
        rest = b"".join((head[8:], key, payload))
        return head[:4] + crc32(rest, crc32(head[:4])).to_bytes(4, "big") + rest

    @classmethod
    def unpack(cls, data: bytes, *, key: str = "") -> Snapshot:
        """The snapshot that `pack` made into `data`; arguments and errors as for `Entry.unpack`."""
        _check(data, key, 0, _SNAPSHOT, _SNAPSHOT_HEAD.size)
        _, _, named, _, _, schema, size, sequence, epoch, wall = _SNAPSHOT_HEAD.unpack_from(data)
        start = _SNAPSHOT_HEAD.size + named
        if len(data) != start + size:
            raise DamagedRecord(key, sequence, f"{start + size} bytes", f"{len(data)}")
        name = _text(data[_SNAPSHOT_HEAD.size : start], key, 0)
        _expect(key, 0, name, 0)
        return cls(name, sequence, epoch, schema, wall, bytes(data[start:]))


def _check(data: bytes, key: str, sequence: int, kind: int, head: int) -> None:
    """Refuse a record whose length, checksum, version or kind is wrong."""
    if len(data) < head:
        # A later format may have a shorter head; the checksum's place is fixed for all of them.
        if len(data) >= 8 and data[0] > FORMAT and _sum(data) == _CRC.unpack_from(data, 4)[0]:
            raise NewerRecord(key, sequence, data[0])
        raise DamagedRecord(key, sequence, f"at least {head} bytes", f"{len(data)}")
    if _sum(data) != _CRC.unpack_from(data, 4)[0]:
        raise DamagedRecord(key, sequence, f"checksum {_CRC.unpack_from(data, 4)[0]:08x}", f"{_sum(data):08x}")
    if data[0] > FORMAT:
        raise NewerRecord(key, sequence, data[0])
    if data[0] != FORMAT or data[1] != kind:
        raise DamagedRecord(
            key, sequence, f"format {FORMAT} and kind {chr(kind)!r}", f"format {data[0]} and {chr(data[1])!r}"
        )


def _text(data: bytes, key: str, sequence: int) -> str:
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise DamagedRecord(key, sequence, "names in UTF-8", "other bytes") from error


def _bytes(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise _no_text() from error


def _no_text() -> Misuse:
    return Misuse("wanted a name in UTF-8, got one with lone surrogates: use another name")


def _sum(data: bytes) -> int:
    return crc32(data[8:], crc32(data[:4]))


def _expect(key: str, sequence: int, found: str, number: int) -> None:
    if (key and key != found) or (sequence and sequence != number):
        wanted = f"{key!r} number {sequence}" if sequence else f"{key!r}"
        raise DamagedRecord(key, sequence, wanted, f"{found!r} number {number}" if number else f"{found!r}")


def _too_long(key: int, sender: int, payload: int) -> Misuse:
    return Misuse(
        f"wanted a key of 1 to {MAX_KEY} bytes, a sender of at most {MAX_KEY} and a payload of at most "
        f"{MAX_PAYLOAD}, got {key}, {sender} and {payload}: use shorter names, or a state in parts"
    )


def _out_of_bounds(record: Entry | Snapshot, error: struct.error) -> Misuse:
    return Misuse(
        f"wanted schema below 2**32 and sequence, epoch, number and feed from 0 to {_LARGEST}, "
        f"got a record of {record.key!r} that breaks this ({error})"
    )
