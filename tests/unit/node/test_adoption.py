"""A dead node's store is adopted by a peer at an operator's word: its shards are served, and it gets them back."""

from __future__ import annotations

from typing import Any

import trio

from runtime import KILL, Delivery, DurableTimer, EventSourced, exit, message, periodic
from runtime.backends.memory import MemoryDisk, MemoryJournal
from runtime.cluster.shards import shard_of
from runtime.cluster.view import node_facts
from runtime.durable.staging import ERASING, stage_of
from runtime.observe import past
from runtime.observe.recorder import recorder_of
from supervisors import Supervisor, region
from supervisors.node.adoption import ADOPTER
from supervisors.shards.rebalancer import drained
from tests.support.clusters import Machines, clustered
from tests.unit.node.test_cluster import Till
from tests.unit.node.test_steering import SHARDS, TILLS, Room, in_room


@message("node.adoption.ring")
class Ring:
    """The time has come."""


@message("node.adoption.done")
class Done:
    """What it owed was paid."""


@message("node.adoption.set")
class WasSet:
    """When it is to ring, in seconds since the Unix epoch."""

    due: float


class Clock(EventSourced[tuple[float, str], Any]):
    """Rings after so many seconds, and pays 1 into a till then."""

    def initial(self, key: str) -> tuple[float, str]:
        return 0.0, ""

    def handle(self, state: tuple[float, str], command: Any) -> Any:
        return (WasSet(self.world.wall() + command) if isinstance(command, float) else command), None

    def apply(self, state: tuple[float, str], event: Any) -> tuple[float, str]:
        match event:
            case WasSet(due):
                return due, "set"
            case Ring():
                return state[0], "rang"
            case _:
                return state[0], "paid"

    def timers(self, state: tuple[float, str]) -> Any:
        return [DurableTimer("ring", state[0], Ring())] if state[1] == "set" else []

    def pending(self, state: tuple[float, str]) -> Any:
        till = region("till").entity(f"of-{self.key}")
        return [Delivery(1, till, 1, settled=Done())] if state[1] == "rang" else []


class Meter(Till):
    """Saves now and then, and at its end."""

    durability = periodic(3600.0)
    trap_exit = True


class Clocks(Supervisor):
    """Clocks that are remembered, tills, and meters."""

    intensity = 10

    def init(self) -> Any:
        return [region("till", Till), region("meter", Meter), region("clock", Clock, remember=True)]


async def begin(room: Room, *names: str, **more: Any) -> None:
    """Start nodes, each with a directory that others find, and wait until they have met."""
    for name in names:
        node = await room.machines.start(name, data=f"/{name}", shards=SHARDS, **{"rebalance": False, **more})
        recorder_of(node.table)  # from now on it keeps what crashes
    await room.machines.until(lambda: all(room.met(name, names) for name in names))


async def lose(room: Room, name: str, *seen_by: str) -> None:
    """Kill a node, and wait until the others see it as down."""
    await room.machines.kill(name)
    await room.machines.until(lambda: all(room.machines.states(one)[name] == "down" for one in seen_by))


def adopted(room: Room, by: str) -> list[str]:
    """Whose shards a node serves."""
    return [fact.name for fact in node_facts(room.machines.nodes[by].table) if fact.adopted]


def crashes(room: Room, name: str) -> set[str]:
    """Which kinds of processes have crashed on a node."""
    return {report.label for report in recorder_of(room.machines.nodes[name].table).crashes(None, 100)}


def adopt(node: str) -> Any:
    """The order."""
    return lambda at: at.adopt(node, undo=False)


def give_back(node: str) -> Any:
    """Its undoing."""
    return lambda at: at.adopt(node, undo=True)


def test_a_dead_nodes_shards_are_served_by_a_peer_and_given_back() -> None:
    """What it acknowledged is there, what is paid meanwhile is there when it is back, and nobody had to wait long."""

    async def scenario(room: Room) -> None:
        await begin(room, "a", "b", "c")
        await room.pay("a")
        mine, lost = room.owned("a"), room.owned("b")
        await lose(room, "b", "a", "c")
        told = await room.steer("a", adopt("b"))
        assert told == {"node": "b", "by": "a", "data": "/b", "shards": len(lost)}
        assert room.owned("a") == sorted([*mine, *lost])
        assert (adopted(room, "a"), adopted(room, "c")) == (["b"], [])
        assert await room.pay("c") == dict.fromkeys(TILLS, 2)
        assert await room.pay("a") == dict.fromkeys(TILLS, 3)
        own = room.machines.nodes["a"].journal
        assert own is not None
        assert all(not own.fence(shard).written for shard in lost)
        assert (await room.steer("a", give_back("b")))["shards"] == len(lost)
        assert room.owned("a") == mine
        assert adopted(room, "a") == []
        await room.machines.start("b", data="/b", shards=SHARDS, rebalance=False)
        await room.machines.until(lambda: room.owned("b") == lost)
        assert await room.pay("c") == dict.fromkeys(TILLS, 4)
        assert await room.pay("b") == dict.fromkeys(TILLS, 5)

    in_room(scenario)


