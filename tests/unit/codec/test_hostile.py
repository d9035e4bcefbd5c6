"""Bytes that no encoder of ours wrote are refused, whatever they try.

Each case here is a way in which cbor2, left to its defaults, returns something else than a value of ours, or
does not return in a useful time. The slow ones run in a process of their own, which is ended if it hangs.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import message
from runtime.codec.cbor import DecodeError, EncodeError, decode, encode

ROOT = Path(__file__).parents[3]
RECORD, LIST, DICT, SET, INT, ENUM = range(47616, 47622)


@message("tests.hostile.pair")
class Pair:
    a: int
    b: tuple[str, ...]


@message("tests.hostile.picky")
class Picky:
    a: int

    def __post_init__(self) -> None:
        if self.a < 0:
            raise ValueError("negative")


def tag(number: int, value: object) -> bytes:
    return cbor2.dumps(cbor2.CBORTag(number, value))


BUILT_IN = [0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799]
INNER: dict[int, object] = {
    0: "2024-01-01T00:00:00Z",
    1: 0,
    2: b"\x01",
    3: b"\x01",
    4: [0, 1],
    5: [0, 1],
    30: [1, 2],
    35: "(a+)+$",
    36: "Content-Type: text/plain\n\nx",
    37: b"0" * 16,
}

TAGGED = {n: cbor2.CBORTag(n, INNER.get(n, [])) for n in BUILT_IN}

CASES: dict[str, bytes] = {
    "nothing at all": b"",
    "a break": b"\xff",
    "a reserved head": b"\x1c",
    "undefined": b"\xf7",
    "undefined in an array": b"\x81\xf7",
    "a simple value": b"\xe0",
    "a simple value in two bytes": b"\xf8\x20",
    "a simple value in a record": tag(RECORD, ["tests.hostile.pair", 1, cbor2.CBORSimpleValue(9), []]),
    "text that is no UTF-8": b"\x61\xff",
    "an indefinite array": b"\x9f\x01\xff",
    "an indefinite map": b"\xbf\xff",
    "an indefinite text": b"\x7f\x61a\xff",
    "an indefinite byte string": b"\x5f\x41a\xff",
    "a bare map": b"\xa1\x61a\x01",
    "a bare map in an array": b"\x81\xa0",
    "a map behind a list's tag": b"\xd9\xba\x01\xa0",
    "an array behind a dict's tag": tag(DICT, [1]),
    "a dict with an int key": b"\xd9\xba\x02\xa1\x01\x02",
    "a dict with a byte-string key": b"\xd9\xba\x02\xa1\x41a\x02",
    "a dict with an array key": b"\xd9\xba\x02\xa1\x80\x02",
    "a dict with a key twice": b"\xd9\xba\x02\xa2\x61a\x01\x61a\x02",
    "a dict with a bare map": b"\xd9\xba\x02\xa1\x61a\xa0",
    "a dict with undefined": b"\xd9\xba\x02\xa1\x61a\xf7",
    "a set with a member twice": tag(SET, [1, 1]),
    "a set with equal members": tag(SET, [1, True]),
    "a set with a list": tag(SET, [cbor2.CBORTag(LIST, [])]),
    "a set with a bare map": b"\xd9\xba\x03\x81\xa0",
    "a scalar behind a list's tag": tag(LIST, 1),
    "a nested tag of ours around nothing": tag(LIST, cbor2.CBORTag(LIST, [])),
    "an unknown tag": tag(99, []),
    "an unknown large tag": b"\xdb" + b"\xff" * 8 + b"\x00",
    "an int too long": tag(INT, b"\x01" * 129),
    "an int's tag around a small int": tag(INT, b"\x01"),
    "an int's tag around text": tag(INT, "1"),
    "a record that is no array": tag(RECORD, "tests.hostile.pair"),
    "a record of nothing": tag(RECORD, []),
    "a record without a version": tag(RECORD, ["tests.hostile.pair"]),
    "a record whose name is bytes": tag(RECORD, [b"tests.hostile.pair", 1, 1, []]),
    "a record whose version is a bool": tag(RECORD, ["tests.hostile.pair", True, 1, []]),
    "a record whose version is 0": tag(RECORD, ["tests.hostile.pair", 0, 1, []]),
    "a record with too few fields": tag(RECORD, ["tests.hostile.pair", 1, 1]),
    "a record with too many fields": tag(RECORD, ["tests.hostile.pair", 1, 1, [], 1]),
    "a record that nobody registered": tag(RECORD, ["os.system", 1, "true"]),
    "a record that its class refuses": tag(RECORD, ["tests.hostile.picky", 1, -1]),
    "an enum that nobody registered": tag(ENUM, ["os", "X"]),
    "an enum of the wrong shape": tag(ENUM, ["os"]),
    "an array longer than the bytes": b"\x9b" + b"\xff" * 8,
    "a byte string longer than the bytes": b"\x5b" + b"\x7f" * 8,
    "a text longer than the bytes": b"\x7b\x00\x00\x00\x7f\x00\x00\x00\x00",
    "a map longer than the bytes": b"\xbb\x00\x00\x00\x10\x00\x00\x00\x10",
    "arrays too deep": b"\x81" * 100_000,
    "tags too deep": b"\xd9\xba\x01" * 50_000 + b"\x80",
    "lists too deep": b"\xd9\xba\x01\x81" * 40 + b"\x80",
    "maps too deep": b"\xa1\x61a" * 50_000,
    **{f"tag {n}": tag(n, INNER.get(n, [])) for n in BUILT_IN},
    **{f"tag {n} in a record": tag(RECORD, ["tests.hostile.pair", 1, tagged, []]) for n, tagged in TAGGED.items()},
}


@pytest.mark.parametrize("data", CASES.values(), ids=CASES)
def test_hostile_bytes_are_refused(data: bytes) -> None:
    """Bytes that are no value of ours raise DecodeError, checked against annotations or not."""
    for checked in (False, True):
        with pytest.raises(DecodeError):
            decode(data, checked=checked)


def test_bytes_behind_the_value_are_refused() -> None:
    """One value and nothing behind it: what is left over is refused with its length."""
    for value in (1, "x", (1, 2), Pair(1, ("x",))):
        with pytest.raises(DecodeError, match="3 bytes more"):
            decode(encode(value) + b"\x00\x01\x02")


def test_every_shortening_of_a_value_is_refused() -> None:
    """A value cut at any byte is refused."""
    data = encode((Pair(1, ("x", "y")), [1.5, b"zz"], {"a": None}, frozenset({1}), 1 << 70))
    for end in range(len(data)):
        with pytest.raises(DecodeError):
            decode(data[:end])


@given(st.binary(max_size=64))
def test_any_bytes_are_a_value_or_refused(data: bytes) -> None:
    """Whatever comes in, a value that encodes again comes out, or DecodeError and nothing else."""
    try:
        value = decode(data, checked=True)
    except DecodeError:
        return
    assert decode(encode(value)) == value or value != value


@given(st.data())
def test_a_changed_byte_is_a_value_or_refused(data: Any) -> None:
    """A valid message with one byte changed is another value or refused, never anything else."""
    good = bytearray(encode((Pair(1, ("x", "y")), [1, {"k": frozenset({2, "z"})}], 1 << 80)))
    good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        value = decode(bytes(good), checked=True)
    except DecodeError:
        return
    try:
        encode(value)
    except EncodeError as error:
        # The one thing that decodes and does not encode: text with a lone surrogate cannot come from UTF-8.
        raise AssertionError(value) from error


@pytest.mark.parametrize(
    "fields", [("1", ()), (True, ()), (1, ["x"]), (1, (1,)), (1.0, ()), (None, ()), (1, None)], ids=repr
)
def test_a_field_of_another_type_is_refused_when_checked(fields: tuple[object, ...]) -> None:
    """Untrusted bytes are held against the annotations; the journal's own bytes are not."""
    data = encode(Pair(*fields))  # type: ignore[arg-type]  # Python does not ask either
    assert decode(data) == Pair(*fields)  # type: ignore[arg-type]  # likewise
    with pytest.raises(DecodeError, match=r"Pair\.[ab]"):
        decode(data, checked=True)


