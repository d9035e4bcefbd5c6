"""Three nodes with a region each, out of one seed: bad wires, crashes, an owner that dies or another one.

Invariant hunted: a command that was answered is in its entity's history once, with that answer; one that was
refused is not in it; nothing is in it twice; a caller's commands are in its order; after the faults everything that
was taken is done, and no router has crashed.

With durable entities the node b owns all shards, and is killed and started again under a higher epoch; with
volatile ones they go to and fro between b and c, and all that they knew is lost each time.
"""

from __future__ import annotations

import random
from collections import Counter as Tally
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import trio

from runtime import CallTimeout, EventSourced, GenServer, MailboxFull, Refuse, Refused, spawn
from runtime.backends.coordination import LocalCoordination
from runtime.backends.memory import MemoryDisk, MemoryJournal
from runtime.errors import Busy, CallFailed
from runtime.kernel.process import here
from runtime.testing import SeededWorld, Trace, run_seeded
from supervisors.shards import region, shard_facts
from tests.unit.supervisors.shards.entities import Deposit, Deposited, Give
from tests.unit.supervisors.shards.nodes import Map, Nodes

SHARDS = 3
KEYS = ("oak", "elm", "fir", "ash")
CALLERS = 4
ASKED = 12
# Virtual seconds: how long faults strike, and how long everything may take afterwards.
FAULTS, PATIENCE = 8.0, 60.0


@dataclass
class Heard:
    """What callers know: each command's number is unique in the run."""

    asked: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    answered: dict[int, Any] = field(default_factory=dict)
    refused: set[int] = field(default_factory=set)
    taken: set[int] = field(default_factory=set)
    told: Tally[str] = field(default_factory=Tally)
    findings: list[str] = field(default_factory=list)


class Till(EventSourced[tuple[int, ...], Deposited]):
    """Keeps what it was given, in order; refuses now and then, and not the same each time it is asked."""

    def initial(self, key: str) -> tuple[int, ...]:
        return ()

    def handle(self, state: tuple[int, ...], command: Any) -> Any:
        if isinstance(command, Deposit) and (len(state) + command.amount) % 4 == 0:
            return Refuse("not now")
        return Deposited(command.amount), len(state) + 1

    def apply(self, state: tuple[int, ...], event: Deposited) -> tuple[int, ...]:
        return (*state, event.amount)


class Basket(GenServer):
    """A volatile one; every life of it leaves its history behind."""

    histories: ClassVar[list[tuple[str, list[int]]]] = []

    def init(self, key: str) -> None:
        self.history: list[int] = []
        Basket.histories.append((key.partition("/")[2], self.history))

    def handle_call(self, request: Any, caller: Any) -> Any:
        self.history.append(request.amount)
        return len(self.history)

    def handle_cast(self, request: Any) -> Any:
        self.history.append(request.amount)


