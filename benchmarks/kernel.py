"""The kernel's hot paths beside Trio's raw floors in the same run. Row names as in the performance notes."""

from __future__ import annotations

import logging
import resource
import time
import tracemalloc
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from runtime import GenServer, call, cast, exit_with, receive, send_nowait, spawn, start
from supervisors import (
    DynamicSupervisor,
    Node,
    Supervisor,
    child,
    start_child,
    terminate_child,
    which_children,
)

from .harness import Row, measure


class Sync(GenServer):
    def init(self) -> None:
        self.count = 0

    def handle_call(self, request: Any, caller: Any) -> Any:
        return request

    def handle_cast(self, request: Any) -> None:
        self.count += 1


class Async(GenServer):
    async def handle_call(self, request: Any, caller: Any) -> Any:
        return request


class Crasher(GenServer):
    def handle_cast(self, request: Any) -> None:
        exit_with("crash")


class Nest(DynamicSupervisor):
    intensity = 1_000_000


class Root(Supervisor):
    intensity, period = 1_000_000, 1.0

    def init(self) -> Any:
        return [child("crasher", Crasher, name="crasher")]


def on_node(run: Callable[[], Awaitable[float]]) -> Callable[[], float]:
    """A measurement inside a fresh node."""

    async def main() -> float:
        async with Node("bench"):
            return await run()

    return lambda: trio.run(main)


async def call_one_pair() -> float:
    pid = await start(Sync)
    count = 30_000
    begun = time.perf_counter()
    for index in range(count):
        await call(pid, index)
    return count / (time.perf_counter() - begun)


async def call_hundred_pairs() -> float:
    pids = [await start(Async) for _ in range(100)]
    each = 600

    async def one(pid: Any) -> None:
        for index in range(each):
            await call(pid, index)

    begun = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for pid in pids:
            nursery.start_soon(one, pid)
    return 100 * each / (time.perf_counter() - begun)


def floor_round_trip(pairs: int) -> Callable[[], float]:
    """Two tasks that reschedule each other through Trio's own trap: what a call costs at the very least."""

    async def main() -> float:
        each = 60_000 // pairs

        async def ping(mine: list[Any], other: list[Any]) -> None:
            mine[0] = trio.lowlevel.current_task()
            while other[0] is None:
                await trio.lowlevel.checkpoint()
            for _ in range(each):
                if other[1]:
                    other[1] = False
                    trio.lowlevel.reschedule(other[0])
                mine[1] = True
                await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.SUCCEEDED)
            if other[1]:
                other[1] = False
                trio.lowlevel.reschedule(other[0])

        begun = time.perf_counter()
        with trio.move_on_after(30):
            async with trio.open_nursery() as nursery:
                for _ in range(pairs):
                    one: list[Any] = [None, False]
                    two: list[Any] = [None, False]
                    nursery.start_soon(ping, one, two)
                    nursery.start_soon(ping, two, one)
        return pairs * each / (time.perf_counter() - begun)

    return lambda: trio.run(main)


async def cast_counter() -> float:
    pid = await start(Sync)
    count = 100_000
    begun = time.perf_counter()
    for index in range(count):
        await cast(pid, index)
    await call(pid, None)
    return count / (time.perf_counter() - begun)


def floor_deque() -> float:
    box: deque[int] = deque()
    count = 200_000
    begun = time.perf_counter()
    for index in range(count):
        box.append(index)
    while box:
        box.popleft()
    return count / (time.perf_counter() - begun)


async def broadcast() -> float:
    """Microseconds a delivery, to a thousand servers, handled."""
    pids = [await start(Sync) for _ in range(1000)]
    rounds = 20
    begun = time.perf_counter()
    for _ in range(rounds):
        for pid in pids:
            await cast(pid, 1)
        await trio.lowlevel.checkpoint()
    for pid in pids:
        await call(pid, None)
    return (time.perf_counter() - begun) / (rounds * 1000) * 1e6


async def start_stop() -> float:
    nest = await start(Nest)
    count = 3_000
    begun = time.perf_counter()
    for _ in range(count):
        pid = await start_child(nest, child("one", Sync, restart="temporary"))
        assert pid is not None
        await terminate_child(nest, pid)
    return count / (time.perf_counter() - begun)


def floor_start_soon() -> float:
    async def main() -> float:
        count = 3_000

        async def one(done: trio.Event) -> None:
            done.set()

        begun = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                done = trio.Event()
                nursery.start_soon(one, done)
                await done.wait()
        return count / (time.perf_counter() - begun)

    return trio.run(main)


async def restart() -> float:
    """Crashes healed a second: from a crash to the next answered message, one after the other."""
    supervisor = await start(Root)
    count = 1_000
    begun = time.perf_counter()
    (info,) = await which_children(supervisor)
    for _ in range(count):
        before = info.pid
        await cast("crasher", None)
        while info.pid == before or info.pid is None:
            (info,) = await which_children(supervisor)
    return count / (time.perf_counter() - begun)


async def ring() -> float:
    size, hops = 1000, 100_000
    done = trio.Event()

    async def member(following: Any) -> None:
        while True:
            left = await receive()
            if left == 0:
                done.set()
            else:
                send_nowait(following[0], left - 1)  # type: ignore[operator]  # an int

    slots: list[list[Any]] = [[None] for _ in range(size)]
    pids = [spawn(member, slots[index]) for index in range(size)]
    for index in range(size):
        slots[index][0] = pids[(index + 1) % size]
    begun = time.perf_counter()
    send_nowait(pids[0], hops)
    await done.wait()
    return hops / (time.perf_counter() - begun)


async def idle_bytes() -> float:
    """Resident bytes of an idle server, from the growth over 20,000 of them."""
    count = 20_000
    before = _resident()
    for _ in range(count):
        await start(Sync)
    return (_resident() - before) / count


def _resident() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def rows() -> list[Row]:
    """All figures of the kernel."""
    logging.disable(logging.CRITICAL)
    tracemalloc.stop()
    return [
        measure(Row("call, sync handler, one pair", "1/s", "higher"), on_node(call_one_pair), floor_round_trip(1)),
        measure(
            Row("call, async handler, 100 pairs", "1/s", "higher"),
            on_node(call_hundred_pairs),
            floor_round_trip(100),
        ),
        measure(Row("cast into a counter", "1/s", "higher"), on_node(cast_counter), floor_deque),
        measure(Row("broadcast, per delivery, to 1000", "us", "lower"), on_node(broadcast)),
        measure(
            Row("start + stop of a supervised process", "1/s", "higher"),
            on_node(start_stop),
            floor_start_soon,
        ),
        measure(Row("supervisor restart after a crash", "1/s", "higher"), on_node(restart)),
        measure(Row("ring of 1000, hops", "1/s", "higher"), on_node(ring)),
        measure(Row("idle process, resident bytes", "B", "lower"), on_node(idle_bytes)),
    ]
