"""What all behaviours share: the synchronous start, and the way to say what became of it.

A start is a handshake: the starter waits until the new process has run its `init`, and learns whether
it is up, wants to be ignored, or failed. A process that fails to start gives up its name and its link
first, so that the starter can try again at once and finds no stray exit message (rules L3, L6; OTP 26's
way). Source: OTP `proc_lib:start_link`, `gen:start`; rules L1-L10.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any, ClassVar, cast, final

import trio

from ..errors import BanyanError, Misuse
from ..kernel.exits import KILL, NORMAL, Crash, ProcessExit
from ..kernel.ids import Name, Pid, Ref
from ..kernel.names import check_name, claim_agreed, give_up, holder_of
from ..kernel.parking import park, wake
from ..kernel.process import DEFAULT_LIMIT, Body, Process, demonitor, monitor, reason_of, unlink
from ..kernel.requests import Waiting
from ..kernel.table import ProcessTable, context_of, current_process, current_table
from .debug import DebugOption, debug_of
from .system import Handed, at_once, renew


@final
class Ignore:
    """What `init` returns to say: do not start me, and this is no failure (OTP: `ignore`)."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "IGNORE"


IGNORE = Ignore()


@final
@dataclass(frozen=True, slots=True)
class StartError:
    """Why a process did not start, as a value: the exit reason with which it ended."""

    reason: object


@final
@dataclass(frozen=True, slots=True)
class AlreadyStarted:
    """The reason of a start whose name belongs to a living process (OTP: `{already_started, Pid}`)."""

    pid: Pid


class StartFailed(BanyanError):
    """A process did not start; `reason` is why."""

    def __init__(self, what: str, reason: object) -> None:
        text = f"{what} did not start: {reason!r}"
        if isinstance(reason, AlreadyStarted):
            text = f"{what} did not start: its name belongs to {reason.pid}; use that one, or another name"
        super().__init__(text)
        self.reason = reason
        if isinstance(reason, Crash):
            self.__cause__ = reason.error


class StartIgnored(StartFailed):
    """A process asked to be ignored, so there is no pid (OTP: `ignore`, L5); `reason` is NORMAL."""


@final
class Ack(Waiting):
    """The starter's parked slot: told once that the process is up, to be ignored, or failed."""

    __slots__ = ("due", "name", "outcome", "process", "task")

    def __init__(self, task: trio.lowlevel.Task) -> None:
        self.task = task
        self.process: Process | None = None
        # The name that the process has got, to be taken back if it does not start.
        self.name: Name | None = None
        self.outcome: Process | Ignore | StartError | None = None
        self.due = 0.0

    def __repr__(self) -> str:
        return "the start"

    def unwrap(self) -> None:
        return None

    def _tell(self, outcome: Process | Ignore | StartError) -> None:
        if self.outcome is None:
            self.outcome = outcome
            if self.task.custom_sleep_data is self:
                wake(self.task, self)

    def ok(self) -> None:
        """`init` has returned: the process is up."""
        assert self.process is not None
        self.process.current = None
        self._tell(self.process)

    def ignore(self) -> None:
        """`init` asked to be ignored: the starter hears of it when the process has ended."""
        assert self.process is not None
        self._let_go(self.process)
        self.process.current = _Ignored(self)

    def fail(self, reason: object) -> None:
        """The process ended before it was up."""
        if self.outcome is None and self.process is not None:
            self._let_go(self.process)
        self._tell(StartError(reason))

    def _let_go(self, process: Process) -> None:
        """So that the starter finds no stray Exit (L3), and can try again at once (L6)."""
        if process.parent is not None:
            unlink(process, process.parent)
        if self.name is not None:
            give_up(self.name, process)

    # The start's deadline (L4).

    @property
    def waiting(self) -> bool:
        return self.outcome is None

    def expire(self) -> None:
        process = self.process
        if process is not None and self.outcome is None:
            self._let_go(process)
            self._tell(StartError("timeout"))
            process.exit_signal(process.pid, KILL)


@final
class _Ignored(Waiting):
    """In the place of the Ack while a process that asked to be ignored is ending."""

    __slots__ = ("ack",)

    def __init__(self, ack: Ack) -> None:
        self.ack = ack

    def fail(self, _reason: object) -> None:
        self.ack._tell(IGNORE)


