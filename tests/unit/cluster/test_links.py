"""Links over real sockets: who is linked with whom, what ends a link, and that no other link notices."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from runtime.cluster import links as links_module
from runtime.cluster import wire
from runtime.cluster.link import CLOSES, Limits, Link
from runtime.cluster.links import Links, LinkSettings
from runtime.cluster.tls import Clear
from runtime.cluster.wire import Frame, Kind
from runtime.errors import Misuse
from supervisors.node.boot import RealWorld
from tests.support.source import ROOT

from .linking import LIMIT, Place, Recorder, identity, message, pair, place, send


@pytest.fixture(params=["clear", "tls"])
def security(request: pytest.FixtureRequest, keys: Any) -> Any:
    """Both kinds of link: clear text on loopback, and TLS."""
    return keys if request.param == "tls" else lambda name: Clear()


async def test_frames_arrive_in_order(security: Any) -> None:
    """What is pushed comes out at the other side, in order and once, however it was cut on its way."""
    async with pair(security) as (a, b, near, far):
        for number in range(2000):
            send(near, bytes(number), number)
            send(far, b"", number)
        await b.above.until(lambda: len(b.above.frames) == 2000)
        await a.above.until(lambda: len(a.above.frames) == 2000)
        assert [(frame.number, len(frame.payload)) for frame in b.above.frames] == [(n, n) for n in range(2000)]
        assert [frame.number for frame in a.above.frames] == list(range(2000))
        assert near.counters.pieces_out < 20, "what gathers leaves in one piece"


async def test_a_large_frame_arrives_whole(security: Any) -> None:
    """A payload of the largest size takes many records and many pieces, and is one frame."""
    async with pair(security) as (_, b, near, _far):
        payload = random.Random(1).randbytes(wire.NODE_CAP)
        send(near, payload)
        await b.above.until(lambda: b.above.frames)
        assert b.above.frames == [Frame(Kind.SEND, 1, 0, payload)]


async def test_answers_leave_before_the_next_piece_is_read(security: Any) -> None:
    """All answers to one piece leave in one piece, without a turn of the writer."""
    async with pair(security) as (a, b, near, far):
        b.above.answer = lambda link, frame: link.push(message(b"", frame.number, Kind.REPLY)) is None
        near.push(b"".join(message(b"", number, Kind.CALL) for number in range(100)))
        await a.above.until(lambda: len(a.above.frames) == 100)
        assert [frame.number for frame in a.above.frames] == list(range(100))
        assert far.counters.pieces_out <= far.counters.pieces_in


async def test_a_link_tells_why_it_is_closed(security: Any) -> None:
    """Closing writes what the outbox holds and a word; the other side has both."""
    async with pair(security) as (a, b, near, far):
        send(near, b"last")
        near.close("disconnected")
        await b.above.told_of("down", "a", "closed")
        assert [frame.payload for frame in b.above.frames] == [b"last"]
        assert far.detail == "node 'a' says 'disconnected: somebody here closed it'"
        await a.above.told_of("down", "b", "disconnected")
        near.push(b"nothing comes of this")


async def test_a_link_that_breaks_breaks_alone() -> None:
    """A reset ends one link; one with a third node carries on, and the two can be linked again."""
    async with three({}) as (a, b, c):
        to_b, to_c = await a.linked_with("b"), await a.linked_with("c")
        await b.above.told_of("up", "a")
        stream = to_b._pipe.stream
        assert isinstance(stream, trio.SocketStream)
        stream.setsockopt(1, 13, b"\x01\x00\x00\x00\x00\x00\x00\x00")  # SO_LINGER of 0 seconds: a close is a reset
        await trio.aclose_forcefully(stream)
        await a.above.until(lambda: any(told[:2] == ("down", "b") for told in a.above.told))
        await b.above.until(lambda: any(told[:2] == ("down", "a") for told in b.above.told))
        send(to_c, b"x")
        await c.above.until(lambda: c.above.frames)
        assert await a.linked_with("b") is not to_b
        assert a.links.link("c") is to_c


@asynccontextmanager
async def three(addresses: dict[str, str]) -> AsyncIterator[tuple[Place, Place, Place]]:
    """Three nodes that know one another's addresses, not linked."""
    async with (
        place("a", addresses=addresses) as a,
        place("b", addresses=addresses) as b,
        place("c", addresses=addresses) as c,
    ):
        yield a, b, c


# -- wanting -------------------------------------------------------------------------------------------


async def test_a_node_of_no_known_address_is_not_wanted() -> None:
    """Nothing follows where nobody knows the address, for the node itself, and while links do not run."""
    async with place("a", addresses={"a": "127.0.0.1:1"}) as a:
        assert [a.links.want("b"), a.links.want("a")] == [False, False]
    links = Links(RealWorld(), identity("a"), LinkSettings(), {"b": "127.0.0.1:1"}.get)
    assert links.want("b") is False
    with pytest.raises(Misuse, match="above"):
        await links.run()


