"""Each command that asks a node, against a real one: its lines, its JSON, its exit codes."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.observe import client
from supervisors.node import interrupts
from tests.unit.cli.running import BANYAN, LIMIT, Place

pytestmark = pytest.mark.processes

HOG = '''
"""A worker that computes for ever when it is told to."""

from runtime import GenServer
from supervisors import Supervisor, child


class Hog(GenServer):
    def init(self):
        self.turns = 0

    def handle_call(self, request, caller):
        return "here"

    def handle_cast(self, request):
        while True:
            self.turns += 1


class Hogs(Supervisor):
    def init(self):
        return [child("hog", Hog, name="hog")]
'''


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A node with a bank, for all tests of this file that only look, or put back what they change."""
    place = Place(tmp_path_factory.mktemp("place"))
    tried = pytest.MonkeyPatch()
    tried.setattr(interrupts, "TRIES", interrupts.LOOKS)  # this one has nothing to find
    with place.node("tests.unit.observe.bank:Bank", "--name", "one", "--data", "store", "--allow-eval"):
        tried.undo()
        for amount in (5, 7):
            line = f"from tests.unit.observe.bank import Deposit\nawait call('ann', Deposit({amount}))"
            assert place.run("eval", line).returncode == 0
        yield place


LOOKING = {
    ("info",): {"name": "one"},
    ("info", "ann"): {"name": "account/ann", "sequence": 2},
    ("ps", "--sort", "name", "--limit", "1"): {"window": 0.0},
    ("ps", "--window", "0.01", "--limit", "1"): {"window": 0.01},
    ("tree", "Bank"): {"name": "Bank", "type": "supervisor"},
    ("state", "ann"): {"fields": {"total": "12", "last": "7"}, "busy": False},
    ("mailbox", "ann"): {"total": 0, "letters": []},
    ("stack", "ann"): {"name": "account/ann"},
    ("stack",): {"holder": None},
    ("timers",): {"timers": []},
    ("crashes",): {"total": 0, "recording": 0, "crashes": []},
    ("crashes", "--stalls"): {},
    ("log", "ann", "--limit", "1"): {"key": "account/ann", "last": 2},
    ("log", "ann", "--before", "2"): {"last": 2},
    ("at", "ann", "1"): {"position": 1, "fields": {"total": "5", "last": "5"}},
    ("at", "ann", "-1"): {"position": 1},
    ("at", "ann"): {"position": 2, "last": 2},
    ("store", "account/"): {"keys": 1, "shown": {"account/ann": 2}},
    ("config",): {"name": "one", "level": "view+trace+act+eval"},
    ("doctor",): {},
    ("trace", "safe", "--seconds", "0.01"): {"stopped": "seconds", "events": []},
    ("crashes", "--keep", "0"): {"recording": 0},
    ("suspend", "safe"): {"name": "safe", "state": "suspended"},
    ("resume", "safe"): {"name": "safe", "state": "resumed"},
    ("eval", "1 + 1"): {"value": "2", "error": None},
}


@pytest.mark.slow
@pytest.mark.parametrize("arguments", LOOKING, ids=" ".join)
def test_a_command_says_it_for_a_person_and_as_json(place, arguments):
    """With --json the last line is one object with what is asked for; without, there are lines, and no error."""
    said = place.json(*arguments)
    expected = LOOKING[arguments]
    assert {key: said[key] for key in expected} == expected
    ended = place.run(*arguments)
    assert ended.returncode == 0
    assert ended.stdout or arguments[0] == "trace"
    assert "what:" not in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("state", "nobody"), 4),
        (("log", "safe"), 4),
        (("at", "ann", "99"), 4),
        (("at", "ann", "x"), 2),
        (("ps", "--sort", "colour"), 2),
        (("ps", "--limit", "0"), 2),
        (("trace", "ann", "--seconds", "9999"), 2),
        (("trace",), 2),
        (("restart", "root"), 4),
        (("interrupt",), 4),
        (("eval", "1 / 0"), 1),
        (("state", "ann", "-n", "nowhere"), 3),
        (("completion", "tcsh"), 2),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, tuple) else str(one),
)
def test_a_command_that_cannot_says_why(place, arguments, code):
    """What cannot be done has its exit code; stdout stays empty."""
    ended = place.run(*arguments)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert ended.stderr


def test_a_restarted_process_is_another_one(place):
    """`restart` tells both pids."""
    said = place.json("restart", "wallet/p-7")
    assert said["before"] != said["pid"] == place.json("info", "p-7")["pid"]


