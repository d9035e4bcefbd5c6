"""Links in the seeded world: what cuts, resets and long delays do to them, the same each time."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from runtime.backends.coordination import LocalCoordination
from runtime.backends.memory import MemoryJournal
from runtime.cluster.health import DOWN_SECONDS, State
from runtime.cluster.links import FIRST_WAIT, Links, _Dial
from runtime.cluster.tls import Clear
from runtime.testing import Network, SeededWorld, Trace, Weather, run_seeded

from .linking import Place, place, send

Scenario = Callable[[Network, Place, Place], Awaitable[Any]]


def simulated(scenario: Scenario, seed: int = 1, weather: Weather | None = None) -> tuple[Any, str]:
    """Run a scenario with the hosts a and b, which keep each other linked; its outcome and the trace's hash."""
    trace = Trace()

    async def main() -> Any:
        network = Network(random.Random(seed), trace, weather)
        addresses: dict[str, str] = {"a": "a:4370", "b": "b:4370"}
        with trio.fail_after(10_000):
            async with seeded("a", network, trace, addresses) as a, seeded("b", network, trace, addresses) as b:
                a.links.keep("b")
                b.links.keep("a")
                await a.above.told_of("up", "b")
                await b.above.told_of("up", "a")
                return await scenario(network, a, b)

    return run_seeded(seed, main, trace=trace), trace.digest


@asynccontextmanager
async def seeded(name: str, network: Network, trace: Trace, addresses: dict[str, str]) -> AsyncIterator[Place]:
    """A place in a World of its own on the shared network."""
    world = SeededWorld(
        1,
        open_store=lambda _path, _node: MemoryJournal(),
        coordination=LocalCoordination(),
        trace=trace,
        network=network,
        host=name,
    )
    async with place(name, addresses=addresses, world=world, listen="0.0.0.0:4370", security=Clear(beyond=True)) as one:
        addresses[name] = f"{name}:4370"
        yield one


def watched(one: Place) -> list[tuple[float, State]]:
    """The states that a place's heartbeats tell of, each with its time."""
    seen: list[tuple[float, State]] = []
    one.links.watchers.append(lambda _node, state: seen.append((trio.current_time(), state)))
    return seen


@pytest.mark.parametrize("cuts", [("a", "b"), ("b", "a"), "both"], ids=["out", "in", "both"])
def test_a_black_hole_is_suspect_and_then_down(cuts: Any) -> None:
    """A cut that nobody is told of: those who hear nothing say suspect, after 8 seconds down, and never before (D3)."""
    directions = [("a", "b"), ("b", "a")] if cuts == "both" else [cuts]

    async def scenario(network: Network, a: Place, b: Place) -> None:
        listening = {"a": watched(a), "b": watched(b)}
        await trio.sleep(20)  # virtual
        assert listening == {"a": [], "b": []}
        start = trio.current_time()
        for source, target in directions:
            network.cut(source, target)
        deaf = [target for _, target in directions]
        places = {"a": a, "b": b}
        for name in deaf:
            other = "ab".replace(name, "")
            await places[name].above.until(lambda name=name: places[name].above.told[-1][0] == "down")
            assert places[name].above.told[:2] == [("up", other), ("down", other, "silent")]
            (first, suspect), (last, down) = listening[name][:2]
            assert (suspect, down) == (State.SUSPECT, State.DOWN)
            assert 1.0 < first - start <= 4.0
            assert DOWN_SECONDS - 1.5 <= last - start <= DOWN_SECONDS + 1.5
        network.heal()
        for one in (a, b):
            other = "ab".replace(one.name, "")
            await one.above.until(lambda one=one, other=other: one.links.link(other) and len(one.above.told) > 1)

    simulated(scenario)


def test_a_short_cut_is_ridden_out() -> None:
    """A cut of 5 seconds makes a suspect of a node and costs no link, and no message."""

    async def scenario(network: Network, a: Place, b: Place) -> list[State]:
        seen = watched(b)
        link = a.links.link("b")
        assert link is not None
        network.cut("a", "b")
        for number in range(10):
            send(link, b"held", number)
        await trio.sleep(5)  # virtual
        network.heal()
        await b.above.until(lambda: len(b.above.frames) == 10)
        await trio.sleep(5)  # virtual
        assert (a.above.told, b.above.told) == ([("up", "b")], [("up", "a")])
        return [state for _, state in seen]

    assert simulated(scenario)[0] == [State.SUSPECT, State.UP]


