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

Start it with its key, which is also its registered name: `child(key, Wallet, key, name=key)`. What it may lose
is its `durability`, see there; what a class may say is all in `hooks`.

The way of a command: `handle` returns events and a reply, or a refusal; the events are folded into a new
state by `apply`; one journal entry with the events, the reply and the command's number goes to the writer,
and the process goes on with its next command on the new state. When the entry's group is committed,
`committed` runs and the reply leaves. Nothing leaves before: not even a refusal that follows from events
which are still under way. A crash before the commit leaves nothing behind; a crash after it is answered by
repeating the reply when the command is sent again. If a commit fails for lack of room, the callers get
StoreFull and the state is again the last committed one.

Durability: what was acknowledged survives what its class says, by default kill -9 and power loss. Order:
commands of one sender are handled in the order of sending, and answered in it. A command without a number (a
plain `call`, `cast` or `send`) is at most once. Source: event sourcing as in Akka Persistence and Temporal;
promises P1, P2; the output gate is in `gate`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from types import CoroutineType, ModuleType
from typing import Any, ClassVar, Generic, TypeVar, cast

from ..behaviours.gen import IGNORE
from ..behaviours.gen_server import NO_REPLY, Continue, GenServer, Raise
from ..behaviours.system import Handed, arrived, at_once, renew, take_over
from ..errors import Misuse
from ..kernel.api import send_request
from ..kernel.exits import KILLED, Broken, Shutdown, exit_with, is_orderly
from ..kernel.ids import Name
from ..kernel.process import Process
from ..kernel.requests import Caller
from ..kernel.signals import Answer
from ..kernel.table import current_process
from ..kernel.timer import send_after
from .admission import blame, epoch_unless_leaving, turned_away
from .alarm import DUE, Alarm
from .commands import Numbered, Query, Refuse, Refused
from .deliveries import Outbox, SendAgain, Sent
from .durability import Owned, Periodic, starting
from .gate import NEW, Gate, Step
from .group import StoreGivenUp
from .hooks import Hooks, Outcome, Past
from .journal import Fenced, StoreFull
from .periodic import SAVE, Saver
from .poison import Aside
from .record import Entry, Snapshot
from .recovery import SAVED, floor_of, pack_outcome, pack_state, parts_of, recover, take_in
from .timers import TIMER, Fire
from .writer import JournalWriter, Lost, own_writer, place_of, writer_of

__all__ = ["EventSourced", "Outcome", "Past"]

logger = logging.getLogger("banyan")

S = TypeVar("S")
E = TypeVar("E")

_RECONCILE = Continue("reconcile")
# The writer's word that entries are on the disk; how far, the process has been told already.
_SETTLED = object()


