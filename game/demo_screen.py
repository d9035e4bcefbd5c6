"""What a person sees of the demo: plain lines. `demo_live` draws over itself, on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

# Of each process that is shown, by the names above it and its own: as the tree says it.
_Shown = dict[tuple[str, ...], dict[str, Any]]


class Screen:
    """What a person sees: plain lines on stderr, so that stdout keeps the result."""

    def __init__(self) -> None:
        self._begun = time.perf_counter()
        # Whether something was told, and the tree was not shown since.
        self._due = False
        self._shown: _Shown = {}

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_exc: object) -> None:
        return None

    def say(self, caption: str) -> None:
        """Tell what happens now."""
        print(f"{time.perf_counter() - self._begun:5.1f} s  {caption}", file=sys.stderr, flush=True)
        self._due = True

    def anew(self) -> None:
        """The next tree is another one, of which nothing was seen."""
        self._shown = {}

    def show(self, tree: dict[str, Any]) -> None:
        """Show the tree once after each caption: at first all of it, then what has changed."""
        if not self._due:
            return
        self._due = False
        now = dict(_flat(tree))
        for line in changes(self._shown, now) if self._shown else _lines(tree):
            print("         " + line, file=sys.stderr)
        self._shown = now


def _flat(tree: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    for one in tree.get("children", ()):
        path = (*above, one["name"])
        yield path, one
        yield from _flat(one, path)


def _lines(tree: dict[str, Any], lead: str = "", last: bool = True, top: bool = True) -> Iterator[str]:
    own = "" if top else lead + ("`-- " if last else "|-- ")
    yield own + describe(tree)
    below = "" if top else lead + ("    " if last else "|   ")
    children = tree.get("children", ())
    for index, one in enumerate(children):
        yield from _lines(one, below, index == len(children) - 1, top=False)


def changes(before: _Shown, now: _Shown) -> Iterator[str]:
    """A line for each process that is gone, is new, has another pid than before, or another state."""
    for path in before:
        if path not in now:
            yield f"{' > '.join(path)}  is gone"
    for path, one in now.items():
        was = before.get(path)
        if was is None or (was["pid"], was["state"]) != (one["pid"], one["state"]):
            former = was["pid"] if was is not None and was["pid"] != one["pid"] else None
            yield " > ".join((*path[:-1], describe(one, former)))


def describe(one: dict[str, Any], former: str | None = None) -> str:
    """A process of a tree in one line; with the pid that it had before, if somebody is to be told."""
    parts = [one["name"]] if one["pid"] is None and one["state"] == "running" else [one["name"], one["pid"] or "-"]
    if former is not None:
        parts.append(f"was {former}")
    if one["state"] != "running":
        parts.append(one["state"])
    if "restarts" in one:
        gauge = one["restarts"]
        parts.append(f"{one['strategy']} {gauge['used']}/{gauge['intensity']} in {gauge['period']:g} s")
    if one.get("detail"):
        parts.append(one["detail"])
    return "  ".join(parts)


def folded(tree: dict[str, Any], fold: tuple[str, ...], hide: tuple[str, ...] = ()) -> dict[str, Any]:
    """A tree with what lies below some processes counted instead, and without some others.

    Args:
        tree: as a node tells it; it is not changed.
        fold: the names of those whose processes are counted.
        hide: the names of those that are left out.
    """
    children = [folded(one, fold, hide) for one in tree.get("children", ()) if one["name"] not in hide]
    if tree["name"] not in fold:
        return {**tree, "children": children}
    below = [one["state"] == "running" for _, one in _flat(tree)]
    count = f"all {len(below)}" if all(below) else f"{sum(below)} of {len(below)}"
    return {**tree, "children": [], "detail": f"{count} below it run" if below else ""}
