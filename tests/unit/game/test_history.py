"""The reader of hand histories: what it reads, and that it refuses everything else with a line."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from game.hand import CheckOrCall, Deal, Fold, Hand, RaiseTo
from game.history import HistoryError, RecordedAction, RecordedHand, parse, parse_bytes
from game.recorded import compare, play

from .play import some_action, some_deal
from .samples import ALL, ALL_IN, FOLDED, THREE_WAYS, WALK, written

SHARED = Path(os.environ.get("BANYAN_SHARED") or Path(__file__).parents[4] / "shared") / "hands"

BOB = 'Bob: the "2nd" [x]'


def refused(text: str) -> HistoryError:
    with pytest.raises(HistoryError) as caught:
        parse(text, "made.txt")
    error = caught.value
    assert error.source == "made.txt"
    assert 1 <= error.line <= max(1, text.count("\n") + 1)
    assert str(error).startswith(f"made.txt:{error.line}: wanted ")
    assert ", got " in str(error)
    return error


def test_a_hand_is_read_whole() -> None:
    """Names with odd characters, a missing seat and amounts with decimals come out as they stand."""
    assert parse(FOLDED, "made.txt") == [
        RecordedHand(
            id=7001,
            table="Banyan 7",
            source="made.txt",
            line=1,
            last_line=23,
            players=("Ann", BOB, "Zoë K"),
            seats=(1, 2, 4),
            button=4,
            small_blind="Ann",
            blinds=(500, 1_000),
            stacks=(100_000, 100_000, 98_750),
            holes=("AhKh", "2c7d", "9s9d"),
            board=("Kc", "4d", "4s"),
            actions=(
                RecordedAction("Zoë K", RaiseTo(2_500), "preflop", 12),
                RecordedAction("Ann", RaiseTo(7_500), "preflop", 13),
                RecordedAction(BOB, Fold(), "preflop", 14),
                RecordedAction("Zoë K", CheckOrCall(), "preflop", 15),
                RecordedAction("Ann", RaiseTo(6_050), "flop", 17),
                RecordedAction("Zoë K", Fold(), "flop", 18),
            ),
            put_in=(13_550, 1_000, 7_500),
            uncalled=(6_050, 0, 0),
            collected=(16_000, 0, 0),
            won=(None, None, None),
            inexact=False,
            pot=16_000,
            rake=0,
        )
    ]


def test_the_deal_is_in_position_order() -> None:
    """Whoever posted the small blind comes first, wherever they sit."""
    (hand,) = parse(ALL_IN, "made.txt")
    assert hand.players == ("Ann", "Bob", "Cy")
    assert hand.deal == Deal(
        7002,
        ("Bob", "Cy", "Ann"),
        (100_000, 10_025, 30_000),
        (500, 1_000),
        ("AcKc", "8s8d", "QhQd"),
        ("8c", "2d", "Jc", "3h", "Qs"),
    )
    assert (hand.collected, hand.won) == ((70_025, 0, 0), (70_025, None, None))
    assert hand.payoffs == (40_025, -30_000, -10_025)


def test_hands_come_in_the_texts_order_with_their_lines() -> None:
    """Each hand knows its first line; empty lines and CR LF, a byte order mark and a cut end do no harm."""
    hands = parse(ALL, "made.txt")
    assert [(hand.id, hand.line) for hand in hands] == [(7001, 1), (7002, 26), (7003, 59), (7004, 75)]
    assert parse("\n \n" + WALK, "made.txt")[0].line == 3
    same = ("\ufeff" + ALL.replace("\n", "\r\n")).rstrip()
    assert parse(same, "made.txt") == parse_bytes(same.encode(), "made.txt") == hands


def test_positions_between_two_are_told_by_the_blinds() -> None:
    """Heads-up, the poster of the small blind is first, whichever of the two the text calls the button."""
    for text in (WALK, WALK.replace("Seat #1 is", "Seat #2 is")):
        (hand,) = parse(text, "made.txt")
        assert (hand.deal.players, hand.deal.button) == (("Ann", "Bob"), "Ann")


def test_pokerstars_own_spellings_are_read() -> None:
    """What PokerStars itself writes differently (brackets, SHOW DOWN, every seat's summary) is read too."""
    text = ALL_IN.replace("SHOWDOWN", "SHOW DOWN")
    text = text.replace("[8c 2d Jc] [3h] [Qs]", "[8c 2d Jc 3h] [Qs]")
    text = text.replace("shows [8s 8d]", "shows [8s 8d] (three of a kind, Eights)")
    text = text.replace("Total pot 700.25 |", "Total pot 700.25 Main pot 300.75. Side pot 399.50. |")
    text = text.replace("Seat 1: Ann showed", "Seat 1: Ann (button) showed")
    text = text.replace("[Ac Kc] and lost", "[Ac Kc] and lost with high card Ace")
    assert parse(text, "made.txt") == parse(ALL_IN, "made.txt")
    folded = FOLDED + "Seat 1: Ann (small blind) collected (160)\nSeat 2: " + BOB + " folded before Flop\n"
    (hand,) = parse(folded, "made.txt")
    assert (hand.won, hand.last_line) == ((16_000, None, None), 25)


def test_a_missing_showdown_after_a_last_fold_is_read() -> None:
    """The Pluribus files leave the showdown out where several are left and the last action was a fold."""
    hand = Hand(
        Deal(
            1,
            ("a", "b", "c"),
            (900, 900, 900),
            (50, 100),
            ("AhAd", "KhKd", "2h3d"),
            ("Qc", "Jc", "9s", "7d", "5s"),
        ),
        (
            CheckOrCall(),
            CheckOrCall(),
            CheckOrCall(),
            *[CheckOrCall()] * 6,
            RaiseTo(200),
            CheckOrCall(),
            Fold(),
        ),
    )
    text = written(hand)
    start = text.index("*** SHOWDOWN ***\n")
    cut = text[:start] + text[start:].replace("*** SHOWDOWN ***\n", "")
    (recorded,) = parse(cut, "made.txt")
    assert compare(recorded, play(recorded)) == []


FOREIGN = [
    ("", 1, "an empty text"),
    ("\n \n\n", 1, "an empty text"),
    ("Lorem ipsum\ndolor\n", 1, "'Lorem ipsum'"),
    ("\x00\x01\x02\x7fELF", 1, "PokerStars' format"),
    (FOLDED.replace("Hold'em No Limit", "Omaha Pot Limit"), 1, "Hold'em No Limit"),
    (FOLDED.replace("Hold'em No Limit", "Hold'em Limit"), 1, "Hold'em No Limit"),
    (FOLDED.replace("#7001: Hold'em", "#7001: Tournament #3, $1+$0.10 USD Hold'em"), 1, "tournament"),
    (FOLDED.replace("(5/10)", "($5/$10 USD)"), 1, "play-money"),
    (FOLDED.replace("PokerStars Hand", "GGPoker Hand"), 1, "PokerStars' format"),
    (FOLDED + "\n\nand so on\n", 26, "a hand's first line"),
]


@pytest.mark.parametrize(("text", "line", "says"), FOREIGN)
def test_foreign_text_is_refused(text: str, line: int, says: str) -> None:
    """Another game, another site, a tournament, real money, no text at all: each is named."""
    error = refused(text)
    assert error.line == line
    assert says in str(error)


DAMAGED = [
    (FOLDED, "(5/10)", "(0/10)", 1, "blinds"),
    (FOLDED, "(5/10)", "(10/5)", 1, "blinds"),
    (FOLDED, "4-max", "1-max", 2, "a table of 2 to 10 seats"),
    (FOLDED, "Seat #4 is", "Seat #5 is", 2, "a table of 2 to 10 seats"),
    (FOLDED, "Seat #4 is", "Seat #1 is", 6, "behind the button"),
    (FOLDED, "Seat 4: Zoë K (", "Seat 4: Ann (", 5, "every player in one seat"),
    (FOLDED, "Seat 4: Zoë K (", "Seat 2: Zoë K (", 5, "seats in order"),
    (FOLDED, "Seat 4: Zoë K (", "Seat 5: Zoë K (", 5, "seats in order, up to 4"),
    (FOLDED, "(987.5 in", "(987.555 in", 5, "at most two decimals"),
    (FOLDED, "(987.5 in", "(0 in", 5, "a stack above 0"),
    (FOLDED, "(987.5 in", "(98O in", 5, "Seat N: NAME"),
    (FOLDED, "small blind 5", "small blind 6", 6, "a small blind of 5"),
    (FOLDED, "Ann: posts small", "Eve: posts small", 6, "a seated player"),
    (FOLDED, "Ann: posts small blind 5\n", "", 6, "posts small blind"),
    (FOLDED, "Ann: posts small blind 5\n", "Ann: posts the ante 5\n", 6, "antes"),
    (FOLDED, f"{BOB}: posts big", "Zoë K: posts big", 7, "the big blind from"),
    (FOLDED, "*** HOLE CARDS ***\n", "", 8, "HOLE CARDS"),
    (FOLDED, "Dealt to Ann [Ah Kh]\n", "", 11, "Dealt to Ann"),
    (FOLDED, "Dealt to Ann [Ah Kh]", "Dealt to Ann [Ah Xh]", 9, "[CARD CARD]"),
    (FOLDED, "Dealt to Ann [Ah Kh]", "Dealt to Ann [Ah]", 9, "[CARD CARD]"),
    (FOLDED, "Dealt to Ann [Ah Kh]", "Dealt to Ann [Ah Ah]", 9, "every card once, got Ah again"),
    (FOLDED, "Dealt to Ann [Ah Kh]", "Dealt to Eve [Ah Kh]", 9, "a seated player"),
    (FOLDED, "[9s 9d]", "[9s Ah]", 11, "every card once, got Ah again"),
    (FOLDED, "Dealt to Zoë K", "Dealt to Ann", 11, "once"),
    (FOLDED, "Zoë K: raises 15 to 25", "Eve: raises 15 to 25", 12, "an action by a seated player"),
    (FOLDED, "Zoë K: raises 15 to 25", "Zoë K: jumps 15", 12, "an action by a seated player"),
    (FOLDED, "Zoë K: raises 15 to 25", "Zoë K: raises 15 to 26", 12, "a raise by 16 to 26"),
    (FOLDED, "Zoë K: raises 15 to 25", "Zoë K: raises 990 to 1000", 12, "at most the 987.5"),
    (FOLDED, "Zoë K: raises 15 to 25", "Zoë K: raises 15 to 25 and is all-in", 12, "no all-in"),
    (FOLDED, "Zoë K: raises 15 to 25", "Zoë K: bets 25", 12, "there is a bet of 10"),
    (FOLDED, "Zoë K: raises 15 to 25", "Zoë K: raises x to 25", 12, "an amount"),
    (FOLDED, "Zoë K: raises 15 to 25", "Zoë K: checks", 12, "a call of 10 or a fold"),
    (FOLDED, f"{BOB}: folds\nZoë K: calls 50", f"Zoë K: calls 50\n{BOB}: folds", 14, f"an action by {BOB}"),
    (FOLDED, "Zoë K: calls 50", "Zoë K: calls 49", 15, "a call of 50"),
    (FOLDED, "Zoë K: calls 50\n", "", 16, "an action by Zoë K on the preflop"),
    (FOLDED, f"{BOB}: folds\n", f"{BOB}: folds\n{BOB}: folds\n", 15, "who has folded"),
    (FOLDED, "*** FLOP *** [Kc 4d 4s]\n", "", 16, "there is a bet of 75"),
    (FOLDED, "*** FLOP ***", "*** TURN ***", 16, "*** FLOP ***"),
    (FOLDED, "*** FLOP *** [Kc 4d 4s]", "*** FLOP *** [Kc 4d]", 16, "3 board cards"),
    (FOLDED, "*** FLOP *** [Kc 4d 4s]", "*** FLOP *** [Kc 4d] [4s]", 16, "3 board cards"),
    (FOLDED, "*** FLOP *** [Kc 4d 4s]", "*** FLOP *** [Kc 4d 9s]", 16, "every card once"),
    (FOLDED, "Zoë K: folds\nUncalled", "Zoë K: folds\nAnn: folds\nUncalled", 19, "no more actions"),
    (FOLDED, "Ann: bets 60.5\nZoë K: folds\n", "", 19, "a showdown only"),
    (FOLDED, "returned to Ann", "returned to Eve", 19, "a seated player"),
    (FOLDED, "Ann collected 160.0 from pot", "Eve collected 160.0 from pot", 20, "a seated player"),
    (FOLDED, "Ann collected 160.0 from pot\n", "", 20, "collected AMOUNT from pot"),
    (FOLDED, "*** SUMMARY ***\n", "", 21, "a payment or the summary"),
    (FOLDED, "Total pot 160 | Rake 0\n", "", 22, "Total pot"),
    (FOLDED, "Total pot 160 | Rake 0", "Total pot 160 | Rake", 22, "Total pot"),
    (FOLDED, "Board [Kc 4d 4s]", "Board [Kc 4d 4h]", 23, "Board"),
    (FOLDED, "*** SUMMARY ***\n", "*** SHOWDOWN ***\n*** SUMMARY ***\n", 21, "a payment"),
    (ALL_IN, "Ann: shows [Qh Qd]", "Ann: shows [Qh Qc]", 23, "was dealt"),
    (ALL_IN, "Seat 1: Ann showed [Qh Qd]", "Seat 1: Ann showed [Qh Qc]", 29, "was dealt"),
    (ALL_IN, "Seat 1: Ann showed", "Seat 1: Bob showed", 29, "Seat N: NAME"),
    (ALL_IN, "Seat 1: Ann showed", "Seat 3: Ann showed", 29, "Seat N: NAME"),
    (ALL_IN, "Seat 4: Cy showed [8s 8d] and lost\n", "", 30, "everyone in the showdown"),
    (ALL_IN, "*** RIVER *** [8c 2d Jc] [3h] [Qs]", "*** RIVER *** [8c 2d Jc] [3d] [Qs]", 19, "earlier board"),
    (ALL_IN, "Cy: calls 90.25 and is all-in\n", "", 14, "an action by Cy"),
    (THREE_WAYS, "Dee: checks\n*** SHOWDOWN", "*** SHOWDOWN", 29, "an action by Dee"),
    (THREE_WAYS, "*** SHOWDOWN ***\n", "", 36, "no showdown"),
    (
        THREE_WAYS,
        "Dee: checks\n*** TURN",
        "Dee: checks\nBob: checks\n*** TURN",
        22,
        "an action by Bob on the turn",
    ),
]


@pytest.mark.parametrize(("text", "old", "new", "line", "says"), DAMAGED)
def test_damage_is_refused_at_its_line(text: str, old: str, new: str, line: int, says: str) -> None:
    """One wrong thing in a hand refuses the text, names the line, and says what was wanted."""
    assert text.count(old) >= 1
    error = refused(text.replace(old, new, 1))
    assert (error.line, says in str(error)) == (line, True), str(error)


def test_a_hand_may_come_only_once() -> None:
    """A hand's number that comes again is refused where it comes again."""
    error = refused(FOLDED + "\n" + WALK + "\n" + FOLDED)
    assert error.line == 40
    assert "hand 7001 of line 1 again" in str(error)


def test_a_fold_with_nothing_to_call_is_refused() -> None:
    """What PokerKit does not play is refused with the line of the action."""
    error = refused(FOLDED.replace("Ann: bets 60.5\nZoë K: folds\nUncalled bet (60.5)", "Ann: folds\nUncalled bet (1)"))
    assert (error.line, "only where there is a bet to call" in str(error)) == (17, True)


def test_without_the_rules_only_the_text_is_read() -> None:
    """`rules=False` leaves it to `play` to refuse what the rules refuse."""
    text = FOLDED.replace("Zoë K: raises 15 to 25", "Zoë K: raises 5 to 15").replace("raises 50 to", "raises 60 to")
    text = text.replace("Zoë K: calls 50", "Zoë K: calls 60")
    (hand,) = parse(text, "made.txt", rules=False)
    with pytest.raises(HistoryError, match=r"made\.txt:12: wanted an action that the rules allow") as caught:
        play(hand)
    assert caught.value.line == 12


def test_bytes_that_are_no_text_are_refused() -> None:
    """A byte that is not UTF-8 is refused with its line."""
    with pytest.raises(HistoryError, match=r"made\.txt:3: wanted a hand history in UTF-8, got the byte 0xff"):
        parse_bytes(b"PokerStars\nHand\n\xff\xfe", "made.txt")


def read_or_line(data: bytes, *, rules: bool = True) -> list[RecordedHand] | int:
    """The hands, or the line that is refused."""
    try:
        return parse_bytes(data, "cut.txt", rules=rules)
    except HistoryError as error:
        return error.line


def check_cuts(text: str) -> None:
    """Cut a text after every byte: it gives the leading hands that are whole, or an error with a line."""
    data, whole = text.encode(), parse(text, "cut.txt")
    for end in range(len(data)):
        hands = read_or_line(data[:end], rules=False)
        if isinstance(hands, int):
            assert 1 <= hands <= data[:end].count(b"\n") + 1
            continue
        assert hands == whole[: len(hands)]
        # Nothing but white space is left out between the hands read and the next.
        rest = whole[len(hands)].line if len(hands) < len(whole) else None
        assert rest is None or data[:end].count(b"\n") < rest
        if rest is None:
            assert data[end:].strip() == b""


def test_a_cut_after_any_byte_is_noticed() -> None:
    """A text that breaks off in a line or in a hand is refused; only a cut between hands is a whole text."""
    check_cuts(ALL)


def test_a_cut_rake_is_noticed() -> None:
    """A number at the very end shows by the sums that digits are missing."""
    check_cuts(WALK.replace("collected 1.0", "collected 0.45").replace("1 | Rake 0", "1 | Rake 0.55"))


@settings(deadline=None, max_examples=60)
@given(st.randoms(use_true_random=False))
def test_what_is_played_is_read_back(rng: random.Random) -> None:
    """Any hand, written as text and read again, is the same hand with the same outcome."""
    hand = Hand(some_deal(rng, rng.randint(1, 10**6)))
    while (legal := hand.legal()) is not None:
        hand.act(legal.player, some_action(rng, legal))
    seats = sorted(rng.sample(range(1, 10), len(hand.deal.players)))
    (recorded,) = parse(written(hand, seats=seats), "made.txt")
    assert recorded.deal.players == hand.deal.players
    assert recorded.deal.board == hand.board
    assert tuple(step.action for step in recorded.actions) == hand.actions
    assert play(recorded) == hand.result()
    assert compare(recorded, hand.result()) == []


@settings(deadline=None, max_examples=300)
@given(st.randoms(use_true_random=False))
def test_garbled_text_raises_nothing_else(rng: random.Random) -> None:
    """Whatever is changed, dropped, doubled or swapped, the reader gives hands or a HistoryError."""
    lines = rng.choice((FOLDED, ALL_IN, WALK, THREE_WAYS)).split("\n")
    for _ in range(rng.randint(1, 3)):
        at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
        match rng.randint(0, 4):
            case 0:
                lines[at] = ""
            case 1:
                lines[at] = lines[other]
            case 2:
                lines[at], lines[other] = lines[other], lines[at]
            case 3:
                lines.insert(at, lines[other])
            case _ if lines[at]:
                place = rng.randrange(len(lines[at]))
                odd = rng.choice("\0\r\u2028 :[]()#0123456789.AKs²")
                lines[at] = lines[at][:place] + odd + lines[at][place + 1 :]
    hands = read_or_line("\n".join(lines).encode())
    if isinstance(hands, int):
        assert 1 <= hands <= len(lines)
    else:
        for hand in hands:
            compare(hand, play(hand))


def test_every_real_hand_agrees() -> None:
    """All 1,021 hands of ../shared/hands are read, played and agree with their text in everything."""
    files = sorted(SHARED.glob("*.txt"))
    if not files:
        pytest.skip(f"no hand histories in {SHARED}: put the shared folder beside the repository")
    hands = [hand for file in files for hand in parse_bytes(file.read_bytes(), file.name, rules=False)]
    assert [difference for hand in hands for difference in compare(hand, play(hand))] == []
    assert (len(hands), sum(len(hand.actions) for hand in hands)) == (1_021, 9_318)