def test_a_set_of_crafted_members_is_refused_when_checked() -> None:
    """Ints that differ by 2**61 - 1 share a hash: a large set of such members is refused unbuilt."""
    same_hash = [n * ((1 << 61) - 1) + 1 for n in range(1, 400)]
    crafted = frozenset(same_hash)
    assert decode(encode(crafted)) == crafted
    with pytest.raises(DecodeError, match="set"):
        decode(encode(crafted), checked=True)
    harmless = frozenset(map(str, range(5000)))
    assert decode(encode(harmless), checked=True) == harmless


def test_a_secret_is_not_in_an_error() -> None:
    """What could not be decoded or encoded is named by its type, never by its content."""
    with pytest.raises(DecodeError) as decoding:
        decode(encode(Pair("swordfish", ())), checked=True)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(EncodeError) as encoding:
        encode({"a": bytearray(b"swordfish")})
    assert "swordfish" not in f"{decoding.value} {encoding.value}"


BOMBS = """
import cbor2
from runtime.codec.cbor import DecodeError, decode

def refused(data):
    for checked in (False, True):
        try:
            decode(data, checked=checked)
        except DecodeError:
            continue
        raise SystemExit(f"accepted {data[:20]!r}")

big = b"\\xff" * (1 << 20)
refused(cbor2.dumps(cbor2.CBORTag(4, [1, cbor2.CBORTag(2, big)])))      # hangs cbor2's defaults for 12 s
refused(cbor2.dumps(cbor2.CBORTag(4, [10**9, 1])))
refused(cbor2.dumps(cbor2.CBORTag(5, [10**9, 1])))
refused(cbor2.dumps(cbor2.CBORTag(2, big)))
refused(cbor2.dumps(cbor2.CBORTag(47620, big)))
refused(cbor2.dumps(cbor2.CBORTag(30, [1, cbor2.CBORTag(2, big)])))
refused(cbor2.dumps(cbor2.CBORTag(35, "(a+)+" * 100_000)))
refused(b"\\x81" * (1 << 20))
refused(b"\\xd9\\xba\\x01" * (1 << 18))
refused(b"\\x9a\\x7f\\xff\\xff\\xff" * 1000)
refused(cbor2.dumps(["x" * (1 << 20), cbor2.undefined]))
print("all refused")
"""


