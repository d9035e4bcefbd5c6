"""Moves of shards while a replay is played: asked for over the nodes' admin sockets, one step at a time.

Which shard goes where is drawn from those that have records. Nothing here waits for a node: a request is sent, and its
answer taken when it is there. What a node that was killed has taken along is asked for again.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from runtime.observe.client import AdminClient, TimedOut
from runtime.observe.protocol import Code, Move, Moves, Refusal, Request

from .nodes import Nodes

# Moves that are asked for at a time.
AT_ONCE: Final = 4
# Seconds between two looks at how they go; for an answer; and for a move of which no node knows any more.
LOOK: Final = 0.05
PATIENCE: Final = 10.0
LOST: Final = 5.0
# What a move is over with when its shard has gone.
GONE: Final = ("retired", "own")
ENDS: Final = (*GONE, "void")


@final
@dataclass(slots=True)
class _Moving:
    """A move that was begun: where to, and when a node has last known of it."""

    shard: int
    target: str
    known: float


@final
class Movement:
    """The moves of one replay.

    Args:
        fleet: whose shards are moved.
        shards: those that have records.
        due: after how many hands each of the moves is asked for, in order.
        chance: draws.

    Attributes:
        done: how many shards have gone to where they were sent.
    """

    def __init__(self, fleet: Nodes, shards: Iterable[int], due: Sequence[int], chance: random.Random) -> None:
        self.done = 0
        self._fleet = fleet
        self._shards = sorted(shards)
        self._due = due
        self._chance = chance
        self._moving: dict[str, _Moving] = {}
        self._client: AdminClient | None = None
        # What was asked and is not answered yet.
        self._asked: tuple[int, Request, float] | None = None
        self._looked = 0.0

    @property
    def over(self) -> bool:
        """Whether all are done."""
        return self.done >= len(self._due)

    @property
    def nodes(self) -> list[str]:
        """The nodes to which a shard is on its way, sorted."""
        return sorted({one.target for one in self._moving.values()})

    def step(self, played: int, now: float) -> None:
        """Go on, when so many hands have been played, at this time in seconds."""
        if self._asked is not None:
            self._answered(now)
        if self._asked is None:
            wanted = sum(1 for hands in self._due if hands <= played)
            if self.done + len(self._moving) < wanted and len(self._moving) < AT_ONCE and len(self._fleet.ready) > 1:
                target = self._chance.choice(sorted(self._fleet.ready))
                self._ask(Move(shard=self._chance.choice(self._shards), node=target), now)
            elif self._moving and now - self._looked > LOOK:
                self._looked = now
                self._ask(Moves(), now)

    def close(self) -> None:
        """End the connection, if there is one; it is made again if it is needed."""
        self._asked = None
        if self._client is not None:
            self._client.close()
            self._client = None

    def _ask(self, request: Request, now: float) -> None:
        try:
            if self._client is None:
                _, socket = self._fleet.ready[self._chance.choice(sorted(self._fleet.ready))]
                self._client = AdminClient(Path(socket))
            self._asked = self._client.send(request), request, now
        except (Refusal, IndexError):  # it has just been killed, or all have
            self.close()

    def _answered(self, now: float) -> None:
        """Take the answer, if it is there."""
        assert self._client is not None
        assert self._asked is not None
        number, request, since = self._asked
        try:
            found = self._client.answer(number, timeout=0.0)
        except TimedOut:
            if now - since > PATIENCE:
                self.close()
        except Refusal as refusal:
            self._asked = None
            if refusal.code == Code.UNREACHABLE:
                self.close()
        else:
            self._asked = None
            if isinstance(request, Move):
                self._moving[found["move"]] = _Moving(request.shard, request.node, now)
            else:
                self._told(found["moves"], now)

    def _told(self, facts: list[dict[str, Any]], now: float) -> None:
        known = {fact["id"]: fact["phase"] for fact in facts}
        for move, one in list(self._moving.items()):
            phase = known.get(move)
            if phase is not None:
                one.known = now
            if phase in ENDS or now - one.known > LOST:
                # One that is lost, or void, is asked for again, of whichever shard.
                del self._moving[move]
                self.done += phase in GONE
