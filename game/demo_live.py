"""The demo on a terminal: one picture that is drawn anew, with new processes in green and lost ones in red.

It fits the terminal: what was told first makes room for the tree, in which the killed are to be seen to come back.
"""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text
from rich.tree import Tree

from .demo_screen import Screen, describe

# How long a process that has come back is shown as new, in seconds.
NEW = 1.5
# Lines of the story that are shown however large the tree is.
LEAST = 3
TITLE = "Banyan: a card room that dies and comes back"


class LiveScreen(Screen):
    """The tree, drawn over itself."""

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        self._console = console if console is not None else Console(stderr=True)
        self._live = Live(console=self._console, refresh_per_second=20, auto_refresh=False)
        self._story: list[tuple[float, str]] = []
        self._tree: dict[str, Any] | None = None
        # Of each process by its path: its pid, since when, and the one before.
        self._pids: dict[str, tuple[str | None, float, str | None]] = {}
        self._lines = 0

    def __enter__(self) -> LiveScreen:
        self._live.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        # What stays on the terminal is the whole story, which may scroll.
        self._draw(whole=True)
        self._live.__exit__(None, None, None)

    def say(self, caption: str) -> None:
        self._story.append((time.perf_counter() - self._begun, caption))
        self._draw()

    def anew(self) -> None:
        self._pids.clear()

    def show(self, tree: dict[str, Any]) -> None:
        self._tree = tree
        self._draw()

    def _draw(self, *, whole: bool = False) -> None:
        self._lines = 0
        branches = [self._branch(self._tree, None, "")] if self._tree is not None else []
        # The title, and an empty line below it and below the story.
        room = max(LEAST, self._console.height - 3 - self._lines)
        story = Text(no_wrap=True, overflow="ellipsis")
        for index, (at, caption) in list(enumerate(self._story))[0 if whole else -room :]:
            now = index == len(self._story) - 1
            style = "bold red" if now and "kill" in caption else "bold green" if now else "dim"
            story.append(f"{at:5.1f} s  {caption}\n", style=style)
        self._live.update(Group(Text(f"{TITLE}\n", style="bold"), story, *branches), refresh=not whole)

    def _branch(self, one: dict[str, Any], above: Tree | None, path: str) -> Tree:
        path = f"{path}/{one['name']}"
        now = time.perf_counter()
        pid, since, former = self._pids.get(path, (one["pid"], now, None))
        if pid != one["pid"]:
            since, former = now, pid if pid is not None else former
        self._pids[path] = (one["pid"], since, former)
        is_new = now - since < NEW
        style = "red" if one["state"] != "running" else "bold green" if is_new else ""
        was = former if is_new and former != one["pid"] else None
        label = Text(describe(one, was), style=style, no_wrap=True, overflow="ellipsis")
        branch = Tree(label, guide_style="dim") if above is None else above.add(label)
        self._lines += 1
        for child in one.get("children", ()):
            self._branch(child, branch, path)
        return branch
