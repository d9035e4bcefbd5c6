"""What of a shard's records is still to be sent: first all of it, then, key by key, what has changed meanwhile.

The copy is read while the shard is used. From before the first read on the writers note the key of each record that
they commit; a key is taken off that list before it is read, so what was committed later puts it there again. What
the other side has of a key is known here, and only what is beyond that is sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Final, final

from runtime.durable.carriage import Piece, pack_pieces
from runtime.durable.record import Snapshot
from runtime.durable.writer import JournalWriter

from .stores import Stores, Turn

# Bytes of records in one chunk; and in one of those that are sent with the token.
CHUNK: Final = 128 << 10
LAST: Final = 768 << 10
# What a key costs beside its records.
_KEY: Final = 32


def chained(before: bytes, relaxed: bool, data: bytes) -> bytes:
    """The digest of all chunks up to this one, from that of those before it; b"" before the first."""
    return blake2b(before + bytes([relaxed]) + data, digest_size=32).digest()


@final
@dataclass(slots=True)
class Sent:
    """How far the other side has a key: its last entry and its last snapshot, -1 for none."""

    entry: int = 0
    snapshot: int = -1


@final
class Copying:
    """The records of one shard on their way; from `begin` to `end`.

    Attributes:
        bytes: so many were read, packed.
        digest: of all that was read, as `chained` has it.
    """

    def __init__(self, stores: Stores, shard: int, clock: Callable[[], float]) -> None:
        self._stores = stores
        self._shard = shard
        self._clock = clock
        self.bytes = 0
        self.digest = b""
        # By store: who notes what changes; the pages of keys that were not looked at yet, and the page in hand, with
        # the key that is read in parts; what has changed, in order; and what the other side has.
        self._watched: dict[bool, tuple[JournalWriter, set[str]]] = {}
        self._pages: dict[bool, Iterator[list[str]]] = {}
        self._fresh: dict[bool, deque[str]] = {}
        self._again: dict[bool, deque[str]] = {}
        self._sent: dict[bool, dict[str, Sent]] = {False: {}, True: {}}
        # What `rest` has changed, as it was.
        self._undo: tuple[bytes, int, dict[tuple[bool, str], Sent]] | None = None

    def begin(self) -> None:
        """Have all noted that changes from now on."""
        for relaxed in self._both():
            writer = self._stores.writer(relaxed)
            self._watched[relaxed] = (writer, writer.watch_shard(self._shard))
            self._fresh[relaxed], self._again[relaxed] = deque(), deque()
        for relaxed in self._stores.here():
            self._pages[relaxed] = self._stores.pages(relaxed, self._shard)

    def end(self) -> None:
        """Have nothing noted any more. Harmless if done twice."""
        for writer, _ in self._watched.values():
            writer.unwatch_shard(self._shard)
        self._watched.clear()

    def _both(self) -> list[bool]:
        # The relaxed store may be made while the copy runs.
        return [False, True] if self._stores.has_relaxed else [False]

    @property
    def changed(self) -> int:
        """How many keys have changed since they were sent."""
        return sum(len(keys) for _, keys in self._watched.values())

    @property
    def new(self) -> bool:
        """Whether some keys were never looked at."""
        return bool(self._pages) or any(self._fresh.values())

    @property
    def left(self) -> int:
        """How many keys are to be sent, as far as they are known."""
        return self.changed + sum(map(len, self._fresh.values()))

    async def read(self) -> tuple[bool, bytes]:
        """A chunk's worth of one of the stores, packed; b"" if there is nothing. Raises what `Carriage.piece` does."""
        turn = Turn(self._clock)
        for relaxed in list(self._watched):
            pieces: list[Piece] = []
            room = CHUNK
            while room > 0 and (key := self._next(relaxed)) is not None:
                room = self._take(relaxed, key, room, pieces)
                await turn.over()
            if pieces:
                return relaxed, self._packed(relaxed, pieces)
        return False, b""

    def rest(self, until: float) -> tuple[tuple[bool, bytes], ...]:
        """All that has changed and was not sent: to be read while nobody changes anything. See `undo`.

        Args:
            until: when to stop, by the clock; then it is not all, and of no use but to `undo`.
        """
        self._stores.flush()
        self._undo = (self.digest, self.bytes, {})
        last: list[tuple[bool, bytes]] = []
        for relaxed in list(self._watched):
            pieces: list[Piece] = []
            room = LAST
            while self._clock() <= until and (key := self._next(relaxed)) is not None:
                room = self._take(relaxed, key, room, pieces)
                if room <= 0:
                    last.append((relaxed, self._packed(relaxed, pieces)))
                    pieces, room = [], LAST
            if pieces:
                last.append((relaxed, self._packed(relaxed, pieces)))
        return tuple(last)

    def undo(self) -> None:
        """What `rest` gave will not be sent: it counts as changed again. Harmless without a `rest` before it."""
        if self._undo is None:
            return
        self.digest, self.bytes, sent = self._undo
        self._undo = None
        for (relaxed, key), before in sent.items():
            self._sent[relaxed][key] = before
            self._watched[relaxed][1].add(key)

    def _next(self, relaxed: bool) -> str | None:
        """The next key to be read; None if there is none."""
        writer, changed = self._watched[relaxed]
        if writer is not self._stores.writer(relaxed):
            raise RuntimeError("the journal's writer was restarted: what has changed meanwhile is not known")
        fresh = self._fresh[relaxed]
        if not fresh and relaxed in self._pages:
            page = next(self._pages[relaxed], None)
            if page is None:
                del self._pages[relaxed]
            else:
                fresh.extend(page)
        if fresh:
            changed.discard(fresh[0])
            return fresh.popleft()
        again = self._again[relaxed]
        if not again and changed:
            again.extend(sorted(changed))
        while again:
            key = again.popleft()
            if key in changed:
                changed.discard(key)
                return key
        return None

    def _take(self, relaxed: bool, key: str, room: int, pieces: list[Piece]) -> int:
        """Read a key as far as there is room; how much is left. What is not read is read next."""
        journal = self._stores.of(relaxed)
        sent = self._sent[relaxed].setdefault(key, Sent())
        if self._undo is not None:
            self._undo[2].setdefault((relaxed, key), replace(sent))
        piece = journal.piece(key, sent.entry, room, sent.snapshot)
        if piece.snapshot:
            sent.snapshot = Snapshot.unpack(piece.snapshot, key=key).sequence
        if piece.entries or piece.snapshot:
            pieces.append(piece)
        sent.entry = piece.last
        if piece.last < journal.head(key):
            self._fresh[relaxed].appendleft(key)
        return room - piece.size - len(key) - _KEY

    def _packed(self, relaxed: bool, pieces: list[Piece]) -> bytes:
        data = pack_pieces(pieces)
        self.bytes += len(data)
        self.digest = chained(self.digest, relaxed, data)
        return data
