"""A rolling upgrade: nodes with older and newer code in one cluster, and what moves from one to the other."""

from __future__ import annotations

from typing import Any

from runtime import EventSourced, Query, message
from supervisors import Supervisor, region
from tests.support.clusters import Machines
from tests.unit.node.test_steering import SHARDS, TILLS, Room, in_room


@message("node.rolling.paid")
class Paid:
    """An amount."""

    amount: int


@message("node.rolling.sum")
class Sum(Query[Any]):
    """What a till holds."""


class Old(EventSourced[int, Paid]):
    """Version N: the state is the sum of what was paid."""

    snapshot_every = 2

    def initial(self, key: str) -> int:
        return 0

    def handle(self, state: int, command: Any) -> Any:
        return Paid(command), state + command

    def apply(self, state: int, event: Paid) -> int:
        return state + event.amount

    def query(self, state: int, request: Any) -> Any:
        return state


class Mended(Old):
    """Version N, mended: it replies something else, and what it keeps means the same."""

    def handle(self, state: int, command: Any) -> Any:
        return Paid(command), ("thanks", state + command)


class New(EventSourced[tuple[int, int], Paid]):
    """Version N+1: the state knows as well how often somebody has paid, as far as that is known."""

    schema = 2
    snapshot_every = 2

    def initial(self, key: str) -> tuple[int, int]:
        return 0, 0

    def handle(self, state: tuple[int, int], command: Any) -> Any:
        return Paid(command), self.apply(state, Paid(command))

    def apply(self, state: tuple[int, int], event: Paid) -> tuple[int, int]:
        return state[0] + event.amount, state[1] + 1

    def query(self, state: tuple[int, int], request: Any) -> Any:
        return state

    def upcast_state(self, state: Any, schema: int) -> tuple[int, int]:
        return (state, 0)


def shop(kind: type[Any]) -> type[Supervisor]:
    """An application with tills of a version."""

    class Shop(Supervisor):
        """Tills."""

        intensity = 10

        def init(self) -> Any:
            return [region("till", kind)]

    return Shop


async def to(room: Room, shard: int, node: str, asked: str = "a") -> dict[str, Any]:
    """Move a shard, and wait until that is over; what became of it."""
    begun = await room.steer(asked, lambda at: at.move(shard, node))
    found: list[dict[str, Any]] = []

    async def look() -> bool:
        moves = (await room.steer(asked, lambda at: at.moves(None)))["moves"]
        found[:] = [one for one in moves if one["id"] == begun["move"]]
        return bool(found and found[0]["ended"])

    while not await look():
        await room.machines.until(lambda: True)
    return found[0]


async def sums(room: Room, name: str) -> dict[str, Any]:
    """What all tills hold."""

    async def ask() -> dict[str, Any]:
        return {key: await region("till").call(key, Sum()) for key in TILLS}

    return await room.machines.at(name, ask)


async def shard_of(room: Room, key: str) -> int:
    """Where a till lies."""

    async def ask() -> int:
        return region("till").shard(key)

    return await room.machines.at("a", ask)


def test_a_shard_goes_to_newer_code_and_not_back() -> None:
    """The newer node brings all up to date before it takes it; the older one cannot read that, and refuses."""

    async def scenario(room: Room) -> None:
        await room.open("a", application=shop(Old))
        for _ in range(3):
            await room.pay("a")
        await room.machines.start("b", data="b", shards=SHARDS, rebalance=False, application=shop(New))
        await room.machines.until(lambda: room.met("a", ("a", "b")) and room.met("b", ("a", "b")))
        shard = await shard_of(room, TILLS[0])
        told = await to(room, shard, "b")
        assert (told["phase"], told["why"]) == ("retired", "")
        assert shard in room.owned("b")
        assert (await sums(room, "a"))[TILLS[0]] == (3, 1)  # a snapshot of two, and one entry after it
        assert (await room.pay("a"))[TILLS[0]] == (4, 2)
        back = await to(room, shard, "a")
        assert (back["phase"], back["bytes"]) == ("void", 0)
        assert back["why"] == "region till of a is of schema 1, and cannot read 2"
        assert shard in room.owned("b")
        assert (await room.pay("a"))[TILLS[0]] == (5, 3)

    in_room(scenario)


def test_a_shard_comes_back_from_newer_code_that_keeps_the_same() -> None:
    """Where the schema has not risen it goes to and fro, also while the former owner still keeps its sealed copy."""

    async def scenario(room: Room) -> None:
        await room.open("a", application=shop(Old))
        await room.pay("a")
        await room.machines.start("b", data="b", shards=SHARDS, rebalance=False, application=shop(Mended))
        await room.machines.until(lambda: room.met("a", ("a", "b")) and room.met("b", ("a", "b")))
        shard = await shard_of(room, TILLS[0])
        assert (await to(room, shard, "b"))["phase"] == "retired"
        assert (await room.pay("a"))[TILLS[0]] == ("thanks", 2)
        assert (await to(room, shard, "a"))["phase"] == "retired"
        assert (await room.pay("b"))[TILLS[0]] == 3

    in_room(scenario)


def test_a_cluster_is_upgraded_node_by_node() -> None:
    """Each node is drained, stopped and started with the newer code; in the end all is there, and of the newer form."""

    async def scenario(room: Room) -> None:
        machines: Machines = room.machines
        await room.open("a", "b", rebalance=True, application=shop(Old))
        await room.pay("a")
        await room.pay("b")
        for name, other in (("a", "b"), ("b", "a")):
            await room.steer(other, lambda at, n=name: at.drain(n, on=True))
            await machines.until(lambda n=name: not room.owned(n))
            await machines.stop(name)
            await machines.start(name, data=name, shards=SHARDS, application=shop(New))
            await machines.until(lambda n=name: len(room.owned(n)) >= SHARDS // 2)
            await room.pay(name)
        found = await sums(room, "a")
        assert {key: total for key, (total, _) in found.items()} == dict.fromkeys(TILLS, 4)

    in_room(scenario)


def test_a_region_that_is_not_there_is_refused() -> None:
    """A node without the region cannot serve its entities: the move is void before anything is copied."""

    class Other(Supervisor):
        """Another region."""

        def init(self) -> Any:
            return [region("other", Old)]

    async def scenario(room: Room) -> None:
        await room.open("a", application=shop(Old))
        await room.pay("a")
        await room.machines.start("b", data="b", shards=SHARDS, rebalance=False, application=Other)
        await room.machines.until(lambda: room.met("a", ("a", "b")) and room.met("b", ("a", "b")))
        told = await to(room, room.owned("a")[0], "b")
        assert (told["phase"], told["bytes"], told["why"]) == ("void", 0, "b has no region till")

    in_room(scenario)
