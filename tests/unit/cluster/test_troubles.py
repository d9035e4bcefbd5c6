"""What the doctor says of a cluster: of a node without a lease, of others that are not well, of shards that wait."""

from __future__ import annotations

import os

import pytest
import trio

from runtime.cluster.links import Links
from runtime.cluster.membership import membership_of
from runtime.cluster.troubles import Troubles, of_node
from runtime.cluster.view import NodeFact, node_facts
from runtime.observe.doctor import Finding, doctor
from tests.support.clusters import Machines, clustered
from tests.unit.node.test_adoption import adopt, begin, give_back, lose
from tests.unit.node.test_steering import Room, in_room
from tests.unit.supervisors.shards.moved import SHARDS, Books, deposit, keys_of, served, start
from tests.unit.supervisors.shards.test_mover_faults import hidden

# Where b's store is, as its row says.
DATA = os.path.abspath("b")


async def findings(machines: Machines, name: str) -> list[Finding]:
    """What the doctor of a node finds."""
    return list((await machines.at(name, doctor, machines.nodes[name].table)).findings)


async def filled(machines: Machines) -> dict[str, list[int]]:
    """Two nodes with something in each shard; which they serve."""
    await start(machines, "a", "b")
    shards = {name: served(machines, name) for name in "ab"}
    for shard in range(SHARDS):
        await machines.at("a", deposit, keys_of(shard, 1)[0], 1)
    return shards


def test_a_cluster_that_is_well_has_no_findings() -> None:
    """Nothing is said of nodes that are linked and serve, nor of one that has left and has nothing."""

    async def scenario(machines: Machines) -> None:
        await filled(machines)
        await machines.start("c", shards=SHARDS)  # without a store
        await machines.until(lambda: machines.states("a").get("c") == "up")
        assert [await findings(machines, name) for name in "abc"] == [[], [], []]
        await machines.stop("c")
        await machines.until(lambda: machines.states("a")["c"] == "left")
        await trio.sleep(5)  # virtual
        assert [await findings(machines, name) for name in "ab"] == [[], []]

    clustered(scenario, Books)


def test_shards_of_who_is_gone_are_told_until_it_is_back() -> None:
    """With whom they wait for, why, and what to start; of one that left in order, and of one that was lost."""

    async def scenario(machines: Machines) -> None:
        lost = len((await filled(machines))["b"])
        assert lost == 2
        membership = machines.nodes["a"].table.services["membership"]
        for end, how in ((machines.stop, "has left"), (machines.kill, "is down")):
            await end("b")
            await machines.until(lambda: membership.nodes()["b"][2] in ("left", "down"))  # type: ignore[attr-defined]  # the membership
            await machines.until(lambda: machines.states("a")["b"] in ("left", "down"))
            (found,) = [one for one in await findings(machines, "a") if "shards" in one.who]
            assert found == Finding(
                "bad",
                f"{lost} shards",
                f"wait for b, which {how}",
                f"what is in them lies in its store, {DATA}",
                "start b on its data, or `banyan adopt b` on its machine",
            )
            await machines.start("b", data="b", shards=SHARDS, rebalance=False)
            await machines.until(lambda: machines.states("a")["b"] == "up" and len(served(machines, "b")) == lost)
            assert [one for one in await findings(machines, "a") if "shards" in one.who] == []

    clustered(scenario, Books)


def test_what_was_given_back_waits_for_its_own_node() -> None:
    """Adopted shards are served, and none is told; given back, they wait for the node whose store it is."""

    async def scenario(room: Room) -> None:
        await begin(room, "a", "b")
        await room.pay("a")
        mine, lost = room.owned("a"), room.owned("b")
        await lose(room, "b", "a")

        async def waiting() -> list[tuple[str, str]]:
            return [(one.who, one.what) for one in await findings(room.machines, "a") if one.what.startswith("wait")]

        told = [(f"{len(lost)} shards", "wait for b, which is down")]
        assert await waiting() == told
        await room.steer("a", adopt("b"))
        await room.machines.until(lambda: room.owned("a") == sorted([*mine, *lost]))
        assert await waiting() == []
        await room.steer("a", give_back("b"))
        assert await waiting() == told

    in_room(scenario)