def test_a_reset_is_told_at_once_and_healed() -> None:
    """A connection that breaks is down with no wait for silence; who is kept is linked again."""

    async def scenario(network: Network, a: Place, b: Place) -> float:
        await trio.sleep(5)  # virtual
        start = trio.current_time()
        network.reset("a", "b")
        for one, other in ((a, "b"), (b, "a")):
            await one.above.until(lambda one=one: len(one.above.told) > 2 and one.above.told[-1][0] == "up")
            assert one.above.told[1] == ("down", other, "broken")
        return trio.current_time() - start

    assert simulated(scenario)[0] < DOWN_SECONDS


def test_a_node_whose_loop_is_held_is_busy_and_not_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats that leave beside a held loop say so: the other node is told busy, and up again when it goes round (D3)."""
    held: dict[str, float] = {}
    monkeypatch.setattr(Links, "_age", lambda self, now: held.get(self.me.name, 0.0))

    async def scenario(_network: Network, a: Place, b: Place) -> tuple[list[State], list[State]]:
        seen = watched(a), watched(b)
        await trio.sleep(5)  # virtual
        held["a"] = 3.0
        await trio.sleep(30)  # virtual
        held.clear()
        await trio.sleep(5)  # virtual
        assert (a.above.told, b.above.told) == ([("up", "b")], [("up", "a")])
        return [state for _, state in seen[0]], [state for _, state in seen[1]]

    assert simulated(scenario)[0] == ([], [State.BUSY, State.UP])


def test_a_heart_that_breaks_alone_is_dialled_again() -> None:
    """The heartbeat's connection is replaced while the link stands, and nobody is suspected."""

    async def scenario(network: Network, a: Place, b: Place) -> None:
        await trio.sleep(5)  # virtual
        seen = watched(a), watched(b)
        for one in (a, b):
            for heartbeat in list(one.links._hearts.values()):
                assert one.links._heart is not None
                one.links._heart.drop(heartbeat)
                heartbeat.lost("it broke")
        await trio.sleep(60)  # virtual
        assert seen == ([], [])
        assert (a.above.told, b.above.told) == ([("up", "b")], [("up", "a")])

    simulated(scenario)


async def _storm(network: Network, a: Place, b: Place) -> tuple[list[Any], list[Any]]:
    """Cuts and resets at drawn times, while both send all the time; then peace, until both are linked for good."""
    rng = network.random
    count = itertools.count()
    with trio.move_on_after(120):
        while True:
            await trio.sleep(rng.expovariate(1.0))  # virtual
            for one, other in ((a, "b"), (b, "a")):
                link = one.links.link(other)
                if link is not None and link.room:
                    send(link, b"x" * rng.randrange(2000), next(count))
            match rng.randrange(12):
                case 0:
                    network.reset("a", "b")
                case 1:
                    network.cut(*rng.sample(["a", "b"], 2))
                case 2 | 3 | 4:
                    network.heal()
    network.heal()
    await trio.sleep(60)  # virtual
    near, far = a.links.link("b"), b.links.link("a")
    assert near is not None
    assert far is not None
    assert near.dialled is not far.dialled
    before = len(b.above.frames)
    send(near, b"the end", next(count))
    await b.above.until(lambda: len(b.above.frames) > before)
    return a.above.told, b.above.told


@pytest.mark.parametrize("seed", range(12))
def test_after_a_storm_there_is_one_link_and_order(seed: int) -> None:
    """Whatever cuts and resets strike: ups and downs alternate, order is kept, at last there is a link (D5)."""
    numbers: list[list[int]] = []

    async def scenario(network: Network, a: Place, b: Place) -> tuple[list[Any], list[Any]]:
        told = await _storm(network, a, b)
        numbers.extend([frame.number for frame in one.above.frames] for one in (a, b))
        return told

    told, digest = simulated(scenario, seed, Weather((0.0001, 0.3), short_reads=0.5))
    for one in told:
        linked = [what[0] for what in one if what[0] == "up" or (what[0] == "down" and what[2] is not None)]
        assert linked[: len(linked) // 2 * 2] == ["up", "down"] * (len(linked) // 2)
    for received in numbers:
        assert received == sorted(set(received))
    if seed == 0:
        numbers.clear()
        assert simulated(scenario, seed, Weather((0.0001, 0.3), short_reads=0.5)) == (told, digest)


def test_a_link_that_came_and_went_while_a_node_was_dialled_keeps_nobody_spinning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who waits for a promised link pauses between two looks, also if one has come and gone meanwhile."""
    looks = 5

    async def scenario(_network: Network, a: Place, _b: Place) -> None:
        left = iter(range(looks))
        monkeypatch.setattr(a.links._known, "promised", lambda _node: next(left, None) is not None)
        dial = _Dial("c")
        dial.linked.set()
        start = trio.current_time()
        assert await a.links._attempt(dial) is None
        assert trio.current_time() - start >= looks * FIRST_WAIT * 0.99

    simulated(scenario)
