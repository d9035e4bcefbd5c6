"""Who is restarted when a child ends, how often, and what happens when that fails."""

from __future__ import annotations

import pytest
import trio

from runtime import KILL, KILLED, NOPROC, NORMAL, SHUTDOWN, Shutdown, cast_nowait, exit, is_alive, send_nowait, spawn
from runtime.kernel.signals import Exit
from supervisors import ChildRefused, child, delete_child, restart_child, start_child, terminate_child, which_children
from supervisors.intensity import Intensity
from tests.support.processes import as_process, end_of, exit_and_wait
from tests.unit.supervisors.children import Story, Tree, Worker, end, grow, pid_of, rows, settle, worker

ORDERLY = [NORMAL, SHUTDOWN, Shutdown("moved")]
DISORDERLY = ["boom", KILLED, NOPROC]


# -- strategies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "told"),
    [
        ("one_for_one", "-b +b"),  # S11
        ("rest_for_one", "-b -d -c +b +c +d"),  # S12
        ("one_for_all", "-b -d -c -a +a +b +c +d"),  # S13
    ],
)
@as_process
async def test_who_is_restarted_with_a_child(node, strategy, told):
    """The dead one alone (S11), with those after it (S12), or with all (S13); stopped in reverse, started in order."""
    story = Story()
    tree = await grow([worker(story, name) for name in "abcd"], strategy=strategy)
    story.take()
    await end(tree, "b")
    assert story.take() == told
    assert await rows(tree) == "a:up b:up c:up d:up"


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@as_process
async def test_a_group_restart_brings_back_who_was_down(node, strategy):
    """In a group restart comes back who had been stopped, had ended in order, or had been ignored (S14)."""
    story = Story()
    story.ignoring = {"d"}
    tree = await grow([worker(story, name, restart="transient") for name in "abcd"], strategy=strategy)
    await terminate_child(tree, "b")
    await end(tree, "c", NORMAL)
    story.ignoring = set()
    assert await rows(tree) == "a:up b:down c:down d:down"
    await end(tree, "a")
    assert await rows(tree) == "a:up b:up c:up d:up"


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@as_process
async def test_temporary_siblings_do_not_come_back(node, strategy):
    """In a group restart temporary siblings are stopped, and their specs are gone (S15)."""
    story = Story()
    specs = [worker(story, "a"), worker(story, "b", restart="temporary"), worker(story, "c")]
    tree = await grow(specs, strategy=strategy)
    story.take()
    await end(tree, "a")
    assert story.take() == "-a -c -b +a +c"
    assert await rows(tree) == "a:up c:up"


@pytest.mark.parametrize("reason", ORDERLY + DISORDERLY)
@as_process
async def test_a_permanent_child_is_always_restarted(node, reason):
    """A permanent child is restarted after any end (S17)."""
    story = Story()
    tree = await grow([worker(story, "a")])
    await end(tree, "a", reason)
    assert story.take() == "+a -a +a"


@pytest.mark.parametrize("reason", ORDERLY)
@as_process
async def test_a_transient_child_that_ends_in_order_stays_down(node, reason):
    """A transient child that ended in order is not restarted (S18); its spec stays (S20)."""
    story = Story()
    tree = await grow([worker(story, "a", restart="transient")])
    await end(tree, "a", reason)
    assert await rows(tree) == "a:down"
    assert await restart_child(tree, "a") == await pid_of(tree, "a")


@pytest.mark.parametrize("reason", DISORDERLY)
@as_process
async def test_a_transient_child_that_fails_is_restarted(node, reason):
    """A transient child is restarted after any other end, a kill and noproc among them (S18)."""
    story = Story()
    tree = await grow([worker(story, "a", restart="transient")])
    await end(tree, "a", reason)
    assert await rows(tree) == "a:up"


@pytest.mark.parametrize("reason", ORDERLY + DISORDERLY)
@as_process
async def test_a_temporary_child_is_never_restarted(node, reason):
    """A temporary child is never restarted, and its spec goes with it (S19)."""
    tree = await grow([worker(Story(), "a", restart="temporary")])
    await end(tree, "a", reason)
    assert await rows(tree) == ""


@pytest.mark.parametrize(("restart", "reason"), [("temporary", "boom"), ("transient", NORMAL)])
@as_process
async def test_an_end_without_a_restart_touches_nobody(node, restart, reason):
    """Whatever the strategy, the end of a child that is not restarted leaves its siblings alone (S21)."""
    story = Story()
    specs = [worker(story, "a"), worker(story, "b", restart=restart), worker(story, "c")]
    tree = await grow(specs, strategy="one_for_all")
    story.take()
    await end(tree, "b", reason)
    assert story.take() == "-b"


