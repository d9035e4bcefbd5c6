"""One hand of no-limit hold'em: the adapter over PokerKit, whose rules these are; it has none of its own.

A hand is a value and a replay. The value is a `Deal` (who sits where, with what, and every card that will
come) plus the tuple of actions so far; a `Hand` is PokerKit's mutable state brought to that point. A table
keeps the value and treats the `Hand` as a cache: `Hand(deal, actions)` always rebuilds it.

    >>> deal = deal_from(DECK, 1, ("ann", "bob", "cy"), (20_000, 20_000, 20_000), (50, 100))
    >>> hand = Hand(deal)
    >>> hand.actor, hand.legal()
    ('cy', Legal(player='cy', may_fold=True, to_call=100, min_raise_to=200, max_raise_to=20000))
    >>> for player, action in (("cy", Fold()), ("ann", RaiseTo(300)), ("bob", Fold())):
    ...     hand.act(player, action)
    >>> hand.result().payoffs
    (100, -100, 0)

Every card is dealt explicitly, every burn is an unknown card, and PokerKit's deck holds only the cards that
the deal names, because PokerKit draws from the global `random` wherever it may choose. (It still shuffles
that deck, so it advances the generator, but no outcome depends on it.) Tournament mode is chosen for three
rules, not for tournaments: a fold with nothing to call is an error instead of a warning (and could
otherwise burn a side pot), all-in hands are shown, and there is exactly one runout, so an all-in needs no
further decisions.

All amounts are ints in hundredths of a chip, so that split pots stay whole. Source: PokerKit 0.7,
`pokerkit.state.State`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TypeVar, assert_never, cast

from pokerkit import (
    Automation,
    BetCollection,
    BlindOrStraddlePosting,
    Card,
    CheckingOrCalling,
    CompletionBettingOrRaisingTo,
    Deck,
    HoleCardsShowingOrMucking,
    Mode,
    NoLimitTexasHoldem,
    State,
)

from runtime.errors import Misuse

from .action import Action, CheckOrCall, Fold, IllegalAction, Legal, RaiseTo, Reason, chips
from .deal import DECK, BadDeal, Deal, Shuffler, check_deal, deal_from, shuffle_deck
from .view import Result, SeatView, Street, View

# The one door for whoever plays hands; the values live in modules of their own, without PokerKit.
__all__ = [
    "DECK",
    "Action",
    "BadDeal",
    "CheckOrCall",
    "Deal",
    "Fold",
    "Hand",
    "IllegalAction",
    "Legal",
    "RaiseTo",
    "Reason",
    "Result",
    "SeatView",
    "Shuffler",
    "Street",
    "View",
    "chips",
    "deal_from",
    "shuffle_deck",
]

T = TypeVar("T")

# Parsed once: parsing is what costs most when PokerKit is given strings.
_CARDS: dict[str, Card] = {name: next(Card.parse(name)) for name in DECK}
_STREETS: dict[int, Street] = {0: "preflop", 3: "flop", 4: "turn", 5: "river"}
# All but those that touch cards. Showing is left out only because its automation works every hand out twice.
_AUTOMATIONS = (
    Automation.ANTE_POSTING,
    Automation.BET_COLLECTION,
    Automation.BLIND_OR_STRADDLE_POSTING,
    Automation.HAND_KILLING,
    Automation.CHIPS_PUSHING,
    Automation.CHIPS_PULLING,
)


class Hand:
    """A hand in play: PokerKit's state for a deal and the actions so far.

    Not a record and not to be shared: it lives inside one process and is rebuilt from `deal` and `actions`
    wherever it is needed. Its repr names no card.

    Args:
        deal: what the hand starts from.
        actions: what has been done, in order; each by whoever's turn it was.

    Raises:
        BadDeal: the deal cannot be played, or has fewer board cards than the actions need.
        IllegalAction: one of the actions is against the rules.
    """

    __slots__ = ("_actions", "_dealt", "_folded", "_names", "_result", "_state", "deal")

    def __init__(self, deal: Deal, actions: Iterable[Action] = ()) -> None:
        check_deal(deal)
        self.deal = deal
        # PokerKit's order: as the deal's, but between two players it puts the big blind first.
        self._names = _turned(deal.players)
        self._restart(actions)

    def _restart(self, actions: Iterable[Action]) -> None:
        deal = self.deal
        self._actions: list[Action] = []
        self._folded: set[str] = set()
        self._dealt = 0
        self._result: Result | None = None
        game = NoLimitTexasHoldem(_AUTOMATIONS, True, 0, deal.blinds, deal.blinds[1], mode=Mode.TOURNAMENT)
        holes = [(_CARDS[hole[:2]], _CARDS[hole[2:]]) for hole in _turned(deal.holes)]
        self._state = State(
            game.automations,
            # Annotated as PokerKit's enum of decks, used as any iterable of cards. Nothing is in it that
            # could be drawn by mistake, and a hand is a tenth cheaper than with 52 cards.
            cast(Deck, (*chain.from_iterable(holes), *map(_CARDS.__getitem__, deal.board))),
            game.hand_types,
            game.streets,
            game.betting_structure,
            game.ante_trimming_status,
            game.raw_antes,
            game.raw_blinds_or_straddles,
            game.bring_in,
            _turned(deal.stacks),
            len(deal.players),
            mode=game.mode,
        )
        for hole in holes:
            self._state.deal_hole(hole)
        self._go_on()  # blinds can put everyone all-in
        for action in actions:
            self.act(self.actor or "", action)

    def __repr__(self) -> str:
        turn = "ended" if self.finished else f"{self.actor} to act"
        return f"<Hand {self.deal.hand} {self.street}, {turn}, {len(self._actions)} actions>"

    @property
    def actions(self) -> tuple[Action, ...]:
        """What has been done so far."""
        return tuple(self._actions)

    @property
    def actor(self) -> str | None:
        """Whose turn it is; None when the hand has ended."""
        index = self._state.actor_index
        return None if index is None else self._names[index]

    @property
    def finished(self) -> bool:
        """Whether the hand has ended and its chips are paid out."""
        return not self._state.status

    @property
    def street(self) -> Street:
        """The street that was dealt last."""
        return _STREETS[self._dealt]

    @property
    def board(self) -> tuple[str, ...]:
        """The board cards that have come."""
        return self.deal.board[: self._dealt]

    @property
    def stacks(self) -> tuple[int, ...]:
        """Chips behind, in the deal's order, in hundredths."""
        return _turned(self._state.stacks)

    @property
    def bets(self) -> tuple[int, ...]:
        """Chips bet on this street, in the deal's order, in hundredths."""
        return _turned(self._state.bets)

    @property
    def pot(self) -> int:
        """Chips in the middle, bets included, in hundredths; 0 when the hand has ended."""
        return sum(self.deal.stacks) - sum(self._state.stacks)

    def legal(self) -> Legal | None:
        """What the player to act may do; None when the hand has ended."""
        player = self.actor
        if player is None:
            return None
        state = self._state
        to_call = state.checking_or_calling_amount
        assert to_call is not None, "a player to act can always check or call"
        least = state.min_completion_betting_or_raising_to_amount
        most = state.max_completion_betting_or_raising_to_amount
        return Legal(player, to_call > 0, to_call, least, most)

    def check(self, player: str, action: Action) -> None:
        """Raise what `act` would raise about this action, and change nothing.

        Raises:
            IllegalAction: the rules refuse it.
        """
        state = self._state
        index = state.actor_index
        if index is None or self._names[index] != player:
            raise self._out_of_turn(player, action)
        try:
            match action:
                case Fold():
                    state.verify_folding()
                case CheckOrCall():
                    state.verify_checking_or_calling()
                case RaiseTo(to=to):
                    if type(to) is not int:  # PokerKit would take a float and leave broken chips behind
                        raise ValueError(f"{to!r} is not a whole number of hundredths")
                    state.verify_completion_betting_or_raising_to(to)
                case _:
                    assert_never(action)
        except ValueError as refused:
            raise self._refused(player, action, str(refused)) from refused

    def act(self, player: str, action: Action) -> None:
        """Let `player` do `action`; streets, showdown and payment follow by themselves.

        Args:
            player: must be `actor`.
            action: amounts in hundredths; `RaiseTo` between `legal()`'s bounds.

        Raises:
            IllegalAction: the rules refuse it.
            BadDeal: the hand goes on, but the deal has no board card left.

        Whatever is raised, the hand is as it was.
        """
        # PokerKit verifies once more while it acts. That is 2 to 5 us; in return a ValueError out of the
        # middle of its payment can never pass for a refusal and leave half a hand.
        self.check(player, action)
        state = self._state
        match action:
            case Fold():
                state.fold()
                self._folded.add(player)
            case CheckOrCall():
                state.check_or_call()
            case RaiseTo(to=to):
                state.complete_bet_or_raise_to(to)
            case _:
                assert_never(action)
        try:
            self._go_on()
        except BadDeal:
            self._restart(tuple(self._actions))
            raise
        self._actions.append(action)

    def result(self) -> Result:
        """How the hand ended.

        Raises:
            Misuse: it has not ended yet.
        """
        if not self.finished:
            raise Misuse(f"hand {self.deal.hand}: wanted an ended hand, {self.actor} is to act: play on first")
        if self._result is None:
            self._result = self._settle()
        return self._result

    def view(self, player: str | None) -> View:
        """The hand as `player` may see it: own hole cards, and others' once they were shown at its end.

        Args:
            player: a name in the hand; None or any other name is a spectator, who sees no live hole card.
        """
        visible = set(self.result().shown) if self.finished else set()
        if player is not None:
            visible.add(player)
        seats = tuple(
            SeatView(
                name,
                stack,
                bet,
                name in self._folded,
                # After the end an empty stack is a lost one.
                stack == 0 and name not in self._folded and not self.finished,
                hole if name in visible else "",
            )
            for name, stack, bet, hole in zip(self.deal.players, self.stacks, self.bets, self.deal.holes, strict=True)
        )
        actor = self.actor
        legal = self.legal() if actor is not None and actor == player else None
        return View(self.deal.hand, player, self.street, self.board, self.pot, actor, legal, self.finished, seats)

    def _go_on(self) -> None:
        """Do what nobody decides: deal the next street, or all that are left, and show at the showdown."""
        state = self._state
        while True:
            if state.showdown_indices:
                state.show_or_muck_hole_cards()  # by default PokerKit shows what may win, and every all-in
            elif state.card_burning_status:
                self._deal_street(state.board_dealing_counts[0])
            else:
                return

    def _deal_street(self, count: int) -> None:
        cards = self.deal.board[self._dealt : self._dealt + count]
        if len(cards) < count:
            raise BadDeal(
                self.deal.hand,
                f"wanted {self._dealt + count} board cards, the deal has {len(self.deal.board)}: "
                "deal five, or play a recorded hand only as it was recorded",
            )
        self._state.burn_card(Card.UNKNOWN)
        self._dealt += count
        self._state.deal_board([_CARDS[card] for card in cards])

    def _settle(self) -> Result:
        """Read PokerKit's operations: it does not keep apart what was collected and what was uncalled."""
        deal, state = self.deal, self._state
        count = len(deal.players)
        put_in, uncalled, bets = [0] * count, [0] * count, [0] * count
        shown: list[str] = []
        for operation in state.operations:
            match operation:
                case BlindOrStraddlePosting(player_index=i, amount=amount):
                    bets[i] += amount
                case CheckingOrCalling(player_index=i, amount=amount):
                    bets[i] += amount
                case CompletionBettingOrRaisingTo(player_index=i, amount=amount):
                    bets[i] = amount
                case BetCollection():
                    second = sorted(bets)[-2]
                    for i, bet in enumerate(bets):
                        put_in[i] += bet
                        uncalled[i] += max(0, bet - second)
                    bets = [0] * count
                case HoleCardsShowingOrMucking(player_index=i, hole_cards=cards) if cards:
                    shown.append(self._names[i])
        stacks = self.stacks
        payoffs = tuple(after - before for before, after in zip(deal.stacks, stacks, strict=True))
        collected = tuple(
            payoff + paid - back for payoff, paid, back in zip(payoffs, _turned(put_in), _turned(uncalled), strict=True)
        )
        return Result(
            hand=deal.hand,
            players=deal.players,
            payoffs=payoffs,
            stacks=stacks,
            collected=collected,
            uncalled=_turned(uncalled),
            pot=sum(collected),
            shown=tuple(shown),
            holes=deal.holes,
            board=self.board,
        )

    def _out_of_turn(self, player: str, action: Action) -> IllegalAction:
        actor = self.actor
        if actor is None:
            return self._illegal("hand_over", "wanted no more actions", "wait for the next hand", player, action)
        if player not in self.deal.players:
            return self._illegal("unknown_player", "wanted a player of this hand", "take a seat first", player, action)
        return self._illegal("not_your_turn", f"wanted an action by {actor}", "wait for your turn", player, action)

    def _refused(self, player: str, action: Action, cause: str) -> IllegalAction:
        legal = self.legal()
        assert legal is not None, "only a player to act is refused by PokerKit"
        if isinstance(action, Fold):
            return self._illegal(
                "nothing_to_call", "wanted a fold only where there is a bet to call", "check", player, action
            )
        if legal.min_raise_to is None or legal.max_raise_to is None:
            return self._illegal("cannot_raise", f"wanted no raise ({cause})", "call or fold", player, action)
        least, most = chips(legal.min_raise_to), chips(legal.max_raise_to)
        bounds = least if least == most else f"{least} to {most}"
        return self._illegal(
            "bad_amount", f"wanted a raise to {bounds} chips", "name an amount within that", player, action
        )

    def _illegal(self, reason: Reason, wanted: str, advice: str, player: str, action: Action) -> IllegalAction:
        match action:
            case RaiseTo(to=to):
                to_what = chips(to) if type(to) is int else f"{to!r} hundredths"
                came = f"a raise to {to_what} by {player!r}"
            case Fold():
                came = f"a fold by {player!r}"
            case CheckOrCall():
                came = f"a check or call by {player!r}"
            case _:
                assert_never(action)
        return IllegalAction(reason, f"{wanted}, got {came}: {advice}", self.deal.hand, player, action)


def _turned(values: Sequence[T]) -> tuple[T, ...]:
    """From the deal's order to PokerKit's or back: they differ only between two players."""
    return tuple(values) if len(values) > 2 else tuple(values[::-1])
