"""Moves that meet the loss of a shard, or the restart of a region: each is safe by itself, and both together too."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from runtime import NOCONNECTION, CalleeExited, call, monitor, receive
from runtime.errors import CallFailed, Misuse, NoProcess
from supervisors import region
from supervisors.shards.departed import GRACE, departed_of
from supervisors.shards.luggage import DepartShard, FollowShard, FreezeShard, UnpackShard, expect
from supervisors.shards.shard import STARTS
from tests.support.linked import settled
from tests.unit.supervisors.shards.entities import Deposit, Give
from tests.unit.supervisors.shards.movers import World, world
from tests.unit.supervisors.shards.travellers import Log, Nap, Say, Sleeper, Traveller, Wait

travellers, tables, sleepers = region("traveller"), region("table"), region("sleeper")
TRAVELLERS = region("traveller", Traveller)


class Slow(Traveller):
    """Takes a while to start."""

    async def init(self, key: str) -> None:  # type: ignore[override]  # it may
        super().init(key)
        await trio.sleep(0.5)  # virtual


def router(w: World, node: str, kind: str = "traveller") -> Any:
    """The router of a region."""
    found: Any = w.net[node].table.names[f"region/{kind}"]
    return found.behaviour


def shard_of(w: World, key: str, kind: str = "traveller") -> int:
    found = router(w, "a", kind).outward.shard_of(key)
    assert isinstance(found, int)
    return found


def keys_of(w: World, shard: int, count: int) -> list[str]:
    """So many keys of that shard."""
    return [key for key in map(str, range(100)) if shard_of(w, key) == shard][:count]


async def restart(w: World, node: str, kind: str = "traveller") -> None:
    """End a region's router; its supervisor starts it again."""
    process = w.net[node].table.names[f"region/{kind}"]
    process.exit_signal(process.pid, "struck")
    while w.net[node].table.names.get(f"region/{kind}") in (None, process):  # noqa: ASYNC110  # of what changes nothing rings
        await trio.sleep(0.01)  # virtual


async def kept(asked: Any, found: list[Any]) -> None:
    """Ask an entity for what it says only later."""
    try:
        found.append(await call(asked, Wait(), timeout=1000.0))
    except CallFailed as error:
        found.append(error)


# -- a region that is restarted ------------------------------------------------------------------------------


async def test_luggage_is_no_business_of_a_router_that_comes_later():
    """What was left for an entity to find when it starts is gone with the router that left it: it begins anew."""
    async with world("ab", region("traveller", Slow)) as w:
        keys = keys_of(w, shard := 0, STARTS + 2)
        for key in keys:
            await w.on("a", travellers.call, key, Deposit(1))
        assert await w.freeze("a", shard)
        packed = await w.seal("a", shard)
        await w.copy("a", "b", shard)
        async with trio.open_nursery() as nursery:

            async def arrives() -> None:
                with pytest.raises(CallFailed):
                    await w.arrive("b", shard, packed)

            nursery.start_soon(arrives)
            await settled()
            assert len(w.net["b"].table.arrivals) == STARTS + 2
            await restart(w, "b")
        assert w.net["b"].table.arrivals == {}
        assert [await w.on("b", travellers.call, key, Log()) for key in keys] == [()] * len(keys)


async def test_stand_ins_are_looked_after_when_their_region_is_restarted():
    """A router finds those that a former one has left, and lets them go when nobody needs them any more."""
    async with world("ab", TRAVELLERS) as w:
        shard = shard_of(w, "x")
        await w.on("a", travellers.start, "x")
        assert await w.move(shard, "b")
        assert len(departed_of(w.net["a"].table).of("traveller", shard)) == 1
        await restart(w, "a")
        await trio.sleep(GRACE + 1.0)  # virtual
        assert departed_of(w.net["a"].table).of("traveller", shard) == []


async def test_who_waits_for_a_reply_from_elsewhere_is_told_of_a_restart():
    """What comes back while no router is there is lost, and nobody waits for it for ever."""
    async with world("ab", TRAVELLERS) as w, trio.open_nursery() as nursery:
        shard, found = shard_of(w, "x"), []
        pid = await w.on("a", travellers.start, "x")
        nursery.start_soon(w.on, "a", kept, pid, found)
        await settled()
        assert await w.move(shard, "b")
        await settled()
        assert found == []
        process = w.net["a"].table.names["region/traveller"]
        process.exit_signal(process.pid, "struck")
        await w.on("b", travellers.cast, "x", Say(7))
        await settled()
        assert len(found) == 1


async def test_a_restart_in_the_middle_of_the_way_is_told_at_its_beginning():
    """A reply that is owed over two moves is lost with the region between them: its caller hears so."""
    async with world("abc", TRAVELLERS) as w, trio.open_nursery() as nursery:
        shard, found = shard_of(w, "x"), []
        nursery.start_soon(w.on, "a", kept, await w.on("a", travellers.start, "x"), found)
        await settled()
        assert await w.move(shard, "b")
        assert await w.move(shard, "c")
        await settled()
        assert found == []
        await restart(w, "b")
        await settled()
        assert [type(one) for one in found] == [CalleeExited]


