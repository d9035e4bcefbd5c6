"""A room with a planted fault: a table asks a wallet, which asks the table back, and players queue up behind it."""

from __future__ import annotations

from typing import Any

import trio

from runtime import Call, CallFailed, GenServer, call, cast, message, spawn
from supervisors import Supervisor, child

PLAYERS = 25
# Seconds: long enough that nobody's patience ends while somebody looks.
PATIENCE = 600.0


@message("planted.withdraw")
class Withdraw(Call[int]):
    """Take chips to a table."""

    table: str
    amount: int


@message("planted.confirm")
class Confirm(Call[bool]):
    """May these chips come?"""

    amount: int


@message("planted.deposit")
class Deposit(Call[int]):
    """Put chips in."""

    amount: int


@message("planted.buy_in")
class BuyIn:
    """Sit down with chips of a wallet."""

    wallet: str


class Wallet(GenServer):
    """Holds a player's chips. The fault: it asks the table while the table waits for it."""

    def init(self) -> None:
        self.chips = 1000

    async def handle_call(self, request: Any, caller: object) -> int:
        match request:
            case Withdraw(table, amount):
                await call(table, Confirm(amount), timeout=PATIENCE)
                self.chips -= amount
            case Deposit(amount):
                self.chips += amount
        return self.chips


class Table(GenServer):
    """Takes chips from wallets."""

    def init(self) -> None:
        self.pot = 0

    def handle_call(self, request: Confirm, caller: object) -> bool:
        return True

    async def handle_cast(self, request: BuyIn) -> None:
        await call(request.wallet, Withdraw("table/t-042", 100), timeout=PATIENCE)
        self.pot += 100


async def player() -> None:
    """Puts a chip in, and does without an answer."""
    try:
        await call("wallet/p-7", Deposit(1), timeout=PATIENCE)
    except CallFailed:
        return


async def evening() -> None:
    """One buys in, and then the others come."""
    await cast("table/t-042", BuyIn("wallet/p-7"))
    # Until the wallet has its request in hand: players who came before that would be served.
    for _ in range(20):
        await trio.lowlevel.checkpoint()
    for _ in range(PLAYERS):
        spawn(player)


class Room(Supervisor):
    """A wallet, a table, and an evening."""

    intensity = 5

    def init(self) -> Any:
        return [
            child("p-7", Wallet, name="wallet/p-7"),
            child("t-042", Table, name="table/t-042"),
            child("evening", evening, restart="temporary"),
        ]
