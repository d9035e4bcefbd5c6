"""Task: one piece of work in a process of its own, and its result."""

from __future__ import annotations

import pytest
import trio
import trio.lowlevel

from runtime import (
    NORMAL,
    Answer,
    CalleeExited,
    CallTimeout,
    Crash,
    Down,
    Exit,
    GenServer,
    Misuse,
    NotAProcess,
    call,
    exit_with,
    is_alive,
    process_info,
    self_pid,
    spawn,
    start,
    trap_exit,
)
from supervisors import Task, TaskExit, TaskReply
from tests.support.processes import as_process, end_of, ended, inside, mail


async def double(number, seconds=0.0):
    """The work of most tasks here."""
    await trio.sleep(seconds)  # virtual
    return number * 2


async def fail(reason="boom"):
    """Work that never has a result."""
    await trio.lowlevel.checkpoint()  # virtual
    exit_with(reason)


async def crash():
    """Work with a bug."""
    raise ValueError("no")


@as_process
async def test_await_gives_the_result(node):
    """A task runs beside its owner, and awaiting it gives what its function returned."""
    task = Task.async_(double, 21, 1.0)
    assert is_alive(task.pid)
    assert (task.owner, repr(task)) == (self_pid(), f"<Task {task.pid} double>")
    assert await task == 42
    assert await Task.async_(double, 4).await_(timeout=1.0) == 8
    assert await mail() == []


@as_process
async def test_several_at_once(node):
    """`await_many` gives the results in the order of the tasks, within one deadline for all."""
    tasks = [Task.async_(double, number, 10 - number) for number in range(10)]
    begun = trio.current_time()
    assert await Task.await_many(tasks, timeout=20.0) == [number * 2 for number in range(10)]
    assert trio.current_time() - begun == 10.0
    with pytest.raises(CallTimeout):
        await Task.await_many([Task.async_(double, 1, 4.0), Task.async_(double, 1, 8.0)], timeout=5.0)
    slow = [Task.async_(double, 1, seconds) for seconds in (1.0, 9.0)]
    assert await Task.yield_many(slow, timeout=5.0) == [TaskReply(2), None]


@as_process
async def test_yield_asks_again(node):
    """`yield_` is None while there is no outcome, and can be asked again."""
    task = Task.async_(double, 1, 7.0)
    assert [await task.yield_(), await task.yield_()] == [None, TaskReply(2)]


@as_process
async def test_a_result_that_comes_too_late_is_dropped(node):
    """After CallTimeout the task goes on; its result reaches nobody."""
    task = Task.async_(double, 1, 7.0)
    with pytest.raises(CallTimeout, match="had no result within 5 s"):
        await task
    assert is_alive(task.pid)
    await trio.sleep(10)  # virtual
    assert not is_alive(task.pid)
    assert await mail() == []


async def owner_of(function, *args):
    """A process that awaits one task."""
    return await Task.async_(function, *args)


@as_process
async def test_a_failing_task_takes_its_owner_along(node):
    """The two are linked: an owner that does not trap exits ends with the task's reason."""
    assert await ended(owner_of, fail) == "boom"
    crashed = await ended(owner_of, crash)
    assert isinstance(crashed, Crash)
    assert isinstance(crashed.error, ValueError)


@as_process
async def test_a_failing_owner_takes_its_tasks_along(node):
    """The link works the other way round too; a NORMAL end of the owner leaves the task alone."""
    tasks = []

    async def owner(reason):
        tasks.append(Task.async_(double, 1, 60.0))
        exit_with(reason)

    assert await ended(owner, "boom") == "boom"
    await trio.testing.wait_all_tasks_blocked()
    assert not is_alive(tasks[0].pid)
    assert await ended(owner, NORMAL) is NORMAL
    assert is_alive(tasks[1].pid)


@as_process
async def test_an_owner_that_traps_gets_the_outcome_and_no_exit(node):
    """An owner that traps exits gets CalleeExited with the reason, and finds no Exit of a task it has taken."""
    trap_exit(True)
    with pytest.raises(CalleeExited) as exited:
        await Task.async_(fail)
    assert exited.value.reason == "boom"
    assert await Task.async_(fail, NORMAL).yield_() == TaskExit(NORMAL)
    assert await Task.async_(double, 1) == 2
    assert await mail() == []


