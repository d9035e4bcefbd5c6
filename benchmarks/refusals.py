"""Who is refused at a node's door, or ended behind it: how soon, and how much memory is kept for it meanwhile.

`python -m benchmarks remote --refusals --json`. Each of `ATTACKS` is made by a client in this process against a whole
node: it says what it has to say, and goes on sending until it is cut off, 64 MiB at most. The time is from the last
byte of what is wrong until the node has refused or ended it; the memory is what Python held at most beyond what it
had held before, as `tracemalloc` counts it, the client's own with it.
"""

from __future__ import annotations

import logging
import statistics
import sys
import tempfile
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import trio

from runtime.cluster import wire
from runtime.cluster.handshake import Hello, Identity
from runtime.cluster.net_kernel import NetKernel
from runtime.cluster.pipe import Pipe
from runtime.cluster.tls import Cipher, Keys
from runtime.cluster.wire import HEADER_SIZE, HELLO_CAP, NODE_CAP, Frame, Kind
from runtime.codec.cbor import encode
from supervisors import Node
from supervisors.cli import certs
from supervisors.node.cluster import Cluster

from .harness import RUNS, Row, now

CLUSTER: Final = "bench"
# What is sent after the wrong bytes, until nobody takes it any more.
FLOOD: Final = b"\xff" * (256 << 10)
FLOODS: Final = 256
LIMIT: Final = 60.0


def me(name: str = "c", cluster: str = CLUSTER, creation: int = 1) -> Identity:
    """Somebody who knocks."""
    return Identity(cluster, name, creation, 77)


def _head(size: int, kind: Kind) -> bytes:
    return wire.encode(Frame(kind, 1, 1, bytes(size)))[:HEADER_SIZE]


def _call(payload: bytes) -> bytes:
    return wire.encode(Frame(Kind.CALL, 0, 1, payload))


@dataclass(frozen=True, slots=True)
class Attack:
    """What somebody says at the door.

    Attributes:
        data: the bytes that are wrong, or a hello that is.
        keys: whose keys it uses, of a cluster with TLS; "": it does no TLS. Of a cluster in clear text None.
        linked: whether it has been let in as a node first.
    """

    data: bytes
    keys: str | None = None
    linked: bool = False


# With clear text, where all kinds but those of TLS can be had.
ATTACKS: Final[dict[str, Attack]] = {
    "plain bytes": Attack(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    "noise": Attack(FLOOD[:HEADER_SIZE]),
    "a hello over its cap": Attack(_head(HELLO_CAP + 1, Kind.HELLO)),
    "another cluster": Attack(Hello(me(cluster="other")).to_bytes()),
    "an older life": Attack(Hello(me("known", creation=0)).to_bytes()),
    "an unknown version": Attack(Hello(me(), "node", 7, 9).to_bytes()),
    "a name that is taken": Attack(Hello(me("b")).to_bytes()),
    "plain bytes for TLS": Attack(b"GET / HTTP/1.1\r\n\r\n", keys=""),
    "a hello in clear for TLS": Attack(Hello(me()).to_bytes(), keys=""),
    "a foreign authority": Attack(b"", keys="foreign"),
    "a client's keys": Attack(b"", keys="client"),
    "another's name": Attack(Hello(me("known")).to_bytes(), keys="c"),
    "a frame over the cap": Attack(_head(NODE_CAP + 1, Kind.CALL), linked=True),
    "a length that lies": Attack(b"\xff\xff\xff\xff\x10" + bytes(HEADER_SIZE - 5), linked=True),
    "an unknown kind": Attack(wire.encode(Frame(77)), linked=True),
    "a value that is none": Attack(_call(b"\xff"), linked=True),
    "a foreign tag": Attack(_call(b"\xc4\x82\x01\x02"), linked=True),
    "nesting without end": Attack(_call(b"\x81" * (NODE_CAP - 1)), linked=True),
    "an array that lies": Attack(_call(b"\x9b" + b"\x7f" * 8), linked=True),
    "a text that lies": Attack(_call(b"\x7b" + b"\x7f" * 8), linked=True),
    "a record nobody knows": Attack(_call(encode(("x", 1))[:1] + b"\xd9\xba\x00\x84\x61x\x01\x80\x80"), linked=True),
    "many values, the last none": Attack(_call(b"\x9a\x00\x0f\xff\x00" + b"\x01" * 0xFFEFF + b"\xff"), linked=True),
}


class Door:
    """A node that is knocked at."""

    def __init__(self, node: Node, keys: Path | None) -> None:
        self._node = node
        self._keys = keys

    def state(self) -> Any:
        """What its `net_kernel` says: its address, links and refusals."""
        behaviour = self._node.table.names["net_kernel"].behaviour
        assert isinstance(behaviour, NetKernel)
        return behaviour.state()

    async def pipe(self, attack: Attack) -> Pipe:
        """A connection, with its TLS done."""
        host, _, port = self.state()["address"].rpartition(":")
        cipher = Cipher(_keys_of(self._keys, attack.keys), listening=False) if self._keys and attack.keys else None
        pipe = Pipe(await trio.open_tcp_stream(host, int(port)), cipher)
        await pipe.secure()
        return pipe

    async def refuses(self, attack: Attack) -> float:
        """Make an attack; seconds until it was refused."""
        pipe = await self.pipe(attack)
        if attack.linked:
            await pipe.send(Hello(me()).to_bytes() + wire.encode(Frame(Kind.WELCOME, number=1)))
            await _until(lambda: "c" in self.state()["links"])
        refused = sum(self.state()["refused"].values())
        if attack.data:
            await pipe.send(attack.data)
        begun = now()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_flood, pipe)
            if attack.linked:
                await _until(lambda: "c" not in self.state()["links"])
            else:
                await _until(lambda: sum(self.state()["refused"].values()) > refused)
            took = now() - begun
        await pipe.aclose()
        return took


