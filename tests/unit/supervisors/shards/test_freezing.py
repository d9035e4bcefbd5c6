"""A shard that is frozen: what it holds, what may happen to it, and what comes of it when it thaws or goes."""

from __future__ import annotations

import pytest
import trio

from runtime import KILL, Down, MailboxFull, cancel_timer, cast, monitor, receive, send, send_after
from runtime.codec.errors import DecodeError
from runtime.durable.history import ReplayFailed
from runtime.errors import Misuse
from supervisors import region
from supervisors.shards.luggage import PackShard, ThawShard, UnpackShard, verify
from supervisors.shards.packing import follow_timers, timers_of
from supervisors.shards.stores import Turn
from tests.support.linked import seen_from, settled
from tests.unit.supervisors.shards.entities import Account, Balance, Counter, Deposit, Give
from tests.unit.supervisors.shards.movers import World, world
from tests.unit.supervisors.shards.travellers import Log, Nap, Sleeper, Traveller

accounts, counters, travellers = region("account"), region("counter"), region("traveller")
ALL = (region("account", Account), region("counter", Counter), region("traveller", Traveller))


def shard_of(w: World, name: str, key: str) -> int:
    """The shard of a key."""
    return int(w.net["a"].table.names[f"region/{name}"].behaviour.outward.shard_of(key))


async def finish(w: World, shard: int, target: str) -> None:
    """Move a shard that is frozen."""
    packed = await w.seal("a", shard)
    await w.copy("a", target, shard)
    await w.retire("a", shard, await w.arrive(target, shard, packed))


async def test_timers_that_are_followed_are_not_looked_for(monkeypatch):
    """Those that were set before and those that are set since; the node's many others are not looked through again."""
    async with world("a", *ALL) as w:
        process = (await w.on("a", travellers.start, "x"))._process
        table, other = w.net["a"].table, w.net["a"].table.names["region/account"].pid

        async def wanted(later):
            first, over = send_after(later, process.pid, "before"), send_after(later, process.pid, "over")
            for _ in range(600):
                send_after(later, other, "another's")
            pids = await follow_timers(table, [process], Turn(table.world.now))
            second = send_after(later, process.pid, "since")
            send_after(later, "traveller/x", "by name")
            send_after(later, other, "another's")
            cancel_timer(over)
            looked = timers_of(table, [process, other._process])
            with monkeypatch.context() as patch:
                patch.setattr(table.timers, "set_now", None)
                assert set(timers_of(table, [process])[process.pid]) == {first, second}
            assert set(looked[process.pid]) == {first, second}
            table.timers.unfollow(pids)
            assert not table.timers.noted
            assert set(timers_of(table, [process])[process.pid]) == {first, second}

        await w.on("a", wanted, 1000.0)


@pytest.mark.parametrize("goes", [True, False])
@pytest.mark.parametrize("name", ["account", "traveller"])
async def test_one_that_crashes_while_it_is_frozen(name, goes):
    """An entity that dies while it is frozen: a durable one goes on from its journal, a volatile one begins anew."""
    given = region(name)
    async with world("ab", *ALL) as w:
        assert await w.on("b", given.call, "x", Deposit(1)) == 1
        shard = shard_of(w, name, "x")
        assert await w.freeze("a", shard)
        process = w.net["a"].table.names[f"{name}/x"]
        process.exit_signal(process.pid, KILL)
        await settled()
        if goes:
            await finish(w, shard, "b")
        else:
            await w.ask("a", name, ThawShard(shard))
        assert await w.on("b", given.call, "x", Deposit(1)) == (2 if name == "account" else 1)


