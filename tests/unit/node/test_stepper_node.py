"""Nodes as `banyan start` makes them: a runaway is ended by itself, unless somebody has said off."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisors.node.config import BadConfig, NodeConfig, configure
from tests.unit.cli.running import Place

ROOM = '''
"""An application with a report that never ends."""

from runtime import GenServer
from supervisors import Supervisor, child


class Report(GenServer):
    """Adds up for ever."""

    def handle_cast(self, request):
        total = 0
        while True:
            total += 1


class Wallet(GenServer):
    """Has nothing to do with it."""

    def init(self):
        self.chips = 1000

    def handle_call(self, request, caller):
        return self.chips


class Room(Supervisor):
    """Both."""

    def init(self):
        return [child("report", Report, name="report"), child("wallet", Wallet, name="wallet")]
'''


@pytest.mark.slow
@pytest.mark.processes
def test_a_runaway_is_ended_and_told_of(tmp_path):
    """The process is another one, its neighbour the same; crashes and stalls say where it was; a line just ends."""
    place = Place(tmp_path)
    Path(tmp_path, "room.py").write_text(ROOM)
    with place.node("room:Room", "--allow-eval", "--preempt", "0.5"):
        assert place.json("config")["preempt"] == 0.5
        before = {name: place.json("info", name)["pid"] for name in ("report", "wallet")}
        assert place.run("eval", "await cast('report', 'monthly')").returncode == 0
        while (after := place.json("info", "report")["pid"]) == before["report"]:
            pass
        (crash,) = place.json("crashes", "report")["crashes"]
        assert crash["reason"].startswith("Crash(Runaway('it held the loop for ")
        assert "Report.handle_cast" in [frame["function"] for frame in crash["trace"]]
        assert [one["name"] for one in place.json("crashes", "--stalls")["stalls"]] == ["report"]
        line = place.run("eval", "while True: pass")
        assert (line.returncode, line.stdout) == (1, "")
        assert line.stderr.startswith("Interrupted: this line held the CPU for 0.")
        assert line.stderr.endswith(" s (limit 0.5 s); the node is fine.\n")
        assert {name: place.json("info", name)["pid"] for name in before} == {**before, "report": after}


def test_preempt_is_one_second_unless_something_else_is_said():
    """A flag, BANYAN_PREEMPT or banyan.toml; "off" is never."""
    assert NodeConfig().preempt == configure({}, {}).preempt == 1.0
    assert configure({"preempt": "2.5"}, {"BANYAN_PREEMPT": "off"}).preempt == 2.5
    assert configure({}, {"BANYAN_PREEMPT": "off"}).preempt == "off"
    assert configure({}, {}, (Path("/etc/banyan.toml"), "[node]\npreempt = 3\n")).preempt == 3.0
    assert configure({}, {}, (Path("/etc/banyan.toml"), '[node]\npreempt = "off"\n')).preempt == "off"


@pytest.mark.parametrize("value", ["0", "-1", "inf", "nan", "never"])
def test_a_preempt_that_is_none_is_refused(value):
    """Seconds above 0, or off."""
    with pytest.raises(BadConfig, match=f"^the command line: preempt cannot be .*{value}"):
        configure({"preempt": value}, {})
