"""The pytest plugin: its fixtures, what a failing test shows, and what it refuses."""

from __future__ import annotations

import subprocess
import sys

import pytest
import trio

import supervisors.node.boot  # noqa: F401  # so that no run inside a test is the first to load it
from runtime import GenServer, Misuse, call, exit_with, spawn, start, whereis
from supervisors import Backoff, DynamicSupervisor, Supervisor, child, start_child
from supervisors.testing import PROCESSES, crash_process
from tests.support.processes import as_process, end_of, idle

pytest_plugins = ["pytester"]

COUNTER = """
import trio
import pytest
from runtime import GenServer, call, cast, whereis
from supervisors import Supervisor, child

class Counter(GenServer):
    trap_exit = True

    def init(self):
        self.count = 0

    def handle_call(self, request, caller):
        self.count += 100 // request
        return self.count

    def terminate(self, reason):
        print("the counter ends:", reason)

class Shop(Supervisor):
    def init(self):
        return [child("counter", Counter, name="counter")]
"""


@pytest.fixture
def suite(pytester):
    """Runs tests as an application's own, after the Counter and its Shop; the result."""
    pytester.makeini("[pytest]\ntrio_mode = true\n")

    def run(tests, *arguments):
        pytester.makepyfile(COUNTER + tests)
        return pytester.runpytest_inprocess("-p", "supervisors.testing", "-p", "no:randomly", *arguments)

    return run


# -- the fixtures --------------------------------------------------------------------------------------


def test_node_runs_with_a_store_and_is_stopped_after_the_test(suite):
    """The node has a journal in memory, and its processes end in order when the test is over."""
    result = suite(
        """
async def test_it(node):
    await node.start(Shop)
    assert node.journal is not None
    assert await call("counter", 4) == 25
""",
        "-s",
        "-rP",  # passed tests tell what they have to tell, too
    )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*the counter ends: shutdown*"])
    result.stdout.no_fnmatch_line("*the tree when the test ended*")


def test_virtual_time_leaps(suite):
    """A year passes at once, for the test and for the node's timers."""
    suite(
        """
async def test_it(node, virtual_clock):
    await node.start(Shop)
    before = trio.current_time()
    await trio.sleep(365 * 86400)
    assert trio.current_time() - before == 365 * 86400
    assert await call("counter", 4, timeout=1) == 25
"""
    ).assert_outcomes(passed=1)


def test_marked_tests_need_no_trio_mode(pytester):
    """Without trio_mode a test that is marked by hand is run all the same."""
    pytester.makepyfile(
        COUNTER
        + """
@pytest.mark.trio
async def test_it(node, virtual_clock, crash):
    await node.start(Shop)
    assert await crash("counter") == whereis("counter")
"""
    )
    pytester.runpytest_inprocess("-p", "supervisors.testing").assert_outcomes(passed=1)


def test_a_plain_function_cannot_have_a_node(suite):
    """A test that nobody runs under Trio is told what to do, and no node is started."""
    result = suite("def test_it(node): ...\n")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*write the test as `async def`*"])


def test_a_clock_that_would_not_be_heeded_is_refused(suite):
    """A clock that only a fixture asks for fails the test, instead of real time passing in silence."""
    result = suite(
        """
@pytest.fixture
def early(virtual_clock): ...

async def test_it(early): ...
"""
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*name it there too*"])


def test_the_plugin_loads_nothing_before_it_is_used():
    """Every run of pytest imports the plugin where Banyan is installed: it must not bring Trio along."""
    look = "import supervisors.testing, sys; sys.exit('trio' in sys.modules or 'runtime.kernel' in sys.modules)"
    subprocess.run([sys.executable, "-c", look], check=True, timeout=60)


# -- a failing test ------------------------------------------------------------------------------------


def test_a_failing_test_shows_the_tree_and_the_last_messages(suite):
    """Both stand in the report: who ran when it failed, what came and left, and who had crashed of what."""
    result = suite(
        """
async def test_it(node, crash):
    await node.start(Shop)
    await call("counter", 4)
    await crash("counter", ValueError("of old age"))
    await call("counter", 2)
    assert await call("counter", 5) == 71
"""
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*- the tree when the test ended -*",
            "root  <*>  running *",
            "`-- Shop  <*>  running  one_for_one restarts 1/1 in 5 s",
            "    `-- counter  <*>  running",
            "*- the last messages -*",
            "counter <*> crashed: Crash(ValueError('of old age'))",
            "    <*> got call 4",
            "    <*> sent 25 to its caller",
            "counter <*>",
            "    <*> got call 2",
            "    <*> sent 50 to its caller",
            "    <*> got call 5",
            "    <*> sent 70 to its caller",
        ]
    )