@pytest.mark.parametrize("goes", [True, False])
async def test_a_shard_whose_supervisor_dies_while_it_is_frozen(goes):
    """The shard's supervisor ends with all its entities: after the move, or the thaw, the durable ones go on."""
    async with world("ab", *ALL) as w:
        assert await w.on("b", accounts.call, "x", Deposit(1)) == 1
        shard = shard_of(w, "account", "x")
        assert await w.freeze("a", shard)
        async with trio.open_nursery() as nursery:
            replies: list[object] = []

            async def ask() -> None:
                replies.append(await accounts.call("x", Deposit(1)))

            nursery.start_soon(w.on, "b", ask)
            await settled()
            process = w.net["a"].table.names[f"region/account/shards/{shard}"]
            process.exit_signal(process.pid, KILL)
            await settled()
            assert w.net["a"].table.names.get("account/x") is None
            if goes:
                await finish(w, shard, "b")
            else:
                await w.ask("a", "account", ThawShard(shard))
        assert replies == [2]


@pytest.mark.parametrize("goes", [True, False])
async def test_a_durable_entity_that_does_not_rest_is_ended_by_force(goes):
    """With force it is ended quietly, whatever it waits for; what it had in its hands and before it is done again."""
    async with world("ab", region("sleeper", Sleeper)) as w:
        sleepers = region("sleeper")
        shard = shard_of(w, "sleeper", "x")
        pid = await w.on("a", sleepers.start, "x")
        told: list[object] = []

        async def watch() -> None:
            monitor(pid)
            told.append(await receive(lambda m: isinstance(m, Down)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.on, "a", watch)
            # `reconcile` waits for a long time after the first command.
            assert await w.on("a", sleepers.call, "x", Deposit(1)) == 1
            for node in "ab":
                for number in range(2, 6):
                    await w.on(node, sleepers.cast, "x", Give(number))
            await settled()
            assert not await w.freeze("a", shard, budget=0.1)
            assert await w.freeze("a", shard, budget=0.1, force=True)
            Sleeper.patient = False
            if goes:
                await finish(w, shard, "b")
            else:
                await w.ask("a", "sleeper", ThawShard(shard))
            try:
                await trio.sleep(1.0)  # virtual
                assert await w.on("b", sleepers.call, "x", Balance()) == 1 + 2 * (2 + 3 + 4 + 5)
                assert told == []
            finally:
                Sleeper.patient = True
            nursery.cancel_scope.cancel()


async def test_a_volatile_entity_is_not_ended_by_force():
    """What would be lost is waited for: over the budget the shard stays."""
    async with world("ab", *ALL) as w:
        shard = shard_of(w, "traveller", "x")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.on, "a", travellers.call, "x", Nap(2.0))
            await settled()
            assert not await w.freeze("a", shard, force=True)
        assert await w.on("a", travellers.call, "x", Deposit(1)) == 1


async def test_what_is_held_is_bounded_and_none_of_it_is_dropped():
    """While a shard is frozen its senders wait beyond the bounds; all that was taken is done afterwards, in order."""
    async with world("ab", *ALL) as w:
        await w.on("a", accounts.start, "x")
        shard = shard_of(w, "account", "x")
        assert await w.freeze("a", shard)
        taken: dict[str, int] = {"a": 0, "b": 0}

        async def talk(node: str) -> None:
            try:
                while taken[node] < 5000:
                    await accounts.cast("x", Give(1), timeout=0.01)
                    taken[node] += 1
            except MailboxFull:
                pass

        for node in "ab":
            await w.on(node, talk, node)
        router = w.net["a"].table.names["region/account"].behaviour
        assert len(router.inward.shards[shard].intake.hold) <= 1024
        assert all(1000 < count < 2500 for count in taken.values())
        await finish(w, shard, "b")
        await trio.sleep(60.0)  # virtual
        assert await w.on("a", accounts.call, "x", Balance()) == sum(taken.values())


