"""How a server ends: when `terminate` runs, with which reason, and who learns what."""

from __future__ import annotations

import pytest
import trio

from runtime import (
    KILL,
    KILLED,
    NO_REPLY,
    NORMAL,
    SHUTDOWN,
    BadReturn,
    CalleeExited,
    Continue,
    Crash,
    Down,
    Exit,
    GenServer,
    Shutdown,
    Stop,
    call,
    cast,
    cast_nowait,
    exit,
    exit_with,
    is_alive,
    link,
    monitor,
    receive,
    self_pid,
    send_nowait,
    spawn,
    spawn_link,
    spawn_monitor,
    start,
    start_link,
    sys,
    trap_exit,
    unlink,
)
from tests.support.processes import as_process, end_of, exit_and_wait, idle, mail
from tests.unit.behaviours.servers import KINDS, TRAPPING, Plain, PlainTrapping, Waits, WaitsTrapping

ERROR = ValueError("on purpose")


def raises(server, *_caller):
    raise ERROR


def stops(reason):
    return lambda server, *_caller: Stop(reason)


async def caught(pid, request) -> object:
    """The reason with which a call's callee ends."""
    with pytest.raises(CalleeExited) as error:
        await call(pid, request, timeout=1000)
    return error.value.reason


# -- stop ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["call", "cast", "info", "continue", "init continue"])
@pytest.mark.parametrize("reason", [NORMAL, SHUTDOWN, Shutdown("x"), "boom"], ids=repr)
@as_process
async def test_stop_ends_with_its_reason_after_terminate(node, kind, where, reason):
    """Stop(R) from any callback runs terminate(R), then ends with R (N15, N19)."""
    log: list[object] = []
    first = Continue(lambda server: NO_REPLY if where != "init continue" else _later(stops(reason)))
    pid = await start(kind, first, log)
    ref = monitor(pid)
    match where:
        case "call":
            assert await caught(pid, stops(reason)) == reason
        case "cast":
            await cast(pid, stops(reason))
        case "info":
            send_nowait(pid, stops(reason))
        case "continue":
            await cast(pid, lambda server: Continue(stops(reason)))
    assert (await mail(), log) == ([Down(ref, pid, reason)], [("terminate", reason)])


def _later(what):
    send_nowait(self_pid(), what)


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_a_stop_with_a_reply_replies_after_terminate(node, kind):
    """The caller gets its reply, not the exit, once terminate is through (N14)."""
    pid = await start(kind, None, log := [])
    ref = monitor(pid)
    assert await call(pid, lambda server, caller: Stop("boom", "bye")) == "bye"
    assert log == [("terminate", "boom")]
    assert await mail() == [Down(ref, pid, "boom")]


@pytest.mark.parametrize("failure", [raises, lambda server: exit_with("other")], ids=["raise", "exit"])
@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_a_stop_with_a_reply_replies_even_if_terminate_fails(node, kind, failure):
    """A terminate that raises or exits does not cost the caller its reply (N14)."""

    class Fails(kind):
        def terminate(self, reason):
            failure(self)

    pid = await start(Fails)
    ref = monitor(pid)
    assert await call(pid, lambda server, caller: Stop(NORMAL, "bye")) == "bye"
    (down,) = await mail()
    assert down.ref is ref
    assert down.reason == "other" or down.reason.error is ERROR


@as_process
async def test_a_stop_with_a_reply_that_is_killed_in_terminate_tells_the_caller(node):
    """If terminate is killed before the reply could be sent, the caller learns of the kill at once (N8)."""

    class Hangs(Plain):
        async def terminate(self, reason):
            await trio.sleep_forever()

    pid = await start(Hangs)

    async def kills():
        await trio.sleep(2)  # virtual
        exit(pid, KILL)

    spawn(kills)
    assert await caught(pid, lambda server, caller: Stop(NORMAL, "bye")) is KILLED
    assert trio.current_time() == 2.0


@as_process
async def test_none_may_be_the_reply_of_a_stop(node):
    """`Stop(reason, None)` replies None; `Stop(reason)` gives the caller the exit (N14, N15)."""
    assert await call(await start(Plain), lambda server, caller: Stop("boom", None)) is None
    assert await caught(await start(Plain), stops("boom")) == "boom"


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_nothing_is_handled_after_a_stop(node, kind):
    """Messages that wait when a server stops are lost; their callers learn the reason (N8)."""
    pid = await start(kind, None, log := [])
    await sys.suspend(pid)
    cast_nowait(pid, stops("enough"))
    cast_nowait(pid, "never")
    reasons = []

    async def asks():
        reasons.append(await caught(pid, "never"))

    spawn(asks)
    await trio.testing.wait_all_tasks_blocked()
    await sys.resume(pid)
    await mail()
    assert (log, reasons) == ([("terminate", "enough")], ["enough"])


