"""Recorded hands held against hands as played."""

from __future__ import annotations

import re
from dataclasses import replace

from game.history import parse
from game.recorded import RecordedHand, compare, play

from .samples import ALL, ALL_IN, FOLDED, THREE_WAYS


def only(text: str) -> RecordedHand:
    (hand,) = parse(text, "made.txt")
    return hand


def test_true_outcomes_agree() -> None:
    """All samples agree with how PokerKit plays them, to the hundredth."""
    hands = parse(ALL, "made.txt")
    assert [compare(hand, play(hand)) for hand in hands] == [[], [], [], []]
    assert [play(hand).payoffs for hand in hands] == [
        (8_500, -1_000, -7_500),
        (-30_000, -10_025, 40_025),
        (-50, 50),
        (-500, 168, 166, 166),
    ]


def test_a_false_amount_is_a_difference() -> None:
    """An outcome that the rules do not give is told in words, not raised."""
    told = only(FOLDED.replace("collected 160.0", "collected 170.0"))
    assert compare(told, play(told)) == [
        "hand 7001: Ann collected: 170 in the text, 160 as played",
        "hand 7001: Ann in all: 95 in the text, 85 as played",
    ]


def test_a_false_winner_is_a_difference() -> None:
    """Another winner than the rules give shows with both players."""
    told = only(FOLDED.replace("Ann collected 160.0", "Zoë K collected 160.0"))
    assert compare(told, play(told)) == [
        "hand 7001: Ann collected: 0 in the text, 160 as played",
        "hand 7001: Ann in all: -75 in the text, 85 as played",
        "hand 7001: Zoë K collected: 160 in the text, 0 as played",
        "hand 7001: Zoë K in all: 85 in the text, -75 as played",
    ]


def test_pot_rake_return_and_summary_are_compared() -> None:
    """The summary's numbers and the uncalled bet count as much as the payments."""
    told = only(FOLDED.replace("Total pot 160 | Rake 0", "Total pot 161 | Rake 1"))
    assert compare(told, play(told)) == [
        "hand 7001: total pot: 161 in the text, 160 as played",
        "hand 7001: rake: 1 in the text, 0 as played",
    ]
    told = only(FOLDED.replace("Uncalled bet (60.5)", "Uncalled bet (60)"))
    assert compare(told, play(told)) == [
        "hand 7001: Ann got back uncalled: 60 in the text, 60.5 as played",
        "hand 7001: Ann in all: 84.5 in the text, 85 as played",
    ]
    told = only(ALL_IN.replace("won (700.25)", "won (700.24)"))
    assert compare(told, play(told)) == ["hand 7002: Ann won by the summary: 700.24 in the text, 700.25 as played"]


def test_a_pot_split_three_ways_agrees_within_a_hundredth_a_winner() -> None:
    """Thirds cannot be written in hundredths: the odd ones are allowed for, and nothing more."""
    told = only(THREE_WAYS)
    assert (told.inexact, told.collected) == (True, (0, 1_166, 1_166, 1_166))
    assert play(told).collected == (0, 1_168, 1_166, 1_166)
    told = only(THREE_WAYS.replace("Bob collected 11.666666666666666", "Bob collected 11.63"))
    assert len(compare(told, play(told))) == 2


def test_another_hands_result_is_a_difference() -> None:
    """The result of another hand does not count as this one's."""
    told = only(FOLDED)
    assert compare(told, replace(play(told), hand=1)) == [
        f"hand 7001: another hand was played: 1 with {', '.join(told.players)}"
    ]


def test_no_card_is_in_the_repr() -> None:
    """A recorded hand may be in replay: its repr hides the cards."""
    assert not re.search(r"'(?:[2-9TJQKA][cdhs])+'", repr(only(FOLDED)))
