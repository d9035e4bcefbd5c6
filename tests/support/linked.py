"""Several nodes in one program, joined by links in memory: real bytes, through real decoders, in odd pieces.

    async with linked("a", "b") as net:
        async def test():
            pid = await spawn_on("b", "tests.echo")
            ...
        await net["a"].run(test)

A link is made when somebody wants it. `cut` ends the one between two nodes; until `mend` they cannot reach each other.
`pause` keeps what is pushed from arriving until `resume`.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import trio
import trio.testing

from runtime import Behaviour, Pid, start
from runtime.cluster.dist import Dist
from runtime.cluster.wire import CREDITED, HEADER_SIZE, NODE_CAP, Decoder, Frame
from runtime.kernel.exits import KILL
from runtime.kernel.process import here
from runtime.kernel.table import ProcessTable
from runtime.kernel.world import World
from supervisors.node.boot import RealWorld
from tests.support.processes import FAR, inside

T = TypeVar("T")


class MemoryLink:
    """One end of a link: what is pushed here arrives at `other`'s node."""

    def __init__(self, net: Net, host: Host, node: str, creation: int) -> None:
        self.net = net
        self.host = host
        self.node = node
        self.creation = creation
        self.other: MemoryLink
        self.ended = False
        self.sent: list[Frame] = []
        self._decoder = Decoder(NODE_CAP)
        self._outbox: list[bytes] = []
        self._spent = 0
        self._pushed = trio.Event()

    @property
    def room(self) -> bool:
        return self._spent < self.net.window

    def push(self, data: bytes, credited: int = 0) -> None:
        if not self.ended:
            self._outbox.append(data)
            self._spent += credited
            self._pushed.set()

    def release(self, size: int) -> None:
        self.other.paid(size)

    def paid(self, size: int) -> None:
        had = self.room
        self._spent -= size
        if self.room and not had:
            self.host.dist.room(self)

    def close(self, reason: str) -> None:
        self.net.cut(self.host.name, self.node)
        self.net.mend(self.host.name, self.node)

    async def run(self) -> None:
        """Carry what is pushed, in pieces of any size."""
        while not self.ended:
            await self._pushed.wait()
            await self.net.flowing.wait()
            self._pushed = trio.Event()
            data, self._outbox = b"".join(self._outbox), []
            while data and not self.ended:
                size = self.net.random.choice((1, 2, 3, 7, 20, 21, 22, 500, 100_000))
                piece, data = data[:size], data[size:]
                for frame in self._decoder.feed(piece):
                    self.sent.append(frame)
                    if self.other.host.dist.receive(self.other, frame) and frame.kind in CREDITED:
                        self.paid(HEADER_SIZE + len(frame.payload))
                if size > 3:
                    await trio.lowlevel.checkpoint()


class Host:
    """One node: its table, and how it reaches the others."""

    def __init__(self, net: Net, name: str, creation: int, world: World) -> None:
        self.net = net
        self.name = name
        self.table = ProcessTable(name, world, creation=creation)
        self.dist = Dist(self.table, self)
        self.table.nursery = net.nursery
        net.nursery.start_soon(self.table.timers.run)

    def want(self, node: str) -> bool:
        """As `Links.want`: everybody knows where everybody is."""
        if node not in self.net.hosts:
            return False
        self.net.nursery.start_soon(self.net.dial, self, node)
        return True

    async def run(self, function: Callable[..., Awaitable[T]], *args: object, trap: bool = False) -> T:
        """Run a function as a process of this node; hand back what it returns, or raise what it raises."""
        token = here.set(self.table)
        try:
            return await inside(function, *args, trap=trap)
        finally:
            here.reset(token)


class Net:
    """The nodes by name, and the links between them."""

    def __init__(self, nursery: trio.Nursery, window: int, seed: int, world: World) -> None:
        self.nursery = nursery
        self.window = window
        self.random = random.Random(seed)
        self.world = world
        self.hosts: dict[str, Host] = {}
        self.links: dict[frozenset[str], tuple[MemoryLink, MemoryLink]] = {}
        self.apart: set[frozenset[str]] = set()
        self.flowing = trio.Event()
        self.flowing.set()

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def start(self, name: str, creation: int = 1) -> Host:
        """Start a node, or a new incarnation of one."""
        host = self.hosts[name] = Host(self, name, creation, self.world)
        return host

    def stop(self, name: str) -> None:
        """Lose a node: nobody hears from it again."""
        host = self.hosts.pop(name)
        for pair in [*self.links]:
            if name in pair:
                self._end(pair)
        for process in [*host.table.processes.values()]:
            process.exit_signal(process.pid, KILL)

    async def dial(self, host: Host, node: str) -> None:
        """Make a link, if it can be made."""
        await trio.lowlevel.checkpoint()
        pair = frozenset((host.name, node))
        if pair in self.apart or node not in self.hosts:
            host.dist.down(node, None)
        elif pair not in self.links:
            self.connect(host.name, node)

    def connect(self, one: str, other: str) -> None:
        """Link two nodes now."""
        a, b = self.hosts[one], self.hosts[other]
        here_, there = (
            MemoryLink(self, a, other, b.table.creation),
            MemoryLink(self, b, one, a.table.creation),
        )
        here_.other, there.other = there, here_
        self.links[frozenset((one, other))] = (here_, there)
        for link in (here_, there):
            self.nursery.start_soon(link.run)
        a.dist.up(here_)
        b.dist.up(there)

    def cut(self, one: str, other: str) -> None:
        """End the link between two nodes, with all that is on its way, and let no other come."""
        pair = frozenset((one, other))
        self.apart.add(pair)
        self._end(pair)

    def mend(self, one: str, other: str) -> None:
        """Let two nodes reach each other again."""
        self.apart.discard(frozenset((one, other)))

    def pause(self) -> None:
        """Let nothing arrive."""
        self.flowing = trio.Event()

    def resume(self) -> None:
        """Let everything arrive."""
        self.flowing.set()

    def _end(self, pair: frozenset[str]) -> None:
        for link in self.links.pop(pair, ()):
            link.ended = True
            link.host.dist.down(link.node, link)


@asynccontextmanager
async def linked(*names: str, window: int = 1 << 20, seed: int = 0, world: World | None = None) -> AsyncIterator[Net]:
    """Nodes with these names, for at most `FAR` virtual seconds. `window`: bytes of messages on their way."""
    with trio.fail_after(FAR):
        async with trio.open_nursery() as nursery:
            net = Net(nursery, window, seed, world or RealWorld())
            for name in names:
                net.start(name)
            try:
                yield net
            finally:
                nursery.cancel_scope.cancel()


async def started(net: Net, node: str, behaviour: type[Behaviour], name: str | None = None) -> Pid:
    """The pid of a behaviour that is started on a node."""

    async def begin() -> Pid:
        return await start(behaviour, name=name)

    return await net[node].run(begin)


def seen_from(net: Net, node: str, pid: Pid) -> Pid:
    """A pid as it comes out of a message at a node: known by its identity only."""
    return net[node].dist.pid_of(pid.node, pid.creation, pid.number)


async def settled() -> None:
    """Wait until nobody has anything to do."""
    await trio.testing.wait_all_tasks_blocked()
