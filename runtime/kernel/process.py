"""What a process is: a Trio task with a mailbox, links and monitors, and an end that is a value.

**Nursery means lifetime, link means failure.** A process's task lives in its supervisor's nursery (or
in the node's), so it cannot outlive that; but no exception ever leaves it. The outermost frame, `run`,
turns whatever was raised into an exit reason, and failure travels by signals only.

A signal acts at once as a mark and takes effect when the receiver next runs: the sender's own code goes
on to its next checkpoint first, which is one of the orders that the BEAM allows (rule P46). A process
that is to die is *interrupted*: if it has a cancel scope, the scope is cancelled, so that every wait
inside its handlers ends; if not (all its callbacks are plain functions), it can only be parked in the
runtime's own trap, and is woken there.

Source: Erlang Reference Manual, "Processes"; rules P1-P55.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any, ClassVar

import trio

from ..errors import Misuse
from .exits import KILL, KILLED, NOPROC, NORMAL, Crash, ProcessExit, is_orderly
from .fairness import BATCH
from .ids import Pid, Ref, Via
from .parking import NOTHING, wake
from .reasons import reason_of
from .requests import Waiting
from .signals import Down, Exit, Uncounted

if TYPE_CHECKING:
    from .requests import Caller, Sender
    from .table import ProcessTable

DEFAULT_LIMIT = 10_000

Body = Callable[["Process", Any], Coroutine[Any, Any, object]]

# Whose code is running: a process, or for host code beside a node that node's table.
here: ContextVar[Process | ProcessTable] = ContextVar("banyan_here")


class Process:
    """One incarnation of one process: the mechanism behind a `Pid`. Applications hold pids, not this.

    Its subclasses stand for processes that are elsewhere, such as `elsewhere.RemoteProcess` for one of another node.
    """

    # Whether it only stands here for a process of another node.
    remote: ClassVar[bool] = False
    # Whether it stands for one that was here, and has gone to another node.
    departed: ClassVar[bool] = False

    __slots__ = (
        "behaviour",
        "budget",
        "current",
        "debug",
        "deferred",
        "exiting",
        "label",
        "left",
        "limit",
        "links",
        "mailbox",
        "monitors",
        "names",
        "parent",
        "pid",
        "resting",
        "scope",
        "scoped",
        "senders",
        "since",
        "suspended",
        "table",
        "task",
        "trap_exit",
        "uncounted",
        "watchers",
    )

    def __init__(
        self,
        table: ProcessTable,
        pid: Pid,
        label: str,
        *,
        parent: Pid | None,
        limit: int,
        trap_exit: bool,
        scoped: bool,
    ) -> None:
        self.table = table
        self.pid = pid
        self.label = label
        self.parent = parent
        self.limit = limit
        self.trap_exit = trap_exit
        self.scoped = scoped
        self.task: trio.lowlevel.Task | None = None
        # What its task is made of once something comes for it: see `ProcessTable.begin`.
        self.resting: tuple[Context, Body, object, trio.Nursery] | None = None
        self.scope: trio.CancelScope | None = None
        # Made on the first message: an empty deque is 760 bytes.
        self.mailbox: deque[object] | None = None
        # Invariant: how many messages in the mailbox its bound does not count.
        self.uncounted = 0
        # Fair scheduling, see `fairness`: what a turn may take, what `receive` may still take in this one, and
        # since when the turn runs, if its time is taken.
        self.budget = self.left = BATCH
        self.since = 0.0
        # Invariant: the reason with which this process is about to end, None while it is alive.
        self.exiting: object = None
        self.links: dict[Pid, None] | None = None
        self.watchers: dict[Ref, tuple[Process, Pid | str | Via]] | None = None
        self.monitors: dict[Ref, Process | None] | None = None
        self.names: list[str] | None = None
        # Callers whose requests were taken but not answered yet: the one in hand, and those kept back.
        self.current: object = None
        self.deferred: dict[Caller, None] | None = None
        # Senders that wait for room.
        self.senders: deque[Sender] | None = None
        self.behaviour: object = None
        self.suspended = False
        # What watches this process: see behaviours.debug. None costs nothing.
        self.debug: Any = None

    def __repr__(self) -> str:
        return f"<Process {self.pid} {self.label}>"

    # -- the mailbox ---------------------------------------------------------------------------------

    def offer(self, message: object) -> bool:
        """Append an ordinary message; False if the mailbox is full. Wakes the process."""
        mailbox = self.mailbox
        if mailbox is None:
            mailbox = self.mailbox = deque()
        elif len(mailbox) >= self.limit and len(mailbox) - self.uncounted >= self.limit:
            self.table.counts.mailboxes_full += 1
            return False
        mailbox.append(message)
        task = self.task
        if task is None:
            if self.resting is not None and not self.suspended:
                self.table.rouse(self)
        elif task.custom_sleep_data is self:
            wake(task, NOTHING)
        return True

    def post(self, message: object, *, first: bool = False) -> None:
        """Append (or put `first`) a message of the runtime's own, which no bound counts; wakes the process."""
        mailbox = self.mailbox
        if mailbox is None:
            mailbox = self.mailbox = deque()
        if first:
            mailbox.appendleft(Uncounted(message))
        else:
            mailbox.append(Uncounted(message))
        self.uncounted += 1
        task = self.task
        if task is None:
            if self.resting is not None and not self.suspended:
                self.table.rouse(self)
        elif task.custom_sleep_data is self:
            wake(task, NOTHING)

    def took(self, message: object) -> object:
        """Keep the books after `message` has left the mailbox, and return what it says.

        To be called whenever `uncounted` or `senders` is not empty.
        """
        if type(message) is Uncounted:
            message = message.message
            self.uncounted -= 1
        senders = self.senders
        if senders:
            mailbox = self.mailbox
            assert mailbox is not None
            while senders and len(mailbox) - self.uncounted < self.limit:
                sender = senders.popleft()
                sender.admit(mailbox)
        return message

    # -- signals -------------------------------------------------------------------------------------

    def exit_signal(self, source: Pid, reason: object, *, linked: bool = False) -> None:
        """Receive an exit signal (rules P5-P9). `linked`: it came by a link, where KILL can be trapped."""
        if reason is KILL and not linked:
            self.interrupt(KILLED)
        elif self.trap_exit:
            self.post(Exit(source, reason), first=source == self.parent and self._hurries())
        elif reason is not NORMAL:
            self.interrupt(reason)

    def _hurries(self) -> bool:
        # Who is told to end by its parent does not serve a long queue first; a short one it does, as in OTP.
        queue = self.mailbox
        return queue is not None and len(queue) > BATCH and getattr(self.behaviour, "_behaviour_hurries", False)

    def interrupt(self, reason: object) -> None:
        """End this process with `reason` at its next checkpoint; the first reason counts (P48)."""
        if self.exiting is not None:
            return
        self.exiting = reason
        if self.scope is not None:
            self.scope.cancel()
            return
        task = self.task
        if task is None:
            if self.resting is not None:
                self.table.rouse(self)
        elif task.custom_sleep_data is not None and not self.scoped:
            wake(task, _Interrupt(reason))

    def end_idle(self, reason: object) -> bool:
        """End here and now, if it only waits for its next message and nothing is to be done for its end; or False.

        For who would do nothing but wait for that end. KILL ends it whether it traps exits or not.
        """
        if self.exiting is not None or (self.trap_exit and reason is not KILL) or not self.waits():
            return False
        if self.resting is None and self.task is not None:
            wake(self.task, _Interrupt(reason))  # its frames are left with the next pass
        self.end(KILLED if reason is KILL else reason)
        return True

    def waits(self) -> bool:
        """Whether nothing of it is there but a wait for the next message."""
        task = self.task
        if self.resting is not None or self.scoped or task is None or task.custom_sleep_data is not self:
            return self.resting is not None
        return bool(getattr(self.behaviour, "_behaviour_rests", False))

    @property
    def alive(self) -> bool:
        """False from the moment an exit has begun (P41)."""
        return self.exiting is None and self.pid._process is self

    # -- links and monitors, as the other side sees them ---------------------------------------------

    def add_link(self, peer: Pid) -> None:
        """This process is linked with `peer` from now on, if it was not."""
        if self.links is None:
            self.links = {}
        self.links[peer] = None

    def drop_link(self, peer: Pid) -> None:
        """`peer` has removed its link with this process."""
        if self.links is not None:
            self.links.pop(peer, None)

    def link_ended(self, peer: Pid, reason: object) -> None:
        """A process that this one is linked with has ended."""
        if self.links is not None:
            self.links.pop(peer, None)
        self.exit_signal(peer, reason, linked=True)

    def add_watcher(self, ref: Ref, watcher: Process, monitored: Pid | str | Via) -> None:
        """`watcher` is to be told when this process ends."""
        if self.watchers is None:
            self.watchers = {}
        self.watchers[ref] = (watcher, monitored)

    def drop_watcher(self, ref: Ref) -> None:
        """Whoever made this monitor of this process wants to hear no more."""
        if self.watchers is not None:
            self.watchers.pop(ref, None)

    def watch_ended(self, ref: Ref, monitored: Pid | str | Via, reason: object) -> None:
        """A process that this one monitors has ended; nothing happens if the monitor has."""
        if self.monitors is not None and ref in self.monitors:
            del self.monitors[ref]
            end_alias(ref)
            self.post(Down(ref, monitored, reason))

    # -- the end -------------------------------------------------------------------------------------

    def end(self, reason: object) -> None:
        """Die: give up names, fail callers, then tell links and watchers. Idempotent."""
        if self.pid._process is not self:
            return
        if reason is None:  # a Stop(None): a reason that is none would harm no link and could not be told
            reason = Crash(Misuse("an exit reason is any value but None"))
        self.exiting = reason
        self.pid._process = None
        last = self.current
        table = self.table
        table.forget(self)
        self._fail_callers(reason)
        self._tell_kin(reason)
        monitors, self.monitors = self.monitors, None
        for ref, target in (monitors or {}).items():
            if target is not None:
                target.drop_watcher(ref)
        if table.trace is not None:
            table.trace("exit", self, reason)
        if not is_orderly(reason):
            table.crashed(self, reason, last)
        self.behaviour = self.task = self.scope = self.resting = None

    def _tell_kin(self, reason: object) -> None:
        links, self.links = self.links, None
        for peer in links or ():
            other = peer._process
            if other is not None:
                other.link_ended(self.pid, reason)
        watchers, self.watchers = self.watchers, None
        for ref, (watcher, monitored) in (watchers or {}).items():
            watcher.watch_ended(ref, monitored, reason)

    def _fail_callers(self, reason: object) -> None:
        # The mailbox is the monitor for calls: whoever waits for us waits in it, in hand, or put off.
        current, self.current = self.current, None
        if isinstance(current, Waiting):
            current.fail(reason)
        deferred, self.deferred = self.deferred, None
        for caller in deferred or ():
            caller.fail(reason)
        mailbox, self.mailbox = self.mailbox, None
        for message in mailbox or ():
            if type(message) is Uncounted:
                message = message.message
            if isinstance(message, Waiting):
                message.fail(reason)
        senders, self.senders = self.senders, None
        for sender in senders or ():
            sender.admit(None)


