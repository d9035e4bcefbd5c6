"""A node's table of processes: who lives here, under which name, and where their tasks run.

There is one table per node, and nothing in it is global, so that several nodes can live in one program.
Source: erts process table and registry; rules P47, R1-R4.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextvars import Context, copy_context
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, final

import trio

from ..errors import Misuse, NotAProcess
from .checked import CheckedMailbox
from .counts import Counts
from .exits import SHUTDOWN, Crash, shown
from .ids import Pid, Ref, Via
from .process import DEFAULT_LIMIT, Body, Process, by_alias, here, join, run
from .timers import Timers
from .world import World

if TYPE_CHECKING:
    from .stalls import Stall

Destination = Pid | str | Ref | Via

logger = logging.getLogger("banyan")


@final
@dataclass(frozen=True, slots=True)
class CrashReport:
    """What is known of a process that ended in disorder; texts are already redacted by the process."""

    at: float
    pid: Pid
    label: str
    names: tuple[str, ...]
    reason: object
    last_message: str
    context: str

    def __str__(self) -> str:
        name = f" {', '.join(self.names)}" if self.names else ""
        where = f", {self.context}" if self.context else ""
        last = f"; last message: {self.last_message}" if self.last_message else ""
        return f"{self.pid}{name} ({self.label}{where}) ended: {shown(self.reason)}{last}"


class Books(Protocol):
    """Who keeps something for processes of this node: names, memberships, subscriptions."""

    def release(self, process: Process) -> None:
        """Give up all that is kept for a process: it has ended, with `process.exiting`."""


@final
class ProcessTable:
    """All processes of one node; `node` is its name and `creation` its incarnation."""

    def __init__(self, node: str, world: World, *, creation: int = 1, check_messages: bool = False) -> None:
        self.node = node
        self.creation = creation
        self.world = world
        # Whether mailboxes look for messages that were changed after they were sent: see `checked`.
        self.check_messages = check_messages
        self.timers = Timers(world.now)
        self.nursery: trio.Nursery | None = None
        self.processes: dict[int, Process] = {}
        self.names: dict[str, Process] = {}
        # Who keeps something for a process, by its number; told at its death. An idle process has no entry.
        self.kept: dict[int, dict[Books, None]] = {}
        # Called with each crash report; the node adds its log here, `observe` its list of crashes.
        self.crash_listeners: list[Callable[[CrashReport], None]] = []
        # Called likewise, with the process while its behaviour is still there: for who wants to look closer.
        self.examiners: list[Callable[[CrashReport, Process], None]] = []
        # Called with each stall when it is over: see `stalls`.
        self.stall_listeners: list[Callable[[Stall], None]] = []
        # A probe for the simulation: (what, process, detail). None costs one test.
        self.trace = world.trace
        # How often the node has met its limits and faults.
        self.counts = Counts()
        # Services of the node that behaviours find here, by name: "journal" is its durable writer.
        self.services: dict[str, object] = {}
        # What processes that come from other nodes have with them, by the local name that they get here.
        self.arrivals: dict[str, Callable[[Process], Any]] = {}
        # How many starts were made without a checkpoint in between: see behaviours.gen.
        self.starts = 0
        # How many processes gave way with mail left, and have not had their next turn: see `fairness`.
        self.hot = 0
        self._last_number = 0
        self._last_ref = 0

    def __repr__(self) -> str:
        return f"<ProcessTable {self.node} {len(self.processes)} processes>"

    @property
    def started(self) -> int:
        """How many processes there ever were."""
        return self._last_number

    # -- births and deaths ---------------------------------------------------------------------------

    def create(
        self,
        label: str,
        *,
        parent: Process | None = None,
        linked: bool = False,
        trap_exit: bool = False,
        scoped: bool = True,
        limit: int = DEFAULT_LIMIT,
    ) -> Process:
        """Make a process that has no task yet: it is alive, can be linked and sent to. `begin` lets it run.

        Args:
            label: what kind of process it is, for people.
            parent: who starts it; with `linked` the two are linked before it runs (P31).
            trap_exit: whether it traps exits from birth.
            scoped: whether it needs a cancel scope: True unless it waits in the runtime's own trap only.
            limit: bound of its mailbox, in messages.
        """
        self._last_number += 1
        pid = Pid(self.node, self.creation, self._last_number)
        process = Process(
            self,
            pid,
            label,
            parent=parent.pid if parent is not None else None,
            limit=limit,
            trap_exit=trap_exit,
            scoped=scoped,
        )
        pid._process = process
        if self.check_messages:
            process.mailbox = CheckedMailbox(process)
        self.processes[pid.number] = process
        if linked and parent is not None:
            join(parent, process)
        if self.trace is not None:
            self.trace("spawn", process, label)
        return process

    def begin(
        self,
        process: Process,
        context: Context,
        body: Body,
        argument: object = None,
        nursery: trio.Nursery | None = None,
        *,
        rest: bool = False,
    ) -> None:
        """Let a created process run `body(process, argument)` after the caller's next checkpoint.

        Args:
            context: where its contextvars live; `here` in it names the process.
            body: what it returns is the exit reason.
            nursery: where its task lives; the node's own by default.
            rest: whether all that the body would do is to wait for a message: it gets its task with the first
                message or signal then. Who closes the nursery ends those that rest in it: see `end_resting`.
        """
        room = nursery if nursery is not None else self.nursery
        if room is None:
            process.end(SHUTDOWN)
            raise Misuse(f"node {self.node!r} is not running: start processes inside `async with Node(...)`")
        process.resting = (context, body, argument, room)
        if not rest or process.mailbox:
            self._give_task(process)

    def rouse(self, process: Process) -> None:
        """Give a process that rests its task: something has come for it. If its nursery has closed it rests on.

        Then it is about to be ended with its nursery, by `end_resting`. Not here and now: who calls it is not
        waiting yet, and could not be told.
        """
        assert process.resting is not None
        context, body, argument, room = process.resting
        life = body(process, argument)
        try:
            context.run(partial(room.start_soon, run, process, life, name=process.label))
        except RuntimeError:  # Trio's word for a nursery that has closed
            life.close()
            return
        process.resting = None

    def _give_task(self, process: Process) -> None:
        assert process.resting is not None
        context, body, argument, room = process.resting
        process.resting = None
        life = body(process, argument)
        try:
            context.run(partial(room.start_soon, run, process, life, name=process.label))
        except BaseException:
            life.close()
            process.end(SHUTDOWN)
            raise

    def end_resting(self, among: Iterable[Process]) -> None:
        """End those that rest: the nursery in which their tasks would be has closed, which could not end them.

        Likewise those that only stand for one that has gone.
        """
        resting = [process for process in among if process.resting is not None or process.departed]
        for process in resting:
            process.resting = None  # the end of one must not rouse another
        for process in resting:
            process.end(process.exiting if process.exiting is not None else SHUTDOWN)

    def spawn(self, body: Body, label: str, **options: Any) -> Process:
        """`create` and `begin` in one; `options` are those of `create`."""
        process = self.create(label, **options)
        self.begin(process, context_of(process), body)
        return process

    def forget(self, process: Process) -> None:
        """Remove a process that has ended from the table and free its names: O(its names).

        Nobody has been told of its death yet, so no name is ever seen to belong to the dead (P40, R3).
        """
        number = process.pid.number
        self.processes.pop(number, None)
        for name in process.names or ():
            self.names.pop(name, None)
        if self.kept:
            for books in self.kept.pop(number, ()):
                books.release(process)

    def keep(self, process: Process, books: Books) -> None:
        """From now on `books` keep something for a living process: they are told when it ends."""
        self.kept.setdefault(process.pid.number, {})[books] = None

    def keep_no_more(self, process: Process, books: Books) -> None:
        """`books` have nothing left of a process."""
        kept = self.kept.get(process.pid.number)
        if kept is not None:
            kept.pop(books, None)
            if not kept:
                del self.kept[process.pid.number]

    def crashed(self, process: Process, reason: object, last: object = None) -> None:
        """Report the disorderly end of a process once, with what it had in hand, to the log and every listener."""
        self.counts.crashes += 1
        behaviour = process.behaviour
        context = getattr(behaviour, "crash_context", None)
        report = CrashReport(
            at=self.world.wall(),
            pid=process.pid,
            label=process.label,
            names=tuple(process.names or ()),
            reason=reason,
            last_message=redacted(behaviour, content_of(last)),
            context=_safely(context) if context is not None else "",
        )
        error = reason.error if type(reason) is Crash else None
        logger.warning("%s", report, exc_info=error)
        for listener in self.crash_listeners:
            listener(report)
        for examiner in self.examiners:
            examiner(report, process)

    # -- names and destinations ----------------------------------------------------------------------

    def find(self, destination: object) -> Process | None:
        """The living process behind a pid, a name, an alias or a Via, or None. Raises Misuse for anything else."""
        if type(destination) is Pid:
            return destination._process
        if type(destination) is str:
            return self.names.get(destination)
        if type(destination) is Ref:
            return by_alias(destination)
        if type(destination) is Via:
            return behind(destination)
        raise Misuse(f"a destination is a Pid, a registered name, an alias or a Via, got {destination!r}")

    def own(self, pid: object) -> Process | None:
        """The living process behind a pid of this node, or None; raises Misuse for any other."""
        if type(pid) is not Pid:
            raise Misuse(f"wanted a Pid, got {pid!r}: look a name up with whereis first")
        process = pid._process
        if (pid.node, pid.creation) != (self.node, self.creation) or (
            process is not None and process.table is not self
        ):
            raise Misuse(f"{pid!r} lives on node {pid.node!r}: {self.node!r} keeps names and groups of its own only")
        return process

    def register(self, name: str, process: Process) -> None:
        """Give a living process its local name (rule R1); raises Misuse if either is taken or it is dead."""
        if type(name) is not str or not name:
            raise Misuse(f"a name is a non-empty string, got {name!r}")
        if process.remote:
            raise Misuse(f"{process.pid!r} lives on node {process.pid.node!r}: name it there, by `register_on`")
        holder = self.names.get(name)
        if holder is not None:
            raise Misuse(f"the name {name!r} belongs to {holder.pid}: unregister it first, or choose another")
        if process.pid._process is not process:
            raise Misuse(f"cannot name {process.pid} {name!r}: it is dead")
        if process.names:
            raise Misuse(f"{process.pid} has the name {process.names[0]!r} already; a process has one")
        process.names = [name]
        self.names[name] = process

    def unregister(self, name: str) -> None:
        """Free a name; raises Misuse if nobody has it (R2)."""
        process = self.names.pop(name, None)
        if process is None:
            raise Misuse(f"nobody has the name {name!r}")
        process.names = None

    def new_ref(self) -> Ref:
        self._last_ref += 1
        return Ref(self._last_ref)


def behind(via: Via) -> Process | None:
    """The living process that has a name in a registry, or None."""
    pid = via.registry.whereis_name(via.name)
    if pid is not None and type(pid) is not Pid:
        raise Misuse(f"whereis_name gives a Pid or None, but that of {via.registry!r} gave {pid!r} for {via.name!r}")
    return pid._process if pid is not None else None


def context_of(process: Process) -> Context:
    """A copy of the caller's contextvars in which the running process is `process`."""
    context = copy_context()
    context.run(here.set, process)
    return context


