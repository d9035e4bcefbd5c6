"""Significant children: whose end is the supervisor's own."""

from __future__ import annotations

import pytest

from runtime import NORMAL, cast, is_alive
from supervisors import ChildRefused, Supervisor, child, start_child, terminate_child
from supervisors.specs import Flags
from tests.support.processes import as_process
from tests.unit.supervisors.children import Story, Tree, Worker, end, grow, pid_of, rows, settle, worker


def weighty(story, name, restart="transient"):
    """The spec of a significant Worker."""
    return worker(story, name, restart=restart, significant=True)


@pytest.mark.parametrize(
    ("restart", "auto_shutdown"), [("transient", "never"), ("permanent", "any_significant"), ("temporary", "never")]
)
@as_process
async def test_a_significant_child_needs_auto_shutdown_and_an_end(node, restart, auto_shutdown):
    """A significant child needs `auto_shutdown` and must not be permanent; checked before its id (S54)."""
    story = Story()
    spec = weighty(story, "a", restart)
    tree = await grow([worker(story, "a")], auto_shutdown=auto_shutdown)
    with pytest.raises(ChildRefused) as refused:
        await start_child(tree, spec)
    assert refused.value.why == "bad_combination"
    assert f"got {auto_shutdown!r} and {restart!r}" in refused.value.detail


@pytest.mark.parametrize(("restart", "reason"), [("transient", NORMAL), ("temporary", NORMAL), ("temporary", "boom")])
@as_process
async def test_any_significant_end_is_the_supervisors(node, restart, reason):
    """any_significant: the first such end that is not restarted stops all in reverse, with SHUTDOWN (S55, S59)."""
    story = Story()
    specs = [worker(story, "a"), weighty(story, "b", restart), weighty(story, "c"), worker(story, "d")]
    inner = child("x", Tree, specs, Flags(auto_shutdown="any_significant"), restart="transient")
    top = await grow([inner], intensity=0)
    below = await pid_of(top, "x")
    story.take()
    await end(below, "b", reason)
    assert story.take() == "-b -d -c -a"
    assert await rows(top) == "x:down"  # it ended with SHUTDOWN, in order


@as_process
async def test_an_insignificant_end_is_nothing(node):
    """The end of a child that is not significant ends nobody else (S55)."""
    story = Story()
    specs = [weighty(story, "a"), worker(story, "b", restart="transient")]
    tree = await grow(specs, auto_shutdown="any_significant")
    await end(tree, "b", NORMAL)
    assert is_alive(tree)


@as_process
async def test_all_significant_waits_for_the_last(node):
    """all_significant: the end of the last significant child that was alive does it (S56)."""
    story = Story()
    story.ignoring = {"ignored"}
    specs = [weighty(story, "a"), weighty(story, "b"), weighty(story, "ignored"), worker(story, "c")]
    tree = await grow(specs, auto_shutdown="all_significant")
    await end(tree, "a", NORMAL)
    assert is_alive(tree)
    story.take()
    await end(tree, "b", NORMAL)
    assert story.take() == "-b -c"
    assert not is_alive(tree)


@as_process
async def test_all_significant_counts_dynamic_children(node):
    """all_significant under simple_one_for_one counts the living dynamic children (S56)."""
    story = Story()
    template = child("any", Worker, story, restart="temporary", significant=True)
    tree = await grow([template], strategy="simple_one_for_one", auto_shutdown="all_significant")
    first, second = await start_child(tree, ["a"]), await start_child(tree, ["b"])
    for pid, alive in ((first, True), (second, False)):
        await cast(pid, NORMAL)
        await settle()
        assert is_alive(tree) is alive


@as_process
async def test_what_is_stopped_or_restarted_does_not_count(node):
    """Neither `terminate_child` nor an end that is restarted shuts the supervisor down (S57)."""
    story = Story()
    tree = await grow([weighty(story, "a"), weighty(story, "b")], auto_shutdown="any_significant")
    await terminate_child(tree, "a")
    await end(tree, "b", "boom")
    assert await rows(tree) == "a:down b:up"


@as_process
async def test_giving_a_significant_child_up_is_giving_up(node):
    """A significant child that is restarted too often is given up like any other (S58)."""
    story = Story()
    tree = await grow([worker(story, "a"), weighty(story, "b")], auto_shutdown="all_significant", intensity=0)
    story.take()
    await end(tree, "b", "boom")
    assert story.take() == "-b -a"
    assert not is_alive(tree)


@as_process
async def test_it_goes_on_from_storey_to_storey(node):
    """A supervisor can itself be significant, so one end can take several storeys down (S59)."""
    story = Story()

    class Inner(Supervisor):
        auto_shutdown = "all_significant"

        def init(self):
            return [weighty(story, "a")]

    middle = child("x", Inner, restart="transient", significant=True)
    inner = child("y", Tree, [middle, worker(story, "b")], Flags(auto_shutdown="any_significant"), restart="temporary")
    top = await grow([inner])
    below = await pid_of(await pid_of(top, "y"), "x")
    story.take()
    await end(below, "a", NORMAL)
    assert story.take() == "-a -b"
    assert await rows(top) == ""
