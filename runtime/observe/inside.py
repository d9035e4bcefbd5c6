"""One process from inside, without asking it: who it is, its state, its mailbox, its stack, its timers.

What is read lies in memory, so a process that is busy, stuck or suspended is seen as well as any other; its
state may then be that of the middle of a callback, and says so. Source: OTP `erlang:process_info`,
`sys:get_state`, `recon:info`.
"""

from __future__ import annotations

import dataclasses
import functools
import linecache
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from typing import Any, final

from ..behaviours.gen import Behaviour
from ..behaviours.gen_server import CastEnvelope
from ..durable.event_sourced import EventSourced
from ..kernel.exits import shown
from ..kernel.ids import Pid
from ..kernel.process import Process, here
from ..kernel.requests import Caller, SystemCaller
from ..kernel.signals import Down, Exit, content
from ..kernel.table import ProcessTable
from ..kernel.timers import Timer
from .pieces import in_pieces, least
from .processes import Row, oldest, row_of, sequence_of
from .shown import VALUE_LIMIT, Frame, cut, fields_of, formatted, frames_of, seen
from .targets import name_of

# Links, monitors and watchers that are named.
NAMED = 50


@final
@dataclass(frozen=True, slots=True)
class About:
    """One process: its `row` of the list, and who is bound to it.

    Attributes:
        parent: who started it and gets its word first, as pid and name; None if nobody did.
        start: what it runs: the class of its behaviour, or its function.
        trap_exit: whether exit signals come to it as messages.
        watched: what watches it by `sys`: trace, log, statistics, functions.
        linked, monitoring, watched_by: the processes it is bound to, as `pid name`, at most NAMED of each.
        key: of a durable process the name of its journal, else None.
        summary: what it says of itself in a few words.
        stack: where it is.
    """

    row: Row
    parent: str | None
    start: str
    trap_exit: bool
    watched: tuple[str, ...]
    linked: tuple[str, ...]
    monitoring: tuple[str, ...]
    watched_by: tuple[str, ...]
    key: str | None
    summary: str
    stack: tuple[Frame, ...]

    def to_json(self) -> dict[str, Any]:
        """As the admin protocol sends it: the keys of the row and those of its own in one object."""
        own = {name: getattr(self, name) for name in self.__slots__ if name not in ("row", "stack")}
        return {**dataclasses.asdict(self.row), **own, "stack": [dataclasses.asdict(one) for one in self.stack]}


def about(process: Process) -> About:
    """All that is known of a living process."""
    behaviour = process.behaviour
    kind = type(behaviour)
    parent = process.parent
    return About(
        row=row_of(process, memory=True),
        parent=_named(parent) if parent is not None else None,
        start=f"{kind.__module__}.{kind.__qualname__}" if behaviour is not None else process.label,
        trap_exit=process.trap_exit,
        watched=process.debug.what if process.debug is not None else (),
        linked=_all(process.links or ()),
        monitoring=_all(target.pid for target in (process.monitors or {}).values() if target is not None),
        watched_by=_all(watcher.pid for watcher, _ in (process.watchers or {}).values()),
        key=behaviour.key if isinstance(behaviour, EventSourced) and sequence_of(behaviour) is not None else None,
        summary=_summary(behaviour),
        stack=stack(process),
    )


def _all(pids: Iterable[Pid]) -> tuple[str, ...]:
    return tuple(_named(pid) for pid in islice(pids, NAMED))


def _named(pid: Pid) -> str:
    process = pid._process
    return f"{pid!r} {name_of(process)}" if process is not None else f"{pid!r} (ended)"


def _summary(behaviour: object) -> str:
    try:
        return behaviour.summary() if isinstance(behaviour, Behaviour) else ""
    except Exception as error:  # an application's own words about a process that may be half made
        return f"<{type(error).__name__}>"


# -- its state -----------------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class StateView:
    """The state of a process as it allows it to be seen.

    Attributes:
        text: the whole of it, cut.
        fields: its parts by name, where it has such; each cut.
        busy: whether it was in the middle of a callback, so that the state may be half changed.
        sequence: of a durable process the journal entry whose state this is, else None.
    """

    pid: str
    name: str
    text: str
    fields: dict[str, str]
    busy: bool
    sequence: int | None = None


def state(process: Process) -> StateView:
    """The state as `sys.get_state` would give it, through `format_status` (N29); never fails for what they do."""
    behaviour = process.behaviour
    text, fields = "a plain function has no state to show", dict[str, str]()
    if isinstance(behaviour, Behaviour):
        try:
            found = behaviour.system_get_state()
            # A durable process has formatted it already.
            if not isinstance(behaviour, EventSourced):
                found = formatted(behaviour, found)
            text, fields = cut(shown(found), 10 * VALUE_LIMIT), fields_of(found)
        except Exception as error:  # an application's own words about a process that may be half made
            text = f"<no state: {type(error).__name__}>"
    return StateView(
        repr(process.pid), name_of(process), text, fields, process.current is not None, sequence_of(behaviour)
    )