def test_bombs_are_refused_in_bounded_time_and_memory() -> None:
    """A megabyte of the worst known CBOR is refused by a process with 20 s and 1 GiB, start included."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
    ended = subprocess.run(
        [sys.executable, "-c", limit + textwrap.dedent(BOMBS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (ended.stdout, ended.stderr) == ("all refused\n", "")


@pytest.mark.parametrize("size", [0, 1, 23, 24, 255, 256, 65535, 65536])
@pytest.mark.parametrize("kind", [bytes, str])
def test_bytes_and_text_are_as_long_as_they_say(kind: type, size: int) -> None:
    """Lone bytes and text, which are taken without a decoder, come back; a byte more or less is refused."""
    value = b"x" * size if kind is bytes else "x" * size
    data = encode(value)
    assert data == cbor2.dumps(value)
    assert decode(data) == value
    assert type(decode(data)) is kind
    for other in (data + b"x", data[:-1]):
        with pytest.raises(DecodeError):
            decode(other)


def test_lone_text_that_is_no_text_is_refused() -> None:
    """Text must be UTF-8, and bytes of no length that is known must not be there at all."""
    for data in (
        b"\x62\xff\xff",
        b"\x5f\x41x\xff",
        b"\x7f\x61x\xff",
        b"\x5c",
        b"\x5b" + b"\xff" * 8,
        b"\x58",
        b"\x79\x00",
    ):
        with pytest.raises(DecodeError):
            decode(data)
