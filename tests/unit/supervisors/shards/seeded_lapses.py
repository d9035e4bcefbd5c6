"""Shards that move while their owners lose them, routers are restarted and news is late, out of one seed.

As `seeded_moves`, with a mover by hand that keeps to what the real one keeps to: it seals only what its node serves,
one of the two nodes wins the row, and from the seal on the shard is in its hands. At any moment of that a node may lose
a shard and claim it anew, see no owners at all, or have a region restarted; links are cut; what is to be said to the
routers comes late, twice or never.

Invariant hunted: of a durable entity what was answered is in its history, there and with that answer, what was taken
is in it unless the region that took it has ended, nothing is in it twice, and each caller's commands are in its order.
A volatile one may begin anew, and each of its lives keeps the last two. Every caller is told something, every command
has its outcome, and in the end nothing is left over of any move.
"""

from __future__ import annotations

import random
from collections import Counter as Tally
from contextlib import suppress
from typing import Any

import trio

from runtime import CallTimeout, MailboxFull, call, send
from runtime.backends.coordination import LocalCoordination
from runtime.backends.memory import MemoryDisk, MemoryJournal
from runtime.behaviours.gen_server import CastEnvelope
from runtime.durable.session import Session
from runtime.errors import BanyanError, Busy, CallFailed
from runtime.kernel.process import here
from runtime.testing import SeededWorld, Trace, run_seeded
from supervisors.shards import UnknownRegion, region, shard_facts
from supervisors.shards.departed import GRACE
from supervisors.shards.frames import Changed
from supervisors.shards.luggage import DepartShard, FollowShard, PackShard, ThawShard, UnpackShard, expect
from tests.support.linked import seen_from
from tests.unit.supervisors.shards.entities import Deposit, Give
from tests.unit.supervisors.shards.lapsing import KINDS, Hamper, Purse, View, left_over
from tests.unit.supervisors.shards.movers import World, world
from tests.unit.supervisors.shards.seeded_moves import KEYS, Heard, Till
from tests.unit.supervisors.shards.travellers import Log

CALLERS = 3
ASKED = 14
FAULTS, PATIENCE = 8.0, 150.0
FOREVER = 1e9


