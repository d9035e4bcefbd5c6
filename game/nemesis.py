"""The nemesis of a replay: kills processes of the room, seeded, mostly while a command is in hand.

Every ten finished hands on average one process is killed with KILL, which it cannot trap: a table, a
wallet, the tables' supervisor, the lobby, each as often as the others. It looks for a moment in which a
process has accepted a command and not answered it yet.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import final

import trio

from runtime import KILL, ProcessInfo, exit, process_info, receive, registered_names, whereis

from .lobby import LOBBY, TABLES
from .places import is_spread

KINDS = ("table", "wallet", "tables", "lobby")
HAND_FINISHED = "hand finished"
# How many kills there are for each finished hand.
RATE = 0.1
# How many passes of the loop it waits for a command in hand before it kills anyway.
PATIENCE = 5_000
# What the supervisor of all tables of a node, and the lobby, are called in a cluster.
SPREAD_TABLES, SPREAD_LOBBY = "region/table/shards", "room/lobby"


@final
class Nemesis:
    """Decides when and whom to kill.

    Args:
        seed: of all its choices.
        kills: how many it has made already, in earlier lives of the node.
        report: takes a line for each kill.
    """

    def __init__(self, seed: int, kills: int, report: Callable[[str], None]) -> None:
        self.seed = seed
        self.kills = kills
        self.report = report
        # Seeded by its own argument, so that a chaos run can be asked for again.
        self.random = random.Random(f"{seed}/{kills}")  # allowed: the seed is the command's own argument

    def _kind(self) -> str:
        """Each four kills hold every kind once, in an order that follows from the seed."""
        four = list(KINDS)
        random.Random(f"{self.seed}/{self.kills // 4}").shuffle(four)  # allowed: seeded by the command
        return four[self.kills % 4]

    async def run(self) -> None:
        """Kill on, for ever; told of each finished hand by a message."""
        while True:
            await receive(lambda message: message == HAND_FINISHED)
            # Without memory, so that a node which is killed again and again keeps the same average.
            if self.random.random() < RATE:
                await self._strike(self._kind())

    async def _strike(self, kind: str) -> None:
        for _ in range(PATIENCE):
            busy = [name for name in _names("table/" if kind != "wallet" else "wallet/") if _in_hand(name)]
            if busy:
                # A kill of the lobby interrupts no command of its own: it does not count as one.
                self._kill(kind, self.random.choice(busy), in_flight=kind != "lobby")
                return
            await trio.lowlevel.checkpoint()
        names = _names("table/" if kind != "wallet" else "wallet/")
        if names:
            self._kill(kind, self.random.choice(names), in_flight=False)

    def _kill(self, kind: str, name: str, *, in_flight: bool) -> None:
        spread = is_spread()
        tables, lobby = (SPREAD_TABLES, SPREAD_LOBBY) if spread else (TABLES, LOBBY)
        pid = whereis({"tables": tables, "lobby": lobby}.get(kind, name))
        if pid is None and spread:  # the lobby of another node
            kind, pid = name.partition("/")[0], whereis(name)
        if pid is None:
            return
        exit(pid, KILL)
        self.kills += 1
        self.report(f"kill {int(in_flight)} {kind}")


def _names(prefix: str) -> Sequence[str]:
    return [name for name in registered_names() if name.startswith(prefix)]


def _in_hand(name: str) -> bool:
    info: ProcessInfo | None = process_info(name)
    return info is not None and (info.handling is not None or info.unanswered > 0)