async def test_a_node_that_does_not_listen_is_down() -> None:
    """Whoever wants a node that cannot be reached is told, each time; nothing is dialled unasked."""
    async with place("b", addresses=(addresses := {})):
        pass
    async with place("a", addresses=addresses) as a:
        for times in (1, 2):
            assert a.links.want("b")
            await a.above.until(lambda times=times: a.above.told == [("down", "b", None)] * times)


async def test_a_wanted_node_is_dialled_once_at_a_time() -> None:
    """Wanting it while it is dialled, or linked, starts nothing more."""
    async with pair() as (a, b, near, _):
        assert [a.links.want("b"), a.links.want("b")] == [True, True]
        assert await a.linked_with("b") is near
        assert b.above.told == [("up", "a")]


async def test_a_kept_node_is_linked_again() -> None:
    """What is kept is dialled again whenever its link ends, until it is forgotten."""
    async with pair() as (a, b, near, _):
        assert a.links.keep("b")
        near.close()
        await a.above.until(lambda: [told[0] for told in a.above.told] == ["up", "down", "up"])
        a.links.forget("b")
        found = a.links.link("b")
        assert found is not None
        found.close()
        await a.above.until(lambda: len(a.above.told) == 4)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert a.links.link("b") is None
        assert b.links.link("a") is None


async def test_a_kept_node_is_linked_when_it_comes() -> None:
    """A node that listens later is linked then; until it does, each failure is told."""
    async with place("b", addresses=(addresses := {})) as b:
        address = b.links.address
    async with place("a", addresses=addresses) as a:
        a.links.keep("b")
        await a.above.told_of("down", "b", None)
        async with place("b", addresses=addresses, listen=address) as b:
            await a.above.told_of("up", "b")
            await b.above.told_of("up", "a")


@pytest.mark.parametrize("seed", range(5))
async def test_two_that_want_each_other_have_one_link(seed: int, security: Any) -> None:
    """Both dial at once: one connection is left, the same for both, and each was told of one link."""
    addresses: dict[str, str] = {}
    a_keys, b_keys = security("a"), security("b")
    async with (
        place("a", addresses=addresses, security=a_keys) as a,
        place("b", addresses=addresses, security=b_keys) as b,
    ):
        order = [(a, "b"), (b, "a")] if seed % 2 else [(b, "a"), (a, "b")]
        for one, other in order:
            assert one.links.want(other)
        await a.above.told_of("up", "b")
        await b.above.told_of("up", "a")
        near, far = a.links.link("b"), b.links.link("a")
        assert near is not None
        assert far is not None
        send(near, b"to b")
        send(far, b"to a")
        await b.above.until(lambda: b.above.frames)
        await a.above.until(lambda: a.above.frames)
        assert near.dialled is not far.dialled
        assert (a.above.told, b.above.told) == ([("up", "b")], [("up", "a")])


async def test_a_later_life_replaces_the_link() -> None:
    """A restarted node is linked anew while its old link still stands: the old one is down first."""
    async with (
        pair() as (a, b, _near, _far),
        place(identity("a", 2, 5), addresses={"b": b.links.address}) as later,
    ):
        await later.linked_with("b")
        await b.above.until(lambda: len(b.above.told) == 3)
        assert b.above.told == [("up", "a"), ("down", "a", "replaced"), ("up", "a")]
        link = b.links.link("a")
        assert link is not None
        assert link.creation == 2
        await a.above.told_of("down", "b", "closed")
        assert a.links.want("b")
        await a.above.told_of("down", "b", None)
        assert b.links.refused == {"older_creation": 1}


async def test_an_address_that_needs_keys_is_not_dialled(caplog: pytest.LogCaptureFixture) -> None:
    """A node in clear text does not dial another machine: it says how keys are made, once."""
    async with place("a", addresses={"far": "192.0.2.1:4370"}) as a:
        for times in (1, 2):
            assert a.links.want("far")
            await a.above.until(lambda times=times: a.above.told == [("down", "far", None)] * times)
    assert ["banyan certs" in record.getMessage() for record in caplog.records if "address" in record.getMessage()] == [
        True
    ]


@given(st.integers(1, 100), st.integers(0, 1000))
def test_waits_are_bounded_and_differ(failures: int, seed: int) -> None:
    """Between two attempts lie 50 ms at least and 5 seconds at most, and not the same for two nodes."""
    links = Links(RealWorld(), identity("a"), LinkSettings(), {}.get)
    links.world.random = random.Random(seed)
    waits = {links._wait(failures) for _ in range(5)}
    assert len(waits) == 5
    assert all(links_module.FIRST_WAIT / 2 <= wait <= links_module.LONGEST_WAIT for wait in waits)


# -- room ----------------------------------------------------------------------------------------------


async def flooded(place: Place, link: Link, size: int) -> int:
    """Push messages until there is no room; how many."""
    count = 0
    while link.room:
        send(link, bytes(size))
        count += 1
    return count


