"""What goes through the codec comes back equal and of the same types, and equal values give equal bytes."""

from __future__ import annotations

import dataclasses
import enum
import math
import threading
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import Call, message
from runtime.codec.cbor import (
    MAX_DEPTH,
    MAX_INT_BYTES,
    DecodeError,
    EncodeError,
    NewerVersion,
    OlderVersion,
    UnknownRecord,
    decode,
    encode,
    enumeration,
)
from runtime.errors import Misuse


@enumeration("tests.codec.suit")
class Suit(enum.Enum):
    CLUBS = 1
    HEARTS = 2


@enumeration("tests.codec.level")
class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Unregistered(enum.Enum):
    A = 1


@message("tests.codec.none")
class Nothing:
    pass


@message("tests.codec.one")
class One:
    held: Any


@message("tests.codec.three", version=3)
class Three(Call[int]):
    amount: int
    to: str
    key: bytes


@message("tests.codec.many")
class Many:
    a: Any
    b: Any = 2
    c: Any = 3


class Plain:
    pass


# Hypothesis writes down a strategy from which it drew again, and that of a recursive one is long.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(1 << 1000), 1 << 1000)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.sampled_from([*Suit, *Level])
)
hashables = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4).map(tuple)
        | st.frozensets(inner, max_size=4)
        | inner.map(One)
        | st.builds(Many, inner, inner, inner)
    ),
    max_leaves=8,
)
values = st.recursive(
    hashables,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=8), inner, max_size=4)
        | inner.map(One)
        | st.builds(Three, st.integers(), st.text(), st.binary())
        | st.builds(Many, inner, inner, inner)
    ),
    max_leaves=16,
)


def types(value: Any) -> Any:
    """A value's types, all the way down, so that 1, 1.0 and True are not taken for each other."""
    match value:
        case tuple() | list():
            return type(value), [types(v) for v in value]
        case dict():
            return dict, {k: types(v) for k, v in value.items()}
        case frozenset():
            return frozenset, sorted(repr(types(v)) for v in value)
        case One(held):
            return One, types(held)
        case Many(a, b, c):
            return Many, types(a), types(b), types(c)
        case float():
            return float, math.copysign(1, value)
        case _:
            return type(value)


@given(values)
def test_a_value_comes_back_as_it_went(value: object) -> None:
    """Every value comes back equal, with the same types all the way down."""
    back = decode(encode(value))
    assert back == value
    assert types(back) == types(value)


@given(values)
def test_the_checked_decoder_takes_what_the_other_takes(value: object) -> None:
    """Values whose records fit their annotations pass the check of untrusted bytes."""
    assert decode(encode(value), checked=True) == value


@given(st.dictionaries(st.text(max_size=4), scalars), st.randoms(use_true_random=False))
def test_equal_dicts_have_equal_bytes(held: dict[str, object], random: Any) -> None:
    """The order in which a dict was filled leaves no trace in its bytes."""
    shuffled = list(held.items())
    random.shuffle(shuffled)
    assert encode(dict(shuffled)) == encode(held)


@given(st.frozensets(hashables, max_size=6), st.randoms(use_true_random=False))
def test_equal_sets_have_equal_bytes(held: frozenset[Any], random: Any) -> None:
    """The order in which a set was filled leaves no trace in its bytes."""
    shuffled = sorted(held, key=repr)
    random.shuffle(shuffled)
    assert encode(frozenset(shuffled)) == encode(held)


@given(values)
def test_any_cbor_reader_can_follow(value: object) -> None:
    """The bytes are one well-formed item of CBOR, for whoever has other tools."""
    cbor2.loads(encode(value), tag_hook=lambda tag, immutable: None)


def test_a_record_is_its_name_version_and_fields() -> None:
    """A record's bytes are tag 47616 around its name, its version and its fields."""
    raw = cbor2.loads(encode(Three(5, "ann", b"k")))
    assert (raw.tag, raw.value) == (47616, ("tests.codec.three", 3, 5, "ann", b"k"))


