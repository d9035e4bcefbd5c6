"""What is told of a node's moves beside the list of them: counts, how long shards rested, and what seems wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, Literal, final

from runtime.kernel.counts import Counts

from .orders import VOID
from .sides import Side

Finding = tuple[Literal["bad", "warn", "note"], str, str, str, str]

# Seconds for which a shard may rest before that is worth a word.
RESTED: Final = 5.0
# Moves of one shard that were void, one after the other, before that is; and the seconds for which it is remembered.
VOIDED: Final = 3
RECENT: Final = 300.0

# What moves were given up for, in a word: by what the reason says. What is none of these is "other".
REASONS: Final = {
    "called_off": ("it was called off",),
    "full": (" is full", "cannot write to the store"),
    "damaged": ("digest of what came", "pieces of a shard"),
    "unfit": ("has no region", "of schema", "has no mover", "is draining", "and not"),
    "stays": ("cannot hand over",),
    "budget": ("over their budget", "with the cut", "the freeze took"),
    "silent": ("has said nothing", "is silent", "did not take it", "does not answer", "in the coordination store"),
    "ended": ("was started again", "has begun another move", "writer was restarted"),
    "lost": ("does not serve", "has taken it back", "by somebody else", "does not name", "has shard"),
}


def reason_of(why: str) -> str:
    """The word for what a move was given up for."""
    return next((word for word, signs in REASONS.items() if any(sign in why for sign in signs)), "other")


@final
class Tally:
    """Counts moves that end.

    Args:
        counts: of the node.
        clock: its seconds.
    """

    def __init__(self, counts: Counts, clock: Callable[[], float]) -> None:
        self._counts = counts
        self._clock = clock
        # Shards whose last moves from here were void: how often, for what, and when.
        self._void: dict[int, tuple[int, str, float]] = {}

    def ended(self, side: Side) -> None:
        """A move is over."""
        counts, here, work = self._counts, side.source == side.here, side.work
        counts.moves["void" if side.end == VOID else "out" if here else "in"] += 1
        counts.moved += work.bytes
        if work.freeze_ms is not None:
            counts.froze(work.freeze_ms / 1000)
        if side.end == VOID:
            counts.void[reason_of(side.why)] += 1
        if here and side.end == VOID:
            times = self._void.get(side.shard, (0, "", 0.0))[0]
            self._void[side.shard] = times + 1, side.why, self._clock()
        else:
            self._void.pop(side.shard, None)

    def findings(self, sides: Iterable[Side]) -> Iterator[Finding]:
        """What seems wrong."""
        now = self._clock()
        for side in sides:
            if side.rests is not None and now - side.rests >= RESTED:
                what = f"rests for {now - side.rests:.0f} s, on its way from {side.source} to {side.target}"
                why = f"the move is {side.phase}: only the shard's row decides, and it is not changed or not read"
                yield "bad", f"shard {side.shard}", what, why, f"banyan moves --of {side.here}"
        self._void = {shard: one for shard, one in self._void.items() if now - one[2] < RECENT}
        for shard, (times, why, _) in sorted(self._void.items()):
            if times >= VOIDED:
                yield "warn", f"shard {shard}", f"was to move {times} times, and did not", why, "banyan moves"
