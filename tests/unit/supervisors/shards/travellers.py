"""Entities that have something in memory to take with them when their shard moves."""

from __future__ import annotations

from typing import Any

import trio

from runtime import (
    NO_REPLY,
    Call,
    Cast,
    Down,
    EventSourced,
    Exit,
    GenServer,
    Pid,
    Refuse,
    Stop,
    cancel_timer,
    message,
    monitor,
    reply,
    self_pid,
    send_after,
    send_interval,
    start_timer,
)
from runtime.kernel.signals import Timeout
from tests.unit.supervisors.shards.entities import Deposit, Deposited, End, Give, Read


@message("travel.wait")
class Wait(Call[int]):
    """Answered when `Say` comes."""


@message("travel.say")
class Say(Cast):
    value: int


@message("travel.set")
class Set(Call[None]):
    """Set a timer: one of the kinds."""

    kind: str
    seconds: float


@message("travel.cancel")
class Cancel(Call[object]):
    """Cancel the timer that was set last; what it had left."""


@message("travel.watch")
class Watch(Call[None]):
    pid: Pid


@message("travel.log")
class Log(Call[tuple[object, ...]]):
    """What it has got."""


@message("travel.nap")
class Nap(Call[None]):
    """Be busy for so many seconds."""

    seconds: float


class Traveller(GenServer):
    """Takes all with it: what it has got, its timers, its monitors, and the callers who wait."""

    trap_exit = True

    def init(self, key: str) -> None:
        self.key = key
        self.got: list[object] = []
        self.waiting: list[Any] = []
        self.timer: Any = None
        self.timeout: Any = None
        self.watching: dict[Any, Pid] = {}
        self.moves = 0

    def hand_over(self) -> object:
        return (
            tuple(self.got),
            tuple(self.waiting),
            self.timer,
            self.timeout,
            tuple(self.watching.items()),
            self.moves,
        )

    def take_over(self, value: Any) -> None:
        got, waiting, self.timer, self.timeout, watching, moves = value
        self.watching = dict(watching)
        self.got, self.waiting, self.moves = list(got), list(waiting), moves + 1

    async def handle_call(self, request: Any, caller: Any) -> Any:
        match request:
            case Deposit(amount):
                self.got.append(amount)
                return len(self.got)
            case Wait():
                self.waiting.append(caller)
                return NO_REPLY
            case Set("once", seconds):
                self.timer = send_after(seconds, self_pid(), "once")
            case Set("again", seconds):
                self.timer = send_interval(seconds, self_pid(), "again")
            case Set("timeout", seconds):
                self.timer, self.timeout = start_timer(seconds, self_pid(), "due")
            case Cancel():
                return cancel_timer(self.timer)
            case Watch(pid):
                self.watching[monitor(pid)] = pid
            case Log() | Read():
                return tuple(self.got)
            case Nap(seconds):
                await trio.sleep(seconds)  # virtual
        return None

    def handle_cast(self, request: Any) -> Any:
        match request:
            case Give(amount):
                self.got.append(amount)
            case Say(value):
                waiting, self.waiting = self.waiting, []
                for caller in waiting:
                    reply(caller, value)
            case End():
                return Stop("over")
        return None

    def handle_info(self, message: Any) -> None:
        match message:
            case Down(ref, _, reason):
                self.got.append(("down", ref in self.watching, reason))
            case Exit(source, reason):
                self.got.append(("exit", source, reason))
            case Timeout(ref, what):
                self.got.append((what, ref is self.timeout))
            case _:
                self.got.append(message)


class Ledger(EventSourced[int, Deposited]):
    """A volatile one: what it has, and whom it has answered, is all in memory."""

    durability = "volatile"

    def initial(self, key: str) -> int:
        return 0

    def handle(self, state: int, command: Any) -> Any:
        match command:
            case Deposit(amount) | Give(amount):
                return Deposited(amount), state + amount
        return Refuse("what is that?")

    def apply(self, state: int, event: Deposited) -> int:
        return state + event.amount


class Table(EventSourced[int, Deposited]):
    """A durable one that also has something in memory."""

    def initial(self, key: str) -> int:
        return 0

    def setup(self, *args: Any) -> None:
        self.notes: list[object] = []
        self.began = "not"

    def recovered(self, state: int) -> None:
        self.began = "recovered"

    def hand_over(self) -> object:
        return tuple(self.notes)

    def take_over(self, value: Any) -> None:
        self.notes = list(value)
        self.began = "taken over"

    def handle(self, state: int, command: Any) -> Any:
        match command:
            case Deposit(amount) | Give(amount):
                return Deposited(amount), state + amount
            case Log():
                return None, (self.began, *self.notes)
            case Set("once", seconds):
                send_after(seconds, self_pid(), "once")
                return None, None
        return Refuse("what is that?")

    def apply(self, state: int, event: Deposited) -> int:
        return state + event.amount

    def unexpected(self, state: int, message: object) -> None:
        self.notes.append(message)


class Sleeper(EventSourced[int, Deposited]):
    """A durable one that waits after each commit, and does not come to rest."""

    patient = True

    def initial(self, key: str) -> int:
        return 0

    def handle(self, state: int, command: Any) -> Any:
        match command:
            case Deposit(amount) | Give(amount):
                return Deposited(amount), state + amount
        return Refuse("what is that?")

    def apply(self, state: int, event: Deposited) -> int:
        return state + event.amount

    def query(self, state: int, request: Any) -> int:
        return state

    async def reconcile(self, state: int) -> None:
        if state and Sleeper.patient:
            await trio.sleep(1000.0)  # virtual
