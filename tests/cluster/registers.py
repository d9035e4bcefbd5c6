"""The application that real faults are tried on: registers in a region, a door for clients, and a witness.

    banyan start tests.cluster.registers:application --listen 127.0.0.1:7000 --set witness=FILE ...

A register is durable; each command that it accepts leaves one event with the sender and the number, so that its
journal tells what was applied, and in which order. The door takes one JSON line a request and gives one line an
answer, one after the other. The witness writes down what this node says of the others, in the order in which it
hears of it, with the machine's monotonic time: a line for each state of a heartbeat, each node that comes or goes,
and each monitor that fires.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, final

import trio

from runtime import NOPROC, Call, Down, EventSourced, GenServer, Query, Refuse, Refused, Session, message, monitor
from runtime.cluster.dist import Dist
from runtime.cluster.health import State
from runtime.cluster.links import Links
from runtime.cluster.membership import membership_of
from runtime.cluster.nodes import NodeDown, NodeUp, monitor_nodes, nodes
from runtime.errors import BanyanError
from runtime.kernel.api import self_pid, spawn_link, world
from runtime.kernel.elsewhere import SERVICE, at
from runtime.kernel.table import current_process, current_table
from runtime.kernel.timer import send_after
from supervisors import Application, Supervisor, child, region

REGISTERS: Final = "register"
WITNESS: Final = "witness"
# Bytes of a request, at most.
_LONGEST: Final = 4096

registers = region(REGISTERS)


@message("tests.faults.put")
class Put:
    """What a register holds from now on, and by whose command."""

    sender: str
    number: int
    value: int


@message("tests.faults.add")
class Add(Call[tuple[int, int]]):
    """Add to the value; the reply is the place of the command in the register's history, from 1, and the value."""

    sender: str
    number: int
    amount: int


@message("tests.faults.swap")
class Swap(Call[tuple[int, int]]):
    """Replace the value if it is as `wanted`; the reply as of Add. Refused otherwise."""

    sender: str
    number: int
    wanted: int
    value: int


@message("tests.faults.read")
class Read(Query[tuple[int, int]]):
    """How many commands there were, and the value."""


@message("tests.faults.held")
class Held:
    """What a register remembers."""

    count: int = 0
    value: int = 0


class Register(EventSourced[Held, Put]):
    """One number."""

    snapshot_every = 20

    def initial(self, key: str) -> Held:
        return Held()

    def handle(self, state: Held, command: Any) -> Any:
        match command:
            case Add(sender, number, amount):
                value = state.value + amount
            case Swap(sender, number, wanted, value):
                if state.value != wanted:
                    return Refuse("it is another")
            case _:
                return Refuse(f"a register does not know {command!r}")
        return Put(sender, number, value), (state.count + 1, value)

    def apply(self, state: Held, event: Put) -> Held:
        return Held(state.count + 1, event.value)

    def query(self, state: Held, request: Any) -> Any:
        return (state.count, state.value) if isinstance(request, Read) else super().query(state, request)


# -- the door --------------------------------------------------------------------------------------------


async def door(address: str) -> None:
    """Take clients, for ever."""
    async with (
        world().transport.listen(address) as listener,
        aclosing(listener.connections()) as connections,  # type: ignore[type-var]  # the port promises less than the generator is
    ):
        async for stream in connections:
            spawn_link(guest, stream)


async def guest(stream: trio.abc.Stream) -> None:
    """Answer a client's requests, one after the other, until it goes."""
    rest = b""
    try:
        async with stream:
            async for piece in stream:
                *lines, rest = (rest + piece).split(b"\n")
                assert len(rest) < _LONGEST
                for line in lines:
                    answer = await answer_to(json.loads(line))
                    await stream.send_all(json.dumps(answer).encode() + b"\n")
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


async def answer_to(request: dict[str, Any]) -> dict[str, Any]:
    """Carry a request out: `ok` with the reply, `no` if it was refused, `unknown` if nobody can tell."""
    op, key, patience = request["op"], request["key"], request.get("patience", 5.0)
    who, number = request.get("sender", ""), request.get("number", 0)
    asked: Any = Read()
    match op:
        case "add":
            asked = Add(who, number, request["amount"])
        case "swap":
            asked = Swap(who, number, request["wanted"], request["value"])
        case "owner":
            owner = membership_of(current_table()).owner(registers.shard(key))
            return {"ok": None if owner is None else owner[0]}
    try:
        if request.get("session"):
            session = Session(who, number=number - 1, patience=patience)
            return {"ok": await session.command(registers.entity(key), asked)}
        return {"ok": await registers.call(key, asked, timeout=patience)}
    except Refused as no:
        return {"no": str(no)}
    except BanyanError as error:
        return {"unknown": f"{type(error).__name__}: {error}"[:300]}


# -- the witness -----------------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Again:
    """Time to watch a node again."""

    node: str


class Witness(GenServer):
    """Writes down how the others are, as this node says."""

    def init(self, path: str) -> None:
        self.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.watched: dict[Any, str] = {}
        self.own = self_pid()
        dist = current_process().table.services[SERVICE]
        assert isinstance(dist, Dist)
        assert isinstance(dist.links, Links)
        dist.links.watchers.append(self.heard)
        monitor_nodes()
        for node in nodes():
            self.came(node)

    def tell(self, what: str, node: str) -> None:
        # One write, at once: what was seen before a SIGKILL is there.
        line = json.dumps([time.monotonic(), what, node])  # allowed: it is held against other processes' times
        os.write(self.file, line.encode() + b"\n")

    def heard(self, node: str, state: State) -> None:
        self.tell(state.value, node)

    def came(self, node: str) -> None:
        self.tell("linked", node)
        self.watch(node)

    def watch(self, node: str) -> None:
        self.watched[monitor(at(WITNESS, node))] = node

    def handle_info(self, message: Any) -> None:
        match message:
            case NodeUp(node):
                self.came(node)
            case NodeDown(node):
                self.tell("nodedown", node)
            case Down(ref=ref, reason=reason):
                node = self.watched.pop(ref)
                if reason != NOPROC:
                    self.tell(str(reason), node)
                elif node in nodes():  # it is linked, and its tree is not up yet
                    send_after(0.2, self.own, Again(node))
            case Again(node) if node in nodes():
                self.watch(node)


class Registers(Supervisor):
    """All of it."""

    intensity, period = 10, 5.0

    def init(self, listen: str, witness: str) -> Any:
        return [
            region(REGISTERS, Register, idle=3.0, intensity=100),
            child("witness", Witness, witness, name=WITNESS),
            child("door", door, listen),
        ]


def application(settings: dict[str, str]) -> Application:
    """With the settings `listen`, where clients come, and `witness`, the file to write to."""
    return Application(Registers, (settings["listen"], settings["witness"]), "registers")
