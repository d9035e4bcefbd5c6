"""Recovery: a process's state out of its newest snapshot and the entries after it, versions brought up to date.

An entry's payload is `(events, reply)`, with True behind them if the sender counts on being remembered for
ever. A snapshot's is `(state, senders, expired, horizon)`; one of the first days has no more than the first
two. An entry that only marks where a whole state was saved holds SAVED.

A record of an older version goes through the class's `upcast`, a state of an older schema through its
`upcast_state`; a state that nobody brings up to date is made anew from all its events, if they are all there.
Nothing is ever skipped: what cannot be read or applied ends the recovery, with its position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol, cast

from ..codec.cbor import Upcast, decode, encode
from ..codec.errors import DecodeError, NewerVersion, OlderVersion, UnknownRecord
from ..kernel.messages import UnknownMessage, name_of, registered
from .durability import KeepEntries, Retention
from .gate import Gate, Replies
from .history import EventNewer, EventNotUpcast, ReplayFailed, SnapshotNewer, StateNotUpcast
from .journal import Journal
from .record import Entry, Snapshot

SAVED: Final = encode("saved")


class Recoverable(Protocol):
    """What recovery asks of a process's class."""

    @property
    def schema(self) -> int: ...

    def initial(self, key: str, /) -> Any: ...

    def apply(self, state: Any, event: Any, /) -> Any: ...

    def upcast(self, name: str, version: int, fields: tuple[object, ...], /) -> object: ...

    def upcast_state(self, state: Any, schema: int, /) -> Any: ...

    def _event_of(self, event: Any, schema: int, /) -> Any: ...


def pack_outcome(events: tuple[Any, ...], reply: object, lasting: bool) -> bytes:
    """An entry's payload."""
    return encode((events, reply, True) if lasting else (events, reply))


def pack_state(gate: Gate[Any]) -> bytes:
    """A snapshot's payload: the committed state, and what each sender was answered."""
    return encode(parts_of(gate))


def parts_of(gate: Gate[Any]) -> tuple[Any, ...]:
    """What a gate holds that is committed, as plain values: see `restore`."""
    senders = tuple(
        (sender, row.highest, tuple(row.kept), row.heard, row.lasting) for sender, row in gate.replies.items()
    )
    return gate.committed, senders, tuple(gate.expired.items()), gate.horizon


def restore(gate: Gate[Any], parts: tuple[Any, ...], wall: float = 0.0) -> Any:
    """Put into a new gate what `parts_of` gave, but for the state, which is returned."""
    state, senders, *more = parts
    for sender, highest, kept, *rest in senders:
        heard, lasting = rest or (wall, False)
        gate.replies[sender] = Replies(highest, tuple(kept), heard, lasting)
    if more:
        expired, gate.horizon = more
        gate.expired = dict(expired)
    return state


def take_in(gate: Gate[Any], held: object) -> None:
    """Put into a new gate what a process of before had in memory: its last entry and `parts_of`; None: nothing."""
    if held is not None:
        sequence, parts = cast("tuple[int, tuple[Any, ...]]", held)
        gate.recover(restore(gate, parts), sequence)


def outcome_of(one: Recoverable, entry: Entry) -> tuple[tuple[Any, ...], object, bool]:
    """An entry's events as they are today, its reply, and whether its sender lasts.

    Raises: EventNotUpcast, EventNewer, ReplayFailed, StateNotUpcast.
    """
    key, sequence = entry.key, entry.sequence
    if entry.schema > one.schema:
        raise EventNewer(key, sequence, "schema", entry.schema, one.schema)
    try:
        outcome: Any = decode(entry.payload, upcast=upcaster(one))
    except NewerVersion as error:
        raise EventNewer(key, sequence, error.name, error.version, error.current) from error
    except OlderVersion as error:
        raise EventNotUpcast(key, sequence, error.name, error.version, error.current) from error
    except UnknownRecord as error:
        raise EventNotUpcast(key, sequence, error.name, error.version, None) from error
    except DecodeError as error:
        raise ReplayFailed(key, sequence, "its upcaster", error) from error
    if type(outcome) is not tuple:
        # It stands for a whole state that its snapshot held.
        raise StateNotUpcast(key, sequence, entry.schema, one.schema, sequence + 1)
    events, reply, *more = outcome
    if entry.schema < one.schema:
        events = tuple(one._event_of(event, entry.schema) for event in events)
        if any(event is NotImplemented for event in events):
            raise StateNotUpcast(key, sequence, entry.schema, one.schema, sequence)
    return tuple(events), reply, bool(more)


