"""What is cut: floods, silence, nonsense, what is too large, and whoever does not read."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from websockets.trio.client import connect

from runtime import cast, sys
from runtime.edge.client import Keeping
from runtime.edge.websocket import Bounds
from tests.support import raw_websocket
from tests.support.raw_websocket import RawWebSocket
from tests.unit.edge.toy import DOORKEEPER, Emit, gone, toy

from .clients import QUICK, echoes, entered, farewell, raw_entered, say


@asynccontextmanager
async def cutting(bounds: Bounds, reason: str, code: int, **options: Any) -> AsyncIterator[RawWebSocket]:
    """A raw client that is cut while a bystander is served as ever."""
    async with toy(bounds, **options) as running, entered(running, "bystander") as bystander:
        async with raw_entered(running) as raw:
            _, cut = await running.connections()
            yield raw
            frames = await raw.rest()
            told = [one.json for one in frames if one.opcode == raw_websocket.TEXT]
            assert [one["reason"] for one in told if one["type"] == "bye"] == [reason]
            assert frames[-1].closing[0] == code
            await gone(cut)
        await echoes(bystander)
        assert await sys.get_state(DOORKEEPER) == {"connections": 1, "most": 50}


async def test_too_much_nonsense_is_cut() -> None:
    """Who sends one bad frame after the other is cut when their strikes are used up."""
    async with cutting(Bounds(strikes=3, strikes_rate=0.001, close_seconds=0.2), "nonsense", 1008) as raw:
        for _ in range(4):
            await raw.send("nonsense")


async def test_too_many_bad_logins_are_cut() -> None:
    """Guessing has few tries."""
    bounds = Bounds(strikes=3, strikes_rate=0.001, close_seconds=0.2)
    async with toy(bounds) as running, connect(running.url) as client:
        for _ in range(4):
            await say(client, op="enter", name="nobody")
        told, code, _ = await farewell(client)
        assert [one["reason"] for one in told] == ["unknown", "unknown", "unknown", "nonsense"]
        assert code == 1008


async def test_a_binary_frame_is_cut() -> None:
    """Frames are text; whoever sends bytes speaks another protocol."""
    async with cutting(QUICK, "binary", 1003) as raw:
        await raw.send(b"\x00\x01", raw_websocket.BINARY)


async def test_a_flood_is_cut() -> None:
    """Who sends frames faster than allowed, and does not stop, is cut."""
    bounds = Bounds(rate=0.001, burst=20, strikes=3, strikes_rate=0.001, close_seconds=0.2)
    async with cutting(bounds, "flood", 1008) as raw:
        for _ in range(25):
            await raw.send({"op": "say", "text": "x"})


async def test_a_flood_of_pings_is_cut() -> None:
    """Pings are answered, but only so many."""
    async with cutting(Bounds(rate=0.001, burst=20, close_seconds=0.2), "flood", 1008) as raw:
        for _ in range(25):
            await raw.send(b"", raw_websocket.PING)


async def test_a_silent_client_is_cut() -> None:
    """Who answers no ping in time is taken to be gone."""
    async with cutting(Bounds(ping_seconds=0.05, pong_seconds=0.2, close_seconds=0.2), "silent", 1008):
        pass


async def test_a_client_that_waits_for_us_is_not_silent() -> None:
    """While its command is carried out nothing of a client is read, so no pong of it is missed."""
    bounds = Bounds(ping_seconds=0.02, pong_seconds=0.02, close_seconds=0.2)
    async with toy(bounds) as running, await RawWebSocket.open(running.address) as raw:
        await raw.stream.send_all(
            raw_websocket.encode(raw_websocket.TEXT, b'{"op":"enter","name":"ann"}')
            + raw_websocket.encode(raw_websocket.TEXT, b'{"op":"wait","id":1}')
        )
        await running.guest.waiting.wait()
        pings = 0
        while pings < 4:
            pings += (await raw.receive()).opcode == raw_websocket.PING
        running.guest.enough.set()
        assert await raw.receive_json() == {"type": "reply", "id": 1, "ok": "enough"}


async def test_who_does_not_log_in_is_cut() -> None:
    """A connection without a login is ended after its time, also one that is kept busy with nonsense."""
    bounds = Bounds(login_seconds=0.1, close_seconds=0.2)
    async with toy(bounds) as running, connect(running.url) as client:
        told, code, _ = await farewell(client)
        assert ([one["reason"] for one in told], code) == (["no_login"], 1008)


async def test_an_oversize_frame_is_cut() -> None:
    """A frame over the limit ends the connection with code 1009, by its head alone."""
    bounds = Bounds(max_frame=1000, close_seconds=0.2)
    async with toy(bounds) as running, entered(running, "bystander") as bystander:
        async with raw_entered(running) as raw:
            await raw.stream.send_all(raw_websocket.encode(raw_websocket.TEXT, b"x" * 70_000)[:200])
            frames = await raw.rest()
            assert frames[-1].closing[0] == 1009
        await echoes(bystander)


async def test_a_frame_of_many_parts_is_bounded_too() -> None:
    """Parts of a message count together."""
    async with toy(Bounds(max_frame=1000, close_seconds=0.2)) as running, raw_entered(running) as raw:
        await raw.stream.send_all(raw_websocket.encode(raw_websocket.TEXT, b"x" * 900, fin=False))
        await raw.stream.send_all(raw_websocket.encode(raw_websocket.CONT, b"x" * 900, fin=False))
        assert (await raw.rest())[-1].closing[0] == 1009


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (raw_websocket.encode(raw_websocket.TEXT, b"x", masked=False), 1002),
        (raw_websocket.encode(3, b"x"), 1002),
        (raw_websocket.encode(raw_websocket.CONT, b"x"), 1002),
        (raw_websocket.encode(raw_websocket.TEXT, b"\xff\xfe"), 1007),
        (raw_websocket.encode(raw_websocket.PING, b"x" * 200), 1002),
    ],
    ids=["unmasked", "opcode", "continuation", "utf-8", "long ping"],
)
async def test_what_is_no_websocket_is_cut(data: bytes, code: int) -> None:
    """Bytes against the protocol end their connection with the protocol's own code."""
    async with toy(QUICK) as running, entered(running, "bystander") as bystander:
        async with raw_entered(running) as raw:
            await raw.stream.send_all(data)
            assert (await raw.rest())[-1].closing[0] == code
        await echoes(bystander)


