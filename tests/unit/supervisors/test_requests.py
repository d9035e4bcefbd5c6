"""What a supervisor answers about its children, and how it refuses."""

from __future__ import annotations

import math

import pytest

from runtime import NORMAL, SHUTDOWN, NoProcess, sys
from supervisors import (
    BadSpec,
    ChildInfo,
    ChildRefused,
    Counts,
    child,
    count_children,
    delete_child,
    get_childspec,
    restart_child,
    start_child,
    terminate_child,
    which_children,
)
from tests.support.processes import as_process, idle
from tests.unit.supervisors.children import Story, Tree, Worker, end, grow, pid_of, rows, worker


async def refused(request, *args):
    """Why a request was refused, with its detail."""
    with pytest.raises(ChildRefused) as caught:
        await request(*args)
    return caught.value.why, caught.value.detail


# -- start_child ---------------------------------------------------------------------------------------


@as_process
async def test_a_child_started_later_is_the_last(node):
    """`start_child` gives the pid; the child is the last to start and the first to stop (S43, S44)."""
    story = Story()
    tree = await grow([worker(story, "a")], strategy="one_for_all")
    pid = await start_child(tree, worker(story, "b"))
    assert pid == await pid_of(tree, "b")
    story.take()
    await end(tree, "a")
    assert story.take() == "-a -b +a +b"


@as_process
async def test_an_id_is_free_or_it_is_refused(node):
    """An id that is there is already_started with its pid, or already_present if it is down (S43)."""
    story = Story()
    tree = await grow([worker(story, "a")])
    assert await refused(start_child, tree, worker(story, "a")) == ("already_started", await pid_of(tree, "a"))
    await terminate_child(tree, "a")
    assert await refused(start_child, tree, worker(story, "a")) == ("already_present", None)


@as_process
async def test_a_child_that_does_not_start_is_not_kept(node):
    """A start that fails is start_failed with its reason, and nothing is kept (S43)."""
    story = Story()
    tree = await grow([])
    story.failing = {"a": 1}
    assert await refused(start_child, tree, worker(story, "a")) == ("start_failed", "no")
    assert await rows(tree) == ""


@pytest.mark.parametrize("spec", [3, None, {"id": "a"}, "a"])
@as_process
async def test_what_is_no_spec_is_refused_at_the_caller(node, spec):
    """`start_child` checks the spec before it asks anybody (S43)."""
    tree = await grow([])
    with pytest.raises(BadSpec, match="declare children with child"):
        await start_child(tree, spec)


@pytest.mark.parametrize(("restart", "after"), [("permanent", "a:down"), ("transient", "a:down"), ("temporary", "")])
@as_process
async def test_a_child_that_asks_to_be_ignored(node, restart, after):
    """Ignored, `start_child` gives None; the spec stays unless it is temporary (S45, S8)."""
    story = Story()
    story.ignoring = {"a"}
    tree = await grow([])
    assert await start_child(tree, worker(story, "a", restart=restart)) is None
    assert await rows(tree) == after


# -- terminate, restart, delete ------------------------------------------------------------------------


@as_process
async def test_terminate_child_keeps_the_spec(node):
    """`terminate_child` is fine with one that is down, and keeps its spec; a temporary one is forgotten (S47)."""
    story = Story()
    tree = await grow([worker(story, "a"), worker(story, "b", restart="temporary")], intensity=0)
    for name in ("a", "a", "b"):
        await terminate_child(tree, name)
    assert await rows(tree) == "a:down"
    assert await refused(terminate_child, tree, "b") == ("not_found", None)


@as_process
async def test_terminate_child_touches_nobody_else(node):
    """`terminate_child` counts for nothing, whatever the strategy (S47)."""
    story = Story()
    tree = await grow([worker(story, "a"), worker(story, "b")], strategy="one_for_all", intensity=0)
    story.take()
    await terminate_child(tree, "a")
    assert story.take() == "-a"


