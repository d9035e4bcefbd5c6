"""What of a shard travels beside its journal when it moves: what its senders were told, and what its entities know.

A region's router on the node that has the shard is asked to freeze it, to pack, and to let it depart; the router of
the node that gets it unpacks:

    the owner       FreezeShard -> PackShard -> (the other has it) DepartShard -> FollowShard
                    FreezeShard -> ThawShard: nothing has happened
    the new owner   expect(...), then UnpackShard

All of these are for the process that moves shards, on the router's own node. What is packed is one value in the
encoding between nodes (`runtime.cluster.terms`), so that it may hold pids and references.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, cast

import trio

from runtime.behaviours.gen_server import CastEnvelope
from runtime.durable.carriage import Piece
from runtime.durable.gate import Gate
from runtime.durable.hooks import Hooks
from runtime.durable.journal import Journal
from runtime.durable.record import Entry
from runtime.durable.recovery import outcome_of, recover
from runtime.errors import Misuse
from runtime.kernel.table import ProcessTable

from .frames import Changed
from .router import REGIONS, router_of
from .steps import DepartShard, FollowShard, FreezeShard, PackShard, SnapshotShard, ThawShard, UnpackShard

__all__ = [
    "DepartShard",
    "FollowShard",
    "FreezeShard",
    "PackShard",
    "SnapshotShard",
    "ThawShard",
    "UnpackShard",
    "expect",
    "regions_here",
    "verify",
    "verify_pieces",
]

# Seconds for which the loop is kept from others while records are verified.
SLICE: Final = 0.002


def regions_here(table: ProcessTable) -> list[str]:
    """The names of the regions that run on a node, sorted."""
    known = cast("dict[str, None]", table.services.get(REGIONS, {}))
    return sorted(name for name in known if router_of(table.names.get(f"region/{name}")) is not None)


def expect(table: ProcessTable, shard: int, epoch: int) -> None:
    """Luggage will come: no region here serves the shard under that epoch before its `UnpackShard`.

    To be called before the placement says that the shard is this node's. It is forgotten after a few seconds.
    """
    for name in regions_here(table):
        process = table.names.get(f"region/{name}")
        router = router_of(process)
        if process is not None and router is not None:
            router.inward.expect(shard, epoch)
            process.post(CastEnvelope(Changed()))  # so that it looks again when the time is over


async def verify(table: ProcessTable, journal: Journal, keys: Iterable[str]) -> None:
    """Decode all records of these keys, and bring them up to date as their entities would on their start.

    Keys of regions that do not run here raise Misuse. Yields to the loop every few milliseconds.

    Raises: Misuse, and what recovery raises: EventNotUpcast, EventNewer, SnapshotNewer, StateNotUpcast,
        ReplayFailed, StoreDamaged, StoreNewer.
    """
    since = trio.current_time()
    for key in keys:
        one = _one_of(table, key)
        recover(one, Gate(one.initial(key)), key, *journal.load(key), lambda: journal)
        if trio.current_time() - since >= SLICE:
            await trio.lowlevel.checkpoint()
            since = trio.current_time()


async def verify_pieces(table: ProcessTable, pieces: Iterable[Piece]) -> None:
    """As `verify`, for the entries of pieces only, without the states that they lead to. Raises likewise."""
    since = trio.current_time()
    for piece in pieces:
        one = _one_of(table, piece.key)
        for number, packed in enumerate(piece.entries, piece.after + 1):
            outcome_of(one, Entry.unpack(packed, key=piece.key, sequence=number))
        if trio.current_time() - since >= SLICE:
            await trio.lowlevel.checkpoint()
            since = trio.current_time()


def _one_of(table: ProcessTable, key: str) -> Hooks[object, object]:
    """An instance of the class of a key's entity, which is not started."""
    name, _, rest = key.partition("/")
    memory = name == "region" and rest.count("/") == 2
    router = router_of(table.names.get(f"region/{rest.partition('/')[0] if memory else name}"))
    if router is None:
        raise Misuse(f"wanted the key of an entity of a region of this node, got {key!r}: run its region here")
    made = router.post.spec.known_class if memory else router.post.spec.entity
    if not issubclass(made, Hooks):
        raise Misuse(f"{key!r} has records, and {made.__qualname__} keeps none: run the same classes on all nodes")
    one: Hooks[object, object] = made()
    one.key = key
    return one
