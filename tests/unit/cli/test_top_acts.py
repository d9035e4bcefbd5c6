"""`banyan top` in front of a node: what changes it asks first, needs the level `act`, and says what came of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import pytest

pytest.importorskip("textual", reason="textual is not installed: the extra [tui] brings it")

from runtime.observe.client import AdminClient
from runtime.observe.protocol import Level, Ps, Restart
from supervisors.cli.top_screens.acts import Question
from supervisors.cli.top_screens.table import ProcessTable
from supervisors.node import admin
from tests.unit.cli.front import Screen, Served, served, watch
from tests.unit.cli.test_moves import fact, standing
from tests.unit.observe.bank import Bank


def state_of(node: Served, name: str) -> tuple[str, str]:
    """The pid and the state of a process, asked past the screen."""
    with AdminClient(node.socket) as client:
        (found,) = [one for one in client.request(Ps())["processes"] if one["name"] == name]
    return found["pid"], found["state"]


def asked(screen: Screen) -> Callable[[], bool]:
    """Whether a question is seen."""
    return lambda: isinstance(screen.app.screen, Question)


async def choose(screen: Screen, name: str) -> None:
    """Put the table's cursor on a process."""
    await screen.until(lambda: len(screen.table()) >= 10)
    screen.app.screen.query_one(ProcessTable).move_cursor(row=screen.row(name))


def test_nothing_is_done_without_a_yes(tmp_path):
    """K, S and R ask, and whatever is not yes does nothing; Enter at once is no."""

    async def work(screen: Screen) -> None:
        await choose(screen, "safe")
        before = state_of(node, "safe")
        for key, word, no in (("K", "Kill", "n"), ("S", "Suspend", "escape"), ("R", "Restart", "enter")):
            await screen.press(key)
            await screen.until(asked(screen))
            assert f"{word} safe {before[0]}?" in screen.text("#question")
            await screen.press(no)
            await screen.until(lambda: not asked(screen)())
        await screen.press("K")
        await screen.until(asked(screen))
        await screen.pilot.click("#no")
        await screen.until(lambda: not asked(screen)())
        assert state_of(node, "safe") == before

    with served(tmp_path, Bank) as node:
        watch(node.socket, work)


def test_a_process_is_held_and_let_go_on(tmp_path):
    """S and y suspend a process, and the same keys resume one that is suspended; the screen says so."""

    async def work(screen: Screen) -> None:
        await choose(screen, "safe")
        pid, _ = state_of(node, "safe")
        await screen.press("S", "y")
        await screen.until(lambda: f"safe {pid} is suspended" in screen.told())
        await screen.until(lambda: screen.table()[screen.row("safe")][2] == "suspended")
        assert state_of(node, "safe") == (pid, "suspended")
        await screen.press("S")
        await screen.until(lambda: f"Resume safe {pid}?" in screen.text("#question"))
        await screen.press("y")
        await screen.until(lambda: f"safe {pid} is resumed" in screen.told())
        assert state_of(node, "safe") == (pid, "running")

    with served(tmp_path, Bank) as node:
        watch(node.socket, work, sort="pid")


def test_a_process_is_restarted_from_its_page(tmp_path):
    """R on a page, answered with the mouse, ends the process in order; the page follows its name."""

    async def work(screen: Screen) -> None:
        await screen.until(lambda: "safe  <1." in screen.text("#who"))
        before, _ = state_of(node, "safe")
        await screen.press("R")
        await screen.until(asked(screen))
        await screen.pilot.click("#yes")
        await screen.until(lambda: f"safe was {before}, and is <1." in screen.told())
        after, _ = state_of(node, "safe")
        assert after != before
        await screen.until(lambda: f"safe  {after}" in screen.text("#who"))

    with served(tmp_path, Bank) as node:
        watch(node.socket, work, of="safe")


def test_a_process_is_killed_from_the_tree(tmp_path):
    """K and y kill the process at the tree's cursor; its supervisor has a new one, and its gauge shows it."""

    async def work(screen: Screen) -> None:
        await screen.press("2")
        await screen.until(lambda: any(line.startswith("safe") for line in screen.tree()))
        before, _ = state_of(node, "safe")
        await screen.press("end")
        await screen.press("K")
        await screen.until(lambda: f"Kill safe {before}?" in screen.text("#question"))
        await screen.press("y")
        await screen.until(lambda: f"sent kill to safe {before}" in screen.told())
        await screen.until(lambda: any("1/3 in 5 s" in line for line in screen.tree()))
        assert state_of(node, "safe")[0] != before

    with served(tmp_path, Bank) as node:
        watch(node.socket, work)


def test_a_level_too_low_is_told_and_nothing_is_done(tmp_path):
    """A node that was started to be looked at refuses, and the screen shows why and what would help."""

    async def work(screen: Screen) -> None:
        await choose(screen, "safe")
        before = state_of(node, "safe")
        for key, operation in (("K", "kill"), ("S", "suspend"), ("R", "restart")):
            await screen.press(key, "y")
            await screen.until(lambda operation=operation: f"does not do '{operation}'" in screen.told())
        seen = screen.told()
        assert "that needs the level 'act'" in seen
        assert "restart it with --admin-level act" in seen
        assert state_of(node, "safe") == before

    with served(tmp_path, Bank, level=Level.VIEW) as node:
        watch(node.socket, work, sort="pid")


