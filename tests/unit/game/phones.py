"""Nodes with gateways in one simulated network, and players who come to them over WebSockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed
from websockets.trio.client import ClientConnection
from websockets.uri import parse_uri

from game.app import Room, open_tables
from game.gateway import Gateway, GatewaySettings
from game.messages import TableConfig
from game.places import assembled
from runtime.edge.tokens import Signer, Token
from runtime.kernel.table import current_table
from supervisors import Supervisor, child
from tests.support.clusters import Machines
from tests.unit.game.players import Player

SHARDS = 8
GRANT = 100_000
PORT = 5000
# Each node has its own, as each has a data directory of its own.
SECRETS = {name: name.encode() * 32 for name in "abc"}
OAK = TableConfig("oak", blinds=(50, 100), seats=6, turn_seconds=0.0, pause_seconds=-1.0)


class House(Supervisor):
    """A room and its gateway."""

    intensity = 100

    def init(self) -> Any:
        node = current_table().node
        settings = GatewaySettings(listen=f"{node}:{PORT}", remote=True, secret=SECRETS[node], grant=GRANT)
        return [
            child("room", Room, 100),
            child("house", open_tables, (OAK,), 3, restart="transient"),
            child("gateway", Gateway, settings),
        ]


async def three(machines: Machines) -> None:
    """Nodes a, b and c, each with a third of the shards; oak is open."""
    for name in "abc":
        await machines.start(name, data=name, shards=SHARDS, rebalance=False)
    for number, name in enumerate("abc"):
        assert await machines.at(name, assembled, 3) == number
    await machines.until(lambda: owner(machines, OAK.key))


def owner(machines: Machines, key: str) -> str:
    """The node where an entity runs now; "" if nowhere."""
    return "".join(name for name, node in sorted(machines.nodes.items()) if key in node.table.names)


def token(machines: Machines, node: str, player: str) -> str:
    """A token with which a player can log in at a node."""
    wall = machines.nodes[node].world.wall()
    return Signer(SECRETS[node]).sign(Token("login", player, wall + 1000.0))


@asynccontextmanager
async def connected(machines: Machines, address: str, player: str) -> AsyncIterator[Player]:
    """A client of the gateway at `address` that has said nothing yet."""
    stream = await machines.network.transport("phone").connect(address)
    async with trio.open_nursery() as nursery:
        protocol = ClientProtocol(parse_uri(f"ws://{address}"))
        connection = ClientConnection(nursery, stream, protocol, ping_interval=None)
        await connection.handshake()
        yield Player(player, connection)
        await connection.aclose()
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def playing(machines: Machines, node: str, player: str, sit: int = 0) -> AsyncIterator[Player]:
    """A player who is logged in at a node and watches oak, with `sit` from a seat there."""
    async with connected(machines, f"{node}:{PORT}", player) as one:
        await one.send(op="login", token=token(machines, node, player))
        await one.hear()
        await one.done("watch", table="oak")
        if sit:
            await one.done("sit", table="oak", amount=sit)
            await one.until(lambda view: any(seat["player"] == player for seat in view["seats"]))
        yield one


async def farewell(player: Player) -> dict[str, Any]:
    """The bye of a connection that is ended."""
    bye: dict[str, Any] = {}
    try:
        while True:
            frame = await player.hear()
            bye = frame if frame["type"] == "bye" else bye
    except ConnectionClosed:
        return bye
