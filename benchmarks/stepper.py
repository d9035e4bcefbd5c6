"""What `Node(preempt=...)` costs a scheduling step: on and off in alternate blocks of one run, and their ratio."""

from __future__ import annotations

import gc
import statistics
import sys

import trio

from supervisors import Node
from supervisors.node.stepper import stepping

from .harness import Row, now

PAIRS = 21
STEPS = 40_000
LIMIT = 1.0


async def block() -> float:
    """Microseconds a step, of a task that does nothing but give way."""
    begun = now()
    for _ in range(STEPS):
        await trio.lowlevel.checkpoint()
    return (now() - begun) / STEPS * 1e6


async def pairs() -> list[tuple[float, float]]:
    """(on, off) of each pair; which of the two comes first changes from pair to pair."""
    found = []
    async with Node("bench") as node:

        async def on() -> float:
            with stepping(node.table, LIMIT):
                return await block()

        await on()
        for index in range(PAIRS):
            gc.collect()
            if index % 2:
                without = await block()
                found.append((await on(), without))
            else:
                found.append((await on(), await block()))
    return found


def rows() -> list[Row]:
    """The cost of a step, and the ratio of on to off with its quartiles."""
    taken = trio.run(pairs)
    cost = Row("stepper, added to a step", "us", "lower", [on - off for on, off in taken])
    ratio = Row("stepper, on against off", "ratio", "lower", [on / off for on, off in taken])
    low, middle, high = statistics.quantiles(ratio.runs, n=4)
    step = statistics.median(off for _, off in taken)
    print(f"{PAIRS} pairs: ratio {middle:.3f} ({low:.3f} to {high:.3f}); a step {step:.2f} us", file=sys.stderr)
    return [cost, ratio]