def test_one_that_has_ended_meanwhile_is_nobody_else(tmp_path):
    """A yes is for the process that was seen: if another has its name by then, the screen says that it is gone."""

    async def work(screen: Screen) -> None:
        await choose(screen, "safe")
        before, _ = state_of(node, "safe")
        await screen.press("K")
        await screen.until(asked(screen))
        with AdminClient(node.socket) as client:
            after = client.request(Restart(target="safe"))["pid"]
        await screen.press("y")
        await screen.until(lambda: f"there is no process '{before}'" in screen.told())
        assert state_of(node, "safe")[0] == after

    with served(tmp_path, Bank) as node:
        watch(node.socket, work)


def test_a_node_that_is_gone_is_told(tmp_path):
    """A yes that reaches nobody is told as such, and is not tried again."""

    async def work(screen: Screen) -> None:
        await choose(screen, "safe")
        await screen.press("K")
        await screen.until(asked(screen))
        node.end()
        await screen.press("y")
        await screen.until(lambda: "cannot reach the node" in screen.told() or "lost the node" in screen.told())

    with served(tmp_path, Bank) as node:
        watch(node.socket, work)


class Steered:
    """In the place of what moves shards: one is under way, and the node can be drained."""

    all: ClassVar = [fact()]

    def __init__(self, table: object) -> None:
        self.drains = False

    async def moves(self, of: str | None) -> dict[str, object]:
        return {
            "node": "one",
            "moves": self.all,
            "nodes": [standing(node="one", draining=self.drains)],
            "silent": [],
        }

    async def drain(self, node: str | None, *, on: bool) -> dict[str, object]:
        self.drains = on
        return standing(node="one", draining=on)


def test_a_node_is_drained_from_the_tab_of_its_moves(tmp_path, monkeypatch):
    """D opens the tab of moves, and there it asks and drains; the same keys let the node take part again."""
    monkeypatch.setattr(admin, "ShardSteering", Steered)

    async def work(screen: Screen) -> None:
        await screen.until(lambda: len(screen.table()) >= 10)
        await screen.press("D")
        await screen.until(lambda: "copying" in screen.text("#move-lines"))
        await screen.press("D")
        await screen.until(lambda: "Drain one?" in screen.text("#question"))
        await screen.press("y")
        await screen.until(lambda: "one gives its 2 shards away" in screen.told())
        await screen.until(lambda: "one drains, and has 2 shards left" in screen.text("#move-lines"))
        await screen.press("D")
        await screen.until(lambda: "Let one take part again?" in screen.text("#question"))
        await screen.press("y")
        await screen.until(lambda: "one takes part again" in screen.told())

    with served(tmp_path, Bank) as node:
        watch(node.socket, work)


class Busy(Steered):
    """Thirty shards have moved, with long reasons why not, and one moves; another node is empty."""

    all: ClassVar = [
        *(
            fact(id=f"m{shard}", shard=shard, phase="void", why="it did not come to rest in time", ended=1000.0 + shard)
            for shard in range(100, 130)
        ),
        fact(shard=7, source="room-1", target="room-2"),
    ]

    async def moves(self, of: str | None) -> dict[str, object]:
        said = await super().moves(of)
        return {**said, "nodes": [standing(node="two", owned=0), standing(node="three", owned=5)]}


def test_on_a_small_terminal_a_drain_can_be_watched(tmp_path, monkeypatch):
    """At 80x24: who drains, then what moves now, then the newest, a line each; and no key of the foot is cut off."""
    monkeypatch.setattr(admin, "ShardSteering", Busy)

    async def work(screen: Screen) -> None:
        await screen.until(lambda: len(screen.table()) >= 10)
        assert "D drain q quit" in screen.lines()[-1]
        await screen.press("6")
        await screen.until(lambda: "copying" in screen.text("#move-lines"))
        drained, drains, count, head, first, second, *others = screen.text("#move-lines").splitlines()
        assert drained == "two is drained: it has no shards"
        assert drains == "three drains, and has 5 shards left"
        assert count == "1 of the last 31 moves under way"
        assert head.split()[:5] == ["SHARD", "FROM", "TO", "PHASE", "COPIED"]
        assert first.split()[:7] == ["7", "room-1", "room-2", "copying", "25", "%", "2"]
        assert second.split()[0] == "129"
        assert [line.split()[0] for line in others] == [str(shard) for shard in range(128, 99, -1)]
        await screen.until(lambda: "120" in screen.picture())
        seen = [line.strip("│ ") for line in screen.lines()]
        at = seen.index(count)
        assert [line.split()[0] for line in seen[at + 2 : at + 8]] == ["7", "129", "128", "127", "126", "125"]
        assert seen[at + 3].endswith("it did not come to…")
        assert "D drain q quit" in seen[-1]
        await screen.open("bank")
        assert "R restart q quit" in screen.lines()[-1]

    with served(tmp_path, Bank) as node:
        watch(node.socket, work, size=(80, 24))
