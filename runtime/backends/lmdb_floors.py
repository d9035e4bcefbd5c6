"""The floors of a journal in LMDB: from which entry on each key's history is kept.

    floors      key -> first entry kept, first one whose row may still be there, crc32

A floor counts from the commit that brings it: what lies below is read no more. The rows below are deleted
after and by, a bounded number with each commit that brings the same key a floor, so that no commit becomes
long because years of history are to go at once. Entries that are still in the log when their floor is set find
their rows later, by folding, and go with the next floor.
"""

from __future__ import annotations

import struct
from typing import Final
from zlib import crc32

from ..durable.journal import StoreDamaged

FLOORS: Final = b"floors"
# Rows of one key that one commit deletes, at most.
SWEPT_ROWS: Final = 4096

_FLOOR = struct.Struct(">QQ")
_CRC = struct.Struct(">I")


def pack_floor(key: str, first: int, unswept: int) -> bytes:
    """A key's floor as it is stored."""
    packed = _FLOOR.pack(first, unswept)
    return packed + _CRC.pack(crc32(packed, crc32(key.encode())))


def unpack_floor(key: str, stored: bytes | None, path: str) -> tuple[int, int]:
    """The first entry kept and the first one whose row may be there; StoreDamaged if it is not what was written."""
    if stored is None:
        return 1, 1
    if len(stored) == _FLOOR.size + _CRC.size:
        first, unswept = _FLOOR.unpack_from(stored)
        if stored == pack_floor(key, first, unswept):
            return first, unswept
    raise StoreDamaged(path, "its floor does not match its checksum", key)
