"""What a durable process has done: its last journal entries, its state at any of them, and the store as a whole.

The state at a position is made as recovery makes it, by applying the entries from the first on, in a fresh
instance of the process's class: the process itself is not asked and not touched. Only what is committed is
seen. A long history is read in pieces, between which all others run. Source: event sourcing's temporal query;
OTP has no such thing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast, final

import trio

from ..cluster.membership import SERVICE as MEMBERSHIP
from ..cluster.membership import Membership
from ..cluster.shards import shard_of
from ..codec.cbor import decode
from ..durable.event_sourced import EventSourced
from ..durable.gate import Gate
from ..durable.history import HistoryError
from ..durable.journal import Journal, StoreError
from ..durable.record import MAX_KEY, Entry, Snapshot
from ..durable.recovery import outcome_of, recover, replay
from ..durable.writer import RELAXED, SERVICE, WRITER, JournalWriter, OnDemand, writer_of
from ..errors import BanyanError
from ..kernel.exits import shown
from ..kernel.table import ProcessTable
from .protocol import Code, Refusal
from .shown import VALUE_LIMIT, Change, cut, difference, fields_of, formatted, seen
from .targets import find, resolve

# Entries that are read and applied before all others have a turn.
PIECE = 100


@final
@dataclass(frozen=True, slots=True)
class LogEntry:
    """One journal entry: when (seconds since 1970), by whose numbered command, what happened, what was replied."""

    sequence: int
    wall: float
    sender: str
    number: int
    events: tuple[str, ...]
    reply: str


@final
@dataclass(frozen=True, slots=True)
class LogView:
    """The last entries of one key, oldest first; `last` is the position of its last entry."""

    key: str
    last: int
    entries: tuple[LogEntry, ...]


@final
@dataclass(frozen=True, slots=True)
class AtView:
    """The state of a durable process after the entry at `position`, and what that entry changed.

    Attributes:
        last: the position of its last entry.
        entry: the entry itself; None at position 0, before the first.
        text, fields: the state, as in a StateView.
        changes: what differs from the state at the position before.
    """

    key: str
    position: int
    last: int
    entry: LogEntry | None
    text: str
    fields: dict[str, str]
    changes: tuple[Change, ...]


@final
@dataclass(frozen=True, slots=True)
class StoreView:
    """The node's journal, as `JournalStats` counts it, and its writer.

    Attributes:
        path, epoch: where it is, and how often it was opened for writing.
        groups, written: commits and entries of the living writer.
        shown: keys with the position of their last entry, of those asked for.
    """

    path: str
    epoch: int
    keys: int
    entries: int
    snapshots: int
    commits: int
    bytes_used: int
    bytes_limit: int
    position: int
    full: bool
    groups: int
    written: int
    shown: dict[str, int]


def journal_of(table: ProcessTable) -> Journal:
    """The node's journal; raises Refusal (code 4) if it keeps none."""
    journal = table.services.get(SERVICE)
    if journal is None:
        raise Refusal(
            f"node {table.node!r} has no journal",
            "it was started without a data directory, so nothing is durable",
            "start it with --data DIR",
            Code.NOT_FOUND,
        )
    return cast("Journal", journal)


def log(table: ProcessTable, target: str, limit: int = 10, before: int | None = None) -> LogView:
    """The last entries of a durable process, which need not be alive, if it is named by its key.

    Args:
        limit: how many entries, from 1 up.
        before: only those with positions below this one.

    Raises:
        Refusal: code 4, if no key or process is meant; code 5, if its records are damaged.
    """
    key, journal, behaviour = _meant(table, target)
    last = journal.head(key)
    end = last if before is None else min(last, before - 1)
    first = max(journal.first(key) - 1, end - limit, 0)
    entries = _read(journal, key, first, end - first) if end > first else []
    return LogView(key, last, tuple(_shown(behaviour, entry) for entry in entries))


async def at(table: ProcessTable, target: str, position: int | None = None) -> AtView:
    """The state of a durable process after the entry at a position, with the change that this entry made.

    Args:
        target: a living process, whose class says how its events apply.
        position: 0 is before the first entry; negative counts back from the last; None is the last.

    Raises:
        Refusal: code 4, if there is no such process or position; code 5, if its records are damaged; code 1, if
            its events do not apply.
    """
    key, journal, behaviour = _meant(table, target)
    if behaviour is None:
        why = "its process is not alive, and only that knows how its events apply"
        raise Refusal(f"the past of {key!r} cannot be told", why, f"start it; `banyan log {key}` shows its entries", 4)
    last = journal.head(key)
    wanted = last if position is None else last + position if position < 0 else position
    if not 0 <= wanted <= last:
        why = f"its journal goes from 0 (before the first) to {last}"
        raise Refusal(f"{key!r} has no position {position}", why, "ask for one of these", Code.NOT_FOUND)
    entry = _read(journal, key, wanted - 1, 1)[0] if wanted else None
    try:
        before, state = await _states(journal, behaviour, key, wanted)
    except HistoryError as error:
        said, _, advice = str(error).rpartition("; ")
        raise Refusal(f"the past of {key!r} cannot be told", said, advice, Code.FAILED) from error
    text, fields = shown_state(behaviour, state)
    earlier = shown_state(behaviour, before)[1] if entry is not None else fields
    told = _shown(behaviour, entry) if entry is not None else None
    return AtView(key, wanted, last, told, text, fields, difference(earlier, fields))


