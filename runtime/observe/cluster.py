"""What a person asks about a cluster: which nodes there are and how they are, and who owns which shard."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from ..cluster.membership import SERVICE, Membership
from ..cluster.view import cluster_id, node_facts
from ..kernel.table import ProcessTable


class ShardFact(Protocol):
    """What a region knows of one of its shards (`supervisors.shards.ShardFact`)."""

    @property
    def shard(self) -> int: ...
    @property
    def entities(self) -> int: ...
    @property
    def waiting(self) -> int: ...
    @property
    def held(self) -> int: ...


# What the regions of a node know of their shards.
Regions = Callable[[ProcessTable], Iterable[ShardFact]]


def nodes(table: ProcessTable) -> dict[str, Any]:
    """The nodes, by name; a node that is in no cluster knows itself."""
    return {
        "node": table.node,
        "cluster": cluster_id(table),
        "nodes": [dataclasses.asdict(fact) for fact in node_facts(table)],
    }


def shards(table: ProcessTable, regions: Regions | None, of: str | None) -> dict[str, Any]:
    """The shards; with `of` those that a node owns. A node that shares none with others has none to show."""
    membership = table.services.get(SERVICE)
    if not isinstance(membership, Membership):
        return {"node": table.node, "cluster": cluster_id(table), "total": 0, "owned": 0, "served": 0, "shards": []}
    # Of those of other nodes only they know.
    entities: Counter[int] = Counter()
    waiting: Counter[int] = Counter()
    held: Counter[int] = Counter()
    for fact in regions(table) if regions is not None else ():
        entities[fact.shard] += fact.entities
        waiting[fact.shard] += fact.waiting
        held[fact.shard] += fact.held
    found = []
    owned = served = 0
    for shard in range(membership.cluster.shards):
        owner, epoch = membership.owner(shard) or (None, None)
        here = membership.serves(shard) is not None
        owned, served = owned + (owner is not None), served + here
        if of is None or of == owner:
            found.append(
                {
                    "shard": shard,
                    "owner": owner,
                    "epoch": epoch,
                    "served": here,
                    "entities": entities[shard] if regions is not None and (here or entities[shard]) else None,
                    "waiting": waiting[shard],
                    "held": held[shard],
                }
            )
    return {
        "node": table.node,
        "cluster": membership.cluster.id,
        "total": membership.cluster.shards,
        "owned": owned,
        "served": served,
        "shards": found,
    }
