"""What a person at a table reads and types: lines into frames, views into lines."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from game.play_words import Unclear, is_out, narrate, offer, picture, seat_of, seats, turn_of, understand

View = dict[str, Any]


def seat(player: str, stack: int, bet: int = 0, **more: Any) -> dict[str, Any]:
    calm = {"folded": False, "all_in": False, "hole": "", "leaving": False, "waiting": False}
    return {"player": player, "stack": stack, "bet": bet, **calm, **more}


def legal(to_call: int = 100, least: int | None = 200, most: int | None = 900) -> dict[str, Any]:
    return {
        "player": "ann",
        "may_fold": to_call > 0,
        "to_call": to_call,
        "min_raise_to": least,
        "max_raise_to": most,
    }


def view(**more: Any) -> View:
    """Ann against bob, who has bet 100 preflop; ann is to act."""
    return {
        "sequence": 5,
        "viewer": "ann",
        "blinds": [50, 100],
        "hand": 3,
        "street": "preflop",
        "board": [],
        "pot": 150,
        "actor": "ann",
        "legal": legal(),
        "button": "ann",
        "seats": [seat("ann", 850, 50, hole="AhKd"), seat("bob", 900, 100)],
        "result": None,
        **more,
    }


def between(result: Any = None, **more: Any) -> View:
    """The same table between hands."""
    calm = {"hand": None, "street": "", "pot": 0, "actor": None, "legal": None, "result": result}
    return view(**{"sequence": 9, "seats": [seat("ann", 1100), seat("bob", 900)], **calm, **more})


def result(shown: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    won = {"players": ["ann", "bob"], "collected": [200, 0], "holes": ["AhKd", "2c2d"], "board": []}
    return {"hand": 3, "shown": list(shown), **won, **more}


# -- typing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("fold", {"action": "fold"}),
        ("F", {"action": "fold"}),
        ("call", {"action": "call"}),
        ("raise 4", {"action": "raise", "to": 400}),
        ("  Raise   4.5 ", {"action": "raise", "to": 450}),
        ("bet 2.05", {"action": "raise", "to": 205}),
        ("all-in", {"action": "raise", "to": 900}),
        ("all in", {"action": "raise", "to": 900}),
    ],
)
def test_a_typed_line_is_an_action(line: str, meant: dict[str, Any]) -> None:
    """Words and their short forms become the fields of a frame, amounts whole hundredths."""
    assert understand(line, view(), "ann") == {"hand": 3, **meant}


@pytest.mark.parametrize(
    ("line", "now", "said"),
    [
        ("dance", view(), "wanted one of: fold, "),
        ("", view(), "wanted one of: fold, "),
        ("raise", view(), "wanted an amount of chips after raise"),
        ("raise ten", view(), "wanted an amount of chips after raise"),
        ("raise ٣", view(), "wanted an amount of chips after raise"),
        ("raise 1e3", view(), "wanted an amount of chips after raise"),
        ("raise 1", view(), "wanted a raise to 2 to 9"),
        ("raise 10", view(), "wanted a raise to 2 to 9"),
        ("raise 2", view(legal=legal(least=900)), "wanted a raise to 9"),
        ("raise 2", view(legal=legal(least=None, most=None)), "nobody can raise now"),
        ("check", view(), "there is a bet: call 1, or fold"),
        ("fold", view(legal=legal(to_call=0)), "a check is free: check"),
        ("call", None, "the table has not been shown yet"),
        ("call", view(legal=None, actor="bob"), "it is not your turn: bob is to act"),
        ("call", between(), "no hand is being played"),
        ("call", between(seats=[seat("bob", 900)]), "you have no seat"),
        ("call", view(legal=None, seats=[seat("ann", 850, folded=True)], actor="bob"), "you are not in this hand"),
    ],
)
def test_what_cannot_be_done_is_told(line: str, now: View | None, said: str) -> None:
    """A line that means nothing here says what was wanted."""
    with pytest.raises(Unclear) as caught:
        understand(line, now, "ann")
    assert str(caught.value).startswith(said)


def test_all_in_is_a_call_where_nobody_may_raise() -> None:
    """Who has less than the bet goes all-in by calling it."""
    assert understand("all-in", view(legal=legal(least=None, most=None)), "ann")["action"] == "call"


@given(st.text(max_size=40))
def test_no_line_does_harm(line: str) -> None:
    """Whatever is typed is an action that the table offers, or unclear."""
    for prefix in ("", "raise ", "fold "):
        try:
            meant = understand(prefix + line, view(), "ann")
        except Unclear:
            continue
        assert meant["action"] in ("fold", "call") or 200 <= meant["to"] <= 900


# -- reading -------------------------------------------------------------------------------------------


def test_the_offer_says_what_may_be_done() -> None:
    """Whose turn it is sees the price of a call and the bounds of a raise; nobody else sees an offer."""
    assert offer(view(), "ann") == "your turn: fold, call 1, raise 2 to 9"
    assert offer(view(legal=legal(0, 900, 900)), "ann") == "your turn: check, raise 9"
    assert offer(view(legal=legal(least=None, most=None)), "ann") == "your turn: fold, call 1"
    assert offer(view(), "bob") is None
    assert offer(view(legal=None), "ann") is None


def after(bet: int, stack: int, **more: Any) -> View:
    """The view after ann's action: bob's turn."""
    acted = seat("ann", stack, bet, hole="AhKd", **more)
    return view(sequence=6, actor="bob", legal=None, seats=[acted, seat("bob", 900, 100)])


@pytest.mark.parametrize(
    ("now", "line"),
    [
        (after(50, 850, folded=True), "ann folds"),
        (after(100, 800), "ann calls 0.5"),
        (after(300, 600), "ann raises to 3"),
        (after(900, 0, all_in=True), "ann raises to 9, all-in"),
    ],
)
def test_an_action_is_told_from_the_chips(now: View, line: str) -> None:
    """What the player to act has done is told from what changed."""
    assert narrate(view(), now, "ann") == [line]


def test_a_street_that_came_is_told() -> None:
    """A call that ends the betting brings the flop; bets are in the middle then."""
    now = after(0, 800) | {"street": "flop", "board": ["2c", "3d", "4h"], "pot": 200}
    assert narrate(view(), now, "ann") == ["ann calls 0.5", "flop: 2c 3d 4h, pot 2"]


def test_a_check_and_a_bet_are_told() -> None:
    """With no bet to match, an action is a check or a bet."""
    before = view(seats=[seat("ann", 850), seat("bob", 900)])
    assert narrate(before, after(0, 850), "ann") == ["ann checks"]
    assert narrate(before, after(200, 650), "ann") == ["ann bets 2"]


def test_a_hand_that_was_folded_is_told() -> None:
    """The last fold ends the hand: nobody shows, one wins, and the player hears what they have."""
    before = view(actor="bob", legal=None)
    assert narrate(before, between(result()), "ann") == ["bob folds", "ann wins 2", "you have 11"]


def test_a_showdown_is_told() -> None:
    """The last call ends the hand: the rest of the board, who shows what, and who wins."""
    board = ["2s", "3s", "4s", "5d", "9d"]
    now = between(result(("bob", "ann"), board=board))
    assert narrate(view(), now, "ann") == [
        "ann calls 0.5",
        "flop: 2s 3s 4s",
        "turn: 2s 3s 4s 5d",
        "river: 2s 3s 4s 5d 9d",
        "bob shows 2c 2d",
        "ann shows Ah Kd",
        "ann wins 2",
        "you have 11",
    ]


def test_a_new_hand_is_told_once() -> None:
    """A hand begins with its blinds, its button and the player's own cards."""
    begun = ["hand 3, blinds 0.5/1, ann has the button", "you are dealt Ah Kd"]
    assert narrate(between(), view(sequence=10), "ann") == begun
    assert narrate(view(), view(), "ann") == []


