"""Hands in PokerStars' format, made up for these tests, and a writer of any hand that was played."""

from __future__ import annotations

from collections.abc import Sequence

from game.hand import CheckOrCall, Fold, Hand, RaiseTo, chips

FOLDED = """\
PokerStars Hand #7001: Hold'em No Limit (5/10) - 2024/02/01 20:00:00 ET
Table 'Banyan 7' 4-max (Play Money) Seat #4 is the button
Seat 1: Ann (1000 in chips)
Seat 2: Bob: the "2nd" [x] (1000 in chips)
Seat 4: Zoë K (987.5 in chips)
Ann: posts small blind 5
Bob: the "2nd" [x]: posts big blind 10
*** HOLE CARDS ***
Dealt to Ann [Ah Kh]
Dealt to Bob: the "2nd" [x] [2c 7d]
Dealt to Zoë K [9s 9d]
Zoë K: raises 15 to 25
Ann: raises 50 to 75
Bob: the "2nd" [x]: folds
Zoë K: calls 50
*** FLOP *** [Kc 4d 4s]
Ann: bets 60.5
Zoë K: folds
Uncalled bet (60.5) returned to Ann
Ann collected 160.0 from pot
*** SUMMARY ***
Total pot 160 | Rake 0
Board [Kc 4d 4s]
"""

ALL_IN = """\
PokerStars Hand #7002: Hold'em No Limit (5/10) - 2024/02/01 20:01:00 ET
Table 'Banyan 7' 4-max (Play Money) Seat #1 is the button
Seat 1: Ann (300 in chips)
Seat 2: Bob (1000 in chips)
Seat 4: Cy (100.25 in chips)
Bob: posts small blind 5
Cy: posts big blind 10
*** HOLE CARDS ***
Dealt to Ann [Qh Qd]
Dealt to Bob [Ac Kc]
Dealt to Cy [8s 8d]
Ann: raises 190 to 200
Bob: raises 800 to 1000 and is all-in
Cy: calls 90.25 and is all-in
Ann: calls 100 and is all-in
Uncalled bet (700) returned to Bob
*** FLOP *** [8c 2d Jc]
*** TURN *** [8c 2d Jc] [3h]
*** RIVER *** [8c 2d Jc] [3h] [Qs]
*** SHOWDOWN ***
Bob: shows [Ac Kc]
Cy: shows [8s 8d]
Ann: shows [Qh Qd]
Ann collected 300.75 from main pot
Ann collected 399.5 from side pot
*** SUMMARY ***
Total pot 700.25 | Rake 0
Board [8c 2d Jc 3h Qs]
Seat 1: Ann showed [Qh Qd] and won (700.25)
Seat 2: Bob showed [Ac Kc] and lost
Seat 4: Cy showed [8s 8d] and lost
"""

WALK = """\
PokerStars Hand #7003: Hold'em No Limit (0.5/1) - 2024/02/01 20:02:00 ET
Table 'Banyan 7' 2-max (Play Money) Seat #1 is the button
Seat 1: Ann (100 in chips)
Seat 2: Bob (100 in chips)
Ann: posts small blind 0.5
Bob: posts big blind 1
*** HOLE CARDS ***
Dealt to Ann [2h 3d]
Dealt to Bob [Ac Kc]
Ann: folds
Uncalled bet (0.5) returned to Bob
Bob collected 1.0 from pot
*** SUMMARY ***
Total pot 1 | Rake 0
"""

THREE_WAYS = """\
PokerStars Hand #7004: Hold'em No Limit (5/10) - 2024/02/01 20:03:00 ET
Table 'Banyan 7' 6-max (Play Money) Seat #6 is the button
Seat 1: Ann (1000 in chips)
Seat 2: Bob (1000 in chips)
Seat 3: Cy (1000 in chips)
Seat 6: Dee (1000 in chips)
Ann: posts small blind 5
Bob: posts big blind 10
*** HOLE CARDS ***
Dealt to Ann [2c 3c]
Dealt to Bob [Ac 2d]
Dealt to Cy [As 3d]
Dealt to Dee [Ad 4s]
Cy: calls 10
Dee: calls 10
Ann: folds
Bob: checks
*** FLOP *** [Kh Kd Qs]
Bob: checks
Cy: checks
Dee: checks
*** TURN *** [Kh Kd Qs] [Qh]
Bob: checks
Cy: checks
Dee: checks
*** RIVER *** [Kh Kd Qs] [Qh] [Jc]
Bob: checks
Cy: checks
Dee: checks
*** SHOWDOWN ***
Bob: shows [Ac 2d]
Cy: shows [As 3d]
Dee: shows [Ad 4s]
Bob collected 11.666666666666666 from pot
Cy collected 11.666666666666666 from pot
Dee collected 11.666666666666666 from pot
*** SUMMARY ***
Total pot 35 | Rake 0
Board [Kh Kd Qs Qh Jc]
Seat 2: Bob showed [Ac 2d] and won (11.666666666666666)
Seat 3: Cy showed [As 3d] and won (11.666666666666666)
Seat 6: Dee showed [Ad 4s] and won (11.666666666666666)
"""

