"""The audit of a cluster: each record counts once, from the store that owns it, whatever copies there are."""

from __future__ import annotations

import pytest

from game.audit import TwoHomes, audit
from game.messages import BuyIn, Grant, Join
from game.places import place
from game.wallet import balance
from runtime import Session
from runtime.backends.memory import MemoryJournal
from runtime.cluster.shards import shard_of
from runtime.durable.carriage import Piece
from tests.support.clusters import Machines, clustered
from tests.unit.game.phones import SHARDS, House, three

PLAYERS = ("ann", "bob", "cyd", "dov", "eva", "fay")


async def seat(player: str) -> None:
    """Have a player come, and buy in at oak."""
    session = Session(f"test/{player}")
    await session.command(place("lobby"), Join(player))
    await session.command(place(f"wallet/{player}"), Grant(1_000))
    await session.command(place(f"wallet/{player}"), BuyIn("table/oak", 400))
    assert await balance(player) == 600


async def played(machines: Machines) -> list[MemoryJournal]:
    """The stores of three nodes after some have bought in, all ended."""
    await three(machines)
    for number, player in enumerate(PLAYERS):
        await machines.at("abc"[number % 3], seat, player)
    for name in "abc":
        await machines.stop(name)
    return [MemoryJournal(machines.disks[name], node=name) for name in "abc"]


def test_a_copy_does_not_count() -> None:
    """Neither one that is on its way, nor one that was sealed; two that may be written are an error, and so is none."""

    async def scenario(machines: Machines) -> None:
        stores = await played(machines)
        found = audit(stores, shards=SHARDS)
        assert (found.granted, found.held, found.doubled) == (6_000, 6_000, ())
        acknowledged = [("wallet/ann", "test/ann", number) for number in (2, 3)]
        assert audit(stores, acknowledged, shards=SHARDS).lost == ()
        source = next(one for one in stores if "wallet/ann" in one.keys("wallet/"))
        target = next(one for one in stores if one is not source)
        shard = shard_of("wallet", "ann", SHARDS)
        epoch = source.fence(shard).epoch
        pieces: list[Piece] = [source.piece(key, 0, 1 << 20) for key in source.shard_keys(shard)]
        target.reserve(shard, b"move")
        target.install(shard, pieces, claim=epoch + 1)
        assert audit(stores, shards=SHARDS) == found
        target.settle(shard)
        with pytest.raises(TwoHomes, match="the record of wallet/ann may be written in 2 stores at once"):
            audit(stores, shards=SHARDS)
        source.seal(shard, epoch)
        assert audit(stores, acknowledged, shards=SHARDS) == found
        target.seal(shard, epoch + 1)
        with pytest.raises(TwoHomes, match="in none of the stores"):
            audit(stores, shards=SHARDS)

    clustered(scenario, House)
