"""Entities that are found anywhere: regions and their shards, which may move. `region` is the chapter on them.

regions          region, entities, ports, failures
a request's way  door -> router: outward (window) -> post, frames -> inward (intake) -> shard
a shard moves    orders -> mover: sides, carrier -> handoff, handoff_target (events, frames) decide,
                 mover_source, mover_target do; speaker and mover_frames carry what they say; offers wait
its records      stores, copying, indexing; leftovers erases them where they were
its processes    steps, luggage: freezing, packing, leaving at the one node, arriving at the other;
                 departed stands in for who has gone
when and where   rebalancer, by loads; tally tells of both
"""

from __future__ import annotations

from .failures import BadKey, EntityNotStarted, EntityRaised, NoOwner, UnknownRegion
from .region import Region, ShardFact, region, shard_facts

__all__ = [
    "BadKey",
    "EntityNotStarted",
    "EntityRaised",
    "NoOwner",
    "Region",
    "ShardFact",
    "UnknownRegion",
    "region",
    "shard_facts",
]
