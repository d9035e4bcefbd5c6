"""How often a node has met its limits and faults: numbers that only grow, for whoever looks on from outside.

Each is counted where it happens, off the paths that everything takes. `observe.metrics` reads them.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, final

# Upper bounds of what the seconds for which a shard rests are sorted into; what is longer is in none.
FREEZES: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)


@final
class Counts:
    """Of one node, from its start on.

    Attributes:
        crashes: processes that ended in disorder.
        restarts: restarts that supervisors have allowed; `gave_up`: supervisors that had used theirs up.
        set_aside: commands that crashed their process too often.
        mailboxes_full: messages that met a full mailbox.
        moves: shards that were moved, by how it ended: "out", "in", "void"; `moved`: bytes of their records.
        void: moves that were given up, by a word for why.
        freezes: shards that rested for a move, by the least of FREEZES within which they did; `frozen`: seconds in all.
        refused: frames, connections and so on that were refused, by what and by a word for why.
    """

    __slots__ = (
        *("crashes", "gave_up", "mailboxes_full", "refused", "restarts", "set_aside"),
        *("freezes", "frozen", "moved", "moves", "void"),
    )

    def __init__(self) -> None:
        self.crashes = 0
        self.restarts = 0
        self.gave_up = 0
        self.set_aside = 0
        self.mailboxes_full = 0
        self.moves: Counter[str] = Counter()
        self.moved = 0
        self.void: Counter[str] = Counter()
        self.freezes: Counter[float] = Counter()
        self.frozen = 0.0
        self.refused: Counter[tuple[str, str]] = Counter()

    def froze(self, seconds: float) -> None:
        """A shard has rested for so long."""
        self.freezes[next((bound for bound in FREEZES if seconds <= bound), float("inf"))] += 1
        self.frozen += seconds
