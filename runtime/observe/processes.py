"""The processes of a node as a person asks for them: in a list, the busiest first; the tree or a part of it.

Like `queries`, these read memory and send no message. A long list is read in pieces, between which all others
run. Source: OTP `observer` and `recon:proc_count`, `recon:proc_window`.
"""

from __future__ import annotations

import dataclasses
import heapq
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from typing import Any, final

import trio

from ..durable.event_sourced import EventSourced
from ..kernel.ids import Pid
from ..kernel.process import Process
from ..kernel.requests import Caller, ExitWatch
from ..kernel.signals import content
from ..kernel.table import ProcessTable
from .pieces import PIECE, in_pieces, least, list_json
from .queries import Gauge, TreeNode, tree
from .requests import SortBy
from .targets import find, full_name, name_of

__all__ = [
    "Listing",
    "Row",
    "call_of",
    "find",
    "listing_json",
    "printable",
    "ps",
    "ps_in_pieces",
    "row_of",
    "sent_on_to",
    "subtree",
    "table_lines",
    "tree_from_json",
    "waited",
    "waits_for",
]

# Messages of one mailbox that are looked through for one whose age is known, or weighed.
LOOKED_THROUGH = 100
# Values of one process that are weighed; what lies beyond is not counted.
WEIGHED = 500
# Processes that are weighed before all others have a turn: it takes some ten times as long as a look.
WEIGHING = 20


@final
@dataclass(frozen=True, slots=True)
class Row:
    """One process at one moment.

    Attributes:
        pid, name, label: who it is; `name` is its registered name, `label` its kind.
        state: running, suspended or stopping; moved: it only stands for one that goes on at another node.
        mailbox, limit: how many messages wait, and how many may.
        oldest: at least so many seconds has a message waited; None if that is not known. Known of calls that
            have a deadline, and of what waited before them.
        handling: the type of what it has in hand, or None.
        waiting: whose reply it waits for, or None.
        turns: how often its task has run: it takes up to 32 messages in a turn.
        handled: messages since they are counted (`sys.statistics`), else None.
        unanswered: requests that it has taken and put off.
        links, monitors, watchers: how many.
        sequence: of a durable process the last journal entry on the disk, else None.
        memory: bytes, by estimate; None unless it was asked for.
        new_turns, new_mailbox: how much these have changed within a window; None without one.
    """

    pid: str
    name: str | None
    label: str
    state: str
    mailbox: int
    limit: int
    oldest: float | None
    handling: str | None
    waiting: str | None
    turns: int
    handled: int | None
    unanswered: int
    links: int
    monitors: int
    watchers: int
    sequence: int | None
    memory: int | None = None
    new_turns: int | None = None
    new_mailbox: int | None = None


def row_of(process: Process, *, memory: bool = False) -> Row:
    """What is known of a living process, read at once and without asking it."""
    behaviour = process.behaviour
    request = getattr(process.current, "request", None)
    target = waits_for(process)
    return Row(
        pid=repr(process.pid),
        name=process.names[0] if process.names else None,
        label=process.label,
        state=_state(process),
        mailbox=len(process.mailbox or ()),
        limit=process.limit,
        oldest=oldest(process),
        handling=type(request).__qualname__ if request is not None else None,
        waiting=full_name(target) if target is not None else None,
        turns=_turns(process),
        handled=_handled(process),
        unanswered=sum(1 for caller in process.deferred or () if type(caller) is not ExitWatch),
        links=len(process.links or ()),
        monitors=len(process.monitors or ()),
        watchers=len(process.watchers or ()),
        sequence=sequence_of(behaviour),
        memory=weight(process) if memory else None,
    )


def _state(process: Process) -> str:
    if process.departed:
        return "moved"
    return "stopping" if process.exiting is not None else "suspended" if process.suspended else "running"


