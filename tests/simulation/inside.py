"""What the simulation reads inside a durable process that nobody else may: the one place that knows the names."""

from __future__ import annotations

from typing import Any

from runtime.behaviours.gen import Ack
from runtime.durable.event_sourced import EventSourced
from runtime.durable.record import Entry
from runtime.kernel.process import Process

_OWN = "_EventSourced__"

Replies = dict[str, tuple[int, list[tuple[int, object]]]]


def name(attribute: str) -> str:
    """The full name of a private attribute of `EventSourced`, such as `commit`."""
    return _OWN + attribute


def state_of(process: EventSourced[Any, Any]) -> Any:
    """The committed state."""
    return getattr(process, name("state"))


def replies_of(process: EventSourced[Any, Any]) -> Replies:
    """Of each sender the highest number applied, and the replies that are kept."""
    found: Replies = {}
    for sender, kept in getattr(process, name("replies")).items():
        found[sender] = (kept.highest, list(kept.kept))
    return found


def durable(process: Process) -> EventSourced[Any, Any] | None:
    """The durable process behind a process, if it is one and has recovered."""
    behaviour = process.behaviour
    if isinstance(behaviour, EventSourced) and not isinstance(process.current, Ack) and hasattr(behaviour, "sequence"):
        return behaviour
    return None


def replayed(kind: type[EventSourced[Any, Any]], key: str, entries: list[Entry]) -> EventSourced[Any, Any]:
    """A process as its entries alone make it, without running it."""
    one = kind()
    setattr(one, name("replies"), {})
    setattr(one, name("state"), one.initial(key))
    for entry in entries:
        getattr(one, name("replay"))(entry)
    return one