# -- crash ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["call", "cast", "info", "continue"])
@as_process
async def test_a_crash_runs_terminate_with_the_crash(node, kind, where):
    """An exception in any callback gives terminate(Crash(error)) and that exit reason (N17)."""
    pid = await start(kind, None, log := [])
    ref = monitor(pid)
    match where:
        case "call":
            await caught(pid, raises)
        case "cast":
            await cast(pid, raises)
        case "info":
            send_nowait(pid, raises)
        case "continue":
            await cast(pid, lambda server: Continue(raises))
    (down,) = await mail()
    ((what, reason),) = log
    assert (down.ref, down.reason.error, what, reason.error) == (ref, ERROR, "terminate", ERROR)


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_an_exit_in_a_callback_runs_terminate_with_its_reason(node, kind):
    """`exit_with(R)` in a callback is class exit: terminate(R), no traceback (N17)."""
    pid = await start(kind, None, log := [])
    assert (await caught(pid, lambda server, caller: exit_with("gone")), log) == (
        "gone",
        [("terminate", "gone")],
    )


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_terminate_sees_what_the_callback_had_changed(node, kind):
    """The state is the instance: after an exception terminate sees it as it is now (differs from N17, and says so)."""

    class Shows(kind):
        def terminate(self, reason):
            self.log.append(self.half_done)

    def changes(server, caller):
        server.half_done = "changed"
        raise ERROR

    pid = await start(Shows, None, log := [])
    await caught(pid, changes)
    assert log == ["changed"]


@pytest.mark.parametrize("failure", [raises, lambda server: exit_with("other")], ids=["raise", "exit"])
@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_a_failing_terminate_replaces_the_reason(node, kind, failure):
    """What terminate raises, or exits with, is the exit reason (N18)."""

    class Fails(kind):
        def terminate(self, reason):
            failure(self)

    pid = await start(Fails)
    reason = await caught(pid, stops("first"))
    assert reason == "other" or reason.error is ERROR  # type: ignore[attr-defined]  # a Crash


@as_process
async def test_what_terminate_returns_is_ignored(node):
    """A value from terminate changes nothing (N18)."""

    class Returns(Plain):
        def terminate(self, reason):
            return Stop("something else")

    assert await caught(await start(Returns), stops("boom")) == "boom"


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_a_bad_return_of_init_is_not_terminated(node, kind):
    """A server that never was up is not terminated; one that was, is (N3, N16)."""
    pid = await start(kind, None, log := [])
    await cast(pid, lambda server: "bad")
    assert await end_of(pid) == BadReturn("bad")
    assert log == [("terminate", BadReturn("bad"))]


# -- signals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reason", ["boom", SHUTDOWN, KILL], ids=repr)
@as_process
async def test_a_signal_runs_no_terminate_in_one_who_does_not_trap(node, kind, reason):
    """A server that does not trap exits dies of a signal without a word (N19)."""
    pid = await start(kind, None, log := [])
    ended = await exit_and_wait(pid, reason)
    assert (ended, log) == (KILLED if reason is KILL else reason, [])


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_a_signal_in_the_middle_of_a_callback_ends_it_there(node, kind):
    """A server that waits in a callback is ended in it (P43)."""
    log: list[object] = []

    class Slow(kind):
        async def handle_cast(self, request):
            self.log.append("begun")
            await trio.sleep(10)  # virtual
            self.log.append("done")

    pid = await start(Slow, None, log)
    await cast(pid, 1)
    await trio.testing.wait_all_tasks_blocked()
    assert (await exit_and_wait(pid, "boom"), log, trio.current_time()) == ("boom", ["begun"], 0.0)


@pytest.mark.parametrize("kind", TRAPPING)
@as_process
async def test_a_kill_runs_no_terminate(node, kind):
    """A killed server runs no callback, whatever it traps (N19, P42)."""
    pid = await start(kind, None, log := [])
    assert (await exit_and_wait(pid, KILL), log) == (KILLED, [])


@pytest.mark.parametrize("kind", TRAPPING)
@pytest.mark.parametrize("reason", [SHUTDOWN, "boom", NORMAL, KILLED], ids=repr)
@as_process
async def test_the_parents_signal_ends_one_who_traps(node, kind, reason):
    """An exit of the parent means terminate(R) and exit R; handle_info never sees it (N20)."""
    trap_exit(True)
    pid = await start_link(kind, None, log := [])
    exit(pid, reason)
    assert (await mail(), log) == ([Exit(pid, reason)], [("terminate", reason)])


@pytest.mark.parametrize("kind", TRAPPING)
@as_process
async def test_the_parents_death_ends_one_who_traps(node, kind):
    """The end of the parent is its exit, also when they are linked only (N20)."""
    log: list[object] = []
    pids = []

    async def parent():
        pids.append(await start_link(kind, None, log))
        await receive()
        exit_with("gone")

    parent_pid, _ = spawn_monitor(parent)
    await trio.testing.wait_all_tasks_blocked()
    send_nowait(parent_pid, "go")
    await mail()
    assert (log, is_alive(pids[0])) == ([("terminate", "gone")], False)


