"""Processes of two nodes over real sockets, with and without TLS: the kernel's verbs from end to end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from runtime import (
    NOCONNECTION,
    Down,
    GenServer,
    Pid,
    call,
    cast,
    exit,
    monitor,
    nodes,
    receive,
    spawn_on,
    spawnable,
    start,
)
from runtime.cluster.dist import Dist
from runtime.cluster.links import Links, LinkSettings
from runtime.cluster.tls import Clear
from runtime.kernel.process import here
from runtime.kernel.table import ProcessTable
from supervisors.node.boot import RealWorld
from tests.support.processes import inside

from .linking import LIMIT, identity


@pytest.fixture(params=["clear", "tls"])
def security(request: pytest.FixtureRequest, keys: Any) -> Any:
    """Both kinds of link: clear text on loopback, and TLS."""
    return keys if request.param == "tls" else lambda name: Clear()


class Adder(GenServer):
    """Keeps the sum of its casts."""

    def init(self) -> None:
        self.sum = 0

    def handle_call(self, request: Any, caller: Any) -> Any:
        return self.sum if request == "sum" else request

    def handle_cast(self, request: Any) -> None:
        self.sum += request


@spawnable("tests.over_links.wait")
async def wait() -> None:
    """Until it is told to end."""
    await trio.sleep_forever()


class Host:
    """One node: its table, its distribution, its links."""

    def __init__(self, name: str, addresses: dict[str, str], security: Any) -> None:
        world = RealWorld()
        self.table = ProcessTable(name, world)
        settings = LinkSettings(listen="127.0.0.1:0", security=security(name))
        self.links = Links(world, identity(name), settings, addresses.get)
        self.dist = Dist(self.table, self.links)
        self.links.above = self.dist

    async def run(self, function: Callable[[], Awaitable[Any]]) -> Any:
        """Run a function as a process of this node."""
        token = here.set(self.table)
        try:
            return await inside(function)
        finally:
            here.reset(token)


@asynccontextmanager
async def hosts(security: Any) -> AsyncIterator[tuple[Host, Host]]:
    """The nodes a and b, which know each other's address."""
    addresses: dict[str, str] = {}
    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            made = []
            for name in "ab":
                host = Host(name, addresses, security)
                host.table.nursery = nursery
                nursery.start_soon(host.table.timers.run)
                await nursery.start(host.links.run)
                assert host.links.address is not None
                addresses[name] = host.links.address
                made.append(host)
            yield made[0], made[1]
            nursery.cancel_scope.cancel()


async def test_processes_reach_each_other_over_sockets(security: Any) -> None:
    """Calls, casts, large messages, monitors and exits, by a connection that the first of them asks for (D1)."""
    async with hosts(security) as (a, b):
        there: Pid = await b.run(lambda: start(Adder))
        pid = a.dist.pid_of("b", there.creation, there.number)

        async def body() -> None:
            for _ in range(3000):
                await cast(pid, 1)
            assert await call(pid, "sum") == 3000
            assert nodes() == ["b"]
            large = b"x" * 1_000_000
            assert await call(pid, large) == large
            child, ref = await spawn_on("b", "tests.over_links.wait", monitor=True)
            exit(child, "enough")
            assert await receive() == Down(ref, child, "enough")

        await a.run(body)


async def test_a_link_that_is_closed_is_noconnection_and_comes_back(security: Any) -> None:
    """A monitor fires NOCONNECTION when the link ends; the next call makes a new one (D2, D5)."""
    async with hosts(security) as (a, b):
        there: Pid = await b.run(lambda: start(Adder))
        pid = a.dist.pid_of("b", there.creation, there.number)

        async def body() -> None:
            await cast(pid, 5)
            assert await call(pid, "sum") == 5
            ref = monitor(pid)
            link = a.links.link("b")
            assert link is not None
            link.close()
            assert await receive() == Down(ref, pid, NOCONNECTION)
            assert await call(pid, "sum") == 5

        await a.run(body)
