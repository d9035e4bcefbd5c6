"""Shards that move between nodes, with what their entities have in memory: nobody notices."""

from __future__ import annotations

import pytest
import trio

from runtime import (
    NOCONNECTION,
    CallTimeout,
    Down,
    Exit,
    Pid,
    call,
    cast,
    exit,
    link,
    monitor,
    receive,
    send,
    send_after,
    spawn,
)
from runtime.durable.session import Session
from supervisors import region
from supervisors.shards.luggage import SnapshotShard
from tests.support.linked import settled
from tests.unit.supervisors.shards.entities import Account, Counter, Deposit, End, Give
from tests.unit.supervisors.shards.movers import World, world
from tests.unit.supervisors.shards.travellers import (
    Cancel,
    Ledger,
    Log,
    Nap,
    Say,
    Set,
    Table,
    Traveller,
    Wait,
    Watch,
)

accounts, counters, travellers = region("account"), region("counter"), region("traveller")
ledgers, tables = region("ledger"), region("table")
BOTH = (region("account", Account), region("counter", Counter))
TRAVELLERS = region("traveller", Traveller)
KEYS = ("ann", "bob", "cat", "dan")


async def move_all(w: World, target: str) -> None:
    """Move every shard."""
    for shard in range(w.placement.shards):
        assert await w.move(shard, target)


async def test_a_durable_entity_goes_on_where_its_shard_is():
    """After a move its state, its memory of commands and its senders are at the new owner; nothing is lost."""
    async with world("abc", *BOTH) as w:
        for key in KEYS:
            for node in "abc":
                await w.on(node, accounts.call, key, Deposit(1))
        await move_all(w, "b")
        for key in KEYS:
            assert [await w.on(node, accounts.call, key, Deposit(1)) for node in "abc"] == [4, 5, 6]
        assert w.net["a"].table.names.get("account/ann") is None
        assert w.net["b"].table.names.get("account/ann") is not None
        await move_all(w, "c")
        await move_all(w, "a")
        for key in KEYS:
            assert [await w.on(node, accounts.call, key, Deposit(1)) for node in "abc"] == [7, 8, 9]


async def test_who_has_nothing_to_do_is_started_when_it_is_asked():
    """A move starts those whom somebody watches and those that begin by themselves; the others begin when asked."""
    async with world("ab", *BOTH, region("table", Table)) as w:
        for key in ("ann", "bob"):
            await w.on("a", accounts.call, key, Deposit(1))
        await w.on("a", tables.start, "oak")
        watched = await w.on("a", accounts.start, "bob")
        names = w.net["b"].table.names

        async def watch() -> None:
            monitor(watched)
            await move_all(w, "b")
            await settled()
            assert ("account/ann" in names, "account/bob" in names, "table/oak" in names) == (False, True, True)

        await w.net["a"].run(watch)
        assert await w.on("a", accounts.call, "ann", Deposit(1)) == 2
        assert "account/ann" in names


async def test_snapshots_are_kept_before_a_move():
    """Who runs and has many entries behind its last snapshot keeps one, so that it recovers quickly where it goes."""
    async with world("ab", *BOTH) as w:
        for key, times in (("x", 20), ("y", 3)):
            for _ in range(times):
                await w.on("a", accounts.call, key, Deposit(1))
        for shard in range(2):
            for name in w.regions:
                await w.ask("a", name, SnapshotShard(shard, 10))
        await settled()
        kept = [w.stores["a"].load(f"account/{key}")[0] for key in "xy"]
        assert [one.sequence if one is not None else None for one in kept] == [20, None]
        await move_all(w, "b")
        assert [await w.on("a", accounts.call, key, Deposit(1)) for key in "xy"] == [21, 4]