def test_a_record_without_fields_travels() -> None:
    """A record with no field at all comes back."""
    assert decode(encode((Nothing(), One(Nothing())))) == (Nothing(), One(Nothing()))


def test_a_field_by_keyword_only_travels() -> None:
    """A record whose fields are keyword-only comes back too."""

    @message("tests.codec.keyword")
    class Keyword:
        a: int
        _: dataclasses.KW_ONLY
        b: int = 2

    assert decode(encode(Keyword(1, b=3)), checked=True) == Keyword(1, b=3)


def test_a_nan_comes_back_as_a_nan() -> None:
    """A NaN travels, though not its payload."""
    back = decode(encode(math.nan))
    assert isinstance(back, float)
    assert math.isnan(back)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (Plain(), "Plain"),
        ({1}, "set"),
        (bytearray(b"x"), "bytearray"),
        (1j, "complex"),
        ({1: 2}, "int"),
        (Unregistered.A, "Unregistered"),
        ("\ud800", "surrogates"),
        ((1, ("\ud800",)), "surrogates"),
        ({"\ud800": 1}, "surrogates"),
        (1 << (8 * MAX_INT_BYTES), "129"),
        (type("Text", (str,), {})("x"), "Text"),
        (One(type("Number", (int,), {})(1)), "Number"),
        ([One((Plain(),))], "Plain"),
        (type("Under", (Three,), {})(1, "", b""), "Under"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isalnum() else "",
)
def test_what_cannot_travel_is_refused(value: object, found: str) -> None:
    """A value that would not come back as it is, is refused with its type's name."""
    with pytest.raises(EncodeError, match=found):
        encode(value)


def nested(depth: int, wrap: Any) -> Any:
    """A value with `depth` containers around nothing."""
    value: Any = None
    for _ in range(depth):
        value = wrap(value)
    return value


@pytest.mark.parametrize(
    ("wrap", "levels"),
    [
        (lambda v: (v,), 1),
        (lambda v: [v], 2),
        (lambda v: {"a": v}, 2),
        (lambda v: frozenset({v}), 2),
        (One, 2),
    ],
    ids=["tuple", "list", "dict", "frozenset", "record"],
)
def test_what_encodes_also_decodes_at_any_depth(wrap: Any, levels: int) -> None:
    """The encoder refuses exactly the depth that the decoder would refuse, never a step later."""
    deepest = MAX_DEPTH // levels
    value = nested(deepest, wrap)
    assert decode(encode(value)) == value
    with pytest.raises(EncodeError, match="levels"):
        encode(nested(deepest + 1, wrap))


def test_the_largest_int_travels() -> None:
    """Ints travel up to their bound, in both directions, and not beyond it."""
    edge = 1 << (8 * MAX_INT_BYTES - 1)
    for number in (edge - 1, -edge, 1 << 64, -(1 << 64) - 1, (1 << 64) - 1, -(1 << 64)):
        assert decode(encode(number)) == number
        assert decode(encode((number, [number]))) == (number, [number])
    for number in (edge, -edge - 1):
        with pytest.raises(EncodeError):
            encode((number,))


def test_long_containers_travel() -> None:
    """Containers whose length takes more than one byte come back."""
    for count in (23, 24, 255, 256, 70_000):
        items = tuple(range(count))
        held: tuple[object, ...] = (
            *items,
            [*items],
            One(items),
            {str(i): i for i in items},
            frozenset(items),
        )
        assert decode(encode(held)) == held


def raw(name: str, version: int, *fields: object) -> bytes:
    """The bytes of a record as another program might have written them."""
    return cbor2.dumps(cbor2.CBORTag(47616, [name, version, *fields]))


def test_an_older_version_is_refused_without_an_upcaster() -> None:
    """A record of an older version raises OlderVersion, with both versions."""
    with pytest.raises(OlderVersion) as caught:
        decode(raw("tests.codec.three", 2, 5))
    assert (caught.value.name, caught.value.version, caught.value.current) == ("tests.codec.three", 2, 3)


