"""The application that is crashed: purses that pay each other, and clients that never give up a command.

A purse is a durable process with a counter of its moves; a payment leaves it by a delivery. Which command a
client sends under which number follows from the seed, so a client that lives again sends the same once more.
Everything that a client is told goes out as one line at once, before it does anything else: to a pipe, or into
the log of writes. What it has told is what the store must know for ever.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import trio

from runtime import (
    KILL,
    AlreadyDone,
    Call,
    Delivery,
    DurableTimer,
    EventSourced,
    Query,
    Refuse,
    Refused,
    Session,
    exit,
    message,
    sys,
    whereis,
)
from runtime.backends import lmdb as lmdb_backend
from runtime.backends import lmdb_ballast
from runtime.durable import gate
from runtime.durable.durability import Durability, Kept, Periodic
from runtime.durable.journal import Journal
from runtime.errors import CallFailed, NoProcess
from runtime.kernel.world import World
from supervisors import Node, Supervisor, child

PURSES = ("purse/a", "purse/b", "purse/c")
# Nothing is paid from a jar: a durable process at its plainest, whose replies leave by a shorter way.
JARS = ("jar/x",)
EVERYONE = (*PURSES, *JARS)
# Nobody asks the bell anything; it rings by itself.
BELL = "bell/x"
SESSIONS = 3
# A purse that holds more takes no payments, so that some are refused and come back.
FULL = 400
NODE = "bank"


@message("tests.crash.grant")
class Grant(Call[int]):
    """Put `amount` into the purse. The reply is the number of its moves so far."""

    amount: int


@message("tests.crash.pay")
class Pay(Call[int]):
    """Send `amount` to another purse; the reply is the number of moves. Refused if there is not enough."""

    to: str
    amount: int


@message("tests.crash.take")
class Take(Call[int]):
    """A payment arrives; refused by a purse that is full."""

    amount: int


@message("tests.crash.close")
class Close(Call[None]):
    """A payment has arrived."""

    number: int


@message("tests.crash.back")
class Back(Call[None]):
    """A payment was refused."""

    number: int
    reason: str = ""


@message("tests.crash.look")
class Look(Query[int]):
    """How many moves there were."""


@message("tests.crash.moved")
class Moved:
    """The balance has changed by `amount`: a grant, or a payment that came in."""

    amount: int


@message("tests.crash.paid")
class Paid:
    """A payment has left; it is owed until it has arrived."""

    number: int
    to: str
    amount: int


@message("tests.crash.closed")
class Closed:
    """A payment is settled: it has arrived, or else is `back`."""

    number: int
    back: bool


@message("tests.crash.money")
class Money:
    """A purse's state: `owed` are payments on their way."""

    balance: int
    moves: int
    last: int
    owed: tuple[Paid, ...]


@message("tests.crash.ring")
class Ring(Call[None]):
    """A timer is due."""

    timer: str


@message("tests.crash.rung")
class Rung:
    """A timer has fired."""

    timer: str


@message("tests.crash.rings")
class Rings:
    """A bell's state: how often each of its timers has fired."""

    once: int
    ticks: int


class Bell(EventSourced[Rings, Rung]):
    """A bell: one timer that was due long ago and stays set, and one that is due again and again."""

    snapshot_every = 5

    def initial(self, key: str) -> Rings:
        return Rings(0, 0)

    def timers(self, state: Rings) -> Iterable[DurableTimer]:
        yield DurableTimer("once", 1.0, Ring("once"))
        yield DurableTimer("tick", 0.0, Ring("tick"), every=0.02)

    def handle(self, state: Rings, command: Any) -> Any:
        return Rung(command.timer), None

    def apply(self, state: Rings, event: Rung) -> Rings:
        if event.timer == "once":
            return replace(state, once=state.once + 1)
        return replace(state, ticks=state.ticks + 1)


