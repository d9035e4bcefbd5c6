"""The processes of a node as a person asks for them: by pid or name, in a list, the busiest first.

Like `queries`, these read memory and send no message. Source: OTP `observer` and `recon:proc_count`.
"""

from __future__ import annotations

import dataclasses
import heapq
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

from ..kernel.api import ProcessInfo, process_info
from ..kernel.ids import Pid
from ..kernel.process import Process
from ..kernel.table import ProcessTable
from .queries import Gauge, TreeNode, tree

_PID = re.compile(r"<(\d{1,18})\.(\d{1,18})>")


def find(table: ProcessTable, target: str | Pid) -> Process | None:
    """The living process behind a pid, a pid's text like `<1.88>`, or a registered name; else None."""
    if isinstance(target, Pid):
        return target._process
    written = _PID.fullmatch(target)
    if written is None:
        return table.names.get(target)
    creation, number = map(int, written.groups())
    return table.processes.get(number) if creation == table.creation else None


@final
@dataclass(frozen=True, slots=True)
class Listing:
    """Some of `total` processes, those with the longest mailboxes first."""

    rows: tuple[ProcessInfo, ...]
    total: int

    def to_json(self) -> dict[str, Any]:
        """As the admin protocol sends it."""
        return {"total": self.total, "processes": [process_json(row) for row in self.rows]}

    def __str__(self) -> str:
        return "\n".join(table_lines([process_json(row) for row in self.rows], self.total))


def ps(table: ProcessTable, limit: int = 1000) -> Listing:
    """The processes of a node, at most `limit`: by the length of their mailboxes, then by age."""
    found = (process_info(process.pid) for process in table.processes.values())
    rows = heapq.nsmallest(max(0, limit), (row for row in found if row is not None), key=_order)
    return Listing(tuple(rows), len(table.processes))


def _order(row: ProcessInfo) -> tuple[int, int]:
    return -row.queue, row.pid.number


def process_json(row: ProcessInfo) -> dict[str, Any]:
    """One process as the admin protocol sends it."""
    return {
        "pid": repr(row.pid),
        "name": row.names[0] if row.names else None,
        "label": row.label,
        "state": row.state,
        "mailbox": row.queue,
        "handling": row.handling,
        "links": row.links,
        "monitors": row.monitors,
        "watchers": row.watchers,
    }


def table_lines(rows: list[dict[str, Any]], total: int) -> Iterator[str]:
    """Processes, as the protocol sends them, as lines of a table."""
    heads = ("PID", "NAME", "KIND", "STATE", "MAILBOX", "IN HAND")
    cells = [heads]
    for row in rows:
        name, busy = row["name"] or "-", row["handling"] or "-"
        cells.append((row["pid"], printable(name), row["label"], row["state"], str(row["mailbox"]), busy))
    widths = [max(len(line[column]) for line in cells) for column in range(len(heads))]
    for line in cells:
        padded = [
            cell.rjust(width) if head == "MAILBOX" else cell.ljust(width)
            for cell, width, head in zip(line, widths, heads, strict=True)
        ]
        yield "  ".join(padded).rstrip()
    if total > len(rows):
        yield f"... and {total - len(rows)} more"


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
