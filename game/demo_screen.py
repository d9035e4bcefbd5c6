"""The demo on a terminal: one picture that is drawn anew, with new processes in green and lost ones in red."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text
from rich.tree import Tree

from .demo import _describe, _Screen

# How long a process that has come back is shown as new, in seconds.
NEW = 1.5


class LiveScreen(_Screen):
    """The tree, drawn over itself."""

    def __init__(self) -> None:
        super().__init__()
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, refresh_per_second=20, auto_refresh=False)
        self._story: list[tuple[float, str]] = []
        self._tree: dict[str, Any] | None = None
        self._pids: dict[str, tuple[str | None, float]] = {}

    def __enter__(self) -> LiveScreen:
        self._live.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.__exit__(None, None, None)

    def say(self, caption: str) -> None:
        self._story.append((time.perf_counter() - self._begun, caption))
        self._draw()

    def show(self, tree: dict[str, Any]) -> None:
        self._tree = tree
        self._draw()

    def _draw(self) -> None:
        story = Text()
        for index, (at, caption) in enumerate(self._story):
            now = index == len(self._story) - 1
            style = "bold red" if now and "kill" in caption else "bold green" if now else "dim"
            story.append(f"{at:5.1f} s  {caption}\n", style=style)
        parts: list[Any] = [Text("Banyan: a card room that dies and comes back\n", style="bold"), story]
        if self._tree is not None:
            parts.append(self._branch(self._tree, None, ""))
        self._live.update(Group(*parts), refresh=True)

    def _branch(self, one: dict[str, Any], above: Tree | None, path: str) -> Tree:
        path = f"{path}/{one['name']}"
        now = time.perf_counter()
        pid, since = self._pids.get(path, (one["pid"], now - NEW))
        if pid != one["pid"]:
            since = now
        self._pids[path] = (one["pid"], since)
        if one["state"] != "running":
            style = "red"
        elif now - since < NEW:
            style = "bold green"
        else:
            style = ""
        label = Text(_describe(one), style=style)
        branch = Tree(label, guide_style="dim") if above is None else above.add(label)
        for child in one.get("children", ()):
            # Many bots would push the picture off the screen: they are counted instead.
            if one["name"] == "bots":
                continue
            self._branch(child, branch, path)
        if one["name"] == "bots":
            running = sum(1 for child in one["children"] if child["state"] == "running")
            branch.add(Text(f"{running} of {len(one['children'])} bots play", style="dim"))
        return branch
