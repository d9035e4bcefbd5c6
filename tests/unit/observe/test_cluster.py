"""Which shards there are, and what a node knows of them."""

from __future__ import annotations

from runtime.observe import text
from runtime.observe.cluster import shards
from supervisors.shards import shard_facts
from tests.support.clusters import Machines, clustered
from tests.unit.supervisors.shards.moved import Books, deposit, keys_of, served, start


def test_what_others_run_is_not_known() -> None:
    """How many entities a shard has is told by the node that serves it; the others say that they do not know."""

    async def scenario(machines: Machines) -> None:
        await start(machines, "a", "b")
        (first, *_), (other, *_) = served(machines, "a"), served(machines, "b")
        for shard in (first, other):
            await machines.at("a", deposit, keys_of(shard, 1)[0], 1)
        said = shards(machines.nodes["a"].table, shard_facts, None)
        entities = {one["shard"]: one["entities"] for one in said["shards"]}
        assert (entities[first], entities[other]) == (1, None)
        assert sorted(map(str, entities.values())) == ["0", "1", "None", "None"]
        (line,) = [line.split() for line in text.shards(said) if line.split()[:1] == [str(other)]]
        assert line == [str(other), "b", line[2], "-", "0", "0"]
        assert {one["entities"] for one in shards(machines.nodes["a"].table, None, None)["shards"]} == {None}

    clustered(scenario, Books)
