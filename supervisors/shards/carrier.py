"""Who carries out what a move's machine wants done: a process for each move, one effect after the other.

It lives as long as the move, so that whoever is frozen for it is let go when it ends, however it ends. It is linked
to the mover, and what it must not survive ends both; what can go wrong with an effect is its event.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from runtime.cluster.membership import Membership, membership_of
from runtime.kernel.api import spawn_link
from runtime.kernel.ids import Pid
from runtime.kernel.process import Process
from runtime.kernel.selective import receive
from runtime.kernel.table import ProcessTable

from .handoff_events import Effect, Event, GiveUp
from .handoff_frames import Frame
from .stores import Stores

logger = logging.getLogger("banyan")


@final
@dataclass(frozen=True, slots=True, eq=False)
class Came:
    """To the mover: what came of an effect of a move."""

    move: str
    event: Event


@final
@dataclass(frozen=True, slots=True)
class Carried:
    """To the mover: the carrier of a move has carried out all that it was given, and ends."""

    move: str


@final
@dataclass(frozen=True, slots=True)
class Enough:
    """To a carrier: nothing will follow."""


class Work(ABC):
    """What one side of a move does.

    Args:
        mover: the process that conducts the moves.
        say: sends a frame to the other side.

    Attributes:
        bytes, total: of records that were carried, and about how many there are.
        freeze_ms, held: see `MoveFact`.
    """

    def __init__(self, mover: Process, move: str, shard: int, say: Callable[[Frame], None]) -> None:
        self.mover = mover
        self.table: ProcessTable = mover.table
        self.world = mover.table.world
        self.stores = Stores(mover.table)
        self.move = move
        self.shard = shard
        self.say = say
        self.bytes = 0
        self.total = 0
        self.held = 0
        self.freeze_ms: float | None = None

    @property
    def membership(self) -> Membership:
        """That of this node. Raises NoProcess while it is being restarted."""
        return membership_of(self.table)

    @abstractmethod
    async def do(self, effect: Effect) -> Event | None:
        """Carry out an effect; what came of it. Raises what `failed` makes an event of."""

    @abstractmethod
    def failed(self, effect: Effect, error: Exception) -> Event | None:
        """What an effect that raised comes to."""

    @abstractmethod
    def close(self) -> None:
        """The move is over, however."""

    def give_up(self, why: str) -> None:
        """Want the move to be given up."""
        self.mover.post(Came(self.move, GiveUp(why)))

    def start(self) -> Pid:
        """Begin to carry out the effects that the process is sent."""
        return spawn_link(self._carry, limit=1_000_000)

    async def _carry(self) -> None:
        try:
            while (effect := await receive()).__class__ is not Enough:
                assert isinstance(effect, Effect)
                try:
                    event = await self.do(effect)
                except Exception as error:  # of the stores, of the cluster, of an application's records
                    logger.warning("shard %d, move %s: %s: %s", self.shard, self.move, type(effect).__name__, error)
                    event = self.failed(effect, error)
                if event is not None:
                    self.mover.post(Came(self.move, event))
        finally:
            self.close()
        self.mover.post(Carried(self.move))
