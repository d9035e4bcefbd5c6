"""A journal on a simulated disk: a log of frames on a `Medium`, with an index of them in memory.

Every commit appends one frame and syncs it before it returns; an open reads the frames from the first to the
last whole one. So what is tested with it meets lost and torn writes, a disk that fails or is full, and a loss
of power at any point of a commit, while the records are the product's own, packed and checksummed.

    frame = magic, ordinal, length of body, crc32 of those and the body; body = one part for each record

A frame that is not whole, or not the next by its ordinal, ends the log: it was never synced, so nobody was
told of it. The last whole frame is written again at an open, because the sync after it may have failed.

Source: the write-ahead logs of etcd and SQLite.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn, final
from zlib import crc32

from runtime.backends.memory import MemoryDisk, MemoryJournal
from runtime.durable.carriage import Piece, pack_pieces, unpack_pieces
from runtime.durable.fence import claimed, pack_fence, row_of, sealed, written
from runtime.durable.journal import (
    NO_FENCES,
    NO_FLOORS,
    NO_HOMES,
    Fence,
    Head,
    Journal,
    JournalStats,
    StoreClosed,
    StoreFailed,
    StoreFull,
    StoreInUse,
    advance,
    check_meta,
    newest,
    touched,
)
from runtime.durable.record import Entry, Snapshot
from runtime.durable.staging import check_claim, check_home, check_settle, stage_of
from runtime.errors import Misuse
from runtime.testing import Medium

if TYPE_CHECKING:
    from random import Random

_FRAME = struct.Struct(">4sQII")
_PART = struct.Struct(">cHI")
_MAGIC = b"BLog"
_EPOCH = struct.Struct(">Q")
_SHARD = struct.Struct(">H")

# Where a commit can be struck, in order; see `LoggedDisk.probe`.
POINTS = ("staged", "torn", "written", "synced")


@final
class LoggedDisk:
    """A simulated disk with one journal on it; it outlives the journal.

    Attributes:
        medium: its surface; set `full` and `broken` there.
        probe: called in each write to the log with each of POINTS: before anything is written, when half of
            it is, before the sync, after it. An exception from it is a crash there.
        index: what the log says; None until the first open.
        tried: the last group of entries that somebody tried to commit.
    """

    def __init__(self, name: str = "disk") -> None:
        self.name = name
        self.medium = Medium()
        self.probe: Callable[[str], None] | None = None
        self.index: MemoryDisk | None = None
        self.tried: tuple[Entry, ...] = ()
        self.owner: LoggedJournal | None = None

    def open(self, *, node: str = "", read_only: bool = False) -> Journal:
        """Open the journal; see `MemoryJournal`."""
        return LoggedJournal(self, node=node, read_only=read_only)

    def crash(self) -> None:
        """End the journal that is open as kill -9 would: what was written stays."""
        if self.owner is not None:
            self.owner.close()

    def lose_power(self, rng: Random) -> None:
        """End the journal that is open, and lose what was not synced."""
        self.crash()
        self.medium.lose_power(rng)

    def damage(self, choice: float) -> str | None:
        """Flip one bit of one entry, as it is read until the next open; returns its key, None if there is none.

        Args:
            choice: from 0 up to below 1: which entry and which bit.
        """
        index = self.index
        if index is None:
            return None
        # Only what lies behind a snapshot is read by a recovery.
        unread = {key: Snapshot.unpack(data).sequence for key, data in index.snapshots.items()}
        records = [
            (key, n)
            for key, rows in sorted(index.entries.items())
            for n in range(1 + max(unread.get(key, 0), len(rows) - 8), len(rows) + 1)
            if rows[n - 1]
        ]
        if not records:
            return None
        place, rest = divmod(choice * len(records), 1.0)
        key, sequence = records[int(place)]
        index.damage(key, sequence, int(rest * 8 * len(index.entries[key][sequence - 1])))
        return key


@final
class LoggedJournal:
    """A `Journal` on a `LoggedDisk`; arguments and errors as of `MemoryJournal`."""

    def __init__(self, disk: LoggedDisk, *, node: str = "", read_only: bool = False) -> None:
        if disk.owner is not None:
            raise StoreInUse(disk.name, 0)
        self._disk = disk
        self._medium = disk.medium
        self._closed = False
        self._failure = ""
        self._read_only = read_only
        if disk.medium.full and not read_only:
            raise StoreFull(disk.name, "the simulated disk is full")
        index = MemoryDisk(disk.name)
        self._end, self._ordinal = 0, 0
        last = self._scan(index)
        self._inner = MemoryJournal(index, node=node, read_only=read_only)
        self._index = disk.index = index
        if not read_only:
            # The sync after the last frame may have failed, and what lies beyond it must not come back.
            self._attempt(lambda: self._mend(last))
            self._append([(b"O", index.node, _EPOCH.pack(index.epoch))])
        disk.owner = self

    # -- the port ------------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        return self._inner.epoch

    @property
    def path(self) -> str:
        return self._disk.name

    def commit(
        self,
        entries: Sequence[Entry],
        snapshots: Sequence[Snapshot] = (),
        floors: Mapping[str, int] = NO_FLOORS,
        fences: Mapping[int, int] = NO_FENCES,
        homes: Mapping[str, int] = NO_HOMES,
    ) -> None:
        inner = self._writable()
        if not entries and not snapshots and not homes:
            return
        first = self._index.position + 1
        parts = [(b"E", entry.key, entry.pack(position)) for position, entry in enumerate(entries, first)]
        parts += [(b"S", key, snapshot.pack()) for key, snapshot in newest(snapshots).items()]
        parts += [(b"F", key, _EPOCH.pack(floor)) for key, floor in floors.items()]
        # Judged before a byte is written; the index judges the same way once more.
        for shard, epoch in fences.items():
            fence = written(self._disk.name, shard, epoch, self.fence(shard))
            parts.append((b"M", row_of(shard), pack_fence(fence)))
        heads = {key: self._index.heads.get(key, Head()) for key in touched(entries, snapshots)}
        advance(heads, entries, snapshots, self._disk.name, floors)
        for key, shard in homes.items():
            check_home(key, shard, heads.get(key) or self._index.heads.get(key))
            parts.append((b"H", key, _SHARD.pack(shard)))
        self._disk.tried = tuple(entries)
        self._append(parts)
        inner.commit(entries, snapshots, floors, fences, homes)

    def head(self, key: str) -> int:
        return self._usable().head(key)

    def load(self, key: str) -> tuple[Snapshot | None, list[Entry]]:
        return self._usable().load(key)

    def first(self, key: str) -> int:
        return self._usable().first(key)

    def read(self, key: str, after: int = 0, limit: int | None = None) -> list[Entry]:
        return self._usable().read(key, after, limit)

    def keys(self, prefix: str = "") -> list[str]:
        return self._usable().keys(prefix)

    def get_meta(self, name: str) -> bytes | None:
        return self._usable().get_meta(name)

    def set_meta(self, name: str, value: bytes) -> None:
        check_meta(name, value)
        inner = self._writable()
        self._append([(b"M", name, value)])
        inner.set_meta(name, value)

    def claim(self, epochs: Mapping[int, int]) -> None:
        inner, name = self._writable(), self._disk.name
        rows: dict[int, Fence] = {}
        for shard, epoch in epochs.items():
            check_claim(name, shard, epoch, self.fence(shard), self._index.stage(shard))
            rows[shard] = claimed(name, shard, epoch, self.fence(shard))
        if rows:
            self._append([(b"M", row_of(shard), pack_fence(fence)) for shard, fence in rows.items()])
            inner.claim(epochs)

    def seal(self, shard: int, epoch: int) -> None:
        inner = self._writable()
        fence = sealed(self._disk.name, shard, epoch, self.fence(shard))
        self._append([(b"M", row_of(shard), pack_fence(fence))])
        inner.seal(shard, epoch)

    def fence(self, shard: int) -> Fence:
        return self._usable().fence(shard)

    def shard_keys(self, shard: int, after: str = "", limit: int = 1000) -> list[str]:
        return self._usable().shard_keys(shard, after, limit)

    def piece(self, key: str, after: int, size: int, snapshot_after: int = -1) -> Piece:
        return self._usable().piece(key, after, size, snapshot_after)

    def reserve(self, shard: int, note: bytes) -> None:
        inner = self._writable()
        self._append(_rows(self._index.to_reserve(shard, note)))
        inner.reserve(shard, note)

    def staged(self) -> dict[int, bytes]:
        return self._usable().staged()

    def install(self, shard: int, pieces: Sequence[Piece], note: bytes | None = None, claim: int = 0) -> None:
        inner = self._writable()
        rows = self._index.to_install(shard, note, claim)
        self._index.fit(pieces)
        # The index fits them again, here and at each open: the same as long as the log is.
        self._append([(b"I", str(shard), pack_pieces(pieces)), *_rows(rows)])
        inner.install(shard, pieces, note, claim)

    def settle(self, shard: int) -> None:
        inner = self._writable()
        check_settle(self._disk.name, shard, self.fence(shard), self._index.stage(shard))
        self._append(_rows({stage_of(shard): None}))
        inner.settle(shard)

    def erase(self, shard: int, limit: int = 2000) -> bool:
        inner = self._writable()
        keys, rows = self._index.to_erase(shard, limit)
        if rows:
            self._append([*((b"X", key, _SHARD.pack(shard)) for key in keys), *_rows(rows)])
        return inner.erase(shard, limit)

    def stats(self) -> JournalStats:
        return self._usable().stats()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._inner.close()
            self._disk.owner = None

    # -- the log -------------------------------------------------------------------------------------

    def _usable(self) -> MemoryJournal:
        if self._closed:
            raise StoreClosed(self._disk.name, "it was closed")
        if self._failure:
            raise StoreFailed(self._disk.name, self._failure)
        return self._inner

    def _writable(self) -> MemoryJournal:
        inner = self._usable()
        if self._read_only:
            raise Misuse(f"the store {self._disk.name} was opened for reading only: open it for writing")
        return inner

    def _append(self, parts: list[tuple[bytes, str, bytes]]) -> None:
        """Write one frame at the end of the log, and sync it."""
        body = b"".join(
            _PART.pack(kind, len(key.encode()), len(data)) + key.encode() + data for kind, key, data in parts
        )
        head = _FRAME.pack(_MAGIC, self._ordinal + 1, len(body), 0)[:-4]
        frame = head + crc32(body, crc32(head)).to_bytes(4, "big") + body
        self._attempt(lambda: self._put(frame))
        self._end += len(frame)
        self._ordinal += 1

    def _put(self, frame: bytes) -> None:
        half = len(frame) // 2
        if self._medium.full:
            raise OSError(errno.ENOSPC, "the simulated disk is full")
        self._strike("staged")
        self._medium.write(self._end, frame[:half])
        self._strike("torn")
        self._medium.write(self._end + half, frame[half:])
        self._strike("written")
        self._medium.sync()
        self._strike("synced")

    def _mend(self, last: bytes) -> None:
        """Write the last whole frame again, and zeros over what lies behind it."""
        tail = bytes(len(self._medium) - self._end)
        self._medium.write(self._end - len(last), last + tail)
        self._medium.sync()

    def _attempt(self, write: Callable[[], None]) -> None:
        """Write to the medium; how that fails is told in the store's words."""
        try:
            write()
        except OSError as error:
            self._refuse(error)
        except BaseException as error:
            # A crash: this journal never knows how far it came.
            self._failure = f"it crashed in a commit: {error!r}"
            raise

    def _refuse(self, error: OSError) -> NoReturn:
        reason = str(error.strerror)
        if error.errno == errno.ENOSPC:
            raise StoreFull(self._disk.name, reason) from error
        self._failure = reason
        raise StoreFailed(self._disk.name, reason) from error

    def _strike(self, point: str) -> None:
        if self._disk.probe is not None:
            self._disk.probe(point)

    def _scan(self, index: MemoryDisk) -> bytes:
        """Read the log into `index`, up to its last whole frame; returns that frame."""
        log = self._medium.read()
        last = b""
        while len(log) - self._end >= _FRAME.size:
            magic, ordinal, length, crc = _FRAME.unpack_from(log, self._end)
            first = self._end + _FRAME.size
            body = log[first : first + length]
            whole = magic == _MAGIC and ordinal == self._ordinal + 1 and len(body) == length
            if not whole or crc32(body, crc32(log[self._end : first - 4])) != crc:
                break
            last = log[self._end : first + length]
            self._end, self._ordinal = first + length, ordinal
            _index(index, body)
        return last