@as_process
async def test_restart_child_works_on_one_that_is_down(node):
    """`restart_child` gives the new pid and nothing beside it; running and not_found are refused (S49, S30)."""
    story = Story()
    tree = await grow([worker(story, "a"), worker(story, "b")], strategy="one_for_all", intensity=0)
    assert await refused(restart_child, tree, "a") == ("running", await pid_of(tree, "a"))
    assert await refused(restart_child, tree, "c") == ("not_found", None)
    await terminate_child(tree, "a")
    story.take()
    assert await restart_child(tree, "a") == await pid_of(tree, "a")
    assert story.take() == "+a"


@as_process
async def test_restart_child_that_fails_or_is_ignored_keeps_the_spec(node):
    """`restart_child` that fails is start_failed; ignored it gives None; the spec stays (S49, S8)."""
    story = Story()
    tree = await grow([worker(story, "a")])
    await terminate_child(tree, "a")
    story.failing = {"a": 1}
    assert await refused(restart_child, tree, "a") == ("start_failed", "no")
    story.ignoring = {"a"}
    assert await restart_child(tree, "a") is None
    assert await rows(tree) == "a:down"


@as_process
async def test_delete_child_forgets_one_that_is_down(node):
    """`delete_child` works on one that is down; running and not_found are refused (S50)."""
    tree = await grow([worker(Story(), "a")])
    assert await refused(delete_child, tree, "a") == ("running", await pid_of(tree, "a"))
    await terminate_child(tree, "a")
    await delete_child(tree, "a")
    assert await refused(delete_child, tree, "a") == ("not_found", None)
    assert await rows(tree) == ""


# -- looking -------------------------------------------------------------------------------------------


@as_process
async def test_which_children_lists_the_last_first(node):
    """`which_children` tells id, pid, state and type, last started first (S51)."""
    tree = await grow([worker(Story(), "a"), child("x", Tree, []), worker(Story(), "b", restart="transient")])
    a, x = await pid_of(tree, "a"), await pid_of(tree, "x")
    await end(tree, "b", NORMAL)
    assert await which_children(tree) == [
        ChildInfo("b", None, "down", "worker"),
        ChildInfo("x", x, "up", "supervisor"),
        ChildInfo("a", a, "up", "worker"),
    ]


@as_process
async def test_count_children_counts_specs_and_the_living(node):
    """`count_children`: specs, those alive, supervisors and workers by their spec (S52)."""
    tree = await grow([worker(Story(), "a"), child("x", Tree, []), worker(Story(), "b")])
    await terminate_child(tree, "b")
    assert await count_children(tree) == Counts(specs=3, active=2, supervisors=1, workers=2)


@as_process
async def test_get_childspec_shows_the_spec(node):
    """`get_childspec` by id; an unknown id is not_found (S53)."""
    spec = worker(Story(), "a", restart="transient", shutdown=math.inf)
    tree = await grow([spec])
    assert await get_childspec(tree, "a") == spec
    assert await refused(get_childspec, tree, "b") == ("not_found", None)


@as_process
async def test_the_arguments_of_a_temporary_child_are_not_kept(node):
    """A temporary child's arguments are dropped once it is up: nothing will start it again (S62)."""
    tree = await grow([child("a", idle, "large", restart="temporary"), child("b", idle, "small")])
    await start_child(tree, child("c", idle, "large", restart="temporary"))
    assert [(await get_childspec(tree, name)).args for name in "abc"] == [(), ("small",), ()]


@as_process
async def test_a_supervisor_that_ends_fails_who_waits_for_it(node):
    """Requests to a supervisor that is gone are NoProcess (N8)."""
    tree = await grow([])
    await sys.stop(tree, SHUTDOWN)
    with pytest.raises(NoProcess):
        await count_children(tree)


@as_process
async def test_a_refusal_says_what_to_do(node):
    """The text of a refusal names the request, why, and what to do instead."""
    tree = await grow([child("a", Worker, Story(), "a")])
    with pytest.raises(ChildRefused, match=r"DeleteChild.*'a'.*running.*stop it first with terminate_child"):
        await delete_child(tree, "a")
