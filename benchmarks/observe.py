"""What it costs that a node can be looked into: with nobody looking, and while somebody does.

The overhead is that of a node as `banyan start` makes it (admin server, back door, stall watch; and once more with
the figures for Prometheus) against one that has none of these, in processor time, in alternate blocks: 21 pairs,
of which the median of the ratios counts. Each pair is made of several short blocks of either kind in turn, so that
what else the machine does meets both. All 21 are told, and their quartiles on stderr.

The large node lives in a process of its own, so that what its client does is not in its figures. A stall is the time
between two turns of a task that always wants one: once by the wall's clock, which on a machine that others use has
their turns in it too, and once in processor time of the loop's thread, which has not.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, final
from typing import cast as cast_type

import trio

from runtime import GenServer, call, cast, start
from runtime.kernel.world import World
from runtime.observe.client import AdminClient
from runtime.observe.facts import Facts
from runtime.observe.protocol import Eval, Info, Ps, Request, Tree
from supervisors import DynamicSupervisor, Node, child, start_child
from supervisors.node.admin import open_door
from supervisors.node.boot import RealWorld
from supervisors.node.metrics import open_metrics

from .harness import RUNS, Row

PAIRS = 21
# Blocks of either kind in a pair, and messages of one block, half of them calls.
BLOCKS = 8
MESSAGES = 6_000
LARGE = 100_000
ROUND_TRIPS = 500


@final
class Sums(GenServer):
    """Adds up what it is told."""

    def init(self) -> None:
        self.sum = 0

    def handle_call(self, request: Any, caller: Any) -> int:
        self.sum += request
        return self.sum

    def handle_cast(self, request: Any) -> None:
        self.sum += request


@final
class Idle(GenServer):
    """Does nothing."""


@final
class Unwatched:
    """The real world, in which nobody looks for stalls."""

    def __init__(self) -> None:
        self._real = RealWorld()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def beside(self, look: Callable[[], None], seconds: float) -> AbstractContextManager[None]:
        return contextlib.nullcontext()


def block(*, door: bool, figures: bool) -> float:
    """Seconds of the processor for MESSAGES messages in a fresh node, with or without what lets one look into it."""

    async def main(folder: str) -> float:
        async with Node("bench", world=RealWorld() if door else cast_type("World", Unwatched())) as node:
            facts = Facts(1, node.world.now())
            if door:
                await open_door(node, Path(folder) / "bench.sock", facts)
            if figures:
                await open_metrics(node, "127.0.0.1:0", facts)
            pid = await start(Sums)
            await work(pid, MESSAGES // 4)
            gc.collect()
            begun = time.process_time()
            await work(pid, MESSAGES)
            return time.process_time() - begun

    async def work(pid: Any, messages: int) -> None:
        for _ in range(messages // 2):
            await cast(pid, 1)
            await call(pid, 1)

    with tempfile.TemporaryDirectory() as folder:
        return trio.run(main, folder)


def overhead(name: str, *, figures: bool) -> Row:
    """Ratios of PAIRS pairs of blocks, on and off, each pair beginning with the other one."""
    row = Row(name, "ratio", "lower")
    block(door=True, figures=figures)
    block(door=False, figures=False)
    for pair in range(PAIRS):
        took = {True: 0.0, False: 0.0}
        for turn in range(2 * BLOCKS):
            door = (pair + turn) % 2 == 0
            took[door] += block(door=door, figures=door and figures)
        row.runs.append(took[True] / took[False])
    low, middle, high = statistics.quantiles(row.runs, n=4)
    print(f"{name}: median {middle:.4f}, quartiles {low:.4f} to {high:.4f}, {PAIRS} pairs", file=sys.stderr)
    return row


# -- a large node --------------------------------------------------------------------------------------


@final
class Ticks:
    """The longest times between two turns of one task, which wants one all the time while it is on."""

    def __init__(self) -> None:
        self._on = trio.Event()
        self._wall = self._processor = 0.0

    async def run(self) -> None:
        """Be that task."""
        while True:
            await self._on.wait()
            wall, processor = time.perf_counter(), time.thread_time()
            while self._on.is_set():
                await trio.lowlevel.checkpoint()
                before, wall = wall, time.perf_counter()
                self._wall = max(self._wall, wall - before)
                before, processor = processor, time.thread_time()
                self._processor = max(self._processor, processor - before)

    def begin(self) -> None:
        """Switch it on."""
        self._wall = self._processor = 0.0
        self._on.set()

    def end(self) -> list[float]:
        """Switch it off; the longest times in seconds of the processor and of the wall."""
        self._on = trio.Event()
        return [self._processor, self._wall]

    def spent(self) -> list[float]:
        """Seconds of the processor that the node's program has used."""
        return [time.process_time()]


