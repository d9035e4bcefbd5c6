"""The admin protocol as values: what is a request, what is not, and how bytes become lines."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.observe import protocol
from runtime.observe.protocol import (
    Abort,
    Adopt,
    At,
    BadRequest,
    Code,
    Complete,
    Config,
    Crashes,
    Doctor,
    Drain,
    Drop,
    Eval,
    Info,
    Interrupt,
    Kill,
    Level,
    Lines,
    Log,
    Mailbox,
    Move,
    Moves,
    Names,
    Nodes,
    Oversize,
    Plan,
    Poison,
    Poisoned,
    Ps,
    Rebalance,
    Record,
    Refusal,
    Replay,
    Restart,
    Resume,
    Shards,
    Stack,
    Stalls,
    State,
    Stop,
    Store,
    Suspend,
    Timers,
    Trace,
    Tree,
    decode_reply,
    decode_request,
    encode_error,
    encode_ok,
    encode_request,
)

EACH = [
    Info(id=1),
    Info(id=1, of="till"),
    Tree(id="a"),
    Tree(id=2, of="<1.5>"),
    Ps(id=3, limit=5),
    Ps(sort="turns", window=1.5),
    State(of="till"),
    Mailbox(of="till", limit=3),
    Stack(of="till"),
    Timers(of="till", limit=3),
    Crashes(of="till", limit=3),
    Stalls(limit=3),
    Log(of="till", limit=3, before=9),
    At(of="till", position=-1),
    Store(prefix="till", limit=3),
    Config(),
    Nodes(),
    Shards(of="b"),
    Moves(of="b"),
    Plan(shard=3, node="b"),
    Doctor(),
    Names(prefix="ti", limit=3),
    Complete(id=6, text="tre"),
    Poison(closed=True, limit=5),
    Poisoned(position=3, relaxed=True),
    Replay(position=3, timeout=1.0),
    Drop(position=3),
    Move(shard=3, node="b"),
    Abort(move="m"),
    Drain(node="b", undo=True),
    Adopt(node="b", undo=True),
    Rebalance(),
    Trace(of=["till"], messages=5, seconds=1.5),
    Record(messages=5),
    Kill(id=4, target="<1.88>", reason="shutdown"),
    Suspend(target="till", timeout=1.0),
    Resume(target="till", timeout=1.0),
    Restart(target="till", timeout=1.0),
    Stop(id=5),
    Eval(id=7, source="1+1"),
    Interrupt(id=8),
]


@pytest.mark.parametrize("request_", EACH, ids=lambda one: type(one).__name__)
def test_a_request_survives_its_line(request_: protocol.Request) -> None:
    """Every request is read from its own line as the same value."""
    assert decode_request(encode_request(request_)) == request_


def test_levels_include_those_below() -> None:
    """To look is less than to change, to change is less than to run code."""
    above = {"trace": Level.TRACE, "record": Level.TRACE, "eval": Level.EVAL, "interrupt": Level.EVAL}
    acts = (
        "kill",
        "suspend",
        "resume",
        "restart",
        "replay",
        "drop",
        "move",
        "abort",
        "drain",
        "adopt",
        "rebalance",
        "stop",
    )
    above |= dict.fromkeys(acts, Level.ACT)
    assert {op: kind.level for op, kind in protocol.OPERATIONS.items()} == dict.fromkeys(
        protocol.OPERATIONS, Level.VIEW
    ) | above
    assert {op: kind.level for op, kind in protocol.BACK_OPERATIONS.items()} == {
        "stacks": Level.VIEW,
        "interrupt": Level.ACT,
    }
    assert [level.describe() for level in Level] == ["view", "view+trace", "view+trace+act", "view+trace+act+eval"]


def test_every_request_is_among_those_that_are_tried() -> None:
    """No operation is left out of the test above."""
    assert {type(one) for one in EACH} == set(protocol.REQUESTS)


@pytest.mark.parametrize(
    ("line", "request_id", "what"),
    [
        (b"nope", None, "the line is no request"),
        (b"[]", None, "the line is no request"),
        (b"\xff\xfe", None, "the line is no request"),
        (b'{"id": 1, "op": "tree"', None, "the line is no request"),
        (b'{"id": 1, "op": "tree"} 2', None, "the line is no request"),
        (b'{"id": {}, "op": "tree"}', None, "the line is no request"),
        (b'{"id": 9007199254740993, "op": "tree"}', None, "the line is no request"),
        (b'{"id": "' + b"x" * 101 + b'", "op": "tree"}', None, "the line is no request"),
        (b"{}", None, "the request names no operation"),
        (b'{"id": 7}', 7, "the request names no operation"),
        (b'{"id": 7, "op": "tre"}', 7, "there is no operation 'tre'"),
        (b'{"id": 7, "op": "tree", "from": "x"}', 7, "the request 'tree' is not as it should be"),
        (b'{"id": 7, "op": "kill"}', 7, "the request 'kill' is not as it should be"),
        (b'{"id": 7, "op": "kill", "target": 3}', 7, "the request 'kill' is not as it should be"),
        (b'{"id": 7, "op": "ps", "limit": 0}', 7, "the request 'ps' is not as it should be"),
        (b'{"id": 7, "op": "ps", "limit": NaN}', None, "the line is no request"),
    ],
)
def test_a_line_that_is_no_request_is_refused(line: bytes, request_id: object, what: str) -> None:
    """A line that is not exactly a request is refused, under its id where one could be read."""
    with pytest.raises(BadRequest) as caught:
        decode_request(line)
    assert (caught.value.request_id, caught.value.what, caught.value.code) == (request_id, what, Code.USAGE)


def test_a_misspelt_operation_is_told_which_one_was_meant() -> None:
    """Whoever misspells an operation is told its name."""
    with pytest.raises(BadRequest) as caught:
        decode_request(b'{"op": "evil"}')
    assert caught.value.next == "did you mean 'eval'?"


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_refused(line: bytes) -> None:
    """No bytes make the decoder do anything but return a request or refuse."""
    try:
        assert isinstance(decode_request(line), protocol.Request)
    except BadRequest as refused:
        encode_error(refused.request_id, refused)


@given(
    st.dictionaries(
        st.sampled_from(["id", "op", "of", "target", "reason", "source", "text", "limit", "x"]),
        st.sampled_from(list(protocol.OPERATIONS))
        | st.integers()
        | st.text(max_size=5)
        | st.none()
        | st.lists(st.none()),
    )
)
def test_any_object_is_a_request_or_refused(made: dict[str, object]) -> None:
    """No JSON object does more, and its refusal can always be sent."""
    try:
        request = decode_request(json.dumps(made).encode())
        reply = json.loads(encode_ok(request.id, None))
    except BadRequest as refused:
        reply = json.loads(encode_error(refused.request_id, refused))
    assert reply in ({"id": made.get("id"), "ok": None}, {"id": reply["id"], "error": reply.get("error")})


def test_deep_nesting_is_refused() -> None:
    """A line of brackets overflows no stack."""
    with pytest.raises(BadRequest):
        decode_request(b'{"op": "tree", "x": ' + b"[" * 500_000)


def test_a_reply_survives_its_line() -> None:
    """What was answered is what is read, and a refusal keeps its three parts and its code."""
    assert decode_reply(encode_ok(1, {"a": [1, None, "\N{SNOWMAN}"]})) == (
        1,
        {"a": [1, None, "\N{SNOWMAN}"]},
        None,
    )
    answered, value, refusal = decode_reply(encode_error("x", Refusal("what", "why", "next", Code.REFUSED)))
    assert refusal is not None
    assert (answered, value) == ("x", None)
    assert (refusal.what, refusal.why, refusal.next, refusal.code) == ("what", "why", "next", 5)


def test_text_that_utf8_cannot_say_is_still_answered() -> None:
    """Half a surrogate pair, as in a file's name, becomes a question mark rather than a lost reply."""
    assert decode_reply(encode_ok(1, "a\udc80b")) == (1, "a?b", None)


