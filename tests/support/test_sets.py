"""Which iterations over a set are found."""

from __future__ import annotations

import ast

import pytest

from tests.support.sets import ordered_by_a_set


@pytest.mark.parametrize(
    "text",
    [
        "for x in {1, 2}: pass",
        "for x in set(y): pass",
        "for x in a | {1}: pass",
        "z = [x for x in {y for y in b}]",
        "z = list(frozenset(b))",
        "z = next(iter({1}))",
        "z = {x: 1 for x in {1}}",
        "f(*{1, 2})",
        "s = set(a)\nfor x in s: pass",
        "s: 'set[str]' = make()\nfor x in s: pass",
        "s = set(a)\nt = s - b\nfor x in t: pass",
        "def f(s: frozenset[int]):\n    for x in s: pass",
        "class A:\n    s: set[int]\n    def f(self):\n        for x in self.s: pass",
        "class A:\n    def __init__(self):\n        self.s = set()\n    def f(self): return self.s.pop()",
        "async def f():\n    s = {1}\n    yield [x for x in s]",
    ],
)
def test_the_order_of_a_set_is_found(text: str) -> None:
    """Whatever is known to be a set must not decide an order."""
    assert list(ordered_by_a_set(ast.parse(text)))


@pytest.mark.parametrize(
    "text",
    [
        "for x in sorted({1, 2}): pass",
        "z = any(x > 1 for x in {1, 2})",
        "z = {x + 1 for x in {1, 2}}",
        "z = {*a, *{1, 2}}",
        "z = len({1}) in {1, 2}",
        "for x in {1: 2}: pass",
        "s = list(a)\nfor x in s: pass",
        "class A:\n    s: set[int]\nclass B:\n    s: list[int]\n    def f(self): return list(self.s)",
        "def f(s: set[int]): return 1 in s\ndef g(s: list[int]):\n    for x in s: pass",
    ],
)
def test_what_has_no_order_of_a_set_is_free(text: str) -> None:
    """Sorted sets, dicts, lists, and folds that do not see the order are free."""
    assert list(ordered_by_a_set(ast.parse(text))) == []
