"""Real nodes of one machine: one is killed, another one serves its shards out of its directory, and gives them back."""

from __future__ import annotations

import os
import signal
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.cluster.machine import PAY, TILLS, parts, wait_until
from tests.unit.cli.running import Place, Running

pytestmark = [pytest.mark.processes, pytest.mark.slow]

MANY = 12


@pytest.fixture
def place(tmp_path: Path) -> Place:
    found = Place(tmp_path)
    (found.folder / "tills.py").write_text(TILLS)
    return found


def command(place: Place, name: str) -> list[str]:
    """How a node of the cluster is started."""
    own = ["--name", name, "--data", name, "--address", f"unix:{place.folder}/{name}.link"]
    return ["tills:Tills", *own, "--clear", "--coordination", "agreed", "--shards", "16", "--allow-eval"]


def node(place: Place, name: str) -> AbstractContextManager[Running]:
    """A running one."""
    return place.node(*command(place, name))


def seen(place: Place, by: str) -> dict[str, tuple[str, int]]:
    """How a node sees the others, and how many shards each has."""
    return {one["name"]: (one["lease"], one["shards"]) for one in place.json("nodes", "-n", by)["nodes"]}


def pay(place: Place, by: str, timeout: float = 30) -> str:
    """Pay 5 into each till, by way of one node; what it answers."""
    ended = place.run("eval", "-n", by, "--timeout", str(timeout), PAY.format(amount=5, many=MANY))
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_a_killed_nodes_shards_are_adopted_and_given_back(place):
    """What it acknowledged is served; its start is refused with what to do; after --undo it has its shards again.

    While it lives, or stands still (SIGSTOP), nothing is adopted; if its adopter is killed, it just starts.
    """
    with node(place, "a") as first, node(place, "b") as second:
        wait_until(lambda: seen(place, "a") == {"a": ("up", 8), "b": ("up", 8)})
        assert pay(place, "a") == repr([5] * MANY)
        for named, code in (("b", 5), ("a", 5), ("nobody", 4)):
            refused = place.run("adopt", named, "-n", "a")
            assert (refused.returncode, parts(refused.stderr)) == (code, ["what", "why", "next"])
        second.signal(signal.SIGSTOP)
        wait_until(lambda: seen(place, "a")["b"][0] == "down")
        refused = place.run("adopt", "b", "-n", "a")
        assert refused.returncode == 5
        assert f"process {second.process.pid} has {place.folder}/b open: it lives, or stands still" in refused.stderr
        second.signal(signal.SIGKILL)
        assert second.end() == -signal.SIGKILL

        said = place.json("adopt", "b", "-n", "a")
        assert said == {"node": "b", "by": "a", "data": f"{place.folder}/b", "shards": 8}
        assert seen(place, "a")["a"] == ("up", 16)
        assert "down, adopted here" in place.run("nodes", "-n", "a").stdout
        assert pay(place, "a") == repr([10] * MANY)
        assert place.run("adopt", "b", "-n", "a").returncode == 5
        refused = place.run("start", *command(place, "b"))
        assert (refused.returncode, parts(refused.stderr)) == (5, ["what", "why", "next"])
        assert f"node a has adopted it (process {first.process.pid})" in refused.stderr
        assert "--undo -n a" in refused.stderr

        assert place.run("adopt", "b", "-n", "a", "--undo").returncode == 0
        with node(place, "b") as second:
            wait_until(lambda: seen(place, "a") == {"a": ("up", 8), "b": ("up", 8)})
            assert pay(place, "b") == repr([15] * MANY)
            second.signal(signal.SIGKILL)
            second.end()
        wait_until(lambda: seen(place, "a")["b"][0] == "down")
        place.json("adopt", "b", "-n", "a")
        assert pay(place, "a") == repr([20] * MANY)
        first.signal(signal.SIGKILL)
        first.end()
    with node(place, "b"), node(place, "a"):
        wait_until(lambda: seen(place, "b") == {"a": ("up", 8), "b": ("up", 8)})
        assert pay(place, "b") == repr([25] * MANY)
        assert os.path.exists(place.folder / "b" / "data.mdb")
