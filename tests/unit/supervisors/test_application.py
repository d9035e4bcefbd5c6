"""Applications of a node: what they need, what their end means, their phases, environment and callbacks."""

from __future__ import annotations

import pytest

from runtime import KILL, NORMAL, Crash, GenServer, Misuse, StartFailed, call, cast_nowait, is_alive, spawn, whereis
from supervisors import (
    Application,
    ChildRefused,
    DynamicSupervisor,
    Node,
    NodeStopped,
    NotStarted,
    Supervisor,
    child,
    current_application,
    get_all_env,
    get_env,
    put_env,
)
from supervisors.application import as_application
from tests.support.processes import as_process, exit_and_wait, idle
from tests.unit.supervisors.children import Story, Tree, Worker, pid_of, settle, worker


class Told(Application):
    """An application that tells of its callbacks."""

    async def start_phase(self, phase, argument):
        STORY.events.append(f"{self.label}:{phase}={argument}")
        if argument == "fail":
            raise ValueError("no")

    async def prep_stop(self):
        STORY.events.append(f"{self.label}:prep_stop")
        return f"state of {self.label}"

    async def stop(self, state):
        assert state == f"state of {self.label}"
        STORY.events.append(f"{self.label}:stop")


STORY = Story()


@pytest.fixture(autouse=True)
def story():
    """A new story for each test."""
    STORY.__init__()
    return STORY


def app(name, *, workers=None, **options):
    """An application with one worker of its own name, unless it says otherwise."""
    names = workers if workers is not None else [name]
    return Told(Tree, ([worker(STORY, one) for one in names],), name, **options)


# -- starting ------------------------------------------------------------------------------------------


async def test_a_start_returns_when_the_tree_is_up(node, story):
    """`start` waits for the whole tree, then runs the start phases, in order (X3, X10)."""
    phases = (("fill", 1), ("open", "door"))
    pid = await node.start(app("a", workers=["x", "y"], start_phases=phases))
    assert story.take() == "+x +y a:fill=1 a:open=door"
    assert is_alive(pid)
    assert node.which_applications() == ["a"]


async def test_what_it_needs_must_run(node, story):
    """`start` refuses an application whose dependencies do not run, and names the first that is missing (X2)."""
    base = app("base")
    top = app("top", applications=(base,))
    with pytest.raises(NotStarted, match="'top' needs 'base'") as missing:
        await node.start(top)
    assert missing.value.application == "base"
    await node.start(base)
    await node.start(top)
    assert story.take() == "+base +top"


async def test_ensure_all_started_starts_what_is_needed_first(node, story):
    """`ensure_all_started` starts dependencies first, each once, and names those that it started (X1, X2)."""
    base = app("base")
    left, right = app("left", applications=(base,)), app("right", applications=(base,))
    top = app("top", applications=(left, right))
    await node.start(left.applications[0])
    assert await node.ensure_all_started(top) == ["left", "right", "top"]
    assert await node.ensure_all_started(top) == []
    assert story.take() == "+base +left +right +top"
    assert node.which_applications() == ["base", "left", "right", "top"]


async def test_ensure_all_started_takes_back_what_it_started(node, story):
    """If one of them does not start, those that were started on its way are stopped again, in reverse (X2)."""
    story.failing = {"top": 1}
    base, other = app("base"), app("other")
    await node.start(base)
    with pytest.raises(ChildRefused):
        await node.ensure_all_started(app("top", applications=(base, other)))
    assert node.which_applications() == ["base"]
    assert story.take() == "+base +other !top other:prep_stop -other other:stop"


async def test_one_that_runs_is_refused(node):
    """An application is started once; a second start is refused as already_started (X2)."""
    pid = await node.start(app("a"))
    with pytest.raises(ChildRefused) as refused:
        await node.start(app("a"))
    assert (refused.value.why, refused.value.detail) == ("already_started", pid)


async def test_a_start_phase_that_fails_stops_it_again(node, story):
    """If a start phase raises, the application is stopped and the start fails with that (X10)."""
    with pytest.raises(StartFailed) as failed:
        await node.start(app("a", start_phases=(("one", 1), ("two", "fail"), ("three", 3))))
    assert isinstance(failed.value.reason, Crash)
    assert story.take() == "+a a:one=1 a:two=fail a:prep_stop -a a:stop"
    assert node.which_applications() == []
    await node.start(app("a"))


