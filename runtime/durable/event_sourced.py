"""A durable process: commands are decided, their events journalled, and only then does anybody hear of it.

    class Wallet(EventSourced[Chips, WalletEvent]):
        def initial(self, key): return Chips(0)

        def handle(self, state, command):          # decides; changes nothing
            match command:
                case Withdraw(amount) if amount > state.count: return Refuse("not enough chips")
                case Withdraw(amount): return Withdrawn(amount), state.count - amount

        def apply(self, state, event):             # pure; runs again on recovery
            match event:
                case Withdrawn(amount): return Chips(state.count - amount)

Start it with its key, which is also its registered name: `child(key, Wallet, key, name=key)`.

The way of a command: `handle` returns events and a reply, or a refusal; the events are folded into a new
state by `apply`; one journal entry with the events, the reply and the command's number is committed; then
the state is replaced, `committed` runs, and the reply leaves. A crash before the commit leaves nothing
behind; a crash after it is answered by repeating the reply when the command is sent again.

Durability: what was acknowledged survives kill -9 and power loss. Order: commands of one sender are
handled in the order of sending. A command without a number (a plain `call`, `cast` or `send`) is at most
once. Source: event sourcing as in Akka Persistence and Temporal; promises P1, P2.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable
from typing import Any, ClassVar, Generic, TypeVar, cast, final

from ..behaviours.gen_server import Continue, GenServer, Raise, Reply
from ..codec.cbor import decode, encode
from ..errors import Misuse
from ..kernel.api import call, send_after, send_request
from ..kernel.exits import KILLED, exit_with
from ..kernel.ids import Pid
from ..kernel.process import Process
from ..kernel.requests import Caller
from ..kernel.signals import Answer
from ..kernel.table import current_process
from .commands import KEPT_REPLIES, AlreadyDone, Numbered, Query, Refuse, Refused
from .deliveries import Delivery, Outbox
from .journal import Journal
from .record import Entry, Snapshot
from .writer import SERVICE, WRITER, Append, Load

S = TypeVar("S")
E = TypeVar("E")

# What `handle` may return: a refusal, or events (one, several or None) and the reply.
Outcome = Refuse | tuple[Any, Any]


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Past(Generic[S]):
    """What a journal says of one process: its state, and the numbered commands that were applied, in order."""

    key: str
    state: S
    sequence: int
    commands: tuple[tuple[str, int], ...]


@final
@dataclasses.dataclass(frozen=True, slots=True)
class _Sent:
    """The label of a delivery's request."""

    destination: str
    number: int


@final
@dataclasses.dataclass(frozen=True, slots=True)
class _SendAgain:
    """The pause after a failed delivery is over."""

    destination: str


_RECONCILE = Continue("reconcile")


@final
class _Replies:
    """What is kept of one sender: the highest number applied and its last replies."""

    __slots__ = ("highest", "kept")

    def __init__(self) -> None:
        self.highest = 0
        self.kept: deque[tuple[int, object]] = deque(maxlen=KEPT_REPLIES)

    def add(self, number: int, reply: object) -> None:
        self.highest = number
        self.kept.append((number, reply))


