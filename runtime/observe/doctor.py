"""What seems wrong with a node, told as findings: each names who, what was seen, and what to look at next.

It reads what the other queries read, and draws the conclusions that a person would: who waits for whom, and
behind which call a whole row of processes stands. It judges by rules of thumb, so a finding is a place to look
at, not a fault. Source: `recon`'s recipes; the wait-for graph of deadlock detection.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol, final, runtime_checkable

import trio

from ..behaviours.gen import Behaviour
from ..durable.writer import SERVICE
from ..kernel.process import Process
from ..kernel.requests import Caller
from ..kernel.stalls import PATIENCE
from ..kernel.table import ProcessTable
from .past import store
from .pieces import PIECE
from .processes import call_of, oldest, sent_on_to, waited, waits_for
from .protocol import Refusal
from .recorder import recorder_of
from .set_aside import waiting
from .targets import name_of

Severity = Literal["bad", "warn", "note"]
_ORDER: dict[Severity, int] = {"bad": 0, "warn": 1, "note": 2}

# Seconds that a message may wait, and a call may take, before that is worth a word.
LATE = 1.0
# What part of a mailbox's bound, a store's room or a supervisor's restarts is much.
MUCH = 0.5
# Messages that are few, however long they wait.
FEW = 10
# Seconds for which a crash or a stall counts as recent.
RECENT = 300.0


@final
@dataclass(frozen=True, slots=True)
class Finding:
    """Something that seems wrong: how badly, with whom, what was seen, why that may be, what to look at next."""

    severity: Severity
    who: str
    what: str
    why: str
    next: str


@final
@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was looked at, and what was found, the worst first; nothing found is the best answer."""

    processes: int
    findings: tuple[Finding, ...]


@runtime_checkable
class Telling(Protocol):
    """A service of a node that knows by itself what seems wrong with what it does, such as its moves."""

    def findings(self) -> Iterable[tuple[Severity, str, str, str, str]]:
        """What it has found, each as a `Finding`; without waiting."""


async def doctor(table: ProcessTable) -> Diagnosis:
    """Look a node over; a large one in pieces, between which all others run."""
    findings: list[Finding] = []
    calls: dict[Process, Process] = {}
    late: dict[Process, Caller] = {}
    for index, process in enumerate(list(table.processes.values())):
        if index % PIECE == PIECE - 1:
            await trio.lowlevel.checkpoint()
        if process.pid._process is not process:
            continue
        target = waits_for(process)
        if target is not None:
            calls[process] = target
        call = call_of(process)
        if call is not None and (waited(call) or 0.0) >= LATE:
            late[process] = call
        findings += _of_process(process, target)
        findings += _of_supervisor(process)
    findings += _circles(calls)
    findings += _queues(calls, late)
    findings += _of_past(table)
    findings += _of_store(table)
    findings += _of_set_asides(table)
    for service in list(table.services.values()):
        if isinstance(service, Telling):
            findings += [Finding(*one) for one in service.findings()]
    return Diagnosis(len(table.processes), tuple(sorted(findings, key=lambda one: _ORDER[one.severity])))


def _of_process(process: Process, target: Process | None) -> list[Finding]:
    found: list[Finding] = []
    who, queue, age = _who(process), len(process.mailbox or ()), oldest(process)
    if process.suspended:
        why = "somebody suspended it, and nobody has resumed it"
        found.append(Finding("warn", who, f"is suspended, with {queue} messages waiting", why, _do("resume", process)))
    elif queue >= MUCH * process.limit or (queue > FEW and age is not None and age >= LATE):
        since = f", the oldest for {age:.1f} s" if age is not None else ""
        why = _busy_with(process, target)
        full: Severity = "bad" if queue >= MUCH * process.limit or (age or 0) >= LATE else "warn"
        what = f"has {queue} of {process.limit} messages waiting{since}"
        found.append(Finding(full, who, what, why, _do("mailbox", process)))
    if process.senders:
        what = f"lets {len(process.senders)} senders wait for room in its mailbox"
        found.append(Finding("bad", who, what, f"its mailbox holds {process.limit}", _do("info", process)))
    return found


def _busy_with(process: Process, target: Process | None) -> str:
    request = getattr(process.current, "request", None)
    doing = f"it is handling {type(request).__qualname__}" if request is not None else "it does not keep up"
    return f"{doing}, and waits on {_who(target)} for that" if target is not None else doing