def store(table: ProcessTable, prefix: str = "", limit: int = 20) -> StoreView:
    """Counts of the node's journal, and the first `limit` keys that begin with `prefix`; raises Refusal (4)."""
    journal = journal_of(table)
    stats = journal.stats()
    writer = table.services.get(WRITER)
    groups, written = (writer.groups, writer.entries) if isinstance(writer, JournalWriter) else (0, 0)
    keys = journal.keys(prefix)[:limit] if limit else []
    return StoreView(
        path=journal.path,
        epoch=journal.epoch,
        keys=stats.keys,
        entries=stats.entries,
        snapshots=stats.snapshots,
        commits=stats.commits,
        bytes_used=stats.bytes_used,
        bytes_limit=stats.bytes_limit,
        position=stats.position,
        full=stats.full,
        groups=groups,
        written=written,
        shown={key: journal.head(key) for key in keys},
    )


def _meant(table: ProcessTable, target: str) -> tuple[str, Journal, EventSourced[Any, Any] | None]:
    """The key that is meant, where it is kept, and its living behaviour, if it has one."""
    process = find(table, target)
    if process is None and is_key(table, target):
        return target, _kept_in(table, target), None
    behaviour = (process if process is not None else resolve(table, target)).behaviour
    if not isinstance(behaviour, EventSourced):
        why = f"it is a {type(behaviour).__qualname__}" if behaviour is not None else "it is a plain function"
        raise Refusal(f"{target!r} has no journal", why, "log and at are for durable processes", Code.NOT_FOUND)
    return behaviour.key, _kept_in(table, behaviour.key), behaviour


def is_key(table: ProcessTable, target: str) -> bool:
    """Whether the store has a history under that key; raises Refusal (4) if there is no store."""
    if not target or len(target.encode("utf-8", "replace")) > MAX_KEY or not target.isprintable():
        return False
    return _kept_in(table, target).head(target) > 0


def _kept_in(table: ProcessTable, key: str) -> Journal:
    """The store that has a key's history: the durable one, the relaxed one, or that of a node that was adopted."""
    journal = journal_of(table)
    adopted = _adopted(table, key)
    if adopted is not None:
        return adopted
    relaxed = table.services.get(RELAXED)
    if isinstance(relaxed, OnDemand) and relaxed.holds(key):
        return writer_of(table, RELAXED).journal
    return journal


def _adopted(table: ProcessTable, key: str) -> Journal | None:
    """The adopted store that has the history of an entity of that name; None if there is none."""
    region, _, entity = key.partition("/")
    membership = table.services.get(MEMBERSHIP)
    if not entity or not isinstance(membership, Membership):
        return None
    writer = membership.writer(shard_of(region, entity, membership.cluster.shards))
    journal = writer_of(table, writer).journal if writer else None
    return journal if journal is not None and journal.head(key) else None


async def _states(journal: Journal, behaviour: EventSourced[Any, Any], key: str, wanted: int) -> tuple[Any, Any]:
    """The states before and after the entry at a position, made from the first entry on, or the kept snapshot."""
    one = type(behaviour)()
    gate = Gate(one.initial(key))
    begin = 0
    if journal.first(key) != 1 and wanted:
        snapshot, _ = _loaded(journal, key)
        if snapshot is None or snapshot.sequence > wanted:
            kept = (
                f"its state is kept from {snapshot.sequence} on" if snapshot is not None else "nothing before is kept"
            )
            why = f"its earlier entries were dropped, and {kept}"
            raise Refusal(f"the state of {key!r} at {wanted} cannot be told", why, "ask for a later one", 4)
        recover(one, gate, key, snapshot, (), lambda: journal)
        begin = snapshot.sequence
    before = gate.committed
    while begin < wanted:
        # The last one alone, so that there is a state before it.
        size = min(PIECE, wanted - 1 - begin) or 1
        entries = _read(journal, key, begin, size)
        before = gate.committed
        replay(one, gate, before, begin, entries)
        begin += size
        await trio.lowlevel.checkpoint()
    return before, gate.committed


def _loaded(journal: Journal, key: str) -> tuple[Snapshot | None, list[Entry]]:
    try:
        return journal.load(key)
    except StoreError as error:
        raise _unreadable(key, error) from error


def _read(journal: Journal, key: str, after: int, limit: int) -> list[Entry]:
    try:
        return journal.read(key, after, limit)
    except StoreError as error:
        raise _unreadable(key, error) from error


def _unreadable(key: str, error: StoreError) -> Refusal:
    said, _, advice = str(error).rpartition("; ")
    return Refusal(f"the journal of {key!r} cannot be read", said, advice, Code.REFUSED)


def entry_of(journal: Journal, behaviour: object, key: str, sequence: int) -> LogEntry | None:
    """One entry of a key as its process allows it to be seen; None if it is not kept any more."""
    entries = _read(journal, key, sequence - 1, 1) if sequence >= journal.first(key) else []
    return _shown(behaviour if isinstance(behaviour, EventSourced) else None, entries[0]) if entries else None


def _shown(behaviour: EventSourced[Any, Any] | None, entry: Entry) -> LogEntry:
    try:
        if behaviour is not None:
            events, reply, _ = outcome_of(behaviour, entry)
        else:
            events, reply, *_ = cast("tuple[Any, ...]", decode(entry.payload))
        texts, answer = tuple(seen(behaviour, one) for one in events), seen(behaviour, reply)
    except (BanyanError, ValueError) as error:  # records that this program does not know
        texts, answer = (f"<{type(error).__name__}: {cut(str(error), 200)}>",), ""
    return LogEntry(entry.sequence, entry.wall, entry.sender, entry.number, texts, answer)


def shown_state(behaviour: object, state: object) -> tuple[str, dict[str, str]]:
    """A state as text and by its parts, as its process allows; never fails for what that does."""
    try:
        found = formatted(behaviour, state)
    except Exception as error:  # a formatter of the application
        return f"<unprintable: {type(error).__name__}>", {}
    return cut(shown(found), 10 * VALUE_LIMIT), fields_of(found)
