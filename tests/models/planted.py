"""Planted bugs of a move: each of them has to be found by the walk, within few states."""

from __future__ import annotations

from dataclasses import dataclass

from .moves import Found, walk
from .paper import Budget, Rules

NO_FAULTS = Budget()


@dataclass(frozen=True)
class Plant:
    """One bug: what is wrong, its world, the faults without which it does no harm, and how long it may hide."""

    wrong: str
    rules: Rules
    budget: Budget = NO_FAULTS
    states: int = 4_000


PLANTED: dict[str, Plant] = {
    "promotes": Plant("the target serves without having changed the row", Rules(promotes=True)),
    "resumes": Plant("the source goes on after the seal, by a timeout", Rules(resumes=True), Budget(hurries=2)),
    "any_epoch": Plant("the row is changed whatever its epoch", Rules(any_epoch=True), Budget(doubts=1)),
    "old_epoch": Plant("a restarted owner serves without a new epoch", Rules(old_epoch=True), Budget(crashes=1)),
    "forgets": Plant("the table of numbered commands does not travel", Rules(forgets=True)),
    "unordered": Plant("commands have no place in their sender's order", Rules(commands=2, unordered=True)),
    "hasty": Plant("a command is acknowledged before it is committed", Rules(hasty=True)),
    "unsealed": Plant("the seal does not keep the source from writing", Rules(unsealed=True), Budget(restarts=1)),
    "watch_late": Plant("what changes during the copy is not noted", Rules(watch_late=True)),
    "mislaid": Plant("what was read for a freeze that is voided counts as sent", Rules(mislaid=True), Budget(cuts=1)),
    "half_erased": Plant(
        "an erasure begins before it is written down", Rules(half_erased=True), Budget(failures=1, crashes=1), 60_000
    ),
    "unnamed": Plant(
        "an offer is taken that the row does not name", Rules(unnamed=True), Budget(moves=2, resets=1), 60_000
    ),
}


def hunt(which: str) -> Found:
    """Look for a planted bug."""
    plant = PLANTED[which]
    return walk(plant.budget, plant.rules, plant.states)
