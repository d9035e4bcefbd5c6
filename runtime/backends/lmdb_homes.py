"""The index of a journal in LMDB by shard: which keys are to go when a shard goes.

    shards      u16 shard, key -> crc32 of both

A row comes with the first entry that an owner of the shard commits for the key, and goes when the key's last
record was erased. The log has no part in it: a key is new only once.
"""

from __future__ import annotations

import struct
from typing import Final
from zlib import crc32

from ..durable.journal import StoreDamaged

SHARDS: Final = b"shards"

_SHARD = struct.Struct(">H")
_CRC = struct.Struct(">I")


def home_row(shard: int, key: bytes) -> bytes:
    """Where a key, in UTF-8, lies in the index."""
    return _SHARD.pack(shard) + key


def home_value(row: bytes) -> bytes:
    """What lies there."""
    return _CRC.pack(crc32(row))


def unpack_home(row: bytes, value: bytes, path: str) -> tuple[int, str]:
    """The shard and the key of a row; StoreDamaged if it is not what was written."""
    if value == home_value(row) and len(row) > _SHARD.size:
        try:
            return _SHARD.unpack_from(row)[0], row[_SHARD.size :].decode()
        except UnicodeDecodeError:
            pass  # nobody's key: the same as a wrong checksum
    raise StoreDamaged(path, f"a row of its index of shards is not what was written: {row[:40]!r}")
