"""What is told to those who hang on a process that has gone with its shard, when not all goes well."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from runtime import NOCONNECTION, CalleeExited, Down, Pid, cast, monitor, receive
from runtime import call as call_now
from runtime.behaviours import sys
from runtime.cluster.membership import Membership
from runtime.codec.errors import DecodeError
from runtime.errors import CallFailed, MailboxFull
from runtime.kernel.requests import Caller
from runtime.observe.processes import ps
from supervisors import Supervisor, region
from supervisors.shards import packing, post
from supervisors.shards.failures import EntityRaised
from supervisors.shards.frames import Replied
from supervisors.shards.luggage import FollowShard, ThawShard
from tests.support.clusters import Machines, clustered
from tests.support.linked import seen_from, settled
from tests.unit.supervisors.shards.entities import Account, Deposit, End, Give
from tests.unit.supervisors.shards.moved import SHARDS, move, over, owner, start
from tests.unit.supervisors.shards.movers import World, world
from tests.unit.supervisors.shards.test_freezing import shard_of
from tests.unit.supervisors.shards.travellers import Log, Nap, Say, Set, Sleeper, Traveller, Wait

travellers = region("traveller")
TRAVELLERS = region("traveller", Traveller)


async def outcome(asked: Callable[..., Any], *args: Any) -> Any:
    """What a call came to."""
    try:
        return await asked(*args, timeout=1000.0)
    except CallFailed as error:
        return error


@asynccontextmanager
async def kept(w: World) -> AsyncIterator[tuple[int, list[Any]]]:
    """A caller at the first node waits for a reply that is put off: the shard, and what the caller got."""
    pid = await w.on("a", travellers.start, "x")
    found: list[Any] = []

    async def asks() -> None:
        found.append(await outcome(call_now, pid, Wait()))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(w.on, "a", asks)
        await settled()
        yield shard_of(w, "traveller", "x"), found
        await trio.sleep(1.0)  # virtual
        await settled()
        nursery.cancel_scope.cancel()


async def test_who_has_gone_is_listed_as_such():
    """A list of processes says of a stand-in for whom it stands and where that goes on, and not that it runs."""
    accounts = region("account")
    async with world("ab", TRAVELLERS, region("account", Account)) as w:
        for who in (travellers, accounts):
            await w.on("a", who.start, "x")
        for shard in {shard_of(w, name, "x") for name in ("traveller", "account")}:
            assert await w.move(shard, "b")
        await settled()
        table = w.net["a"].table
        listed = [(row.label, row.state) for row in ps(table).rows if row.label.endswith("moved to b")]
        assert sorted(listed) == [("account/x, moved to b", "moved"), ("traveller/x, moved to b", "moved")]


async def test_a_late_reply_goes_past_a_full_link(monkeypatch):
    """Nobody asks again for the reply that a process owed: it finds its way though the link has no room."""
    original = post.cast_nowait

    def full(destination: Any, frame: object) -> None:
        if isinstance(frame, Replied):
            raise MailboxFull("wanted room, and there is none: wait", destination, 1)
        original(destination, frame)

    async with world("ab", TRAVELLERS) as w:
        async with kept(w) as (shard, found):
            assert await w.move(shard, "b")
            monkeypatch.setattr(post, "cast_nowait", full)
            await w.on("b", travellers.cast, "x", Say(7))
        assert found == [7]


async def test_a_late_reply_that_cannot_travel():
    """Its caller hears why there is none."""
    async with world("ab", TRAVELLERS) as w:
        async with kept(w) as (shard, found):
            assert await w.move(shard, "b")
            await w.on("b", travellers.cast, "x", Say(object()))  # type: ignore[arg-type]  # it cannot
        assert [type(one) for one in found] == [EntityRaised]


async def test_callers_of_a_region_that_came_without_its_luggage():
    """They are told that the way to the one who owed them a reply is lost; monitors follow the new one."""
    async with world("ab", TRAVELLERS) as w:
        async with kept(w) as (shard, found):
            pid = await w.on("a", travellers.start, "x")
            downs: list[Any] = []

            async def watch() -> None:
                monitor(pid)
                downs.append(await receive())

            async with trio.open_nursery() as nursery:
                nursery.start_soon(w.on, "a", watch)
                await settled()
                assert await w.freeze("a", shard)
                await w.seal("a", shard)
                await w.copy("a", "b", shard)
                await w.retire("a", shard, await w.arrive("b", shard, {"traveller": b""}))
                new = await w.on("b", travellers.start, "x")
                pids = (("x", seen_from(w.net, "a", new)),)
                await w.ask("a", "traveller", FollowShard(shard, pids, bare=True))
                await settled()
                assert [one.reason for one in found] == [NOCONNECTION]
                assert not downs
                await w.on("b", travellers.cast, "x", End())
        assert [one.reason for one in downs] == ["over"]


async def test_callers_of_one_whose_luggage_cannot_be_read(monkeypatch):
    """It begins anew, and those whose replies it owed hear why it owes them no more."""
    original = packing.decoded

    def decoded(table: Any, data: bytes, case: Any = None) -> Any:
        if case is not None:
            raise DecodeError("what is known here", "something newer")
        return original(table, data)

    async with world("ab", TRAVELLERS) as w:
        async with kept(w) as (shard, found):
            assert await w.freeze("a", shard)
            packed = await w.seal("a", shard)
            monkeypatch.setattr(packing, "decoded", decoded)
            await w.copy("a", "b", shard)
            await w.retire("a", shard, await w.arrive("b", shard, packed))
        assert [type(one) for one in found] == [EntityRaised]


class Roads(Supervisor):
    """One region."""

    def init(self) -> Any:
        return [TRAVELLERS]


def test_the_mover_says_which_regions_came_without(monkeypatch):
    """The new owner serves without what came along, and says so: who waits at the old one is not left to wait."""
    original = Membership.arrived

    def arrived(membership: Membership, shard: int, epoch: int) -> bool:
        original(membership, shard, epoch)
        return False

    async def scenario(machines: Machines) -> None:
        await start(machines, "a", "b")
        shard = next(one for one in range(SHARDS) if owner(machines, one) == "a")
        key = next(one for one in map(str, range(1000)) if placed(machines, one) == shard)
        pid = await machines.at("a", travellers.start, key)
        found: list[Any] = []

        async def asks() -> None:
            found.append(await outcome(call_now, pid, Wait()))

        machines._nursery.start_soon(machines.at, "a", asks)
        await trio.sleep(1.0)  # virtual
        monkeypatch.setattr(Membership, "arrived", arrived)
        told = await move(machines, "a", shard, "b")
        await over(machines, "b", told.id)
        await trio.sleep(1.0)  # virtual
        assert [type(one) for one in found] == [CalleeExited]
        assert found[0].reason == NOCONNECTION

    def placed(machines: Machines, key: str) -> int:
        router: Any = machines.nodes["a"].table.names["region/traveller"].behaviour
        return int(router.outward.shard_of(key))

    clustered(scenario, Roads)


@pytest.mark.parametrize("moved_on", [True, False])
async def test_the_node_where_it_went_first_is_lost(moved_on):
    """Who has gone on from there is found and followed, and no Down comes; who was there is lost with it."""
    async with world("abc", TRAVELLERS) as w:
        pid = await w.on("a", travellers.start, "x")
        shard = shard_of(w, "traveller", "x")
        got: list[Any] = []

        async def watch() -> None:
            ref = monitor(pid)
            while True:
                told = await receive()
                assert isinstance(told, Down)
                assert told.ref is ref
                got.append(told.reason)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.on, "a", watch)
            await settled()
            for target in "bc"[: 1 + moved_on]:
                assert await w.move(shard, target)
                await settled()
            w.net.stop("b")
            await trio.sleep(3.0)  # virtual
            assert got == ([] if moved_on else [NOCONNECTION])
            if moved_on:
                await w.on("c", travellers.cast, "x", End())
                await trio.sleep(1.0)  # virtual
                assert got == ["over"]
            nursery.cancel_scope.cancel()


async def test_nobody_says_who_goes_on():
    """Who has gone on to where nobody answers is lost after a while, and that is told once."""
    async with world("abc", TRAVELLERS) as w:
        pid = await w.on("a", travellers.start, "x")
        shard = shard_of(w, "traveller", "x")
        got: list[Any] = []

        async def watch() -> None:
            monitor(pid)
            while True:
                got.append((await receive()).reason)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.on, "a", watch)
            await settled()
            for target in "bc":
                assert await w.move(shard, target)
                await settled()
            w.net.cut("a", "c")
            w.net.stop("b")
            await trio.sleep(5.0)  # virtual
            assert got == []
            await trio.sleep(30.0)  # virtual
            assert got == [NOCONNECTION]
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("before", "frozen"), [(0.9, 0.15), (0.5, 3.0)])
async def test_an_interval_timer_ticks_once(before, frozen):
    """Its next tick comes after the seconds that were left, at the new node, and none that fell due meanwhile."""
    async with world("ab", TRAVELLERS) as w:
        await w.on("a", travellers.call, "x", Set("again", 1.0))
        shard = shard_of(w, "traveller", "x")
        await trio.sleep(before)  # virtual
        assert await w.freeze("a", shard)
        packed = await w.seal("a", shard)
        await trio.sleep(frozen)  # virtual
        await w.copy("a", "b", shard)
        await w.retire("a", shard, await w.arrive("b", shard, packed))
        await settled()
        assert await w.on("b", travellers.call, "x", Log()) == ()
        for ticks in (1, 2):
            await trio.sleep(1.0)  # virtual
            assert await w.on("b", travellers.call, "x", Log()) == ("again",) * ticks


async def test_what_was_in_its_hands_is_done_before_what_waited():
    """One that is ended by force: what it had begun is done again first, then what came after it, in order."""
    async with world("ab", region("sleeper", Sleeper)) as w:
        sleepers = region("sleeper")
        pid = await w.on("a", sleepers.start, "x")
        process: Any = pid._process
        await w.on("a", sleepers.call, "x", Deposit(1))
        shard = shard_of(w, "sleeper", "x")
        assert process is not None
        for amount in (2, 3):
            await w.on("a", cast, pid, Give(amount))
        leaving = w.net["a"].table.names["region/sleeper"].behaviour.leaving
        seen: list[Any] = []
        commands = leaving._commands
        leaving._commands = lambda key, waiting: seen.extend(waiting) or commands(key, waiting)
        process.current = first = next(iter(process.mailbox))
        process.mailbox.popleft()
        deferred = [asked(process, number) for number in range(2)]
        process.deferred = dict.fromkeys(deferred)
        assert await w.freeze("a", shard, budget=0.1, force=True)
        assert seen[:3] == [*deferred, first]
        assert len(seen) == 4


def asked(process: Any, number: int) -> Any:
    """A request that a process has taken and not answered."""
    return Caller(number, None, process, process.pid)


@pytest.mark.parametrize("times", [1, 2])
async def test_who_was_suspended_before_stays_so(times):
    """A move that comes to nothing lifts no suspension but its own."""
    async with world("a", TRAVELLERS) as w:
        processes: list[Any] = []
        for key in ("x", "y"):
            pid: Pid = await w.on("a", travellers.start, key)
            processes.append(pid._process)
        x, y = processes
        await w.on("a", sys.suspend, x.pid)
        for _ in range(times):
            async with trio.open_nursery() as nursery:
                # It is at something, and so asked to come to rest.
                nursery.start_soon(w.on, "a", travellers.call, "y", Nap(0.1))
                await settled()
                for shard in range(2):
                    assert await w.freeze("a", shard)
                for shard in range(2):
                    await w.ask("a", "traveller", ThawShard(shard))
        await settled()
        assert (x.suspended, y.suspended) == (True, False)
        await w.on("a", sys.resume, x.pid)
        assert await w.on("a", travellers.call, "x", Deposit(1)) == 1


async def test_a_caller_hears_of_the_end_of_who_owes_it_a_reply():
    """If the process that goes on ends before it has replied, its callers get CalleeExited."""
    async with world("abc", TRAVELLERS) as w:
        pid = await w.on("a", travellers.start, "x")
        told: list[str] = []

        async def ask(node: str) -> None:
            here = pid if node == "a" else w.net[node].dist.pid_of(pid.node, pid.creation, pid.number)
            with pytest.raises(CalleeExited):
                await call_now(here, Wait())
            told.append(node)

        async with trio.open_nursery() as nursery:
            for node in "ac":
                nursery.start_soon(w.on, node, ask, node)
            await settled()
            for shard in range(w.placement.shards):
                assert await w.move(shard, "b")
            await w.on("b", travellers.cast, "x", End())
        assert sorted(told) == ["a", "c"]
