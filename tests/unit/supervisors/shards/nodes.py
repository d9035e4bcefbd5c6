"""Several nodes in one program, with a placement that a test changes and wires that it may spoil."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import trio

from runtime import NOCONNECTION, Pid
from runtime.behaviours.gen_server import CastEnvelope
from runtime.codec.cbor import decode, encode
from runtime.errors import Misuse
from runtime.kernel.process import Process, here
from runtime.kernel.table import ProcessTable
from supervisors import Node
from supervisors.shards.frames import Changed, Done
from tests.unit.supervisors.shards.entities import House


class Map:
    """A placement of few shards that says what it is told."""

    def __init__(self, shards: int, owner: str | None, epoch: int = 1) -> None:
        self.shards = shards
        self.rows: dict[int, tuple[str, int]] = {}
        if owner is not None:
            self.rows = dict.fromkeys(range(shards), (owner, epoch))

    def owner(self, shard: int, /) -> tuple[str, int] | None:
        return self.rows.get(shard)


class Late:
    """A frame on its way."""

    def __init__(self, cluster: Nodes, to: tuple[str, str], frame: Any) -> None:
        self.cluster, self.to, self.frame = cluster, to, frame
        self.due = 0.0
        self.waiting = True

    def expire(self) -> None:
        self.waiting = False
        self.cluster.arrive(*self.to, self.frame)


class Wire(Process):
    """Stands for a process of another node, at the end of a wire that may be bad."""

    __slots__ = ("cluster", "to")

    def __init__(self, cluster: Nodes, table: ProcessTable, to: tuple[str, str]) -> None:
        pid = Pid(to[0], 1, 0)
        super().__init__(table, pid, to[1], parent=None, limit=10_000, trap_exit=False, scoped=False)
        pid._process = self
        self.cluster, self.to = cluster, to

    def offer(self, message: Any) -> bool:
        self.cluster.carry(self, message.request)
        return True


class Nodes:
    """The nodes that run, by name, and the wires between them.

    Attributes:
        down: pairs (from, to) that carry nothing.
        loss, doubling, delay: chances, and most seconds on the way; frames overtake each other by their delays.
        frames: how many of each kind were sent.
    """

    def __init__(self, placement: Any, seed: int = 0) -> None:
        self.placement = placement
        self.dice = random.Random(seed)
        self.running: dict[str, Node] = {}
        self.views: dict[str, Any] = {}
        self.down: set[tuple[str, str]] = set()
        self.loss = self.doubling = self.delay = 0.0
        self.frames: dict[str, int] = {}
        self._wires: dict[tuple[str, str, str], Wire] = {}

    def neighbours(self, node: str) -> Any:
        """The port of one node."""
        return _Port(self, node)

    def wire(self, node: str, to: str, name: str) -> Wire:
        known = self._wires.get((node, to, name))
        if known is None or known.table is not self.running[node].table:
            known = self._wires[node, to, name] = Wire(self, self.running[node].table, (to, name))
        return known

    def carry(self, wire: Wire, frame: Any) -> None:
        kind = type(frame).__name__
        self.frames[kind] = self.frames.get(kind, 0) + 1
        if not (isinstance(frame, Done) and isinstance(frame.outcome[-1], Pid)):
            frame = decode(encode(frame))  # raises if it could not travel
        for _ in range(2 if self.dice.random() < self.doubling else 1):
            if (wire.table.node, wire.to[0]) in self.down or self.dice.random() < self.loss:
                continue
            if self.delay:
                late = Late(self, wire.to, frame)
                late.due = wire.table.timers.clock() + self.dice.uniform(0, self.delay)
                wire.table.timers.add(late)
            else:
                self.arrive(*wire.to, frame)

    def arrive(self, to: str, name: str, frame: Any) -> None:
        node = self.running.get(to)
        process = node.table.names.get(name) if node is not None else None
        if process is not None:
            process.offer(CastEnvelope(frame))

    def cut(self, one: str, other: str) -> None:
        """Nothing goes between two nodes any more, and both hear of it."""
        self.down |= {(one, other), (other, one)}
        for (node, to, _), wire in list(self._wires.items()):
            if {node, to} == {one, other}:
                watchers, wire.watchers = wire.watchers, None
                for ref, (watcher, monitored) in (watchers or {}).items():
                    watcher.watch_ended(ref, monitored, NOCONNECTION)

    def heal(self) -> None:
        """All wires are good."""
        self.down.clear()
        self.loss = self.doubling = self.delay = 0.0

    def tell(self) -> None:
        """Every region hears that the placement has changed."""
        for node in self.running.values():
            for name, process in node.table.names.items():
                if name.startswith("region/") and name.count("/") == 1:
                    process.offer(CastEnvelope(Changed()))

    @contextmanager
    def on(self, node: str) -> Iterator[Node]:
        """The code of the block is host code of this node."""
        token = here.set(self.running[node].table)
        try:
            yield self.running[node]
        finally:
            here.reset(token)

    @asynccontextmanager
    async def node(self, name: str, *children: Any, **options: Any) -> AsyncIterator[Node]:
        """A node with these regions, for as long as the block."""
        async with Node(name, **options) as node:
            self.running[name] = node
            node.table.services["placement"] = self.views.get(name, self.placement)
            node.table.services["neighbours"] = self.neighbours(name)
            self.claim(node)
            await node.start(House, *children)
            try:
                yield node
            finally:
                del self.running[name]

    def claim(self, node: Node) -> None:
        """Claim in a node's store the shards that it owns."""
        if node.journal is not None:
            mine = {shard: epoch for shard, (owner, epoch) in self.placement.rows.items() if owner == node.name}
            node.journal.claim(mine)


class _Port:
    """The ways of one node to the others."""

    def __init__(self, cluster: Nodes, node: str) -> None:
        self._cluster = cluster
        self._node = node

    def reach(self, node: str, name: str, /) -> Pid | None:
        return self._cluster.wire(self._node, node, name).pid if node in self._cluster.running else None


@asynccontextmanager
async def cluster(
    names: str, *children: Any, owner: str | None, shards: int = 4, **options: Any
) -> AsyncIterator[Nodes]:
    """Nodes of one letter each, with the same regions, all shards owned by one of them."""
    nodes = Nodes(Map(shards, owner))
    with trio.fail_after(1000):
        async with AsyncExitStack() as stack:
            for name in names:
                await stack.enter_async_context(nodes.node(name, *children, **options))
            yield nodes


__all__ = ["Map", "Misuse", "Nodes", "cluster"]
