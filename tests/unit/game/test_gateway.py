"""The card room's gateway over a real loopback socket: what a player gets, and what is refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from websockets.exceptions import ConnectionClosed
from websockets.trio.client import ClientConnection, connect

from game.app import Room, open_tables
from game.bots import Bots
from game.gateway import Gateway, GatewaySettings
from game.messages import TableConfig
from runtime.edge.tokens import Signer, Token
from supervisors import Node

SECRET = b"s" * 32
TABLES = (TableConfig("oak", pause_seconds=0.0, turn_seconds=5.0),)


@asynccontextmanager
async def room(think: float = 0.0) -> AsyncIterator[tuple[Node, str]]:
    """A room with a table of bots and a gateway; its address."""
    with trio.fail_after(60):
        async with Node("gate", data=":memory:") as node:
            await node.start(Room)
            await open_tables(TABLES)
            await node.start(Bots, TABLES, think, 10**9)
            await node.start(Gateway, GatewaySettings(secret=SECRET))
            yield node, f"ws://{node.table.services['gateway']}"


def token(node: Node, player: str) -> str:
    """A login token that the gateway accepts."""
    return Signer(SECRET).sign(Token("login", player, node.world.wall() + 60.0))


async def say(socket: ClientConnection, **frame: Any) -> None:
    await socket.send(json.dumps(frame))


async def hear(socket: ClientConnection, kind: str) -> dict[str, Any]:
    """The next frame of a kind."""
    while True:
        frame: dict[str, Any] = json.loads(await socket.recv())
        if frame["type"] == kind:
            return frame


async def listen(socket: ClientConnection, frames: list[dict[str, Any]]) -> None:
    """Collect frames until the connection ends."""
    while True:
        frames.append(json.loads(await socket.recv()))


async def test_a_player_gets_an_absolute_and_then_deltas_in_sequence() -> None:
    """What is pushed begins with an absolute, and every later frame has the next sequence number."""
    async with room() as (node, address), connect(address) as socket:
        await say(socket, op="login", token=token(node, "zoe"))
        await hear(socket, "welcome")
        await say(socket, op="watch", table="oak")
        first = await hear(socket, "absolute")
        numbers = [first["seq"]] + [(await hear(socket, "delta"))["seq"] for _ in range(10)]
        assert numbers == list(range(first["seq"], first["seq"] + 11))


async def test_no_live_hole_card_of_another_reaches_a_player() -> None:
    """A spectator's frames name no hole card of a hand that is being played."""
    async with room() as (node, address), connect(address) as socket:
        await say(socket, op="login", token=token(node, "zoe"))
        await say(socket, op="watch", table="oak")
        seen = 0
        while seen < 200:
            text = await socket.recv()
            seen += 1
            assert not re.search(r'"hole":"[2-9TJQKA]', str(text))


async def test_a_forged_token_is_refused_and_the_connection_ends() -> None:
    """A token that another secret has signed opens nothing."""
    async with room(think=1.0) as (node, address), connect(address) as socket:
        forged = Signer(b"f" * 32).sign(Token("login", "zoe", node.world.wall() + 60.0))
        await say(socket, op="login", token=forged)
        frames: list[dict[str, Any]] = []
        with pytest.raises(ConnectionClosed):
            await listen(socket, frames)
        assert [frame["type"] for frame in frames] == ["refused", "bye"]


async def test_an_act_out_of_turn_is_refused_and_nothing_else_happens() -> None:
    """A command for a hand that one does not play gets a typed refusal; the session goes on."""
    async with room(think=1.0) as (node, address), connect(address) as socket:
        await say(socket, op="login", token=token(node, "zoe"))
        await say(socket, op="act", id=1, table="oak", hand=1, action="fold")
        refused = await hear(socket, "refused")
        assert refused["id"] == 1
        await say(socket, op="balance", id=2)
        assert (await hear(socket, "reply"))["ok"] == {"balance": GatewaySettings().grant}


def test_play_takes_a_seat_and_leaves_when_its_input_ends(tmp_path: Path) -> None:
    """`banyan play` without a running node starts one, sits down, and leaves at the end of a pipe."""
    done = subprocess.run(
        [sys.executable, "-m", "supervisors.cli.main", "play", "--name", "zoe"],
        input="call\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert "zoe, you sit down at oak with 10000" in done.stdout
    assert "your chips go back to your wallet" in done.stdout