# -- how often -----------------------------------------------------------------------------------------


def test_the_window_counts_both_of_its_ends():
    """A restart counts until it is older than the period, exactly to the clock (S22, S23)."""
    intensity = Intensity(2, 5.0)
    assert [intensity.record(now) for now in (0.0, 1.0, 5.0)] == [True, True, False]
    assert [intensity.used(now) for now in (5.0, 5.1, 6.0, 6.1, 10.1)] == [3, 2, 2, 1, 0]


@pytest.mark.parametrize("allowed", [0, 1, 3])
@as_process
async def test_so_many_restarts_are_allowed(node, allowed):
    """With intensity I the restart after I others within the period is one too many (S22, S24)."""
    story = Story()
    tree = await grow([worker(story, "a"), worker(story, "b")], intensity=allowed)
    for _ in range(allowed):
        await end(tree, "a")
    assert is_alive(tree)
    story.take()
    ending = spawn_watch(tree)
    await end(tree, "a")
    assert story.take() == "-a -b"
    assert ending == [SHUTDOWN]


def spawn_watch(pid):
    """A list that gets the exit reason of a process."""
    seen = []

    async def watch():
        seen.append(await end_of(pid))

    spawn(watch)
    return seen


@as_process
async def test_old_restarts_do_not_count(node):
    """Restarts that lie further back than the period do not count (S23)."""
    tree = await grow([worker(Story(), "a")], intensity=1, period=5.0)
    for _ in range(4):
        await end(tree, "a")
        await trio.sleep(5.01)  # virtual
    assert is_alive(tree)


@as_process
async def test_the_restart_of_a_group_counts_once(node):
    """A restart counts once, of however many children it is (S22)."""
    tree = await grow([worker(Story(), name) for name in "abc"], strategy="one_for_all", intensity=1)
    await end(tree, "a")
    assert is_alive(tree)


@as_process
async def test_giving_up_stops_the_others_in_reverse(node):
    """A supervisor that gives up stops the others, last first, and ends with SHUTDOWN (S24)."""
    story = Story()
    tree = await grow([worker(story, name) for name in "abcd"], intensity=0)
    ending = spawn_watch(tree)
    await settle()
    story.take()
    await end(tree, "b")
    assert story.take() == "-b -d -c -a"
    assert ending == [SHUTDOWN]


@pytest.mark.parametrize(("restart", "after"), [("permanent", "x:up"), ("transient", "x:down")])
@as_process
async def test_who_restarts_a_supervisor_that_gave_up(node, restart, after):
    """A permanent supervisor that gave up is restarted by the one above, a transient one is not (S25)."""
    story = Story()
    top = await grow([child("x", Tree, [worker(story, "a")], None, restart=restart)])
    below = await pid_of(top, "x")
    for _ in range(11):
        await end(below, "a")
    assert not is_alive(below)
    assert await rows(top) == after


# -- a restart that fails ------------------------------------------------------------------------------


@as_process
async def test_a_failed_restart_is_tried_again_and_counts(node):
    """A restart that fails is tried again at once, each try counting (S26, S22)."""
    story = Story()
    tree = await grow([worker(story, "a")], intensity=3)
    story.failing = {"a": 2}
    await end(tree, "a")
    assert story.take() == "+a -a !a !a +a"
    assert is_alive(tree)
    await end(tree, "a")
    assert not is_alive(tree)


@as_process
async def test_what_waits_is_served_between_two_tries(node):
    """A try goes to the end of the mailbox: what waits there is served first, and sees `restarting` (S26, S28)."""
    story = Story()

    class Slow(Worker):
        async def init(self, story, name):
            await trio.sleep(1)  # virtual
            return super().init(story, name)

    tree = await grow([child("a", Slow, story, "a")])
    story.failing = {"a": 1}
    seen = []

    async def look():
        seen.append([one.state for one in await which_children(tree)])

    cast_nowait(await pid_of(tree, "a"), "boom")
    await trio.sleep(0.5)  # virtual
    spawn(look)
    await trio.sleep(5)  # virtual
    assert seen == [["restarting"]]
    assert await rows(tree) == "a:up"


