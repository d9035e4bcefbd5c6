"""A journal that tells a trace of all that is written: the store of a seeded World.

It adds nothing else; faults are the disk's own (`MemoryDisk.full`, `broken`, `probe`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

from ..durable.carriage import Piece
from ..durable.journal import NO_FENCES, NO_FLOORS, NO_HOMES, Fence, Journal, JournalStats
from ..durable.record import Entry, Snapshot
from .scheduler import Trace


@final
class TracedJournal:
    """A `Journal` around another, whose promises it keeps; notes commits, also refused ones."""

    def __init__(self, inner: Journal, trace: Trace) -> None:
        self.inner = inner
        self._trace = trace

    @property
    def epoch(self) -> int:
        return self.inner.epoch

    @property
    def path(self) -> str:
        return self.inner.path

    def commit(
        self,
        entries: Sequence[Entry],
        snapshots: Sequence[Snapshot] = (),
        floors: Mapping[str, int] = NO_FLOORS,
        fences: Mapping[int, int] = NO_FENCES,
        homes: Mapping[str, int] = NO_HOMES,
    ) -> None:
        note = self._trace.note
        for entry in entries:
            note("entry", entry.key, entry.sequence, entry.epoch, entry.sender, entry.number, entry.wall)
            note("payload", entry.payload)
        for snapshot in snapshots:
            note("snapshot", snapshot.key, snapshot.sequence, snapshot.wall, snapshot.payload)
        for key, floor in floors.items():
            note("floor", key, floor)
        for shard, epoch in fences.items():
            note("fence", shard, epoch)
        for key, shard in homes.items():
            note("home", key, shard)
        self.inner.commit(entries, snapshots, floors, fences, homes)
        note("committed", len(entries), len(snapshots))

    def head(self, key: str) -> int:
        return self.inner.head(key)

    def load(self, key: str) -> tuple[Snapshot | None, list[Entry]]:
        return self.inner.load(key)

    def first(self, key: str) -> int:
        return self.inner.first(key)

    def read(self, key: str, after: int = 0, limit: int | None = None) -> list[Entry]:
        return self.inner.read(key, after, limit)

    def keys(self, prefix: str = "") -> list[str]:
        return self.inner.keys(prefix)

    def get_meta(self, name: str) -> bytes | None:
        return self.inner.get_meta(name)

    def set_meta(self, name: str, value: bytes) -> None:
        self._trace.note("meta", name, value)
        self.inner.set_meta(name, value)

    def claim(self, epochs: Mapping[int, int]) -> None:
        for shard, epoch in epochs.items():
            self._trace.note("claim", shard, epoch)
        self.inner.claim(epochs)

    def seal(self, shard: int, epoch: int) -> None:
        self._trace.note("seal", shard, epoch)
        self.inner.seal(shard, epoch)

    def fence(self, shard: int) -> Fence:
        return self.inner.fence(shard)

    def shard_keys(self, shard: int, after: str = "", limit: int = 1000) -> list[str]:
        return self.inner.shard_keys(shard, after, limit)

    def piece(self, key: str, after: int, size: int, snapshot_after: int = -1) -> Piece:
        return self.inner.piece(key, after, size, snapshot_after)

    def reserve(self, shard: int, note: bytes) -> None:
        self._trace.note("reserve", shard, note)
        self.inner.reserve(shard, note)

    def staged(self) -> dict[int, bytes]:
        return self.inner.staged()

    def install(self, shard: int, pieces: Sequence[Piece], note: bytes | None = None, claim: int = 0) -> None:
        for piece in pieces:
            self._trace.note("piece", piece.key, piece.first, piece.after, len(piece.entries), len(piece.snapshot))
        self._trace.note("install", shard, note or b"", claim)
        self.inner.install(shard, pieces, note, claim)
        self._trace.note("installed", shard)

    def settle(self, shard: int) -> None:
        self._trace.note("settle", shard)
        self.inner.settle(shard)

    def erase(self, shard: int, limit: int = 2000) -> bool:
        over = self.inner.erase(shard, limit)
        self._trace.note("erased", shard, over)
        return over

    def stats(self) -> JournalStats:
        return self.inner.stats()

    def close(self) -> None:
        self.inner.close()


# The type checker holds the class against the port here.
_port: type[Journal] = TracedJournal
