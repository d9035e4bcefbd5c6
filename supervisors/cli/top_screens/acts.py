"""What changes a node, by one key and a yes: end a process, hold it or let it go on, start it anew; drain the node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from runtime.observe.processes import printable
from runtime.observe.requests import Drain, Kill, Request, Restart, Resume, Suspend


@final
@dataclass(frozen=True, slots=True)
class Chosen:
    """The process that something is done to, as it was seen: its pid, not a name that another may have by then.

    Or a node, whose `pid` is its name.
    """

    pid: str
    name: str
    state: str

    def __str__(self) -> str:
        return f"{self.name} {self.pid}" if self.name != self.pid else self.pid


@final
@dataclass(frozen=True, slots=True)
class Act:
    """One thing that can be done.

    Attributes:
        ask: the question, with what will come of a yes.
        request: what the node is asked then, of a pid within so many seconds.
        told: what its answer says.
    """

    ask: Callable[[Chosen], str]
    request: Callable[[str, float], Request]
    told: Callable[[Mapping[str, Any]], str]


KILL = Act(
    lambda who: f"Kill {who}? Its supervisor starts a new one, if that is its way; what it had in hand is lost.",
    lambda pid, _timeout: Kill(target=pid),
    lambda said: f"sent {said['reason']} to {said['name']} {said['pid']}",
)
RESTART = Act(
    lambda who: f"Restart {who}? It ends in order, and counts among its supervisor's restarts.",
    lambda pid, timeout: Restart(target=pid, timeout=timeout),
    lambda said: f"{said['name']} was {said['before']}, and is {said['pid']} now",
)
SUSPEND = Act(
    lambda who: f"Suspend {who}? It takes no message until it is resumed; whoever calls it waits.",
    lambda pid, timeout: Suspend(target=pid, timeout=timeout),
    lambda said: f"{said['name']} {said['pid']} is {said['state']}",
)
RESUME = Act(
    lambda who: f"Resume {who}? It goes on with what has come meanwhile.",
    lambda pid, timeout: Resume(target=pid, timeout=timeout),
    lambda said: f"{said['name']} {said['pid']} is {said['state']}",
)

DRAIN = Act(
    lambda who: f"Drain {who}? It gives all its shards to other nodes and takes none, until that is undone.",
    lambda _node, _timeout: Drain(),
    lambda said: f"{said['node']} gives its {said['owned']} shards away",
)
UNDO_DRAIN = Act(
    lambda who: f"Let {who} take part again? It is given shards as all others are.",
    lambda _node, _timeout: Drain(undo=True),
    lambda said: f"{said['node']} takes part again",
)


@final
class Question(ModalScreen[bool]):
    """Asks whether something is to be done: y or a click on Yes; all else is no, and so is Enter at first."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "yes"),
        Binding("n,escape,q", "answer(False)", "no"),
        Binding("left,right", "app.focus_next", show=False),
    ]

    DEFAULT_CSS = """
    Question { align: center middle; }
    Question > Vertical { width: 64; max-width: 90%; height: auto; border: round $warning; padding: 1 2;
        background: $surface; }
    Question Horizontal { height: auto; align-horizontal: right; margin-top: 1; }
    Question Button { margin-left: 2; }
    """

    def __init__(self, question: str) -> None:
        super().__init__()
        self.question = question

    def compose(self) -> ComposeResult:
        """The question and its two answers."""
        with Vertical():
            yield Static(Text(printable(self.question)), id="question", markup=False)
            with Horizontal():
                yield Button("No", id="no", compact=True)
                yield Button("Yes (y)", id="yes", variant="warning", compact=True)

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        self.action_answer(event.button.id == "yes")

    def action_answer(self, answer: bool) -> None:
        """Say so, and leave."""
        # Not awaited: a screen that waits for its own end waits for ever.
        _ = self.dismiss(answer)