def test_an_upcaster_gets_name_version_and_fields() -> None:
    """What an upcaster makes of an older record takes its place, wherever it was nested."""
    asked = []

    def upcast(name: str, version: int, fields: tuple[object, ...]) -> object:
        asked.append((name, version, fields))
        return Three(fields[0], "", b"")  # type: ignore[arg-type]  # the old version held an int

    old = cbor2.CBORTag(47616, ["tests.codec.three", 2, 5])
    data = cbor2.dumps(cbor2.CBORTag(47617, [old]))
    assert decode(data, upcast=upcast) == [Three(5, "", b"")]
    assert asked == [("tests.codec.three", 2, (5,))]


def test_an_upcaster_is_asked_for_unknown_names() -> None:
    """A renamed record reaches the upcaster under its old name."""
    assert decode(raw("tests.codec.gone", 1, 7), upcast=lambda n, v, f: One(f[0])) == One(7)


def test_an_upcaster_that_fails_is_named_as_the_cause() -> None:
    """An upcaster's own error is the cause of a DecodeError; a typed one passes as it is."""

    def fails(error: Exception) -> Any:
        def upcast(*_: object) -> object:
            raise error

        return upcast

    with pytest.raises(DecodeError, match="upcaster") as caught:
        decode(raw("tests.codec.three", 2), upcast=fails(KeyError("x")))
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(Misuse, match=r"^no$"):
        decode(raw("tests.codec.three", 2), upcast=fails(Misuse("no")))


def test_an_upcaster_may_decode_too() -> None:
    """A decode inside an upcaster does not disturb the one around it."""
    old = cbor2.CBORTag(47616, ["tests.codec.three", 1, encode((1, One(2)))])
    data = cbor2.dumps([old, old, 9])
    back = decode(data, upcast=lambda n, v, f: One(decode(f[0])))  # type: ignore[arg-type]  # it holds bytes
    assert back == (One((1, One(2))), One((1, One(2))), 9)


def test_a_newer_version_is_refused() -> None:
    """A record from a later program raises NewerVersion, even with an upcaster."""
    with pytest.raises(NewerVersion) as caught:
        decode(raw("tests.codec.three", 4, 1, "", b""), upcast=lambda n, v, f: None)
    assert (caught.value.version, caught.value.current) == (4, 3)


def test_an_unknown_record_is_refused() -> None:
    """A name that nobody registered raises UnknownRecord and imports nothing."""
    with pytest.raises(UnknownRecord) as caught:
        decode(raw("os.path", 1))
    assert (caught.value.name, caught.value.version) == ("os.path", 1)


def test_an_interrupt_passes_through_the_decoder() -> None:
    """cbor2 wraps even an interrupt that strikes in a callback; it comes out as itself."""

    def upcast(*_: object) -> object:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode(raw("tests.codec.three", 2), upcast=upcast)
    assert decode(encode(One(1))) == One(1)


def test_threads_do_not_share_a_decoder() -> None:
    """Decoding in several threads at a time gives each its own value."""
    wrong: list[object] = []
    data = [encode(tuple(One((n, i)) for i in range(20))) for n in range(4)]

    def work(n: int) -> None:
        for _ in range(200):
            if decode(data[n]) != tuple(One((n, i)) for i in range(20)):
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_flag_cannot_be_registered() -> None:
    """A Flag's combinations have no names, so it is refused when it is declared."""
    with pytest.raises(Misuse, match="Flag"):

        @enumeration("tests.codec.flag")
        class Bits(enum.Flag):
            A = 1


def test_an_enum_name_belongs_to_one_enum() -> None:
    """Two enums cannot be registered under one name."""
    with pytest.raises(Misuse, match="belongs to"):

        @enumeration("tests.codec.suit")
        class Other(enum.Enum):
            A = 1
