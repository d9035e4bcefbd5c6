"""The World: every way in which the runtime touches what lies outside it.

Time, randomness, disk, network, blocking work and the end of the program go through one object, so
that a whole node can run inside a seeded world and be replayed to the byte. The real World is built in
`supervisors.node.boot`; the seeded one in `runtime.testing`. A house test refuses every other way out.

Monotonic time is Trio's clock. Wall time serves only logs, records and durable deadlines.
Source: FoundationDB's simulator (`INetwork`, BUGGIFY), TigerBeetle's VOPR.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Protocol, TypeVar

import trio

T = TypeVar("T")


class Listener(Protocol):
    """An open door: a stream for each that connects, until it is closed."""

    address: str

    def connections(self) -> AsyncIterator[trio.abc.Stream]: ...

    async def aclose(self) -> None: ...


class Transport(Protocol):
    """How byte streams are made. Addresses are `host:port`, or `unix:PATH`."""

    def listen(self, address: str) -> AbstractAsyncContextManager[Listener]: ...

    async def connect(self, address: str) -> trio.abc.Stream: ...


class Coordination(Protocol):
    """Compare-and-set over small named values: who owns what, under which epoch."""

    def read(self, name: str) -> tuple[int, bytes] | None:
        """The (version, value) under a name, or None."""

    def compare_and_set(self, name: str, expected: int, value: bytes) -> bool:
        """Store `value` as version `expected` + 1 if the version is still `expected` (0: none)."""


class World(Protocol):
    """The one seam. Production and the seeded simulation differ in nothing else."""

    random: random.Random
    transport: Transport
    coordination: Coordination

    def now(self) -> float:
        """Monotonic seconds: Trio's clock."""

    def wall(self) -> float:
        """Seconds since the Unix epoch: for records, logs and durable deadlines only."""

    def open_store(self, path: str, node: str, *, relaxed: bool = False) -> object:
        """The journal (`runtime.durable.journal.Journal`) kept under `path`, opened for this node.

        With `relaxed` the second one, beside it, whose last group a loss of power may take.
        """

    async def run_blocking(self, work: Callable[[], T]) -> T:
        """Run blocking work off the loop and return what it returns."""

    def beside(self, look: Callable[[], None], seconds: float) -> AbstractContextManager[None]:
        """While the block runs, call `look` every so many seconds from outside the loop, also while it is held.

        `look` runs in a thread of its own. A seeded World never calls it.
        """

    def exit(self, code: int) -> None:
        """End the program now, without clean-up."""

    def buggify(self, name: str, probability: float = 0.05) -> bool:
        """Whether a fault strikes at this named site now. Always False in production."""

    @property
    def trace(self) -> Callable[[str, object, object], None] | None:
        """Told of (what, process, detail) for births and deaths; None in production."""

    def sometimes(self, name: str) -> None:
        """Note that a path was reached; a simulation in which it never is fails. No-op in production."""
