"""A fault at every step of a move: it goes through or is void, and no command is lost, doubled or out of order."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from runtime.errors import CallFailed
from supervisors.shards import handoff_events as effects
from supervisors.shards.carrier import Work
from supervisors.shards.mover_source import SourceWork
from supervisors.shards.mover_target import TargetWork
from supervisors.shards.orders import MoveRefused
from tests.support.clusters import Machines, clustered
from tests.unit.supervisors.shards.moved import (
    SHARDS,
    Books,
    abort,
    begin,
    callers,
    deposit,
    journal,
    keys_of,
    mover,
    owner,
    start,
)

SHARD = 0
AT_SOURCE = ("Plan", "Read", "Freeze", "ReadLast", "Seal", "Retire", "Follow")
AT_TARGET = ("Check", "Reserve", "Install", "Verify", "Keep", "Commit", "Serve")

Strike = Callable[[Machines, str, str], Awaitable[None]]


@pytest.fixture(autouse=True)
def quiet():
    """What is struck says so in the log; here nobody wants to read it."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


class Stop:
    """Halts the first move of a run at an effect, before it or after, until the test has struck."""

    def __init__(self, patch: pytest.MonkeyPatch, what: str, *, after: bool) -> None:
        self.reached, self.struck = trio.Event(), trio.Event()
        kind: type[Work] = SourceWork if what in AT_SOURCE else TargetWork
        effect_kind = getattr(effects, what)
        original = kind.do

        async def do(work: Any, effect: Any) -> Any:
            here = type(effect) is effect_kind and not self.reached.is_set()
            found = await original(work, effect) if after or not here else None
            if here:
                self.reached.set()
                await self.struck.wait()
                if not after:
                    found = await original(work, effect)
            return found

        patch.setattr(kind, "do", do)


async def kill_target(machines: Machines, source: str, target: str) -> None:
    """The target loses its power, and comes back later."""
    await machines.kill(target)
    await trio.sleep(1.0)  # virtual
    await machines.start(target, data=target, shards=SHARDS, rebalance=False)


async def kill_source(machines: Machines, source: str, target: str) -> None:
    """The source loses its power, and comes back later."""
    await kill_target(machines, target, source)


async def kill_both(machines: Machines, source: str, target: str) -> None:
    """Both lose their power."""
    await machines.kill(source)
    await machines.kill(target)
    await trio.sleep(0.5)  # virtual
    for name in (target, source):
        await machines.start(name, data=name, shards=SHARDS, rebalance=False)


async def stop_target(machines: Machines, source: str, target: str) -> None:
    """The target is stopped in order, and comes back later."""
    await machines.stop(target)
    await trio.sleep(1.0)  # virtual
    await machines.start(target, data=target, shards=SHARDS, rebalance=False)


async def stop_source(machines: Machines, source: str, target: str) -> None:
    """The source is stopped in order, and comes back later."""
    await stop_target(machines, target, source)


async def cut(machines: Machines, source: str, target: str) -> None:
    """The two do not hear each other for a while."""
    machines.network.cut(source, target)
    machines.network.cut(target, source)
    await trio.sleep(12.0)  # virtual
    machines.network.heal()


async def crash_source_mover(machines: Machines, source: str, target: str) -> None:
    """The process that moves shards from there crashes."""
    mover(machines, source)._process.interrupt("struck")


async def crash_target_mover(machines: Machines, source: str, target: str) -> None:
    """The process that moves shards to there crashes."""
    mover(machines, target)._process.interrupt("struck")


async def unreachable(machines: Machines, source: str, target: str) -> None:
    """Nobody can read or write the coordination store for a while, which is longer than a lease."""
    await hidden(machines, 12.0)


async def hidden(machines: Machines, seconds: float) -> None:
    store = machines.store
    read, change = store.read, store.compare_and_set

    async def never(*_: Any) -> Any:
        await trio.sleep_forever()

    store.read = store.compare_and_set = never  # type: ignore[method-assign, assignment]  # as if its disk hung
    try:
        await trio.sleep(seconds)  # virtual
    finally:
        store.read, store.compare_and_set = read, change  # type: ignore[method-assign]  # it is back


async def call_off(machines: Machines, source: str, target: str) -> None:
    """Somebody calls it off, at the source; from the seal on that is refused."""
    (running,) = [one for one in mover(machines, source).facts() if not one.ended]
    with contextlib.suppress(MoveRefused):
        await abort(machines, source, running.id)


STRIKES: dict[str, Strike] = {
    "target": kill_target,
    "source": kill_source,
    "both": kill_both,
    "target stops": stop_target,
    "source stops": stop_source,
    "cut": cut,
    "mover": crash_source_mover,
    "other mover": crash_target_mover,
    "store": unreachable,
    "called off": call_off,
}


# Before one step is much like after the one that went before it: so each is struck once by each, in turn.
CASES = [
    (what, "before" if (step + way) % 2 else "after", strike)
    for step, what in enumerate([*AT_SOURCE, *AT_TARGET])
    for way, strike in enumerate(STRIKES)
]


@pytest.mark.parametrize(("what", "when", "strike"), CASES, ids=["-".join(case) for case in CASES])
def test_a_fault_at_a_step(what: str, when: str, strike: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever happens at whichever step, one node serves the shard in the end, with all that was ever answered."""

    async def scenario(machines: Machines) -> None:
        await start(machines, "a", "b", "c")
        # Callers are on the third node, which lives.
        await settle_at(machines, "a")
        stop = Stop(monkeypatch, what, after=when == "after")
        keys = keys_of(SHARD, 2)
        for key in keys:
            await machines.at("a", deposit, key, -1)
        async with callers(machines, {"c": keys}, pause=0.1):
            await trio.sleep(0.2)  # virtual
            await begin_in_time(machines, "a", "b", stop)
            await stop.reached.wait()
            await STRIKES[strike](machines, "a", "b")
            stop.struck.set()
            await settled(machines)
            await trio.sleep(1.0)  # virtual

    clustered(scenario, Books)


async def settle_at(machines: Machines, name: str) -> None:
    """Have the shard on that node."""
    if owner(machines, SHARD) != name:
        await begin(machines, owner(machines, SHARD), SHARD, name)
        await machines.until(lambda: owner(machines, SHARD) == name and idle(machines))


async def begin_in_time(machines: Machines, source: str, target: str, stop: Stop) -> None:
    """Order the move; if it is halted before it has begun nobody waits for the answer."""

    async def order() -> None:
        # Its node may die, or it is called off before it has begun.
        with contextlib.suppress(MoveRefused, CallFailed):
            await begin(machines, source, SHARD, target)

    machines._nursery.start_soon(order)


def idle(machines: Machines) -> bool:
    """Whether no node has a move under way, or anything of one staged."""
    if any(journal(machines, name).staged() for name in machines.nodes):
        return False
    return all(one.ended for name in machines.nodes for one in mover(machines, name).facts())


async def settled(machines: Machines) -> None:
    """Wait until the shard is served and no move is under way."""

    def done() -> bool:
        try:
            return len(machines.nodes) == 3 and bool(owner(machines, SHARD)) and idle(machines)
        except Exception:  # a mover or a membership is being restarted
            return False

    await machines.until(done, 40.0)
