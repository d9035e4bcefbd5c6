"""The application that `up` starts: on each node, clients that command durable entities which live on that node.

They begin when the file `go` is in the working directory, with the number of clients of each node in it, and write
what they found into a file with the node's name.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import trio

from runtime import Call, EventSourced, message, self_pid, spawn
from runtime.cluster.membership import membership_of
from runtime.kernel.table import current_table
from supervisors import ChildSpec, Supervisor, child, region

from .harness import now

GO = Path("go")
WARM, SECONDS = 1.0, 5.0


@message("bench.up.add")
class Add(Call[int]):
    """One more."""


@message("bench.up.added")
class Added:
    """One more, journalled."""


class Counter(EventSourced[int, Added]):
    """Counts; an entity."""

    def initial(self, key: str) -> int:
        return 0

    def handle(self, state: int, command: Any) -> Any:
        return Added(), state + 1

    def apply(self, state: int, event: Added) -> int:
        return state + 1


class Clients:
    """So many processes with one command in flight each, each to an entity of its own."""

    def __init__(self) -> None:
        self.done = 0
        self.counting = False

    async def one(self, key: str) -> None:
        """Command one entity without end."""
        counters = region("counter")
        while True:
            await counters.call(key, Add(), timeout=30.0)
            if self.counting:
                self.done += 1


def keys_here(many: int) -> list[str]:
    """Keys of so many entities whose shards this node owns."""
    members, counters = membership_of(current_table()), region("counter")
    found: list[str] = []
    number = 0
    while len(found) < many:
        number += 1
        if members.serves(counters.shard(f"c{number}")) is not None:
            found.append(f"c{number}")
    return found


def told() -> int | None:
    """How many clients there are to be; None as long as none are."""
    return int(GO.read_text()) if GO.exists() else None


def tell(figure: float) -> None:
    """Write what was found, for whoever waits for the file."""
    name = self_pid().node
    Path(f"{name}.new").write_text(str(figure))
    os.rename(f"{name}.new", f"{name}.found")


async def measure() -> None:
    """Wait for `go`, command for a while, and write how many commands a second were answered."""
    while (many := told()) is None:  # noqa: ASYNC110  # a file cannot be waited for
        await trio.sleep(0.01)
    clients = Clients()
    for key in keys_here(many):
        spawn(clients.one, key)
    await trio.sleep(WARM)
    clients.counting, begun = True, now()
    await trio.sleep(SECONDS)
    clients.counting = False
    tell(clients.done / (now() - begun))


class Load(Supervisor):
    """The same tree on every node."""

    def init(self) -> list[ChildSpec]:
        return [region("counter", Counter), child("clients", measure)]