def test_an_answer_over_the_cap_becomes_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that nobody could read is refused instead."""
    monkeypatch.setattr(protocol, "REPLY_LIMIT", 100)
    assert decode_reply(encode_ok(1, "x" * 50))[1] == "x" * 50
    refusal = decode_reply(encode_ok(1, "x" * 100))[2]
    assert refusal is not None
    assert (refusal.what, refusal.code) == ("the answer is too long", 1)


@pytest.mark.parametrize("line", [b"nope", b"[]", b'{"error": 3}', b"\xff"])
def test_a_line_that_is_no_reply_is_a_refusal(line: bytes) -> None:
    """A client that meets something else than a node says so."""
    with pytest.raises(Refusal, match="the answer is no reply"):
        decode_reply(line)


@given(st.lists(st.binary(max_size=20).filter(lambda b: b"\n" not in b)), st.lists(st.integers(0, 100)))
def test_lines_do_not_depend_on_how_bytes_arrive(parts: list[bytes], cuts: list[int]) -> None:
    """However the bytes are cut, the same lines come out, without the empty ones."""
    stream = b"".join(part + b"\n" for part in parts)
    lines, found, at = Lines(), list[bytes](), 0
    for cut in [*sorted(min(cut, len(stream)) for cut in cuts), len(stream)]:
        found += lines.feed(stream[at:cut])
        at = cut
    assert found == [part.strip() for part in parts if part.strip()]


def test_a_line_may_be_as_long_as_the_cap_and_no_longer() -> None:
    """A line of the cap's length passes; one byte more is Oversize, however it arrives."""
    assert Lines(8).feed(b"12345678\n") == [b"12345678"]
    for chunks in ([b"123456789\n"], [b"12345678", b"9"], [b"1234", b"56789\n"], [b"1\n", b"123456789"]):
        lines = Lines(8)
        *before, last = chunks
        for chunk in before:
            lines.feed(chunk)
        with pytest.raises(Oversize) as caught:
            lines.feed(last)
        assert caught.value.limit == 8


def test_every_field_has_a_bound_of_its_line() -> None:
    """A request's integers are bounded by themselves, its texts by the cap of a line."""
    bounds = {
        msgspec.inspect.IntType: lambda one: (one.ge is not None or one.gt is not None) and one.le is not None,
        msgspec.inspect.FloatType: lambda one: (one.ge is not None or one.gt is not None) and one.le is not None,
        msgspec.inspect.ListType: lambda one: one.max_length is not None,
        msgspec.inspect.StrType: lambda one: True,
        msgspec.inspect.BoolType: lambda one: True,
        msgspec.inspect.LiteralType: lambda one: True,
        msgspec.inspect.NoneType: lambda one: True,
    }
    for kind in (*protocol.REQUESTS, *protocol.BACK_OPERATIONS.values()):
        described = msgspec.inspect.type_info(kind)
        assert isinstance(described, msgspec.inspect.StructType)
        for field in described.fields:
            union = field.type
            for one in union.types if isinstance(union, msgspec.inspect.UnionType) else [union]:
                assert bounds[type(one)](one), (kind, field.name)
