"""TaskSupervisor and async_stream: tasks in a tree, and many of them, a few at a time."""

from __future__ import annotations

import itertools

import pytest
import trio

from runtime import (
    KILL,
    SHUTDOWN,
    CallTimeout,
    Misuse,
    exit,
    exit_with,
    is_alive,
    spawn,
    start,
    sys,
    trap_exit,
)
from supervisors import ChildRefused, TaskExit, TaskReply, TaskSupervisor, async_stream, terminate_child
from tests.support.processes import as_process, ended, mail
from tests.unit.supervisors.children import settle


async def double(number):
    """Work that takes no time."""
    return number * 2


async def after(seconds):
    """Work that takes as long as it is told."""
    await trio.sleep(seconds)  # virtual
    return seconds


async def odd(number):
    """Work that fails for even numbers."""
    if number % 2 == 0:
        exit_with(("even", number))
    return number


# -- one task ------------------------------------------------------------------------------------------


@as_process
async def test_a_supervised_task_has_a_result(node):
    """`async_` and `async_nolink` give a task that runs below the supervisor, under its function's name."""
    tasks = await node.start(TaskSupervisor, name="tasks")
    for begin in (TaskSupervisor.async_, TaskSupervisor.async_nolink):
        task = await begin(tasks, after, 3.0)
        assert await TaskSupervisor.children(tasks) == [task.pid]
        (line,) = node.tree().children[1].children
        assert (line.name, line.pid) == ("after", repr(task.pid))
        assert await task == 3.0
    await settle()
    assert await TaskSupervisor.children(tasks) == []
    assert await mail() == []


@as_process
async def test_without_a_link_a_failure_does_no_harm(node):
    """The failure of an `async_nolink` task is an outcome, and it is not tried again."""
    tasks = await start(TaskSupervisor)
    task = await TaskSupervisor.async_nolink(tasks, odd, 2)
    assert await task.yield_() == TaskExit(("even", 2))
    assert await TaskSupervisor.children(tasks) == []
    assert is_alive(tasks)


@as_process
async def test_with_a_link_a_failure_takes_the_owner_along(node):
    """The failure of an `async_` task ends its owner too, and not the supervisor."""
    tasks = await start(TaskSupervisor)

    async def owner():
        await (await TaskSupervisor.async_(tasks, odd, 2))

    assert await ended(owner) == ("even", 2)
    assert is_alive(tasks)


@as_process
async def test_the_end_of_the_supervisor_is_the_tasks(node):
    """A task that is not linked outlives its owner and ends with its supervisor."""
    tasks = await start(TaskSupervisor)
    task = await TaskSupervisor.async_nolink(tasks, after, 60.0)
    await sys.stop(tasks, SHUTDOWN)
    assert await task.yield_() == TaskExit(SHUTDOWN)


@as_process
async def test_an_owner_that_is_gone_before_its_task_begins(node):
    """A task whose owner ended before it could begin does nothing, and ends in order."""
    tasks = await start(TaskSupervisor)
    worked = []

    async def work():
        worked.append(1)

    async def owner():
        await TaskSupervisor.async_nolink(tasks, work)

    pid = spawn(owner)
    await trio.lowlevel.checkpoint()
    exit(pid, KILL)
    await settle()
    assert (worked, await TaskSupervisor.children(tasks)) == ([], [])


@as_process
async def test_work_that_nobody_awaits(node):
    """`start_child` starts work without an owner, temporary unless said otherwise."""
    tasks = await start(TaskSupervisor)
    done = []

    async def work(number):
        done.append(number)
        if len(done) < 2:
            exit_with("boom")

    await TaskSupervisor.start_child(tasks, work, 1)
    await settle()
    await TaskSupervisor.start_child(tasks, work, 2, restart="transient")
    await settle()
    assert done == [1, 2]
    waiting = await TaskSupervisor.start_child(tasks, after, 60.0)
    await terminate_child(tasks, waiting)
    assert not is_alive(waiting)


@as_process
async def test_a_task_supervisor_may_be_full(node):
    """`max_children` bounds its tasks; one more is refused at the caller."""

    class Few(TaskSupervisor):
        max_children = 1

    tasks = await start(Few)
    task = await TaskSupervisor.async_nolink(tasks, after, 60.0)
    with pytest.raises(ChildRefused) as refused:
        await TaskSupervisor.async_nolink(tasks, double, 1)
    assert refused.value.why == "max_children"
    assert await task.shutdown() is None


# -- streams -------------------------------------------------------------------------------------------


async def take_all(stream):
    """All outcomes of a stream."""
    async with stream as outcomes:
        return [one async for one in outcomes]


