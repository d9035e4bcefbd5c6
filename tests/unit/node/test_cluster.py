"""Nodes of one cluster in one program, under the seeded World: met, killed, back again, refused, cut off."""

from __future__ import annotations

import os
from typing import Any

import pytest
import trio

from runtime import (
    NOCONNECTION,
    NOPROC,
    CalleeExited,
    Down,
    EventSourced,
    GenServer,
    NoProcess,
    at,
    call,
    message,
    monitor,
    receive,
    whereis,
    whereis_on,
)
from runtime.cluster.joining import join
from runtime.cluster.members import LeaseLost, NameTaken, OtherCluster, OtherShards
from runtime.cluster.nodes import NodeDown, monitor_node
from runtime.cluster.tls import BadKeys, NoKeys
from runtime.errors import Misuse
from supervisors import Cluster, Node, NodeStopped, NoOwner, Supervisor, child, region
from tests.support.clusters import Machines, clustered

SHARDS = 8


class Echo(GenServer):
    """Answers with its node's name."""

    def init(self, name: str) -> None:
        self.name = name

    def handle_call(self, request: Any, caller: Any) -> Any:
        return self.name, request


@message("node.cluster.paid")
class Paid:
    """An amount."""

    amount: int


class Till(EventSourced[int, Paid]):
    """Durable: the sum of what was paid."""

    def initial(self, key: str) -> int:
        return 0

    def handle(self, state: int, command: Any) -> Any:
        return Paid(command), state + command

    def apply(self, state: int, event: Paid) -> int:
        return state + event.amount


class Shop(Supervisor):
    """Somebody to be called, and tills that are found anywhere."""

    intensity = 10

    def init(self) -> Any:
        return [child("echo", Echo, "echo", name="echo"), region("till", Till)]


def met(machines: Machines, *names: str) -> bool:
    """Whether nodes see each other up, and know an owner of each shard."""
    for name in names:
        node = machines.nodes[name]
        membership: Any = node.table.services["membership"]
        known = {one: state for one, state in machines.states(name).items() if one in names}
        if known != {one: "up" for one in names if one != name}:
            return False
        if not all(membership.owner(shard) for shard in range(SHARDS)):
            return False
    return True


async def two(machines: Machines) -> None:
    """Nodes a and b that have met; b keeps data."""
    await machines.start("a", data="a", shards=SHARDS)
    await machines.start("b", data="b", shards=SHARDS)
    await machines.until(lambda: met(machines, "a", "b"))


def test_processes_of_three_nodes_reach_each_other() -> None:
    """Nodes that join by the coordination store alone are linked with one another, and call, watch and find."""

    async def scenario(machines: Machines) -> None:
        for name in "abc":
            await machines.start(name, data=name, shards=SHARDS)
        await machines.until(lambda: met(machines, "a", "b", "c"))

        async def ask() -> None:
            assert await call(at("echo", "b"), 1) == ("echo", 1)
            assert await call(at("echo", "c"), 2) == ("echo", 2)
            for number in range(40):
                assert await region("till").call(f"t{number}", number) == number

        await machines.at("a", ask)

        async def again() -> list[Any]:
            return [await region("till").call(f"t{number}", 1) for number in range(40)]

        assert await machines.at("c", again) == [number + 1 for number in range(40)]

    clustered(scenario, Shop)


def test_a_node_that_dies_is_noconnection_and_its_next_life_is_another() -> None:
    """Callers and watchers learn of the loss at once; a pid of the old life is dead, its name reaches the new one."""

    async def scenario(machines: Machines) -> None:
        await two(machines)
        first = machines.nodes["b"].table.creation

        async def watch() -> Any:
            await call(at("echo", "b"), 1)
            pid = await call_pid("b")
            ref = monitor(pid)
            monitor_node("b")
            await machines.kill("b")
            found = [await receive(), await receive()]
            assert Down(ref, pid, NOCONNECTION) in found
            assert NodeDown("b") in found
            return pid

        old = await machines.at("a", watch)
        await machines.start("b", data="b", shards=SHARDS)
        assert machines.nodes["b"].table.creation > first
        await machines.until(lambda: met(machines, "a", "b"))

        async def after() -> None:
            assert await call(at("echo", "b"), 2) == ("echo", 2)
            with pytest.raises((NoProcess, CalleeExited)):
                await call(old, 3)
            ref = monitor(old)
            assert await receive() == Down(ref, old, NOPROC)

        await machines.at("a", after)

    clustered(scenario, Shop)


async def call_pid(node: str) -> Any:
    """The pid of a node's echo, as this node knows it."""
    return await whereis_on(node, "echo")