async def test_a_client_that_does_not_read_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    """Who stops reading is cut as slow, costs no more than the bounds, and holds up nobody."""
    caplog.set_level(logging.INFO, "banyan")
    keeping = Keeping(keep=8, keep_bytes=1 << 26, window=4, patience=0.1)
    async with (
        toy(QUICK, keeping) as running,
        entered(running, "bystander") as bystander,
        raw_entered(running, receive_buffer=4096) as raw,
    ):
        _, slow = await running.connections()
        # A megabyte each: more than the kernel takes for a client that reads nothing.
        await cast("toy/raw", Emit(16, 1 << 20))
        await echoes(bystander, "while it is stuck")
        await gone(slow)
        await echoes(bystander, "afterwards")
        assert "of raw has ended: slow" in caplog.text
        # It could not be told: the close frame found no room.
        assert [one for one in await raw.rest() if one.opcode == raw_websocket.CLOSE] == []


async def test_a_slow_client_that_reads_on_is_told() -> None:
    """A client that was too slow and then reads on finds out why it is cut."""
    keeping = Keeping(keep=8, keep_bytes=1 << 26, window=4, patience=0.1)
    async with (
        toy(Bounds(close_seconds=10.0), keeping) as running,
        raw_entered(running, receive_buffer=4096) as raw,
    ):
        await cast("toy/raw", Emit(16, 1 << 20))
        while (await sys.get_state("toy/raw"))["connection"] is not None:  # type: ignore[index]  # its state is a dict
            await trio.lowlevel.checkpoint()
        frames = await raw.rest_until_close()
        assert frames[-1].closing == (1008, "frames were not read in time: connect again and resume")
        assert frames[-2].json["reason"] == "slow"


async def test_replies_nobody_reads_are_bounded() -> None:
    """Who asks and asks and reads no answer is asked to read: no more is taken, and then they are cut."""
    bounds = Bounds(rate=1e9, burst=1e9, pong_seconds=0.2, close_seconds=0.2, queue=6)
    keeping = Keeping(rate=1e9, burst=1e9, window=2)
    async with toy(bounds, keeping) as running, raw_entered(running, receive_buffer=4096) as raw:
        (cut,) = await running.connections()
        text = "x" * 60_000
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                try:
                    while True:
                        await raw.send({"op": "say", "text": text})
                except trio.BrokenResourceError:
                    pass  # it was cut

            nursery.start_soon(ask)
            await gone(cut)
            nursery.cancel_scope.cancel()
