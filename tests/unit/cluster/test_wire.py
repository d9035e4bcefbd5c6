"""Frames: bytes cut in any way give the same frames, and hostile bytes cost nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.cluster.wire import (
    BEFORE_AUTHENTICATION,
    HEADER_SIZE,
    HELLO_CAP,
    KINDS,
    Decoder,
    Frame,
    Kind,
    WireError,
    encode,
)

numbers = st.integers(0, 2**64 - 1)
frames = st.builds(Frame, st.sampled_from(sorted(KINDS)), numbers, numbers, st.binary(max_size=200))


def test_the_header_is_fixed():
    """The bytes of a frame, for ever."""
    assert encode(Frame(Kind.SEND, 5, 7, b"abc")).hex() == "000000031000000000000000050000000000000007616263"
    assert HEADER_SIZE == 21


def test_the_numbers_of_the_kinds_stay():
    """A kind's number is a part of the format."""
    assert {kind.name: int(kind) for kind in Kind if kind >= 16} == {
        "SEND": 16,
        "CALL": 17,
        "REPLY": 18,
        "EXIT": 19,
        "LINK": 20,
        "UNLINK": 21,
        "LINK_EXIT": 22,
        "MONITOR": 23,
        "DEMONITOR": 24,
        "DOWN": 25,
        "ASK": 26,
        "CAST": 27,
    }


@given(st.lists(frames, max_size=8), st.lists(st.integers(1, 60), min_size=1, max_size=20))
def test_pieces_of_any_size_give_the_same_frames(sent, sizes):
    """However a stream is cut, the frames that come out are those that went in, in order."""
    data = b"".join(map(encode, sent))
    decoder = Decoder()
    got, at, turn = [], 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        got += decoder.feed(data[at : at + size])
        at, turn = at + size, turn + 1
    assert got == sent
    assert decoder.unfinished == 0


@given(st.lists(frames, min_size=1, max_size=5), st.data())
def test_take_gives_the_first_frame_and_the_rest(sent, data):
    """`take` never looks behind the first frame, whose meaning may change what is expected."""
    raw = b"".join(map(encode, sent))
    cut = data.draw(st.integers(0, len(raw)))
    decoder = Decoder()
    first, rest = decoder.take(raw[:cut])
    if first is None:
        first, rest = decoder.take(raw[cut:])
    else:
        rest += raw[cut:]
    assert first == sent[0]
    assert Decoder().feed(rest) == sent[1:]


@given(st.binary(max_size=300))
def test_hostile_bytes_give_frames_or_a_wire_error(data):
    """No bytes do anything else, nor are more kept than came."""
    decoder = Decoder(HELLO_CAP, BEFORE_AUTHENTICATION)
    try:
        got = decoder.feed(data)
    except WireError:
        return
    assert all(frame.kind in BEFORE_AUTHENTICATION for frame in got)
    assert decoder.unfinished <= len(data)


def test_a_lying_length_is_refused_before_its_bytes_come():
    """A length over the cap is refused by the header alone."""
    decoder = Decoder(HELLO_CAP)
    assert decoder.feed(encode(Frame(Kind.HELLO, payload=bytes(HELLO_CAP)))) != []
    with pytest.raises(WireError, match="at most 4096"):
        decoder.feed(encode(Frame(Kind.HELLO, payload=bytes(HELLO_CAP + 1)))[:HEADER_SIZE])


def test_a_kind_that_may_not_come_is_refused():
    """Before both sides know each other there is no frame that reaches a process."""
    decoder = Decoder(HELLO_CAP, BEFORE_AUTHENTICATION)
    with pytest.raises(WireError, match="kind 16"):
        decoder.feed(encode(Frame(Kind.SEND, 1)))
    with pytest.raises(WireError, match="kind 99"):
        Decoder().feed(encode(Frame(99)))
