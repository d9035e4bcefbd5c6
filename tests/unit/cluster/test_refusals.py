"""Who knocks at a node's door and is not let in: refused within few bytes, counted, logged once; no link notices.

Each test first links two nodes and afterwards has them exchange a message over the same link: what was refused
beside it has not touched it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from runtime.cluster import greeting, wire
from runtime.cluster import links as links_module
from runtime.cluster.handshake import Hello, Identity
from runtime.cluster.link import Limits, Link
from runtime.cluster.pipe import FIRST_PIECE, Pipe
from runtime.cluster.tls import Cipher, Clear, Keys
from runtime.cluster.wire import Frame, Kind
from runtime.codec.cbor import DecodeError, decode, encode
from supervisors.node.boot import SocketTransport

from .linking import LIMIT, Place, identity, message, pair, place, send


@asynccontextmanager
async def besieged(security: Any = None, **settings: Any) -> AsyncIterator[Place]:
    """Node b, linked with a; at the end their link is the one from the beginning, and carries a message."""
    async with pair(security, **settings) as (a, b, near, far):
        yield b
        before = len(b.above.frames)
        send(near, b"still here", 7)
        await b.above.until(lambda: len(b.above.frames) > before)
        assert (b.above.frames[-1].payload, a.links.link("b"), b.links.link("a")) == (b"still here", near, far)
        assert [told[0] for told in b.above.told] == ["up"]


async def knock(b: Place) -> trio.abc.Stream:
    """A connection to b that has said nothing."""
    return await SocketTransport().connect(b.links.address)


async def ended(stream: trio.abc.Stream) -> bytes:
    """All that comes until the other side ends the connection."""
    data = b""
    with trio.fail_after(LIMIT):
        try:
            while part := await stream.receive_some(65536):
                data += part
        except trio.BrokenResourceError:
            pass  # it was ended over bytes that nobody read
    await stream.aclose()
    return data


async def refused(b: Place, word: str, times: int = 1) -> None:
    """Wait until b has refused for that word, so often."""
    with trio.fail_after(LIMIT):
        while b.links.refused[word] < times:
            await trio.lowlevel.checkpoint()
    assert dict(b.links.refused) == {word: times}


def lines(caplog: pytest.LogCaptureFixture, word: str) -> int:
    """How many lines of the log tell of a refusal for that word."""
    return sum(f"({word})" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00" + bytes(60), b"\xff" * 100_000]
)
async def test_plain_bytes_are_no_hello(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Bytes that are no handshake end the connection at once; told once, however often it happens."""
    async with besieged() as b:
        for times in (1, 2, 3):
            stream = await knock(b)
            try:
                await stream.send_all(data)
            except trio.BrokenResourceError:
                pass  # it was ended before all was sent
            await ended(stream)
            await refused(b, "malformed", times)
        assert lines(caplog, "malformed") == 1


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", Hello(identity("c")).to_bytes(), b"\xff" * 100_000]
)
async def test_plain_bytes_are_no_tls(
    data: bytes, keys: Callable[[str], Keys], caplog: pytest.LogCaptureFixture
) -> None:
    """Where TLS is wanted plain bytes are refused, a perfect hello in clear text too."""
    async with besieged(keys) as b:
        stream = await knock(b)
        try:
            await stream.send_all(data)
        except trio.BrokenResourceError:
            pass  # it was ended before all was sent
        await ended(stream)
        await refused(b, "tls")
        assert lines(caplog, "tls") == 1


async def secured(b: Place, keys: Keys) -> Pipe:
    """A pipe to b through TLS with those keys."""
    pipe = Pipe(await knock(b), Cipher(keys, listening=False))
    await pipe.secure()
    return pipe


async def test_a_foreign_authority_is_refused(keys: Callable[[str], Keys], authority: Path, foreign: Path) -> None:
    """A node with another cluster's keys is refused by TLS, whatever name they bear."""
    async with besieged(keys) as b:
        stranger = Keys(foreign, "a")
        stranger.dialling.load_verify_locations(authority / "ca.pem")  # else it would itself refuse b first
        pipe = await secured(b, stranger)
        await refused(b, "tls")
        await pipe.aclose()


