"""One set of entities on two nodes: whoever asks for one finds it, wherever it lives.

    cd examples/08_two_nodes
    banyan up visits:Visits --nodes 2 --data /tmp/visits

You see two nodes become ready and join. Each has a guest who visits four houses by their names; half of these
live on the other node. Every visit is journalled. Kill one node (`kill -9` its pid, the second word after
`ready`): it is started again, its houses know how often they were visited, and its guest goes round once more.
`banyan nodes -n node-1` and `banyan shards -n node-1` show who is there and who owns what. Ctrl-C stops all.
"""

from __future__ import annotations

from typing import Any

import trio

from runtime import Call, EventSourced, message, nodes, self_pid
from supervisors import ChildSpec, Supervisor, child, region

HOUSES = ("oak", "elm", "fir", "ash")


@message("visits.visit")
class Visit(Call[str]):
    """Asks a house in; it answers with its node and how many visits it has had."""


@message("visits.visited")
class Visited:
    """What a house writes into its journal."""


class House(EventSourced[int, Visited]):
    """Counts its visits; runs on the node that owns its shard, and nowhere else."""

    def initial(self, key: str) -> int:
        return 0

    def handle(self, state: int, command: Any) -> Any:
        return Visited(), f"on {self_pid().node}, visit {state + 1}"

    def apply(self, state: int, event: Visited) -> int:
        return state + 1


async def guest() -> None:
    """Visits each house once; a call waits while its house's node is away."""
    while not nodes():  # noqa: ASYNC110  # soon, and once
        await trio.sleep(0.1)
    await trio.sleep(2.0)  # the nodes share out what has no entities yet
    for house in HOUSES:
        found = await region("house").call(house, Visit(), timeout=30.0)
        print(f"from {self_pid().node} to {house} {found}", flush=True)


class Visits(Supervisor):
    """The same tree on every node."""

    strategy, intensity, period = "one_for_one", 10, 5.0

    def init(self) -> list[ChildSpec]:
        return [region("house", House), child("guest", guest, restart="transient")]
