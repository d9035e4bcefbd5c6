"""The kernel's hot paths beside Trio's raw floors in the same run. Row names as in the performance notes."""

from __future__ import annotations

import gc
import logging
import resource
import statistics
import tracemalloc
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import trio
import trio.testing

from runtime import (
    SHUTDOWN,
    CallFailed,
    GenServer,
    call,
    cast,
    cast_nowait,
    exit_with,
    receive,
    self_pid,
    send_nowait,
    spawn,
    start,
    sys,
)
from supervisors import (
    DynamicSupervisor,
    Node,
    Supervisor,
    child,
    start_child,
    terminate_child,
    which_children,
)

from . import beam, peers
from .harness import Row, fresh, measure, now


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
    begun = now()
    for index in range(count):
        await call(pid, index)
    return count / (now() - begun)


async def call_hundred_pairs() -> float:
    pids = [await start(Async) for _ in range(100)]
    each = 600

    async def one(pid: Any) -> None:
        for index in range(each):
            await call(pid, index)

    begun = now()
    async with trio.open_nursery() as nursery:
        for pid in pids:
            nursery.start_soon(one, pid)
    return 100 * each / (now() - begun)


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

        begun = now()
        with trio.move_on_after(30):
            async with trio.open_nursery() as nursery:
                for _ in range(pairs):
                    one: list[Any] = [None, False]
                    two: list[Any] = [None, False]
                    nursery.start_soon(ping, one, two)
                    nursery.start_soon(ping, two, one)
        return pairs * each / (now() - begun)

    return lambda: trio.run(main)


async def cast_counter() -> float:
    pid = await start(Sync)
    count = 100_000
    begun = now()
    for index in range(count):
        await cast(pid, index)
    await sys.get_state(pid)  # a system message is not refused by a full mailbox
    return count / (now() - begun)


def floor_deque() -> float:
    box: deque[int] = deque()
    count = 200_000
    begun = now()
    for index in range(count):
        box.append(index)
    while box:
        box.popleft()
    return count / (now() - begun)


async def broadcast() -> float:
    """Microseconds a delivery, to a thousand servers, handled."""
    pids = [await start(Sync) for _ in range(1000)]
    rounds = 20
    begun = now()
    for _ in range(rounds):
        for pid in pids:
            await cast(pid, 1)
        await trio.lowlevel.checkpoint()
    for pid in pids:
        await call(pid, None)
    return (now() - begun) / (rounds * 1000) * 1e6


async def start_stop() -> float:
    nest = await start(Nest)
    count = 3_000
    begun = now()
    for _ in range(count):
        pid = await start_child(nest, child("one", Sync, restart="temporary"))
        assert pid is not None
        await terminate_child(nest, pid)
    return count / (now() - begun)


def floor_start_soon() -> float:
    """One Trio task after the other: started, run, ended."""

    async def main() -> float:
        count = 3_000

        async def one(done: trio.Event) -> None:
            done.set()

        begun = now()
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                done = trio.Event()
                nursery.start_soon(one, done)
                await done.wait()
        return count / (now() - begun)

    return trio.run(main)


async def start_stop_many() -> float:
    """A thousand at a time: each start is acknowledged, then the supervisor stops them all."""
    count, rounds = 1_000, 3
    begun = now()
    for _ in range(rounds):
        nest = await start(Nest)
        for _ in range(count):
            await start_child(nest, child("one", Sync, restart="temporary"))
        await sys.stop(nest, SHUTDOWN)
    return count * rounds / (now() - begun)


def floor_start_many() -> float:
    """A thousand Trio tasks at a time: started, asleep, cancelled."""

    async def main() -> float:
        count, rounds = 1_000, 3
        begun = now()
        for _ in range(rounds):
            async with trio.open_nursery() as nursery:
                for _ in range(count):
                    nursery.start_soon(trio.sleep_forever)
                await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
        return count * rounds / (now() - begun)

    return trio.run(main)


async def restart() -> float:
    """Crashes healed a second: from a crash to the next answered message, one after the other."""
    supervisor = await start(Root)
    count = 1_000
    begun = now()
    (info,) = await which_children(supervisor)
    for _ in range(count):
        before = info.pid
        await cast("crasher", None)
        while info.pid == before or info.pid is None:
            (info,) = await which_children(supervisor)
    return count / (now() - begun)


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
    begun = now()
    send_nowait(pids[0], hops)
    await done.wait()
    return hops / (now() - begun)