def test_the_tree_is_drawn(place):
    """--dot, --mermaid and --svg begin as their tools want it; two at once are wrong usage."""
    begins = {"--dot": "digraph ", "--mermaid": "flowchart TD", "--svg": "<svg "}
    for form, begin in begins.items():
        assert place.run("tree", form).stdout.startswith(begin)
    assert place.run("tree", "--dot", "--svg").returncode == 2


def test_a_watch_goes_on_until_it_is_ended(place):
    """--watch prints an object a line, again and again, and Ctrl-C ends it with 130."""
    command = [*BANYAN, "ps", "--watch", "0.01", "--limit", "1", "--json"]
    with subprocess.Popen(
        command, cwd=place.folder, env=place.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for _ in range(3):
            assert json.loads(process.stdout.readline())["total"] > 5
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=LIMIT)
    assert process.returncode == 130


def test_a_shell_completes_commands_options_and_processes(place):
    """Words go on with commands, options, living names and pids; where there is nothing to offer, nothing is said."""

    def words(*typed: str) -> list[str]:
        ended = place.run("completion", "words", "--", *typed)
        assert (ended.returncode, ended.stderr) == (0, "")
        return ended.stdout.split()

    assert words("su") == ["suspend"]
    assert words("state", "wal") == ["wallet/p-7"]
    assert words("kill", "table/") == ["table/t-042"]
    assert words("state", "-n", "o") == ["one"]
    assert "--mermaid" in words("trace", "--m")
    assert words("state", "1.1")[0] == "1.1"
    assert words("state", "-n", "nowhere", "wal") == []
    assert words("nonsense", "x") == []
    for shell in ("bash", "zsh", "fish"):
        assert "banyan completion words" in place.run("completion", shell).stdout


def test_a_level_too_low_is_exit_5(tmp_path):
    """A node that was started to be looked at refuses to be changed, and says what it would take."""
    place = Place(tmp_path)
    with place.node("shop:Shop", "--admin-level", "view"):
        assert place.json("config")["admin_level"] == "view"
        for arguments, flag in ((("kill", "till"), "act"), (("trace", "till"), "trace")):
            ended = place.run(*arguments)
            assert (ended.returncode, ended.stdout) == (5, "")
            assert f"next: restart it with --admin-level {flag}" in ended.stderr
        assert place.run("interrupt").returncode == 5
    both = place.run("start", "shop:Shop", "--admin-level", "view", "--allow-eval")
    assert (both.returncode, "do not agree" in both.stderr) == (2, True)


def started(place: Place, *arguments: str) -> subprocess.Popen[str]:
    """A command that is not waited for."""
    return subprocess.Popen(
        [*BANYAN, *arguments], cwd=place.folder, env=place.environ, stderr=subprocess.DEVNULL, text=True
    )


def until_held_by(place: Place, who: str) -> None:
    """Look at the back door until somebody holds the loop."""
    holder = ""
    for _ in range(100):
        holder = place.json("stack")["holder"] or ""
        if holder.startswith(who):
            return
    pytest.fail(f"{who} does not hold the loop, but {holder or 'nobody'}")


@pytest.mark.slow
def test_what_holds_the_loop_is_found_and_broken(tmp_path, monkeypatch):
    """While a callback computes for ever, `stack` names it and `interrupt` ends it; its supervisor restarts it."""
    monkeypatch.setattr(client, "LOOK_PATIENCE", 0.1)
    place = Place(tmp_path)
    Path(tmp_path, "hog.py").write_text(HOG)
    with place.node("hog:Hogs", "--allow-eval", "--preempt", "off") as node:
        before = place.json("info", "hog")["pid"]
        with started(place, "eval", "await cast('hog', 1)") as caller:
            # Its reply may come before the hog's turn, or never.
            until_held_by(place, f"{before} hog")
            caller.kill()
        assert place.run("ps", "--timeout", "0.2").returncode == 6
        assert place.json("stack")["threads"][0]["stack"][-1]["function"] == "Hog.handle_cast"
        assert place.json("interrupt") == {"interrupted": f"{before} hog"}
        after = place.json("info", "hog")
        assert (after["pid"] != before, after["state"]) == (True, "running")
        (crash,) = place.json("crashes", "hog")["crashes"]
        assert crash["reason"].startswith("Crash(Interrupted(")
        assert [one["name"] for one in place.json("crashes", "--stalls")["stalls"]] == ["hog"]
        with started(place, "eval", "while True: pass") as line:
            until_held_by(place, "the typed line <remsh")
            assert place.json("interrupt")["interrupted"].startswith("the typed line <remsh")
            assert line.wait(LIMIT) == 1
        assert place.json("info", "hog")["pid"] == after["pid"]
        node.signal(signal.SIGTERM)
        assert node.end() == 0
