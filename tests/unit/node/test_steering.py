"""What an operator asks of any node about moves, in whole clusters under the seeded World: done there, or refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from runtime.observe.protocol import Refusal
from supervisors import Supervisor, region
from supervisors.node.steering import ShardSteering
from supervisors.shards.rebalancer import facts_of
from tests.support.clusters import Machines, clustered
from tests.unit.node.test_cluster import Till

SHARDS = 8
TILLS = [f"t{number}" for number in range(24)]


class Shop(Supervisor):
    """Tills that are found anywhere."""

    intensity = 10

    def init(self) -> Any:
        return [region("till", Till)]


class Room:
    """A cluster whose nodes can be steered; nothing moves by itself, unless it is told to."""

    def __init__(self, machines: Machines) -> None:
        self.machines = machines

    async def open(self, *names: str, **more: Any) -> None:
        """Start nodes that keep data, and wait until they have met."""
        for name in names:
            await self.machines.start(name, data=name, shards=SHARDS, **{"rebalance": False, **more})
        await self.machines.until(lambda: all(self.met(name, names) for name in names))

    def met(self, name: str, names: tuple[str, ...]) -> bool:
        """Whether a node sees the others up and knows who owns each shard."""
        membership: Any = self.machines.nodes[name].table.services["membership"]
        seen = {one for one, state in self.machines.states(name).items() if state == "up"}
        return seen >= set(names) - {name} and all(membership.owner(shard) for shard in range(SHARDS))

    def owned(self, name: str) -> list[int]:
        """The shards that a node serves."""
        membership: Any = self.machines.nodes[name].table.services["membership"]
        return [shard for shard in range(SHARDS) if membership.serves(shard) is not None]

    async def steer(self, name: str, ask: Callable[[ShardSteering], Awaitable[Any]]) -> Any:
        """What a node says to an operator."""
        return await self.machines.at(name, ask, ShardSteering(self.machines.nodes[name].table))

    async def refused(self, name: str, ask: Callable[[ShardSteering], Awaitable[Any]]) -> Refusal:
        """With what it refuses."""
        with pytest.raises(Refusal) as caught:
            await self.steer(name, ask)
        return caught.value

    async def pay(self, name: str) -> dict[str, Any]:
        """Pay 1 into each till; what they hold then."""

        async def ask() -> dict[str, Any]:
            return {key: await region("till").call(key, 1) for key in TILLS}

        return await self.machines.at(name, ask)


def in_room(scenario: Callable[[Room], Awaitable[Any]], seed: int = 1) -> Any:
    """Run a scenario with a room."""

    async def main(machines: Machines) -> Any:
        return await scenario(Room(machines))

    return clustered(main, Shop, seed)


def test_what_cannot_be_moved_is_refused_with_what_to_do() -> None:
    """An unknown shard or node is 4; its own owner, a node that is down or drains are 5. Nothing changes."""

    async def scenario(room: Room) -> None:
        await room.open("a", "b", "c")
        mine = room.owned("a")
        shard, other = mine[0], room.owned("b")[0]
        cases: list[tuple[int, str, int, str]] = [
            (SHARDS, "b", 4, f"there is no shard {SHARDS}: the cluster has {SHARDS}, from 0 to {SHARDS - 1}"),
            (shard, "nobody", 4, "there is no node 'nobody' in this cluster, but a, b, c"),
            (shard, "a", 5, "a owns it already"),
            (other, "b", 5, "b owns it already"),
        ]
        for number, node, code, why in cases:
            for begin in (True, False):
                refusal = await room.refused(
                    "a", lambda at, s=number, n=node, b=begin: at.move(s, n) if b else at.forecast(s, n)
                )
                assert (refusal.code, refusal.why) == (code, why)
                assert refusal.next
        await room.steer("a", lambda at: at.drain("c", on=True))
        await room.machines.until(lambda: not room.owned("c"))
        refusal = await room.refused("a", lambda at: at.move(shard, "c"))
        assert (refusal.code, refusal.why) == (5, "c is draining: it gives its shards away and takes none")
        assert "banyan drain c --undo" in refusal.next
        await room.machines.stop("c")
        await room.machines.until(lambda: room.machines.states("a")["c"] == "left")
        refusal = await room.refused("a", lambda at: at.move(shard, "c"))
        assert (refusal.code, refusal.why) == (5, "c is left")
        assert shard in room.owned("a")
        assert (await room.refused("a", lambda at: at.abort("m1"))).code == 4
        assert (await room.refused("a", lambda at: at.drain("nobody", on=True))).code == 4
        assert (await room.refused("a", lambda at: at.drain("c", on=True))).code == 5
        assert (await room.refused("a", lambda at: at.moves("nobody"))).code == 4

    in_room(scenario)


def test_a_node_on_its_own_has_nothing_to_move() -> None:
    """Without a cluster there are no shards: 4, and it says so."""

    async def scenario(machines: Machines) -> None:
        await machines.start("a", coordination=None, peers={}, id="c")
        room = Room(machines)
        for ask in (
            lambda at: at.move(1, "b"),
            lambda at: at.forecast(1, "b"),
            lambda at: at.drain(None, on=True),
            lambda at: at.rebalance(),
        ):
            refusal = await room.refused("a", ask)
            assert (refusal.code, refusal.why) == (4, "this node shares no shards with others")
        assert (await room.steer("a", lambda at: at.moves(None)))["moves"] == []
        assert await room.steer("a", lambda at: at.plan()) == {"moves": [], "silent": []}

    clustered(scenario, Shop)


def test_a_node_that_alone_could_serve_does_not_drain() -> None:
    """With nobody to take its shards a drain is refused, and nothing has changed."""

    async def scenario(room: Room) -> None:
        await room.open("a", "b")
        await room.steer("b", lambda at: at.drain(None, on=True))
        await room.machines.until(lambda: len(room.owned("a")) == SHARDS)
        refusal = await room.refused("b", lambda at: at.drain("a", on=True))
        assert (refusal.code, refusal.why) == (5, "there is no other node that is up and not draining")
        stands = {one["node"]: one for one in (await room.steer("b", lambda at: at.moves(None)))["nodes"]}
        assert {name: one["draining"] for name, one in stands.items()} == {"a": False, "b": True}
        assert {name: one["owned"] for name, one in stands.items()} == {"a": SHARDS, "b": 0}

    in_room(scenario)


def test_a_shard_is_moved_from_any_node() -> None:
    """A third node is asked: the shard goes, its tills hold what they held, and all nodes tell of the move."""

    async def scenario(room: Room) -> None:
        await room.open("a", "b", "c")
        await room.pay("c")
        shard = room.owned("a")[0]
        said = await room.steer("c", lambda at: at.forecast(shard, "b"))
        assert (said["shard"], said["source"], said["target"]) == (shard, "a", "b")
        assert said["keys"] > 0
        begun = await room.steer("c", lambda at: at.move(shard, "b"))
        assert (begun["shard"], begun["source"], begun["target"]) == (shard, "a", "b")
        await room.machines.until(lambda: shard in room.owned("b"))
        assert await room.pay("c") == dict.fromkeys(TILLS, 2)
        (one,) = (await room.steer("c", lambda at: at.moves(None)))["moves"]
        assert (one["id"], one["phase"], one["why"]) == (begun["move"], "retired", "")
        assert (await room.steer("c", lambda at: at.moves("c")))["moves"] == []
        assert (await room.refused("c", lambda at: at.abort(begun["move"]))).code == 5

    in_room(scenario)


def test_a_shard_that_is_on_its_way_does_not_move_twice() -> None:
    """The second order is refused; the first is given up by its id, and the shard stays where it was."""

    async def scenario(room: Room) -> None:
        await room.open("a", "b", "c")
        await room.pay("c")
        shard = room.owned("a")[0]
        begun = await room.steer("a", lambda at: at.move(shard, "b"))
        for pair in (("a", "b"), ("b", "a")):
            room.machines.network.cut(*pair)
        refusal = await room.refused("c", lambda at: at.move(shard, "c"))
        assert (refusal.code, refusal.why) == (5, f"shard {shard} is moving already")
        await room.steer("c", lambda at: at.abort(begun["move"]))
        room.machines.network.heal()
        await room.machines.until(lambda: all(fact.over for fact in facts_of(room.machines.nodes["a"].table)))
        (one,) = (await room.steer("c", lambda at: at.moves("a")))["moves"]
        assert (one["phase"], one["why"]) == ("void", "it was called off")
        assert shard in room.owned("a")
        assert await room.pay("b") == dict.fromkeys(TILLS, 2)

    in_room(scenario)


def test_a_node_is_drained_and_takes_part_again() -> None:
    """All that it has goes to the others, nothing is lost; undone, or started again, it gets its share back."""

    async def scenario(room: Room) -> None:
        await room.open("a", "b", "c", rebalance=True)
        await room.pay("a")
        await room.steer("b", lambda at: at.drain("a", on=True))
        await room.machines.until(lambda: not room.owned("a"))
        assert await room.pay("a") == dict.fromkeys(TILLS, 2)
        await room.steer("a", lambda at: at.drain(None, on=False))
        await room.machines.until(lambda: len(room.owned("a")) >= 2)
        await room.steer("a", lambda at: at.drain(None, on=True))
        await room.machines.until(lambda: not room.owned("a"))
        await room.machines.stop("a")
        await room.machines.start("a", data="a", shards=SHARDS)
        await room.machines.until(lambda: len(room.owned("a")) >= 2)
        assert await room.pay("a") == dict.fromkeys(TILLS, 3)

    in_room(scenario)


def test_a_node_that_joins_takes_its_share() -> None:
    """What is written moves to it as well, by twos, and stays where it is then."""

    async def scenario(room: Room) -> None:
        await room.open("a", "b", rebalance=True)
        await room.pay("a")
        await room.machines.start("c", data="c", shards=SHARDS)
        await room.machines.until(lambda: len(room.owned("c")) >= 2)
        await room.machines.until(lambda: sorted(len(room.owned(name)) for name in "abc") == [2, 3, 3])
        assert await room.pay("c") == dict.fromkeys(TILLS, 2)
        assert (await room.steer("a", lambda at: at.plan()))["moves"] == []
        moved = len((await room.steer("a", lambda at: at.moves(None)))["moves"])
        await trio.sleep(60)  # virtual
        assert len((await room.steer("a", lambda at: at.moves(None)))["moves"]) == moved

    in_room(scenario)


async def seen_through(room: Room, shard: int, node: str) -> dict[str, Any]:
    """Move a shard of a's, and wait until that is over there; what became of it."""
    begun = await room.steer("a", lambda at: at.move(shard, node))
    table = room.machines.nodes["a"].table
    await room.machines.until(lambda: any(fact.id == begun["move"] and fact.over for fact in facts_of(table)))
    moves = (await room.steer("a", lambda at: at.moves(None)))["moves"]
    found: dict[str, Any] = next(one for one in moves if one["id"] == begun["move"])
    return found


