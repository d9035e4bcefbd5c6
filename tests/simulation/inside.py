"""What the simulation reads inside a durable process that nobody else may: the one place that knows the names."""

from __future__ import annotations

from typing import Any, NoReturn

from runtime.behaviours.gen import Ack
from runtime.codec.cbor import decode
from runtime.durable.event_sourced import EventSourced
from runtime.durable.gate import Gate
from runtime.durable.record import Entry, Snapshot
from runtime.durable.recovery import recover
from runtime.kernel.process import Process

_OWN = "_EventSourced__"

Replies = dict[str, tuple[int, list[tuple[int, object]]]]


def name(attribute: str) -> str:
    """The full name of a private attribute of `EventSourced`, such as `commit`."""
    return _OWN + attribute


def state_of(process: EventSourced[Any, Any]) -> Any:
    """The committed state."""
    return getattr(process, name("gate")).committed


def replies_of(process: EventSourced[Any, Any]) -> Replies:
    """Of each sender the highest number applied, and the replies that are kept."""
    found: Replies = {}
    for sender, kept in getattr(process, name("gate")).replies.items():
        found[sender] = (kept.highest, list(kept.kept))
    return found


def outcome_of(entry: Entry) -> tuple[tuple[Any, ...], Any]:
    """The events and the reply of an entry."""
    outcome: Any = decode(entry.payload)
    events, reply, *_ = outcome
    return tuple(events), reply


def durable(process: Process) -> EventSourced[Any, Any] | None:
    """The durable process behind a process, if it is one and has recovered."""
    behaviour = process.behaviour
    if isinstance(behaviour, EventSourced) and not isinstance(process.current, Ack) and hasattr(behaviour, "sequence"):
        return behaviour
    return None


def replayed(
    kind: type[EventSourced[Any, Any]], key: str, entries: list[Entry], snapshot: Snapshot | None = None
) -> EventSourced[Any, Any]:
    """A process as its entries make it, all of them or those after a snapshot, without running it."""
    one = kind()
    one.key = key
    gate: Gate[Any] = Gate(None)
    recover(one, gate, key, snapshot, entries, _no_journal)
    setattr(one, name("gate"), gate)
    return one


def _no_journal() -> NoReturn:
    raise AssertionError("no snapshot here is of an older schema, so nobody asks for the whole history")


def stand_at(process: EventSourced[Any, Any], state: object, sequence: int) -> None:
    """Let a process that does not run have recovered a state."""
    gate: Gate[object] = Gate(state)
    gate.recover(state, sequence)
    setattr(process, name("gate"), gate)
