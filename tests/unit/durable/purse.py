"""What the tests of this room start: a purse of ten coins in several kinds, and ways to ask and to end it."""

from __future__ import annotations

import trio
import trio.testing

from runtime import KILL, Call, EventSourced, Pid, Refuse, exit, message, spawn
from runtime.durable.commands import Query
from runtime.durable.snapshotted import Snapshotted


@message("tests.purse.take")
class Take(Call[int]):
    amount: int


@message("tests.purse.read")
class Read(Query[int]):
    pass


@message("tests.purse.break")
class Break(Call[int]):
    pass


@message("tests.purse.taken")
class Taken:
    amount: int


class Purse(EventSourced[int, Taken]):
    """Ten coins; takes leave what is left as their reply."""

    def initial(self, key):
        return 10

    def handle(self, state, command):
        match command:
            case Take(0):
                return None, state
            case Take(amount) if amount > state:
                return Refuse(f"only {state} left")
            case Take(amount):
                return Taken(amount), state - amount
        raise ValueError("broken")

    def apply(self, state, event):
        return state - event.amount

    def query(self, state, request):
        return state


class Plain(Snapshotted[int]):
    """The same purse without events."""

    def initial(self, key):
        return 10

    def handle(self, state, command):
        match command:
            case Take(amount) if amount > state:
                return Refuse(f"only {state} left")
            case Take(amount):
                return state - amount, state - amount
        raise ValueError("broken")

    def query(self, state, request):
        return state


async def settled() -> None:
    """Let everybody run until all wait."""
    await trio.testing.wait_all_tasks_blocked()


async def killed(pid: Pid) -> None:
    """Kill a process, and wait until it is gone."""
    exit(pid, KILL)
    await settled()


async def asked(function, *args):
    """Start asking beside the test, up to the wait; the place where the outcome will be."""
    outcomes = []

    async def ask():
        try:
            outcomes.append(await function(*args))
        except Exception as error:  # the outcome that the test looks at
            outcomes.append(error)

    spawn(ask)
    await settled()
    return outcomes
