"""Processes in a test: a node under virtual time, the test itself as a process, and how another one ended.

    @as_process
    async def test_a_child_ends(node):
        pid = spawn(idle)
        assert await exit_and_wait(pid, "boom") == "boom"

`node` comes from a fixture that opens `running_node`. Time is virtual, and leaps to the next deadline as soon
as nobody can run: a room's conftest calls `make_time_virtual`, because pytest-trio heeds a clock only in a
test's own arguments, not in those of its fixtures. So a test that would hang leaps to `FAR` and fails at once.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio
import trio.testing

from runtime import Down, Pid, ReceiveTimeout, Ref, exit, monitor, receive, spawn, spawn_monitor
from supervisors import Node

T = TypeVar("T")

# Virtual seconds after which a test is taken for hung.
FAR = 1e6


def run_virtually(
    main: Callable[[], Awaitable[T]],
    *,
    clock: trio.abc.Clock | None = None,
    instruments: Sequence[trio.abc.Instrument] = (),
) -> T:
    """`trio.run` under a virtual clock, unless a test brings its own."""
    if clock is None:
        clock = trio.testing.MockClock(autojump_threshold=0)
    return trio.run(main, clock=clock, instruments=instruments)


def make_time_virtual(items: Iterable[pytest.Item], folder: Path) -> None:
    """Run every async test below a folder by `run_virtually`: for `pytest_collection_modifyitems`."""
    for item in items:
        function = getattr(item, "obj", None)
        if item.path.is_relative_to(folder) and inspect.iscoroutinefunction(function):
            item.add_marker(pytest.mark.trio(run=run_virtually), append=False)  # before trio_mode's own


@asynccontextmanager
async def running_node(name: str = "test", **options: Any) -> AsyncIterator[Node]:
    """A node without a store, for at most `FAR` virtual seconds."""
    with trio.fail_after(FAR):
        async with Node(name, **options) as node:
            yield node


async def inside(function: Callable[..., Awaitable[T]], *args: object, trap: bool = False) -> T:
    """Run a function as a process of its own; hand back what it returns, or raise what it raises.

    Raises AssertionError if the process ends in any other way, with its exit reason.
    """
    done = trio.Event()
    results: list[Callable[[], T]] = []
    reasons: list[object] = []

    async def body() -> None:
        try:
            value = await function(*args)
        except Exception as error:  # handed over to whoever waits: an assertion must fail the test
            results.append(functools.partial(_raise, error))
        else:
            results.append(lambda: value)

    async def watcher() -> None:
        _, ref = spawn_monitor(body, trap=trap, label="the test")
        reasons.append(await _down_of(ref))
        done.set()

    spawn(watcher, label="the test's watcher")
    await done.wait()
    if not results:
        raise AssertionError(f"the process ended before it was through: {reasons[0]!r}")
    return results[0]()


def _raise(error: Exception) -> Any:
    raise error


def as_process(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Let a test itself be a process, so that it can link, monitor and receive. It needs the `node` fixture."""

    @functools.wraps(test)
    async def wrapper(**fixtures: Any) -> None:
        await inside(functools.partial(test, **fixtures))

    return wrapper


async def idle(*_args: object) -> None:
    """A process that does nothing until it is told to end."""
    await trio.sleep_forever()


async def end_of(pid: Pid) -> object:
    """Wait for the end of a process that lives; its exit reason. For use in a process."""
    return await _down_of(monitor(pid))


async def ended(function: Callable[..., Awaitable[object]], *args: object, trap: bool = False) -> object:
    """Run a function as a process and wait for its end; its exit reason. For use in a process."""
    _, ref = spawn_monitor(function, *args, trap=trap)
    return await _down_of(ref)


async def exit_and_wait(pid: Pid, reason: object) -> object:
    """Send an exit signal and wait for the end of the process; its exit reason. For use in a process."""
    ref = monitor(pid)
    exit(pid, reason)
    return await _down_of(ref)


async def _down_of(ref: Ref) -> object:
    down = await receive(lambda message: isinstance(message, Down) and message.ref is ref)
    assert isinstance(down, Down)
    return down.reason


async def arrivals(count: int) -> list[tuple[float, object]]:
    """The next messages, each with the virtual second of its coming."""
    came = []
    for _ in range(count):
        message = await receive()
        came.append((trio.current_time(), message))
    return came


async def mail() -> list[Any]:
    """Let everybody run until all wait, then take all messages out of the calling process's mailbox."""
    await trio.testing.wait_all_tasks_blocked()
    taken: list[Any] = []
    while True:
        try:
            taken.append(await receive(timeout=0))
        except ReceiveTimeout:
            return taken