async def test_who_asks_an_old_pid_while_its_region_is_away_is_told():
    """Nobody is left to wait for a region that is being started again."""
    async with world("ab", TRAVELLERS) as w:
        shard = shard_of(w, "x")
        pid = await w.on("a", travellers.start, "x")
        assert await w.move(shard, "b")
        names = w.net["a"].table.names
        process = names.pop("region/traveller")

        async def asks() -> None:
            with trio.fail_after(10.0), pytest.raises(NoProcess):
                await call(pid, Log(), timeout=1000.0)

        await w.on("a", asks)
        names["region/traveller"] = process


async def test_nobody_is_owed_anything_by_a_move_that_was_given_up_with_its_router():
    """What was packed by a router that has ended is forgotten."""
    async with world("ab", TRAVELLERS) as w, trio.open_nursery() as nursery:
        shard, found = shard_of(w, "x"), []
        nursery.start_soon(w.on, "a", kept, await w.on("a", travellers.start, "x"), found)
        await settled()
        assert await w.freeze("a", shard)
        await w.seal("a", shard)
        assert departed_of(w.net["a"].table)._callers
        await restart(w, "a")
        assert [type(one) for one in found] == [CalleeExited]
        await trio.sleep(1.0)  # virtual
        assert not departed_of(w.net["a"].table)._callers


async def test_luggage_that_comes_too_late_is_left():
    """A shard that is served already goes on with what it has; whoever brings the luggage is told so."""
    async with world("ab", TRAVELLERS) as w, trio.open_nursery() as nursery:
        shard, found = shard_of(w, "x"), []
        nursery.start_soon(w.on, "b", kept, travellers.entity("x"), found)
        await settled()
        assert await w.freeze("a", shard)
        packed = await w.seal("a", shard)
        await w.copy("a", "b", shard)
        expect(w.net["b"].table, shard, 2)
        await restart(w, "b")
        w.own(shard, "b", 2)
        w.tell()
        w.stores["b"].settle(shard)
        await w.on("b", travellers.cast, keys_of(w, shard, 1)[0], Give(1))
        with pytest.raises(Misuse):
            await w.ask("b", "traveller", UnpackShard(shard, 2, packed["traveller"]))
        assert w.net["b"].table.arrivals == {}


# -- a shard that is lost ------------------------------------------------------------------------------------


async def test_who_waits_for_one_ended_by_force_waits_for_the_next_owner():
    """What lay in the mailbox of one who was ended in a freeze is asked of the next owner, if the shard is lost."""
    async with world("ab", region("sleeper", Sleeper)) as w, trio.open_nursery() as nursery:
        shard, found = shard_of(w, "x", "sleeper"), []
        pid = await w.on("a", sleepers.start, "x")
        await w.on("a", sleepers.cast, "x", Give(1))
        await settled()

        async def asks() -> None:
            found.append(await call(pid, Deposit(2), timeout=1000.0))

        nursery.start_soon(w.on, "a", asks)
        await settled()
        Sleeper.patient = False
        try:
            async with trio.open_nursery() as freezing:

                async def freezes() -> None:
                    with pytest.raises(Misuse):
                        await w.ask("a", "sleeper", FreezeShard(-1, -1.0))
                    await w.freeze("a", shard, force=True)

                freezing.start_soon(freezes)
            await w.seal("a", shard)
            await w.copy("a", "b", shard)
            del w.views["a"].rows[shard]
            w.tell()
            await settled()
            w.own(shard, "b", 2)
            w.stores["b"].settle(shard)
            w.tell()
            with trio.move_on_after(10.0):
                while not found:  # noqa: ASYNC110  # of what changes nothing rings
                    await trio.sleep(0.5)  # virtual
            assert found == [3]
        finally:
            Sleeper.patient = True
            nursery.cancel_scope.cancel()


async def test_what_was_sent_to_the_next_owner_is_not_sent_again_when_the_move_ends():
    """A node that has lost a sealed shard, and heard from its next owner, is then told that it has moved: no matter."""
    async with world("ab", TRAVELLERS) as w:
        shard = shard_of(w, "x")
        assert await w.on("a", travellers.call, "x", Deposit(1)) == 1
        assert await w.freeze("a", shard)
        packed = await w.seal("a", shard)
        await w.copy("a", "b", shard)
        del w.views["a"].rows[shard]
        w.tell()
        await settled()
        async with trio.open_nursery() as nursery:
            for request in (Nap(2.0), Deposit(2)):
                nursery.start_soon(w.on, "a", travellers.call, "x", request)
                await settled()
            pids = await w.arrive("b", shard, packed)
            await settled()
            await w.retire("a", shard, pids)
        assert await w.on("b", travellers.call, "x", Log()) == (1, 2)


