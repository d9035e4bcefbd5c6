"""A shard that moves between two nodes with stores on a disk, under the real World, and what the stores say then."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import trio

from runtime import call
from runtime.backends import lmdb_check
from runtime.backends.coordination import LocalCoordination
from runtime.cluster.membership import membership_of
from runtime.kernel.process import here
from supervisors import Cluster, Node
from supervisors.node.boot import RealWorld
from supervisors.shards.mover import mover_of
from supervisors.shards.orders import MOVER, Move
from tests.support.processes import inside
from tests.unit.supervisors.shards.moved import SHARDS, Books, deposit, history, keys_of

T = TypeVar("T")


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is true."""
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110  # what nodes come to see rings no bell
            await trio.sleep(0.01)  # virtual: no, but nothing is said of how long it is


async def at(node: Node, function: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Run something as a process of a node."""
    token = here.set(node.table)
    try:
        return await inside(function, *args)
    finally:
        here.reset(token)


@asynccontextmanager
async def living(name: str, place: Path, shared: LocalCoordination) -> AsyncIterator[Node]:
    """A node with the books, as long as the block runs."""
    world = RealWorld()
    world.coordination = shared
    cluster = Cluster(
        listen=f"unix:{place}/{name}.link", clear=True, coordination=":memory:", shards=SHARDS, rebalance=False
    )
    async with Node(name, data=place / name, world=world, cluster=cluster) as node:
        await node.start(Books)
        await until(lambda: membership_of(node.table).serving)
        yield node


async def test_two_nodes_with_disks(tmp_path: Path) -> None:
    """Its records are in the other's store, whole and checked, and it is served from there after a restart."""
    shared = LocalCoordination()
    async with living("a", tmp_path, shared) as a:
        await until(lambda: len(membership_of(a.table).placement.served) == SHARDS)
        keys = {shard: keys_of(shard, 3) for shard in range(SHARDS)}
        for found in keys.values():
            for key in found:
                for amount in range(40):
                    await at(a, deposit, key, amount)
        async with living("b", tmp_path, shared) as b:
            members = membership_of(a.table).members
            await until(lambda: "b" in members() and members()["b"].state == "up")
            await until(lambda: "b" in a.table.services["peers"].nodes())  # type: ignore[attr-defined]  # the kernel knows it as `Peers`
            for shard in (0, 1):
                move = await at(a, call, MOVER, Move(shard, "b"))
                await until(lambda move=move: next(one for one in mover_of(a.table).facts() if one.id == move).ended)  # type: ignore[misc]  # mypy knows no lambda's default
            assert [one.phase for one in mover_of(a.table).facts()] == ["retired", "retired"]
            for node in (a, b):
                for found in keys.values():
                    for key in found:
                        assert await at(node, history, key) == tuple(range(40))
            assert await at(a, deposit, keys[0][0], 40) == 41
        async with living("b", tmp_path, shared) as b:
            assert await at(b, history, keys[0][0]) == tuple(range(41))
            assert await at(b, deposit, keys[0][0], 41) == 42
    for name in ("a", "b"):
        report = lmdb_check.check(str(tmp_path / name), lambda *_: None)
        assert report.found == 0, report.problems
