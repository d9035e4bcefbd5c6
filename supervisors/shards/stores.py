"""A node's two stores, as its mover uses them for one shard: the durable one, and the relaxed one if there is one.

The durable one says what is so. So it is the first in which a shard is reserved, and the last one in which it is
settled or erased: as long as its note is there, what is in the relaxed one is known to belong to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, cast, final

import trio

from runtime.durable.fence import seal_shard
from runtime.durable.journal import Journal
from runtime.durable.writer import RELAXED, SERVICE, JournalWriter, OnDemand, writer_of
from runtime.errors import Misuse, NoProcess
from runtime.kernel.table import ProcessTable

# Seconds, and steps, after which others have their turn.
SLICE: Final = 0.002
STEPS: Final = 64
# Records that are erased in one commit.
ERASED: Final = 500


@final
class Turn:
    """Keeps a long work from holding the loop: `await turn.over()` after each step of it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since = clock()
        self._steps = 0

    async def over(self) -> None:
        """Let all others run, if it is time."""
        self._steps += 1
        # A virtual clock stands still while somebody works: there the steps count.
        if self._steps >= STEPS or self._clock() - self._since >= SLICE:
            await trio.lowlevel.checkpoint()
            self._since, self._steps = self._clock(), 0


@final
class Stores:
    """The stores of a node that keeps something; `has_stores` says whether it does."""

    def __init__(self, table: ProcessTable) -> None:
        self._table = table
        self._clock = table.world.now

    @staticmethod
    def has_stores(table: ProcessTable) -> bool:
        """Whether the node keeps anything."""
        return SERVICE in table.services

    @property
    def main(self) -> Journal:
        """The durable one."""
        return cast("Journal", self._table.services[SERVICE])

    @property
    def _on_demand(self) -> OnDemand | None:
        found = self._table.services.get(RELAXED)
        return found if isinstance(found, OnDemand) else None

    @property
    def has_relaxed(self) -> bool:
        """Whether there is, or may be, a relaxed one."""
        return self._on_demand is not None

    def here(self) -> list[bool]:
        """Which there are: False for the durable one, True for the relaxed one, if anything was ever written to it."""
        relaxed = self._on_demand
        return [False, True] if relaxed is not None and relaxed.made else [False]

    def of(self, relaxed: bool) -> Journal:
        """One of them; the relaxed one is made if there is none. Raises NoProcess: this node can have none."""
        if not relaxed:
            return self.main
        found = self._on_demand
        if found is None:
            raise NoProcess("this node has no relaxed store", RELAXED)
        return found.journal

    def writer(self, relaxed: bool) -> JournalWriter:
        """The writer of one of them, as `writer_of`."""
        return writer_of(self._table, RELAXED) if relaxed else writer_of(self._table)

    def flush(self) -> None:
        """Commit all that was handed over to the writers."""
        for relaxed in self.here():
            self.writer(relaxed).flush()

    def seal(self, shard: int, epoch: int) -> None:
        """Seal a shard in both; durable when it returns. Raises as `seal_shard`."""
        seal_shard(self.main, self._on_demand, shard, epoch)

    def settle(self, shard: int) -> None:
        """A shard that was staged is this node's."""
        for relaxed in reversed(self.here()):
            self.of(relaxed).settle(shard)

    def staged(self) -> dict[int, bytes]:
        """The notes of all that is staged; b"" for what is being erased."""
        found = self.main.staged()
        if True in self.here():
            # What only the relaxed one has is the rest of something that is over.
            found = {**dict.fromkeys(self.of(True).staged(), b""), **found}
        return found

    def closed(self, shard: int) -> bool:
        """Whether nobody can write a shard here: it is not claimed, or it is sealed."""
        fence = self.main.fence(shard)
        return not fence.epoch or fence.sealed

    def opened(self, shard: int) -> bool:
        """Whether a shard is served from here, or may be: it is claimed, and neither sealed nor staged."""
        return not self.closed(shard) and shard not in self.main.staged()

    def written(self, shard: int) -> bool:
        """Whether something of a shard is in either store."""
        return any(self.of(relaxed).fence(shard).written for relaxed in self.here())

    async def erase(self, shard: int, wanted: Callable[[], bool], *, pause: float = 0.0) -> bool:
        """Remove what is here of a shard that is staged, or closed, in slices; whether nothing is left.

        Args:
            wanted: asked before each slice; False ends it.
            pause: seconds between two slices.

        Raises: what `Carriage.erase` raises, before anything has gone.
        """
        for relaxed in reversed(self.here()):
            if self.opened(shard):  # the relaxed store alone could not tell
                raise Misuse(f"shard {shard} is served from {self.main.path}: nothing of it is erased")
            journal = self.of(relaxed)
            fence = journal.fence(shard)
            if relaxed and fence.epoch and not fence.sealed and shard not in journal.staged():
                # It was not claimed there under the last epochs, so nobody writes under this one any more.
                journal.seal(shard, fence.epoch)
            while wanted():
                if journal.erase(shard, ERASED):
                    break
                await trio.sleep(pause)
            else:
                return False
        return True

    def pages(self, relaxed: bool, shard: int) -> Iterator[list[str]]:
        """The keys of a shard in one of the stores, page by page."""
        after = ""
        while page := self.of(relaxed).shard_keys(shard, after):
            yield page
            after = page[-1]
