"""Clients of the toy gateway over real loopback sockets, well behaved and raw."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.trio.client import ClientConnection, connect

from runtime.edge.websocket import Bounds
from tests.support.raw_websocket import RawWebSocket
from tests.unit.edge.toy import Toy

WELCOME = {"type": "welcome", "resumed": False, "seq": 0, "name": "ann"}
ABSOLUTE = {"seq": 1, "type": "absolute", "value": 0}
QUICK = Bounds(close_seconds=0.2)


async def say(client: ClientConnection, **frame: Any) -> None:
    await client.send(json.dumps(frame))


async def hear(client: ClientConnection) -> Any:
    return json.loads(await client.recv())


@asynccontextmanager
async def entered(running: Toy, name: str = "ann", after: int | None = None) -> AsyncIterator[ClientConnection]:
    """A client that has entered and read its welcome and first absolute."""
    async with connect(running.url) as client:
        await say(client, op="enter", name=name)
        assert (await hear(client))["type"] == "welcome"
        assert (await hear(client))["type"] == "absolute"
        yield client


@asynccontextmanager
async def raw_entered(running: Toy, name: str = "raw", **options: Any) -> AsyncIterator[RawWebSocket]:
    async with await RawWebSocket.open(running.address, **options) as raw:
        await raw.send({"op": "enter", "name": name})
        assert (await raw.receive_json())["type"] == "welcome"
        assert (await raw.receive_json())["type"] == "absolute"
        yield raw


async def echoes(client: ClientConnection, text: str = "still here") -> None:
    """That a client is served as ever."""
    await say(client, op="say", text=text)
    assert await hear(client) == {"type": "reply", "id": None, "ok": text}


async def farewell(client: ClientConnection) -> tuple[list[Any], int | None, str | None]:
    """What is read up to the end, the close code, and the close reason."""
    found = []
    try:
        while True:
            found.append(await hear(client))
    except ConnectionClosed:
        return found, client.close_code, client.close_reason