async def test_a_volatile_journal_goes_with_its_process():
    """State and table of numbered commands of a volatile EventSourced process travel, so a repeat is told apart."""
    async with world("ab", region("ledger", Ledger)) as w:
        session = Session("me")

        async def ask(amount: int) -> object:
            return await session.command(ledgers.entity("x"), Deposit(amount))

        assert await w.on("a", ask, 5) == 5
        assert await w.on("a", ledgers.call, "x", Deposit(1)) == 6
        await move_all(w, "b")
        assert await w.on("b", ledgers.call, "x", Deposit(1)) == 7
        again = Session("me")

        async def repeat() -> object:
            return await again.command(ledgers.entity("x"), Deposit(5))

        assert await w.on("b", repeat) == 5
        assert await w.on("a", ledgers.call, "x", Deposit(1)) == 8


async def test_a_volatile_process_without_hooks_begins_anew():
    """A GenServer that hands nothing over ends, which is told, and begins anew at the next owner."""

    async def watch(w: World) -> object:
        pid = await counters.start("x")
        assert await counters.call("x", Deposit(1)) == 1
        ref = monitor(pid)
        await w.move(0, "b")
        await w.move(1, "b")
        down = await receive(lambda m: isinstance(m, Down))
        assert down.ref is ref
        return await counters.call("x", Deposit(1))

    async with world("ab", *BOTH) as w:
        assert await w.on("a", watch, w) == 1


async def test_what_is_handed_over_is_taken_over():
    """A process with the hooks goes on with all it had, as often as it moves."""
    async with world("abc", TRAVELLERS) as w:
        for number, target in enumerate("bcab"):
            assert await w.on("c", travellers.call, "x", Deposit(number)) == number + 1
            await move_all(w, target)
        assert await w.on("a", travellers.call, "x", Log()) == (0, 1, 2, 3)


async def test_callers_who_wait_get_their_reply_from_there():
    """A reply that was owed is given by the process that goes on: by the region, from here, by a pid, from afar."""
    async with world("abc", TRAVELLERS) as w:
        replies: list[tuple[str, object]] = []
        pid = await w.on("a", travellers.start, "x")

        async def ask(node: str, how: str) -> None:
            here = w.net[node].dist.pid_of(pid.node, pid.creation, pid.number) if node != "a" else pid
            waits = travellers.call("x", Wait()) if how == "region" else call(here, Wait())
            replies.append((f"{node} {how}", await waits))

        async with trio.open_nursery() as nursery:
            for node in "abc":
                for how in ("region", "pid"):
                    nursery.start_soon(w.on, node, ask, node, how)
            await settled()
            await move_all(w, "b")
            await settled()
            assert replies == []
            await move_all(w, "c")
            await w.on("a", travellers.cast, "x", Say(7))
        assert sorted(replies) == [(f"{node} {how}", 7) for node in "abc" for how in ("pid", "region")]


@pytest.mark.parametrize("kind", ["once", "again", "timeout"])
async def test_a_timer_goes_with_its_process(kind):
    """A timer that was set before is due after the move, under the same handle and reference, once."""
    async with world("ab", TRAVELLERS) as w:
        await w.on("a", travellers.call, "x", Set(kind, 2.0))
        await trio.sleep(1.0)  # virtual
        await move_all(w, "b")
        assert await w.on("a", travellers.call, "x", Log()) == ()
        await trio.sleep(1.5)  # virtual
        due = {"once": "once", "again": "again", "timeout": ("due", True)}[kind]
        assert await w.on("a", travellers.call, "x", Log()) == (due,)
        if kind == "again":
            await trio.sleep(2.0)  # virtual
            assert await w.on("a", travellers.call, "x", Log()) == (due, due)
            left = await w.on("a", travellers.call, "x", Cancel())
            assert left is not None
            await trio.sleep(10.0)  # virtual
            assert await w.on("a", travellers.call, "x", Log()) == (due, due)


