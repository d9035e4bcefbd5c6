"""A simulated disk's surface: bytes that are written to a cache, synced, and lost in the ways real ones are.

What a program reads back is the cache; what outlives a loss of power is what was synced, and of the rest any
subset of sectors, one of them torn. A kill of the program alone loses nothing that was written. A sync that
fails loses its writes for good, though they can still be read: whoever syncs again and believes it has been
lied to, as by Linux.

Source: the power-loss model of "All File Systems Are Not Created Equal" (Pillai et al.); "Can Applications
Recover from fsync Failures?" (Rebello et al.).
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Literal, final

if TYPE_CHECKING:
    from random import Random

SECTOR = 512  # bytes that a disk writes as one, unless its power goes in the middle

Broken = Literal["", "write", "sync"]


@final
class Medium:
    """One file on a simulated disk.

    Attributes:
        full: while it is set, a write raises OSError(ENOSPC) and changes nothing.
        broken: "write" or "sync": the next one raises OSError(EIO), as long as it is set.
        syncs: how many succeeded.
        lost: bytes that losses of power took, all in all.
    """

    def __init__(self) -> None:
        self.full = False
        self.broken: Broken = ""
        self.syncs = 0
        self.lost = 0
        self._cache = bytearray()
        self._platter = bytearray()
        # Invariant: applied to the platter in order, they make it the cache, but for what a failed sync lost.
        self._unsynced: list[tuple[int, bytes]] = []

    def __len__(self) -> int:
        return len(self._cache)

    def read(self) -> bytes:
        """All of it, as a program sees it."""
        return bytes(self._cache)

    def write(self, offset: int, data: bytes) -> None:
        """Put bytes at an offset, in the cache; raises OSError."""
        if self.full:
            raise OSError(errno.ENOSPC, "the simulated disk is full")
        if self.broken == "write":
            raise OSError(errno.EIO, "the simulated disk failed to write")
        _put(self._cache, offset, data)
        self._unsynced.append((offset, data))

    def sync(self) -> None:
        """Make all writes durable; raises OSError, and then they never are."""
        if self.broken == "sync":
            self._unsynced.clear()
            raise OSError(errno.EIO, "the simulated disk failed to sync")
        for offset, data in self._unsynced:
            _put(self._platter, offset, data)
        self._unsynced.clear()
        self.syncs += 1

    def lose_power(self, rng: Random) -> None:
        """Lose what was not synced: each sector of it with a chance that is drawn, and perhaps one in part."""
        kept = rng.choice((0.0, 0.5, 0.9))
        for offset, data in self._unsynced:
            for start in range(0, len(data), SECTOR):
                sector = data[start : start + SECTOR]
                if rng.random() >= kept:
                    sector = sector[: rng.randrange(len(sector))] if rng.random() < 0.3 else b""
                _put(self._platter, offset + start, sector)
        self.lost += sum(1 for ours, real in zip(self._cache, self._platter, strict=False) if ours != real)
        self.lost += max(0, len(self._cache) - len(self._platter))
        self._unsynced.clear()
        self._cache = bytearray(self._platter)


def _put(target: bytearray, offset: int, data: bytes) -> None:
    """Write into bytes that grow as a file does: a gap reads as zeros."""
    if data and len(target) < offset:
        target.extend(bytes(offset - len(target)))
    target[offset : offset + len(data)] = data
