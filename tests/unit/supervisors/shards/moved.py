"""For tests of moves: a region that keeps its whole history, callers that know what they asked, orders to move."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio

from runtime import EventSourced, Query, call, message
from runtime.cluster.membership import membership_of
from runtime.cluster.placement import shard_of
from runtime.durable.journal import Journal
from runtime.errors import CallFailed
from supervisors import Supervisor, region
from supervisors.shards.mover import Mover, mover_of
from supervisors.shards.orders import MOVER, Abort, Move, MoveFact
from tests.support.clusters import Machines
from tests.unit.supervisors.shards.entities import Deposit, Deposited

SHARDS = 4
# Virtual seconds within which a move is over, once nothing strikes any more.
OVER = 30.0


@message("moved.history")
class History(Query[tuple[int, ...]]):
    pass


class Ledger(EventSourced[tuple[int, ...], Deposited]):
    """Keeps what it was given, in order; its reply is how much that is."""

    snapshot_every = 16

    def initial(self, key: str) -> tuple[int, ...]:
        return ()

    def handle(self, state: tuple[int, ...], command: Any) -> Any:
        return Deposited(command.amount), len(state) + 1

    def apply(self, state: tuple[int, ...], event: Deposited) -> tuple[int, ...]:
        return (*state, event.amount)

    def query(self, state: tuple[int, ...], request: Any) -> tuple[int, ...]:
        return state


class Books(Supervisor):
    """One region."""

    def init(self) -> Any:
        return [region("ledger", Ledger)]


ledger = region("ledger")


async def deposit(key: str, amount: int, timeout: float = 60.0) -> int:
    """As any caller does it."""
    reply = await ledger.call(key, Deposit(amount), timeout=timeout)
    assert isinstance(reply, int)
    return reply


async def history(key: str) -> tuple[int, ...]:
    """All that a ledger has."""
    found = await ledger.call(key, History(), timeout=60.0)
    assert isinstance(found, tuple)
    return found


def keys_of(shard: int, count: int, shards: int = SHARDS) -> list[str]:
    """So many keys that lie on a shard."""
    found: list[str] = []
    number = 0
    while len(found) < count:
        key = f"k{number}"
        if shard_of("ledger", key, shards) == shard:
            found.append(key)
        number += 1
    return found


async def start(machines: Machines, *names: str, **more: Any) -> None:
    """Start nodes, and wait until they are linked and all shards are served."""
    for name in names:
        await machines.start(name, data=name, **{"shards": SHARDS, "rebalance": False, **more})
    await machines.until(lambda: all(sorted(machines.states(name)) == sorted({*names} - {name}) for name in names))
    await machines.until(lambda: sum(len(served(machines, name)) for name in names) == SHARDS)


def served(machines: Machines, name: str) -> list[int]:
    """The shards that a node serves."""
    return sorted(membership_of(machines.nodes[name].table).placement.served)


def owner(machines: Machines, shard: int) -> str:
    """The node that serves a shard; of several the test is told."""
    found = [name for name in machines.nodes if shard in served(machines, name)]
    assert len(found) <= 1, found
    return found[0] if found else ""


def journal(machines: Machines, name: str) -> Journal:
    """A node's durable store."""
    found = machines.nodes[name].journal
    assert found is not None
    return found


def mover(machines: Machines, name: str) -> Mover:
    """A node's mover."""
    return mover_of(machines.nodes[name].table)


def fact(machines: Machines, name: str, move: str) -> MoveFact:
    """A move, as a node sees it."""
    (found,) = [one for one in mover(machines, name).facts() if one.id == move]
    return found


async def begin(machines: Machines, source: str, shard: int, target: str) -> str:
    """Have a shard moved; the move's id."""
    found = await machines.at(source, call, MOVER, Move(shard, target))
    assert isinstance(found, str)
    return found


async def abort(machines: Machines, node: str, move: str) -> object:
    """Call a move off."""
    return await machines.at(node, call, MOVER, Abort(move))


async def over(machines: Machines, node: str, move: str) -> MoveFact:
    """Wait until a move is over at a node."""
    await machines.until(lambda: fact(machines, node, move).ended > 0.0, OVER)
    return fact(machines, node, move)


async def move(machines: Machines, source: str, shard: int, target: str) -> MoveFact:
    """Move a shard, to the end of it."""
    return await over(machines, source, await begin(machines, source, shard, target))


# Of all that is asked in this program.
numbers = itertools.count(1)


@dataclass
class Heard:
    """What the callers of a key were told: each number is unique in a run."""

    asked: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    answered: dict[int, tuple[str, int]] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)

    def check(self, histories: dict[str, tuple[int, ...]]) -> None:
        """Everything that was asked was done once, in its caller's order, with the reply that was given."""
        assert self.findings == []
        for key, found in histories.items():
            assert len(set(found)) == len(found), f"doubled at {key}"
        for (caller, key), asked in self.asked.items():
            mine = [number for number in histories[key] if number in set(asked)]
            assert mine == sorted(mine), f"{caller} was done out of order at {key}"
        for number, (key, reply) in self.answered.items():
            assert histories[key][reply - 1] == number, f"{number} was answered {reply} by {key}"


@asynccontextmanager
async def callers(machines: Machines, places: dict[str, list[str]], pause: float = 0.01) -> AsyncIterator[Heard]:
    """While the block runs, a caller for each key on each node asks one thing after the other; then it checks.

    Args:
        places: keys by the node on which they are asked from.
    """
    heard, stop = Heard(), trio.Event()

    async def ask(name: str, key: str) -> None:
        async def life() -> None:
            while not stop.is_set():
                number = next(numbers)
                heard.asked.setdefault((name, key), []).append(number)
                try:
                    heard.answered[number] = (key, await deposit(key, number))
                except CallFailed as error:
                    heard.findings.append(f"{number} was answered {error!r}")
                await trio.sleep(pause)  # virtual

        await machines.at(name, life)

    async with trio.open_nursery() as nursery:
        for name, keys in places.items():
            for key in keys:
                nursery.start_soon(ask, name, key)
        yield heard
        stop.set()
    keys = sorted({key for found in places.values() for key in found})
    anybody = sorted(machines.nodes)[0]
    heard.check({key: await machines.at(anybody, history, key) for key in keys})
