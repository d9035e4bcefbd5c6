"""A Trio program that runs the same way each time: its order of tasks comes from a seed, its time is virtual.

Trio shuffles the tasks of each pass of its loop, so that nobody relies on an order. Two private switches of
`trio._core._run`, which exist for Hypothesis, let us draw that order: `_ALLOW_DETERMINISTIC_SCHEDULING` sorts
the pass by the age of its tasks first, and `_r` is the generator that shuffles. This is the only file that
touches them; a canary test holds the pinned Trio to what we rely on, and `run_seeded` refuses a Trio without
them. The clock is Trio's own MockClock, which jumps to the next deadline whenever all tasks wait.

A program of a run can be stopped, as by SIGSTOP, and go on later or never: what its tasks have in common is
the value of the context variable `program`, which tasks inherit. A third private part serves that, the queue
of tasks that may run.

Two things that would still differ between runs are taken out: the garbage collector sleeps during a run, as
it ends forgotten generators at moments of its own, and nothing of the trace is an address or hangs on the
interpreter's hash seed.

Source: Trio's Hypothesis plug-in; FoundationDB's and TigerBeetle's deterministic simulators.
"""

from __future__ import annotations

import functools
import gc
import heapq
import random
import re
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import blake2b
from typing import Any, TypeVar, final

import trio
from trio._core import _run
from trio.testing import MockClock

from ..errors import InternalError, Misuse

T = TypeVar("T")

_STEP = struct.Struct(">Qd")
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


@final
class Trace:
    """Everything that happened in a seeded run, in order, as one hash.

    Two runs that did the same things in the same order at the same virtual times have the same `digest`. What
    goes in: each birth, step and end of a task from the scheduler, and whatever `note` is told.

    Args:
        keep: how many of the last notes to keep as text in `last`, to find the first difference of two runs;
            steps are kept too if `keep_steps` is set.
    """

    def __init__(self, keep: int = 0, *, keep_steps: bool = False) -> None:
        self.steps = 0
        self.last: deque[str] = deque(maxlen=keep)
        self._keep_steps = keep_steps
        self._hash = blake2b(digest_size=16)
        self._waiting: list[tuple[int, int, trio.lowlevel.Task]] = []
        self._count = 0

    @property
    def digest(self) -> str:
        """The hash of all until now, 32 hexadecimal digits."""
        return self._hash.hexdigest()

    def note(self, what: str, *details: str | int | float | bytes) -> None:
        """Add one event. The details must be values that two runs share: no address, no set's order."""
        # repr of these types is exact, and the same in every interpreter.
        line = repr((what, *details))
        self._hash.update(line.encode("utf-8", "surrogatepass"))
        if self.last.maxlen:
            self.last.append(line)

    def step(self, number: int, now: float) -> None:
        """Add one step of task `number` at virtual time `now`, and wake who waits for this many steps."""
        self.steps += 1
        self._hash.update(_STEP.pack(number, now))
        if self._keep_steps:
            self.last.append(f"step {number} at {now!r}")
        while self._waiting and self._waiting[0][0] <= self.steps:
            entry = heapq.heappop(self._waiting)
            if entry[2].custom_sleep_data is entry:
                trio.lowlevel.reschedule(entry[2])

    async def after(self, steps: int) -> None:
        """Wait until `steps` more steps of tasks were taken: a moment in the midst of other tasks' work.

        Whoever sleeps for a time instead wakes up, in virtual time, only when all others are waiting.
        """
        if steps < 1:
            raise Misuse(f"wanted to wait for 1 step or more, got {steps}: use a checkpoint")
        task = trio.lowlevel.current_task()
        self._count += 1
        entry = (self.steps + steps, self._count, task)
        heapq.heappush(self._waiting, entry)
        task.custom_sleep_data = entry
        # On cancellation the entry stays behind: Trio clears the marker, and `step` passes over it.
        await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.SUCCEEDED)