def sequence_of(behaviour: object) -> int | None:
    """Where in its journal a durable process is; None for any other, and for one that is not up yet."""
    if not isinstance(behaviour, EventSourced):
        return None
    try:
        return behaviour.sequence
    except AttributeError:  # it is recovering
        return None


def waits_for(process: Process) -> Process | None:
    """The living process whose reply this one waits for in a call, or None.

    Of what was asked by way of another it is the one that was meant, if that runs here, else the one on the way.
    """
    call = call_of(process)
    if call is None:
        return None
    meant = sent_on_to(call)
    return (call.callee.table.names.get(meant) if meant is not None else None) or call.callee


def call_of(process: Process) -> Caller | None:
    """The call in which a process waits for the reply of a living one, or None."""
    parked = process.task.custom_sleep_data if process.task is not None else None
    if isinstance(parked, Caller) and parked.callee.pid._process is parked.callee:
        return parked
    return None


def sent_on_to(call: Caller) -> str | None:
    """For whom a call is that went to another first, as to an entity by its region's router; None if it did not."""
    meant, names = call.destination, call.callee.names
    return meant if isinstance(meant, str) and names and meant not in names else None


def waited(call: Caller) -> float | None:
    """For how many seconds a call waits; None if it has no deadline, from which that is known."""
    if not (hasattr(call, "timeout") and hasattr(call, "due")):
        return None
    return max(0.0, call.callee.table.timers.clock() - (call.due - call.timeout))


def oldest(process: Process) -> float | None:
    """At least so many seconds has a message waited in a mailbox; None if that is not known."""
    for raw in islice(process.mailbox or (), LOOKED_THROUGH):
        message = content(raw)
        # A call's slot bears its deadline from the moment at which it was sent.
        since = waited(message) if isinstance(message, Caller) else None
        if since is not None:
            return since
    return None


def _turns(process: Process) -> int:
    # Trio counts for each task how often it gave up control.
    return process.task._schedule_points if process.task is not None else 0


def _handled(process: Process) -> int | None:
    counted = process.debug.counted(0.0) if process.debug is not None else None
    return counted.messages_in if counted is not None else None


# -- what a process weighs -----------------------------------------------------------------------------

_FOLLOWED = (dict, list, tuple, set, frozenset)


def weight(process: Process) -> int:
    """Bytes that a process holds, by estimate: its task, its mailbox and the state of its behaviour.

    At most WEIGHED values are looked at, so it is too little for a large state; what several processes share
    is counted for each of them.
    """
    task = process.task
    frames = [frame for frame, _ in _frames(task)] if task is not None else []
    base = sys.getsizeof(process) + sum(sys.getsizeof(frame) for frame in frames) + 2000 * (task is not None)
    mailbox = process.mailbox
    if mailbox:
        looked = [_weigh(content(raw), 20) for raw in islice(mailbox, 20)]
        base += sys.getsizeof(mailbox) + sum(looked) * len(mailbox) // len(looked)
    return base + _weigh(process.behaviour, WEIGHED)


def _frames(task: trio.lowlevel.Task) -> Iterable[tuple[Any, int]]:
    try:
        return list(task.iter_await_frames())
    except TypeError:  # Trio cannot see into an awaitable of somebody else's making
        return ()


def _weigh(value: object, most: int) -> int:
    """The sizes of a value and of what it holds, as far as that is data and nothing of the machinery."""
    seen: set[int] = set()
    waiting, total = [value], 0
    # The machinery is not weighed, but it takes its time to pass over it: a supervisor holds much of it.
    for _ in range(4 * most):
        if not waiting or len(seen) >= most:
            break
        one = waiting.pop()
        if id(one) in seen or isinstance(one, _MACHINERY):
            continue
        seen.add(id(one))
        total += sys.getsizeof(one, 0)
        if isinstance(one, dict):
            waiting.extend(islice(one.keys(), most))
            waiting.extend(islice(one.values(), most))
        elif isinstance(one, _FOLLOWED):
            waiting.extend(islice(one, most))
        elif type(one).__module__ != "builtins":
            waiting.extend(_held(one))
    return total


