"""Typed lines: what they give, what they print, what they may raise, and that none harms the node."""

from __future__ import annotations

import contextlib
import linecache
import sys
import warnings
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing

from runtime.kernel.exits import exit_with
from runtime.observe import repl
from runtime.observe.repl import Outcome, Session, Text, routed_stdout, show
from supervisors import Node


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async with Node("test") as node:
        yield node


@pytest.fixture
async def session(node: Node) -> AsyncIterator[Session]:
    with routed_stdout():
        session = Session(node.table, {"node": node, "trio": trio, "exit_with": exit_with})
        yield session
        session.close()


async def test_the_last_expression_is_the_value(session: Session) -> None:
    """A line's value is that of its last expression; statements alone have none."""
    assert await session.evaluate("1 + 1") == Outcome(value="2")
    assert await session.evaluate("x = 3") == Outcome()
    assert await session.evaluate("y = x\ny * 2") == Outcome(value="6")
    assert await session.evaluate("None") == Outcome()
    assert await session.evaluate("") == Outcome()
    assert await session.evaluate("_") == Outcome(value="6")


async def test_await_works_at_the_top(session: Session, autojump_clock: trio.testing.MockClock) -> None:
    """await, async with and async for stand where a function would be."""
    assert await session.evaluate("await trio.sleep(1)") == Outcome()
    lines = "async with trio.open_nursery() as ns:\n    ns.start_soon(trio.sleep, 1)\n"
    assert await session.evaluate(lines) == Outcome()
    assert await session.evaluate("x = await trio.to_thread.run_sync(len, 'abc')\nx") == Outcome(value="3")


async def test_an_open_line_wants_more_and_runs_nothing(session: Session) -> None:
    """Source that is not whole is not run."""
    assert await session.evaluate("print(1); x = [") == Outcome(more=True)


async def test_names_live_as_long_as_the_session(session: Session, node: Node) -> None:
    """What one session defines another does not see."""
    await session.evaluate("def f(x):\n    return x + 1\n")
    assert await session.evaluate("f(3)") == Outcome(value="4")
    other = await Session(node.table, {}).evaluate("f(3)")
    assert other.error is not None
    assert other.error.endswith("NameError: name 'f' is not defined")