@final
class _Recorder(trio.abc.Instrument):
    """Tells a trace of each task; numbers them in the order of their birth."""

    def __init__(self, trace: Trace, clock: MockClock) -> None:
        self._trace = trace
        self._clock = clock
        self._numbers: dict[trio.lowlevel.Task, int] = {}
        self._born = 0

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self._born += 1
        self._numbers[task] = self._born
        self._trace.note("task", self._born, _plain(task.name))

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._trace.step(self._numbers[task], self._clock.current_time())

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        self._trace.note("end", self._numbers.pop(task))


@functools.lru_cache(maxsize=4096)
def _plain(name: str) -> str:
    """A task's name without an address in it."""
    return _ADDRESS.sub("", name)


@contextmanager
def _seeded_order(seed: int) -> Iterator[None]:
    """Let Trio draw the order of its tasks from `seed`; afterwards everything is as it was."""
    before = getattr(_run, "_ALLOW_DETERMINISTIC_SCHEDULING", None), getattr(_run, "_r", None)
    if not isinstance(before[0], bool) or not isinstance(before[1], random.Random):
        raise InternalError(
            f"trio {trio.__version__} has no switches for a seeded order where this program looks for them: "
            "install the version that pyproject.toml pins"
        )
    module: Any = _run  # one of the two is Final, for all but this file
    collecting = gc.isenabled()
    module._ALLOW_DETERMINISTIC_SCHEDULING, module._r = True, random.Random(seed)
    gc.disable()
    try:
        yield
    finally:
        module._ALLOW_DETERMINISTIC_SCHEDULING, module._r = before
        if collecting:
            gc.enable()


def run_seeded(seed: int, async_fn: Callable[..., Awaitable[T]], *args: object, trace: Trace | None = None) -> T:
    """Run `await async_fn(*args)` under Trio, with virtual time from 0.0 and an order drawn from `seed`.

    Two calls with the same arguments take the same steps at the same times, in this process or another,
    provided that `async_fn` asks nothing outside the run: no real clock, thread, socket or set's order.
    Randomness and the outside come from a `SeededWorld`.

    Args:
        seed: of the order of tasks.
        async_fn, args: what to run.
        trace: where to add what happens; its `digest` tells whether two runs were the same.

    Returns: what `async_fn` returned.

    Raises: what it raised; InternalError if this Trio cannot be seeded.
    """
    clock = MockClock(autojump_threshold=0)
    recorder = _Recorder(trace if trace is not None else Trace(), clock)
    with _seeded_order(seed):
        result: T = trio.run(async_fn, *args, clock=clock, instruments=[recorder])
        return result


# -- programs that are stopped ---------------------------------------------------------------------------

# Of which program a task is a part; inherited by the tasks that it starts.
program: ContextVar[object] = ContextVar("program", default=None)


@final
class _Runnable(deque[trio.lowlevel.Task]):
    """Trio's queue of the tasks that may run; those of stopped programs wait beside it."""

    def __init__(self, tasks: deque[trio.lowlevel.Task]) -> None:
        super().__init__(tasks)
        self.stopped: dict[object, list[trio.lowlevel.Task]] = {}

    def append(self, task: trio.lowlevel.Task, /) -> None:
        waiting = self.stopped.get(task.context.get(program)) if self.stopped else None
        if waiting is None:
            super().append(task)
        else:
            waiting.append(task)


def _runnable() -> _Runnable:
    runner = _run.GLOBAL_RUN_CONTEXT.runner
    if not isinstance(runner.runq, _Runnable):
        runner.runq = _Runnable(runner.runq)
    return runner.runq


def stop_program(which: object) -> None:
    """Let no task run whose `program` is this one, until `continue_program`.

    Deadlines pass meanwhile, and what others do to such a task (a message, a cancellation) is there for it when
    it goes on. A task whose turn has come in this very pass of the loop still takes that one step.
    """
    queue = _runnable()
    if which not in queue.stopped:
        waiting = queue.stopped[which] = [task for task in queue if task.context.get(program) is which]
        for task in waiting:
            queue.remove(task)


def continue_program(which: object) -> None:
    """Let the tasks of a program run again; nothing if it is not stopped."""
    queue = _runnable()
    queue.extend(queue.stopped.pop(which, ()))