class Run:
    """One run."""

    def __init__(self, seed: int, *, durable: bool, trace: Trace) -> None:
        self.seed = seed
        self.durable = durable
        self.trace = trace
        self.dice = random.Random(f"{seed}/run")
        self.placement = Map(SHARDS, "b", 1)
        self.nodes = Nodes(self.placement, seed)
        self.disks: dict[str, MemoryDisk] = {}
        self.heard = Heard()
        self.number = 0
        self.spec = region("till", Till, intensity=1000) if durable else region("till", Basket, intensity=1000)
        self.worlds = {name: self.world(name) for name in "abc"}
        self.life: trio.CancelScope | None = None
        self.stop = trio.Event()
        self.busy = 0
        Basket.histories = []

    def world(self, host: str) -> SeededWorld:
        return SeededWorld(
            self.seed, open_store=self.open, coordination=LocalCoordination(), trace=self.trace, host=host
        )

    def open(self, path: str, node: str) -> MemoryJournal:
        return MemoryJournal(self.disks.setdefault(path, MemoryDisk(path)), node=node)

    # -- nodes ---------------------------------------------------------------------------------------

    async def live(self, name: str, up: trio.Event) -> None:
        """A node's lives, until the run is over."""
        while not self.stop.is_set():
            world = self.worlds[name]
            with trio.CancelScope() as life:
                if name == "b":
                    self.life = life
                async with self.nodes.node(name, self.spec, data=f"disk {name}", world=world) as node:
                    node.table.crash_listeners.append(self.crashed)
                    up.set()
                    await self.stop.wait()
            if not self.stop.is_set():
                await trio.sleep(self.dice.uniform(0.0, 1.0))  # virtual
                self.own("b")

    def crashed(self, report: Any) -> None:
        if report.label not in ("Till", "Basket"):
            self.heard.findings.append(f"crash: {report}")

    def own(self, node: str) -> None:
        epoch = max(epoch for _, epoch in self.placement.rows.values()) + 1
        self.placement.rows = dict.fromkeys(range(SHARDS), (node, epoch))

    # -- faults --------------------------------------------------------------------------------------

    async def strike(self) -> None:
        """Spoil the wires and kill; then everything is well."""
        dice = self.dice
        nodes = self.nodes
        with trio.move_on_after(FAULTS):
            while True:
                nodes.loss, nodes.doubling = dice.choice([0.0, 0.1, 0.4]), dice.choice([0.0, 0.2])
                nodes.delay = dice.choice([0.0, 0.01, 0.4])
                await trio.sleep(dice.uniform(0.05, 0.8))  # virtual
                match dice.choice(["kill", "cut", "quiet", "nobody", "heal", "region"]):
                    case "kill" if self.durable:
                        self.disks["disk b"].crash()
                        assert self.life is not None
                        self.life.cancel()
                    case "kill":
                        self.own(dice.choice("bc"))
                        if dice.random() < 0.5:
                            nodes.tell()
                    case "cut":
                        nodes.cut(*dice.sample("abc", 2))
                    case "nobody" if not self.durable:
                        kept, self.placement.rows = self.placement.rows, {}
                        try:
                            await trio.sleep(dice.uniform(0.1, 2.0))  # virtual
                        finally:
                            self.placement.rows = kept
                    case "region" if "b" in nodes.running:
                        process = nodes.running["b"].table.names.get("till/" + dice.choice(KEYS))
                        if process is not None:
                            process.interrupt("struck")
                    case "heal":
                        nodes.heal()
        nodes.heal()
        for world in self.worlds.values():
            world.calm = True

    # -- callers -------------------------------------------------------------------------------------

    async def caller(self, name: str) -> None:
        """Asks one thing after the other, and waits for as long as it likes."""
        dice = random.Random(f"{self.seed}/{name}")
        till, heard = region("till"), self.heard
        for _ in range(ASKED):
            self.number += 1
            number, key = self.number, dice.choice(KEYS)
            heard.asked.setdefault((name, key), []).append(number)
            try:
                if dice.random() < 0.4:
                    await till.cast(key, Give(number), timeout=10.0)
                    heard.taken.add(number)
                else:
                    timeout = dice.choice([0.3, 3.0, 1000.0])
                    heard.answered[number] = await till.call(key, Deposit(number), timeout=timeout)
            except Refused:
                heard.refused.add(number)
            except (CallTimeout, MailboxFull, Busy) as error:
                heard.told[type(error).__name__] += 1
            except CallFailed as error:
                # A volatile entity ended with this in its hands.
                heard.told[type(error).__name__] += 1
                if self.durable:
                    heard.findings.append(f"reply: {number} was answered {error!r}")
            if dice.random() < 0.5:
                await trio.sleep(dice.uniform(0.0, 0.3))  # virtual
        self.busy -= 1

    async def main(self) -> None:
        async with trio.open_nursery() as nursery:
            events = {name: trio.Event() for name in "abc"}
            for name, up in events.items():
                nursery.start_soon(self.live, name, up)
            for up in events.values():
                await up.wait()
            for name in "ac":
                with self.nodes.on(name):
                    for number in range(CALLERS):
                        self.busy += 1
                        spawn(self.caller, f"{name}{number}")
            nursery.start_soon(self.strike)
            await trio.sleep(FAULTS)  # virtual
            with trio.move_on_after(PATIENCE):
                while self.busy or not all(map(self.clear, "ac")):  # noqa: ASYNC110  # of what changes nothing rings
                    await trio.sleep(0.5)  # virtual
            if self.busy:
                self.heard.findings.append(f"liveness: {self.busy} callers are never answered")
            for name in "ac":
                if not self.clear(name):
                    facts = [one for one in shard_facts(self.nodes.running[name].table) if one.waiting or one.held]
                    self.heard.findings.append(f"liveness: {name} has commands without an outcome: {facts}")
            self.stop.set()
        self.check()

    def clear(self, name: str) -> bool:
        node = self.nodes.running.get(name)
        return node is not None and not any(one.waiting or one.held for one in shard_facts(node.table))

    # -- what must hold ------------------------------------------------------------------------------

    def check(self) -> None:
        heard = self.heard
        histories = self.histories()
        found: Tally[int] = Tally()
        for key, history in histories:
            found.update(set(history))
            doubled = [number for number, times in Tally(history).items() if times > 1]
            if doubled:
                heard.findings.append(f"doubled: {doubled} of {key}")
            for (name, asked_of), asked in heard.asked.items():
                mine = [number for number in history if number in asked]
                if asked_of == key and mine != sorted(mine):
                    heard.findings.append(f"order: {name} asked {key} for {asked}, done was {mine}")
        for number in sorted(heard.refused):
            if found[number]:
                heard.findings.append(f"doubled: {number} was refused, and is done")
        if not self.durable:
            return
        where = {number: index + 1 for _, history in histories for index, number in enumerate(history)}
        for number, reply in heard.answered.items():
            if where.get(number) != reply:
                heard.findings.append(f"lost: {number} was answered {reply}, and is at {where.get(number)}")
        for number in sorted(heard.taken):
            if number not in where:
                heard.findings.append(f"lost: {number} was taken, and is not done")

    def histories(self) -> list[tuple[str, list[int]]]:
        if not self.durable:
            return Basket.histories
        journal = MemoryJournal(self.disks["disk b"], read_only=True)
        return [(key, list(Till.past(journal, f"till/{key}").state)) for key in KEYS]


@contextmanager
def _outside() -> Iterator[None]:
    """So that a run leaves nothing behind in the context of who starts it."""
    before = here.get(None)
    try:
        yield
    finally:
        if before is not None:
            here.set(before)


def simulate(seed: int, *, durable: bool) -> tuple[list[str], str, Run]:
    """What one seed finds, the digest of its trace, and the run."""
    trace = Trace()
    run = Run(seed, durable=durable, trace=trace)
    with _outside():
        run_seeded(seed, run.main, trace=trace)
    return run.heard.findings, trace.digest, run