_MACHINERY = (type, Process, ProcessTable, Pid, trio.lowlevel.Task, type(sys), type(_weigh))


def _held(value: object) -> list[object]:
    """What an object keeps in its attributes, read without running its code."""
    try:
        own = object.__getattribute__(value, "__dict__")
    except AttributeError:
        own = {}
    slots = [name for kind in type(value).__mro__ for name in _slots(kind)]
    found = list(own.values()) if type(own) is dict else []
    for name in slots:
        try:
            found.append(object.__getattribute__(value, name))
        except AttributeError:
            continue
    return found


def _slots(kind: type) -> tuple[str, ...]:
    slots = kind.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


# -- the list ------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Listing:
    """Some of `total` processes, in the order that was asked for; `window` seconds lie between two looks."""

    rows: tuple[Row, ...]
    total: int
    window: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """As the admin protocol sends it."""
        return {
            "total": self.total,
            "window": self.window,
            "processes": [dataclasses.asdict(row) for row in self.rows],
        }

    def __str__(self) -> str:
        return "\n".join(table_lines([dataclasses.asdict(row) for row in self.rows], self.total))


def ps(table: ProcessTable, limit: int = 1000, sort: SortBy = "mailbox") -> Listing:
    """The processes of a node, at most `limit`, read at once: by the length of their mailboxes, then by age."""
    found = [(_rank(sort, process, None), process) for process in table.processes.values()]
    return Listing(_first(found, limit, sort), len(table.processes))


async def ps_in_pieces(
    table: ProcessTable, limit: int = 1000, sort: SortBy = "mailbox", window: float = 0.0
) -> Listing:
    """As `ps`, letting others run between two pieces; with a `window` ordered by the change in so many seconds."""
    before: dict[Process, tuple[int, int]] = {}
    if window > 0.0:
        async for process in _in_pieces(table):
            before[process] = (_turns(process), len(process.mailbox or ()))
        await trio.sleep(window)
    weighing = WEIGHING if sort == "memory" else PIECE
    ranked = ((_rank(sort, process, before.get(process)), process) async for process in _in_pieces(table, weighing))
    found = await least(ranked, limit, itemgetter(0))
    memory = len(found) <= PIECE or sort == "memory"
    rows = [
        _row(process, before, memory=memory)
        async for _, process in in_pieces(found, WEIGHING if memory else PIECE)
        if process.pid._process is process
    ]
    return Listing(tuple(rows), len(table.processes), window)


async def listing_json(listing: Listing) -> dict[str, Any]:
    """A list as the admin protocol sends it, made in pieces between which all others run."""
    return {
        "total": listing.total,
        "window": listing.window,
        "processes": await list_json(list(listing.rows)),
    }


async def _in_pieces(table: ProcessTable, size: int = PIECE) -> AsyncIterator[Process]:
    """All processes; those that end meanwhile are left out."""
    async for process in in_pieces(list(table.processes.values()), size):
        if process.pid._process is process:
            yield process


_Rank = tuple[Any, int]


def _rank(sort: SortBy, process: Process, before: tuple[int, int] | None) -> _Rank:
    """What a process is ordered by, least first; then by age."""
    turns, waited = before if before is not None else (0, 0)
    number = process.pid.number
    match sort:
        case "mailbox":
            return waited - len(process.mailbox or ()), number
        case "oldest":
            return -(oldest(process) or 0.0), number
        case "turns":
            return turns - _turns(process), number
        case "memory":
            return -weight(process), number
        case "name":
            return (not process.names, name_of(process)), number
        case "pid":
            return 0, number


def _first(found: list[tuple[_Rank, Process]], limit: int, sort: SortBy) -> tuple[Row, ...]:
    first = heapq.nsmallest(max(0, limit), found, key=itemgetter(0))
    memory = len(first) <= PIECE or sort == "memory"
    return tuple(_row(process, {}, memory=memory) for _, process in first)


