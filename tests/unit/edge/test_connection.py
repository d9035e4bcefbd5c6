"""Connections over real loopback sockets: what is let in, what is refused, what is cut, and who notices."""

from __future__ import annotations

import logging

import pytest
from websockets.trio.client import connect

from runtime import cast, sys, whereis
from runtime.edge.client import Keeping
from runtime.edge.websocket import Bounds
from supervisors import which_children
from tests.support.raw_websocket import RawWebSocket
from tests.unit.edge.toy import CONNECTIONS, DOORKEEPER, SESSIONS, Emit, gone, toy

from .clients import ABSOLUTE, QUICK, WELCOME, echoes, entered, farewell, hear, raw_entered, say

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
