"""Back-off: restarts that wait, when somebody asked for it."""

from __future__ import annotations

import random

import pytest
import trio

from runtime import KILL, SHUTDOWN, exit, is_alive, start, sys
from supervisors import (
    Backoff,
    ChildRefused,
    Node,
    Supervisor,
    child,
    delete_child,
    restart_child,
    terminate_child,
)
from supervisors.node.boot import RealWorld
from tests.support.processes import as_process, inside
from tests.unit.supervisors.children import Story, Tree, end, grow, pid_of, rows, settle, worker

STEADY = Backoff(first=1.0, factor=2.0, limit=5.0, jitter=0.0)


def test_the_wait_doubles_up_to_its_limit():
    """The n-th restart in a row waits first * factor ** (n - 1) seconds, at most the limit."""
    assert [STEADY.delay(attempt, 0.0) for attempt in (1, 2, 3, 4, 500)] == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_jitter_leaves_out_a_part():
    """Jitter leaves out up to its part of the wait, never more."""
    backoff = Backoff(first=10.0, limit=10.0, jitter=0.5)
    assert [backoff.delay(1, roll) for roll in (0.0, 0.5, 1.0)] == [10.0, 7.5, 5.0]


def test_a_first_wait_of_nothing_stays_nothing():
    """With `first` 0 no restart waits."""
    assert Backoff(first=0.0).delay(7, 0.5) == 0.0


async def wait_of(story, tree):
    """Virtual seconds from the end of child a to its next start."""
    begun = trio.current_time()
    story.started = trio.Event()
    await end(tree, "a")
    await story.started.wait()
    return trio.current_time() - begun


@as_process
async def test_a_restart_waits_and_says_so(node):
    """Meanwhile the child is `waiting` in which_children and in the tree."""
    story = Story()
    tree = await node.start(Tree, [worker(story, "a", backoff=STEADY)])
    story.started = trio.Event()
    await end(tree, "a")
    assert await rows(tree) == "a:waiting"
    assert [one.state for one in node.tree().children[1].children] == ["waiting"]
    await story.started.wait()
    assert await rows(tree) == "a:up"


@as_process
async def test_each_wait_is_longer_than_the_one_before(node):
    """Restarts in a row wait longer and longer, up to the limit."""
    story = Story()
    tree = await grow([worker(story, "a", backoff=STEADY)])
    assert [await wait_of(story, tree) for _ in range(4)] == [1.0, 2.0, 4.0, 5.0]


@as_process
async def test_a_child_that_was_up_for_long_starts_anew(node):
    """A child that was up for at least the limit waits `first` again."""
    story = Story()
    tree = await grow([worker(story, "a", backoff=STEADY)])
    assert [await wait_of(story, tree), await wait_of(story, tree)] == [1.0, 2.0]
    await trio.sleep(5)  # virtual
    assert await wait_of(story, tree) == 1.0


@as_process
async def test_a_supervisors_back_off_is_for_all_its_children(node):
    """A supervisor's `backoff` is for all its children that have none of their own."""
    story = Story()

    class Patient(Supervisor):
        backoff = Backoff(first=3.0, jitter=0.0)

        def init(self):
            return [worker(story, "a")]

    assert await wait_of(story, await start(Patient)) == 3.0


@as_process
async def test_restarts_count_as_without_it(node):
    """Each restart counts when it is decided, as without a wait (S22, S24)."""
    story = Story()
    tree = await grow([worker(story, "a", backoff=STEADY)], intensity=1, period=100.0)
    await wait_of(story, tree)
    assert is_alive(tree)
    await end(tree, "a")
    assert not is_alive(tree)


@as_process
async def test_a_failed_restart_waits_longer_and_counts(node):
    """A restart that fails after its wait is tried again after a longer one, each try counting (S26)."""
    story = Story()
    tree = await grow([worker(story, "a", backoff=STEADY)], intensity=3, period=100.0)
    story.failing = {"a": 2}
    assert await wait_of(story, tree) == 1.0 + 2.0 + 4.0
    assert story.take() == "+a -a !a !a +a"
    assert is_alive(tree)
    await end(tree, "a")
    assert not is_alive(tree)


