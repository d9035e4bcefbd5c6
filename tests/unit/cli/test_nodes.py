"""Commands against real nodes: a node is started, looked into, hurt and stopped as a person would do it."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from runtime.observe import client, places
from tests.unit.cli.running import Place

pytestmark = pytest.mark.processes


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def parts(stderr: str) -> list[str]:
    """The labels of an error's lines: what, why, next."""
    return [line.partition(":")[0] for line in stderr.splitlines() if line[:5] in ("what:", "why: ", "next:")]


def till_of(tree: dict[str, Any]) -> str:
    (shop,) = [one for one in tree["children"] if one["name"] == "Shop"]
    (till,) = shop["children"]
    assert till["name"] == "till"
    return str(till["pid"])


@pytest.mark.slow
def test_a_node_is_started_seen_hurt_and_stopped(place):
    """start says ready; tree and ps show it; a killed child is back; SIGTERM ends it in order, exit 0."""
    with place.node("shop:Shop", "--name", "one", "--data", "store") as node:
        assert (node.name, node.socket) == ("one", str(place.folder / "banyan" / "one.sock"))
        tree = place.json("tree")
        shop = next(one for one in tree["children"] if one["name"] == "Shop")
        till = {"pid": till_of(tree), "name": "till", "type": "worker", "state": "running"}
        assert shop == {
            "pid": shop["pid"],
            "name": "Shop",
            "type": "supervisor",
            "state": "running",
            "strategy": "one_for_one",
            "restarts": {"used": 0, "intensity": 10, "period": 5.0},
            "children": [till],
        }
        text = place.run("tree", "Shop")
        assert (text.returncode, text.stderr) == (0, "")
        assert text.stdout.splitlines()[1] == f"`-- till  {till['pid']}  running"
        assert place.json("kill", "till") == {"pid": till["pid"], "name": "till", "reason": "kill"}
        assert any(till_of(place.json("tree", "-n", "one")) != till["pid"] for _ in range(100))
        assert place.json("ps", "--data", "store", "--limit", "1")["total"] >= 6
        assert place.run("kill", "nobody").returncode == 4
        node.signal(signal.SIGTERM)
        assert node.end() == 0
        assert not Path(node.socket).exists()
    for which, code in (([], 4), (["-n", "one"], 3), (["--data", "store"], 3)):
        gone = place.run("tree", *which)
        assert (gone.returncode, gone.stdout, parts(gone.stderr)) == (code, "", ["what", "why", "next"])


def test_ctrl_c_drains_too(place):
    """SIGINT stops a node in order, as SIGTERM does."""
    with place.node("shop:Shop") as node:
        assert node.name == "node"
        assert "keeps nothing" in node.log
        node.signal(signal.SIGINT)
        assert node.end() == 0


def test_a_second_signal_ends_the_node_at_once(place):
    """While a tree takes for ever to stop, a second signal ends the program with exit 1 and says so."""
    with place.node("shop:Stuck") as node:
        node.signal(signal.SIGTERM)
        node.wait_for_log("is stopping")
        assert place.run("tree").returncode == 0
        node.signal(signal.SIGTERM)
        assert node.end() == 1
        assert parts(node.log) == ["what", "why", "next"]
        assert "why: a second signal came (SIGTERM)" in node.log


def test_the_deadline_of_the_drain_ends_the_node(place):
    """A tree that has not stopped within --drain-timeout is ended with exit 1."""
    with place.node("shop:Stuck", "--drain-timeout", "0.2") as node:
        node.signal(signal.SIGTERM)
        assert node.end() == 1
        assert "why: it did not stop within 0.2 s" in node.log


@pytest.mark.slow
def test_signals_end_a_node_that_hears_nothing(place, monkeypatch):
    """Deadline and second signal work while a process computes without ever waiting."""
    monkeypatch.setattr(client, "LOOK_PATIENCE", 0.1)
    both = (signal.SIGTERM, signal.SIGINT)
    for options, signals in ((["--drain-timeout", "0.2"], both[:1]), ([], both)):
        with place.node("shop:Hogs", "--preempt", "off", *options) as node:
            busy = place.run("tree", "--timeout", "0.5")
            while busy.returncode == 0:
                busy = place.run("tree", "--timeout", "0.5")
            assert (busy.returncode, parts(busy.stderr)) == (6, ["what", "why", "next"])
            for number in signals:  # two kinds: of one kind an operating system keeps but one that waits
                node.signal(number)
            assert node.end() == 1


