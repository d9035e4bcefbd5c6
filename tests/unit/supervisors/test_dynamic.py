"""Supervisors of children that come and go: DynamicSupervisor and simple_one_for_one."""

from __future__ import annotations

import pytest
import trio

from runtime import KILL, NORMAL, SHUTDOWN, cast, is_alive, spawn, start, sys
from supervisors import (
    Backoff,
    ChildInfo,
    ChildRefused,
    Counts,
    DynamicSupervisor,
    child,
    count_children,
    delete_child,
    get_childspec,
    restart_child,
    start_child,
    terminate_child,
    which_children,
)
from tests.support.processes import as_process, exit_and_wait, idle
from tests.unit.supervisors.children import Story, Worker, grow, settle, worker


class Nest(DynamicSupervisor):
    """A dynamic supervisor that allows many restarts."""

    intensity = 100


class Few(Nest):
    max_children = 2


class Story1(Nest):
    """Puts a story before each child's own arguments."""

    def init(self, story):
        self.extra_arguments = (story,)
        return []


async def why(request, *args):
    """Why a request was refused."""
    with pytest.raises(ChildRefused) as caught:
        await request(*args)
    return caught.value.why


@as_process
async def test_each_child_brings_its_own_spec(node):
    """Each `start_child` brings a whole spec; ids need not differ, children are known by pid (S46)."""
    story = Story()
    nest = await start(Nest)
    first = await start_child(nest, worker(story, "a"))
    second = await start_child(nest, worker(story, "a", restart="transient"))
    assert sorted(await which_children(nest), key=lambda one: one.pid.number) == [
        ChildInfo("a", first, "up", "worker"),
        ChildInfo("a", second, "up", "worker"),
    ]
    assert (await get_childspec(nest, second)).restart == "transient"


@as_process
async def test_no_more_than_max_children(node):
    """Beyond `max_children` a start is refused as such; one that has ended makes room."""
    story = Story()
    nest = await start(Few)
    first = await start_child(nest, worker(story, "a", restart="temporary"))
    await start_child(nest, worker(story, "b"))
    assert await why(start_child, nest, worker(story, "c")) == "max_children"
    await cast(first, "boom")
    await settle()
    await start_child(nest, worker(story, "c"))
    assert story.take() == "+a +b -a +c"


@as_process
async def test_a_child_that_waits_for_its_restart_takes_its_place(node):
    """Children that wait for a restart count for `max_children` too."""
    story = Story()
    nest = await start(Few)
    slow = Backoff(first=10.0, jitter=0)
    pids = [await start_child(nest, worker(story, name, backoff=slow)) for name in "ab"]
    for pid in pids:
        await cast(pid, "boom")
    await settle()
    assert await count_children(nest) == Counts(specs=2, active=0, supervisors=0, workers=2)
    assert await why(start_child, nest, worker(story, "c")) == "max_children"


@as_process
async def test_extra_arguments_come_first(node):
    """`extra_arguments` stand before each child's own, also when it is restarted."""
    story = Story()
    nest = await start(Story1, story)
    pid = await start_child(nest, child("any", Worker, "a"))
    await cast(pid, "boom")
    await settle()
    assert story.take() == "+a -a +a"


@pytest.mark.parametrize("template", [False, True])
@as_process
async def test_children_are_known_by_pid(node, template):
    """terminate: a dead pid is fine, a stranger's is not_found, an id is not_offered (S48)."""
    story = Story()
    nest = await dynamic(template, story)
    pid = await begin(nest, template, story, "a")
    await terminate_child(nest, pid)
    await terminate_child(nest, pid)
    stranger = spawn(idle)
    assert await why(terminate_child, nest, stranger) == "not_found"
    assert await why(terminate_child, nest, "a") == "not_offered"
    assert await why(get_childspec, nest, stranger) == "not_found"
    assert is_alive(stranger)
    assert story.take() == "+a -a"


async def dynamic(template, story):
    """A dynamic supervisor, or one of simple_one_for_one."""
    if not template:
        return await start(Nest)
    return await grow([child("any", Worker, story)], strategy="simple_one_for_one", intensity=100)


