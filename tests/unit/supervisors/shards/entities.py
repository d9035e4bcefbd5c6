"""Entities for the tests of regions: a durable account, a volatile counter, and the region they are in."""

from __future__ import annotations

import contextlib
from typing import Any

from runtime import Call, Cast, EventSourced, GenServer, Query, Refuse, Stop, message
from supervisors import Supervisor


@message("shards.deposit")
class Deposit(Call[int]):
    amount: int


@message("shards.deposited")
class Deposited:
    amount: int


@message("shards.balance")
class Balance(Query[int]):
    pass


@message("shards.break")
class Break(Call[int]):
    """Crash the first time."""


@message("shards.give")
class Give(Cast):
    amount: int


@message("shards.read")
class Read(Call[tuple[int, ...]]):
    pass


@message("shards.end")
class End(Cast):
    pass


broken: set[str] = set()


class Account(EventSourced[int, Deposited]):
    """Adds up what is deposited; its reply is the balance after it."""

    def initial(self, key: str) -> int:
        return 0

    def handle(self, state: int, command: Any) -> Any:
        match command:
            case Deposit(amount) | Give(amount):
                if amount < 0:
                    return Refuse("not below 0")
                return Deposited(amount), state + amount
            case Break():
                if self.key not in broken:
                    broken.add(self.key)
                    raise RuntimeError("broken")
                return Deposited(1000), state + 1000
        return Refuse("what is that?")

    def apply(self, state: int, event: Deposited) -> int:
        return state + event.amount

    def query(self, state: int, request: Any) -> int:
        return state


class Counter(GenServer):
    """Remembers what it was given, in order, until it ends."""

    def init(self, key: str, *more: Any) -> None:
        self.key, self.more = key, more
        self.got: list[int] = []

    def handle_call(self, request, caller):
        match request:
            case Deposit(amount):
                self.got.append(amount)
                return len(self.got)
            case Read():
                return tuple(self.got)
            case Break():
                raise RuntimeError("broken")

    def handle_cast(self, request):
        match request:
            case Give(amount):
                self.got.append(amount)
            case End():
                return Stop("over")
        return None

    def handle_info(self, message):
        self.got.append(message)


class House(Supervisor):
    """Holds the regions that it is given."""

    intensity = 100

    def init(self, *children: Any) -> Any:
        return list(children)


@contextlib.contextmanager
def unbroken():
    """Everybody's first crash is still to come."""
    broken.clear()
    yield
    broken.clear()
