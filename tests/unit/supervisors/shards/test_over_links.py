"""Regions on nodes that are joined by the real distribution: real bytes, links that break, pids that travel."""

from __future__ import annotations

import pytest
import trio

from runtime import NOPROC, CalleeExited, Down, call, monitor, receive, whereis
from supervisors import region
from tests.support.linked import Net, linked, settled, started
from tests.unit.supervisors.shards.entities import Break, Counter, Deposit, Give, House, Read
from tests.unit.supervisors.shards.nodes import Map

counters = region("counter")


class Sites(House):
    """The region of this test."""

    def init(self):
        return [region("counter", Counter)]


async def begin(net: Net, placement: Map) -> None:
    for name, host in net.hosts.items():
        host.table.services["placement"] = placement
        await started(net, name, Sites)


async def test_an_entity_is_called_over_a_link():
    """Requests, replies, failures and the entity's pid travel; a monitor of that pid is told of its end."""

    async def test():
        assert await counters.call("x", Deposit(1)) == 1
        await counters.cast("x", Give(2))
        await counters.send("x", 3)
        assert await counters.call("x", Read()) == (1, 2, 3)
        pid = await counters.start("x")
        assert pid.node == "b"
        assert await call(pid, Read()) == (1, 2, 3)
        ref = monitor(pid)
        with pytest.raises(CalleeExited, match="counter/x ended"):
            await counters.call("x", Break())
        down = await receive(lambda m: isinstance(m, Down))
        assert down.ref is ref
        assert down.reason is not NOPROC
        assert await counters.call("x", Read()) == ()
        assert whereis("counter/x") is None

    async with linked("a", "b") as net:
        await begin(net, Map(4, "b"))
        await net["a"].run(test)


async def test_what_a_broken_link_has_lost_is_sent_again():
    """Commands and answers that are lost with a link are repeated over the next one, and carried out once."""
    replies = []

    async def ask(amount):
        replies.append(await counters.call("x", Deposit(amount), timeout=100.0))

    async with linked("a", "b") as net, trio.open_nursery() as nursery:
        await begin(net, Map(4, "b"))
        await net["a"].run(ask, 1)
        for amount in range(2, 6):
            net.pause()
            nursery.start_soon(net["a"].run, ask, amount)
            await settled()
            net.cut("a", "b")
            net.resume()
            await trio.sleep(3)  # virtual
            net.mend("a", "b")
            await trio.sleep(3)  # virtual
        assert replies == [1, 2, 3, 4, 5]


async def test_a_request_that_cannot_travel_is_told_to_its_caller():
    """What is no value does not leave the node, and the next request does."""

    async def test():
        with pytest.raises(Exception, match="object"):
            await counters.call("x", object())
        assert await counters.call("x", Deposit(1)) == 1

    async with linked("a", "b") as net:
        await begin(net, Map(4, "b"))
        await net["a"].run(test)
