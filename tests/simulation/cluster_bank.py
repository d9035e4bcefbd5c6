"""The bank that a simulated cluster runs: accounts in a region, baskets in another, an echo on every node."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, cast

from runtime import (
    NOCONNECTION,
    Call,
    Cast,
    Delivery,
    Down,
    EventSourced,
    GenServer,
    Pid,
    Query,
    Refuse,
    message,
    monitor,
    self_pid,
    send_after,
)
from runtime.cluster.nodes import NodeDown, NodeUp, monitor_nodes, nodes
from runtime.kernel.elsewhere import at
from runtime.kernel.table import current_process
from supervisors import Supervisor, child, region

if TYPE_CHECKING:
    from .cluster_host import Life

BANK: Final = "bank"
BASKETS: Final = "basket"
ECHO: Final = "echo"
# The service under which a node's processes find the life that they are a part of.
LIFE: Final = "simulated life"

accounts = region(BANK)
baskets = region(BASKETS)


# -- accounts --------------------------------------------------------------------------------------------


@message("tests.cluster.deposit")
class Deposit(Call[int]):
    """Put `amount` in; the reply is the place of the command in the account's log, from 1."""

    id: str
    amount: int


@message("tests.cluster.give")
class Give(Cast):
    """The same, without a reply."""

    id: str
    amount: int


@message("tests.cluster.transfer")
class Transfer(Call[int]):
    """Send `amount` to another account; the reply as of Deposit."""

    id: str
    to: str
    amount: int


@message("tests.cluster.credit")
class Credit(Call[None]):
    """What another account sends."""

    id: str
    amount: int


@message("tests.cluster.close")
class Close(Call[None]):
    """A transfer has arrived."""

    number: int


@message("tests.cluster.look")
class Look(Query[tuple[int, int]]):
    """The length of the log, and the balance."""


@message("tests.cluster.open")
class Open:
    """A transfer on its way."""

    number: int
    to: str
    id: str
    amount: int


@message("tests.cluster.deposited")
class Deposited:
    """Something was put in."""

    id: str
    amount: int


@message("tests.cluster.sent")
class Sent:
    """A transfer was begun."""

    number: int
    to: str
    id: str
    amount: int


@message("tests.cluster.received")
class Received:
    """A transfer has come."""

    id: str
    amount: int


@message("tests.cluster.closed")
class Closed:
    """A transfer is over."""

    number: int


@message("tests.cluster.state")
class State:
    """An account: `log` has the id of each command that was done, in order; `put_in` what was deposited."""

    log: tuple[str, ...] = ()
    balance: int = 0
    put_in: int = 0
    last: int = 0
    open: tuple[Open, ...] = ()


def says_no(length: int, amount: int) -> bool:
    """Whether an account with so many commands in its log refuses an amount: now and then, and not for ever."""
    return (length + amount) % 7 == 0


class Account(EventSourced[State, Any]):
    """One account."""

    def initial(self, key: str) -> State:
        return State()

    def handle(self, state: State, command: Any) -> Any:
        place = len(state.log) + 1
        match command:
            case Deposit(id, amount):
                if says_no(len(state.log), amount):
                    return Refuse("not now")
                return Deposited(id, amount), place
            case Give(id, amount):
                return Deposited(id, amount), None
            case Transfer(id, to, amount):
                if amount > state.balance:
                    return Refuse("not enough")
                return Sent(state.last + 1, to, id, amount), place
            case Credit(id, amount):
                return Received(id, amount), None
            case Close(number):
                return (Closed(number) if any(one.number == number for one in state.open) else None), None
        raise AssertionError(f"an account was asked {command!r}")

    def apply(self, state: State, event: Any) -> State:
        match event:
            case Deposited(id, amount):
                return replace(
                    state, log=(*state.log, id), balance=state.balance + amount, put_in=state.put_in + amount
                )
            case Sent(number, to, id, amount):
                return replace(
                    state,
                    log=(*state.log, id),
                    balance=state.balance - amount,
                    last=number,
                    open=(*state.open, Open(number, to, id, amount)),
                )
            case Received(id, amount):
                return replace(state, log=(*state.log, "from " + id), balance=state.balance + amount)
            case Closed(number):
                return replace(state, open=tuple(one for one in state.open if one.number != number))
        raise AssertionError(f"an account has met {event!r}")

    def query(self, state: State, request: Any) -> Any:
        return (len(state.log), state.balance) if isinstance(request, Look) else super().query(state, request)

    def pending(self, state: State) -> Iterable[Delivery]:
        for one in state.open:
            yield Delivery(one.number, accounts.entity(one.to), Credit(one.id, one.amount), settled=Close(one.number))


