"""The program behind `banyan top`."""

from __future__ import annotations

from typing import ClassVar, final

from textual.app import App
from textual.binding import Binding, BindingType

from runtime.observe.requests import SortBy

from .overview import Overview
from .page import ProcessPage
from .poller import Source


@final
class Top(App[None]):
    """The screens, one above the other.

    Args:
        source: the node.
        of: whose page is open at first, or None.
        limit: how many processes are listed, from 1 to 1000.
        sort, window: how, as for `banyan ps`.
    """

    TITLE = "banyan top"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "quit"),
        Binding("ctrl+c", "quit", "quit", show=False),
    ]
    CSS = """
    #status { height: auto; background: $primary; color: $text; padding: 0 1; }
    #status.trouble { background: $error; }
    #who { height: auto; background: $panel; padding: 0 1; }
    #frames { grid-size: 2 2; grid-columns: 1fr 1fr; grid-rows: 1fr 1fr; }
    #frames Lines { border: round $primary; }
    #frames Lines:focus { border: round $accent; }
    #find { dock: bottom; }
    Screen { overflow: hidden; }
    TabbedContent, ContentSwitcher, TabPane { height: 1fr; padding: 0; }
    """

    def __init__(
        self,
        source: Source,
        *,
        of: str | None = None,
        limit: int = 100,
        sort: SortBy = "mailbox",
        window: float = 0.0,
    ) -> None:
        super().__init__()
        self._overview = Overview(source, limit=limit, sort=sort, window=window)
        self._first = ProcessPage(source, of) if of else None

    async def on_mount(self) -> None:
        """Open the first screen."""
        await self.push_screen(self._overview)
        if self._first is not None:
            await self.push_screen(self._first)