class _Interrupt:
    """The outcome with which a parked process without a scope is told to end."""

    __slots__ = ("reason",)

    def __init__(self, reason: object) -> None:
        self.reason = reason

    def unwrap(self) -> object:
        raise ProcessExit(self.reason)


async def run(process: Process, life: Coroutine[Any, Any, object]) -> None:
    """The outermost frame of every process: no exception of its `life` goes further than this.

    What belongs to the host passes: KeyboardInterrupt, SystemExit, TrioInternalError and a Cancelled
    that came from outside (the process then ends with SHUTDOWN, and Trio goes on unwinding). The frame
    lies under every idle process, twice, because Trio looks at it: each name in it is 16 bytes.
    """
    process.task = trio.lowlevel.current_task()
    reason: object = NORMAL
    try:
        if process.exiting is not None:
            life.close()  # killed before its first step
        elif process.scoped:
            with trio.CancelScope() as process.scope:
                reason = await life
        else:
            reason = await life
    except BaseException as error:  # the process's outermost frame: a raise becomes an exit reason here
        reason = _fallen(process, error)
    process.end(process.exiting if process.exiting is not None else reason)


def _fallen(process: Process, error: BaseException) -> object:
    """The exit reason that an uncaught exception means; what of it belongs to the host is raised again."""
    reason, passing = reason_of(error)
    if passing is not None:
        process.end(process.exiting if process.exiting is not None else reason)
        if passing is error:
            raise  # noqa: PLE0704  # called while it is being handled
        raise passing from None
    return reason


