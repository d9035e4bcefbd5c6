"""Planted bugs of membership, placement and fences: what walks through the model have to find.

Each entry of `PLANTED` is a mistake that somebody could make, patched into the running program and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import pytest

from runtime.backends.coordination import LocalCoordination
from runtime.cluster import members, placement
from runtime.cluster.coordination import CoordinationUnreachable
from runtime.cluster.members import LEASE_SECONDS, Members
from runtime.cluster.placement import Placement
from runtime.durable import fence
from runtime.durable.fence import NodeFences

from .cluster import Broken, Line, Model

Make = Callable[[Any], Any]


@dataclass(frozen=True)
class Plant:
    """One planted bug.

    Attributes:
        wrong: what it does, in words.
        by: the rules of the model that may find it.
        patches: where it is put in: an object, the name of what is replaced, and by what.
        seeds: in so many walks at most it has to be found.
    """

    wrong: str
    by: tuple[str, ...]
    patches: tuple[tuple[Any, str, Make], ...]
    seeds: int = 150


@dataclass(frozen=True)
class Detection:
    """How a planted bug was found: by which rule, in which seed."""

    by: str
    seed: int


@contextmanager
def planted(plant: Plant) -> Iterator[None]:
    """The program with the bug in it."""
    with pytest.MonkeyPatch.context() as patch:
        for owner, attribute, make in plant.patches:
            patch.setattr(owner, attribute, make(getattr(owner, attribute)))
        yield


def hunt(which: str) -> Detection | None:
    """Walk with a planted bug, seed by seed, until it is found."""
    plant = PLANTED[which]
    for seed in range(plant.seeds):
        with planted(plant):
            try:
                walk(seed)
            except Broken as broken:
                return Detection(str(broken).partition(":")[0], seed)
    return None


def walk(seed: int, steps: int = 300) -> set[str]:
    """A random walk through the model, and its end; what was met on the way."""
    dice = Random(seed)
    # One walk in three has nothing to write, one in three no crashes: they hide each other's troubles. In every
    # other one nearly all steps are single ones, and of four two have two nodes or three without a disk.
    writes, crashes = seed % 3 != 0, seed % 3 != 1
    whole = 0.66 if seed % 2 else 0.38
    keeps = ((True, True, False), (True, True, True), (True, False, False), (False, False, False))[seed // 2 % 4]
    with Model(seed, tuple(zip("abc", keeps, strict=True))) as model:
        for _ in range(steps):
            host = dice.choice(model.hosts)
            roll = dice.random()
            if roll < 0.08:
                model.start(host)
            elif roll < 0.16:
                model.begin(host)
            elif roll < 0.26:
                model.serve(host)
            elif roll < 0.36:
                model.hear(host)
            elif roll < whole:
                model.round(host)
            elif roll < 0.66:
                dice.choice((model.begin, model.serve, model.serve, model.hear, model.hear))(host)
            elif roll < 0.70:
                model.deafen(host, late=dice.random() < 0.5)
            elif roll < 0.72:
                model.land()
            elif roll < 0.74:
                if crashes:
                    model.crash(host)
            elif roll < 0.75:
                model.leave(host)
            elif roll < 0.79:
                model.adopt(host, dice.choice(model.hosts))
            elif roll < 0.86:
                model.wait(dice.choice((0.2, 1.0, 1.0, 2.0, 3.0, 9.0, 20.0)))
            elif roll < 0.88:
                model.jump(host, dice.choice((-3600.0, -5.0, 5.0, 3600.0)))
            elif writes:
                model.write(host, dice.randrange(64))
        model.settle()
        return model.passed


# -- the bugs --------------------------------------------------------------------------------------------


def _ignore_version(_original: Any) -> Any:
    def set_it(self: Any, name: str, expected: int, value: bytes) -> bool:
        self._values[name] = (self._values.get(name, (0, b""))[0] + 1, bytes(value))
        return True

    return set_it


def _any_life(_original: Any) -> Any:
    return lambda self, shard, row: row.owner == self.name and shard not in self._served


def _same_epoch(original: Any) -> Any:
    def looked(self: Placement, *args: Any, **options: Any) -> Any:
        return [
            replace(one, row=replace(one.row, epoch=one.row.epoch - 1))
            if isinstance(one, placement.Claim) and one.row.epoch > 1
            else one
            for one in original(self, *args, **options)
        ]

    return looked


def _by_the_wall(_original: Any) -> Any:
    def state(seen: Any, began: float, wall: float) -> str:
        return "left" if seen.member.left else "down" if wall >= seen.member.until else "up"

    return staticmethod(state)


def _nothing(_original: Any) -> Any:
    return lambda *_args, **_options: None


def _no_seal(_original: Any) -> Any:
    return lambda self, shard, epoch: True


def _no_home(original: Any) -> Any:
    def looked(self: Placement, rows: Any, **options: Any) -> Any:
        alive = options["alive"]
        homeless = {
            shard: (version, row if row.owner in alive else replace(row, home=""))
            for shard, (version, row) in rows.items()
        }
        return original(self, homeless, **options)

    return looked


def _believe_lost(original: Any) -> Any:
    async def change(self: Any, changes: Any, *, deadline: float | None = None) -> list[bool]:
        try:
            made: list[bool] = await original(self, changes, deadline=deadline)
        except CoordinationUnreachable:
            return [True for _ in changes]
        return made

    return change


PLANTED = {
    "cas_ignores_version": Plant(
        "a compare-and-set sets, whatever the version is",
        ("epoch", "twice", "stolen", "stale", "lost"),
        ((LocalCoordination, "_set", _ignore_version),),
    ),
    "former_life_is_mine": Plant(
        "a restarted owner serves under the epoch of its former life",
        ("twice", "balance", "orphan"),
        ((Placement, "_is_found", _any_life), (NodeFences, "claim", lambda _: lambda self, epochs: ())),
    ),
    "same_epoch": Plant(
        "a claim does not raise the epoch",
        ("epoch", "twice"),
        ((Placement, "looked", _same_epoch),),
    ),
    "fence_not_checked": Plant(
        "the store takes what comes under any epoch",
        ("stale", "lost"),
        ((fence, "check_fence", _nothing),),
    ),
    "lease_by_the_wall": Plant(
        "others' leases are judged by the wall clock, which jumps",
        ("stolen", "orphan"),
        ((Members, "_state", _by_the_wall),),
    ),
    "lease_too_long": Plant(
        "a node counts on its lease for longer than the others do",
        ("stolen",),
        ((members, "SERVE_SECONDS", lambda _: 3 * LEASE_SECONDS),),
    ),
    "no_seal": Plant(
        "a shard is given away without a seal",
        ("stale", "lost"),
        ((NodeFences, "seal", _no_seal),),
    ),
    "home_ignored": Plant(
        "a dead node's shard is taken over without its data",
        ("stale", "lost", "orphan"),
        ((Placement, "looked", _no_home),),
    ),
    "lost_answer_taken_for_yes": Plant(
        "a change whose answer was lost is taken for made",
        ("epoch", "twice", "orphan", "balance"),
        ((Line, "change", _believe_lost),),
    ),
    "served_without_lock": Plant(
        "an adopted store is let go of while its shards are still served",
        ("stale", "lost", "stolen", "twice", "orphan", "balance"),
        ((Placement, "given_up", lambda _: lambda self, store: []),),
    ),
    "epoch_of_before": Plant(
        "a node goes on under the epoch that it had before its pause",
        ("twice",),
        (
            (Placement, "_is_found", lambda _: lambda self, shard, row: self.is_mine(row)),
            (NodeFences, "claim", lambda _: lambda self, epochs: ()),
        ),
    ),
}
