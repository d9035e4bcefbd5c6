"""Moves in a simulated cluster: who asks for them, where they are struck, and what must hold of them.

An operator asks for moves of any shard to any node, gives some of them up again, and has nodes drained; the nodes'
own rebalancers do what they like. A node, or its mover alone, may end before and after each step of a move on either
side (`move.STEP`, beside the sites in its stores and in the coordination store). Watchers see whether somebody is
told that a process has ended which has only moved.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, cast

import trio

from runtime import KILL, NOCONNECTION, CallFailed, Down, NoProcess, call, demonitor, exit, monitor
from runtime.cluster.membership import SERVICE as MEMBERSHIP
from runtime.cluster.membership import Ceased, Membership
from runtime.cluster.placement import shard_of
from runtime.kernel.process import here
from runtime.kernel.selective import ReceiveTimeout, receive
from supervisors.shards.carrier import Work
from supervisors.shards.handoff_events import Effect
from supervisors.shards.inward import Inward
from supervisors.shards.mover import Mover
from supervisors.shards.mover_source import SourceWork, sealed_by
from supervisors.shards.mover_target import TargetWork
from supervisors.shards.orders import MOVER, REBALANCER, VOID, Abort, Drain, Move, MoveFact, MoveRefused

from .cluster_bank import BANK, LIFE, Basket, accounts

if TYPE_CHECKING:
    from .cluster import Run
    from .cluster_host import Host, Life

# Steps of a move that some of many runs have to be struck at.
STEPS: Final = ("Plan", "Read", "Freeze", "Seal", "Retire", "Reserve", "Keep", "Commit", "Serve")
PATHS: Final = (
    "a move was asked for",
    "a move was refused",
    "a move was given up",
    "a move was void",
    "a node was drained",
    "a basket was moved",
    "a shard was moved",
    "a watched process was moved",
)
# Seconds that the operator waits for an answer.
PATIENCE: Final = 3.0
# Faults that end no process and cost nobody his lease.
HARMLESS: Final = ("reset", "slow_network", "wall_jump")
# After anything else, so many seconds may pass until all who are concerned have heard of it.
FELT: Final = 20.0


def mover_here(host: Host) -> Mover | None:
    """The mover of a node that is up."""
    found = host.table.services.get(MOVER) if host.table is not None else None
    return found if isinstance(found, Mover) else None


def facts(host: Host) -> tuple[MoveFact, ...]:
    """The moves that a node knows of."""
    mover = mover_here(host)
    return mover.facts() if mover is not None else ()


class Operator:
    """Asks for moves, for as long as a run is not closing; then calls off all drains."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.dice = random.Random(f"{run.seed}/operator")

    async def work(self) -> None:
        """Do so."""
        run, dice = self.run, self.dice
        while not run.closing:
            await trio.sleep(dice.uniform(0.0, 2.0 * run.config.moves))  # virtual
            host = dice.choice(run.hosts)
            if host.table is None:
                continue
            roll = dice.random()
            if roll < 0.75:
                await self._move(host)
            elif roll < 0.9:
                await self._abort(host)
            else:
                await self._drain(host, on=dice.random() < 0.5)
        for host in run.hosts:
            await self._drain(host, on=False)

    async def ask(self, host: Host, name: str, request: Any) -> object:
        """The answer, or a refusal; None if nothing came."""
        table = host.table
        process = table.names.get(name) if table is not None else None
        if table is None or process is None:
            return None
        here.set(table)
        # Of a node that is killed meanwhile no answer comes.
        with suppress(CallFailed, NoProcess), trio.move_on_after(PATIENCE):
            try:
                return await call(process.pid, request, timeout=PATIENCE)
            except MoveRefused as refused:
                return refused
        return None

    async def _move(self, host: Host) -> None:
        membership: Any = host.table.services.get("membership") if host.table is not None else None
        shards = sorted(membership.placement.served) if membership is not None else []
        if not shards:
            return
        shard = self.dice.choice(shards)
        target = self.dice.choice(self.run.hosts).name
        self.run.sometimes("a move was asked for")
        answer = await self.ask(host, MOVER, Move(shard, target))
        if isinstance(answer, MoveRefused):
            self.run.sometimes("a move was refused")

    async def _abort(self, host: Host) -> None:
        running = [fact.id for fact in facts(host) if not fact.over]
        if running:
            answer = await self.ask(host, MOVER, Abort(self.dice.choice(running)))
            if isinstance(answer, MoveFact):
                self.run.sometimes("a move was given up")

    async def _drain(self, host: Host, *, on: bool) -> None:
        answer = await self.ask(host, REBALANCER, Drain(on))
        if on and answer is not None and not isinstance(answer, MoveRefused):
            self.run.sometimes("a node was drained")


# -- where it is struck ----------------------------------------------------------------------------------


def on_the_brink(original: Callable[..., Any]) -> Callable[..., Any]:
    """A step of a move, before and after which its node, or its mover, may end, or which takes its time."""

    async def do(self: Work, effect: Effect) -> Any:
        life = cast("Life", self.table.services[LIFE])
        site = f"move.{type(effect).__name__}"
        await _perhaps(life, site)
        event = await original(self, effect)
        if site == "move.Retire":
            life.run.sometimes("a shard was moved")
        await _perhaps(life, site)
        return event

    return do