@pytest.mark.slow
def test_a_node_that_was_killed_leaves_no_trace_to_others(place):
    """After SIGKILL the node is gone for every command, and can be started again under its name and data."""
    with place.node("shop:Shop", "--name", "one", "--data", "store") as node:
        node.signal(signal.SIGKILL)
        node.end()
        assert Path(node.socket).exists()
        assert place.run("tree", "-n", "one").returncode == 3
        assert place.run("tree").returncode == 4
        assert not Path(node.socket).exists()
    with place.node("shop:Shop", "--name", "one", "--data", "store") as node:
        assert place.run("tree").returncode == 0


@pytest.mark.slow
def test_a_data_directory_has_one_node(place, monkeypatch):
    """A second node on the same data is refused with exit 5; so is a second node of the same name."""
    monkeypatch.setattr(places, "CLAIM_PATIENCE", 0.1)
    with place.node("shop:Shop", "--name", "one", "--data", "store"):
        same_data = place.run("start", "shop:Shop", "--name", "two", "--data", "store")
        assert (same_data.returncode, same_data.stdout) == (5, "")
        assert parts(same_data.stderr) == ["what", "why", "next"]
        same_name = place.run("start", "shop:Shop", "--name", "one")
        assert (same_name.returncode, same_name.stdout) == (5, "")
        assert "the name 'one' is taken" in same_name.stderr
        assert place.run("tree").returncode == 0


def test_a_data_directory_that_cannot_be_written_is_refused(place):
    """Where the directory cannot be made, start ends with exit 5 in three parts."""
    (place.folder / "file").touch()
    ended = place.run("start", "shop:Shop", "--data", "file/store")
    assert (ended.returncode, parts(ended.stderr)) == (5, ["what", "why", "next"])


@pytest.mark.slow
def test_with_several_nodes_one_must_be_named(place):
    """With two nodes and none named, commands end with exit 4 and tell the names; -n and --data choose."""
    with (
        place.node("shop:Shop", "--name", "one"),
        place.node("shop:Shop", "--name", "two", "--data", "store"),
    ):
        unclear = place.run("tree")
        assert (unclear.returncode, unclear.stdout) == (4, "")
        assert "there are 2: one, two" in unclear.stderr
        assert [place.run("tree", *which).returncode for which in (["-n", "one"], ["--data", "store"])] == [
            0,
            0,
        ]
        assert place.run("tree", "-n", "three").returncode == 3
        assert place.run("tree", BANYAN_NAME="two").returncode == 0
        (place.folder / "banyan.toml").write_text('[node]\ndata = "store"\n')
        assert place.run("ps").returncode == 0


def test_an_application_that_does_not_start_or_live_ends_with_1(place):
    """A tree whose child fails to start, or cannot be kept alive, ends the node: exit 1, with the reason."""
    breaks = place.run("start", "shop:Breaks")
    assert (breaks.returncode, breaks.stdout) == (1, "")
    assert breaks.stderr.splitlines()[-3:] == [
        "what: the application did not start",
        "why: ValueError: odd",
        "next: the crash reports in the log above say where",
    ]
    mortal = place.run("start", "shop:Mortal")
    assert mortal.returncode == 1
    assert mortal.stdout.startswith("ready node ")
    assert "what: the node stopped\nwhy: an application ended, or used up its restarts\n" in mortal.stderr


@pytest.mark.slow
def test_settings_reach_the_application(place):
    """A setting comes from the flag, else the environment, else banyan.toml."""
    (place.folder / "banyan.toml").write_text('[node]\napplication = "shop:configured"\n[application]\ntill = "toml"\n')
    for arguments, environ, name in (
        ([], {}, "toml"),
        ([], {"BANYAN_SET_TILL": "env"}, "env"),
        (["--set", "till=flag"], {"BANYAN_SET_TILL": "env"}, "flag"),
    ):
        place.environ |= environ
        with place.node(*arguments):
            assert place.run("kill", name).returncode == 0


