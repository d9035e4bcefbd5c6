"""Connections over real loopback sockets: what is let in, what is refused, what is cut, and who notices."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from websockets.exceptions import ConnectionClosed
from websockets.trio.client import ClientConnection, connect

from runtime import KILL, Pid, cast, exit, sys, whereis
from runtime.edge.client import Keeping
from runtime.edge.websocket import Bounds
from supervisors import which_children
from tests.support import raw_websocket
from tests.support.raw_websocket import RawWebSocket
from tests.unit.edge.toy import CONNECTIONS, DOORKEEPER, SESSIONS, Emit, Toy, gone, toy

WELCOME = {"type": "welcome", "resumed": False, "seq": 0, "name": "ann"}
ABSOLUTE = {"seq": 1, "type": "absolute", "value": 0}
QUICK = Bounds(close_seconds=0.2)


async def say(client: ClientConnection, **frame: Any) -> None:
    await client.send(json.dumps(frame))


async def hear(client: ClientConnection) -> Any:
    return json.loads(await client.recv())


@asynccontextmanager
async def entered(running: Toy, name: str = "ann", after: int | None = None) -> AsyncIterator[ClientConnection]:
    """A client that has entered and read its welcome and first absolute."""
    async with connect(running.url) as client:
        await say(client, op="enter", name=name)
        assert (await hear(client))["type"] == "welcome"
        assert (await hear(client))["type"] == "absolute"
        yield client


@asynccontextmanager
async def raw_entered(running: Toy, name: str = "raw", **options: Any) -> AsyncIterator[RawWebSocket]:
    async with await RawWebSocket.open(running.address, **options) as raw:
        await raw.send({"op": "enter", "name": name})
        assert (await raw.receive_json())["type"] == "welcome"
        assert (await raw.receive_json())["type"] == "absolute"
        yield raw


async def echoes(client: ClientConnection, text: str = "still here") -> None:
    """That a client is served as ever."""
    await say(client, op="say", text=text)
    assert await hear(client) == {"type": "reply", "id": None, "ok": text}


async def farewell(client: ClientConnection) -> tuple[list[Any], int | None, str | None]:
    """What is read up to the end, the close code, and the close reason."""
    found = []
    try:
        while True:
            found.append(await hear(client))
    except ConnectionClosed:
        return found, client.close_code, client.close_reason


# -- let in --------------------------------------------------------------------------------------------


async def test_a_client_enters_and_is_answered() -> None:
    """The first frame opens a session, later ones are answered in order with their ids."""
    async with toy() as running, connect(running.url) as client:
        await say(client, op="enter", name="ann")
        assert [await hear(client), await hear(client)] == [WELCOME, ABSOLUTE]
        await say(client, op="say", text="a", id=7)
        await say(client, op="say", text="b")
        assert [await hear(client), await hear(client)] == [
            {"type": "reply", "id": 7, "ok": "a"},
            {"type": "reply", "id": None, "ok": "b"},
        ]


async def test_pushes_are_numbered() -> None:
    """What a session pushes arrives in order, each frame with the next sequence number."""
    async with toy() as running, entered(running) as client:
        await say(client, op="push", count=3)
        pushed = [frame for frame in [await hear(client) for _ in range(4)] if "seq" in frame]
        assert [(frame["seq"], frame["value"]) for frame in pushed] == [(2, 1), (3, 2), (4, 3)]


async def test_connections_stand_in_the_tree() -> None:
    """Each connection and each session is a process of its own in the gateway's subtree."""
    async with toy() as running, entered(running, "ann"), entered(running, "bob"):
        names = [one.id for one in await which_children(CONNECTIONS)]
        assert names == ["connection/1", "connection/2"]
        assert [one.id for one in await which_children(SESSIONS)] == ["toy/ann", "toy/bob"]
        assert await sys.get_state(DOORKEEPER) == {"connections": 2, "most": 50}


async def test_more_pushes_than_the_window_all_arrive() -> None:
    """A client that reads gets every frame, however many are pushed at once."""
    async with toy(keeping=Keeping(keep=5000, keep_bytes=10**7)) as running, entered(running) as client:
        await say(client, op="push", count=3000, size=100)
        seen: list[int] = []
        while len(seen) < 3000:
            frame = await hear(client)
            if "seq" in frame:
                seen.append(frame["seq"])
        assert seen == list(range(2, 3002))


# -- resuming ------------------------------------------------------------------------------------------


async def test_a_client_that_comes_back_lacks_nothing() -> None:
    """After a reset the session goes on: what was pushed meanwhile follows without a gap."""
    async with toy() as running:
        async with raw_entered(running, "ann") as raw:
            (old,) = await running.connections()
            await raw.reset()
        await gone(old)
        await cast("toy/ann", Emit(2, 0))
        async with connect(running.url) as client:
            await say(client, op="enter", name="ann", after=1, fresh=False)
            told = [await hear(client) for _ in range(3)]
            assert told[0] == {**WELCOME, "resumed": True, "seq": 1}
            assert [(frame["seq"], frame["value"]) for frame in told[1:]] == [(2, 1), (3, 2)]


