"""Births: what a new process is, whose it is, and what it does not share."""

from __future__ import annotations

from contextvars import ContextVar

import pytest
import trio

from runtime import (
    KILL,
    KILLED,
    NORMAL,
    SHUTDOWN,
    Crash,
    Down,
    Exit,
    Misuse,
    NotAProcess,
    exit,
    exit_with,
    is_alive,
    process_info,
    receive,
    self_pid,
    send_nowait,
    spawn,
    spawn_link,
    spawn_monitor,
    trap_exit,
    whereis,
)
from supervisors import Node
from tests.support.processes import as_process, end_of, ended, exit_and_wait, idle, inside, mail

name: ContextVar[str] = ContextVar("name", default="none")


@as_process
async def test_a_process_ends_with_normal_when_its_function_returns(node):
    """The end of the function is a normal end, whatever it returned (P1)."""

    async def returns():
        return "ignored"

    assert await ended(returns) is NORMAL


@as_process
async def test_an_uncaught_exception_is_a_crash(node):
    """An exception that nobody catches becomes the exit reason, the very object in a Crash (P3)."""
    error = ValueError("boom")

    async def raises():
        raise error

    reason = await ended(raises)
    assert isinstance(reason, Crash)
    assert reason.error is error


@pytest.mark.parametrize("reason", ["why", 0, "", (), KILL, NORMAL, SHUTDOWN], ids=repr)
@as_process
async def test_exit_with_ends_with_exactly_that_value(node, reason):
    """`exit_with(R)` ends the process with R itself; KILL stays KILL (P2)."""

    async def ends():
        exit_with(reason)

    assert await ended(ends) is reason


@as_process
async def test_a_function_that_is_not_async_crashes_its_process_only(node):
    """What cannot be awaited is the new process's crash and nobody else's."""
    reason = await ended(lambda: 5)  # type: ignore[arg-type,return-value]  # what this test is about
    assert isinstance(reason, Crash)
    assert isinstance(reason.error, TypeError)


@as_process
async def test_a_process_outlives_its_spawner(node):
    """`spawn` puts a process beside its spawner, not under it (P31)."""
    children = []

    async def spawns():
        children.append(spawn(idle))

    assert await ended(spawns) is NORMAL
    assert is_alive(children[0])


@as_process
async def test_spawn_takes_effect_after_the_spawners_slice(node):
    """A new process takes its first step after the spawner's next checkpoint (P46)."""
    steps = []

    async def child():
        steps.append("child")

    pid = spawn(child)
    steps.append("parent")
    assert is_alive(pid)
    await end_of(pid)
    assert steps == ["parent", "child"]


@as_process
async def test_a_linked_child_that_dies_at_once_delivers_its_true_reason(node):
    """`spawn_link` is atomic: the Exit has the child's own reason, never NOPROC (P31)."""
    trap_exit(True)

    async def dies():
        exit_with("at once")

    pid = spawn_link(dies)
    assert await mail() == [Exit(pid, "at once")]


@as_process
async def test_a_monitored_child_that_dies_at_once_delivers_its_true_reason(node):
    """`spawn_monitor` is atomic: the Down has the child's own reason, never NOPROC (P31)."""

    async def dies():
        exit_with("at once")

    pid, ref = spawn_monitor(dies)
    assert await mail() == [Down(ref, pid, "at once")]


@as_process
async def test_a_parents_death_takes_a_linked_child_before_its_first_step(node):
    """A linked child dies with its parent before it could run or trap exits by itself (P31)."""
    steps, children = [], []

    async def child():
        trap_exit(True)
        steps.append("ran")

    async def parent():
        children.append(spawn_link(child))
        exit_with("gone")

    assert await ended(parent) == "gone"
    assert await mail() == []
    assert (steps, is_alive(children[0])) == ([], False)


@as_process
async def test_trap_given_at_spawn_holds_from_birth(node):
    """A child spawned with trap=True finds its parent's death in its mailbox (P31)."""
    got = []

    async def child():
        got.append(await receive())

    async def parent():
        spawn_link(child, trap=True)
        exit_with("gone")

    parent_pid, _ = spawn_monitor(parent)
    await mail()
    assert got == [Exit(parent_pid, "gone")]


@as_process
async def test_trapping_is_not_inherited(node):
    """A child does not trap exits because its parent does (P19)."""
    before = []

    async def child():
        before.append(trap_exit(False))

    trap_exit(True)
    assert (await ended(child), before) == (NORMAL, [False])


@as_process
async def test_a_process_killed_before_its_first_step_never_runs(node):
    """A kill that comes before the first step runs no code of the process (P8)."""
    steps = []

    async def child():
        steps.append("ran")

    pid, ref = spawn_monitor(child)
    exit(pid, KILL)
    assert (await mail(), steps) == ([Down(ref, pid, KILLED)], [])


