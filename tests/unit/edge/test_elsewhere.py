"""A session that goes on at another node: its client is told where, and only a client that is there."""

from __future__ import annotations

from runtime import Down, call, monitor, receive, whereis
from runtime.edge import frames
from runtime.edge.client import MOVED, GoElsewhere, Keeping
from tests.support.processes import inside
from tests.unit.edge.clients import QUICK, entered, farewell
from tests.unit.edge.toy import toy

THERE = GoElsewhere("127.0.0.1:4001", "v1.s3cret.mac")


async def test_a_client_is_told_where_its_session_goes_on() -> None:
    """The bye has the address and the token; the session ends in order, and another one may begin here."""

    async def send_away() -> object:
        session = whereis("toy/ann")
        assert session is not None
        ref = monitor(session)
        assert await call(session, THERE)
        down = await receive(lambda message: isinstance(message, Down) and message.ref is ref)
        assert isinstance(down, Down)
        return down.reason

    async with toy(QUICK) as running, entered(running) as client:
        assert await inside(send_away) == MOVED
        bye = {
            "type": "bye",
            "reason": "draining",
            "text": frames.DRAINING.text,
            "gateway": "127.0.0.1:4001",
            "resume": "v1.s3cret.mac",
        }
        assert await farewell(client) == ([bye], 1012, frames.DRAINING.text)
        async with entered(running):
            assert whereis("toy/ann") is not None


async def test_nobody_is_told_without_a_client() -> None:
    """Its client comes back to here, so the session stays."""
    async with toy(QUICK, Keeping(resume_seconds=30.0)) as running:
        async with entered(running):
            session = whereis("toy/ann")
        assert session is not None
        while await running.connections():
            pass
        assert await call(session, THERE) is False
        assert whereis("toy/ann") == session


def test_the_token_is_not_shown() -> None:
    """Neither by what is asked of the session, nor by the cause of the connection's end."""
    assert "s3cret" not in repr(THERE)
    cause = frames.draining(THERE.gateway, THERE.resume)
    assert "s3cret" not in repr(cause)
    assert hash(cause) == hash(frames.DRAINING)
