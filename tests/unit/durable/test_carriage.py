"""Chunks of pieces: read as they were packed, or refused."""

from __future__ import annotations

import struct
from zlib import crc32

import pytest

from runtime.durable.carriage import DamagedChunk, Piece, pack_pieces, unpack_pieces


def test_a_chunk_is_read_as_it_was_packed() -> None:
    """Pieces survive the way."""
    pieces = [
        Piece("a", 1, 0, 5, (b"x", b"", bytes(5000)), b"s"),
        Piece("é" * 100, 2**62, 2**62 + 9, 2**64 - 1, ()),
    ]
    assert unpack_pieces(pack_pieces(pieces)) == pieces
    assert unpack_pieces(pack_pieces([])) == []
    assert (pieces[0].last, pieces[0].size) == (3, 5002)


def test_a_damaged_chunk_is_found() -> None:
    """Every flipped bit and every cut is refused."""
    chunk = pack_pieces([Piece("a", 1, 0, 5, (b"xyz",), b"s")])
    for at in range(len(chunk)):
        for damaged in (chunk[:at], chunk[:at] + bytes([chunk[at] ^ 4]) + chunk[at + 1 :]):
            with pytest.raises(DamagedChunk):
                unpack_pieces(damaged)
    with pytest.raises(DamagedChunk):
        unpack_pieces(chunk + b"\0")


@pytest.mark.parametrize(
    "piece",
    [
        Piece("", 1, 0, 5, ()),
        Piece("a" * 256, 1, 0, 5, ()),
        Piece("a", -1, 0, 5, ()),
        Piece("a", 1, -1, 5, ()),
        Piece("a", 1, 2**63, 5, ()),
        Piece("a", 1, 0, -1, ()),
        Piece("a", 1, 0, 5, (7,)),  # type: ignore[arg-type]  # what somebody hostile could send
        Piece("a", 1, 0, 5, (), None),  # type: ignore[arg-type]  # the same
    ],
)
def test_values_out_of_bounds_are_no_pieces(piece: Piece) -> None:
    """A whole checksum does not make pieces of anything."""
    with pytest.raises(DamagedChunk):
        unpack_pieces(pack_pieces([piece]))


@pytest.mark.parametrize(
    "body",
    [
        "dd ffffffff",
        "91 96 a161 01 00 05 dd 0fffffff c0",
        "91 96 a161 01 00 05 dd ffffffff c40161",
        "91 96 a161 01 00 05 91 c6 ffffffff",
        "91 db ffffffff",
        "91 " * 5000,
    ],
)
def test_a_length_that_lies_is_refused(body: str) -> None:
    """Counts and lengths beyond what is there, and depths, cost nothing: each is found where the bytes end."""
    data = bytes.fromhex(body)
    with pytest.raises(DamagedChunk):
        unpack_pieces(struct.pack(">BI", 1, crc32(data)) + data)