def test_what_cannot_be_adopted_is_refused_with_what_to_do() -> None:
    """Unknown is 4; up, suspect, itself, adopted already, in use, with relaxed state, without a store: 5 and why."""

    async def scenario(room: Room) -> None:
        await begin(room, "a", "b", "c")
        await room.machines.start("d", shards=SHARDS)

        async def refused(node: str, at: str = "a", undo: bool = False) -> tuple[int, str]:
            refusal = await room.refused(at, give_back(node) if undo else adopt(node))
            assert refusal.next
            return refusal.code, refusal.why

        assert await refused("nobody") == (4, "there is no node 'nobody' in this cluster")
        assert await refused("a") == (5, "it is the node that was asked")
        assert await refused("b") == (5, "it is up")
        assert await refused("b", undo=True) == (5, "a has not adopted it")
        await room.machines.kill("b")
        await room.machines.until(lambda: room.machines.nodes["a"].table.services["membership"].nodes()["b"][2] != "up")  # type: ignore[attr-defined]  # the membership
        assert await refused("b") == (5, "it is suspect: perhaps it lives")
        await room.machines.until(lambda: room.machines.states("a")["b"] == "down")
        assert await refused("b", at="d") == (5, "d keeps nothing: it has no data directory")
        await lose(room, "d", "a", "c")
        assert await refused("d") == (5, "it kept nothing")
        still = MemoryJournal(room.machines.disks["/b"], node="b")
        assert await refused("b") == (5, "another process has /b open: it lives, or stands still")
        still.set_meta("relaxed", b"1")
        still.close()
        assert await refused("b") == (5, "it keeps relaxed state as well, which cannot be adopted")
        del room.machines.disks["/b"].meta["relaxed"]
        kept, room.machines.disks["/b"] = room.machines.disks["/b"], MemoryDisk("/b")
        assert await refused("b") == (5, "/b holds another store than the one that it had")
        room.machines.disks["/b"] = kept
        shard = room.machines.nodes["a"].table.services["membership"].placement.row  # type: ignore[attr-defined]  # the membership
        lost = next(one for one in range(SHARDS) if shard(one)[1].owner == "b")
        kept.meta[stage_of(lost)] = ERASING
        assert await refused("b") == (5, f"shard {lost} was being erased there")
        del kept.meta[stage_of(lost)]
        await room.steer("a", adopt("b"))
        assert await refused("b") == (5, "a has adopted it already")
        assert await refused("b", at="c") == (5, "another process has /b open: it lives, or stands still")

    in_room(scenario)


def test_an_adopter_that_dies_leaves_all_as_it_was() -> None:
    """The lock is free with it: another node may adopt the store, or its own node begins on it."""

    async def scenario(room: Room) -> None:
        await begin(room, "a", "b", "c")
        await room.pay("a")
        lost = room.owned("b")
        await lose(room, "b", "a", "c")
        await room.steer("a", adopt("b"))
        assert await room.pay("c") == dict.fromkeys(TILLS, 2)
        await lose(room, "a", "c")
        await room.steer("c", adopt("b"))
        await room.steer("c", adopt("a"))
        assert room.owned("c") == list(range(SHARDS))
        assert await room.pay("c") == dict.fromkeys(TILLS, 3)
        await lose_all(room, "c")
        for name in "abc":
            await room.machines.start(name, data=f"/{name}", shards=SHARDS, rebalance=False)
        await room.machines.until(lambda: room.owned("b") == lost)
        assert await room.pay("a") == dict.fromkeys(TILLS, 4)

    in_room(scenario)


async def lose_all(room: Room, *names: str) -> None:
    """Kill nodes of which nobody is left to see it."""
    for name in names:
        await room.machines.kill(name)