async def test_prints_go_to_the_session_and_nowhere_else(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    """What a line prints is its own output, also from a task that it starts; others print as ever."""
    lines = "async def say(x): print(x)\nasync with trio.open_nursery() as ns:\n    ns.start_soon(say, 'task')\n"
    assert await session.evaluate("print('line'); 5") == Outcome(output="line\n", value="5")
    assert await session.evaluate(lines + "\n") == Outcome(output="task\n")
    sys.stdout.write("host\n")
    assert capsys.readouterr().out == "host\n"


async def test_two_sessions_at_once_print_apart(
    node: Node, autojump_clock: trio.testing.MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two lines that run at the same time do not mix their output."""
    results = {}

    async def run(name: str) -> None:
        source = f"for i in range(3):\n    print('{name}', i); await trio.sleep(1)\n"
        results[name] = await Session(node.table, {"trio": trio}).evaluate(source)

    with routed_stdout(), routed_stdout():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, "a")
            nursery.start_soon(run, "b")
    assert results == {name: Outcome(output=f"{name} 0\n{name} 1\n{name} 2\n") for name in ("a", "b")}
    assert capsys.readouterr().out == ""


async def test_stdout_is_put_back() -> None:
    """When the last session's door is closed, sys.stdout is what it was."""
    before = sys.stdout
    with routed_stdout():
        with routed_stdout():
            assert sys.stdout is not before
        assert sys.stdout is not before
    assert sys.stdout is before


async def test_an_error_is_told_from_the_typed_line_on(session: Session) -> None:
    """A traceback shows the typed lines, with their text, and none of the node's own machinery."""
    await session.evaluate("def f():\n    return 1 / 0\n")
    outcome = await session.evaluate("f()")
    assert outcome.error is not None
    assert [line for line in outcome.error.splitlines() if "~" not in line and "^" not in line] == [
        "Traceback (most recent call last):",
        f'  File "<remsh {session._number}:2>", line 1, in <module>',
        "    f()",
        f'  File "<remsh {session._number}:1>", line 2, in f',
        "    return 1 / 0",
        "ZeroDivisionError: division by zero",
    ]


@pytest.mark.parametrize(
    ("source", "last"),
    [
        ("'abc", "SyntaxError: unterminated string literal (detected at line 1)"),
        ("return 3", "SyntaxError: 'return' outside function"),
        ("raise SystemExit", "SystemExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise BaseException('x')", "BaseException: x"),
        ("exit_with('x')", "runtime.kernel.exits.ProcessExit: x"),
        ("input()", "RuntimeError: input() would hold up the node: assign the value to a name"),
        (
            "breakpoint()",
            "RuntimeError: breakpoint() would hold up the node: print, or look with state(name)",
        ),
        ("def f(): return f()\nf()", "RecursionError: maximum recursion depth exceeded"),
        ("await trio.sleep(-1)", "ValueError: `seconds` must be non-negative"),
        ("await 3", "TypeError: "),
    ],
)
async def test_nothing_that_a_line_raises_ends_the_node(session: Session, source: str, last: str) -> None:
    """Whatever a line raises is told, and the next line runs."""
    outcome = await session.evaluate(source)
    assert outcome.error is not None
    assert outcome.error.splitlines()[-1].startswith(last)  # Python's own words go on in their own way
    assert await session.evaluate("1") == Outcome(value="1")


async def test_a_group_of_errors_is_told(session: Session) -> None:
    """What a nursery of the line raises is told as a group."""
    lines = "async with trio.open_nursery() as ns:\n    ns.start_soon(trio.sleep, 1)\n    1 / 0\n"
    outcome = await session.evaluate(lines)
    assert outcome.error is not None
    assert "ExceptionGroup: Exceptions from Trio nursery (1 sub-exception)" in outcome.error


@pytest.mark.parametrize(
    "source",
    [
        "print('begun'); await trio.sleep_forever()",
        "print('begun')\nasync with trio.open_nursery() as ns:\n    ns.start_soon(trio.sleep_forever)\n",
    ],
)
async def test_an_interrupt_ends_the_line(session: Session, source: str) -> None:
    """A cancelled scope interrupts its line; what was printed until then is told."""
    results, scope = [], trio.CancelScope()

    async def run() -> None:
        results.append(await session.evaluate(source, scope))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
    assert results == [Outcome(output="begun\n", interrupted=True)]
    assert await session.evaluate("1") == Outcome(value="1")


async def test_a_cancel_from_outside_passes(session: Session) -> None:
    """When its connection ends, a line ends with it, also one with tasks of its own and errors among them."""
    lines = (
        "async def fails():\n"
        "    try:\n        await trio.sleep_forever()\n"
        "    finally:\n        raise ValueError\n"
        "async with trio.open_nursery() as ns:\n"
        "    ns.start_soon(fails)\n    ns.start_soon(trio.sleep_forever)\n"
    )
    for source in ("await trio.sleep_forever()", lines):
        with trio.CancelScope() as outer:
            async with trio.open_nursery() as nursery:
                with contextlib.suppress(ValueError):
                    nursery.start_soon(_quietly, session, source)
                await trio.testing.wait_all_tasks_blocked()
                outer.cancel()
        assert outer.cancelled_caught


async def _quietly(session: Session, source: str) -> None:
    try:
        await session.evaluate(source)
    except* ValueError:
        pass


async def test_leaving_words_say_how_to_leave(session: Session) -> None:
    """`exit` and `quit` end nothing in the node, called or not."""
    hint = Outcome(value="press Ctrl-D to leave; exit_process(name) ends a process of the node")
    assert [await session.evaluate(word) for word in ("exit", "exit()", "quit", "quit(1)")] == [hint] * 4


async def test_a_forgotten_await_is_told(session: Session) -> None:
    """A coroutine that nobody awaited is closed, and the line says what was forgotten."""
    outcome = await session.evaluate("trio.sleep(1)")
    assert outcome == Outcome(value="<coroutine sleep> that nobody awaited: put 'await' before it")


async def test_warnings_of_a_line_are_told_to_whoever_typed_it(session: Session) -> None:
    """What the compiler warns of is in the line's output, and the line runs."""
    outcome = await session.evaluate("x = 5\nx is 5")
    assert outcome.value == "True"
    assert outcome.output.startswith('SyntaxWarning: "is" with ')


async def test_warnings_of_others_are_not_the_lines(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is warned of elsewhere while a line is compiled goes its usual way."""
    parse = compile

    def noisy(*args: Any, **options: Any) -> Any:
        warnings.warn("of somebody else", ResourceWarning, stacklevel=1)
        return parse(*args, **options)

    monkeypatch.setattr(repl, "compile", noisy, raising=False)
    with pytest.warns(ResourceWarning, match="of somebody else"):
        assert await session.evaluate("1") == Outcome(value="1")


async def test_values_and_output_are_cut(session: Session) -> None:
    """What a line shows and prints has a bound, and says what is missing."""
    value = (await session.evaluate("list(range(1000))")).value
    assert value is not None
    assert value.endswith("98, 99, ...]")
    text = (await session.evaluate("['x' * 1000] * 90")).value
    assert text is not None
    assert len(text) < repl.VALUE_LIMIT + 50
    assert text.endswith("more characters)")
    printed = (await session.evaluate("for i in range(3): print('x' * 50_000)")).output
    assert printed == "x" * 50_000 + "\n" + "x" * 49_999 + "\n... 50003 more characters were printed\n"
    error = (await session.evaluate("raise ValueError('x' * 100_000)")).error
    assert error is not None
    assert len(error) < repl.VALUE_LIMIT + 50


async def test_a_repr_that_fails_fails_nothing(session: Session) -> None:
    """A value that cannot be shown is named by its type."""
    assert (await session.evaluate("10 ** 10_000")).value == "<unprintable int: ValueError>"
    lines = "class Odd:\n    def __repr__(self): 1 / 0\n\nOdd()"
    value = (await session.evaluate(lines)).value
    assert value is not None
    assert value.startswith("<Odd instance at 0x")


async def test_lines_are_kept_for_tracebacks_up_to_a_bound(session: Session) -> None:
    """A session keeps the text of its last lines, and none when it is closed."""

    def kept() -> int:
        return sum(name.startswith(f"<remsh {session._number}:") for name in linecache.cache)

    for _ in range(repl.KEPT_LINES + 10):
        await session.evaluate("1")
    assert kept() == repl.KEPT_LINES
    session.close()
    assert kept() == 0


def test_text_is_shown_as_it_is() -> None:
    """What a helper says to a person has no quotes; a string has."""
    assert (show(Text("a\nb")), show("a\nb"), show(None)) == ("a\nb", r"'a\nb'", None)


class _Touchy:
    """Whatever reads one of its attributes by the usual way fails the test."""

    quiet = 1

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"{name} was read")

    @property
    def loud(self) -> object:
        raise AssertionError("the property ran")


async def test_completion_goes_on_where_a_word_ends(session: Session) -> None:
    """A name, an attribute, the name of a process: each is completed from what is there."""
    await session.evaluate("lobby = 1; lobster = 2; _hidden = 3")
    assert session.complete("lob") == (0, ["lobby", "lobster"])
    assert session.complete("x = lobb") == (4, ["lobby"])
    assert session.complete("trio.sleep_") == (0, ["trio.sleep_forever", "trio.sleep_until"])
    assert session.complete("node.table.proc") == (0, ["node.table.processes"])
    assert session.complete("_hid") == (0, ["_hidden"])
    assert session.complete("prin") == (0, ["print"])
    assert session.complete("nobody.x") == (0, [])
    assert session.complete("") == (0, [])
    assert session.complete("node.tree().") == (11, [])


async def test_completion_knows_the_processes_inside_quotes(node: Node) -> None:
    """Inside a string the registered names are offered."""

    async def idle() -> None:
        await trio.sleep_forever()

    await node.start(idle, name="idler", restart="temporary")
    pid = next(p.pid for p in node.table.processes.values() if "idle" in p.label)
    assert pid._process is not None
    node.table.register("table/oak", pid._process)
    session = Session(node.table, {})
    assert session.complete('await state("tab') == (13, ["table/oak"])
    assert session.complete("info('tab") == (6, ["table/oak"])
    assert session.complete("'tab' + tab") == (8, [])


async def test_completion_touches_nothing(session: Session) -> None:
    """Completing runs no property and no __getattr__: to look is not to act."""
    session.names["touchy"] = _Touchy()
    assert session.complete("touchy.") == (0, ["touchy.loud", "touchy.quiet"])
    assert session.complete("touchy.loud.x") == (0, [])
    assert session.complete("touchy.missing.x") == (0, [])
    assert session.complete("touchy.quiet.real") == (0, ["touchy.quiet.real"])
