"""Deltas: applied to the one absolute they give the other, whatever the two are."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.edge.deltas import BadDelta, apply, diff

SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-2, 2) | st.text("ab0", max_size=2)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "b", "0", ""]), inner, max_size=4)
    ),
    max_leaves=12,
)


def text(value: Any) -> str:
    """As JSON, where True is no 1."""
    return json.dumps(value, sort_keys=True)


@given(VALUES, VALUES)
def test_a_delta_leads_from_one_absolute_to_the_other(before: Any, after: Any) -> None:
    """apply(diff(a, b), a) is b to the letter, also after the delta was on its way as JSON; a stays a."""
    kept = text(before)
    delta = diff(before, after)
    assert text(apply(delta, before)) == text(after)
    assert text(apply(json.loads(json.dumps(delta)), json.loads(kept))) == text(after)
    assert text(before) == kept


@given(VALUES)
def test_equal_absolutes_differ_by_nothing(value: Any) -> None:
    """The delta between two equal values is empty."""
    assert diff(value, json.loads(text(value))) == []


def test_a_delta_says_no_more_than_has_changed() -> None:
    """A changed place is named by its path; all that is equal stays unsaid."""
    before = {"pot": 1, "seats": [{"bet": 0, "name": "ann"}, {"bet": 0, "name": "bob"}], "actor": "ann"}
    after = {"pot": 1, "seats": [{"bet": 0, "name": "ann"}, {"bet": 5, "name": "bob"}, {"bet": 1}]}
    assert diff(before, after) == [[["actor"]], [["seats", 1, "bet"], 5], [["seats", 2], {"bet": 1}]]


def test_a_shorter_list_loses_its_end() -> None:
    """Places are removed from the end, each by an index that is right when it is used."""
    assert diff([1, 2, 3], [1]) == [[[2]], [[1]]]


@pytest.mark.parametrize(("before", "after"), [(1, True), (0, False), (1, 1.0), (None, 0), ("1", 1), ([], {})])
def test_values_of_other_types_differ(before: Any, after: Any) -> None:
    """What Python calls equal is another value in JSON, and is sent."""
    assert diff([before], [after]) == [[[0], after]]


@pytest.mark.parametrize(
    "delta",
    [
        [[]],
        [[[]]],
        [[["x"]]],
        [[["a", "b"], 1]],
        [[["l", 3], 1]],
        [[["l", 1]]],
        [[["l", -1], 1]],
        [[["l", "0"], 1]],
        [[["l", True], 1]],
        [[[0], 1]],
        [[["n", 0], 1]],
        [[["a"], 1, 2]],
        [["a", 1]],
        ["a"],
    ],
)
def test_a_delta_that_does_not_fit_is_refused(delta: Any) -> None:
    """A delta for another value, or of another shape, raises BadDelta."""
    with pytest.raises(BadDelta):
        apply(delta, {"l": [0], "a": 1, "n": None})
