"""The adapter over PokerKit: turns, refusals, all-ins, payment and what may be seen."""

from __future__ import annotations

import random
import re
import warnings
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from game.hand import (
    DECK,
    Action,
    BadDeal,
    CheckOrCall,
    Deal,
    Fold,
    Hand,
    IllegalAction,
    Legal,
    RaiseTo,
    Reason,
    Result,
    chips,
    deal_from,
    shuffle_deck,
)
from runtime.errors import Misuse

from .play import some_action, some_deal

BOARD = ("Kh", "8d", "4s", "3c", "2h")


@pytest.fixture(autouse=True)
def no_warning() -> Iterator[None]:
    """PokerKit warns when it is driven wrongly; here that is a failure, however the tests are run."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def three(stacks: tuple[int, ...] = (10_000, 10_000, 10_000)) -> Deal:
    return Deal(5, ("ann", "bob", "cy"), stacks, (50, 100), ("AhAd", "QcQd", "7s6s"), BOARD)


def two(stacks: tuple[int, ...] = (10_000, 10_000)) -> Deal:
    return Deal(6, ("ann", "bob"), stacks, (50, 100), ("AhAd", "QcQd"), BOARD)


def played(deal: Deal, *actions: Action) -> Hand:
    return Hand(deal, actions)


def facts(hand: Hand) -> tuple[object, ...]:
    """Everything that a hand says about itself."""
    return (
        (hand.actions, hand.actor, hand.legal(), hand.stacks, hand.bets, hand.pot, hand.board, hand.street),
        (hand.finished, hand.result() if hand.finished else None),
        [hand.view(viewer) for viewer in (None, *hand.deal.players)],
    )


def test_small_blind_comes_first_in_position_and_the_next_but_one_opens() -> None:
    """With three players the button opens and the small blind acts first after the flop."""
    hand = Hand(three())
    assert (hand.deal.button, hand.actor, hand.bets, hand.pot) == ("cy", "cy", (50, 100, 0), 150)
    for player in ("cy", "ann", "bob"):
        hand.act(player, CheckOrCall())
    assert (hand.actor, hand.street, hand.board) == ("ann", "flop", ("Kh", "8d", "4s"))


def test_between_two_the_small_blind_is_the_button() -> None:
    """Heads-up, the button posts the small blind, opens before the flop and acts last after it."""
    hand = Hand(two((9_000, 10_000)))
    assert (hand.deal.button, hand.actor, hand.bets, hand.stacks) == ("ann", "ann", (50, 100), (8_950, 9_900))
    hand.act("ann", CheckOrCall())
    hand.act("bob", CheckOrCall())
    assert (hand.actor, hand.street) == ("bob", "flop")


def test_legal_names_the_price_and_the_bounds_of_a_raise() -> None:
    """The big blind may check or raise by at least a big blind, up to its stack, but not fold for free."""
    hand = played(three(), CheckOrCall(), CheckOrCall())
    assert hand.legal() == Legal("bob", may_fold=False, to_call=0, min_raise_to=200, max_raise_to=10_000)
    hand.act("bob", RaiseTo(400))
    assert hand.legal() == Legal("cy", may_fold=True, to_call=300, min_raise_to=700, max_raise_to=10_000)


@pytest.mark.parametrize(
    ("player", "action", "reason"),
    [
        ("ann", Fold(), "not_your_turn"),
        ("eve", Fold(), "unknown_player"),
        ("", CheckOrCall(), "unknown_player"),
        ("bob", Fold(), "nothing_to_call"),
        ("bob", RaiseTo(199), "bad_amount"),
        ("bob", RaiseTo(10_001), "bad_amount"),
        ("bob", RaiseTo(0), "bad_amount"),
        ("bob", RaiseTo(-500), "bad_amount"),
        ("bob", RaiseTo(10**30), "bad_amount"),
        ("bob", RaiseTo(300.5), "bad_amount"),  # type: ignore[arg-type]  # a client may send it
        ("bob", RaiseTo(float("nan")), "bad_amount"),  # type: ignore[arg-type]  # a client may send it
        ("bob", RaiseTo(True), "bad_amount"),
    ],
)
def test_a_refused_action_changes_nothing(player: str, action: Action, reason: Reason) -> None:
    """Each refusal has its reason, says who tried what, and leaves the hand as it was."""
    hand = played(three(), CheckOrCall(), CheckOrCall())
    before = facts(hand)
    for attempt in (hand.check, hand.act):
        with pytest.raises(IllegalAction) as caught:
            attempt(player, action)
        refused = caught.value
        assert (refused.reason, refused.hand, refused.player, refused.action) == (reason, 5, player, action)
        assert re.fullmatch(r"hand 5: wanted .+, got .+: .+", str(refused))
        assert facts(hand) == before


def test_a_legal_action_passes_the_check_without_being_done() -> None:
    """`check` lets a legal action pass and changes nothing."""
    hand = Hand(three())
    before = facts(hand)
    for action in (Fold(), CheckOrCall(), RaiseTo(200)):
        hand.check("cy", action)
    assert facts(hand) == before


def test_a_short_all_in_closes_the_raising() -> None:
    """Who has acted may not raise again after an all-in of less than a full raise: call or fold."""
    hand = played(three((10_000, 1_100, 10_000)), RaiseTo(1_000), Fold(), RaiseTo(1_100))
    assert hand.legal() == Legal("cy", may_fold=True, to_call=100, min_raise_to=None, max_raise_to=None)
    with pytest.raises(IllegalAction, match="call or fold") as caught:
        hand.act("cy", RaiseTo(5_000))
    assert caught.value.reason == "cannot_raise"


def test_an_ended_hand_takes_no_action() -> None:
    """After the end every action is refused as hand_over."""
    hand = played(three(), Fold(), Fold())
    with pytest.raises(IllegalAction) as caught:
        hand.act("bob", CheckOrCall())
    assert (caught.value.reason, hand.actor, hand.legal()) == ("hand_over", None, None)


def test_a_fold_of_all_others_returns_what_was_not_called() -> None:
    """The last one collects the called chips without showing; the uncalled part is told apart."""
    hand = played(three(), RaiseTo(300), Fold(), Fold())
    assert hand.result() == Result(
        hand=5,
        players=("ann", "bob", "cy"),
        payoffs=(-50, -100, 150),
        stacks=(9_950, 9_900, 10_150),
        collected=(0, 0, 250),
        uncalled=(0, 0, 200),
        pot=250,
        shown=(),
        holes=("AhAd", "QcQd", "7s6s"),
        board=(),
    )
    assert hand.result().winners == {"cy": 250}


def test_an_all_in_runs_the_board_out() -> None:
    """When nobody can bet any more the rest of the deal's board comes at once and all hands are shown."""
    hand = played(two((4_000, 10_000)), RaiseTo(4_000), CheckOrCall())
    assert (hand.finished, hand.board, hand.street, hand.pot) == (True, BOARD, "river", 0)
    assert hand.result() == Result(
        hand=6,
        players=("ann", "bob"),
        payoffs=(4_000, -4_000),
        stacks=(8_000, 6_000),
        collected=(8_000, 0),
        uncalled=(0, 0),
        pot=8_000,
        shown=("ann", "bob"),
        holes=("AhAd", "QcQd"),
        board=BOARD,
    )


