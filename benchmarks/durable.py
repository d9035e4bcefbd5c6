"""Durable commands, fsync on, beside a raw file that is appended to and synced by the same group sizes."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable
from typing import Any

import trio

from runtime import Call, EventSourced, Session, message, start
from supervisors import Node

from .harness import Row, measure


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


def ours(writers: int, each: int) -> Callable[[], float]:
    """Commands a second of so many processes, each with one command in flight."""

    async def main() -> float:
        with tempfile.TemporaryDirectory() as folder:
            async with Node("bench", data=folder + "/store"):
                for index in range(writers):
                    await start(Counter, f"counter/{index}", name=f"counter/{index}")

                async def one(index: int) -> None:
                    session = Session(f"writer/{index}")
                    for _ in range(each):
                        await session.command(f"counter/{index}", Add(1))

                begun = time.perf_counter()
                async with trio.open_nursery() as nursery:
                    for index in range(writers):
                        nursery.start_soon(one, index)
                return writers * each / (time.perf_counter() - begun)

    return lambda: trio.run(main)


def floor(group: int, groups: int) -> Callable[[], float]:
    """Records a second of a raw file: `group` records of 120 bytes, then fdatasync."""

    def run() -> float:
        with tempfile.TemporaryFile() as file:
            record = b"x" * 120
            begun = time.perf_counter()
            for _ in range(groups):
                for _ in range(group):
                    os.write(file.fileno(), record)
                os.fdatasync(file.fileno())
            return group * groups / (time.perf_counter() - begun)

    return run


def rows() -> list[Row]:
    """All figures of durable commands."""
    logging.disable(logging.CRITICAL)
    return [
        measure(Row("durable command, 1 writer", "1/s", "higher"), ours(1, 500), floor(1, 500)),
        measure(Row("durable commands, 64 writers", "1/s", "higher"), ours(64, 50), floor(64, 50)),
        measure(Row("durable commands, 1024 writers", "1/s", "higher"), ours(1024, 10), floor(1024, 10)),
    ]