async def test_a_timer_that_is_due_while_its_shard_moves_comes_once():
    """It fires in the mailbox of the frozen process and is packed: one of the two counts."""
    for before in (True, False):
        async with world("ab", TRAVELLERS) as w:
            await w.on("a", travellers.call, "x", Set("once", 1.0))
            shard = w.net["a"].table.names["region/traveller"].behaviour.outward.shard_of("x")
            assert await w.freeze("a", shard)
            if before:
                await trio.sleep(2.0)  # virtual
            packed = await w.seal("a", shard)
            if not before:
                await trio.sleep(2.0)  # virtual
            await w.copy("a", "b", shard)
            pids = await w.arrive("b", shard, packed)
            await w.retire("a", shard, pids)
            await trio.sleep(5.0)  # virtual
            assert await w.on("a", travellers.call, "x", Log()) == ("once",)


async def test_a_monitor_goes_with_its_process():
    """What a process monitors it monitors after the move, by the same reference, wherever that is."""

    async def sleep() -> None:
        await trio.sleep_forever()

    async def spawned() -> Pid:
        return spawn(sleep)

    async def end(pid: Pid) -> None:
        exit(pid, "enough")

    async with world("abc", TRAVELLERS) as w:
        pids = {node: await w.on(node, spawned) for node in "abc"}
        for pid in pids.values():
            await w.on("a", travellers.call, "x", Watch(w.net["a"].dist.pid_of(pid.node, pid.creation, pid.number)))
        await move_all(w, "b")
        await settled()
        assert await w.on("a", travellers.call, "x", Log()) == ()
        for node, pid in pids.items():
            await w.on(node, end, pid)
        await settled()
        assert await w.on("a", travellers.call, "x", Log()) == (("down", True, "enough"),) * 3


async def test_a_durable_process_takes_its_memory_along():
    """`take_over` runs in place of `recovered`, and volatile timers go with it; the state is the journal's."""
    async with world("ab", region("table", Table)) as w:
        assert await w.on("a", tables.call, "x", Deposit(3)) == 3
        await w.on("a", tables.call, "x", Set("once", 2.0))
        await w.on("a", tables.send, "x", 5)
        await move_all(w, "b")
        assert await w.on("a", tables.call, "x", Log()) == ("taken over", 5)
        await trio.sleep(3.0)  # virtual
        assert await w.on("a", tables.call, "x", Log()) == ("taken over", 5, "once")
        assert await w.on("a", tables.call, "x", Deposit(3)) == 6


# -- who hangs on a process ------------------------------------------------------------------------------


async def test_a_move_raises_no_down_and_no_exit():
    """Links and monitors of a process hold over moves; its end is told with its reason, under the pid they know."""
    async with world("abc", *BOTH, TRAVELLERS) as w:
        for name, entities, reason in (("account", accounts, "enough"), ("traveller", travellers, "over")):
            pid = await w.on("a", entities.start, "x")
            told: list[object] = []
            ready = {node: trio.Event() for node in "abc"}

            async def hang(node: str, pid: Pid = pid, told: list[object] = told, ready: object = ready) -> None:
                here = w.net[node].dist.pid_of(pid.node, pid.creation, pid.number)
                ref = monitor(here)
                link(here)
                ready[node].set()
                down = await receive(lambda m: isinstance(m, Down))
                gone = await receive(lambda m: isinstance(m, Exit))
                told.append((node, down.ref is ref, down.reason, gone.source == pid, gone.reason))

            async with trio.open_nursery() as nursery:
                for node in "abc":
                    nursery.start_soon(run_trapping, w, node, hang, node)
                    await ready[node].wait()
                await settled()
                for target in "bca":
                    await move_all(w, target)
                    await settled()
                await move_all(w, "b")
                await settled()
                assert told == []
                process = w.net["b"].table.names[f"{name}/x"]
                if name == "account":
                    process.exit_signal(process.pid, "enough")
                else:
                    await w.on("c", travellers.cast, "x", End())
            assert sorted(told) == [(node, True, reason, True, reason) for node in "abc"]
            await move_all(w, "a")


async def run_trapping(w: World, node: str, function: object, *args: object) -> None:
    """Run a function as a process that traps exits."""
    await w.net[node].run(function, *args, trap=True)


