"""A room with a gateway for tests, and players who keep what they are shown."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio
from websockets.exceptions import ConnectionClosed
from websockets.trio.client import ClientConnection, connect

from game.app import Room, open_tables
from game.bots import bot
from game.gateway import Gateway, GatewaySettings
from game.messages import NextHand, TableConfig
from game.wallet import balance
from runtime import Pid, call
from runtime.edge.deltas import apply
from runtime.edge.tokens import Signer, Token
from supervisors import Node, Supervisor, child
from supervisors.node.node import wait_for_end

SECRET = bytes(range(32))
GRANT = 1_000_000
OAK = TableConfig("oak", blinds=(50, 100), seats=3, turn_seconds=0.0, pause_seconds=-1.0)


class CardRoom(Supervisor):
    """A room with some tables, bots and a gateway. Bots are (name, table, stack)."""

    intensity = 100

    def init(self, tables: tuple[TableConfig, ...], bots: tuple[tuple[str, str, int], ...], settings: Any) -> Any:
        return [
            child("room", Room, 100),
            child("house", open_tables, tables, restart="transient"),
            *(child(name, bot, name, f"table/{table}", stack, 0.0, 10**9) for name, table, stack in bots),
            child("gateway", Gateway, settings),
        ]


@dataclass
class Player:
    """One client of the gateway, with all it was sent."""

    name: str
    connection: ClientConnection
    # The text of every frame, in order; and every view that was shown, as (table, view).
    frames: list[str] = field(default_factory=list)
    shown: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    views: dict[str, dict[str, Any]] = field(default_factory=dict)
    sequences: list[int] = field(default_factory=list)
    welcome: dict[str, Any] = field(default_factory=dict)
    last_id: int = 0

    async def hear(self) -> dict[str, Any]:
        """The next frame; a push is applied to what the player knows."""
        text = await self.connection.recv()
        assert isinstance(text, str)
        self.frames.append(text)
        frame: dict[str, Any] = json.loads(text)
        match frame["type"]:
            case "absolute":
                self.views[frame["table"]] = frame["view"]
            case "delta":
                self.views[frame["table"]] = apply(frame["changes"], self.views[frame["table"]])
            case "welcome":
                self.welcome = frame
        if frame["type"] in ("absolute", "delta"):
            self.sequences.append(frame["seq"])
            self.shown.append((frame["table"], self.views[frame["table"]]))
        return frame

    async def send(self, **frame: Any) -> None:
        await self.connection.send(json.dumps(frame))

    async def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """Send a frame with the next id, or the one given, and hear until it is answered."""
        if "id" not in fields:
            self.last_id += 1
            fields["id"] = self.last_id
        await self.send(op=op, **fields)
        while True:
            frame = await self.hear()
            if frame["type"] in ("reply", "refused") and frame["id"] == fields["id"]:
                return frame

    async def done(self, op: str, **fields: Any) -> Any:
        """What is in the reply to a frame that must not be refused."""
        frame = await self.ask(op, **fields)
        if frame["type"] != "reply":
            raise AssertionError(f"{op} was refused: {frame}")
        return frame["ok"]

    async def refused(self, op: str, **fields: Any) -> str:
        """The reason for which a frame is refused."""
        frame = await self.ask(op, **fields)
        if frame["type"] != "refused":
            raise AssertionError(f"{op} was not refused: {frame}")
        reason: str = frame["reason"]
        return reason

    async def until(self, true: Callable[[dict[str, Any]], bool], table: str = "oak") -> dict[str, Any]:
        """Hear until a table looks as wanted; the view."""
        while table not in self.views or not true(self.views[table]):
            await self.hear()
        return self.views[table]

    def seat(self, table: str = "oak") -> dict[str, Any] | None:
        """The player's own seat as last shown."""
        return next((one for one in self.views[table]["seats"] if one["player"] == self.name), None)


