"""Whole nodes of one cluster in one program: each on a host of its own, under the seeded World.

async def scenario(machines):
    a, b = await machines.start("a"), await machines.start("b")
    assert await machines.at("a", call, at("echo", "b"), 1)
    machines.kill("b")

clustered(scenario)
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import trio

from runtime.backends.coordination import LocalCoordination
from runtime.backends.memory import MemoryDisk, MemoryJournal
from runtime.cluster.tls import Clear
from runtime.cluster.view import node_facts
from runtime.kernel.process import here
from runtime.testing import Network, SeededWorld, Trace, run_seeded
from supervisors import Application, Cluster, Node

from .processes import inside

T = TypeVar("T")

PORT = 4370
# Virtual seconds after which a scenario is taken for hung.
LIMIT = 2000.0


class Machines:
    """The hosts of a run, their disks and their nodes."""

    def __init__(self, seed: int, nursery: trio.Nursery, application: Any) -> None:
        self.seed = seed
        self.trace = Trace()
        self.network = Network(random.Random(seed), self.trace)
        self.store = LocalCoordination()
        self.disks: dict[str, MemoryDisk] = {}
        self.nodes: dict[str, Node] = {}
        self.ended: dict[str, BaseException | None] = {}
        self._worlds: dict[str, SeededWorld] = {}
        self._lives: dict[str, trio.CancelScope] = {}
        self._stops: dict[str, trio.Event] = {}
        self._nursery = nursery
        self._application = application

    def world(self, host: str) -> SeededWorld:
        """The World of a host, the same in all its lives."""
        if host not in self._worlds:
            self._worlds[host] = SeededWorld(
                self.seed,
                open_store=self._open,
                coordination=self.store,
                trace=self.trace,
                network=self.network,
                host=host,
                activation=0,
            )
        return self._worlds[host]

    def _open(self, path: str, node: str) -> MemoryJournal:
        return MemoryJournal(self.disks.setdefault(path, MemoryDisk(path)), node=node)

    def cluster(self, name: str, **more: Any) -> Cluster:
        """The settings of a node."""
        known = {"listen": f"0.0.0.0:{PORT}", "advertise": f"{name}:{PORT}", "clear": Clear(beyond=True)}
        return Cluster(**{**known, "coordination": ":memory:", **more})

    def node(self, name: str, *, data: str | None = None, **more: Any) -> Node:
        """A node that is not started yet."""
        host = more.pop("host", name)
        return Node(name, data=data, world=self.world(host), stop_timeout=30.0, cluster=self.cluster(name, **more))

    async def start(self, name: str, *, data: str | None = None, **more: Any) -> Node:
        """Start a node with the application, or another `application`; returns when it is up, raises as that does."""
        application = more.pop("application", self._application)
        node = self.node(name, data=data, **more)
        await self._nursery.start(self._live, node, application)
        return node

    async def _live(self, node: Node, application: Any, *, task_status: trio.TaskStatus[None]) -> None:
        name = node.name
        stop = trio.Event()
        try:
            with trio.CancelScope() as life:
                async with node:
                    await node.start(application)
                    self.nodes[name], self._lives[name], self._stops[name] = node, life, stop
                    self.ended.pop(name, None)
                    task_status.started()
                    await stop.wait()
            self.ended[name] = None
        except Exception as error:  # what ended the node: the test looks at it
            if self.nodes.get(name) is not node:
                raise
            self.ended[name] = error
        finally:
            if self.nodes.get(name) is node:
                del self.nodes[name]

    async def kill(self, name: str) -> None:
        """A loss of power: the host's connections are reset, and nothing more is done in order."""
        self.network.crash(name)
        self.nodes[name].stop_timeout = 0.0
        self._lives[name].cancel()
        await self.until(lambda: name not in self.nodes)

    async def stop(self, name: str) -> None:
        """Stop a node in order."""
        self._stops[name].set()
        await self.until(lambda: name in self.ended)

    async def at(self, name: str, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run something as a process of a node."""
        token = here.set(self.nodes[name].table)
        try:
            return await inside(function, *args)
        finally:
            here.reset(token)

    def states(self, name: str) -> dict[str, str]:
        """How the other nodes are, as a node sees them."""
        return {fact.name: fact.state for fact in node_facts(self.nodes[name].table) if fact.name != name}

    async def until(self, condition: Callable[[], object], within: float = 60.0) -> float:
        """Wait until something is true; how long that took, in virtual seconds."""
        began = trio.current_time()
        with trio.fail_after(within):
            while not condition():  # noqa: ASYNC110  # what nodes come to see rings no bell
                await trio.sleep(0.05)  # virtual
        return trio.current_time() - began


def clustered(scenario: Callable[[Machines], Awaitable[Any]], application: Application | Any, seed: int = 1) -> Any:
    """Run a scenario under the seeded World; what it returns."""

    async def main() -> Any:
        with trio.fail_after(LIMIT):
            async with trio.open_nursery() as nursery:
                machines = Machines(seed, nursery, application)
                found = await scenario(machines)
                nursery.cancel_scope.cancel()
        return found

    return run_seeded(seed, main)