async def _perhaps(life: Life, site: str) -> None:
    host = life.host
    if host.life is not life or not life.up.is_set() or not host.world.buggify(site, 0.1):
        return
    roll = host.world.random.random()
    if roll < 0.5:
        host.crash(power=roll < 0.1)
        await trio.sleep_forever()  # it is never woken
    elif roll < 0.75 and life.table is not None and MOVER in life.table.names:
        life.run.rough()
        exit(life.table.names[MOVER].pid, KILL)
    else:
        await trio.sleep(host.world.random.uniform(0.0, 3.0))  # virtual


def noting_lapses(original: Callable[..., Any]) -> Callable[..., Any]:
    """Of a membership that tells its node's processes something: whether its node has lost all shards at once."""

    def tell(self: Membership, message: object) -> None:
        if isinstance(message, Ceased):
            cast("Life", self._process.table.services[LIFE]).lapse()
        original(self, message)

    return tell


def noting_ends(original: Callable[..., Any]) -> Callable[..., Any]:
    """Of a region that gives up a shard: whether its node's lease is over, of which it is told a little later."""

    def lose(self: Inward, shard: Any, owner: Any) -> None:
        services = self._post.table.services
        membership = services.get(MEMBERSHIP)
        if not isinstance(membership, Membership) or not membership.serving:
            cast("Life", services[LIFE]).lapse()
        original(self, shard, owner)

    return lose


PATCHES: Final = (
    (SourceWork, "do", on_the_brink),
    (TargetWork, "do", on_the_brink),
    (Membership, "_tell", noting_lapses),
    (Inward, "lose", noting_ends),
)


# -- who watches -----------------------------------------------------------------------------------------


class Watcher:
    """A process that watches accounts: it may hear of an end only if something has ended."""

    def __init__(self, run: Run, name: str, life: Life) -> None:
        self.run = run
        self.name = f"{name}.watcher"
        self.life = life
        self.dice = random.Random(f"{run.seed}/{name}/watcher")

    async def work(self) -> None:
        """Watch one account after the other."""
        run = self.run
        run.busy.append(self.name)
        while not run.closing:
            key = f"a{self.dice.randint(1, run.config.accounts)}"
            began, struck = trio.current_time(), run.entities_struck()
            try:
                pid = await accounts.start(key, timeout=5.0)
            except (CallFailed, NoProcess):
                await trio.sleep(1.0)  # virtual
                continue
            # A shard in which nothing is written yet is given up without a move.
            written = any(disk.owner is not None and disk.owner.head(f"{BANK}/{key}") for disk in self._disks())
            ref = monitor(pid)
            moved = self._owner(key)
            try:
                down = await receive(Down, timeout=self.dice.uniform(0.5, 8.0))
            except ReceiveTimeout:
                demonitor(ref, flush=True)
                if self._owner(key) != moved:
                    run.sometimes("a watched process was moved")
            else:
                quiet = began > run.rough_until and struck == run.entities_struck()
                if down.reason == NOCONNECTION and run.broken_since(began):
                    continue
                owners = {row.owner for row in (moved, self._owner(key)) if row is not None}
                if written and quiet and not any(run.lapses.get(owner, -1.0) >= began - 1.0 for owner in owners):
                    self.life.found(f"down: {self.life.name} was told that {key} has ended, which lives: {down}")
                await trio.sleep(0.1)  # virtual
        run.busy.remove(self.name)

    def _disks(self) -> list[Any]:
        return [host.disk for host in self.run.hosts]

    def _owner(self, key: str) -> Any:
        return self.run.observed.rows.get(shard_of(BANK, key, self.run.config.shards))


# -- what must hold --------------------------------------------------------------------------------------


def unfinished(run: Run) -> Iterator[str]:
    """Moves that have not come to their end yet, and what they have left."""
    for shard, row in sorted(run.observed.rows.items()):
        if row.move:
            yield f"move: the row of shard {shard} names {row.move}"
    for host in run.hosts:
        for fact in facts(host):
            if not fact.over:
                where = f"shard {fact.shard} to {fact.target}, is {fact.phase} at {host.name}: {fact.why}"
                yield f"move: {fact.id}, {where}"
        journal = host.disk.owner
        if journal is not None and journal.staged():
            yield f"move: {host.name} has staged shards {sorted(journal.staged())}"
        for name, process in host.table.names.items() if host.table is not None else ():
            if isinstance(process.behaviour, Basket) and process.behaviour.unripe:
                yield f"timer: {name} at {host.name} waits for {list(process.behaviour.unripe)}"
        if host.table is not None and sealed_by(host.table):
            yield f"move: {host.name} has sealed shards {sorted(sealed_by(host.table))} for moves"


def remains(run: Run) -> Iterator[str]:
    """What a move that was void has left behind: records where the shard never was."""
    for host in run.hosts:
        if any(fact.phase == VOID for fact in facts(host)):
            run.sometimes("a move was void")
        journal = host.disk.owner
        for shard, row in sorted(run.observed.rows.items()):
            if journal is None or row.owner in ("", host.name):
                continue
            keys = journal.shard_keys(shard)
            if keys and host.name not in run.observed.owned.get(shard, {}):
                yield f"left: {host.name} has {keys} of shard {shard}, which it never owned"
            fence = journal.fence(shard)
            if keys and not fence.sealed:
                yield f"left: {host.name} has {keys} of shard {shard} open under {fence}, which is {row.owner}'s"
