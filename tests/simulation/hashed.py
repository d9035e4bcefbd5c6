"""`python -m tests.simulation.hashed SEED...`: seeded lives of a whole card-room node; prints their trace hashes."""

from __future__ import annotations

import logging
import sys

import trio

from game.app import Room, open_tables
from game.bots import Bots
from game.messages import TableConfig
from runtime.backends.coordination import LocalCoordination
from runtime.backends.memory import MemoryDisk, MemoryJournal
from runtime.durable.journal import Journal
from runtime.testing import SeededWorld, Trace, run_seeded
from supervisors import Node

DISK = MemoryDisk()


def open_store(path: str, node: str) -> Journal:
    """A store in memory, whatever the path."""
    return MemoryJournal(DISK)


def digest(seed: int) -> str:
    """The hash of all that happened in one life."""
    trace = Trace()
    world = SeededWorld(seed, open_store=open_store, coordination=LocalCoordination(), trace=trace)
    tables = tuple(TableConfig(name, turn_seconds=5.0, pause_seconds=0.1) for name in ("oak", "elm"))

    async def main() -> None:
        async with Node("seeded", data="disk", world=world) as node:
            await node.start(Room)
            await open_tables(tables)
            await node.start(Bots, tables, 0.1, 10**9)
            await trio.sleep(3.0)  # virtual

    run_seeded(seed, main, trace=trace)
    assert DISK.entries, "nothing was played"
    return trace.digest


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    for seed in sys.argv[1:]:
        DISK = MemoryDisk()
        print(digest(int(seed)))
