"""Processes to look into: a durable account, a table that waits on a wallet, one that fails, one with a secret."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import trio

from runtime import Call, EventSourced, GenServer, Refuse, call, message
from supervisors import Node, Supervisor, child


@message("tests.observe.deposit")
class Deposit(Call[int]):
    """Put something in."""

    amount: int


@message("tests.observe.deposited")
class Deposited:
    """It was put in."""

    amount: int


@message("tests.observe.break")
class Break(Call[int]):
    """What an account crashes over until it is mended."""

    note: str = ""


@message("tests.observe.account")
class AccountState:
    """What an account holds."""

    total: int
    last: int


class Account(EventSourced[AccountState, Deposited]):
    """A durable process; an amount of 13 is an event that its `apply` does not take."""

    snapshot_every = 1000
    mended: ClassVar[bool] = False

    def initial(self, key: str) -> AccountState:
        return AccountState(0, 0)

    def handle(self, state: AccountState, command: Any) -> Any:
        match command:
            case Deposit(amount) if amount < 0:
                return Refuse("it must be more than nothing")
            case Deposit(amount):
                return Deposited(amount), state.total + amount
            case Break() if self.mended:
                return Deposited(7), state.total + 7
            case Break():
                raise ArithmeticError("odd")
        return Refuse("what is that?")

    def apply(self, state: AccountState, event: Deposited) -> AccountState:
        return AccountState(state.total + event.amount, event.amount)


class Wallet(GenServer):
    """Answers when its gate is opened."""

    def init(self) -> None:
        self.gate = trio.Event()
        self.served = 0

    async def handle_call(self, request: object, caller: object) -> object:
        await self.gate.wait()
        self.served += 1
        return request


class Table(GenServer):
    """Asks its wallet about everything."""

    def init(self, wallet: str) -> None:
        self.wallet = wallet

    async def handle_call(self, request: object, caller: object) -> object:
        return await call(self.wallet, request, timeout=1000.0)

    async def handle_cast(self, request: object) -> None:
        await call(self.wallet, request, timeout=1000.0)


class Safe(GenServer):
    """Keeps a number that nobody may see, in its state and in what it is told."""

    def init(self) -> None:
        self.number = "4711-secret"
        self.open = False

    def handle_call(self, request: object, caller: object) -> object:
        if request == "break":
            raise ValueError("odd")
        return f"answer to {request}"

    def handle_cast(self, request: object) -> None:
        self.number = str(request)

    def format_status(self, value: object) -> object:
        if isinstance(value, dict):
            return {**value, "number": "<redacted>"}
        return "<redacted>"


class Bank(Supervisor):
    """All of them."""

    intensity = 3

    def init(self) -> Any:
        return [
            child("ann", Account, "account/ann", name="account/ann"),
            child("p-7", Wallet, name="wallet/p-7"),
            child("t-042", Table, "wallet/p-7", name="table/t-042"),
            child("safe", Safe, name="safe"),
        ]


@asynccontextmanager
async def bank(**options: Any) -> AsyncIterator[Node]:
    """A node with a bank."""
    async with Node("test", data=":memory:", **options) as node:
        await node.start(Bank)
        yield node