class Jar(EventSourced[Money, Any]):
    """A jar; its key is one of JARS."""

    snapshot_every = 5

    def initial(self, key: str) -> Money:
        return Money(0, 0, 0, ())

    def handle(self, state: Money, command: Any) -> Any:
        match command:
            case Grant(amount):
                return Moved(amount), state.moves + 1
            case Pay(_, amount) if amount > state.balance:
                return Refuse("not enough")
            case Pay(to, amount):
                return Paid(state.last + 1, to, amount), state.moves + 1
            case Take(_) if state.balance > FULL:
                return Refuse("full")
            case Take(amount):
                return Moved(amount), state.moves + 1
            case Close(number) | Back(number) if all(one.number != number for one in state.owed):
                return None, None
            case Close(number):
                return Closed(number, False), None
            case Back(number):
                return Closed(number, True), None
        return Refuse(f"a purse cannot do {command!r}")

    def apply(self, state: Money, event: Any) -> Money:
        state = replace(state, moves=state.moves + 1)
        match event:
            case Moved(amount):
                return replace(state, balance=state.balance + amount)
            case Paid(number, _, amount):
                return replace(state, balance=state.balance - amount, last=number, owed=(*state.owed, event))
            case Closed(number, back):
                gone = sum(one.amount for one in state.owed if one.number == number)
                owed = tuple(one for one in state.owed if one.number != number)
                return replace(state, balance=state.balance + gone * back, owed=owed)
        raise ValueError(f"a purse knows no {event!r}")

    def query(self, state: Money, request: Any) -> Any:
        return state.moves


class Purse(Jar):
    """A jar that pays; its key is one of PURSES."""

    def pending(self, state: Money) -> Iterable[Delivery]:
        for one in state.owed:
            yield Delivery(one.number, one.to, Take(one.amount), settled=Close(one.number), refused=Back(one.number))


class Bank(Supervisor):
    """All purses and jars; each dies as often as it likes.

    Only what is durable may owe a payment: in another class all are jars, and what is paid leaves for good.
    """

    intensity = 1_000

    def init(self, durability: Durability) -> Any:
        def kind(key: str) -> type[Jar]:
            return Purse if key in PURSES and durability == "durable" else Jar

        bell = child(BELL, Bell, BELL, Kept(durability), name=BELL)
        return [*(child(key, kind(key), key, Kept(durability), name=key) for key in EVERYONE), bell]


def hurry() -> None:
    """Make what is rare common, for this program: the store folds its log, and replies are forgotten, all the time.

    Crashes are the point of the exercise, so they are for nobody's log.
    """
    logging.getLogger("banyan").disabled = True
    for owner, setting, value in (
        (lmdb_backend, "FOLD_BYTES", 3_000),
        (lmdb_backend, "FOLD_ENTRIES", 6),
        (lmdb_backend, "_DELETED_GROUPS", 5),
        (lmdb_ballast, "SIZE", 64 << 10),
        (gate, "KEPT_REPLIES", 8),
    ):
        if not hasattr(owner, setting):
            raise AttributeError(f"{owner.__name__} has no {setting} any more: what is rare has to be made common anew")
        setattr(owner, setting, value)


def command_of(seed: int, session: int, number: int) -> tuple[str, Call[int]]:
    """What a client sends under a number, and to whom."""
    rng = random.Random(f"{seed}/{session}/{number}")
    key, other = rng.sample(PURSES, 2)
    if rng.random() < 0.2:
        return rng.choice(JARS), Grant(1)
    if rng.random() < 0.4:
        return key, Grant(rng.randint(1, 50))
    return key, Pay(other, rng.randint(1, 120))


def name_of(session: int) -> str:
    """A client's id as a sender."""
    return f"client/{session}"


def clock() -> bytes:
    """The line that says what time it is for the node."""
    return json.dumps(["clock", 0, 0, trio.current_time()]).encode() + b"\n"


# A client's words, written at once: [what, who, number, reply].
Tell = Callable[[bytes], object]


