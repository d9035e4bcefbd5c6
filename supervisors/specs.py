"""Child specs: a supervisor's children, declared as values, checked before anything runs.

Source: OTP `supervisor:child_spec()`; rules S2-S4, S54.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, final

from runtime.errors import Misuse
from runtime.kernel.ids import Name, Via

from .backoff import Backoff

Strategy = Literal["one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one"]
Restart = Literal["permanent", "transient", "temporary"]
AutoShutdown = Literal["never", "any_significant", "all_significant"]
Shutdown = float | Literal["brutal_kill"]

STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one")
RESTARTS = ("permanent", "transient", "temporary")
TYPES = ("worker", "supervisor")
AUTO_SHUTDOWNS = ("never", "any_significant", "all_significant")

INFINITY = math.inf


class BadSpec(Misuse):
    """A child spec or a supervisor's flags that can never work; nothing was started."""


class DuplicateChild(BadSpec):
    """Two children of one supervisor have the same id; `id` is it."""

    def __init__(self, child_id: object) -> None:
        super().__init__(f"the child id {child_id!r} is there twice: give each child of a supervisor an id of its own")
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
    name: Name | None = None
    backoff: Backoff | None = None


@final
@dataclass(frozen=True, slots=True)
class Flags:
    """How a supervisor treats its children."""

    strategy: Strategy = "one_for_one"
    intensity: int = 1
    period: float = 5.0
    auto_shutdown: AutoShutdown = "never"
    backoff: Backoff | None = None


def child(
    child_id: str,
    start: Callable[..., Any],
    *args: Any,
    restart: Restart = "permanent",
    shutdown: Shutdown | None = None,
    significant: bool = False,
    name: Name | None = None,
    backoff: Backoff | None = None,
) -> ChildSpec:
    """Declare a child of a supervisor.

    Args:
        child_id: unique under its supervisor.
        start: a behaviour's class or an async function, started with `args`.
        restart: permanent (always), transient (unless it ended in order), temporary (never).
        shutdown: seconds it may take to end before it is killed; math.inf waits for ever;
            "brutal_kill" kills at once. Default: 5 seconds, for a supervisor math.inf.
        significant: whether its own end may end the supervisor (with `auto_shutdown`).
        name: a local name for it, or a Via.
        backoff: how long its restarts wait; by default as its supervisor says, which by default is not at all.

    Raises:
        BadSpec: any of these is not what it must be.
    """
    # Asked by attribute, so that this file stays free of the processes that behaviours are made of.
    kind: Literal["worker", "supervisor"]
    kind = "supervisor" if getattr(start, "child_type", "worker") == "supervisor" else "worker"
    if shutdown is None:
        shutdown = INFINITY if kind == "supervisor" else 5.0
    spec = ChildSpec(child_id, start, args, restart, shutdown, kind, significant, name, backoff)
    return check_spec(spec)


def check_spec(spec: object) -> ChildSpec:
    """The spec, if it can work; raises BadSpec with what was wanted, what came and what to do."""
    if not isinstance(spec, ChildSpec):
        advice = getattr(spec, "advice_as_child", "declare children with child(id, start, ...)")
        raise BadSpec(f"wanted a child spec, got {spec!r}: {advice}")
    if not isinstance(spec.id, str) or not spec.id:
        raise BadSpec(f"a child's id is a non-empty string, got {spec.id!r}: give it one in child(id, ...)")
    whose = f"child {spec.id!r}: "
    if not callable(spec.start):
        raise BadSpec(f"{whose}wanted a behaviour's class or an async function to start, got {spec.start!r}")
    if type(spec.args) is not tuple:
        raise BadSpec(f"{whose}args is a tuple, got {spec.args!r}: give them after `start` in child(...)")
    if spec.restart not in RESTARTS:
        raise BadSpec(f"{whose}restart is one of {', '.join(RESTARTS)}, got {spec.restart!r}")
    if spec.type not in TYPES:
        raise BadSpec(f"{whose}type is one of {', '.join(TYPES)}, got {spec.type!r}")
    if type(spec.significant) is not bool:
        raise BadSpec(f"{whose}significant is True or False, got {spec.significant!r}")
    if spec.name is not None and type(spec.name) is not Via and (type(spec.name) is not str or not spec.name):
        raise BadSpec(f"{whose}a name is a non-empty string or a Via, got {spec.name!r}")
    if spec.shutdown != "brutal_kill" and not (_is_number(spec.shutdown) and spec.shutdown >= 0):
        raise BadSpec(f"{whose}shutdown is seconds from 0 up, math.inf or 'brutal_kill', got {spec.shutdown!r}")
    _check_backoff(whose, spec.backoff)
    return spec


