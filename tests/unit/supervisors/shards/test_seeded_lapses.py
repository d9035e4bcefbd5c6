"""Moves that meet lapses and restarts, out of seeds: promises hold, nothing is left, and planted bugs are found."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from supervisors.shards.departed import Departed
from supervisors.shards.freezing import Freezing
from supervisors.shards.inward import Inward
from supervisors.shards.outward import Outward
from tests.unit.supervisors.shards.seeded_lapses import simulate


@pytest.fixture(autouse=True)
def quiet():
    """What is struck says so in the log; here nobody wants to read it."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_seeds_keep_every_promise():
    """Whatever a lapse, a restart, late news or a cut meets, nothing is lost, doubled, reordered or left over."""
    findings = {seed: simulate(seed)[0] for seed in range(6)}
    assert {seed: found for seed, found in findings.items() if found} == {}


def test_a_seed_does_the_same_each_time():
    """Two runs of one seed take the same steps."""
    assert simulate(3)[1] == simulate(3)[1]


# -- planted bugs ----------------------------------------------------------------------------------------


def numbered_anew_after_a_loss(patch):
    """What the next owner may have got already of a shard that was lost is numbered anew when the move ends."""

    def pass_on(self: Outward, shard: int, owner: Any, begun: set[int], queues: Any) -> None:
        self._pinned.setdefault(shard, None)
        original(self, shard, owner, begun, queues)

    original = Outward.pass_on
    patch.setattr(Outward, "pass_on", pass_on)


def a_loss_keeps_its_pin(patch):
    """A frozen shard is lost, and this node's window is never let go."""

    def unpin(self: Outward, shard: int) -> None:
        if self._post.owner(shard) == (self._post.node, self.windows[shard].epoch if shard in self.windows else 0):
            original(self, shard)

    original = Outward.unpin
    patch.setattr(Outward, "unpin", unpin)


def a_freeze_outlives_its_shard(patch):
    """A shard that is lost stays frozen in the books."""
    patch.setattr(Freezing, "lost", lambda self, number: None)


def a_lost_shard_goes_on(patch):
    """A shard that was lost is served on by its former owner."""

    def own(self: Inward, number: int) -> Any:
        return self.shards.get(number) or original(self, number)

    original = Inward.own
    patch.setattr(Inward, "own", own)


def stand_ins_are_forgotten(patch):
    """A router that is restarted looks after nobody who stood for one before."""
    patch.setattr(Departed, "under_another_router", lambda self, region, router: False)


PLANTED = {
    numbered_anew_after_a_loss: ("doubled", "order"),
    a_loss_keeps_its_pin: ("liveness", "left over"),
    a_freeze_outlives_its_shard: ("liveness", "left over", "doubled", "order", "lost", "crash"),
    a_lost_shard_goes_on: ("liveness", "left over", "doubled", "order", "lost"),
    stand_ins_are_forgotten: ("left over", "liveness"),
}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_found(plant, monkeypatch):
    """Each mistake that could be made is found in one of 40 seeds, and the seed passes without it."""
    found, seed = [], 0
    with monkeypatch.context() as patch:
        plant(patch)
        for seed in range(1, 41):
            found = simulate(seed)[0]
            if found:
                break
    assert found, "nothing was found"
    assert found[0].partition(":")[0] in PLANTED[plant], found
    assert simulate(seed)[0] == []
