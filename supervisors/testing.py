"""A pytest plugin for applications: a node, virtual time, a crash on demand; a test that fails shows the tree.

    async def test_the_counter_heals(node, virtual_clock, crash):
        await node.start(Shop)
        assert await crash("counter") == whereis("counter")

Tests are `async def` and are run by pytest-trio, which must be installed: with `trio_mode = true` in the
settings of pytest, or each marked by hand with `pytest.mark.trio`. The plugin is there as soon as Banyan is
installed, and imports nothing of it before a test asks for one of its fixtures. Source: OTP `ct_suite`;
Elixir `start_supervised`.
"""

from __future__ import annotations

import inspect
import math
import textwrap
from collections.abc import AsyncIterator, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Protocol, final

import pytest

if TYPE_CHECKING:
    from trio.testing import MockClock

    from runtime.behaviours.gen import ChildView
    from runtime.kernel.ids import Pid
    from runtime.kernel.process import Process
    from runtime.kernel.table import ProcessTable

    from .node.node import Node

# The last messages that are kept of each process, and how many processes a failing test shows.
MESSAGES = 10
PROCESSES = 20
# Seconds between two looks at a child whose restart waits for a back-off.
LOOK = 0.01

Sections = list[tuple[str, str]]
# What a node looked like when its test was over: titles and texts.
LAST_LOOK = pytest.StashKey[Sections]()


@final
class CrashedByTest(Exception):
    """The error with which `crash` ends a process, unless it is told another."""


class Crasher(Protocol):
    """What the fixture `crash` gives: `crash_process`."""

    async def __call__(self, which: Pid | str, error: Exception | None = None) -> Pid | None:
        """End a process with an error; its successor's pid, or None."""


@pytest.fixture
async def node(request: pytest.FixtureRequest, _on_trio: None) -> AsyncIterator[Node]:
    """A running node named `test` with a store in memory; the test's own code is its host.

    It is stopped in order after the test. The last messages of its processes are kept meanwhile, and of
    those that crash the end; if the test fails, they are printed below the tree.
    """
    from runtime.observe.recorder import recorder_of

    from .node.node import Node

    async with Node("test", data=":memory:") as running:
        await recorder_of(running.table).keep(MESSAGES, changes=False)
        try:
            yield running
        finally:  # pytest hears of the failure when the node is gone
            request.node.stash[LAST_LOOK] = _look(running)


@pytest.fixture
def virtual_clock(request: pytest.FixtureRequest) -> MockClock:
    """A clock for the whole test that leaps to the next deadline as soon as nobody can run.

    So an hour's timer rings at once, and always in the same order. It is heeded only if the test names it among
    its own arguments; anything else fails, rather than wait for an hour.
    """
    import trio.testing

    if "virtual_clock" not in inspect.signature(request.function).parameters:
        pytest.fail(
            "virtual_clock is heeded only among the test's own arguments: name it there too, not only in a fixture",
            pytrace=False,
        )
    return trio.testing.MockClock(autojump_threshold=0)


@pytest.fixture
def crash() -> Crasher:
    """`await crash(pid)` or `await crash("name")`; see `crash_process`."""
    return crash_process


