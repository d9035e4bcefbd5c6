"""Whom a person means: a process by its pid, its name, its key, or the last word of one of these.

Looked for in this order, and the first that fits decides: a pid as it is printed (`<1.88>`, or `1.88`, which
needs no quotes in a shell), a registered name, the id of one child in the tree, and what ends with `/WORD`, so
that `t-042` finds `table/t-042`. If several fit, nobody is guessed: the refusal names them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from ..behaviours.gen import Behaviour, ChildView
from ..kernel.ids import Pid
from ..kernel.process import Process
from ..kernel.table import ProcessTable
from .protocol import Code, Refusal

_PID = re.compile(r"<(\d{1,18})\.(\d{1,18})>|(\d{1,18})\.(\d{1,18})")
# Candidates that a refusal names.
NAMED = 10


def find(table: ProcessTable, target: str | Pid) -> Process | None:
    """The living process behind a pid, a pid's text like `<1.88>`, or a registered name; else None."""
    if isinstance(target, Pid):
        return target._process
    named = table.names.get(target)
    written = _PID.fullmatch(target) if named is None else None
    if written is None:
        return named
    creation, number = (int(part) for part in written.groups() if part is not None)
    return table.processes.get(number) if creation == table.creation else None


def resolve(table: ProcessTable, target: str | Pid) -> Process:
    """The living process that is meant.

    Raises:
        Refusal: code 4, if there is none, or more than one, with the candidates.
    """
    process = find(table, target)
    if process is not None:
        return process
    text = str(target)
    for candidates in (_children(table, text), _endings(table, text)):
        if len(candidates) == 1:
            return next(iter(candidates.values()))
        if candidates:
            raise ambiguous(text, list(candidates))
    raise nobody(text)


def _children(table: ProcessTable, target: str) -> dict[str, Process]:
    """The children of all supervisors that bear this id, by their pids."""
    return {repr(p.pid): p for name, p in _ids(table) if name == target}


def _ids(table: ProcessTable) -> Iterator[tuple[str, Process]]:
    """The id and the process of each child of each supervisor."""
    for process in list(table.processes.values()):
        behaviour = process.behaviour
        if not isinstance(behaviour, Behaviour) or behaviour.child_type != "supervisor":
            continue
        view = behaviour.overview()
        for one in view.children if view is not None else ():
            if one.pid is not None and one.pid._process is not None:
                yield one.id, one.pid._process


def child_view(process: Process) -> ChildView | None:
    """A process as its supervisor knows it; None if nobody supervises it."""
    parent = process.parent._process if process.parent is not None else None
    behaviour = parent.behaviour if parent is not None else None
    view = behaviour.overview() if isinstance(behaviour, Behaviour) else None
    return next((one for one in view.children if one.pid == process.pid), None) if view is not None else None


def _endings(table: ProcessTable, target: str) -> dict[str, Process]:
    """The processes whose name ends with this word, by their names."""
    tail = f"/{target}"
    return {name: process for name, process in sorted(table.names.items()) if name.endswith(tail)}


def name_of(process: Process) -> str:
    """What a person calls a process: its name, else its kind."""
    return process.names[0] if process.names else process.label


def full_name(process: Process) -> str:
    """What tells a process apart from all others: its name, else its kind and pid."""
    return process.names[0] if process.names else f"{process.label} {process.pid!r}"


def names(table: ProcessTable, prefix: str, limit: int) -> list[str]:
    """Names and pids that begin with a prefix, names first, at most `limit`."""
    found = sorted(name for name in table.names if name.startswith(prefix))[:limit]
    bare = prefix.removeprefix("<")
    if not bare[:1].isdecimal():
        return found
    pids = (repr(process.pid) for process in table.processes.values())
    return [*found, *islice((pid for pid in pids if pid[1:].startswith(bare)), limit - len(found))]


def nobody(target: str) -> Refusal:
    """Nobody has that pid or name."""
    return Refusal(
        f"there is no process {target[:200]!r}",
        "no living process has that pid or name",
        "ps and tree list those there are",
        Code.NOT_FOUND,
    )


def ambiguous(target: str, candidates: list[str]) -> Refusal:
    """More than one fits."""
    listed = ", ".join(candidates[:NAMED]) + (f" and {len(candidates) - NAMED} more" if len(candidates) > NAMED else "")
    return Refusal(
        f"which process {target[:200]!r} is, is not clear",
        f"{len(candidates)} fit: {listed}",
        "name one of them",
        Code.NOT_FOUND,
    )