def test_the_log_is_a_json_object_a_line(place):
    """Without a terminal every line of the log is one JSON object, and acts are in it with who did them."""
    with place.node("shop:Shop") as node:
        assert place.run("kill", "till").returncode == 0
        node.signal(signal.SIGTERM)
        assert node.end() == 0
        lines = [json.loads(line) for line in node.log.splitlines()]
        audit = [line for line in lines if line["logger"] == "banyan.audit"]
        assert [line["event"].partition(": ")[2] for line in audit] == ["kill 'till' 'kill'"]
        assert audit[0]["event"].startswith(f"uid {os.geteuid()} pid ")
        assert all({"event", "level", "logger", "timestamp"} <= line.keys() for line in lines)


# -- remsh by a pipe -----------------------------------------------------------------------------------


def test_lines_come_by_a_pipe(place):
    """Each line's output and value go to stdout, in order; blocks end at an empty line, or with the input."""
    lines = "1 + 1\nfor i in range(2):\n    print(i)\n\nawait call('till', 3)\nx = 1\nif x:\n    x + 5"
    with place.node("shop:Shop", "--allow-eval"):
        ended = place.run("remsh", stdin=lines)
    assert (ended.returncode, ended.stdout) == (0, "2\n0\n1\n3\n")
    assert ended.stderr.startswith("banyan ")
    assert "(view+trace+act+eval; h() for help)" in ended.stderr


def test_a_line_that_fails_does_not_stop_the_others(place):
    """A failing line shows its traceback, the rest runs, and the exit code is 1."""
    with place.node("shop:Shop", "--allow-eval"):
        ended = place.run("remsh", stdin="1 / 0\n5\nraise SystemExit\n6\n")
        assert (ended.returncode, ended.stdout) == (1, "5\n6\n")
        assert "ZeroDivisionError: division by zero" in ended.stderr
        assert place.run("tree").returncode == 0


def test_without_allow_eval_only_words_are_answered(place):
    """A node that runs no lines answers the words that look; anything else is refused: exit 5."""
    with place.node("shop:Shop"):
        words = place.run("remsh", stdin="tree\ntree('Shop')\nps\ninfo\ninfo till\nh()\nquit\nnever reached\n")
        assert words.returncode == 0
        assert words.stdout.startswith("root  <1.1>  running")
        assert "\nShop  <1." in words.stdout
        assert "\nruns        shop.Till\n" in words.stdout
        assert "(view+trace+act; h() for help)" in words.stderr
        more = place.run("remsh", stdin="state till\nmailbox('till')\nstack till\ntop\ncrashes\ndoctor\n")
        assert (more.returncode, parts(more.stderr)) == (0, [])
        assert "  count  0\n" in more.stdout
        refused = place.run("remsh", stdin="1 + 1\ntree Shop\ntree nobody\n")
        assert refused.returncode == 5
        assert refused.stdout.startswith("Shop  <1.")
        assert parts(refused.stderr) == ["what", "why", "next"] * 2
        assert "next: restart it with --allow-eval" in refused.stderr


def test_a_node_that_goes_away_ends_the_conversation(place):
    """When the node ends in the middle, remsh ends with exit 3 and says so."""
    with place.node("shop:Shop", "--allow-eval"):
        ended = place.run("remsh", stdin="import os; os._exit(9)\n1 + 1\n")
        assert (ended.returncode, ended.stdout, parts(ended.stderr)) == (3, "", ["what", "why", "next"])


def test_a_socket_that_nobody_serves_is_not_reachable(place):
    """A node that is named, but whose socket is dead, is exit 3 at once."""
    (place.folder / "banyan").mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(place.folder / "banyan" / "dead.sock"))
    ended = place.run("remsh", "-n", "dead")
    assert (ended.returncode, parts(ended.stderr)) == (3, ["what", "why", "next"])


def test_an_application_that_keeps_its_state_wants_a_directory(place):
    """The card room without `--data` is wrong usage: what to add is said, and nothing runs."""
    ended = place.run("start", "game.app:application", "--name", "n")
    assert ended.returncode == 2
    assert parts(ended.stderr)[-3:] == ["what", "why", "next"]
    assert ended.stderr.splitlines()[-1] == "next: banyan start ... --data DIR"