async def test_a_frozen_shard_that_was_elsewhere_meanwhile_is_another_one():
    """A node that has not heard of two moves of a shard, there and back, does not go on with what it froze."""
    async with world("ab", TRAVELLERS) as w:
        shard = shard_of(w, "x")
        await w.on("a", travellers.call, "x", Deposit(1))
        assert await w.freeze("a", shard)
        packed = await w.seal("a", shard)
        w.stores["a"].claim({shard: 3})
        w.own(shard, "a", 3)
        await w.ask("a", "traveller", UnpackShard(shard, 3, packed["traveller"]))
        assert not router(w, "a").outward._pinned
        assert await w.on("a", travellers.call, "x", Log()) == (1,)


async def test_word_of_an_earlier_move_changes_nothing():
    """A shard that has come back is not given up because it is told late, or again, that it had gone."""
    async with world("ab", TRAVELLERS) as w:
        shard = shard_of(w, "x")
        await w.on("a", travellers.call, "x", Deposit(1))
        assert await w.move(shard, "b")
        assert await w.move(shard, "a")
        await w.ask("a", "traveller", DepartShard(shard, "b", 2))
        await settled()
        assert await w.on("a", travellers.call, "x", Log()) == (1,)


async def test_a_shard_that_goes_while_it_is_being_frozen_is_lost():
    """Who froze it is told, and what waits for it goes to the next owner under its old numbers."""
    async with world("ab", TRAVELLERS) as w, trio.open_nursery() as nursery:
        shard, said = shard_of(w, "x"), []
        await w.on("a", travellers.start, "x")
        nursery.start_soon(w.on, "a", travellers.call, "x", Nap(0.5))
        await settled()

        async def freezes() -> None:
            said.append(await w.ask("a", "traveller", FreezeShard(shard, 100.0)))

        nursery.start_soon(freezes)
        await settled()
        w.own(shard, "b", 2)
        w.stores["b"].claim({shard: 2})
        await w.ask("a", "traveller", DepartShard(shard, "b", 2))
        await settled()
        assert said == [False]
        assert not router(w, "a").outward._pinned


async def test_a_shard_that_nobody_brings_is_forgotten():
    """What was expected, and what has come for it, is not kept for ever."""
    async with world("ab", TRAVELLERS) as w:
        shard = shard_of(w, "x")
        expect(w.net["b"].table, shard, 2)
        w.own(shard, "b", 2, but="b")
        with trio.move_on_after(1.0):
            await w.on("a", travellers.call, "x", Deposit(1), timeout=1000.0)
        assert router(w, "b").inward._expected
        w.own(shard, "a", 3)
        w.tell()
        await trio.sleep(10.0)  # virtual
        assert not router(w, "b").inward._expected


async def test_a_shard_of_which_nobody_says_anything_is_forgotten():
    """What was expected by a region that has nothing to do is not kept either."""
    async with world("ab", TRAVELLERS) as w:
        expect(w.net["b"].table, 0, 2)
        await trio.sleep(10.0)  # virtual
        assert not router(w, "b").inward._expected


async def test_who_has_lost_the_way_watches_nobody():
    """A stand-in that is told that nobody knows who goes on leaves nothing behind at who did."""
    async with world("ab", TRAVELLERS) as w:
        shard, downs = shard_of(w, "x"), []
        pid = await w.on("a", travellers.start, "x")

        async def watch() -> None:
            monitor(pid)
            downs.append((await receive()).reason)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.on, "a", watch)
            await settled()
            assert await w.move(shard, "b")
            await settled()
            assert w.net["b"].table.names["traveller/x"].watchers
            await w.ask("a", "traveller", FollowShard(shard, None))
        await settled()
        assert downs == [NOCONNECTION]
        assert not w.net["b"].table.names["traveller/x"].watchers


# -- order ---------------------------------------------------------------------------------------------------


async def test_who_starts_gets_its_old_mail_first():
    """What is sent at the new owner to one who is still being started there does not overtake what came along."""
    async with world("ab", region("traveller", Slow)) as w, trio.open_nursery() as nursery:
        shard = shard_of(w, "x")
        nursery.start_soon(w.on, "b", travellers.call, "x", Nap(0.2))
        await trio.sleep(0.6)  # virtual
        await w.on("b", travellers.cast, "x", Give(1))
        await w.on("b", travellers.send, "x", 2)
        await settled()
        async with trio.open_nursery() as moving:
            moving.start_soon(w.move, shard, "b")
            await trio.sleep(0.3)  # virtual
            assert w.net["b"].table.names["traveller/x"].alive
            await w.on("b", travellers.cast, "x", Give(3))
        assert await w.on("b", travellers.call, "x", Log()) == (1, 2, 3)
