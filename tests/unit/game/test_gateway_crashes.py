"""The gateway when something ends: tables, sessions, nodes and itself; and players that come back, or do not."""

from __future__ import annotations

from pathlib import Path

import trio

from game.gateway import GatewaySettings
from runtime import KILL, exit, sys, whereis
from runtime.edge.client import Keeping
from runtime.edge.keys import read_key
from runtime.edge.tokens import Signer
from supervisors import which_children
from tests.unit.game.players import GRANT, SECRET, calling, farewell, gone, house, paid_back, play


async def test_a_table_that_crashes_is_shown_anew() -> None:
    """When a table's process is killed in mid-hand, its watchers get an absolute of the same hand."""
    async with house() as room, room.player("ann", sit=5_000) as ann, room.player("bob", sit=5_000) as bob:
        hand = await room.deal()
        before = {}
        for player in (ann, bob):
            view = await player.until(lambda v: v["hand"] == hand)
            before[player.name] = (view["actor"], player.seat())
        table = whereis("table/oak")
        assert table is not None
        exit(table, KILL)
        for player in (ann, bob):
            while (await player.hear())["type"] != "absolute":
                pass
            assert player.views["oak"]["hand"] == hand
            assert (player.views["oak"]["actor"], player.seat()) == before[player.name]
        await play([ann, bob], hand, calling)


async def test_a_command_under_way_survives_its_table() -> None:
    """An action that a table did not live to answer is sent again to its successor, and done once."""
    async with house() as room, room.player("ann", sit=5_000) as ann, room.player("bob", sit=5_000) as bob:
        hand = await room.deal()
        view = await ann.until(lambda v: v["hand"] == hand)
        actor = ann if view["actor"] == "ann" else bob
        table = whereis("table/oak")
        assert table is not None
        await sys.suspend(table)
        process = table._process
        assert process is not None
        await actor.send(op="act", id=60, table="oak", hand=hand, action="call")
        while not process.mailbox:
            await trio.lowlevel.checkpoint()
        exit(table, KILL)
        while (frame := await actor.hear())["type"] != "reply":
            pass
        assert frame == {"type": "reply", "id": 60, "ok": {"actions": 1}}
        assert await actor.done("act", id=60, table="oak", hand=hand, action="call") == {"actions": 1}


async def test_a_player_who_comes_back_goes_on() -> None:
    """After a lost connection the sequence goes on without a gap, and the seat is still the player's."""
    async with house() as room, room.player("bob", sit=5_000) as bob:
        async with room.player("ann", sit=5_000) as ann:
            _, connection = [one.pid for one in await which_children("gateway.connections")]
        await gone(connection)
        hand = await room.deal()
        async with room.resumed(ann) as back:
            assert (back.welcome["resumed"], back.welcome["seq"]) == (True, ann.sequences[-1])
            await back.until(lambda v: v["hand"] == hand)
            assert back.sequences[0] == ann.sequences[-1] + 1
            seat = back.seat()
            assert seat is not None
            assert len(seat["hole"]) == 4
            await play([back, bob], hand, calling)


async def test_who_does_not_come_back_gives_up_the_seat() -> None:
    """After the time for coming back a player leaves the tables, and the chips are in the wallet."""
    settings = GatewaySettings(secret=SECRET, grant=GRANT, keeping=Keeping(resume_seconds=0.05))
    async with house(settings) as room, room.player("bob") as bob:
        async with room.player("ann", sit=5_000):
            await bob.until(lambda view: len(view["seats"]) == 1)
        await bob.until(lambda view: view["seats"] == [])
        await paid_back("ann", GRANT)


async def test_an_older_session_cannot_push_in() -> None:
    """The resume token of a displaced session is refused while the newer one lives: log in anew."""
    async with house() as room, room.player("ann") as old, room.player("ann") as new:
        await farewell(old)
        async with room.connected("ann") as third:
            await third.send(op="resume", token=old.welcome["resume"], after=0)
            assert (await third.hear())["reason"] == "displaced"
        assert await new.done("balance") == {"balance": GRANT}


async def test_a_session_outlives_its_node(tmp_path: Path) -> None:
    """After a restart of the node a resume token still proves the player, and a repeated command is one."""
    settings = GatewaySettings(grant=GRANT)
    async with house(settings, data=tmp_path / "store") as room:
        secret = read_key(tmp_path / "store")
        assert secret is not None
        room.signer = Signer(secret)
        async with room.player("ann") as ann:
            before = await ann.ask("sit", table="oak", amount=3_000, id=9)
    async with house(settings, data=tmp_path / "store") as room, room.resumed(ann) as back:
        assert (back.welcome["resumed"], back.welcome["session"]) == (False, ann.welcome["session"])
        assert await back.ask("sit", table="oak", amount=3_000, id=9) == before
        assert await back.done("balance") == {"balance": GRANT - 3_000}


async def test_a_gateway_that_crashes_takes_nothing_along() -> None:
    """The room plays on when the whole gateway is killed, and the players come back to their seats."""
    async with house(bots=(("bot1", "oak", 5_000),)) as room, room.player("ann", sit=5_000) as ann:
        gateway = next(p.pid for p in room.node.table.processes.values() if p.label == "gateway")
        table, address = whereis("table/oak"), room.url
        exit(gateway, KILL)
        await farewell(ann)
        await gone(gateway)
        while True:
            try:
                async with room.player("ann") as back:
                    assert back.seat() is not None
                    break
            except OSError:  # it does not listen yet
                await trio.lowlevel.checkpoint()
        assert (whereis("table/oak"), room.url) == (table, address)
