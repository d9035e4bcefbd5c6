"""Shards that move to and fro between three nodes out of one seed, under load, with moves that fail at every step.

Invariant hunted: a command that was answered is in its entity's history once, with that answer; what was taken is done
once; what one caller asks of one entity is done in its order, by whichever way it went; a timer is due once; no link
or monitor is told of an end where none is; afterwards nothing waits, and no router has crashed.

Entities are of three kinds: durable ones, which crash now and then, volatile ones that keep a table of commands, and
volatile ones that hand over what they have. Links are cut and made again, and a move is given up after it froze, after
it sealed, or because its mover ends.
"""

from __future__ import annotations

import random
from collections import Counter as Tally
from dataclasses import dataclass, field
from typing import Any

import trio

from runtime import NO_REPLY, CallTimeout, Down, EventSourced, MailboxFull, call, monitor, receive, reply, send
from runtime.backends.coordination import LocalCoordination
from runtime.backends.memory import MemoryDisk, MemoryJournal
from runtime.errors import Busy, CallFailed
from runtime.kernel.process import here
from runtime.testing import SeededWorld, Trace, run_seeded
from supervisors.shards import region, shard_facts
from supervisors.shards.luggage import ThawShard
from tests.unit.supervisors.shards.entities import Deposit, Deposited, Give
from tests.unit.supervisors.shards.movers import World, world
from tests.unit.supervisors.shards.travellers import Log, Set, Traveller

KEYS = ("oak", "elm", "fir")
CALLERS = 3
ASKED = 14
FAULTS, PATIENCE = 6.0, 120.0


class Till(EventSourced[tuple[int, ...], Deposited]):
    """Keeps what it was given, in order; answers how much that is."""

    def initial(self, key: str) -> tuple[int, ...]:
        return ()

    def handle(self, state: tuple[int, ...], command: Any) -> Any:
        if isinstance(command, Log):
            return None, state
        return Deposited(command.amount), len(state) + 1

    def apply(self, state: tuple[int, ...], event: Deposited) -> tuple[int, ...]:
        return (*state, event.amount)


class Purse(Till):
    """The same, in memory only."""

    durability = "volatile"


class Basket(Traveller):
    """Keeps the callers of every third request for a while."""

    def hand_over(self) -> object:
        return (super().hand_over(), tuple(getattr(self, "owed", ())))

    def take_over(self, value: Any) -> None:
        before, owed = value
        super().take_over(before)
        self.owed = [tuple(one) for one in owed]

    async def handle_call(self, request: Any, caller: Any) -> Any:
        if isinstance(request, Deposit) and request.amount % 3 == 0:
            self.got.append(request.amount)
            self.owed = [*getattr(self, "owed", ()), (caller, len(self.got))]
            return NO_REPLY
        if isinstance(request, Deposit) and request.amount % 3 == 1:
            await trio.sleep(0.05)  # virtual
        self.pay()
        return await super().handle_call(request, caller)

    def handle_cast(self, request: Any) -> Any:
        self.pay()
        return super().handle_cast(request)

    def handle_info(self, message: Any) -> Any:
        self.pay()
        return super().handle_info(message)

    def pay(self) -> None:
        owed, self.owed = getattr(self, "owed", ()), []
        for caller, value in owed:
            reply(caller, value)


TILLS, PURSES, BASKETS = region("till"), region("purse"), region("basket")
FOREVER = 1e9


@dataclass
class Heard:
    """What callers know: each command's number is unique in the run."""

    asked: dict[tuple[str, str, str], list[int]] = field(default_factory=dict)
    answered: dict[int, Any] = field(default_factory=dict)
    taken: set[int] = field(default_factory=set)
    told: Tally[str] = field(default_factory=Tally)
    findings: list[str] = field(default_factory=list)
    moves: Tally[str] = field(default_factory=Tally)


