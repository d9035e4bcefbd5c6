"""Histories held against a journal's order: what is explained by it, and what is not."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest

from runtime.testing import NEVER, Answered, Placed, not_linearizable


def at(*positions: int) -> Callable[[int], bool]:
    """True after any of these entries."""
    return lambda position: position in positions


def test_an_order_that_agrees_with_time_is_fine() -> None:
    """Commands that overlap may lie in any order; one that was never answered lies anywhere."""
    placed = [Placed("a", 2, 1, 4), Placed("b", 1, 2, 3), Placed("c", 3, 2, NEVER), Placed("d", 4, 5, 6)]
    assert not_linearizable("k", placed, [], 4) == []


def test_a_command_behind_a_later_one_is_found() -> None:
    """What was answered before another was sent must not lie after it."""
    assert not_linearizable("k", [Placed("a", 2, 1, 2), Placed("b", 1, 3, 4)], [], 2) == [
        "linearizability: a was answered before b was sent, and in the journal of k it is entry 2, after 1"
    ]


@pytest.mark.parametrize(
    ("true_after", "explained"),
    [
        (at(0), False),  # the first command was answered before
        (at(1), True),
        (at(2), True),  # under way at the same time
        (at(3), False),  # sent only afterwards
        (at(), False),
    ],
)
def test_an_answer_is_true_between_what_it_must_and_what_it_cannot_know(
    true_after: Callable[[int], bool], explained: bool
) -> None:
    """A read sees every command that was answered before it was sent, and none that was sent after its answer."""
    placed = [Placed("a", 1, 1, 2), Placed("b", 2, 4, 5), Placed("c", 3, 8, 9)]
    found = not_linearizable("k", placed, [Answered("read", 3, 6, true_after)], 3)
    assert found == ([] if explained else ["linearizability: read was true at k after none of entries 1 to 2"])


def test_reads_do_not_go_back() -> None:
    """A read that was sent after another's answer sees no less than that one."""
    reads = [Answered("new", 1, 2, at(2)), Answered("old", 3, 4, at(1))]
    assert not_linearizable("k", [], reads, 2) == ["linearizability: old was true at k after none of entries 2 to 2"]
    overlapping = [Answered("new", 1, 3, at(2)), Answered("old", 2, 4, at(1))]
    assert not_linearizable("k", [], overlapping, 2) == []


def _explained(placed: list[Placed], reads: list[Answered], last: int) -> bool:
    """The same question, asked of every possible placing."""
    for places in itertools.product(range(last + 1), repeat=len(reads)):
        if not all(read.fits(place) for read, place in zip(reads, places, strict=True)):
            continue
        spans = [(2 * one.position, one.called, one.answered) for one in placed]
        spans += [(2 * place + 1, one.called, one.answered) for place, one in zip(places, reads, strict=True)]
        if all(not (a[2] < b[1] and a[0] > b[0]) for a in spans for b in spans):
            return True
    return False


def test_it_agrees_with_a_search_through_all_orders() -> None:
    """On thousands of small histories the answer is that of trying every placing."""
    rng = random.Random(5)
    answers = {True: 0, False: 0}
    for _ in range(3000):
        moments = rng.sample(range(20), 12)
        spans = [tuple(sorted(moments[2 * n : 2 * n + 2])) for n in range(6)]
        placed = [Placed(f"w{n}", n + 1, *spans[n]) for n in range(3)]
        reads = [Answered(f"r{n}", *spans[n], at(*rng.sample(range(4), 2))) for n in range(3, 6)]
        explained = not not_linearizable("k", placed, reads, 3)
        assert explained == _explained(placed, reads, 3)
        answers[explained] += 1
    assert min(answers.values()) > 300
