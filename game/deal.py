"""Cards and the deal: all that a hand starts from, as a value.

Nothing here knows a rule of poker or imports PokerKit, so a client that only shows cards stays light. The
deck is shuffled by a generator that comes in as an argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from runtime.errors import Misuse
from runtime.kernel.messages import message

# The 52 cards, "2c" to "As", in a fixed order.
DECK: tuple[str, ...] = tuple(rank + suit for rank in "23456789TJQKA" for suit in "cdhs")

_KNOWN = frozenset(DECK)
_MOST_PLAYERS = (len(DECK) - 5) // 2


class BadDeal(Misuse):
    """A `Deal` that no hand can be played from; `hand` is its number. The text never names a card."""

    def __init__(self, hand: int, text: str) -> None:
        super().__init__(f"hand {hand}: {text}")
        self.hand = hand


@message("hand.deal", version=1)
class Deal:
    """All that a hand starts from. Its repr hides the cards, because it travels in messages and logs.

    Attributes:
        hand: the hand's number.
        players: 2 to 23 different names in position order: the small blind, the big blind, and so on to
            the button. Between two players the small blind is the button, as the rules want it.
        stacks: what each has before the blinds, in hundredths, above 0.
        blinds: small and big blind in hundredths, 0 < small <= big. A stack below its blind posts what it
            has.
        holes: two cards each, like `"3c9s"`.
        board: the cards that will come, in order: five, or as many as a recorded hand saw.
    """

    hand: int
    players: tuple[str, ...]
    stacks: tuple[int, ...]
    blinds: tuple[int, int]
    holes: tuple[str, ...]
    board: tuple[str, ...]

    @property
    def button(self) -> str:
        """Who has the dealer button: the last to act after the flop."""
        return self.players[-1] if len(self.players) > 2 else self.players[0]

    def __repr__(self) -> str:
        return (
            f"Deal(hand={self.hand!r}, players={self.players!r}, stacks={self.stacks!r}, "
            f"blinds={self.blinds!r}, holes=<redacted>, board=<redacted>)"
        )


class Shuffler(Protocol):
    """What can shuffle a list in place, such as `random.Random`: the World's, never the global one."""

    def shuffle(self, x: list[str], /) -> None:
        """Bring `x` into a random order."""


def shuffle_deck(rng: Shuffler) -> tuple[str, ...]:
    """The 52 cards in a random order; the same generator state gives the same deck."""
    deck = list(DECK)
    rng.shuffle(deck)
    return tuple(deck)


def deal_from(
    deck: Sequence[str], hand: int, players: tuple[str, ...], stacks: tuple[int, ...], blinds: tuple[int, int]
) -> Deal:
    """Deal a hand from the top of a deck: one card to each from the small blind on, twice, then the board.

    Args:
        deck: at least `2 * len(players) + 5` different cards.
        hand: the hand's number.
        players: in position order, small blind first.
        stacks: in hundredths, above 0, one for each player.
        blinds: small and big blind in hundredths.

    Raises:
        BadDeal: the deck is too short. Everything else is checked when a `Hand` is made of the deal.
    """
    count = len(players)
    if len(deck) < 2 * count + 5:
        raise BadDeal(hand, f"wanted {2 * count + 5} cards for {count} players, got {len(deck)}: use a full deck")
    holes = tuple(deck[i] + deck[count + i] for i in range(count))
    return Deal(hand, players, stacks, blinds, holes, tuple(deck[2 * count : 2 * count + 5]))


def check_deal(deal: Deal) -> None:
    """Refuse a deal that PokerKit would refuse late, accept with a warning, or trip over.

    Raises:
        BadDeal: with what is wrong; the text names no card.
    """
    count = len(deal.players)
    if not 2 <= count <= _MOST_PLAYERS or len(set(deal.players)) != count or "" in deal.players:
        raise BadDeal(deal.hand, f"wanted 2 to {_MOST_PLAYERS} different names, got {deal.players!r}: seat others")
    if len(deal.stacks) != count or not all(type(stack) is int and stack > 0 for stack in deal.stacks):
        raise BadDeal(
            deal.hand,
            f"wanted {count} stacks of whole hundredths above 0, got {deal.stacks!r}: leave empty stacks out",
        )
    small, big = deal.blinds
    if type(small) is not int or type(big) is not int or not 0 < small <= big:
        raise BadDeal(
            deal.hand,
            f"wanted blinds with 0 < small <= big in whole hundredths, got {deal.blinds!r}: mend them",
        )
    if len(deal.holes) != count or any(len(hole) != 4 for hole in deal.holes) or len(deal.board) > 5:
        raise BadDeal(
            deal.hand,
            f"wanted {count} holes of two cards and at most 5 board cards, "
            f"got {len(deal.holes)} and {len(deal.board)}: deal from one deck",
        )
    cards = [hole[i : i + 2] for hole in deal.holes for i in (0, 2)] + list(deal.board)
    if len(set(cards)) != len(cards) or not _KNOWN.issuperset(cards):
        raise BadDeal(deal.hand, "wanted cards that are all different and in the deck: deal from one deck")
