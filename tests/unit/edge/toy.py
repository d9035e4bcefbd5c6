"""A toy gateway for tests: its guest echoes, pushes what it is told to, and crashes when it is asked to."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio

from runtime import CallFailed, Pid, call, cast, sys, whereis
from runtime.edge import frames
from runtime.edge.acceptor import Acceptor
from runtime.edge.client import DISPLACED, ClientSession, Keeping
from runtime.edge.connection import Doorkeeper, Entry, Guest, Request, connection
from runtime.edge.frames import Refusal
from runtime.edge.websocket import Bounds
from supervisors import DynamicSupervisor, Node, Supervisor, child, start_child, which_children
from supervisors.node.node import wait_for_end

DOORKEEPER, SESSIONS, CONNECTIONS = "toy.doorkeeper", "toy.sessions", "toy.connections"


class Enter(msgspec.Struct, frozen=True, tag_field="op", tag="enter", forbid_unknown_fields=True):
    name: str
    after: int | None = None
    fresh: bool = True


class Say(msgspec.Struct, frozen=True, tag_field="op", tag="say", forbid_unknown_fields=True):
    text: str
    id: int | None = None


class Push(msgspec.Struct, frozen=True, tag_field="op", tag="push", forbid_unknown_fields=True):
    id: int | None = None
    count: int = 1
    size: int = 0


class Crash(msgspec.Struct, frozen=True, tag_field="op", tag="crash", forbid_unknown_fields=True):
    """`who`: the connection or the session."""

    who: str
    id: int | None = None


class Count(msgspec.Struct, frozen=True, tag_field="op", tag="count", forbid_unknown_fields=True):
    """A command: the reply is how many of its kind were carried out. With `fail` it is not known."""

    id: int
    fail: bool = False


class Wait(msgspec.Struct, frozen=True, tag_field="op", tag="wait", forbid_unknown_fields=True):
    """Be busy until the test says that it is enough."""

    id: int | None = None


first = msgspec.json.Decoder(Enter)
later = msgspec.json.Decoder(Say | Push | Crash | Count | Wait)


@dataclasses.dataclass(frozen=True)
class Emit:
    """A cast: push so many frames of so many bytes."""

    count: int
    size: int


class ToySession(ClientSession):
    """Pushes numbers; an absolute is the last of them."""

    def begin(self, *args: Any) -> None:
        self.value = 0

    def absolutes(self) -> list[dict[str, Any]]:
        return [{"type": "absolute", "value": self.value}]

    def handle_cast(self, request: Any) -> Any:
        match request:
            case Emit(count, size):
                for _ in range(count):
                    self.value += 1
                    self.push({"type": "delta", "value": self.value, "fill": "x" * size})
                return None
            case "crash":
                raise RuntimeError("the session was asked to crash")
            case _:
                return super().handle_cast(request)


class ToyGuest:
    """The guest of all connections."""

    def __init__(self, keeping: Keeping) -> None:
        self.keeping = keeping
        self.counted = 0
        self.waiting = trio.Event()
        self.enough = trio.Event()

    async def enter(self, text: str) -> Entry:
        frame = frames.read(first, text)
        if frame.name == "nobody":
            raise Refusal("unknown", "wanted another name", strike=True)
        name = f"toy/{frame.name}"
        pid = whereis(name)
        if pid is not None and frame.fresh:
            try:
                await sys.stop(pid, DISPLACED)
            except CallFailed:
                pass  # it has just ended
            pid = None
        if pid is None:
            spec = child(name, ToySession, name, self.keeping, restart="temporary", name=name)
            pid = await start_child(SESSIONS, spec)
            assert pid is not None
        return Entry(frame.name, pid, frame.after, {"name": frame.name})

    def read(self, text: str) -> Request:
        frame = frames.read(later, text)
        return Request(frame.id, isinstance(frame, Count), frame, frame)

    async def carry_out(self, entry: Entry, request: Request) -> Any:
        match request.body:
            case Say(text):
                return text
            case Push(_, count, size):
                await cast(entry.session, Emit(count, size))
                return count
            case Crash("session"):
                await cast(entry.session, "crash")
                return "it will"
            case Crash():
                raise RuntimeError("the connection was asked to crash")
            case Count(_, fail):
                self.counted += 1
                if fail:
                    await call("nobody", "anything")
                return self.counted
            case Wait():
                self.waiting.set()
                await self.enough.wait()
                return "enough"


class ToyGateway(Supervisor):
    """The tree, as a guest puts it together."""

    strategy = "rest_for_one"

    def init(self, guest: Guest, bounds: Bounds, most: tuple[int, int], address: str, remote: bool) -> Any:
        count = itertools.count(1)

        async def starter(stream: trio.abc.Stream) -> None:
            spec = child(
                f"connection/{next(count)}",
                connection,
                stream,
                guest,
                bounds,
                DOORKEEPER,
                restart="temporary",
                shutdown=3.0,
            )
            await start_child(CONNECTIONS, spec)

        return [
            child("doorkeeper", Doorkeeper, *most, name=DOORKEEPER),
            child("sessions", DynamicSupervisor, name=SESSIONS),
            child("connections", DynamicSupervisor, name=CONNECTIONS),
            child("acceptor", Acceptor, address, remote, starter),
        ]


@dataclasses.dataclass
class Toy:
    """A running toy gateway."""

    node: Node
    guest: ToyGuest

    @property
    def address(self) -> str:
        found = self.node.table.services["gateway"]
        assert isinstance(found, str)
        return found

    @property
    def url(self) -> str:
        return f"ws://{self.address}"

    async def connections(self) -> list[Pid]:
        """The processes of all connections, oldest first."""
        return [one.pid for one in await which_children(CONNECTIONS) if one.pid is not None]


@asynccontextmanager
async def toy(
    bounds: Bounds | None = None,
    keeping: Keeping | None = None,
    *,
    most: int = 50,
    most_each: int = 4,
    address: str = "127.0.0.1:0",
    remote: bool = False,
    seconds: float = 20.0,
) -> AsyncIterator[Toy]:
    """A node with the toy gateway, on a real loopback socket, for at most so many real seconds."""
    guest = ToyGuest(keeping if keeping is not None else Keeping())
    with trio.fail_after(seconds):
        async with Node("toy") as node:
            limits = bounds if bounds is not None else Bounds()
            await node.start(ToyGateway, guest, limits, (most, most_each), address, remote)
            yield Toy(node, guest)


async def gone(pid: Pid) -> None:
    """Wait until a process has ended."""
    process = pid._process
    if process is not None:
        await wait_for_end(process)