@pytest.mark.parametrize("seed", range(5))
def test_what_a_dead_node_has_acknowledged_is_there_in_its_next_life(seed: int) -> None:
    """Its shards wait for it, and calls with them; 3 seconds after its restart they are served, with all that was."""

    async def scenario(machines: Machines) -> float:
        await two(machines)
        tills = [f"t{number}" for number in range(30)]

        async def pay() -> dict[str, Any]:
            return {key: await region("till").call(key, 5) for key in tills}

        assert await machines.at("a", pay) == dict.fromkeys(tills, 5)
        machines.disks["b"].crash()
        await machines.kill("b")
        await trio.sleep(1)  # virtual
        began = trio.current_time()
        await machines.start("b", data="b", shards=SHARDS)

        assert await machines.at("a", pay) == dict.fromkeys(tills, 10)
        return trio.current_time() - began

    assert clustered(scenario, Shop, seed) <= 3.0


def test_a_node_that_leaves_says_so() -> None:
    """After an orderly stop the others need not wait for the end of a lease: it has left, and is not dialled."""

    async def scenario(machines: Machines) -> None:
        await two(machines)
        await machines.stop("b")
        assert machines.ended["b"] is None
        await machines.until(lambda: machines.states("a") == {"b": "left"}, 3.0)
        await machines.start("b", data="b", shards=SHARDS)
        await machines.until(lambda: met(machines, "a", "b"), 3.0)

    clustered(scenario, Shop)


def test_a_cut_is_suspect_before_it_is_down() -> None:
    """While a node is suspect a call to it waits and is answered after a short cut; when it is down it fails."""

    async def scenario(machines: Machines) -> None:
        await two(machines)
        network = machines.network

        def cut() -> None:
            for pair in (("a", "b"), ("b", "a")):
                network.cut(*pair)

        cut()
        await machines.until(lambda: machines.states("a") == {"b": "suspect"}, 5.0)

        async def patient() -> Any:
            return await call(at("echo", "b"), "held", timeout=30.0)

        async def heal() -> None:
            await trio.sleep(2)  # virtual
            network.heal()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(heal)
            assert await machines.at("a", patient) == ("echo", "held")
        await machines.until(lambda: met(machines, "a", "b"))

        cut()

        async def lost() -> float:
            began = trio.current_time()
            with pytest.raises(CalleeExited) as caught:
                await call(at("echo", "b"), "lost", timeout=60.0)
            assert caught.value.reason == NOCONNECTION
            return trio.current_time() - began

        assert 6.0 < await machines.at("a", lost) < 10.0
        # Its lease holds: it lives, but not for us.
        assert machines.states("a") == {"b": "suspect"}
        network.heal()
        await machines.until(lambda: met(machines, "a", "b"))

    clustered(scenario, Shop)


def test_who_does_not_belong_is_refused_and_nobody_is_disturbed() -> None:
    """A second node of a name, another count of shards, another cluster's data: refused before anything runs."""

    async def scenario(machines: Machines) -> None:
        await two(machines)
        with pytest.raises(NameTaken, match="choose another name, or stop that one first"):
            await machines.start("b", data="elsewhere", host="x")
        with pytest.raises(OtherShards, match="set it to 8"):
            await machines.start("c", data="c", shards=SHARDS + 1)
        assert met(machines, "a", "b")

    async def other(machines: Machines) -> None:
        await two(machines)
        await machines.stop("b")
        machines.store._values.clear()
        with pytest.raises(OtherCluster, match="name the data directory of a node of this cluster"):
            await machines.start("b", data="b")

    clustered(scenario, Shop)
    clustered(other, Shop)


def test_a_node_whose_place_was_taken_ends() -> None:
    """The same data on another host are the same node: the one that was cut off ends when it sees that."""

    async def scenario(machines: Machines) -> None:
        await two(machines)
        # What a directory's lock forbids on one machine, a copied or shared directory allows.
        node = machines.nodes["b"]
        await join(machines.world("x"), name="b", address="x:1", store=node.journal, data=os.path.abspath("b"))  # noqa: ASYNC240  # one system call
        await machines.until(lambda: "b" in machines.ended)
        ended = machines.ended["b"]
        assert isinstance(ended, NodeStopped)
        assert isinstance(ended.reason, LeaseLost)
        assert "another node of this name has taken its place, at x:1" in str(ended)

    clustered(scenario, Shop)


