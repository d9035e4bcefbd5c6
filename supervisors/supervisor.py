"""The supervisor's shell: it owns a nursery, performs what the pure machine decides, and survives its children.

    class Room(Supervisor):
        strategy, intensity, period = "rest_for_one", 3, 5.0

        def init(self):
            return [child("wallets", Wallets), child("tables", Tables)]

**Nursery means lifetime.** The children are tasks in this supervisor's nursery, so none can outlive it
and a replacement never meets its predecessor's children (stronger than OTP, rule S39). No exception of a
child reaches the nursery: it becomes an exit signal to this process (rule S66).

A supervisor ends in order when its parent says so (S41) or when it gives up (S24): children are stopped
one by one, last started first. If it is killed, its children get the link's signal and the nursery waits
for them, each at most its own shutdown time and none over 5 seconds; what is left is cancelled (S38).

Source: OTP `supervisor.erl`; the decisions are in `strategy`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any, ClassVar, final

import trio

from runtime.behaviours.gen import IGNORE, Ack, Behaviour, ChildView, StartError, SupervisorView, launch
from runtime.behaviours.system import renew, serve_system
from runtime.kernel.exits import KILL, KILLED, NORMAL, SHUTDOWN, ProcessExit
from runtime.kernel.fairness import BATCH, give_way
from runtime.kernel.ids import Pid
from runtime.kernel.parking import park
from runtime.kernel.process import Body, Process, unlink
from runtime.kernel.requests import Caller, ExitWatch, SystemCaller
from runtime.kernel.signals import Exit, content

from . import strategy as machines
from .backoff import Backoff
from .specs import AutoShutdown, BadSpec, ChildSpec, Flags, Shutdown, Strategy, check_children, check_flags
from .strategy.events import BLOCKING, Answer, Ask, Done, Exited, Halt, Launch

logger = logging.getLogger("banyan")

# The longest that a killed supervisor waits for what its children do in their last words.
ORPHAN_PATIENCE = 5.0


@final
class _Children(Sequence[ChildView]):
    """The children at one moment; each is turned into a view when it is looked at, for there may be many."""

    def __init__(self, children: Iterable[machines.Child]) -> None:
        self._children = list(children)

    def __len__(self) -> int:
        return len(self._children)

    def __getitem__(self, index: Any) -> Any:
        found = self._children[index]
        return [_view(one) for one in found] if isinstance(index, slice) else _view(found)


def _view(child: machines.Child) -> ChildView:
    return ChildView(child.spec.id, child.pid, child.state, child.spec.type)


class Supervisor(Behaviour):
    """The base of a supervisor: say in `init` which children it has, in class attributes how it treats them."""

    strategy: ClassVar[Strategy] = "one_for_one"
    intensity: ClassVar[int] = 1
    period: ClassVar[float] = 5.0
    auto_shutdown: ClassVar[AutoShutdown] = "never"
    # How long restarts wait; a child's own `backoff` goes before it. None: they do not, as in OTP.
    backoff: ClassVar[Backoff | None] = None

    trap_exit = True
    child_type = "supervisor"
    # It waits in the runtime's own trap only, so that a kill can be answered by waiting for the children.
    _behaviour_scoped = False

    def init(self, *args: Any) -> Any:
        """Runs first, with the arguments of the start. Returns the list of children, or IGNORE."""
        return []

    def flags(self) -> Flags:
        """How children are treated; taken once, after `init`, which may set the attributes on the instance."""
        return Flags(self.strategy, self.intensity, self.period, self.auto_shutdown, self.backoff)

    def state(self) -> object:
        """The children as they stand, in start order."""
        return {str(c.key): c.state for c in self.__machine.children.values()}

    def overview(self) -> SupervisorView:
        machine = self.__machine
        gauge = machine.gauge(self.__process.table.timers.clock())
        children = _Children(machine.children.values())
        return SupervisorView(gauge.strategy, gauge.used, gauge.intensity, gauge.period, children)

    # -- the process ---------------------------------------------------------------------------------

    def _make_machine(self, children: Any) -> machines.Machine:
        """The machine for what `init` has returned; raises BadSpec."""
        flags = check_flags(self.flags())
        specs = check_children(children, flags)
        if flags.strategy != "simple_one_for_one":
            return machines.StaticMachine(flags, specs)
        if len(specs) != 1:
            raise BadSpec(f"simple_one_for_one wants exactly one child from init, as the template, got {len(specs)}")
        return machines.DynamicMachine(flags, specs[0])

    def _before_launch(self, spec: ChildSpec) -> None:
        """Runs in this process before each start of a child."""

    def system_code_change(self, code: type | ModuleType, old_vsn: object, extra: object) -> None:
        """Read `init` of the new class again, with the arguments of the start (S61).

        Flags and specs are replaced, those of children by their ids; running children go on as they are. New
        ones are down until `restart_child`; those no longer named stay, after the others. If `init` returns
        IGNORE only the class changes. `code_change` is not called: a supervisor has no state of its own.
        """

        def read_again() -> None:
            fresh = type(self)()
            children = fresh.init(*self.__args)
            if children is not IGNORE:
                self.__machine.adopt(fresh._make_machine(children))
                vars(self).update(vars(fresh))

        renew(self, code, read_again)

    @classmethod
    def _behaviour_begin(cls, process: Process, ack: Ack, args: tuple[Any, ...]) -> tuple[Body, object] | None:
        supervisor = cls()
        process.behaviour = supervisor
        process.trap_exit = True
        supervisor.__process = process
        supervisor.__args = args
        children = supervisor.init(*args)
        if children is IGNORE:
            ack.ignore()
            process.end(NORMAL)
            return None
        supervisor.__machine = supervisor._make_machine(children)
        supervisor.__ack = ack
        return supervisor.__live, None

    async def __live(self, process: Process, _argument: object) -> object:
        try:
            async with trio.open_nursery() as nursery:
                self.__nursery = nursery
                try:
                    return await self.__serve()
                except ProcessExit as ended:
                    # Killed, or a bug of ours: children get the signal that a link would bring them.
                    await self.__abandon(ended.reason)
                    raise
        finally:
            # After the host's cancellation: who has no task yet was not reached by it.
            living = [_living(one.pid) for one in self.__machine.children.values()]
            process.table.end_resting([one for one in living if one is not None])
        raise AssertionError("unreachable")

    __process: Process
    __args: tuple[Any, ...]
    __machine: machines.Machine
    __nursery: trio.Nursery
    __ack: Ack | None

    async def __serve(self) -> object:
        process = self.__process
        ending = await self.__perform(machines.Boot())
        budget = BATCH
        while ending is None:
            mailbox = process.mailbox
            if process.exiting is not None:
                raise ProcessExit(process.exiting)
            if not mailbox:
                task = process.task
                assert task is not None
                task.custom_sleep_data = process
                await park()
                budget, process.since = process.budget, 0.0
                continue
            if budget <= 0:
                budget = await give_way(process)
                continue
            budget -= 1
            message = mailbox.popleft()
            if process.uncounted or process.senders:
                message = process.took(message)
            if type(message) is Caller:
                process.current = message
                ending = await self.__perform(Ask(message, message.request))
                process.current = None
            else:
                ending = await self.__take(process, message)
        return ending.reason

    async def __take(self, process: Process, message: object) -> machines.Finish | None:
        if isinstance(message, Exit):
            if message.source == process.parent:
                return await self.__perform(machines.Close(message.reason))
            return await self.__perform(Exited(message.source, message.reason))
        if isinstance(message, (machines.Retry, machines.Wake)):
            return await self.__perform(message)
        if isinstance(message, SystemCaller):
            stop = await serve_system(process, self, message)
            return await self.__perform(machines.Close(stop.reason)) if stop is not None else None
        if isinstance(message, Caller):
            process.current = message
            ending = await self.__perform(Ask(message, message.request))
            process.current = None
            return ending
        logger.warning("supervisor %s got a message it does not know and dropped it: %r", process.pid, message)
        return None

    async def __perform(self, event: machines.Event) -> machines.Finish | None:
        """Let the machine decide and do as it says; Finish when the supervisor is to end."""
        machine, table = self.__machine, self.__process.table
        clock, before = table.timers.clock, machine.restarts
        try:
            effects = machine.handle(event, clock())
            while True:
                blocking: machines.Launch | machines.Halt | machines.HaltAll | None = None
                for effect in effects:
                    if type(effect) is Answer:
                        effect.token.answer(effect.value)  # type: ignore[attr-defined]  # the Caller given with Ask
                    elif type(effect) in BLOCKING:
                        blocking = effect  # type: ignore[assignment]  # told by its type; it is the last one
                    elif type(effect) is machines.Finish:
                        return effect
                    else:
                        self.__note(effect)
                if blocking is None:
                    return None
                outcome: object
                if type(blocking) is Launch:
                    outcome = await self.__launch(blocking.spec)
                elif type(blocking) is Halt:
                    outcome = await self.__halt(blocking.pid, blocking.spec.shutdown)
                else:
                    outcome = await self.__halt_all(blocking.children)
                effects = machine.handle(Done(outcome), clock())
        finally:
            table.counts.restarts += machine.restarts - before

    def __note(self, effect: machines.Effect) -> None:
        """Perform what is neither waited for nor an answer."""
        match effect:
            case machines.Started():
                if self.__ack is not None:
                    self.__ack.ok()
                    self.__ack = None
            case machines.TryAgain(key):
                self.__process.post(machines.Retry(key))
            case machines.Wait():
                self.__set_alarm(effect)
            case machines.Report(what, key, reason):
                self.__process.table.counts.gave_up += what == "reached_max_restart_intensity"
                logger.info("supervisor %s: %s of %r: %r", self.__process.label, what, key, reason)

    def __set_alarm(self, wait: machines.Wait) -> None:
        process = self.__process
        roll = process.table.world.random.random() if wait.backoff.jitter else 0.0
        alarm = _Alarm(process, machines.Wake(wait.key, wait.ticket))
        process.table.timers.watch(alarm, wait.backoff.delay(wait.attempt, roll))

    async def __launch(self, spec: ChildSpec) -> object:
        process = self.__process
        self._before_launch(spec)
        outcome = await launch(
            spec.start,
            spec.args,
            table=process.table,
            nursery=self.__nursery,
            parent=process,
            linked=True,
            name=spec.name,
            label=spec.id if spec.type == "supervisor" else None,
        )
        if outcome is IGNORE:
            return None
        if isinstance(outcome, StartError):
            # So that tries that fail at once, one after the other, leave room for others to run.
            await trio.lowlevel.checkpoint()
            return machines.Failed(outcome.reason)
        assert isinstance(outcome, Process)
        return outcome.pid

    async def __halt(self, pid: Pid, shutdown: Shutdown) -> object:
        """Stop one child and wait for its end (S31): its link is cut first, so that it cannot refuse (S34)."""
        watch = self.__begin_halt(pid, shutdown)
        if not isinstance(watch, ExitWatch):
            return watch
        if shutdown != "brutal_kill" and shutdown != math.inf:
            self.__process.table.timers.watch(_Impatience(watch, pid), shutdown)
        return await self.__wait(watch)

    def __begin_halt(self, pid: Pid, shutdown: Shutdown) -> ExitWatch | object:
        """Ask a child to end. Returns a watch for its end, or its reason if it is dead already."""
        process = self.__process
        unlink(process, pid)
        target = _living(pid)
        if target is None:
            return self.__queued_exit(pid)
        reason = KILL if shutdown == "brutal_kill" else SHUTDOWN
        if target.end_idle(reason):
            return target.exiting
        watch = ExitWatch(None, process.task, target, pid)
        if target.deferred is None:
            target.deferred = {}
        target.deferred[watch] = None
        target.exit_signal(process.pid, reason)
        return watch

    def __queued_exit(self, pid: Pid) -> object:
        """Take the Exit of a dead child out of the mailbox (S66); its reason, KILLED if it was never linked."""
        mailbox = self.__process.mailbox or ()
        for index, raw in enumerate(mailbox):
            message = content(raw)
            if isinstance(message, Exit) and message.source == pid:
                del self.__process.mailbox[index]  # type: ignore[union-attr]  # we are iterating over it
                self.__process.took(raw)
                return message.reason
        return KILLED

    async def __wait(self, watch: ExitWatch, *, dying: bool = False) -> object:
        process = self.__process
        task = process.task
        assert task is not None
        while _living(watch.callee.pid) is not None:
            if process.exiting is not None and not dying:
                raise ProcessExit(process.exiting)  # a signal that came while we ran could not wake us
            task.custom_sleep_data = watch
            await park()
        return watch.callee.exiting

    async def __halt_all(self, children: tuple[tuple[Pid, ChildSpec], ...]) -> list[object]:
        """Stop several at once: all are signalled, then each is waited for within its own time (S42)."""
        begun = [(self.__begin_halt(pid, spec.shutdown), pid, spec) for pid, spec in children]
        for watch, pid, spec in begun:
            if isinstance(watch, ExitWatch) and spec.shutdown != "brutal_kill" and spec.shutdown != math.inf:
                self.__process.table.timers.watch(_Impatience(watch, pid), spec.shutdown)
        return [await self.__wait(watch) if isinstance(watch, ExitWatch) else watch for watch, _, _ in begun]

    async def __abandon(self, reason: object) -> None:
        """Die: tell the children, as links would, and wait for them; cancel what stays too long."""
        process = self.__process
        patience = 0.0
        for one in list(self.__machine.children.values()):
            target = _living(one.pid)
            if target is None:
                continue
            # Being orphaned is not being stopped: a brutal_kill child ends by the link's signal too.
            shutdown = ORPHAN_PATIENCE if one.spec.shutdown == "brutal_kill" else one.spec.shutdown
            patience = max(patience, min(shutdown, ORPHAN_PATIENCE))
            unlink(process, target.pid)
            target.exit_signal(process.pid, reason, linked=True)
        with trio.move_on_after(patience, shield=True):
            while any(_living(c.pid) is not None for c in self.__machine.children.values()):
                for one in list(self.__machine.children.values()):
                    target = _living(one.pid)
                    if target is not None:
                        watch = ExitWatch(None, process.task, target, target.pid)
                        if target.deferred is None:
                            target.deferred = {}
                        target.deferred[watch] = None
                        await self.__wait(watch, dying=True)
        for one in self.__machine.children.values():
            target = _living(one.pid)
            if target is not None:
                target.exit_signal(process.pid, KILL)
        self.__nursery.cancel_scope.cancel()


def _living(pid: Pid | None) -> Process | None:
    """The child that runs under a pid; one that has gone to another node is none any more, whoever stands for it."""
    process = pid._process if pid is not None else None
    return process if process is not None and not process.departed else None


class _Impatience:
    """The end of a child's shutdown time: kill it, if it is still there."""

    __slots__ = ("due", "pid", "watch")

    def __init__(self, watch: ExitWatch, pid: Pid) -> None:
        self.watch = watch
        self.pid = pid
        self.due = 0.0

    @property
    def waiting(self) -> bool:
        return self.pid._process is not None

    def expire(self) -> None:
        target = _living(self.pid)
        if target is not None:
            target.exit_signal(self.pid, KILL)


class _Alarm:
    """The end of a back-off's wait: the child may be restarted, if that is still to be."""

    __slots__ = ("due", "process", "wake")

    def __init__(self, process: Process, wake: machines.Wake) -> None:
        self.process = process
        self.wake = wake
        self.due = 0.0

    @property
    def waiting(self) -> bool:
        return self.process.alive

    def expire(self) -> None:
        self.process.post(self.wake)