async def test_phases_run_in_included_applications_too(node, story):
    """A phase runs in the application, then in all that it includes and that have it (X10)."""
    deep = app("deep", start_phases=(("two", "d"), ("one", "d")))
    inner = app("inner", included_applications=(deep,), start_phases=(("two", "i"),))
    await node.start(app("a", workers=[], included_applications=(inner,), start_phases=(("one", "a"), ("two", "a"))))
    assert story.take() == "a:one=a deep:one=d a:two=a inner:two=i deep:two=d"
    assert node.which_applications() == ["a"]


async def test_one_that_asks_to_be_ignored(node, story):
    """An application whose top process asks to be ignored has not started, and leaves nothing behind."""
    story.ignoring = {"a"}
    with pytest.raises(StartFailed) as failed:
        await node.start(Worker, story, "a", name="a")
    assert failed.value.reason is NORMAL
    story.ignoring = set()
    await node.start(Worker, story, "a", name="a")


async def test_arguments_beside_an_application_are_refused(node):
    """An Application says itself what it is started with; its name may be given."""
    with pytest.raises(Misuse, match="says itself what it is started with"):
        await node.start(app("a"), 5)
    await node.start(app("a"), name="b")
    assert node.which_applications() == ["b"]


# -- stopping ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
async def test_an_explicit_stop_never_stops_the_node(node, story, restart):
    """`stop` runs prep_stop, stops the tree, runs stop; the node goes on, whatever the type (X5, X6)."""
    await node.start(app("a", workers=["x", "y"]), restart=restart)
    await node.stop("a")
    assert story.take() == "+x +y a:prep_stop -y -x a:stop"
    assert (node.which_applications(), is_alive(node.root)) == ([], True)
    with pytest.raises(NotStarted, match="'a' does not run"):
        await node.stop("a")
    await node.start(app("a"))


async def test_a_node_stops_its_applications_in_reverse(story):
    """When a node ends, its applications are stopped one by one, last started first (X11)."""
    async with Node("test") as node:
        await node.start(app("a"))
        await node.start(app("b"))
    assert story.take() == "+a +b b:prep_stop -b b:stop a:prep_stop -a a:stop"


@pytest.mark.parametrize(("restart", "reason"), [("temporary", "boom"), ("temporary", NORMAL), ("transient", NORMAL)])
@as_process
async def test_an_end_that_is_only_reported(node, restart, reason):
    """A temporary one may end in any way, a transient one in order: the callbacks run, the node goes on (X4, X7)."""
    pid = await node.start(Told(Worker, (STORY, "a"), "a"), restart=restart)
    cast_nowait(pid, reason)
    await settle()
    assert STORY.take() == "+a -a a:prep_stop a:stop"
    assert (node.which_applications(), is_alive(node.root)) == ([], True)
    await node.start(app("a"))


@pytest.mark.parametrize(("restart", "reason"), [("permanent", NORMAL), ("permanent", "boom"), ("transient", "boom")])
async def test_an_end_that_stops_the_node(story, restart, reason):
    """Any end of a permanent application, and a failure of a transient one, stop the node (X4, X7)."""

    async def live():
        async with Node("test") as node:
            await node.start(app("other"))
            pid = await node.start(Told(Worker, (story, "a"), "a"), restart=restart)
            cast_nowait(pid, reason)
            await node.wait()
            await settle()

    with pytest.raises(NodeStopped):
        await live()
    told = story.take().split()
    assert told[:3] == ["+other", "+a", "-a"]
    assert sorted(told[3:]) == ["-other", "a:prep_stop", "a:stop", "other:prep_stop", "other:stop"]


async def test_too_many_restarts_are_its_end(story):
    """A top supervisor that gives up is an application that has ended (X12)."""

    class Top(Supervisor):
        intensity = 0

        def init(self):
            return [worker(story, "x")]

    async def live():
        async with Node("test") as node:
            top = await node.start(Top)
            cast_nowait(await pid_of(top, "x"), "boom")
            await node.wait()
            await settle()

    with pytest.raises(NodeStopped):
        await live()


@as_process
async def test_nothing_of_it_is_left(node):
    """What its processes have spawned beside the tree is killed when it has stopped (X8)."""
    left = []

    class Spawner(GenServer):
        def init(self):
            left.append(spawn(idle))
            left.append(spawn(spawn_more))

    async def spawn_more():
        left.append(spawn(idle))
        await idle()

    mine = spawn(idle)
    await node.start(Spawner, name="a")
    await node.start(Spawner, name="b")
    await settle()
    assert len(left) == 6
    await node.stop("a")
    await settle()
    assert sorted(is_alive(pid) for pid in left) == [False, False, False, True, True, True]
    assert is_alive(mine)


