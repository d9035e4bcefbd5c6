"""The clients of a simulated room: they live outside the node, number their commands, and never give up."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import trio

from game.action import Action, CheckOrCall, Fold, Legal, RaiseTo
from game.aside import Damaged
from game.lobby import LOBBY
from game.messages import Act, Balance, BuyIn, CashOut, Grant, Join, Leave, Look, OpenTable, TableConfig
from game.wallet import key_of
from runtime import AlreadyDone, Call, CallFailed, Numbered, Query, Refused, Session, StoreError, call
from runtime.testing import History, SeededWorld

from .machine import GRANT, Machine
from .tally import KEYS, Add, Sum

# So many commands does a client send in its own haste, then slowly.
EAGER = 80


@dataclass(frozen=True)
class Sent:
    """A command that was answered and has left an entry: it may be sent again."""

    key: str
    number: int
    command: Call[Any]


class Client:
    """A sender of numbered commands, one after the other, who repeats each until it is answered.

    `answered` is what it may send again.
    """

    def __init__(self, sender: str, machine: Machine, world: SeededWorld, history: History) -> None:
        self.sender = sender
        self.machine = machine
        self.world = world
        self.history = history
        self.number = 0
        self.answered: list[Sent] = []
        self.findings: list[str] = []

    async def command(self, key: str, command: Call[Any], *, leaves_entry: bool = True) -> Any:
        """Send a command until it is answered; None if it was refused."""
        self.number += 1
        session = Session(self.sender, patience=2.0)
        operation = self.history.called(key, self.sender, self.number, command)
        while True:
            await self.machine.up()
            session.number = self.number - 1
            try:
                reply = await session.command(key, command)
            except Damaged:
                self.repair()
                continue
            except Refused as refused:
                self.history.answered(operation, refused=refused.reason)
                self.number -= 1
                self.world.sometimes("a command was refused")
                return None
            except (CallFailed, StoreError):
                self.world.sometimes("a client ran out of patience")
                continue
            break
        if isinstance(reply, AlreadyDone):
            # The newest number of a sender always has its reply kept.
            self.findings.append(f"reply: number {self.number} of {self.sender} to {key} was forgotten")
            return None
        self.history.answered(operation, reply)
        if leaves_entry:
            self.history.acked(key, self.sender, self.number, reply)
            self.answered.append(Sent(key, self.number, command))
        return reply

    def repair(self) -> None:
        """What an operator does about a record that is damaged: start the node again, on a disk that reads well."""
        self.world.sometimes("a damaged record was set aside")
        self.machine.crash()

    async def ask(self, key: str, query: Query[Any]) -> Any:
        """Ask until there is an answer."""
        operation = self.history.called(key, self.sender, 0, query)
        while True:
            await self.machine.up()
            try:
                answer = await Session(self.sender).ask(key, query, patience=2.0)
            except Damaged:
                self.repair()
                continue
            except (CallFailed, StoreError):
                continue
            self.history.answered(operation, answer)
            return answer

    async def again(self, old: Sent) -> None:
        """Send an answered command once more, as a network that repeats would."""
        await self.machine.up()
        try:
            reply = await call(old.key, Numbered(self.sender, old.number, old.command), timeout=1.0)
        except (CallFailed, StoreError):
            return
        except Damaged:
            self.repair()
            return
        except Refused as refused:
            self.findings.append(
                f"reply: number {old.number} of {self.sender} to {old.key} was done, then refused: {refused}"
            )
            return
        if isinstance(reply, AlreadyDone):
            self.world.sometimes("a reply was too old to be repeated")
        else:
            self.world.sometimes("a reply was repeated")
            self.history.acked(old.key, self.sender, old.number, reply)


async def open_tables(client: Client, tables: tuple[TableConfig, ...]) -> None:
    """The house opens its tables."""
    for config in tables:
        await client.command(LOBBY, OpenTable(config))


class Player:
    """One scripted player: buys in, plays, cashes out, leaves, asks, and sends old commands again."""

    def __init__(self, name: str, client: Client, tables: tuple[TableConfig, ...], pauses: float, seed: int) -> None:
        self.name = name
        self.client = client
        self.tables = tables
        self.pauses = pauses
        self.random = random.Random(f"{seed}/{name}")
        self.stopping = False

    async def run(self) -> None:
        """Come in, get chips from the house, and play until told to stop."""
        new = await self.client.command(LOBBY, Join(self.name), leaves_entry=False)
        assert new in (True, False, None)
        bank = Client(f"house/{self.name}", self.client.machine, self.client.world, self.client.history)
        await bank.command(key_of(self.name), Grant(GRANT))
        done = 0
        while not self.stopping:
            await self._once(bank)
            done += 1
            # While a fault lasts for seconds, an eager client would do nothing but fill the journal.
            pause = self.pauses if done < EAGER else max(self.pauses, 0.3)
            await trio.sleep(self.random.random() * pause)  # virtual
        self.client.findings += bank.findings

    async def _once(self, bank: Client) -> None:
        table = self.random.choice(self.tables)
        draw = self.random.random()
        client = self.client
        if draw < 0.25:
            await self._act(table)
        elif draw < 0.33:
            await client.command(self.random.choice(KEYS), Add(self.random.choice((-1, 1, 5, 1000))))
        elif draw < 0.35:
            await client.command(self.random.choice(KEYS), Add(0), leaves_entry=False)
        elif draw < 0.38:
            await client.ask(self.random.choice(KEYS), Sum())
        elif draw < 0.5:
            await client.command(
                key_of(self.name), BuyIn(table.key, self.random.choice((-1, 100, 1_000, 5_000, 10**9)))
            )
        elif draw < 0.65:
            await client.command(table.key, CashOut(self.name, self.random.choice((0, 100, 700, 5_000))))
        elif draw < 0.7:
            await client.command(table.key, Leave(self.name), leaves_entry=False)
        elif draw < 0.73:
            await bank.command(key_of(self.name), Grant(500))
        elif draw < 0.8:
            await client.ask(key_of(self.name), Balance())
        elif client.answered:
            # Mostly the last ones: of the older ones the reply may be forgotten.
            back = min(len(client.answered), 1 + int(self.random.expovariate(0.3)))
            await client.again(client.answered[-back])

    async def _act(self, table: TableConfig) -> None:
        view = await self.client.ask(table.key, Look(self.name))
        if view.hand is None or view.legal is None:
            return
        await self.client.command(table.key, Act(self.name, view.hand, self._choose(view.legal)))

    def _choose(self, legal: Legal) -> Action:
        draw = self.random.random()
        if draw < 0.1:
            return RaiseTo(self.random.choice((1, 10**9)))  # refused
        if draw < 0.3 and legal.min_raise_to is not None:
            return RaiseTo(legal.min_raise_to)
        return Fold() if draw > 0.8 and legal.may_fold else CheckOrCall()