@as_process
async def test_what_can_be_asked_of_a_restarting_child(node):
    """While it restarts, restart and delete are refused as restarting, and terminate cancels the retry (S28)."""
    story = Story()
    answers = []

    class Slow(Worker):
        async def init(self, story, name):
            await trio.sleep(1)  # virtual
            return super().init(story, name)

    tree = await grow([child("a", Slow, story, "a")])
    story.failing = {"a": 5}

    async def ask():
        for request in (restart_child, delete_child):
            try:
                await request(tree, "a")
            except ChildRefused as refused:
                answers.append(refused.why)
        await terminate_child(tree, "a")
        answers.append(await rows(tree))

    story.take()
    cast_nowait(await pid_of(tree, "a"), "boom")
    await trio.sleep(0.5)  # virtual
    spawn(ask)
    await trio.sleep(20)  # virtual
    assert answers == ["restarting", "restarting", "a:down"]
    assert set(story.take().split()) == {"-a", "!a"}


@pytest.mark.parametrize(
    ("strategy", "told"),
    [
        ("rest_for_one", "-b -d -c +b !c +c +d"),
        ("one_for_all", "-b -d -c -a +a +b !c -b -a +a +b +c +d"),
    ],
)
@as_process
async def test_a_sibling_that_fails_in_a_group_restart(node, strategy, told):
    """Those already started stay until the next try, which goes by the place of the one that failed (S27)."""
    story = Story()
    tree = await grow([worker(story, name) for name in "abcd"], strategy=strategy)
    story.take()
    story.failing = {"c": 1}
    await end(tree, "b")
    assert story.take() == told


@as_process
async def test_ignored_on_a_restart_is_success(node):
    """A child that is ignored on a restart is down, and not tried again (S29)."""
    story = Story()
    tree = await grow([worker(story, "a")])
    story.ignoring = {"a"}
    await end(tree, "a")
    assert story.take() == "+a -a ?a"
    assert await rows(tree) == "a:down"


# -- whose end it was ----------------------------------------------------------------------------------


@as_process
async def test_two_deaths_at_once_are_two_restarts(node):
    """A supervisor learns of deaths by messages, in their order: two at once are two restarts (S66)."""
    story = Story()
    tree = await grow([worker(story, "a"), worker(story, "b")])
    first, second = await pid_of(tree, "a"), await pid_of(tree, "b")
    story.take()
    cast_nowait(second, "boom")
    cast_nowait(first, "boom")
    await settle()
    assert story.take() in ("-a -b +a +b", "-b -a +b +a")


@as_process
async def test_a_death_that_a_group_restart_has_seen_to_is_not_seen_to_again(node):
    """Under one_for_all two deaths at once are one restart: the second is found while stopping (S66)."""
    story = Story()
    tree = await grow([worker(story, "a"), worker(story, "b")], strategy="one_for_all", intensity=1)
    first, second = await pid_of(tree, "a"), await pid_of(tree, "b")
    cast_nowait(first, "boom")
    cast_nowait(second, "boom")
    await settle()
    assert is_alive(tree)
    assert await rows(tree) == "a:up b:up"


@as_process
async def test_the_exit_of_a_replaced_child_is_ignored(node):
    """An Exit of a pid that is no child any more does nothing (S67)."""
    story = Story()
    tree = await grow([worker(story, "a")])
    old = await pid_of(tree, "a")
    await exit_and_wait(old, KILL)
    await settle()
    new = await pid_of(tree, "a")
    send_nowait(tree, Exit(old, "boom"))
    assert await pid_of(tree, "a") == new != old


@as_process
async def test_exit_signals_of_strangers_do_nothing(node):
    """Exit signals from who is no parent and no child are ignored, unless they kill (S40)."""
    story = Story()
    tree = await grow([worker(story, "a")])
    for reason in (NORMAL, SHUTDOWN, "boom"):
        exit(tree, reason)
    await settle()
    assert await rows(tree) == "a:up"
    assert await exit_and_wait(tree, KILL) == KILLED


@as_process
async def test_a_dynamic_child_restarts_alone_with_its_own_arguments(node):
    """Under simple_one_for_one each child restarts alone, with the arguments it was started with (S16, S46)."""
    story = Story()
    tree = await grow([child("any", Worker, story)], strategy="simple_one_for_one")
    first = await start_child(tree, ["a"])
    await start_child(tree, ["b"])
    story.take()
    cast_nowait(first, "boom")
    await settle()
    assert story.take() == "-a +a"
