"""What `banyan top` costs the node that it looks at: 100,000 processes, a pair of them that call each other, and a
screen in a process of its own, which is stopped and let go on in turn.

The first row is by how much the node's own work takes longer: 1 / (1 - the part of a processor that the node spends
on the screen while it has nothing else to do). To time the work itself instead shows nothing: on a shared machine
that differs by more than the screen costs. The second row is the longest time in which the pair had no turn; its
floor is the same without a screen.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import trio

from runtime import GenServer, Pid, call, start
from runtime.observe.facts import Facts
from supervisors import DynamicSupervisor, Node, child, start_child
from supervisors.node.admin import open_door

from . import harness
from .harness import Row

PROCESSES = 100_000
RUNS = 3
# Seconds of one block: so long does the screen rest at most, after a look at so many processes.
BLOCK = 30.0
# Seconds that a screen needs to come up, and one that is stopped to have its last answer.
SETTLING = 3.0
TABS = {"processes": "1", "tree": "2"}

SCREEN = """
import sys
from pathlib import Path
from supervisors.cli.top_screens.app import Top
from supervisors.cli.top_screens.poller import Source

async def choose(pilot):
    await pilot.press(sys.argv[2])

Top(Source(Path(sys.argv[1]), timeout=30.0)).run(headless=True, size=(160, 50), auto_pilot=choose)
"""


class Idle(GenServer):
    def handle_call(self, request: Any, caller: Any) -> Any:
        return request


class Many(DynamicSupervisor):
    def init(self) -> Any:
        return []


@contextlib.contextmanager
def screen(socket: Path, tab: str) -> Iterator[subprocess.Popen[bytes]]:
    """A screen that looks at the node, without a terminal."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCREEN, str(socket), TABS[tab]], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


async def populate(parent: Pid) -> None:
    """Start the processes, as many at once as is quick."""
    async with trio.open_nursery() as nursery:

        async def some(count: int) -> None:
            for _ in range(count):
                await start_child(parent, child("idle", Idle))

        for _ in range(100):
            nursery.start_soon(some, PROCESSES // 100)


async def spent() -> float:
    """The part of a processor that the node takes, over BLOCK seconds in which nobody calls."""
    # Always by the processor's clock: it is a share of that.
    begun, first = trio.current_time(), time.process_time()
    await trio.sleep(BLOCK)
    return (time.process_time() - first) / (trio.current_time() - begun)


async def longest_turn(server: Pid) -> float:
    """The longest time for one call, in ms, over BLOCK seconds, by the harness's clock."""
    until = trio.current_time() + BLOCK
    longest, last = 0.0, harness.now()
    while trio.current_time() < until:
        for _ in range(50):
            await call(server, None)
            moment = harness.now()
            longest = max(longest, moment - last)
            last = moment
    return longest * 1000


async def measure(tab: str) -> tuple[Row, Row]:
    """Both rows, for a screen with this tab open."""
    cost = Row(f"top on {tab} of 100,000 processes: work takes longer by", "x", "lower")
    turn = Row(f"top on {tab} of 100,000 processes: longest turn", "ms", "lower")
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder) / "n.sock"
        async with Node("bench") as node:
            await open_door(node, socket, Facts(pid=os.getpid(), started=node.world.now()))
            await populate(await node.start(Many))
            server = await start(Idle)
            # What has been made stays: a collection of all of it is no matter of the screen's.
            gc.collect()
            gc.freeze()
            with screen(socket, tab) as process:
                await trio.sleep(SETTLING)
                for _ in range(RUNS):
                    watched = await spent()
                    turn.runs.append(await longest_turn(server))
                    process.send_signal(signal.SIGSTOP)
                    await trio.sleep(SETTLING)
                    alone = await spent()
                    turn.floors.append(await longest_turn(server))
                    process.send_signal(signal.SIGCONT)
                    assert process.poll() is None, process.stderr and process.stderr.read()
                    cost.runs.append(1.0 / (1.0 - (watched - alone)))
                    told = f"{cost.runs[-1]:.3f}  {turn.runs[-1]:.1f} ms ({turn.floors[-1]:.1f})"
                    print(f"{tab}: {told}", file=sys.stderr)
    return cost, turn


def rows() -> list[Row]:
    """The measurements."""
    logging.disable()
    return [row for tab in TABS for row in trio.run(measure, tab)]