def test_a_node_without_data_differs_from_its_last_life() -> None:
    """Nothing counts the lives of a node that keeps nothing; a pid of its last life is dead all the same (D4)."""

    async def scenario(machines: Machines) -> None:
        peers = {"a": "a:4370", "b": "b:4370"}
        settings: dict[str, Any] = {"coordination": None, "peers": peers, "id": "c"}
        await machines.start("a", **settings)
        await machines.start("b", **settings)
        await machines.until(lambda: machines.states("a") == {"b": "up"})

        async def pid() -> Any:
            return await call_pid("b")

        old = await machines.at("a", pid)
        await machines.kill("b")
        await trio.sleep(1)  # virtual
        await machines.start("b", **settings)
        await machines.until(lambda: machines.states("a") == {"b": "up"})
        new = await machines.at("a", pid)
        assert (new.node, new.creation > old.creation) == ("b", True)

    clustered(scenario, Shop)


def test_a_crash_of_its_membership_or_its_links_is_healed() -> None:
    """The processes that keep a node in its cluster are restarted like others, and the nodes meet again."""

    async def scenario(machines: Machines) -> None:
        await two(machines)
        for name in ("membership", "neighbours", "net_kernel"):

            async def strike(name: str = name) -> None:
                process = machines.nodes["b"].table.names[name]
                process.interrupt("struck")
                before = process.pid
                while whereis(name) in (None, before):  # noqa: ASYNC110  # a restart rings no bell
                    await trio.sleep(0.05)  # virtual

            await machines.at("b", strike)
            await machines.until(lambda: met(machines, "a", "b"))

            async def pay() -> Any:
                return [await region("till").call(f"t{number}", 1) for number in range(10)]

            await machines.at("a", pay)

    clustered(scenario, Shop)


def test_a_region_that_starts_while_the_membership_is_away_is_not_alone() -> None:
    """Nobody owns a shard then: what is asked waits, and no entity runs beside that of the shard's owner."""

    async def scenario(machines: Machines) -> None:
        await two(machines)
        table = machines.nodes["b"].table
        membership = table.services.pop("membership")
        region_of_till = table.names["region/till"]
        region_of_till.interrupt("struck")
        await machines.until(lambda: table.names.get("region/till") not in (None, region_of_till))

        async def ask() -> None:
            with pytest.raises(NoOwner):
                await region("till").call("t1", 1, timeout=2.0)

        await machines.at("b", ask)
        assert [name for name in table.names if name.startswith("till/")] == []
        table.services["membership"] = membership

        async def pay() -> Any:
            return await region("till").call("t1", 1, timeout=5.0)

        await machines.at("b", pay)

    clustered(scenario, Shop)


def test_a_node_without_a_cluster_opens_no_socket() -> None:
    """It has no processes of links, and knows nobody."""

    async def scenario(machines: Machines) -> None:
        async with Node("alone", world=machines.world("alone")) as node:
            assert {"peers", "membership"} & set(node.table.services) == set()
            assert len(node.table.processes) == 2
        assert machines.network._doors == {}

    clustered(scenario, Shop)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"listen": "0.0.0.0:4370"}, "banyan certs node n --dir certs"),
        ({"listen": "10.0.0.1:4370", "clear": True}, "banyan certs init"),
        ({"listen": "127.0.0.1:4370"}, "clear text may be asked for instead"),
        ({"peers": {"b": "10.0.0.2:4370"}, "clear": True}, "banyan certs init"),
        ({"listen": "here", "clear": True}, "wanted an address like"),
        ({"listen": "127.0.0.1:0", "clear": True, "coordination": ":memory:"}, "name host and port"),
        ({"clear": True, "coordination": ":memory:"}, "none: set `listen`"),
        ({"listen": "127.0.0.1:1", "clear": True, "shards": 4}, "wanted a coordination store"),
        ({"listen": "127.0.0.1:1", "clear": True, "coordination": "x", "id": "c"}, "wanted no id"),
        ({"listen": "127.0.0.1:1", "clear": True, "certs": "x"}, "wanted keys or clear text, got both"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
async def test_settings_that_cannot_work_are_refused_before_anything_is_made(settings, says, tmp_path):
    """A cluster that others could listen to, or that cannot work, is a Misuse; no store is opened for it."""
    with pytest.raises(Misuse, match=says) as caught:
        async with Node("n", data=tmp_path / "store", cluster=Cluster(**settings)):
            pytest.fail("it runs")
    assert isinstance(caught.value, NoKeys) is ("certs" in says or "clear text may" in says)
    assert not (tmp_path / "store").exists()


async def test_keys_that_are_missing_are_told(tmp_path):
    """A directory without the node's keys is refused, with the command that makes them."""
    with pytest.raises(BadKeys, match="make them with `banyan certs`"):
        async with Node("n", cluster=Cluster(listen="127.0.0.1:1", certs=tmp_path)):
            pytest.fail("it runs")
