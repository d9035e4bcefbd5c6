"""The membership process: joining, serving, losing the lease, dying and coming back, leaving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from runtime import KILL, NoProcess, call, exit
from runtime.backends.coordination import LocalCoordination
from runtime.backends.coordination_lmdb import LmdbCoordination
from runtime.backends.memory import MemoryDisk, MemoryJournal
from runtime.cluster.coordination import CoordinationUnreachable
from runtime.cluster.joining import Joined, join, store_id
from runtime.cluster.members import LEASE_SECONDS, SERVE_SECONDS, LeaseLost, NameTaken, OtherCluster, OtherShards
from runtime.cluster.membership import (
    Ceased,
    Leave,
    Membership,
    NodeChanged,
    ShardLost,
    ShardOwned,
    membership_of,
)
from runtime.durable.fence import NodeFences
from runtime.durable.journal import Fence, Fenced, StoreInUse
from runtime.errors import Misuse
from supervisors.node.boot import RealWorld
from tests.unit.backends.stores import entry

from .joined import SHARDS, Listener, member, until, world_of


async def test_one_node_serves_all_shards(autojump_clock: trio.abc.Clock) -> None:
    """The first node makes the cluster, claims every shard in the store and in its own, and says so."""
    disk = MemoryDisk()
    async with member("a", LocalCoordination(), disk) as a:
        await until(lambda: len(a.heard_of(ShardOwned)) == SHARDS)
        assert a.membership.nodes() == {"a": ("a:1", 1, "up")}
        assert a.heard_of(ShardOwned) == [ShardOwned(shard, 2) for shard in range(SHARDS)]
        assert [a.node.journal.fence(shard) for shard in range(SHARDS)] == [Fence(2)] * SHARDS
        assert (a.membership.owner(3), a.membership.serves(3), a.membership.serves(99)) == (("a", 2), 2, None)
        assert a.membership.cluster.shards == SHARDS
        assert a.membership.state() == {"nodes": {"a": "up"}, "serves": SHARDS, "unreachable": ""}
    with pytest.raises(NoProcess):
        membership_of(a.node.table)


async def test_three_nodes_share_the_shards(autojump_clock: trio.abc.Clock) -> None:
    """Each joiner gets its share of what is not written; a written shard stays, and everybody sees the same owners."""
    store = LocalCoordination()
    async with member("a", store, MemoryDisk()) as a:
        await until(lambda: len(a.serves()) == SHARDS)
        a.node.journal.commit([entry("x", 1, epoch=2)], fences={7: 2})
        async with member("b", store, MemoryDisk()) as b, member("c", store) as c:
            nodes = (a, b, c)
            await until(lambda: sorted(len(one.serves()) for one in nodes) == [2, 3, 3])
            await until(lambda: len({tuple(map(one.membership.owner, range(SHARDS))) for one in nodes}) == 1)
            assert a.membership.owner(7) == ("a", 2)
            owned = sorted(shard for one in nodes for shard in one.serves())
            assert owned == list(range(SHARDS))
            for shard in range(SHARDS):
                owner, epoch = a.membership.owner(shard)
                assert epoch == (2 if owner == "a" else 3)
            lost = a.heard_of(ShardLost)
            assert sorted(one.shard for one in lost) == sorted([*b.serves(), *c.serves()])
            assert all(a.node.journal.fence(one.shard) == Fence(2, sealed=True) for one in lost)
            assert {one.name: one.state for one in a.heard_of(NodeChanged)} == {"b": "up", "c": "up"}


async def test_a_killed_nodes_shards_wait_and_are_back_at_once(autojump_clock: trio.abc.Clock) -> None:
    """While a node is dead nobody serves its shards; started again it has them in its first rounds, under a new epoch.

    What had no data, because its owner keeps nothing, is taken over by the others.
    """
    store, disk = LocalCoordination(), MemoryDisk()
    async with member("a", store, MemoryDisk()) as a:
        async with member("b", store, disk) as b, member("c", store) as c:
            await until(lambda: all(len(one.serves()) >= 2 for one in (a, b, c)))
            of_b, of_c = set(b.serves()), set(c.serves())
        # They said no good-bye.
        before = trio.current_time()
        await until(lambda: {one.name for one in a.heard_of(NodeChanged) if one.state == "down"} == {"b", "c"})
        assert LEASE_SECONDS - 2 <= trio.current_time() - before <= LEASE_SECONDS + 4
        await until(lambda: of_c <= set(a.serves()))
        assert all(a.membership.owner(shard)[0] == "b" for shard in of_b)
        assert not of_b & set(a.serves())
        before = trio.current_time()
        async with member("b", store, disk) as b:
            await until(lambda: set(b.serves()) >= of_b, 3.0)
            assert all(b.membership.owner(shard) == ("b", epoch) for shard, epoch in b.serves().items())
            assert all(epoch > 2 for epoch in b.serves().values())
            assert b.membership.nodes()["b"] == ("b:1", 2, "up")
            await until(lambda: NodeChanged("b", "b:1", 2, "up", None) in a.heard)


async def test_a_node_that_cannot_reach_the_store_stops_serving(autojump_clock: trio.abc.Clock) -> None:
    """Within its lease it says that it serves nothing any more; when the store answers again, it claims anew."""
    async with member("a", LocalCoordination(), MemoryDisk()) as a:
        await until(lambda: len(a.serves()) == SHARDS)
        await trio.sleep(3)  # virtual
        a.line.cut = True
        before = trio.current_time()
        await until(lambda: not a.membership.serving)
        assert trio.current_time() - before <= SERVE_SECONDS
        assert a.membership.serves(0) is None
        await until(lambda: bool(a.heard_of(Ceased)), 1.0)
        await until(lambda: len(a.heard_of(ShardLost)) == SHARDS)
        assert not a.heard_of(Ceased)[0].forever
        assert "no answer in time" in a.membership.state()["unreachable"]
        a.line.cut = False
        await until(lambda: set(a.serves().values()) == {3})
        assert a.membership.serves(0) == 3


async def test_a_membership_that_crashed_claims_anew(autojump_clock: trio.abc.Clock) -> None:
    """What its former process served nobody was told to stop: so it begins with new epochs, and the fence with it."""
    async with member("a", LocalCoordination(), MemoryDisk()) as a:
        await until(lambda: len(a.serves()) == SHARDS)
        joined = Joined(a.membership.cluster, 1, a.membership._members, a.membership.placement, a.membership._reports)
        fences = a.membership._fences
        exit(a.pid, KILL)
        await until(lambda: a.pid._process is None)
        await a.node.start(Membership, joined, fences, name="again")
        await until(lambda: set(a.serves().values()) == {3})
        assert [a.node.journal.fence(shard) for shard in range(SHARDS)] == [Fence(3)] * SHARDS


async def test_the_fence_stops_a_commit_of_before(autojump_clock: trio.abc.Clock) -> None:
    """Once the store is claimed under a new epoch, who still writes under the old one writes nothing."""
    async with member("a", LocalCoordination(), MemoryDisk()) as a:
        await until(lambda: len(a.serves()) == SHARDS)
        a.membership.fenced(0, 1)
        assert a.serves()[0] == 2
        a.membership.fenced(0, 2)
        assert 0 not in a.serves()
        await until(lambda: ShardLost(0, 2) in a.heard)
        await until(lambda: a.serves().get(0) == 3)
        with pytest.raises(Fenced):
            a.node.journal.commit([entry("x", 1, epoch=2)], fences={0: 2})


async def test_who_leaves_says_good_bye(autojump_clock: trio.abc.Clock) -> None:
    """What has no data goes to the others at once; what has waits for the node's return."""
    store = LocalCoordination()
    async with member("a", store, MemoryDisk()) as a, member("b", store, MemoryDisk()) as b:
        await until(lambda: len(a.serves()) == len(b.serves()) == SHARDS // 2)
        kept, *free = sorted(b.serves())
        b.node.journal.commit([entry("x", 1, epoch=9)], fences={kept: b.serves()[kept]})
        await call(b.pid, Leave())
        await until(lambda: len(b.heard_of(ShardLost)) == SHARDS // 2)
        await until(lambda: set(free) <= set(a.serves()))
        assert a.membership.nodes()["b"][2] == "left"
        assert (a.membership.owner(kept)[0], kept in a.serves()) == ("b", False)


async def test_a_dead_nodes_store_is_adopted_and_given_back(autojump_clock: trio.abc.Clock) -> None:
    """Whoever holds the lock of a dead node's store serves its shards out of it, until it gives them up.

    A node that is only stopped keeps its lock, and so its shards.
    """
    store, disk = LocalCoordination(), MemoryDisk("b")
    async with member("a", store, MemoryDisk()) as a:
        async with member("b", store, disk) as b:
            await until(lambda: len(b.serves()) == SHARDS // 2)
            of_b = b.serves()
            b.node.journal.commit([entry("x", 1, epoch=9)], fences={min(of_b): of_b[min(of_b)]})
            with pytest.raises(StoreInUse):
                MemoryJournal(disk)
        journal = MemoryJournal(disk, node="b")
        a.membership.hold(store_id(journal), NodeFences(journal))
        await until(lambda: len(a.serves()) == SHARDS)
        shard = min(of_b)
        assert a.membership.owner(shard) == ("a", of_b[shard] + 1)
        assert journal.fence(shard) == Fence(of_b[shard] + 1, written=True)
        assert a.node.journal.fence(shard).epoch < of_b[shard]
        told = [one for one in a.heard_of(ShardOwned) if one.home]
        assert {one.shard: one.home for one in told} == dict.fromkeys(of_b, store_id(journal))
        late: list[object] = []
        await a.node.start(Listener, late, name="late")
        await until(lambda: len(late) >= SHARDS)
        assert {one for one in late if isinstance(one, ShardOwned) and one.home} == set(told)
        with pytest.raises(StoreInUse):
            MemoryJournal(disk)
        a.membership.give_up(store_id(journal))
        a.membership.give_up(store_id(journal))
        journal.close()
        assert set(a.serves()) == set(range(SHARDS)) - set(of_b)
        async with member("b", store, disk) as b:
            await until(lambda: b.serves().get(shard) == of_b[shard] + 2, 3.0)
            assert b.node.journal.fence(shard).written


async def test_a_membership_that_crashed_has_adopted_nothing(autojump_clock: trio.abc.Clock) -> None:
    """Until it is told again its successor leaves the shards of an adopted store alone: its own has none of them."""
    store, disk = LocalCoordination(), MemoryDisk("b")
    async with member("a", store, MemoryDisk()) as a:
        async with member("b", store, disk) as b:
            await until(lambda: len(b.serves()) == SHARDS // 2)
            of_b = b.serves()
        journal = MemoryJournal(disk, node="b")
        a.membership.hold(store_id(journal), NodeFences(journal), "journal.b")
        await until(lambda: len(a.serves()) == SHARDS)
        assert {shard: a.membership.writer(shard) for shard in range(SHARDS)} == {
            shard: "journal.b" if shard in of_b else "" for shard in range(SHARDS)
        }
        joined = Joined(a.membership.cluster, 1, a.membership._members, a.membership.placement, a.membership._reports)
        fences, own = a.membership._fences, a.node.journal
        before = [own.fence(shard) for shard in of_b]
        exit(a.pid, KILL)
        await until(lambda: a.pid._process is None)
        await a.node.start(Membership, joined, fences, name="again")
        await until(lambda: set(a.serves()) == set(range(SHARDS)) - set(of_b))
        await trio.sleep(10)  # virtual
        assert not set(a.serves()) & set(of_b)
        assert [own.fence(shard) for shard in of_b] == before


async def test_a_node_whose_place_was_taken_stops_for_good(autojump_clock: trio.abc.Clock) -> None:
    """When another life of the node has taken its row, the first one ends with the reason."""
    store, disk = LocalCoordination(), MemoryDisk()
    async with member("a", store, disk) as a:
        await until(lambda: len(a.serves()) == SHARDS)
        world = world_of(store)
        await join(world, name="a", address="a:2", store=a.node.journal, data="a")
        await until(lambda: bool(a.heard_of(Ceased)))
        (ceased,) = a.heard_of(Ceased)
        assert (ceased.forever, "a:2" in ceased.why) == (True, True)
        await until(lambda: a.pid._process is None)


async def test_who_does_not_belong_is_refused_at_the_start(autojump_clock: trio.abc.Clock) -> None:
    """A second node of a name, another count of shards and another cluster's data are refused, and change nothing."""
    store = LocalCoordination()
    async with member("a", store, MemoryDisk()) as a:
        world = world_of(store)
        before = await store.read("")
        with pytest.raises(NameTaken, match="at a:1 with the data in a: choose another name"):
            await join(world, name="a", address="x:1", store=MemoryJournal(), data="elsewhere")
        with pytest.raises(OtherShards, match="set it to 8"):
            await join(world, name="b", address="x:1", shards=16)
        with pytest.raises(OtherCluster):
            await join(world_of(LocalCoordination()), name="a", address="a:1", store=a.node.journal, data="a")
        foreign = MemoryJournal()
        await join(world_of(LocalCoordination()), name="b", address="b:1", store=foreign, data="b")
        with pytest.raises(OtherCluster, match="name the data directory"):
            await join(world, name="b", address="b:1", store=foreign, data="b")
        with pytest.raises(Misuse):
            await join(world, name="b", address="b:1", shards=0)
        after = await store.read("")
        assert {name: row for name, row in after.items() if name != "member/a"} == {
            name: row for name, row in before.items() if name != "member/a"
        }
        a.line.cut = True
        with pytest.raises(CoordinationUnreachable):
            await join(world_of(a.line), name="b", address="b:1")


async def test_two_that_join_at_once_make_one_cluster(autojump_clock: trio.abc.Clock) -> None:
    """Whoever is first makes it; a race for a name has one winner, and the other is told."""
    store = LocalCoordination()
    found: list[Any] = []

    async def try_it(name: str, number: int) -> None:
        try:
            joined = await join(world_of(store), name=name, address=f"x:{number}", data=str(number))
            found.append(joined.cluster.id)
        except NameTaken as error:
            found.append(type(error))

    async with trio.open_nursery() as nursery:
        for number, name in enumerate("aab"):
            nursery.start_soon(try_it, name, number)
    assert found.count(NameTaken) == 1
    assert len(set(found)) == 2


async def test_it_works_over_the_store_of_a_machine(tmp_path: Path) -> None:
    """Over LMDB, in real time: a node joins, serves all shards, and leaves."""
    store = LmdbCoordination.open(tmp_path / "store", RealWorld().run_blocking)
    try:
        async with member("a", store, MemoryDisk()) as a:  # type: ignore[arg-type]  # any coordination store
            with trio.fail_after(30):
                while len(a.serves()) != SHARDS:
                    await trio.testing.wait_all_tasks_blocked(0.01)
            await call(a.pid, Leave())
        assert len(await store.read("shard/")) == SHARDS
    finally:
        store.close()


def test_the_words_say_what_to_do() -> None:
    """A node that does not serve says why."""
    assert str(LeaseLost("the disk is gone")) == "this node does not serve shards now: the disk is gone"
