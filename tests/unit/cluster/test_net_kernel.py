"""Nodes joined for real: the kernel's verbs over TLS on loopback, and what a node's own process of links does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import pytest
import trio

from runtime import CalleeExited, GenServer, NoProcess, call, sys, whereis
from runtime.cluster.dist import Dist
from runtime.cluster.links import Links, LinkSettings
from runtime.cluster.net_kernel import NetKernel
from runtime.cluster.tls import Clear, NoKeys
from runtime.kernel.elsewhere import at
from runtime.kernel.exits import NOCONNECTION
from runtime.kernel.process import here
from supervisors import ChildRefused, Node, Supervisor, child
from tests.support.processes import inside
from tests.unit.edge.test_acceptor import reason_of

from .linking import LIMIT, identity

T = TypeVar("T")


class Echo(GenServer):
    """Answers what it is asked."""

    def init(self) -> None: ...

    def handle_call(self, request: Any, caller: Any) -> Any:
        return "echo", request


class Net(Supervisor):
    """A node's links, and somebody to be called."""

    intensity = 10

    def init(self, links: Links) -> Any:
        return [child("net_kernel", NetKernel, links, name="net_kernel"), child("echo", Echo, name="echo")]


@contextmanager
def on(node: Node) -> Iterator[None]:
    """Act at a node."""
    token = here.set(node.table)
    try:
        yield
    finally:
        here.reset(token)


async def at_node(node: Node, work: Callable[[], Awaitable[T]]) -> T:
    """Run something as a process of a node."""
    with on(node):
        return await inside(work)


@asynccontextmanager
async def joined(name: str, addresses: dict[str, str], **settings: Any) -> AsyncIterator[tuple[Node, Links]]:
    """A node with its links running and its address entered."""
    settings.setdefault("listen", "127.0.0.1:0")
    async with Node(name) as node:
        links = Links(node.world, identity(name), LinkSettings(**settings), addresses.get)
        links.above = Dist(node.table, links)
        await node.start(Net, links, name="net")
        addresses[name] = links.address
        yield node, links


@asynccontextmanager
async def two(security: Callable[[str], Any]) -> AsyncIterator[tuple[Node, Node, Links, Links]]:
    """Nodes a and b, not linked yet."""
    addresses: dict[str, str] = {}
    with trio.fail_after(LIMIT):
        async with (
            joined("a", addresses, security=security("a")) as (a, a_links),
            joined("b", addresses, security=security("b")) as (b, b_links),
        ):
            yield a, b, a_links, b_links


async def test_a_call_links_two_nodes_over_tls(keys: Any) -> None:
    """The first call to another node dials it, through TLS and handshake, and is answered."""
    async with two(keys) as (a, _b, a_links, b_links):

        async def ask() -> list[Any]:
            return [await call(at("echo", "b"), number) for number in range(50)]

        assert await at_node(a, ask) == [("echo", number) for number in range(50)]
        assert [link.node for link in a_links.links()] == ["b"]
        assert [link.node for link in b_links.links()] == ["a"]


async def test_its_state_tells_of_links_and_refusals(keys: Any) -> None:
    """Whoever looks into the process sees where it listens, each link with its counters, and what was refused."""
    async with two(keys) as (a, b, _, b_links):

        async def ask() -> None:
            await call(at("echo", "b"), 1)
            with pytest.raises(NoProcess):
                await call(at("nobody", "b"), 1)

        await at_node(a, ask)
        b_links.refused["tls"] += 2

        async def look() -> Any:
            return await sys.get_state("net_kernel")

        state = await at_node(b, look)
        assert state["address"] == b_links.address
        assert state["refused"] == {"tls": 2}
        (link,) = b_links.links()
        assert state["links"]["a"]["state"] == "up"
        assert state["links"]["a"]["frames_in"] == link.counters.frames_in


async def test_a_crash_takes_the_links_and_its_successor_makes_new_ones() -> None:
    """When the process of links dies callers learn noconnection; the next call links again, at the same address."""
    async with two(lambda name: Clear()) as (a, b, _a_links, b_links):

        async def ask() -> Any:
            return await call(at("echo", "b"), 1)

        await at_node(a, ask)
        address = b_links.address
        (link,) = b_links.links()

        async def crash() -> None:
            kernel = whereis("net_kernel")
            assert kernel is not None
            await sys.terminate(kernel, "a crash")

        await at_node(b, crash)
        assert link.reason == "stopping"

        async def again() -> tuple[Any, set[object]]:
            reasons = set()
            while True:
                try:
                    return await ask(), reasons
                except CalleeExited as error:
                    reasons.add(error.reason)

        answer, reasons = await at_node(a, again)
        assert answer == ("echo", 1)
        assert reasons <= {NOCONNECTION}
        assert b_links.address == address


@pytest.mark.parametrize("security", [None, Clear()])
async def test_a_node_without_keys_does_not_listen_to_the_world(security: Any) -> None:
    """A remote address without keys is refused before anything is started."""
    with pytest.raises(NoKeys, match="banyan certs node a --dir certs"):
        async with joined("a", {}, listen="0.0.0.0:0", security=security):
            pytest.fail("it listens")


async def test_an_address_that_is_taken_fails_the_start() -> None:
    """Two nodes at one address: the second one does not start, and says why."""
    addresses: dict[str, str] = {}
    async with joined("a", addresses, security=Clear()) as (_, links):
        with pytest.raises(ChildRefused) as caught:
            async with joined("b", addresses, security=Clear(), listen=links.address):
                pytest.fail("it listens")
    assert isinstance(reason_of(caught.value), OSError)
