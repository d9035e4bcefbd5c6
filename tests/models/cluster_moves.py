"""Moves of shards in the cluster in miniature: the real changes of their rows, in any order with all the rest.

Beside its rounds each node does what a mover does, as a second coroutine that stops at every question to the store: it
plans, seals and hands over a copy with the token, commits, takes back. What the copy holds is counted only; that the
fences bar whom they should is seen by real commits. A token, once kept, survives the node, as the copy does.

What must hold is what holds for `Model`, and of the same names; a commit takes a shard from an owner whose lease
holds, which is no theft if the owner has sealed it for this very move.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from random import Random
from typing import Any

from runtime.backends.memory import MemoryJournal
from runtime.cluster import moving
from runtime.cluster.placement import Shard
from runtime.durable.journal import Fenced
from runtime.durable.record import Entry

from .cluster import Broken, Host, Model


@dataclass
class Outgoing:
    """What a source knows of a move."""

    move: str
    epoch: int
    target: Host
    sealed: bool = False


@dataclass
class Mover:
    """What moves shards on one host, in one life of its node; what it asks goes by `hand`."""

    hand: Host
    outgoing: dict[int, Outgoing] = field(default_factory=dict)


class MovingModel(Model):
    """`Model`, and nodes that move shards to each other."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.movers = {host.name: Mover(Host(f"{host.name}'s mover", None)) for host in self.hosts}
        # By host and shard: how much a copy holds; and the token that is kept there, as (move, epoch).
        self.copies: dict[tuple[str, int], int] = {}
        self.tokens: dict[tuple[str, int], tuple[str, int]] = {}
        self._count = 0

    def hand(self, host: Host) -> Host:
        """Where the questions of a host's mover wait: for `serve`, `hear` and `deafen`."""
        return self.movers[host.name].hand

    # -- what may happen -----------------------------------------------------------------------------

    def plan(self, host: Host, choice: int) -> None:
        """The node begins to move one of its shards to another one that runs."""
        mover, membership = self.movers[host.name], host.membership
        targets = [one for one in self.hosts if one is not host and one.membership is not None]
        if membership is None or mover.hand.work is not None or not targets:
            return
        shards = [one for one in sorted(membership.placement.served) if one not in mover.outgoing]
        if not shards:
            return
        shard, target = shards[choice % len(shards)], targets[choice % len(targets)]
        if self._held(host, shard) is not host.journal or (target.journal is None and shard in self.written):
            return
        self._count += 1
        one = Outgoing(f"{host.name}-{self._count}", membership.placement.served[shard], target)

        def over(_: Host, why: str | None) -> None:
            if why is None:
                mover.outgoing[shard] = one
                self.passed.add("planned")

        self._move(host, moving.plan(membership, shard, one.move, target.name), over)

    def seal(self, host: Host, choice: int, *, lost: bool) -> None:
        """The node seals a shard that it moves, and the target is given the copy and the token, unless it is lost."""
        shard = self._outgoing(host, choice, sealed=False)
        if shard is None or host.membership is None:
            return
        one = self.movers[host.name].outgoing[shard]
        if not host.membership.sealing(shard, one.epoch):
            self.clear(host, choice)
            return
        if host.journal is not None:
            try:
                host.journal.seal(shard, one.epoch)
            except Fenced:
                raise Broken(f"twice: {host.name} serves shard {shard} under {one.epoch}, not claimed") from None
        one.sealed = True
        self.passed.add("sealed")
        if not lost and one.target.membership is not None:
            self._keep(one.target, shard, one, self.copies.get((host.name, shard), 0))

    def _keep(self, target: Host, shard: int, one: Outgoing, copied: int) -> None:
        """The target keeps the token with the whole copy."""
        if target.journal is not None:
            target.journal.claim({shard: one.epoch + 1})
            if copied:
                self._append(target.journal, shard, one.epoch + 1)
        elif copied:
            return
        self.copies[target.name, shard] = copied
        self.tokens[target.name, shard] = one.move, one.epoch

    def clear(self, host: Host, choice: int) -> None:
        """The node gives up a move that it has not sealed."""
        shard = self._outgoing(host, choice, sealed=False)
        if shard is not None and host.membership is not None and self.hand(host).work is None:
            one = self.movers[host.name].outgoing.pop(shard)
            self._move(host, moving.clear(host.membership, shard, one.move), lambda *_: self.passed.add("cleared"))

    def abort(self, host: Host, choice: int) -> None:
        """The node takes back what it has sealed, if it can."""
        shard, membership = self._outgoing(host, choice, sealed=True), host.membership
        if shard is None or membership is None or self.hand(host).work is not None:
            return
        mover = self.movers[host.name]
        one = mover.outgoing[shard]

        def over(_: Host, epoch: int | None) -> None:
            if mover.outgoing.pop(shard, None) is None:
                return
            if epoch is None:
                membership.gone(shard)
                self.passed.add("taken")
            elif membership.resumed(shard, epoch):
                self.passed.add("resumed")
            else:
                self.passed.add("too late to resume")

        self._move(host, moving.abort(membership, shard, one.epoch), over)

    def commit(self, host: Host, choice: int) -> None:
        """The node takes a shard whose token it has."""
        membership = host.membership
        mine = sorted(shard for name, shard in self.tokens if name == host.name)
        if not mine or membership is None or not host.running or self.hand(host).work is not None:
            return
        shard = mine[choice % len(mine)]
        move, epoch = token = self.tokens[host.name, shard]

        def over(_: Host, how: str) -> None:
            if self.tokens.get((host.name, shard)) != token:
                return
            del self.tokens[host.name, shard]
            if how == "lost":
                del self.copies[host.name, shard]
                self.passed.add("void")
            elif membership.arrived(shard, epoch + 1):
                self.passed.add("arrived")
            else:
                self.passed.add("too late to arrive")

        self._move(host, moving.commit(membership, shard, epoch, move), over)

    def anew(self, host: Host) -> None:
        """The node's mover ends, and another one begins."""
        if host.membership is not None:
            self._end(host)
            membership = host.membership
            membership._place(membership.placement.abandoned())
            self.passed.add("conducted anew")

    def drain(self, host: Host, *, on: bool) -> None:
        """The node says that it gives its shards away."""
        if host.membership is not None:
            host.membership.drain(on)

    def crash(self, host: Host) -> None:
        super().crash(host)
        self._end(host)

    def write(self, host: Host, choice: int) -> None:
        some = host.workers + host.strays
        if not some or not host.running or host.membership is None:
            return
        shard, epoch = some[choice % len(some)]
        journal = self._held(host, shard)
        if journal is None:
            return
        where = host.name if journal is host.journal else journal.path
        try:
            self._append(journal, shard, epoch)
        except Fenced:
            self.passed.add("fenced")
            host.membership.fenced(shard, epoch)
            return
        _, last, count = self.written.get(shard, ("", 0, 0))
        if self.highest[shard] > epoch or last > epoch:
            raise Broken(f"stale: {host.name} wrote to shard {shard} under {epoch}, after {self.highest[shard]}")
        if self.copies.get((where, shard), 0) != count:
            raise Broken(f"lost: {count} writes to shard {shard}, {host.name} has {self.copies.get((where, shard), 0)}")
        self.copies[where, shard] = count + 1
        self.written[shard] = where, epoch, count + 1
        self.passed.add("written")

    def settle(self) -> None:
        """The faults are over: whatever moves comes to its end, or is void."""
        for host in self.hosts:
            self.drain(host, on=False)
        while self.late:
            self.land()
        for _ in range(12):
            for host in self.hosts:
                self.round(host)
                self.finish(host)
                for step in (self.clear, self.abort, self.commit):
                    step(host, 0)
                    self.finish(host)
            self.wait(2.0)
        super().settle()
        for shard, (_, row) in self._shards().items():
            if row.move and any(host.name == row.owner and host.membership is not None for host in self.hosts):
                raise Broken(f"moving: shard {shard} names {row.move} for ever")

    # -- how it runs ---------------------------------------------------------------------------------

    def _move(self, host: Host, work: Coroutine[Any, Any, Any], over: Callable[[Host, Any], None]) -> None:
        self._run(self.hand(host), work, over)

    def finish(self, host: Host) -> None:
        """All that the node's mover asks now is answered."""
        hand = self.hand(host)
        for _ in range(40):
            if hand.work is None:
                return
            self.serve(hand)
            self.hear(hand)
        raise AssertionError(f"what {hand.name} does has no end")

    def _end(self, host: Host) -> None:
        mover = self.movers[host.name]
        if mover.hand.work is not None:
            mover.hand.work.close()
        self.movers[host.name] = Mover(Host(mover.hand.name, None))

    def _outgoing(self, host: Host, choice: int, *, sealed: bool) -> int | None:
        some = sorted(shard for shard, one in self.movers[host.name].outgoing.items() if one.sealed is sealed)
        return some[choice % len(some)] if some else None

    def _held(self, host: Host, shard: int) -> MemoryJournal | None:
        home = host.homes.get(shard, "")
        return host.adopted.get(home) if home else host.journal

    def _append(self, journal: MemoryJournal, shard: int, epoch: int) -> None:
        self._count += 1
        journal.commit([Entry(f"{self._count}", 1, epoch, 1, "", 0, self.now, 0, b"")], fences={shard: epoch})

    def _join_over(self, host: Host, joined: Any) -> None:
        super()._join_over(host, joined)
        assert host.membership is not None
        host.membership.look = lambda: None  # type: ignore[method-assign]  # it is the driver who says when

    def _is_theft(self, host: Host, shard: int, old: Shard, new: Shard) -> bool:
        if old.move and new.owner == old.target and new.epoch == old.epoch + 1:
            one = self.movers[host.name].outgoing.get(shard)
            return one is None or not one.sealed
        return super()._is_theft(host, shard, old, new)


