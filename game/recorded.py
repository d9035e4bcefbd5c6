"""A hand that was really played, and how far PokerKit agrees with what was written down of it.

`game.history` reads the text into a `RecordedHand`. `play` lets PokerKit play its actions: an action that
the rules refuse is a defect of the text and raises. `compare` then holds the outcome that the text claims
against the outcome played: a disagreement there is a finding, not a defect, and is returned in words.

All amounts are ints in hundredths of a chip.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NoReturn

from runtime.errors import BanyanError

from .hand import Action, BadDeal, Deal, Hand, IllegalAction, Result, Street, chips


class HistoryError(BanyanError):
    """A text that is no sound hand history. Nothing of it should be used.

    Attributes:
        source: where the text came from, as the caller named it.
        line: where it goes wrong, from 1.
    """

    def __init__(self, source: str, line: int, wanted: str, came: str, advice: str) -> None:
        super().__init__(f"{source}:{line}: wanted {wanted}, got {came}: {advice}")
        self.source = source
        self.line = line


@dataclass(frozen=True, slots=True)
class RecordedAction:
    """One action and where it stands.

    Attributes:
        player: who acted.
        action: what was done, in the hand's own terms.
        street: the street under which the text has it.
        line: its line in the text, from 1.
    """

    player: str
    action: Action
    street: Street
    line: int


@dataclass(frozen=True, slots=True)
class RecordedHand:
    """A hand as its text tells it. Tuples follow `players`; amounts are in hundredths.

    Attributes:
        id: the hand's number.
        table: the table's name.
        source: where the text came from.
        line: the hand's first line, from 1.
        last_line: its last line.
        players: in seat order.
        seats: their seat numbers.
        button: the seat number with the dealer button.
        small_blind: who posted it: the first in position order.
        blinds: small and big blind.
        stacks: before the blinds.
        holes: two cards each, like `"3c9s"`.
        board: the cards that came.
        actions: in order.
        put_in: what each bet in the whole hand, blinds included and uncalled bets not yet returned.
        uncalled: what came back because nobody matched it.
        collected: what each took from the pots. Where the text gives a part of a hundredth, as a pot
            split three ways does, it is cut off.
        won: what the summary says that each won at showdown, None where it says nothing.
        inexact: whether something was cut off.
        pot: the text's total.
        rake: what the house took.
    """

    id: int
    table: str
    source: str
    line: int
    last_line: int
    players: tuple[str, ...]
    seats: tuple[int, ...]
    button: int
    small_blind: str
    blinds: tuple[int, int]
    stacks: tuple[int, ...]
    # Not in the repr: while the hand is being replayed, these are live cards.
    holes: tuple[str, ...] = field(repr=False)
    board: tuple[str, ...] = field(repr=False)
    actions: tuple[RecordedAction, ...]
    put_in: tuple[int, ...]
    uncalled: tuple[int, ...]
    collected: tuple[int, ...]
    won: tuple[int | None, ...]
    inexact: bool
    pot: int
    rake: int

    @property
    def deal(self) -> Deal:
        """What the hand started from, in position order."""
        first = self.players.index(self.small_blind)
        return Deal(
            self.id,
            self.players[first:] + self.players[:first],
            self.stacks[first:] + self.stacks[:first],
            self.blinds,
            self.holes[first:] + self.holes[:first],
            self.board,
        )

    @property
    def payoffs(self) -> tuple[int, ...]:
        """What each won or lost in all, as the text has it: collected + uncalled - put in."""
        return tuple(
            won + back - paid for won, back, paid in zip(self.collected, self.uncalled, self.put_in, strict=True)
        )


def play(recorded: RecordedHand) -> Result:
    """Let PokerKit play a recorded hand, every action by its player, on its street.

    Raises:
        HistoryError: the rules refuse an action, the hand goes on after the last action, or it is over
            before. The error names the line.
    """
    try:
        hand = Hand(recorded.deal)
    except BadDeal as refused:
        _fail(recorded, recorded.line, "a hand that can be dealt", str(refused), refused)
    for step in recorded.actions:
        if hand.actor != step.player or hand.street != step.street:
            turn = f"an action by {hand.actor} on the {hand.street}" if hand.actor else "no more actions"
            _fail(recorded, step.line, turn, f"one by {step.player} on the {step.street}")
        try:
            hand.act(step.player, step.action)
        except IllegalAction as refused:
            _fail(recorded, step.line, "an action that the rules allow", str(refused), refused)
        except BadDeal as refused:
            _fail(recorded, step.line, "board cards for the next street", "none", refused)
    if not hand.finished:
        due = recorded.actions[-1].line + 1 if recorded.actions else recorded.line
        _fail(recorded, due, f"an action by {hand.actor}", "the end of the betting")
    result = hand.result()
    if len(result.board) != len(recorded.board):
        _fail(recorded, recorded.last_line, f"{len(result.board)} board cards", str(len(recorded.board)))
    return result


def _fail(recorded: RecordedHand, line: int, wanted: str, came: str, cause: Exception | None = None) -> NoReturn:
    advice = f"get an unaltered copy of hand {recorded.id}, or take the hand out"
    raise HistoryError(recorded.source, line, wanted, came, advice) from cause


def compare(recorded: RecordedHand, result: Result) -> list[str]:
    """Where the text and the hand as played disagree about the outcome, in words; empty if nowhere.

    Compared are each player's collected amount, uncalled bet and final payoff, the summary's amounts, the
    total pot, and the rake (hands are played without one). Amounts must be equal to the hundredth. Only
    where the text cut a split pot within a hundredth may a winner's differ, by less than one hundredth for
    each winner, because PokerKit gives the odd ones to the first in position.

    Args:
        recorded: what the text tells.
        result: how the same hand was played, here or at a table.
    """
    found: list[str] = []
    winners = sum(1 for amount in recorded.collected if amount)
    slack = max(0, winners - 1) if recorded.inexact else 0

    def hold(what: str, told: int, played: int, slack: int = 0) -> None:
        if abs(told - played) > slack:
            found.append(f"hand {recorded.id}: {what}: {chips(told)} in the text, {chips(played)} as played")

    if sorted(recorded.players) != sorted(result.players) or recorded.id != result.hand:
        return [f"hand {recorded.id}: another hand was played: {result.hand} with {', '.join(result.players)}"]
    for seat, player in enumerate(recorded.players):
        i = result.players.index(player)
        hold(f"{player} collected", recorded.collected[seat], result.collected[i], slack)
        hold(f"{player} got back uncalled", recorded.uncalled[seat], result.uncalled[i])
        hold(f"{player} in all", recorded.payoffs[seat], result.payoffs[i], slack)
        won = recorded.won[seat]
        if won is not None:
            hold(f"{player} won by the summary", won, result.collected[i], slack)
    hold("total pot", recorded.pot, result.pot)
    hold("rake", recorded.rake, 0)
    return found
