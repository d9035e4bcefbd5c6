"""How the tests themselves are written: they wait for events, not for time."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.support.bans import Ban
from tests.support.source import Source, has_reason, sources

VIRTUAL_CLOCKS = {"autojump_clock", "mock_clock"}
VIRTUAL = re.compile(r"#\s*virtual\b")


def settling_sleeps(source: Source) -> Iterator[int]:
    """Lines with `trio.sleep` or `trio.sleep_until` on a real clock.

    Time is virtual in a function that takes one of pytest-trio's clocks, and on a line that says `# virtual`
    because a caller runs it under a mock clock.
    """
    if "sleep" not in source.text:
        return
    waiting: list[tuple[ast.AST, bool]] = [(source.tree, False)]
    while waiting:
        node, virtual = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            virtual = virtual or any(a.arg in VIRTUAL_CLOCKS for a in node.args.args + node.args.kwonlyargs)
        if isinstance(node, ast.Call) and source.name_of(node.func) in {"trio.sleep", "trio.sleep_until"}:
            if not virtual and not VIRTUAL.search(source.comments.get(node.lineno, "")):
                yield node.lineno
        waiting += [(child, virtual) for child in ast.iter_child_nodes(node)]


SLEEP = Ban(
    "a sleep on the real clock",
    instead="wait for the event, or take autojump_clock, or say '# virtual' on the line",
    shapes=(settling_sleeps,),
    rooms=("tests",),
)
CLOCK = Ban(
    "a measured time",
    instead="assert what happened, not how long it took; bound it with trio.fail_after",
    names=("time.time*", "time.monotonic*", "time.perf_counter*", "datetime.datetime.now"),
    rooms=("tests",),
)


@pytest.mark.parametrize("ban", [SLEEP, CLOCK], ids=lambda ban: ban.what)
def test_tests_wait_for_events_and_not_for_time(ban: Ban) -> None:
    """No test sleeps for others to finish, and none asserts how long something took."""
    assert [line for source in sources(*ban.rooms) for line in ban.violations(source)] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import trio\nasync def test_a(): await trio.sleep(1)", 1),
        ("from trio import sleep\nasync def test_a(): await sleep(1)", 1),
        ("import trio\nasync def test_a(autojump_clock): await trio.sleep(1)", 0),
        ("import trio\nasync def test_a(mock_clock):\n    async def b(): await trio.sleep(1)", 0),
        ("import trio\nasync def b(): await trio.sleep(1)  # virtual", 0),
        ("import trio\nasync def b(): await trio.sleep_forever()", 0),
    ],
)
def test_a_sleep_is_free_under_a_virtual_clock_only(text: str, found: int) -> None:
    """`trio.sleep` is found unless the test's clock is virtual or the line says so."""
    assert len(SLEEP.violations(Source("tests/x.py", text))) == found


def test_a_reason_is_made_of_words() -> None:
    """A mark or a code alone is no reason."""
    assert [has_reason(text) for text in ("", "!!", "x", "E501", "the table reads better")] == [
        *[False] * 4,
        True,
    ]


def test_every_test_has_the_sentence_that_a_reader_would_quote() -> None:
    """A test's docstring says in a sentence what holds."""
    silent = [
        f"{source.path}:{node.lineno}: {node.name}"
        for source in sources("tests")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not (ast.get_docstring(node) or "").rstrip().endswith((".", "?", "!"))
    ]
    assert silent == []
