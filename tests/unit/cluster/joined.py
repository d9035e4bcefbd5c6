"""Nodes of one cluster in one program, each with a membership and somebody who listens to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from runtime import GenServer
from runtime.backends.coordination import LocalCoordination
from runtime.backends.memory import MemoryDisk, MemoryJournal
from runtime.cluster.joining import join
from runtime.cluster.membership import Membership, membership_of
from runtime.durable.fence import NodeFences
from runtime.kernel.table import current_process
from supervisors import Node
from supervisors.node.boot import RealWorld

SHARDS = 8


class Cut:
    """A way to a coordination store that goes wrong.

    Attributes:
        cut: no answers, and no changes.
        deaf: no answers to changes, which are made.
        late: no answers to changes, which are made when they `land`.
        changes: how often changes were asked for.
    """

    def __init__(self, inner: LocalCoordination) -> None:
        self.inner = inner
        self.cut = self.deaf = self.late = False
        self.changes = 0
        self._late: list[Any] = []

    async def read(self, prefix: str) -> Any:
        if self.cut:
            await trio.sleep_forever()
        return await self.inner.read(prefix)

    async def compare_and_set(self, changes: Any) -> Any:
        self.changes += 1
        if self.late:
            self._late.append(changes)
        elif not self.cut:
            made = await self.inner.compare_and_set(changes)
            if not self.deaf:
                return made
        return await trio.sleep_forever()

    async def land(self) -> None:
        """What is late is made."""
        for changes in self._late:
            await self.inner.compare_and_set(changes)
        self._late.clear()


class Listener(GenServer):
    """Keeps what the membership says."""

    def init(self, heard: list[object]) -> None:
        self.heard = heard
        process = current_process()
        membership_of(process.table).subscribe(process.pid)

    def handle_info(self, message: object) -> None:
        self.heard.append(message)


class Conductor(Listener):
    """Keeps what is told to whoever conducts the moves of a node."""

    def init(self, heard: list[object]) -> None:
        self.heard = heard
        process = current_process()
        membership_of(process.table).conduct(process.pid)


class One:
    """A node of the cluster, as a test sees it."""

    def __init__(self, node: Node, line: Cut, pid: Any) -> None:
        self.node = node
        self.line = line
        self.pid = pid
        self.heard: list[object] = []
        self.conducted: list[object] = []
        self._conductors = 0

    @property
    def membership(self) -> Membership:
        return membership_of(self.node.table)

    def serves(self) -> dict[int, int]:
        return self.membership.placement.served

    async def conducts(self) -> None:
        """Somebody conducts the moves of this node, in the place of a former one."""
        self.conducted = []
        self._conductors += 1
        await self.node.start(Conductor, self.conducted, name=f"conductor {self._conductors}")

    def heard_of(self, kind: type) -> list[Any]:
        return [one for one in self.heard if isinstance(one, kind)]


def world_of(store: Any, disk: MemoryDisk | None = None) -> RealWorld:
    """A World whose wall clock goes with virtual time."""
    world: Any = RealWorld()
    world.coordination = store
    world.wall = lambda: 1e9 + trio.current_time()
    if disk is not None:
        world.open_store = lambda path, node, relaxed=False: MemoryJournal(disk, node=node)
    return world


@asynccontextmanager
async def member(name: str, store: LocalCoordination, disk: MemoryDisk | None = None) -> AsyncIterator[One]:
    """A node that has joined, with a listener; a kill is the end of the block's task."""
    line = Cut(store)
    world = world_of(line, disk)
    async with Node(name, data="disk" if disk is not None else None, world=world) as node:
        joined = await join(
            world, name=name, address=f"{name}:1", store=node.journal, data=name if disk else "", shards=SHARDS
        )
        fences = NodeFences(node.journal) if node.journal is not None else None
        pid = await node.start(Membership, joined, fences, name="membership", restart="temporary")
        one = One(node, line, pid)
        await node.start(Listener, one.heard, name="listener")
        yield one


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for something, in virtual time."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110  # what is waited for is told by no event
            await trio.sleep(0.1)  # virtual
