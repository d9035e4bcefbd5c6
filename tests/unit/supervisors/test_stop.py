"""How children are stopped: in reverse, each within its time, whatever it does meanwhile."""

from __future__ import annotations

import logging
import math

import pytest
import trio

from runtime import (
    KILL,
    KILLED,
    NORMAL,
    SHUTDOWN,
    GenServer,
    Shutdown,
    call,
    exit,
    exit_with,
    is_alive,
    monitor,
    process_info,
    spawn,
    start_link,
    sys,
    unlink,
)
from supervisors import child, count_children, start_child, terminate_child
from tests.support.processes import as_process, end_of, exit_and_wait, idle, mail
from tests.unit.supervisors.children import Story, Tree, Worker, grow, pid_of, settle, worker


class Stubborn(Worker):
    """Takes as many virtual seconds to end as `stay` says."""

    stay = math.inf

    async def terminate(self, reason):
        self.story.events.append(f"({self.name}")
        await trio.sleep(self.stay)  # virtual
        super().terminate(reason)


class Quick(Stubborn):
    stay = 2.0


async def stopped_after(tree, child_id):
    """Virtual seconds that `terminate_child` takes, and the child's exit reason."""
    pid = await pid_of(tree, child_id)
    ref = monitor(pid)
    begun = trio.current_time()
    await terminate_child(tree, child_id)
    took = trio.current_time() - begun
    (down,) = await mail()
    assert down.ref is ref
    return took, down.reason


@pytest.mark.parametrize(
    ("start_it", "shutdown", "took", "reason"),
    [
        (Worker, 5.0, 0.0, SHUTDOWN),
        (Quick, 5.0, 2.0, SHUTDOWN),
        (Stubborn, 3.0, 3.0, KILLED),
        (Stubborn, 0, 0.0, KILLED),
        (Quick, math.inf, 2.0, SHUTDOWN),  # S32
        (Stubborn, "brutal_kill", 0.0, KILLED),
    ],
)
@as_process
async def test_a_child_has_its_time_to_end(node, start_it, shutdown, took, reason):
    """SHUTDOWN, at most its time, then KILL; "brutal_kill" kills at once, math.inf waits for ever (S31, S32)."""
    story = Story()
    tree = await grow([child("a", start_it, story, "a", shutdown=shutdown)])
    assert await stopped_after(tree, "a") == (took, reason)


@as_process
async def test_a_brutal_kill_runs_no_terminate(node):
    """`terminate` does not run when a child is killed (S37); it runs with SHUTDOWN when it traps (S36)."""
    story = Story()
    tree = await grow([worker(story, "a", shutdown="brutal_kill"), worker(story, "b")])
    await terminate_child(tree, "a")
    await terminate_child(tree, "b")
    assert story.take() == "+a +b -b"


@as_process
async def test_a_child_that_does_not_trap_dies_of_shutdown(node):
    """A worker that does not trap exits dies of SHUTDOWN, without `terminate` (S36)."""
    story = Story()

    class Plain(Worker):
        trap_exit = False

    tree = await grow([child("a", Plain, story, "a"), child("b", idle)])
    assert await stopped_after(tree, "a") == (0.0, SHUTDOWN)
    assert await stopped_after(tree, "b") == (0.0, SHUTDOWN)
    assert story.take() == "+a"


@as_process
async def test_nobody_is_served_while_a_child_is_stopped(node):
    """A supervisor that stops a child serves nobody until that child is gone (S33)."""
    tree = await grow([child("a", Quick, Story(), "a")])
    served = []

    async def ask():
        await count_children(tree)
        served.append(trio.current_time() - begun)

    begun = trio.current_time()
    spawn(terminate_child, tree, "a")
    await trio.sleep(0.5)  # virtual
    spawn(ask)
    await trio.sleep(5)  # virtual
    assert served == [2.0]


@as_process
async def test_a_child_that_unlinked_itself_is_stopped_all_the_same(node):
    """What is waited for is the child's end, not its link (S34)."""

    class Loner(GenServer):
        def handle_call(self, supervisor, caller):
            unlink(supervisor)

    tree = await grow([child("a", Loner)])
    loner = await pid_of(tree, "a")
    await call(loner, tree)
    await terminate_child(tree, "a")
    assert not is_alive(loner)


