"""A coordination store whose answers get lost: nodes that follow the rules lose nothing by it."""

from __future__ import annotations

from random import Random

import trio

from runtime.backends.coordination import LocalCoordination
from runtime.backends.memory import MemoryDisk, MemoryJournal
from runtime.cluster.coordination import Change, CoordinationUnreachable, Row, Rows
from runtime.cluster.joining import join
from runtime.cluster.membership import Membership
from runtime.durable.fence import NodeFences
from runtime.testing import SeededWorld, SharedCoordination, Trace, run_seeded
from supervisors import Node

SHARDS = 16


def test_whoever_tries_again_gets_through() -> None:
    """Three that each add their marks, with a third of the answers lost, end with every mark, once."""
    trace = Trace()
    shared = SharedCoordination(LocalCoordination(), trace)

    async def add(name: str) -> None:
        rows = Rows(shared.line(name, Random(name), lost=0.3))
        for number in range(10):
            mark = f"{name}{number}"
            while True:
                try:
                    row = (await rows.read("marks")).get("marks", Row(0, ()))
                    if mark in row.value:
                        break
                    if (await rows.change([Change("marks", row.version, (*row.value, mark))]))[0]:
                        break
                except CoordinationUnreachable:
                    pass

    async def main() -> tuple[str, ...]:
        async with trio.open_nursery() as nursery:
            for name in "abc":
                nursery.start_soon(add, name)
        found: tuple[str, ...] = (await Rows(shared.inner).read("marks"))["marks"].value
        return found

    assert sorted(run_seeded(3, main)) == sorted(f"{name}{number}" for name in "abc" for number in range(10))


def cluster(seed: int) -> tuple[str, int]:
    """Three nodes in a seeded world, one of them cut off for a while; the trace, and how many shards are served."""
    trace = Trace()
    shared = SharedCoordination(LocalCoordination(), trace)
    disks = {name: MemoryDisk(name) for name in "abc"}

    async def main() -> int:
        nodes: list[Membership] = []
        async with trio.open_nursery() as nursery:
            for name in "abc":
                await nursery.start(run_node, name, nodes)
            await trio.sleep(30)  # virtual
            lines["b"].cut = True
            await trio.sleep(20)  # virtual
            lines["b"].cut = False
            for line in lines.values():
                line.lost = 0.0
            await trio.sleep(30)  # virtual
            served = [shard for one in nodes for shard in one.placement.served]
            nursery.cancel_scope.cancel()
        return len(served) if sorted(served) == list(range(SHARDS)) else -1

    lines = {name: shared.line(name, Random(f"{seed}/{name}"), lost=0.05) for name in "abc"}

    async def run_node(name: str, nodes: list[Membership], *, task_status: trio.TaskStatus[None]) -> None:
        world = SeededWorld(
            seed,
            open_store=lambda path, node: MemoryJournal(disks[name], node=node),
            coordination=lines[name],
            trace=trace,
            host=name,
        )
        async with Node(name, data=name, world=world) as node:
            while True:
                try:
                    joined = await join(world, name=name, address=name, store=node.journal, data=name, shards=SHARDS)
                    break
                except CoordinationUnreachable:
                    pass
            pid = await node.start(Membership, joined, NodeFences(node.journal), name="membership")
            nodes.append(pid._process.behaviour)
            task_status.started()
            await trio.sleep_forever()

    served = run_seeded(seed, main, trace=trace)
    return trace.digest, served


def test_a_cluster_runs_in_a_seeded_world() -> None:
    """Three whole nodes with lost answers and a cut: in the end each shard is served once."""
    assert [cluster(seed)[1] for seed in range(5)] == [SHARDS] * 5


def test_a_seed_does_the_same_each_time() -> None:
    """The same seed leads to the same trace, another one to another."""
    assert cluster(1) == cluster(1)
    assert cluster(1)[0] != cluster(2)[0]
