"""The synchronous start: what the starter learns, and what is left behind when it fails."""

from __future__ import annotations

import pytest
import trio

from runtime import (
    IGNORE,
    KILL,
    NO_REPLY,
    NORMAL,
    AlreadyStarted,
    Continue,
    Crash,
    Exit,
    Misuse,
    NoReply,
    NotAProcess,
    Reply,
    StartFailed,
    Stop,
    call,
    cast,
    exit,
    exit_with,
    is_alive,
    process_info,
    receive,
    register,
    registered_names,
    self_pid,
    send_nowait,
    spawn,
    spawn_monitor,
    start,
    start_link,
    sys,
    trap_exit,
    whereis,
)
from runtime import BadReturn as Bad
from tests.support.processes import as_process, ended, exit_and_wait, idle, mail
from tests.unit.behaviours.servers import KINDS, Plain, Waits

ERROR = ValueError("no")


def raises(server):
    raise ERROR


# What init does, and the reason of the StartFailed that comes of it.
FAILURES = {
    "stop": (lambda server: Stop("full"), "full"),
    "stop-normal": (lambda server: Stop(NORMAL), NORMAL),
    "ignore": (lambda server: IGNORE, NORMAL),
    "exit": (lambda server: exit_with("gone"), "gone"),
    "exit-self": (lambda server: exit(self_pid(), "gone"), "gone"),
    "text": (lambda server: "ok", Bad("ok")),
    "zero": (lambda server: 0, Bad(0)),
    "reply": (lambda server: Reply(1), Bad(Reply(1))),
    "raise": (raises, Crash),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("linked", [start, start_link])
@pytest.mark.parametrize("failure", FAILURES)
@as_process
async def test_a_failed_init_fails_the_start(node, kind, linked, failure):
    """Whatever init does to fail, the starter gets the reason; no process, name, link is left (L3, L5, L6, N1)."""
    first, expected = FAILURES[failure]
    for _ in range(2):
        with pytest.raises(StartFailed, match=r"did not start|ignored") as caught:
            await linked(kind, first, name="it")
        if expected is Crash:
            assert isinstance(caught.value.reason, Crash)
            assert (caught.value.reason.error, caught.value.__cause__) == (ERROR, ERROR)
        else:
            assert caught.value.reason == expected
        assert registered_names() == []
    info = process_info(self_pid())
    assert info is not None
    assert (info.links, await mail()) == (0, [])


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_a_failed_start_leaves_no_exit_message(node, kind):
    """One who traps exits finds no stray Exit of a linked start that failed (L3, OTP 26's way)."""
    trap_exit(True)
    for first, _ in FAILURES.values():
        with pytest.raises(StartFailed):
            await start_link(kind, first)
    assert await mail() == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("failure", FAILURES)
@as_process
async def test_a_failed_init_never_calls_terminate(node, kind, failure):
    """`terminate` does not run for a process that never was up (N3)."""
    log: list[object] = []
    with pytest.raises(StartFailed):
        await start(kind, FAILURES[failure][0], log)
    assert log == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first", [None, NO_REPLY, NoReply(5.0), Continue("go on")], ids=repr)
@as_process
async def test_what_init_may_return(node, kind, first):
    """None, a timeout and a continue all mean: it is up (N1)."""
    pid = await start(kind, first)
    assert [await call(pid, "ping"), is_alive(pid)] == ["ping", True]


@as_process
async def test_a_start_waits_for_init(node):
    """The starter goes on when init has returned, not before (L1)."""

    class Slow(Plain):
        async def init(self, seconds):
            await trio.sleep(seconds)  # virtual

    await start(Slow, 3)
    assert trio.current_time() == 3.0


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_the_name_is_there_before_init(node, kind):
    """A process has its name when its init runs, and knows itself (L6)."""
    seen = []
    pid = await start(kind, lambda server: seen.append((whereis("it"), self_pid())), name="it")
    assert (seen, whereis("it")) == ([(pid, pid)], pid)


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_a_name_that_is_taken_starts_nothing(node, kind):
    """The reason names the process that has the name, and init never runs (L6, N27, R5)."""
    ran = []
    first = await start(Plain, name="it")
    for linked in (start, start_link):
        with pytest.raises(StartFailed, match=f"its name belongs to {first}") as caught:
            await linked(kind, lambda server: ran.append(1), name="it")
        assert caught.value.reason == AlreadyStarted(first)
    assert (ran, await call("it", 1)) == ([], 1)


@pytest.mark.parametrize("name", ["", 5, b"it", ["it"]], ids=repr)
@as_process
async def test_a_bad_name_is_told_before_anything_is_started(node, name):
    """A name that is none is misuse, and init never runs."""
    ran = []
    with pytest.raises(Misuse, match="name"):
        await start(Plain, lambda server: ran.append(1), name=name)
    assert ran == []


@pytest.mark.parametrize("what", [None, 5, "Plain"], ids=repr)
async def test_only_a_behaviour_or_a_function_can_be_started(node, what):
    """Anything else is misuse."""
    with pytest.raises(Misuse, match="behaviour's class or an async function"):
        await start(what)


@as_process
async def test_a_function_is_up_at_once(node):
    """A process without a class needs no init: the start gives its pid."""
    pid = await start(idle, name="it")
    assert (whereis("it"), is_alive(pid)) == (pid, True)


@pytest.mark.parametrize("linked", [start, start_link])
@as_process
async def test_a_start_that_takes_too_long_is_given_up(node, linked):
    """After its timeout the process is killed in the middle of its init, with no stray Exit; its name is free (L4)."""
    trap_exit(True)
    pids = []

    class Hangs(Plain):
        async def init(self):
            pids.append(self_pid())
            await trio.sleep_forever()

    for seconds in (2.0, 4.0):
        with pytest.raises(StartFailed) as caught:
            await linked(Hangs, name="it", timeout=2)
        assert (caught.value.reason, trio.current_time(), registered_names()) == ("timeout", seconds, [])
    assert (await mail(), [is_alive(pid) for pid in pids]) == ([], [False, False])


@as_process
async def test_a_start_in_time_is_no_longer_timed(node):
    """The deadline of a start is over when init has returned (L4)."""
    pid = await start(Waits, timeout=1)
    with trio.move_on_after(5):
        await receive()
    assert is_alive(pid)


@as_process
async def test_a_process_killed_in_its_init_fails_the_start(node):
    """A process that is ended by a signal before it is up fails its start with that reason (L2)."""

    class Hangs(Plain):
        async def init(self):
            await trio.sleep_forever()

    async def kills():
        await trio.testing.wait_all_tasks_blocked()
        pid = whereis("it")
        assert pid is not None
        exit(pid, "boom")

    spawn(kills)
    with pytest.raises(StartFailed) as caught:
        await start_link(Hangs, name="it")
    assert caught.value.reason == "boom"


@as_process
async def test_a_starter_that_is_cancelled_leaves_no_half_started_process(node):
    """A start that is cut off by the starter's cancel scope kills what it had begun (S63)."""
    pids = []

    class Hangs(Plain):
        async def init(self):
            pids.append(self_pid())
            await trio.sleep_forever()

    with trio.move_on_after(1):
        await start(Hangs, name="it")
    await trio.testing.wait_all_tasks_blocked()
    assert (is_alive(pids[0]), registered_names()) == (False, [])


@as_process
async def test_a_starter_that_is_killed_leaves_no_half_started_process(node):
    """A start that is cut off by the starter's death kills what it had begun (S63)."""
    pids = []

    class Hangs(Plain):
        async def init(self):
            pids.append(self_pid())
            await trio.sleep_forever()

    for linked in (start, start_link):
        pid, _ = spawn_monitor(linked, Hangs)
        await trio.testing.wait_all_tasks_blocked()
        exit(pid, KILL)
        await mail()
    assert [is_alive(pid) for pid in pids] == [False, False]


async def test_a_cancelled_starter_knows_every_process_that_is_up(node):
    """A start returns the pid of what it started, or nothing is left of it, however many came before."""
    pids = []
    with trio.CancelScope() as scope:
        scope.cancel()
        for number in range(100):
            pids.append(await start(Plain, name=f"p{number}"))
    assert registered_names() == sorted(f"p{number}" for number in range(len(pids)))


async def test_many_starts_let_others_run(node):
    """Plain inits that follow each other leave room for other tasks in between."""
    passes = 0

    async def counts():
        nonlocal passes
        while True:
            await trio.lowlevel.checkpoint()
            passes += 1

    spawn(counts)
    await trio.lowlevel.checkpoint()
    before = passes
    for _ in range(1000):
        await start(Plain)
    assert passes - before >= 10


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_start_link_links(node, kind):
    """A linked start dies with its starter and the starter with it (L9)."""
    pids = []

    async def starter():
        pids.append(await start_link(kind))
        await receive()
        exit_with("gone")

    pid, _ = spawn_monitor(starter)
    await trio.testing.wait_all_tasks_blocked()
    send_nowait(pid, "go")
    await mail()
    assert not is_alive(pids[0])

    async def other():
        server = await start_link(kind)
        await cast(server, lambda server: exit_with("boom"))
        await trio.sleep_forever()

    assert await ended(other) == "boom"


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_start_does_not_link(node, kind):
    """A process of `start` outlives its starter (N19)."""
    pids = []

    async def starter():
        pids.append(await start(kind))
        exit_with("gone")

    assert await ended(starter) == "gone"
    assert await call(pids[0], "alive") == "alive"


async def test_start_link_needs_a_process(node):
    """Host code cannot be linked to."""
    with pytest.raises(NotAProcess):
        await start_link(Plain)


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_init_may_use_the_runtime(node, kind):
    """In init a process can name itself, send to itself, spawn and set traps, in whichever way it is written (L1)."""
    log: list[object] = []

    def first(server):
        register("self made")
        send_nowait(self_pid(), "from init")
        server.child = spawn(idle)
        return trap_exit(True) or None

    pid = await start(kind, first, log)
    exit(pid, "trapped")
    state = await sys.get_state(pid)
    assert isinstance(state, dict)
    assert (whereis("self made"), is_alive(state["child"])) == (pid, True)
    assert log == [("info", "from init"), ("info", Exit(self_pid(), "trapped"))]


@as_process
async def test_a_start_of_the_dead_name_works_at_once(node):
    """A name is free for a new start the moment that its holder's end is known (P40)."""
    for _ in range(10):
        pid = await start(Plain, name="it")
        await exit_and_wait(pid, KILL)
