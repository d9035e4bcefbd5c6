"""A process that will not give way is ended: what the BEAM does with reductions, as far as Python lets us.

Nobody pays for it who waits now and then: nothing is counted in the loop. A thread of the World's looks some
times a second whether the loop has come round since the last look. Only if it has not, and is not asleep, does
it send a signal, and all else is done by the signal's handler, in the loop's own thread, between two steps of
whatever runs there: it knows the process, its message, and how often its task has given way. If these are the
same from signal to signal for `limit` seconds, it raises `Runaway` there, if that may be done (see
`interrupts`), else at one of the next signals.

The time is that of the loop's clock, but a gap between two signals counts for little more than the thread's own
pace, or for what the processor has really done: a program that was stopped, or a machine that slept, breaks
nobody. Alternatives that lost: an instrument before each of Trio's steps costs a step 1.5 us; asynchronous
exceptions (`PyThreadState_SetAsyncExc`) corrupt Trio's cancel scopes.
"""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import final

import trio

from runtime.errors import Misuse
from runtime.kernel.exits import Runaway
from runtime.kernel.process import Process, here
from runtime.kernel.stalls import running_in
from runtime.kernel.table import ProcessTable
from runtime.observe.repl import line_task

from .interrupts import NUMBER, may_raise, taken

# Seconds between two looks, unless the limit is so short that four do not fit.
INTERVAL = 0.05


def checked_limit(preempt: float | None) -> float | None:
    """How long a handler may hold the loop; Misuse if that is no number of seconds above 0."""
    if preempt is not None and not (isinstance(preempt, (int, float)) and 0 < preempt < math.inf):
        raise Misuse(f"preempt is a finite number of seconds above 0, or None for never, got {preempt!r}")
    return preempt


def check_thread() -> None:
    """Misuse unless this is the program's main thread: Python handles signals in no other."""
    if threading.current_thread() is not threading.main_thread():
        raise Misuse(
            "a node with preempt= runs in the program's main thread, because Python handles signals nowhere else; "
            f"this is {threading.current_thread().name!r}: leave preempt out, or run the node in the main thread"
        )


@final
class Stepper:
    """Ends the processes and typed lines of one node that hold the loop. Make it in the loop, in the main thread.

    Args:
        table: whose processes are meant.
        limit: seconds that one message, or one step without a message, may hold the loop.
    """

    def __init__(self, table: ProcessTable, limit: float) -> None:
        self._table = table
        self._limit = limit
        self.interval = min(INTERVAL, limit / 4)
        self._clock = trio.lowlevel.current_clock().current_time
        self._loop = trio.lowlevel.current_trio_token()
        self._thread = threading.get_ident()
        # The thread's own: how often the loop has come round, and how often it had when it was asked to.
        self._signs = 0
        self._asked = -1
        # The handler's own: whom it saw last, with what in hand, in which of its task's turns; since when.
        self._task: trio.lowlevel.Task | None = None
        self._process: Process | None = None
        self._message: object = None
        self._turn = 0
        self._at = self._worked = self._held = 0.0

    def look(self) -> None:
        """Signal the loop's thread if the loop has not come round since the last look; call it from another one."""
        if self._signs == self._asked:
            signal.pthread_kill(self._thread, NUMBER)
            return
        self._task = self._process = self._message = None  # nobody holds it: keep nobody's message
        if asleep(sys._current_frames().get(self._thread)):
            return
        self._asked = self._signs
        try:
            self._loop.run_sync_soon(self._sign, idempotent=True)
        except trio.RunFinishedError:
            self._asked = -1  # the node is gone, only this thread is not yet

    def _sign(self) -> None:
        self._signs += 1

    def signalled(self, _number: int, frame: FrameType | None) -> None:
        """The signal's handler: raises Runaway in what has held the loop for too long, and returns otherwise."""
        try:
            task = trio.lowlevel.current_task()
        except RuntimeError:
            return
        who = self._whose(task, frame)
        if who is None:
            self._task = None
            return
        process = who if isinstance(who, Process) else None
        message, turn = process.current if process is not None else None, task._schedule_points
        now, worked = self._clock(), time.thread_time()
        if task is self._task and turn == self._turn and process is self._process and message is self._message:
            self._held += max(min(now - self._at, 2 * self.interval), worked - self._worked)
        else:
            self._held = 0.0
            self._task, self._turn, self._process, self._message = task, turn, process, message
        self._at, self._worked = now, worked
        if self._held < self._limit or not may_raise(frame):
            return
        # What its `finally` and `terminate` do has as much time again.
        held, self._held = self._held, 0.0
        raise Runaway(held, self._limit)

    def _whose(self, task: trio.lowlevel.Task, frame: FrameType | None) -> Process | trio.lowlevel.Task | None:
        """The process of ours, or the typed line's task, whose code runs: itself, or in one of its nurseries."""
        process = here.get(None)
        if process is self._table:
            line = line_task.get(None)
            return line if line is not None and _within(task, line) else None
        if not isinstance(process, Process) or process.table is not self._table:
            return None
        if process.task is None:  # it is being started, in its starter's task
            return process if running_in(frame) is process else None
        return process if _within(task, process.task) else None


def _within(task: trio.lowlevel.Task, outer: trio.lowlevel.Task) -> bool:
    """Whether what a task raises ends in `outer`; if not, it would end somebody else's nursery."""
    above: trio.lowlevel.Task | None = task
    while above is not None and above is not outer:
        above = above.parent_nursery.parent_task if above.parent_nursery is not None else None
    return above is not None


def asleep(frame: FrameType | None) -> bool:
    """Whether the loop waits for something to happen."""
    return frame is None or frame.f_code.co_name == "get_events"


@contextmanager
def stepping(table: ProcessTable, limit: float | None) -> Iterator[None]:
    """While the block runs, end what holds the loop for longer than `limit` seconds; None: nothing is done."""
    if limit is None:
        yield
        return
    stepper = Stepper(table, limit)
    with taken(stepper.signalled), table.world.beside(stepper.look, stepper.interval):
        yield