def life_here() -> Life:
    """The life of which the running process is a part."""
    return cast("Life", current_process().table.services[LIFE])


# -- baskets ---------------------------------------------------------------------------------------------


@message("tests.cluster.ripe")
class Ripe:
    """Of a thing in a basket it is time."""

    id: str


class Basket(GenServer):
    """A volatile entity, which goes with its shard; every life of it leaves behind what it was given.

    Attributes:
        got: all that it was given.
        unripe: what a timer was set for that has not come.
    """

    def init(self, key: str) -> None:
        self.got: list[str] = []
        self.unripe: dict[str, None] = {}
        self.life = life_here()
        self.life.run.baskets.append((key.partition("/")[2], self.got))

    def handle_call(self, request: Any, caller: Any) -> Any:
        self.take(request.id)
        return len(self.got)

    def handle_cast(self, request: Any) -> Any:
        self.take(request.id)

    def take(self, id: str) -> None:
        self.got.append(id)
        self.unripe[id] = None
        send_after(0.5 * (len(self.got) % 7), self_pid(), Ripe(id))

    def handle_info(self, message: Any) -> None:
        if message.id not in self.unripe:
            self.life.found(f"timer: that of {message.id} has come twice, or of another life")
        self.unripe.pop(message.id, None)

    def may_sleep(self) -> bool:
        return not self.unripe

    def hand_over(self) -> object:
        return tuple(self.got), tuple(self.unripe)

    def take_over(self, value: Any) -> None:
        got, unripe = value
        self.got += got
        self.unripe.update(dict.fromkeys(unripe))
        self.life.run.sometimes("a basket was moved")


# -- processes that hear of each other -------------------------------------------------------------------


@message("tests.cluster.ping")
class Ping(Call[tuple[str, int, Pid]]):
    """The reply is the same, and who says so."""

    sender: str
    number: int


class Echo(GenServer):
    """Says what it is told, and watches the echoes of the other nodes."""

    def init(self) -> None:
        self.life = life_here()
        self.heard: dict[str, int] = {}
        self.watched: dict[Any, str] = {}
        self.up: dict[str, None] = {}
        monitor_nodes()
        for node in nodes():
            self.came(node)

    def came(self, node: str) -> None:
        self.up[node] = None
        self.watched[monitor(at(ECHO, node))] = node

    def handle_call(self, request: Any, caller: Any) -> Any:
        if request.number <= self.heard.get(request.sender, 0):
            self.life.found(f"echo: number {request.number} of {request.sender} has come behind or twice")
        self.heard[request.sender] = request.number
        return request.sender, request.number, self_pid()

    def handle_info(self, message: Any) -> None:
        match message:
            case NodeUp(node):
                self.life.run.sometimes("a node came")
                self.came(node)
            case NodeDown(node) if node in self.up:
                del self.up[node]
                self.life.run.sometimes("a node went")
                self.life.run.was_down(self.life.host.name, node)
            case Down(ref=ref, reason=reason):
                node = self.watched.pop(ref)
                if reason is NOCONNECTION or reason == NOCONNECTION:
                    self.life.run.was_down(self.life.host.name, node)


class House(Supervisor):
    """What runs on every node."""

    strategy, intensity, period = "one_for_one", 20, 5.0

    def init(self, idle: float, remember: bool) -> Any:
        return [
            region(BANK, Account, idle=idle, remember=remember, intensity=1000),
            region(BASKETS, Basket, idle=idle, intensity=1000),
            child("echo", Echo, name=ECHO),
        ]