async def test_an_old_pid_leads_to_its_entity():
    """Messages, casts, calls, timers and new monitors by an old pid reach the process that goes on."""
    async with world("abc", TRAVELLERS) as w:
        pid = await w.on("a", travellers.start, "x")
        await move_all(w, "b")
        await move_all(w, "c")

        async def test(node: str) -> None:
            here = w.net[node].dist.pid_of(pid.node, pid.creation, pid.number)
            await send(here, f"sent from {node}")
            await cast(here, Give(1))
            send_after(0.5, here, f"timed from {node}")
            await trio.sleep(1.0)  # virtual
            assert (await call(here, Log()))[-3:] == (f"sent from {node}", 1, f"timed from {node}")
            ref = monitor(here)
            await trio.sleep(5.0)  # virtual
            await travellers.cast("x", End())
            down = await receive(lambda m: isinstance(m, Down))
            assert (down.ref is ref, down.reason) == (True, "over")

        await w.on("a", test, "a")
        pid = await w.on("b", travellers.start, "x")
        await move_all(w, "a")
        await w.on("c", test, "c")


async def test_a_stand_in_goes_when_nobody_needs_it():
    """It stays a while for who has the pid, and for as long as somebody is linked or watches; then the pid is dead."""
    async with world("ab", TRAVELLERS) as w:
        table = w.net["a"].table
        pids = [await w.on("a", travellers.start, key) for key in KEYS]
        held = trio.Event()

        async def hold() -> None:
            monitor(pids[0])
            await held.wait()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.on, "a", hold)
            await settled()
            await move_all(w, "b")
            await trio.sleep(30.0)  # virtual
            assert all(pid._process is not None for pid in pids)
            await trio.sleep(60.0)  # virtual
            assert [pid._process is not None for pid in pids] == [True, False, False, False]
            assert [pid.number in table.processes for pid in pids] == [True, False, False, False]
            held.set()
        await trio.sleep(60.0)  # virtual
        assert pids[0]._process is None


async def test_the_loss_of_the_node_where_it_went_is_told():
    """If the way there is lost, links, monitors and callers of the old pid are told NOCONNECTION."""
    async with world("ab", TRAVELLERS) as w:
        pid = await w.on("a", travellers.start, "x")

        async def watch() -> object:
            ref = monitor(pid)
            await move_all(w, "b")
            await trio.sleep(1.0)  # virtual
            w.net.cut("a", "b")
            down = await receive(lambda m: isinstance(m, Down))
            assert down.ref is ref
            return down.reason

        assert await w.on("a", watch) is NOCONNECTION


# -- order -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entities", ["traveller", "account"])
async def test_order_holds_over_a_move(entities):
    """What one sender sends by the region comes in its order, whatever goes the near way, waits, or is held."""
    given = region(entities)
    async with world("abc", *BOTH, TRAVELLERS, region("table", Table)) as w:
        for seed in range(3):
            key = f"k{seed}"
            shard = w.net["a"].table.names[f"region/{entities}"].behaviour.outward.shard_of(key)
            await w.on("a", given.start, key)
            sent: dict[str, list[int]] = {node: [] for node in "abc"}
            source = w.placement.rows[shard][0]
            target = "b" if source != "b" else "c"

            async def talk(node: str, key: str = key, sent: object = sent) -> None:
                for number in range(60):
                    value = "abc".index(node) * 1000 + number
                    sent[node].append(value)
                    if entities == "account" or number % 3:
                        await given.cast(key, Give(value))
                    else:
                        await given.send(key, value)
                    if number % 7 == 0:
                        await trio.sleep(0.001)  # virtual

            async with trio.open_nursery() as nursery:
                for node in "abc":
                    nursery.start_soon(w.on, node, talk, node)
                await trio.sleep(0.003)  # virtual
                assert await w.move(shard, target)
            await trio.sleep(1.0)  # virtual
            if entities == "account":
                store = w.stores[target]
                got = [event.amount for event in events_of(store, f"account/{key}")]
            else:
                got = list(await w.on("a", given.call, key, Log()))
            assert sorted(got) == sorted(value for values in sent.values() for value in values)
            for values in sent.values():
                assert [value for value in got if value in values] == values


