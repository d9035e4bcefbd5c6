"""What may be seen of a hand: by one viewer while it is played, by everyone once it has ended."""

from __future__ import annotations

from typing import Literal, TypeAlias

from runtime.kernel.messages import message

from .action import Legal

Street: TypeAlias = Literal["preflop", "flop", "turn", "river"]


@message("hand.result", version=1)
class Result:
    """How a hand ended. Ended hands are open: all hole cards are in it. Tuples follow `players`.

    Attributes:
        hand: the hand's number.
        players: as in the deal.
        payoffs: won or lost in all, in hundredths; they add up to 0.
        stacks: what each has now, in hundredths.
        collected: what each took from the pots, own called bets included, uncalled ones not.
        uncalled: what came back to a bettor because nobody matched it.
        pot: all that was collected.
        shown: who showed at the showdown, in the order of showing; empty if all but one folded.
        holes: everyone's cards, folded ones too.
        board: the cards that came.
    """

    hand: int
    players: tuple[str, ...]
    payoffs: tuple[int, ...]
    stacks: tuple[int, ...]
    collected: tuple[int, ...]
    uncalled: tuple[int, ...]
    pot: int
    shown: tuple[str, ...]
    holes: tuple[str, ...]
    board: tuple[str, ...]

    @property
    def winners(self) -> dict[str, int]:
        """Who collected something, and how much, in hundredths."""
        return {player: won for player, won in zip(self.players, self.collected, strict=True) if won}


@message("hand.seat_view", version=2)
class SeatView:
    """One seat as a viewer sees it; its repr hides the hole cards.

    Attributes:
        player: the seat's name.
        stack: chips behind, in hundredths.
        bet: chips bet on this street, in hundredths.
        folded: whether the player has folded.
        all_in: whether the player is in the hand with nothing left to bet.
        hole: two cards like `"3c9s"`, or `""` where this viewer may not see them.
        leaving: whether the seat is given up when the hand ends.
        waiting: whether the seat was not dealt in, and waits for the next hand.
    """

    player: str
    stack: int
    bet: int
    folded: bool
    all_in: bool
    hole: str
    leaving: bool = False
    waiting: bool = False

    def __repr__(self) -> str:
        return (
            f"SeatView(player={self.player!r}, stack={self.stack!r}, bet={self.bet!r}, "
            f"folded={self.folded!r}, all_in={self.all_in!r}, hole={'<redacted>' if self.hole else ''!r}, "
            f"leaving={self.leaving!r}, waiting={self.waiting!r})"
        )


@message("hand.view", version=1)
class View:
    """A hand as one viewer may see it.

    Attributes:
        hand: the hand's number.
        viewer: whose eyes; None or a name that is not in the hand is a spectator.
        street: the street that was dealt last.
        board: the board cards that have come.
        pot: chips in the middle, bets included, in hundredths; 0 when the hand has ended.
        actor: whose turn it is, None when the hand has ended.
        legal: what the viewer may do now; None if it is not the viewer's turn.
        finished: whether the hand has ended.
        seats: in the deal's order.
    """

    hand: int
    viewer: str | None
    street: Street
    board: tuple[str, ...]
    pot: int
    actor: str | None
    legal: Legal | None
    finished: bool
    seats: tuple[SeatView, ...]
