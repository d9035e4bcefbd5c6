"""Who moves shards when an operator wants it: what the admin protocol asks of whoever knows how."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from ..kernel.table import ProcessTable
from .protocol import Code, Refusal


class Steering(Protocol):
    """Moves of shards, as a person orders and sees them. What is returned goes over the wire as it is.

    Each asks the node that it is about, wherever that is, and raises Refusal: code 3: that node cannot be reached;
    4: no such shard, node or move, or this node is in no cluster; 5: it may not be done; 6: no answer in time.
    """

    async def moves(self, of: str | None) -> dict[str, Any]:
        """The moves that nodes know of, and how each node stands; of one node if `of` is given."""

    async def forecast(self, shard: int, node: str) -> dict[str, Any]:
        """What a move would carry."""

    async def plan(self) -> dict[str, Any]:
        """Which moves would even out the load now."""

    async def move(self, shard: int, node: str) -> dict[str, Any]:
        """Begin a move."""

    async def abort(self, move: str) -> dict[str, Any]:
        """Give up a move."""

    async def drain(self, node: str | None, *, on: bool) -> dict[str, Any]:
        """Have a node give all its shards away, or take part again; this one if none is named."""

    async def adopt(self, node: str, *, undo: bool) -> dict[str, Any]:
        """Serve the shards of a node that is down out of its own store, or give that back."""

    async def rebalance(self) -> dict[str, Any]:
        """Have all nodes even out the load now."""


class Moved(Protocol):
    """One move, as `supervisors.shards.orders.MoveFact`."""

    @property
    def source(self) -> str: ...
    @property
    def phase(self) -> str: ...
    @property
    def ended(self) -> float: ...


@runtime_checkable
class Moving(Protocol):
    """Who moves a node's shards, in its services as "mover"."""

    def facts(self) -> Sequence[Moved]:
        """Its moves, those that run and the last ones that are over."""


def under_way(table: ProcessTable) -> Counter[str]:
    """How many moves a node has "out" of it, "in", and "waiting" for their turn, now."""
    mover = table.services.get("mover")
    facts = [fact for fact in mover.facts() if not fact.ended] if isinstance(mover, Moving) else []
    return Counter(
        "waiting" if fact.phase == "waiting" else "out" if fact.source == table.node else "in" for fact in facts
    )


def steering_of(steering: Steering | None) -> Steering:
    """Whoever moves shards here. Raises Refusal: nobody does."""
    if steering is None:
        what, why = "no shard moves here", "this node is embedded in a program that has no commands for it"
        raise Refusal(what, why, "ask a node that `banyan start` has started", Code.NOT_FOUND)
    return steering
