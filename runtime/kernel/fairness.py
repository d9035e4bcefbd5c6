"""Fair scheduling: how many messages a process takes from its mailbox before it lets all others run.

A checkpoint for each message would cost more than most callbacks do, so a process takes a batch in one
turn. What is fair depends on who else is busy: all that are *hot*, which means that they have more mail
than they may take in one turn, share one slice of time, so that whoever is not hot waits for about one
slice and not for one batch of each of them.

What a message costs is measured by turns, not one by one, and only for processes that are hot: one that
empties its mailbox asks no clock. Under a virtual clock a turn takes no time, so that a seeded run does
the same each time. Source: the BEAM's reductions, with another budget because handlers cannot be
pre-empted; rule P44.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from .process import Process

# The most messages that one turn takes whose cost is not known.
BATCH = 32

# The most that one turn takes of messages that are known to be so cheap that all of it stays within the slice.
MOST = 256

# Seconds that all hot processes together may take before everybody else has had a turn.
SLICE = 0.0005


async def give_way(process: Process) -> int:
    """Let all others run once: the calling process has used up its turn, and has more mail.

    Returns: how many messages its next turn may take, from 1 to MOST; also kept as `process.budget`.
    A checkpoint: raises trio.Cancelled when cancelled.
    """
    table = process.table
    clock = table.timers.clock
    others = table.hot
    spent = clock() - process.since if process.since else 0.0
    if spent > 0.0:
        process.budget = max(1, min(MOST, int(process.budget * SLICE / (others + 1) / spent)))
    else:
        process.budget = max(1, BATCH // (others + 1))  # what its messages cost is not known
    table.hot = others + 1
    try:
        await trio.lowlevel.checkpoint()
    finally:
        table.hot -= 1
    process.since = clock()
    return process.budget
