"""The simulated network: bytes arrive in order and once, or the stream breaks; faults strike what they name."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from typing import Any

import pytest
import trio

from runtime.errors import Misuse
from runtime.testing import Network, Trace, Weather, run_seeded

Pair = tuple[trio.abc.Stream, trio.abc.Stream]


def simulated(
    scenario: Callable[[Network, Pair], Awaitable[Any]], seed: int = 1, weather: Weather | None = None
) -> tuple[Any, str]:
    """Run a scenario with a stream from host a (first of the pair) to host b; its outcome and the trace's hash."""
    trace = Trace()

    async def main() -> Any:
        network = Network(random.Random(seed), trace, weather)
        async with AsyncExitStack() as stack:
            door = await stack.enter_async_context(network.transport("b").listen("0.0.0.0:4000"))
            near = await network.transport("a").connect("b:4000")
            # An iterator, where a type may say so: it is closed before the run ends.
            connections: Any = door.connections()
            far = await anext(await stack.enter_async_context(aclosing(connections)))
            with trio.fail_after(1000):
                return await scenario(network, (near, far))

    return run_seeded(seed, main, trace=trace), trace.digest


async def _all(stream: trio.abc.Stream) -> bytes:
    data = b""
    while part := await stream.receive_some():
        data += part
    return data


DATA = bytes(range(256)) * 1000


async def _talk(_network: Network, pair: Pair) -> tuple[bytes, int]:
    near, far = pair
    parts = 0

    async def send() -> None:
        await near.send_all(DATA)
        await near.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        data = b""
        while part := await far.receive_some(10_000):
            parts += 1
            data += part
    return data, parts


def test_bytes_arrive_in_order_and_once() -> None:
    """More than fits on its way arrives whole, in pieces, whatever the delays; the same seed cuts the same pieces."""
    (data, parts), digest = simulated(_talk, 5, Weather((0.0, 0.5), short_reads=0.9))
    assert data == DATA
    assert parts > 26
    assert simulated(_talk, 5, Weather((0.0, 0.5), short_reads=0.9))[1] == digest
    assert simulated(_talk, 6, Weather((0.0, 0.5), short_reads=0.9))[1] != digest


def test_a_cut_holds_back_one_direction_and_loses_nothing() -> None:
    """While one direction is cut the other is open; after it all that was held back arrives."""

    async def scenario(network: Network, pair: Pair) -> tuple[bytes, bytes, bool]:
        near, far = pair
        network.cut("a", "b")
        await near.send_all(b"held")
        await far.send_all(b"open")
        there = await near.receive_some()
        with trio.move_on_after(100) as patience:
            await far.receive_some()
        network.heal("a", "b")
        return there, await far.receive_some(4), patience.cancelled_caught

    found, _ = simulated(scenario, weather=Weather(short_reads=0.0))
    assert found == (b"open", b"held", True)


def test_a_reset_breaks_both_ends() -> None:
    """What is under way is lost, and both ends are told at their next step."""

    async def scenario(network: Network, pair: Pair) -> int:
        near, far = pair
        await near.send_all(b"gone")
        count = network.reset("b", "a")
        with pytest.raises(trio.BrokenResourceError):
            await far.receive_some()
        with pytest.raises(trio.BrokenResourceError):
            await near.send_all(b"x")
        return count + network.reset("a", "b")

    assert simulated(scenario)[0] == 1


def test_a_host_that_crashes_takes_its_doors_and_streams() -> None:
    """After a crash nobody listens; another host's door is left alone."""

    async def scenario(network: Network, pair: Pair) -> int:
        async with network.transport("c").listen("127.0.0.1:0") as other:
            count = network.crash("b")
            with pytest.raises(trio.BrokenResourceError):
                await pair[0].receive_some()
            with pytest.raises(ConnectionRefusedError):
                await network.transport("a").connect("b:4000")
            await network.transport("c").connect(other.address)
            return count

    assert simulated(scenario)[0] == 1


def test_the_end_comes_after_what_is_under_way() -> None:
    """Whoever closes has all that was sent delivered first; the other end may close then, and neither may be used."""

    async def scenario(_network: Network, pair: Pair) -> bytes:
        near, far = pair
        await near.send_all(b"last")
        await near.aclose()
        data = await _all(far)
        assert await far.receive_some() == b""
        for use in (near.receive_some, lambda: near.send_all(b"x"), near.wait_send_all_might_not_block):
            with pytest.raises(trio.ClosedResourceError):
                await use()
        with pytest.raises(trio.BrokenResourceError):
            await far.send_all(b"nobody reads")
        await far.aclose()
        return data

    assert simulated(scenario)[0] == b"last"


def test_nobody_hears_a_connect_through_a_cut() -> None:
    """A connect waits for a cut to end, and times out through one that lasts."""

    async def scenario(network: Network, _pair: Pair) -> float:
        network.cut("b", "a")
        start = trio.current_time()
        with pytest.raises(TimeoutError):
            await network.transport("a").connect("b:4000")
        waited = trio.current_time() - start
        async with trio.open_nursery() as nursery:
            nursery.start_soon(network.transport("a").connect, "b:4000")
            await trio.sleep(1)  # virtual
            network.heal()
        return waited

    assert simulated(scenario)[0] == 10.0


def test_addresses_belong_to_their_host() -> None:
    """A taken address, another host's, and what is none are refused; a loopback is the caller's own."""

    async def scenario(network: Network, _pair: Pair) -> None:
        with pytest.raises(OSError, match="in use"):
            async with network.transport("b").listen("127.0.0.1:4000"):
                pass
        with pytest.raises(OSError, match="no such address"):
            async with network.transport("a").listen("b:4001"):
                pass
        with pytest.raises(Misuse):
            await network.transport("a").connect("nowhere")
        with pytest.raises(ConnectionRefusedError):
            await network.transport("a").connect("127.0.0.1:4000")
        async with network.transport("a").listen("unix:/x"):
            await network.transport("a").connect("unix:/x")
            with pytest.raises(ConnectionRefusedError):
                await network.transport("b").connect("unix:/x")
        for host in ("", "a:b", "a/b"):
            with pytest.raises(Misuse):
                network.transport(host)

    simulated(scenario)


def test_one_task_at_a_time_uses_an_end() -> None:
    """Two that send, or receive, at once are told, as by a real stream."""

    async def scenario(_network: Network, pair: Pair) -> None:
        near, _ = pair
        async with trio.open_nursery() as nursery:
            nursery.start_soon(near.send_all, DATA)
            nursery.start_soon(near.receive_some)
            await trio.sleep(1)  # virtual
            with pytest.raises(trio.BusyResourceError):
                await near.send_all(b"x")
            with pytest.raises(trio.BusyResourceError):
                await near.receive_some()
            with pytest.raises(ValueError, match="1 byte or more"):
                await near.receive_some(0)
            nursery.cancel_scope.cancel()

    simulated(scenario)