def upcaster(one: Recoverable) -> Upcast:
    """The class's `upcast` for the codec, which is told of a record that it does not know."""

    def bring(name: str, version: int, fields: tuple[object, ...]) -> object:
        made = one.upcast(name, version, fields)
        if made is NotImplemented:
            current = current_version(name)
            raise UnknownRecord(name, version) if current is None else OlderVersion(name, version, current)
        return made

    return bring


def current_version(name: str) -> int | None:
    """The version of a registered record, None if nobody has registered its name."""
    try:
        return name_of(registered(name))[1]
    except UnknownMessage:
        return None


def replay(one: Recoverable, gate: Gate[Any], state: Any, sequence: int, entries: Iterable[Entry]) -> None:
    """Bring a gate from a state after entry `sequence` to where the entries lead; errors as `outcome_of`."""
    for entry in entries:
        events, reply, lasting = outcome_of(one, entry)
        try:
            for event in events:
                state = one.apply(state, event)
        except Exception as error:  # allowed: the class's own code; its error gets the position, and is raised
            raise ReplayFailed(entry.key, entry.sequence, "apply", error) from error
        sequence = entry.sequence
        if entry.sender:
            gate.remember(entry.sender, entry.number, reply, entry.wall, lasting)
    gate.recover(state, sequence)


def recover(
    one: Recoverable,
    gate: Gate[Any],
    key: str,
    snapshot: Snapshot | None,
    entries: Iterable[Entry],
    journal: Callable[[], Journal],
) -> int:
    """Make the state that the store tells of; the sequence of the snapshot that it stands on, 0 for none.

    Args:
        gate: a new one; gets the state, and what each sender was answered.
        journal: asked for the whole history, if the snapshot is of an older schema.

    Raises: EventNotUpcast, EventNewer, SnapshotNewer, StateNotUpcast, ReplayFailed; StoreDamaged, StoreNewer.
    """
    if snapshot is None:
        replay(one, gate, one.initial(key), 0, entries)
        return 0
    held = _held(one, snapshot)
    if held is None:
        store = journal()
        first = store.first(key)
        if first != 1:
            raise StateNotUpcast(key, snapshot.sequence, snapshot.schema, one.schema, first)
        replay(one, gate, one.initial(key), 0, store.read(key))
        return 0
    state = restore(gate, held, snapshot.wall)
    replay(one, gate, state, snapshot.sequence, entries)
    return snapshot.sequence


def _held(one: Recoverable, snapshot: Snapshot) -> tuple[Any, ...] | None:
    """What a snapshot holds, its state as it is today; None if nobody brings it up to date."""
    key, sequence, schema = snapshot.key, snapshot.sequence, snapshot.schema
    if schema > one.schema:
        raise SnapshotNewer(key, sequence, "schema", schema, one.schema)
    try:
        held: Any = decode(snapshot.payload, upcast=upcaster(one))
    except NewerVersion as error:
        raise SnapshotNewer(key, sequence, error.name, error.version, error.current) from error
    except (OlderVersion, UnknownRecord):
        return None
    except DecodeError as error:
        raise ReplayFailed(key, sequence, "its upcaster", error) from error
    if schema == one.schema:
        return tuple(held)
    try:
        state = one.upcast_state(held[0], schema)
    except Exception as error:  # allowed: the class's own code; its error gets the position, and is raised
        raise ReplayFailed(key, sequence, "upcast_state", error) from error
    return None if state is NotImplemented else (state, *held[1:])


def floor_of(retain: Retention, journal: Journal, key: str, sequence: int, wall: float) -> int:
    """The first entry to keep beside a snapshot of `sequence`; 0: let all be as they are.

    Args:
        wall: the time of the snapshot.
    """
    if retain is None:
        return 0
    if isinstance(retain, KeepEntries):
        return max(0, sequence - retain.count + 1)
    # Walls of one key rise, but for a clock that was set back; then an entry more or less is kept.
    low, high = journal.first(key), sequence + 1
    while low < high:
        middle = (low + high) // 2
        entry = journal.read(key, middle - 1, 1)
        if entry and entry[0].wall < wall - retain.seconds:
            low = middle + 1
        else:
            high = middle
    return low