class Run:
    """One run."""

    def __init__(self, seed: int, trace: Trace, *, cuts: bool) -> None:
        self.seed = seed
        self.trace = trace
        self.cuts = cuts
        self.dice = random.Random(f"{seed}/moves")
        self.heard = Heard()
        self.number = 0
        self.busy = 0
        self.timers: Tally[str] = Tally()
        self.w: World

    async def main(self) -> None:
        children = [
            region("till", Till, idle=FOREVER, intensity=1000),
            region("purse", Purse, idle=FOREVER),
            region("basket", Basket, idle=FOREVER),
        ]
        host = SeededWorld(
            self.seed,
            open_store=lambda path, node: MemoryJournal(MemoryDisk(path), node=node),
            coordination=LocalCoordination(),
            trace=self.trace,
        )
        host.calm = True  # it would also kill who must not be
        async with world("abc", *children, seed=self.seed, on=host) as self.w, trio.open_nursery() as nursery:
            w = self.w
            for host_ in w.net.hosts.values():
                host_.table.crash_listeners.append(self.crashed)
            self.pids = {key: await w.on("a", BASKETS.start, key) for key in KEYS}
            for key in KEYS:
                nursery.start_soon(w.on, "a", self.watch, key)
            for node in "abc":
                for number in range(CALLERS):
                    self.busy += 1
                    nursery.start_soon(w.on, node, self.caller, node, f"{node}{number}")
            self.busy += 1
            nursery.start_soon(w.on, "a", self.direct, "a")
            nursery.start_soon(self.strike)
            with trio.move_on_after(FAULTS):
                while True:
                    await trio.sleep(self.dice.uniform(0.0, 0.4))  # virtual
                    with trio.CancelScope(shield=True):
                        await self.move()
            for one, other in ("ab", "bc", "ac"):
                w.net.mend(one, other)
            with trio.move_on_after(PATIENCE):
                while self.busy or not self.clear():  # of what changes nothing rings
                    await trio.sleep(0.5)  # virtual
                    # Whoever waits in a basket is answered with the next message.
                    for key in KEYS:
                        await w.on("a", BASKETS.send, key, 0)
            if self.busy:
                self.heard.findings.append(f"liveness: {self.busy} callers are never answered")
            if not self.clear():
                self.heard.findings.append("liveness: commands without an outcome")
            await self.check()
            nursery.cancel_scope.cancel()

    def clear(self) -> bool:
        return not any(one.waiting or one.held for host in self.w.net.hosts.values() for one in shard_facts(host.table))

    def crashed(self, report: Any) -> None:
        if report.label not in ("Till", "Carrier"):
            self.heard.findings.append(f"crash: {report}")

    # -- what happens --------------------------------------------------------------------------------

    async def strike(self) -> None:
        """Crash entities and cut links, until all is well."""
        dice, net = self.dice, self.w.net
        with trio.move_on_after(FAULTS):
            while True:
                await trio.sleep(dice.uniform(0.05, 0.8))  # virtual
                if dice.random() < 0.5:
                    for host in net.hosts.values():
                        process = host.table.names.get("till/" + dice.choice(KEYS))
                        if process is not None:
                            process.exit_signal(process.pid, "struck")
                elif self.cuts:
                    one, other = dice.sample("abc", 2)
                    net.cut(one, other)
                    await trio.sleep(dice.uniform(0.0, 0.3))  # virtual
                    net.mend(one, other)

    async def move(self) -> None:
        """Move a shard, or begin to."""
        w, dice = self.w, self.dice
        shard = dice.randrange(w.placement.shards)
        source, epoch = w.placement.rows[shard]
        target = dice.choice([node for node in "abc" if node != source])
        end = dice.choice(["done", "done", "done", "done", "thawed", "sealed", "mover"])
        if not await w.freeze(source, shard):
            self.heard.moves["busy"] += 1
            return
        self.heard.moves[end] += 1
        await trio.sleep(dice.choice([0.0, 0.0, 0.02, 0.3]))  # virtual
        if end == "mover":
            carrier = w.carriers[shard]
            w.net[source].table.processes[carrier.number].interrupt("ended")
        elif end == "thawed":
            for name in w.regions:
                await w.ask(source, name, ThawShard(shard))
        else:
            packed = await w.seal(source, shard)
            await trio.sleep(dice.choice([0.0, 0.0, 0.02]))  # virtual
            if end == "sealed":
                w.own(shard, source, epoch + 1)
                w.stores[source].claim({shard: epoch + 1})
                w.tell()
                for name in w.regions:
                    await w.ask(source, name, ThawShard(shard, epoch + 1))
                return
            await w.copy(source, target, shard)
            pids = await w.arrive(target, shard, packed)
            await trio.sleep(dice.choice([0.0, 0.0, 0.02, 0.3]))  # virtual
            await w.retire(source, shard, pids)
            w.tell()

    async def watch(self, key: str) -> None:
        """Hear of an end that is none."""
        monitor(self.pids[key])
        down = await receive(lambda m: isinstance(m, Down))
        if not self.cuts:
            self.heard.findings.append(f"down: {key} has ended: {down.reason}")

    async def direct(self, node: str) -> None:
        """Sends to pids that were known at first."""
        dice = random.Random(f"{self.seed}/direct")
        for _ in range(30):
            self.number += 1
            key = dice.choice(KEYS)
            self.heard.asked.setdefault(("direct", "basket", key), []).append(self.number)
            await send(self.pids[key], self.number)
            self.heard.taken.add(self.number)
            await trio.sleep(dice.uniform(0.0, 0.3))  # virtual
        self.busy -= 1

    async def caller(self, node: str, name: str) -> None:
        """Asks one thing after the other."""
        dice = random.Random(f"{self.seed}/{name}")
        heard = self.heard
        for _ in range(ASKED):
            self.number += 1
            number, key = self.number, dice.choice(KEYS)
            kind = dice.choice(["till", "purse", "basket"])
            asked = region(kind)
            heard.asked.setdefault((name, kind, key), []).append(number)
            try:
                what = dice.random()
                if what < 0.3:
                    await asked.cast(key, Give(number), timeout=1000.0)
                    heard.taken.add(number)
                    for _ in range(dice.randrange(4)):
                        self.number += 1
                        heard.asked[name, kind, key].append(self.number)
                        await asked.cast(key, Give(self.number), timeout=1000.0)
                        heard.taken.add(self.number)
                elif what < 0.45 and kind == "basket":
                    await asked.send(key, number, timeout=1000.0)
                    heard.taken.add(number)
                elif what < 0.5 and kind == "basket":
                    await asked.call(key, Set("once", dice.uniform(0.0, 3.0)), timeout=1000.0)
                    self.timers[key] += 1
                else:
                    timeout = dice.choice([0.2, 1000.0, 1000.0])
                    heard.answered[number] = await asked.call(key, Deposit(number), timeout=timeout)
            except (CallTimeout, MailboxFull, Busy) as error:
                heard.told[type(error).__name__] += 1
            except CallFailed as error:
                heard.told[type(error).__name__] += 1
                if not self.cuts:
                    heard.findings.append(f"reply: {number} was answered {error!r}")
            if dice.random() < 0.5:
                await trio.sleep(dice.uniform(0.0, 0.3))  # virtual
        self.busy -= 1

    # -- what must hold ------------------------------------------------------------------------------

    async def check(self) -> None:
        heard = self.heard
        where: dict[int, int] = {}
        for kind in ("till", "purse", "basket"):
            for key in KEYS:
                try:
                    log = list(await self.w.on("a", call, region(kind).entity(key), Log()))
                except CallTimeout:
                    heard.findings.append(f"liveness: {kind}/{key} does not answer")
                    continue
                fired = log.count("once")
                if kind == "basket" and fired != self.timers[key]:
                    heard.findings.append(f"timer: {self.timers[key]} were set at {key}, and {fired} were due")
                history = [one for one in log if one != 0]
                for index, number in enumerate(log):
                    where[number] = index + 1
                doubled = [number for number, times in Tally(history).items() if times > 1 and number != "once"]
                if doubled:
                    heard.findings.append(f"doubled: {doubled} of {kind}/{key}")
                for (name, asked_kind, asked_key), asked in heard.asked.items():
                    mine = [number for number in history if number in asked]
                    if (asked_kind, asked_key) == (kind, key) and mine != sorted(mine):
                        heard.findings.append(f"order: {name} asked {kind}/{key} for {asked}, done was {mine}")
        if heard.findings and heard.findings[-1].startswith("liveness"):
            return
        for number, answer in heard.answered.items():
            if where.get(number) != answer:
                heard.findings.append(f"lost: {number} was answered {answer}, and is at {where.get(number)}")
        for number in sorted(heard.taken):
            if number not in where:
                heard.findings.append(f"lost: {number} was taken, and is not done")


def simulate(seed: int, *, cuts: bool) -> tuple[list[str], str, Run]:
    """What one seed finds, the digest of its trace, and the run."""
    trace = Trace()
    run = Run(seed, trace, cuts=cuts)
    before = here.get(None)
    try:
        run_seeded(seed, run.main, trace=trace)
    finally:
        if before is not None:
            here.set(before)
    return run.heard.findings, trace.digest, run
