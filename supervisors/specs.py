"""Child specs: a supervisor's children, declared as values, checked before anything runs.

Source: OTP `supervisor:child_spec()`; rules S2-S4, S54.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, final

from runtime.errors import Misuse

Strategy = Literal["one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one"]
Restart = Literal["permanent", "transient", "temporary"]
AutoShutdown = Literal["never", "any_significant", "all_significant"]
Shutdown = float | Literal["brutal_kill"]

STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one")
RESTARTS = ("permanent", "transient", "temporary")
AUTO_SHUTDOWNS = ("never", "any_significant", "all_significant")

INFINITY = math.inf


class BadSpec(Misuse):
    """A child spec or a supervisor's flags that can never work; nothing was started."""


class DuplicateChild(BadSpec):
    """Two children of one supervisor have the same id; `id` is it."""

    def __init__(self, child_id: object) -> None:
        super().__init__(f"the child id {child_id!r} is there twice: ids are unique under one supervisor")
        self.id = child_id


class BadCombination(BadSpec):
    """`significant` children and `auto_shutdown` do not go together as given (S54)."""


@final
@dataclass(frozen=True, slots=True)
class ChildSpec:
    """One child, as a value. Make it with `child(...)`."""

    id: str
    start: Callable[..., Any]
    args: tuple[Any, ...] = ()
    restart: Restart = "permanent"
    shutdown: Shutdown = 5.0
    type: Literal["worker", "supervisor"] = "worker"
    significant: bool = False
    name: str | None = None


@final
@dataclass(frozen=True, slots=True)
class Flags:
    """How a supervisor treats its children."""

    strategy: Strategy = "one_for_one"
    intensity: int = 1
    period: float = 5.0
    auto_shutdown: AutoShutdown = "never"


def child(
    child_id: str,
    start: Callable[..., Any],
    *args: Any,
    restart: Restart = "permanent",
    shutdown: Shutdown | None = None,
    significant: bool = False,
    name: str | None = None,
) -> ChildSpec:
    """Declare a child of a supervisor.

    Args:
        child_id: unique under its supervisor.
        start: a behaviour's class or an async function, started with `args`.
        restart: permanent (always), transient (unless it ended in order), temporary (never).
        shutdown: seconds it may take to end before it is killed; math.inf waits for ever;
            "brutal_kill" kills at once. Default: 5 seconds, for a supervisor math.inf.
        significant: whether its own end may end the supervisor (with `auto_shutdown`).
        name: a local name for it.

    Raises:
        BadSpec: any of these is not what it must be.
    """
    # Asked by attribute, so that this file stays free of the processes that behaviours are made of.
    kind: Literal["worker", "supervisor"]
    kind = "supervisor" if getattr(start, "child_type", "worker") == "supervisor" else "worker"
    if shutdown is None:
        shutdown = INFINITY if kind == "supervisor" else 5.0
    spec = ChildSpec(child_id, start, args, restart, shutdown, kind, significant, name)
    check_spec(spec)
    return spec


def check_spec(spec: object) -> ChildSpec:
    """The spec, if it can work; raises BadSpec with what was wanted, what came and what to do."""
    if not isinstance(spec, ChildSpec):
        raise BadSpec(f"wanted a child spec, got {spec!r}: declare children with child(id, start, ...)")
    if not isinstance(spec.id, str) or not spec.id:
        raise BadSpec(f"a child's id is a non-empty string, got {spec.id!r}")
    if not callable(spec.start):
        raise BadSpec(
            f"child {spec.id!r}: wanted a behaviour's class or an async function to start, got {spec.start!r}"
        )
    if spec.restart not in RESTARTS:
        raise BadSpec(f"child {spec.id!r}: restart is one of {', '.join(RESTARTS)}, got {spec.restart!r}")
    if spec.name is not None and (type(spec.name) is not str or not spec.name):
        raise BadSpec(f"child {spec.id!r}: a name is a non-empty string, got {spec.name!r}")
    if spec.shutdown != "brutal_kill" and (
        not isinstance(spec.shutdown, (int, float)) or isinstance(spec.shutdown, bool) or not spec.shutdown >= 0
    ):
        raise BadSpec(
            f"child {spec.id!r}: shutdown is seconds from 0 up, math.inf or 'brutal_kill', got {spec.shutdown!r}"
        )
    return spec


def check_flags(flags: Flags) -> Flags:
    """The flags, if they can work; raises BadSpec."""
    if flags.strategy not in STRATEGIES:
        raise BadSpec(f"strategy is one of {', '.join(STRATEGIES)}, got {flags.strategy!r}")
    if type(flags.intensity) is not int or flags.intensity < 0:
        raise BadSpec(f"intensity is how many restarts are allowed, an int from 0 up, got {flags.intensity!r}")
    if not isinstance(flags.period, (int, float)) or not flags.period > 0:
        raise BadSpec(f"period is seconds above 0, got {flags.period!r}")
    if flags.auto_shutdown not in AUTO_SHUTDOWNS:
        raise BadSpec(f"auto_shutdown is one of {', '.join(AUTO_SHUTDOWNS)}, got {flags.auto_shutdown!r}")
    return flags


def check_combination(spec: ChildSpec, flags: Flags) -> None:
    """A significant child needs auto_shutdown and must not be permanent (S54); raises BadCombination."""
    if spec.significant and (flags.auto_shutdown == "never" or spec.restart == "permanent"):
        raise BadCombination(
            f"child {spec.id!r} is significant, which needs auto_shutdown other than 'never' and restart other "
            f"than 'permanent'; got {flags.auto_shutdown!r} and {spec.restart!r}"
        )


def check_children(specs: Iterable[object], flags: Flags) -> list[ChildSpec]:
    """All children of one supervisor, in start order, if they can work together; raises BadSpec."""
    checked: list[ChildSpec] = []
    seen: dict[str, None] = {}
    for raw in specs:
        spec = check_spec(raw)
        check_combination(spec, flags)
        if spec.id in seen:
            raise DuplicateChild(spec.id)
        seen[spec.id] = None
        checked.append(spec)
    return checked