class EventSourced(Hooks[S, E], Generic[S, E]):
    """The base of a durable process. Override `initial`, `handle` and `apply`."""

    __reconciles: ClassVar[bool] = False
    __owes: ClassVar[bool] = False
    __timed: ClassVar[bool] = False
    # Nothing of the class runs when an entry is settled, so the writer may let the replies out by itself.
    __plain: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        cls.__reconciles = cls.reconcile is not Hooks.reconcile
        cls.__owes = cls.pending is not Hooks.pending
        cls.__timed = cls.timers is not Hooks.timers
        cls.__plain = not (cls.__reconciles or cls.__owes or cls.__timed) and (cls.committed, cls.snapshot_now) == (
            Hooks.committed,
            Hooks.snapshot_now,
        )
        if cls.__reconciles and cls.handle_continue is GenServer.handle_continue:
            cls.handle_continue = cls.__reconcile  # type: ignore[method-assign, assignment]  # async only where it must wait
        super().__init_subclass__(**kwargs)

    __gate: Gate[S]
    __saver: Saver | None = None

    @property
    def sequence(self) -> int:
        """The last entry that is on the disk."""
        return self.__gate.settled if self.__saver is None else self.__saver.saved

    # -- recovery ------------------------------------------------------------------------------------

    def init(self, key: str, *args: Any) -> Any:
        """Recover: the newest snapshot, then each entry after it. A `Kept` behind the key is its durability."""
        process = current_process()
        durability, owned, args = starting(self.durability, args)
        who = type(self).__qualname__
        if self.__owes and durability != "durable":
            raise Misuse(f"{who} owes deliveries and is {durability!r}, so it could forget them: make it durable")
        self.__shard = owned.shard if owned is not None else None
        self.__place = place = place_of(process.table, key, durability, who, owned)
        self.key = key
        self.world = world = process.table.world
        self.setup(*args)
        self.__own: Process = process
        self.__durability = durability
        self.__outbox = Outbox()
        # Destinations that have answered what they were sent, while our own entry about it is under way.
        self.__settling: dict[Name, int] = {}
        self.__settled_to, self.__told = 0, False
        self.__numbered: Numbered[Any] | None = None
        self.__aside: dict[tuple[str, str, int], Aside] = {}
        self.__alarm = Alarm(process, world.wall()) if self.__timed else None
        if place:
            epoch = epoch_unless_leaving(lambda: writer_of(process.table, place), owned)
            if epoch is None:
                return IGNORE  # it is started where its shard goes, or again when that stays
            self.__journal_epoch = epoch
            self.__aside = self.__writer().set_asides.commands
        kept: tuple[Snapshot | None, Iterable[Entry]] = self.__writer().load(key) if place else (None, ())
        self.__gate = gate = Gate(self.initial(key))
        self.__snapshot_at = recover(self, gate, key, *kept, lambda: self.__writer().journal)
        handed = arrived(process)
        if handed is not None and not place:
            take_in(gate, handed.own)
        # Replies leave at once: nothing is written for a command.
        self.__at_once = durability == "volatile" or isinstance(durability, Periodic)
        if isinstance(durability, Periodic):
            self.__saver = Saver(durability.seconds, process, gate.settled, self._journal_lost)
        if handed is not None and handed.value is not None:
            take_over(self, process, handed.value, journal=bool(place))
        else:
            self.recovered(gate.committed)
        self.__send_due()
        if self.__alarm is not None:
            self.__alarm.ring()
        return _RECONCILE if self.__reconciles else None

    async def __reconcile(self, term: Any) -> None:
        await self.reconcile(self.__gate.committed)

    def __writer(self) -> JournalWriter:
        return own_writer(self.__own.table, self.__place)

    # -- commands ------------------------------------------------------------------------------------

    def handle_call(self, request: Any, caller: Caller) -> Any:
        gate = self.__gate
        sender, number, command = "", 0, request
        if isinstance(request, Numbered):
            sender, number, command = request.sender, request.number, request.command
            reply = gate.known(sender, number)
            if reply is not NEW:
                return NO_REPLY if gate.hold(caller, reply) else reply
            refusal = turned_away(gate, self.key, request, self.__aside, self.__durability, self.world.wall())
            if refusal is not None:
                return refusal
            self.__numbered = request
        if isinstance(command, Query):
            answer = self.query(gate.committed, command)
            return Raise(Refused(answer.reason)) if isinstance(answer, Refuse) else answer
        outcome = self.__decided(sender, command)
        if isinstance(outcome, Refuse):
            refused = Refused(outcome.reason)
            return NO_REPLY if gate.hold(caller, None, refused) else Raise(refused)
        if self.__accept(outcome, caller, sender, number):
            return NO_REPLY
        return NO_REPLY if gate.hold(caller, outcome[1]) else outcome[1]

    def __decided(self, sender: str, command: Any) -> Outcome:
        """What `handle` says; a crash over a numbered command is noted."""
        try:
            return self._decide(self.__gate.speculative, command)
        except (Exception, Broken) as error:
            self.__blame(sender, error)
            raise

    def __blame(self, sender: str, error: BaseException) -> None:
        """A numbered command has crashed this process: write that down, and set it aside if it was the last time."""
        numbered, gate = self.__numbered, self.__gate
        if sender and self.__place and numbered is not None:
            sequence = gate.sequence if self.__saver is None else self.__saver.saved
            blame(self.__writer, self.key, numbered, sequence, gate.speculative, error, self.poison_after)

    def handle_cast(self, request: Any) -> Any:
        self.__do(request)

    def handle_info(self, message: Any) -> Any:
        if message is _SETTLED:
            return self.__settle()
        if message is _RECONCILE:
            return message
        if message is DUE:
            return self.__look_at_timers(rang=True)
        if message is SAVE:
            return self.__save()
        match message:
            case Answer(label=Sent(destination, number)):
                self.__answered(message, destination, number)
            case SendAgain(destination):
                self.__outbox.again(destination)
                self.__send_due()
            case Lost(error=error):
                self.__discard(error)
            case _ if hasattr(type(message), "__message__"):
                self.__do(message)
            case _:
                self.unexpected(self.__gate.committed, message)
        return None

    def __do(self, command: object) -> bool:
        """Handle a command that nobody waits for; whether anything has happened."""
        outcome = self._decide(self.__gate.speculative, command)
        return not isinstance(outcome, Refuse) and self.__accept(outcome, None, "", 0)

    def __accept(self, outcome: tuple[Any, Any], caller: Caller | None, sender: str, number: int) -> bool:
        """Hand the events and the reply to the writer and go on; False if nothing has happened."""
        happened, reply = outcome
        several = isinstance(happened, (list, tuple))
        events: tuple[E, ...] = tuple(happened) if several else () if happened is None else (happened,)
        if not events and not sender.startswith(TIMER):
            return False
        gate, world = self.__gate, self.world
        state = gate.speculative
        try:
            for event in events:
                state = self.apply(state, event)
            if state is None:
                self._check_applied(gate.speculative, events)
        except (Exception, Broken) as error:
            self.__blame(sender, error)
            raise
        if world.buggify("event_sourced.accepted"):
            exit_with(KILLED)
        numbered = self.__numbered
        lasting = bool(sender) and numbered is not None and (numbered.lasting or numbered.remembered)
        wall = world.wall()
        if self.__at_once:
            self._journal_settled(gate.accept(events, state, caller, reply, sender, number, wall, lasting))
            return True
        payload = pack_outcome(events, reply, lasting)
        writer = self.__writer()
        sequence = gate.accept(events, state, caller, reply, sender, number, wall, lasting)
        writer.append(self.__entry(sequence, payload, wall, sender, number), self, shard=self.__shard)
        return True

    def __entry(self, sequence: int, payload: bytes, wall: float, sender: str = "", number: int = 0) -> Entry:
        return Entry(self.key, sequence, self.__journal_epoch, self.schema, sender, number, wall, 0, payload)

    # -- commits -------------------------------------------------------------------------------------

    def _journal_settled(self, sequence: int) -> None:
        process = self.__own
        if process.exiting is not None:
            return
        soon = not self.__at_once and sequence - self.__snapshot_at >= self.snapshot_every
        if self.__plain and not self.__told and not soon:
            if self.world.buggify("event_sourced.committed"):
                process.interrupt(KILLED)
                return
            self.__release(self.__gate.settle(sequence))
            if self.__saver is not None:
                self.__saver.touch()
            return
        self.__settled_to = sequence
        if not self.__told:
            self.__told = True
            # Before what waits: it is older, and others wait for what it lets out.
            process.post(_SETTLED, first=True)

    def _journal_lost(self, error: Exception) -> None:
        if self.__own.exiting is None:
            self.__own.post(Lost(error), first=True)

    def __settle(self) -> Any:
        """The writer has committed: make it true, then let out what waited for it."""
        self.__told = False
        if self.world.buggify("event_sourced.committed"):
            exit_with(KILLED)
        gate = self.__gate
        before = gate.settled
        released = gate.settle(self.__settled_to)
        if gate.settled != before:
            for step in released:
                if step.events:
                    self.committed(step.state, step.events)
            self.__send_due()
            self.__look_at_timers()
            if self.__saver is not None:
                self.__saver.touch()
            elif not self.__at_once and self.snapshot_now(gate.committed, gate.settled - self.__snapshot_at):
                self.__take_snapshot()
        self.__release(released)
        return _RECONCILE if self.__reconciles and gate.settled != before else None

    def __discard(self, error: Exception) -> None:
        """A commit failed: forget what it held. Only a lack of room leaves this process as it was."""
        if isinstance(error, Fenced | StoreGivenUp):
            exit_with(Shutdown(error))  # no fault of ours: the shard has another owner
        if not isinstance(error, StoreFull):
            raise error
        lost = self.__gate.discard()
        for step in lost:
            step.error = StoreFull(error.path, error.reason)
        self.__release(lost)
        settling, self.__settling = self.__settling, {}
        for destination, number in settling.items():
            self.__pause(destination, number)
        if self.__alarm is not None:
            # A timer's own command may be among what was lost.
            self.__alarm.again_after(1.0)

    def __release(self, steps: Iterable[Step]) -> None:
        """Say what was kept back."""
        deferred = self.__own.deferred
        for step in steps:
            caller = step.caller
            if caller is None:
                continue
            if deferred:
                deferred.pop(caller, None)
            if step.error is None:
                caller.answer(step.reply)
            else:
                caller.refuse(step.error)

    # -- snapshots -----------------------------------------------------------------------------------

    def __take_snapshot(self) -> None:
        snapshot, writer = self.__snapshot(self.__gate.settled), self.__writer()
        self.__snapshot_at = snapshot.sequence
        floor = floor_of(self.retain, writer.journal, self.key, snapshot.sequence, snapshot.wall)
        writer.keep(snapshot, floor, self.__shard)

    def __snapshot(self, sequence: int) -> Snapshot:
        """The committed state as a record, after forgetting who was not heard of for long."""
        gate, wall = self.__gate, self.world.wall()
        gate.forget(wall - self.dedup_ttl)
        if self.__timed:
            gate.forget_all_but(TIMER, {timer.name for timer in self.timers(gate.committed)})
        return Snapshot(self.key, sequence, self.__journal_epoch, self.schema, wall, pack_state(gate))

    def __save(self) -> None:
        """Save the state: an entry that marks the place, with the snapshot that it stands for."""
        saver = self.__saver
        if saver is None or not saver.take():
            return
        sequence = saver.sequence
        entry = self.__entry(sequence, SAVED, self.world.wall())
        self.__writer().append(entry, saver, self.__snapshot(sequence), sequence, self.__shard)

    def terminate(self, reason: object) -> Any:
        """Runs before an end that is not a kill: a process that saves periodically saves, unless it has crashed."""
        if self.__saver is not None and is_orderly(reason):
            self.__save()

    # -- timers --------------------------------------------------------------------------------------

    def __look_at_timers(self, *, rang: bool = False) -> None:
        """Handle what is due, one at a time, and set the alarm for what comes next."""
        alarm, gate = self.__alarm, self.__gate
        if alarm is None:
            return
        fire = alarm.look(self.timers(gate.speculative), gate.highest, self.world.wall(), rang)
        if fire is not None:
            self.__fire(fire)

    def __fire(self, fire: Fire) -> None:
        """Handle a timer's command; that it was handled is an entry, whatever comes of it."""
        sender, number = fire.sender, fire.number
        self.__numbered = Numbered(sender, number, cast("Any", fire.timer.command), lasting=True)
        outcome: Outcome = ((), None)
        if (self.key, sender, number) not in self.__aside:
            outcome = self.__decided(sender, fire.timer.command)
        self.__accept(((), None) if isinstance(outcome, Refuse) else outcome, None, sender, number)

    # -- deliveries ----------------------------------------------------------------------------------

    def __send_due(self) -> None:
        if not self.__owes:
            return
        due = self.__outbox.due(self.pending(self.__gate.committed))
        if self.__settling:
            owed = self.__outbox.head
            self.__settling = {name: number for name, number in self.__settling.items() if owed(name, number)}
        for delivery in due:
            send_request(
                delivery.destination,
                Numbered(self.key, delivery.number, cast("Any", delivery.command), lasting=True),
                Sent(delivery.destination, delivery.number),
                timeout=5.0,
            )

    def __answered(self, answer: Answer, destination: Name, number: int) -> None:
        refusal = answer.reason if isinstance(answer.reason, Refused) else None
        if answer.failed and refusal is None:
            self.__pause(destination, number)
            return
        delivery = self.__outbox.head(destination, number)
        if delivery is None or self.__settling.get(destination) == number:
            return
        own = delivery.after(refusal.reason if refusal is not None else None)
        if own is None:
            self.__pause(destination, number)
            return
        # It stays under way until our own entry is committed: then the state owes it no more.
        self.__settling[destination] = number
        if not self.__do(own):
            del self.__settling[destination]
            self.__pause(destination, number)

    def __pause(self, destination: Name, number: int) -> None:
        seconds = self.__outbox.failed(destination, number)
        if seconds is not None:
            send_after(seconds, self.__own.pid, SendAgain(destination))

    # -- what others see -----------------------------------------------------------------------------

    def state(self) -> object:
        return self.format_status(self.__gate.committed)

    def may_sleep(self) -> bool:
        """Whether nothing is under way, owed or timed, so that a region may put it to sleep."""
        gate = self.__gate
        return not (gate.steps or (*self.pending(gate.committed), *self.timers(gate.committed)))

    def replace_state(self, state: Any) -> Any:
        """Refused: the state is what the journal says, and only a command adds to that (Y5)."""
        raise Misuse(f"{self.key} is durable: its state follows from its journal, send it a command instead")

    def system_hand_over(self) -> Handed:
        """What goes with it to another node: its journal, or all it knows if it keeps none; see `hand_over`."""
        self.__catch_up()
        if self.__saver is not None:
            self.__save()
            self.__writer().flush()
        gate = self.__gate
        return Handed(at_once(self.hand_over(), "hand_over"), None if self.__place else (gate.settled, parts_of(gate)))

    def system_snapshot(self, since: int) -> None:
        """Keep a snapshot now, if more than `since` entries lie behind the last one."""
        if self.__place and self.__saver is None and self.__gate.settled - self.__snapshot_at > since:
            self.__take_snapshot()

    def system_owned(self, owned: Owned) -> None:
        """Write under another epoch of its shard from now on, which the store is claimed under; raises Fenced."""
        if self.__place and self.__shard is not None:
            self.__journal_epoch = self.__writer().epoch_for(owned)

    def __catch_up(self) -> None:
        """Commit what was accepted, and settle it."""
        if self.__gate.steps:
            if not self.__at_once:
                self.__writer().flush()
            if self.__settle() is not None:
                self.__own.post(_RECONCILE)

    def system_code_change(self, code: type | ModuleType, old_vsn: object, extra: object) -> None:
        """Take on newly loaded code; `code_change` gets and returns the committed state (Y6).

        It may only do what a recovery by the new class would do as well: nothing of it is journalled. What
        was accepted and is not committed yet is committed first.
        """
        self.__catch_up()
        gate, before = self.__gate, self.__gate.committed

        def convert() -> object:
            state = self.code_change(old_vsn, before, extra)
            if state is None or isinstance(state, CoroutineType):
                return state
            gate.recover(cast("S", state), gate.settled)
            return None

        renew(self, code, convert)

    def summary(self) -> str:
        said = self.describe(self.__gate.committed)
        return f"seq {self.sequence}" + (f", {said}" if said else "")

    def crash_context(self) -> str:
        """Where in its journal the process was: a part of the crash report."""
        return f"{self.key} seq {self.sequence}"