def test_a_full_node_is_given_nothing() -> None:
    """It refuses before anything is copied, and the shard is served as before; with room again it takes it."""

    async def scenario(room: Room) -> None:
        await room.open("a", "b")
        await room.pay("a")
        shard = room.owned("a")[0]
        room.machines.disks["b"].full = True
        told = await seen_through(room, shard, "b")
        assert (told["phase"], told["bytes"], told["why"]) == ("void", 0, "the store of b is full")
        assert shard in room.owned("a")
        room.machines.disks["b"].full = False
        assert await room.pay("b") == dict.fromkeys(TILLS, 2)
        assert (await seen_through(room, shard, "b"))["phase"] == "retired"

    in_room(scenario)


def test_a_node_that_runs_out_of_room_gives_the_move_up() -> None:
    """In mid-copy: the move is void with the reason, nothing of it is left when there is room again."""

    async def scenario(room: Room) -> None:
        await room.open("a", "b")
        await room.pay("a")
        shard = room.owned("a")[0]
        disk = room.machines.disks["b"]

        def fill(point: str) -> None:
            disk.full = True

        disk.probe = fill
        told = await seen_through(room, shard, "b")
        assert told["phase"] == "void"
        assert "the simulated disk is full" in told["why"]
        assert shard in room.owned("a")
        disk.probe, disk.full = None, False
        assert await room.pay("b") == dict.fromkeys(TILLS, 2)
        journal = room.machines.nodes["b"].journal
        assert journal is not None
        await room.machines.until(lambda: journal.staged() == {})
        assert journal.shard_keys(shard) == []
        assert (await seen_through(room, shard, "b"))["phase"] == "retired"

    in_room(scenario)
