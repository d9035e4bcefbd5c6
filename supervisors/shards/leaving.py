"""A frozen shard that goes: what its entities have in memory is packed, and they go without anybody being told.

in an entity's mailbox           what came by the shard's intake is expected anew by the next owner: its sender has
                                 it still; the rest goes along, because what its sender says next may go to the
                                 next owner directly, and must not overtake it
that has come there since        goes into this node's window, before all that the window has of that key
with the intake, not begun       is expected anew
begun, and a reply owed          goes on with the process that took it, if that hands it over; else as not begun
answered                         the next owner knows the answer
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast, final

from runtime.behaviours.gen_server import CastEnvelope
from runtime.behaviours.system import Handed
from runtime.codec.errors import DecodeError, EncodeError
from runtime.durable.commands import Numbered
from runtime.errors import Misuse
from runtime.kernel.exits import SHUTDOWN
from runtime.kernel.process import Process
from runtime.kernel.requests import Asker, Caller, SystemCaller
from runtime.kernel.signals import Down, Exit, Uncounted, content
from runtime.kernel.timer import _Interval
from runtime.kernel.timers import Timer

from .departed import departed_of
from .entities import begins_by_itself, is_unneeded
from .failures import CannotHandOver
from .freezing import Freeze, Freezing
from .outward import Routed
from .packing import Case, decoded, encoded, pack_entity, timers_of
from .post import Post
from .shard import Entity, Job
from .window import Command

if TYPE_CHECKING:
    from .inward import Inward
    from .outward import Outward
    from .steps import DepartShard, FollowShard, SnapshotShard

# Seconds for which snapshots keep others from running.
SLICE: Final = 0.002

# Of what is packed.
VERSION: Final = 1

logger = logging.getLogger("banyan")


@final
@dataclass(frozen=True, slots=True, eq=False)
class Snapshots:
    """To the router: of these entities of a shard, by name, snapshots are still to be kept."""

    names: list[str]
    since: int
    asked: Caller


@final
class Leaving:
    """Packs frozen shards, and lets them go."""

    def __init__(self, post: Post, inward: Inward, outward: Outward, freezing: Freezing) -> None:
        self._post = post
        self._inward = inward
        self._outward = outward
        self._freezing = freezing
        self._departed = departed_of(post.table)
        freezing.leave = self._leave_by_force

    def snapshot(self, request: SnapshotShard, caller: Caller) -> None:
        """Have snapshots kept of those who run, a few at a time."""
        shard = self._inward.shards.get(request.shard)
        names = [entity.name for entity in shard.entities.values()] if shard is not None and shard.owned else []
        self.next_snapshots(Snapshots(names, request.since, caller))

    def next_snapshots(self, wanted: Snapshots) -> None:
        """The next of them, for as long as others can wait."""
        table = self._post.table
        until = table.timers.clock() + SLICE
        while wanted.names and table.timers.clock() < until:
            process = table.names.get(wanted.names.pop())
            keep = getattr(process.behaviour, "system_snapshot", None) if process is not None else None
            if keep is None or process is None or process.current is not None:
                continue  # it is being started, or at something: then it recovers from a few entries more
            try:
                keep(wanted.since)
            except Exception as error:  # allowed: the class's own code; it only takes longer to recover
                logger.warning("%s keeps no snapshot before its shard moves: %r", process.label, error)
        if wanted.names:
            self._post.process.post(wanted)
        else:
            self._post.reply(wanted.asked, None)

    def pack(self, number: int) -> bytes:
        """What of a shard is in memory."""
        freeze = self._freezing.frozen.get(number)
        if freeze is None or not freeze.done:
            if self._inward.own(number) is None:
                return b""
            raise Misuse(f"shard {number} of region {self._post.spec.name!r} is not frozen: freeze it first")
        table, shard = self._post.table, freeze.shard
        running = [(entity, process) for entity in shard.entities.values() if (process := self._running(entity))]
        giving = [process for _, process in running if freeze.handed.get(process.pid, Handed()).value is not None]
        timers = timers_of(table, giving)
        self._freezing.owe_no_more(freeze)
        # Those for whom something waits come first, and start first.
        awaited: list[object] = []
        entities: list[object] = []
        for entity, process in running:
            data = self._pack_entity(freeze, entity, process, timers.get(process.pid, []))
            if data or self._goes_on(process):
                kind = awaited if process.mailbox or process.deferred else entities
                kind.append((entity.key, entity.args, data))
        ended = [one for one in shard.entities.values() if one.pid in freeze.handed and self._running(one) is None]
        if self._post.spec.durable:
            entities.extend((entity.key, entity.args, b"") for entity in ended)
        rows = []
        for sender, node, expected, going, outcomes in shard.intake.packed(freeze.begun):
            if sender != self._post.id and node == self._post.node:
                continue  # an earlier router of this node
            answered = [] if node == self._post.node else outcomes
            rows.append((sender, node, expected, going, tuple(answered)))
        return encoded(table, (VERSION, tuple(rows), (*awaited, *entities)))

    def _goes_on(self, process: Process) -> bool:
        """Whether a durable entity that takes nothing along must run there before somebody asks it."""
        spec = self._post.spec
        return spec.durable and (begins_by_itself(spec.entity) or bool(process.mailbox) or not is_unneeded(process))

    def _running(self, entity: Entity) -> Process | None:
        return self._post.table.names.get(entity.name)

    def _pack_entity(self, freeze: Freeze, entity: Entity, process: Process, timers: list[Timer]) -> bytes:
        handed = freeze.handed.get(process.pid)
        goes = handed is not None and (handed.value is not None or handed.own is not None)
        if handed is None or not (goes or (self._post.spec.durable and process.mailbox)):
            return b""
        case = Case(process, timers)
        owed: list[object] = []
        begun: dict[str, set[int]] = {}
        for caller in (process.deferred or ()) if handed.value is not None else ():
            job = self._job(caller)
            if job is not None:
                owed.append(job.frame)
                begun.setdefault(job.frame.sender, set()).add(job.frame.number)
            elif type(caller) in (Caller, Asker) and caller.waiting:
                owed.append(self._owe(case, caller))
            else:
                continue
            case.callers.append(caller)
        mail = self._mail(case, takes_all=handed.value is not None)
        freeze.packed[process.pid] = case
        try:
            data = pack_entity(case, handed, owed, mail)
        except EncodeError as error:
            raise CannotHandOver(entity.name, str(error)) from error
        for sender, ones in begun.items():
            freeze.begun.setdefault(sender, set()).update(ones)
        return data

    def _owe(self, case: Case, caller: Caller) -> object:
        """How a caller is answered from elsewhere."""
        number = self._departed.owe(caller)
        case.numbers[number] = caller
        request: object = caller.request
        own: tuple[object, ...] = ()
        if isinstance(request, Numbered):
            own = (request.sender, request.number, request.since, request.lasting, request.remembered)
            request = request.command
        return (self._post.node, number, request, own)

    def _mail(self, case: Case, *, takes_all: bool) -> list[bytes]:
        """What lies in a mailbox, but for what its senders will send anew.

        Args:
            takes_all: also what the runtime has put there: for timers and monitors that go along.
        """
        found = []
        for raw in case.process.mailbox or ():
            message = content(raw)
            own = type(raw) is Uncounted
            value: object
            if isinstance(message, SystemCaller) or self._job(message) is not None:
                continue
            if isinstance(message, Caller):
                if not message.waiting:
                    continue
                value = ("call", self._owe(case, message))
            elif isinstance(message, CastEnvelope):
                value = ("cast", message.request)
            elif own and (not takes_all or (isinstance(message, Exit) and message.source == case.process.parent)):
                continue
            else:
                value = ("own" if own else "send", message)
            try:
                found.append(encoded(self._post.table, value))
            except EncodeError as error:
                if not own:  # such are a behaviour's own marks
                    logger.warning("a message to %s stays behind, as it cannot travel: %s", case.process.label, error)
            case.mail.append(message)
        return found

    def _job(self, message: object) -> Job | None:
        """The command that a request in an entity's hands or mailbox is, if it came by this router."""
        if type(message) is Asker and message.owner is self._post.process and isinstance(message.label, Job):
            return message.label
        return None

    # -- departing -------------------------------------------------------------------------------------

    def depart(self, request: DepartShard) -> None:
        """A shard is another node's."""
        number, owner = request.shard, (request.node, request.epoch)
        freeze, shard = self._freezing.frozen.get(number), self._inward.shards.get(number)
        if shard is not None and shard.intake.epoch >= request.epoch:
            return  # it has come back since
        queues: dict[str, list[Command]] = {}
        begun: set[int] = set()
        bare: list[Process] = []
        if freeze is not None and freeze.done:
            for entity in freeze.shard.entities.values():
                process = self._running(entity)
                if process is not None and (self._post.spec.durable or process.pid in freeze.packed):
                    if freeze.handed.get(process.pid, Handed()).value is None:
                        bare.append(process)
                    queues[entity.key] = self._leave(freeze, entity, process)
                elif entity.aside:
                    queues[entity.key] = entity.aside
            begun = freeze.begun.get(self._post.id, set())
            for timers in timers_of(self._post.table, bare).values():
                for timer in timers:
                    timer.stop()
            self._freezing.give_up(number)
        for stand in self._departed.of(self._post.spec.name, number):
            stand.told(request.node)
        self._post.left[number] = owner
        if shard is not None:
            self._inward.lose(shard, owner)
        self._outward.pass_on(number, owner, begun, queues)

    def _leave_by_force(self, freeze: Freeze, entity: Entity, process: Process) -> list[Command]:
        return self._leave(freeze, entity, process, forced=True)

    def _leave(self, freeze: Freeze, entity: Entity, process: Process, *, forced: bool = False) -> list[Command]:
        """Take a process away, quietly, and put a stand-in into its place; what waited for it, in order.

        Args:
            forced: it is ended in a freeze that may be over: what came by the intake waits there.
        """
        case = freeze.packed.get(process.pid) or Case(process)
        handed = freeze.handed.get(process.pid)
        kept = dict.fromkeys(case.callers)
        waiting: list[object] = []
        for caller in list(process.deferred or ()):
            if caller not in kept and type(caller) in (Caller, Asker):
                assert process.deferred is not None
                del process.deferred[caller]
                waiting.append(caller)  # taken, and not to be answered by who goes on: it is asked again
        current, process.current = process.current, None
        if isinstance(current, (Caller, CastEnvelope)) and not isinstance(current, SystemCaller):
            waiting.append(current)  # it was ended in the middle of this
        waiting += self._drain(process, case, takes_all=handed is not None and handed.value is not None)
        for caller in kept:
            if self._job(caller) is not None:
                cast("Asker", caller).owner = None
                if process.deferred is not None:
                    process.deferred.pop(caller, None)
        stand = self._departed.stand_for(process, self._post.spec.name, freeze.shard.number, entity.key, case.numbers)
        for timer in case.timers:
            timer.stop()
        pid = process.pid
        process.interrupt(SHUTDOWN)
        process.end(SHUTDOWN)
        pid._process = stand
        process.table.processes[pid.number] = stand
        if forced:
            jobs = [job for one in waiting if (job := self._job(one)) is not None]
            entity.waiting.extendleft(reversed(jobs))
            entity.under_way -= len(jobs)
        return entity.aside + self._commands(entity.key, waiting)

    def _drain(self, process: Process, case: Case, *, takes_all: bool) -> list[object]:
        """What has come into a mailbox since it was packed, in order; and what is expected anew."""
        mailbox = process.mailbox
        found: list[object] = []
        ticks = [timer.message for timer in case.timers if isinstance(timer, _Interval)]
        fired = [timer.message for timer in case.timers if not timer.waiting]
        packed = Counter(map(id, case.mail))
        while mailbox:
            raw = mailbox.popleft()
            own = type(raw) is Uncounted
            message = process.took(raw) if process.uncounted or process.senders else raw
            if packed[id(message)] > 0:
                packed[id(message)] -= 1
                continue
            if isinstance(message, SystemCaller):
                message.refuse(Misuse(f"{process.pid} has just moved to another node: ask there"))
            elif not own:
                found.append(message)
            elif takes_all and not (isinstance(message, Exit) and message.source == process.parent):
                again = next((index for index, one in enumerate(fired) if one is message), None)
                if again is not None:
                    del fired[again]  # it was packed before it was due: it comes there
                elif any(one is message for one in ticks):
                    pass  # likewise, and all that follow
                elif isinstance(message, Down) and message.ref in case.monitors:
                    pass  # its monitor was packed: it rings there
                elif self._means_something(message):
                    found.append(message)
        return found

    def _commands(self, key: str, waiting: list[object]) -> list[Command]:
        """What waited, as commands of this node; those that came by its own window are there already."""
        window = self._outward.windows.get(self._outward.shard_of(key))
        found: list[Command] = []
        for message in waiting:
            job = self._job(message)
            if job is not None:
                cast("Asker", message).owner = None
                own = window.pending.get(job.frame.number) if window is not None else None
                if own is not None and job.frame.sender == self._post.id:
                    found.append(own)
            elif isinstance(message, Caller):
                if message.waiting:
                    who = message.task or getattr(getattr(message, "owner", None), "task", None)
                    found.append(self._outward.command(Routed(key, "call", message.request, who, message)))
            elif isinstance(message, CastEnvelope):
                if self._travels(message.request):
                    found.append(Command(key, "cast", message.request))
            elif self._travels(message):
                found.append(Command(key, "send", message))
        return found

    def _means_something(self, message: object) -> bool:
        """Whether what the runtime has sent is more than a mark of the behaviour's own."""
        try:
            encoded(self._post.table, message)
        except EncodeError:
            return False
        return True

    def _travels(self, message: object) -> bool:
        try:
            decoded(self._post.table, encoded(self._post.table, message))
        except (EncodeError, DecodeError) as error:
            logger.warning("a message to a process that has moved is lost, as it cannot travel: %s", error)
            return False
        return True

    def follow(self, request: FollowShard) -> None:
        """Those who have gone are known under their new pids."""
        pids = dict(request.pids or ())
        for stand in self._departed.of(self._post.spec.name, request.shard):
            if request.pids is None:
                stand.lost()
            elif request.bare:
                stand.forsake()
            if stand.key in pids:
                stand.follow(pids[stand.key])