ALL = "\n\n".join((FOLDED, ALL_IN, WALK, THREE_WAYS))


def written(played: Hand, *, seats: Sequence[int] | None = None) -> str:
    """The text of an ended hand, as the dealer of the Pluribus files would write it.

    Args:
        played: an ended hand.
        seats: the seat number of each player in the deal's order, ascending; 1, 2, ... if left out.
    """
    deal, result = played.deal, played.result()
    seats = seats or range(1, len(deal.players) + 1)
    button = seats[deal.players.index(deal.button)]
    small, big = deal.blinds
    stakes = f"{chips(small)}/{chips(big)}"
    lines = [
        f"PokerStars Hand #{deal.hand}: Hold'em No Limit ({stakes}) - 2024/02/01 20:00:00 ET",
        f"Table 'Made' 9-max (Play Money) Seat #{button} is the button",
    ]
    for seat, player, stack in zip(seats, deal.players, deal.stacks, strict=True):
        lines.append(f"Seat {seat}: {player} ({chips(stack)} in chips)")
    lines.append(f"{deal.players[0]}: posts small blind {chips(min(small, deal.stacks[0]))}")
    lines.append(f"{deal.players[1]}: posts big blind {chips(min(big, deal.stacks[1]))}")
    lines.append("*** HOLE CARDS ***")
    for player, hole in zip(deal.players, deal.holes, strict=True):
        lines.append(f"Dealt to {player} [{hole[:2]} {hole[2:]}]")
    lines += _streets(played)
    if result.shown:
        lines.append("*** SHOWDOWN ***")
    lines += [f"{player} collected {chips(amount)} from pot" for player, amount in result.winners.items()]
    lines += ["*** SUMMARY ***", f"Total pot {chips(result.pot)} | Rake 0"]
    if result.board:
        lines.append(f"Board [{' '.join(result.board)}]")
    if result.shown:
        folded = {seat.player for seat in played.view(None).seats if seat.folded}
        for seat, player, hole, won in zip(seats, deal.players, deal.holes, result.collected, strict=True):
            if player not in folded:
                end = f"won ({chips(won)})" if won else "lost"
                lines.append(f"Seat {seat}: {player} showed [{hole[:2]} {hole[2:]}] and {end}")
    return "\n".join(lines) + "\n"


def _streets(played: Hand) -> list[str]:
    """The lines of the betting: the hand is played once more, and each street written as it comes."""
    again, board, lines = Hand(played.deal), played.result().board, list[str]()
    written_cards = 0

    def up_to(count: int) -> None:
        nonlocal written_cards
        for name, at in (("FLOP", 3), ("TURN", 4), ("RIVER", 5)):
            if written_cards < at <= count:
                cards = [f"[{' '.join(board[:3])}]"] + [f"[{card}]" for card in board[3:at]]
                lines.append(f"*** {name} *** {' '.join(cards)}")
        written_cards = count

    for action in played.actions:
        actor = again.actor
        assert actor is not None
        up_to(len(again.board))
        lines.append(_line(again, actor, action))
        again.act(actor, action)
    for player, amount in zip(played.deal.players, played.result().uncalled, strict=True):
        if amount:
            lines.append(f"Uncalled bet ({chips(amount)}) returned to {player}")
    up_to(len(board))
    return lines


def _line(hand: Hand, actor: str, action: Fold | CheckOrCall | RaiseTo) -> str:
    legal, seat = hand.legal(), hand.deal.players.index(actor)
    assert legal is not None
    highest = max(hand.bets)
    match action:
        case Fold():
            return f"{actor}: folds"
        case CheckOrCall() if legal.to_call == 0:
            return f"{actor}: checks"
        case CheckOrCall():
            all_in = " and is all-in" if legal.to_call == hand.stacks[seat] else ""
            return f"{actor}: calls {chips(legal.to_call)}{all_in}"
        case RaiseTo(to=to):
            all_in = " and is all-in" if to == legal.max_raise_to else ""
            if highest == 0:
                return f"{actor}: bets {chips(to)}{all_in}"
            return f"{actor}: raises {chips(to - highest)} to {chips(to)}{all_in}"
