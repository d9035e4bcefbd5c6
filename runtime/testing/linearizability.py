"""Whether a history is linearizable, with the journal as the witness of its order.

Each accepted command has its place in the journal, so nobody has to search for an order that explains what
clients saw: there is one, and it is enough to hold it against them. The order must agree with time: what was
answered before another command was sent lies before it. And each answer that left no entry (a query's, a
refusal) must be true after some entry between those that it had to know and those that it cannot have known.
Reads are placed as early as they can be, in the order in which they were sent; if that fails, no placing helps.

Pure. Moments are whole numbers that rise with each sending and each answer of a run, over all clients.
Source: Herlihy and Wing, "Linearizability"; Jepsen's checkers, which have to search (Wing and Gong, Lowe).
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import accumulate
from typing import final

# The answer's moment of a command whose sender never got one.
NEVER = 1 << 62


@final
@dataclass(frozen=True, slots=True)
class Placed:
    """A command with its entry in the journal.

    Attributes:
        what: it, for people.
        position: of its entry, from 1.
        called, answered: moments; `answered` may be NEVER.
    """

    what: str
    position: int
    called: int
    answered: int


@final
@dataclass(frozen=True, slots=True)
class Answered:
    """An answer that left no entry.

    Attributes:
        what: it, for people.
        called, answered: moments.
        fits: whether the state after so many entries would have answered the same.
    """

    what: str
    called: int
    answered: int
    fits: Callable[[int], bool]


def not_linearizable(key: str, placed: Iterable[Placed], answers: Iterable[Answered], last: int) -> list[str]:
    """What clients of one key saw and no order explains that agrees with the journal's; one text for each.

    Args:
        key: for the texts.
        placed: commands of which the sending is known.
        answers: of any clients.
        last: how many entries the key has in the end.
    """
    writes = sorted(placed, key=lambda one: one.position)
    return [*_overtaken(key, writes), *_untrue(key, writes, answers, last)]


def _overtaken(key: str, writes: list[Placed]) -> list[str]:
    """Commands that lie behind one that was sent only after they were answered."""
    wrong = []
    latest: Placed | None = None
    for one in writes:
        if latest is not None and one.answered < latest.called:
            wrong.append(
                f"linearizability: {one.what} was answered before {latest.what} was sent, and in the journal of "
                f"{key} it is entry {one.position}, after {latest.position}"
            )
        if latest is None or one.called > latest.called:
            latest = one
    return wrong


def _untrue(key: str, writes: list[Placed], answers: Iterable[Answered], last: int) -> list[str]:
    """Answers that are true at no place where they may lie."""
    ended = sorted(writes, key=lambda one: one.answered)
    ends = [one.answered for one in ended]
    # How far the journal had come, at least, when so many commands were answered.
    known = [0, *accumulate((one.position for one in ended), max)]
    begun = sorted(writes, key=lambda one: one.called)
    begins = [one.called for one in begun]
    # The first entry that may not be known when all but so many commands were sent.
    unknown = [last + 1, *accumulate((one.position for one in reversed(begun)), min)]
    read = 0
    under_way: list[tuple[int, int]] = []
    wrong = []
    for one in sorted(answers, key=lambda answer: answer.called):
        while under_way and under_way[0][0] < one.called:
            read = max(read, heapq.heappop(under_way)[1])
        low = max(read, known[bisect_left(ends, one.called)])
        high = unknown[len(begun) - bisect_right(begins, one.answered)] - 1
        place = next((position for position in range(low, high + 1) if one.fits(position)), None)
        if place is None:
            wrong.append(f"linearizability: {one.what} was true at {key} after none of entries {low} to {high}")
        else:
            heapq.heappush(under_way, (one.answered, place))
    return wrong