def link(process: Process, pid: Pid) -> bool:
    """Link two processes (rules P12-P15); False if `pid` is dead and the caller does not trap exits."""
    if pid == process.pid:
        return True
    other = pid._process
    if other is None:
        if not process.trap_exit:
            return False
        process.post(Exit(pid, NOPROC))
    elif other.exiting is not None:
        # It counts as alive until it has ended, but our link comes too late: the answer is on its way.
        if process.links is None:
            process.links = {}
        if pid not in process.links:
            process.links[pid] = None
            process.table.timers.soon(_link_noproc, process, pid)
    else:
        join(process, other)
    return True


def _link_noproc(process: Process, pid: Pid) -> None:
    if process.links is not None and pid in process.links:
        del process.links[pid]
        process.exit_signal(pid, NOPROC, linked=True)


def join(one: Process, other: Process) -> None:
    """Make the link itself: both ways, at most once."""
    other.add_link(one.pid)
    one.add_link(other.pid)


def unlink(process: Process, pid: Pid) -> None:
    """Remove the link, if there is one; an Exit that is already in the mailbox stays there (P17)."""
    process.drop_link(pid)
    other = pid._process
    if other is not None:
        other.drop_link(process.pid)


def monitor(process: Process, ref: Ref, monitored: Pid | str | Via, target: Process | None) -> None:
    """Watch `target` (rules P21-P26); a dead one sends its Down (NOPROC) after the caller's next checkpoint."""
    if process.monitors is None:
        process.monitors = {}
    if target is process:
        return
    if target is None or target.exiting is not None:
        process.monitors[ref] = None
        process.table.timers.soon(process.watch_ended, ref, monitored, NOPROC)
        return
    process.monitors[ref] = target
    target.add_watcher(ref, process, monitored)


