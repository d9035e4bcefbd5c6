"""An admin server in a test: a node with one at a unix socket, and a client that shares the test's loop."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from runtime import GenServer
from runtime.kernel.world import World
from runtime.observe.facts import Facts
from runtime.observe.protocol import REPLY_LIMIT, Lines
from supervisors import Node, Supervisor, child
from supervisors.node.admin import open_door

# Seconds that anything in these tests may take.
LIMIT = 20.0


class Till(GenServer):
    """A worker that counts."""

    def init(self) -> None:
        self.count = 0

    def handle_call(self, request: int, caller: object) -> int:
        self.count += request
        return self.count


class Shop(Supervisor):
    """One till."""

    intensity = 100

    def init(self) -> Any:
        return [child("till", Till, name="till")]


@asynccontextmanager
async def open_node(path: Path, world: World | None = None, **options: Any) -> AsyncIterator[Node]:
    """A node with a shop and an admin server at `path`, for at most LIMIT seconds."""
    with trio.fail_after(LIMIT):
        async with Node("test", world=world) as node:
            await open_door(node, path, Facts(pid=1, started=node.world.now()), **options)
            await node.start(Shop)
            yield node


class Talk:
    """One connection to it."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._lines = Lines(REPLY_LIMIT)
        self._found: list[Any] = []

    async def say(self, *requests: dict[str, Any] | bytes) -> None:
        """Send requests, all in one piece."""
        lines = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in requests]
        await self.stream.send_all(b"\n".join(lines) + b"\n")

    async def hear(self) -> Any:
        """The next reply, whole; None if the server has closed the connection."""
        while not self._found:
            try:
                data = await self.stream.receive_some(65536)
            except trio.BrokenResourceError:
                return None
            if not data:
                return None
            self._found += [json.loads(line) for line in self._lines.feed(bytes(data))]
        return self._found.pop(0)

    async def ask(self, op: str, **fields: Any) -> Any:
        """The `ok` of one request, or its `error`."""
        await self.say({"id": op, "op": op, **fields})
        reply = await self.hear()
        assert reply is not None, f"the connection was closed upon {op}"
        assert reply["id"] == op
        return reply["ok"] if "ok" in reply else reply["error"]


@asynccontextmanager
async def talk(path: Path) -> AsyncIterator[Talk]:
    """A connection that is closed at the end."""
    stream = await trio.open_unix_socket(str(path))
    async with stream:
        yield Talk(stream)


async def until_listening(path: Path) -> None:
    """Wait until somebody answers at a socket again; the test has its deadline."""
    while True:
        try:
            async with talk(path) as one:
                if await one.ask("info"):
                    return
        except (OSError, RuntimeError, trio.BrokenResourceError, AssertionError):
            await trio.lowlevel.checkpoint()