def test_crashes_of_membership_adopter_and_writer() -> None:
    """The first two go on with what is adopted; without its writer a store is given up, and can be adopted again."""

    async def scenario(room: Room) -> None:
        await begin(room, "a", "b")
        await room.pay("a")
        lost = room.owned("b")
        await lose(room, "b", "a")
        await room.steer("a", adopt("b"))
        table = room.machines.nodes["a"].table
        for number, name in enumerate(("membership", ADOPTER), 2):
            before = table.names[name]
            exit(before.pid, KILL)
            await room.machines.until(lambda n=name, b=before: table.names.get(n) not in (None, b))
            await room.machines.until(lambda: room.owned("a") == list(range(SHARDS)))
            assert await room.pay("a") == dict.fromkeys(TILLS, number)
        (writer,) = [name for name in table.names if str(name).startswith("journal.b")]
        exit(table.names[writer].pid, KILL)
        await room.machines.until(lambda: not set(lost) & set(room.owned("a")))
        await room.steer("a", adopt("b"))
        assert await room.pay("a") == dict.fromkeys(TILLS, 4)
        room.machines.disks["/b"].broken = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(room.pay, "a")
            await room.machines.until(lambda: not set(lost) & set(room.owned("a")))
            refusal = await room.refused("a", adopt("b"))
            assert (refusal.code, "the simulated disk is broken" in refusal.why) == (5, True)
            room.machines.disks["/b"].broken = False
            await room.steer("a", adopt("b"))
        assert await room.pay("a") == dict.fromkeys(TILLS, 6)
        assert crashes(room, "a") == {"Membership", "Adopter", "JournalWriter"}

    in_room(scenario)


def test_an_adopted_shard_does_not_move_and_hinders_no_drain() -> None:
    """It is refused, nobody plans it, and a node that ends gives away all of its own and leaves it to its node."""

    async def scenario(room: Room) -> None:
        await begin(room, "a", "b", "c", rebalance=True)
        await room.pay("a")
        mine, lost = room.owned("a"), room.owned("b")
        await lose(room, "b", "a", "c")
        await room.steer("a", adopt("b"))
        for ask in (lambda at: at.move(lost[0], "c"), lambda at: at.forecast(lost[0], "c")):
            refusal = await room.refused("a", ask)
            assert (refusal.code, refusal.why) == (5, f"shard {lost[0]} lies in a store that a has adopted")
        planned = (await room.steer("a", lambda at: at.plan()))["moves"]
        assert not set(lost) & {one["shard"] for one in planned}
        await room.steer("a", lambda at: at.drain("a", on=True))
        await room.machines.until(lambda: room.owned("a") == lost)
        assert set(mine) <= set(room.owned("c"))
        (stands,) = [one for one in (await room.steer("c", lambda at: at.moves(None)))["nodes"] if one["node"] == "a"]
        assert stands["owned"] == len(lost)
        assert stands["why"] == f"{len(lost)} shards lie in stores that it has adopted: give these back"
        assert await room.pay("c") == dict.fromkeys(TILLS, 2)
        began = trio.current_time()
        assert await room.machines.at("a", drained, room.machines.nodes["a"].table) == stands["why"]
        assert trio.current_time() - began < 5

    in_room(scenario)


def test_a_shard_that_was_won_and_not_settled_is_served() -> None:
    """A node that died right after a move to it has the shard staged: who adopts it ends that as the node would."""
    from supervisors.shards.mover_target import TargetWork

    async def scenario(room: Room) -> None:
        await begin(room, "a", "b", "c")
        await room.pay("a")
        shard = room.owned("a")[0]
        settled = TargetWork._serve

        async def never(self: Any, epoch: int, luggage: Any) -> Any:
            await room.machines.until(lambda: False, 1000.0)

        TargetWork._serve = never  # type: ignore[method-assign]  # it dies there
        try:
            await room.steer("a", lambda at: at.move(shard, "b"))
            await room.machines.until(
                lambda: room.machines.nodes["b"].table.services["membership"].placement.row(shard)[1].owner == "b"  # type: ignore[attr-defined]  # the membership
            )
            journal = room.machines.nodes["b"].journal
            assert journal is not None
            assert shard in journal.staged()
            await lose(room, "b", "a", "c")
        finally:
            TargetWork._serve = settled  # type: ignore[method-assign]  # as it was
        await room.steer("c", adopt("b"))
        assert await room.pay("a") == dict.fromkeys(TILLS, 2)
        await room.steer("c", give_back("b"))
        await room.machines.start("b", data="/b", shards=SHARDS, rebalance=False)
        await room.machines.until(lambda: shard in room.owned("b"))
        assert await room.pay("c") == dict.fromkeys(TILLS, 3)

    in_room(scenario)


