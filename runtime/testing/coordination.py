"""A coordination store in a simulation: shared by the nodes of one run, with answers that get lost.

Give each node its own line to one store, as the coordination of its `SeededWorld`:

    shared = SharedCoordination(LocalCoordination(), trace)
    line = shared.line("alpha", random.Random(f"{seed}/alpha/line"), lost=0.02)

What may happen to a question is what may happen to a thread and a lock: it takes a while; the node is cut off;
a change is made, and its answer lost; or it was given up, and is made later all the same.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from random import Random
from typing import final

import trio

from ..kernel.world import Coordination
from .scheduler import Trace

Change = tuple[str, int, bytes]

# Seconds by which a change that was given up may be late.
LATEST = 30.0


@final
class SharedCoordination:
    """The one store; `inner` keeps the rows."""

    def __init__(self, inner: Coordination, trace: Trace) -> None:
        self.inner = inner
        self._trace = trace
        # (when, number, changes) of what is still to be made.
        self._late: list[tuple[float, int, Sequence[Change]]] = []
        self._count = 0

    def line(self, host: str, rng: Random, *, lost: float = 0.0) -> CoordinationLine:
        """A node's way to the store.

        Args:
            rng: the line's own dice.
            lost: the chance of each answer to be lost.
        """
        return CoordinationLine(self, host, rng, lost)

    async def _read(self, host: str, prefix: str) -> Mapping[str, tuple[int, bytes]]:
        await self._land()
        found = await self.inner.read(prefix)
        self._trace.note("coordination read", host, prefix, len(found))
        return found

    async def _set(self, host: str, changes: Sequence[Change]) -> list[bool]:
        await self._land()
        made = await self.inner.compare_and_set(changes)
        for (name, expected, value), done in zip(changes, made, strict=True):
            self._trace.note("coordination set", host, name, expected, value, done)
        return made

    def _postpone(self, changes: Sequence[Change], seconds: float) -> None:
        self._count += 1
        heapq.heappush(self._late, (trio.current_time() + seconds, self._count, changes))

    async def _land(self) -> None:
        """Make what is due: nobody can tell the difference to a thread that makes it when it is."""
        while self._late and self._late[0][0] <= trio.current_time():
            _, _, changes = heapq.heappop(self._late)
            await self._set("late", changes)


@final
class CoordinationLine:
    """A `Coordination` for one node; made by `SharedCoordination.line`.

    Attributes:
        cut: while it is set, nothing that the node asks comes to an answer; a change may be made all the same.
        lost: the chance of each answer to be lost.
        slow: seconds that a question takes at most on each way.
    """

    def __init__(self, shared: SharedCoordination, host: str, rng: Random, lost: float) -> None:
        self.cut = False
        self.lost = lost
        self.slow = 0.005
        self._shared = shared
        self._host = host
        self._random = rng

    async def read(self, prefix: str) -> Mapping[str, tuple[int, bytes]]:
        await self._pass()
        if self._is_lost():
            await trio.sleep_forever()
        found = await self._shared._read(self._host, prefix)
        await self._pass()
        return found

    async def compare_and_set(self, changes: Sequence[Change]) -> list[bool]:
        await self._pass()
        if self._is_lost():
            # Made now, or later, or never: the node hears of none.
            fate = self._random.random()
            if fate < 0.4:
                await self._shared._set(self._host, changes)
            elif fate < 0.7:
                self._shared._postpone(changes, self._random.uniform(0.0, LATEST))
            await trio.sleep_forever()
        made = await self._shared._set(self._host, changes)
        await self._pass()
        return made

    async def _pass(self) -> None:
        await trio.sleep(self._random.uniform(0.0, self.slow))

    def _is_lost(self) -> bool:
        return self._random.random() < self.lost or self.cut


# The type checker holds the class against the seam here.
_port: type[Coordination] = CoordinationLine