# -- its mailbox ---------------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Letter:
    """One message that waits: its kind (call, cast, system, exit, down, info), whose it is, and what it says."""

    kind: str
    sender: str | None
    text: str
    age: float | None = None


@final
@dataclass(frozen=True, slots=True)
class MailboxView:
    """The first messages of `total` that wait; `oldest` as in a Row; `handling` is the one in hand, if any."""

    pid: str
    name: str
    total: int
    limit: int
    oldest: float | None
    handling: Letter | None
    letters: tuple[Letter, ...]


def mailbox(process: Process, limit: int = 20) -> MailboxView:
    """Look at the messages that wait for a process; none is taken out."""
    waiting = process.mailbox or ()
    in_hand = process.current
    return MailboxView(
        repr(process.pid),
        name_of(process),
        len(waiting),
        process.limit,
        oldest(process),
        letter(process, in_hand) if in_hand is not None else None,
        tuple(letter(process, content(raw)) for raw in islice(waiting, limit)),
    )


def letter(process: Process, message: object) -> Letter:
    """A message to a process, as that process allows it to be seen."""
    if isinstance(message, Caller):
        kind = "system" if isinstance(message, SystemCaller) else "call"
        now = process.table.timers.clock()
        sent = message.due - message.timeout if hasattr(message, "timeout") and hasattr(message, "due") else None
        text = type(message.request).__qualname__ if kind == "system" else seen(process.behaviour, message.request)
        return Letter(kind, asker(message), text, max(0.0, now - sent) if sent is not None else None)
    if isinstance(message, CastEnvelope):
        return Letter("cast", None, seen(process.behaviour, message.request))
    if isinstance(message, Exit):
        return Letter("exit", _named(message.source), cut(shown(message.reason)))
    if isinstance(message, Down):
        return Letter("down", cut(shown(message.monitored)), cut(shown(message.reason)))
    return Letter("info", None, seen(process.behaviour, message))


def asker(caller: Caller) -> str | None:
    """Who asked, as `pid name`; None if it was no process, or has left."""
    process = calling(caller)
    return _named(process.pid) if process is not None else None


def calling(caller: Caller) -> Process | None:
    """The process that waits for a reply, or None."""
    owner = getattr(caller, "owner", None)
    if isinstance(owner, Process):
        return owner
    task = caller.task
    found = task.context.get(here) if task is not None else None
    return found if isinstance(found, Process) else None


# -- where it is ---------------------------------------------------------------------------------------


def stack(process: Process) -> tuple[Frame, ...]:
    """Where a process is, outermost call first, without what its variables hold; empty before its first step.

    Of one that has had no message yet, and so no task, it is where it will wait for one.
    """
    if process.task is not None:
        return frames_of(process.task.iter_await_frames())
    if process.resting is None:
        return ()
    body: Any = process.resting[1]
    code = body.__code__
    source = linecache.getline(code.co_filename, code.co_firstlineno).strip()
    return (Frame(code.co_filename, code.co_firstlineno, code.co_qualname, source),)


# -- its timers ----------------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class TimerView:
    """One timer: seconds until it is due, for whom it is, what it does, and what it will say."""

    due: float
    destination: str
    kind: str
    text: str


@final
@dataclass(frozen=True, slots=True)
class TimersView:
    """The next of `total` timers; `deadlines` of calls and waits are counted only."""

    total: int
    deadlines: int
    timers: tuple[TimerView, ...]


async def timers(table: ProcessTable, of: Process | None = None, limit: int = 100) -> TimersView:
    """The timers of a node, or those for one process, the next first; many are read in pieces."""
    now = table.timers.clock()
    counted = [0, 0]

    async def wanted() -> AsyncIterator[Timer]:
        async for one in in_pieces(table.timers.set_now()):
            if not one.waiting:
                continue
            if not isinstance(one, Timer):
                counted[1] += 1
            elif of is None or _is_for(one, of):
                counted[0] += 1
                yield one

    found = await least(wanted(), limit, attrgetter("due"))
    total, deadlines = counted
    views = (TimerView(max(0.0, one.due - now), _destination(one), _kind(one), _message(table, one)) for one in found)
    return TimersView(total, deadlines, tuple([one async for one in in_pieces(views)]))


def _is_for(timer: Timer, process: Process) -> bool:
    return timer.destination == process.pid or (
        isinstance(timer.destination, str) and timer.destination in (process.names or ())
    )


def _destination(timer: Timer) -> str:
    found = timer.destination
    if isinstance(found, Pid):
        return _named(found)
    return "-" if found is None else cut(str(found))


def _kind(timer: Timer) -> str:
    return {"Timer": "message", "_Interval": "interval", "_Signal": "exit", "_Apply": "function"}.get(
        type(timer).__name__, "repeated function"
    )


def _message(table: ProcessTable, timer: Timer) -> str:
    if isinstance(timer.message, functools.partial):  # its arguments belong to no process that could hide them
        return getattr(timer.message.func, "__qualname__", "a function")
    found = timer.destination
    process = found._process if isinstance(found, Pid) else table.names.get(found) if isinstance(found, str) else None
    return seen(process.behaviour if process is not None else None, content(timer.message))
