"""What is left of shards that were moved away: kept, sealed, for a grace period, and then erased in slices.

The copy is of no use to anybody as long as its owner lives; it is the way back if that one turns out to be unfit. It
is erased only while the shard is sealed here, lies elsewhere by its row, and no move has to do with it; a move that
brings the shard back erases it first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, final

import trio

from runtime.cluster.membership import SERVICE, Membership
from runtime.errors import BanyanError
from runtime.kernel.table import ProcessTable

from .indexing import set_aside_of
from .stores import Stores, Turn

logger = logging.getLogger("banyan")

# Seconds between two looks at what is left.
PAUSE: Final = 5.0
# And between two commits of an erasure that nobody waits for.
BREATH: Final = 0.02


@final
class Leftovers:
    """What is to be erased on a node.

    Args:
        grace: seconds for which a sealed copy is kept, from when it is seen first.
        busy: whether a move has to do with a shard.
    """

    def __init__(self, table: ProcessTable, stores: Stores, grace: float, busy: Callable[[int], bool]) -> None:
        self._table = table
        self._stores = stores
        self._grace = grace
        self._busy = busy
        self._clock = table.world.now
        self._seen: dict[int, float] = {}
        # Erasures that were begun in a former life: they are ended at once.
        self._begun: dict[int, None] = {}

    def begun(self, shard: int) -> None:
        """An erasure was begun: go on with it."""
        self._begun[shard] = None

    async def run(self) -> None:
        """Look now and then, as long as the process lives."""
        while True:
            try:
                await self._look()
            except BanyanError as error:  # of a store: it is tried again
                logger.warning("what is left of a shard cannot be erased: %s", error)
            await trio.sleep(min(PAUSE, max(self._grace / 4, 0.05)))

    async def _look(self) -> None:
        for shard in list(self._begun):
            if self._stores.opened(shard):
                # It has come back, and whoever brought it has ended the erasure.
                del self._begun[shard]
            elif not self._busy(shard) and await self._stores.erase(shard, lambda shard=shard: not self._busy(shard)):  # type: ignore[misc]  # mypy knows no lambda's default
                del self._begun[shard]
        membership = self._table.services.get(SERVICE)
        if not isinstance(membership, Membership):
            return
        turn, shards = Turn(self._clock), membership.cluster.shards
        self._leave_set_asides(shards)
        for shard in range(shards):
            if not self._is_left(shard):
                self._seen.pop(shard, None)
            elif self._clock() - self._seen.setdefault(shard, self._clock()) >= self._grace:
                await self._stores.erase(shard, lambda shard=shard: self._is_left(shard), pause=BREATH)  # type: ignore[misc]  # likewise
            await turn.over()

    def _leave_set_asides(self, shards: int) -> None:
        """What went along is listed at the new owner; a source that ended before it could say so says it now."""
        for relaxed in self._stores.here():
            writer = self._stores.writer(relaxed)
            for shard, keys in set_aside_of(self._table, writer, shards).items():
                if self._is_left(shard):
                    writer.set_asides.leave(writer, keys)

    def _is_left(self, shard: int) -> bool:
        """Whether what is here of a shard is a copy of what is another's by now."""
        membership = self._table.services.get(SERVICE)
        if self._busy(shard) or not isinstance(membership, Membership):
            return False
        home = membership.placement.home(shard)
        if not home or home in membership.placement.stores or membership.owner(shard) is None:
            return False
        return self._stores.closed(shard) and self._stores.written(shard)
