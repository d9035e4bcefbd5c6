"""Moves and adopted stores: what lies in one is not moved, and a move whose source was adopted is void."""

from __future__ import annotations

import pytest

from runtime.backends.memory import MemoryJournal
from runtime.cluster.joining import store_id
from runtime.cluster.membership import membership_of
from runtime.cluster.moving import plan
from runtime.durable.fence import NodeFences
from supervisors.shards.orders import Move, Predict
from tests.support.clusters import Machines, clustered
from tests.unit.supervisors.shards.moved import (
    SHARDS,
    Books,
    begin,
    deposit,
    history,
    journal,
    keys_of,
    mover,
    owner,
    served,
    start,
)
from tests.unit.supervisors.shards.test_mover_faults import Stop
from tests.unit.supervisors.shards.test_mover_orders import refused


def adopt(machines: Machines, store: str, by: str) -> MemoryJournal:
    """A node takes the store of one that is dead."""
    found = MemoryJournal(machines.disks[store], node=store)
    membership_of(machines.nodes[by].table).hold(store_id(found), NodeFences(found))
    return found


def give_back(machines: Machines, store: MemoryJournal, by: str) -> None:
    """It lets go of it."""
    if by in machines.nodes:
        membership_of(machines.nodes[by].table).give_up(store_id(store))
    store.close()


def test_what_lies_in_an_adopted_store_is_not_moved() -> None:
    """It is refused with the order, with the forecast, and with the plan for the row; and nobody drains it."""

    async def scenario(machines: Machines) -> None:
        await start(machines, "a", "b", "c")
        (shard, *_) = served(machines, "a")
        await machines.at("a", deposit, keys_of(shard, 1)[0], 1)
        await machines.kill("a")
        adopt(machines, "a", "b")
        await machines.until(lambda: shard in served(machines, "b"))
        why = f"shard {shard} lies in a store that b has adopted"
        assert await refused(machines, "b", Move(shard, "c")) == why
        assert await refused(machines, "b", Predict(shard, "c")) == why
        membership = membership_of(machines.nodes["b"].table)
        assert await machines.at("b", plan, membership, shard, "m", "c") == why
        membership.drain()
        assert shard not in [one for one, _ in membership.moves_wanted({}, SHARDS)]

    clustered(scenario, Books)


@pytest.mark.parametrize("again", [False, True], ids=["", "target-started-again"])
@pytest.mark.parametrize(("what", "after"), [("Install", True), ("Keep", True), ("Commit", False)])
def test_a_move_is_void_when_its_source_is_adopted(
    what: str, after: bool, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by the target itself: the copy that was brought is erased, and only the adopted store counts."""

    async def scenario(machines: Machines) -> None:
        await start(machines, "a", "b")
        (shard, *_) = served(machines, "a")
        (key,) = keys_of(shard, 1)
        for amount in range(3):
            await machines.at("a", deposit, key, amount)
        stop = Stop(monkeypatch, what, after=after)
        await begin(machines, "a", shard, "b")
        await stop.reached.wait()
        await machines.kill("a")
        store = adopt(machines, "a", "b")
        placement = membership_of(machines.nodes["b"].table).placement
        await machines.until(lambda: placement.row(shard)[1].owner == "b")
        if again:
            await machines.kill("b")
            give_back(machines, store, "b")
            await machines.start("b", data="b", shards=SHARDS, rebalance=False)
        stop.struck.set()
        await machines.until(lambda: not journal(machines, "b").staged())
        await machines.until(lambda: all(one.ended for one in mover(machines, "b").facts()))
        assert journal(machines, "b").shard_keys(shard) == []
        if not again:
            await machines.until(lambda: shard in served(machines, "b"))
            assert membership_of(machines.nodes["b"].table).placement.home(shard) == store_id(store)
            give_back(machines, store, "b")
        await machines.start("a", data="a", shards=SHARDS, rebalance=False)
        await machines.until(lambda: owner(machines, shard) == "a")
        assert await machines.at("b", history, key) == (0, 1, 2)

    clustered(scenario, Books)
