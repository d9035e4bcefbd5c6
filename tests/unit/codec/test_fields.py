"""Which values fit which annotations."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Annotated, Any, Generic, Literal, NewType, Optional, TypeVar, Union

import pytest

from runtime import Call, message
from runtime.codec.cbor import decode, encode
from runtime.codec.fields import fits, hints
from runtime.errors import Misuse

T = TypeVar("T")
B = TypeVar("B", bound=int)
Chips = NewType("Chips", int)


class Colour(enum.Enum):
    RED = 1


@message("tests.fields.box")
class Box(Generic[T]):
    held: T


@message("tests.fields.ask")
class Ask(Call[int]):
    box: Box[int] | None


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (int, [1], [True, 1.0, "1", None]),
        (bool, [True], [1, None]),
        (float, [1.5, 1], [True, "1"]),
        (str, ["x"], [b"x"]),
        (bytes, [b"x"], ["x"]),
        (None, [None], [0]),
        (object, [1, None], []),
        (Any, [1, None], []),
        (int | None, [1, None], ["x"]),
        (Optional[int], [1, None], ["x"]),  # noqa: UP045  # the old spelling must work too
        (Union[int, str], [1, "x"], [b"x"]),  # noqa: UP007  # likewise
        (Literal["a", 1], ["a", 1], ["b", True]),
        (Annotated[int, "chips"], [1], ["x"]),
        (Chips, [1], ["x"]),
        (T, [1, "x"], []),
        (B, [1], ["x"]),
        (tuple, [(), (1, "x")], [[]]),
        (tuple[int, str], [(1, "x")], [(1,), (1, 1), [1, "x"]]),
        (tuple[int, ...], [(), (1, 2)], [("x",), [1]]),
        (tuple[()], [()], [[]]),
        (list, [[1]], [(1,)]),
        (list[int], [[1]], [["x"], (1,)]),
        (Sequence[int], [[1], (1,)], [["x"], "1"]),
        (dict, [{}], [()]),
        (dict[str, int], [{"a": 1}], [{"a": "x"}]),
        (Mapping[str, int], [{"a": 1}], [{"a": "x"}, ()]),
        (frozenset, [frozenset()], [()]),
        (frozenset[int], [frozenset({1})], [frozenset({"x"})]),
        (AbstractSet[int], [frozenset({1})], [frozenset({"x"})]),
        (Colour, [Colour.RED], [1]),
        (Box, [Box(1)], [1]),
        (Box[int], [Box(1)], [1]),
        (tuple[Box[int], ...], [(Box(1),)], [(1,)]),
    ],
    ids=str,
)
def test_a_value_fits_or_not(annotation: object, good: list[object], bad: list[object]) -> None:
    """Each kind of annotation takes its own values and no others."""
    fitting = fits(annotation)
    assert [fitting(v) for v in good] == [True] * len(good)
    assert [fitting(v) for v in bad] == [False] * len(bad)


def test_an_annotation_that_cannot_travel_is_misuse() -> None:
    """A field whose annotation is no type at all can never be checked, and its class is at fault."""
    for annotation in ("unresolved", 3, ...):
        with pytest.raises(Misuse, match="can travel"):
            fits(annotation)


def test_a_function_never_fits() -> None:
    """A field that holds a function takes no value that can travel."""
    assert [fits(Callable[[], int])(v) for v in (1, "x", None, ())] == [False] * 4


def test_an_annotation_that_cannot_be_resolved_is_misuse() -> None:
    """Untrusted bytes are not decoded into a record whose types cannot be read."""

    @message("tests.fields.unresolved")
    class Unresolved:
        a: Missing  # type: ignore[name-defined]  # noqa: F821  # on purpose

    with pytest.raises(Misuse, match="TYPE_CHECKING"):
        hints(Unresolved)
    data = encode(Unresolved(1))
    assert decode(data) == Unresolved(1)
    with pytest.raises(Misuse, match="TYPE_CHECKING"):
        decode(data, checked=True)


def test_a_nested_generic_record_is_checked_by_its_class() -> None:
    """A record inside a record is held against its class; its fields against their own annotations."""
    assert decode(encode(Ask(Box(1))), checked=True) == Ask(Box(1))