async def test_a_gap_that_is_too_old_is_closed_by_an_absolute() -> None:
    """Who lacks frames that are no longer kept is shown the present, under the next number."""
    async with toy(keeping=Keeping(keep=4, window=2)) as running:
        async with raw_entered(running, "ann") as raw:
            (old,) = await running.connections()
            await raw.reset()
        await gone(old)
        await cast("toy/ann", Emit(9, 0))
        async with connect(running.url) as client:
            await say(client, op="enter", name="ann", after=1, fresh=False)
            assert [await hear(client), await hear(client)] == [
                {**WELCOME, "seq": 10},
                {"seq": 11, "type": "absolute", "value": 9},
            ]


async def test_a_newer_connection_displaces_the_older() -> None:
    """When a session is taken over, its older connection is cut with a reason."""
    async with toy(QUICK) as running, entered(running) as old, connect(running.url) as new:
        await say(new, op="enter", name="ann", after=1, fresh=False)
        assert (await hear(new))["resumed"]
        told, code, reason = await farewell(old)
        assert [one["reason"] for one in told if one["type"] == "bye"] == ["displaced"]
        assert (code, reason) == (4001, "another connection has taken this session over")
        await echoes(new)


async def test_a_new_login_displaces_the_session() -> None:
    """A fresh login ends the session that there was, and the connection that carried it."""
    async with toy(QUICK) as running, entered(running) as old:
        before = whereis("toy/ann")
        async with entered(running) as new:
            told, code, _ = await farewell(old)
            assert ([one["reason"] for one in told if one["type"] == "bye"], code) == (["displaced"], 4001)
            assert whereis("toy/ann") not in (None, before)
            await echoes(new)


async def test_a_session_ends_when_nobody_comes_back() -> None:
    """A session without a connection ends after its time, and the next one begins anew."""
    async with toy(keeping=Keeping(resume_seconds=0.05)) as running:
        async with entered(running):
            session = whereis("toy/ann")
        assert session is not None
        await gone(session)
        async with connect(running.url) as client:
            await say(client, op="enter", name="ann", after=1, fresh=False)
            assert [await hear(client), await hear(client)] == [WELCOME, ABSOLUTE]


# -- commands that are repeated ------------------------------------------------------------------------


async def test_a_repeated_command_gets_the_same_answer() -> None:
    """The same id is carried out once, also when it is sent again over another connection."""
    async with toy() as running:
        async with entered(running) as client:
            await say(client, op="count", id=1)
            await say(client, op="count", id=1)
            assert [await hear(client), await hear(client)] == [{"type": "reply", "id": 1, "ok": 1}] * 2
        async with connect(running.url) as client:
            await say(client, op="enter", name="ann", after=1, fresh=False)
            assert (await hear(client))["resumed"]
            await say(client, op="count", id=1)
            assert await hear(client) == {"type": "reply", "id": 1, "ok": 1}
        assert running.guest.counted == 1


async def test_an_id_means_one_command() -> None:
    """An id that was another command's, or that is too old, is refused; the connection stays."""
    async with toy(keeping=Keeping(answers=2)) as running, entered(running) as client:
        for number in (2, 3, 4):
            await say(client, op="count", id=number)
            await hear(client)
        await say(client, op="count", id=4, fail=True)
        await say(client, op="count", id=1)
        told = [await hear(client), await hear(client)]
        assert [(one["id"], one["reason"]) for one in told] == [(4, "id_reused"), (1, "old_id")]


async def test_a_command_of_unknown_outcome_may_be_sent_again() -> None:
    """No answer in time is no answer that is kept: a repetition is carried out again."""
    async with toy() as running, entered(running) as client:
        for _ in range(2):
            await say(client, op="count", id=1, fail=True)
            refused = await hear(client)
            assert (refused["id"], refused["reason"]) == (1, "unavailable")
        assert running.guest.counted == 2


# -- refused, and the connection stays -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ("not json", "not_json"),
        ('{"op":"dance"}', "unknown_op"),
        ('{"op":"say"}', "bad_frame"),
        ("", "not_json"),
    ],
)
async def test_nonsense_is_refused_and_the_connection_stays(frame: str, reason: str) -> None:
    """A frame that makes no sense is refused with a word, before and after the login."""
    async with toy() as running, connect(running.url) as client:
        await client.send(frame)
        assert (await hear(client))["reason"] in (reason, "unknown_op")
        await say(client, op="enter", name="ann")
        assert [await hear(client), await hear(client)] == [WELCOME, ABSOLUTE]
        await client.send(frame)
        assert (await hear(client))["reason"] == reason
        await echoes(client)


