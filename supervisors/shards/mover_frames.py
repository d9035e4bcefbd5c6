"""How frames go from one mover to the other: whole, or in parts if they are larger than a message may be.

Between two movers what is sent keeps its order, and only the last of it can be lost, with the link; so parts need no
numbers but their own, and what was begun and not ended is forgotten with the next beginning.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, final

from runtime.cluster.dist import Dist
from runtime.cluster.terms import decode, encode
from runtime.codec.errors import DecodeError
from runtime.kernel.messages import message

from .handoff_frames import Chunk, Frame, Taken, Token

# Bytes of a part; what has fewer goes as it is. And of what is sent at once.
PART: Final = 64 << 10
SMALL: Final = 16 << 10
# A frame may have so many: the rest of a shard that was read while it was frozen, and its luggage.
MOST_PARTS: Final = 16384


@final
@message("mover.told")
class Told:
    """A frame, and the node whose mover sends it."""

    node: str
    frame: Frame


@final
@message("mover.part")
class Part:
    """A part of a `Told`, as the codec wrote it; `number` counts from 0 up to below `count`."""

    node: str
    move: str
    number: int
    count: int
    data: bytes


def size_of(frame: Frame) -> int:
    """About how many bytes a frame has; small ones are not told apart."""
    match frame:
        case Chunk(data=data):
            return len(data)
        case Token(last=last, luggage=luggage):
            return sum(len(data) for _, data in (*last, *luggage))
        case Taken(pids=pids):
            return sum(64 + len(key) for _, key, _ in pids)
    return 0


def cut(dist: Dist, node: str, frame: Frame) -> Iterator[Told | Part]:
    """What a frame of this node's mover is sent as. Raises Misuse if it cannot travel."""
    whole = Told(node, frame)
    if size_of(frame) <= PART + SMALL:
        yield whole
        return
    data = encode(dist, whole, cap=PART * MOST_PARTS)
    count = -(-len(data) // PART)
    for number in range(count):
        yield Part(node, frame.move, number, count, data[number * PART : (number + 1) * PART])


@final
class Joiner:
    """Puts the parts together that come from other movers."""

    def __init__(self, dist: Dist) -> None:
        self._dist = dist
        self._begun: dict[str, list[bytes]] = {}

    def take(self, part: Part) -> Told | None:
        """A part has come; the frame, if it was the last one. Raises DecodeError: they are no frame."""
        if part.number == 0:
            self._begun[part.node] = []
        begun = self._begun.get(part.node)
        if begun is None or part.number != len(begun) or part.count > MOST_PARTS:
            self.forget(part.node)
            return None
        begun.append(part.data)
        if len(begun) < part.count:
            return None
        self.forget(part.node)
        told = decode(self._dist, b"".join(begun))
        if type(told) is not Told:
            raise DecodeError("a frame of a mover", type(told).__qualname__)
        return told

    def forget(self, node: str) -> None:
        """Whatever a node has begun is not ended any more."""
        self._begun.pop(node, None)
