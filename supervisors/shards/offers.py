"""What other nodes want to give away to this one, until it is its turn: one offer for each shard, in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from .handoff_frames import Offer

# Those that may wait; a cluster has no more shards than that.
MOST: Final = 4096


@final
class Offers:
    """The offers that wait: for another move of their shard to be over here, or for one that comes in."""

    def __init__(self) -> None:
        self._waiting: dict[int, Offer] = {}

    def __contains__(self, offer: Offer) -> bool:
        return self._waiting.get(offer.shard) is offer

    def add(self, offer: Offer) -> None:
        """Have one wait; one that was made again, or by a later owner, takes the place of the former."""
        if offer.shard in self._waiting or len(self._waiting) < MOST:
            self._waiting[offer.shard] = offer

    def take(self, busy: Callable[[int], bool]) -> Offer | None:
        """The first one whose shard no move has here now: it waits no more."""
        shard = next((shard for shard in self._waiting if not busy(shard)), None)
        return self._waiting.pop(shard) if shard is not None else None

    def withdraw(self, move: str) -> None:
        """Who made this one has given the move up."""
        self._keep(lambda offer: offer.move != move)

    def forget(self, node: str) -> None:
        """What a node has offered does not hold any more: it offers it again, if it wants to."""
        self._keep(lambda offer: offer.source != node)

    def _keep(self, which: Callable[[Offer], bool]) -> None:
        self._waiting = {shard: offer for shard, offer in self._waiting.items() if which(offer)}
