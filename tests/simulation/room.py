"""One simulated run of a card room: a node, its clients and its nemesis, all out of one seed.

The invariants that it hunts for: no acknowledged command is lost and none is applied twice, whichever process,
supervisor, commit or node dies when; a reply that is repeated is the same; no chip is made or lost; what is
recovered from a snapshot is what the whole history says; and when the faults stop, within 30 seconds all
commands are answered, all transfers closed and all processes there again.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
import trio

from game.lobby import Lobby
from game.table import Table
from game.wallet import Wallet
from runtime.backends.coordination import LocalCoordination
from runtime.durable import gate, writer
from runtime.observe.queries import TreeNode
from runtime.testing import History, SeededWorld, Trace, left_over, plan, run_seeded

from . import checks
from .config import Config, draw
from .logged import LoggedDisk
from .machine import Machine
from .players import Client, Player, open_tables
from .strikes import Nemesis
from .tally import Tally

# Within so many virtual seconds after the last fault all must be well again.
LIVENESS = 30.0
# A run takes some 10,000 steps. One that takes this many is busy with nothing.
MOST_STEPS = 200_000


class TooLong(Exception):
    """A run that does not end: tasks keep each other busy, and time may stand still."""


@dataclass
class Outcome:
    """What became of one run.

    Attributes:
        findings: what is wrong; empty if the run passed.
        faults: how often each fault struck, those of buggify sites among them.
        reached: how often each `sometimes` was passed.
        digest: the trace's hash.
    """

    seed: int
    findings: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    reached: Counter[str] = field(default_factory=Counter)
    crashes: Counter[str] = field(default_factory=Counter)
    digest: str = ""
    steps: int = 0
    answers: int = 0
    seconds: float = 0.0


def simulate(seed: int, *, trace: Trace | None = None, config: Config | None = None) -> Outcome:
    """Run one seed and check it; a failure of the run itself is a finding too."""
    trace = trace if trace is not None else Trace()
    config = config if config is not None else draw(seed)
    outcome = Outcome(seed)
    with _quiet(), _settings(config):
        try:
            run_seeded(seed, _Run(seed, config, trace, outcome).run, trace=trace)
        except Exception as error:
            # Whatever it is, it belongs to this seed, and the other seeds should run on.
            outcome.findings += [f"the run failed: {one!r}" for one in _leaves(error)]
    outcome.digest, outcome.steps = trace.digest, trace.steps
    return outcome


class _Run:
    def __init__(self, seed: int, config: Config, trace: Trace, outcome: Outcome) -> None:
        self.seed = seed
        self.config = config
        self.trace = trace
        self.outcome = outcome
        self.disk = LoggedDisk()
        self.history = History()

    async def run(self) -> None:
        """Play the whole run, and end it if it does not end by itself."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._limit)
            await self._play()
            nursery.cancel_scope.cancel()

    async def _limit(self) -> None:
        await self.trace.after(MOST_STEPS)
        raise TooLong(f"took {MOST_STEPS} steps, and {trio.current_time():.1f} seconds had passed")

    async def _play(self) -> None:
        outcome, config = self.outcome, self.config
        self.world = SeededWorld(
            self.seed,
            open_store=lambda _path, node: self.disk.open(node=node),
            coordination=LocalCoordination(),
            trace=self.trace,
            activation=config.activation,
        )
        machine = Machine(self.world, self.disk, config, self.trace)
        nemesis = Nemesis(machine, self.world, self.trace)
        house = Client("house", machine, self.world, self.history)
        self.players = [
            Player(
                f"p{number}",
                Client(f"client/p{number}", machine, self.world, self.history),
                config.tables,
                config.pauses,
                self.seed,
            )
            for number in range(1, config.players + 1)
        ]
        before = checks.tasks()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(machine.run)
            async with trio.open_nursery() as clients:
                clients.start_soon(open_tables, house, config.tables)
                for player in self.players:
                    clients.start_soon(player.run, name=player.name)
                faults = plan(self.world.random, config.menu, config.faults, config.steps)
                await nemesis.run(faults)
                with trio.move_on_after(20.0):
                    await self.trace.after(config.rest)
                self.world.calm = True
                await self._settle(machine, clients)
            outcome.seconds = trio.current_time()
            living = checks.durable_processes(machine.node.table) if machine.node is not None else {}
            machine.stop()
        outcome.findings += left_over(_difference(checks.tasks(), before), [])
        outcome.findings += checks.check_disk(self.disk, self.history, self.world, config.tables)
        outcome.findings += checks.check_recovered(living, self.disk, self.world)
        await self._recover(machine)
        outcome.findings += machine.findings
        for client in [house, *(player.client for player in self.players)]:
            outcome.findings += client.findings
        outcome.faults += nemesis.struck + self.world.struck
        outcome.reached += self.world.reached
        outcome.crashes.update(machine.crashes)
        outcome.answers = self.history.answers
        self.trace.note("dice", self.world.random.random())

    async def _settle(self, machine: Machine, clients: trio.Nursery) -> None:
        """Liveness: without faults everything comes to rest, in time."""
        for player in self.players:
            player.stopping = True
        wrong = ["nothing was looked at"]
        with trio.move_on_after(LIVENESS):
            await machine.without_bots()
            while wrong:
                await trio.sleep(0.25)  # virtual
                if machine.node is not None and checks.set_aside(machine.node.table):
                    # Nobody may have asked for it since; the operator starts the node on a disk that reads well.
                    machine.crash()
                wrong = self._unsettled(machine, clients)
        self.outcome.findings += [f"liveness: {text}" for text in wrong]
        clients.cancel_scope.cancel()

    def _unsettled(self, machine: Machine, clients: trio.Nursery) -> list[str]:
        node = machine.node
        if node is None:
            return ["the node is down"]
        tree = node.tree()
        inside = {one.name for one in _flat(tree)}
        return [
            *(f"{task.name} waits for an answer" for task in sorted(clients.child_tasks, key=lambda t: t.name)),
            *(f"transfer {text} is open" for text in checks.open_transfers(node.table)),
            *(f"{name} does not live" for name in checks.missing(node.table)),
            *(f"{one.name} is {one.state}" for one in _flat(tree) if one.state != "running"),
            *(f"{name} lives outside the tree" for name in checks.durable_processes(node.table) if name not in inside),
        ]

    async def _recover(self, machine: Machine) -> None:
        """Start the node once more and hold what it recovers against the whole history."""
        again = Machine(self.world, self.disk, machine.config, self.trace)
        again.bots = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(again.run)
            with trio.move_on_after(LIVENESS) as patience:
                table = await again.up()
                while checks.missing(table):  # noqa: ASYNC110  # what is missing is asked, not told
                    await trio.sleep(0.05)  # virtual
                found = checks.durable_processes(table)
            again.stop()
        if patience.cancelled_caught:
            self.outcome.findings.append("recovery: the node did not come up again")
        else:
            self.outcome.findings += checks.check_recovered(found, self.disk, self.world)
        self.outcome.findings += again.findings


def _flat(top: TreeNode) -> Iterator[TreeNode]:
    """All processes of a tree but the bots, which were sent away."""
    if top.name != "bots":
        yield top
        for one in top.children:
            yield from _flat(one)


def _leaves(error: Exception) -> list[Exception]:
    """The errors in a group, or the error itself."""
    if isinstance(error, ExceptionGroup):
        return [leaf for one in error.exceptions for leaf in _leaves(one)]
    return [error]


def _difference(now: list[str], before: list[str]) -> list[str]:
    return sorted((Counter(now) - Counter(before)).elements())


@contextmanager
def _quiet() -> Iterator[None]:
    """Crashes are the point of the exercise, and not for anybody's log."""
    logger = logging.getLogger("banyan")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


@contextmanager
def _settings(config: Config) -> Iterator[None]:
    """What the product has as class attributes and constants, and a run draws."""
    with pytest.MonkeyPatch.context() as patch:
        for kind, every in zip((Wallet, Table, Lobby, Tally), config.snapshot_every, strict=True):
            patch.setattr(kind, "snapshot_every", every)
        patch.setattr(gate, "KEPT_REPLIES", config.kept_replies)
        patch.setattr(writer, "LARGEST_GROUP", config.largest_group)
        yield
