"""What is seen of the demo: on a small terminal all that is killed and comes back, elsewhere few lines."""

from __future__ import annotations

import io
from typing import Any

import pytest

from game.demo_nodes import _shown
from game.demo_screen import Screen, folded
from game.demo_story import FOLDED, HIDDEN

# What the demo tells on one node, in order.
STORY = [f"caption {number}" for number in range(9)]


def worker(name: str, pid: int, **more: Any) -> dict[str, Any]:
    """A process as the tree tells of it."""
    return {"name": name, "pid": f"<1.{pid}>", "state": "running", "children": [], **more}


def supervisor(name: str, pid: int, *children: dict[str, Any]) -> dict[str, Any]:
    """One with children."""
    gauge = {"used": 0, "intensity": 10, "period": 5.0}
    return worker(name, pid, children=list(children), strategy="one_for_one", restarts=gauge)


def room(oak: int = 90, *, tables: int = 80) -> dict[str, Any]:
    """A node with two tables of bots; some pids."""
    wallets = [worker(f"wallet/{number}", 100 + number) for number in range(10)]
    bots = [worker(f"bot {number}", 200 + number) for number in range(10)]
    return supervisor(
        "root",
        1,
        supervisor("system", 2, *(worker(f"part {number}", 3 + number) for number in range(4))),
        supervisor(
            "card room",
            10,
            supervisor(
                "room",
                11,
                supervisor("wallets", 12, *wallets),
                supervisor("tables", tables, worker("table/oak", oak, detail="hand 2"), worker("table/elm", 91)),
                worker("lobby", 13),
            ),
            {**worker("house", 14), "pid": None, "state": "down"},
            supervisor("bots", 15, *bots),
            supervisor("gateway", 16, worker("acceptor", 17)),
        ),
    )


def shown(**more: Any) -> dict[str, Any]:
    """That node as the demo shows it."""
    return folded(room(**more), FOLDED, HIDDEN)


def picture(screen: Any, height: int) -> list[str]:
    """The lines that a screen draws now."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=80, height=height)
    with console.capture() as drawn:
        console.print(screen._live.get_renderable())
    return drawn.get().splitlines()


def test_what_is_folded_is_counted():
    """Many processes that nobody kills are one line, which says whether all of them run."""
    tree = room()
    tree["children"][1]["children"][2]["children"][0]["state"] = "down"
    said: dict[str, Any] = {}
    waiting = [folded(tree, FOLDED, HIDDEN)]
    while waiting:
        one = waiting.pop()
        said[one["name"]] = one.get("detail")
        waiting += one["children"]
    assert "house" not in said
    assert [said[name] for name in ("wallets", "bots", "gateway", "table/oak")] == [
        "all 10 below it run",
        "9 of 10 below it run",
        "all 1 below it run",
        "hand 2",
    ]


@pytest.mark.parametrize("height", [24, 30, 50])
def test_all_that_is_killed_is_seen_on_a_terminal(height):
    """At 80 columns and 24 lines no table is cut off, however long the story is; the newest of it is there."""
    pytest.importorskip("rich", reason="rich is not installed: the extra [tui] brings it")
    from rich.console import Console

    from game.demo_live import LiveScreen

    for told in range(1, len(STORY) + 1):
        out = io.StringIO()
        console = Console(file=out, width=80, height=height, force_terminal=True, color_system=None)
        screen = LiveScreen(console)
        for caption in STORY[:told]:
            screen.say(caption)
        screen.show(shown())
        screen.show(shown(oak=95))
        lines = picture(screen, height)
        assert len(lines) <= height
        assert any("table/oak  <1.95>  was <1.90>  hand 2" in line for line in lines)
        assert any("gateway" in line for line in lines)
        assert any(STORY[told - 1] in line for line in lines)


def test_where_the_story_is_longer_than_the_terminal_its_end_is_seen():
    """What was told first makes room; at the end all of it is left on the terminal."""
    pytest.importorskip("rich", reason="rich is not installed: the extra [tui] brings it")
    from rich.console import Console

    from game.demo_live import LiveScreen

    out = io.StringIO()
    console = Console(file=out, width=80, height=18, force_terminal=True, color_system=None)
    with LiveScreen(console) as screen:
        for caption in STORY:
            screen.say(caption)
        screen.show(shown())
        seen = picture(screen, 18)
        assert len(seen) == 18
        assert [caption for caption in STORY if any(caption in line for line in seen)] == STORY[-4:]
        screen.say("over")
        begun = out.tell()
    left = out.getvalue()[begun:]
    assert [caption for caption in [*STORY, "over"] if caption in left] == [*STORY, "over"]
    assert "gateway" in left


def test_elsewhere_only_what_has_changed_is_told(capsys):
    """The tree is printed once; after each caption then a line for each new pid, and all anew for another node."""
    screen = Screen()
    screen.say("begun")
    screen.show(shown())
    assert len(capsys.readouterr().err.splitlines()) == 12
    screen.show(shown(oak=92))
    assert capsys.readouterr().err == ""
    screen.say("healed")
    screen.show(shown(oak=93, tables=81))
    _, *lines = capsys.readouterr().err.splitlines()
    assert [line.strip() for line in lines] == [
        "card room > room > tables  <1.81>  was <1.80>  one_for_one 0/10 in 5 s",
        "card room > room > tables > table/oak  <1.93>  was <1.90>  hand 2",
    ]
    screen.say("calm")
    screen.show(shown(oak=93, tables=81))
    assert len(capsys.readouterr().err.splitlines()) == 1
    screen.anew()
    screen.say("another")
    screen.show(shown(oak=93, tables=81))
    assert len(capsys.readouterr().err.splitlines()) == 12


def test_several_nodes_fit_a_small_terminal(capsys):
    """A line for each node, its tables, what supervises them and the lobby; the wallets are counted."""
    shard = supervisor("region/table/shards/3", 41, worker("table/oak", 42))
    wallets = supervisor("wallet", 30, supervisor("region/wallet/shards", 31, worker("wallet/ada", 32)))
    tree = supervisor(
        "root", 1, wallets, supervisor("table", 40, supervisor("region/table/shards", 43, shard)), worker("room/x", 50)
    )
    screen = Screen()
    screen.say("begun")
    screen.show(_shown({"one": tree, "two": None, "three": tree}, {"three": "draining, 2 shards left"}))
    _, *lines = capsys.readouterr().err.splitlines()
    assert [line.strip("`|- ") for line in lines] == [
        "the nodes",
        "one  <1.1>  one_for_one 0/10 in 5 s  1 wallet",
        "region/table/shards  <1.43>  one_for_one 0/10 in 5 s",
        "table/oak  <1.42>",
        "room/x  <1.50>",
        "two  -  down",
        "three  <1.1>  one_for_one 0/10 in 5 s  draining, 2 shards left",
        "region/table/shards  <1.43>  one_for_one 0/10 in 5 s",
        "table/oak  <1.42>",
        "room/x  <1.50>",
    ]
    screen.say("gone")
    screen.show(_shown({"one": None, "two": None, "three": tree}, {}))
    assert "one > room/x  is gone" in capsys.readouterr().err
