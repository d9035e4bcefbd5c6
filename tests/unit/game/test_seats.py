"""Seats: who is not there loses one, who comes back keeps it, and what is shown of both."""

from __future__ import annotations

import pytest
import trio

from game.bots import NAMES
from game.lobby import Lobby
from game.messages import Look, Progress, Seat, TableConfig, TurnOver
from game.table import Table
from game.wallet import balance
from runtime import call
from tests.unit.game.players import GRANT, OAK, Player, calling, house, play

IMPATIENT = TableConfig("oak", blinds=(50, 100), seats=3, turn_seconds=0.0, away_hands=2)


async def clock_plays(hand: int, *absent: str, there: tuple[Player, ...] = ()) -> None:
    """Play a hand to its end: who is absent is too slow each time, everybody else checks or calls."""
    while (view := await call("table/oak", Look(None))).hand == hand:
        if view.actor in absent:
            await call("table/oak", TurnOver(hand, (await call("table/oak", Progress())).actions))
        else:
            actor = next(one for one in there if one.name == view.actor)
            await actor.done("act", table="oak", hand=hand, action="call")


async def abreast(*players: Player) -> None:
    """Wait until players have been shown the table as it is now."""
    now = (await call("table/oak", Look(None))).sequence
    for player in players:
        await player.until(lambda view: view["sequence"] >= now)


async def seated() -> dict[str, int]:
    """Who sits at oak, with what."""
    return {seat.player: seat.stack for seat in (await call("table/oak", Look(None))).seats}


async def all_chips(*players: str) -> int:
    """What players have in their wallets and at oak, as soon as nothing is on its way."""
    while True:
        held = sum([await balance(player) for player in players]) + sum((await seated()).values())
        if held == len(players) * GRANT:
            return held
        await trio.lowlevel.checkpoint()


# -- who is not there ----------------------------------------------------------------------------------


async def test_who_misses_every_turn_gives_up_the_seat() -> None:
    """After so many hands in a row that the clock has played, the seat is free and its chips are in the wallet."""
    async with house(tables=(IMPATIENT,)) as room, room.player("ann", sit=5_000) as ann:
        async with room.player("bob", sit=5_000):
            pass  # gone, without giving anything up
        await clock_plays(await room.deal(), "bob", there=(ann,))
        assert set(await seated()) == {"ann", "bob"}
        await clock_plays(await room.deal(after=1), "bob", there=(ann,))
        assert set(await seated()) == {"ann"}
        assert await all_chips("ann", "bob") == 2 * GRANT
        view = await ann.until(lambda view: view["hand"] is None and len(view["seats"]) == 1)
        assert view["result"]["hand"] == 2


async def test_one_turn_of_their_own_is_enough() -> None:
    """A hand in which a player has acted once ends the row, and so the seat is kept."""
    async with house(tables=(IMPATIENT,)) as room, room.player("ann", sit=5_000) as ann:
        async with room.player("bob", sit=5_000) as bob:
            await clock_plays(await room.deal(), "bob", there=(ann,))
            hand = await room.deal(after=1)
            if (await call("table/oak", Look(None))).actor == "ann":
                await ann.done("act", table="oak", hand=hand, action="call")
            await bob.done("act", table="oak", hand=hand, action="call")
        for after in range(2, 4):
            await clock_plays(hand, "bob", there=(ann,))
            assert set(await seated()) == {"ann", "bob"}
            hand = await room.deal(after=after)
        await clock_plays(hand, "bob", there=(ann,))
        assert set(await seated()) == {"ann"}


@pytest.mark.parametrize("most", [0, 9])
async def test_a_table_may_be_more_patient(most: int) -> None:
    """The number of hands is the table's own; 0 is never."""
    tables = (TableConfig("oak", blinds=(50, 100), seats=3, turn_seconds=0.0, away_hands=most),)
    async with house(tables=tables) as room, room.player("ann", sit=50_000), room.player("bob", sit=50_000):
        for after in range(5):
            await clock_plays(await room.deal(after=after), "ann", "bob")
        assert set(await seated()) == {"ann", "bob"}


async def test_a_hand_without_a_turn_does_not_count() -> None:
    """Who had nothing to decide, as the big blind to whom all have folded, has missed nothing."""
    async with house(tables=(IMPATIENT,)) as room, room.player("ann", sit=50_000), room.player("bob", sit=50_000):
        for after in range(3):
            assert set(await seated()) == {"ann", "bob"}
            await call("table/oak", TurnOver(await room.deal(after=after), 0))  # who has the button folds
        # One had the button twice, and missed it; the other's hand between is neither missed nor played.
        assert len(await seated()) == 1
        assert await all_chips("ann", "bob") == 2 * GRANT


