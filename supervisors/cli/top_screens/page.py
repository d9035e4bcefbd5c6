"""One process on one page: its state, its mailbox, its last events with what they changed, its crashes, its past."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, final

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Grid, Vertical
from textual.widgets import Footer

from runtime.observe import text
from runtime.observe.processes import printable
from runtime.observe.protocol import At, Code, Crashes, Info, Log, Mailbox, Refusal, Request, State
from runtime.observe.shown import Change

from ..show import clock
from .acts import Chosen
from .looking import COMMON, Line, Lines, Looking
from .poller import Ask, Source
from .slider import Slider

# Journal entries that are shown, and changes that are asked for in one look: each is made from the first entry on.
ENTRIES = 8
ASKED = 4
CRASHES = 3
# Seconds longer than other answers may take that a state is made from the first entry on.
PATIENCE = 30.0
_PID = re.compile(r"<\d+\.\d+>")


@final
@dataclass(slots=True)
class Found:
    """What one look at a process has brought; `gone` says why it is not there."""

    about: Mapping[str, Any] | None = None
    gone: Refusal | None = None
    state: Mapping[str, Any] | None = None
    mailbox: Mapping[str, Any] | None = None
    crashes: Mapping[str, Any] | None = None
    log: Mapping[str, Any] | None = None
    past: Mapping[str, Any] | Refusal | None = None
    changes: dict[int, list[Mapping[str, str]]] = field(default_factory=dict)


@final
class ProcessPage(Looking):
    """All that is known of one process; one with a name is followed through its restarts."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "back"),
        Binding("f", "follow", "waits on"),
        Binding("u", "parent", "parent"),
        Binding("t", "time", "time"),
        Binding("z", "zoom", "zoom"),
        Binding("l", "live", "live", show=False),
        # Those of the first screen that it says as well are not said twice: the foot is to fit 80 columns.
        *(replace(one, show=one.key != "p") for one in COMMON),
    ]

    def __init__(self, source: Source, target: str) -> None:
        super().__init__(source)
        self.target = target
        self.position: int | None = None
        self.found = Found()
        # Only the poller's thread touches these.
        self._key: str | None = None
        self._past: dict[tuple[str, int], Mapping[str, Any]] = {}
        self._seen = False

    def compose(self) -> ComposeResult:
        """Who it is, and four frames."""
        yield Line(id="status")
        yield Line(id="who")
        with Grid(id="frames"):
            with Vertical(id="now"):
                yield Lines("State", id="state")
                yield Slider(id="slider")
            yield Lines("Mailbox and stack", id="mailbox")
            yield Lines("Last events and what they changed", id="events")
            yield Lines("Crashes", id="crashes")
        yield Footer(compact=True)

    def on_mount(self) -> None:
        """The slider is there for whoever has a journal."""
        self.query_one(Slider).display = False

    # -- asking, on the poller's thread ----------------------------------------------------------------

    def look(self, ask: Ask) -> Found:
        """Ask for all of it; one that has ended is told by its crashes and its journal."""
        found = Found()
        try:
            found.about = about = ask(Info(of=self.target))
            found.state = ask(State(of=about["pid"]))
            found.mailbox = ask(Mailbox(of=about["pid"]))
            # From now on it is followed by its whole name, under which its crashes are kept too.
            self.target, self._key = about["name"] or about["pid"], about["key"]
        except Refusal as refusal:
            if refusal.code != Code.NOT_FOUND:
                raise
            found.gone = refusal
        found.crashes = ask(Crashes(of=self.target, limit=CRASHES))
        if self._key is not None:
            self._history(ask, found, self._key, self.target if found.about is not None else self._key)
        return found

    def _history(self, ask: Ask, found: Found, key: str, whom: str) -> None:
        """Ask for the journal; what it says of the past never changes, and is asked for once."""
        log = _or_refusal(ask, Log(of=whom, limit=ENTRIES))
        if isinstance(log, Refusal):
            return
        found.log = log
        if self.position is not None:
            found.past = self._at(ask, key, whom, self.position)
        wanted = [one["sequence"] for one in reversed(log["entries"])]
        missing = [one for one in wanted if (key, one) not in self._past]
        # At first the page is to be seen at all.
        for position in missing[: ASKED if self._seen else 0]:
            self._at(ask, key, whom, position)
        self._seen = True
        kept = [(key, one) for one in (*wanted, self.position) if one is not None and (key, one) in self._past]
        self._past = {one: self._past[one] for one in kept}
        found.changes = {position: said["changes"] for (_, position), said in self._past.items()}

    def _at(self, ask: Ask, key: str, whom: str, position: int) -> Mapping[str, Any] | Refusal:
        if (key, position) not in self._past:
            said = _or_refusal(ask, At(of=whom, position=position), patience=PATIENCE)
            if isinstance(said, Refusal):
                return said
            self._past[key, position] = said
        return self._past[key, position]

    def chosen(self) -> Chosen | None:
        """The process that the page is about, while it lives."""
        about = self.found.about if self.found.gone is None else None
        return Chosen(about["pid"], about["name"] or about["label"], about["state"]) if about is not None else None

    # -- showing ---------------------------------------------------------------------------------------

    def tell(self, said: Found) -> None:
        """Show it all."""
        slider = self.query_one(Slider)
        if said.about is None:
            # The last that was seen of it stays.
            said.about, said.state, said.mailbox = self.found.about, self.found.state, self.found.mailbox
            if said.log is None:
                said.log, said.changes = self.found.log, self.found.changes
        first = self.found.about is None
        self.found = said
        if first and said.log is not None:
            self.poller.again()
        self.query_one("#who", Line).tell(printable("  ".join(self._who())))
        slider.display = said.log is not None
        if said.log is not None:
            slider.reach(said.log["last"])
        self._lines("state").tell(self._state())
        self._lines("state").border_title = "State" if self.position is None else f"State at {self.position:,}"
        self._lines("mailbox").tell(self._mailbox())
        self._lines("events").tell(self._events())
        self._lines("crashes").tell(text.crashes(said.crashes, clock) if said.crashes is not None else ())

    def _who(self) -> Iterator[str]:
        about, gone = self.found.about, self.found.gone
        if gone is not None:
            yield f"{self.target} is not alive ({gone.what})." + (" The last that was seen of it:" if about else "")
        if about is not None:
            yield f"{about['name'] or '-'}  {about['pid']}  {about['start']}  {about['state']}"
            if about["waiting"]:
                yield f"waiting on {about['waiting']} (f goes there)"
            yield f"under {about['parent'] or 'nobody'}"
            if about["key"]:
                yield f"journal {about['key']} at {about['sequence']:,}"

    def _state(self) -> Iterator[str]:
        past = self.found.past
        if isinstance(past, Refusal):
            yield from (past.what, past.why, past.next)
        elif past is not None and self.position is not None:
            yield from text.at(past, clock)
        elif self.found.state is not None:
            yield from text.state(self.found.state)

    def _mailbox(self) -> Iterator[str]:
        if self.found.mailbox is not None:
            yield from text.mailbox(self.found.mailbox)
        if self.found.about is not None:
            yield ""
            yield "stack"
            yield from text.frames(self.found.about["stack"])

    def _events(self) -> Iterator[str]:
        log = self.found.log
        if log is None:
            yield "it keeps no journal" if self.found.about is not None else "nothing is known of its journal"
            return
        for one in reversed(log["entries"]):
            _, *lines = text.log({**log, "entries": [one]}, clock)
            yield from lines
            changes = self.found.changes.get(one["sequence"])
            if changes is not None:
                parts = (str(Change(part["name"], part["before"], part["after"])) for part in changes)
                yield printable(f"          changed: {', '.join(parts) or 'nothing'}")

    def _lines(self, name: str) -> Lines:
        return self.query_one(f"#{name}", Lines)

    # -- what somebody does ----------------------------------------------------------------------------

    @on(Slider.Moved)
    def _moved(self, message: Slider.Moved) -> None:
        self.position = message.position
        self.poller.again()

    def action_time(self) -> None:
        """Go to the slider."""
        # Not by `focus`, which comes after keys that were typed meanwhile.
        self.set_focus(self.query_one(Slider))

    async def action_back(self) -> None:
        """Take the room of a zoomed frame back, or leave the page."""
        if self.maximized is not None:
            self.minimize()
        else:
            await self.app.pop_screen()

    def action_zoom(self) -> None:
        """Give one frame all the room, or take it back."""
        if self.maximized is not None:
            self.minimize()
        elif isinstance(self.focused, Lines):
            self.maximize(self.focused, container=False)
        else:
            self.maximize(self._lines("state"), container=False)

    def action_live(self) -> None:
        """Show the state as it is."""
        self.query_one(Slider).move(None)

    async def action_follow(self) -> None:
        """Open the page of whom it waits for."""
        waiting = self.found.about["waiting"] if self.found.about is not None else None
        if waiting:
            await self._open(waiting)
        else:
            self.notify("it waits for nobody's reply")

    async def action_parent(self) -> None:
        """Open the page of who started it."""
        parent = self.found.about["parent"] if self.found.about is not None else None
        if parent:
            await self._open(parent)

    async def _open(self, whom: str) -> None:
        """Open another page; who has no name is told by its pid."""
        written = _PID.search(whom)
        await self.app.push_screen(ProcessPage(self.source, written[0] if written is not None else whom))


def _or_refusal(ask: Ask, request: Request, *, patience: float = 0.0) -> Any:
    """The answer, or why there is none for this process; raises what is the matter with the node as a whole."""
    try:
        return ask(request, patience=patience)
    except Refusal as refusal:
        if refusal.code in (Code.UNREACHABLE, Code.TIMEOUT):
            raise
        return refusal
