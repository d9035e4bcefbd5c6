"""Shards that move between whole nodes of a seeded cluster, while they are used."""

from __future__ import annotations

from typing import Any

import trio

from tests.support.clusters import Machines, clustered
from tests.unit.supervisors.shards.moved import (
    Books,
    callers,
    deposit,
    history,
    journal,
    keys_of,
    move,
    over,
    owner,
    start,
)


def run(scenario: Any, seed: int = 1) -> Any:
    """Run a scenario with one region."""
    return clustered(scenario, Books, seed)


def test_a_shard_moves_with_all_that_it_has() -> None:
    """Its entities go on at the other node where they were; the row, the placement and both stores say so."""

    async def scenario(machines: Machines) -> None:
        await start(machines, "a", "b")
        source = owner(machines, 0)
        target = "b" if source == "a" else "a"
        keys = keys_of(0, 5)
        for key in keys:
            for amount in range(20):
                await machines.at("a", deposit, key, amount)
        told = await move(machines, source, 0, target)
        assert (told.phase, told.why, told.source, told.target) == ("retired", "", source, target)
        assert told.freeze_ms is not None
        assert told.bytes > 0
        assert owner(machines, 0) == target
        for name in ("a", "b"):
            for key in keys:
                assert await machines.at(name, history, key) == tuple(range(20))
        await machines.at(source, deposit, keys[0], 20)
        assert journal(machines, target).head(f"ledger/{keys[0]}") == 21
        assert journal(machines, source).head(f"ledger/{keys[0]}") == 20
        assert journal(machines, source).fence(0).sealed

    run(scenario)


def test_a_shard_moves_while_callers_call() -> None:
    """Every command is done once, in order, with the reply that its caller got; to and fro and on to a third node."""

    async def scenario(machines: Machines) -> None:
        await start(machines, "a", "b", "c")
        keys = keys_of(0, 3)
        async with callers(machines, {"a": keys, "b": keys, "c": keys[:1]}):
            await trio.sleep(1.0)  # virtual
            for _ in range(2):
                for target in ("a", "b", "c"):
                    source = owner(machines, 0)
                    if source != target:
                        told = await move(machines, source, 0, target)
                        assert (told.phase, told.why) == ("retired", "")
                        await over(machines, target, told.id)
                        assert owner(machines, 0) == target
                    await trio.sleep(0.3)  # virtual

    run(scenario)
