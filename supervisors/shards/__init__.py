"""Entities that are found anywhere: regions and their shards. `region` is the chapter on them."""

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