def test_blinds_alone_can_end_a_hand() -> None:
    """Players whose blinds take their whole stacks are all-in before anyone acts."""
    hand = Hand(two((30, 20)))
    assert (hand.finished, hand.result().payoffs) == (True, (20, -20))


def test_side_pots_go_to_those_who_paid_for_them() -> None:
    """A short stack wins only what each other one has matched; the rest is played for separately."""
    hand = played(three((500, 2_000, 9_000)), RaiseTo(9_000), CheckOrCall(), CheckOrCall())
    assert hand.result().collected == (1_500, 3_000, 0)
    assert hand.result().uncalled == (0, 0, 7_000)
    assert hand.result().stacks == (1_500, 3_000, 7_000)


def test_the_odd_hundredth_goes_to_the_first_in_position() -> None:
    """A pot that does not split evenly gives the rest to the first winner after the button."""
    deal = replace(three(), holes=("As7d", "Qc2d", "Ad7h"), blinds=(50, 101))
    assert played(deal, RaiseTo(10_000), CheckOrCall(), Fold()).result().collected == (10_051, 0, 10_050)


def test_a_board_too_short_is_refused_and_nothing_is_done() -> None:
    """A recorded hand's missing board cards raise BadDeal at the action that needs them; the hand stays."""
    hand = played(replace(three(), board=()), CheckOrCall(), CheckOrCall())
    before = facts(hand)
    with pytest.raises(BadDeal, match="wanted 3 board cards, the deal has 0"):
        hand.act("bob", CheckOrCall())
    assert facts(hand) == before
    hand.act("bob", RaiseTo(500))


