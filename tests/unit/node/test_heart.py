"""The real heart: beats leave and are heard by its thread, also while the loop is held."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from runtime.errors import BanyanError, Misuse
from supervisors.node.heart import ThreadHeart, beating

LIMIT = 20.0


class Carrier:
    """Notes what the heart does; its events can be waited for by a loop that is held."""

    def __init__(self, beats: int = 3) -> None:
        self.wanted = beats
        self.heard_bytes = b""
        self.why = ""
        self.enough = threading.Event()
        self.ended = threading.Event()

    def beat(self, now: float) -> bytes:
        return b"."

    def heard(self, data: bytes) -> None:
        if b"!" in data:
            raise BanyanError("no beat")
        self.heard_bytes += data
        if len(self.heard_bytes) >= self.wanted:
            self.enough.set()

    def lost(self, why: str) -> None:
        self.why = why
        self.ended.set()


@asynccontextmanager
async def connection() -> AsyncIterator[tuple[trio.SocketStream, trio.SocketStream]]:
    """Both ends of a connection on loopback."""
    near, far = trio.socket.socketpair()
    with near, far:
        yield trio.SocketStream(near), trio.SocketStream(far)


async def test_beats_go_on_while_the_loop_is_held() -> None:
    """Both directions work without the loop, which does nothing but wait for the thread here."""
    async with connection() as (near, far), beating(0.01) as heart:
        one, other = Carrier(), Carrier()
        heart.carry(near, one)
        heart.carry(far, other)
        assert one.enough.wait(LIMIT)
        assert other.enough.wait(LIMIT)
        assert set(one.heard_bytes) == set(b".")


async def test_the_first_beat_leaves_at_once() -> None:
    """A carrier need not wait for the next beat of the others."""
    async with connection() as (near, far), beating(1000.0) as heart:
        heart.carry(near, Carrier())
        with trio.fail_after(LIMIT):
            assert await far.receive_some() == b"."


async def test_an_end_and_nonsense_are_losses() -> None:
    """When the other side ends, or sends what is no beat, the carrier is told and the connection is closed."""
    for last in (b"", b"!"):
        async with connection() as (near, far), beating(1000.0) as heart:
            carrier = Carrier()
            heart.carry(near, carrier)
            if last:
                await far.send_all(last)
            else:
                await far.aclose()
            assert carrier.ended.wait(LIMIT)
            assert carrier.why == "no beat" if last else carrier.why


async def test_a_dropped_carrier_is_not_told() -> None:
    """Dropping ends the connection, and only that; another one goes on."""
    async with connection() as (near, far), connection() as (here, there), beating(0.01) as heart:
        dropped, kept = Carrier(), Carrier(beats=10)
        heart.carry(near, dropped)
        heart.carry(here, kept)
        heart.carry(there, Carrier())
        heart.drop(dropped)
        heart.drop(dropped)
        with trio.fail_after(LIMIT):
            while await far.receive_some():
                pass
        assert kept.enough.wait(LIMIT)
        assert not dropped.ended.is_set()


async def test_a_stopped_heart_closes_what_it_carries() -> None:
    """With the block the thread ends and every connection with it, one that it has not begun with too."""
    async with connection() as (near, far):
        async with beating(0.01) as heart:
            heart.carry(near, Carrier())
        with trio.fail_after(LIMIT):
            while await far.receive_some():
                pass
        assert isinstance(heart, ThreadHeart)
        thread = heart._thread
        assert thread is not None
        thread.join(LIMIT)
        assert not thread.is_alive()


async def test_a_reader_that_does_not_read_costs_its_beats() -> None:
    """Beats that the network does not take are left out, and nobody waits."""
    async with connection() as (near, _far), connection() as (here, there), beating(0.001) as heart:

        class Wordy(Carrier):
            def beat(self, now: float) -> bytes:
                return bytes(1 << 20)

        stuck, kept = Wordy(), Carrier(beats=50)
        heart.carry(near, stuck)
        heart.carry(here, kept)
        heart.carry(there, Carrier())
        assert kept.enough.wait(LIMIT)
        assert stuck.why in ("", "half a beat was taken")


async def test_only_sockets_are_carried() -> None:
    """The real World has no other streams, and says so."""
    async with beating(1.0) as heart:
        with pytest.raises(Misuse, match="socket"):
            heart.carry(trio.testing.memory_stream_pair()[0], Carrier())
