"""A shard on the node that owns it: its intake, and its entities, which it finds, starts, wakes and puts to sleep.

An entity is found by its local name. If nobody has it, its shard's supervisor is asked: one that is about to be
restarted is waited for, any other is started. What it was asked when it ended is asked again if it is durable; of
a volatile one nobody knows how far it came, and its callers get CalleeExited.

Nothing here waits: what is asked of supervisors and entities comes back as an `Answer`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final, cast, final

from runtime.behaviours.gen import AlreadyStarted
from runtime.behaviours.gen_server import CastEnvelope
from runtime.durable.commands import Numbered, Query
from runtime.durable.durability import Owned
from runtime.durable.journal import Fenced
from runtime.errors import CalleeExited, MailboxFull
from runtime.kernel.api import demonitor, monitor, send_nowait, send_request
from runtime.kernel.exits import NOPROC, NORMAL, Crash, Shutdown, shown
from runtime.kernel.ids import Pid, Ref
from runtime.kernel.messages import Call
from runtime.kernel.process import Process
from runtime.kernel.requests import brief
from runtime.kernel.signals import Answer

from ..specs import ChildSpec
from ..strategy import Refusal
from ..strategy.requests import DeleteChild, GetChildSpec, RestartChild, StartChild, TerminateChild
from .entities import Remember, Which, may_sleep
from .failures import OK, EntityNotStarted, failed, packed
from .frames import Carry, Outcome
from .intake import Intake
from .post import Post
from .window import Command

# So many of those whom nobody asks for are started at once: whoever is asked for has only these before it.
STARTS: Final = 16


@final
@dataclass(slots=True, eq=False)
class Job:
    """A command that was taken, until it has its outcome."""

    shard: Shard
    frame: Carry


@final
@dataclass(frozen=True, slots=True, eq=False)
class Label:
    """What an answer, or the end of a pause, is about: of the shard, or of one of its entities."""

    what: str
    shard: Shard
    entity: Entity | None = None


@final
@dataclass(slots=True, eq=False)
class Entity:
    """An entity of a shard that is here.

    Attributes:
        pid: the process that was seen last, to ask its supervisor about.
        waiting: what it has not been given.
        under_way: how many of its answers are awaited.
        asking: what is being asked about it, or waited for; None: nothing.
        ending: it is being put to sleep: it is given nothing.
        used: since the last look at who is idle.
        wanted: it is to be started though nobody asks for it, also if the shard is about to move on.
        aside: what waited for one that was ended in a freeze, as commands of this node.
    """

    key: str
    name: str
    args: tuple[Any, ...] = ()
    pid: Pid | None = None
    waiting: deque[Job] = field(default_factory=deque)
    under_way: int = 0
    asking: str | None = None
    failures: int = 0
    ending: bool = False
    used: bool = True
    idle_since: float = 0.0
    wanted: bool = False
    aside: list[Command] = field(default_factory=list)


@final
class Shard:
    """A shard that is here.

    Args:
        post: of its region.
        number, epoch: which one, and under which epoch it is owned.
        owned: what its durable entities are started with; None: their store knows no shards.
    """

    def __init__(self, post: Post, number: int, epoch: int, owned: Owned | None) -> None:
        self._post = post
        self._spec = post.spec
        self._names = post.table.names
        self.number = number
        self.owned = owned
        self.intake = Intake(number, epoch, post.node, post.life)
        self.entities: dict[str, Entity] = {}
        # What it remembers; None until that is known, and if it remembers nothing.
        self.known: dict[str, tuple[Any, ...]] | None = None
        # Rings when the supervisor of what is remembered ends, with all of it.
        self.supervised: Ref | None = None
        # Those that are being started though nobody asks for them, and who comes next.
        self._starting: set[str] = set()
        self._next: dict[str, Entity] = {}
        self._opening = False
        self._failures = 0
        self.closed = False
        # Whether its epoch has risen while it was frozen, of which its senders have not heard.
        self.adopted = False

    # -- commands ------------------------------------------------------------------------------------

    def take(self, frame: Carry) -> None:
        """Carry out a command, or hold it as long as the intake is frozen."""
        if self.intake.frozen:
            self.intake.hold.append(frame)
            return
        entity = self.entity(frame.key)
        here = entity.waiting or entity.wanted or entity.name in self._names
        if frame.kind == "exit" and not here:
            self._finish(Job(self, frame), (OK, None))  # nobody is started to be ended
            return
        entity.used = True
        if frame.kind == "start" and frame.request and not entity.args:
            entity.args = cast("tuple[Any, ...]", frame.request)
        entity.waiting.append(Job(self, frame))
        self.wake(entity)

    @property
    def busy(self) -> bool:
        """Whether an entity is being started, put to sleep or noted just now, or is to be started."""
        going_on = ("start", "sleep", "remember")
        return self._opening or any(one.wanted or one.asking in going_on for one in self.entities.values())

    def thaw(self) -> None:
        """Carry out what waited and what was held, in order."""
        held = self.intake.thaw()
        for entity in list(self.entities.values()):
            if entity.waiting or entity.wanted:
                self.wake(entity)
        for frame in held:
            self.take(frame)

    def adopt(self, epoch: int) -> None:
        """It is owned under a higher epoch from now on, and all go on."""
        self.intake.epoch, self.adopted = epoch, True
        if self.owned is None:
            return
        self.owned.epoch = epoch
        for entity in self.entities.values():
            process = self._names.get(entity.name)
            own = getattr(process.behaviour, "system_owned", None) if process is not None else None
            if own is not None:
                own(self.owned)

    def entity(self, key: str) -> Entity:
        """The entity of a key."""
        entity = self.entities.get(key)
        if entity is None:
            args = self.known.get(key, ()) if self.known is not None else ()
            entity = self.entities[key] = Entity(key, self._spec.name_of(key), args)
        return entity

    def wake(self, entity: Entity) -> None:
        """Give an entity what waits for it; if it does not run, see to it that it does."""
        if entity.asking is not None or entity.ending or (self.intake.frozen and not entity.wanted):
            return
        spec = self._spec
        supervisor = spec.supervisor(self.number)
        if spec.remember and (self.known is None or entity.key not in self.known):
            if self.known is None:
                self.open()
            else:
                self._ask(spec.known(self.number), Remember(entity.key, entity.args), "remember", entity)
            return
        process = self._names.get(entity.name)
        if process is not None:
            entity.pid, entity.failures, entity.wanted = process.pid, 0, False
            if not self.intake.frozen:
                self._hand_over(entity, process)
        elif supervisor not in self._names:
            self.open()
        elif entity.pid is not None:
            # It may be about to be restarted: its supervisor says so, behind the news of its end.
            self._ask(supervisor, GetChildSpec(entity.pid), "look", entity)
        elif entity.wanted and not entity.waiting and len(self._starting) >= STARTS:
            self._next[entity.key] = entity
        else:
            if not entity.waiting:
                self._starting.add(entity.key)
            start = StartChild(spec.entity_spec(entity.key, entity.args, self.owned))
            self._ask(supervisor, start, "start", entity)

    def _hand_over(self, entity: Entity, process: Process) -> None:
        waiting, entity.waiting = entity.waiting, deque()
        for job in waiting:
            frame = job.frame
            if frame.kind == "start":
                self._finish(job, (OK, process.pid))
            elif frame.kind == "exit":
                source, reason, linked = cast("tuple[Pid, object, bool]", frame.request)
                process.exit_signal(source, reason, linked=linked)
                self._finish(job, (OK, None))
            elif frame.kind == "call" or (frame.kind == "cast" and self._spec.numbered):
                entity.under_way += 1
                send_request(process.pid, self._request(frame), job)
            else:
                try:
                    send_nowait(process.pid, CastEnvelope(frame.request) if frame.kind == "cast" else frame.request)
                except MailboxFull:
                    entity.waiting.append(job)
                else:
                    self._finish(job, (OK, None))
        if entity.waiting:
            self._pause(entity)

    def _request(self, frame: Carry) -> object:
        """A command as its entity gets it: numbered, if that is how it tells whether it has done it before."""
        if frame.own:
            sender, number, since, lasting, remembered = cast("tuple[str, int, float, bool, bool]", frame.own)
            command = cast("Call[Any]", frame.request)
            return Numbered(sender, number, command, since, lasting=lasting, remembered=remembered)
        if not self._spec.numbered or isinstance(frame.request, Query):
            return frame.request
        return Numbered(f"@{frame.sender}/{frame.slot}", frame.number, cast("Call[Any]", frame.request), frame.since)

    def answered(self, job: Job, answer: Answer) -> None:
        """An entity has answered a command, or has ended."""
        if self.closed:
            return  # the shard is another's: the sender asks there
        entity = self.entity(job.frame.key)
        entity.under_way -= 1
        reason = answer.reason
        if not answer.failed:
            self._finish(job, (OK, answer.value))
        elif isinstance(reason, Exception):
            self._finish(job, failed(reason))
        elif reason == "busy" or reason is NOPROC or self._spec.durable:
            if _was_fenced(reason):
                self._post.fenced(self.number, self.intake.epoch)
            entity.waiting.append(job)
            if reason == "busy":
                self._pause(entity)
            else:
                self.wake(entity)
        else:
            self._finish(job, failed(_exited(entity.name, job.frame.request, reason)))

    def refuse(self, frame: Carry, error: Exception) -> None:
        """A command that an entity has brought along, which does not start."""
        self._finish(Job(self, frame), failed(error))

    def _finish(self, job: Job, outcome: Outcome) -> None:
        intake, frame = self.intake, job.frame
        if frame.node != self._post.node:
            outcome = packed(outcome, self._spec.name_of(frame.key))
        node = intake.finished(frame.sender, frame.number, outcome)
        if node is not None:
            self._post.to(node, intake.done(frame.sender, frame.number, outcome))
        for waiting, opened in intake.room():
            self._post.to(waiting, opened)

    def _fail_all(self, entity: Entity, error: Exception) -> None:
        waiting, entity.waiting = entity.waiting, deque()
        for job in waiting:
            self._finish(job, failed(error))

    # -- supervisors ---------------------------------------------------------------------------------

    def _ask(self, name: str, request: object, what: str, entity: Entity | None = None) -> None:
        if entity is not None:
            entity.asking = what
        send_request(name, request, Label(what, self, entity))

    def open(self) -> None:
        """Have the shard's supervisor started, and its memory if it has one."""
        if self._opening:
            return
        self._opening = True
        spec, number = self._spec, self.number
        if spec.supervisor(number) not in self._names:
            self._ask(spec.shards, StartChild(spec.shard_spec(number)), "open")
        elif spec.remember and spec.known(number) not in self._names:
            self._ask(spec.shards, StartChild(spec.known_spec(number, self.owned)), "open")
        elif spec.remember:
            self._ask(spec.known(number), Which(), "which")
        else:
            self._opening = False

    def orphaned(self) -> None:
        """The supervisor of what is remembered has ended: when it is back, all of that is started again."""
        self.supervised = None
        self._failures += 1
        self._post.after(self._failures, Label("again", self))

    def close(self) -> None:
        """The shard belongs to another: its entities end, and what they were asked is that one's business."""
        self.closed = True
        if self.supervised is not None:
            demonitor(self.supervised, flush=True)
        children = [f"shard-{self.number}"]
        if self._spec.remember:
            children.append(f"known-{self.number}")
        for one in children:
            self._ask(self._spec.shards, TerminateChild(one), "closing")
            self._ask(self._spec.shards, DeleteChild(one), "closed" if one is children[-1] else "closing")

    def told(self, label: Label, answer: Answer) -> bool:
        """A supervisor, or the shard's memory, has answered; whether what it remembers is known only now."""
        if self.closed:
            return False
        if label.entity is not None:
            self._told_of(label.entity, label.what, answer)
            if label.what == "start":
                self._starting.discard(label.entity.key)
                while self._next and len(self._starting) < STARTS:
                    self.wake(self._next.pop(next(iter(self._next))))
            return False
        self._opening = False
        refusal = answer.value if isinstance(answer.value, Refusal) else None
        if refusal is not None and refusal.why == "already_present":
            # Its memory was to be started while the shard was on its way, and has ended: see `EventSourced`.
            self._opening = True
            self._ask(self._spec.shards, RestartChild(f"known-{self.number}"), "open")
            return False
        refused = refusal is not None and refusal.why != "already_started"
        if answer.failed or refused or answer.value is None:
            self._failures += 1
            self._post.after(self._failures, Label("again", self))
            return False
        self._failures = 0
        fresh = label.what == "which"
        if fresh:
            self.known = dict(cast("Any", answer.value))
            if self.supervised is None:
                self.supervised = monitor(self._spec.supervisor(self.number))
            for key, args in self.known.items():
                self.entity(key).args = args
        elif self._spec.remember:
            self.open()
            return False
        for entity in list(self.entities.values()):
            if entity.waiting or entity.wanted:
                self.wake(entity)
        return fresh

    def _told_of(self, entity: Entity, what: str, answer: Answer) -> None:
        entity.asking = None
        value = answer.value
        if what == "sleep":
            entity.ending, entity.pid = False, None
            if entity.waiting:
                self.wake(entity)
            else:
                del self.entities[entity.key]
        elif answer.failed:
            entity.pid = None
            self._pause(entity)
        elif what == "remember":
            assert self.known is not None
            self.known[entity.key] = entity.args
            self.wake(entity)
        elif what == "look" and isinstance(value, ChildSpec):
            self._pause(entity)
        elif what == "look":
            entity.pid = None
            self.wake(entity)
        elif isinstance(value, Pid):
            entity.pid = value
            self.wake(entity)
        else:
            self._not_started(entity, value)

    def _not_started(self, entity: Entity, value: object) -> None:
        reason = value.detail if isinstance(value, Refusal) else NORMAL
        if isinstance(reason, AlreadyStarted) or (value is None and self._spec.durable):
            self._pause(entity)
        elif _was_fenced(reason):
            self._post.fenced(self.number, self.intake.epoch)
            self._pause(entity)
        else:
            entity.wanted = False
            self._fail_all(entity, EntityNotStarted(entity.name, reason))
            if self.known is None or entity.key not in self.known:
                del self.entities[entity.key]

    def _pause(self, entity: Entity) -> None:
        if entity.asking is None:
            entity.asking = "pause"
            entity.failures += 1
            self._post.after(entity.failures, Label("again", self, entity))

    def again(self, entity: Entity | None) -> None:
        """A pause is over."""
        if self.closed:
            return
        if entity is None:
            self.open()
        else:
            entity.asking = None
            if entity.waiting or entity.wanted:
                self.wake(entity)

    # -- sleep ---------------------------------------------------------------------------------------

    def put_to_sleep(self, now: float) -> None:
        """End the entities that were idle for long enough; of those that are remembered none."""
        if self.intake.frozen:
            return
        for entity in list(self.entities.values()):
            busy = entity.waiting or entity.under_way or entity.asking or entity.wanted
            if busy or entity.key in (self.known or ()):
                continue
            process = self._names.get(entity.name)
            if entity.used or (process is not None and not may_sleep(process)):
                entity.used, entity.idle_since = False, now
            elif now - entity.idle_since < self._spec.idle:
                continue
            elif process is None:
                del self.entities[entity.key]
            else:
                entity.ending = True
                self._ask(self._spec.supervisor(self.number), TerminateChild(process.pid), "sleep", entity)


def _was_fenced(reason: object) -> bool:
    """Whether a process ended, or did not start, because its shard has another owner."""
    error = reason.error if isinstance(reason, Crash) else reason.detail if isinstance(reason, Shutdown) else None
    return isinstance(error, Fenced)


def _exited(name: str, request: object, reason: object) -> CalleeExited:
    return CalleeExited(
        f"{name} ended ({shown(reason)}) before it replied to {brief(request)}; "
        "it may be restarted by its supervisor: try again if the request may be repeated",
        name,
        request,
        reason,
    )
