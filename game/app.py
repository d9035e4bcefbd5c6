"""The card room as an application: its supervision tree.

CardRoom            one_for_one
|-- room            rest_for_one: who restarts takes those below along
|   |-- wallets     dynamic: a wallet for each player
|   |-- tables      dynamic: a table process for each table
|   `-- lobby       knows them all, and starts what is missing
...
"""

from __future__ import annotations

from typing import Any

from supervisors import DynamicSupervisor, Supervisor, child

from .lobby import LOBBY, TABLES, WALLETS, Lobby


class Entities(DynamicSupervisor):
    """The wallets, or the tables: each crash is its own, and there may be many at once."""

    def init(self, intensity: int) -> Any:
        self.intensity = intensity  # type: ignore[misc]  # said by whoever starts the room
        return []


class Room(Supervisor):
    """Wallets, tables and the lobby: all that holds chips.

    Args:
        intensity: restarts allowed in 5 seconds, here and among the wallets and tables.
    """

    strategy = "rest_for_one"

    def init(self, intensity: int = 10) -> Any:
        self.intensity = intensity  # type: ignore[misc]  # said by whoever starts the room
        return [
            child("wallets", Entities, intensity, name=WALLETS),
            child("tables", Entities, intensity, name=TABLES),
            child("lobby", Lobby, LOBBY, name=LOBBY),
        ]
