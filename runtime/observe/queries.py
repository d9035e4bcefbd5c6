"""What a person can ask a running node: plain functions over its table that return plain dataclasses.

They read memory and send no message, so they answer also while a supervisor waits for a child that does
not start. Every skin (commands, REPL, dashboard) shows what these return. Source: OTP `observer`, `recon`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

import msgspec
import trio

from ..behaviours.gen import Behaviour, ChildView, SupervisorView
from ..kernel.ids import Pid
from ..kernel.process import Process
from ..kernel.table import ProcessTable
from .pieces import PIECE


@final
@dataclass(frozen=True, slots=True)
class Gauge:
    """Restarts used within the last `period` seconds, of `intensity` allowed."""

    used: int
    intensity: int
    period: float


@final
@dataclass(frozen=True, slots=True)
class TreeNode:
    """One process of the tree; `state` is running, restarting, waiting (to be), suspended, stopping, or down."""

    pid: str | None
    name: str
    type: str
    state: str
    strategy: str | None = None
    restarts: Gauge | None = None
    children: tuple[TreeNode, ...] = ()
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        """As `tree --json` has it: strategy, restarts and children for supervisors only."""
        found: dict[str, Any] = {"pid": self.pid, "name": self.name, "type": self.type, "state": self.state}
        if self.detail:
            found["detail"] = self.detail
        if self.restarts is not None:
            gauge = self.restarts
            found["strategy"] = self.strategy
            found["restarts"] = {"used": gauge.used, "intensity": gauge.intensity, "period": gauge.period}
            found["children"] = [one.to_json() for one in self.children]
        return found

    def lines(self, lead: str = "", last: bool = True, top: bool = True) -> Iterator[str]:
        """The tree as text, a line for each process."""
        own = "" if top else lead + ("`-- " if last else "|-- ")
        yield own + self.describe()
        below = "" if top else lead + ("    " if last else "|   ")
        for index, one in enumerate(self.children):
            yield from one.lines(below, index == len(self.children) - 1, top=False)

    def describe(self) -> str:
        """This process in one line."""
        parts = [self.name, self.pid or "-", self.state]
        if self.restarts is not None:
            gauge = self.restarts
            parts.append(f"{self.strategy} restarts {gauge.used}/{gauge.intensity} in {gauge.period:g} s")
        if self.detail:
            parts.append(self.detail)
        return "  ".join(parts)

    def __str__(self) -> str:
        return "\n".join(self.lines())


def tree(table: ProcessTable, root: Pid, name: str = "root") -> TreeNode:
    """The supervision tree below `root`."""
    process = root._process
    if process is None:
        return TreeNode(repr(root), name, "supervisor", "down")
    return _node(process, name, "supervisor")


def _node(process: Process, name: str, kind: str) -> TreeNode:
    found, view = _head(process, name, kind)
    if view is None:
        return found
    return dataclasses.replace(found, children=tuple(_child(one) for one in view.children))


def _head(process: Process, name: str, kind: str) -> tuple[TreeNode, SupervisorView | None]:
    """A process without those below it; and if it is a supervisor, how these are found."""
    behaviour = process.behaviour
    view = behaviour.overview() if isinstance(behaviour, Behaviour) else None
    shown = _state(process)
    named = process.names[0] if process.names else name
    if view is None:
        return TreeNode(repr(process.pid), named, kind, shown, detail=_summary(behaviour)), None
    gauge = Gauge(view.used, view.intensity, view.period)
    return TreeNode(repr(process.pid), named, "supervisor", shown, view.strategy, gauge), view


def _child(view: ChildView) -> TreeNode:
    process = view.pid._process if view.pid is not None else None
    return _node(process, view.id, view.type) if process is not None else missing(view)


def missing(view: ChildView) -> TreeNode:
    """A child that is not there now."""
    pid = repr(view.pid) if view.pid is not None else None
    return TreeNode(pid, view.id, view.type, "restarting" if view.state == "up" else view.state)


async def tree_json(table: ProcessTable, root: Pid, name: str = "root", kind: str = "supervisor") -> msgspec.Raw:
    """The tree below `root` as JSON, made in pieces between which all others run; what `tree` gives, encoded.

    Each process is told as it was when its piece was read. The children of a supervisor are those that it had
    when it was reached itself; one that has ended since is told as restarting, or down.
    """
    process = root._process
    if process is None:
        return msgspec.Raw(msgspec.json.encode(TreeNode(repr(root), name, kind, "down").to_json()))
    pieces = _Pieces()
    await pieces.add(process, name, kind)
    return pieces.whole()


@final
class _Pieces:
    """Encodes a tree, giving way after each PIECE of processes."""

    def __init__(self) -> None:
        self._done: list[bytes] = []
        self._piece: list[bytes] = []

    async def add(self, process: Process, name: str, kind: str) -> None:
        found, view = _head(process, name, kind)
        said = msgspec.json.encode(found.to_json())
        if view is None:
            self._piece.append(said)
            return
        # The children stand last, as an empty list.
        self._piece.append(said.removesuffix(b"]}"))
        for index, one in enumerate(view.children):
            if index:
                self._piece.append(b",")
            if len(self._piece) >= 2 * PIECE:
                self._end_piece()
                await trio.lowlevel.checkpoint()
            child = one.pid._process if one.pid is not None else None
            if child is None:
                self._piece.append(msgspec.json.encode(missing(one).to_json()))
            else:
                await self.add(child, one.id, one.type)
        self._piece.append(b"]}")

    def whole(self) -> msgspec.Raw:
        self._end_piece()
        return msgspec.Raw(b"".join(self._done))

    def _end_piece(self) -> None:
        self._done.append(b"".join(self._piece))
        self._piece.clear()


def _summary(behaviour: object) -> str:
    try:
        return behaviour.summary() if isinstance(behaviour, Behaviour) else ""
    except Exception as error:  # an application's own words about a process that may be half made
        return f"<{type(error).__name__}>"


def _state(process: Process) -> str:
    if process.exiting is not None:
        return "stopping"
    return "suspended" if process.suspended else "running"
