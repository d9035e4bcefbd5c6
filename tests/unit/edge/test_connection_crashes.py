"""Resets, crashes and kills: each ends its own connection only, and who was cut off can go on."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from websockets.trio.client import connect

from runtime import KILL, Pid, cast, exit, whereis
from runtime.edge.client import Keeping
from supervisors import which_children
from tests.support import raw_websocket
from tests.support.raw_websocket import RawWebSocket
from tests.unit.edge.toy import Emit, Toy, gone, toy

from .clients import ABSOLUTE, QUICK, WELCOME, echoes, entered, farewell, hear, raw_entered, say

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
