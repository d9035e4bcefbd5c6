"""`banyan up`: several nodes on one machine, one of which is killed, and all of which are stopped."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.cluster.machine import gone, parts, up, wait_until
from tests.unit.cli.running import Place

pytestmark = [pytest.mark.processes, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
MANY = 12


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def stand(answer: int) -> str:
    """What a payment into all tills answers."""
    return repr([answer] * MANY)


def test_a_killed_node_is_back_with_all_that_was_acknowledged(place):
    """Two nodes share the shards; a SIGKILLed one is started again and its tills hold what they held; SIGTERM: 0."""
    with up(place, "tills:Tills", "--nodes", "2", "--data", "d", "--allow-eval", "--shards", "16") as machine:
        assert machine.until("joined") == "joined node-1 node-2"
        first = dict(machine.pids)
        assert machine.pay("node-1", 5, MANY) == stand(5)
        shards = place.json("shards", "-n", "node-1")
        assert (shards["total"], shards["owned"], shards["served"]) == (16, 16, 8)
        os.kill(first["node-2"], signal.SIGKILL)
        # Asked while it is away: they wait for it.
        assert machine.pay("node-1", 5, MANY) == stand(10)
        machine.until("joined")
        assert machine.pids["node-1"] == first["node-1"]
        assert machine.pids["node-2"] != first["node-2"]
        assert machine.pay("node-2", 5, MANY) == stand(15)
        nodes = {one["name"]: one for one in place.json("nodes", "-n", "node-1")["nodes"]}
        assert [(one["state"], one["linked"], one["shards"]) for one in nodes.values()] == [("up", True, 8)] * 2
        assert nodes["node-2"]["creation"] > nodes["node-1"]["creation"]
        assert "node-2" in place.run("nodes", "-n", "node-2").stdout
        assert len(place.run("shards", "-n", "node-2", "--of", "node-1").stdout.splitlines()) == 2 + 8
        machine.process.send_signal(signal.SIGTERM)
        assert machine.end() == 0, machine.log
        assert all(gone(pid) for pid in machine.pids.values())


def test_who_does_not_belong_is_told_what_to_do(place):
    """Data of another cluster, and another count of shards, are exit 5 with what, why and what next."""
    with up(place, "tills:Tills", "--nodes", "1", "--data", "d", "--shards", "16") as machine:
        assert machine.until("joined") == "joined node-1"
        machine.process.send_signal(signal.SIGTERM)
        assert machine.end() == 0, machine.log
    common = ["--data", "d/node-1", "--name", "node-1", "--clear", "--address", f"unix:{place.folder}/x.link"]
    for more, says in (
        (["--coordination", "d/coordination", "--shards", "17"], "set it to 16"),
        (["--coordination", "other"], "name the data directory of a node of this cluster"),
    ):
        ended = place.run("start", "tills:Tills", *common, *more)
        assert (ended.returncode, parts(ended.stderr)) == (5, ["what", "why", "next"]), ended.stderr
        assert says in ended.stderr


def test_the_nodes_speak_tls_when_keys_are_wanted(place):
    """With --certs the authority and the nodes' keys are made on the first start, and the nodes meet."""
    with up(place, "tills:Tills", "--nodes", "2", "--data", "d", "--certs", "certs") as machine:
        machine.until("joined")
        machine.process.send_signal(signal.SIGTERM)
        assert machine.end() == 0, machine.log
    made = {path.name for path in (place.folder / "certs").iterdir()}
    assert {"ca.pem", "node-node-1.pem", "node-node-2.key"} <= made


def test_a_second_signal_ends_all_at_once(place):
    """What does not stop is cut short by a second SIGTERM: exit 1, and no node outlives it."""
    with up(place, "shop:Stuck", "--nodes", "2", "--data", "d") as machine:
        machine.until("joined")
        machine.process.send_signal(signal.SIGTERM)
        machine.until_logged("node-1 is stopping")
        machine.process.send_signal(signal.SIGTERM)
        assert machine.end() == 1, machine.log
        wait_until(lambda: all(gone(pid) for pid in machine.pids.values()))


def test_no_node_outlives_the_one_who_started_it(place):
    """When the parent is killed its nodes stop in order by themselves."""
    with up(place, "tills:Tills", "--nodes", "2", "--data", "d") as machine:
        machine.until("joined")
        machine.process.kill()
        machine.end()
        machine.until_logged("node node-1 has stopped")
        machine.until_logged("node node-2 has stopped")


