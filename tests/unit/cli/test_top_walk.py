"""The walk of docs/operations.md with `banyan top` alone: its keys pressed, on a node with the fault planted in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("textual", reason="textual is not installed: the extra [tui] brings it")

from tests.unit.cli.front import Screen, lines_of, served, watch
from tests.unit.cli.planted import PLAYERS, Room

PAGE = (Path(__file__).parents[3] / "docs" / "operations.md").read_text()


def steps() -> list[tuple[list[str], list[str]]]:
    """The keys of each row of the walk's table, and what is to be seen then."""
    _, _, rows = PAGE.partition("| press | and see |\n|---|---|\n")
    lines = rows.partition("\n\n")[0].splitlines()
    cells = [line.strip("|").split("|", 1) for line in lines]
    return [(re.findall("`(.+?)`", keys), re.findall("`(.+?)`", seen)) for keys, seen in cells]


def test_the_walk_finds_the_fault_and_mends_it(tmp_path):
    """Each row's keys show what stands in it; in the end nobody waits, and the mailbox that grew is empty."""

    async def work(screen: Screen) -> None:
        await screen.until(lambda: screen.table() and screen.table()[0][1] == "wallet/p-7")
        *found, (last, absent) = steps()
        for keys, seen in found:
            await screen.press(*keys)
            await screen.until(lambda seen=seen: all(part in everything(screen) for part in seen))
        await screen.press(*last)
        await screen.until(lambda: not any(part in everything(screen) for part in absent))
        assert len(screen.app.screen_stack) == 2
        assert [line[3] for line in screen.table() if line[1] == "wallet/p-7"] == ["0"]

    with served(tmp_path, Room) as node:
        watch(node.socket, work, size=(150, 30))


def everything(screen: Screen) -> str:
    """What is seen, with what a frame has further down, where somebody scrolls to."""
    frames = [screen.text(one) for one in ("#who", "#state", "#mailbox", "#crashes")]
    return "\n".join([screen.picture(), *frames, screen.told()])


def test_the_walk_looks_before_it_acts():
    """It starts with a look, opens the page, follows, and only then acts; what it shows is the planted fault."""
    assert [keys for keys, _ in steps()] == [[], ["enter"], ["f"], ["R"], ["y"], ["escape"], ["escape"]]
    assert steps()[0][1] == ["wallet/p-7", str(PLAYERS), "Withdraw (waiting on table/t-042)"]
    assert all(seen for _, seen in steps())


def test_the_picture_of_the_page_shows_its_first_step():
    """docs/top.svg is the walk's first step, as `docs/make_top_picture.py` captures it; it fetches nothing."""
    svg = (Path(__file__).parents[3] / "docs" / "top.svg").read_text()
    seen = "\n".join(lines_of(svg))
    assert all(part in seen for part in steps()[0][1])
    assert "MAILBOX▾" in seen
    assert re.findall(r"https?://[\w.]+", svg) == ["http://www.w3.org"]
