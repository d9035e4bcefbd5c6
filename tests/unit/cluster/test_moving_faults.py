"""Moves that are cut short: answers that are lost, leases that end, nodes that are started again, and who conducts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from runtime import KILL, call, exit
from runtime.backends.coordination import LocalCoordination
from runtime.backends.memory import MemoryDisk
from runtime.cluster.coordination import CoordinationUnreachable
from runtime.cluster.joining import Joined, store_id
from runtime.cluster.membership import Leave, Membership, MoveSettled, ShardLost, ShardOwned
from runtime.cluster.moving import abort, clear, commit, look, plan
from runtime.cluster.placement import Shard
from runtime.durable.journal import Fence
from tests.unit.backends.stores import entry

from .joined import SHARDS, One, member, until

MOVE = "a-1"


class Cluster:
    """A store of coordination, and two nodes with a disk each; a is killed with its block, and so is b."""

    def __init__(self) -> None:
        self.store = LocalCoordination()
        self.disks = {"a": MemoryDisk("a"), "b": MemoryDisk("b")}

    @asynccontextmanager
    async def node(self, name: str, serves: int = 0) -> AsyncIterator[One]:
        """A life of a node, with somebody who conducts its moves; from when it serves so many shards."""
        async with member(name, self.store, self.disks[name]) as one:
            await one.conducts()
            await until(lambda: len(one.serves()) >= serves)
            yield one

    @asynccontextmanager
    async def both(self) -> AsyncIterator[tuple[One, One, int, int]]:
        """Both nodes; a shard of a in which something is written, and its epoch."""
        async with self.node("a", SHARDS) as a, self.node("b", SHARDS // 2) as b:
            await until(lambda: len(a.serves()) == SHARDS // 2)
            shard, epoch = min(a.serves().items())
            a.node.journal.commit([entry("x", 1, epoch=epoch)], fences={shard: epoch})
            yield a, b, shard, epoch


async def planned(a: One, b: One, shard: int) -> None:
    """The move is in the row, and b has seen it."""
    assert await plan(a.membership, shard, MOVE, "b") is None
    assert (await look(b.membership, shard)).move == MOVE


async def sealed(a: One, b: One, shard: int, epoch: int) -> None:
    """The shard is sealed, and b is ready to commit."""
    await planned(a, b, shard)
    assert a.membership.sealing(shard, epoch)
    a.node.journal.seal(shard, epoch)
    staged(b, shard, epoch)


def staged(b: One, shard: int, epoch: int) -> None:
    """What was written in the shard lies in b's store, which is claimed for it."""
    b.node.journal.claim({shard: epoch + 1})
    b.node.journal.commit([entry(f"staged {shard}", 1, epoch=epoch + 1)], fences={shard: epoch + 1})


async def lapsed(one: One) -> None:
    """The node has had no answer for longer than its lease, and has one again."""
    one.line.cut = True
    await until(lambda: not one.membership.serving)
    await trio.sleep(3)  # virtual
    one.line.cut = False


# -- answers that are lost ---------------------------------------------------------------------------------


@pytest.mark.parametrize("tried_again", [True, False])
async def test_a_commit_whose_answer_was_lost_is_found(tried_again: bool, autojump_clock: trio.abc.Clock) -> None:
    """It is won by the same commit again, and by a look; until then nobody serves the shard."""
    async with Cluster().both() as (a, b, shard, epoch):
        await sealed(a, b, shard, epoch)
        b.line.deaf = True
        with pytest.raises(CoordinationUnreachable):
            await commit(b.membership, shard, epoch, MOVE)
        b.line.deaf = False
        await trio.sleep(5)  # virtual
        assert b.membership.serves(shard) is None
        if tried_again:
            assert await commit(b.membership, shard, epoch, MOVE) == "won"
        else:
            assert (await look(b.membership, shard)).owner == "b"
        assert b.membership.arrived(shard, epoch + 1)
        assert b.membership.serves(shard) == epoch + 1
        assert MoveSettled(shard, MOVE) in a.conducted


async def test_an_abort_whose_answer_was_lost_is_found(autojump_clock: trio.abc.Clock) -> None:
    """The same abort again gives the same epoch, and a round in between does not serve the shard by itself."""
    async with Cluster().both() as (a, b, shard, epoch):
        await sealed(a, b, shard, epoch)
        a.line.deaf = True
        with pytest.raises(CoordinationUnreachable):
            await abort(a.membership, shard, epoch)
        a.line.deaf = False
        await trio.sleep(5)  # virtual
        assert a.membership.placement.owner(shard) == ("a", epoch + 1)
        assert a.node.journal.fence(shard) == Fence(epoch, sealed=True, written=True)
        assert await abort(a.membership, shard, epoch) == epoch + 1
        assert a.membership.resumed(shard, epoch + 1)
        assert a.node.journal.fence(shard) == Fence(epoch + 1, written=True)
        assert await commit(b.membership, shard, epoch, MOVE) == "lost"