def current_table() -> ProcessTable:
    """The node of the running code: of its process, or of the `async with Node(...)` around host code."""
    found = here.get(None)
    if found is None:
        raise NotAProcess("this needs a node: call it from a process, or from inside `async with Node(...)`")
    return found.table if isinstance(found, Process) else found


def current_process() -> Process:
    """The process whose code is running; raises NotAProcess in host code."""
    found = here.get(None)
    if type(found) is not Process:
        raise NotAProcess("this acts for the calling process, but no process is running: spawn one for it")
    return found


def redacted(behaviour: object, value: object) -> str:
    """A value as text, shown as the process itself allows it to be shown (rule N29)."""
    if value is None:
        return ""
    formatter = getattr(behaviour, "format_status", None)
    try:
        text = repr(formatter(value) if formatter is not None else value)
    except Exception as error:  # a formatter of the application: a report must not fail because of it
        return f"<unprintable: {type(error).__name__}>"
    return text if len(text) <= 1000 else text[:997] + "..."


def _safely(context: Callable[[], str]) -> str:
    try:
        return context()
    except Exception as error:  # an application's own words about a process that may be half made
        return f"<no context: {type(error).__name__}>"


def content_of(message: object) -> object:
    """What a request asks, or the message itself."""
    try:
        return getattr(message, "request", message)
    except Exception:  # a message of the application's, whose attributes are its own business
        return message
