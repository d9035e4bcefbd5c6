"""What is read while a shard is frozen, and what becomes of it when the freeze is given up after that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
import trio

from runtime import EventSourced
from runtime.cluster.dist import Dist
from runtime.cluster.membership import membership_of
from runtime.errors import Misuse
from runtime.kernel.elsewhere import SERVICE as PEERS
from runtime.kernel.table import current_table
from supervisors import Supervisor, region
from supervisors.shards import copying, mover_source
from supervisors.shards.copying import Copying
from supervisors.shards.handoff_events import Freeze, ReadLast, Rest
from supervisors.shards.handoff_frames import Offer, Token
from supervisors.shards.mover import mover_of
from supervisors.shards.mover_source import SourceWork
from supervisors.shards.mover_target import TargetWork
from supervisors.shards.speaker import Speaker
from tests.support.clusters import Machines, clustered
from tests.unit.supervisors.shards.entities import Deposit, Deposited
from tests.unit.supervisors.shards.moved import (
    SHARDS,
    Books,
    begin,
    callers,
    deposit,
    fact,
    history,
    journal,
    keys_of,
    ledger,
    move,
    over,
    owner,
    served,
    start,
)

# What a step of a source came to, and what it is made into.
Twist = Callable[[SourceWork, Any], Any]


def twisted(patch: pytest.MonkeyPatch, effect_kind: type, twist: Twist) -> list[object]:
    """Have something else come of the first effect of a kind; how often it was carried out at all."""
    original, seen = SourceWork.do, []

    async def do(self: SourceWork, effect: Any) -> Any:
        found = await original(self, effect)
        if type(effect) is effect_kind:
            seen.append(effect)
            if len(seen) == 1:
                return twist(self, found)
        return found

    patch.setattr(SourceWork, "do", do)
    return seen


def test_a_freeze_over_its_budget_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read is not sent: it is read again by the next freeze, and the digest is that of what was sent."""

    async def scenario(machines: Machines) -> None:
        await start(machines, "a", "b")
        (mine, *_) = served(machines, "a")
        keys = keys_of(mine, 5)
        seen = twisted(monkeypatch, ReadLast, lambda *_: Rest(why="the freeze took 300 ms"))
        async with callers(machines, {"a": keys, "b": keys}, pause=0.005):
            await trio.sleep(0.2)  # virtual
            told = await move(machines, "a", mine, "b")
            assert (told.phase, told.why) == ("retired", "")
        assert len(seen) > 1

    clustered(scenario, Books)


def test_the_last_reading_ends_with_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not read to its end when the freeze is over; what it had read counts for nothing, and is read again."""
    rest, late, lengths = Copying.rest, SourceWork._late, list[int]()

    def over_at_once(self: Copying, until: float) -> Any:
        found = rest(self, until if lengths else float("-inf"))
        lengths.append(len(found))
        return found

    async def scenario(machines: Machines) -> None:
        await start(machines, "a", "b")
        (mine, *_) = served(machines, "a")
        keys = keys_of(mine, 5)
        monkeypatch.setattr(Copying, "rest", over_at_once)
        monkeypatch.setattr(SourceWork, "_late", lambda self: late(self) if len(lengths) > 1 else "it took 300 ms")
        async with callers(machines, {"a": keys, "b": keys}, pause=0.005):
            await trio.sleep(0.2)  # virtual
            assert (await move(machines, "a", mine, "b")).phase == "retired"
        assert lengths[0] == 0
        assert len(lengths) > 1

    clustered(scenario, Books)


def test_what_is_too_large_to_go_with_the_cut_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be sent and taken back for ever: the move is void, and says what is to be done."""
    monkeypatch.setattr(mover_source, "MOST", 0)

    async def scenario(machines: Machines) -> None:
        await start(machines, "a", "b")
        (mine, *_) = served(machines, "a")
        (key,) = keys_of(mine, 1)
        await machines.at("a", deposit, key, 1)
        told = await move(machines, "a", mine, "b")
        assert told.phase == "void"
        assert "have its entities hand over less, or move it when less is written" in told.why
        assert await machines.at("b", deposit, key, 2) == 2
        assert owner(machines, mine) == "a"

    clustered(scenario, Books)


def test_a_token_that_is_being_sent_is_not_sent_anew() -> None:
    """It is asked for each second: what is on its way is not encoded and queued once more."""

    async def scenario(machines: Machines) -> None:
        await start(machines, "a", "b")

        async def say() -> list[int]:
            speaker = Speaker(cast("Dist", current_table().services[PEERS]))
            token = Token("0-a.1.1-00000000", 1, (), b"", (("ledger", bytes(1 << 20)),))
            found = []
            for _ in range(2):
                speaker.say("b", token)
                found.append(len(speaker._waiting["b"]))
            await trio.lowlevel.checkpoint()
            speaker.say("b", token)
            found.append(len(speaker._waiting["b"]))
            return found

        first, second, later = await machines.at("a", say)
        assert first == second >= later > 1

    clustered(scenario, Books)


