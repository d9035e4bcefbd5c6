"""docs/semantics.md is whole: each rule stands there once, in order, with a state and what that state asks for."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.outside import shared
from tests.support.source import ROOT

PAGE = ROOT / "docs" / "semantics.md"

# How many rules each family has, in the page's order.
FAMILIES = {"P": 55, "R": 10, "G": 9, "T": 8, "L": 10, "S": 68, "N": 29, "M": 32, "E": 12, "Y": 12, "X": 12, "D": 6}
IDS = [f"{family}{number}" for family, count in FAMILIES.items() for number in range(1, count + 1)]
STATES = ("held", "differs", "not offered", "later")
# What a rule may still wait for.
AWAITED = ("with distribution",)

_ID = re.compile(r"^\| *([A-Z]\d+)\b", re.MULTILINE)
# A test, perhaps a class's, perhaps with one of its parameters: `tests/a.py::TestB::test_c[d]`.
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+(?:::\w+)?)(?:\[[^`]*\])?`")


@dataclass(frozen=True)
class Row:
    """One rule of the page."""

    rule: str
    state: str
    words: str
    tests: str


def rows_of(text: str) -> list[Row]:
    """All rows of a page's tables that begin with a rule's id; raises ValueError for one that is no row."""
    rows = []
    for line in text.splitlines():
        if _ID.match(line):
            cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
            if len(cells) != 4:
                raise ValueError(f"a row has four cells, this one {len(cells)}: {line}")
            rows.append(Row(*cells))
    return rows


def faults_of(row: Row) -> Iterator[str]:
    """What is wrong with a row, apart from the tests that it names."""
    tests = "" if row.tests == "-" else row.tests
    if row.state not in STATES:
        yield f"its state is {row.state!r}"
    if _TEST.sub("", tests).strip(", "):
        yield f"its last cell is neither '-' nor names tests: {row.tests}"
    if row.state in ("held", "differs") and not tests:
        yield f"{row.state}, but no test proves it"
    if row.state in ("held", "differs", "not offered") and len(row.words.split()) < 3:
        yield "it has no words that say what holds, or why not"
    if row.state == "later" and row.words not in AWAITED:
        yield f"it comes {row.words!r}, which is none of {AWAITED}"


@functools.cache
def functions_of(file: str) -> dict[str, str]:
    """The test functions of a file, as `test_a` and `TestB::test_c`, with their docstrings."""
    path = ROOT / file
    return dict(_tests(ast.parse(path.read_text()), "")) if path.exists() else {}


def _tests(node: ast.Module | ast.ClassDef, prefix: str) -> Iterator[tuple[str, str]]:
    for inner in node.body:
        if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) and inner.name.startswith("test"):
            yield prefix + inner.name, ast.get_docstring(inner) or ""
        elif isinstance(inner, ast.ClassDef):
            yield from _tests(inner, f"{prefix}{inner.name}::")


def says(docstring: str, rule: str) -> bool:
    """Whether a text names a rule, by itself or as one of a range such as P52-P55."""
    family, number = rule[0], int(rule[1:])
    for found in re.finditer(rf"\b{family}(\d+)(?:\s?[-\u2013]\s?{family}(\d+))?\b", docstring):
        first, last = int(found[1]), int(found[2] or found[1])
        if first <= number <= last:
            return True
    return False


ROWS = rows_of(PAGE.read_text(encoding="utf-8"))


def test_each_rule_stands_on_the_page_once_and_in_order() -> None:
    """The page's rows are OTP's rules, from the first to the last."""
    assert [row.rule for row in ROWS] == IDS


def test_each_rule_of_otp_stands_on_the_page() -> None:
    """Where OTP's rules are at hand, none of them is missing on the page."""
    theirs = _ID.findall(shared("otp", "semantics.md").read_text(encoding="utf-8"))
    assert len(theirs) > 200, "the rules have another form than they had"
    assert sorted(set(theirs) - {row.rule for row in ROWS}) == []


def test_each_row_has_what_its_state_asks_for() -> None:
    """held and differs name a test, not offered a reason, later what it comes with."""
    assert [f"{row.rule}: {fault}" for row in ROWS for fault in faults_of(row)] == []


def test_each_test_that_a_row_names_exists_and_says_its_rule() -> None:
    """A row proves nothing by a test that is not there, or that is about something else."""
    wrong = []
    for row in ROWS:
        for file, name in _TEST.findall(row.tests):
            docstring = functions_of(file).get(name)
            if docstring is None:
                wrong.append(f"{row.rule}: there is no {file}::{name}")
            elif not says(docstring, row.rule):
                wrong.append(f"{row.rule}: the docstring of {file}::{name} does not name the rule")
    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("| P1 | kept | a b c | `tests/a.py::test_b` |", "its state"),
        ("| P1 | held | a b c | - |", "no test proves it"),
        ("| P1 | differs | a b c | see above |", "its last cell"),
        ("| P1 | held | a b c | `tests/a.py` |", "its last cell"),
        ("| P1 | not offered | - | - |", "no words"),
        ("| P1 | later | some day | - |", "it comes"),
    ],
)
def test_a_wrong_row_is_found(row: str, fault: str) -> None:
    """Each fault that a row may have is told."""
    [found] = rows_of(row)
    assert [told for told in faults_of(found) if fault in told]


@pytest.mark.parametrize(
    "row",
    [
        "| P1 | held | What holds here. | `tests/a.py::test_b`, `tests/a.py::TestC::test_d[e-f]` |",
        "| P1 | not offered | There is no such thing. | - |",
        "| P1 | later | with distribution | - |",
    ],
)
def test_a_right_row_has_no_fault(row: str) -> None:
    """What the page may say passes."""
    [found] = rows_of(row)
    assert list(faults_of(found)) == []


def test_a_row_with_too_few_cells_is_no_row() -> None:
    """A line that begins with a rule and is no whole row is not passed over."""
    with pytest.raises(ValueError, match="four cells, this one 3"):
        rows_of("| P1 | held | words |")


@pytest.mark.parametrize(
    ("docstring", "rule", "named"),
    [
        ("It holds (P5, P14).", "P5", True),
        ("It holds (P5, P14).", "P1", False),
        ("It holds (P52-P55).", "P53", True),
        ("It holds (P52-P55).", "P5", False),
        ("It holds (AP5).", "P5", False),
    ],
)
def test_a_docstring_names_its_rules(docstring: str, rule: str, named: bool) -> None:
    """A rule's number is read whole, and ranges count."""
    assert says(docstring, rule) is named
