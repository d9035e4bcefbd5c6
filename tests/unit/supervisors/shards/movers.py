"""Nodes joined by links in memory, each with a store, and a mover that does by hand what a move consists of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from runtime import GenServer, Pid, call, start
from runtime.backends.memory import MemoryDisk, MemoryJournal
from runtime.behaviours.gen_server import CastEnvelope
from runtime.durable.carriage import Piece
from runtime.durable.writer import SERVICE, WRITER, JournalWriter
from runtime.kernel.world import World as KernelWorld
from supervisors.shards.frames import Changed
from supervisors.shards.luggage import (
    DepartShard,
    FollowShard,
    FreezeShard,
    PackShard,
    ThawShard,
    UnpackShard,
    expect,
    regions_here,
    verify,
)
from tests.support.linked import Net, linked, seen_from
from tests.unit.supervisors.shards.entities import House
from tests.unit.supervisors.shards.nodes import Map

SHARDS = 2


class Carrier(GenServer):
    """Runs what it is given; whoever is frozen for it is let go when it ends."""

    async def handle_call(self, request: Any, caller: Any) -> Any:
        return await request()


class World:
    """The nodes, their stores, and who owns what."""

    def __init__(self, net: Net, owner: str) -> None:
        self.net = net
        self.placement = Map(SHARDS, owner, 1)
        # What each node believes of it.
        self.views: dict[str, Map] = {}
        self.stores: dict[str, MemoryJournal] = {}
        self.regions: list[str] = []
        # Who has frozen a shard.
        self.carriers: dict[int, Pid] = {}

    async def begin(self, children: tuple[Any, ...]) -> None:
        """Start the regions on all nodes."""
        for name, host in self.net.hosts.items():
            host.table.services["placement"] = self.views[name] = Map(SHARDS, None)
            self.views[name].rows = dict(self.placement.rows)
            self.stores[name] = store = MemoryJournal(MemoryDisk(f"disk {name}"), node=name)
            host.table.services[SERVICE] = store
            await self.on(name, start, JournalWriter, store, name=WRITER)
            mine = {shard: epoch for shard, (owner, epoch) in self.placement.rows.items() if owner == name}
            store.claim(mine)
            await self.on(name, start, House, *children)
        self.regions = regions_here(self.net[name].table)

    async def on(self, node: str, function: Callable[..., Awaitable[Any]], *args: Any, **options: Any) -> Any:
        """Run a function as a process of a node."""

        async def run() -> Any:
            return await function(*args, **options)

        return await self.net[node].run(run)

    async def ask(self, node: str, region: str, request: Any) -> Any:
        """Ask the router of a region."""
        return await self.on(node, call, f"region/{region}", request, timeout=100.0)

    def own(self, shard: int, owner: str, epoch: int, *, but: str = "") -> None:
        """A shard has an owner, which all nodes know but one, perhaps."""
        self.placement.rows[shard] = (owner, epoch)
        for name, view in self.views.items():
            if name != but:
                view.rows[shard] = (owner, epoch)

    def tell(self) -> None:
        """Every region hears that the placement has changed."""
        for host in self.net.hosts.values():
            for name in regions_here(host.table):
                host.table.names[f"region/{name}"].post(CastEnvelope(Changed()))

    # -- a move ----------------------------------------------------------------------------------------

    async def freeze(self, source: str, shard: int, budget: float = 0.25, force: bool = False) -> bool:
        """Bring a shard to rest in all regions; or thaw it."""

        async def all_of_them() -> bool:
            for region in self.regions:
                if not await call(f"region/{region}", FreezeShard(shard, budget, force), timeout=100.0):
                    for one in self.regions:
                        await call(f"region/{one}", ThawShard(shard))
                    return False
            return True

        self.carriers[shard] = carrier = await self.on(source, start, Carrier)
        return bool(await self.on(source, call, carrier, all_of_them, timeout=1000.0))

    async def seal(self, source: str, shard: int) -> dict[str, bytes]:
        """Pack and seal; what travels."""
        packed = {region: await self.ask(source, region, PackShard(shard)) for region in self.regions}
        self.stores[source].seal(shard, self.placement.rows[shard][1])
        return packed

    async def copy(self, source: str, target: str, shard: int) -> None:
        """Bring the records, and claim the shard at the target."""
        there, here = self.stores[source], self.stores[target]
        while not here.erase(shard):
            pass
        here.reserve(shard, b"move")
        pieces: list[Piece] = []
        for key in there.shard_keys(shard):
            after, last = 0, there.head(key)
            while after < last:
                piece = there.piece(key, after, 100_000)
                pieces.append(piece)
                after = piece.last
        here.install(shard, pieces, claim=self.placement.rows[shard][1] + 1)
        await self.on(target, verify, self.net[target].table, here, here.shard_keys(shard))

    async def arrive(self, target: str, shard: int, packed: dict[str, bytes]) -> dict[str, tuple[tuple[str, Pid], ...]]:
        """The target has won, and serves."""
        source, epoch = self.placement.rows[shard]
        epoch += 1
        # The source hears of it by `retire`.
        expect(self.net[target].table, shard, epoch)
        self.own(shard, target, epoch, but=source)
        self.stores[target].settle(shard)
        return {region: await self.ask(target, region, UnpackShard(shard, epoch, packed[region])) for region in packed}

    async def retire(self, source: str, shard: int, pids: dict[str, Any]) -> None:
        """The source hears of it."""
        node, epoch = self.placement.rows[shard]
        for region in self.regions:
            await self.ask(source, region, DepartShard(shard, node, epoch))
        self.own(shard, node, epoch)
        for region in self.regions:
            known = tuple((key, seen_from(self.net, source, pid)) for key, pid in pids[region])
            await self.ask(source, region, FollowShard(shard, known))

    async def move(self, shard: int, target: str, *, force: bool = False) -> bool:
        """Move a shard; False if it does not come to rest."""
        source = self.placement.rows[shard][0]
        if not await self.freeze(source, shard, force=force):
            return False
        packed = await self.seal(source, shard)
        await self.copy(source, target, shard)
        pids = await self.arrive(target, shard, packed)
        await self.retire(source, shard, pids)
        return True


@asynccontextmanager
async def world(
    names: str, *children: Any, owner: str = "a", seed: int = 0, on: KernelWorld | None = None
) -> AsyncIterator[World]:
    """Nodes of one letter each, with the same regions, all shards owned by one of them."""
    async with linked(*names, seed=seed, world=on) as net:
        made = World(net, owner)
        await made.begin(children)
        yield made
