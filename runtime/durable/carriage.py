"""How a shard's records go from one store into another: in pieces of one key each, packed as they lie.

A node that gives a shard away reads it piece by piece (`shard_keys`, `piece`) while its processes go on. The
other one puts the pieces into its own store, under the real keys (`reserve`, `install`); there the shard is
*staged*: it cannot be claimed, so nobody serves it. In the end it is either settled or erased, whole.

    chunk   u8 version, 1; u32 crc32 of the rest, big-endian; the pieces, as MessagePack arrays

The port's part that is about this is `Carriage`; its rules are in `runtime.durable.staging`. Source: the
snapshot and the log that follows it, as Raft's InstallSnapshot sends them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Annotated, Final, Protocol, final
from zlib import crc32

import msgspec

from ..errors import BanyanError

_VERSION: Final = 1
_HEAD = struct.Struct(">BI")
_Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class DamagedChunk(BanyanError):
    """Bytes that are no pieces as `pack_pieces` made them; `why`. Nothing of them may be used."""

    def __init__(self, why: str) -> None:
        super().__init__(f"wanted pieces of a shard, got bytes that are none ({why}): have them sent again")
        self.why = why


@final
class Piece(msgspec.Struct, frozen=True, gc=False, array_like=True, forbid_unknown_fields=True):
    """A part of one key's records.

    Attributes:
        key: the process's, as in `Entry`.
        first: the key's floor: its first entry that is kept.
        after: the entries here are `after` + 1, `after` + 2 and so on; at least `first` - 1.
        epoch: of the last of them; of the key's last one, if there are none here.
        entries: packed.
        snapshot: packed; b"" if there is none, it was sent before, or knows of an entry that is still to come.
    """

    key: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    first: _Count
    after: _Count
    epoch: Annotated[int, msgspec.Meta(ge=0)]
    entries: tuple[bytes, ...]
    snapshot: bytes = b""

    @property
    def last(self) -> int:
        """The last entry that this piece has, or had nothing to add to."""
        return self.after + len(self.entries)

    @property
    def size(self) -> int:
        """Its records' bytes."""
        return sum(map(len, self.entries)) + len(self.snapshot)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Piece])


def pack_pieces(pieces: Sequence[Piece]) -> bytes:
    """Pieces as one chunk of bytes."""
    body = _encoder.encode(pieces)
    return _HEAD.pack(_VERSION, crc32(body)) + body


def unpack_pieces(data: bytes) -> list[Piece]:
    """The pieces in a chunk. What their records hold is not looked at: `Carriage.install` does that.

    Raises: DamagedChunk.
    """
    if len(data) < _HEAD.size:
        raise DamagedChunk(f"{len(data)} bytes")
    version, crc = _HEAD.unpack_from(data)
    body = memoryview(data)[_HEAD.size :]
    if version != _VERSION:
        raise DamagedChunk(f"version {version}")
    if crc32(body) != crc:
        raise DamagedChunk("their checksum is another")
    try:
        return _decoder.decode(body)
    except msgspec.DecodeError as error:
        raise DamagedChunk(str(error)) from error


class Carriage(Protocol):
    """The part of a `Journal` that gives shards away and takes them in.

    A shard is *open* here if it was claimed and not sealed since, *staged* while it has a note.
    """

    def shard_keys(self, shard: int, after: str = "", limit: int = 1000) -> list[str]:
        """The keys above `after` that were noted as the shard's (`commit(homes=)`), by their UTF-8 bytes.

        Raises: StoreDamaged: a row of the index is not what was written.
        """

    def piece(self, key: str, after: int, size: int, snapshot_after: int = -1) -> Piece:
        """A key's entries from `after` + 1 on, or from its floor if that is higher, as they are stored.

        Not decoded, and not checked: whoever installs them does that.

        Args:
            after: the last entry that the other side has, 0 for none.
            size: about as many bytes at most, but always one entry if there is one.
            snapshot_after: the last snapshot that the other side has. A newer one goes with the piece that has
                the entry it was made at, or a later one.

        Raises: StoreDamaged: an entry is missing.
        """

    def reserve(self, shard: int, note: bytes) -> None:
        """Begin to stage a shard; durable when it returns. Done again, it replaces the note.

        Args:
            note: what the caller wants to know after a restart; 1 byte to 64 KiB.

        Raises: Misuse: the shard is open here, something of it is kept here, or it is being erased.
        """

    def staged(self) -> dict[int, bytes]:
        """The notes of the shards that are staged here; b"" for one that is being erased: go on with `erase`."""

    def install(self, shard: int, pieces: Sequence[Piece], note: bytes | None = None, claim: int = 0) -> None:
        """Put pieces of a staged shard in their places; all or none; durable when it returns.

        Each entry gets a new position, that of its arrival here. What is there already is passed over, so that
        a chunk may come twice. Keep a call below about a megabyte: it waits for the disk.

        Args:
            note: the shard's new note, if it changes with this.
            claim: the epoch under which the shard is written here from now on; 0: not yet. With it the shard is
                open, and staged until it is settled.

        Raises:
            Misuse: the shard was not reserved, or a key is out of its bounds.
            SequenceConflict: a piece leaves a gap behind what is here, or its epochs fall.
            StoreDamaged, StoreNewer: a record is not whole, of another key or sequence; of a later format.
            Fenced: the shard was claimed under a higher epoch, or sealed under this one.
            StoreFull, StoreFailed: as for `Journal.commit`.
        """

    def settle(self, shard: int) -> None:
        """A staged shard is this node's from now on: its note goes. Harmless if it is not staged.

        Raises: Misuse: its last pieces (`install(claim=)`) have not come, or it is being erased.
        """

    def erase(self, shard: int, limit: int = 2000) -> bool:
        """Remove a part of what is here of a shard that is staged, or is not open; durable when it returns.

        From the first call on the shard is sealed, and cannot be claimed before all is gone; nothing of it
        comes back, whenever this is interrupted.

        Args:
            limit: about as many records go at most, from 1 up.

        Returns:
            Whether nothing is left: until then, call again.

        Raises: Misuse: the shard is open here, and not staged.
        """
