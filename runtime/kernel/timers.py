"""All timers of a node: one heap, one task, and a waiting room for the deadlines of calls.

A deadline of a call nearly always becomes void: the reply comes first. So a call's slot is only
appended to a young list (25 ns), and a sweep every 20 ms moves what is still pending to the heap.
Deadlines nearer than that go to the heap at once, so none is late by it. Timers that are due at the
same instant fire in the order of their making (rule T4). What a process does with them is in `timer`.
Source: erts `erl_hl_timer`; rules T1-T8.
"""

from __future__ import annotations

import heapq
import logging
import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol, final
from weakref import WeakKeyDictionary

import trio

from ..errors import Misuse
from .ids import Pid
from .parking import NOTHING, park, wake
from .requests import Caller

if TYPE_CHECKING:
    from .process import Process
    from .table import ProcessTable

SWEEP = 0.02

# Entries of the heap beyond twice the living ones are cleared away, but not before there are this many.
FEW = 1024

logger = logging.getLogger("banyan")


class Pending(Protocol):
    """What may run out of time: a Caller, a Sender, a wait for a message."""

    due: float

    @property
    def waiting(self) -> bool: ...

    def expire(self) -> None: ...


class Timer:
    """What `send_after` and its kin return: something that is to happen. Opaque; for `read_timer`, `cancel_timer`."""

    # Weak: who notes those that are for a process need not hear that one is over.
    __slots__ = ("__weakref__", "_set", "destination", "due", "message", "table")

    def __init__(self, table: ProcessTable, due: float, destination: object, message: object) -> None:
        self.table = table
        self.due = due
        self.destination = destination
        self.message = message
        # Invariant: False once it has fired or was stopped.
        self._set = True

    @property
    def waiting(self) -> bool:
        """Whether it is still to happen: one that is for a pid goes with that process (T3)."""
        destination = self.destination
        return self._set and (type(destination) is not Pid or destination._process is not None)

    def stop(self) -> None:
        """It is not to happen any more."""
        self._set = False

    def expire(self) -> None:
        """It is due."""
        self._set = False
        self.fire()

    def fire(self) -> None:
        """Do what is to happen."""
        target = self.target()
        if target is not None:
            target.post(self.message)

    def target(self) -> Process | None:
        """Whom it is for: a name is looked up now, and if nobody has it, the timer is lost (T3)."""
        try:
            return self.table.find(self.destination)
        except Exception:  # a registry of the application's own: all timers of the node run in this task
            logger.exception("a timer is lost: looking up %r failed", self.destination)
            return None


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
        # How long the heap may become before entries that have become void are looked for.
        self._most = FEW
        # Invariant: no later than the moment at which `run` looks at everything again.
        self._next = math.inf
        # Pids whose timers are noted, nearly always none, and those timers; see `follow`.
        self.followed: set[Pid] = set()
        self.noted: WeakKeyDictionary[Timer, None] = WeakKeyDictionary()

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
        now += SWEEP
        if self._next > now:
            self._look_at(now)

    def add(self, pending: Pending) -> None:
        """Put an entry straight into the heap, exact to the clock."""
        self._count += 1
        heapq.heappush(self._heap, (pending.due, self._count, pending))
        if len(self._heap) > self._most:
            self._clear_away()
        if self.followed:
            self.note(pending)
        if pending.due < self._next:
            self._look_at(pending.due)

    def follow(self, pids: Iterable[Pid]) -> None:
        """Note from now on in `noted` which timers are set for these pids; for those that are set, see `note`."""
        self.followed.update(pids)

    def unfollow(self, pids: Iterable[Pid]) -> None:
        """Note them no more. Harmless if that was never done."""
        self.followed.difference_update(pids)
        if not self.followed:
            self.noted.clear()

    def note(self, pending: Pending) -> None:
        """Note a timer if it is for somebody who is followed; harmless if done twice."""
        if isinstance(pending, Timer) and type(pending.destination) is Pid and pending.destination in self.followed:
            self.noted[pending] = None

    def pending(self) -> list[Pending]:
        """All that is still to happen, the next first; deadlines of calls among it."""
        return sorted((one for one in self.set_now() if one.waiting), key=lambda one: one.due)

    def set_now(self) -> list[Pending]:
        """All that is set, in no order, and with what waits no more: a list of its own, to be read in pieces."""
        return self._young + [one for _, _, one in self._heap]

    def _clear_away(self) -> None:
        # A timer that was stopped, or whose process has gone, must not hold its message until it would be due.
        self._heap = [entry for entry in self._heap if entry[2].waiting]
        heapq.heapify(self._heap)
        self._most = max(FEW, 2 * len(self._heap))

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
        # The World's time is Trio's; asked at its source, each call of the node is 0.3 us cheaper.
        self.clock = trio.lowlevel.current_clock().current_time
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
            # Nearly all are calls that were answered: what `waiting` tells, in line, at half the price.
            if type(pending) is Caller:
                if pending.task.custom_sleep_data is not pending:  # type: ignore[union-attr]  # who calls has a task
                    continue
            elif not pending.waiting:
                continue
            self._count += 1
            heapq.heappush(self._heap, (pending.due, self._count, pending))
