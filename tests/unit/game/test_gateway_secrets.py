"""What must not be seen: others' cards in frames, and secrets in anything that people see."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from game.gateway import GatewaySettings
from runtime import cast, sys, whereis
from tests.unit.game.players import SECRET, Player, gone, house, play


def secrets_seen(player: Player) -> list[str]:
    """Hole cards of others that the player was sent while their hand was played."""
    holes: dict[int, dict[str, str]] = {}
    for _, view in player.shown:
        result = view["result"]
        if result is not None:
            holes[result["hand"]] = dict(zip(result["players"], result["holes"], strict=True))
    pushed = [text for text in player.frames if '"seq":' in text and '"table":' in text]
    seen = []
    for (_, view), text in zip(player.shown, pushed, strict=True):
        if view["hand"] is None:
            continue
        public = {hole for number, older in holes.items() if number < view["hand"] for hole in older.values()}
        for name, hole in holes.get(view["hand"], {}).items():
            if name != player.name and hole in text and hole not in public:
                seen.append(f"{name}'s {hole} in {text}")
        for seat in view["seats"]:
            if seat["hole"] and seat["player"] != player.name:
                seen.append(f"{seat['player']}'s {seat['hole']} at its seat")
    return seen


async def test_no_frame_shows_anothers_hole_cards() -> None:
    """In all frames of several hands, raises and folds included, nobody is sent a live card of anybody else."""

    def mixed(view: dict[str, Any]) -> dict[str, Any]:
        legal = view["legal"]
        if view["sequence"] % 5 == 0 and legal["min_raise_to"] is not None:
            return {"action": "raise", "to": legal["min_raise_to"]}
        if view["sequence"] % 7 == 0 and legal["may_fold"]:
            return {"action": "fold"}
        return {"action": "call"}

    async with (
        house() as room,
        room.player("ann", sit=50_000) as ann,
        room.player("bob", sit=50_000) as bob,
        room.player("cyd", sit=50_000) as cyd,
        room.player("eve") as eve,
    ):
        for number in range(8):
            await play([ann, bob, cyd], await room.deal(after=number), mixed)
        for player in (ann, bob, cyd, eve):
            await player.until(lambda view: (view["result"] or {}).get("hand") == 8)
            assert secrets_seen(player) == []
        own = [seat["hole"] for _, view in ann.shown for seat in view["seats"] if seat["player"] == "ann"]
        assert any(own), "the player's own cards are shown"
        assert not any(seat["hole"] for _, view in eve.shown if view["hand"] for seat in view["seats"])


def test_the_search_for_secrets_finds_one() -> None:
    """The check above has teeth: a frame with another's cards is found, in its text and in its view."""
    player = Player("ann", None)  # type: ignore[arg-type]  # this player sends nothing
    live = {"hand": 1, "result": None, "seats": [{"player": "bob", "hole": "AcAd"}]}
    ended: dict[str, Any] = {"hand": None, "result": {"hand": 1, "players": ["bob"], "holes": ["AcAd"]}, "seats": []}
    for view in (live, ended):
        player.shown.append(("oak", view))
        player.frames.append('{"seq":1,"table":"oak","hole":"AcAd"}')
    assert len(secrets_seen(player)) == 2


async def test_nothing_that_people_see_shows_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    """Neither settings nor logs, at any level, nor what a session shows of itself names key, token or card."""
    # The library's client in this test is not the gateway's: what it logs is its own affair.
    caplog.set_level(logging.DEBUG, "banyan")
    settings = GatewaySettings(secret=SECRET)
    async with house(settings) as room, room.player("ann", sit=5_000) as ann, room.player("bob", sit=5_000) as bob:
        login = room.token("eve")
        async with room.connected("eve") as eve:
            await eve.send(op="login", token=login)
            await eve.hear()
        hand = await room.deal()
        await ann.until(lambda view: view["hand"] == hand)
        await bob.until(lambda view: view["hand"] == hand)
        session = whereis("player/ann")
        assert session is not None
        state = repr(await sys.get_state(session)) + str(room.node.tree())
        await cast(session, "what no session knows")
        await gone(session)
        told = caplog.text + repr(settings) + state
        cards = [seat["hole"] for player in (ann, bob) for seat in [player.seat()] if seat]
        assert len([card for card in cards if card]) == 2
        for secret in (login, ann.welcome["resume"], SECRET.hex(), repr(SECRET), *cards):
            assert secret not in told
        assert "what no session knows" in told