async def _flood(pipe: Pipe) -> None:
    try:
        for _ in range(FLOODS):
            await pipe.send(FLOOD)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


async def _until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(LIMIT):
        while not condition():
            await trio.lowlevel.checkpoint()


def make_keys(folder: Path) -> Path:
    """Keys of a cluster with the nodes b, c and known, of a client, and of a node c of another authority."""
    ours, foreign = folder / "keys", folder / "foreign"
    for authority in (ours, foreign):
        certs.init(authority)
        for name in ("b", "c", "known"):
            certs.issue(authority, "node", name)
    certs.issue(ours, "client", "ops")
    return folder


def _keys_of(folder: Path | None, who: str | None) -> Keys:
    assert folder is not None
    if who == "foreign":
        keys = Keys(folder / "foreign", "c")
        keys.dialling.load_verify_locations(folder / "keys" / "ca.pem")  # else it would itself refuse first
        return keys
    if who == "client":
        posing = folder / "posing"
        posing.mkdir(exist_ok=True)
        for name in ("ca.pem", "client-ops.pem", "client-ops.key"):
            (posing / name.replace("client", "node")).write_bytes((folder / "keys" / name).read_bytes())
        return Keys(posing, "ops")
    return Keys(folder / "keys", "c")


@asynccontextmanager
async def door(folder: Path | None = None) -> AsyncIterator[Door]:
    """A node with its door open; with a folder of `make_keys`, by TLS."""
    certs_of = str(folder / "keys") if folder is not None else None
    cluster = Cluster(certs=certs_of, clear=folder is None, id=CLUSTER, listen="127.0.0.1:0")
    async with Node("b", cluster=cluster) as node:
        found = Door(node, folder)
        await _until(lambda: found.state()["address"] != "")
        if folder is None:
            # A node of which an older life may not come again.
            pipe = await found.pipe(Attack(b""))
            await pipe.send(Hello(me("known")).to_bytes() + wire.encode(Frame(Kind.WELCOME, number=1)))
            await _until(lambda: "known" in found.state()["links"])
            await pipe.aclose()
            await _until(lambda: "known" not in found.state()["links"])
        yield found


def rows() -> list[Row]:
    """For each attack: milliseconds until it was refused, and KiB that were held for it."""
    logging.disable(logging.CRITICAL)
    found: dict[str, tuple[Row, Row]] = {}

    async def all_of(folder: Path | None) -> None:
        async with door(folder) as one:
            for name, attack in ATTACKS.items():
                if (attack.keys is not None) != (folder is not None):
                    continue
                took, held = Row(f"refused: {name}", "ms", "lower"), Row(f"held for: {name}", "KiB", "lower")
                await one.refuses(attack)
                for _ in range(RUNS):
                    took.runs.append(await one.refuses(attack) * 1e3)
                held.runs.append(await held_for(one, attack) / 1024)
                found[name] = took, held
                print(f"{name}: {statistics.median(took.runs):.2f} ms, {held.runs[0]:,.0f} KiB", file=sys.stderr)

    with tempfile.TemporaryDirectory() as made:
        trio.run(all_of, None)
        trio.run(all_of, make_keys(Path(made)))
    return [row for pair in found.values() for row in pair]


async def held_for(one: Door, attack: Attack) -> int:
    """Bytes that Python holds at most while an attack is refused, beyond those before."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        await one.refuses(attack)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return most - before
