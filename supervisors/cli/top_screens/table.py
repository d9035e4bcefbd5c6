"""The processes of a node as a table: who has most of something, and what they are about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, final

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import DataTable

from runtime.observe.processes import age, printable, size
from runtime.observe.requests import SortBy

from .acts import Chosen

# Columns by title; those that a node can sort by, with the word for it. First what a narrow screen needs.
COLUMNS: dict[str, SortBy | None] = {
    "PID": "pid",
    "NAME": "name",
    "STATE": None,
    "MAILBOX": "mailbox",
    "OLDEST": "oldest",
    "IN HAND": None,
    "TURNS": "turns",
    "MEMORY": "memory",
    "POSITION": None,
    "KIND": None,
}
RIGHT = ("MAILBOX", "OLDEST", "TURNS", "MEMORY", "POSITION")
# A mailbox filled to this part of its bound is shown as trouble.
FULL = 0.5


@final
class ProcessTable(DataTable[Text]):
    """A row for each process; the cursor stays with its process when the order changes."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "select_cursor", "open")]

    class Sorted(Message):
        """Somebody chose a column to sort by."""

        def __init__(self, sort: SortBy) -> None:
            super().__init__()
            self.sort = sort

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, cursor_type="row", zebra_stripes=True)
        self.rows_seen: dict[str, list[Text]] = {}
        self.seen: dict[str, Mapping[str, Any]] = {}
        self._sort: SortBy | None = None

    def on_mount(self) -> None:
        """Its columns."""
        self._head()

    def on_data_table_header_selected(self, event: DataTable.HeaderSelected) -> None:
        """Sort by a column whose title was clicked, if the node can."""
        sort = COLUMNS.get(str(event.column_key.value))
        if sort is not None:
            self.post_message(self.Sorted(sort))

    def sorted_by(self, sort: SortBy) -> None:
        """Mark the column that the order is by."""
        self._sort = sort
        if self.columns:
            rows, at = self.rows_seen, self.cursor_row
            self.clear(columns=True)
            self._head()
            for pid, line in rows.items():
                self.add_row(*line, key=pid)
            self.move_cursor(row=at, scroll=False)

    def _head(self) -> None:
        for title, sort in COLUMNS.items():
            marked = f"{title}▾" if sort is not None and sort == self._sort else title
            self.add_column(Text(marked, justify="right" if title in RIGHT else "left"), key=title)

    def tell(self, rows: list[Mapping[str, Any]]) -> None:
        """Show these processes."""
        found = {row["pid"]: cells(row) for row in rows}
        self.seen = {row["pid"]: row for row in rows}
        if list(found) == list(self.rows_seen):
            for pid, line in found.items():
                for title, old, new in zip(COLUMNS, self.rows_seen[pid], line, strict=True):
                    if old != new:
                        self.update_cell(pid, title, new, update_width=True)
        else:
            self._replace(found)
        self.rows_seen = found

    def selected(self) -> str | None:
        """The name, or else the pid, of the process at the cursor."""
        row = self._at_cursor()
        return str(row["name"] or row["pid"]) if row is not None else None

    def chosen(self) -> Chosen | None:
        """The process at the cursor."""
        row = self._at_cursor()
        return Chosen(row["pid"], row["name"] or row["label"], row["state"]) if row is not None else None

    def _at_cursor(self) -> Mapping[str, Any] | None:
        pids = list(self.rows_seen)
        return self.seen[pids[self.cursor_row]] if 0 <= self.cursor_row < len(pids) else None

    def _replace(self, found: dict[str, list[Text]]) -> None:
        pids = list(self.rows_seen)
        # Whoever has not moved the cursor wants to see the first, whoever that is.
        at = pids[self.cursor_row] if 0 < self.cursor_row < len(pids) else None
        top = self.scroll_y
        self.clear()
        for pid, line in found.items():
            self.add_row(*line, key=pid)
        if at in found:
            self.move_cursor(row=self.get_row_index(at), scroll=False)
        self.scroll_to(y=top, animate=False)


def cells(row: Mapping[str, Any]) -> list[Text]:
    """One process as the cells of its row."""
    waiting = f"(waiting on {row['waiting']})" if row["waiting"] else ""
    busy = " ".join(filter(None, (row["handling"], waiting))) or "-"
    mailbox, turns = f"{row['mailbox']:,}", f"{row['turns']:,}"
    if row["new_turns"] is not None:
        mailbox, turns = f"{mailbox} ({row['new_mailbox']:+,})", f"+{row['new_turns']:,}"
    state = {"running": "", "suspended": "yellow", "stopping": "red", "moved": "dim"}.get(row["state"], "")
    crowded = "red" if row["mailbox"] >= FULL * row["limit"] else "yellow" if row["mailbox"] else "dim"
    late = "red" if (row["oldest"] or 0.0) >= 1.0 else ""
    return [
        Text(row["pid"]),
        Text(printable(row["name"] or row["label"]), "bold" if row["name"] else "dim"),
        Text(row["state"], state),
        Text(mailbox, crowded, justify="right"),
        Text(age(row["oldest"]), late, justify="right"),
        Text(printable(busy), "yellow" if row["waiting"] else ""),
        Text(turns, justify="right"),
        Text(size(row["memory"]), justify="right"),
        Text("-" if row["sequence"] is None else f"{row['sequence']:,}", justify="right"),
        Text(printable(row["label"])),
    ]
