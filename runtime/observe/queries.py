"""What a person can ask a running node: plain functions over its table that return plain dataclasses.

They read memory and send no message, so they answer also while a supervisor waits for a child that does
not start. Every skin (commands, REPL, dashboard) shows what these return. Source: OTP `observer`, `recon`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

from ..behaviours.gen import Behaviour, ChildView, SupervisorView
from ..kernel.ids import Pid
from ..kernel.process import Process
from ..kernel.table import ProcessTable


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
    """One process of the tree; `state` is running, restarting, suspended, stopping, or down."""

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
    return _node(process, name, "supervisor", "up")


def _node(process: Process, name: str, kind: str, state: str) -> TreeNode:
    behaviour = process.behaviour
    view = behaviour.overview() if isinstance(behaviour, Behaviour) else None
    shown = _state(process)
    named = process.names[0] if process.names else name
    if view is None:
        return TreeNode(repr(process.pid), named, kind, shown, detail=_summary(behaviour))
    return TreeNode(
        repr(process.pid),
        named,
        "supervisor",
        shown,
        view.strategy,
        Gauge(view.used, view.intensity, view.period),
        tuple(_child(one) for one in _in_order(view)),
    )


def _in_order(view: SupervisorView) -> tuple[ChildView, ...]:
    return view.children


def _child(view: ChildView) -> TreeNode:
    process = view.pid._process if view.pid is not None else None
    if process is not None:
        return _node(process, view.id, view.type, view.state)
    return TreeNode(
        repr(view.pid) if view.pid is not None else None,
        view.id,
        view.type,
        "restarting" if view.state in ("restarting", "up") else "down",
    )


def _summary(behaviour: object) -> str:
    try:
        return behaviour.summary() if isinstance(behaviour, Behaviour) else ""
    except Exception as error:  # an application's own words about a process that may be half made
        return f"<{type(error).__name__}>"


def _state(process: Process) -> str:
    if process.exiting is not None:
        return "stopping"
    return "suspended" if process.suspended else "running"