def _circles(waiting: dict[Process, Process]) -> list[Finding]:
    """Processes that wait for each other: a call that can only time out."""
    found: list[Finding] = []
    told: set[Process] = set()
    for start in waiting:
        path: list[Process] = []
        one: Process | None = start
        while one is not None and one not in path and one not in told:
            path.append(one)
            one = waiting.get(one)
        if one is not None and one in path:
            circle = path[path.index(one) :]
            names = " -> ".join(_who(each) for each in [*circle, one])
            why = "each waits for the reply of the next, so none of them goes on before its call times out"
            found.append(Finding("bad", _who(one), f"is in a circle of calls: {names}", why, _do("stack", one)))
        told.update(path)
    return found


def _queues(waiting: dict[Process, Process], late: dict[Process, Caller]) -> list[Finding]:
    """Those behind whom several others have stood for long."""
    behind: dict[tuple[Process, str | None], list[Process]] = {}
    for process, call in late.items():
        meant = sent_on_to(call)
        # Who only passes on what is asked keeps nobody waiting: if the one behind is not here, he is named alone.
        elsewhere = meant if meant is not None and meant not in call.callee.table.names else None
        behind.setdefault((waiting[process], elsewhere), []).append(process)
    found = []
    for (target, elsewhere), callers in sorted(behind.items(), key=lambda one: -len(one[1]))[:5]:
        if len(callers) < 3:
            break
        some = ", ".join(_who(process) for process in callers)[:200]
        longest = max(waited(late[process]) or 0.0 for process in callers)
        what = f"keeps {len(callers)} callers waiting, the first for {longest:.1f} s: {some}"
        if elsewhere is not None:
            why = f"it is not here: {_who(target)} sends on to it what they ask"
            found.append(Finding("warn", elsewhere, what, why, "banyan shards"))
        else:
            why = _busy_with(target, waiting.get(target))
            found.append(Finding("warn", _who(target), what, why, _do("info", target)))
    return found


def _of_supervisor(process: Process) -> list[Finding]:
    behaviour = process.behaviour
    view = behaviour.overview() if isinstance(behaviour, Behaviour) else None
    if view is None:
        return []
    found: list[Finding] = []
    if view.used and view.used >= MUCH * view.intensity:
        what = f"has used {view.used} of {view.intensity} restarts in {view.period:g} s"
        why = "one more than it is allowed and it gives up, with all below it"
        found.append(Finding("bad", _who(process), what, why, "banyan crashes"))
    # Of very many children only the first are looked at: they come and go, and the count above tells of them.
    for one in view.children[:PIECE]:
        if one.state in ("restarting", "waiting"):
            what, why = f"is {one.state}", "it ended and is not up again"
            found.append(Finding("warn", one.id, what, why, f"banyan crashes {one.id}"))
    return found


def _of_past(table: ProcessTable) -> list[Finding]:
    recorder, now = recorder_of(table), table.world.wall()
    found = []
    crashed = Counter(
        (one.name or one.label, one.reason) for one in recorder.crashes(limit=100) if now - one.at < RECENT
    )
    for (name, reason), times in crashed.most_common(5):
        what = f"crashed {times} time{'s' * (times > 1)} in the last {RECENT / 60:g} minutes"
        found.append(Finding("warn", name, what, reason, f"banyan crashes {name}"))
    for stall in recorder.stalls(5):
        # What is shorter was told of while the whole program stood still: nobody held the loop.
        if now - stall.at < RECENT and stall.seconds >= PATIENCE:
            what = f"held the loop for {stall.seconds:.2f} s"
            why = "nothing else ran meanwhile" + (f"; it handled {stall.message}" if stall.message else "")
            found.append(
                Finding("warn", stall.name or f"{stall.label} {stall.pid}", what, why, "banyan crashes --stalls")
            )
    return found


def _of_store(table: ProcessTable) -> list[Finding]:
    if table.services.get(SERVICE) is None:
        return []
    view = store(table, limit=0)
    if view.full:
        why = "commands that change something are refused until there is room"
        return [Finding("bad", view.path, "takes no more entries", why, "make room on its disk")]
    if view.bytes_limit and view.bytes_used >= 0.9 * view.bytes_limit:
        what = f"is filled to {view.bytes_used / view.bytes_limit:.0%}"
        return [Finding("note", view.path, what, "it grows its map when it must", "banyan store")]
    return []


def _of_set_asides(table: ProcessTable) -> list[Finding]:
    try:
        found = waiting(table).commands
    except Refusal:  # it keeps nothing, or the list is damaged, of which the log tells
        return []
    errors = {one.key: one.error for one in found}
    return [
        Finding("warn", key, f"has {count} command{'s' * (count > 1)} set aside", errors[key], "banyan poison")
        for key, count in Counter(one.key for one in found).most_common(5)
    ]


def _who(process: Process) -> str:
    return f"{name_of(process)} {process.pid!r}"


def _do(word: str, process: Process) -> str:
    name = process.names[0] if process.names else repr(process.pid).strip("<>")
    return f"banyan {word} {name}"