def floor_ring() -> float:
    """A thousand tasks, of which each reschedules the next through Trio's own trap."""

    async def main() -> float:
        size, hops = 1000, 100_000
        tasks: list[Any] = []
        left = hops

        async def member(index: int) -> None:
            nonlocal left
            tasks.append(trio.lowlevel.current_task())
            while True:
                await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.SUCCEEDED)
                left -= 1
                if left == 0:
                    nursery.cancel_scope.cancel()
                    return
                trio.lowlevel.reschedule(tasks[(index + 1) % size])

        async with trio.open_nursery() as nursery:
            for index in range(size):
                nursery.start_soon(member, index)
                await trio.lowlevel.checkpoint()
            begun = now()
            trio.lowlevel.reschedule(tasks[0])
        return hops / (now() - begun)

    return trio.run(main)


async def dead_callee() -> float:
    """Milliseconds from the crash of a server until a caller that waits for it knows; the median of many."""
    took = []
    for _ in range(200):
        pid = await start(Crasher)
        begun = now()
        await cast(pid, None)
        try:
            await call(pid, None)
        except CallFailed:
            took.append(now() - begun)
    return statistics.median(took) * 1e3


class Hot(GenServer):
    """Never without a message: each costs four microseconds, and sends the next."""

    def init(self) -> None:
        cast_nowait(self_pid(), None)

    def handle_cast(self, request: Any) -> None:
        spin(4e-6)
        cast_nowait(self_pid(), None)


def spin(seconds: float) -> None:
    until = now() + seconds
    while now() < until:
        pass


async def probe_p99() -> float:
    """Milliseconds for 99 of 100 calls of an idle server, beside a hundred that are always busy."""
    for _ in range(100):
        await start(Hot)
    pid = await start(Sync)
    for _ in range(20):
        await call(pid, None)
    return await _p99(lambda: call(pid, None))


def floor_probe() -> float:
    """The same beside a hundred Trio tasks, each with one such spin between two checkpoints."""

    async def main() -> float:
        async def hot() -> None:
            while True:
                spin(4e-6)
                await trio.lowlevel.checkpoint()

        async def two_passes() -> None:
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(hot)
            found = await _p99(two_passes)
            nursery.cancel_scope.cancel()
        return found

    return trio.run(main)


async def _p99(probe: Callable[[], Awaitable[object]]) -> float:
    took = []
    for _ in range(500):
        begun = now()
        await probe()
        took.append(now() - begun)
    return sorted(took)[494] * 1e3


def idle_bytes() -> float:
    """Resident bytes of an idle server, from the growth over 100,000 of them; in a new process."""

    async def main() -> float:
        count = 100_000
        async with Node("bench"):
            await start(Sync)
            gc.collect()
            before = _resident()
            for _ in range(count):
                await start(Sync)
            gc.collect()
            return (_resident() - before) / count

    return trio.run(main)


def floor_idle_bytes() -> float:
    """The same for Trio tasks that only sleep."""

    async def main() -> float:
        count = 100_000
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            gc.collect()
            before = _resident()
            for _ in range(count):
                nursery.start_soon(trio.sleep_forever)
            await trio.testing.wait_all_tasks_blocked()
            gc.collect()
            found = (_resident() - before) / count
            nursery.cancel_scope.cancel()
        return found

    return trio.run(main)


def _resident() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def rows() -> list[Row]:
    """All figures of the kernel."""
    logging.disable(logging.CRITICAL)
    tracemalloc.stop()
    found = [
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
        measure(
            Row("start + stop of a supervised process, 1000 at once", "1/s", "higher"),
            on_node(start_stop_many),
            floor_start_many,
        ),
        measure(Row("supervisor restart after a crash", "1/s", "higher"), on_node(restart)),
        measure(Row("ring of 1000, hops", "1/s", "higher"), on_node(ring), floor_ring),
        measure(Row("caller learns of a dead callee", "ms", "lower"), on_node(dead_callee)),
        measure(Row("probe p99 beside 100 hot processes", "ms", "lower"), on_node(probe_p99), floor_probe),
        measure(
            Row("idle process, resident bytes", "B", "lower"),
            fresh("benchmarks.kernel", "idle_bytes"),
            fresh("benchmarks.kernel", "floor_idle_bytes"),
        ),
    ]
    on_beam, of_peers = beam.figures("banyan_kernel"), peers.figures()
    for row in found:
        row.beam = on_beam.get(row.name)
        row.peers = {peer: figures[row.name] for peer, figures in of_peers.items() if row.name in figures}
    return found
