"""One simulated run of a cluster: three to seven nodes with a bank, those who ask, and a nemesis, out of one seed.

The invariants that it hunts for: what was answered is done, once, in its sender's order, whichever node, link,
process or commit fails when; a shard has one owner under one epoch, and nobody else writes to it; no money is made
or lost; nobody is told that a living node is down unless it was silent for 8 seconds; and when the faults stop,
within 30 seconds all is answered, linked and served, and nothing is left over.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, final

import pytest
import trio

from runtime import spawn
from runtime.backends.coordination import LocalCoordination
from runtime.cluster.placement import Shard, shards_of
from runtime.codec.cbor import decode
from runtime.kernel.process import here
from runtime.testing import Network, SharedCoordination, Trace, left_over, plan, run_seeded

from . import checks, cluster_checks, cluster_moves
from .cluster_bank import Account
from .cluster_clients import Auditor, Customer, Operation, Teller
from .cluster_config import Config, draw
from .cluster_host import Host, Life
from .cluster_strikes import ClusterNemesis
from .room import Outcome, TooLong, _difference, _leaves, _quiet

# Where an entity crashes by itself.
ENTITIES = ("event_sourced.accepted", "event_sourced.committed", "store.staged", "store.synced")
# Within so many virtual seconds after the last fault all must be well again.
LIVENESS = 30.0
# What is left over after that stays for more than so many.
LINGERS = 10.0
# A run takes some 10,000 steps. One that takes this many is busy with nothing.
MOST_STEPS = 400_000
# Seconds of silence between two nodes that may have made one take the other for dead; heartbeats come once a second.
SILENCE = 6.0
# Seconds of peace between two of them, in which a heartbeat must have come.
BREAK = 3.0
# After it is over, a disturbance may be felt for so many seconds more.
FELT = 4.0


@final
@dataclass(slots=True)
class Disturbance:
    """What may be why a node was taken for dead: from when to when, between whom (`other` "": and anybody)."""

    kind: str
    one: str
    other: str
    began: float
    ended: float | None = None

    def touches(self, one: str, other: str) -> bool:
        """Whether it is between these two, in either direction."""
        return {self.one, self.other} == {one, other} if self.other else self.one in (one, other)


class Observed:
    """The store that all nodes share, through which the run sees each epoch of each shard.

    Attributes:
        rows: the shards as they are now.
        owned: by shard, which nodes have ever owned it.
    """

    def __init__(self, run: Run) -> None:
        self.inner = LocalCoordination()
        self.run = run
        self.epochs: dict[int, tuple[int, tuple[str, int]]] = {}
        self.rows: dict[int, Shard] = {}
        self.owned: dict[int, dict[str, None]] = {}

    async def read(self, prefix: str) -> Any:
        return await self.inner.read(prefix)

    async def compare_and_set(self, changes: Any) -> list[bool]:
        made = await self.inner.compare_and_set(changes)
        rows = [(name, 0, decode(value)) for (name, _, value), done in zip(changes, made, strict=True) if done]
        for shard, (_, row) in shards_of(rows).items():
            owner = (row.owner, row.creation)
            epoch, before = self.epochs.get(shard, (0, ("", 0)))
            if row.epoch < epoch or (row.epoch == epoch and row.owner and owner != before):
                self.run.findings.append(
                    f"owner: shard {shard} had {before} under {epoch}, has {owner} under {row.epoch}"
                )
            self.epochs[shard] = (row.epoch, owner if row.owner else before)
            self.rows[shard] = row
            if row.owner:
                self.owned.setdefault(shard, {})[row.owner] = None
        return made


class Run:
    """One run.

    Attributes:
        operations: all that was asked, in order.
        baskets: what each life of a basket was given.
        busy: tellers that have not come to their end.
        lost: the chance of each answer of the coordination store to be lost, now.
        closing: nobody is to ask anything new.
        survivors: lives that were there when all had settled.
        rough_until: until then something may be felt that ends a process.
        lapses: by node, when it last lost all its shards at once.
    """

    def __init__(self, seed: int, config: Config, trace: Trace) -> None:
        self.seed = seed
        self.config = config
        self.trace = trace
        self.dice = random.Random(f"{seed}/run")
        self.network = Network(random.Random(f"{seed}/network"), trace, config.weather)
        self.observed = Observed(self)
        self.shared = SharedCoordination(self.observed, trace)
        self.findings: list[str] = []
        self.reached: Counter[str] = Counter()
        self.operations: list[Operation] = []
        self.baskets: list[tuple[str, list[str]]] = []
        self.busy: list[str] = []
        self.closing = False
        self.lost = config.lost
        self.survivors: list[Life] = []
        self.rough_until = 0.0
        self.lapses: dict[str, float] = {}
        self.hosts = [Host(name, self) for name in "abcdefg"[: config.nodes]]
        self.nemesis = ClusterNemesis(self)
        self.seconds = 0.0
        self._moments = count(1)
        self._disturbances: list[Disturbance] = []
        self._epochs: dict[tuple[int, int], str] = {}

    # -- what others tell ----------------------------------------------------------------------------------

    def moment(self) -> int:
        """The next one."""
        return next(self._moments)

    def sometimes(self, name: str) -> None:
        """A path was taken."""
        self.reached[name] += 1

    def alive(self) -> list[str]:
        """The names of the lives that are up."""
        return [host.life.name for host in self.hosts if host.life is not None and host.life.table is not None]

    def employ(self, life: Life) -> None:
        """Let tellers work on a node that is up; called within it."""
        for number in range(self.config.tellers):
            spawn(Teller(self, f"{life.name}.{number}", life).work)
        spawn(cluster_moves.Watcher(self, life.name, life).work)

    # -- who may take whom for dead --------------------------------------------------------------------------

    def begin(self, kind: str, one: str, other: str = "") -> None:
        """From now on this may be felt."""
        self._disturbances.append(Disturbance(kind, one, other, trio.current_time()))

    def end(self, kind: str, one: str, other: str = "") -> None:
        """It is over."""
        for found in self._disturbances:
            if (found.kind, found.one, found.other, found.ended) == (kind, one, other, None):
                found.ended = trio.current_time()
                return

    @contextmanager
    def disturbing(self, kind: str, one: str) -> Iterator[None]:
        """While the block runs."""
        self.begin(kind, one)
        try:
            yield
        finally:
            self.end(kind, one)

    def disturbed(self, kind: str, one: str, other: str = "") -> None:
        """For this moment."""
        self.begin(kind, one, other)
        self.end(kind, one, other)

    def rough(self, seconds: float = 0.0) -> None:
        """For so long something strikes, and is felt a while longer."""
        self.rough_until = max(self.rough_until, trio.current_time() + seconds + cluster_moves.FELT)

    def entities_struck(self) -> int:
        """How often an entity has crashed by itself."""
        return sum(host.world.struck[name] for host in self.hosts for name in ENTITIES)

    def gone(self, host: Host) -> None:
        """A node has ended, or is about to."""
        self.rough()
        self.disturbed("gone", host.name)

    def broken_since(self, since: float) -> bool:
        """Whether a link was reset, or all of a node's: who watches by it is told, whoever lives."""
        kinds = ("reset", "restart", "gone")
        return any(one.kind in kinds and (one.ended is None or one.ended >= since) for one in self._disturbances)

    def was_down(self, me: str, node: str) -> None:
        """A node was told that another one is down: there must be a reason."""
        now = trio.current_time()
        silent: list[tuple[float, float]] = []
        for one in self._disturbances:
            ended = one.ended if one.ended is not None else now
            if one.touches(me, node) and ended >= now - SILENCE - FELT:
                if one.kind in ("gone", "reset", "restart"):
                    return
                silent.append((one.began, ended))
        if _longest(silent) < SILENCE:
            self.findings.append(f"down: {me} was told at {now:.2f} that {node} is down, which is alive and was heard")

    # -- the run -----------------------------------------------------------------------------------------------

    async def play(self) -> None:
        """Play the whole run, and end it if it does not end by itself."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._limit)
            await self._play()
            nursery.cancel_scope.cancel()

    async def _limit(self) -> None:
        await self.trace.after(MOST_STEPS)
        raise TooLong(f"took {MOST_STEPS} steps, and {trio.current_time():.1f} seconds had passed")

    async def _play(self) -> None:
        config = self.config
        before = checks.tasks()
        async with trio.open_nursery() as lives:
            async with trio.open_nursery() as hosts:
                for host in self.hosts:
                    hosts.start_soon(host.run_lives, lives, name=f"host {host.name}")
                async with trio.open_nursery() as clients:
                    clients.start_soon(self._watch)
                    with trio.move_on_after(LIVENESS):
                        for host in self.hosts:
                            while host.table is None:  # noqa: ASYNC110  # of lives that come and go rings nothing
                                await trio.sleep(0.05)  # virtual
                    for number in range(config.customers):
                        name = f"customer{number}"
                        clients.start_soon(Customer(self, name).live, name=name)
                    if config.moves:
                        clients.start_soon(cluster_moves.Operator(self).work, name="customer operator")
                    await self._suffer()
                    if config.settles:
                        await self._settle(clients)
                    else:
                        for host in self.hosts:
                            host.stop()
                            host.crash(power=True)
                    clients.cancel_scope.cancel()
                self.seconds = trio.current_time()
                for host in self.hosts:
                    host.stop()
            await self._bury()
        self.findings += left_over(_difference(checks.tasks(), before), [])
        self.findings += cluster_checks.check(self)

    async def _suffer(self) -> None:
        """Let the faults strike, at most for so long."""
        config = self.config
        faults = plan(self.dice, config.menu, config.faults, config.steps)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.nemesis.run, faults)
            await trio.sleep(config.seconds)  # virtual

    async def _settle(self, clients: trio.Nursery) -> None:
        """Liveness: without faults everything comes to rest, in time."""
        self.lost = 0.0
        for host in self.hosts:
            host.world.calm = True
            for life in host.lives:
                life.line.lost = 0.0
        self.closing = True
        if not self.config.remember:
            clients.start_soon(Auditor(self, "auditor").visit, name="customer auditor")
        wrong = ["nothing was looked at"]
        with trio.move_on_after(LIVENESS):
            while wrong:
                await trio.sleep(0.25)  # virtual
                waiting = [task.name for task in clients.child_tasks if task.name.startswith("customer")]
                wrong = [f"{name} waits for an answer" for name in sorted(waiting)]
                wrong += [*cluster_checks.unsettled(self), *cluster_moves.unfinished(self)]
        self.findings += [f"liveness: {text}" for text in wrong]
        if not wrong:
            self.survivors = [host.life for host in self.hosts if host.life is not None and not host.life.router_died]
            self.findings += await self._left()

    async def _left(self) -> list[str]:
        """What is left over when nobody asks anything.

        What was answered just now may still be on its way to being forgotten, and the nodes even out their load by
        themselves: so there has to be a moment, soon, in which nothing is left.
        """
        found: list[str] = []
        with trio.move_on_after(LINGERS):
            await trio.sleep(2.0)  # virtual
            # Of what goes away by itself nobody is told.
            while found := [*cluster_checks.leaks(self), *cluster_moves.remains(self)]:  # noqa: ASYNC110  # as above
                await trio.sleep(0.25)  # virtual
        return found

    async def _bury(self) -> None:
        """Let all lives that were killed come to their end, with nothing that they could reach."""
        ends = [over for host in self.hosts for over in host.bury()]
        with trio.move_on_after(300.0) as patience:
            for over in ends:
                await over.wait()
        if patience.cancelled_caught:
            self.findings.append("left: a node that was killed, and then went on, does not end")

    async def _watch(self) -> None:
        """Look now and then who serves what."""
        while True:
            with trio.move_on_after(0.5):
                await self.trace.after(100)
            self.findings += cluster_checks.owners(self, self._epochs)


def _longest(spans: list[tuple[float, float]]) -> float:
    """The longest time without a break that the spans cover; a heartbeat that was lost has to be dialled first."""
    longest, start, end = 0.0, 0.0, float("-inf")
    for began, ended in sorted(spans):
        if began > end + BREAK:
            start = began
        end = max(end, ended)
        longest = max(longest, end - start)
    return longest


def simulate(seed: int, *, trace: Trace | None = None, long: bool = False, config: Config | None = None) -> Outcome:
    """Run one seed and check it; a failure of the run itself is a finding too."""
    trace = trace if trace is not None else Trace()
    config = config if config is not None else draw(seed, long=long)
    outcome = Outcome(seed)
    run = Run(seed, config, trace)
    outside = here.get(None)
    with _quiet(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Account, "snapshot_every", config.snapshot_every)
        for owner, name, wrap in cluster_moves.PATCHES:
            patch.setattr(owner, name, wrap(getattr(owner, name)))
        try:
            run_seeded(seed, run.play, trace=trace)
        except Exception as error:
            # Whatever it is, it belongs to this seed, and the other seeds should run on.
            run.findings += [f"the run failed: {one!r}" for one in _leaves(error)]
    if outside is not None:
        here.set(outside)
    outcome.findings = list(dict.fromkeys(run.findings))
    outcome.digest, outcome.steps, outcome.seconds = trace.digest, trace.steps, run.seconds
    outcome.answers = sum(one.reply is not None for one in run.operations)
    outcome.faults += run.nemesis.struck
    outcome.reached += run.reached
    for host in run.hosts:
        outcome.faults += host.world.struck
        outcome.reached += host.world.reached
    return outcome
