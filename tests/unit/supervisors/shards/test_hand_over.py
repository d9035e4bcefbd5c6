"""Entities whose `hand_over` or `take_over` fails: the one costs a move, the other what the entity had in memory."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio

from runtime import EventSourced, GenServer, call
from runtime.kernel.table import CrashReport
from supervisors import Supervisor, region
from supervisors.shards.failures import CannotHandOver
from supervisors.shards.luggage import FreezeShard
from supervisors.shards.orders import REBALANCER, Drain, Tell
from tests.support.clusters import Machines, clustered
from tests.support.linked import settled
from tests.unit.supervisors.shards.entities import Deposit, Deposited
from tests.unit.supervisors.shards.moved import Ledger, deposit, keys_of, move, mover, owner, served, start
from tests.unit.supervisors.shards.movers import world
from tests.unit.supervisors.shards.travellers import Log, Nap, Table, Traveller


class Counter(GenServer):
    """Adds up, in memory only."""

    def init(self, key: str) -> None:
        self.total = 0

    def handle_call(self, request: Any, caller: Any) -> Any:
        self.total += request.amount
        return self.total

    def hand_over(self) -> Any:
        return self.total

    def take_over(self, value: Any) -> None:
        self.total = value


class Raises(Counter):
    """Cannot say what it knows."""

    def hand_over(self) -> Any:
        raise ValueError("the till is open")


class Async(Counter):
    """Would wait, which it must not."""

    async def hand_over(self) -> Any:  # type: ignore[override]  # the mistake that is meant
        return self.total


class Unsendable(Counter):
    """What it gives means nothing elsewhere."""

    def hand_over(self) -> Any:
        return object()


class Volatile(EventSourced[Any, Deposited]):
    """Its state is all that there is of it, and cannot travel."""

    durability = "volatile"

    def initial(self, key: str) -> Any:
        return (0, object())

    def handle(self, state: Any, command: Any) -> Any:
        return Deposited(command.amount), state[0] + command.amount

    def apply(self, state: Any, event: Deposited) -> Any:
        return (state[0] + event.amount, state[1])


class Durable(Ledger):
    """One with a journal, that has something in memory besides."""

    def hand_over(self) -> Any:
        return object()


def of(entity: type[Any]) -> type[Supervisor]:
    """An application with a region of such."""

    class Room(Supervisor):
        """One region."""

        def init(self) -> Any:
            return [region("ledger", entity)]

    return Room


@pytest.mark.parametrize(
    ("entity", "why"),
    [
        (Raises, "ValueError: the till is open"),
        (Async, "hand_over returned a coroutine: it must not wait, so make it a plain def"),
        (Unsendable, "got builtins.object: "),
        (Volatile, "got builtins.object: "),
        (Durable, "got builtins.object: "),
    ],
)
def test_who_cannot_hand_over_stays_with_all_it_has(entity: type[Any], why: str) -> None:
    """Its shard does not move, at the first try, and the move says who it was; all goes on there as before."""

    async def scenario(machines: Machines) -> None:
        await start(machines, "a", "b")
        (mine, *_) = served(machines, "a")
        key, other = keys_of(mine, 2)
        for one in (key, other):
            await machines.at("b", deposit, one, 1)
        pid = machines.nodes["a"].table.names[f"ledger/{key}"].pid
        for _ in range(2):
            told = await move(machines, "a", mine, "b")
            assert told.phase == "void"
            assert told.why.startswith(("ledger/" + key + " cannot hand over: ", f"ledger/{other} cannot hand over: "))
            assert why in told.why
        assert owner(machines, mine) == "a"
        assert await machines.at("b", deposit, key, 1) == 2
        assert machines.nodes["a"].table.names[f"ledger/{key}"].pid == pid

    clustered(scenario, of(entity))


def test_a_node_drains_around_who_cannot_hand_over() -> None:
    """All others go; that shard is tried again now and then, and the node says who keeps it."""

    async def scenario(machines: Machines) -> None:
        await start(machines, "a", "b")
        (mine, *_) = served(machines, "a")
        (key,) = keys_of(mine, 1)
        await machines.at("b", deposit, key, 1)
        await machines.at("a", call, REBALANCER, Drain())
        await machines.until(lambda: served(machines, "a") == [mine])
        await trio.sleep(20.0)  # virtual
        facts = [one for one in mover(machines, "a").facts() if one.shard == mine]
        assert 2 < len(facts) < 10
        told = await machines.at("a", call, REBALANCER, Tell())
        assert f"shard {mine}: ledger/{key} cannot hand over: ValueError: the till is open" in told.standing.why
        assert await machines.at("b", deposit, key, 1) == 2

    clustered(scenario, of(Raises))


class Busy(Traveller):
    """Cannot say what it knows, whatever it does just then."""

    def hand_over(self) -> Any:
        raise ValueError("the till is open")


async def test_no_force_takes_what_an_entity_cannot_hand_over() -> None:
    """One that is asked when it has ended what it has in hand: the freeze is given up, by force as well."""
    entities = region("ledger")
    async with world("a", region("ledger", Busy)) as w:
        assert await w.on("a", entities.call, "x", Deposit(7)) == 1
        shard = int(w.net["a"].table.names["region/ledger"].behaviour.outward.shard_of("x"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.on, "a", entities.call, "x", Nap(0.1))
            await settled()
            with pytest.raises(CannotHandOver, match="ledger/x cannot hand over: ValueError: the till is open"):
                await w.ask("a", "ledger", FreezeShard(shard, 1.0, force=True))
        assert await w.on("a", entities.call, "x", Log()) == (7,)


class Forgets(Counter):
    """Cannot go on with what it was given."""

    def take_over(self, value: Any) -> None:
        raise KeyError("total")


class Waits(Counter):
    """Would wait, which it must not."""

    async def take_over(self, value: Any) -> None:  # type: ignore[override]  # the mistake that is meant
        self.total = value


class Notes(Table):
    """A durable one that cannot go on with its notes."""

    def take_over(self, value: Any) -> None:
        raise KeyError("notes")


@pytest.mark.parametrize(
    ("entity", "why", "after"),
    [
        (Forgets, "and has none of it: KeyError: 'total'", 1),
        (Waits, "and has none of it: take_over returned a coroutine: it must not wait, so make it a plain def", 1),
        (Notes, "and has only what its journal says: KeyError: 'notes'", 2),
    ],
)
async def test_who_cannot_take_over_is_named(
    entity: type[Any], why: str, after: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The log and the crash report say whose start failed, and what is lost; the next start goes on without."""
    entities, crashes = region("ledger"), list[CrashReport]()
    async with world("ab", region("ledger", entity)) as w:
        assert await w.on("b", entities.call, "x", Deposit(1)) == 1
        shard = int(w.net["a"].table.names["region/ledger"].behaviour.outward.shard_of("x"))
        w.net["b"].table.crash_listeners.append(crashes.append)
        with caplog.at_level(logging.ERROR):
            assert await w.move(shard, "b")
        assert await w.on("a", entities.call, "x", Deposit(1)) == after
    said = "ledger/x cannot take over what it had where it was before, " + why
    assert said in caplog.text
    assert any(said in str(one) for one in crashes)
