"""An entity's luggage as bytes: what it handed over, with its timers, its monitors and the callers it owes replies.

A value that is handed over may hold timers, references of monitors and callers. They mean something on one node only,
so they travel as their places in lists that go before the value; where it arrives, each is made anew for the new
process first, and the value is decoded into these.

    a timer      a new one with the seconds that were left: never early, later by the move
    a monitor    a new one of the same process; it may find that that has ended
    a caller     one whose reply goes back to where it waits
    another node's value, a pid, a reference   itself

What cannot travel raises EncodeError at the node that packs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, cast, final

from runtime.behaviours.system import Handed
from runtime.cluster import terms
from runtime.codec.carried import carry
from runtime.codec.errors import DecodeError, EncodeError
from runtime.kernel.elsewhere import peers_if_any
from runtime.kernel.ids import Pid, Ref
from runtime.kernel.process import Process, monitor
from runtime.kernel.requests import Asker, Caller
from runtime.kernel.table import ProcessTable
from runtime.kernel.timer import _Interval, _Signal
from runtime.kernel.timers import Timer

from .stores import Turn

logger = logging.getLogger("banyan")

# Bytes of what one shard has in memory.
MOST: Final = 1 << 28
# Timers that are looked at in one step.
_LOOKED_AT: Final = 256


@final
@dataclass(slots=True, eq=False)
class Case:
    """What is packed with one entity, or made for it.

    Attributes:
        process: whose it is.
        timers: those that are for it.
        callers: those whose replies it owes.
        monitors: the references of those that go with it.
        mail: what lies in its mailbox and goes with it, or is known not to, in order.
        numbers: the callers who are answered from elsewhere, by number.
    """

    process: Process
    timers: list[Timer] = field(default_factory=list)
    callers: list[Caller] = field(default_factory=list)
    monitors: set[Ref] = field(default_factory=set)
    mail: list[object] = field(default_factory=list)
    numbers: dict[int, Caller] = field(default_factory=dict)


# Whose value is being encoded or decoded.
_case: Case | None = None


def _within(case: Case | None) -> Case | None:
    global _case
    before, _case = _case, case
    return before


def encoded(table: ProcessTable, value: object, case: Case | None = None) -> bytes:
    """A value as bytes; raises EncodeError."""
    before = _within(case)
    try:
        return terms.encode(place_of(table), value, MOST)
    finally:
        _within(before)


def decoded(table: ProcessTable, data: bytes, case: Case | None = None) -> Any:
    """The value of bytes; raises DecodeError."""
    before = _within(case)
    try:
        return terms.decode(place_of(table), data)
    finally:
        _within(before)


# -- an entity -------------------------------------------------------------------------------------------


async def follow_timers(table: ProcessTable, processes: Iterable[Process], turn: Turn) -> list[Pid]:
    """Have `timers_of` find the timers of these at once; their pids, to be given to `Timers.unfollow` later.

    All of the node's are looked through, which takes long where there are many: others have their turn meanwhile.
    """
    pids = [process.pid for process in processes]
    timers = table.timers
    timers.follow(pids)
    try:
        there = timers.set_now() if pids else []
        for first in range(0, len(there), _LOOKED_AT):
            for one in there[first : first + _LOOKED_AT]:
                timers.note(one)
            await turn.over()
    except BaseException:
        timers.unfollow(pids)
        raise
    return pids


def timers_of(table: ProcessTable, processes: Iterable[Process]) -> dict[Pid, list[Timer]]:
    """The timers that are for processes, by pid; if one is not followed, all of the node's are looked through."""
    found: dict[Pid, dict[Timer, None]] = {process.pid: {} for process in processes}
    timers = table.timers
    for one in list(timers.noted) if found.keys() <= timers.followed else timers.set_now():
        if isinstance(one, Timer) and type(one.destination) is Pid and one.destination in found and one.waiting:
            found[one.destination][one] = None
    return {pid: list(ones) for pid, ones in found.items()}


def pack_entity(case: Case, handed: Handed, owed: list[object], mail: list[bytes]) -> bytes:
    """What one entity takes with it.

    Args:
        owed: how each of the case's callers is answered from elsewhere, as a value.
        mail: what lies in its mailbox, each as bytes.
    """
    table = case.process.table
    place = place_of(table)
    now = table.timers.clock()
    timers, monitors = [], []
    if handed.value is not None:
        timers = [_timer_as_value(table, one, now) for one in case.timers]
        for ref, target in (case.process.monitors or {}).items():
            if target is not None:
                monitors.append((place.identity_of(ref), target.pid))
                case.monitors.add(ref)
    head = encoded(table, (tuple(timers), tuple(monitors), tuple(owed)))
    body = encoded(table, (handed.value, handed.own), case)
    return encoded(table, (head, body, tuple(mail)))


