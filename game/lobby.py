"""The lobby: a durable list of tables and players, which keeps a process running for each of them.

After every recovery and every change it starts what is missing under the room's dynamic supervisors, so
that a supervisor which was killed with all its children is filled again from the journal.
"""

from __future__ import annotations

from typing import Any

from runtime import EventSourced, Refuse, call, whereis
from supervisors import ChildRefused, child, start_child

from .messages import Join, Joined, LobbyState, OpenTable, TableConfig, TableOpened, Tables
from .table import Table
from .wallet import Wallet, key_of

LOBBY = "lobby"
WALLETS = "wallets"
TABLES = "tables"


async def tables() -> tuple[TableConfig, ...]:
    """All tables of the room."""
    return await call(LOBBY, Tables())


class Lobby(EventSourced[LobbyState, TableOpened | Joined]):
    """Knows every table and player of the room; its key is `lobby`."""

    def initial(self, key: str) -> LobbyState:
        return LobbyState((), ())

    def handle(self, state: LobbyState, command: Any) -> Refuse | tuple[Any, Any]:
        match command:
            case OpenTable(config):
                found = [one for one in state.tables if one.name == config.name]
                if found and found[0] != config:
                    return Refuse(f"another table is called {config.name!r}: choose another name")
                if not 2 <= config.seats <= 10:
                    return Refuse(f"a table has 2 to 10 seats, got {config.seats}")
                return (None if found else TableOpened(config)), config.key
            case Join(player):
                if not player or len(player.encode()) > 64:
                    return Refuse("a player's name has 1 to 64 bytes")
                known = player in state.players
                return (None if known else Joined(player)), not known
            case _:
                return Refuse(f"the lobby cannot do {type(command).__name__}")

    def apply(self, state: LobbyState, event: TableOpened | Joined) -> LobbyState:
        match event:
            case TableOpened(config):
                return LobbyState((*state.tables, config), state.players)
            case Joined(player):
                return LobbyState(state.tables, (*state.players, player))

    def query(self, state: LobbyState, request: Any) -> Any:
        match request:
            case Tables():
                return state.tables
            case _:
                return super().query(state, request)

    async def reconcile(self, state: LobbyState) -> None:
        for player in state.players:
            key = key_of(player)
            if whereis(key) is None:
                await _ensure(WALLETS, key, Wallet, key)
        for config in state.tables:
            if whereis(config.key) is None:
                await _ensure(TABLES, config.key, Table, config.key, config)


async def _ensure(supervisor: str, key: str, kind: Any, *args: Any) -> None:
    """Start an entity, unless it is just being restarted by its supervisor."""
    try:
        await start_child(supervisor, child(key, kind, *args, name=key))
    except ChildRefused as refused:
        if whereis(key) is None:
            raise refused