@pytest.mark.parametrize(
    "bad",
    [
        replace(three(), players=("ann", "bob", "ann")),
        replace(three(), players=("ann", "bob", "")),
        replace(three(), players=("ann", "bob")),
        Deal(5, ("ann",), (100,), (50, 100), ("AhAd",), ()),
        replace(three(), stacks=(100, 100)),
        replace(three(), stacks=(100, 0, 100)),
        replace(three(), stacks=(100, True, 100)),
        replace(three(), blinds=(0, 100)),
        replace(three(), blinds=(200, 100)),
        replace(three(), holes=("AhAd", "QcQd")),
        replace(three(), holes=("AhAd", "QcQd", "Ah6s")),
        replace(three(), holes=("AhAd", "QcQd", "7s1s")),
        replace(three(), holes=("AhAd", "QcQd", "7s")),
        replace(three(), board=("Ah",)),
        replace(three(), board=(*BOARD, "2s")),
    ],
)
def test_a_deal_that_cannot_be_played_is_misuse(bad: Deal) -> None:
    """A deal that cannot be played is refused when the hand is made, without naming a card."""
    with pytest.raises(BadDeal) as caught:
        Hand(bad)
    assert caught.value.hand == 5
    assert not re.search(r"\b(?:[2-9TJQKA][cdhs])+\b", str(caught.value))


def test_a_viewer_sees_its_own_cards_only() -> None:
    """While a hand is played a seat sees its own hole cards, a spectator none."""
    hand = Hand(three())

    def holes(viewer: str | None) -> list[str]:
        return [seat.hole for seat in hand.view(viewer).seats]

    assert [holes(viewer) for viewer in ("ann", "bob", None, "eve")] == [
        ["AhAd", "", ""],
        ["", "QcQd", ""],
        ["", "", ""],
        ["", "", ""],
    ]
    assert hand.view("cy").legal == hand.legal()
    assert hand.view("ann").legal is None
    assert (hand.view(None).pot, hand.view(None).actor) == (150, "cy")


def test_shown_hands_are_seen_after_the_end_and_others_are_not() -> None:
    """At the end one sees the hands shown at the showdown, but neither folded nor mucked ones."""
    hand = played(three(), Fold(), CheckOrCall(), CheckOrCall(), *[CheckOrCall()] * 6)
    assert hand.result().shown == ("ann",)  # ann shows aces first, so bob mucks
    assert [seat.hole for seat in hand.view(None).seats] == ["AhAd", "", ""]
    assert [seat.hole for seat in hand.view("bob").seats] == ["AhAd", "QcQd", ""]
    assert [seat.folded for seat in hand.view(None).seats] == [False, False, True]
    assert hand.result().holes == ("AhAd", "QcQd", "7s6s")


def test_no_card_is_in_a_repr_while_the_hand_is_live() -> None:
    """Deal, hand and view hide their secret cards from logs."""
    hand = Hand(three())
    shown = f"{hand!r} {hand.deal!r} {hand.view('ann')!r} {[hand.deal]}"
    assert "<redacted>" in shown
    assert not re.search(r"[2-9TJQKA][cdhs]", shown)
    assert repr(hand) == "<Hand 5 preflop, cy to act, 0 actions>"


def test_a_result_exists_only_at_the_end() -> None:
    """Asking a live hand for its result is misuse."""
    with pytest.raises(Misuse, match="cy is to act"):
        Hand(three()).result()


