"""The lobby: a durable list of tables and players, which keeps a process running for each of them.

After every recovery and every change it starts what is missing under the room's dynamic supervisors, so
that a supervisor which was killed with all its children is filled again from the journal. In a cluster that
is done by the regions of the wallets and tables.
"""

from __future__ import annotations

from typing import Any

from runtime import AlreadyStarted, Down, EventSourced, Ref, Refuse, call, monitor, self_pid, whereis
from supervisors import ChildRefused, child, start_child

from .aside import LOBBY, WasSetAside
from .messages import (
    DamagedEntities,
    Join,
    Joined,
    LobbyState,
    OpenTable,
    TableConfig,
    TableOpened,
    Tables,
    TellSetAside,
)
from .places import is_spread, place
from .table import Table
from .wallet import Wallet, key_of

__all__ = ["LOBBY", "TABLES", "WALLETS", "Lobby", "damaged", "tables"]

WALLETS = "wallets"
TABLES = "tables"


async def tables() -> tuple[TableConfig, ...]:
    """All tables of the room."""
    return await call(place(LOBBY), Tables())


async def damaged() -> dict[str, str]:
    """The tables and wallets that are set aside, by their keys, and why."""
    return dict(await call(place(LOBBY), DamagedEntities()))


class Lobby(EventSourced[LobbyState, TableOpened | Joined]):
    """Knows every table and player of the room; its key is `lobby`."""

    def setup(self) -> None:
        # Not journalled: whether a record is damaged is found anew at each start.
        self._damaged: dict[Ref, WasSetAside] = {}

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
            case DamagedEntities():
                return tuple((one.key, one.why) for one in self._damaged.values())
            case TellSetAside(key, why, pid):
                if all(one.pid != pid for one in self._damaged.values()):
                    self._damaged[monitor(pid)] = WasSetAside(key, why, pid)
                return self_pid()
            case _:
                return super().query(state, request)

    def hand_over(self) -> object:
        """When its shard moves: who is set aside."""
        return tuple((ref, one.key, one.why, one.pid) for ref, one in self._damaged.items())

    def take_over(self, value: Any) -> None:
        """The other end of that, on the new node: the monitors are already ours."""
        self._damaged = {ref: WasSetAside(key, why, pid) for ref, key, why, pid in value}

    def unexpected(self, state: LobbyState, message: object) -> None:
        match message:
            case WasSetAside(pid=pid):
                self._damaged[monitor(pid)] = message
            case Down(ref=ref) if ref in self._damaged:
                del self._damaged[ref]  # tried again: if it is damaged still, we are told again
            case _:
                super().unexpected(state, message)

    def describe(self, state: LobbyState) -> str:
        counted = f"{len(state.tables)} tables, {len(state.players)} players"
        return "; ".join([counted, *(one.why for one in self._damaged.values())])

    def upcast(self, name: str, version: int, fields: tuple[Any, ...]) -> object:
        if (name, version) == ("table.config", 1):
            return TableConfig(*fields)
        return super().upcast(name, version, fields)

    async def reconcile(self, state: LobbyState) -> None:
        if is_spread():
            return
        for player in state.players:
            await _ensure(WALLETS, key_of(player), Wallet, key_of(player))
        for config in state.tables:
            await _ensure(TABLES, config.key, Table, config.key, config)


async def _ensure(supervisor: str, key: str, kind: Any, *args: Any) -> None:
    """Start an entity, unless it is just being restarted by its supervisor."""
    while whereis(key) is None:
        try:
            await start_child(supervisor, child(key, kind, *args, name=key))
        except ChildRefused as refused:
            # Whoever had the name may have died since: then it is to be started after all.
            if not isinstance(refused.detail, AlreadyStarted) and whereis(key) is None:
                raise refused