@final
@dataclass(frozen=True, slots=True)
class ChildView:
    """One child of a supervisor, as a person sees it: state is up, down, restarting or waiting."""

    id: str
    pid: Pid | None
    state: str
    type: str


@final
@dataclass(frozen=True, slots=True)
class SupervisorView:
    """A supervisor as a person sees it: restarts `used` within `period` seconds, of `intensity` allowed."""

    strategy: str
    used: int
    intensity: int
    period: float
    children: Sequence[ChildView]


class Behaviour:
    """The base of all behaviours: a class whose instances are the state of one process.

    Class attributes that a subclass may set:

    - `trap_exit`: whether it traps exit signals from birth; then `terminate` runs on shutdown.
    - `mailbox_limit`: bound of its mailbox, in messages.
    """

    trap_exit: ClassVar[bool] = False
    mailbox_limit: ClassVar[int] = DEFAULT_LIMIT
    # What kind of child it is in a supervision tree: "worker" or "supervisor".
    child_type: ClassVar[str] = "worker"
    # Whether its parent's exit signal goes before a long queue: more messages than one turn takes.
    _behaviour_hurries: ClassVar[bool] = True
    # Whether its tasks need a cancel scope: told from its callbacks when a subclass is made.
    _behaviour_scoped: ClassVar[bool] = False
    # Whether between two messages nothing of it is there but a wait: before the first it needs no task (its body
    # is begun with None then), and who waits for its end need not wait until it has left its frames.
    _behaviour_rests: ClassVar[bool] = False

    @classmethod
    def _behaviour_begin(cls, process: Process, ack: Ack, args: tuple[Any, ...]) -> tuple[Body, object] | None:
        """The first step of a process, in its own context, before it has a task.

        Returns the body that its task runs, with that body's argument; None if the process has ended here.
        Tells `ack` when the process is up. What it raises is the exit reason.
        """
        raise NotImplementedError

    def overview(self) -> SupervisorView | None:
        """The children, of a behaviour that has any. Reads memory only: it works while the process waits."""
        return None

    def summary(self) -> str:
        """What it is at, in a few words for a line of the tree; names no secret. Reads memory only."""
        return ""

    def state(self) -> object:
        """The state as `sys.get_state` shows it: by default the instance's public attributes."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def replace_state(self, state: Any) -> Any:
        """Take on a state that was made outside, of the form in which `state` shows it (Y5).

        Override it together with `state`. Look at all of `state` before changing anything.
        """
        mine = type(self)
        if mine.state is not Behaviour.state:
            raise Misuse(f"{mine.__qualname__} shows a state of its own making: override replace_state as well")
        if not isinstance(state, dict) or not all(type(n) is str and n.isidentifier() and n[0] != "_" for n in state):
            raise Misuse(f"the state of a {mine.__qualname__} is a dict of its public attributes, got {state!r}")
        hidden = {name: value for name, value in vars(self).items() if name.startswith("_")}
        vars(self).clear()
        vars(self).update(hidden, **state)

    def code_change(self, old_vsn: Any, state: Any, extra: Any) -> Any:
        """Runs in the newly loaded class when a suspended process takes it on (Y6). Must not wait.

        Args:
            old_vsn: whatever `sys.change_code` was told of the old version.
            state: what the old class's `state` showed.
            extra: anything else that `sys.change_code` was given.

        Returns: the new state, as `replace_state` takes it; None if `self` is as it should be. What it raises
            undoes the change.
        """
        raise NotImplementedError(f"{type(self).__qualname__} has no code_change")

    def hand_over(self) -> object | None:
        """What this process knows and its successor on another node cannot know, when its shard moves there.

        Asked of a GenServer and of an EventSourced process. Runs while it is suspended, and changes nothing: it may
        go on here after all. Must not wait. A value that can be sent to another node; it may hold the process's own
        timers, the references of its monitors, and callers whose replies it owes. None: nothing; a process that keeps
        no journal then begins anew. What it raises, or a value that cannot be sent, keeps its shard where it is.
        """
        return None

    def take_over(self, value: Any) -> None:
        """Go on with what `hand_over` gave on the node where this process was before. Must not wait.

        Runs at the end of the start, after `init`; of an EventSourced process in place of `recovered`. Its timers
        and monitors of before are set by then. What it raises fails the start, and the next one has no value.
        """
        mine = type(self).__qualname__
        raise NotImplementedError(f"{mine} has hand_over and no take_over: write it, or hand over None")

    # What differs between behaviours in how they serve `sys`: see `system`.

    def system_hand_over(self) -> Handed:
        """What goes with this process to another node; all that it has accepted is as lasting as it ever gets."""
        return Handed(at_once(self.hand_over(), "hand_over"))

    def system_get_state(self) -> object:
        """What `sys.get_state` gives (Y4)."""
        return self.state()

    def system_replace_state(self, function: Callable[[Any], object]) -> object:
        """Take on the state that `function` makes of the present one, and return it (Y5)."""
        state = function(self.system_get_state())
        self.replace_state(state)
        return state

    def system_code_change(self, code: type | ModuleType, old_vsn: object, extra: object) -> None:
        """Become an instance of newly loaded code; what it raises leaves everything as before (Y6)."""
        before = self.system_get_state()

        def convert() -> object:
            state = self.code_change(old_vsn, before, extra)
            if state is None or inspect.iscoroutine(state):
                return state
            self.replace_state(state)
            return None

        renew(self, code, convert)

    def format_status(self, value: object) -> object:
        """Hide what must not be seen of a state or message in logs, crash reports and views (N29).

        Runs whenever one of them is shown. By default it is shown as it is.
        """
        return value


# A plain `init` runs within the start, without a switch to another task; so many may follow each other.
STARTS_A_PASS = 32

Start = type[Behaviour] | Callable[..., Awaitable[object]]


async def launch(
    start: Start,
    args: tuple[Any, ...],
    *,
    table: ProcessTable,
    nursery: trio.Nursery | None = None,
    parent: Process | None = None,
    linked: bool = False,
    name: Name | None = None,
    timeout: float = math.inf,
    label: str | None = None,
    debug: Iterable[DebugOption] = (),
    watch: tuple[Process, Ref] | None = None,
) -> Process | Ignore | StartError:
    """Start a process and wait for its `init` (rules L1-L6). The mechanism behind every start.

    Args:
        start: a behaviour's class, or an async function, which is up as soon as it is called.
        nursery: where its task lives; the node's own if None.
        parent: who starts it; a shutdown of a process that traps exits comes from its parent.
        name: a local name, or a Via; registered before `init` runs.
        timeout: seconds for `init`; then the process is killed and the outcome is "timeout".
        debug: what watches it from the start: see `sys`.
        watch: who monitors it from birth, by which reference; not any more if it does not start.

    Returns: the process, IGNORE, or a StartError with the reason. Never raises for what `init` did.
    """
    if name is not None:
        check_name(name)
        holder = holder_of(table, name)
        if holder is not None:
            return StartError(AlreadyStarted(holder.pid))
    ack = Ack(trio.lowlevel.current_task())
    if isinstance(start, type) and issubclass(start, Behaviour):
        process = table.create(
            label or start.__qualname__,
            parent=parent,
            linked=linked,
            trap_exit=start.trap_exit,
            scoped=start._behaviour_scoped,
            limit=start.mailbox_limit,
        )
        begin: Callable[[Process, Ack, tuple[Any, ...]], tuple[Body, object] | None] = start._behaviour_begin
    elif callable(start):
        function = cast("Callable[..., Awaitable[object]]", start)
        process = table.create(label or str(getattr(function, "__qualname__", function)), parent=parent, linked=linked)
        begin = partial(_begin_plain, function)
    else:
        raise Misuse(f"wanted a behaviour's class or an async function to start, got {start!r}")
    ack.process = process
    process.current = ack
    if debug:
        try:
            process.debug = debug_of(debug, process)
        except Misuse:
            process.end(NORMAL)  # it was none yet
            raise
    if watch is not None:
        monitor(*watch, process.pid, process)
    if name is not None:
        try:
            taken = await claim_agreed(table, name, process)
        except BaseException:  # the registry's own word: it goes on, but leaves no half-made process behind
            process.end(NORMAL)
            raise
        if taken is not None:
            process.end(NORMAL)
            return StartError(AlreadyStarted(taken))
        ack.name = name
    context = context_of(process)
    try:
        begun = context.run(begin, process, ack, args)
    except BaseException as error:  # what init raises is the exit reason of the new process
        reason, passing = reason_of(error)
        process.end(reason)
        if passing is not None:
            raise  # the host's: it goes on, but leaves no process without a task behind
    else:
        if process.exiting is not None:
            process.end(process.exiting)
        elif begun is not None:
            body, argument = begun
            rest = argument is None and getattr(start, "_behaviour_rests", False)
            table.begin(process, context, body, argument, nursery, rest=rest)
    if ack.outcome is None:
        table.timers.watch(ack, timeout)
    else:
        table.starts += 1
        if table.starts % STARTS_A_PASS == 0:
            # Shielded: a starter that is cancelled here would never learn of the process that is up.
            await trio.lowlevel.cancel_shielded_checkpoint()
    while ack.outcome is None:
        try:
            if parent is not None and parent.exiting is not None:
                # A signal that came while it ran could not wake it, if it has no cancel scope.
                raise ProcessExit(parent.exiting)
            ack.task.custom_sleep_data = ack
            await park()
        except BaseException:
            # The starter is cancelled or told to end: a half-started child must not be left behind (S63).
            if ack.outcome is None:
                process.exit_signal(process.pid, KILL)
            raise
    return ack.outcome


def _begin_plain(
    function: Callable[..., Awaitable[object]], _process: Process, ack: Ack, args: tuple[Any, ...]
) -> tuple[Body, object]:
    ack.ok()
    return _plain, (function, args)


async def _plain(_process: Process, call: tuple[Callable[..., Awaitable[object]], tuple[Any, ...]]) -> object:
    """The body of a process that is an async function."""
    function, args = call
    await function(*args)
    return NORMAL


async def start(
    behaviour: Start,
    *args: Any,
    name: Name | None = None,
    timeout: float = math.inf,
    debug: Iterable[DebugOption] = (),
) -> Pid:
    """Start a process without a link and wait until its `init` has returned; it has no parent.

    Args:
        behaviour: a behaviour's class (or an async function), started with `args`.
        name: a local name for it, or a Via.
        timeout: seconds for `init`.
        debug: what watches it from the start (Y7): "trace", "log", ("log", how many), "statistics",
            `sys.Install(function)`.

    Raises:
        StartFailed: `init` raised, stopped, took too long, or the name is taken; StartIgnored: it asked for that.
    """
    outcome = await launch(behaviour, args, table=current_table(), name=name, timeout=timeout, debug=debug)
    return _started(behaviour, outcome)


async def start_link(
    behaviour: Start,
    *args: Any,
    name: Name | None = None,
    timeout: float = math.inf,
    debug: Iterable[DebugOption] = (),
) -> Pid:
    """Like `start`, linked to the calling process, which is its parent from then on."""
    parent = current_process()
    outcome = await launch(
        behaviour, args, table=parent.table, parent=parent, linked=True, name=name, timeout=timeout, debug=debug
    )
    return _started(behaviour, outcome)


async def start_monitor(
    behaviour: Start,
    *args: Any,
    name: Name | None = None,
    timeout: float = math.inf,
    debug: Iterable[DebugOption] = (),
) -> tuple[Pid, Ref]:
    """Like `start`, monitored by the calling process from birth, so that its Down tells the true reason (N28).

    If the start fails there is no Down.
    """
    watcher = current_process()
    ref = watcher.table.new_ref()
    watch = (watcher, ref)
    try:
        outcome = await launch(
            behaviour, args, table=watcher.table, name=name, timeout=timeout, debug=debug, watch=watch
        )
        return _started(behaviour, outcome), ref
    except BaseException:
        demonitor(watcher, ref, flush=True)
        raise


def _started(behaviour: Start, outcome: Process | Ignore | StartError) -> Pid:
    what = str(getattr(behaviour, "__qualname__", behaviour))
    if isinstance(outcome, StartError):
        raise StartFailed(what, outcome.reason)
    if isinstance(outcome, Ignore):
        raise StartIgnored(f"{what} asked to be ignored and", NORMAL)
    return outcome.pid