async def test_credit_that_is_kept_takes_the_room(security: Any) -> None:
    """Messages that are not let go hold their sender back; letting them go makes room, and tells so once."""
    limits = Limits(frame=1 << 16, window=1 << 17)
    async with pair(security, limits=limits) as (a, b, near, far):
        b.above.answer = lambda link, frame: frame.kind != Kind.SEND
        sent = await flooded(a, near, 1000)
        assert sent == limits.window // 1021 + 1
        await b.above.until(lambda: len(b.above.frames) == sent)
        assert near.room is False
        near.push(message(b"", 1, Kind.REPLY))
        await b.above.until(lambda: len(b.above.frames) == sent + 1)  # what needs no credit goes on
        far.release(1021 * sent)
        await a.above.told_of("room", "b")
        assert near.room is True
        assert a.above.told == [("up", "b"), ("room", "b")]
        assert near.counters.stops == 1


async def test_an_outbox_over_its_bound_takes_the_room() -> None:
    """Bytes that the network has not taken count, whether they need credit or not, until half of them are gone."""
    async with pair(limits=Limits(outbox=1000)) as (a, b, near, _):
        near.push(message(bytes(2000), 0, Kind.REPLY))
        assert near.room is False
        await a.above.told_of("room", "b")
        assert near.room is True
        await b.above.until(lambda: b.above.frames)


async def test_an_outbox_without_end_ends_the_link() -> None:
    """A node that does not read costs a bounded amount of memory, and then its link."""
    async with pair(limits=Limits(outbox_most=100_000)) as (a, _b, near, _):
        for _ in range(20_000):  # more than the network takes
            near.push(message(bytes(2000), 0, Kind.REPLY))
        await a.above.told_of("down", "b", "slow")
        assert near.counters.outbox_most <= 102_100


@pytest.mark.parametrize("size", [1, 21, 1000, 60_000])
async def test_credit_never_runs_dry(size: int, security: Any) -> None:
    """However large messages are, a reader that lets go keeps its writer going, for many windows."""
    limits = Limits(frame=1 << 16, window=1 << 17)
    total = 8 * limits.window // size if size > 500 else 3000
    async with pair(security, limits=limits) as (a, b, near, _):
        with trio.fail_after(LIMIT):
            for _ in range(total):
                while not near.room:
                    before = len(a.above.told)
                    await a.above.until(lambda before=before: near.room or len(a.above.told) > before)
                send(near, bytes(size))
        await b.above.until(lambda: len(b.above.frames) == total)


async def test_room_comes_again_when_those_who_waited_use_it_up(security: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is pushed when room is told of may take it all again, also by what one turn may write; it comes back."""
    monkeypatch.setattr("runtime.cluster.link._EARLY_MOST", 8192)  # less than the network takes at once
    total = 200
    async with pair(security) as (a, b, near, _):
        sent = 0

        def more(link: Link) -> None:
            nonlocal sent
            while link.room and sent < total:
                send(link, bytes(5000))
                sent += 1

        a.above.room = more  # type: ignore[method-assign]  # this test's own answer
        more(near)
        await b.above.until(lambda: len(b.above.frames) == total)


def test_every_close_has_a_sentence() -> None:
    """Each word with which a link ends in the code has its sentence."""
    code = "".join((ROOT / f"runtime/cluster/{name}.py").read_text() for name in ("link", "links"))
    assert set(re.findall(r'close\("(\w+)"', code)) | {"disconnected"} == set(CLOSES)


async def test_a_listener_that_gives_up_is_asked_again_after_a_pause(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Where no connections come any more by the listener's own doing, the loop is left to the others; it is told."""
    asked: list[float] = []

    class GivesUp:
        address = "127.0.0.1:1"

        async def connections(self) -> AsyncIterator[trio.abc.Stream]:
            asked.append(trio.current_time())
            assert len(asked) < 20, "asked without a pause"
            for stream in ():
                yield stream

        async def aclose(self) -> None:
            pass

    links = Links(RealWorld(), identity("a"), LinkSettings(listen=None, security=Clear()), {}.get)
    async with trio.open_nursery() as nursery:
        with trio.move_on_after(2.5 * links_module.LONGEST_WAIT):
            await links._accept(GivesUp(), nursery)
    assert [later - sooner for sooner, later in itertools.pairwise(asked)] == [links_module.LONGEST_WAIT] * 2
    assert any("is not told of connections" in record.getMessage() for record in caplog.records)


async def test_who_wants_a_link_while_all_links_end_is_told_that_there_is_none() -> None:
    """In no step of their end does a wish raise at whoever has it, who only wanted to send something."""
    links = Links(RealWorld(), identity("a"), LinkSettings(security=Clear()), lambda node: "127.0.0.1:1")
    links.above = Recorder()
    over = trio.Event()
    answers: list[bool] = []

    async def wish() -> None:
        while not over.is_set():
            answers.append(links.want(f"b{len(answers)}"))
            await trio.lowlevel.checkpoint()

    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            async with links.running():
                nursery.start_soon(wish)
                while len(answers) < 3:
                    await trio.lowlevel.checkpoint()
            over.set()
    assert answers[:3] == [True] * 3
    assert not answers[-1]
