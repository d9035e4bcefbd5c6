"""The card room as an application: its supervision tree, and the settings it takes.

card room           one_for_one
|-- room            rest_for_one: who restarts takes those below along
|   |-- wallets     dynamic: a wallet for each player
|   |-- tables      dynamic: a table process for each table
|   `-- lobby       knows them all, and starts what is missing
|-- house           opens the tables that the settings ask for, then is done
|-- bots            each restarted alone
`-- gateway         players over WebSocket

In a cluster each node has such a tree, and wallets, tables and the lobby are entities of three regions: each of them
runs on the node that owns its shard, and is found from all. A bot plays on the node where its table is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from runtime import Misuse, Session
from runtime.edge.acceptor import check_address
from runtime.kernel.table import current_table
from supervisors import Application, DynamicSupervisor, Supervisor, check_settings, child, region

from .bots import Bots
from .gateway import Gateway, GatewaySettings
from .lobby import LOBBY, TABLES, WALLETS, Lobby
from .messages import Open, OpenTable, TableConfig
from .places import ROOM, TABLE, WALLET, assembled, is_spread, place, settle
from .table import Table
from .wallet import Wallet

TREES = ("oak", "elm", "fir", "ash", "yew", "bay", "fig", "box")
SETTINGS = ("tables", "seats", "bots", "think", "pause", "turn", "away", "grant", "listen", "remote", "nodes")


class Entities(DynamicSupervisor):
    """The wallets, or the tables: each crash is its own, and there may be many at once."""

    def init(self, intensity: int) -> Any:
        self.intensity = intensity  # type: ignore[misc]  # said by whoever starts the room
        return []


class Room(Supervisor):
    """Wallets, tables and the lobby: all that holds chips.

    Args:
        intensity: restarts allowed in 5 seconds, here and among the wallets and tables; of those of one shard, in
            a cluster.
    """

    strategy = "rest_for_one"

    def init(self, intensity: int = 10) -> Any:
        self.intensity = intensity  # type: ignore[misc]  # said by whoever starts the room
        if settle(current_table()):
            # Remembered, as both have something to do without being asked: chips to deliver, a clock that runs.
            return [
                region(WALLET, Wallet, remember=True, intensity=intensity),
                region(TABLE, Table, remember=True, intensity=intensity),
                region(ROOM, Lobby, idle=math.inf, intensity=intensity),
            ]
        return [
            child("wallets", Entities, intensity, name=WALLETS),
            child("tables", Entities, intensity, name=TABLES),
            child("lobby", Lobby, LOBBY, name=LOBBY),
        ]


async def open_tables(tables: tuple[TableConfig, ...], nodes: int = 1) -> None:
    """Have the lobby open tables, once so many nodes are there; those that are open already stay as they are."""
    await assembled(nodes)
    house = Session("house", remembered=True)
    for config in tables:
        await house.command(place(LOBBY), OpenTable(config))
        if is_spread():  # its region has started it without
            await Session("house", remembered=True).command(place(config.key), Open(config))


class CardRoom(Supervisor):
    """The whole card room.

    Args:
        tables: to be open; others that the journal knows are opened too.
        bots: whether all seats but one are taken by bots.
        think_seconds, grant: as for a bot.
        gateway: where and how players come in.
        nodes: how many nodes there must be before tables are opened.
    """

    intensity = 10

    def init(
        self,
        tables: tuple[TableConfig, ...],
        bots: bool,
        think_seconds: float,
        grant: int,
        gateway: GatewaySettings,
        nodes: int = 1,
    ) -> Any:
        children = [child("room", Room), child("house", open_tables, tables, nodes, restart="transient")]
        if bots:
            children.append(child("bots", Bots, tables, think_seconds, grant))
        children.append(child("gateway", Gateway, gateway))
        return children


def application(settings: Mapping[str, str]) -> Application:
    """What `banyan start game.app:application` runs.

    Settings: `tables` (how many, 1 to 8), `seats` (2 to 10), `bots` (yes or no), `think` (seconds a bot
    thinks, at most), `pause` (seconds between hands), `turn` (seconds a player may think; 0: for ever),
    `away` (hands in a row in which a player misses every turn, then the seat is given up; 0: never),
    `grant` (hundredths of a chip that the house gives a new player), `listen` (the gateway's address) and
    `remote` (yes: it may be one that is not of this machine),
    `nodes` (in a cluster: how many nodes are waited for before tables are opened, so that they are spread).
    """
    check_settings(settings, SETTINGS)
    count = _whole(settings, "tables", 2, 1, len(TREES))
    seats = _whole(settings, "seats", 6, 2, 10)
    turn, pause = _seconds(settings, "turn", 20.0), _seconds(settings, "pause", 2.0)
    away = _whole(settings, "away", 3, 0, 1_000_000)
    tables = tuple(
        TableConfig(name, seats=seats, turn_seconds=turn, pause_seconds=pause, away_hands=away)
        for name in TREES[:count]
    )
    bots, remote = _yes(settings, "bots", "yes"), _yes(settings, "remote", "no")
    grant = _whole(settings, "grant", 100_000_000, 1, 10**15)
    # Checked here too, where a mistake is still one of usage.
    listen = check_address(settings.get("listen", "127.0.0.1:0"), remote=remote)
    gateway = GatewaySettings(listen=listen, remote=remote, grant=grant)
    think, nodes = _seconds(settings, "think", 1.0), _whole(settings, "nodes", 1, 1, 64)
    args = (tables, bots, think, grant, gateway)
    return Application(CardRoom, args if nodes == 1 else (*args, nodes), "card room")


def _yes(settings: Mapping[str, str], name: str, default: str) -> bool:
    text = settings.get(name, default)
    if text not in ("yes", "no"):
        raise Misuse(f"the setting {name} is yes or no, got {text!r}")
    return text == "yes"


def _whole(settings: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = settings.get(name, str(default))
    if not text.isdecimal() or not least <= int(text) <= most:
        raise Misuse(f"the setting {name} is a whole number from {least} to {most}, got {text!r}")
    return int(text)


def _seconds(settings: Mapping[str, str], name: str, default: float) -> float:
    text = settings.get(name, str(default))
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86_400:
        raise Misuse(f"the setting {name} is seconds from 0 to 86400, got {text!r}")
    return value
