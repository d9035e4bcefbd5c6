"""In front of `banyan top`: its screens with keys and mouse by Textual's own pilot, and nodes for them to look at.

A node here runs on a thread of its own, because the screen has the test's; they talk over a real socket. What a
test waits for it finds at the next message of the screen, of which each look brings one.
"""

from __future__ import annotations

import asyncio  # noqa: TID251  # the screen is a program of its own, and Textual runs on asyncio
import html
import re
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import outcome
import trio
from textual.pilot import Pilot
from textual.widgets import Input, Static

from runtime.observe.facts import Facts
from runtime.observe.protocol import Level
from supervisors import Node
from supervisors.cli.top_screens.app import Top
from supervisors.cli.top_screens.looking import Lines, Looking
from supervisors.cli.top_screens.page import ProcessPage
from supervisors.cli.top_screens.poller import Source
from supervisors.cli.top_screens.table import ProcessTable
from supervisors.cli.top_screens.tree import TreeView
from supervisors.node.admin import open_door
from tests.unit.cli.running import LIMIT

SIZE = (110, 30)


class Screen:
    """What somebody in front of it sees and does."""

    def __init__(self, app: Top, pilot: Pilot[None], moved: asyncio.Event) -> None:
        self.app = app
        self.pilot = pilot
        self._moved = moved

    async def until(self, seen: Callable[[], object]) -> None:
        """Wait until something is seen; it is looked for whenever the screen has got a message."""
        try:
            async with asyncio.timeout(LIMIT / 2):
                while not seen():
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            raise AssertionError("\n".join([repr(self.app.screen_stack), *self.lines()])) from None

    async def press(self, *keys: str) -> None:
        """Press keys."""
        await self.pilot.press(*keys)

    async def back(self, screens: int) -> None:
        """Leave the screen, for the one that lies so high."""
        await self.press("escape")
        await self.until(lambda: len(self.app.screen_stack) == screens)

    async def open(self, target: str) -> None:
        """Go to the page of a process."""
        await self.press("g")
        self.app.screen.query_one(Input).value = target
        await self.press("enter")
        await self.until(lambda: self.on_page_of(target))

    def on_page_of(self, target: str) -> bool:
        """Whether the page of a process is seen."""
        return isinstance(self.app.screen, ProcessPage) and target in self.text("#who")

    @property
    def looking(self) -> Looking:
        """The screen that is seen, or that lies below a question."""
        return next(one for one in reversed(self.app.screen_stack) if isinstance(one, Looking))

    def table(self) -> list[list[str]]:
        """The rows of the process table."""
        return [[str(cell) for cell in line] for line in self.looking.query_one(ProcessTable).rows_seen.values()]

    def row(self, name: str) -> int:
        """Where in the table a process stands."""
        return [line[1] for line in self.table()].index(name)

    def tree(self) -> list[str]:
        """The lines of the tree, of those that were read."""
        waiting, found = [self.looking.query_one(TreeView).root], []
        while waiting:
            branch = waiting.pop(0)
            found.append(str(branch.label))
            waiting = [*branch.children, *waiting]
        return found

    def text(self, where: str) -> str:
        """What a frame or a line says."""
        found = self.app.screen.query(where)
        one = found.first() if found else None
        return one.text if isinstance(one, Lines) else str(one.render()) if isinstance(one, Static) else ""

    def told(self) -> str:
        """The notes in the corner of the screen, each with its title."""
        return "\n".join(f"{note.title}\n{note.message}" for note in self.app._notifications)

    def lines(self) -> list[str]:
        """All that is seen, line by line."""
        return lines_of(self.app.export_screenshot())

    def picture(self) -> str:
        """All that is seen, as one text."""
        return "\n".join(self.lines())


# A piece of text in an SVG of Rich's, and how wide one character of it is there.
_PIECE = re.compile(r'<text [^>]*?x="([\d.]+)" y="([\d.]+)"[^>]*?>(.*?)</text>')
_WIDTH = 12.2


def lines_of(svg: str) -> list[str]:
    """The lines of text that a capture shows."""
    found: dict[float, str] = defaultdict(str)
    for x, y, text in sorted(((float(x), float(y), t) for x, y, t in _PIECE.findall(svg)), key=lambda one: one[0]):
        found[y] = found[y].ljust(round(x / _WIDTH)) + html.unescape(text).replace("\xa0", " ")
    return [found[y].rstrip() for y in sorted(found)]


def watch(socket: Path | str, work: Callable[[Screen], Awaitable[None]], **options: Any) -> None:
    """Do something in front of a screen that looks at a node; `timeout` and `size` are its, the rest is Top's."""
    timeout, size = options.pop("timeout", LIMIT), options.pop("size", SIZE)

    async def sit() -> None:
        moved = asyncio.Event()
        app = Top(Source(Path(socket), timeout=timeout, interval=0.2, calm=0.0), **options)
        app.animation_level = "none"
        async with (
            asyncio.timeout(LIMIT),
            app.run_test(size=size, notifications=True, message_hook=lambda _: moved.set()) as pilot,
        ):
            await work(Screen(app, pilot, moved))

    asyncio.run(sit())


class Served:
    """A node on a thread of its own, with an admin socket."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self._jobs, self._found = trio.open_memory_channel[Callable[[], Awaitable[Any]]](0)
        self._token: trio.lowlevel.TrioToken | None = None
        self._up = threading.Event()

    def do(self, work: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        """Run something inside the node, and wait for it."""
        answers: SimpleQueue[outcome.Outcome[Any]] = SimpleQueue()

        async def job() -> None:
            answers.put(await outcome.acapture(work, *args))

        trio.from_thread.run(self._jobs.send, job, trio_token=self._token)
        return answers.get(timeout=LIMIT).unwrap()

    def start(self, *args: Any) -> None:
        """Run it; returns when it is up."""
        self._thread = threading.Thread(target=self._run, args=args, name="node")
        self._thread.start()
        assert self._up.wait(LIMIT)
        assert self._token is not None, "the node did not come up: its error is told beside this one"

    def end(self) -> None:
        """Have it end in order, and wait for that; harmless if done twice."""
        if self._thread.is_alive():
            trio.from_thread.run_sync(self._jobs.close, trio_token=self._token)
            self._thread.join(LIMIT)

    def _run(self, *args: Any) -> None:
        try:
            trio.run(self._live, *args)
        finally:
            self._up.set()

    async def _live(self, level: Level, tree: Any, *args: Any) -> None:
        async with Node("one", data=":memory:") as node:
            await open_door(node, self.socket, Facts(pid=1, started=node.world.now()), level=level)
            await node.start(tree, *args)
            self._token = trio.lowlevel.current_trio_token()
            self._up.set()
            # Done by this task, which is inside the node.
            async for job in self._found:
                await job()


@contextmanager
def served(folder: Path, tree: Any, *args: Any, level: Level = Level.ACT) -> Iterator[Served]:
    """A node with one application, on a thread that ends with it."""
    node = Served(folder / "n.sock")
    node.start(level, tree, *args)
    try:
        yield node
    finally:
        node.end()
