"""What is kept of the past of a node's processes: the last crashes, each with a look inside, and the last stalls.

A crash is examined while the dead process's behaviour is still there: its state is turned into text at once,
as the process allows, so that nothing of it stays in memory. A node in which nothing crashes pays nothing for
this. Keeping the messages of all processes (`keep`) is another matter: each is watched as by `sys.install`,
and shows its state once for each message, until that is turned off.

Source: OTP `proc_lib` crash reports, SASL's report browser `rb`; `sys:log`.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, final

from ..behaviours import system
from ..behaviours.debug import DONE, Debug, In, Install, line
from ..behaviours.gen import Behaviour
from ..kernel.exits import Crash, shown
from ..kernel.ids import Pid
from ..kernel.process import Process
from ..kernel.requests import SystemCaller
from ..kernel.stalls import Stall
from ..kernel.table import CrashReport, ProcessTable
from .inside import state
from .pieces import in_pieces
from .shown import Change, Frame, cut, difference, frames_of

logger = logging.getLogger("banyan")

SERVICE: Final = "observe.recorder"
# Crashes and stalls that are kept.
CRASHES = 100
STALLS = 50


@final
@dataclass(frozen=True, slots=True)
class CrashView:
    """One process that ended in disorder, as texts that it allowed itself.

    Attributes:
        at: seconds since 1970.
        reason: why it ended; `trace` is where that was raised, innermost call last, without values.
        last_message: what it had in hand.
        context: its own words on where it was, such as a position in its journal.
        state, fields: its state at the end, as in a StateView.
        recent: the last messages that came and left, if they were kept.
        changes: to each of `recent` what its handling changed in the state; of what left, nothing.
    """

    at: float
    pid: str
    name: str | None
    label: str
    reason: str
    last_message: str
    context: str
    state: str
    fields: dict[str, str]
    recent: tuple[str, ...]
    changes: tuple[tuple[Change, ...], ...]
    trace: tuple[Frame, ...]


@final
@dataclass(frozen=True, slots=True)
class StallView:
    """One time that a process held the loop: for how long, with what in hand, and where it was."""

    at: float
    pid: str
    name: str | None
    label: str
    seconds: float
    message: str
    stack: str


@final
class _Step:
    """One message, and what it changed."""

    __slots__ = ("changes", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.changes: tuple[Change, ...] = ()


@final
class _Past:
    """The last messages of one process, as text; what one has changed is seen when the next one comes."""

    __slots__ = ("_fields", "_last", "_looks", "steps")

    def __init__(self, count: int, looks: bool) -> None:
        self.steps: deque[_Step] = deque(maxlen=count)
        self._looks = looks
        self._last: _Step | None = None
        self._fields: dict[str, str] = {}

    def take(self, process: Process, event: object) -> None:
        """Note an event of `process`, in which it is told."""
        step = _Step(cut(line(process, event)))
        if isinstance(event, In) and self._looks:
            self.settle(state(process).fields)
            self._last = step
        self.steps.append(step)

    def settle(self, fields: dict[str, str]) -> None:
        """The last message has been handled, and this is the state now."""
        if self._last is not None:
            self._last.changes = difference(self._fields, fields)
        self._fields = fields


def _watch(past: object, event: object, pid: Pid) -> object:
    """Runs in a process whose messages are kept, for each of its events."""
    process = pid._process
    if process is None or not isinstance(past, _Past):
        return DONE
    if not isinstance(event, In) or type(event.message) is not object:  # else a mark that the runtime sends itself
        past.take(process, event)
    return past


@final
class Recorder:
    """Keeps the last crashes and stalls of one node, from when it is made until `close`."""

    def __init__(self, table: ProcessTable) -> None:
        self._table = table
        self._crashes: deque[CrashView] = deque(maxlen=CRASHES)
        self._stalls: deque[StallView] = deque(maxlen=STALLS)
        self._births: Callable[[str, object, object], None] | None = None
        self.kept = 0
        self._changes = True
        self.crashed = 0
        table.examiners.append(self._examine)
        table.stall_listeners.append(self._stalled)

    def close(self) -> None:
        """Keep nothing more; what was kept can still be read."""
        for process in self._switch(0):
            self._tell(process)
        self._table.examiners.remove(self._examine)
        self._table.stall_listeners.remove(self._stalled)

    def crashes(self, of: str | None = None, limit: int = 20) -> tuple[CrashView, ...]:
        """The last crashes, newest first; with `of` those whose pid, name or kind this is."""
        found = [one for one in reversed(self._crashes) if of is None or of in (one.pid, one.name, one.label)]
        return tuple(found[:limit])

    def stalls(self, limit: int = 20) -> tuple[StallView, ...]:
        """The last stalls, newest first."""
        return tuple(reversed(self._stalls))[:limit]

    # -- what happens --------------------------------------------------------------------------------

    def _examine(self, report: CrashReport, process: Process) -> None:
        try:
            self._keep_crash(report, process)
        except Exception:  # our own mistake: the process's links and watchers must still be told of its end
            logger.exception("the crash of %s was not kept", report.pid)

    def _keep_crash(self, report: CrashReport, process: Process) -> None:
        self.crashed += 1
        debug = process.debug
        found = state(process) if isinstance(process.behaviour, Behaviour) else None
        past = debug.installed(SERVICE) if isinstance(debug, Debug) else None
        steps: tuple[_Step, ...] = ()
        if isinstance(past, _Past):
            past.settle(found.fields if found is not None else {})
            steps = tuple(past.steps)
        error = report.reason.error if isinstance(report.reason, Crash) else None
        self._crashes.append(
            CrashView(
                at=report.at,
                pid=repr(report.pid),
                name=report.names[0] if report.names else None,
                label=report.label,
                reason=cut(shown(report.reason)),
                last_message=report.last_message,
                context=report.context,
                state=found.text if found is not None else "",
                fields=found.fields if found is not None else {},
                recent=tuple(step.text for step in steps),
                changes=tuple(step.changes for step in steps),
                trace=_trace(error) if error is not None else (),
            )
        )

    def _stalled(self, stall: Stall) -> None:
        self._stalls.append(
            StallView(
                stall.at,
                repr(stall.pid),
                stall.names[0] if stall.names else None,
                stall.label,
                stall.seconds,
                stall.message,
                stall.stack,
            )
        )

    # -- the messages before a crash -----------------------------------------------------------------

    def recent(self, process: Process) -> tuple[str, ...]:
        """The last messages of a living process, if they are kept."""
        past = process.debug.installed(SERVICE) if isinstance(process.debug, Debug) else None
        return tuple(step.text for step in past.steps) if isinstance(past, _Past) else ()

    async def keep(self, count: int, *, changes: bool = True) -> int:
        """Keep the last `count` messages of every process, also of those to come; 0: of none. How many are told.

        With `changes` each process looks at its own state for each message, to tell what that has changed.

        A process hears of it when it has done what waits before; one that is a plain function never does. Many
        are told in pieces, between which all others run.
        """
        told = self._switch(count, changes=changes)
        async for process in in_pieces(told):
            self._tell(process)
        return len(told)

    def _install(self) -> Install:
        return Install(_watch, _Past(self.kept, self._changes), SERVICE)

    def _switch(self, count: int, *, changes: bool = True) -> list[Process]:
        """From now on the new-born are watched, or not; those who are to be told."""
        table = self._table
        if count and self._births is None:
            before = table.trace

            def born(what: str, process: object, detail: object) -> None:
                if before is not None:
                    before(what, process, detail)
                if what == "spawn" and isinstance(process, Process):
                    process.debug = debug = Debug()
                    debug.install(self._install())

            self._births, table.trace = before or _nothing, born
        elif not count and self._births is not None:
            table.trace = self._births if self._births is not _nothing else None
            self._births = None
        if (count, changes) == (self.kept, self._changes):
            return []
        self.kept, self._changes = count, changes
        return [process for process in table.processes.values() if process.behaviour is not None]

    def _tell(self, process: Process) -> None:
        """Have a process watched as is wanted now, if it is still there."""
        if process.pid._process is not process:
            return
        requests: list[object] = [system.Remove(SERVICE)]
        if self.kept:
            requests.append(self._install())
        for request in requests:
            process.post(SystemCaller(request, None, process, process.pid))


def _nothing(_what: str, _process: object, _detail: object) -> None:
    """In the place of a probe where there was none."""


def _trace(error: BaseException) -> tuple[Frame, ...]:
    found = []
    trace = error.__traceback__
    while trace is not None:
        found.append((trace.tb_frame, trace.tb_lineno))
        trace = trace.tb_next
    return frames_of(found)


def recorder_of(table: ProcessTable) -> Recorder:
    """The recorder of a node; the first who asks has it made, and it lives as long as the node."""
    found = table.services.get(SERVICE)
    if not isinstance(found, Recorder):
        found = table.services[SERVICE] = Recorder(table)
    return found
