"""The changes of rows with which shards move, in long random walks with all that may go wrong, and with bugs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runtime.backends.memory import MemoryJournal
from runtime.cluster import moving
from runtime.cluster.membership import Membership
from runtime.cluster.placement import Own, Placement
from runtime.durable import fence

from .cluster import Broken
from .cluster_moves import walk
from .cluster_planted import PLANTED as OF_THE_CLUSTER
from .cluster_planted import Plant, planted


def _won_by_itself(_original: Any) -> Any:
    def won(self: Placement, shard: int, epoch: int) -> Any:
        self.conduct(shard, "")
        self._in_hand.discard(shard)
        self._served[shard] = epoch
        return [Own(shard, epoch, self.row(shard)[1].home)]

    return won


def _without_the_row(_original: Any) -> Any:
    async def commit(membership: Membership, shard: int, epoch: int, move: str) -> str:
        return "won"

    return commit


def _by_a_timeout(_original: Any) -> Any:
    async def abort(membership: Membership, shard: int, epoch: int) -> int | None:
        return epoch + 1

    return abort


def _same_epoch(original: Any) -> Any:
    return lambda self, row: replace(original(self, row), epoch=row.epoch)


def _any_home(original: Any) -> Any:
    return lambda self, row: replace(original(self, row), home=row.home)


PLANTED = {
    "cas_ignores_version": OF_THE_CLUSTER["cas_ignores_version"],
    "former_life_is_mine": OF_THE_CLUSTER["former_life_is_mine"],
    "fence_not_checked": Plant(
        "a sealed store takes what comes", ("stale", "lost"), ((fence, "check_fence", lambda _: lambda *_: None),)
    ),
    "not_sealed": Plant(
        "a token is given before the store is sealed",
        ("stale", "lost"),
        ((MemoryJournal, "seal", lambda _: lambda *_: None),),
    ),
    "target_without_the_row": Plant(
        "a target that has the token serves without having set the row",
        ("twice", "stolen", "stale", "lost", "epoch", "orphan"),
        ((moving, "commit", _without_the_row), (Placement, "won", _won_by_itself)),
    ),
    "source_by_a_timeout": Plant(
        "a source that has sealed serves again without having set the row",
        ("twice", "stolen", "stale", "lost", "epoch", "orphan"),
        ((moving, "abort", _by_a_timeout), (Placement, "won", _won_by_itself)),
    ),
    "same_epoch": Plant("a move does not raise the epoch", ("epoch", "twice"), ((Placement, "claim_of", _same_epoch),)),
    "home_stays": Plant(
        "a shard is still said to be at home with its source",
        ("lost", "orphan", "twice", "stale", "stolen"),
        ((Placement, "claim_of", _any_home),),
    ),
    "strays_stay": Plant(
        "a plan that was made late stays in the row", ("moving",), ((Placement, "_strays", lambda _: lambda self: []),)
    ),
    "in_hand_forgotten": Plant(
        "who conducts begins anew, and what the former one had sealed is left as it is",
        ("orphan", "moving", "balance"),
        ((Placement, "abandoned", lambda _: lambda self: []),),
    ),
}


def test_long_walks_with_moves_break_nothing_and_reach_everything() -> None:
    """In 60 long random walks nothing breaks, and every way in which a move can go was gone."""
    passed: set[str] = set()
    for seed in range(60):
        passed |= walk(seed)
    assert passed >= {
        *("planned", "cleared", "sealed", "arrived", "taken", "resumed", "void", "conducted anew"),
        *("too late to arrive", "too late to resume", "lost answer", "late change", "fenced", "crash", "left"),
    }


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_of_moves_is_found(name: str) -> None:
    """Each planted bug is found within 80 walks, by one of the rules that it breaks."""
    assert found(PLANTED[name]) in PLANTED[name].by


def found(plant: Plant) -> str:
    """The rule by which a bug is found; "" if it is not."""
    for seed in range(80):
        with planted(plant):
            try:
                walk(seed)
            except Broken as broken:
                return str(broken).partition(":")[0]
    return ""