async def test_a_refused_login_may_be_tried_again() -> None:
    """Who is not let in stays connected and may show something else."""
    async with toy() as running, connect(running.url) as client:
        await say(client, op="enter", name="nobody")
        assert (await hear(client))["reason"] == "unknown"
        await say(client, op="enter", name="ann")
        assert await hear(client) == WELCOME


async def test_an_account_that_asks_too_much_is_refused() -> None:
    """The rate of an account holds over all its connections, and is refused without a strike."""
    keeping = Keeping(rate=0.001, burst=2)
    async with toy(keeping=keeping) as running:
        async with entered(running) as client:
            await echoes(client)
        async with connect(running.url) as client:
            await say(client, op="enter", name="ann", after=1, fresh=False)
            assert (await hear(client))["resumed"]
            await echoes(client)
            for _ in range(20):
                await say(client, op="say", text="more", id=3)
                assert (await hear(client))["reason"] == "rate_limited"


async def test_too_many_connections_of_an_account_are_refused() -> None:
    """An account has so many connections, those included that were displaced and are still there."""
    async with (
        toy(Bounds(close_seconds=10.0), most_each=2) as running,
        raw_entered(running, "ann"),
        raw_entered(running, "ann"),  # displaces the first, which does not answer the close frame
        connect(running.url) as third,
    ):
        await say(third, op="enter", name="ann", after=1, fresh=False)
        assert (await hear(third))["reason"] == "too_many_connections"
        await say(third, op="enter", name="bob")
        assert (await hear(third))["type"] == "welcome"


async def test_too_many_connections_are_turned_away() -> None:
    """Beyond the bound there is an answer in HTTP; when somebody leaves there is room again."""
    async with toy(most=1) as running:
        async with entered(running):
            (old,) = await running.connections()
            with pytest.raises(EOFError, match="503"):
                await RawWebSocket.open(running.address)
        await gone(old)
        async with entered(running, "bob") as client:
            await echoes(client)


async def test_a_foreign_page_may_not_connect() -> None:
    """A browser says which page connects; pages of other origins are refused, those of this machine not."""
    async with toy() as running:
        for origin in (b"https://evil.example", b"http://localhost.evil.example", b"null"):
            with pytest.raises(EOFError, match="403"):
                await RawWebSocket.open(running.address, headers=b"Origin: " + origin + b"\r\n")
        async with await RawWebSocket.open(running.address, headers=b"Origin: http://localhost:8000\r\n"):
            pass


# -- cut -----------------------------------------------------------------------------------------------


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


# -- resets and crashes --------------------------------------------------------------------------------

MOMENTS = {
    "connected": b"",
    "in the request": raw_websocket.HANDSHAKE[:30],
    "after the headers": raw_websocket.HANDSHAKE,
    "nonsense": b"\x16\x03\x01\x02\x00 this is TLS",
}


@pytest.mark.parametrize("sent", MOMENTS.values(), ids=MOMENTS.keys())
async def test_a_reset_before_the_handshake_ends_that_connection_only(sent: bytes) -> None:
    """Whoever resets while the connection opens is gone, and nobody notices."""
    async with toy() as running, entered(running, "bystander") as bystander:
        raw = await RawWebSocket.connect(running.address)
        await raw.stream.send_all(sent)
        await until_connections(running, 2)
        connections = await running.connections()
        await raw.reset()
        for pid in connections[1:]:
            await gone(pid)
        await echoes(bystander)


async def until_connections(running: Toy, count: int) -> None:
    """Wait until so many connections have been accepted: real sockets tell nobody when."""
    with trio.move_on_after(1.0):  # one may have come and gone
        while len(await running.connections()) < count:
            await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("part", [1, 2, 5, 8, 20])
async def test_a_reset_in_the_middle_of_a_frame_ends_that_connection_only(part: int) -> None:
    """Half a frame and a reset: the session waits, the other connections go on."""
    async with toy() as running, entered(running, "bystander") as bystander:
        async with raw_entered(running) as raw:
            _, cut = await running.connections()
            await raw.stream.send_all(raw_websocket.encode(raw_websocket.TEXT, b"x" * 500)[:part])
            await raw.reset()
            await gone(cut)
        assert whereis("toy/raw") is not None
        await echoes(bystander)


async def test_a_reset_while_frames_are_written_ends_that_connection_only() -> None:
    """A peer that vanishes under a stream of pushes is a connection that has ended, nothing more."""
    keeping = Keeping(keep=64, keep_bytes=1 << 27, window=8, patience=5.0)
    async with toy(keeping=keeping) as running, entered(running, "bystander") as bystander:
        async with raw_entered(running, receive_buffer=4096) as raw:
            _, cut = await running.connections()
            await cast("toy/raw", Emit(16, 1 << 20))
            await raw.receive()
            await raw.reset()
            await gone(cut)
        await echoes(bystander)


