"""Who holds the loop: a callback that computes for too long is found out while it does, with its stack.

Nothing can take the processor from a callback (P44), but it can be said which one it is. Nobody pays for
that but who is found: the World has `look` called from outside the loop some times a second, and if there
is a process on the stack of the loop's thread, the loop is asked for a sign of life. If none has come for a
while, the same stack tells whose frame it is in, at which line. Each stall is told twice, in the log as soon
as it is one, because it may never end, and as a `Stall` to the table's listeners when it is over.

Time is the loop's own clock; under a virtual one, which stands still while code runs, there are no stalls.
A call into C that keeps the interpreter to itself is seen when it returns, if the callback goes on then.
Source: erts `system_monitor` (long_schedule); CPython's faulthandler.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import final

import trio

from .ids import Pid
from .process import Process, run
from .table import ProcessTable, content_of

logger = logging.getLogger("banyan")

# Seconds without an end of a pass, after which who holds the loop is told.
PATIENCE = 0.25

# Seconds between two looks.
INTERVAL = 0.05


@final
@dataclass(frozen=True, slots=True)
class Stall:
    """A process held the loop: none of the others ran meanwhile.

    Attributes:
        at: seconds since the Unix epoch, when it was found out.
        seconds: how long it lasted, exact to the interval of looking.
        message: the type of what it was handling; "" if it had no message in hand.
        stack: where it was when it was found out, as Python prints it, innermost call last.
    """

    at: float
    pid: Pid
    label: str
    names: tuple[str, ...]
    message: str
    seconds: float
    stack: str

    def __str__(self) -> str:
        name = f" {', '.join(self.names)}" if self.names else ""
        doing = f" while it handled {self.message}" if self.message else ""
        return f"{self.pid}{name} ({self.label}) held the loop for {self.seconds:.2f} s{doing}; it was at\n{self.stack}"


@final
class Watchman:
    """Watches the loop of one node. Make it in the loop's own thread; have `look` called from any other.

    Args:
        table: whose processes are watched.
        patience: seconds that a process may hold the loop.
    """

    def __init__(self, table: ProcessTable, *, patience: float = PATIENCE) -> None:
        self._table = table
        self._patience = patience
        self._clock = trio.lowlevel.current_clock().current_time
        self._loop = trio.lowlevel.current_trio_token()
        self._thread = threading.get_ident()
        # Counted by the loop: how often it has come round to give a sign.
        self._signs = 0
        # Who ran at the last look, since when, and how many signs there had been.
        self._seen: Process | None = None
        self._since = 0.0
        self._asked = 0
        self._now = 0.0
        # The stall that the log tells of already; the loop passes it on when it comes round.
        self._told: Stall | None = None

    def look(self) -> None:
        """See who runs now, and tell of it if it has held the loop for too long."""
        before, self._now = self._now, self._clock()
        frame = sys._current_frames().get(self._thread)
        process = running_in(frame)
        if process is None or process.table is not self._table or self._now == before:
            self._seen = None
        elif process is not self._seen or self._signs != self._asked:
            self._seen, self._since, self._asked = process, self._now, self._signs
            try:
                self._loop.run_sync_soon(self._sign, idempotent=True)
            except trio.RunFinishedError:
                self._seen = None  # the node is gone, only this thread is not yet
        elif self._told is None and self._now - self._since >= self._patience:
            self._told = self._stall(process, self._now - self._since, "".join(traceback.format_stack(frame)))
            logger.warning("%s", self._told)

    def _stall(self, process: Process, seconds: float, stack: str) -> Stall:
        return Stall(
            at=self._table.world.wall(),
            pid=process.pid,
            label=process.label,
            names=tuple(process.names or ()),
            message=_kind(process.current),
            seconds=seconds,
            stack=stack,
        )

    def _sign(self) -> None:
        """The loop has come round; runs in its thread."""
        self._signs += 1
        told, self._told = self._told, None
        if told is not None:
            whole = dataclasses.replace(told, seconds=self._clock() - self._since)
            for listener in self._table.stall_listeners:
                listener(whole)


@contextmanager
def watched(table: ProcessTable) -> Iterator[None]:
    """While the block runs, tell of every process of this node that holds the loop for too long."""
    with table.world.beside(Watchman(table).look, INTERVAL):
        yield


def running_in(frame: FrameType | None) -> Process | None:
    """Whose code a stack is in: a process's task, or one that is being started by another."""
    while frame is not None:
        if frame.f_code is run.__code__ or frame.f_code.co_name == "_behaviour_begin":
            found = frame.f_locals.get("process")
            return found if isinstance(found, Process) else None
        frame = frame.f_back
    return None


def _kind(message: object) -> str:
    """The type of a message in hand; of what is asked, if it is a request."""
    if message is None:
        return ""
    return type(content_of(message)).__qualname__