def test_a_deck_is_shuffled_by_the_given_generator() -> None:
    """The same generator state gives the same order of the same 52 cards."""
    deck = shuffle_deck(random.Random(4))
    assert deck == shuffle_deck(random.Random(4)) != shuffle_deck(random.Random(5))
    assert sorted(deck) == sorted(DECK)
    assert len(set(DECK)) == 52


def test_cards_are_dealt_in_turn_from_the_top() -> None:
    """Each gets one card, then each a second, then comes the board; a short deck is refused."""
    deal = deal_from(DECK, 9, ("ann", "bob"), (100, 200), (1, 2))
    assert deal == Deal(9, ("ann", "bob"), (100, 200), (1, 2), ("2c2h", "2d2s"), DECK[4:9])
    with pytest.raises(BadDeal, match="wanted 9 cards for 2 players, got 8"):
        deal_from(DECK[:8], 9, ("ann", "bob"), (100, 200), (1, 2))


def test_amounts_are_written_as_people_do() -> None:
    """Hundredths become chips without a trailing zero."""
    amounts = (0, 5, 50, 100, 1_000, 1_038_750, -5, -1_000)
    assert [chips(amount) for amount in amounts] == ["0", "0.05", "0.5", "1", "10", "10387.5", "-0.05", "-10"]


def test_pokerkits_own_randomness_decides_nothing() -> None:
    """A hand comes out the same whatever the state of the global generator."""

    def outcome(seed: int) -> tuple[object, ...]:
        random.seed(seed)
        rng = random.Random(77)
        hand = Hand(some_deal(rng))
        while (legal := hand.legal()) is not None:
            hand.act(legal.player, some_action(rng, legal))
        return facts(hand)

    assert outcome(1) == outcome(2)


@settings(deadline=None, max_examples=150)
@given(st.randoms(use_true_random=False))
def test_random_play_conserves_chips(rng: random.Random) -> None:
    """At every step of any legal play the chips are the same in all, and at the end all are paid out."""
    hand = Hand(some_deal(rng))
    total = sum(hand.deal.stacks)
    while (legal := hand.legal()) is not None:
        assert sum(hand.stacks) + hand.pot == total
        assert min(hand.stacks) >= 0
        assert hand.pot >= sum(hand.bets)
        assert len(hand.actions) < 500
        hand.act(legal.player, some_action(rng, legal))
    result = hand.result()
    assert sum(result.stacks) == total
    assert sum(result.payoffs) == 0
    assert hand.stacks == result.stacks
    assert min(result.collected) >= 0
    assert min(result.uncalled) >= 0
    assert sum(map(bool, result.uncalled)) <= 1
    assert all(back <= stack for back, stack in zip(result.uncalled, result.stacks, strict=True))


@settings(deadline=None, max_examples=40)
@given(st.randoms(use_true_random=False))
def test_a_rebuilt_hand_equals_the_one_played(rng: random.Random) -> None:
    """`Hand(deal, actions)` is the hand that was played action by action, at every step."""
    hand = Hand(some_deal(rng))
    while (legal := hand.legal()) is not None:
        hand.act(legal.player, some_action(rng, legal))
        assert facts(Hand(hand.deal, hand.actions)) == facts(hand)


@settings(deadline=None, max_examples=60)
@given(st.randoms(use_true_random=False), st.integers(-100, 40_000))
def test_a_raise_is_taken_exactly_within_its_bounds(rng: random.Random, to: int) -> None:
    """`act` takes a raise if and only if `legal` allows it."""
    hand = Hand(some_deal(rng))
    for _ in range(rng.randint(0, 8)):
        legal = hand.legal()
        if legal is None:
            return
        allowed = (
            legal.min_raise_to is not None
            and legal.max_raise_to is not None
            and legal.min_raise_to <= to <= legal.max_raise_to
        )
        again = Hand(hand.deal, hand.actions)
        if allowed:
            again.act(legal.player, RaiseTo(to))
        else:
            with pytest.raises(IllegalAction) as caught:
                again.act(legal.player, RaiseTo(to))
            assert caught.value.reason == ("cannot_raise" if legal.min_raise_to is None else "bad_amount")
        hand.act(legal.player, some_action(rng, legal))