def events_of(store: object, key: str) -> list[object]:
    """All events of a key."""
    from runtime.durable.recovery import outcome_of

    one = Account()
    return [event for entry in store.read(key) for event in outcome_of(one, entry)[0]]


# -- moves that are given up -------------------------------------------------------------------------------


async def test_a_busy_entity_is_not_waited_for_longer_than_the_budget():
    """Over the budget all goes on as before, with nothing lost; in time it moves."""
    async with world("ab", TRAVELLERS) as w:
        shard = w.net["a"].table.names["region/traveller"].behaviour.outward.shard_of("x")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.on, "a", travellers.call, "x", Nap(1.0))
            await settled()
            for number in range(5):
                await w.on("b", travellers.cast, "x", Give(number))
            assert not await w.move(shard, "b")
            await w.on("b", travellers.cast, "x", Give(5))
        assert await w.on("b", travellers.call, "x", Log()) == (0, 1, 2, 3, 4, 5)
        assert w.net["a"].table.names.get("traveller/x") is not None
        assert await w.move(shard, "b")
        assert await w.on("b", travellers.call, "x", Log()) == (0, 1, 2, 3, 4, 5)


async def test_who_freezes_and_ends_thaws():
    """If the process that moves a shard ends, the shard goes on where it is."""
    async with world("ab", *BOTH) as w:
        assert await w.on("b", accounts.call, "x", Deposit(1)) == 1
        for shard in range(2):
            assert await w.freeze("a", shard)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.on, "b", accounts.call, "x", Deposit(1))
            await settled()
            for carrier in w.carriers.values():
                w.net["a"].table.processes[carrier.number].interrupt("ended")
        assert await w.on("b", accounts.call, "x", Deposit(1)) == 3


async def test_after_a_seal_it_goes_on_under_a_higher_epoch():
    """A move that is given up after the seal: entities, links and monitors go on; only the epoch is another."""
    from supervisors.shards.luggage import ThawShard

    async with world("ab", *BOTH, TRAVELLERS) as w:
        pids = [await w.on("a", entities.start, "x") for entities in (accounts, travellers)]
        assert await w.on("b", accounts.call, "x", Deposit(1)) == 1
        assert await w.on("b", travellers.call, "x", Deposit(1)) == 1
        for shard in range(2):
            assert await w.freeze("a", shard)
            await w.seal("a", shard)
            w.own(shard, "a", 2)
            w.stores["a"].claim({shard: 2})
            w.tell()
            await settled()
            for name in w.regions:
                await w.ask("a", name, ThawShard(shard, 2))
        assert await w.on("b", accounts.call, "x", Deposit(1)) == 2
        assert await w.on("b", travellers.call, "x", Deposit(1)) == 2
        assert [await w.on("a", entities.start, "x") for entities in (accounts, travellers)] == pids
        for shard in range(2):
            assert await w.move(shard, "b")
        assert await w.on("a", accounts.call, "x", Deposit(1)) == 3


async def test_nobody_waits_who_cannot_be_answered():
    """A caller who leaves while its shard is frozen is not answered, and what it asked is done at most once."""
    async with world("ab", *BOTH) as w:
        assert await w.on("a", accounts.call, "x", Deposit(1)) == 1
        for shard in range(2):
            assert await w.freeze("a", shard)
        for node in "ab":

            async def ask() -> None:
                with pytest.raises(CallTimeout):
                    await accounts.call("x", Deposit(10), timeout=0.5)

            await w.on(node, ask)
        for shard in range(2):
            packed = await w.seal("a", shard)
            await w.copy("a", "b", shard)
            await w.retire("a", shard, await w.arrive("b", shard, packed))
        assert (await w.on("a", accounts.call, "x", Deposit(1))) % 10 == 2
