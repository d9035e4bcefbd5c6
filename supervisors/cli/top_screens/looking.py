"""What all screens of `banyan top` share: a poller while they are seen, a line that says how the node is, acts."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Static

from runtime.observe.processes import printable
from runtime.observe.protocol import Info, Refusal

from .acts import KILL, RESTART, RESUME, SUSPEND, Act, Chosen, Question
from .poller import Ask, Poller, Source

# What each screen can do, behind its own.
COMMON = (
    Binding("p", "pause", "pause"),
    Binding("K", "kill", "kill"),
    Binding("S", "suspend", "suspend"),
    Binding("R", "restart", "restart"),
)
# Seconds for which what came of an act is seen.
SEEN = 10.0


class Told(Message):
    """What a look has brought: an answer, or the refusal it met."""

    def __init__(self, said: Any) -> None:
        super().__init__()
        self.said = said


class Acted(Message):
    """What came of an act: what to say, or the refusal it met."""

    def __init__(self, said: str | Refusal) -> None:
        super().__init__()
        self.said = said


class Lines(VerticalScroll):
    """Lines of text that scroll, in a frame if they have a title.

    Long ones go on below, a little further in; or are cut, if they are the rows of a table (`fold` is False).
    """

    ALLOW_MAXIMIZE = True
    DEFAULT_CSS = """
    Lines { height: 1fr; padding: 0 1; scrollbar-gutter: stable; }
    Lines > Static { height: auto; width: 100%; }
    Lines:focus { border: round $accent; }
    """

    def __init__(self, title: str = "", *, id: str, fold: bool = True) -> None:
        super().__init__(Static("", markup=False), id=id)
        self.border_title = title
        self.fold = fold
        self.text = ""

    def tell(self, lines: Iterable[str]) -> None:
        """Show these lines, as they are."""
        told = "\n".join(lines)
        if told != self.text:
            self.text = told
            self._show()

    def on_resize(self, _event: events.Resize) -> None:
        """The lines have another room."""
        self._show()

    def _show(self) -> None:
        width = self.scrollable_content_region.width
        if width > 0:
            fit = folded if self.fold else cut
            shown = "\n".join(part for line in self.text.splitlines() for part in fit(line, width))
            self.query_one(Static).update(Text(shown, no_wrap=True))


def folded(line: str, width: int) -> list[str]:
    """A line as lines of at most so many characters; what does not fit stands two further in than it begins."""
    if len(line) <= width:
        return [line]
    begins = len(line) - len(line.lstrip()) + 2
    further = " " * min(begins, width // 2)
    return textwrap.wrap(line, width, subsequent_indent=further, replace_whitespace=False, break_on_hyphens=False)


def cut(line: str, width: int) -> list[str]:
    """As much of a line as has room; an ellipsis stands for the rest."""
    return [line if len(line) <= width else line[: width - 1].rstrip() + "…"]


class Line(Static):
    """A line of text that is shown anew only when it says something else: each time costs a new layout."""

    def __init__(self, *, id: str) -> None:
        super().__init__("", id=id, markup=False)
        self.text = ""

    def tell(self, text: str) -> None:
        """Say this."""
        if text != self.text:
            self.text = text
            self.update(Text(text))


class Looking(Screen[None]):
    """A screen that asks a node as long as it is seen."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("r", "again", "look now", show=False)]

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.source = source
        self.poller = Poller(source, self._look, lambda said: self.post_message(Told(said)))
        self.paused = False
        self.node: Mapping[str, Any] = {}
        self.trouble: Refusal | None = None

    # -- what a screen says of itself ----------------------------------------------------------------

    def look(self, ask: Ask) -> Any:
        """Ask what the screen shows; runs on the poller's thread."""
        raise NotImplementedError

    def tell(self, said: Any) -> None:
        """Show what `look` has returned."""
        raise NotImplementedError

    def summary(self) -> str:
        """What stands at the end of the line about the node."""
        return ""

    def chosen(self) -> Chosen | None:
        """The process that an act is for."""
        raise NotImplementedError

    # -- its life ------------------------------------------------------------------------------------

    def on_mount(self) -> None:
        """Begin to look."""
        self.poller.start()

    def on_unmount(self) -> None:
        """Look no more."""
        self.poller.end()

    def on_screen_suspend(self) -> None:
        """Another screen lies above this one."""
        self.poller.pause(True)

    def on_screen_resume(self) -> None:
        """It is seen (again)."""
        if self.poller.is_alive():
            self.poller.pause(self.paused)

    def action_pause(self) -> None:
        """Keep what is seen, or go on."""
        self.paused = not self.paused
        self.poller.pause(self.paused)
        self.show_status()

    def action_again(self) -> None:
        """Look at once."""
        self.poller.again()

    def on_told(self, message: Told) -> None:
        """Show what came, or that nothing comes."""
        if isinstance(message.said, Refusal):
            self.trouble = message.said
        else:
            self.trouble = None
            node, said = message.said
            if self.node and self.node["pid"] != node["pid"]:
                self.notify(f"{node['name']} was started again: pid {node['pid']} now", markup=False)
            self.node = node
            self.tell(said)
        self.show_status()

    # -- changing --------------------------------------------------------------------------------------

    async def action_kill(self) -> None:
        """End the process that is chosen, after a yes."""
        await self.ask_first(KILL, self.chosen())

    async def action_restart(self) -> None:
        """Have its supervisor start it anew, after a yes."""
        await self.ask_first(RESTART, self.chosen())

    async def action_suspend(self) -> None:
        """Hold it, or let it go on, after a yes."""
        who = self.chosen()
        await self.ask_first(RESUME if who is not None and who.state == "suspended" else SUSPEND, who)

    async def ask_first(self, act: Act, who: Chosen | None) -> None:
        """Do something with what is chosen, after a yes."""
        if who is None:
            self.notify("choose a living process first")
            return

        def answered(yes: bool | None) -> None:
            if yes:
                self.poller.act(act.request(who.pid, self.source.timeout), done)

        def done(said: Any) -> None:
            self.post_message(Acted(said if isinstance(said, Refusal) else act.told(said)))

        await self.app.push_screen(Question(act.ask(who)), answered)

    def on_acted(self, message: Acted) -> None:
        """Say what came of it."""
        said = message.said
        if isinstance(said, Refusal):
            text, title = f"{said.why}\n{said.next}", said.what
            self.notify(printable_lines(text), title=printable(title), severity="error", timeout=SEEN, markup=False)
        else:
            self.notify(printable(said), timeout=SEEN, markup=False)

    def _look(self, ask: Ask) -> Any:
        return ask(Info()), self.look(ask)

    # -- the line about the node ---------------------------------------------------------------------

    def show_status(self) -> None:
        """Say how the node is."""
        line = self.query_one("#status", Line)
        line.set_class(self.trouble is not None, "trouble")
        line.tell(printable(self._status()))

    def _status(self) -> str:
        if self.trouble is not None:
            one = self.trouble
            # What is seen below is from before.
            return f"{one.what}: {one.why}; {one.next}. Trying again; the last that was seen stays."
        if not self.node:
            return f"asking the node at {self.source.path}"
        node = self.node
        parts = [str(node["name"]), f"up {_span(node['uptime'])}", f"{node['processes']:,} processes"]
        parts += [self.summary()] * bool(self.summary())
        return "  ".join([*parts, "paused" if self.paused else f"every {self.poller.rest:.1f} s"])


def _span(seconds: float) -> str:
    """A length of time in its two largest units."""
    whole = int(seconds)
    for unit, size, lesser, part in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // part:02}{lesser}"
    return f"{whole} s"


def printable_lines(text: str) -> str:
    """As `printable`, of several lines."""
    return "\n".join(map(printable, text.splitlines()))
