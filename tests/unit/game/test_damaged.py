"""A table or wallet whose record is damaged is set aside: all others play on, and no chip comes or goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from game.aside import Damaged
from game.gateway import GatewaySettings
from game.lobby import LOBBY, damaged
from game.messages import DamagedEntities, Look, Progress, TableConfig, TakeChips, UnderWay
from game.player import gone
from game.table import Table
from game.wallet import balance
from runtime import KILL, Numbered, Session, call, cast, exit, sys, whereis
from runtime.durable.journal import StoreDamaged
from runtime.durable.writer import JournalWriter
from tests.unit.backends.stores import LmdbStore
from tests.unit.game.players import GRANT, OAK, SECRET, calling, house, paid_back, play

ELM = TableConfig("elm", blinds=(50, 100), seats=3, turn_seconds=0.0, pause_seconds=-1.0)
SETTINGS = GatewaySettings(secret=SECRET, grant=GRANT, patience=0.5)


class Harm:
    """One record of a store on the disk, which can be damaged and mended again while no node runs."""

    def __init__(self, path: Path, key: str, sequence: int = 1) -> None:
        self.store = LmdbStore(path)
        journal = self.store.open(read_only=True)
        (entry,) = journal.read(key, sequence - 1, 1)
        journal.close()
        self.whole = entry.pack()
        self.harmed = self.whole[:37] + bytes([self.whole[37] ^ 1]) + self.whole[38:]
        self.store.replace(self.whole, self.harmed)

    def mend(self) -> None:
        """Make it as it was."""
        self.store.replace(self.harmed, self.whole)


async def set_aside(key: str) -> str:
    """Wait until the lobby knows of an entity that is set aside; why it is."""
    lobby = Session("tests")  # patient with one that is being restarted
    while key not in (known := dict(await lobby.ask(LOBBY, DamagedEntities()))):
        await trio.lowlevel.checkpoint()
    return known[key]


def room_at(path: Path) -> Any:
    return house(SETTINGS, tables=(OAK, ELM), data=path)


async def test_a_damaged_table_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is told of in lobby, tree, log and to who asks; the others play on; mended, it has all its chips."""
    data = tmp_path / "store"
    async with room_at(data) as room, room.player("ann", sit=3_000):
        pass
    harm = Harm(data, "table/oak")
    for _ in range(2):  # each start of the node tries once
        caplog.clear()
        async with (
            room_at(data) as room,
            room.player("ann", watch=("elm",)) as ann,
            room.player("bob", watch=()) as bob,
        ):
            why = await set_aside("table/oak")
            assert why.startswith("table oak is damaged: record 1: wanted checksum ")
            assert [one.getMessage() for one in caplog.records if why in one.getMessage()] == [
                f"{why}; it is set aside, and all others go on: banyan check tells more"
            ]
            for asked in (Progress(), Look("ann")):
                with pytest.raises(Damaged) as caught:
                    await call("table/oak", asked)
                assert caught.value.reason == why
            elm, oak = (await ann.done("lobby"))["tables"]
            assert (elm["damaged"], oak["damaged"], oak["taken"], oak["seated"]) == (None, why, None, None)
            for op, more in (("watch", {}), ("sit", {"amount": 100}), ("leave", {})):
                frame = await ann.ask(op, table="oak", **more)
                assert (frame["type"], frame["reason"], frame["text"]) == ("refused", "damaged", why)
            assert await ann.refused("act", table="oak", hand=1, action="call") == "damaged"
            assert await ann.done("balance") == {"balance": GRANT - 3_000}
            tree = str(room.node.tree())
            assert tree.count(why) == 2  # its own line, and the lobby's
            assert (await sys.get_state("table/oak"))["damaged"] == why
            await bob.done("sit", table="elm", amount=1_000)
            assert await balance("bob") in (GRANT - 1_000, GRANT - 2_000)
    harm.mend()
    async with room_at(data) as room, room.player("ann") as ann:
        assert await damaged() == {}
        seat = ann.seat()
        assert seat is not None
        assert (seat["stack"], await balance("ann")) == (3_000, GRANT - 3_000)


async def test_chips_that_a_damaged_table_is_owed_wait(tmp_path: Path) -> None:
    """A transfer that may have arrived before the damage is neither refused nor forgotten: it is delivered once."""
    data = tmp_path / "store"
    async with room_at(data) as room, room.player("ann", sit=3_000) as ann:
        await sys.suspend("table/oak")
        sat = await ann.done("sit", table="oak", amount=500)
        assert (sat["transfer"], sat["stack"]) == (2, None)
    harm = Harm(data, "table/oak")
    async with room_at(data) as room, room.player("ann", watch=()):
        await set_aside("table/oak")
        for number in (1, 2):  # what had arrived, and what had not: nobody can tell one from the other
            with pytest.raises(StoreDamaged, match="will not serve 'table/oak' from record 1"):
                await call("table/oak", Numbered("wallet/ann", number, TakeChips("ann", 500), lasting=True))
        assert await call("wallet/ann", UnderWay(2))
        assert await balance("ann") == GRANT - 3_500
    harm.mend()
    async with room_at(data) as room, room.player("ann") as ann:
        await ann.until(lambda view: [one["stack"] for one in view["seats"]] == [3_500])
        assert await balance("ann") == GRANT - 3_500