@as_process
async def test_a_waiting_child_can_be_stopped(node):
    """`terminate_child` ends the wait, restart and delete are refused as restarting, as for a retry (S28)."""
    story = Story()
    tree = await grow([worker(story, "a", backoff=STEADY)])
    await end(tree, "a")
    for request in (restart_child, delete_child):
        with pytest.raises(ChildRefused) as refused:
            await request(tree, "a")
        assert refused.value.why == "restarting"
    await terminate_child(tree, "a")
    await trio.sleep(60)  # virtual
    assert await rows(tree) == "a:down"
    assert story.take() == "+a -a"


@as_process
async def test_a_wait_that_was_given_up_cuts_no_later_one_short(node):
    """When a stopped child is started again and ends again, only its latest wait counts."""
    story = Story()
    tree = await grow([worker(story, "a", backoff=STEADY)])
    await end(tree, "a")
    await terminate_child(tree, "a")
    await restart_child(tree, "a")
    assert await wait_of(story, tree) == 2.0


@pytest.mark.parametrize("how", ["stop", "kill"])
@as_process
async def test_a_supervisor_can_end_meanwhile(node, how):
    """A supervisor whose child waits ends at once when told to, and the child does not come back."""
    story = Story()
    tree = await grow([worker(story, "a", backoff=STEADY), worker(story, "b")])
    await end(tree, "a")
    begun = trio.current_time()
    if how == "stop":
        await sys.stop(tree, SHUTDOWN)
    else:
        exit(tree, KILL)
        await settle()
    assert (is_alive(tree), trio.current_time() - begun) == (False, 0.0)
    await trio.sleep(60)  # virtual
    assert story.take() == "+a +b -a -b"


@pytest.mark.parametrize(
    ("strategy", "stopped", "started"),
    [("rest_for_one", "-b -c", "+b +c"), ("one_for_all", "-b -c -a", "+a +b +c")],
)
@as_process
async def test_siblings_stop_at_once_and_start_after_the_wait(node, strategy, stopped, started):
    """Who is restarted along with a child is stopped at once, and comes back with it (S12, S13)."""
    story = Story()
    specs = [worker(story, "a"), worker(story, "b", backoff=STEADY), worker(story, "c")]
    tree = await grow(specs, strategy=strategy)
    story.take()
    await end(tree, "b")
    assert story.take() == stopped
    await trio.sleep(1.5)  # virtual
    assert story.take() == started


@as_process
async def test_an_earlier_sibling_takes_the_waiting_one_along(node):
    """Under rest_for_one a restart of an earlier child brings the waiting one back with it, once (S12)."""
    story = Story()
    tree = await grow([worker(story, "a"), worker(story, "b", backoff=STEADY)], strategy="rest_for_one")
    await end(tree, "b")
    story.take()
    await end(tree, "a")
    assert story.take() == "-a +a +b"
    await trio.sleep(60)  # virtual
    assert story.take() == ""


async def test_jitter_comes_from_the_world():
    """How much is left out of a wait is drawn from the World's randomness: a seed decides it."""

    async def waits(seed):
        world = RealWorld()
        world.random = random.Random(seed)
        story = Story()
        found = []

        async def play():
            tree = await grow([worker(story, "a", backoff=Backoff(first=1.0, limit=1.0, jitter=1.0))])
            found.extend([await wait_of(story, tree) for _ in range(3)])

        async with Node("test", world=world):
            await inside(play)
        return found

    assert await waits(1) == pytest.approx(await waits(1))
    assert await waits(1) == pytest.approx([1.0 - random.Random(1).random(), *(await waits(1))[1:]])
    assert await waits(1) != pytest.approx(await waits(2))


@as_process
async def test_without_it_nothing_waits(node):
    """Off by default: a restart comes at once (S26)."""
    begun = trio.current_time()
    tree = await grow([child("a", Tree, [])])
    exit(await pid_of(tree, "a"), KILL)
    await settle()
    assert await rows(tree) == "a:up"
    assert trio.current_time() == begun
