"""The checkers: each finds what it is there for, and nothing in a history that is in order."""

from __future__ import annotations

from runtime.testing import (
    Applied,
    CommandId,
    Conserved,
    History,
    doubled,
    left_over,
    lost,
    out_of_order,
    unbalanced,
    unequal_replies,
)


def applied(number: int, sequence: int, reply: object = "ok", sender: str = "ann") -> Applied:
    return Applied(CommandId("k", sender, number), sequence, reply)


def history(*answers: tuple[int, object]) -> History:
    kept = History()
    for number, reply in answers:
        kept.acked("k", "ann", number, reply)
    return kept


GOOD = [applied(1, 1), applied(5, 2, "two", "bob"), applied(2, 3, "two")]


def test_a_history_in_order_has_no_findings() -> None:
    """Answers that the journal holds, once, in order, with equal replies, are fine; so are commands nobody heard of."""
    told = history((1, "ok"), (2, "two"), (1, "ok"))
    found = [*lost(told, GOOD), *doubled(GOOD), *unequal_replies(told, GOOD), *out_of_order(GOOD)]
    assert (found, told.answers) == ([], 3)


def test_an_answered_command_that_is_not_there_is_lost() -> None:
    """An answer without an entry is found."""
    assert lost(history((3, "ok")), GOOD) == ["lost: number 3 of ann to k was answered and is not in the journal"]


def test_a_command_with_two_entries_is_doubled() -> None:
    """Two entries of one command are found without anybody having heard of it."""
    assert doubled([*GOOD, applied(1, 4)]) == ["doubled: number 1 of ann to k was applied 2 times"]


def test_replies_that_differ_are_found() -> None:
    """A reply that is not the journal's, and one that is not that of before, are found."""
    assert unequal_replies(history((2, "two"), (2, "three")), GOOD) == [
        "reply: number 2 of ann to k was answered 'three', and also 'two'"
    ]
    assert len(unequal_replies(history((9, "a"), (9, "b")), GOOD)) == 1


def test_a_sender_out_of_order_is_found() -> None:
    """A lower number behind a higher one of the same sender is found."""
    assert out_of_order([applied(2, 1), applied(1, 2)]) == ["order: number 1 of ann to k is entry 2, 2 was entry 1"]


def test_what_is_not_conserved_is_found() -> None:
    """More or less than was put in is found."""
    assert unbalanced([Conserved("chips", 10, 10), Conserved("chips", 10, 9)]) == [
        "conservation: 9 chips are there, 10 were put in"
    ]


def test_what_is_left_over_is_named() -> None:
    """Tasks and processes that outlive their node are named."""
    assert left_over(["timer"], ["<1.2>"]) == ["left: task timer", "left: process <1.2>"]


def test_moments_rise_over_all_clients() -> None:
    """Each sending and each answer has a moment of its own, in order."""
    kept = History()
    one, two = kept.called("k", "ann", 1, "x"), kept.called("k", "bob", 0, "y")
    kept.answered(two, 7)
    kept.answered(one, refused="no")
    assert (one.called, two.called, two.answered, one.answered) == (1, 2, 3, 4)
    assert (two.reply, two.refused, one.reply, one.refused) == (7, None, None, "no")
    assert kept.operations == [one, two]