@pytest.mark.parametrize(
    ("restart", "reason", "reported"),
    [
        ("permanent", SHUTDOWN, False),
        ("permanent", NORMAL, True),
        ("permanent", Shutdown("x"), True),
        ("permanent", "odd", True),
        ("transient", NORMAL, False),
        ("transient", Shutdown("x"), False),
        ("transient", "odd", True),
        ("temporary", NORMAL, False),
    ],
)
@as_process
async def test_an_odd_end_is_reported_and_changes_nothing(node, caplog, restart, reason, reported):
    """A child told to stop that ends otherwise is reported, at level info, and that is all (S35)."""
    caplog.set_level(logging.INFO, logger="banyan")

    class Odd(GenServer):
        trap_exit = True

        def terminate(self, _reason):
            exit_with(reason)

    tree = await grow([child("a", Odd, restart=restart)])
    await terminate_child(tree, "a")
    assert any("shutdown_error" in record.getMessage() for record in caplog.records) is reported
    assert is_alive(tree)


@as_process
async def test_the_parents_exit_stops_all_in_order(node):
    """Its parent's exit stops the children in reverse and ends the supervisor with that reason (S41)."""
    story = Story()
    trees = []

    async def parent():
        trees.append(await start_link(Tree, [worker(story, name) for name in "abc"]))
        await trio.sleep_forever()

    above = spawn(parent)
    await settle()
    ref = monitor(trees[0])
    story.take()
    exit(above, "moved")
    await settle()
    assert story.take() == "-c -b -a"
    assert [(m.ref, m.reason) for m in await mail()] == [(ref, "moved")]


@as_process
async def test_a_killed_supervisor_leaves_nobody_behind(node):
    """A killed supervisor's children get KILLED from it, end in their own way, and are waited for (S38)."""
    story = Story()
    reasons = {}

    class Last(Worker):
        def terminate(self, reason):
            reasons[self.name] = reason
            super().terminate(reason)

    inner = child("x", Tree, [child("b", Last, story, "b"), child("c", Last, story, "c")])
    tree = await grow([child("a", Last, story, "a"), inner, child("d", idle)])
    plain = await pid_of(tree, "d")
    watch = monitor(plain)
    story.take()
    assert await exit_and_wait(tree, KILL) == KILLED
    assert reasons == {"a": KILLED, "b": SHUTDOWN, "c": SHUTDOWN}
    assert sorted(story.take().split()) == ["-a", "-b", "-c"]
    assert [(m.ref, m.reason) for m in await mail()] == [(watch, KILLED)]


@as_process
async def test_a_replacement_never_meets_its_predecessors_children(node):
    """A killed supervisor is replaced only when its children are gone, at most 5 s later (S39)."""
    story = Story()
    top = await grow([child("x", Tree, [child("a", Stubborn, story, "a", shutdown=60)])])
    below = await pid_of(top, "x")
    old = await pid_of(below, "a")
    begun = trio.current_time()
    exit(below, KILL)
    await trio.sleep(4.9)  # virtual
    assert is_alive(old)
    assert process_info(below).state == "stopping"
    assert await end_of(old) == KILLED
    await settle()
    assert trio.current_time() - begun == 5.0
    assert await pid_of(await pid_of(top, "x"), "a") != old


@as_process
async def test_dynamic_children_are_told_at_once(node):
    """A dynamic supervisor tells all its children at once, and each has its own time (S42)."""
    story = Story()
    tree = await grow([child("any", Quick, story)], strategy="simple_one_for_one")
    for name in "abc":
        await start_child(tree, [name])
    story.take()
    begun = trio.current_time()
    await sys.stop(tree, SHUTDOWN)
    assert trio.current_time() - begun == 2.0
    told = story.take().split()
    assert (sorted(told[:3]), sorted(told[3:])) == (["(a", "(b", "(c"], ["-a", "-b", "-c"])
