"""Who asks the simulated bank: tellers, which live and die with a node, and customers, who outlive them all."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import trio

from runtime import (
    AlreadyDone,
    Busy,
    CalleeExited,
    CallFailed,
    CallTimeout,
    MailboxFull,
    NoProcess,
    Pid,
    Refused,
    Session,
    StoreError,
    call,
)
from runtime.durable.commands import CommandSetAside
from runtime.kernel.elsewhere import at
from runtime.kernel.process import here
from runtime.testing import NEVER

from .cluster_bank import ECHO, Deposit, Give, Look, Ping, Transfer, accounts, baskets

if TYPE_CHECKING:
    from .cluster import Run
    from .cluster_host import Life


# So many requests does anybody send in its own haste, then slowly.
EAGER = 30


@final
@dataclass(slots=True)
class Operation:
    """One request.

    Attributes:
        id: unique in the run; what the account's log has.
        sender, number: whose, and which of its requests, in its order.
        called, answered: moments; NEVER if there was no answer.
        reply: what was answered.
        refused: with what, or "".
        life: of the teller; None of a customer.
        taken: a cast that was taken.
    """

    id: str
    key: str
    sender: str
    number: int
    request: Any
    called: int
    life: Life | None = None
    answered: int = NEVER
    reply: Any = None
    refused: str = ""
    taken: bool = False


class Asker:
    """What tellers and customers have in common: they choose what to ask, and note what they hear."""

    def __init__(self, run: Run, name: str, life: Life | None = None) -> None:
        self.run = run
        self.name = name
        self.life = life
        self.dice = random.Random(f"{run.seed}/{name}")
        self.number = 0

    def begin(self, key: str, make: Any, *more: Any) -> Operation:
        """A new request, and its place in the history."""
        self.number += 1
        id = f"{self.name}:{self.number}"
        request = make(id, *more) if make is not Look else Look()
        operation = Operation(id, key, self.name, self.number, request, self.run.moment(), self.life)
        self.run.operations.append(operation)
        return operation

    def heard(self, operation: Operation, reply: Any = None, refused: str = "") -> None:
        """An answer has come."""
        if self.life is None or not self.life.dead:
            operation.answered, operation.reply, operation.refused = self.run.moment(), reply, refused

    def account(self) -> str:
        """One of them."""
        return f"a{self.dice.randint(1, self.run.config.accounts)}"

    def amount(self) -> int:
        """How much."""
        return self.dice.randint(1, 100)

    def chosen(self) -> Operation:
        """What is asked next, of an account."""
        key, roll = self.account(), self.dice.random()
        if roll < 0.5:
            return self.begin(key, Deposit, self.amount())
        if roll < 0.8:
            return self.begin(key, Transfer, self.account(), self.amount())
        return self.begin(key, Look)

    async def pause(self) -> None:
        """Wait a little, or for a while."""
        # Where it is quiet, an eager one would do nothing but fill the journal.
        pause = self.run.config.pauses if self.number < EAGER else max(self.run.config.pauses, 1.0)
        await trio.sleep(self.dice.random() * pause)  # virtual


class Teller(Asker):
    """A process of a node: asks without numbers of its own, so its node's region sees to it that all is done once."""

    async def work(self) -> None:
        """Ask until nobody wants it any more."""
        run = self.run
        self.echoes: dict[str, Pid] = {}
        run.busy.append(self.name)
        while not run.closing:
            roll = self.dice.random()
            if roll < 0.45:
                await self._ask(self.chosen())
            elif roll < 0.65:
                await self._cast()
            elif roll < 0.8:
                await self._fill_basket()
            else:
                await self._ping()
            await self.pause()
        run.busy.remove(self.name)

    async def _ask(self, operation: Operation) -> None:
        timeout = self.dice.choice((0.3, 3.0, 20.0))
        assert self.life is not None
        try:
            reply = await accounts.call(operation.key, operation.request, timeout=timeout)
        except (Refused, CommandSetAside) as refused:
            self.heard(operation, refused=str(refused) or "?")
            self.run.sometimes("a command was refused")
        except CallTimeout:
            self.run.sometimes("a teller ran out of patience")
        except (Busy, NoProcess):
            pass
        except CalleeExited as error:
            if not self.life.router_died:
                self.life.found(f"reply: {operation.id} to {operation.key} was answered {error!r}")
        except (CallFailed, StoreError) as error:
            self.life.found(f"reply: {operation.id} to {operation.key} was answered {error!r}")
        else:
            self.heard(operation, reply)

    async def _cast(self) -> None:
        """Some, one after the other, without a reply; what comes last is asked."""
        key = self.account()
        for _ in range(self.dice.randint(1, 4)):
            operation = self.begin(key, Give, self.amount())
            try:
                await accounts.cast(key, operation.request, timeout=5.0)
            except (MailboxFull, NoProcess, CallTimeout):
                return
            operation.taken = self.life is not None and not self.life.dead
        await self._ask(self.begin(key, Deposit, self.amount()))

    async def _fill_basket(self) -> None:
        operation = self.begin(f"b{self.dice.randint(1, 3)}", Give, 1)
        operation.key = "basket " + operation.key
        try:
            if self.dice.random() < 0.4:
                await baskets.cast(operation.key[7:], operation.request, timeout=5.0)
            else:
                await baskets.call(operation.key[7:], operation.request, timeout=self.dice.choice((0.3, 5.0)))
        except (CallFailed, MailboxFull):
            pass

    async def _ping(self) -> None:
        assert self.life is not None
        other = self.dice.choice(self.run.hosts).name
        self.number += 1
        known = self.echoes.get(other)
        by_pid = known is not None and self.dice.random() < 0.5
        try:
            # Who waits for ever is told at least that the link is lost.
            sender, number, pid = await call(
                known if known is not None and by_pid else at(ECHO, other),
                Ping(self.name, self.number),
                timeout=self.dice.choice((0.004, 0.1, 2.0, 1000.0)),
            )
        except (CallFailed, MailboxFull):
            return  # it may be of a life that is over: then it never answers again
        self.run.sometimes("an echo answered")
        if (sender, number) != (self.name, self.number):
            self.life.found(f"echo: number {self.number} of {self.name} was answered {(sender, number)}")
        if by_pid and pid != known:
            self.life.found(f"echo: {known} was asked, and {pid} has answered")
        self.echoes[other] = pid