@as_process
async def test_its_message_may_be_taken_elsewhere(node):
    """Exactly one message comes of a task: an Answer with its ref, or a Down with it."""
    trap_exit(True)
    good, bad = Task.async_(double, 1), Task.async_(fail)
    found = await mail()
    wanted = {Answer(good.ref, 2), Down(bad.ref, bad.pid, "boom")}
    assert {m for m in found if not isinstance(m, Exit)} == wanted


@as_process
async def test_a_server_takes_it_in_handle_info(node):
    """A server that cannot wait starts tasks and takes their results as messages."""

    class Asker(GenServer):
        def init(self):
            self.found = []

        def handle_call(self, request, caller):
            if request == "found":
                return self.found
            self.task = Task.async_(double, request)
            return None

        def handle_info(self, message):
            match message:
                case Answer(ref, value) if ref is self.task.ref:
                    self.found.append(value)

    asker = await start(Asker)
    await call(asker, 5)
    await trio.testing.wait_all_tasks_blocked()
    assert await call(asker, "found") == [10]


@pytest.mark.parametrize("timeout", [5.0, "brutal_kill"])
@as_process
async def test_shutdown_ends_a_task(node, timeout):
    """`shutdown` ends the task and gives None if it ended because of that; its owner lives on."""
    task = Task.async_(double, 1, 60.0)
    await trio.sleep(1)  # virtual
    begun = trio.current_time()
    assert await task.shutdown(timeout) is None
    assert (is_alive(task.pid), trio.current_time() - begun) == (False, 0.0)
    assert await mail() == []


@as_process
async def test_shutdown_kills_what_does_not_end(node):
    """A task that does not end of SHUTDOWN is killed after its time."""

    async def stubborn():
        trap_exit(True)
        await trio.sleep(60)  # virtual

    task = Task.async_(stubborn)
    await trio.sleep(1)  # virtual
    begun = trio.current_time()
    assert await task.shutdown(3.0) is None
    assert trio.current_time() - begun == 3.0


@as_process
async def test_shutdown_gives_an_outcome_that_came_first(node):
    """A result, or a failure, that came before is not lost by `shutdown`."""
    trap_exit(True)
    good, bad = Task.async_(double, 1), Task.async_(fail)
    await trio.sleep(1)  # virtual
    assert [await good.shutdown(), await bad.shutdown()] == [TaskReply(2), TaskExit("boom")]
    assert await mail() == []


@as_process
async def test_ignore_lets_a_task_go(node):
    """`ignore` gives an outcome that is there; otherwise the task goes on, unlinked, and reaches nobody."""
    done = Task.async_(double, 1)
    await trio.sleep(1)  # virtual
    assert await done.ignore() == TaskReply(2)
    task = Task.async_(fail_later)
    assert await task.ignore() is None
    await trio.sleep(10)  # virtual
    assert not is_alive(task.pid)
    assert await mail() == []


async def fail_later():
    """Work that fails when nobody looks."""
    await trio.sleep(5)  # virtual
    exit_with("boom")


@as_process
async def test_only_its_owner_takes_the_outcome_and_once(node):
    """Another process, or a second time, is Misuse: it could only wait for ever."""
    task = Task.async_(double, 1)

    async def other():
        await task

    with pytest.raises(Misuse, match="let its owner do it"):
        await inside(other)
    assert await task == 2
    for again in (task.await_(), task.yield_(), task.shutdown(), task.ignore()):
        with pytest.raises(Misuse, match="was taken already"):
            await again


async def test_host_code_has_no_tasks(node):
    """A task needs an owner: host code is no process."""
    with pytest.raises(NotAProcess):
        Task.async_(double, 1)


@as_process
async def test_what_cannot_be_called_is_refused(node):
    """A task wants a function; anything else is Misuse, at once."""
    with pytest.raises(Misuse, match="a task wants an async function"):
        Task.async_(5)


@as_process
async def test_a_result_gets_into_a_full_mailbox(node):
    """No bound of a mailbox keeps a result out."""

    async def owner():
        task = Task.async_(double, 1, 1.0)
        me = self_pid()
        for _ in range(3):
            me._process.offer("noise")
        assert not me._process.offer("more")
        return await task

    pid = spawn(owner, limit=3)
    assert await end_of(pid) is NORMAL
    assert process_info(pid) is None