def _rows(rows: Mapping[str, bytes | None]) -> list[tuple[bytes, str, bytes]]:
    return [(b"D", name, b"") if value is None else (b"M", name, value) for name, value in rows.items()]


def _index(index: MemoryDisk, body: bytes) -> None:
    """Add a frame's records to an index."""
    at = 0
    while at < len(body):
        kind, key_length, length = _PART.unpack_from(body, at)
        at += _PART.size
        key = body[at : at + key_length].decode()
        at += key_length
        data = body[at : at + length]
        at += length
        match kind:
            case b"E":
                entry = Entry.unpack(data)
                index.entries.setdefault(key, []).append(data)
                index.heads[key] = Head(entry.sequence, entry.epoch)
                index.position = entry.feed
            case b"S":
                stored = index.snapshots.get(key)
                # An older one than is stored was passed over.
                if stored is None or Snapshot.unpack(stored).sequence <= Snapshot.unpack(data).sequence:
                    index.snapshots[key] = data
            case b"F":
                index.drop(key, _EPOCH.unpack(data)[0])
            case b"M":
                index.meta[key] = data
            case b"D":
                index.meta.pop(key, None)
            case b"H":
                index.homes.setdefault(_SHARD.unpack(data)[0], set()).add(key)
            case b"X":
                index.erase(_SHARD.unpack(data)[0], [key])
            case b"I":
                index.put(int(key), index.fit(unpack_pieces(data)))
            case _:
                index.node, index.epoch = key, _EPOCH.unpack(data)[0]


# The type checker holds the class against the port here.
_port: type[Journal] = LoggedJournal