def test_what_was_staged_is_erased_though_another_store_serves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a node serves from its own store is never erased; a shard of an adopted one has only staged rows in that."""

    async def scenario(machines: Machines) -> None:
        await start(machines, "a", "b")
        (mine, *_) = served(machines, "a")
        table = machines.nodes["a"].table
        offer = Offer("0-b.1.1-00000000", mine, 1, "b", SHARDS, (), 0, 0)
        work = TargetWork(mover_of(table)._process, offer, lambda _: None)
        with pytest.raises(Misuse, match="nothing of it is erased"):
            work._check_served()
        monkeypatch.setattr(membership_of(table).placement, "home", lambda _: "another store")
        work._check_served()

    clustered(scenario, Books)


def test_what_comes_too_late_for_the_last_reading_stops_the_seal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that is committed after it would be missing at the new owner: the shard stays where it is."""

    def late(work: SourceWork, found: Any) -> Any:
        assert work._copying is not None
        work._copying._watched[False][1].add("ledger/late")
        return found

    async def scenario(machines: Machines) -> None:
        await start(machines, "a", "b")
        (mine, *_) = served(machines, "a")
        keys = keys_of(mine, 2)
        async with callers(machines, {"a": keys}):
            twisted(monkeypatch, ReadLast, late)
            told = await move(machines, "a", mine, "b")
            assert (told.phase, told.why) == ("void", "something was written while the shard was frozen")
            assert owner(machines, mine) == "a"
            assert not journal(machines, "a").fence(mine).sealed

    clustered(scenario, Books)


class Slow(EventSourced[int, Deposited]):
    """Waits within a handler, as nobody should."""

    slow = 0.0

    def initial(self, key: str) -> int:
        return 0

    async def handle_call(self, request: Any, caller: Any) -> Any:
        await trio.sleep(Slow.slow)  # virtual
        return super().handle_call(request, caller)

    def handle(self, state: int, command: Any) -> Any:
        return Deposited(command.amount), state + 1

    def apply(self, state: int, event: Deposited) -> int:
        return state + 1


def test_what_waits_while_it_is_frozen_is_done_at_the_new_owner() -> None:
    """Nothing that was asked meanwhile is lost or doubled; how much waited is told."""

    async def scenario(machines: Machines) -> None:
        await start(machines, "a", "b", "c")
        (mine, *_) = served(machines, "a")
        keys = keys_of(mine, 20)
        async with callers(machines, {"b": keys, "c": keys}, pause=0.005):
            await trio.sleep(0.2)  # virtual
            told = await move(machines, "a", mine, "b")
            assert told.freeze_ms is not None
            assert told.held > 0

    clustered(scenario, Books)


def test_the_last_reading_may_be_larger_than_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """The token goes in parts, and what it has is installed in several commits, the last of which keeps it."""
    monkeypatch.setattr(copying, "LAST", 2_000)
    gate, written = trio.Event(), trio.Event()
    original = SourceWork.do

    async def do(self: SourceWork, effect: Any) -> Any:
        if type(effect) is Freeze and not written.is_set():
            gate.set()
            await written.wait()
        return await original(self, effect)

    async def scenario(machines: Machines) -> None:
        await start(machines, "a", "b")
        (mine, *_) = served(machines, "a")
        keys = keys_of(mine, 40)
        for key in keys:
            await machines.at("a", deposit, key, 0)
        monkeypatch.setattr(SourceWork, "do", do)
        id = await begin(machines, "a", mine, "b")
        await gate.wait()
        for amount in range(1, 10):
            for key in keys:
                await machines.at("b", deposit, key, amount)
        written.set()
        assert (await over(machines, "a", id)).phase == "retired"
        for key in keys:
            assert await machines.at("a", history, key) == tuple(range(10))

    clustered(scenario, Books)


class Room(Supervisor):
    """A region that remembers its entities."""

    def init(self) -> Any:
        return [region("ledger", Ledger2, remember=True)]


class Ledger2(EventSourced[tuple[int, ...], Deposited]):
    """Counts."""

    def initial(self, key: str) -> tuple[int, ...]:
        return ()

    def handle(self, state: tuple[int, ...], command: Any) -> Any:
        return Deposited(command.amount), len(state) + 1

    def apply(self, state: tuple[int, ...], event: Deposited) -> tuple[int, ...]:
        return (*state, event.amount)


def test_who_is_remembered_runs_at_the_new_owner() -> None:
    """The shard's memory moves with it, and all it knows of is started there, and at no other node."""

    async def scenario(machines: Machines) -> None:
        await start(machines, "a", "b")
        (mine, *_) = served(machines, "a")
        keys = keys_of(mine, 4)
        for key in keys:
            assert await machines.at("b", deposit, key, 1) == 1
        for target in ("b", "a", "b"):
            told = await move(machines, owner(machines, mine), mine, target)
            assert told.phase == "retired"
            names = machines.nodes[target].table.names
            await machines.until(lambda names=names: all(f"ledger/{key}" in names for key in keys))  # type: ignore[misc]  # mypy knows no lambda's default
            other = machines.nodes["a" if target == "b" else "b"].table.names
            assert not any(f"ledger/{key}" in other for key in keys)
        for key in keys:
            assert await machines.at("a", deposit, key, 2) == 2
        await machines.at("a", deposit, keys_of(mine, 5)[-1], 1)
        assert fact(machines, "b", told.id).phase == "own"
        assert ledger.entity(keys[0]) is not None

    clustered(scenario, Room)


def test_a_handler_that_waits_puts_the_move_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three freezes are given up; then its handler is ended, its command is asked again, and the shard moves."""

    async def scenario(machines: Machines) -> None:
        await start(machines, "a", "b")
        (mine, *_) = served(machines, "a")
        (key,) = keys_of(mine, 1)
        await machines.at("a", deposit, key, 1)
        monkeypatch.setattr(Slow, "slow", 60.0)
        replies: list[object] = []

        async def ask() -> None:
            replies.append(await ledger.call(key, Deposit(2), timeout=600.0))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(machines.at, "b", ask)
            await trio.sleep(0.1)  # virtual
            told = await move(machines, "a", mine, "b")
            assert told.phase == "retired"
            monkeypatch.setattr(Slow, "slow", 0.0)
        assert replies == [2]
        assert await machines.at("a", deposit, key, 3) == 3

    clustered(scenario, Lazy)


class Lazy(Supervisor):
    """A region of those who wait."""

    def init(self) -> Any:
        return [region("ledger", Slow)]