@as_process
async def test_a_stream_is_in_order(node):
    """Outcomes come in the order of the items, though later ones were ready before."""
    seconds = [3.0, 1.0, 2.0]
    assert await take_all(async_stream(seconds, after)) == [TaskReply(s) for s in seconds]
    assert await mail() == []


@as_process
async def test_a_stream_out_of_order_is_as_it_comes(node):
    """Without `ordered` they come as they are ready."""
    found = await take_all(async_stream([3.0, 1.0, 2.0], after, ordered=False))
    assert found == [TaskReply(s) for s in (1.0, 2.0, 3.0)]


@pytest.mark.parametrize("ordered", [True, False])
@as_process
async def test_so_many_at_once(node, ordered):
    """Never more than `max_concurrency` run at once, and items are taken only as they are needed."""
    running, most, taken = [0], [0], [0]

    def items():
        for number in itertools.count():
            taken[0] += 1
            yield number

    async def work(number):
        running[0] += 1
        most[0] = max(most[0], running[0])
        await trio.sleep(1)  # virtual
        running[0] -= 1
        return number

    found = []
    async with async_stream(items(), work, max_concurrency=3, ordered=ordered) as outcomes:
        async for one in outcomes:
            found.append(one.value)
            if len(found) == 10:
                break
    assert (found == list(range(10))) or not ordered
    assert (len(set(found)), most[0]) == (10, 3)
    assert max(found) < taken[0] < 20
    await settle()
    assert await mail() == []


@as_process
async def test_leaving_ends_what_still_runs(node):
    """Leaving the block ends the tasks that still run, and nothing of them arrives."""
    tasks = await start(TaskSupervisor)
    async with TaskSupervisor.async_stream_nolink(tasks, [0.0, 60.0, 60.0], after, timeout=100.0) as outcomes:
        async for one in outcomes:
            assert one == TaskReply(0.0)
            break
    await settle()
    assert await TaskSupervisor.children(tasks) == []
    assert await mail() == []


@as_process
async def test_a_failure_is_one_of_the_outcomes(node):
    """Without a link a task that fails is a TaskExit in its place."""
    tasks = await start(TaskSupervisor)
    found = await take_all(TaskSupervisor.async_stream_nolink(tasks, range(1, 5), odd))
    assert found == [TaskReply(1), TaskExit(("even", 2)), TaskReply(3), TaskExit(("even", 4))]


@as_process
async def test_a_linked_failure_ends_the_owner_unless_it_traps(node):
    """With a link it ends the owner; one that traps exits gets a TaskExit, and no Exit is left over."""
    tasks = await start(TaskSupervisor)

    async def owner(supervised):
        items = [1, 2, 3]
        stream = TaskSupervisor.async_stream(tasks, items, odd) if supervised else async_stream(items, odd)
        await take_all(stream)

    for supervised in (True, False):
        assert await ended(owner, supervised) == ("even", 2)
    trap_exit(True)
    assert await take_all(async_stream([1, 2, 3], odd)) == [TaskReply(1), TaskExit(("even", 2)), TaskReply(3)]
    assert await mail() == []


@as_process
async def test_a_slow_task_is_told_or_killed(node):
    """A task over its time raises CallTimeout at the owner, or is killed and yields TaskExit("timeout")."""
    with pytest.raises(CallTimeout):
        await take_all(async_stream([1.0, 9.0, 2.0], after, timeout=5.0))
    killed = async_stream([1.0, 9.0, 2.0], after, timeout=5.0, on_timeout="kill_task")
    assert await take_all(killed) == [TaskReply(1.0), TaskExit("timeout"), TaskReply(2.0)]
    await settle()
    assert await mail() == []


@as_process
async def test_no_items_no_outcomes(node):
    """A stream over nothing is empty."""
    assert await take_all(async_stream([], after)) == []


@pytest.mark.parametrize(
    "wrong", [{"max_concurrency": 0}, {"max_concurrency": 1.5}, {"timeout": 0}, {"on_timeout": "wait"}]
)
@as_process
async def test_a_stream_out_of_bounds_is_refused(node, wrong):
    """A stream's options are checked before anything runs."""
    with pytest.raises(Misuse, match=f"got {next(iter(wrong.values()))!r}"):
        async_stream([1.0], after, **wrong)
    with pytest.raises(Misuse, match="a task wants an async function"):
        async_stream([1.0], 5)


@as_process
async def test_items_that_fail_fail_the_owner(node):
    """What the items themselves raise is raised at the owner, and what ran is ended."""

    def items():
        yield 60.0
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        await take_all(async_stream(items(), after, timeout=100.0))
    await settle()
    assert await mail() == []
