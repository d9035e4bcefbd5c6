"""A player's wallet: a durable process for each player, and the interface that others use.

Chips move by transfers, never by one transaction over two processes: a debit is journalled here together
with the promise to deliver it; the table's credit carries the transfer's number and is repeated until it
is acknowledged; then the transfer is closed. A crash at any point neither makes nor loses a chip.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from runtime import Delivery, Refuse, call

from .action import chips
from .aside import Entity
from .messages import (
    Balance,
    BuyIn,
    CloseTransfer,
    Credit,
    Credited,
    Debited,
    Grant,
    Granted,
    ReturnTransfer,
    TakeChips,
    Transfer,
    TransferClosed,
    TransferReturned,
    UnderWay,
    WalletState,
)
from .places import place

WalletEvent = Granted | Debited | Credited | TransferClosed | TransferReturned


def key_of(player: str) -> str:
    """The key, and registered name, of a player's wallet."""
    return f"wallet/{player}"


async def balance(player: str) -> int:
    """What a player's wallet holds, in hundredths."""
    return await call(place(key_of(player)), Balance())


class Wallet(Entity[WalletState, WalletEvent]):
    """Holds one player's chips; its key is `wallet/NAME`."""

    def initial(self, key: str) -> WalletState:
        return WalletState(key.removeprefix("wallet/"), 0, 0, 0, ())

    def handle(self, state: WalletState, command: Any) -> Refuse | tuple[Any, Any]:
        match command:
            case Grant(amount):
                if type(amount) is not int or amount < 1:
                    return Refuse(f"a grant is a whole number of hundredths above 0, got {amount!r}")
                return Granted(amount), state.balance + amount
            case BuyIn(table, amount):
                if type(amount) is not int or amount < 1:
                    return Refuse(f"a buy-in is a whole number of hundredths above 0, got {amount!r}")
                if amount > state.balance:
                    return Refuse(f"not enough chips: {amount} asked for, {state.balance} in the wallet")
                number = state.last_transfer + 1
                return Debited(number, table, amount), number
            case Credit(amount):
                if type(amount) is not int or amount < 1:
                    return Refuse(f"a credit is a whole number of hundredths above 0, got {amount!r}")
                return Credited(amount), state.balance + amount
            case CloseTransfer(number):
                if all(one.number != number for one in state.open):
                    return None, None
                return TransferClosed(number), None
            case ReturnTransfer(number, reason):
                if all(one.number != number for one in state.open):
                    return None, None
                return TransferReturned(number, reason), None
            case _:
                return Refuse(f"a wallet cannot do {type(command).__name__}")

    def apply(self, state: WalletState, event: WalletEvent) -> WalletState:
        match event:
            case Granted(amount):
                return replace(state, balance=state.balance + amount, granted=state.granted + amount)
            case Debited(number, table, amount):
                transfer = Transfer(number, table, state.player, amount)
                return replace(
                    state,
                    balance=state.balance - amount,
                    last_transfer=number,
                    open=(*state.open, transfer),
                )
            case Credited(amount):
                return replace(state, balance=state.balance + amount)
            case TransferClosed(number):
                return replace(state, open=tuple(one for one in state.open if one.number != number))
            case TransferReturned(number, _):
                back = sum(one.amount for one in state.open if one.number == number)
                return replace(
                    state,
                    balance=state.balance + back,
                    open=tuple(one for one in state.open if one.number != number),
                )

    def describe(self, state: WalletState) -> str:
        return f"{chips(state.balance)} chips"

    def query(self, state: WalletState, request: Any) -> Any:
        match request:
            case Balance():
                return state.balance
            case UnderWay(number):
                return any(one.number == number for one in state.open)
            case _:
                return super().query(state, request)

    def pending(self, state: WalletState) -> Iterable[Delivery]:
        for one in state.open:
            yield Delivery(
                one.number,
                place(one.to),
                TakeChips(one.player, one.amount),
                settled=CloseTransfer(one.number),
                refused=ReturnTransfer(one.number),
            )