@as_process
async def test_messages_sent_before_the_first_step_are_there(node):
    """A process can be sent to as soon as it has a pid (P34)."""
    got = []

    async def child():
        got.extend([await receive(), await receive()])

    pid = spawn(child)
    send_nowait(pid, 1)
    send_nowait(pid, 2)
    await end_of(pid)
    assert got == [1, 2]


@as_process
async def test_a_child_copies_its_spawners_context(node):
    """Context variables are copied at birth; what a child sets, nobody else sees (P45, P49)."""
    seen = []

    async def child():
        seen.append(name.get())
        name.set("child")

    name.set("parent")
    await ended(child)
    assert (seen, name.get()) == (["parent"], "parent")


@as_process
async def test_a_process_can_be_spawned_from_a_helper_task(node):
    """A task that a process started acts for that process: its spawns, links and sends are the process's."""
    trap_exit(True)
    started = []

    async def helper():
        started.append((self_pid(), spawn_link(idle)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(helper)
    ((pid, child),) = started
    assert pid == self_pid()
    exit(child, "boom")
    assert await mail() == [Exit(child, "boom")]


@as_process
async def test_a_process_outlives_the_helper_nursery_it_was_spawned_in(node):
    """A process lives in its node, not in the nursery from whose task it was spawned."""
    pids = []

    async def helper():
        pids.append(spawn(idle))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(helper)
        nursery.cancel_scope.cancel()
    await mail()
    assert is_alive(pids[0])


@as_process
async def test_labels_say_what_a_process_is(node):
    """The label is the function's name, or the one that was given."""
    infos = [process_info(spawn(idle)), process_info(spawn(idle, label="a table"))]
    assert [info.label for info in infos if info] == ["idle", "a table"]


@as_process
async def test_process_info_tells_what_is_known_from_outside(node):
    """Names, queue, links, monitors and watchers are read without asking the process."""
    pid, _ = spawn_monitor(idle)
    send_nowait(pid, "x")
    send_nowait(pid, "y")
    info = process_info(pid)
    assert info is not None
    assert (info.pid, info.names, info.state, info.queue, info.handling) == (pid, (), "running", 2, None)
    assert (info.links, info.monitors, info.watchers) == (0, 0, 1)
    exit(pid, "x")
    dying = process_info(pid)
    assert dying is not None
    assert dying.state == "stopping"
    await mail()
    assert process_info(pid) is None


async def test_host_code_spawns_but_is_no_process(node):
    """Host code beside a node may spawn; what acts for a process is refused to it."""
    pid = spawn(idle)
    assert is_alive(pid)
    for act in (self_pid, lambda: trap_exit(True), lambda: spawn_link(idle), lambda: spawn_monitor(idle)):
        with pytest.raises(NotAProcess, match="no process is running"):
            act()
    with pytest.raises(NotAProcess):
        await receive()


def test_without_a_node_nothing_can_be_spawned():
    """Outside every node, `spawn` says that it needs one."""
    with pytest.raises(NotAProcess, match="needs a node"):
        spawn(idle)


async def test_a_node_that_has_ended_starts_nothing():
    """After its block a node starts no process."""
    async with Node("gone"):
        pass
    with pytest.raises(Misuse, match="is not running"):
        spawn(idle)


async def test_spawn_refuses_what_it_cannot_call(node):
    """A coroutine, or any other thing that is no function, is misuse told to the caller."""
    with pytest.raises(Misuse, match="async function"):
        spawn("idle")  # type: ignore[arg-type]  # what this test is about


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, None], ids=repr)
async def test_a_mailbox_holds_at_least_one_message(node, limit):
    """A bound that could take no message is misuse, told before anything is started."""
    with pytest.raises(Misuse, match="limit"):
        spawn(idle, limit=limit)


async def test_what_a_process_raises_reaches_neither_host_nor_siblings(node):
    """No exception of a process leaves it: its siblings and the host run on."""

    async def crashes():
        raise RuntimeError("nobody else's business")

    async def sibling():
        assert await receive() == "still there?"

    pid = spawn(sibling)
    reasons = [await inside(ended, crashes) for _ in range(3)]
    assert [type(reason) for reason in reasons] == [Crash] * 3
    send_nowait(pid, "still there?")
    assert await inside(_end, pid) is NORMAL
    assert whereis("nobody") is None


async def _end(pid):
    return await end_of(pid) if is_alive(pid) else NORMAL


@as_process
async def test_a_crash_is_logged_once(node, caplog):
    """A disorderly end makes one report; an orderly one, and a kill of nobody, make none (L8)."""

    async def raises():
        raise ValueError("logged")

    await ended(raises)
    await ended(trio.lowlevel.checkpoint)
    await exit_and_wait(spawn(idle), SHUTDOWN)
    assert [(r.levelname, "ValueError('logged')" in r.getMessage()) for r in caplog.records] == [("WARNING", True)]
