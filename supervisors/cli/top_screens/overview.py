"""The first screen: processes, tree, what seems wrong, crashes, stalls and moves, one of them at a time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, final, get_args

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import DataTable, Footer, Input, TabbedContent, TabPane, Tree

from runtime.observe import text
from runtime.observe.processes import tree_from_json
from runtime.observe.protocol import Crashes, Doctor, Moves, Ps
from runtime.observe.protocol import Tree as TreeRequest
from runtime.observe.requests import SortBy, Stalls

from ..show import clock
from .acts import DRAIN, UNDO_DRAIN, Chosen
from .looking import COMMON, Line, Lines, Looking
from .page import ProcessPage
from .poller import Ask, Source
from .table import ProcessTable
from .tree import TreeView

# Seconds of the windows that a key goes through; 0 is none.
WINDOWS = (0.0, 1.0, 5.0, 15.0)
TABS = ("processes", "tree", "doctor", "crashes", "stalls", "moves")


@final
class Overview(Looking):
    """All of a node."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(str(number), f"tab('{name}')", name, show=False) for number, name in enumerate(TABS, 1)),
        Binding("s", "sort", "sort"),
        Binding("w", "window", "window"),
        Binding("g", "find", "go to"),
        Binding("escape", "leave_find", "back", show=False),
        *COMMON,
        Binding("D", "drain", "drain"),
    ]

    def __init__(self, source: Source, *, limit: int, sort: SortBy, window: float) -> None:
        super().__init__(source)
        self.limit = limit
        self.sort: SortBy = sort
        self.window = window
        self.tab = TABS[0]
        # Whether the node drains, as its moves said last.
        self._drains = False

    def compose(self) -> ComposeResult:
        """The line about the node, the tabs, the keys."""
        yield Line(id="status")
        with TabbedContent(initial=TABS[0]):
            with TabPane("1 Processes", id="processes"):
                yield ProcessTable(id="table")
            with TabPane("2 Tree", id="tree"):
                yield TreeView(id="branches")
            with TabPane("3 Doctor", id="doctor"):
                yield Lines(id="findings")
            with TabPane("4 Crashes", id="crashes"):
                yield Lines(id="crash-lines")
            with TabPane("5 Stalls", id="stalls"):
                yield Lines(id="stall-lines")
            with TabPane("6 Moves", id="moves"):
                yield Lines(id="move-lines", fold=False)
        yield Input(placeholder="a name, the end of one, or a pid; Enter opens its page", id="find")
        yield Footer(compact=True)

    def on_mount(self) -> None:
        """Begin with the table."""
        self.query_one("#find").display = False
        table = self.query_one(ProcessTable)
        table.sorted_by(self.sort)
        table.focus()

    # -- asking and showing --------------------------------------------------------------------------

    def look(self, ask: Ask) -> Any:
        """What the open tab shows."""
        tab = self.tab
        match tab:
            case "processes":
                return tab, ask(Ps(limit=self.limit, sort=self.sort, window=self.window), patience=self.window)
            case "tree":
                return tab, ask(TreeRequest())
            case "doctor":
                return tab, ask(Doctor())
            case "crashes":
                return tab, ask(Crashes())
            case "moves":
                return tab, ask(Moves())
            case _:
                return tab, ask(Stalls())

    def tell(self, said: Any) -> None:
        """Show it."""
        tab, answer = said
        match tab:
            case "processes":
                self.query_one(ProcessTable).tell(answer["processes"])
            case "tree":
                self.query_one(TreeView).tell(tree_from_json(answer))
            case "doctor":
                self._lines("#findings", text.doctor(answer))
            case "crashes":
                self._lines("#crash-lines", text.crashes(answer, clock))
            case "moves":
                self._drains = any(one["draining"] for one in answer["nodes"] if one["node"] == answer["node"])
                self._lines("#move-lines", text.moves_now(answer, clock))
            case _:
                self._lines("#stall-lines", text.stalls(answer, clock))

    def summary(self) -> str:
        """How the table is ordered."""
        if self.tab != "processes":
            return ""
        return f"by {self.sort}" + (f", what changed in {self.window:g} s" if self.window else "")

    def chosen(self) -> Chosen | None:
        """The process at the cursor of the table or the tree."""
        match self.tab:
            case "processes":
                return self.query_one(ProcessTable).chosen()
            case "tree":
                return self.query_one(TreeView).chosen()
            case _:
                return None

    def _lines(self, where: str, lines: Iterable[str]) -> None:
        self.query_one(where, Lines).tell(lines)

    # -- what somebody does --------------------------------------------------------------------------

    def action_tab(self, name: str) -> None:
        """Open a tab."""
        self.query_one(TabbedContent).active = name

    def action_sort(self) -> None:
        """Sort by the next thing."""
        ways: tuple[SortBy, ...] = get_args(SortBy)
        self._sort_by(ways[(ways.index(self.sort) + 1) % len(ways)])

    def action_window(self) -> None:
        """Take the next longer window, after the longest none."""
        self.window = next((one for one in WINDOWS if one > self.window), 0.0)
        self.poller.again()
        self.show_status()

    async def action_drain(self) -> None:
        """Have the node give its shards away, or take part again, after a yes; from the tab that shows how it goes."""
        if self.tab != "moves":
            self.action_tab("moves")
        elif self.node:
            name = self.node["name"]
            await self.ask_first(UNDO_DRAIN if self._drains else DRAIN, Chosen(name, name, ""))

    def action_find(self) -> None:
        """Ask for a name."""
        field = self.query_one("#find", Input)
        field.display = True
        # Not by `focus`, which comes after keys that were typed meanwhile.
        self.set_focus(field)

    def action_leave_find(self) -> None:
        """Ask no more."""
        field = self.query_one("#find", Input)
        field.value = ""
        field.display = False
        self._inside().focus()

    @on(TabbedContent.TabActivated)
    def _opened(self, event: TabbedContent.TabActivated) -> None:
        self.tab = event.pane.id or TABS[0]
        if not self.query_one("#find").display:
            self._inside().focus()
        self.poller.again()
        self.show_status()

    @on(ProcessTable.Sorted)
    def _sorted(self, message: ProcessTable.Sorted) -> None:
        self._sort_by(message.sort)

    @on(DataTable.RowSelected)
    async def _row_chosen(self) -> None:
        await self._open(self.query_one(ProcessTable).selected())

    @on(Tree.NodeSelected)
    async def _branch_chosen(self) -> None:
        await self._open(self.query_one(TreeView).selected())

    @on(Input.Submitted)
    async def _named(self, event: Input.Submitted) -> None:
        await self._open(event.value.strip())
        self.action_leave_find()

    def _sort_by(self, sort: SortBy) -> None:
        self.sort = sort
        self.query_one(ProcessTable).sorted_by(sort)
        self.poller.again()
        self.show_status()

    async def _open(self, target: str | None) -> None:
        if target:
            await self.app.push_screen(ProcessPage(self.source, target))

    def _inside(self) -> ProcessTable | TreeView | Lines:
        pane = self.query_one(f"#{self.tab}", TabPane)
        return next(one for one in pane.children if isinstance(one, ProcessTable | TreeView | Lines))