async def test_a_late_commit_changes_nothing_after_an_abort(autojump_clock: trio.abc.Clock) -> None:
    """A commit that was given up, and reaches the store when the source has taken the shard back, is refused there."""
    async with Cluster().both() as (a, b, shard, epoch):
        await sealed(a, b, shard, epoch)
        b.line.late = True
        with pytest.raises(CoordinationUnreachable):
            await commit(b.membership, shard, epoch, MOVE)
        b.line.late = False
        assert await abort(a.membership, shard, epoch) == epoch + 1
        assert a.membership.resumed(shard, epoch + 1)
        await b.line.land()
        await trio.sleep(5)  # virtual
        assert a.membership.serves(shard) == epoch + 1
        assert await commit(b.membership, shard, epoch, MOVE) == "lost"
        assert not b.membership.placement.in_hand(shard)


async def test_a_late_plan_is_cleared(autojump_clock: trio.abc.Clock) -> None:
    """A plan that was given up and is written later moves nothing, and another one can follow."""
    async with Cluster().both() as (a, _, shard, epoch):
        a.line.late = True
        with pytest.raises(CoordinationUnreachable):
            await plan(a.membership, shard, MOVE, "b")
        a.line.late = False
        await a.line.land()
        assert (await look(a.membership, shard)).move == MOVE
        await until(lambda: not a.membership.placement.row(shard)[1].move)
        assert a.membership.serves(shard) == epoch
        assert await plan(a.membership, shard, "a-2", "b") is None


# -- leases that end ---------------------------------------------------------------------------------------


async def test_a_source_that_loses_its_lease_before_the_seal_does_not_seal(autojump_clock: trio.abc.Clock) -> None:
    """It claims the shard anew when it serves again, which makes the move void."""
    async with Cluster().both() as (a, b, shard, epoch):
        await planned(a, b, shard)
        await lapsed(a)
        assert not a.membership.sealing(shard, epoch)
        await until(lambda: a.membership.serves(shard) == epoch + 1)
        assert (await look(b.membership, shard)).move == ""
        await until(lambda: MoveSettled(shard, MOVE) in b.conducted)
        assert await commit(b.membership, shard, epoch, MOVE) == "lost"
        await clear(a.membership, shard, MOVE)
        assert a.membership.serves(shard) == epoch + 1


async def test_a_source_that_loses_its_lease_after_the_seal_leaves_all_to_the_row(
    autojump_clock: trio.abc.Clock,
) -> None:
    """Nothing is claimed while the move has it in hand: the target may still take it, or the source after all."""
    async with Cluster().both() as (a, b, shard, epoch):
        await sealed(a, b, shard, epoch)
        a.line.cut = True
        await until(lambda: not a.membership.serving)
        with pytest.raises(CoordinationUnreachable, match="lease"):
            await abort(a.membership, shard, epoch)
        a.line.cut = False
        await until(lambda: a.membership.serving)
        await trio.sleep(5)  # virtual
        assert ShardLost(shard, epoch) in a.heard
        assert (await look(a.membership, shard)).move == MOVE
        assert await abort(a.membership, shard, epoch) == epoch + 1
        await lapsed(a)
        assert not a.membership.resumed(shard, epoch + 1)
        await until(lambda: a.membership.serves(shard) == epoch + 2)
        assert ShardOwned(shard, epoch + 1) not in a.heard


async def test_a_target_without_a_lease_does_not_commit(autojump_clock: trio.abc.Clock) -> None:
    """It may not serve, so it leaves the shard to the source, or to its own next try."""
    async with Cluster().both() as (a, b, shard, epoch):
        await sealed(a, b, shard, epoch)
        b.line.cut = True
        await until(lambda: not b.membership.serving)
        b.line.cut = False
        with pytest.raises(CoordinationUnreachable, match="lease"):
            await commit(b.membership, shard, epoch, MOVE)
        await until(lambda: b.membership.serving)
        assert await commit(b.membership, shard, epoch, MOVE) == "won"
        assert b.membership.arrived(shard, epoch + 1)