async def test_a_reset_under_a_command_ends_that_connection_only() -> None:
    """A command whose client has left is not waited for."""
    async with toy() as running, entered(running, "bystander") as bystander:
        async with raw_entered(running) as raw:
            _, cut = await running.connections()
            await raw.send({"op": "wait", "id": 1})
            await running.guest.waiting.wait()
            await raw.reset()
            await gone(cut)
        await echoes(bystander)


async def test_a_crash_in_a_connection_is_its_own(caplog: pytest.LogCaptureFixture) -> None:
    """A defect of the guest ends the connection that met it; the session can be resumed."""
    async with toy(QUICK) as running, entered(running, "bystander") as bystander:
        async with entered(running) as client:
            _, crashed = await running.connections()
            await say(client, op="crash", who="connection")
            await farewell(client)
            await gone(crashed)
        async with connect(running.url) as client:
            await say(client, op="enter", name="ann", after=1, fresh=False)
            assert (await hear(client))["resumed"]
        await echoes(bystander)
    assert "the connection was asked to crash" in caplog.text


async def test_a_crash_in_a_session_ends_its_connection(caplog: pytest.LogCaptureFixture) -> None:
    """A session that crashes is told to its client, who may resume and begins anew."""
    async with toy(QUICK) as running, entered(running, "bystander") as bystander:
        async with entered(running) as client:
            await say(client, op="crash", who="session")
            told, code, _ = await farewell(client)
            assert [one["reason"] for one in told if one["type"] == "bye"] == ["session_lost"]
            assert code == 1012
        async with connect(running.url) as client:
            await say(client, op="enter", name="ann", after=1, fresh=False)
            assert [await hear(client), await hear(client)] == [WELCOME, ABSOLUTE]
        await echoes(bystander)
    assert "the session was asked to crash" in caplog.text


async def test_a_killed_connection_can_be_resumed() -> None:
    """Even KILL takes only the connection: the client comes back to its session."""
    async with toy() as running:
        async with entered(running) as client:
            (pid,) = await running.connections()
            exit(pid, KILL)
            _, code, _ = await farewell(client)
            assert code is None or code == 1006
        async with connect(running.url) as client:
            await say(client, op="enter", name="ann", after=1, fresh=False)
            assert (await hear(client))["resumed"]


async def test_a_killed_acceptor_listens_at_the_same_port_again() -> None:
    """Who has connected stays connected while the acceptor is restarted, and others find it where it was."""
    async with toy() as running, entered(running) as client:
        before = running.address
        acceptor = next(
            one.pid
            for one in await which_children(_supervisor_of(running))
            if one.id == "acceptor" and one.pid is not None
        )
        exit(acceptor, KILL)
        await gone(acceptor)
        await echoes(client)
        assert running.address == before
        async with entered(running, "bob") as other:
            await echoes(other)


def _supervisor_of(running: Toy) -> Pid:
    (found,) = [process.pid for process in running.node.table.processes.values() if process.label == "ToyGateway"]
    return found


async def test_a_gateway_that_stops_says_goodbye() -> None:
    """When the node stops, clients are told, with code 1001."""
    told: list[tuple[list[Any], int | None, str | None]] = []

    async def listen(url: str, ready: trio.Event) -> None:
        async with connect(url) as client:
            await say(client, op="enter", name="ann")
            await hear(client)
            ready.set()
            told.append(await farewell(client))

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery, toy() as running:
            ready = trio.Event()
            nursery.start_soon(listen, running.url, ready)
            await ready.wait()
    ((heard, code, _),) = told
    assert ([one["reason"] for one in heard if one["type"] == "bye"], code) == (["stopping"], 1001)


# -- where it listens ----------------------------------------------------------------------------------


async def test_the_address_is_told_while_it_listens() -> None:
    """The bound address is among the node's services, and no longer when the gateway has stopped."""
    async with toy() as running:
        assert running.address.startswith("127.0.0.1:")
        assert not running.address.endswith(":0")
        table = running.node.table
    assert "gateway" not in table.services


def test_the_log_of_the_library_shows_no_frame() -> None:
    """Even with every log switched on, no frame is printed, for it may hold a token or a card."""
    from runtime.edge.websocket import _logger

    logging.getLogger("banyan.edge").setLevel(logging.DEBUG)
    try:
        assert not _logger.isEnabledFor(logging.DEBUG)
        assert not _logger.isEnabledFor(logging.INFO)
        assert _logger.isEnabledFor(logging.ERROR)
    finally:
        logging.getLogger("banyan.edge").setLevel(logging.NOTSET)
