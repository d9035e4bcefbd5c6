"""What is in memory only, in whole clusters under the seeded World: it is moved, as what is written."""

from __future__ import annotations

from typing import Any

import pytest

from runtime import EventSourced, message
from supervisors import Supervisor, region
from tests.support.clusters import clustered
from tests.unit.node.test_steering import SHARDS, Room

KEYS = [f"g{number}" for number in range(24)]


@message("node.volatile.hit")
class Hit:
    """One more."""


class Gauge(EventSourced[int, Hit]):
    """Volatile: how often it was hit."""

    durability = "volatile"

    def initial(self, key: str) -> int:
        return 0

    def handle(self, state: int, command: Any) -> Any:
        return Hit(), state + 1

    def apply(self, state: int, event: Hit) -> int:
        return state + 1


class Board(Supervisor):
    """Gauges that are found anywhere."""

    def init(self) -> Any:
        return [region("gauge", Gauge)]


async def hit(room: Room, name: str) -> set[int]:
    """Hit each gauge, by way of one node; what they say."""

    async def ask() -> set[int]:
        return {await region("gauge").call(key, "hit") for key in KEYS}

    found: set[int] = await room.machines.at(name, ask)
    return found


@pytest.mark.parametrize("how", ["drain", "join", "stop"])
def test_what_is_in_memory_only_is_moved_and_not_set_free(how: str) -> None:
    """A drain, its end, a newcomer and a node that stops in order cost volatile entities nothing of what they know."""

    async def main(machines: Any) -> None:
        room = Room(machines)
        await room.open("a", "b", rebalance=True)
        assert [await hit(room, "a"), await hit(room, "b")] == [{1}, {2}]
        if how == "drain":
            await room.steer("a", lambda at: at.drain("b", on=True))
            await machines.until(lambda: not room.owned("b"))
            assert await hit(room, "a") == {3}
            await room.steer("a", lambda at: at.drain("b", on=False))
            await machines.until(lambda: len(room.owned("b")) > 2)
        elif how == "join":
            await machines.start("c", data="c", shards=SHARDS, rebalance=True)
            await machines.until(lambda: len(room.owned("c")) > 1)
            assert await hit(room, "c") == {3}
        else:
            await room.steer("b", lambda at: at.drain("b", on=True))
            await machines.until(lambda: not room.owned("b"))
            await machines.stop("b")
            assert await hit(room, "a") == {3}
        assert await hit(room, "a") == {4}

    clustered(main, Board, 1)
