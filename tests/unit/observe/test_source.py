"""Whether typed source is whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.observe.source import needs_more


@pytest.mark.parametrize(
    "source",
    [
        "for x in y:",
        "for x in y:\n  a",
        "async with a:",
        "async with a:\n    await b",
        "(1,",
        "'''a",
        "@decorated",
        "x = \\",
        "if 1:\n  a\nelse:",
        "x = [\n 1",
        "def f():\n    return 1",
        "match x:\n  case 1: y",
    ],
)
def test_open_source_needs_more(source: str) -> None:
    """A bracket, a string, a block that is still open wants another line."""
    assert needs_more(source)


@pytest.mark.parametrize(
    "source",
    [
        "",
        "  ",
        "1+1",
        "await x",
        "async with a: pass",
        "x = 1\ny = 2",
        "for x in y:\n  a\n",
        "def f():\n    return 1\n",
        "def f(): pass",
        "#c",
        "x = [\n 1]",
        "   # c",
        '"""a\n b"""',
    ],
)
def test_whole_source_needs_no_more(source: str) -> None:
    """A statement that is complete is run, and a block ends with an empty line."""
    assert not needs_more(source)


@pytest.mark.parametrize("source", ["'abc", ")", "a b", "return 1", "a\x00b", "1 1\n", "x = $"])
def test_a_mistake_needs_no_more(source: str) -> None:
    """No further line could mend a mistake, so it is run, and shown."""
    assert not needs_more(source)


def test_looking_warns_of_nothing() -> None:
    """What Python warns of is told when the line runs, not while it is typed."""
    assert not needs_more("1 is 1")
    assert not needs_more(r"'\d'")


@given(st.text() | st.text(alphabet="a:(\"' \n\\#@[}"))
def test_any_text_is_whole_or_not(text: str) -> None:
    """No text that a person can type makes the question fail."""
    assert needs_more(text) in (True, False)
