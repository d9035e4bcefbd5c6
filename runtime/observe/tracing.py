"""A bounded message trace: what comes to and leaves some processes, until enough has passed or time is up.

It watches by `sys.install`, so each process tells by itself, in its own turn, and pays for it only while it is
watched. The trace stops itself three times over: every watching function removes itself after the last event,
the trace ends with its deadline, and whoever leaves it removes what is still installed. Texts are made at once
and as the process allows them: nothing that passed is kept alive.

Source: OTP `dbg`, `recon_trace` (its hard limit), `sys:install`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import final

import trio

from ..behaviours import system
from ..behaviours.debug import DONE, Debug, In, Install, Out
from ..behaviours.gen import Behaviour
from ..kernel.ids import Pid
from ..kernel.process import Process
from ..kernel.requests import Caller, SystemCaller
from ..kernel.signals import Down, Exit
from ..kernel.table import ProcessTable
from .inside import calling
from .protocol import Code, Refusal
from .shown import cut, seen
from .targets import full_name

# Characters of one traced message.
TEXT_LIMIT = 300
# Whom a message came from, or went to, when that is no process, or is not known.
OUTSIDE = "?"

_numbers = itertools.count(1)


@final
@dataclass(frozen=True, slots=True)
class Passed:
    """One message: `at` seconds after the start, from `source` to `target`, of a `kind`, as text.

    `kind` is call, cast, info and so on, `reply`, or `event` for what is neither.
    """

    at: float
    source: str
    target: str
    kind: str
    text: str


@final
@dataclass(frozen=True, slots=True)
class TraceView:
    """What has passed, and why no more did: `messages` (enough came), `seconds` (time was up), `ended` (all died)."""

    watched: tuple[str, ...]
    stopped: str
    seconds: float
    events: tuple[Passed, ...]


@final
class _Trace:
    def __init__(self, table: ProcessTable, messages: int) -> None:
        self.table = table
        self.left = messages
        self.events: list[Passed] = []
        self.over = trio.Event()
        self.began = table.timers.clock()
        self.key = ("observe.trace", next(_numbers))

    def watch(self, _state: object, event: object, pid: Pid) -> object:
        """Runs in a watched process for each of its events."""
        process = pid._process
        if self.over.is_set() or process is None:
            return DONE
        if isinstance(event, In) and type(event.message) is object:
            return None  # a mark that the runtime sends itself
        self.events.append(_passed(process, event, self.table.timers.clock() - self.began))
        self.left -= 1
        if self.left > 0:
            return None
        self.over.set()
        return DONE


async def trace(table: ProcessTable, processes: list[Process], messages: int = 100, seconds: float = 10.0) -> TraceView:
    """Watch processes until `messages` events have passed, `seconds` are over, or all of them have ended.

    A process that is busy is watched from its next message on.

    Raises:
        Refusal: code 5, if one of them is a plain function, which tells nothing.
    """
    for process in processes:
        if not isinstance(process.behaviour, Behaviour):
            why = "it is a plain function, which does not tell what it receives"
            raise Refusal(f"{full_name(process)!r} cannot be traced", why, "trace those it talks to", Code.REFUSED)
    found = _Trace(table, messages)
    install = Install(found.watch, None, found.key)
    for process in processes:
        _tell(process, install)
    stopped = "messages"
    try:
        with trio.move_on_after(seconds) as waiting:
            await found.over.wait()
        if waiting.cancelled_caught:
            stopped = "seconds" if any(p.pid._process is p for p in processes) else "ended"
    finally:
        found.over.set()
        for process in processes:
            if process.pid._process is process and isinstance(process.debug, Debug):
                _tell(process, system.Remove(found.key))
    took = table.timers.clock() - found.began
    return TraceView(tuple(map(full_name, processes)), stopped, took, tuple(found.events))


def _tell(process: Process, request: object) -> None:
    """Give a process a system message whose answer nobody waits for; it goes before what waits."""
    process.post(SystemCaller(request, None, process, process.pid), first=True)


def _passed(process: Process, event: object, at: float) -> Passed:
    own = full_name(process)
    match event:
        case In(kind, message):
            text = cut(seen(process.behaviour, message), TEXT_LIMIT)
            return Passed(at, _sender(process, message), own, kind, text)
        case Out(value, to):
            return Passed(at, own, _receiver(to), "reply", cut(seen(process.behaviour, value), TEXT_LIMIT))
        case _:
            return Passed(at, own, own, "event", cut(seen(process.behaviour, event), TEXT_LIMIT))


def _sender(process: Process, message: object) -> str:
    if isinstance(message, Exit):
        return _name(message.source)
    if isinstance(message, Down):
        return _name(message.monitored) if isinstance(message.monitored, Pid) else str(message.monitored)
    return _caller(process.current)


def _receiver(to: object) -> str:
    if isinstance(to, Caller):
        return _caller(to)
    return _name(to) if isinstance(to, Pid) else cut(str(to), 100)


def _caller(caller: object) -> str:
    process = calling(caller) if isinstance(caller, Caller) else None
    return full_name(process) if process is not None else OUTSIDE


def _name(pid: Pid) -> str:
    return full_name(pid._process) if pid._process is not None else repr(pid)
