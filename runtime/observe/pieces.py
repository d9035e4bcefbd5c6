"""Long lists are read in pieces, between which all others run.

So no question holds up a node for longer than a piece takes, however many processes it has. What was read in
one piece may have changed when the next one is: see "What an answer is a picture of" in docs/admin.md.
"""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar, final

import msgspec
import trio

from .protocol import REPLY_LIMIT, too_long

T = TypeVar("T")

# Things that are looked at before all others have a turn.
PIECE = 200
# As many are put in order at once.
RUN = 1000


@final
class in_pieces(AsyncIterator[T]):
    """Go through something that does not change meanwhile, letting all others run after each `size` of it.

    A class and no generator, so that whoever has found what they looked for can leave it.
    """

    def __init__(self, found: Iterable[T], size: int = PIECE) -> None:
        self._found = iter(found)
        self._left = self._size = size

    async def __anext__(self) -> T:
        self._left -= 1
        if self._left < 0:
            self._left = self._size
            await trio.lowlevel.checkpoint()
        for one in self._found:
            return one
        raise StopAsyncIteration


async def least(found: AsyncIterator[T], limit: int, key: Callable[[T], Any]) -> list[T]:
    """The `limit` least of what comes, in order; of equals the first that came."""
    runs: list[list[T]] = []
    run: list[T] = []
    async for one in found:
        run.append(one)
        if len(run) == RUN:
            run.sort(key=key)
            del run[limit:]
            runs.append(run)
            run = []
    run.sort(key=key)
    runs.append(run)
    merged: Iterator[T] = islice(heapq.merge(*runs, key=key), limit)
    return [one async for one in in_pieces(merged)]


async def list_json(found: list[Any]) -> msgspec.Raw:
    """A list as JSON; raises Refusal as soon as it is longer than a reply may be."""
    parts: list[bytes] = []
    size = 0
    for begin in range(0, len(found), PIECE):
        parts.append(msgspec.json.encode(found[begin : begin + PIECE])[1:-1])
        size += len(parts[-1])
        if size > REPLY_LIMIT:
            raise too_long(size)
        await trio.lowlevel.checkpoint()
    return msgspec.Raw(b"[" + b",".join(parts) + b"]")