# -- who is leaving ------------------------------------------------------------------------------------


async def test_a_leaving_seat_is_shown_and_can_be_kept() -> None:
    """Who leaves in mid-hand sees it; who sits down again before its end stays, and can act again."""
    async with house() as room, room.player("ann", sit=5_000) as ann, room.player("bob", sit=5_000) as bob:
        hand = await room.deal()
        first = await ann.until(lambda view: view["hand"] == hand)
        actor, other = (ann, bob) if first["actor"] == "ann" else (bob, ann)
        await other.done("leave", table="oak")
        await other.until(lambda _: bool((seat := other.seat()) and seat["leaving"]))
        done = await other.done("sit", table="oak", amount=1_000)
        assert done["stack"] is not None
        await other.until(lambda _: bool((seat := other.seat()) and not seat["leaving"]))
        await abreast(actor, other)
        await play([actor, other], hand, calling)
        assert set(await seated()) == {"ann", "bob"}
        assert await all_chips("ann", "bob") == 2 * GRANT
        assert (await room.deal(after=1)) == 2


async def test_who_leaves_again_has_left() -> None:
    """To sit down once more is no promise: a second leave gives the seat up after the hand."""
    async with house() as room, room.player("ann", sit=5_000) as ann, room.player("bob", sit=5_000) as bob:
        hand = await room.deal()
        await play([ann, bob], hand, calling, until=lambda view: view["actor"] == "bob")
        await ann.done("leave", table="oak")
        await ann.done("sit", table="oak", amount=1_000)
        await ann.done("leave", table="oak")
        await abreast(bob)
        await play([bob], hand, calling)
        assert set(await seated()) == {"bob"}
        assert await all_chips("ann", "bob") == 2 * GRANT


# -- who was not dealt in ------------------------------------------------------------------------------


async def test_who_was_not_dealt_in_waits_for_the_next_hand() -> None:
    """Who sits down in mid-hand is shown as waiting, not as folded; in the next hand they are in it."""
    async with house() as room, room.player("ann", sit=5_000) as ann, room.player("bob", sit=5_000) as bob:
        hand = await room.deal()
        async with room.player("cyd", sit=5_000) as cyd:
            view = await cyd.until(lambda view: view["hand"] == hand and len(view["seats"]) == 3)
            shown = {one["player"]: (one["waiting"], one["folded"]) for one in view["seats"]}
            assert shown == {"ann": (False, False), "bob": (False, False), "cyd": (True, False)}
            await abreast(ann, bob)
            await play([ann, bob], hand, calling)
            second = await room.deal(after=1)
            view = await cyd.until(lambda view: view["hand"] == second)
            assert [one["waiting"] for one in view["seats"]] == [False] * 3


# -- names ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [f"{NAMES[0]}-oak", f"{NAMES[-1]}-", f"{NAMES[1]}-a table of later"])
async def test_a_bots_name_is_reserved(name: str) -> None:
    """Nobody logs in as a bot, at a table that is open or not, though the token is good; nor resumes as one."""
    async with house(settings=None) as room, room.connected(name) as player:
        for op, more in (("login", {}), ("resume", {"after": 0})):
            purpose, session = op, "" if op == "login" else "5e"
            await player.send(op=op, token=room.token(name, purpose=purpose, session=session), **more)
            frame = await player.hear()
            assert (frame["type"], frame["reason"]) == ("refused", "reserved_name")
            assert "is a bot's name" in frame["text"]


@pytest.mark.parametrize("name", ["ada", "adam-oak", "ann-oak", "Ada-oak"])
async def test_other_names_are_free(name: str) -> None:
    """A name that only looks like a bot's is nobody else's."""
    async with house() as room, room.player(name, watch=()) as player:
        assert player.welcome["player"] == name


# -- what was written before ---------------------------------------------------------------------------


def test_records_of_the_first_version_are_read() -> None:
    """A seat and a table's settings as the first version wrote them are what they were, with the defaults."""
    assert Table().upcast("table.seat", 1, ("ann", 500, True)) == Seat("ann", 500, leaving=True)
    assert Lobby().upcast("table.config", 1, ("oak", (50, 100), 3, 0.0, -1.0)) == OAK
    assert Table().upcast("table.seat", 0, ()) is Lobby().upcast("table.config", 9, ()) is NotImplemented