@pytest.mark.parametrize("callback", ["prep_stop", "stop"])
async def test_a_callback_that_fails_is_logged(node, caplog, callback):
    """An end goes on when a callback raises: it is logged (X5)."""

    async def fails(*args):
        raise ValueError("no")

    wrong = type("Wrong", (Application,), {callback: fails, "__slots__": ()})
    pid = await node.start(wrong(Tree, ([],), "a"))
    await node.stop("a")
    assert not is_alive(pid)
    assert f"{callback} of application a failed" in caplog.text


# -- the environment -----------------------------------------------------------------------------------


class Reader(GenServer):
    """Tells of the environment that it finds."""

    def handle_call(self, request, caller):
        match request:
            case "who":
                return current_application()
            case ("put", key, value):
                return put_env(key, value)
            case ("get", key, default):
                return get_env(key, default)
        return get_all_env()


class Readers(Supervisor):
    intensity = 5

    def init(self):
        return [child("reader", Reader, name="reader"), child("nest", DynamicSupervisor)]


@as_process
async def test_every_process_of_it_finds_its_environment(node):
    """`get_env` finds the environment of the application that the code belongs to (X9)."""
    await node.start(Application(Readers, name="a", env={"size": 1, "mode": "x"}))
    await node.start(app("b", env={"size": 2}))
    assert await call("reader", "who") == "a"
    assert await call("reader", "all") == {"size": 1, "mode": "x"}
    assert await call("reader", ("get", "colour", "red")) == "red"
    assert [get_env("size", application=name) for name in ("a", "b", "c")] == [1, 2, None]
    with pytest.raises(Misuse, match="belongs to no application"):
        get_env("size")


@as_process
async def test_it_can_be_changed_at_run_time(node):
    """`put_env` holds until the application is started anew, also for a restarted process (X9)."""
    one = Application(Readers, name="a", env={"size": 1})
    await node.start(one)
    await call("reader", ("put", "size", 5))
    await exit_and_wait(whereis("reader"), KILL)
    await settle()
    assert await call("reader", ("get", "size", None)) == 5
    put_env("size", 6, application="a")
    assert await call("reader", ("get", "size", None)) == 6
    with pytest.raises(Misuse, match="a non-empty string, got 5"):
        put_env(5, 5, application="a")
    await node.stop("a")
    await node.start(one)
    assert await call("reader", ("get", "size", None)) == 1


async def test_callbacks_find_it_too(node):
    """Callbacks run as code of their application (X9)."""
    seen = []

    class Looks(Application):
        async def start_phase(self, phase, argument):
            seen.append((current_application(), get_env("size")))

    await node.start(Looks(Tree, ([],), "a", env={"size": 3}, start_phases=(("look", None),)))
    assert (seen, current_application()) == ([("a", 3)], None)


def test_settings_go_over_what_it_begins_with():
    """The operator's settings replace what stands in `env`, as values of the same type (X9)."""
    begun = Application(Tree, env={"size": 1, "rate": 0.5, "loud": False, "mode": "x", "rest": None})
    given = {"size": "4", "rate": "2", "loud": "true", "mode": "y"}
    wanted = {"size": 4, "rate": 2.0, "loud": True, "mode": "y", "rest": None}
    assert as_application(begun, given).env == wanted
    assert type(as_application(begun, given).env["rate"]) is float


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"size": "four"}, "'size' is an int, got 'four'"),
        ({"rate": "fast"}, "'rate' is a number, got 'fast'"),
        ({"loud": "1"}, "'loud' is true or false, got '1'"),
        ({"sise": "4"}, "did you mean 'size'?"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, words):
    """A setting of the wrong type, or that is not there, is Misuse (X9)."""
    with pytest.raises(Misuse) as refused:
        as_application(Application(Tree, env={"size": 1, "rate": 0.5, "loud": False}), settings)
    assert words in str(refused.value)


def test_an_application_can_be_compared():
    """Applications are values: equal if they say the same, whatever their environment in a set (X1)."""
    one, same = Application(Tree, env={"a": 1}), Application(Tree, env={"a": 1})
    assert (one == same, len({one, same}), one == Application(Tree)) == (True, 1, False)