class Customer(Asker):
    """Numbers its commands, and repeats each at one node or another until it is answered."""

    async def live(self) -> None:
        """Ask until told to stop; what was begun is brought to its end."""
        run = self.run
        while not run.closing:
            operation = self.chosen()
            session = Session(self.name, patience=2.0)
            tries = 0
            while True:
                host = self.dice.choice(run.hosts)
                if host.life is None or host.life.table is None:
                    await trio.sleep(0.1)  # virtual
                    continue
                here.set(host.life.table)
                tries += 1
                session.number = self.number - 1
                entity = accounts.entity(operation.key)
                reply: Any
                try:
                    # Whose node was killed is told nothing, not even that the time is over.
                    with trio.fail_after(4.0):
                        if isinstance(operation.request, Look):
                            reply = await session.ask(entity, operation.request)
                        else:
                            reply = await session.command(entity, operation.request)
                except (Refused, CommandSetAside) as refused:
                    # An earlier try may still be on its way by another node, and be done.
                    if tries == 1:
                        self.heard(operation, refused=str(refused) or "?")
                    run.sometimes("a customer's command was refused")
                    break
                except (CallFailed, StoreError, trio.TooSlowError):
                    run.sometimes("a customer went to another node")
                    continue
                if isinstance(reply, AlreadyDone):
                    run.findings.append(f"reply: the answer to {operation.id} was forgotten")
                self.heard(operation, reply)
                break
            await self.pause()


class Auditor(Asker):
    """Has every account started once: one that is not remembered pays what it owes when somebody asks for it."""

    async def visit(self) -> None:
        """Go from one to the next, by way of any node."""
        for number in range(1, self.run.config.accounts + 1):
            while not await self._wake(f"a{number}"):  # noqa: ASYNC110  # a node that comes up rings nothing
                await trio.sleep(0.5)  # virtual

    async def _wake(self, key: str) -> bool:
        host = self.dice.choice(self.run.hosts)
        if host.life is None or host.life.table is None:
            return False
        here.set(host.life.table)
        # As with a customer.
        with suppress(CallFailed, NoProcess, trio.TooSlowError), trio.fail_after(4.0):
            await accounts.start(key, timeout=3.0)
            return True
        return False