@dataclass
class House:
    """A running room."""

    node: Node
    signer: Signer

    @property
    def url(self) -> str:
        return f"ws://{self.node.table.services['gateway']}"

    def token(self, name: str, *, purpose: Any = "login", seconds: float = 60.0, session: str = "") -> str:
        """A token as the gateway would accept it."""
        return self.signer.sign(Token(purpose, name, self.node.world.wall() + seconds, session))

    @asynccontextmanager
    async def connected(self, name: str) -> AsyncIterator[Player]:
        """A client that has said nothing yet."""
        async with connect(self.url) as connection:
            yield Player(name, connection)

    @asynccontextmanager
    async def player(self, name: str, *, watch: Iterable[str] = ("oak",), sit: int = 0) -> AsyncIterator[Player]:
        """A player who has logged in, watches tables, and with `sit` has taken a seat at oak."""
        async with self.connected(name) as player:
            await player.send(op="login", token=self.token(name))
            await player.hear()
            for table in watch:
                await player.done("watch", table=table)
                await player.until(lambda _view: True, table)
            if sit:
                await player.done("sit", table="oak", amount=sit)
                await player.until(lambda view: any(one["player"] == name for one in view["seats"]))
            yield player

    @asynccontextmanager
    async def resumed(self, before: Player) -> AsyncIterator[Player]:
        """A player who comes back with what the one before knew."""
        async with self.connected(before.name) as player:
            player.views, player.last_id = before.views, before.last_id
            after = before.sequences[-1] if before.sequences else 0
            await player.send(op="resume", token=before.welcome["resume"], after=after)
            await player.hear()
            yield player

    async def deal(self, table: str = "oak", after: int = 0) -> int:
        """Have a table deal its next hand, `after` so many; the hand's number."""
        number = await call(f"table/{table}", NextHand(after))
        assert isinstance(number, int)
        return number


@asynccontextmanager
async def house(
    settings: GatewaySettings | None = None,
    *,
    tables: tuple[TableConfig, ...] = (OAK,),
    bots: tuple[tuple[str, str, int], ...] = (),
    data: str | Path = ":memory:",
    seconds: float = 30.0,
) -> AsyncIterator[House]:
    """A node with a room and its gateway on a real loopback socket, for at most so many real seconds."""
    if settings is None:
        settings = GatewaySettings(secret=SECRET, grant=GRANT)
    with trio.fail_after(seconds):
        async with Node("room", data=data) as node:
            await node.start(CardRoom, tables, bots, settings)
            yield House(node, Signer(settings.secret or SECRET))


async def play(
    players: Iterable[Player],
    hand: int,
    choose: Callable[[dict[str, Any]], dict[str, Any]],
    until: Callable[[dict[str, Any]], bool] = lambda _view: False,
) -> None:
    """Play a hand at oak to its end: whose turn it is does what `choose` makes of their view."""
    there = {one.name: one for one in players}
    watcher = next(iter(there.values()))
    while True:
        view = await watcher.until(lambda v: v["hand"] == hand or (v["result"] or {}).get("hand") == hand)
        if view["hand"] != hand or until(view):
            return
        now = view["sequence"]
        actor = there.get(view["actor"])
        if actor is None:
            await watcher.hear()  # somebody else's turn, or nobody's
            continue
        own = await actor.until(lambda v, now=now: v["sequence"] >= now)  # type: ignore[misc]  # bound on purpose
        await actor.done("act", table="oak", hand=hand, **choose(own))
        await watcher.until(lambda v, now=now: v["sequence"] > now)  # type: ignore[misc]  # bound on purpose


def calling(_view: dict[str, Any]) -> dict[str, Any]:
    """Check or call, whatever comes."""
    return {"action": "call"}


async def gone(pid: Pid | None) -> None:
    """Wait until a process has ended."""
    assert pid is not None
    if pid._process is not None:
        await wait_for_end(pid._process)


async def paid_back(player: str, amount: int) -> None:
    """Wait until a table's payout has arrived in a wallet."""
    while await balance(player) != amount:
        await trio.lowlevel.checkpoint()


async def farewell(player: Player) -> tuple[str | None, int | None]:
    """The reason of the bye, and the close code."""
    reason = None
    try:
        while True:
            frame = await player.hear()
            reason = frame["reason"] if frame["type"] == "bye" else reason
    except ConnectionClosed:
        return reason, player.connection.close_code