def test_an_application_that_does_not_start_ends_the_command(place):
    """The first node that cannot start ends all of them; exit 1, with its own words on stderr."""
    with up(place, "shop:Breaks", "--nodes", "2", "--data", "d") as machine:
        assert machine.end() == 1
        assert parts(machine.log)[-3:] == ["what", "why", "next"]
        assert "ValueError: odd" in machine.log
        assert "did not start" in machine.log


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["shop:Shop"], "no data directory was named"),
        (["--data", "d"], "no application was named"),
        (["shop:Shop", "--data", "d", "--nodes", "0"], "wanted 1 to 64"),
        (["shop:Shop", "--data", "d", "--address", "127.0.0.1:1", "--clear"], "address cannot be set here"),
        (["shop:plain", "--data", "d"], "wanted a Supervisor's class"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_what_cannot_be_started_is_refused(place, arguments, says):
    """Exit 2 with what, why and what next, before any node is started."""
    ended = place.run("up", *arguments)
    assert (ended.returncode, parts(ended.stderr)) == (2, ["what", "why", "next"])
    assert says in ended.stderr


def test_a_node_on_its_own_is_in_no_cluster(place):
    """`banyan nodes` shows it alone; `banyan shards` says that it shares none."""
    with place.node("shop:Shop", "--name", "one") as node:
        (one,) = place.json("nodes")["nodes"]
        assert (one["name"], one["state"], one["lease"], one["address"]) == ("one", "up", None, "")
        assert place.json("shards")["shards"] == []
        assert place.run("shards").stdout == "it shares no shards: all entities of its regions are its own\n"
        node.signal(signal.SIGTERM)
        assert node.end() == 0


def test_the_example_of_two_nodes_shows_what_it_says(place):
    """Both guests find all four houses, some of which live elsewhere; a killed node's houses know their visits."""
    (place.folder / "visits.py").write_text((ROOT / "examples" / "08_two_nodes" / "visits.py").read_text())
    with up(place, "visits:Visits", "--nodes", "2", "--data", "d") as machine:
        first = machine.visits(8)
        assert sorted(visit for _, _, visit in first) == [1] * 4 + [2] * 4
        lives = {house: node for house, node, _ in first}
        assert set(lives.values()) == {"node-1", "node-2"}
        os.kill(machine.pids["node-2"], signal.SIGKILL)
        again = machine.visits(4)
        assert sorted((house, visit) for house, _, visit in again) == [(house, 3) for house in sorted(lives)]
        assert {house: node for house, node, _ in again} == lives


def test_a_node_is_emptied_before_it_stops(place):
    """A shard is moved by hand; a node that is told to stop gives its shards away, ends with 0 and is started again."""
    with up(place, "tills:Tills", "--nodes", "2", "--data", "d", "--allow-eval", "--shards", "16") as machine:
        machine.until("joined")
        assert machine.pay("node-1", 5, MANY) == stand(5)
        shard = str(next(one["shard"] for one in place.json("shards", "-n", "node-1")["shards"] if one["served"]))
        dry = place.json("move", shard, "node-2", "-n", "node-1", "--dry-run")
        assert (dry["source"], dry["target"]) == ("node-1", "node-2")
        moved = place.json("move", shard, "node-2", "-n", "node-1")
        assert (moved["phase"], moved["why"]) == ("retired", "")
        assert place.run("move", shard, "node-2", "-n", "node-1").returncode == 5
        assert place.run("move", "16", "node-2", "-n", "node-1").returncode == 4
        assert place.run("move", shard, "node-2").returncode == 4  # two nodes run: which?
        first = dict(machine.pids)
        os.kill(first["node-2"], signal.SIGTERM)
        machine.until("joined")
        assert "node node-2 has given its shards to others" in machine.log
        assert "node-2 ended with exit code 0" in machine.log
        assert machine.pay("node-1", 5, MANY) == stand(10)
        said = place.json("drain", "node-1")
        assert (said["node"], said["owned"]) == ("node-1", 0)
        assert place.run("drain", "node-2").returncode == 5
        assert place.run("drain", "node-1", "--undo").returncode == 0
        assert machine.pay("node-2", 5, MANY) == stand(15)
        machine.process.send_signal(signal.SIGTERM)
        assert machine.end() == 0, machine.log
        assert machine.log.count("keeps its shards: all nodes stop") == 2