class Run:
    """One run."""

    def __init__(self, seed: int, trace: Trace) -> None:
        self.seed = seed
        self.trace = trace
        self.dice = random.Random(f"{seed}/lapses")
        self.heard = Heard()
        # By number, of what was taken: by which region of which node.
        self.taken: dict[int, tuple[str, str]] = {}
        self.happened: Tally[str] = Tally()
        self.number = 0
        self.busy = 0
        self.calm = False
        # Shards that a move has sealed and that are not decided, each with its node: nobody claims these anew.
        self.in_hand: set[tuple[str, int]] = set()
        # The highest epoch that each node has heard of.
        self.known: dict[tuple[str, int], int] = {}
        self.w: World
        Purse.histories, Hamper.histories, Hamper.dice = {}, {}, random.Random(f"{seed}/hamper")

    async def main(self) -> None:
        children = [
            region("till", Till, idle=FOREVER, intensity=1000),
            region("purse", Purse, idle=FOREVER, intensity=1000),
            region("basket", Hamper, idle=FOREVER, intensity=1000),
        ]
        host = SeededWorld(
            self.seed,
            open_store=lambda path, node: MemoryJournal(MemoryDisk(path), node=node),
            coordination=LocalCoordination(),
            trace=self.trace,
        )
        host.calm = True  # it would also kill who must not be
        async with world("abc", *children, seed=self.seed, on=host) as self.w, trio.open_nursery() as nursery:
            w, self.nursery = self.w, nursery
            for name, one in w.net.hosts.items():
                one.table.crash_listeners.append(self.crashed)
                view = one.table.services["placement"] = w.views[name] = View(w.placement.shards, None)
                view.rows = dict(w.placement.rows)
            for node in "abc":
                for number in range(CALLERS):
                    self.busy += 1
                    nursery.start_soon(w.on, node, self.caller, node, f"{node}{number}")
            self.busy += 1
            nursery.start_soon(w.on, "b", self.session, "b")
            self.busy += 1
            nursery.start_soon(w.on, "a", self.direct, "a")
            async with trio.open_nursery() as faults:
                for work in (self.lapses, self.restarts, self.cuts, self.stops):
                    faults.start_soon(work)
                for shard in range(w.placement.shards):
                    faults.start_soon(self.moves, shard)
                await trio.sleep(FAULTS)  # virtual
                self.calm = True
            for one, other in ("ab", "bc", "ac"):
                w.net.mend(one, other)
            for shard, (owner, epoch) in w.placement.rows.items():
                for name in "abc":
                    assert name != owner or self.serves(name, shard)
                    self.hear(name, shard, owner, epoch)
            with trio.move_on_after(PATIENCE):
                while self.busy or not self.clear():  # of what changes nothing rings
                    await trio.sleep(0.5)  # virtual
                    # Whoever waits in a basket is answered with the next message.
                    await self.pay()
            if self.busy:
                self.heard.findings.append(f"liveness: {self.busy} callers are never answered")
            if not self.clear():
                self.heard.findings.append("liveness: commands without an outcome")
            await self.check()
            await self.pay()  # whoever has left is owed something still
            await trio.sleep(GRACE + 10.0)  # virtual
            self.heard.findings += left_over(w)
            nursery.cancel_scope.cancel()

    async def pay(self) -> None:
        """From each node: behind what waits in its window nothing else of a key goes."""

        async def send_all() -> None:
            for key in KEYS:
                with suppress(UnknownRegion):  # it is being restarted
                    await region("basket").send(key, 0)

        for node in "abc":
            await self.w.on(node, send_all)

    def clear(self) -> bool:
        return not any(one.waiting or one.held for host in self.w.net.hosts.values() for one in shard_facts(host.table))

    def crashed(self, report: Any) -> None:
        if report.label not in ("Till", "Carrier", "Hamper", "Purse") and report.reason != "struck":
            self.heard.findings.append(f"crash: {report}")

    # -- who owns what -------------------------------------------------------------------------------

    def serves(self, node: str, shard: int) -> int | None:
        """The epoch under which a node serves a shard."""
        row = self.w.views[node].rows.get(shard)
        return row[1] if row is not None and row[0] == node else None

    def hear(self, node: str, shard: int, owner: str, epoch: int) -> None:
        """A node reads a shard's row. That a shard is its own it does not take from there."""
        if epoch > self.known.get((node, shard), 0):
            self.known[node, shard] = epoch
            self.w.views[node].rows.pop(shard, None)
            if owner != node:
                self.w.views[node].rows[shard] = (owner, epoch)

    def serve(self, node: str, shard: int, epoch: int) -> None:
        """A node serves a shard."""
        self.known[node, shard] = epoch
        self.w.views[node].rows[shard] = (node, epoch)
        self.tell(node)

    def tell(self, node: str) -> None:
        """Tell the regions of a node at once, or leave it to their next look."""
        if self.dice.random() < 0.6:
            for kind in KINDS:
                process = self.w.net[node].table.names.get(f"region/{kind}")
                if process is not None:
                    process.post(CastEnvelope(Changed()))

    def won(self, shard: int, owner: str, epoch: int) -> None:
        """A row is changed; the others hear of it sooner or later."""
        self.w.placement.rows[shard] = (owner, epoch)

        async def later(node: str, pause: float) -> None:
            await trio.sleep(pause)  # virtual
            self.hear(node, shard, owner, epoch)
            self.tell(node)

        for node in "abc":
            if node != owner and (node, shard) not in self.in_hand:
                self.nursery.start_soon(later, node, self.pause())

    def pause(self) -> float:
        return self.dice.choice([0.0, 0.0, 0.0, 0.01, 0.1, self.dice.uniform(0.0, 1.0)])

    # -- what happens --------------------------------------------------------------------------------

    async def lapses(self) -> None:
        """Take shards away from who serves them, one or all of a node, or its whole view."""
        while not self.calm:
            await trio.sleep(self.dice.uniform(0.0, 1.0))  # virtual
            node = self.dice.choice("abc")
            mine = [shard for shard in range(self.w.placement.shards) if self.serves(node, shard)]
            away = self.dice.random() < 0.3
            if not away:
                mine = mine[: self.dice.randrange(3)]
            self.happened["lapse"] += bool(mine)
            view: Any = self.w.views[node]
            for shard in mine:
                del view.rows[shard]
            view.away = away
            self.tell(node)
            await trio.sleep(self.pause())  # virtual
            view.away = False
            for shard in mine:
                await self.claim(node, shard)
            self.tell(node)

    async def claim(self, node: str, shard: int) -> None:
        """Serve a shard again, if it is still the node's."""
        while (node, shard) in self.in_hand:  # noqa: ASYNC110  # of what changes nothing rings
            await trio.sleep(0.05)  # virtual
        owner, epoch = self.w.placement.rows[shard]
        if owner == node and self.serves(node, shard) is None:
            self.w.stores[node].claim({shard: epoch + 1})
            self.won(shard, node, epoch + 1)
            self.serve(node, shard, epoch + 1)

    async def restarts(self) -> None:
        """End routers and entities; their supervisors start them again."""
        dice, hosts = self.dice, self.w.net.hosts
        while not self.calm:
            await trio.sleep(dice.uniform(0.1, 1.0))  # virtual
            node, kind = dice.choice("abc"), dice.choice(KINDS)
            name = f"region/{kind}" if dice.random() < 0.4 else f"{kind}/{dice.choice(KEYS)}"
            process = hosts[node].table.names.get(name)
            if process is None:
                continue
            self.happened["restart" if name.startswith("region") else "struck"] += 1
            if name.startswith("region"):
                self.taken = {number: by for number, by in self.taken.items() if by != (node, kind)}
            process.exit_signal(process.pid, "struck")

    async def stops(self) -> None:
        """Have nothing arrive for a while."""
        while not self.calm:
            await trio.sleep(self.dice.uniform(0.3, 3.0))  # virtual
            self.w.net.pause()
            await trio.sleep(self.dice.uniform(0.0, 0.5))  # virtual
            self.w.net.resume()

    async def cuts(self) -> None:
        """Cut links."""
        while not self.calm:
            await trio.sleep(self.dice.uniform(0.3, 2.0))  # virtual
            one, other = self.dice.sample("abc", 2)
            self.w.net.cut(one, other)
            await trio.sleep(self.dice.uniform(0.0, 0.3))  # virtual
            self.w.net.mend(one, other)

    # -- moves ---------------------------------------------------------------------------------------

    async def ask(self, node: str, request: Any, *, of: Any = KINDS) -> dict[str, Any]:
        """Ask the routers of a node; their answers, without those that gave none."""
        answers: dict[str, Any] = {}

        async def one(kind: str) -> None:
            try:
                made = request(kind) if callable(request) else request
                answers[kind] = await self.w.on(node, call, f"region/{kind}", made, timeout=5.0)
            except (CallFailed, BanyanError):
                self.happened["unanswered"] += 1

        async with trio.open_nursery() as nursery:
            for kind in of:
                nursery.start_soon(one, kind)
        return answers

    async def moves(self, shard: int) -> None:
        while not self.calm:
            await trio.sleep(self.dice.uniform(0.0, 0.6))  # virtual
            await self.move(shard)

    async def move(self, shard: int) -> None:
        """Move a shard, or begin to."""
        w, dice = self.w, self.dice
        source, epoch = w.placement.rows[shard]
        if self.serves(source, shard) != epoch:
            return
        end = dice.choice(["done"] * 6 + ["thawed", "back", "back", "mover"])
        try:
            frozen = await w.freeze(source, shard, force=dice.random() < 0.3)
        except CallFailed:
            frozen = False
        await trio.sleep(self.pause())  # virtual
        packed: dict[str, bytes] = {}
        if frozen and end == "mover":
            w.net[source].table.processes[w.carriers[shard].number].interrupt("ended")
            await trio.sleep(self.pause())  # virtual
        elif frozen and end != "thawed":
            packed = await self.ask(source, PackShard(shard))
            if dice.random() < 0.3:
                await trio.sleep(self.pause())  # virtual
        if len(packed) < len(KINDS) or self.serves(source, shard) != epoch:
            self.happened["void"] += 1
            await self.ask(source, ThawShard(shard))
            return
        w.stores[source].seal(shard, epoch)
        self.in_hand.add((source, shard))
        await trio.sleep(self.pause())  # virtual
        self.happened[end] += 1
        if end == "back":
            await self.take_back(source, shard, epoch)
            return
        target = dice.choice([node for node in "abc" if node != source])
        await w.copy(source, target, shard)
        w.stores[target].settle(shard)
        self.won(shard, target, epoch + 1)
        pids: dict[str, Any] = {}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.arrive, target, shard, epoch + 1, packed, pids)
            nursery.start_soon(self.depart, source, shard, target, epoch + 1)
        await self.follow(source, shard, pids)

    async def take_back(self, source: str, shard: int, epoch: int) -> None:
        """The source has won after its seal, and goes on as soon as it serves."""
        self.w.stores[source].claim({shard: epoch + 1})
        self.won(shard, source, epoch + 1)
        self.in_hand.discard((source, shard))
        if self.serves(source, shard) is not None:
            self.serve(source, shard, epoch + 1)
        else:
            await self.claim(source, shard)
        serves = self.serves(source, shard)
        await trio.sleep(self.pause())  # virtual
        await self.ask(source, ThawShard(shard, serves or 0))

    async def arrive(self, target: str, shard: int, epoch: int, packed: dict[str, bytes], pids: dict[str, Any]) -> None:
        """The target has won, and serves with what came along; or without."""
        lost = self.dice.random() < 0.1
        expect(self.w.net[target].table, shard, epoch)
        if lost:  # its lease is over just now
            await trio.sleep(self.pause())  # virtual
            await self.claim(target, shard)
            return
        late = self.dice.random() < 0.2
        if not late:
            self.serve(target, shard, epoch)
        if self.dice.random() < 0.2:
            await trio.sleep(self.dice.choice([self.pause(), 6.0]))  # virtual

        async def says() -> None:
            if late:
                await trio.sleep(self.pause())  # virtual
                if self.w.placement.rows[shard] == (target, epoch):
                    self.serve(target, shard, epoch)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(says)
            comes = [kind for kind in KINDS if self.dice.random() < 0.95]
            pids.update(await self.ask(target, lambda kind: UnpackShard(shard, epoch, packed[kind]), of=comes))

    async def depart(self, source: str, shard: int, target: str, epoch: int) -> None:
        """The source hears of it: by its mover, by the news, or by both, in any order."""
        await trio.sleep(self.pause())  # virtual
        for step in self.dice.choice([["tell", "news"]] * 3 + [["news"], ["news", "tell"], ["tell", "tell", "news"]]):
            if step == "tell":
                await self.ask(source, DepartShard(shard, target, epoch))
            else:
                self.in_hand.discard((source, shard))
                self.hear(source, shard, target, epoch)
                self.tell(source)
            await trio.sleep(self.pause())  # virtual
        if self.dice.random() < 0.2:

            async def again() -> None:
                await trio.sleep(self.dice.uniform(0.0, 3.0))  # virtual
                await self.ask(source, DepartShard(shard, target, epoch))

            self.nursery.start_soon(again)

    async def follow(self, source: str, shard: int, pids: dict[str, Any]) -> None:
        """The source hears who goes on."""

        def known(kind: str) -> FollowShard:
            seen = tuple((key, seen_from(self.w.net, source, pid)) for key, pid in pids.get(kind, ()))
            return FollowShard(shard, seen, bare=kind not in pids)

        await self.ask(source, FollowShard(shard, None) if self.dice.random() < 0.1 else known)

    # -- callers -------------------------------------------------------------------------------------

    async def direct(self, node: str) -> None:
        """Sends to pids, and asks them; what becomes of that is not promised, but that something does."""
        dice = random.Random(f"{self.seed}/direct")
        pids: dict[str, Any] = {}
        for _ in range(20):
            key = dice.choice(KEYS)
            self.number += 1
            number = self.number
            self.heard.asked.setdefault(("direct", "basket", key), []).append(number)
            try:
                if key not in pids or dice.random() < 0.3:
                    pids[key] = await region("basket").start(key, timeout=1000.0)
                if dice.random() < 0.5:
                    await send(pids[key], number)
                else:
                    await call(pids[key], Deposit(number), timeout=1000.0)
            except (CallFailed, BanyanError) as error:
                self.heard.told[type(error).__name__] += 1
                pids.pop(key, None)
            await trio.sleep(dice.uniform(0.0, 0.4))  # virtual
        self.busy -= 1

    async def session(self, node: str) -> None:
        """Numbers its commands by itself, and repeats them."""
        dice = random.Random(f"{self.seed}/session")
        session = Session("one", patience=1000.0)
        for _ in range(ASKED):
            self.number += 1
            number, key = self.number, dice.choice(KEYS)
            self.heard.asked.setdefault(("session", "till", key), []).append(number)
            self.heard.answered[number] = await session.command(region("till").entity(key), Deposit(number))
            await trio.sleep(dice.uniform(0.0, 0.4))  # virtual
        self.busy -= 1

    async def caller(self, node: str, name: str) -> None:
        """Asks one thing after the other."""
        dice = random.Random(f"{self.seed}/{name}")
        for _ in range(ASKED):
            kind, key = dice.choice(KINDS), dice.choice(KEYS)
            self.number += 1
            asked, number = region(kind), self.number
            mine = self.heard.asked.setdefault((name, kind, key), [])
            mine.append(number)
            try:
                if dice.random() < 0.4:
                    for _ in range(1 + dice.randrange(4)):
                        router = self.w.net[node].table.names.get(f"region/{kind}")
                        await asked.cast(key, Give(number), timeout=1000.0)
                        if router is self.w.net[node].table.names.get(f"region/{kind}"):
                            self.taken[number] = (node, kind)
                        self.number += 1
                        number = self.number
                        mine.append(number)
                elif kind == "basket" and dice.random() < 0.3:
                    await asked.send(key, number, timeout=1000.0)
                else:
                    timeout = dice.choice([0.2, 1000.0, 1000.0])
                    self.heard.answered[number] = await asked.call(key, Deposit(number), timeout=timeout)
            except (CallTimeout, MailboxFull, Busy, CallFailed, BanyanError) as error:
                self.heard.told[type(error).__name__] += 1
            if dice.random() < 0.5:
                await trio.sleep(dice.uniform(0.0, 0.5))  # virtual
        self.busy -= 1

    # -- what must hold ------------------------------------------------------------------------------

    async def check(self) -> None:
        findings = self.heard.findings
        histories: dict[tuple[str, str], list[list[Any]]] = {}
        for key in KEYS:
            try:
                log = await self.w.on("a", region("till").call, key, Log(), timeout=100.0)
            except CallTimeout:
                findings.append(f"liveness: till/{key} does not answer")
                return
            histories["till", key] = [list(log)]
            histories["purse", key] = [list(one) for one in Purse.histories.get(key, ())]
            histories["basket", key] = list(Hamper.histories.get(key, ()))
        where: dict[int, set[int]] = {}
        for (kind, key), lives in histories.items():
            for log in lives:
                history = [one for one in log if type(one) is int and one != 0]
                for index, number in enumerate(log):
                    where.setdefault(number, set()).add(index + 1)
                doubled = [number for number, times in Tally(history).items() if times > 1]
                if doubled:
                    findings.append(f"doubled: {doubled} of {kind}/{key}")
                for (name, asked_kind, asked_key), asked in self.heard.asked.items():
                    mine = [number for number in history if number in asked]
                    if (asked_kind, asked_key) == (kind, key) and mine != sorted(mine) and name != "direct":
                        findings.append(f"order: {name} asked {kind}/{key} for {asked}, done was {mine}")
        for number, answer in self.heard.answered.items():
            if answer not in where.get(number, ()):
                findings.append(f"lost: {number} was answered {answer}, and is at {where.get(number)}")
        for number, (_, kind) in sorted(self.taken.items()):
            if kind == "till" and number not in where:
                findings.append(f"lost: {number} was taken, and is not done")


def simulate(seed: int) -> tuple[list[str], str, Run]:
    """What one seed finds, the digest of its trace, and the run."""
    trace = Trace()
    run = Run(seed, trace)
    before = here.get(None)
    try:
        run_seeded(seed, run.main, trace=trace)
    finally:
        if before is not None:
            here.set(before)
    return run.heard.findings, trace.digest, run