def check_flags(flags: Flags) -> Flags:
    """The flags, if they can work; raises BadSpec."""
    if flags.strategy not in STRATEGIES:
        raise BadSpec(f"strategy is one of {', '.join(STRATEGIES)}, got {flags.strategy!r}")
    if type(flags.intensity) is not int or flags.intensity < 0:
        raise BadSpec(f"intensity is how many restarts are allowed, an int from 0 up, got {flags.intensity!r}")
    if not _is_number(flags.period) or not flags.period > 0:
        raise BadSpec(f"period is seconds above 0, got {flags.period!r}")
    if flags.auto_shutdown not in AUTO_SHUTDOWNS:
        raise BadSpec(f"auto_shutdown is one of {', '.join(AUTO_SHUTDOWNS)}, got {flags.auto_shutdown!r}")
    _check_backoff("", flags.backoff)
    return flags


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_backoff(whose: str, backoff: object) -> None:
    if backoff is not None and not isinstance(backoff, Backoff):
        raise BadSpec(f"{whose}backoff is a Backoff(first, factor, limit, jitter), or None, got {backoff!r}")


def check_combination(spec: ChildSpec, auto_shutdown: AutoShutdown) -> None:
    """A significant child needs auto_shutdown and must not be permanent (S54); raises BadCombination."""
    if spec.significant and (auto_shutdown == "never" or spec.restart == "permanent"):
        raise BadCombination(
            f"child {spec.id!r} is significant, which needs auto_shutdown other than 'never' and restart other "
            f"than 'permanent'; got {auto_shutdown!r} and {spec.restart!r}"
        )


def check_children(specs: object, flags: Flags) -> list[ChildSpec]:
    """All children of one supervisor, in start order, if they can work together; raises BadSpec."""
    checked: list[ChildSpec] = []
    seen: dict[str, None] = {}
    for raw in _list_of(specs):
        spec = check_spec(raw)
        check_combination(spec, flags.auto_shutdown)
        if spec.id in seen:
            raise DuplicateChild(spec.id)
        seen[spec.id] = None
        checked.append(spec)
    return checked


def check_childspecs(specs: Iterable[ChildSpec], auto_shutdown: AutoShutdown | None = None) -> None:
    """Whether these could be the children of one supervisor, before there is any (OTP: `check_childspecs/1,2`).

    Args:
        auto_shutdown: what that supervisor will say; None leaves `significant` unchecked.

    Raises:
        BadSpec: a spec, or `auto_shutdown`, cannot work.
        DuplicateChild: an id is there twice.
        BadCombination: see S54.
    """
    if auto_shutdown is not None:
        check_children(specs, check_flags(Flags(auto_shutdown=auto_shutdown)))
        return
    checked = [check_spec(spec) for spec in _list_of(specs)]
    check_children([replace(spec, significant=False) for spec in checked], Flags())


def _list_of(specs: object) -> Iterable[object]:
    if isinstance(specs, (str, bytes)) or not isinstance(specs, Iterable):
        raise BadSpec(f"wanted a list of child specs, got {specs!r}: make it [child(id, start, ...), ...]")
    return specs
