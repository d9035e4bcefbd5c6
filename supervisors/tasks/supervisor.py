"""A supervisor of tasks: where work runs that its owner must outlive, or that nobody waits for.

    class Room(Supervisor):
        def init(self):
            return [child("lookups", TaskSupervisor, name="lookups"), child("desk", Desk)]

    async def look_up(name):
        task = await TaskSupervisor.async_nolink("lookups", fetch, name)
        match await task.yield_(timeout=2.0) or await task.shutdown():
            case TaskReply(found):
                return found
            case _:
                return None

Its children are temporary: a task that fails is not tried again. Each task ends with the supervisor, which
gives it 5 seconds, and is seen below it in the tree.

Source: Elixir `Task.Supervisor`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, TypeVar, TypeVarTuple, final

from runtime.kernel.api import demonitor, link, monitor, send_nowait
from runtime.kernel.exits import SHUTDOWN, exit_with
from runtime.kernel.ids import Pid, Ref
from runtime.kernel.selective import receive
from runtime.kernel.signals import Down
from runtime.kernel.table import Destination, current_process

from ..children import start_child, which_children
from ..dynamic import DynamicSupervisor
from ..specs import Restart, child
from .stream import OnTimeout, Stream, Streamed, opened
from .task import Task, check_function, deliver, name_of

I = TypeVar("I")  # noqa: E741  # the type of one item
R = TypeVar("R")
Ts = TypeVarTuple("Ts")


class TaskSupervisor(DynamicSupervisor):
    """Start it as a child; then ask it, by its name or pid, with the functions below.

    Each of them waits until the supervisor has started the task, and raises ChildRefused (max_children),
    NoProcess or CalleeExited if it cannot.
    """

    @staticmethod
    async def async_(supervisor: Destination, function: Callable[[*Ts], Awaitable[R]], *args: *Ts) -> Task[R]:
        """Start a supervised task that is linked to the caller, its owner."""
        task: Task[R] = await _start(supervisor, function, args, linked=True)
        return task

    @staticmethod
    async def async_nolink(supervisor: Destination, function: Callable[[*Ts], Awaitable[R]], *args: *Ts) -> Task[R]:
        """Start a supervised task whose failure is told to its owner, and does it no harm."""
        task: Task[R] = await _start(supervisor, function, args, linked=False)
        return task

    @staticmethod
    async def start_child(
        supervisor: Destination,
        function: Callable[[*Ts], Awaitable[object]],
        *args: *Ts,
        restart: Restart = "temporary",
    ) -> Pid:
        """Start work that nobody awaits; its pid."""
        check_function(function)
        pid = await start_child(supervisor, child(name_of(function), function, *args, restart=restart))
        assert pid is not None  # an async function has no way to ask to be ignored
        return pid

    @staticmethod
    async def children(supervisor: Destination) -> list[Pid]:
        """The pids of all tasks that run."""
        return [one.pid for one in await which_children(supervisor) if one.pid is not None]

    @staticmethod
    def async_stream(
        supervisor: Destination,
        items: Iterable[I],
        function: Callable[[I], Awaitable[R]],
        *,
        max_concurrency: int = 8,
        ordered: bool = True,
        timeout: float = 5.0,
        on_timeout: OnTimeout = "exit",
    ) -> AbstractAsyncContextManager[Streamed[R]]:
        """Like `supervisors.async_stream`, with supervised tasks, linked to the caller."""

        async def begin(item: I) -> Task[R]:
            return await TaskSupervisor.async_(supervisor, function, item)

        return opened(Stream(items, begin, max_concurrency, ordered, timeout, on_timeout))

    @staticmethod
    def async_stream_nolink(
        supervisor: Destination,
        items: Iterable[I],
        function: Callable[[I], Awaitable[R]],
        *,
        max_concurrency: int = 8,
        ordered: bool = True,
        timeout: float = 5.0,
        on_timeout: OnTimeout = "exit",
    ) -> AbstractAsyncContextManager[Streamed[R]]:
        """Like `supervisors.async_stream`, with supervised tasks: one that fails is a `TaskExit` among the outcomes."""

        async def begin(item: I) -> Task[R]:
            return await TaskSupervisor.async_nolink(supervisor, function, item)

        return opened(Stream(items, begin, max_concurrency, ordered, timeout, on_timeout))


@final
@dataclass(frozen=True, slots=True)
class _Begin:
    """The owner is ready: do the work, and tell the result by `ref`."""

    ref: Ref


@final
class _Job:
    """The function of a supervised task's process, under the name of the work."""

    def __init__(self, owner: Pid, function: Callable[..., Awaitable[object]], args: tuple[Any, ...]) -> None:
        self.owner = owner
        self.function = function
        self.args = args
        self.__qualname__ = name_of(function)

    async def __call__(self) -> None:
        # Not before the owner watches, so that it learns of everything; and not without an owner.
        watch = monitor(self.owner)
        match await receive(lambda m: isinstance(m, _Begin) or (isinstance(m, Down) and m.ref is watch)):
            case _Begin(ref):
                demonitor(watch, flush=True)
                deliver(ref, await self.function(*self.args))
            case _:
                exit_with(SHUTDOWN)


async def _start(
    supervisor: Destination, function: Callable[..., Awaitable[R]], args: tuple[Any, ...], *, linked: bool
) -> Task[R]:
    check_function(function)
    owner = current_process().pid
    task: Task[R] = Task(owner, name_of(function))
    pid = await start_child(supervisor, child(task.what, _Job(owner, function, args), restart="temporary"))
    assert pid is not None  # a job has no way to ask to be ignored
    task.pid = pid
    if linked:
        link(pid)
    task.watch()
    send_nowait(pid, _Begin(task.ref))
    return task