async def test_a_client_is_refused_at_the_nodes_door(
    keys: Callable[[str], Keys], authority: Path, tmp_path: Path
) -> None:
    """A client's certificate of the cluster's own authority does not open the door for nodes (D1)."""
    for name in ("ca.pem", "client-ops.pem", "client-ops.key"):
        (tmp_path / name.replace("client", "node")).write_bytes((authority / name).read_bytes())
    async with besieged(keys) as b:
        pipe = await secured(b, Keys(tmp_path, "ops"))
        (frame,) = wire.Decoder().feed(b"".join([part async for part in _all(pipe)]))
        assert decode(frame.payload) == (
            "role",
            "wanted the certificate of a node, got one of the client 'ops': this port is for nodes",
        )
        await refused(b, "role")
        await pipe.aclose()


async def answer_to(b: Place, hello: bytes, keys: Keys | None = None) -> Any:
    """What b says to a hello after its own: word and sentence of its refusal, or the frame that it is."""
    pipe = Pipe(await knock(b), Cipher(keys, listening=False) if keys is not None else None)
    await pipe.secure()
    await pipe.send(hello)
    decoder, frames = wire.Decoder(), []
    with trio.fail_after(LIMIT):
        while len(frames) < 2:
            data = await pipe.receive()
            assert data, "it ended without a word"
            frames += decoder.feed(data)
    await pipe.aclose()
    assert frames[0] == wire.Decoder().feed(Hello(b.links.me).to_bytes())[0]
    return decode(frames[1].payload) if frames[1].kind == Kind.REFUSED else frames[1]


@pytest.mark.parametrize(
    ("who", "word"),
    [
        (identity("c", cluster="other"), "cluster"),
        (identity("b"), "self"),
        (identity("b", instance=9), "two_of_a_name"),
        (identity("a", instance=9), "two_of_a_name"),
        (identity("a", creation=0), "older_creation"),
        (identity("nobody"), "not_allowed"),
    ],
)
async def test_a_wrong_node_is_told_why(who: Identity, word: str, caplog: pytest.LogCaptureFixture) -> None:
    """Another cluster, a name that is taken, an earlier life, a name that is not on the list: each is told its word."""
    async with besieged(allowed=["a", "b", "c"]) as b:
        for times in (1, 2):
            said = await answer_to(b, Hello(who).to_bytes())
            assert said[0] == word
            await refused(b, word, times)
        assert lines(caplog, word) == 1


async def test_an_unknown_version_is_told_why() -> None:
    """A node that speaks later versions only is told which are spoken here."""
    async with besieged() as b:
        said = await answer_to(b, Hello(identity("c"), "node", 7, 9).to_bytes())
        assert said == ("version", "wanted a protocol version from 1 to 1, got 7 to 9: bring the older node up to date")
        await refused(b, "version")


async def test_a_name_that_the_certificate_does_not_bear_is_refused(keys: Callable[[str], Keys]) -> None:
    """Node c's keys with node a's name are refused, though a is welcome."""
    async with besieged(keys) as b:
        assert (await answer_to(b, Hello(identity("a")).to_bytes(), keys("c")))[0] == "name"
        await refused(b, "name")


async def test_a_hello_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sends its hello byte by byte, for ever, is closed when the time is up."""
    monkeypatch.setattr(greeting, "HELLO_SECONDS", 0.2)
    async with besieged() as b:
        stream = await knock(b)
        await stream.send_all(wire.encode(Frame(Kind.HELLO, payload=bytes(4096)))[:-1])
        await ended(stream)
        await refused(b, "too_slow")


async def test_a_hello_over_its_cap_is_refused_by_its_head() -> None:
    """A hello that announces more than 4 KiB is refused before any of it is read."""
    async with besieged() as b:
        stream = await knock(b)
        await stream.send_all(wire.encode(Frame(Kind.HELLO, payload=bytes(4097)))[: wire.HEADER_SIZE])
        await ended(stream)
        await refused(b, "malformed")


async def test_only_so_many_strangers_are_talked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that say nothing take the places of others like them: nodes and links do not notice."""
    monkeypatch.setattr(links_module, "MOST_STRANGERS", 3)
    async with besieged_apart() as b:
        silent = []
        for number in range(1, 6):
            silent.append(await knock(b))
            with trio.fail_after(LIMIT):
                while len(b.links._strangers) + b.links.refused["too_many"] < number:
                    await trio.lowlevel.checkpoint()
        for stream in silent[:2]:
            await ended(stream)
        await refused(b, "too_many", 2)
        node = await linked_as(b, "c")
        await refused(b, "too_many", 3)
        await node.aclose()
        for stream in silent[2:]:
            await stream.aclose()


# -- a node that misbehaves once it is linked ----------------------------------------------------------


async def linked_as(b: Place, name: str) -> Pipe:
    """A pipe that b takes for a link with a node of that name."""
    pipe = Pipe(await knock(b), None)
    await pipe.send(Hello(identity(name)).to_bytes() + wire.encode(Frame(Kind.WELCOME, number=1)))
    await b.above.told_of("up", name)
    return pipe


