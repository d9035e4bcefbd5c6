"""For seeded moves that meet lapses: entities whose lives are known, what a node sees, and what may be left over."""

from __future__ import annotations

import random
from typing import Any, ClassVar

import trio

from supervisors.shards.departed import departed_of
from supervisors.shards.router import Router
from tests.unit.supervisors.shards.entities import Deposited
from tests.unit.supervisors.shards.movers import World
from tests.unit.supervisors.shards.nodes import Map
from tests.unit.supervisors.shards.seeded_moves import Basket, Till

KINDS = ("till", "purse", "basket")


class Purse(Till):
    """In memory only; all that it has ever had is known to the test."""

    durability = "volatile"
    histories: ClassVar[dict[str, set[tuple[int, ...]]]] = {}

    def apply(self, state: tuple[int, ...], event: Deposited) -> tuple[int, ...]:
        after = (*state, event.amount)
        self.histories.setdefault(self.key.partition("/")[2], set()).add(after)
        return after


class Hamper(Basket):
    """A basket that may take a while to start; what each of its lives has had is known to the test."""

    histories: ClassVar[dict[str, list[list[object]]]] = {}
    dice: ClassVar[random.Random]

    async def init(self, key: str) -> None:  # type: ignore[override]  # it may
        super().init(key)
        self.note()
        await trio.sleep(self.dice.choice([0.0, 0.0, 0.0, 0.1, 0.4]))  # virtual

    def take_over(self, value: Any) -> None:
        super().take_over(value)
        self.note()

    def note(self) -> None:
        self.histories.setdefault(self.key.partition("/")[2], []).append(self.got)


class View(Map):
    """What one node knows; nothing while its membership is away."""

    away = False

    def owner(self, shard: int, /) -> tuple[str, int] | None:
        return None if self.away else super().owner(shard)


def left_over(w: World) -> list[str]:
    """What is left of moves in the routers and tables of the nodes; there should be nothing."""
    found: list[str] = []
    for node, host in w.net.hosts.items():
        departed = departed_of(host.table)
        left: dict[str, Any] = {
            "arrivals": host.table.arrivals,
            "callers": departed._callers,
            "stand-ins": departed._stands,
            "followed": host.table.timers.followed,
        }
        for kind in KINDS:
            router: Any = host.table.names[f"region/{kind}"].behaviour
            assert isinstance(router, Router)
            left |= {
                f"{kind}'s pins": router.outward._pinned,
                f"{kind}'s requests": router.outward._entering,
                f"{kind}'s crowds": router.outward._crowd,
                f"{kind}'s callers": router.post.process.deferred,
                f"{kind}'s freezes": router.freezing.frozen,
                f"{kind}'s expected": router.inward._expected,
                f"{kind}'s closing": router.inward._closing,
                f"{kind}'s later": router.arriving._later,
                f"{kind}'s unpacking": router.arriving._unpacking,
            }
            for number, shard in router.inward.shards.items():
                left[f"{kind}'s shard {number}"] = {
                    what: value
                    for what, value in {
                        "owner": w.placement.rows[number][0] != node,
                        "epoch": w.placement.rows[number][1] != shard.intake.epoch,
                        "frozen": shard.intake.frozen,
                        "hold": shard.intake.hold,
                        "under way": shard.intake.under_way,
                        "adopted": shard.adopted,
                        "running": [one for one in shard.intake.rows.values() if one.running],
                        "entities": [
                            one
                            for one in shard.entities.values()
                            if one.waiting or one.under_way or one.asking or one.aside or one.wanted
                        ],
                    }.items()
                    if value
                }
        found += [f"left over: {node} has {what}: {value}" for what, value in left.items() if value]
    return found