async def test_direct_messages_wait_with_a_frozen_process_and_go_with_it():
    """What is sent to a pid while its process is frozen comes after what came before, and before what comes later."""
    async with world("abc", *ALL) as w:
        pid = await w.on("a", travellers.start, "x")
        shard = shard_of(w, "traveller", "x")

        async def talk(node: str, numbers: range) -> None:
            here = pid if node == "a" else seen_from(w.net, node, pid)
            for number in numbers:
                value = 1000 * "abc".index(node) + number
                await (send(here, value) if number % 2 else cast(here, Give(value)))

        async def all_of_them(numbers: range) -> None:
            for node in "abc":
                await w.on(node, talk, node, numbers)
            await settled()

        await all_of_them(range(10))
        assert await w.freeze("a", shard)
        await all_of_them(range(10, 20))
        packed = await w.seal("a", shard)
        await all_of_them(range(20, 30))
        await w.copy("a", "b", shard)
        pids = await w.arrive("b", shard, packed)
        await all_of_them(range(30, 40))
        await w.retire("a", shard, pids)
        await all_of_them(range(40, 50))
        got = await w.on("a", travellers.call, "x", Log())
        for first in (0, 1000, 2000):
            assert [one for one in got if first <= one < first + 1000] == list(range(first, first + 50))


async def test_packing_wants_a_frozen_shard():
    """What may still change is not packed; luggage that is none is refused, and its shard served without it."""
    async with world("ab", *ALL) as w:
        with pytest.raises(Misuse, match="is not frozen: freeze it first"):
            await w.ask("a", "account", PackShard(0))
        assert await w.ask("b", "account", PackShard(0)) == b""
        with pytest.raises(Misuse, match="look who has it"):
            await w.ask("b", "account", UnpackShard(0, 1, b""))
        with pytest.raises(DecodeError):
            await w.ask("a", "account", UnpackShard(0, 1, b"rubbish"))
        assert await w.on("b", accounts.call, "x", Deposit(1)) == 1


async def test_a_shard_waits_for_its_luggage():
    """Who is told to expect a shard serves nothing of it before it is unpacked; and not for ever."""
    async with world("ab", *ALL) as w:
        shard = shard_of(w, "account", "x")
        for name in w.regions:
            w.net["b"].table.names[f"region/{name}"].behaviour.inward.expect(shard, 2)
        w.stores["b"].claim({shard: 2})
        w.own(shard, "b", 2)
        w.tell()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.on, "a", accounts.call, "x", Deposit(1))
            await settled()
            assert w.net["b"].table.names.get("account/x") is None
            await w.ask("b", "account", UnpackShard(shard, 2, b""))
        assert w.net["b"].table.names.get("account/x") is not None
        assert await w.on("a", travellers.call, "x", Deposit(1), timeout=100.0) == 1


async def test_luggage_may_be_there_first():
    """It is unpacked when the placement says that the shard is here."""
    async with world("ab", *ALL) as w:
        shard = shard_of(w, "account", "x")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.ask, "b", "account", UnpackShard(shard, 2, b""))
            await settled()
            w.stores["b"].claim({shard: 2})
            w.own(shard, "b", 2)
            w.tell()
        assert await w.on("a", accounts.call, "x", Deposit(1)) == 1


async def test_records_are_verified_before_they_are_served():
    """Every record is decoded and applied as on a start; what would not start is told."""
    async with world("ab", *ALL) as w:
        for key in "xyz":
            await w.on("b", accounts.call, key, Deposit(1))
        store, table = w.stores["a"], w.net["a"].table
        keys = [key for shard in range(2) for key in store.shard_keys(shard)]
        assert sorted(keys) == ["account/x", "account/y", "account/z"]
        await w.on("a", verify, table, store, keys)
        with pytest.raises(Misuse, match="run its region here"):
            await w.on("a", verify, table, store, ["wallet/x"])
        with pytest.raises(Misuse, match="run the same classes"):
            await w.on("a", verify, table, store, ["counter/x"])
        apply, Account.apply = Account.apply, lambda self, state, event: 1 // 0  # type: ignore[assignment, method-assign, return-value]  # it must fail
        try:
            with pytest.raises(ReplayFailed):
                await w.on("a", verify, table, store, keys)
        finally:
            Account.apply = apply  # type: ignore[method-assign]  # as it was
