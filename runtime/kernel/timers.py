"""All timers of a node: one heap, one task, and a waiting room for the deadlines of calls.

A deadline of a call nearly always becomes void: the reply comes first. So a call's slot is only
appended to a young list (25 ns), and a sweep every 20 ms moves what is still pending to the heap.
Deadlines nearer than that go to the heap at once, so none is late by it. Timers that are due at the
same instant fire in the order of their making (rule T4). Source: OTP `erlang:send_after`; rules T1-T8.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, final

import trio

from ..errors import Misuse
from .ids import Pid
from .parking import NOTHING, park, wake

if TYPE_CHECKING:
    from .process import Process
    from .table import ProcessTable

SWEEP = 0.02


class Pending(Protocol):
    """What may run out of time: a Caller, a Sender, a wait for a message."""

    due: float

    @property
    def waiting(self) -> bool: ...

    def expire(self) -> None: ...


@final
class Timer:
    """One `send_after` or `start_timer`."""

    __slots__ = ("destination", "due", "message", "table", "waiting")

    def __init__(self, table: ProcessTable, due: float, destination: Pid | str, message: object) -> None:
        self.table = table
        self.due = due
        self.destination = destination
        self.message = message
        self.waiting = True

    def expire(self) -> None:
        self.waiting = False
        target = self.table.find(self.destination)
        if target is not None:
            target.post(self.message)


@final
class Deadline:
    """The limit of one wait for a message: wakes the process when it passes, to look again.

    Set `process` to None when the wait is over.
    """

    __slots__ = ("due", "passed", "process")

    def __init__(self, process: Process) -> None:
        self.process: Process | None = process
        self.passed = False
        self.due = 0.0

    @property
    def waiting(self) -> bool:
        return self.process is not None

    def expire(self) -> None:
        process = self.process
        if process is None:
            return
        self.passed = True
        task = process.task
        if task is not None and task.custom_sleep_data is process:
            wake(task, NOTHING)


@final
class Timers:
    """The timer service of one node. `run` is its task."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._heap: list[tuple[float, int, Pending]] = []
        self._count = 0
        self._young: list[Pending] = []
        self._soon: deque[tuple[Callable[..., None], tuple[object, ...]]] = deque()
        self._task: trio.lowlevel.Task | None = None
        self._scope: trio.CancelScope | None = None
        # Invariant: no later than the moment at which `run` looks at everything again.
        self._next = math.inf

    def watch(self, pending: Pending, timeout: float) -> None:
        """Let `pending` expire after `timeout` seconds, unless it is done by then; infinite: never."""
        if not timeout < math.inf:
            if timeout == math.inf:
                return
            raise Misuse(f"a timeout is seconds, or math.inf, got {timeout!r}")  # it would spoil the heap
        now = self.clock()
        pending.due = now + timeout
        if timeout <= SWEEP:
            self.add(pending)
            return
        self._young.append(pending)
        if self._next > now + SWEEP:
            self._look_at(now + SWEEP)

    def add(self, pending: Pending) -> None:
        """Put an entry straight into the heap, exact to the clock."""
        self._count += 1
        heapq.heappush(self._heap, (pending.due, self._count, pending))
        if pending.due < self._next:
            self._look_at(pending.due)

    def soon(self, act: Callable[..., None], *args: object) -> None:
        """Run `act(*args)` after the caller's next checkpoint, in the order of asking."""
        self._soon.append((act, args))
        task = self._task
        if task is not None and task.custom_sleep_data is self:
            wake(task, NOTHING)

    def _look_at(self, when: float) -> None:
        self._next = when
        if self._scope is not None:
            self._scope.deadline = when

    async def run(self) -> None:
        """Fire what is due, for ever. Run it as a task of the node's nursery."""
        self._task = trio.lowlevel.current_task()
        while True:
            while self._soon:
                act, args = self._soon.popleft()
                act(*args)
            now = self.clock()
            self._sweep()
            while self._heap and self._heap[0][0] <= now:
                _, _, pending = heapq.heappop(self._heap)
                if pending.waiting:
                    pending.expire()
            if self._soon:
                await trio.lowlevel.checkpoint()
                continue
            self._next = self._heap[0][0] if self._heap else math.inf
            if self._young:
                self._next = min(self._next, now + SWEEP)
            with trio.CancelScope(deadline=self._next) as self._scope:
                self._task.custom_sleep_data = self
                await park()
            self._scope = None

    def _sweep(self) -> None:
        young, self._young = self._young, []
        for pending in young:
            if pending.waiting:
                self._count += 1
                heapq.heappush(self._heap, (pending.due, self._count, pending))


def check_delay(seconds: float) -> float:
    """A delay in seconds, from 0 up and finite; raises Misuse for anything else (T6)."""
    if isinstance(seconds, bool) or not 0 <= seconds < math.inf:
        raise Misuse(f"a timer's delay is a finite number of seconds from 0 up, got {seconds!r}")
    return float(seconds)
