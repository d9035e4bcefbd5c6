"""Which node should have which shard: what falls to whom, and what should move. Pure.

Everybody looks at the same rows and comes to the same answer, so nobody has to decide for the others.

What a node has to carry is the sum of what its shards weigh: one each, and more by what they do and hold (`Load`).
A shard moves only if the one that gives it carries more than the one that gets it even after that, and by more than
measuring may be wrong. With each move the sum of squares of what all carry falls, so a plan comes to an end, and
nothing moves to and fro as long as the load stays as it is.

Source: consistent hashing with bounded loads; Slicer's weighted moves, each by what it gains.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, final

# What weighs as much as that there is a shard at all.
COMMANDS: Final = 5.0  # a second
BYTES: Final = 32 << 20
# Above every shard's number.
MAX_SHARD: Final = 1 << 16
# The part of what a node carries on average by which two may differ: measured loads go up and down.
SLACK: Final = 0.1


@final
@dataclass(frozen=True, slots=True)
class Load:
    """What a shard, or a node with all of its shards, has to do and to hold.

    Attributes:
        commands: a second, as measured of late; from 0.
        bytes: of records in its stores; from 0.
    """

    commands: float = 0.0
    bytes: int = 0

    @property
    def weight(self) -> float:
        """In shards that do nothing and hold nothing."""
        return self.commands / COMMANDS + self.bytes / BYTES


IDLE: Final = Load()
NO_LOADS: Final[Mapping[str, Load]] = MappingProxyType({})
NO_MOVES: Final[Mapping[int, str]] = MappingProxyType({})


def share(owners: Mapping[int, str], free: Collection[int], nodes: Sequence[str]) -> dict[int, str]:
    """To which node each free shard falls: to the one that has the fewest then, by name among equals.

    All who look at the same rows come to the same answer.

    Args:
        owners: the shards that are not free, by number; those of others than `nodes` do not count.
        free: shards that have no owner now.
        nodes: who may own any, in order.
    """
    load = Counter(dict.fromkeys(nodes, 0))
    for owner in owners.values():
        if owner in load:
            load[owner] += 1
    given: dict[int, str] = {}
    for shard in sorted(free):
        if not nodes:
            break
        given[shard] = least = min(nodes, key=lambda name: load[name])
        load[least] += 1
    return given


def excess(owners: Mapping[int, str], free: int, nodes: Sequence[str], me: str, fixed: Collection[int]) -> list[int]:
    """Which of a node's shards are too many, so that all get the same number, or one more; the last ones first.

    Args:
        owners, nodes: as for `share`.
        free: how many shards are free.
        me: the node.
        fixed: those that it cannot give up.
    """
    mine = sorted(shard for shard, owner in owners.items() if owner == me)
    load = Counter(owner for owner in owners.values() if owner in nodes)
    if me not in nodes or len(nodes) < 2:
        return []
    least, more = divmod(sum(load.values()) + free, len(nodes))
    # Those that have most keep one more, so that the fewest shards move.
    rank = sorted(nodes, key=lambda name: (-load[name], name)).index(me)
    surplus = len(mine) - (least + (rank < more))
    return [shard for shard in reversed(mine) if shard not in fixed][: max(surplus, 0)]


def moves_for(
    owners: Mapping[int, str],
    loads: Mapping[int, Load],
    nodes: Sequence[str],
    draining: Collection[str],
    me: str,
    limit: int,
    *,
    others: Mapping[str, Load] = NO_LOADS,
    moving: Mapping[int, str] = NO_MOVES,
    fixed: Collection[int] = (),
) -> list[tuple[int, str]]:
    """What a node should move away now, the most urgent first, and where to.

    A node that is draining gives all it has, the heaviest first, each to who carries least then. While one has
    something to give nobody else moves anything. Otherwise shards go from who carries most to who carries least, from
    the next one to the next, and so on, until the two differ by no more than a shard and `SLACK`; each time the one
    that brings them closest.

    Args:
        owners: of all shards that have one.
        loads: of this node's own shards; those that are missing do nothing. And of those that it gave away of late,
            which are not in what their new owners say yet.
        nodes: who may own shards, in order; draining ones too.
        draining: those that are given nothing.
        me: this node.
        limit: at most so many.
        others: what each node has to carry in sum, so that each of its shards is taken for the average one.
        moving: where those shards go that are moving already.
        fixed: others that cannot move, because nothing of them is written.
    """
    takers = [name for name in nodes if name not in draining]
    if not takers or limit < 1:
        return []
    plan = _Plan(owners, loads, takers, me, others, moving, fixed)
    leaving = [name for name in nodes if name in draining and plan.shards.get(name)]
    moves = plan.emptied(leaving) if leaving else plan.levelled(me, limit)
    return [(shard, target) for shard, source, target in moves if source == me][:limit]


@final
class _Plan:
    """What all nodes carry, while moves are thought of."""

    def __init__(
        self,
        owners: Mapping[int, str],
        loads: Mapping[int, Load],
        takers: Sequence[str],
        me: str,
        others: Mapping[str, Load],
        moving: Mapping[int, str],
        fixed: Collection[int],
    ) -> None:
        self._takers = takers
        self._fixed = {*fixed, *moving}
        counts = Counter(owners.values())
        average = {name: 1 + others.get(name, IDLE).weight / count for name, count in counts.items()}
        self._weights = {
            shard: 1 + loads.get(shard, IDLE).weight if owner == me or shard in loads else average[owner]
            for shard, owner in owners.items()
        }
        self.shards: dict[str, set[int]] = {name: set() for name in (*takers, *counts, *moving.values())}
        for shard, owner in owners.items():
            self.shards[moving.get(shard, owner)].add(shard)
        self._carried = {
            name: sum(self._weights[shard] for shard in sorted(held)) for name, held in self.shards.items()
        }

    def emptied(self, leaving: Sequence[str]) -> list[tuple[int, str, str]]:
        """All that the nodes which leave have, as (shard, from, to)."""
        moves = []
        for source in leaving:
            for shard in sorted(self.shards[source] - self._fixed, key=lambda one: (-self._weights[one], one)):
                moves.append(self._move(shard, source, min(self._takers, key=self._carried.__getitem__)))
        return moves

    def levelled(self, me: str, limit: int) -> list[tuple[int, str, str]]:
        """A node's moves, if it carries more than the average, to one that carries less, as (shard, from, to).

        Each node takes part with one other only: so what it gives or gets does not hang on what others do meanwhile.
        """
        average = sum(self._carried[name] for name in self._takers) / len(self._takers)
        extra = average - sum(len(self.shards[name]) for name in self._takers) / len(self._takers)
        # A little less than a shard, so that the few bytes of idle ones do not keep two more here than there.
        least_gain = 0.9 + SLACK * extra
        free = sorted(self._takers, key=self._carried.__getitem__)
        moves: list[tuple[int, str, str]] = []
        while len(free) > 1:
            source, target = free.pop(), free[0]
            by_weight = sorted((self._weights[shard], shard) for shard in self.shards[source] - self._fixed)
            while len(moves) < limit and self._carried[source] > average > self._carried[target]:
                at = self._best(by_weight, self._carried[source] - self._carried[target], least_gain)
                if at is None:
                    break
                if source != me:
                    free.remove(target)
                    break
                moves.append(self._move(by_weight.pop(at)[1], source, target))
            if source == me:
                break
        return moves

    @staticmethod
    def _best(by_weight: Sequence[tuple[float, int]], apart: float, least_gain: float) -> int | None:
        """Where the shard is that brings two nodes closest together: its weight is next to half of their distance."""
        below = bisect_right(by_weight, (min(apart / 2, apart - least_gain), MAX_SHARD)) - 1
        found = [below] if below >= 0 else []
        if below + 1 < len(by_weight):
            found.append(bisect_right(by_weight, (by_weight[below + 1][0], MAX_SHARD)) - 1)
        fitting = [at for at in found if apart - by_weight[at][0] >= least_gain]
        return max(fitting, key=lambda at: by_weight[at][0] * (apart - by_weight[at][0]), default=None)

    def _move(self, shard: int, source: str, target: str) -> tuple[int, str, str]:
        weight = self._weights[shard]
        self._fixed.add(shard)  # nothing moves twice in one plan
        self.shards[source].remove(shard)
        self.shards[target].add(shard)
        self._carried[source] -= weight
        self._carried[target] += weight
        return shard, source, target
