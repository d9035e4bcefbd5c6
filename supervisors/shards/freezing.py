"""Freezing a shard: its entities come to rest, each between two messages, and what comes for them is held.

An entity that only waits for its next message is held at once; the others are asked to be suspended (`sys`), which
they are when they have ended what they have in hand. The intake holds what comes by the region, the mailboxes what
comes to pids, and this node's own window sends nowhere else. So nothing of the shard happens until it thaws, or is
gone: see `leaving`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast, final

from runtime.behaviours.system import CallbackFailed, Handed, HandOver, Resume
from runtime.durable.journal import Journal
from runtime.durable.writer import SERVICE as JOURNAL
from runtime.errors import Misuse
from runtime.kernel.exits import Broken, Crash, ProcessExit, in_words, shown
from runtime.kernel.holding import hold, let_go
from runtime.kernel.ids import Pid, Ref
from runtime.kernel.process import Process, demonitor, here, monitor
from runtime.kernel.requests import Asker, Caller, SystemAsker, SystemCaller
from runtime.kernel.signals import Answer, content
from runtime.kernel.timer import cancel_timer, send_after
from runtime.kernel.timers import Timer

from .departed import departed_of
from .failures import CannotHandOver
from .packing import Case
from .post import Post
from .shard import Entity, Shard
from .window import Command

if TYPE_CHECKING:
    from runtime.behaviours.gen import Behaviour

    from .inward import Inward
    from .outward import Outward
    from .steps import FreezeShard

logger = logging.getLogger("banyan")


@final
@dataclass(slots=True, eq=False)
class Freeze:
    """A shard that is being frozen, or is.

    Attributes:
        asked: who waits to hear that it is.
        ask: the monitor of who asked.
        awaited: the processes that have not come to rest.
        handed: those that have, with what they hand over.
        held: those of them that are held, and were not asked.
        suspended: those whom somebody else had suspended before, who stay so.
        packed: what was packed, by process.
        begun: by sender, the numbers that go on with a process.
    """

    shard: Shard
    force: bool
    asked: list[Caller] = field(default_factory=list)
    ask: Ref | None = None
    timer: Timer | None = None
    done: bool = False
    awaited: dict[Pid, Entity | None] = field(default_factory=dict)
    handed: dict[Pid, Handed] = field(default_factory=dict)
    held: set[Pid] = field(default_factory=set)
    suspended: set[Pid] = field(default_factory=set)
    packed: dict[Pid, Case] = field(default_factory=dict)
    begun: dict[str, set[int]] = field(default_factory=dict)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Rested:
    """The label of the question whether a process has come to rest."""

    freeze: Freeze
    pid: Pid


@final
@dataclass(frozen=True, slots=True, eq=False)
class Over:
    """The time for a freeze is over."""

    freeze: Freeze


@final
class Freezing:
    """The shards that are frozen, or about to be."""

    def __init__(self, post: Post, inward: Inward, outward: Outward) -> None:
        self._post = post
        self._inward = inward
        self._outward = outward
        self.frozen: dict[int, Freeze] = {}
        # Takes away one that does not come to rest: see `Leaving`.
        self.leave: Callable[[Freeze, Entity, Process], list[Command]]

    def freeze(self, request: FreezeShard, caller: Caller) -> None:
        """Bring a shard to rest."""
        if not request.budget >= 0.0:
            raise Misuse(f"wanted a budget of seconds from 0 up, got {request.budget!r}")
        freeze = self.frozen.get(request.shard)
        if freeze is None:
            shard = self._inward.own(request.shard)
            if shard is None:
                self._post.reply(caller, True)
                return
            freeze = self.frozen[request.shard] = Freeze(shard, request.force)
            shard.intake.freeze()
            self._outward.pin(request.shard)
        self._watch(freeze, caller)
        freeze.asked.append(caller)
        freeze.force = request.force
        if freeze.timer is None and not freeze.done:
            freeze.timer = send_after(request.budget, self._post.process.pid, Over(freeze))
        self._settle(freeze)

    def _watch(self, freeze: Freeze, caller: Caller) -> None:
        """Hear of the end of who asks."""
        asker = _process_of(caller)
        if freeze.ask is not None:
            demonitor(self._post.process, freeze.ask, flush=True)
            freeze.ask = None
        if asker is not None:
            freeze.ask = self._post.table.new_ref()
            monitor(self._post.process, freeze.ask, asker.pid, asker)

    def _settle(self, freeze: Freeze) -> None:
        """Bring all who run to rest, or ask them to come to rest; when all do, it is frozen."""
        if freeze.done:
            self._say(freeze, True)
            return
        shard, spec = freeze.shard, self._post.spec
        names = self._post.table.names
        running = [(entity, names.get(entity.name)) for entity in shard.entities.values()]
        memory = names.get(spec.known(shard.number)) if spec.remember else None
        for entity, process in [*running, (None, memory)]:
            if process is None or process.pid in freeze.handed or process.pid in freeze.awaited:
                continue
            if hold(process):
                if not self._handed(freeze, process, entity):
                    return
            else:
                freeze.awaited[process.pid] = entity
                if process.suspended and not _resumes(process):
                    freeze.suspended.add(process.pid)
                label = Rested(freeze, process.pid)
                asker = SystemAsker(HandOver(), process, process.pid, self._post.process, label)
                process.post(asker, first=True)
        if not freeze.awaited and not shard.busy:
            freeze.done = True
            self._quiet(freeze)
            self._say(freeze, True)

    def _handed(self, freeze: Freeze, process: Process, entity: Entity | None) -> bool:
        """Take what one hands over who is held; False if that fails, and the freeze with it."""
        freeze.held.add(process.pid)
        behaviour = cast("Behaviour", process.behaviour)
        context = process.task.context if process.task is not None else process.resting[0] if process.resting else None
        assert context is not None
        try:
            freeze.handed[process.pid] = context.run(behaviour.system_hand_over)
        except (Exception, ProcessExit, Broken) as error:  # allowed: the class's own code; who moves it is told
            self._cannot(freeze, process.pid, entity, error.reason if isinstance(error, ProcessExit) else Crash(error))
            return False
        return True

    def _cannot(self, freeze: Freeze, pid: Pid, entity: Entity | None, reason: object) -> None:
        """Who cannot say what it knows stays, and all of the shard with it: else that would be lost."""
        freeze.handed[pid] = Handed()  # it is let go with the others
        name = entity.name if entity is not None else self._post.spec.known(freeze.shard.number)
        error = CannotHandOver(name, in_words(reason.error) if isinstance(reason, Crash) else shown(reason))
        logger.error("shard %d stays: %s", freeze.shard.number, error)
        self._refuse(freeze, error)

    def rested(self, label: Rested, answer: Answer) -> None:
        """A process has come to rest, or has ended."""
        freeze = label.freeze
        if self.frozen.get(freeze.shard.number) is not freeze or label.pid not in freeze.awaited:
            return
        entity = freeze.awaited.pop(label.pid)
        if not answer.failed:
            freeze.handed[label.pid] = cast("Handed", answer.value)
        elif isinstance(answer.reason, CallbackFailed):
            self._cannot(freeze, label.pid, entity, answer.reason.reason)
            return
        if not freeze.awaited:
            self._settle(freeze)

    def again(self, number: int) -> None:
        """Something was said about a shard: look whether it is frozen now."""
        freeze = self.frozen.get(number)
        if freeze is not None and not freeze.done:
            self._settle(freeze)

    def over(self, freeze: Freeze) -> None:
        """The budget is used up."""
        if self.frozen.get(freeze.shard.number) is not freeze or freeze.done:
            return
        freeze.timer = None
        if freeze.force and self._post.spec.durable and not freeze.shard.busy:
            for pid, entity in list(freeze.awaited.items()):
                process = pid._process
                if process is not None and entity is not None:
                    entity.aside = self.leave(freeze, entity, process)
                    del freeze.awaited[pid]
            self._settle(freeze)
        if not freeze.done:
            self._refuse(freeze)

    def _refuse(self, freeze: Freeze, said: Exception | bool = False) -> None:
        asked, freeze.asked = freeze.asked, []
        self.thaw(freeze.shard.number)
        for caller in asked:
            self._post.reply(caller, said)

    def _say(self, freeze: Freeze, frozen: bool) -> None:
        asked, freeze.asked = freeze.asked, []
        for caller in asked:
            self._post.reply(caller, frozen)

    def _quiet(self, freeze: Freeze) -> None:
        if freeze.timer is not None:
            cancel_timer(freeze.timer)
            freeze.timer = None

    def thaw(self, number: int, epoch: int = 0) -> None:
        """Go on with a shard."""
        freeze = self.give_up(number)
        if freeze is None:
            return
        self.owe_no_more(freeze)
        shard = freeze.shard
        if epoch > shard.intake.epoch:
            shard.adopt(epoch)
        if shard.adopted:
            shard.adopted = False
            for node, opened in shard.intake.opens():
                self._post.to(node, opened)
        for pid in [*freeze.handed, *freeze.awaited]:
            process = pid._process
            if process is None or process.departed:
                continue
            if pid in freeze.held:
                let_go(process)
            elif pid not in freeze.suspended:
                # Behind the question that it may not have met yet: what is suspended finds this at once.
                process.post(SystemCaller(Resume(), None, process, pid))
        self._put_first(shard)
        for entity in shard.entities.values():
            if self._post.spec.durable and entity.pid in freeze.handed and entity.name not in self._post.table.names:
                entity.wanted = True
        shard.thaw()
        self._outward.unpin(number)

    def _put_first(self, shard: Shard) -> None:
        """What waited for those who were ended is asked again."""
        self._outward.put_first(shard.number, {one.key: one.aside for one in shard.entities.values() if one.aside})
        for entity in shard.entities.values():
            entity.aside = []

    def give_up(self, number: int) -> Freeze | None:
        """It is frozen no more, whatever becomes of it."""
        freeze = self.frozen.pop(number, None)
        if freeze is not None:
            self._quiet(freeze)
            if freeze.ask is not None:
                demonitor(self._post.process, freeze.ask, flush=True)
        return freeze

    def lost(self, number: int) -> None:
        """A shard is not this node's any more, whatever was under way with it."""
        freeze = self.give_up(number)
        if freeze is not None:
            self.owe_no_more(freeze)
            self._put_first(freeze.shard)
            self._outward.unpin(number)
            self._say(freeze, False)

    def owe_no_more(self, freeze: Freeze) -> None:
        """What was packed is not, and nobody answers from elsewhere."""
        for case in freeze.packed.values():
            departed_of(self._post.table).owe_no_more(case.numbers)
        freeze.packed, freeze.begun = {}, {}

    def ended(self, ref: Ref) -> None:
        """A monitor has rung: if it was that of who froze a shard, it thaws, unless it was sealed already."""
        for number, freeze in list(self.frozen.items()):
            if freeze.ask is ref:
                freeze.ask = None
                if not self._sealed(number):
                    self.thaw(number)

    def _sealed(self, number: int) -> bool:
        store = self._post.table.services.get(JOURNAL)
        journal = getattr(store, "journal", store)
        return isinstance(journal, Journal) and journal.fence(number).sealed


def _resumes(process: Process) -> bool:
    """Whether a suspended process is about to go on: it has not met the end of the last freeze yet."""
    waiting = map(content, process.mailbox or ())
    return any(isinstance(one, SystemCaller) and isinstance(one.request, Resume) for one in waiting)


def _process_of(caller: Caller) -> Process | None:
    """The process of this node that asks."""
    if isinstance(caller, Asker):
        return caller.owner
    found = caller.task.context.get(here) if caller.task is not None else None
    return found if type(found) is Process else None