def serve(path: str, processes: int) -> None:
    """Be a node with so many idle processes, until stdin is closed; the main function of a process of its own."""

    async def main() -> None:
        logging.disable(logging.CRITICAL)
        ticks = Ticks()
        async with Node("bench") as node, trio.open_nursery() as beside:
            facts = Facts(1, node.world.now())
            await open_door(node, Path(path), facts, allow_eval=True, names={"ticks": ticks})
            supervisor = await node.start(DynamicSupervisor)
            for _ in range(processes):
                await start_child(supervisor, child("idle", Idle))
            beside.start_soon(ticks.run)
            gc.collect()
            print("ready", flush=True)
            await trio.to_thread.run_sync(sys.stdin.read)
            beside.cancel_scope.cancel()

    trio.run(main)


@contextlib.contextmanager
def served(processes: int) -> Iterator[AdminClient]:
    """A client of a node with so many idle processes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.sock"
        code = f"import benchmarks.observe as m; m.serve({str(path)!r}, {processes})"
        with subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                assert process.stdout.readline() == "ready\n"
                with AdminClient(path, timeout=60.0) as client:
                    yield client
            finally:
                process.stdin.close()


def asked(client: AdminClient, what: str, request: Request) -> list[Row]:
    """Seconds until the answer is there, and, asked once more, the longest stall; by both clocks."""

    def ticks(what: str) -> list[float]:
        return list(json.loads(client.request(Eval(source=f"ticks.{what}()"))["value"]))

    took = Row(what, "s", "lower")
    spent = Row(f"{what}, processor of the node", "s", "lower")
    stalled = Row(f"{what}, longest stall, processor", "ms", "lower")
    wall = Row(f"{what}, longest stall, wall", "ms", "lower")
    for run in range(RUNS + 1):
        (before,), begun = ticks("spent"), time.perf_counter()
        client.request(request)
        seconds = time.perf_counter() - begun
        (after,) = ticks("spent")
        client.request(Eval(source="ticks.begin()"))
        client.request(request)
        stalls = ticks("end")
        if run:  # the first one is the warm-up
            took.runs.append(seconds)
            spent.runs.append(after - before)
            stalled.runs.append(stalls[0] * 1e3)
            wall.runs.append(stalls[1] * 1e3)
    return [took, spent, stalled, wall]


def round_trips(client: AdminClient, what: str, request: Request) -> Row:
    """Milliseconds from a question to its answer."""
    row = Row(what, "ms", "lower")
    for _ in range(RUNS + 1):
        took = []
        for _ in range(ROUND_TRIPS // RUNS):
            begun = time.perf_counter()
            client.request(request)
            took.append(time.perf_counter() - begun)
        row.runs.append(statistics.median(took) * 1e3)
    del row.runs[0]  # the warm-up
    return row


def rows() -> list[Row]:
    """All figures of looking in."""
    logging.disable(logging.CRITICAL)
    found = [
        overhead("overhead of a node that can be looked into", figures=False),
        overhead("overhead, with figures for Prometheus", figures=True),
    ]
    with served(LARGE) as client:
        found += asked(client, f"tree of {LARGE:,} processes", Tree())
        found += asked(client, f"ps of {LARGE:,} processes", Ps(limit=100))
    with served(0) as client:
        found.append(round_trips(client, "a typed line and its value", Eval(source="1")))
        found.append(round_trips(client, "a question and its answer", Info()))
    return found
