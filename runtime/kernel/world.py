"""The World: every way in which the runtime touches what lies outside it.

Time, randomness, disk, network, blocking work and the end of the program go through one object, so
that a whole node can run inside a seeded world and be replayed to the byte. The real World is built in
`supervisors.node.boot`; the seeded one in `runtime.testing`. A house test refuses every other way out.

Monotonic time is Trio's clock. Wall time serves only logs, records and durable deadlines.
Source: FoundationDB's simulator (`INetwork`, BUGGIFY), TigerBeetle's VOPR.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
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


class Carrier(Protocol):
    """What a heartbeat's connection carries. A `Heart` calls it from outside the loop, one call at a time."""

    def beat(self, now: float) -> bytes:
        """The bytes of the next beat, at this monotonic time."""

    def heard(self, data: bytes) -> None:
        """Bytes have come. Whatever it raises ends the connection."""

    def lost(self, why: str) -> None:
        """The connection has ended; the last call."""


class Heart(Protocol):
    """Carries heartbeats, whatever the loop does."""

    def carry(self, stream: trio.abc.Stream, carrier: Carrier) -> None:
        """Take a stream over: send a beat at once and then regularly, hand over what comes, until it ends."""

    def drop(self, carrier: Carrier) -> None:
        """End its connection; it is not told."""


class Coordination(Protocol):
    """Compare-and-set over small named values, shared by the nodes of a cluster: who owns what, under which epoch.

    Both operations may wait, and may be cancelled at any moment. What they raise is
    `runtime.cluster.coordination.CoordinationUnreachable`. After a change that raised it, or was cancelled,
    nobody knows whether it was made or will be: only the same change again, or a version that has moved on,
    decides.
    """

    async def read(self, prefix: str) -> Mapping[str, tuple[int, bytes]]:
        """The (version, value) of each name that begins with `prefix`, all as of one moment."""

    async def compare_and_set(self, changes: Sequence[tuple[str, int, bytes]]) -> list[bool]:
        """For each (name, expected, value): store it as version `expected` + 1 if it is still at `expected`.

        Version 0 is that of a name without a value. Each change is judged for itself, in order; whether each
        was made is what is returned, and what was made is durable then.
        """


class World(Protocol):
    """The one seam. Production and the seeded simulation differ in nothing else."""

    random: random.Random
    transport: Transport
    coordination: Coordination

    def now(self) -> float:
        """Monotonic seconds: Trio's clock."""

    def wall(self) -> float:
        """Seconds since the Unix epoch: for records, logs and durable deadlines only."""

    def open_store(self, path: str, node: str, *, relaxed: bool = False, adopter: str = "") -> object:
        """The journal (`runtime.durable.journal.Journal`) kept under `path`, opened for this node.

        With `relaxed` the second one, beside it, whose last group a loss of power may take. With an `adopter`, the
        node that opens it in this one's place, it must be there already.
        """

    def open_coordination(self, path: str) -> AbstractContextManager[None]:
        """While the block runs, `coordination` is the store in a directory that nodes of this machine share.

        A seeded World has its own already, whatever the path. Raises, on entry, what the store raises.
        """

    async def run_blocking(self, work: Callable[[], T], *, abandon: bool = False) -> T:
        """Run blocking work off the loop and return what it returns.

        Args:
            abandon: if the caller is cancelled, leave the work to itself and go; else wait for its end.
        """

    def beside(self, look: Callable[[], None], seconds: float) -> AbstractContextManager[None]:
        """While the block runs, call `look` every so many seconds from outside the loop, also while it is held.

        `look` runs in a thread of its own. A seeded World never calls it.
        """

    def heart(self, seconds: float) -> AbstractAsyncContextManager[Heart]:
        """While the block runs, something that sends a beat every so many seconds, also while the loop is held.

        A seeded World's beats with the loop.
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
