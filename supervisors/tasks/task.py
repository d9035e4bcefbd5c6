"""A task: one piece of work in a process of its own, whose result its owner takes when it wants it.

    async def total(orders):
        prices = [Task.async_(price_of, order) for order in orders]
        return sum(await Task.await_many(prices, timeout=10.0))

The *owner* is the process that made the task; nobody else can await it. The two are linked: a task that
fails takes its owner along, unless that traps exits, and an owner that fails takes its tasks along. For work
that may fail by itself use `TaskSupervisor.async_nolink`.

Exactly one message comes of each task, and an owner that cannot wait, like a server, may take it in its
`handle_info` instead: `Answer(task.ref, value)`, or `Down(task.ref, pid, reason)` if the task ended before
it had a result. An owner that traps exits finds no `Exit` of a task whose outcome it has taken.

A task is no server: it has no state to ask for, and no restart. Work that must be done even if the owner
dies is a child of a supervisor: `child("import", import_all, path, restart="transient")`.

Source: Elixir `Task`. Its names that are keywords in Python end with an underscore here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, TypeVarTuple, cast, final

from runtime.errors import CalleeExited, CallTimeout, Misuse
from runtime.kernel import process as mechanism
from runtime.kernel.api import demonitor, exit, monitor, spawn_link, unlink
from runtime.kernel.exits import KILL, KILLED, SHUTDOWN, shown
from runtime.kernel.ids import Pid, Ref
from runtime.kernel.selective import ReceiveTimeout, receive
from runtime.kernel.signals import Answer, Down, Exit
from runtime.kernel.table import current_process

T = TypeVar("T")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")


@final
@dataclass(frozen=True, slots=True)
class TaskReply(Generic[T]):
    """A task is done, and this is what its function returned (Elixir: `{:ok, value}`)."""

    value: T


@final
@dataclass(frozen=True, slots=True)
class TaskExit:
    """A task ended for `reason` before it had a result (Elixir: `{:exit, reason}`)."""

    reason: object


@final
class Task(Generic[T]):
    """One piece of work on its way. Make it with `Task.async_`, or through a `TaskSupervisor`.

    `await task` is `await task.await_()`. `pid` is its process, `ref` marks its one message, `owner` may await it.
    """

    __slots__ = ("_taken", "owner", "pid", "ref", "what")

    pid: Pid
    ref: Ref

    def __init__(self, owner: Pid, what: str) -> None:
        self.owner = owner
        self.what = what
        # Invariant: True once its one message was taken by a method, or given up.
        self._taken = False

    def __repr__(self) -> str:
        return f"<Task {self.pid} {self.what}>"

    @staticmethod
    def async_(function: Callable[[*Ts], Awaitable[R]], *args: *Ts) -> Task[R]:
        """Start `await function(*args)` in a process that is linked to the caller, its owner. Never waits."""
        check_function(function)
        task: Task[R] = Task(current_process().pid, name_of(function))
        task.pid = spawn_link(_run, task, function, args, label=task.what)
        task.watch()
        return task

    def __await__(self) -> Generator[Any, Any, T]:
        return self.await_().__await__()

    async def await_(self, *, timeout: float = 5.0) -> T:
        """Wait for the result, at most `timeout` seconds (math.inf: for ever), and return it.

        Raises:
            CalleeExited: the task ended before it had one, with its `reason`.
            CallTimeout: it took too long; it goes on, linked as it was, and what becomes of it is dropped.
            Misuse: the caller is not the owner, or the outcome was taken already.
        """
        return self._result(await self.yield_(timeout=timeout), timeout)

    async def yield_(self, *, timeout: float = 5.0) -> TaskReply[T] | TaskExit | None:
        """Wait for the outcome, at most `timeout` seconds; None if there is none yet: ask again, or `shutdown`."""
        self._check_taker()
        try:
            message = await receive(self._is_outcome, timeout=timeout)
        except ReceiveTimeout:
            return None
        return await self.take(message)

    async def shutdown(self, timeout: float | Literal["brutal_kill"] = 5.0) -> TaskReply[T] | TaskExit | None:
        """End the task: SHUTDOWN, after `timeout` seconds KILL ("brutal_kill": at once), and wait until it is gone.

        Returns: None if it ended because of that; its outcome if that came first.
        """
        self._check_taker()
        await self._let_go()
        asked: tuple[object, ...] = (KILLED,)
        outcome: TaskReply[T] | TaskExit | None = None
        if timeout != "brutal_kill":
            exit(self.pid, SHUTDOWN)
            asked = (SHUTDOWN, KILLED)
            outcome = await self.yield_(timeout=timeout)
        if outcome is None:
            exit(self.pid, KILL)
            outcome = await self.yield_(timeout=float("inf"))
        return None if isinstance(outcome, TaskExit) and outcome.reason in asked else outcome

    async def ignore(self) -> TaskReply[T] | TaskExit | None:
        """Give the task up: it goes on, unlinked, and what becomes of it is dropped. Does not wait.

        Returns: its outcome, if there was one already.
        """
        outcome = await self.yield_(timeout=0)
        if outcome is None:
            self._give_up()
            await self._let_go()
        return outcome

    @staticmethod
    async def await_many(tasks: Iterable[Task[R]], *, timeout: float = 5.0) -> list[R]:
        """The results of several tasks, in their order; `timeout` is for all of them together. Raises as `await_`."""
        all_of_them = list(tasks)
        outcomes = await Task.yield_many(all_of_them, timeout=timeout)
        return [task._result(found, timeout) for task, found in zip(all_of_them, outcomes, strict=True)]

    @staticmethod
    async def yield_many(tasks: Sequence[Task[R]], *, timeout: float = 5.0) -> list[TaskReply[R] | TaskExit | None]:
        """The outcomes that several tasks have within `timeout` seconds together, in their order."""
        clock = current_process().table.timers.clock
        due = clock() + timeout
        return [await task.yield_(timeout=max(0.0, due - clock())) for task in tasks]

    # -- what the other modules of this package use ------------------------------------------------------

    def watch(self) -> None:
        """From now on the owner, who runs this, gets the task's one message."""
        self.ref = monitor(self.pid, alias="reply_demonitor")

    async def take(self, message: object) -> TaskReply[T] | TaskExit:
        """The outcome that the task's one message tells."""
        self._taken = True
        await self._let_go()
        if isinstance(message, Answer):
            return TaskReply(cast("T", message.value))  # what `_run` delivered
        assert isinstance(message, Down)
        return TaskExit(message.reason)

    def _result(self, outcome: TaskReply[T] | TaskExit | None, timeout: float) -> T:
        if isinstance(outcome, TaskReply):
            return outcome.value
        if outcome is not None:
            reason = outcome.reason
            text = f"{self!r} ended ({shown(reason)}) before it had a result"
            raise CalleeExited(text, self.pid, self.what, reason)
        self._give_up()
        text = f"{self!r} had no result within {timeout:g} s: it goes on, and its result will be dropped"
        raise CallTimeout(text, self.pid, self.what, timeout)

    def _check_taker(self) -> None:
        caller = current_process().pid
        if caller != self.owner:
            raise Misuse(f"{self!r} belongs to {self.owner}, and {caller} cannot take its outcome: let its owner do it")
        if self._taken:
            raise Misuse(f"the outcome of {self!r} was taken already: keep it when you take it")

    def _is_outcome(self, message: object) -> bool:
        if isinstance(message, Answer):
            return message.label is self.ref
        return isinstance(message, Down) and message.ref is self.ref

    def _give_up(self) -> None:
        self._taken = True
        demonitor(self.ref, flush=True)

    async def _let_go(self) -> None:
        """Unlink, and remove the Exit that a link may have left with an owner that traps exits (P17)."""
        unlink(self.pid)
        if current_process().trap_exit:
            try:
                await receive(lambda m: isinstance(m, Exit) and m.source == self.pid, timeout=0)
            except ReceiveTimeout:
                pass  # there is none


def check_function(function: object) -> None:
    """Raises Misuse unless it can be called."""
    if not callable(function):
        raise Misuse(f"a task wants an async function and its arguments, got {function!r}")


def name_of(function: object) -> str:
    """What people call a function."""
    return str(getattr(function, "__qualname__", function))


def deliver(ref: Ref, value: object) -> None:
    """Tell the owner the result, unless it has given up the task; no bound of its mailbox counts it."""
    owner = mechanism.by_alias(ref)
    if owner is not None:
        owner.post(Answer(ref, value))


async def _run(task: Task[R], function: Callable[..., Awaitable[R]], args: tuple[Any, ...]) -> None:
    deliver(task.ref, await function(*args))
