"""The supervision tree, live: each supervisor with a gauge of the restarts it has used."""

from __future__ import annotations

from typing import final

from rich.text import Text
from textual.widgets import Tree
from textual.widgets.tree import TreeNode as Branch

from runtime.observe.processes import printable
from runtime.observe.queries import Gauge, TreeNode

from .acts import Chosen

# Children of one supervisor that are shown, and those up to which it is shown open.
SHOWN = 200
OPEN = 30
# Cells of a gauge.
CELLS = 10


@final
class TreeView(Tree[TreeNode | None]):
    """The tree as it is now; what was opened or closed by hand stays so."""

    def __init__(self, *, id: str) -> None:
        super().__init__(Text("the tree has not been read yet"), id=id)
        # To choose a line opens its page; whether its children are seen is another matter.
        self.auto_expand = False

    def tell(self, found: TreeNode) -> None:
        """Show this tree."""
        first = self.root.data is None
        self._fill(self.root, found)
        if first:
            self.root.expand()

    def selected(self) -> str | None:
        """The pid of the process at the cursor; None for one that is down."""
        node = self.cursor_node.data if self.cursor_node is not None else None
        return node.pid if node is not None else None

    def chosen(self) -> Chosen | None:
        """The process at the cursor, if it lives."""
        node = self.cursor_node.data if self.cursor_node is not None else None
        return Chosen(node.pid, node.name, node.state) if node is not None and node.pid is not None else None

    def _fill(self, branch: Branch[TreeNode | None], found: TreeNode) -> None:
        """Make a branch like a part of the tree, as far as it is not."""
        line = label(found)
        if branch.data is None or branch.data != found:
            branch.data = found
            branch.set_label(line)
        shown = found.children[:SHOWN]
        branches = [one for one in branch.children if one.data is not None]
        if [_key(one.data) for one in branches] != [_key(one) for one in shown]:
            closed = {_key(one.data) for one in branches if not one.is_expanded}
            branch.remove_children()
            branches = []
            for one in shown:
                inner = one.restarts is not None
                opened = inner and len(one.children) <= OPEN and _key(one) not in closed
                branches.append(branch.add(label(one), one, expand=opened, allow_expand=inner))
        for note in [inside for inside in branch.children if inside.data is None]:
            note.remove()
        for inside, one in zip(branches, shown, strict=True):
            self._fill(inside, one)
        if len(found.children) > SHOWN:
            branch.add_leaf(Text(f"... and {len(found.children) - SHOWN:,} more", "dim"))


def _key(node: TreeNode | None) -> tuple[str, str]:
    """Who a child is: one that was restarted has another pid, and is the same line."""
    assert node is not None
    return node.name, node.type


def label(node: TreeNode) -> Text:
    """One process as a line."""
    colour = {"running": "green", "suspended": "yellow", "waiting": "yellow"}.get(node.state, "red")
    line = Text(printable(node.name), "bold" if node.restarts is not None else "")
    line.append(f"  {node.pid or '-'}", "dim").append(f"  {node.state}", colour)
    if node.restarts is not None:
        line.append(f"  {node.strategy}  ").append_text(gauge(node.restarts))
    if node.detail:
        line.append(f"  {printable(node.detail)}", "cyan")
    return line


def gauge(restarts: Gauge) -> Text:
    """How near a supervisor is to giving up: restarts used, of those that it bears."""
    used, most = restarts.used, restarts.intensity
    colour = "green" if not used else "yellow" if used < most else "red"
    width = min(max(most, 1), CELLS)
    # One restart is seen, however many are allowed.
    filled = min(width, -(-used * width // most)) if most else width * bool(used)
    return Text("▰" * filled + "▱" * (width - filled) + f" {used}/{most} in {restarts.period:g} s", colour)
