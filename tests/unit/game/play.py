"""Hands played at random, for the property tests of the game."""

from __future__ import annotations

import random

from game.hand import Action, CheckOrCall, Deal, Fold, Legal, RaiseTo, deal_from, shuffle_deck

NAMES = ("Ann", "Bob B.", "C: calls 10", "Dée", "[Eve]", "F (6)", "GG", "H collected 5", "I'm")


def some_deal(rng: random.Random, hand: int = 1) -> Deal:
    """A deal for 2 to 9 players, with stacks from less than a blind to hundreds of them."""
    count = rng.randint(2, 9)
    big = rng.choice((2, 100, 150, 10_000))
    blinds = (rng.choice((1, big // 2, big)), big)
    stacks = tuple(rng.choice((rng.randint(1, 3 * big), 100 * big, rng.randint(big, 300 * big))) for _ in range(count))
    return deal_from(shuffle_deck(rng), hand, NAMES[:count], stacks, blinds)


def some_action(rng: random.Random, legal: Legal) -> Action:
    """Anything that is legal; the smallest and the largest raise come up often."""
    choices: list[Action] = [CheckOrCall(), CheckOrCall()]
    if legal.may_fold:
        choices.append(Fold())
    if legal.min_raise_to is not None and legal.max_raise_to is not None:
        least, most = legal.min_raise_to, legal.max_raise_to
        choices += [RaiseTo(least), RaiseTo(rng.randint(least, most))]
        if rng.randint(0, 3) == 0:
            choices.append(RaiseTo(most))
    return rng.choice(choices)
