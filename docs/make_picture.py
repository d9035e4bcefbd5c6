"""Draws the README's picture: a real node's supervision tree before a crash, during it, and healed.

    python docs/make_picture.py            # writes docs/healing.svg
    python docs/make_picture.py FILE

A small tree is started, one of its processes is killed, and what `node.tree()` says at each moment is drawn;
nothing is invented. The restart is held up for as long as the second picture takes.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path

import trio
import trio.testing

from runtime import KILL, GenServer, exit, whereis
from supervisors import ChildSpec, Node, Supervisor, child

LINE, TOP, PANEL = 24, 36, 320
INK, FAINT, GREEN, RED, PAPER = "#e6edf3", "#8b949e", "#3fb950", "#f85149", "#0d1117"

Row = tuple[int, str, str, str, str]  # depth, name, pid, state, gauge


class Part(GenServer):
    """A process that starts only when the door is open."""

    door = trio.Event()

    async def init(self) -> None:
        await Part.door.wait()


class Tables(Supervisor):
    strategy, intensity, period = "one_for_one", 3, 5.0

    def init(self) -> list[ChildSpec]:
        return [child(f"table-{n}", Part, name=f"table-{n}") for n in (1, 2, 3)]


class Room(Supervisor):
    strategy, intensity, period = "rest_for_one", 3, 5.0

    def init(self) -> list[ChildSpec]:
        return [child("wallets", Part), child("tables", Tables), child("lobby", Part)]


def rows(node: Node) -> list[Row]:
    """The application's part of the tree, a row for each process, in order."""

    def walk(said: dict[str, object], depth: int) -> Iterator[Row]:
        gauge = said.get("restarts")
        shown = f"restarts {gauge['used']}/{gauge['intensity']}" if isinstance(gauge, dict) else ""
        yield depth, str(said["name"]), str(said["pid"] or ""), str(said["state"]), shown
        children = said.get("children")
        for one in children if isinstance(children, list) else []:
            yield from walk(one, depth + 1)

    application = node.tree().children[-1]
    return list(walk(application.to_json(), 0))


async def watch() -> list[list[Row]]:
    """The tree before the crash, during the restart, and after it."""
    Part.door = trio.Event()
    Part.door.set()
    async with Node("picture") as node:
        await node.start(Room, name="room")
        before = rows(node)
        Part.door = trio.Event()
        victim = whereis("table-2")
        assert victim is not None
        exit(victim, KILL)
        await trio.testing.wait_all_tasks_blocked()
        during = rows(node)
        Part.door.set()
        await trio.testing.wait_all_tasks_blocked()
        return [before, during, rows(node)]


def text(x: int, y: int, words: str, colour: str) -> str:
    return f'<text x="{x}" y="{y}" fill="{colour}">{escape(words)}</text>'


def panel(left: int, title: str, shown: list[Row], known: set[str]) -> Iterator[str]:
    """One tree; processes whose pids are not in `known` are new."""
    yield text(left, 30, title, FAINT)
    above: dict[int, int] = {}  # by depth: where the line to the next one of that depth begins
    for number, (depth, name, pid, state, gauge) in enumerate(shown):
        x, y = left + 18 * depth, TOP + LINE * (number + 1)
        up, new = state == "running", bool(pid) and pid not in known
        if depth:
            yield f'<path d="M{x - 13} {above[depth]}V{y - 5}H{x}" stroke="{FAINT}" fill="none"/>'
        above[depth], above[depth + 1] = y, y + 2
        yield f'<circle cx="{x + 5}" cy="{y - 5}" r="5" fill="{GREEN if up else RED}"/>'
        yield text(x + 18, y, name, INK if up else RED)
        yield text(left + 140, y, pid or state, GREEN if new else FAINT if pid else RED)
        if gauge or new:
            yield text(left + 195, y, gauge or "new", GREEN if new else FAINT)


def picture(moments: list[list[Row]]) -> str:
    """The three moments side by side, as SVG."""
    known = {pid for _, _, pid, _, _ in moments[0]}
    height = TOP + LINE * len(moments[0]) + 22
    titles = ("a tree of processes", "table-2 is killed", "healed; the others never noticed")
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {PANEL * 3} {height}" '
        'font-family="ui-monospace, Menlo, Consolas, monospace" font-size="14">',
        f'<rect width="100%" height="100%" rx="8" fill="{PAPER}"/>',
    ]
    for number, (title, shown) in enumerate(zip(titles, moments, strict=True)):
        drawn += panel(PANEL * number + 24, title, shown, known)
    return "\n".join([*drawn, "</svg>", ""])


if __name__ == "__main__":
    logging.disable()  # the crash report of table-2
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("healing.svg")
    file.write_text(picture(trio.run(watch)), encoding="utf-8")
