"""What a player can do in a hand: the three actions, what of them is legal now, and how one is refused.

Values only; the rules are `game.hand`'s, which asks PokerKit.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from runtime.errors import BanyanError
from runtime.kernel.messages import message

Reason: TypeAlias = Literal[
    "hand_over", "unknown_player", "not_your_turn", "nothing_to_call", "cannot_raise", "bad_amount"
]


@message("hand.fold", version=1)
class Fold:
    """Give up the hand. Refused where a check is free."""


@message("hand.check_or_call", version=1)
class CheckOrCall:
    """Match the highest bet, all-in if the stack is too small; a check if there is nothing to match."""


@message("hand.raise_to", version=1)
class RaiseTo:
    """Bet or raise so that one's bet on this street is `to` hundredths in all."""

    to: int


Action: TypeAlias = Fold | CheckOrCall | RaiseTo


class IllegalAction(BanyanError):
    """An action that the rules refuse; the hand is as it was.

    Attributes:
        reason: a word for programs: `hand_over`, `unknown_player`, `not_your_turn`, `nothing_to_call` (a
            fold where a check is free), `cannot_raise`, `bad_amount`.
        hand: the hand's number.
        player: who tried.
        action: what was tried.
    """

    def __init__(self, reason: Reason, text: str, hand: int, player: str, action: Action) -> None:
        super().__init__(f"hand {hand}: {text}")
        self.reason: Reason = reason
        self.hand = hand
        self.player = player
        self.action = action


@message("hand.legal", version=1)
class Legal:
    """What the player to act may do; amounts in hundredths.

    Attributes:
        player: whose turn it is.
        may_fold: False where a check is free.
        to_call: what `CheckOrCall` would cost, 0 for a check, at most the stack.
        min_raise_to: the least that `RaiseTo` may name; None if there may be no raise.
        max_raise_to: the most, which is all-in; None if there may be no raise.
    """

    player: str
    may_fold: bool
    to_call: int
    min_raise_to: int | None
    max_raise_to: int | None


def chips(amount: int) -> str:
    """An amount of hundredths as people write it: `chips(1_038_750)` is `'10387.5'`."""
    sign, (whole, part) = "-" if amount < 0 else "", divmod(abs(amount), 100)
    return f"{sign}{whole}.{part:02}".rstrip("0").rstrip(".") if part else f"{sign}{whole}"