def walk(seed: int, steps: int = 300) -> set[str]:
    """A random walk, and its end; what was met on the way."""
    dice = Random(f"moves {seed}")
    crashes, lapses = seed % 3 != 1, seed % 3 != 2
    keeps = ((True, True, False), (True, True, True))[seed % 2]
    with MovingModel(seed, tuple(zip("abc", keeps, strict=True))) as model:
        for host in model.hosts:
            model.start(host)
        for _ in range(steps):
            step(model, dice, crashes=crashes, lapses=lapses)
        model.settle()
        return model.passed


def step(model: MovingModel, dice: Random, *, crashes: bool, lapses: bool) -> None:
    """One of all that may happen."""
    host, roll, choice = dice.choice(model.hosts), dice.random(), dice.randrange(64)
    hand = dice.choice((host, model.hand(host)))
    if roll < 0.04:
        model.start(host)
    elif roll < 0.20:
        model.round(host)
    elif roll < 0.23:
        model.begin(host)
    elif roll < 0.31:
        model.serve(hand)
    elif roll < 0.40:
        model.hear(hand)
    elif roll < 0.50:
        model.finish(host)
    elif roll < 0.525:
        model.deafen(hand, late=dice.random() < 0.5)
    elif roll < 0.54:
        model.land()
    elif roll < 0.61:
        model.plan(host, choice)
    elif roll < 0.68:
        model.seal(host, choice, lost=dice.random() < 0.2)
    elif roll < 0.77:
        model.commit(host, choice)
    elif roll < 0.79:
        model.abort(host, choice)
    elif roll < 0.80:
        dice.choice((model.clear, lambda host, _: model.anew(host)))(host, choice)
    elif roll < 0.805:
        model.drain(host, on=dice.random() < 0.5)
    elif roll < 0.82:
        if crashes:
            model.crash(host)
    elif roll < 0.822:
        model.leave(host)
    elif roll < 0.83:
        model.adopt(host, dice.choice(model.hosts))
    elif roll < 0.88:
        model.wait(dice.choice((0.2, 1.0, 1.0, 2.0, 9.0 if lapses else 1.0)))
    else:
        model.write(host, choice)
