"""Whom a person means: a process by its pid, its name, its key, or the last word of one of these.

Looked for in this order, and the first that fits decides: a pid as it is printed (`<1.88>`, or `1.88`, which
needs no quotes in a shell), a registered name, the id of one child in the tree, and what ends with `/WORD`, so
that `t-042` finds `table/t-042`. If several fit, nobody is guessed: the refusal names them.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Iterator

from ..behaviours.gen import Behaviour, ChildView
from ..kernel.ids import Pid
from ..kernel.process import Process
from ..kernel.table import ProcessTable
from .pieces import in_pieces, least
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
    return (
        _only(text, _children(text, _views(table))) or _only(text, _living(table, _endings(table, text))) or _none(text)
    )


async def resolve_in_pieces(table: ProcessTable, target: str) -> Process:
    """As `resolve`, letting others run while a large node is looked through."""
    process = find(table, target)
    if process is not None:
        return process
    children = _children(
        target, [one async for one in in_pieces(_views(table)) if one is not None and one.id == target]
    )
    tail = f"/{target}"
    endings = [name async for name in in_pieces(list(table.names)) if name.endswith(tail)]
    return _only(target, children) or _only(target, _living(table, endings)) or _none(target)


def _only(target: str, candidates: dict[str, Process]) -> Process | None:
    """The one candidate, None if there is none; raises Refusal if there are several."""
    if len(candidates) > 1:
        raise ambiguous(target, list(candidates))
    return next(iter(candidates.values()), None)


def _none(target: str) -> Process:
    raise nobody(target)


def _children(target: str, views: Iterable[ChildView | None]) -> dict[str, Process]:
    """The living children of all supervisors that bear this id, by their pids."""
    found = (one.pid._process for one in views if one is not None and one.id == target and one.pid is not None)
    return {repr(process.pid): process for process in found if process is not None}


def _views(table: ProcessTable) -> Iterator[ChildView | None]:
    """Each child of each supervisor; and None for each process that is looked at, since that takes time too."""
    for process in list(table.processes.values()):
        yield None
        behaviour = process.behaviour
        if isinstance(behaviour, Behaviour) and behaviour.child_type == "supervisor":
            view = behaviour.overview()
            yield from view.children if view is not None else ()


async def missing_child(table: ProcessTable, target: str) -> ChildView | None:
    """The only child of that id, if it is not there now."""
    found = [one async for one in in_pieces(_views(table)) if one is not None and one.id == target]
    if len(found) != 1 or (found[0].pid is not None and found[0].pid._process is not None):
        return None
    return found[0]


async def child_view(process: Process) -> ChildView | None:
    """A process as its supervisor knows it; None if nobody supervises it."""
    parent = process.parent._process if process.parent is not None else None
    behaviour = parent.behaviour if parent is not None else None
    view = behaviour.overview() if isinstance(behaviour, Behaviour) else None
    async for one in in_pieces(view.children if view is not None else ()):
        if one.pid == process.pid:
            return one
    return None


def _endings(table: ProcessTable, target: str) -> list[str]:
    """The names that end with this word."""
    tail = f"/{target}"
    return [name for name in table.names if name.endswith(tail)]


def _living(table: ProcessTable, names: list[str]) -> dict[str, Process]:
    """Those of the names that are somebody's still, in order."""
    return {name: table.names[name] for name in sorted(names) if name in table.names}


def name_of(process: Process) -> str:
    """What a person calls a process: its name, else its kind."""
    return process.names[0] if process.names else process.label


def full_name(process: Process) -> str:
    """What tells a process apart from all others: its name, else its kind and pid."""
    return process.names[0] if process.names else f"{process.label} {process.pid!r}"


async def names(table: ProcessTable, prefix: str, limit: int) -> list[str]:
    """Names and pids that begin with a prefix, names first, at most `limit`; a large node is read in pieces."""
    found = await least(_beginning(list(table.names), prefix), limit, str)
    bare = prefix.removeprefix("<")
    if bare[:1].isdecimal():
        async for process in in_pieces(list(table.processes.values())):
            if len(found) >= limit:
                break
            if repr(process.pid)[1:].startswith(bare):
                found.append(repr(process.pid))
    return found


async def _beginning(texts: list[str], prefix: str) -> AsyncIterator[str]:
    async for one in in_pieces(texts):
        if one.startswith(prefix):
            yield one


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
