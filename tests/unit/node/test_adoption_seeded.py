"""Nodes are killed, adopted, given back, started and moved between at random, while somebody pays all the time."""

from __future__ import annotations

import random
from contextlib import nullcontext
from typing import Any

import pytest
import trio

from runtime.durable.journal import StoreInUse
from runtime.observe.protocol import Refusal
from runtime.observe.recorder import recorder_of
from supervisors import region
from tests.unit.node.test_steering import SHARDS, TILLS, Room, in_room

STEPS = 24
KEYS = TILLS[:8]


class Life:
    """A cluster of a, b and c, of which c lives through all; and what was paid there."""

    def __init__(self, room: Room, dice: random.Random) -> None:
        self.room = room
        self.machines = room.machines
        self.dice = dice
        self.paid: dict[str, list[int]] = {key: [] for key in KEYS}
        self.adopted: dict[str, str] = {}
        self.done: list[str] = []

    async def begin(self, name: str) -> None:
        """Start a node."""
        node = await self.machines.start(name, data=f"/{name}", shards=SHARDS, rebalance=False)
        recorder_of(node.table)  # from now on it counts what crashes

    @property
    def up(self) -> list[str]:
        """Who lives."""
        return sorted(self.machines.nodes)

    async def payer(self, key: str) -> None:
        """Pay 1 again and again."""
        while True:
            self.paid[key].append(await region("till").call(key, 1, timeout=500.0))
            await trio.sleep(0.05)  # virtual

    async def step(self) -> None:
        """Do something."""
        kind = self.dice.choice(["kill", "stop", "move", "move", "adopt", "adopt", "back", "start", "rest"])
        self.done.append(kind)
        await getattr(self, kind)()
        await trio.sleep(self.dice.uniform(0.0, 3.0))  # virtual

    async def rest(self) -> None:
        """Let it be."""
        await trio.sleep(self.dice.uniform(0.0, 15.0))  # virtual

    async def kill(self) -> None:
        """Kill somebody but c; whom it has adopted is free."""
        await self.lose(self.machines.kill)

    async def stop(self) -> None:
        """Stop somebody but c in order; likewise."""
        await self.lose(self.machines.stop)

    async def lose(self, how: Any) -> None:
        mortal = [name for name in self.up if name != "c"]
        if mortal:
            name = self.dice.choice(mortal)
            assert recorder_of(self.machines.nodes[name].table).crashed == 0
            await how(name)
            self.adopted = {one: by for one, by in self.adopted.items() if by != name}

    async def move(self) -> None:
        """Begin a move; it may be refused."""
        shard, to = self.dice.randrange(SHARDS), self.dice.choice("abc")
        try:
            await self.room.steer("c", lambda at: at.move(shard, to))
        except Refusal:
            self.done[-1] += " refused"

    async def adopt(self) -> None:
        """Have somebody adopt a dead node; it may be refused, for it is not seen as down, or is adopted."""
        dead = [name for name in "ab" if name not in self.machines.nodes]
        if dead:
            name, by = self.dice.choice(dead), self.dice.choice(self.up)
            try:
                await self.room.steer(by, lambda at: at.adopt(name, undo=False))
            except Refusal as error:
                self.done[-1] += f" refused: {error.why}"
            else:
                assert name not in self.adopted
                self.adopted[name] = by

    async def back(self) -> None:
        """Have a store given back."""
        if self.adopted:
            name = self.dice.choice(sorted(self.adopted))
            await self.room.steer(self.adopted.pop(name), lambda at: at.adopt(name, undo=True))

    async def start(self) -> None:
        """Start a dead node, which is refused while it is adopted."""
        dead = [name for name in "ab" if name not in self.machines.nodes]
        if dead:
            name = self.dice.choice(dead)
            with pytest.raises(StoreInUse) if name in self.adopted else nullcontext():
                await self.begin(name)

    async def end(self) -> None:
        """All live again, and nothing is adopted."""
        while self.adopted:
            await self.back()
        for name in "ab":
            if name not in self.machines.nodes:
                await self.begin(name)
        served = lambda: sorted(shard for name in "abc" for shard in self.room.owned(name))  # noqa: E731  # asked twice
        await self.machines.until(lambda: served() == list(range(SHARDS)), 120.0)
        before = {key: len(found) for key, found in self.paid.items()}
        await self.machines.until(lambda: all(len(self.paid[key]) > count + 2 for key, count in before.items()), 120.0)


@pytest.mark.parametrize("seed", range(1, 5))
def test_each_payment_counts_once_and_in_order(seed: int) -> None:
    """Whatever happens to the nodes and in whatever order, nobody's payment is lost, doubled or told wrong."""

    async def scenario(room: Room) -> None:
        life = Life(room, random.Random(seed))
        for name in "abc":
            await life.begin(name)
        await room.machines.until(lambda: all(room.met(name, tuple("abc")) for name in "abc"))
        async with trio.open_nursery() as nursery:
            for key in KEYS:
                nursery.start_soon(room.machines.at, "c", life.payer, key)
            for _ in range(STEPS):
                await life.step()
            await life.end()
            nursery.cancel_scope.cancel()
        for key, found in life.paid.items():
            assert found == list(range(1, len(found) + 1)), (key, life.done)
        for name in "abc":
            crashed: Any = recorder_of(room.machines.nodes[name].table).crashed
            assert crashed == 0, life.done

    in_room(scenario, seed)
