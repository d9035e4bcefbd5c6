"""The nemesis: a seeded plan of faults, made before the run; whoever runs the nodes performs them.

    menu = {"kill_wallet": Menu(weight=3.0), "disk_full": Menu(weight=1.0, seconds=(0.1, 2.0))}
    for fault in plan(rng, swarm(rng, menu), count=20, steps=300):
        await trace.after(fault.after)
        perform(fault)

A fault strikes a number of task steps after the one before it, not at a time: in virtual time whoever sleeps
wakes up only when everyone else is waiting, and would never hit anybody at work.

`swarm` leaves each kind of fault out of a run with a chance of its own: a fault that strikes all the time
hides the bugs that need a quiet system to grow. Pure: dice come in as an argument. Source: Groce et al.,
"Swarm Testing"; Jepsen's nemesis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, final

from ..errors import Misuse

if TYPE_CHECKING:
    from random import Random

T = TypeVar("T")


@final
@dataclass(frozen=True, slots=True)
class Menu:
    """One kind of fault: how often it is chosen, relative to the others, and how long it lasts.

    Args:
        weight: 0 or more; 0 never.
        seconds: least and most; for faults that end by themselves at once, (0, 0).
    """

    weight: float = 1.0
    seconds: tuple[float, float] = (0.0, 0.0)


@final
@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a plan.

    Attributes:
        kind: its name in the menu.
        after: task steps since the fault before it, 1 or more.
        choice: from 0 up to below 1: who is struck; see `chosen`.
        seconds: how long it lasts.
    """

    kind: str
    after: int
    choice: float
    seconds: float


def swarm(rng: Random, menu: Mapping[str, Menu], leave_out: float = 0.4) -> dict[str, Menu]:
    """The menu of one run: each kind is left out with the chance `leave_out`; what stays varies in weight."""
    return {
        kind: Menu(entry.weight * rng.choice((0.3, 1.0, 3.0)), entry.seconds)
        for kind, entry in menu.items()
        if rng.random() >= leave_out
    }


def plan(rng: Random, menu: Mapping[str, Menu], count: int, steps: int) -> tuple[Fault, ...]:
    """A run's faults, in order.

    Args:
        rng: all that is random comes from it.
        menu: what may happen; if nothing may, the plan is empty.
        count: how many faults, 0 or more.
        steps: the mean number of task steps between two, 1 or more.
    """
    if count < 0 or steps < 1:
        raise Misuse(f"wanted 0 faults or more, 1 step apart or more, got {count} and {steps}")
    kinds = [kind for kind, entry in menu.items() if entry.weight > 0]
    if not kinds:
        return ()
    weights = [menu[kind].weight for kind in kinds]
    faults = []
    for _ in range(count):
        kind = rng.choices(kinds, weights)[0]
        after = 1 + int(rng.expovariate(1.0 / steps))
        faults.append(Fault(kind, after, rng.random(), rng.uniform(*menu[kind].seconds)))
    return tuple(faults)


def chosen(candidates: Sequence[T], choice: float) -> T | None:
    """The candidate that a fault's `choice` falls on; None if there is none."""
    if not candidates:
        return None
    return candidates[min(len(candidates) - 1, int(choice * len(candidates)))]