async def begin(nest, template, story, name, **options):
    """Start one child of either."""
    return await start_child(nest, [name] if template else worker(story, name, **options))


@pytest.mark.parametrize("template", [False, True])
@as_process
async def test_restart_and_delete_are_not_offered(node, template):
    """`restart_child` and `delete_child` are not for dynamic children (S49, S50)."""
    story = Story()
    nest = await dynamic(template, story)
    pid = await begin(nest, template, story, "a")
    assert await why(restart_child, nest, pid) == "not_offered"
    assert await why(delete_child, nest, pid) == "not_offered"


@as_process
async def test_a_template_and_a_spec_do_not_mix(node):
    """With a template only arguments are taken, without one only specs (S46)."""
    story = Story()
    assert await why(start_child, await dynamic(True, story), worker(story, "a")) == "not_offered"
    assert await why(start_child, await dynamic(False, story), ["a"]) == "not_offered"


@pytest.mark.parametrize(("template", "specs"), [(False, 2), (True, 1)])
@as_process
async def test_what_is_counted(node, template, specs):
    """A template counts as one spec; without, each child has its own (S52)."""
    story = Story()
    nest = await dynamic(template, story)
    for name in "ab":
        await begin(nest, template, story, name)
    assert await count_children(nest) == Counts(specs=specs, active=2, supervisors=0, workers=2)


@pytest.mark.parametrize("template", [False, True])
@as_process
async def test_nothing_is_kept_of_who_did_not_start(node, template):
    """A start that fails or is ignored leaves nothing behind (S45, S46)."""
    story = Story()
    nest = await dynamic(template, story)
    story.failing, story.ignoring = {"a": 1}, {"b"}
    assert await why(begin, nest, template, story, "a") == "start_failed"
    assert await begin(nest, template, story, "b") is None
    assert await which_children(nest) == []


@as_process
async def test_a_transient_child_that_ends_in_order_is_dropped(node):
    """A dynamic supervisor drops a transient child that ended in order (S20), and each restarts alone (S16)."""
    story = Story()
    nest = await start(Nest)
    first = await start_child(nest, worker(story, "a", restart="transient"))
    second = await start_child(nest, worker(story, "b", restart="transient"))
    for pid, reason in ((first, NORMAL), (second, "boom")):
        await cast(pid, reason)
        await settle()
    assert story.take() == "+a +b -a -b +b"
    assert [one.id for one in await which_children(nest)] == ["b"]


@as_process
async def test_ignored_on_a_restart_is_dropped(node):
    """A dynamic child that is ignored on a restart is dropped; OTP 25's defect is not copied (S68)."""
    story = Story()
    nest = await dynamic(True, story)
    pid = await begin(nest, True, story, "a")
    story.ignoring = {"a"}
    await cast(pid, "boom")
    await settle()
    assert await which_children(nest) == []
    await sys.stop(nest, SHUTDOWN)


@as_process
async def test_a_child_that_waits_is_known_by_the_pid_it_had(node):
    """While a dynamic child waits for its restart, it is stopped and looked up by its last pid (S28, S48)."""
    story = Story()
    nest = await start(Nest)
    pid = await start_child(nest, worker(story, "a", backoff=Backoff(first=5.0, jitter=0)))
    await exit_and_wait(pid, KILL)
    await settle()
    assert [one.state for one in await which_children(nest)] == ["waiting"]
    assert (await get_childspec(nest, pid)).id == "a"
    await terminate_child(nest, pid)
    await trio.sleep(60)  # virtual
    assert await which_children(nest) == []
    assert story.take() == "+a"


@as_process
async def test_it_stops_with_children_that_wait(node):
    """Children that wait for a restart do not hold up the end, and do not come back after it (S42)."""
    story = Story()
    nest = await start(Nest)
    pid = await start_child(nest, worker(story, "a", backoff=Backoff(first=5.0, jitter=0)))
    await start_child(nest, worker(story, "b"))
    await cast(pid, "boom")
    await settle()
    await sys.stop(nest, SHUTDOWN)
    await trio.sleep(60)  # virtual
    assert story.take() == "+a +b -a -b"