def test_an_old_hand_is_not_told_with_the_chips_of_the_next() -> None:
    """If the next hand has begun when the end of the last is seen, each is told by itself."""
    later = view(sequence=12, hand=4, result=result(), seats=[seat("ann", 500, 600), seat("bob", 300, 600)])
    assert narrate(view(actor="bob", legal=None), later, "ann") == [
        "bob folds",
        "ann wins 2",
        "you have 5",
        "hand 4, blinds 0.5/1, ann has the button",
    ]


def test_who_comes_and_goes_is_told() -> None:
    """Seats that are taken and given up are told, the player's own as theirs."""
    empty, full = between(seats=[]), between(seats=[seat("ann", 100), seat("bob", 200)])
    assert narrate(empty, full, "ann") == ["you sit down with 1", "bob sits down with 2"]
    assert narrate(full, empty, "bob") == ["ann leaves", "bob leaves"]


def test_the_whole_table_is_shown_to_who_knows_nothing() -> None:
    """Without a view before, the table is shown as it is."""
    assert narrate(None, between(), "ann") == ["at the table: ann (11), bob (9)"]
    assert picture(between(seats=[]), "ann") == ["at the table: nobody"]
    assert picture(view(board=["2c", "3d", "4h"]), "ann") == [
        "hand 3, blinds 0.5/1, ann has the button",
        "you are dealt Ah Kd",
        "board 2c 3d 4h, pot 1.5",
        "  ann (you) *  8.5  bet 0.5  to act  Ah Kd",
        "  bob  9  bet 1",
    ]
    assert seats(view(actor="bob", seats=[seat("ann", 0, all_in=True), seat("bob", 1, folded=True)]), "eve") == [
        "ann *  0  all-in",
        "bob  0.01  to act",
    ]


def test_who_was_not_dealt_in_waits() -> None:
    """A seat that is not in the hand has not folded: it waits, if it has chips; one that is given up is leaving."""
    there = [seat("ann", 5, waiting=True), seat("bob", 0, waiting=True), seat("cyd", 7, 1, leaving=True)]
    now = view(actor="cyd", legal=None, seats=[*there, seat("dov", 9, folded=True, leaving=True)])
    assert seats(now, "eve") == [
        "ann *  0.05  waits for the next hand",
        "bob  0  out of chips",
        "cyd  0.07  bet 0.01  to act, leaving",
        "dov  0.09  folded, leaving",
    ]
    with pytest.raises(Unclear, match="you were not dealt in: wait for the next hand"):
        understand("call", now, "ann")


def test_who_can_play_no_more_is_out() -> None:
    """No seat is out; so is an empty one between hands, but not one that is all-in."""
    assert is_out(view(), "eve")
    assert is_out(between(seats=[seat("ann", 0)]), "ann")
    assert not is_out(view(seats=[seat("ann", 0, 900, all_in=True)]), "ann")
    assert (seat_of(view(), "eve"), turn_of(view()), turn_of(between())) == (None, (3, 5), (0, 9))
