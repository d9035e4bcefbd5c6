"""fauxtp: GenServer on AnyIO."""

from __future__ import annotations

import importlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

# By name, so that the types do not depend on whether it is installed.
anyio: Any = importlib.import_module("anyio")
fauxtp: Any = importlib.import_module("fauxtp")
call, cast = fauxtp.call, fauxtp.cast


class Counter(fauxtp.GenServer):  # type: ignore[misc]  # of a type that is not known here
    async def init(self) -> int:
        return 0

    async def handle_call(self, request: Any, _from: Any, state: int) -> tuple[Any, int]:
        return request, state

    async def handle_cast(self, request: Any, state: int) -> int:
        return state + 1


def run(body: Callable[[Any], Awaitable[float]]) -> Callable[[], float]:
    """Run with a task group for the actors, which is cancelled at the end."""

    async def main() -> float:
        async with anyio.create_task_group() as group:
            rate = await body(group)
            group.cancel_scope.cancel()
        return rate

    return lambda: float(anyio.run(main))


async def call_one_pair(group: Any) -> float:
    count = 5_000
    pid = await Counter.start(task_group=group)
    begun = time.perf_counter()
    for index in range(count):
        await call(pid, index)
    return count / (time.perf_counter() - begun)


async def call_hundred_pairs(group: Any) -> float:
    each = 100
    pids = [await Counter.start(task_group=group) for _ in range(100)]

    async def one(pid: Any) -> None:
        for index in range(each):
            await call(pid, index)

    begun = time.perf_counter()
    async with anyio.create_task_group() as callers:
        for pid in pids:
            callers.start_soon(one, pid)
    return 100 * each / (time.perf_counter() - begun)


async def cast_counter(group: Any) -> float:
    count = 20_000
    pid = await Counter.start(task_group=group)
    begun = time.perf_counter()
    for index in range(count):
        await cast(pid, index)
    await call(pid, None)
    return count / (time.perf_counter() - begun)


async def start_stop(group: Any) -> float:
    count = 1_000
    begun = time.perf_counter()
    for _ in range(count):
        handle = await Counter.start_link(task_group=group)
        handle.cancel_scope.cancel()
    return count / (time.perf_counter() - begun)


ROWS = {
    "call, sync handler, one pair": run(call_one_pair),
    "call, async handler, 100 pairs": run(call_hundred_pairs),
    "cast into a counter": run(cast_counter),
    "start + stop of a supervised process": run(start_stop),
}