def test_a_node_that_stopped_by_itself_says_of_what(suite):
    """When an application has used up its restarts the test fails, and the crashes stand in the report."""
    result = suite(
        """
async def test_it(node, crash):
    await node.start(Shop)
    await crash("counter")
    assert await crash("counter") is None
    await trio.sleep_forever()
"""
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*NodeStopped*", "root  <*>  down", *["counter <*> crashed: Crash(CrashedByTest('crashed by the test'))"] * 2]
    )


def test_a_failing_test_keeps_secrets(suite):
    """Messages are shown as their process allows it (N29)."""
    result = suite(
        """
class Safe(Counter):
    def format_status(self, value):
        return "<redacted>"

async def test_it(node):
    from runtime import start
    safe = await start(Safe)
    await call(safe, 4)
    await node.start(Shop)
    raise ValueError
"""
    )
    result.stdout.fnmatch_lines(["*got call*redacted*"])
    result.stdout.no_fnmatch_line("*got call 4*")


def test_what_a_failing_test_shows_is_bounded(suite):
    """Of a thousand processes only the first are shown, and how many there are more is said."""
    result = suite(
        """
async def test_it(node):
    from runtime import start
    for _ in range(100):
        await call(await start(Counter), 4)
    raise ValueError
"""
    )
    result.stdout.fnmatch_lines([f"and {100 - PROCESSES} processes more"])
    assert result.stdout.str().count("got call 4") == PROCESSES


# -- crash ---------------------------------------------------------------------------------------------


@pytest.fixture
def crash():
    """What the plugin's own fixture gives, also where the plugin is not installed."""
    return crash_process


class Worker(GenServer):
    trap_exit = True

    def init(self):
        self.ended = []

    def handle_call(self, request, caller):
        return request

    def terminate(self, reason):
        raise AssertionError("terminate runs at an end in order only")


async def grow(*children, **flags):
    """Start a supervisor of these children; its pid."""
    return await start(type("Grown", (Supervisor,), {**flags, "init": lambda self: list(children)}))


@as_process
async def test_crash_waits_for_the_successor(node, crash):
    """The pid that comes back is alive and has the name; the old one is dead of a Crash, trapping or not."""
    await grow(child("worker", Worker, name="worker"))
    old = whereis("worker")
    new = await crash(old)
    assert new == whereis("worker") != old
    assert await call(new, "hello") == "hello"


@as_process
async def test_crash_dies_of_the_error_that_it_is_told(node, crash):
    """Who watches the process gets the error as its reason."""
    error = LookupError("planted")
    pid = spawn(_watch_and_tell, spawn(idle), error)
    assert await end_of(pid) == "Crash(LookupError('planted'))"


async def _watch_and_tell(pid, error):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(crash_process, pid, error)
        exit_with(repr(await end_of(pid)))


@as_process
async def test_crash_waits_for_all_that_restart_with_it(node, crash):
    """Under one_for_all everybody is there again when crash returns."""
    await grow(
        child("a", Worker, name="a"), child("b", Worker, name="b", shutdown="brutal_kill"), strategy="one_for_all"
    )
    before = whereis("b")
    assert await crash("a") == whereis("a")
    assert whereis("b") not in (None, before)


@as_process
async def test_crash_waits_out_a_back_off(node, crash):
    """A restart that waits is waited for."""
    await grow(child("worker", Worker, name="worker"), backoff=Backoff(10.0))
    assert await crash("worker") == whereis("worker") is not None


@as_process
async def test_crash_of_one_of_many_with_the_same_id(node, crash):
    """Under a dynamic supervisor, whose children may share an id, the successor is found too."""
    top = await start(DynamicSupervisor)
    pids = [await start_child(top, child("worker", Worker)) for _ in range(3)]
    new = await crash(pids[1])
    assert new is not None
    assert new not in pids


@as_process
async def test_crash_of_what_is_not_restarted(node, crash):
    """A temporary child and a process without a supervisor have no successor."""
    await grow(child("worker", Worker, name="worker", restart="temporary"))
    assert await crash("worker") is None
    assert await crash(spawn(idle)) is None


@as_process
async def test_crash_that_is_one_too_many(node, crash):
    """When its supervisor gives up there is no successor, but what is above has healed."""

    class Fragile(Supervisor):
        intensity = 0

        def init(self):
            return [child("worker", Worker, name="worker")]

    await grow(child("fragile", Fragile))
    assert await crash("worker") is None
    assert await call("worker", "hello") == "hello"


@as_process
async def test_crash_of_nobody(node, crash):
    """A name that nobody has, or a dead pid, is the test's own mistake."""
    pid = spawn(idle)
    await crash(pid)
    for which in ("nobody", pid):
        with pytest.raises(Misuse, match="was it started"):
            await crash(which)