def _row(process: Process, before: dict[Process, tuple[int, int]], *, memory: bool) -> Row:
    row, was = row_of(process, memory=memory), before.get(process)
    if was is None:
        return row
    return dataclasses.replace(row, new_turns=_turns(process) - was[0], new_mailbox=row.mailbox - was[1])


def table_lines(rows: list[dict[str, Any]], total: int) -> Iterator[str]:
    """Processes, as the protocol sends them, as lines of a table."""
    window = any(row.get("new_turns") is not None for row in rows)
    heads = ["PID", "NAME", "KIND", "STATE", "MAILBOX", "OLDEST", "TURNS", "MEMORY", "IN HAND"]
    cells = [heads]
    for row in rows:
        busy = printable(row.get("handling") or "-")
        if row.get("waiting"):
            busy += printable(f" (waiting on {row['waiting']})")
        mailbox, turns = str(row["mailbox"]), row.get("turns")
        if window:
            mailbox += f" ({row.get('new_mailbox') or 0:+})"
            turns = f"+{row.get('new_turns') or 0}"
        cells.append(
            [
                row["pid"],
                printable(row["name"] or "-"),
                printable(row["label"]),
                row["state"],
                mailbox,
                age(row.get("oldest")),
                "-" if turns is None else str(turns),
                size(row.get("memory")),
                busy,
            ]
        )
    widths = [max(len(line[column]) for line in cells) for column in range(len(heads))]
    for line in cells:
        padded = [
            cell.rjust(width) if head in _NUMBERS else cell.ljust(width)
            for cell, width, head in zip(line, widths, heads, strict=True)
        ]
        yield "  ".join(padded).rstrip()
    if total > len(rows):
        yield f"... and {total - len(rows)} more"


_NUMBERS = ("MAILBOX", "OLDEST", "TURNS", "MEMORY")


def age(seconds: float | None) -> str:
    """Seconds as a person reads them in a column; "-" if they are not known."""
    if seconds is None:
        return "-"
    return f"{seconds:.1f} s" if seconds < 600 else f"{seconds / 60:.0f} min"


def size(count: int | None) -> str:
    """Bytes as a person reads them in a column; "-" if they are not known."""
    if count is None:
        return "-"
    for unit, bytes_each in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= bytes_each:
            return f"{count / bytes_each:.1f} {unit}"
    return f"{count} B"


def subtree(table: ProcessTable, root: Pid, target: str | Pid | None = None) -> TreeNode | None:
    """The supervision tree, or the part below `target`; None if there is nobody of that pid or name.

    A name may also be a child's id, if only one process of the tree has it.
    """
    whole = tree(table, root)
    if target is None:
        return whole
    process = find(table, target)
    wanted = repr(process.pid) if process is not None else None
    named: list[TreeNode] = []
    waiting = [whole]
    while waiting:
        node = waiting.pop()
        if wanted is not None and node.pid == wanted:
            return node
        if node.name == target:
            named.append(node)
        waiting.extend(node.children)
    if wanted is None and len(named) == 1:
        return named[0]
    if process is None:
        return None
    # Alive, but in no tree: a process that nobody supervises.
    alone = tree(table, process.pid, process.label)
    return alone if alone.restarts is not None else dataclasses.replace(alone, type="worker")


def tree_from_json(said: dict[str, Any]) -> TreeNode:
    """The tree that `TreeNode.to_json` wrote."""
    gauge = said.get("restarts")
    return TreeNode(
        said["pid"],
        said["name"],
        said["type"],
        said["state"],
        said.get("strategy"),
        Gauge(gauge["used"], gauge["intensity"], gauge["period"]) if gauge is not None else None,
        tuple(tree_from_json(one) for one in said.get("children", ())),
        said.get("detail", ""),
    )


def printable(text: str) -> str:
    """Text that a terminal can only show: control characters, as a name may bear them, are spelled out."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
