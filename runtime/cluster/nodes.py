"""Other nodes, as a program sees them: which are there, and being told when one comes or goes.

Source: OTP `net_kernel`, `erlang:monitor_node`; rules D1, D2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast, final

from ..kernel.elsewhere import SERVICE, peers_of
from ..kernel.process import Process
from ..kernel.table import ProcessTable, current_process, current_table
from .dist import Dist

_WATCH = "node watchers"


@final
@dataclass(frozen=True, slots=True)
class NodeUp:
    """A link with a node has been made. OTP's `{nodeup, Node}`."""

    node: str


@final
@dataclass(frozen=True, slots=True)
class NodeDown:
    """The link with a node is lost, or could not be made. OTP's `{nodedown, Node}`."""

    node: str


@final
class _Watchers:
    """Who is told of which nodes, on one node."""

    def __init__(self, table: ProcessTable, dist: Dist) -> None:
        self.table = table
        self.dist = dist
        # By node: how often each process is to be told of its end; and who is told of every node.
        self.of: dict[str, dict[Process, int]] = {}
        self.of_all: dict[Process, None] = {}
        dist.listeners.append(self.changed)

    def changed(self, node: str, up: bool) -> None:
        if not up:
            for process, times in self.of.pop(node, {}).items():
                for _ in range(times):
                    process.post(NodeDown(node))
        for process in self.of_all:
            process.post(NodeUp(node) if up else NodeDown(node))

    def release(self, process: Process) -> None:
        for watching in [*self.of.values(), self.of_all]:
            watching.pop(process, None)  # type: ignore[attr-defined]  # mypy joins the two dicts to an object


def nodes() -> list[str]:
    """The names of the nodes with which this one is linked, sorted; none on a node that talks to no others."""
    found = current_table().services.get(SERVICE)
    return cast("Dist", found).nodes() if found is not None else []


def monitor_node(node: str, on: bool = True) -> None:
    """Be told once, by a `NodeDown` message, when the link with a node is lost; on=False takes one such wish back.

    Without a link one is asked for; NodeDown comes if there is none to be had. As often as it is asked, so many
    messages come (as in OTP). It ends with the caller.
    """
    process, watchers = current_process(), _watchers()
    if not on:
        times = watchers.of.get(node, {})
        if times.get(process, 0) > 1:
            times[process] -= 1
        else:
            times.pop(process, None)
        return
    if node == watchers.table.node:
        return
    times = watchers.of.setdefault(node, {})
    times[process] = times.get(process, 0) + 1
    watchers.table.keep(process, watchers)
    if not watchers.dist.peer(node).connects():
        watchers.table.timers.soon(watchers.changed, node, False)


def monitor_nodes(on: bool = True) -> None:
    """Be told of every node that comes (`NodeUp`) and goes (`NodeDown`) from now on, until turned off."""
    process, watchers = current_process(), _watchers()
    if on:
        watchers.of_all[process] = None
        watchers.table.keep(process, watchers)
    else:
        watchers.of_all.pop(process, None)


def _watchers() -> _Watchers:
    table = current_table()
    found = table.services.get(_WATCH)
    if found is None:
        found = table.services[_WATCH] = _Watchers(table, cast("Dist", peers_of(table)))
    return cast("_Watchers", found)


__all__ = ["NodeDown", "NodeUp", "monitor_node", "monitor_nodes", "nodes"]