class EventSourced(GenServer, Generic[S, E]):
    """The base of a durable process. Override `initial`, `handle` and `apply`."""

    durability: ClassVar[str] = "durable"
    # Raised when the meaning of the state or of its events changes.
    schema: ClassVar[int] = 1
    # How many entries at most lie between two snapshots, unless `snapshot_now` says otherwise.
    snapshot_every: ClassVar[int] = 256

    __reconciles: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.__reconciles = cls.reconcile is not EventSourced.reconcile

    # -- what a subclass says ------------------------------------------------------------------------

    def initial(self, key: str) -> S:
        """The state of a process that has no history. Pure."""
        raise NotImplementedError

    def handle(self, state: S, command: Any) -> Outcome:
        """Decide. Returns `Refuse(reason)`, or events (one, a list, or None) and the reply.

        It may draw from `self.world.random`, because what it draws goes into an event; it has no other
        side effect, and does not change `state`.
        """
        raise NotImplementedError

    def apply(self, state: S, event: E) -> S:
        """The state after an event. Pure: it runs again on each recovery."""
        raise NotImplementedError

    def query(self, state: S, request: Any) -> Any:
        """Answer a `Query` from the committed state."""
        return Refuse(f"{type(self).__qualname__} has no answer to {request!r}")

    def pending(self, state: S) -> Iterable[Delivery]:
        """What this process owes to others, as its state says. Pure. Cheap: asked after every commit."""
        return ()

    def committed(self, state: S, events: tuple[E, ...]) -> None:
        """Runs after each commit, before the reply leaves: for timers and news to others. Must not wait."""

    def recovered(self, state: S) -> None:
        """Runs once, after recovery, before the first command. Must not wait."""

    async def reconcile(self, state: S) -> None:
        """Make the world as the state says: runs after recovery and after each commit; may wait.

        The reply has left by then. What it raises ends the process, and so it is tried again.
        """

    def snapshot_now(self, state: S, since: int) -> bool:
        """Whether to keep a snapshot now, `since` entries after the last one."""
        return since >= self.snapshot_every

    @classmethod
    def past(cls, journal: Journal, key: str) -> Past[S]:
        """Read a process out of a journal without running it: its whole history, no snapshot.

        Raises: StoreDamaged, StoreNewer.
        """
        one = cls()
        state = one.initial(key)
        sequence = 0
        commands: list[tuple[str, int]] = []
        for entry in journal.read(key):
            events, _ = cast("tuple[tuple[E, ...], object]", decode(entry.payload))
            for event in events:
                state = one.apply(state, event)
            sequence = entry.sequence
            if entry.sender:
                commands.append((entry.sender, entry.number))
        return Past(key, state, sequence, tuple(commands))

    # -- the process ---------------------------------------------------------------------------------

    key: str
    sequence: int
    __state: S

    async def init(self, key: str, *args: Any) -> Any:
        """Recover: the newest snapshot, then each entry after it."""
        process = current_process()
        journal = process.table.services.get(SERVICE)
        if journal is None:
            raise Misuse(
                f"{type(self).__qualname__} is durable, but node {process.table.node!r} has no data directory: "
                "give Node(data=...) one, or data=':memory:' for a test"
            )
        self.key = key
        self.world = process.table.world
        self.setup(*args)
        self.__journal_epoch = cast("Journal", journal).epoch
        self.__own: Process = process
        self.__outbox = Outbox()
        self.__replies: dict[str, _Replies] = {}
        self.__state = self.initial(key)
        self.sequence = self.__snapshot_at = 0
        snapshot, entries = await call(WRITER, Load(key), timeout=30.0)
        if snapshot is not None:
            self.__restore(snapshot)
        for entry in entries:
            self.__replay(entry)
        self.recovered(self.__state)
        self.__send_due()
        return _RECONCILE if self.__reconciles else None

    async def handle_continue(self, term: Any) -> None:
        await self.reconcile(self.__state)

    def setup(self, *args: Any) -> None:
        """Runs first, with the arguments of the start after the key. Must not wait."""

    def __restore(self, snapshot: Snapshot) -> None:
        state, replies = cast("tuple[S, tuple[Any, ...]]", decode(snapshot.payload))
        self.__state = state
        for sender, highest, kept in replies:
            of_sender = self.__replies[sender] = _Replies()
            of_sender.kept.extend(kept)
            of_sender.highest = highest
        self.sequence = self.__snapshot_at = snapshot.sequence

    def __replay(self, entry: Entry) -> None:
        events, reply = cast("tuple[tuple[E, ...], object]", decode(entry.payload))
        for event in events:
            self.__state = self.apply(self.__state, event)
        self.sequence = entry.sequence
        if entry.sender:
            self.__replies.setdefault(entry.sender, _Replies()).add(entry.number, reply)

    async def handle_call(self, request: Any, caller: Caller) -> Any:
        if isinstance(request, Numbered):
            sender, number, command = request.sender, request.number, request.command
            done = self.__replies.get(sender)
            if done is not None and number <= done.highest:
                for kept, reply in done.kept:
                    if kept == number:
                        return reply
                return AlreadyDone(sender, number)
        else:
            sender, number, command = "", 0, request
        if isinstance(command, Query):
            answer = self.query(self.__state, command)
            return Raise(Refused(answer.reason)) if isinstance(answer, Refuse) else answer
        outcome = self.handle(self.__state, command)
        if isinstance(outcome, Refuse):
            return Raise(Refused(outcome.reason))
        reply = await self.__commit(outcome, sender, number)
        return Reply(reply, then=_RECONCILE) if self.__reconciles else reply

    async def handle_cast(self, request: Any) -> Any:
        await self.__do(request)
        return _RECONCILE if self.__reconciles else None

    async def handle_info(self, message: Any) -> Any:
        match message:
            case Answer(label=_Sent(destination, number)):
                await self.__answered(message, destination, number)
            case Answer(label="snapshot"):
                return None  # lost or kept: the entries are there in any case
            case _SendAgain(destination):
                self.__outbox.again(destination)
                self.__send_due()
            case _ if hasattr(type(message), "__message__"):
                await self.__do(message)
            case _:
                self.unexpected(self.__state, message)
        return _RECONCILE if self.__reconciles else None

    def unexpected(self, state: S, message: object) -> None:
        """Runs for a message that is no command: an Exit, a Down. Must not wait."""
        super().handle_info(message)

    async def __do(self, command: object) -> bool:
        """Handle a command that nobody waits for; whether it was accepted."""
        outcome = self.handle(self.__state, command)
        if isinstance(outcome, Refuse):
            return False
        await self.__commit(outcome, "", 0)
        return True

    async def __commit(self, outcome: tuple[Any, Any], sender: str, number: int) -> object:
        """Journal the events and the reply, then make them true; returns the reply."""
        happened, reply = outcome
        events: tuple[E, ...]
        if happened is None:
            events = ()
        elif isinstance(happened, (list, tuple)):
            events = tuple(happened)
        else:
            events = (happened,)
        if not events:
            return reply
        state = self.__state
        for event in events:
            state = self.apply(state, event)
        world = self.world
        if world.buggify("event_sourced.accepted"):
            exit_with(KILLED)
        sequence = self.sequence + 1
        entry = Entry(
            key=self.key,
            sequence=sequence,
            epoch=self.__journal_epoch,
            schema=self.schema,
            sender=sender,
            number=number,
            wall=world.wall(),
            feed=0,
            payload=encode((events, reply)),
        )
        await call(WRITER, Append(entry), timeout=60.0)
        if world.buggify("event_sourced.committed"):
            exit_with(KILLED)
        self.__state, self.sequence = state, sequence
        if sender:
            self.__replies.setdefault(sender, _Replies()).add(number, reply)
        self.committed(state, events)
        self.__send_due()
        if self.snapshot_now(state, sequence - self.__snapshot_at):
            await self.__take_snapshot()
        return reply

    async def __take_snapshot(self) -> None:
        replies = [(sender, kept.highest, tuple(kept.kept)) for sender, kept in self.__replies.items()]
        snapshot = Snapshot(
            key=self.key,
            sequence=self.sequence,
            epoch=self.__journal_epoch,
            schema=self.schema,
            wall=self.world.wall(),
            payload=encode((self.__state, tuple(replies))),
        )
        self.__snapshot_at = self.sequence
        # Nobody waits for a snapshot: if it is lost, recovery reads more entries.
        send_request(WRITER, Append(None, snapshot), "snapshot")

    # -- deliveries ----------------------------------------------------------------------------------

    def __send_due(self) -> None:
        for delivery in self.__outbox.due(self.pending(self.__state)):
            send_request(
                delivery.destination,
                Numbered(self.key, delivery.number, cast("Any", delivery.command)),
                _Sent(delivery.destination, delivery.number),
                timeout=5.0,
            )

    async def __answered(self, answer: Answer, destination: str, number: int) -> None:
        refusal = answer.reason if isinstance(answer.reason, Refused) else None
        if answer.failed and refusal is None:
            self.__pause(destination, number)
            return
        delivery = self.__outbox.head(destination, number)
        if delivery is None:
            return
        if refusal is None:
            own = delivery.settled
        elif delivery.refused is not None:
            own = dataclasses.replace(cast("Any", delivery.refused), reason=refusal.reason)
        else:
            self.__pause(destination, number)
            return
        self.__outbox.arrived(destination)
        await self.__do(own)
        self.__send_due()

    def __pause(self, destination: str, number: int) -> None:
        seconds = self.__outbox.failed(destination, number)
        if seconds is not None:
            send_after(seconds, self.__pid, _SendAgain(destination))

    @property
    def __pid(self) -> Pid:
        return self.__own.pid

    # -- what others see -----------------------------------------------------------------------------

    def state(self) -> object:
        return self.format_status(self.__state)

    def describe(self, state: S) -> str:
        """The committed state in a few words, for a line of the tree; names no secret."""
        return ""

    def summary(self) -> str:
        said = self.describe(self.__state)
        return f"seq {self.sequence}" + (f", {said}" if said else "")

    def crash_context(self) -> str:
        """Where in its journal the process was: a part of the crash report."""
        return f"{self.key} seq {self.sequence}"