def test_who_pays_all_the_time_is_answered_exactly() -> None:
    """Over a kill, an adoption, a return and another adoption each payment counts once and in order, whoever dies."""

    async def scenario(room: Room) -> None:
        machines = room.machines
        await begin(room, "a", "b", "c")
        lost = room.owned("b")
        key = next(key for key in TILLS if shard_of("till", key, SHARDS) in lost)
        paid: list[int] = []

        async def payer() -> None:
            while True:
                paid.append(await region("till").call(key, 1, timeout=200.0))
                await trio.sleep(0.01)  # virtual

        async with trio.open_nursery() as nursery:
            nursery.start_soon(machines.at, "c", payer)
            for _ in range(2):
                before = len(paid)
                await machines.until(lambda n=before: len(paid) > n + 10)
                await lose(room, "b", "a", "c")
                before = len(paid)
                await room.steer("a", adopt("b"))
                await machines.until(lambda n=before: len(paid) > n + 10)
                await room.steer("a", give_back("b"))
                assert recorder_of(machines.nodes["a"].table).crashed == 0
                await machines.start("b", data="/b", shards=SHARDS, rebalance=False)
                await machines.until(lambda: room.owned("b") == lost)
            before = len(paid)
            await machines.until(lambda n=before: len(paid) > n + 10)
            nursery.cancel_scope.cancel()
        assert paid == list(range(1, len(paid) + 1))

    in_room(scenario)


def test_timers_deliveries_and_memory_of_an_adopted_shard() -> None:
    """What is remembered is started at the adopter; its durable timer rings there, and what it owes is delivered."""

    async def scenario(machines: Machines) -> None:
        room = Room(machines)
        await begin(room, "a", "b")
        lost = room.owned("b")
        keys = [key for key in TILLS if shard_of("clock", key, SHARDS) in lost][:3]
        assert keys

        async def order() -> None:
            for key in keys:
                await region("clock").call(key, 30.0)

        await machines.at("a", order)
        await lose(room, "b", "a")
        await room.steer("a", adopt("b"))

        async def rung() -> dict[str, int]:
            return {key: await region("till").call(f"of-clock/{key}", 0) for key in keys}

        await trio.sleep(60)  # virtual
        assert await machines.at("a", rung) == dict.fromkeys(keys, 1)
        await room.steer("a", give_back("b"))
        await machines.start("b", data="/b", shards=SHARDS, rebalance=False)
        await trio.sleep(60)  # virtual
        assert await machines.at("b", rung) == dict.fromkeys(keys, 1)

    clustered(scenario, Clocks)


def test_the_past_of_an_adopted_entity_is_told() -> None:
    """`log` and `at` read the store in which its entries lie."""

    async def scenario(room: Room) -> None:
        await begin(room, "a", "b")
        await room.pay("a")
        lost = room.owned("b")
        key = next(key for key in TILLS if shard_of("till", key, SHARDS) in lost)
        await lose(room, "b", "a")
        await room.steer("a", adopt("b"))
        await room.pay("a")
        table = room.machines.nodes["a"].table
        assert past.log(table, f"till/{key}").last == 2
        assert (await past.at(table, f"till/{key}", 1)).text == "1"

    in_room(scenario)


def test_what_saves_at_its_end_has_saved_when_a_store_is_given_back() -> None:
    """The store is let go of when the last process of its shards has ended, and not before."""

    async def scenario(machines: Machines) -> None:
        room = Room(machines)
        await begin(room, "a", "b")
        lost = room.owned("b")
        keys = [key for key in TILLS if shard_of("meter", key, SHARDS) in lost]
        assert keys

        async def pay() -> list[Any]:
            return [await region("meter").call(key, 1) for key in keys]

        await lose(room, "b", "a")
        await room.steer("a", adopt("b"))
        assert await machines.at("a", pay) == [1] * len(keys)
        await room.steer("a", give_back("b"))
        await machines.start("b", data="/b", shards=SHARDS, rebalance=False)
        assert await machines.at("a", pay) == [2] * len(keys)

    clustered(scenario, Clocks)
