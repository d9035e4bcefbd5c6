"""Links for tests: somebody above who notes what is told, and nodes that are nothing but their links."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from runtime.cluster import wire
from runtime.cluster.handshake import Identity
from runtime.cluster.link import Link
from runtime.cluster.links import Links, LinkSettings
from runtime.cluster.tls import Clear
from runtime.cluster.wire import Frame, Kind
from runtime.kernel.world import World
from supervisors.node.boot import RealWorld

# Seconds after which a test with real sockets is taken for hung.
LIMIT = 20.0


class Recorder:
    """Above all links of one node: keeps what was told, in order, and lets a test wait for it."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.frames: list[Frame] = []
        self.answer: Callable[[Link, Frame], bool] = lambda link, frame: True
        self._changed = trio.Event()

    def _note(self, *what: Any) -> None:
        self.told.append(what)
        self._stir()

    def _stir(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    def up(self, link: Link) -> None:
        self._note("up", link.node)

    def receive(self, link: Link, frame: Frame) -> bool:
        self.frames.append(frame)
        done = self.answer(link, frame)
        self._stir()
        return done

    def room(self, link: Link) -> None:
        self._note("room", link.node)

    def down(self, node: str, link: Link | None, reason: object) -> None:
        self._note("down", node, link.reason if link is not None else None)

    async def until(self, found: Callable[[], object]) -> None:
        """Wait until something is true, asked anew whenever something was told."""
        with trio.fail_after(LIMIT):
            while not found():
                await self._changed.wait()

    async def told_of(self, *what: Any) -> None:
        """Wait until this was told."""
        await self.until(lambda: what in self.told)


class Place:
    """A node of links alone."""

    def __init__(self, links: Links, above: Recorder) -> None:
        self.links = links
        self.above = above

    @property
    def name(self) -> str:
        return self.links.me.name

    async def linked_with(self, node: str) -> Link:
        """The link with a node, dialled if need be."""
        assert self.links.want(node)
        await self.above.until(lambda: self.links.link(node))
        found = self.links.link(node)
        assert found is not None
        return found


def identity(name: str, creation: int = 1, instance: int = 0, cluster: str = "c") -> Identity:
    """Somebody; the instance is made of the name unless it is given."""
    return Identity(cluster, name, creation, instance or sum(name.encode()))


def message(payload: bytes = b"", number: int = 0, kind: Kind = Kind.SEND) -> bytes:
    """A frame of a message, as bytes."""
    return wire.encode(Frame(kind, 1, number, payload))


def send(link: Link, payload: bytes = b"", number: int = 0) -> None:
    """Push one message, which needs credit."""
    data = message(payload, number)
    link.push(data, credited=len(data))


@asynccontextmanager
async def place(
    who: str | Identity,
    *,
    addresses: dict[str, str],
    world: World | None = None,
    listen: str | None = "127.0.0.1:0",
    **settings: Any,
) -> AsyncIterator[Place]:
    """A node with running links; its address is entered into `addresses`, where all look."""
    settings.setdefault("security", Clear())
    me = identity(who) if isinstance(who, str) else who
    links = Links(
        world if world is not None else RealWorld(), me, LinkSettings(listen=listen, **settings), addresses.get
    )
    links.above = above = Recorder()
    async with trio.open_nursery() as nursery:
        await nursery.start(links.run)
        if links.address:
            addresses[me.name] = links.address
        yield Place(links, above)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def pair(security: Any = None, **settings: Any) -> AsyncIterator[tuple[Place, Place, Link, Link]]:
    """Two nodes, a and b, linked by a's dialling: both, and the link at each."""
    addresses: dict[str, str] = {}

    def of(name: str) -> dict[str, Any]:
        return settings | ({"security": security(name)} if security is not None else {})

    async with place("a", addresses=addresses, **of("a")) as a, place("b", addresses=addresses, **of("b")) as b:
        near = await a.linked_with("b")
        await b.above.told_of("up", "a")
        far = b.links.link("a")
        assert far is not None
        yield a, b, near, far
