"""A player's session and a table that moves: what two processes tell of it is one story, without a break."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import trio

from game.messages import Moved, News, Unwatch, Watch
from game.player import NEWS_PATIENCE, PlayerSession, StartWatching
from runtime import GenServer, Pid, call, receive, register, self_pid, send, start, sys, unregister
from runtime.edge.client import Deliver, Keeping
from runtime.edge.client import Join as Attach
from supervisors import Node
from tests.support.processes import inside, run_virtually
from tests.unit.game.test_news import VIEW

# What a session waits between two looks at what is otherwise told: longer than any test.
NEVER = 1e5


class Told(GenServer):
    """Stands in for a table's process, which says only what a test has it say."""

    def init(self) -> None:
        self.watchers: list[Pid] = []

    def handle_call(self, request: Any, caller: Any) -> Any:
        match request:
            case Watch(watcher):
                self.watchers.append(watcher)
                return News(VIEW, 0)
            case Unwatch(watcher):
                self.watchers.remove(watcher)
                return None
            case _:
                return tuple(self.watchers)


def news(number: int) -> News:
    return News(replace(VIEW, sequence=number, pot=number), number)


async def frame() -> tuple[str, int]:
    """The next push: its type, and the pot that it shows."""
    delivered = await receive(lambda message: isinstance(message, Deliver) and message.counted)
    assert isinstance(delivered, Deliver)
    said = json.loads(delivered.frame)
    return said["type"], said["view"]["pot"] if said["type"] == "absolute" else dict(map(tuple_of, said["changes"]))[
        "pot"
    ]


def tuple_of(change: list[Any]) -> tuple[str, Any]:
    return change[0][-1], change[1]


async def watching() -> tuple[Pid, Pid]:
    """A table under its name, and the session of a player who watches it and has seen its absolute."""
    table = await start(Told, name="table/oak")
    session = await start(PlayerSession, "s", Keeping(), "ann", 8, NEVER)
    await call(session, Attach(self_pid(), None, {}))
    assert await call(session, StartWatching("oak"))
    assert await frame() == ("absolute", 0)
    return table, session


def alone(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run something as a process of a node, under virtual time."""

    async def main() -> None:
        async with Node("room"):
            await inside(scenario)

    run_virtually(main)


def test_news_of_two_nodes_is_one_story() -> None:
    """What overtakes is kept back; the move itself shows nothing; the former process may end, the new one may not."""

    async def scenario() -> None:
        former, session = await watching()
        new = await start(Told)
        await send(session, news(1))
        await send(session, news(3))
        await send(session, Moved("table/oak", new, 1))
        await send(session, news(2))
        assert [await frame() for _ in range(3)] == [("delta", 1), ("delta", 2), ("delta", 3)]
        unregister("table/oak")
        register("table/oak", new)
        await sys.stop(former)
        await send(session, news(4))
        assert await frame() == ("delta", 4)
        assert await call(new, "who") == ()
        # Only now it is lost, so that it is watched anew.
        await sys.stop(new)
        again = await start(Told, name="table/oak")
        assert await frame() == ("absolute", 0)
        assert await call(again, "who") == (session,)

    alone(scenario)


def test_what_a_dead_node_took_along_is_waited_for_a_while() -> None:
    """Then what has come is shown, as a delta to what was shown before; an older move than the last is none."""

    async def scenario() -> None:
        _, session = await watching()
        new = await start(Told)
        await send(session, Moved("table/oak", new, 2))
        await send(session, Moved("table/oak", await start(Told), 1))
        await send(session, news(2))
        began = trio.current_time()
        assert await frame() == ("delta", 2)
        assert trio.current_time() - began >= NEWS_PATIENCE
        await send(session, news(1))
        await send(session, news(3))
        assert await frame() == ("delta", 3)
        assert await call(session, StartWatching("oak"))
        assert await frame() == ("absolute", 3)

    alone(scenario)
