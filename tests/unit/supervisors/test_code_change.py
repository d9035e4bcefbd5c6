"""New code for a running supervisor: `init` is read again, and nobody is disturbed."""

from __future__ import annotations

import pytest

from runtime import IGNORE, cast, is_alive, start, sys
from supervisors import Backoff, DynamicSupervisor, Supervisor, child, restart_child, start_child, which_children
from tests.support.processes import as_process
from tests.unit.supervisors.children import Story, Worker, end, pid_of, rows, settle, worker


class Old(Supervisor):
    """Version 1: a, b and c."""

    intensity = 5

    def init(self, story):
        return [worker(story, name) for name in "abc"]


async def renew(supervisor, code):
    """Give a supervisor new code, as an operator would."""
    await sys.suspend(supervisor)
    try:
        await sys.change_code(supervisor, code)
    finally:
        await sys.resume(supervisor)


@as_process
async def test_specs_are_replaced_by_id(node):
    """Running children go on; new ids are down, at their place; those no longer named stay, after the rest (S61)."""
    story = Story()

    class New(Supervisor):
        def init(self, story):
            return [worker(story, "d"), worker(story, "c", restart="transient"), worker(story, "a")]

    tree = await start(Old, story)
    before = {name: await pid_of(tree, name) for name in "abc"}
    story.take()
    await renew(tree, New)
    assert await rows(tree) == "d:down c:up a:up b:up"
    assert {name: await pid_of(tree, name) for name in "abc"} == before
    assert story.take() == ""
    await restart_child(tree, "d")
    await end(tree, "c", "boom")
    assert story.take() == "+d -c +c"


@as_process
async def test_flags_are_replaced(node):
    """Strategy, intensity, period and back-off are the new class's from then on (S61)."""
    story = Story()

    class New(Old):
        strategy = "one_for_all"
        intensity, period = 1, 100.0
        backoff = None

    tree = await start(Old, story)
    story.take()
    await renew(tree, New)
    await end(tree, "a")
    assert story.take() == "-a -c -b +a +b +c"
    await end(tree, "a")
    assert not is_alive(tree)


@pytest.mark.parametrize("wrong", ["nonsense", "twice", "kind", "raises"])
@as_process
async def test_new_code_that_cannot_work_changes_nothing(node, wrong):
    """If the new `init` raises or returns what cannot work, the asker is told and all is as before (S61, Y6)."""
    story = Story()

    class New(Old):
        intensity = 0
        strategy = "simple_one_for_one" if wrong == "kind" else "one_for_one"

        def init(self, story):
            match wrong:
                case "nonsense":
                    return [3]
                case "twice":
                    return [worker(story, "a")] * 2
                case "kind":
                    return [worker(story, "a")]
            raise ValueError("no")

    tree = await start(Old, story)
    with pytest.raises(sys.CallbackFailed):
        await renew(tree, New)
    assert await rows(tree) == "a:up b:up c:up"
    await end(tree, "a")
    assert is_alive(tree)


@as_process
async def test_new_code_that_ignores_changes_only_the_class(node):
    """If the new `init` asks to be ignored, children and flags stay (S61)."""
    story = Story()

    class New(Old):
        def init(self, story):
            return IGNORE

    tree = await start(Old, story)
    await renew(tree, New)
    assert await rows(tree) == "a:up b:up c:up"


@as_process
async def test_a_template_is_replaced_for_those_who_run(node):
    """Under simple_one_for_one the children restart by the new template, with their own arguments (S61)."""
    story = Story()

    class One(Supervisor):
        strategy, intensity = "simple_one_for_one", 5

        def init(self, story):
            return [child("any", Worker, story)]

    class Louder(Worker):
        def init(self, story, name):
            return super().init(story, name.upper())

    class Two(One):
        def init(self, story):
            return [child("any", Louder, story)]

    tree = await start(One, story)
    pid = await start_child(tree, ["a"])
    await renew(tree, Two)
    await cast(pid, "boom")
    await settle()
    assert story.take() == "+a -a +A"


@as_process
async def test_a_dynamic_supervisor_reads_its_bounds_again(node):
    """A DynamicSupervisor takes on the new `max_children` and keeps its children (S61)."""
    story = Story()

    class One(DynamicSupervisor):
        max_children = 1

    class Two(DynamicSupervisor):
        max_children = 2
        backoff = Backoff()

    tree = await start(One)
    await start_child(tree, worker(story, "a"))
    await renew(tree, Two)
    await start_child(tree, worker(story, "b"))
    assert len(await which_children(tree)) == 2
