"""How a supervisor starts: its children in order, all or none."""

from __future__ import annotations

import pytest
import trio

from runtime import (
    IGNORE,
    KILL,
    KILLED,
    SHUTDOWN,
    AlreadyStarted,
    Crash,
    Exit,
    GenServer,
    Shutdown,
    StartFailed,
    exit,
    is_alive,
    process_info,
    self_pid,
    send_nowait,
    spawn,
    start,
    start_link,
    trap_exit,
    whereis,
)
from supervisors import FailedToStart, Supervisor, child, count_children
from tests.support.processes import as_process, end_of, idle, mail
from tests.unit.supervisors.children import Story, Tree, Worker, end, grow, pid_of, rows, settle, worker


@as_process
async def test_children_start_one_by_one_in_order(node):
    """The next child starts only when the one before is up (S6)."""
    story = Story()

    class Slow(Worker):
        async def init(self, story, name):
            story.events.append(f"({name}")
            await trio.sleep(1)  # virtual
            return super().init(story, name)

    tree = await start(Tree, [child(name, Slow, story, name) for name in "abc"])
    assert story.take() == "(a +a (b +b (c +c"
    assert await rows(tree) == "a:up b:up c:up"


@as_process
async def test_a_tree_starts_depth_first_and_stops_in_reverse(node):
    """A whole tree starts depth first and stops in exactly the reverse order (S64)."""
    story = Story()
    below = child("x", Tree, [worker(story, "b"), worker(story, "c")])
    top = await grow([worker(story, "a"), below, worker(story, "d")])
    assert story.take() == "+a +b +c +d"
    exit(top, KILL)
    await settle()
    story.take()
    trap_exit(True)
    top = await start_link(Tree, [worker(story, "a"), below, worker(story, "d")])
    exit(top, SHUTDOWN)
    await settle()
    assert story.take() == "+a +b +c +d -d -c -b -a"


@as_process
async def test_a_supervisor_traps_exits(node):
    """A supervisor traps exits, so that an exit signal of a stranger does not end it (S1)."""
    tree = await grow([])
    exit(tree, "boom")
    await settle()
    assert is_alive(tree)


@as_process
async def test_a_supervisor_may_ask_to_be_ignored(node):
    """`init` may return IGNORE: the start says so, and as a child it counts as started (S5)."""

    class Nobody(Supervisor):
        def init(self):
            return IGNORE

    with pytest.raises(StartFailed):
        await start(Nobody)
    assert await rows(await grow([child("nobody", Nobody)])) == "nobody:down"


@as_process
async def test_an_ignored_child_stays_down_unless_temporary(node):
    """A child that is ignored at the start stays in the list, down; a temporary one is dropped (S8)."""
    story = Story()
    story.ignoring = {"a", "b", "c"}
    kinds = {"a": "permanent", "b": "transient", "c": "temporary"}
    tree = await grow([worker(story, name, restart=restart) for name, restart in kinds.items()])
    assert await rows(tree) == "a:down b:down"


@pytest.mark.parametrize(
    ("init", "reason"),
    [
        (lambda self: 1 / 0, Crash),
        (lambda self: 5, "BadReturn(value=5)"),
        (lambda self: exit(self_pid(), "gone"), "'gone'"),
    ],
)
@as_process
async def test_any_failed_start_counts_with_its_reason(node, init, reason):
    """A start ends up, ignored or failed; an exception, an exit and nonsense count as failed with that reason (S7)."""
    trap_exit(True)
    with pytest.raises(StartFailed) as failed:
        await start_link(Tree, [child("a", type("Bad", (GenServer,), {"init": init}))])
    detail = failed.value.reason.detail
    assert detail.id == "a"
    assert isinstance(detail.reason, Crash) if reason is Crash else repr(detail.reason) == reason


@as_process
async def test_a_taken_name_is_a_failed_start(node):
    """A child whose name is taken fails with AlreadyStarted (S7, R5)."""
    story = Story()
    await grow([worker(story, "a", name="a")])
    with pytest.raises(StartFailed) as failed:
        await grow([worker(story, "b", name="a")])
    assert failed.value.reason == Shutdown(FailedToStart("b", AlreadyStarted(whereis("a"))))


@as_process
async def test_a_child_that_does_not_start_takes_back_those_before(node):
    """Those before a child that fails are stopped in reverse, and nothing is tried again (S9)."""
    story = Story()
    story.failing = {"c": 5}
    with pytest.raises(StartFailed) as failed:
        await grow([worker(story, name) for name in "abcd"])
    assert failed.value.reason == Shutdown(FailedToStart("c", "no"))
    assert story.take() == "+a +b !c -b -a"
    assert story.failing == {"c": 4}


@as_process
async def test_reasons_nest(node):
    """A tree that fails deep down says so at every storey (S10)."""
    story = Story()
    story.failing = {"x": 1}
    with pytest.raises(StartFailed) as failed:
        await grow([child("a", Tree, [child("b", Tree, [worker(story, "x")])])])
    inner = Shutdown(FailedToStart("b", Shutdown(FailedToStart("x", "no"))))
    assert failed.value.reason == Shutdown(FailedToStart("a", inner))


@as_process
async def test_a_slow_child_makes_everybody_wait(node):
    """While a child's `init` waits its supervisor serves nobody; requests wait in its mailbox (S65)."""
    story = Story()
    answered = []

    class Slow(Worker):
        async def init(self, story, name):
            if story.take():
                await trio.sleep(10)  # virtual
            return super().init(story, name)

    tree = await start(Tree, [child("a", Slow, story, "a")])

    async def ask():
        await count_children(tree, timeout=60)
        answered.append(trio.current_time() - begun)

    begun = trio.current_time()
    await end(tree, "a")
    spawn(ask)
    await trio.sleep(9)  # virtual
    assert answered == []
    await trio.sleep(2)  # virtual
    assert answered == [10]


@as_process
async def test_a_supervisor_that_dies_takes_a_half_started_child(node):
    """A supervisor that is killed while it starts a child takes that child along (S63)."""
    born = []

    class Stuck(GenServer):
        async def init(self):
            born.append(self_pid())
            await trio.sleep_forever()

    async def starter():
        await start(Tree, [child("a", Stuck)])

    spawn(starter)
    await settle()
    (stuck,) = born
    parent = process_info(stuck) and stuck._process.parent
    exit(parent, KILL)
    assert await end_of(stuck) == KILLED


@as_process
async def test_messages_that_mean_nothing_are_dropped(node):
    """A supervisor drops messages that it does not know, and goes on (S60)."""
    story = Story()
    tree = await grow([worker(story, "a")])
    for message in ("hello", 5, Exit(self_pid(), "boom")):
        send_nowait(tree, message)
    await settle()
    assert await rows(tree) == "a:up"


@as_process
async def test_a_plain_function_is_a_child_too(node):
    """An async function is up as soon as it is called; its end is NORMAL (S7, S17)."""
    tree = await grow([child("idle", idle)])
    before = await pid_of(tree, "idle")
    exit(before, "boom")
    await settle()
    assert is_alive(await pid_of(tree, "idle"))
    assert await mail() == []
