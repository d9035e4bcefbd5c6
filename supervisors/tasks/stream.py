"""A stream of results: a function over many items, a few at a time, each in a task of its own.

    async with async_stream(urls, fetch, max_concurrency=20, timeout=10.0) as pages:
        async for page in pages:
            match page:
                case TaskReply(text): ...

Leaving the block ends what still runs. Source: Elixir `Task.async_stream`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Generic, Literal, TypeAlias, TypeVar, final, get_args

from runtime.errors import CallTimeout, Misuse
from runtime.kernel.api import exit
from runtime.kernel.exits import SHUTDOWN
from runtime.kernel.ids import Ref
from runtime.kernel.selective import ReceiveTimeout, receive
from runtime.kernel.signals import Answer, Down
from runtime.kernel.table import current_process

from .task import Task, TaskExit, TaskReply, check_function

I = TypeVar("I")  # noqa: E741  # the type of one item
R = TypeVar("R")

OnTimeout = Literal["exit", "kill_task"]
Streamed: TypeAlias = AsyncIterator[TaskReply[R] | TaskExit]


def async_stream(
    items: Iterable[I],
    function: Callable[[I], Awaitable[R]],
    *,
    max_concurrency: int = 8,
    ordered: bool = True,
    timeout: float = 5.0,
    on_timeout: OnTimeout = "exit",
) -> AbstractAsyncContextManager[Streamed[R]]:
    """Run `await function(item)` for each item, in tasks that are linked to the caller, and yield the outcomes.

    Items are taken only as fast as outcomes are, so they may be without end. A task that fails takes the caller
    along; if that traps exits, it gets a `TaskExit` in place of the result.

    Args:
        max_concurrency: how many tasks run at once, from 1 up.
        ordered: outcomes come in the order of the items; those of later items wait in memory meanwhile.
            Otherwise they come as they are ready.
        timeout: seconds that each task may take, from its start.
        on_timeout: what happens then: "exit" raises CallTimeout, "kill_task" yields `TaskExit("timeout")`.

    Raises:
        Misuse: one of these is not what it must be.
    """
    check_function(function)

    async def begin(item: I) -> Task[R]:
        return Task.async_(function, item)

    return opened(Stream(items, begin, max_concurrency, ordered, timeout, on_timeout))


@final
class Stream(Generic[I, R]):
    """What has been started and not been yielded yet."""

    def __init__(
        self,
        items: Iterable[I],
        begin: Callable[[I], Awaitable[Task[R]]],
        max_concurrency: int,
        ordered: bool,
        timeout: float,
        on_timeout: OnTimeout,
    ) -> None:
        if type(max_concurrency) is not int or max_concurrency < 1:
            raise Misuse(f"max_concurrency is how many tasks run at once, an int from 1 up, got {max_concurrency!r}")
        if isinstance(timeout, bool) or not timeout > 0:
            raise Misuse(f"timeout is seconds above 0, or math.inf, got {timeout!r}")
        if on_timeout not in get_args(OnTimeout):
            raise Misuse(f"on_timeout is 'exit' or 'kill_task', got {on_timeout!r}")
        self._items = enumerate(items)
        self._begin = begin
        self._limit = max_concurrency
        self._ordered = ordered
        self._timeout = timeout
        self._kills = on_timeout == "kill_task"
        # In the order of their start, so the first is the first to run out of time: (index, task, when).
        self._running: dict[Ref, tuple[int, Task[R], float]] = {}
        self._done: dict[int, TaskReply[R] | TaskExit] = {}
        self._ready: deque[TaskReply[R] | TaskExit] = deque()
        self._next = 0
        self._exhausted = False

    def __aiter__(self) -> Stream[I, R]:
        return self

    async def __anext__(self) -> TaskReply[R] | TaskExit:
        while not self._ready:
            while not self._exhausted and len(self._running) < self._limit:
                await self._start_one()
            if not self._running:
                raise StopAsyncIteration
            await self._finish_one()
        return self._ready.popleft()

    async def _start_one(self) -> None:
        for index, item in self._items:
            task = await self._begin(item)
            self._running[task.ref] = (index, task, current_process().table.timers.clock() + self._timeout)
            return
        self._exhausted = True

    async def _finish_one(self) -> None:
        first, (_, slowest, due) = next(iter(self._running.items()))
        left = due - current_process().table.timers.clock()
        outcome: TaskReply[R] | TaskExit | None
        try:
            message = await receive(self._is_outcome, timeout=max(0.0, left))
        except ReceiveTimeout:
            if not self._kills:
                text = f"{slowest!r} had no result within {self._timeout:g} s; give it longer, or use on_timeout"
                raise CallTimeout(text, slowest.pid, slowest.what, self._timeout) from None
            index, task, _ = self._running.pop(first)
            outcome = await task.shutdown("brutal_kill") or TaskExit("timeout")
        else:
            index, task, _ = self._running.pop(_ref_of(message))
            outcome = await task.take(message)
        if not self._ordered:
            self._ready.append(outcome)
            return
        self._done[index] = outcome
        while self._next in self._done:
            self._ready.append(self._done.pop(self._next))
            self._next += 1

    def _is_outcome(self, message: object) -> bool:
        return isinstance(message, (Answer, Down)) and _ref_of(message) in self._running

    async def close(self) -> None:
        """End what still runs and drop what becomes of it; does not wait."""
        running, self._running = self._running, {}
        self._exhausted = True
        for _, task, _ in running.values():
            exit(task.pid, SHUTDOWN)
            await task.ignore()


def _ref_of(message: object) -> Ref:
    ref = message.label if isinstance(message, Answer) else message.ref if isinstance(message, Down) else None
    return ref if isinstance(ref, Ref) else _NO_REF


# A label that is no reference stands for none of ours.
_NO_REF = Ref(0)


@asynccontextmanager
async def opened(stream: Stream[I, R]) -> AsyncIterator[Streamed[R]]:
    """The stream, closed at the end of the block."""
    try:
        yield stream
    finally:
        await stream.close()
