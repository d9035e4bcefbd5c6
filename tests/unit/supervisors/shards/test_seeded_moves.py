"""Shards that move to and fro under load, out of seeds: promises hold, runs repeat, and planted bugs are found."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from supervisors.shards import leaving
from supervisors.shards.departed import Departed, StandIn
from supervisors.shards.freezing import Freezing
from supervisors.shards.intake import Intake
from supervisors.shards.leaving import Leaving
from supervisors.shards.outward import Outward
from tests.unit.supervisors.shards.seeded_moves import simulate


@pytest.fixture(autouse=True)
def quiet():
    """What is struck says so in the log; here nobody wants to read it."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("cuts", [False, True])
def test_seeds_keep_every_promise(cuts):
    """Moves, moves that are given up, crashes and cuts lose, double and reorder nothing, and tell no end of nobody."""
    findings = {seed: simulate(seed, cuts=cuts)[0] for seed in range(4)}
    assert {seed: found for seed, found in findings.items() if found} == {}


def test_a_seed_does_the_same_each_time():
    """Two runs of one seed take the same steps."""
    assert simulate(3, cuts=True)[1] == simulate(3, cuts=True)[1]


# -- planted bugs ----------------------------------------------------------------------------------------


def rows_stay_behind(patch):
    """The next owner knows nothing of what senders were answered."""
    patch.setattr(Intake, "packed", lambda self, begun: [])


def mail_goes_the_long_way(patch):
    """What lies in mailboxes goes through the window of the node, and is overtaken."""
    patch.setattr(Leaving, "_mail", lambda self, case, *, takes_all: [])


def mail_is_left_behind(patch):
    """What has come into a mailbox since it was packed is dropped."""
    patch.setattr(Leaving, "_drain", lambda self, process, case, *, takes_all: [])


def senders_run_ahead(patch):
    """This node's own window follows the new owner before what it has here is in order."""
    patch.setattr(Outward, "pin", lambda self, shard: None)


def timers_run_on(patch):
    """A timer that was packed goes on where it was as well."""
    original = leaving.Leaving._leave

    def leave(self: Leaving, freeze: Any, entity: Any, process: Any, *, forced: bool = False) -> Any:
        for case in freeze.packed.values():
            case.timers = []
        return original(self, freeze, entity, process, forced=forced)

    patch.setattr(Leaving, "_leave", leave)


def nobody_stands_in(patch):
    """Links and monitors of who goes are told of its end."""
    original = Departed.stand_for

    def stand_for(self: Departed, process: Any, *args: Any) -> StandIn:
        watchers, process.watchers = process.watchers, None
        stand = original(self, process, *args)
        process.watchers = watchers
        return stand

    patch.setattr(Departed, "stand_for", stand_for)


def callers_are_forgotten(patch):
    """Who waits for a reply is not answered from elsewhere."""
    patch.setattr(Departed, "replied", lambda self, frame: None)


def who_freezes_and_dies_is_not_missed(patch):
    """A shard stays frozen whose mover has ended."""
    patch.setattr(Freezing, "ended", lambda self, ref: None)


PLANTED = {
    rows_stay_behind: ("doubled", "order", "lost", "timer"),
    mail_goes_the_long_way: ("order", "timer"),
    mail_is_left_behind: ("lost", "liveness", "timer"),
    senders_run_ahead: ("order", "doubled", "lost", "liveness", "timer"),
    timers_run_on: ("timer",),
    nobody_stands_in: ("down",),
    callers_are_forgotten: ("liveness", "lost"),
    who_freezes_and_dies_is_not_missed: ("liveness",),
}

# Seeds that are tried first, as they have found it before.
FOUND_BY = {callers_are_forgotten: 18, mail_goes_the_long_way: 5}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_found(plant, monkeypatch):
    """Each mistake that could be made is found in one of 40 seeds, and the seed passes without it."""
    found: list[str] = []
    seeds = dict.fromkeys((FOUND_BY.get(plant, 1), *range(1, 41)))
    with monkeypatch.context() as patch:
        plant(patch)
        for seed in seeds:
            found = simulate(seed, cuts=False)[0]
            if found:
                break
    assert found, "nothing was found"
    assert found[0].partition(":")[0] in PLANTED[plant], found
    assert simulate(seed, cuts=False)[0] == []
