"""A line to slide along: from 0 to the last position of a journal, by keys or mouse."""

from __future__ import annotations

from typing import ClassVar, final

from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widget import Widget

# Steps of one page key, as a part of the whole.
PAGE = 10


@final
class Slider(Widget, can_focus=True):
    """A position from 0 to `last`; at None it goes along with the last one."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "step(-1)", "back"),
        Binding("right", "step(1)", "forth"),
        Binding("pageup", "page(-1)", "far back", show=False),
        Binding("pagedown", "page(1)", "far forth", show=False),
        Binding("home", "go(0)", "first"),
        Binding("end", "live", "live"),
    ]

    DEFAULT_CSS = """
    Slider { height: 1; width: 1fr; background: $panel; }
    Slider:focus { background: $boost; text-style: bold; }
    """

    class Moved(Message):
        """Somebody chose a position; None is the last one, whatever that is."""

        def __init__(self, position: int | None) -> None:
            super().__init__()
            self.position = position

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.last = 0
        self.position: int | None = None
        self._held = False

    def reach(self, last: int) -> None:
        """The journal goes to this position now."""
        if last != self.last:
            self.last = last
            self.refresh()

    def render(self) -> Text:
        """The line, with what is chosen at its end."""
        told = "live" if self.position is None else f"{self.position:,}"
        note = f" {told} of {self.last:,} "
        width = self._width()
        at = round(self._shown() / self.last * (width - 1)) if self.last else width - 1
        line = Text("━" * at, "green" if self.position is None else "yellow")
        line.append("●", "bold")
        line.append("─" * (width - 1 - at), "dim")
        return line.append(note)

    def move(self, position: int | None) -> None:
        """Choose a position; beyond the last one it is that one."""
        wanted = None if position is None else min(max(position, 0), self.last)
        if wanted != self.position:
            self.position = wanted
            self.refresh()
            self.post_message(self.Moved(wanted))

    def action_step(self, by: int) -> None:
        """Go so many positions on."""
        self.move(self._shown() + by)

    def action_page(self, by: int) -> None:
        """Go a part of the whole on."""
        self.move(self._shown() + by * max(1, self.last // PAGE))

    def action_go(self, position: int) -> None:
        """Go to a position."""
        self.move(position)

    def action_live(self) -> None:
        """Go along with the last one."""
        self.move(None)

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Go where the pointer is, and follow it."""
        self._held = True
        self.capture_mouse()
        self._point(event.x)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Follow the pointer while it is held."""
        if self._held:
            self._point(event.x)

    def on_mouse_up(self, _event: events.MouseUp) -> None:
        """Stay here."""
        self._held = False
        self.release_mouse()

    def _point(self, x: int) -> None:
        self.move(round(min(max(x, 0), self._width() - 1) / max(1, self._width() - 1) * self.last))

    def _shown(self) -> int:
        return self.last if self.position is None else min(self.position, self.last)

    def _width(self) -> int:
        """Cells of the line itself: beside it stands the longest note that there can be."""
        return max(2, self.size.width - len(f" {self.last:,} of {self.last:,} ") - 2)
