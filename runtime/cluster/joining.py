"""Joining a cluster: whether a node may be part of it, before it does anything; the first member makes it.

What binds data to a cluster lies in the data: the cluster's id, and an id of their own, by which shards know
their home. The same data in the same place are the same node, which is back as soon as it is started: it could
not hold their lock if its former life still ran.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Final, Protocol, final

from ..errors import Misuse
from ..kernel.world import World
from .coordination import Change, CoordinationUnreachable, Row, Rows
from .members import (
    CLUSTER,
    LEASE_SECONDS,
    Cluster,
    Member,
    Members,
    OtherCluster,
    check_cluster,
    check_join,
    member_row,
)
from .placement import MAX_SHARDS, SHARDS, Placement
from .reports import Reports

_CLUSTER_META: Final = "cluster/id"
_STORE_META: Final = "cluster/store"
# Rounds in which a join may lose against others that join at the same time.
_JOIN_TRIES: Final = 32


class Store(Protocol):
    """What is asked of a node's journal (`runtime.durable.journal.Journal`)."""

    @property
    def epoch(self) -> int: ...

    def get_meta(self, name: str) -> bytes | None: ...

    def set_meta(self, name: str, value: bytes) -> None: ...


@final
@dataclass(frozen=True, slots=True)
class Joined:
    """A node's place in its cluster, as `join` found it.

    Attributes:
        cluster: what is fixed for all.
        creation: the node's life in this cluster: what its pids should bear.
        members, placement, reports: the machines, as they begin.
    """

    cluster: Cluster
    creation: int
    members: Members
    placement: Placement
    reports: Reports


async def join(
    world: World, *, name: str, address: str, store: Store | None = None, data: str = "", shards: int | None = None
) -> Joined:
    """Take a place in the cluster whose coordination store is the World's, and make the cluster if there is none.

    Args:
        name: the node's, unique in the cluster.
        address: where others reach it.
        store: its journal, open; None if it keeps nothing. It is bound to the cluster for ever.
        data: where that lies; the same node finds itself again by it.
        shards: the count that is configured, 1 to 4096; None for that of the cluster, or 256 for a new one.

    Raises:
        JoinRefused: another living node has the name, the data belong to another cluster, or the cluster has
            another count of shards. Says what to do; nothing was changed.
        CoordinationUnreachable: the store gave no answer.
        Misuse: the count of shards is out of bounds.
    """
    if shards is not None and not 1 <= shards <= MAX_SHARDS:
        raise Misuse(f"wanted 1 to {MAX_SHARDS} shards, got {shards}")
    rows = Rows(world.coordination)
    identity, bound, epoch = "", "", 0
    if store is not None:
        bound = (store.get_meta(_CLUSTER_META) or b"").decode()
        identity = store_id(store)
        epoch = store.epoch
        if not identity:
            identity = f"{world.random.getrandbits(64):016x}"
            store.set_meta(_STORE_META, identity.encode())
    for _ in range(_JOIN_TRIES):
        found = await rows.read()
        known = found.get(CLUSTER)
        if known is None:
            if bound:
                raise OtherCluster(bound, "(none: it is new)")
            made = Cluster(f"{world.random.getrandbits(64):016x}", SHARDS if shards is None else shards)
            await rows.change([Change(CLUSTER, 0, made)])
            continue
        cluster: Cluster = known.value
        check_cluster(cluster, shards, bound)
        mine = found.get(member_row(name), Row(0, None))
        wall, sent = world.wall(), world.now()
        me = Member(name, address, epoch, wall + LEASE_SECONDS, False, identity, data)
        creation = check_join(me, mine.value, wall)
        me = dataclasses.replace(me, creation=creation)
        if store is not None and not bound:
            store.set_meta(_CLUSTER_META, cluster.id.encode())
            bound = cluster.id
        if (await rows.change([Change(member_row(name), mine.version, me)]))[0]:
            members = Members(me, mine.version + 1, sent)
            placement = Placement(name, creation, cluster.shards, store=identity, floor=epoch)
            return Joined(cluster, creation, members, placement, Reports(name, creation))
    raise CoordinationUnreachable(f"join as {name!r}", "others changed the same rows again and again")


def store_id(store: Store) -> str:
    """The id of a node's data in its cluster; "" if they were never part of one."""
    return (store.get_meta(_STORE_META) or b"").decode()
