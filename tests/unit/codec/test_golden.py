"""Values as the codec of journal format 1 once wrote them are read for ever."""

from __future__ import annotations

import enum
import json
from pathlib import Path

import pytest

from runtime import message
from runtime.codec.cbor import decode, encode, enumeration

GOLDEN = Path(__file__).parents[2] / "golden" / "journal_v1.json"


@enumeration("golden.suit")
class Suit(enum.Enum):
    CLUBS = "c"


@message("golden.withdrawn")
class Withdrawn:
    amount: int
    to: str


@message("golden.everything", version=7)
class Everything:
    nothing: None
    yes: bool
    number: int
    large: int
    ratio: float
    text: str
    raw: bytes
    pair: tuple[object, ...]
    items: list[object]
    named: dict[str, object]
    some: frozenset[object]
    suit: Suit
    inner: Withdrawn


VALUES: dict[str, object] = {
    "scalars": (None, True, False, 0, -1, (1 << 64) - 1, -(1 << 64), 1.5, -0.0, "é", b"\x00"),
    "large ints": (1 << 64, -(1 << 64) - 1, 1 << 1000),
    "containers": ((), [], {}, frozenset(), [(1,), [2]], {"b": 1, "a": [2]}, frozenset({2, "x", (1,)})),
    "events and reply": ((Withdrawn(150, "table/7"),), 350),
    "everything": Everything(
        nothing=None,
        yes=True,
        number=5,
        large=1 << 70,
        ratio=0.1,
        text="ann",
        raw=b"k",
        pair=(1, (2,)),
        items=[3],
        named={"z": 1, "y": ()},
        some=frozenset({1}),
        suit=Suit.CLUBS,
        inner=Withdrawn(1, "x"),
    ),
}


@pytest.mark.parametrize("name", VALUES)
def test_the_golden_values_are_read_and_written_as_ever(name: str) -> None:
    """Bytes that were once written decode to the same value, which encodes to the same bytes."""
    golden = json.loads(GOLDEN.read_text())["values"]
    assert sorted(golden) == sorted(VALUES)
    assert decode(bytes.fromhex(golden[name])) == VALUES[name]
    assert encode(VALUES[name]).hex() == golden[name]
