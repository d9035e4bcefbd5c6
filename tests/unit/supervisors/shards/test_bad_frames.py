"""Tokens that are none: forged, replayed, of an older move, or for other records than came. Nobody is served twice."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from runtime.behaviours.gen_server import cast
from runtime.kernel.elsewhere import at
from supervisors.shards import mover_target
from supervisors.shards.handoff_frames import Frame, Token
from supervisors.shards.mover_frames import Told
from supervisors.shards.orders import MOVER
from supervisors.shards.speaker import Speaker
from tests.unit.node.test_steering import TILLS, Room, in_room, seen_through


async def say(room: Room, node: str, to: str, token: Token) -> None:
    """Have a node's mover be told something, as if by another node's."""

    async def send() -> None:
        await cast(at(MOVER, to), Told(node, token))

    await room.machines.at(node, send)
    await trio.sleep(1)  # virtual


def epochs(room: Room) -> dict[str, dict[int, int]]:
    """Under which epochs the nodes serve which shards."""
    found = {}
    for name, node in room.machines.nodes.items():
        membership: Any = node.table.services["membership"]
        found[name] = {shard: membership.serves(shard) for shard in room.owned(name)}
    return found


def test_a_token_of_no_move_gives_nothing() -> None:
    """A forged one is counted as strange and answered with a no; all is served where it was."""

    async def scenario(room: Room) -> None:
        await room.open("a", "b")
        await room.pay("a")
        before = epochs(room)
        await say(room, "a", "b", Token("0-a.1.1-00000000", 1, (), b"\x00" * 32, ()))
        assert epochs(room) == before
        assert room.machines.nodes["b"].table.counts.refused["move", "unknown"] == 1
        assert await room.pay("b") == dict.fromkeys(TILLS, 2)

    in_room(scenario)


def test_a_token_of_a_third_node_is_no_token() -> None:
    """Whoever has nothing to do with a move is not listened to, also if he knows its name."""

    async def scenario(room: Room) -> None:
        await room.open("a", "b", "c")
        await room.pay("a")
        shard = room.owned("a")[0]
        before = epochs(room)
        begun = await room.steer("a", lambda at: at.move(shard, "b"))
        for pair in (("a", "b"), ("b", "a")):
            room.machines.network.cut(*pair)
        await say(room, "c", "b", Token(begun["move"], 1, (), b"\x00" * 32, ()))
        refused = room.machines.nodes["b"].table.counts.refused
        assert refused["move", "stranger"] + refused["move", "unknown"] == 1
        assert epochs(room) == before
        room.machines.network.heal()
        await room.machines.until(lambda: shard in room.owned("b"))
        assert await room.pay("c") == dict.fromkeys(TILLS, 2)

    in_room(scenario)


def test_a_token_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replayed when its shard has gone back, and while that moves anew: it stays with the later owner, whole."""
    said: list[Token] = []
    say_it = Speaker.say

    def heard(speaker: Speaker, node: str, frame: Frame) -> None:
        said.extend([frame] if isinstance(frame, Token) else [])
        say_it(speaker, node, frame)

    monkeypatch.setattr(Speaker, "say", heard)

    async def scenario(room: Room) -> None:
        await room.open("a", "b")
        await room.pay("a")
        shard = room.owned("a")[0]
        there = await seen_through(room, shard, "b")
        (token,) = said
        assert token.move == there["id"]
        await room.machines.until(lambda: shard in room.owned("b"))
        await say(room, "a", "b", token)
        await room.steer("b", lambda at: at.move(shard, "a"))
        await room.machines.until(lambda: shard in room.owned("a"))
        assert await room.pay("a") == dict.fromkeys(TILLS, 2)
        before = epochs(room)
        await say(room, "a", "b", token)
        assert epochs(room) == before
        begun = await room.steer("a", lambda at: at.move(shard, "b"))
        await say(room, "a", "b", token)
        await room.machines.until(lambda: shard in room.owned("b"))
        assert begun["move"] != there["id"]
        assert await room.pay("a") == dict.fromkeys(TILLS, 3)

    in_room(scenario)


def test_a_digest_that_differs_takes_the_shard_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The target does not take what is not what was sent; the source serves it again, under a higher epoch."""
    monkeypatch.setattr(mover_target, "chained", lambda digest, relaxed, data: b"other")

    async def scenario(room: Room) -> None:
        await room.open("a", "b")
        await room.pay("a")
        shard = room.owned("a")[0]
        before = epochs(room)["a"][shard]
        told = await seen_through(room, shard, "b")
        assert told["phase"] == "void"
        assert told["why"] == "the digest of what came is another than that of what was sent"
        assert epochs(room)["a"][shard] > before
        assert shard not in room.owned("b")
        assert await room.pay("b") == dict.fromkeys(TILLS, 2)
        assert await room.pay("a") == dict.fromkeys(TILLS, 3)

    in_room(scenario)