@dataclass(frozen=True)
class Task:
    """What the clients do in one life of the node.

    Attributes:
        seed: of the commands.
        life: which life it is, for the dice that differ from one to the next.
        since: of each client the last number that it was answered.
        repeats: answered commands to send again first: session and number.
        commands: how many each client sends; None: until the end.
        kills: whether purses are killed while the node lives.
        settle: wait until nothing is owed any more and the bell has rung, then end.
        durability: of all purses and jars.
    """

    seed: int
    life: int
    since: tuple[int, ...] = (0,) * SESSIONS
    repeats: tuple[tuple[int, int], ...] = ()
    commands: int | None = None
    kills: bool = True
    settle: bool = False
    durability: Durability = "durable"


@dataclass
class Life:
    """The clients and the node of one life, in one process of the system; `before_end` comes after the clients."""

    task: Task
    tell: Tell
    before_end: Callable[[], Awaitable[None]] | None = None
    journal: Journal = field(init=False)

    async def run(self, path: str, world: World | None = None) -> None:
        """Start the node, let the clients work, stop it. Raises what the node raises."""
        async with Node(NODE, data=path, world=world) as node:
            assert node.journal is not None
            self.journal = node.journal
            self._told("ready", 0, 0, self.journal.epoch)
            await node.start(Bank, self.task.durability, name="bank")
            async with trio.open_nursery() as nursery:
                for session in range(SESSIONS):
                    nursery.start_soon(self._client, session)
                if self.task.kills:
                    nursery.start_soon(self._killer)
            if self.before_end is not None:
                await self.before_end()
            if self.task.settle:
                await self._settled()
        self._told("end", 0, 0, None)

    def _told(self, what: str, session: int, number: int, reply: object) -> None:
        if isinstance(self.task.durability, Periodic):
            self.tell(clock())
        self.tell(json.dumps([what, session, number, reply]).encode() + b"\n")

    async def _client(self, session: int) -> None:
        task = self.task
        rng = random.Random(f"{task.seed}/{task.life}/{session}")
        for who, number in task.repeats:
            if who == session:
                await self._send("again", session, number)
        number = task.since[session]
        # What is answered at once takes no time; what is saved after some seconds needs some.
        pause = task.durability.seconds if isinstance(task.durability, Periodic) else 0.0
        while task.commands is None or number < task.since[session] + task.commands:
            number += 1
            if pause:
                await trio.sleep(rng.random() * pause)  # virtual
            if rng.random() < 0.25:
                # Impatient: sent twice at a time.
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._send, "answer", session, number)
                    nursery.start_soon(self._send, "answer", session, number)
            else:
                await self._send("answer", session, number)
            if rng.random() < 0.2:
                which = rng.randrange(len(EVERYONE))
                moves: int = await Session("look").ask(EVERYONE[which], Look())
                self._told("look", which, 0, moves)

    async def _send(self, what: str, session: int, number: int) -> None:
        """Send one command until it is answered, and tell the answer."""
        key, command = command_of(self.task.seed, session, number)
        sender = Session(name_of(session), number=number - 1)
        try:
            reply: object = await sender.command(key, command)
        except Refused as refused:
            self._told("refused", session, number, refused.reason)
            return
        self._told(what, session, number, "done" if isinstance(reply, AlreadyDone) else reply)

    async def _killer(self) -> None:
        """Kill a purse now and then, as long as anybody works."""
        rng = random.Random(f"{self.task.seed}/{self.task.life}/killer")
        for _ in range(rng.randint(0, 3)):
            for _ in range(rng.randint(20, 400)):
                await trio.lowlevel.checkpoint()
            for one in (rng.choice(EVERYONE), BELL):
                pid = whereis(one)
                if pid is not None:
                    exit(pid, KILL)

    async def _settled(self) -> None:
        """Wait until no purse owes anything and the bell has rung, as each says itself."""
        while any([await self._owes(key) for key in (*PURSES, BELL)]):  # noqa: ASYNC110  # what is owed is asked, not told
            await trio.sleep(0.001)  # allowed: a node of its own that settles tells nobody when it has

    async def _owes(self, key: str) -> bool:
        try:
            state = await sys.get_state(key)
        except (CallFailed, NoProcess):
            return True
        if isinstance(state, Rings):
            return not state.once
        return not isinstance(state, Money) or bool(state.owed)