@pytest.mark.parametrize("kind", TRAPPING)
@as_process
async def test_the_exit_of_others_is_a_message(node, kind):
    """Exits of processes other than the parent go to handle_info (N20)."""
    pid = await start_link(kind, None, log := [])
    other = spawn(_links_and_ends, pid)
    await trio.testing.wait_all_tasks_blocked()
    assert (log, is_alive(pid)) == ([("info", Exit(other, "other's end"))], True)


async def _links_and_ends(pid):
    link(pid)
    exit_with("other's end")


@pytest.mark.parametrize("kind", TRAPPING)
@as_process
async def test_a_server_without_parent_sees_all_exits_as_messages(node, kind):
    """A server of `start` has no parent: a signal of its starter is a message (N19)."""
    pid = await start(kind, None, log := [])
    exit(pid, SHUTDOWN)
    await trio.testing.wait_all_tasks_blocked()
    assert (log, is_alive(pid)) == ([("info", Exit(self_pid(), SHUTDOWN))], True)


@pytest.mark.parametrize("kind", TRAPPING)
@as_process
async def test_an_unlinked_parent_is_still_the_parent(node, kind):
    """The parent's signal counts as such even after it unlinked (N20)."""
    pid = await start_link(kind, None, log := [])
    unlink(pid)
    assert (await exit_and_wait(pid, SHUTDOWN), log) == (SHUTDOWN, [("terminate", SHUTDOWN)])


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_trapping_counts_as_set_at_that_moment(node, kind):
    """A server may begin or stop to trap exits while it runs (N19)."""
    trap_exit(True)
    pid = await start_link(kind, None, log := [])
    await call(pid, lambda server, caller: trap_exit(True))
    exit(pid, "boom")
    assert (await mail(), log) == ([Exit(pid, "boom")], [("terminate", "boom")])
    pid = await start_link(kind, None, log := [])
    await call(pid, lambda server, caller: trap_exit(True))
    await call(pid, lambda server, caller: trap_exit(False))
    exit(pid, "boom")
    assert (await mail(), log) == ([Exit(pid, "boom")], [])


@as_process
async def test_the_parents_signal_waits_for_the_callback_in_hand(node):
    """One who traps finishes what it does, in the order of its mailbox, then terminates (N20, N23)."""
    trap_exit(True)
    log: list[object] = []

    class Slow(WaitsTrapping):
        async def handle_cast(self, request):
            await trio.sleep(request)  # virtual
            self.log.append(("done", trio.current_time()))

    pid = await start_link(Slow, None, log)
    await cast(pid, 2)
    await cast(pid, 3)
    exit(pid, SHUTDOWN)
    await cast(pid, 4)
    assert await receive() == Exit(pid, SHUTDOWN)
    assert log == [("done", 2.0), ("done", 5.0), ("terminate", SHUTDOWN)]


@as_process
async def test_a_kill_ends_a_terminate_that_takes_too_long(node):
    """A terminate that waits is ended by a kill, and the reason is KILLED (N19, S31)."""
    trap_exit(True)

    class Hangs(PlainTrapping):
        async def terminate(self, reason):
            await trio.sleep_forever()

    pid = await start_link(Hangs)
    exit(pid, SHUTDOWN)
    await trio.testing.wait_all_tasks_blocked()
    assert is_alive(pid)
    exit(pid, KILL)
    assert await mail() == [Exit(pid, KILLED)]


@pytest.mark.parametrize("kind", [Plain, Waits])
@as_process
async def test_links_of_a_server_get_its_reason(node, kind):
    """What is linked to a server that stops gets the reason; NORMAL takes nobody along (P14)."""
    pids = []

    def links(server, caller):
        pids.append(spawn_link(idle))

    for reason, expected in ((NORMAL, True), ("boom", False)):
        pid = await start(kind)
        await call(pid, links)
        await caught(pid, stops(reason))
        await mail()
        assert is_alive(pids[-1]) is expected


@as_process
async def test_an_orderly_end_makes_no_report(node, caplog):
    """NORMAL, SHUTDOWN and Shutdown(x) are silent; anything else is reported once, with name and request (L8)."""
    for reason in (NORMAL, SHUTDOWN, Shutdown("x")):
        await caught(await start(Plain), stops(reason))
    assert caplog.records == []
    await caught(await start(Plain, name="it"), stops("boom"))
    (record,) = caplog.records
    assert (record.levelname, " it (Plain) ended: 'boom'" in record.getMessage()) == ("WARNING", True)


@as_process
async def test_a_crash_report_shows_the_last_message(node, caplog):
    """The report of a crash names what the server had in hand (L7)."""

    class Fragile(GenServer):
        def handle_call(self, request, caller):
            raise ERROR

        handle_cast = handle_info = lambda self, request: (_ for _ in ()).throw(ERROR)

    for send in (call, cast, _send):
        pid = await start(Fragile)
        ref = monitor(pid)
        if send is call:
            reason = await caught(pid, "the last one")
            assert isinstance(reason, Crash)
        else:
            await send(pid, "the last one")
        assert (await receive(Down)).ref is ref
    assert ["last message: 'the last one'" in r.getMessage() for r in caplog.records] == [True] * 3


async def _send(pid, what):
    send_nowait(pid, what)