async def test_a_damaged_wallet_is_set_aside(tmp_path: Path) -> None:
    """Its player still plays with what is at the table; what the table owes the wallet waits until it is mended."""
    data = tmp_path / "store"
    async with room_at(data) as room, room.player("ann", sit=3_000), room.player("bob", sit=3_000):
        pass
    harm = Harm(data, "wallet/ann", 2)
    async with room_at(data) as room, room.player("ann") as ann, room.player("bob") as bob:
        why = await set_aside("wallet/ann")
        assert why.startswith("wallet ann is damaged: record 2: ")
        for op, more in (("balance", {}), ("sit", {"table": "oak", "amount": 100})):
            frame = await ann.ask(op, **more)
            assert (frame["reason"], frame["text"]) == ("damaged", why)
        await play([ann, bob], await room.deal(), calling)
        stack = next(one for one in (await call("table/oak", Look(None))).seats if one.player == "ann").stack
        await ann.done("leave", table="oak")
        await ann.until(lambda view: [one["player"] for one in view["seats"]] == ["bob"])
        assert (await call("table/oak", Progress())).open_payouts == 1
        assert await balance("bob") == GRANT - 3_000
    harm.mend()
    async with room_at(data) as room:
        await paid_back("ann", GRANT - 3_000 + stack)
        # The chips are in the wallet a commit before the table has written down that it owes them no more.
        while (await call("table/oak", Progress())).open_payouts:
            await trio.lowlevel.checkpoint()


async def test_an_entity_that_is_damaged_while_it_lives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """When it is restarted it is set aside, without a further restart; watchers are told; killed, it is tried again."""
    load = JournalWriter.load
    loads = 0

    def damaged_load(writer: JournalWriter, key: str) -> Any:
        nonlocal loads
        if key == "table/oak":
            loads += 1
            raise StoreDamaged("store", "zeros", key, 4)
        return load(writer, key)

    async with room_at(tmp_path / "store") as room, room.player("ann", watch=("oak", "elm"), sit=500) as ann:
        before = whereis("table/elm"), whereis(LOBBY)
        monkeypatch.setattr(JournalWriter, "load", damaged_load)
        exit(table := whereis("table/oak"), KILL)
        while (frame := await ann.hear())["type"] != "gone":
            pass
        why = "table oak is damaged: record 4: zeros"
        assert frame == {"seq": frame["seq"], **gone("oak", Damaged(why))}
        assert await set_aside("table/oak") == why
        assert (whereis("table/elm"), whereis(LOBBY), loads) == (*before, 1)
        assert str(room.node.tree()).count(why) == 2

        # A lobby that comes after it is told too, and tries nothing.
        exit(whereis(LOBBY), KILL)
        assert await set_aside("table/oak") == why
        assert loads == 1

        # What it cannot answer does it no harm.
        stands_in = whereis("table/oak")
        await cast("table/oak", "nonsense")
        assert stands_in == whereis("table/oak") != table

        monkeypatch.setattr(JournalWriter, "load", load)
        exit(stands_in, KILL)
        while await damaged():
            await trio.lowlevel.checkpoint()
        await ann.done("watch", table="oak")
        await ann.until(lambda view: [one["stack"] for one in view["seats"]] == [500])


async def test_a_history_that_cannot_be_replayed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An `apply` that raises sets its table aside, with the position; of what it raised only the kind is told."""
    async with room_at(tmp_path / "store") as room, room.player("ann", sit=500) as ann:

        def apply(_table: Table, _state: Any, _event: Any) -> Any:
            raise KeyError("AhKd")

        monkeypatch.setattr(Table, "apply", apply)
        exit(whereis("table/oak"), KILL)
        assert await set_aside("table/oak") == "table oak is damaged: record 1: replayed, it raised KeyError"
        assert await ann.done("balance") == {"balance": GRANT - 500}


async def test_a_bot_waits_for_its_table(tmp_path: Path) -> None:
    """Bots of a damaged table, or with a damaged wallet, wait or play on; none of them crashes over it."""
    data, bots = tmp_path / "store", (("ada", "oak", 500), ("bea", "elm", 500))
    async with (
        house(SETTINGS, tables=(OAK, ELM), bots=bots, data=data) as room,
        room.player("ann", watch=("oak", "elm")) as ann,
    ):
        for table in ("oak", "elm"):
            await ann.until(lambda view: bool(view["seats"]), table)
    Harm(data, "table/oak")
    Harm(data, "wallet/bea")
    async with (
        house(SETTINGS, tables=(OAK, ELM), bots=bots, data=data) as room,
        room.player("ann", watch=("elm",)) as ann,
    ):
        await set_aside("table/oak")
        await set_aside("wallet/bea")
        await ann.done("sit", table="elm", amount=500)
        hand = await room.deal("elm")
        view = await ann.until(lambda view: hand in (view["hand"], (view["result"] or {}).get("hand")), "elm")
        assert {one["player"] for one in view["seats"]} == {"ann", "bea"}
        restarts = next(line for line in str(room.node.tree()).splitlines() if "restarts" in line and "/100 " in line)
        assert " 0/100 " in restarts
