"""The stores that the contract suite runs over: each can be opened, left in a crash, and damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from runtime.backends.lmdb import LmdbJournal
from runtime.backends.memory import MemoryDisk, MemoryJournal
from runtime.durable.carriage import pack_pieces, unpack_pieces
from runtime.durable.journal import Journal
from runtime.durable.record import Entry, Snapshot
from tests.simulation.logged import LoggedDisk


class Store(Protocol):
    """Something that keeps a journal between two opens."""

    def open(self, *, node: str = "", read_only: bool = False) -> Journal: ...

    def damage(self, record: Entry | Snapshot) -> None:
        """Flip one bit in the middle of a stored record. The store must be closed."""


class MemoryStore:
    """A store in memory."""

    def __init__(self) -> None:
        self.disk = MemoryDisk()

    def open(self, *, node: str = "", read_only: bool = False) -> Journal:
        return MemoryJournal(self.disk, node=node, read_only=read_only)

    def damage(self, record: Entry | Snapshot) -> None:
        _damage(self.disk, record)


def _damage(disk: MemoryDisk, record: Entry | Snapshot) -> None:
    if isinstance(record, Entry):
        disk.damage(record.key, record.sequence, bit=300)
    else:
        data = bytearray(disk.snapshots[record.key])
        data[37] ^= 1
        disk.snapshots[record.key] = bytes(data)


class SimulatedStore:
    """A store on a simulated disk: a log that is read again at each open."""

    def __init__(self) -> None:
        self.disk = LoggedDisk()
        self._damaged: list[Entry | Snapshot] = []

    def open(self, *, node: str = "", read_only: bool = False) -> Journal:
        journal = self.disk.open(node=node, read_only=read_only)
        index = self.disk.index
        assert index is not None
        for record in self._damaged:
            _damage(index, record)
        return journal

    def damage(self, record: Entry | Snapshot) -> None:
        self._damaged.append(record)


class LmdbStore:
    """A store in LMDB files."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self, *, node: str = "", read_only: bool = False) -> Journal:
        return LmdbJournal.open(self.path, wall=lambda: 1e9, node=node, read_only=read_only)

    def damage(self, record: Entry | Snapshot) -> None:
        packed = record.pack()
        if isinstance(record, Entry):
            journal = self.open(read_only=True)
            (stored,) = journal.read(record.key, record.sequence - 1, 1)
            journal.close()
            packed = stored.pack()
        self.replace(packed, packed[:37] + bytes([packed[37] ^ 1]) + packed[38:])

    def replace(self, old: bytes, new: bytes) -> None:
        """Put other bytes in the place of some that occur in the file (in old pages of it too)."""
        data = self.path / "data.mdb"
        before = data.read_bytes()
        assert old in before
        assert len(old) == len(new)
        data.write_bytes(before.replace(old, new))


def entry(key: str, sequence: int, epoch: int = 1, **more: Any) -> Entry:
    """An entry of which only key and sequence matter."""
    fields: dict[str, Any] = {
        "schema": 1,
        "sender": "tests",
        "number": sequence,
        "wall": 1.5,
        "feed": 0,
        "payload": f"{key} {sequence}".encode(),
    }
    return Entry(key=key, sequence=sequence, epoch=epoch, **(fields | more))


def entries(key: str, first: int, last: int, epoch: int = 1) -> list[Entry]:
    """A key's entries from `first` to `last`."""
    return [entry(key, n, epoch) for n in range(first, last + 1)]


def snapshot(key: str, sequence: int, payload: bytes = b"") -> Snapshot:
    """A snapshot of which only key and sequence matter."""
    return Snapshot(key, sequence, 1, 1, 1.5, payload or f"{key} state {sequence}".encode())


def carry(source: Journal, target: Journal, shard: int, size: int = 1 << 20) -> None:
    """Bring all of a shard into a store that has reserved it, in pieces of a size, as chunks."""
    for key in source.shard_keys(shard):
        after = -1
        while after < source.head(key):
            piece = source.piece(key, max(after, 0), size)
            target.install(shard, unpack_pieces(pack_pieces([piece])))
            after = piece.last
