"""Frames: what is read, what is refused, and that a refusal repeats no secret."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.edge import frames
from runtime.edge.frames import Cause, Refusal


class Hello(msgspec.Struct, frozen=True, tag_field="op", tag="hello", forbid_unknown_fields=True):
    id: int
    token: str = ""
    mood: Any = None


class Bye(msgspec.Struct, frozen=True, tag_field="op", tag="bye", forbid_unknown_fields=True):
    pass


DECODER = msgspec.json.Decoder(Hello | Bye)


def refusal(text: str) -> tuple[str, int | None, bool]:
    with pytest.raises(Refusal) as caught:
        frames.read(DECODER, text)
    return caught.value.reason, caught.value.id, caught.value.strike


def test_a_frame_is_read_as_its_struct() -> None:
    """The op says which struct a frame is."""
    assert frames.read(DECODER, '{"op":"hello","id":3}') == Hello(3)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ("not_json", None, True)),
        ("hello", ("not_json", None, True)),
        ("{" * 30_000, ("not_json", None, True)),
        ('{"mood":' + "[" * 30_000, ("not_json", None, True)),
        ('{"op":"hello","id":1,"mood":' + '{"a":' * 9_000, ("not_json", None, True)),
        ('{"op":"hello","id":1', ("not_json", None, True)),
        ("[]", ("bad_frame", None, True)),
        ('"hello"', ("bad_frame", None, True)),
        ("{}", ("unknown_op", None, True)),
        ('{"op":"jump","id":7}', ("unknown_op", 7, True)),
        ('{"op":7}', ("unknown_op", None, True)),
        ('{"op":"hello"}', ("bad_frame", None, True)),
        ('{"op":"hello","id":"1"}', ("bad_frame", None, True)),
        ('{"op":"hello","id":1.5}', ("bad_frame", None, True)),
        ('{"op":"hello","id":9,"more":1}', ("bad_frame", 9, True)),
        ('{"op":"bye","id":-1}', ("bad_frame", None, True)),
        ('{"op":"hello","id":1,"token":"\\ud800"}', ("not_json", None, True)),
    ],
)
def test_what_is_no_frame_is_refused_with_a_word(text: str, told: tuple[str, int | None, bool]) -> None:
    """Every other text is a strike, and its id is told where it has one."""
    assert refusal(text) == told


def test_a_refusal_repeats_no_value() -> None:
    """A client's values may be tokens, so none of them stands in a refusal."""
    for text in (
        '{"op":"s3cret"}',
        '{"op":"hello","id":"s3cret"}',
        '{"op":"hello","id":1,"token":["s3cret"]}',
    ):
        with pytest.raises(Refusal) as caught:
            frames.read(DECODER, text)
        assert "s3cret" not in frames.refused(caught.value).decode() + repr(caught.value)


@given(st.text() | st.recursive(st.none() | st.text(), st.lists).map(lambda v: f'{{"op":{v!r}}}'))
def test_any_text_is_a_frame_or_a_refusal(text: str) -> None:
    """No text whatever raises anything but a Refusal."""
    with contextlib.suppress(Refusal):
        frames.read(DECODER, text)


def test_what_is_told_is_json_with_a_type() -> None:
    """Replies, refusals, welcomes, pushes and byes, as a client reads them."""
    told = [
        frames.reply(3, {"balance": 5}),
        frames.refused(Refusal("no_hand", "wait", id=4)),
        frames.welcome(True, 9, {"player": "ann"}),
        frames.numbered(10, {"type": "delta"}),
        frames.bye(Cause("slow", "read faster", 1008)),
    ]
    assert [msgspec.json.decode(one) for one in told] == [
        {"type": "reply", "id": 3, "ok": {"balance": 5}},
        {"type": "refused", "id": 4, "reason": "no_hand", "text": "wait"},
        {"type": "welcome", "resumed": True, "seq": 9, "player": "ann"},
        {"seq": 10, "type": "delta"},
        {"type": "bye", "reason": "slow", "text": "read faster"},
    ]


def test_every_cause_fits_into_a_close_frame() -> None:
    """A close frame holds at most 123 bytes of reason, and codes that an endpoint may send."""
    causes = [value for value in vars(frames).values() if isinstance(value, Cause)]
    assert len(causes) == 10
    assert [one.reason for one in causes if len(one.text.encode()) > 123] == []
    assert {one.code for one in causes} <= {1001, 1003, 1008, 1012, 4001}
