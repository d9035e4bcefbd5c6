"""A player's end of the socket: what it does where a seat is being given up, or a table is set aside."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from game.play_screen import Screen
from game.play_seat import REFUSED, Seat, Stopped
from game.player import WhichSession
from game.wallet import balance
from runtime import KILL, call, exit, whereis
from runtime.durable.journal import StoreDamaged
from runtime.durable.record import Entry, Snapshot
from runtime.durable.writer import JournalWriter
from runtime.edge.client import GoElsewhere
from tests.unit.game.players import GRANT, House, calling, house, play


class Said(Screen):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    async def until(self, words: str) -> str:
        """The first line with these words, as soon as it is there."""
        while not (found := [line for line in self.lines if words in line]):
            await trio.lowlevel.checkpoint()
        return found[0]


def seat_of(room: House, name: str, screen: Said, typed: trio.MemoryReceiveChannel[str | None]) -> Seat:
    async def where() -> str:
        return room.url.removeprefix("ws://")

    return Seat(where, room.token(name), name, screen, typed.receive, patient=False)


async def test_who_comes_back_to_a_leaving_seat_keeps_it() -> None:
    """Back in the middle of the hand, the player sits down again and is there when it ends."""
    screen = Said()
    line, typed = trio.open_memory_channel[str | None](1)
    async with house() as room, room.player("bob", sit=5_000) as bob, trio.open_nursery() as nursery:
        async with room.player("ann", sit=5_000) as ann:
            hand = await room.deal()
            await play([ann, bob], hand, calling, until=lambda view: view["actor"] == "bob")
            await ann.done("leave", table="oak")
        nursery.start_soon(seat_of(room, "ann", screen, typed).play, "oak", 6_000)
        assert "you are back in your seat at oak" in await screen.until("ann, you")
        await bob.until(lambda view: not any(one["leaving"] for one in view["seats"]))
        await bob.done("act", table="oak", hand=hand, action="raise", to=5_000)
        await screen.until("your turn: fold")
        await line.send("fold")
        await screen.until("bob wins")
        await line.send(None)
        assert await screen.until("you leave oak")
        assert not any("!" in said for said in screen.lines)


async def test_who_cannot_keep_the_seat_is_told() -> None:
    """Without chips for it in the wallet the seat goes when the hand ends, and the player hears so at once."""
    screen = Said()
    _line, typed = trio.open_memory_channel[str | None](1)
    async with house() as room, room.player("bob", sit=5_000) as bob, trio.open_nursery() as nursery:
        async with room.player("ann", sit=GRANT) as ann:
            hand = await room.deal()
            await play([ann, bob], hand, calling, until=lambda view: view["actor"] == "bob")
            await ann.done("leave", table="oak")
        seat = seat_of(room, "ann", screen, typed)
        nursery.start_soon(seat.play, "oak", 6_000)
        said = await screen.until("!")
        assert said.startswith("! your seat is given up when this hand ends: not enough chips")
        nursery.cancel_scope.cancel()


async def test_who_is_sent_to_another_node_goes_on_there() -> None:
    """The gateway that the bye names is where the game goes on, with the same session; the former one is not asked."""
    screen = Said()
    line, typed = trio.open_memory_channel[str | None](1)
    asked: list[str] = []

    async def where() -> str:
        asked.append(room.url)
        return room.url.removeprefix("ws://")

    async with house() as room, trio.open_nursery() as nursery:
        nursery.start_soon(Seat(where, room.token("ann"), "ann", screen, typed.receive, patient=False).play, "oak", 600)
        await screen.until("you are at oak")
        session = whereis("player/ann")
        assert session is not None
        before = await call(session, WhichSession())
        resume = room.token("ann", purpose="resume", session=before)
        assert await call(session, GoElsewhere(room.url.removeprefix("ws://"), resume))
        await screen.until("coming back")
        while (after := whereis("player/ann")) is None or after == session:
            await trio.lowlevel.checkpoint()
        assert await call(after, WhichSession()) == before
        await line.send(None)
        assert await screen.until("you leave oak")
    assert len(asked) == 1


async def test_a_table_that_is_set_aside_ends_the_game(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is told with what is damaged, whether the player was there already or comes later."""
    load = JournalWriter.load

    def damaged_load(writer: JournalWriter, key: str) -> tuple[Snapshot | None, list[Entry]]:
        if key == "table/oak":
            raise StoreDamaged("store", "zeros", key, 4)
        return load(writer, key)

    screen = Said()
    _line, typed = trio.open_memory_channel[str | None](1)
    async with house(data=tmp_path / "store") as room:
        caught: list[Stopped] = []

        async def game() -> None:
            with pytest.raises(Stopped) as stopped:
                await seat_of(room, "ann", screen, typed).play("oak", 6_000)
            caught.append(stopped.value)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(game)
            await screen.until("you are at oak")
            monkeypatch.setattr(JournalWriter, "load", damaged_load)
            table = whereis("table/oak")
            assert table is not None
            exit(table, KILL)
        await game()
        assert [(one.what, one.why, one.code) for one in caught] == [
            ("the game at 'oak' cannot go on", "table oak is damaged: record 4: zeros", REFUSED),
            ("cannot watch table 'oak'", "table oak is damaged: record 4: zeros", REFUSED),
        ]
        assert await balance("ann") == GRANT - 6_000