@pytest.fixture
def _on_trio(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("trio") is None:
        pytest.fail(
            "the fixture 'node' is for tests that pytest-trio runs: install pytest-trio, write the test as "
            "`async def`, and set trio_mode = true (or mark it with pytest.mark.trio)",
            pytrace=False,
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add what the node looked like to the report of a test that failed."""
    report = yield
    if report.failed:
        seen: Sections = item.stash.get(LAST_LOOK, [])
        report.sections += seen
        item.stash[LAST_LOOK] = []  # a second failure of the same test, in its teardown, has nothing to add
    return report


# -- a crash -------------------------------------------------------------------------------------------


async def crash_process(which: Pid | str, error: Exception | None = None) -> Pid | None:
    """End a process with an error and wait until its supervisor has done with that.

    Args:
        which: the process, by pid or by name.
        error: what it dies of, by default CrashedByTest. It strikes at the next checkpoint, as a kill does, so
            it cannot be trapped and `terminate` does not run; callers get CalleeExited, links a Crash.

    Returns: the pid of its successor, also after a back-off. None if it has none: it is temporary, or was not
    a supervisor's child, or its supervisor gave up; in that case what is above has dealt with it.

    Raises Misuse: there is no such process.
    """
    import trio

    from runtime.kernel.exits import Crash

    from .node.applications import wait_for_end

    process = _find(which)
    above = list(_supervisors_above(process))
    children = _children(above[0]) if above else []
    before = {one.pid for one in children}
    ids = {one.id for one in children if one.pid == process.pid}
    process.interrupt(Crash(error if error is not None else CrashedByTest("crashed by the test")))
    await wait_for_end(process)
    while above:
        if not await _dealt_with(above[0]):
            await _first_that_answers(above[1:])
            return None
        # A dynamic supervisor's ids need not differ: a successor keeps its place, before those who came later.
        same = [one for one in _children(above[0]) if one.id in ids]
        successor = next((one.pid for one in same if one.pid is not None and one.pid not in before), None)
        if successor is not None or not any(one.state in ("restarting", "waiting") for one in same):
            return successor
        await trio.sleep(LOOK)
    return None


def _find(which: Pid | str) -> Process:
    from runtime import Misuse, whereis

    pid = whereis(which) if isinstance(which, str) else which
    if pid is None or pid._process is None:
        raise Misuse(f"there is no process {which!r} that could crash: was it started, and has it not ended before?")
    return pid._process


def _supervisors_above(process: Process) -> Iterator[Pid]:
    """Whose child it is, whose child that is, and so on up to the node's root."""
    from .supervisor import Supervisor

    while process.parent is not None and process.parent._process is not None:
        process = process.parent._process
        if not isinstance(process.behaviour, Supervisor):
            return
        yield process.pid


def _children(supervisor: Pid) -> list[ChildView]:
    from .supervisor import Supervisor

    behaviour = supervisor._process.behaviour if supervisor._process is not None else None
    return list(behaviour.overview().children) if isinstance(behaviour, Supervisor) else []


async def _dealt_with(supervisor: Pid) -> bool:
    """Wait until a supervisor has done what waited for it; False if it has ended."""
    from runtime import CallFailed

    from .children import count_children

    try:
        await count_children(supervisor, timeout=math.inf)
    except CallFailed:
        return False
    return True


async def _first_that_answers(supervisors: Iterable[Pid]) -> None:
    for one in supervisors:
        if await _dealt_with(one):
            return


# -- the last look -------------------------------------------------------------------------------------


def _look(node: Node) -> Sections:
    """The tree, and the last messages of those that crashed, newest first, and of those that live."""
    told = [*_of_the_dead(node.table), *_of_the_living(node.table)]
    shown = told[:PROCESSES]
    if len(told) > len(shown):
        shown.append(f"and {len(told) - len(shown)} processes more")
    sections = [("the tree when the test ended", str(node.tree()))]
    if shown:
        sections.append(("the last messages", "\n".join(shown)))
    return sections


def _of_the_dead(table: ProcessTable) -> Iterator[str]:
    from runtime.observe.recorder import recorder_of

    for one in recorder_of(table).crashes(limit=PROCESSES):
        place = [f"at {one.trace[-1]}"] if one.trace else []
        in_hand = [f"in hand {one.last_message}"] if one.last_message else []
        yield _paragraph(f"{one.name or one.label} {one.pid} crashed: {one.reason}", [*one.recent, *in_hand, *place])


def _of_the_living(table: ProcessTable) -> Iterator[str]:
    from runtime.observe.recorder import recorder_of
    from runtime.observe.targets import name_of

    recorder = recorder_of(table)
    for process in table.processes.values():
        lines = recorder.recent(process)
        if lines:
            yield _paragraph(f"{name_of(process)} {process.pid}", lines)


def _paragraph(head: str, lines: Iterable[str]) -> str:
    return "\n".join([head, *(textwrap.indent(one, "    ") for one in lines)])