@pytest.mark.parametrize(
    ("fact", "said"),
    [
        (NodeFact("b", "b:1", 1, "up", True, "up", 3), None),
        (NodeFact("b", "b:1", 1, "up", True, None, 0), None),
        (NodeFact("b", "b:1", 1, "left", False, "left", 3), None),
        (NodeFact("b", "b:1", 1, "down", False, "down", 3), None),
        (NodeFact("b", "b:1", 1, "busy", True, "up", 0), "is busy: it lives, but does not come round"),
        (NodeFact("b", "b:1", 1, "up", True, "down", 1), "serves no shards, or not for long, and it has 1 shard"),
        (NodeFact("b", "b:1", 1, "suspect", False, "up", 0), "is not linked with this node"),
        (NodeFact("b", "", 0, "down", False, None, 0), "is not linked with this node"),
    ],
)
def test_how_another_node_is(fact: NodeFact, said: str | None) -> None:
    """One that is well, or gone, is none of it: of a gone one its shards are told."""
    assert [(level, who, what) for level, who, what, _, _ in of_node(fact)] == ([("warn", "b", said)] if said else [])


def test_a_node_without_a_lease_is_told_with_its_reason() -> None:
    """It says so of itself as long as it serves nothing, and no longer."""

    async def scenario(machines: Machines) -> None:
        await filled(machines)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hidden, machines, 20.0)
            await trio.sleep(15)  # virtual
            (found,) = [one for one in await findings(machines, "a") if one.who == "a"]
            assert (found.severity, found.what) == ("bad", "serves no shards: it has no lease")
            assert "the coordination store" in found.why
            assert found.next.startswith("look at the disk of the coordination store")
        await machines.until(lambda: len(served(machines, "a")) == 2)
        await trio.sleep(3)  # virtual
        assert await findings(machines, "a") == []

    clustered(scenario, Books)


def test_a_silent_node_is_told() -> None:
    """First suspect, with the shards that it has; and when it is down, who waits for it."""

    async def scenario(machines: Machines) -> None:
        await filled(machines)
        links = machines.nodes["a"].table.services["peers"].links  # type: ignore[attr-defined]  # the links
        assert isinstance(links, Links)
        machines.network.cut("b", "a")
        await machines.until(lambda: machines.states("a")["b"] == "suspect")
        (found,) = await findings(machines, "a")
        assert (found.severity, found.who) == ("warn", "b")
        assert found.what == "is suspect: nothing was heard of it for a while, and it has 2 shards"
        await machines.until(lambda: not links.links())
        (found,) = await findings(machines, "a")
        assert (found.who, found.what) == ("b", "is not linked with this node, and it has 2 shards")

    clustered(scenario, Books)


def test_shards_that_nobody_takes_are_told() -> None:
    """If all that live drain, what one of them set free as it left is nobody's."""

    async def scenario(machines: Machines) -> None:
        await start(machines, "a", "b")
        free = len(served(machines, "b"))
        for name in "ab":
            membership_of(machines.nodes[name].table).drain()
        await trio.sleep(3)  # virtual
        await machines.stop("b")
        await machines.until(lambda: machines.states("a")["b"] == "left")
        await trio.sleep(3)  # virtual
        (found,) = await findings(machines, "a")
        assert (found.severity, found.who, found.what) == ("bad", f"{free} shards", "are nobody's")
        assert found.next == "banyan drain NODE --undo"

    clustered(scenario, Books)


def test_who_has_left_drains_no_more() -> None:
    """A node that drained before it left is just that."""

    async def scenario(machines: Machines) -> None:
        await start(machines, "a", "b")
        membership_of(machines.nodes["b"].table).drain()
        (table,) = (machines.nodes["a"].table,)
        await machines.until(lambda: any(fact.draining for fact in node_facts(table)))
        await machines.stop("b")
        await machines.until(lambda: machines.states("a")["b"] == "left")
        (b,) = [fact for fact in node_facts(table) if fact.name == "b"]
        assert (b.state, b.draining) == ("left", False)

    clustered(scenario, Books)


def test_a_peer_that_is_not_linked_is_told() -> None:
    """Also without a coordination store, where nobody has a lease."""

    async def scenario(machines: Machines) -> None:
        await machines.start("a", coordination=None, listen="a:4370", advertise=None, peers={"b": "b:4370"})
        troubles = machines.nodes["a"].table.services["troubles"]
        assert isinstance(troubles, Troubles)
        (found,) = troubles.findings()
        assert found[1:3] == ("b", "is not linked with this node")

    clustered(scenario, Books)
