"""A shard's row on its way from one node to another: plan, clear, commit, abort, and who is told what."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from runtime import call
from runtime.backends.coordination import LocalCoordination
from runtime.backends.memory import MemoryDisk
from runtime.cluster.coordination import CoordinationUnreachable
from runtime.cluster.joining import store_id
from runtime.cluster.membership import Leave, MoveSettled, ShardLost, ShardOwned
from runtime.cluster.moving import abort, clear, commit, look, plan
from runtime.cluster.placement import Shard, shard_row
from runtime.codec.cbor import encode
from tests.unit.backends.stores import entry

from .joined import SHARDS, One, member, until

MOVE = "a-1"


@asynccontextmanager
async def two() -> AsyncIterator[tuple[One, One, int, int]]:
    """Nodes a and b with half of the shards each; one of a's, in which something is written, and its epoch."""
    store = LocalCoordination()
    async with member("a", store, MemoryDisk("a")) as a, member("b", store, MemoryDisk("b")) as b:
        await until(lambda: len(a.serves()) == len(b.serves()) == SHARDS // 2)
        shard = min(a.serves())
        epoch = a.serves()[shard]
        a.node.journal.commit([entry("x", 1, epoch=epoch)], fences={shard: epoch})
        for one in (a, b):
            await one.conducts()
        yield a, b, shard, epoch


async def sealed(a: One, b: One, shard: int, epoch: int) -> None:
    """The move is planned and sealed at a, and b has seen the plan."""
    assert await plan(a.membership, shard, MOVE, "b") is None
    assert (await look(b.membership, shard)).move == MOVE
    assert a.membership.sealing(shard, epoch)
    a.node.journal.seal(shard, epoch)


async def test_a_shard_goes_from_one_node_to_another(autojump_clock: trio.abc.Clock) -> None:
    """It is planned by its owner and taken by the target under the next epoch, at home there; both are told at once."""
    async with two() as (a, b, shard, epoch):
        await sealed(a, b, shard, epoch)
        assert (a.membership.owner(shard), a.membership.serves(shard)) == (("a", epoch), epoch)
        b.node.journal.claim({shard: epoch + 1})
        assert await commit(b.membership, shard, epoch, MOVE) == "won"
        assert b.membership.serves(shard) is None
        assert b.membership.arrived(shard, epoch + 1)
        assert (b.membership.owner(shard), b.membership.serves(shard)) == (("b", epoch + 1), epoch + 1)
        a.membership.gone(shard, "b", epoch + 1)
        assert (a.membership.owner(shard), a.membership.serves(shard)) == (("b", epoch + 1), None)
        await trio.sleep(10)  # virtual
        assert await look(a.membership, shard) == Shard("b", 1, epoch + 1, store_id(b.node.journal))
        assert ShardOwned(shard, epoch + 1) in b.heard
        assert a.heard.count(ShardLost(shard, epoch)) == 1
        assert (b.membership.serves(shard), a.membership.serves(shard)) == (epoch + 1, None)


async def test_a_plan_changes_nothing_and_can_be_cleared(autojump_clock: trio.abc.Clock) -> None:
    """While a move is planned its shard is served as before; cleared, the row is as it was."""
    async with two() as (a, b, shard, epoch):
        before = await look(a.membership, shard)
        assert await plan(a.membership, shard, MOVE, "b") is None
        planned = await look(b.membership, shard)
        assert (planned.resting(), planned.move, planned.target, planned.target_creation) == (before, MOVE, "b", 1)
        await trio.sleep(10)  # virtual
        assert await look(a.membership, shard) == planned
        await clear(a.membership, shard, "another")
        assert await look(a.membership, shard) == planned
        await clear(a.membership, shard, MOVE)
        assert (await look(b.membership, shard), a.membership.serves(shard)) == (before, epoch)
        assert await commit(b.membership, shard, epoch, MOVE) == "lost"
        assert ShardLost(shard, epoch) not in a.heard


async def test_a_sealed_shard_is_taken_back_under_the_next_epoch(autojump_clock: trio.abc.Clock) -> None:
    """Then the target's commit is lost, and the source serves again once it has claimed its store anew."""
    async with two() as (a, b, shard, epoch):
        await sealed(a, b, shard, epoch)
        assert await abort(a.membership, shard, epoch) == epoch + 1
        assert await commit(b.membership, shard, epoch, MOVE) == "lost"
        assert a.membership.resumed(shard, epoch + 1)
        assert a.membership.serves(shard) == a.node.journal.fence(shard).epoch == epoch + 1
        await trio.sleep(10)  # virtual
        assert [one for one in a.heard if getattr(one, "shard", None) == shard][-2:] == [
            ShardLost(shard, epoch),
            ShardOwned(shard, epoch + 1),
        ]
        assert a.membership.serves(shard) == epoch + 1
        assert await abort(b.membership, shard, epoch) is None


async def test_of_an_abort_and_a_commit_the_first_one_wins(autojump_clock: trio.abc.Clock) -> None:
    """Whoever comes second finds the row changed, and does not get the shard."""
    async with two() as (a, b, shard, epoch):
        await sealed(a, b, shard, epoch)
        assert await commit(b.membership, shard, epoch, MOVE) == "won"
        assert await commit(b.membership, shard, epoch, MOVE) == "won"
        assert await abort(a.membership, shard, epoch) is None


@pytest.mark.parametrize(
    ("target", "why"),
    [("a", "own already"), ("nobody", "no node named"), ("c", "c is left")],
)
async def test_a_plan_that_cannot_be_is_refused(target: str, why: str, autojump_clock: trio.abc.Clock) -> None:
    """To its own owner, to a node that nobody knows, to one that has left: nothing is changed, and it says why."""
    async with two() as (a, _, shard, _):
        async with member("c", a.line.inner, MemoryDisk("c")) as c:
            await until(lambda: "c" in a.membership.nodes())
            await call(c.pid, Leave())
            await until(lambda: a.membership.nodes()["c"][2] == "left")
        before = await look(a.membership, shard)
        assert why in (await plan(a.membership, shard, MOVE, target) or "")
        assert await look(a.membership, shard) == before


async def test_only_who_serves_a_shard_plans_its_move_and_one_at_a_time(autojump_clock: trio.abc.Clock) -> None:
    """Another's shard, one that there is not, and one that moves already are refused; so is a draining target."""
    async with two() as (a, b, shard, _):
        assert "b does not serve" in (await plan(b.membership, shard, MOVE, "a") or "")
        assert "there is no shard 99" in (await plan(a.membership, 99, MOVE, "b") or "")
        assert await plan(a.membership, shard, MOVE, "b") is None
        assert "moving to b already" in (await plan(a.membership, shard, "a-2", "b") or "")
        b.membership.drain()
        await until(lambda: a.membership.members()["b"].draining)
        assert await plan(a.membership, max(a.serves()), "a-3", "b") == "b is draining"


async def test_whoever_conducts_is_told_when_others_end_a_move(autojump_clock: trio.abc.Clock) -> None:
    """The target hears of a clear and the source of a commit by the row, if nobody tells them otherwise."""
    async with two() as (a, b, shard, epoch):
        await sealed(a, b, shard, epoch)
        assert await commit(b.membership, shard, epoch, MOVE) == "won"
        await until(lambda: MoveSettled(shard, MOVE) in a.conducted)
        assert MoveSettled(shard, MOVE) not in b.conducted
        assert a.membership.serves(shard) == epoch
        a.membership.gone(shard)
        other = min(a.serves())
        assert await plan(a.membership, other, "a-2", "b") is None
        await look(b.membership, other)
        await clear(a.membership, other, "a-2")
        await until(lambda: MoveSettled(other, "a-2") in b.conducted)


async def test_a_move_that_nobody_conducts_is_cleared(autojump_clock: trio.abc.Clock) -> None:
    """A plan that was given up, and whose change was made late, does not stay in the row."""
    async with two() as (a, _, shard, epoch):
        version, row = a.membership.placement.row(shard)
        late = Shard(row.owner, row.creation, row.epoch, row.home, MOVE, "b", 1)
        assert await a.line.inner.compare_and_set([(shard_row(shard), version, encode(late.stored()))]) == [True]
        await until(lambda: a.membership.placement.row(shard) == (version + 2, row))
        assert a.membership.serves(shard) == epoch


async def test_a_look_changes_nothing(autojump_clock: trio.abc.Clock) -> None:
    """Whoever looks because there is news reads only, and waits for no disk; what is urgent is written with it."""
    async with two() as (a, _, _, _):
        before = a.line.changes
        for _ in range(10):
            a.membership.look()
            await trio.testing.wait_all_tasks_blocked()
        assert a.line.changes == before
        a.membership.drain()
        await trio.testing.wait_all_tasks_blocked()
        assert a.line.changes > before
        await trio.sleep(30)  # virtual
        assert a.membership.serving


async def test_nothing_is_done_without_an_answer(autojump_clock: trio.abc.Clock) -> None:
    """A store that does not answer leaves all in doubt, and what is tried again later holds."""
    async with two() as (a, b, shard, epoch):
        await sealed(a, b, shard, epoch)
        a.line.cut = b.line.cut = True
        for work in (abort(a.membership, shard, epoch), commit(b.membership, shard, epoch, MOVE)):
            with pytest.raises(CoordinationUnreachable):
                await work
        b.line.cut = False
        assert await commit(b.membership, shard, epoch, MOVE) == "won"
        assert b.membership.arrived(shard, epoch + 1)
        a.line.cut = False
        assert await abort(a.membership, shard, epoch) is None
