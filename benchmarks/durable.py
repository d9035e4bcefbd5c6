"""Durable commands, fsync on: how many a second, and how long each takes, from one writer to 1024.

Every writer is a `Session` with one command in flight, to a process of its own. Beside it, in turn: a raw file
that is appended to and synced in groups of that size. `busy` means that a task computes beside them, a
millisecond at a time, and yields in between.

All of it is by the wall's clock, since a commit waits for the disk; the last rows are processor time.
"""

from __future__ import annotations

import gc
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import trio

from runtime import Call, EventSourced, Session, message, start
from runtime.durable.durability import Kept
from supervisors import Node

from . import beam, peers
from .harness import RUNS, Row, measure

# Writers, and how many commands each sends, idle and busy.
SIZES = ((1, 300, 100), (64, 60, 20), (1024, 10, 5))
RECORD = b"x" * 120


@message("bench.add")
class Add(Call[int]):
    amount: int


@message("bench.added")
class Added:
    amount: int


class Counter(EventSourced[int, Added]):
    snapshot_every = 1_000_000

    def initial(self, key: str) -> int:
        return 0

    def handle(self, state: int, command: Any) -> Any:
        return Added(command.amount), state + command.amount

    def apply(self, state: int, event: Added) -> int:
        return state + event.amount


async def _busy() -> None:
    while True:
        until = time.perf_counter() + 1e-3
        while time.perf_counter() < until:
            pass
        await trio.lowlevel.checkpoint()


def ours(writers: int, each: int, *, busy: bool = False, kept: str = "durable") -> tuple[float, float, list[float]]:
    """Seconds of the wall and of the processor for so many writers to send `each` commands; what each one took."""

    async def main() -> tuple[float, float, list[float]]:
        took: list[float] = []

        async def one(session: Session, key: str, count: int) -> None:
            for _ in range(count):
                begun = time.perf_counter()
                await session.command(key, Add(1))
                took.append(time.perf_counter() - begun)

        async def all_of_them(count: int) -> None:
            async with trio.open_nursery() as nursery:
                for key, session in sessions.items():
                    nursery.start_soon(one, session, key, count)

        with tempfile.TemporaryDirectory() as folder:
            async with Node("bench", data=folder + "/store"), trio.open_nursery() as beside:
                sessions = {f"counter/{index}": Session(f"writer/{index}") for index in range(writers)}
                for key in sessions:
                    await start(Counter, key, Kept(kept), name=key)  # type: ignore[arg-type]  # one of the classes
                await all_of_them(1)
                if busy:
                    beside.start_soon(_busy)
                took.clear()
                gc.collect()
                wall, processor = time.perf_counter(), time.process_time()
                await all_of_them(each)
                wall, processor = time.perf_counter() - wall, time.process_time() - processor
                beside.cancel_scope.cancel()
        return wall, processor, took

    return trio.run(main)


def floor(group: int, groups: int) -> Callable[[], float]:
    """Records a second of a raw file: `group` records of 120 bytes, then fdatasync."""

    def run() -> float:
        with tempfile.TemporaryFile() as file:
            begun = time.perf_counter()
            for _ in range(groups):
                for _ in range(group):
                    os.write(file.fileno(), RECORD)
                os.fdatasync(file.fileno())
            return group * groups / (time.perf_counter() - begun)

    return run


def measured(writers: int, each: int, *, busy: bool) -> list[Row]:
    """Three rows out of the same runs: commands a second, and what 50 and 99 of 100 commands took."""
    what = f"{writers} writer{'s' * (writers > 1)}{', busy' * busy}"
    rate = Row(f"durable commands, {what}", "1/s", "higher")
    p50, p99 = (Row(f"durable command p{part}, {what}", "ms", "lower") for part in (50, 99))
    raw = floor(writers, each)
    for run in range(RUNS + 1):
        appended = raw()
        wall, _, took = ours(writers, each, busy=busy)
        if run == 0:
            continue  # the warm-up
        took.sort()
        rate.floors.append(appended)
        rate.runs.append(len(took) / wall)
        p50.runs.append(took[len(took) // 2] * 1e3)
        p99.runs.append(took[len(took) * 99 // 100] * 1e3)
    figures = (f"{statistics.median(one):,.2f}" for one in (rate.runs, rate.floors, p50.runs, p99.runs))
    print("{}: {} 1/s, raw {}, p50 {} ms, p99 {} ms".format(what, *figures), file=sys.stderr)
    return [rate, p50, p99]


def processor(kept: str) -> Callable[[], float]:
    """Microseconds of the processor for one command of 64 writers, sender's side included."""

    def run() -> float:
        _, spent, took = ours(64, 60, kept=kept)
        return spent / len(took) * 1e6

    return run


def rows() -> list[Row]:
    """All figures of durable commands."""
    logging.disable(logging.CRITICAL)
    found = []
    for writers, idle, busy in SIZES:
        found += measured(writers, idle, busy=False)
        found += measured(writers, busy, busy=True)
    found += [
        measure(Row("durable commands, 64 writers, processor", "us", "lower"), processor("durable")),
        measure(Row("volatile commands, 64 writers, processor", "us", "lower"), processor("volatile")),
    ]
    on_beam, of_peers = beam.figures("banyan_durable"), peers.figures(peers.DURABLE)
    for row in found:
        row.beam = on_beam.get(row.name)
        row.peers = {peer: figures[row.name] for peer, figures in of_peers.items() if row.name in figures}
    return found
