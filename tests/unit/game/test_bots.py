"""Bots: they sit down by themselves, through the same commands as people."""

from __future__ import annotations

from pathlib import Path

from game.messages import Look, TableConfig
from game.wallet import balance
from runtime import call
from tests.unit.game.players import house

NAMES = ("ada", "bea", "cyd", "dov", "eli")
TABLE = TableConfig("oak", blinds=(50, 100), pause_seconds=-1.0)


async def test_a_bot_buys_in_once(tmp_path: Path) -> None:
    """News of others who sit down meanwhile do not have a bot buy in again while its chips are on their way."""
    bots = tuple((name, "oak", 500) for name in NAMES)
    async with house(tables=(TABLE,), bots=bots, data=tmp_path / "store") as room, room.player("ann") as ann:
        await ann.until(lambda view: len(view["seats"]) == len(NAMES))
        view = await call("table/oak", Look(None))
        assert {seat.player: seat.stack for seat in view.seats} == dict.fromkeys(NAMES, 500)
        assert [await balance(name) for name in NAMES] == [10**9 - 500] * len(NAMES)