def end_alias(ref: Ref) -> None:
    """A monitor has ended: an alias that lasts as long as it does ends too (P53)."""
    if ref._mode in ("demonitor", "reply_demonitor"):
        ref._owner = None


def by_alias(ref: Ref) -> Process | None:
    """Who gets a message that is sent to an alias now; one that lasts for one message is used up by it.

    Not if the mailbox is full: whoever waits for room must `use_up` the alias then, who does not has sent nothing.
    """
    owner = ref._owner
    if owner is None or owner.pid._process is not owner:
        return None
    mailbox = owner.mailbox
    if mailbox is None or len(mailbox) - owner.uncounted < owner.limit:
        use_up(ref)
    return owner


def use_up(ref: Ref) -> None:
    """A message goes by this alias: one that lasts for one message ends, with its monitor if it has one (P53)."""
    if ref._mode == "reply":
        ref._owner = None
    elif ref._mode == "reply_demonitor" and ref._owner is not None:
        demonitor(ref._owner, ref)


def demonitor(process: Process, ref: Ref, *, flush: bool = False) -> bool:
    """Stop a monitor; with `flush` also drop its queued Down. Returns whether it was still active (P27)."""
    active = process.monitors is not None and ref in process.monitors
    if ref._owner is process:
        end_alias(ref)
    if active:
        assert process.monitors is not None
        target = process.monitors.pop(ref)
        if target is not None:
            target.drop_watcher(ref)
            return True
        if flush:
            return False  # it was dead already: as if its Down had come and been dropped
        return True
    if flush and process.mailbox is not None:
        for message in process.mailbox:
            down = message.message if type(message) is Uncounted else None
            if type(down) is Down and down.ref is ref:
                process.mailbox.remove(message)
                process.uncounted -= 1
                break
    return False


__all__ = [
    "DEFAULT_LIMIT",
    "Body",
    "Process",
    "by_alias",
    "demonitor",
    "here",
    "join",
    "link",
    "monitor",
    "reason_of",
    "run",
    "unlink",
    "use_up",
]