HOSTILE: dict[str, bytes] = {
    "a frame over the cap": wire.encode(Frame(Kind.SEND, 1, 1, bytes(65)))[: wire.HEADER_SIZE],
    "a length that lies": b"\xff\xff\xff\xff\x10" + bytes(16),
    "a kind that nobody knows": wire.encode(Frame(77)),
    "a second hello": Hello(identity("c")).to_bytes(),
    "a heartbeat on the link": wire.encode(Frame(Kind.BEAT)),
    "credit for what was never sent": wire.encode(Frame(Kind.CREDIT, number=1)),
    "credit with a payload": wire.encode(Frame(Kind.CREDIT, payload=b"x")),
    "a value that is none": message(b"\xff"),
    "a tag of CBOR's own": message(b"\xc4\x82\x01\x02"),
    "nesting without end": message(b"\x81" * 64),
}


def understands(link: Link, frame: Frame) -> bool:
    """Decode as those above do: what is no value ends the link that it came over."""
    if frame.payload != b"still here":
        decode(frame.payload, checked=True)
    return True


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
async def test_a_hostile_frame_ends_its_own_link(data: bytes) -> None:
    """Lying and oversize frames and hostile values end the link over which they came, with a word, and no other."""
    async with besieged_apart(limits=Limits(frame=64)) as b:
        b.above.answer = understands
        pipe = await linked_as(b, "c")
        await pipe.send(data)
        await b.above.told_of("down", "c", "malformed")
        said = b"".join([part async for part in _all(pipe)])
        assert Kind.CLOSE in [frame.kind for frame in wire.Decoder().feed(said)]
        await pipe.aclose()


@asynccontextmanager
async def besieged_apart(**settings: Any) -> AsyncIterator[Place]:
    """As `besieged`, where another node's link may come and go."""
    async with pair(None, **settings) as (_, b, near, far):
        yield b
        before = len(b.above.frames)
        send(near, b"still here", 7)
        await b.above.until(lambda: len(b.above.frames) > before)
        assert (b.above.frames[-1].payload, b.links.link("a")) == (b"still here", far)


async def _all(pipe: Pipe) -> AsyncIterator[bytes]:
    with trio.fail_after(LIMIT):
        try:
            while part := await pipe.receive():
                yield part
        except trio.BrokenResourceError:
            pass


async def test_a_defect_above_ends_one_link(caplog: pytest.LogCaptureFixture) -> None:
    """What a frame's handler raises by mistake is logged with its stack, and costs the one link."""

    def fails(link: Link, frame: Frame) -> bool:
        if link.node == "c":
            raise ZeroDivisionError("a defect")
        return True

    async with besieged_apart() as b:
        b.above.answer = fails
        pipe = await linked_as(b, "c")
        await pipe.send(message(b"x"))
        await b.above.told_of("down", "c", "defect")
        await pipe.aclose()
    assert any(record.exc_info and record.levelno == logging.ERROR for record in caplog.records)


async def test_more_than_there_is_credit_for_ends_the_link() -> None:
    """Who sends on where nothing was let go is ended: what is held is bounded."""
    limits = Limits(frame=1000, window=4000)
    async with besieged_apart(limits=limits) as b:
        b.above.answer = lambda link, frame: link.node != "c"
        pipe = await linked_as(b, "c")
        for _ in range(10):
            await pipe.send(message(bytes(1000)))
        await b.above.told_of("down", "c", "credit")
        assert len(b.above.frames) <= 2 * limits.window // 1000 + 1 + FIRST_PIECE // 1000 + 64
        await pipe.aclose()


def test_an_exception_of_the_decoder_is_what_links_expect() -> None:
    """Hostile values raise what `understands` lets through: a DecodeError."""
    for data in (b"\xff", b"\xc4\x82\x01\x02", b"\x81" * 64):
        with pytest.raises(DecodeError):
            decode(data, checked=True)
    assert understands(None, Frame(Kind.SEND, payload=encode(1)))  # type: ignore[arg-type]  # no link is looked at


async def test_a_remote_address_without_keys_does_not_start() -> None:
    """A node that is to listen to the world without keys is refused, with how they are made."""
    for security in (None, Clear()):
        with pytest.raises(Exception, match="banyan certs init") as caught:
            async with place("a", addresses={}, listen="0.0.0.0:0", security=security):
                pytest.fail("it listens")
        assert type(caught.value).__name__ == "NoKeys"
