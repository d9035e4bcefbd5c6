"""The tail of a journal in LMDB: entries that lie packed, group by group, and not yet each in its own row.

A commit that put each entry into its own process's rows would touch a page for each process; LMDB writes every
touched page, and that costs more than the sync. So a commit appends one row, the packed group, to a log,
and what the log holds is also kept here, in memory, by key. When enough has gathered, it is folded: entry by
entry into the rows where they belong, a bounded number with each later commit, and when all of a generation
are there, its groups are deleted. A crash between the two leaves entries in both places, which is no harm:
the rows say how far they go.

Pure: it packs, keeps and chooses; the journal writes. Source: the log and the folding of log-structured
merge trees (O'Neil et al.).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, final
from zlib import crc32

from ..durable.journal import Head
from ..durable.record import Entry

# Packed bytes that gather before they are folded. Bounds what a boot has to read, and memory.
FOLD_BYTES: Final = 4 << 20
# Entries folded with one commit, or twice as many as it holds if that is more, so that folding is never outrun.
FOLD_ENTRIES: Final = 256

_INDEX = struct.Struct(">II")  # crc32 of the rest of the index, how many entries
_PLACE = struct.Struct(">BQQI")  # length of key, sequence, epoch, length of record
_CRC = struct.Struct(">I")


@final
@dataclass(frozen=True, slots=True)
class Placed:
    """One entry in a packed group: where it belongs, and its record."""

    key: str
    sequence: int
    epoch: int
    packed: bytes


def pack_group(entries: Iterable[Entry], rows: list[bytes]) -> bytes:
    """One row for a group: an index that has its own checksum, then the records one after the other.

    With an index of its own, a flipped bit in one record says nothing about the others.
    """
    places: list[bytes] = []
    for entry, row in zip(entries, rows, strict=True):
        key = entry.key.encode()
        places += _PLACE.pack(len(key), entry.sequence, entry.epoch, len(row)), key
    count = _CRC.pack(len(rows))
    rest = b"".join(places)
    return b"".join((_CRC.pack(crc32(rest, crc32(count))), count, rest, *rows))


def unpack_group(data: bytes) -> list[Placed] | None:
    """The entries of a packed group, their records unchecked; None if its index is not what was written."""
    if len(data) < _INDEX.size:
        return None
    summed, count = _INDEX.unpack_from(data)
    start = at = _INDEX.size
    places: list[tuple[str, int, int, int]] = []
    try:
        for _ in range(count):
            size, sequence, epoch, length = _PLACE.unpack_from(data, at)
            at += _PLACE.size
            places.append((data[at : at + size].decode(), sequence, epoch, length))
            at += size
    except (struct.error, UnicodeDecodeError):
        return None
    if crc32(data[start:at], crc32(_CRC.pack(count))) != summed:
        return None
    found = []
    for key, sequence, epoch, length in places:
        found.append(Placed(key, sequence, epoch, data[at : at + length]))
        at += length
    return found if at == len(data) else None


# A key, some of its entries with their sequences, and the head that its rows have after them.
Portion = tuple[str, list[tuple[int, bytes]], Head]


@final
class Tail:
    """What the log holds, by key: a generation that grows, and one that is being folded.

    Invariants: a key's entries follow one another without a gap, from the rows' last one on; everything in
    the folding generation is older than everything in the growing one.
    """

    def __init__(self) -> None:
        self.heads: dict[str, Head] = {}
        self.size = 0
        # The last group of the generation that is being folded; 0 while none is.
        self.folding_to = 0
        self._growing: dict[str, list[tuple[int, bytes]]] = {}
        self._folding: dict[str, list[tuple[int, bytes]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._growing.values())) + sum(map(len, self._folding.values()))

    def add(self, key: str, sequence: int, epoch: int, packed: bytes) -> None:
        """Take the next entry of a key."""
        rows = self._growing.get(key)
        if rows is None:
            rows = self._growing[key] = []
        rows.append((sequence, packed))
        self.heads[key] = Head(sequence, epoch)
        self.size += len(packed)

    def take(self, entries: Sequence[Entry], rows: list[bytes], heads: Mapping[str, Head]) -> None:
        """Take a group: what `add` does for each of its entries, given the heads of their keys after all of them."""
        growing = self._growing
        for entry, row in zip(entries, rows, strict=True):
            key = entry.key
            held = growing.get(key)
            if held is None:
                held = growing[key] = []
            held.append((entry.sequence, row))
            self.heads[key] = heads[key]
        self.size += sum(map(len, rows))

    def rows(self, key: str) -> Iterator[tuple[int, bytes]]:
        """A key's entries that are not yet in rows of their own, in order."""
        yield from self._folding.get(key, ())
        yield from self._growing.get(key, ())

    def begin(self, last: int) -> None:
        """Start to fold everything up to group `last`."""
        self._folding, self._growing = self._growing, {}
        self.folding_to, self.size = last, 0

    def portion(self, entries: int) -> list[Portion]:
        """The next keys to fold, each with all or the first of its entries and the head that its rows get."""
        chosen: list[Portion] = []
        for key, rows in self._folding.items():
            part = rows[:entries]
            # The epoch of an older entry is not kept by itself; the rows' head may be ahead of them in that.
            chosen.append((key, part, Head(part[-1][0], self.heads[key].epoch)))
            entries -= len(part)
            if entries <= 0:
                break
        return chosen

    def folded(self, chosen: Iterable[Portion]) -> None:
        """The portion is in its rows now."""
        for key, part, _ in chosen:
            rows = self._folding[key]
            if len(part) == len(rows):
                del self._folding[key]
                if key not in self._growing:
                    del self.heads[key]
            else:
                self._folding[key] = list(islice(rows, len(part), None))

    @property
    def done(self) -> bool:
        """Whether a generation was folded to its end, so that its groups may go."""
        return self.folding_to > 0 and not self._folding

    def finish(self) -> None:
        """The groups of the folded generation are deleted."""
        self.folding_to = 0
