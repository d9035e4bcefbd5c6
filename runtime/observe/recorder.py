"""What is kept of the past of a node's processes: the last crashes, each with a look inside, and the last stalls.

A crash is examined while the dead process's behaviour is still there: its state and, if they were kept, its
last messages are turned into text at once, as the process allows, so that nothing of it stays in memory. A
node in which nothing crashes pays nothing for this. Keeping the messages of all processes (`keep`) is another
matter: it watches each of them as `sys.log` does, until it is turned off.

Source: OTP `proc_lib` crash reports, SASL's report browser `rb`; `sys:log`.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from ..behaviours import system
from ..behaviours.debug import Debug, line
from ..behaviours.gen import Behaviour
from ..kernel.exits import Crash, shown
from ..kernel.process import Process
from ..kernel.requests import SystemCaller
from ..kernel.stalls import Stall
from ..kernel.table import CrashReport, ProcessTable
from .inside import state
from .shown import Frame, cut, frames_of

logger = logging.getLogger("banyan")

SERVICE = "observe.recorder"
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
class Recorder:
    """Keeps the last crashes and stalls of one node, from when it is made until `close`."""

    def __init__(self, table: ProcessTable) -> None:
        self._table = table
        self._crashes: deque[CrashView] = deque(maxlen=CRASHES)
        self._stalls: deque[StallView] = deque(maxlen=STALLS)
        self._births: Callable[[str, object, object], None] | None = None
        self.kept = 0
        self.crashed = 0
        table.examiners.append(self._examine)
        table.stall_listeners.append(self._stalled)

    def close(self) -> None:
        """Keep nothing more; what was kept can still be read."""
        self.keep(0)
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
        recent = tuple(cut(line(process, event)) for event in debug.kept) if isinstance(debug, Debug) else ()
        found = state(process) if isinstance(process.behaviour, Behaviour) else None
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
                recent=recent,
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

    def keep(self, count: int) -> int:
        """Keep the last `count` messages of every process, also of those to come; 0: of none. How many are told.

        A process hears of it when it has done what waits before; one that is a plain function never does.
        """
        table = self._table
        if count and self._births is None:
            before = table.trace

            def born(what: str, process: object, detail: object) -> None:
                if before is not None:
                    before(what, process, detail)
                if what == "spawn" and isinstance(process, Process):
                    process.debug = debug = Debug()
                    debug.keep(self.kept)

            self._births, table.trace = before or _nothing, born
        elif not count and self._births is not None:
            table.trace = self._births if self._births is not _nothing else None
            self._births = None
        if count == self.kept:
            return 0
        self.kept = count
        told = [process for process in table.processes.values() if process.behaviour is not None]
        for process in told:
            process.post(SystemCaller(system.Keep(count), None, process, process.pid))
        return len(told)


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