def unpack_entity(
    process: Process, data: bytes, caller_of: Callable[[Any, Process], Caller], take: Callable[[Any, Process], None]
) -> Handed:
    """What a process that starts has from before; its timers and monitors are set. Raises DecodeError.

    Args:
        caller_of: makes the caller out of what was said of how it is answered.
        take: puts a piece of mail into the mailbox.
    """
    table = process.table
    place = place_of(table)
    head, body, mail = decoded(table, data)
    timers, monitors, owed = decoded(table, head)
    case = Case(process)
    now = table.timers.clock()
    for one in timers:
        timer = _timer_from(table, process, one, now)
        if timer.waiting:
            table.timers.add(timer)
        case.timers.append(timer)
    for identity, pid in monitors:
        ref = place.adopt(*identity)
        monitor(process, ref, pid, pid._process)
    for one in owed:
        case.callers.append(caller_of(one, process))
    for piece in mail:
        try:
            take(decoded(table, piece), process)
        except DecodeError as error:
            logger.warning("a message to %s, which has moved here, is lost: %s", process.label, error)
    return Handed(*decoded(table, body, case))


def owed_by(table: ProcessTable, data: bytes) -> list[Any]:
    """What was said of the callers to whom a process owes replies that does not start."""
    head, _, mail = decoded(table, data)
    owed = list(decoded(table, head)[2])
    for piece in mail:
        try:
            kind, message = decoded(table, piece)
        except DecodeError:
            continue
        if kind == "call":
            owed.append(message)
    return owed


def _timer_as_value(table: ProcessTable, timer: Timer, now: float) -> tuple[object, ...] | None:
    """A timer as a value; None for one whose message means nothing elsewhere: its behaviour sets it anew."""
    left = max(0.0, timer.due - now)
    try:
        encoded(table, timer.message)
    except EncodeError:
        return None
    if isinstance(timer, _Interval):
        return ("again", left, timer.message, timer.interval)
    if isinstance(timer, _Signal):
        return ("exit", left, timer.message, timer.source)
    return ("once", left, timer.message, None)


def _timer_from(table: ProcessTable, process: Process, value: Any, now: float) -> Timer:
    if value is None:
        return _no_timer(process)
    kind, left, message, more = value
    if kind == "again":
        again = _Interval(table, more, process.pid, message)
        again.due = now + left
        return again
    if kind == "exit":
        return _Signal(table, now + left, process.pid, message, more)
    return Timer(table, now + left, process.pid, message)


# -- what means something by its place in a list -----------------------------------------------------------


def _take_timer(timer: Timer) -> tuple[object, ...]:
    if _case is None:
        raise EncodeError("a value that means something elsewhere", "a timer", "hand it over, or keep its due time")
    return (next((index for index, one in enumerate(_case.timers) if one is timer), -1),)


def _make_timer(index: object) -> Timer:
    if _case is None or type(index) is not int:
        raise DecodeError("a timer in what was handed over", "one elsewhere")
    if 0 <= index < len(_case.timers):
        return _case.timers[index]
    return _no_timer(_case.process)


def _no_timer(process: Process) -> Timer:
    over = Timer(process.table, 0.0, process.pid, None)
    over.stop()
    return over


def _take_caller(caller: Caller) -> tuple[object, ...]:
    if _case is None:
        raise EncodeError("a value that means something elsewhere", "a caller", "hand it over, or answer it first")
    return (next((index for index, one in enumerate(_case.callers) if one is caller), -1),)


def _make_caller(index: object) -> Caller:
    if _case is None or type(index) is not int:
        raise DecodeError("a caller in what was handed over", "one elsewhere")
    if 0 <= index < len(_case.callers):
        return _case.callers[index]
    # It has left, or was answered.
    return Caller(None, None, _case.process, _case.process.pid)


for _kind in (Timer, _Interval, _Signal):
    carry(_kind, f"banyan.timer.{_kind.__name__.strip('_').lower()}", 1, _take_timer, _make_timer)
for _who in (Caller, Asker):
    carry(_who, f"banyan.caller.{_who.__name__.lower()}", 1, _take_caller, _make_caller)


# -- where it means what -----------------------------------------------------------------------------------


class Place(terms.Place, Protocol):
    """A node that encodes or decodes, and gives a reference of its own the identity of another's."""

    def adopt(self, node: str, creation: int, number: int) -> Ref:
        """A new reference of this node that is known by this identity from now on."""


def place_of(table: ProcessTable) -> Place:
    """Where values of a node mean something: its distribution, or itself if it has none."""
    return cast("Place", peers_if_any(table) or _Lone(table))


@final
class _Lone:
    """A node that talks to no other."""

    def __init__(self, table: ProcessTable) -> None:
        self.table = table

    def pid_of(self, node: str, creation: int, number: int) -> Pid:
        table = self.table
        process = table.processes.get(number) if (node, creation) == (table.node, table.creation) else None
        return process.pid if process is not None else Pid(node, creation, number)

    def ref_of(self, node: str, creation: int, number: int) -> Ref:
        return Ref(number)

    def identity_of(self, ref: Ref) -> tuple[str, int, int]:
        return self.table.node, self.table.creation, ref.number

    def adopt(self, node: str, creation: int, number: int) -> Ref:
        return self.table.new_ref()


__all__ = ["Case", "decoded", "encoded", "follow_timers", "pack_entity", "timers_of", "unpack_entity"]