async def test_a_target_that_loses_its_lease_after_the_commit_claims_anew(autojump_clock: trio.abc.Clock) -> None:
    """The shard is its own, but only under another epoch: somebody may have acted on its end."""
    async with Cluster().both() as (a, b, shard, epoch):
        await sealed(a, b, shard, epoch)
        assert await commit(b.membership, shard, epoch, MOVE) == "won"
        await lapsed(b)
        assert not b.membership.arrived(shard, epoch + 1)
        await until(lambda: b.membership.serves(shard) == epoch + 2)
        assert b.node.journal.fence(shard).epoch == epoch + 2
        assert ShardOwned(shard, epoch + 1) not in b.heard
        a.membership.gone(shard)
        await until(lambda: a.membership.owner(shard) == ("b", epoch + 2))


# -- nodes that are started again --------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["planned", "sealed", "committed"])
async def test_a_source_that_is_started_again(at: str, autojump_clock: trio.abc.Clock) -> None:
    """Before the commit it claims the shard, which makes the move void; after it the shard is the target's."""
    cluster = Cluster()
    async with cluster.node("b") as b:
        async with cluster.node("a", 1) as a:
            await until(lambda: len(a.serves()) == len(b.serves()) == SHARDS // 2)
            shard, epoch = min(a.serves().items())
            a.node.journal.commit([entry("x", 1, epoch=epoch)], fences={shard: epoch})
            await (planned(a, b, shard) if at == "planned" else sealed(a, b, shard, epoch))
        if at == "committed":
            assert await commit(b.membership, shard, epoch, MOVE) == "won"
            assert b.membership.arrived(shard, epoch + 1)
        async with cluster.node("a", 1) as a:
            await trio.sleep(5)  # virtual
            if at == "committed":
                assert (a.membership.serves(shard), b.membership.serves(shard)) == (None, epoch + 1)
            else:
                assert await commit(b.membership, shard, epoch, MOVE) == "lost"
                assert a.membership.serves(shard) > epoch
                assert (await look(b.membership, shard)).move == ""
                assert MoveSettled(shard, MOVE) in b.conducted


@pytest.mark.parametrize("at", ["planned", "sealed", "committed"])
async def test_a_target_that_is_started_again(at: str, autojump_clock: trio.abc.Clock) -> None:
    """What it had committed it claims anew; what it had not is as it was, and still to be decided."""
    cluster = Cluster()
    async with cluster.node("a") as a:
        async with cluster.node("b", SHARDS // 2) as b:
            await until(lambda: len(a.serves()) == SHARDS // 2)
            shard, epoch = min(a.serves().items())
            a.node.journal.commit([entry("x", 1, epoch=epoch)], fences={shard: epoch})
            await (planned(a, b, shard) if at == "planned" else sealed(a, b, shard, epoch))
            if at == "committed":
                assert await commit(b.membership, shard, epoch, MOVE) == "won"
        async with cluster.node("b", 1) as b:
            await trio.sleep(5)  # virtual
            if at == "committed":
                assert b.membership.serves(shard) == epoch + 2
                assert await commit(b.membership, shard, epoch, MOVE) == "won"
                assert not b.membership.arrived(shard, epoch + 1)
                await until(lambda: (b.membership.serves(shard) or 0) > epoch + 1)
                return
            row = await look(a.membership, shard)
            assert (row.owner, row.epoch, row.move, row.target_creation) == ("a", epoch, MOVE, 1)
            assert a.membership.members()["b"].creation == 2
            if at == "sealed":
                # It has kept the token: so it finishes, in whatever life.
                assert await commit(b.membership, shard, epoch, MOVE) == "won"
                assert b.membership.arrived(shard, epoch + 1)
            else:
                await clear(a.membership, shard, MOVE)
                assert a.membership.serves(shard) == epoch


async def test_a_commit_of_a_former_life_is_the_nodes_own(autojump_clock: trio.abc.Clock) -> None:
    """A commit that reaches the store after its node was started again gives the shard to that node, data and all."""
    cluster = Cluster()
    async with cluster.node("a") as a:
        async with cluster.node("b", SHARDS // 2) as b:
            await until(lambda: len(a.serves()) == SHARDS // 2)
            shard, epoch = min(a.serves().items())
            await sealed(a, b, shard, epoch)
            line = b.line
            line.late = True
            with pytest.raises(CoordinationUnreachable):
                await commit(b.membership, shard, epoch, MOVE)
        async with cluster.node("b", 1) as b:
            assert (await look(b.membership, shard)).move == MOVE
            await line.land()
            assert await look(a.membership, shard) == Shard("b", 1, epoch + 1, store_id(b.node.journal))
            assert await commit(b.membership, shard, epoch, MOVE) == "won"
            assert not b.membership.arrived(shard, epoch + 1)
            await until(lambda: b.membership.serves(shard) == epoch + 2)
            assert await abort(a.membership, shard, epoch) is None


# -- who conducts, and who leaves --------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["conductor", "membership"])
async def test_what_a_former_conductor_had_is_void(who: str, autojump_clock: trio.abc.Clock) -> None:
    """A plan is taken out of its row, a sealed shard is claimed anew, and so is one whose commit was made."""
    async with Cluster().both() as (a, b, shard, epoch):
        await sealed(a, b, shard, epoch)
        other = max(a.serves())
        assert await plan(a.membership, other, "a-2", "b") is None
        second = sorted(a.serves())[1]
        second_epoch = a.serves()[second]
        assert await plan(a.membership, second, "a-3", "b") is None
        await look(b.membership, second)
        staged(b, second, second_epoch)
        assert await commit(b.membership, second, second_epoch, "a-3") == "won"
        for one in (a, b):
            if who == "membership":
                membership = one.membership
                joined = Joined(membership.cluster, 1, membership._members, membership.placement, membership._reports)
                exit(one.pid, KILL)
                await until(lambda one=one: one.pid._process is None)
                one.pid = await one.node.start(
                    Membership, joined, membership._fences, name="again", restart="temporary"
                )
            await one.conducts()
        await until(lambda: a.membership.serves(shard) == epoch + 1)
        assert a.node.journal.fence(shard) == Fence(epoch + 1, written=True)
        await until(lambda: b.membership.serves(second) == second_epoch + 2)
        await until(lambda: not a.membership.placement.row(other)[1].move)
        assert await plan(a.membership, shard, "a-4", "b") is None


async def test_a_write_that_the_seal_refuses_is_no_reason_to_claim(autojump_clock: trio.abc.Clock) -> None:
    """Whoever writes for a sealed shard is refused, and the move goes on."""
    async with Cluster().both() as (a, b, shard, epoch):
        await sealed(a, b, shard, epoch)
        a.membership.fenced(shard, epoch)
        assert a.membership.serves(shard) == epoch
        await trio.sleep(5)  # virtual
        assert await commit(b.membership, shard, epoch, MOVE) == "won"


async def test_who_leaves_takes_its_plans_back_and_leaves_what_is_sealed_to_the_target(
    autojump_clock: trio.abc.Clock,
) -> None:
    """The target finishes a sealed move without the source; one that was only planned is cleared with the good-bye."""
    async with Cluster().both() as (a, b, shard, epoch):
        await sealed(a, b, shard, epoch)
        other, other_epoch = max(a.serves().items())
        a.node.journal.commit([entry("y", 1, epoch=other_epoch)], fences={other: other_epoch})
        assert await plan(a.membership, other, "a-2", "b") is None
        await look(b.membership, other)
        await call(a.pid, Leave())
        await until(lambda: MoveSettled(other, "a-2") in b.conducted)
        assert (await look(b.membership, other)).owner == "a"
        assert await commit(b.membership, shard, epoch, MOVE) == "won"
        assert b.membership.arrived(shard, epoch + 1)
        await until(lambda: len(b.serves()) == SHARDS - 1)


async def test_a_draining_node_gives_what_is_not_written_and_keeps_serving_the_rest(
    autojump_clock: trio.abc.Clock,
) -> None:
    """It is given nothing until it is done with that; what is written it wants to move, as much as it is asked for."""
    async with Cluster().both() as (a, b, shard, epoch):
        a.membership.drain()
        await until(lambda: a.serves() == {shard: epoch})
        await until(lambda: len(b.serves()) == SHARDS - 1)
        assert b.membership.members()["a"].draining
        await trio.sleep(10)  # virtual
        assert (a.serves(), a.membership.moves_wanted({}, 2)) == ({shard: epoch}, [(shard, "b")])
        await planned(a, b, shard)
        assert a.membership.moves_wanted({}, 2) == []
        await clear(a.membership, shard, MOVE)
        a.membership.drain(False)
        assert a.membership.moves_wanted({}, 2) == []
        await until(lambda: len(a.serves()) == SHARDS // 2)


async def test_a_joining_node_is_wanted_to_have_its_share(autojump_clock: trio.abc.Clock) -> None:
    """Of a node whose shards are all written half are to move; of one that has enough that are not, none."""
    cluster = Cluster()
    async with cluster.node("a", SHARDS) as a:
        for shard, epoch in list(a.serves().items())[:6]:
            a.node.journal.commit([entry(f"x{shard}", 1, epoch=epoch)], fences={shard: epoch})
        async with cluster.node("b"):
            await until(lambda: "b" in a.membership.nodes())
            assert len(a.membership.moves_wanted({}, 9)) == 2
            await until(lambda: len(a.serves()) == 6)
            await trio.sleep(5)  # virtual
            assert [target for _, target in a.membership.moves_wanted({}, 9)] == ["b", "b"]
            assert len(a.membership.moves_wanted({}, 1)) == 1
