"""The machines of a move as tuples, which can be compared and kept by the hundred thousand; see `paper`."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from supervisors.shards.handoff import Source
from supervisors.shards.handoff_events import Effect, Event, Say
from supervisors.shards.handoff_frames import Void
from supervisors.shards.handoff_target import Target

Machine = Source | Target
_TIMES: Final = ("deadline", "_heard", "_ask_at", "_again")
_FIELDS: dict[type, tuple[str, ...]] = {}


def pack(machine: Machine, now: float) -> tuple[Any, ...]:
    """A machine as a tuple that can be compared, with `now` as the beginning of time."""
    fields = _FIELDS.get(type(machine))
    if fields is None:
        fields = _FIELDS[type(machine)] = tuple(vars(machine))
    values: list[Any] = [type(machine)]
    for name in fields:
        value = getattr(machine, name)
        if name in _TIMES and value is not None:
            value = max(value - now, -4.0)
        elif type(value) is dict:
            value = tuple(value.items())
        elif name in ("_tries", "_silent"):
            value = min(value, 3)
        elif name == "why" and value is not None:
            value = "why"
        values.append(value)
    return tuple(values)


def unpack(packed: tuple[Any, ...]) -> Machine:
    """The machine."""
    kind = packed[0]
    machine: Machine = kind.__new__(kind)
    for name, value in zip(_FIELDS[kind], packed[1:], strict=True):
        setattr(machine, name, dict(value) if name in ("_unacked", "_chunks") else value)
    return machine


@lru_cache(200_000)
def handled(packed: tuple[Any, ...], event: Event, now: float) -> tuple[tuple[Any, ...], tuple[Effect, ...]]:
    """A machine that was told something, and what it wants done."""
    machine = unpack(packed)
    effects = [
        Say(Void(one.frame.move, "why")) if isinstance(one, Say) and isinstance(one.frame, Void) else one
        for one in machine.handle(event, now)
    ]
    return pack(machine, now), tuple(effects)


def field(packed: tuple[Any, ...], name: str) -> Any:
    """What a machine has under a name."""
    return packed[1 + _FIELDS[packed[0]].index(name)]


def is_over(packed: tuple[Any, ...] | None) -> bool:
    """Whether there is no machine, or one at its end."""
    return packed is None or unpack(packed).over


def move_of(packed: tuple[Any, ...] | None) -> str:
    """The move of a machine; "" without one."""
    return str(field(packed, "_move")) if packed is not None else ""
