"""The seeded World: a node's time, dice, disk, network and end, all out of one seed and one program.

    trace = Trace()
    world = SeededWorld(7, open_store=stores, coordination=LocalCoordination(), trace=trace)
    run_seeded(7, use, Node("alpha", data="disk", world=world), trace=trace)

Build one World for a run, or one for each node that shares a `Network` and a `Trace` with the others; it
outlives its node, so that the next life of the node goes on with the same dice. What a disk is comes in as
`open_store`, because only a composition root chooses a backend: keep `MemoryDisk` objects there by path.

Faults inside the product strike at the sites that its code marks with `buggify`. Each site is switched on or
off for the whole run, by the seed and its name, and has dice of its own: a patch that adds or removes one
leaves the others as they were. Source: FoundationDB's `BUGGIFY` and `g_network`; TigerBeetle's VOPR.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from typing import NoReturn, TypeVar, final

import trio

from ..durable.journal import Journal
from ..kernel.exits import Crash
from ..kernel.process import Process
from ..kernel.world import Coordination, Heart, Transport, World
from .disk import TracedJournal
from .heart import beating
from .network import Network
from .scheduler import Trace

T = TypeVar("T")

# Where wall time begins: 2026-01-01 00:00 UTC, in seconds since the Unix epoch.
ORIGIN = 1_767_225_600.0

# Opens the journal under a path for a node.
OpenStore = Callable[[str, str], Journal]


class NodeExit(BaseException):
    """Raised by `SeededWorld.exit`: the node's program ends here, without clean-up; `code` is its exit code.

    No process takes it for its own failure: it passes through all of them and ends the node's whole scope.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@final
class SeededWorld:
    """A World that does the same each time; see `runtime.kernel.world.World` for what each part is.

    Args:
        seed: of all that it decides.
        open_store: what opens a store; see the module.
        coordination: where it reads and sets what nodes agree on.
        trace: what it tells of births, deaths, commits and streams.
        network: where its transport is a host; by default a network of its own.
        host: the host's name.
        activation: the chance of each buggify site to be switched on for this run; 0 switches all off.

    Attributes:
        reached: how often each `sometimes` was passed.
        struck: how often each `buggify` site struck.
        wall_offset: seconds that the wall clock is off; may be changed while it runs.
        calm: while it is set, no buggify site strikes.
    """

    def __init__(
        self,
        seed: int,
        *,
        open_store: OpenStore,
        coordination: Coordination,
        trace: Trace,
        network: Network | None = None,
        host: str = "node",
        activation: float = 0.25,
    ) -> None:
        self.seed = seed
        self.random: random.Random = random.Random(f"{seed}/{host}")
        self.coordination: Coordination = coordination
        network = network if network is not None else Network(self.random, trace)
        self.transport: Transport = network.transport(host)
        self.reached: Counter[str] = Counter()
        self.struck: Counter[str] = Counter()
        self.wall_offset = 0.0
        self.calm = False
        self._trace = trace
        self._open_store = open_store
        self._host = host
        self._activation = activation
        self._sites: dict[str, _Site] = {}

    def now(self) -> float:
        return trio.current_time()

    def wall(self) -> float:
        return ORIGIN + trio.current_time() + self.wall_offset

    def open_store(self, path: str, node: str, *, relaxed: bool = False, adopter: str = "") -> Journal:
        path = f"{path}/relaxed" if relaxed else path
        journal = self._open_store(path, node)
        self._trace.note("open", path, node, journal.epoch)
        return TracedJournal(journal, self._trace)

    def open_coordination(self, path: str) -> AbstractContextManager[None]:
        return nullcontext()

    async def run_blocking(self, work: Callable[[], T], *, abandon: bool = False) -> T:
        """Do the work on the loop, and let others run for up to 5 ms as if it took that long.

        Whoever is cancelled meanwhile does not know whether it was done, whatever `abandon` is.
        """
        await trio.sleep(self.random.uniform(0.0, 0.005))
        result = work()
        await trio.sleep(self.random.uniform(0.0, 0.005))
        return result

    def beside(self, look: Callable[[], None], seconds: float) -> AbstractContextManager[None]:
        return nullcontext()

    def heart(self, seconds: float) -> AbstractAsyncContextManager[Heart]:
        return beating(seconds)

    def exit(self, code: int) -> NoReturn:
        self._trace.note("node exit", self._host, code)
        raise NodeExit(code)

    def buggify(self, name: str, probability: float = 0.05) -> bool:
        site = self._sites.get(name)
        if site is None:
            site = self._sites[name] = _Site(f"{self.seed}/{self._host}/{name}", self._activation)
        if self.calm or not site.strikes(probability):
            return False
        self.struck[name] += 1
        self._trace.note("buggify", name)
        return True

    @property
    def trace(self) -> Callable[[str, object, object], None] | None:
        return self._note

    def sometimes(self, name: str) -> None:
        self.reached[name] += 1

    def _note(self, what: str, process: object, detail: object) -> None:
        pid = process.pid if isinstance(process, Process) else None
        number = (pid.node, pid.creation, pid.number) if pid is not None else ("", 0, 0)
        self._trace.note(what, *number, _said(detail))


@final
class _Site:
    """One buggify site in one run: whether it is on, and how eager."""

    __slots__ = ("_eager", "_random")

    def __init__(self, seed: str, activation: float) -> None:
        self._random = random.Random(seed)
        active = self._random.random() < activation
        self._eager = self._random.choice((0.2, 1.0, 3.0)) if active else 0.0

    def strikes(self, probability: float) -> bool:
        return self._eager > 0.0 and self._random.random() < probability * self._eager


def _said(detail: object) -> str:
    """A label or an exit reason in words that two runs share: an exception by its type alone."""
    if isinstance(detail, str):
        return detail
    if isinstance(detail, Crash):
        return f"Crash({type(detail.error).__qualname__})"
    return type(detail).__qualname__


# The type checker holds the class against the seam here.
_seam: type[World] = SeededWorld
