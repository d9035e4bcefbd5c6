"""Frames: how the bytes between two nodes are divided. Pure.

A frame is a fixed header and a payload:

    length   4 bytes   of the payload, big-endian, at most the cap of the side that reads
    kind     1 byte    one of `Kind`
    to       8 bytes   the number of the process it is for; 0 where the payload or the number says it
    number   8 bytes   which call, which monitor, or from which process, as its kind wants it

The payload is one value in the safe encoding (`terms`), made once by whoever sends, or nothing. This file looks at
no payload: a frame that nobody understands costs its length and no more.

Nothing here is trusted: a reader holds at most one unfinished frame, and refuses a length over its cap and a kind
that it does not expect before it has read another byte. What it refuses ends the connection, because nobody can tell
where the next frame begins. Source: Erlang's distribution protocol; h11's `feed`.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple, final

from ..errors import BanyanError

# Bytes of a payload: between nodes that know each other, and before they do.
NODE_CAP: Final = 1 << 20
HELLO_CAP: Final = 4096

_HEADER = Struct(">IBQQ")
HEADER_SIZE: Final = _HEADER.size


class Kind(IntEnum):
    """What a frame is. The numbers are part of the format: never used again for another meaning."""

    # Of the connection itself.
    HELLO = 1
    WELCOME = 2
    REFUSED = 3
    BEAT = 4
    CREDIT = 5
    CLOSE = 6
    # Between processes.
    SEND = 16
    CALL = 17
    REPLY = 18
    EXIT = 19
    LINK = 20
    UNLINK = 21
    LINK_EXIT = 22
    MONITOR = 23
    DEMONITOR = 24
    DOWN = 25
    ASK = 26
    CAST = 27


KINDS: Final = frozenset(map(int, Kind))
# All that may come before both sides know who the other is.
BEFORE_AUTHENTICATION: Final = frozenset({int(Kind.HELLO), int(Kind.WELCOME), int(Kind.REFUSED)})
# What a credit pays for: a message that may have to wait for room. All else is little, and somebody waits for it.
CREDITED: Final = frozenset({int(Kind.SEND), int(Kind.CAST)})


class WireError(BanyanError):
    """Bytes that are no frame, or one that may not come now. The connection is of no more use."""


class Frame(NamedTuple):
    """One frame; `payload` is bytes that nobody has looked at."""

    kind: int
    to: int = 0
    number: int = 0
    payload: bytes = b""


# A frame without the detour through its own constructor, which takes as long as all else that is done for it.
_new: Final = tuple.__new__


def encode(frame: Frame) -> bytes:
    """The bytes of a frame. The caller has held the payload against the cap of the other side."""
    kind, to, number, payload = frame
    return _HEADER.pack(len(payload), kind, to, number) + payload


# The bytes of a header: (payload's length, kind, to, number). For who encodes many frames.
header: Final = _HEADER.pack


@final
class Decoder:
    """Cuts a stream of bytes into frames.

    Args:
        cap: bytes that a payload may have. May be raised between two frames, as `kinds` may be changed.
        kinds: those that may come.
    """

    __slots__ = ("_buffer", "_need", "cap", "kinds")

    def __init__(self, cap: int = NODE_CAP, kinds: frozenset[int] = KINDS) -> None:
        self.cap = cap
        self.kinds = kinds
        # Invariants: less than one whole frame between two calls of `feed`, and no more than it has bytes, as far as
        # they are known.
        self._buffer = bytearray()
        self._need = HEADER_SIZE

    @property
    def unfinished(self) -> int:
        """How many bytes of a frame are here whose rest has not come."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are complete with these bytes, in order.

        Raises:
            WireError: a length over the cap, or a kind that may not come now; frames before it are lost with it.
        """
        buffer = self._buffer
        if buffer:
            buffer += data
            if len(buffer) < self._need:
                return []
            data = bytes(buffer)
            buffer.clear()
        frames: list[Frame] = []
        add, unpack = frames.append, _HEADER.unpack_from
        at, end = 0, len(data)
        cap, kinds = self.cap, self.kinds
        self._need = HEADER_SIZE
        while end - at >= HEADER_SIZE:
            length, kind, to, number = unpack(data, at)
            if length > cap:
                raise WireError(f"wanted a frame of at most {cap} bytes, got one of {length}: send it in parts")
            if kind not in kinds:
                raise WireError(f"wanted a frame that may come now, got kind {kind}: is the other side of our version?")
            start = at + HEADER_SIZE
            if end - start < length:
                self._need = HEADER_SIZE + length
                break
            at = start + length
            add(_new(Frame, (kind, to, number, data[start:at])))
        if at < end:
            buffer += data[at:] if at else data
        return frames

    def take(self, data: bytes) -> tuple[Frame | None, bytes]:
        """The first frame that is complete with these bytes, and all that is behind it; None if none is.

        For a reader whose cap or kinds change with that frame. Raises WireError as `feed`.
        """
        buffer = self._buffer
        buffer += data
        if len(buffer) >= HEADER_SIZE:
            length = int.from_bytes(buffer[:4], "big")
            whole = HEADER_SIZE + length
            if length > self.cap or len(buffer) >= whole or buffer[4] not in self.kinds:
                rest = bytes(buffer[whole:])
                del buffer[whole:]
                return self.feed(b"")[0], rest
        return None, b""
