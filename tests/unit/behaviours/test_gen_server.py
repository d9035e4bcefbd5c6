"""What the callbacks of a server may return, when they run, and in which order."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from runtime import (
    NO_REPLY,
    NORMAL,
    TIMEOUT,
    BadReturn,
    CalleeExited,
    Continue,
    Crash,
    GenServer,
    Raise,
    Reply,
    Stop,
    call,
    cast,
    cast_nowait,
    is_alive,
    process_info,
    reply,
    self_pid,
    send_nowait,
    spawn,
    start,
    sys,
)
from tests.support.processes import as_process, end_of, mail
from tests.unit.behaviours.servers import KINDS, Plain


def note(what: object):
    """A callback's work: write something down."""
    return lambda server: server.log.append(what)


# -- continue ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_continue_of_init_runs_before_any_message(node, kind):
    """`handle_continue` runs first, even before what was queued during init (N4)."""

    def first(server):
        send_nowait(self_pid(), note("queued in init"))
        return Continue(note("continued"))

    pid = await start(kind, first, log := [])
    await call(pid, None)
    assert log == ["continued", "queued in init"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["call", "cast", "info", "continue"])
@as_process
async def test_continue_runs_right_after_its_callback(node, kind, where):
    """A continue of any callback runs before the next message, and may chain (N5)."""

    def asks(server, *_caller):
        server.log.append(where)
        return Continue(lambda server: server.log.append("first") or Continue(note("second")))

    pid = await start(kind, None, log := [])
    await sys.suspend(pid)
    match where:
        case "call":
            spawn(call, pid, asks)
            await trio.testing.wait_all_tasks_blocked()
        case "cast":
            cast_nowait(pid, asks)
        case "info":
            send_nowait(pid, asks)
        case "continue":
            cast_nowait(pid, lambda server: Continue(asks))
    cast_nowait(pid, note("next"))
    await sys.resume(pid)
    await call(pid, None)
    assert log == [where, "first", "second", "next"]


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_continue_of_a_call_may_give_the_reply(node, kind):
    """A call that continues has no reply yet; the continue gives it (N5, N12)."""

    def later(server, caller):
        return Continue(lambda server: reply(caller, "from continue"))

    assert await call(await start(kind), later) == "from continue"


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_a_reply_with_a_continue_is_sent_first(node, kind):
    """`Reply(value, then=Continue(...))` replies, then continues before the next message (N5, N12)."""

    def asks(server, caller):
        return Reply("now", then=Continue(note("then")))

    pid = await start(kind, None, log := [])
    assert await call(pid, asks) == "now"
    await call(pid, None)
    assert log == ["then"]


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_a_missing_handle_continue_is_a_crash(node, kind):
    """A continue that the class does not handle ends the server (N22)."""

    class Without(GenServer):
        def handle_cast(self, request):
            return Continue("where to?")

    pid = await start(Without)
    await cast(pid, 1)
    reason = await end_of(pid)
    assert isinstance(reason, Crash)
    assert "continues with 'where to?' but has no handle_continue" in str(reason.error)


# -- replies -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_a_reply_may_be_wrapped(node, kind):
    """`Reply(value)` is the value; so a reply can itself be a directive (N12)."""
    pid = await start(kind)
    assert await call(pid, lambda server, caller: Reply(5)) == 5
    assert await call(pid, lambda server, caller: Reply(Stop("as data"))) == Stop("as data")


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_no_reply_keeps_the_caller_waiting_and_serves_others(node, kind):
    """While one caller waits for its reply the server goes on; the reply comes when it is given (N12)."""
    pid = await start(kind)
    kept: list[Any] = []
    answers: list[object] = []

    def keep(server, caller):
        kept.append(caller)
        return NO_REPLY

    async def first():
        answers.append(await call(pid, keep))

    spawn(first)
    await trio.testing.wait_all_tasks_blocked()
    assert (await call(pid, "second"), answers) == ("second", [])
    reply(kept[0], "first")
    await trio.testing.wait_all_tasks_blocked()
    assert answers == ["first"]


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_a_refusal_leaves_the_server_as_it_is(node, kind):
    """Raise(error) is raised at the caller; the server neither ends nor calls terminate."""
    pid = await start(kind, None, log := [])
    with pytest.raises(LookupError, match="no such seat"):
        await call(pid, lambda server, caller: Raise(LookupError("no such seat")))
    assert (await call(pid, "next"), log) == ("next", [])


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_messages_are_handled_one_by_one_in_order(node, kind):
    """Calls, casts and messages of one sender come in the order of sending (N23)."""
    pid = await start(kind, None, log := [])
    for number in range(20):
        send_nowait(pid, ("info", number))
        await cast(pid, ("cast", number))
        await call(pid, lambda server, caller, n=number: server.log.append(n))
    assert log == [entry for n in range(20) for entry in (("info", ("info", n)), ("cast", ("cast", n)), n)]


@as_process
async def test_a_waiting_handler_is_not_entered_twice(node):
    """A callback runs to its end before the next message is looked at, however long it waits (N23)."""
    running, most = 0, 0

    class Waits(GenServer):
        async def handle_call(self, request, caller):
            nonlocal running, most
            running += 1
            most = max(most, running)
            await trio.sleep(1)  # virtual
            running -= 1

        handle_cast = handle_info = None  # type: ignore[assignment]  # not used here

    class Serves(Waits):
        async def handle_cast(self, request):
            await self.handle_call(request, None)

        async def handle_info(self, message):
            await self.handle_call(message, None)

    pid = await start(Serves)
    for number in range(3):
        send_nowait(pid, number)
        cast_nowait(pid, number)
    await call(pid, "last", timeout=100)
    assert (most, trio.current_time()) == (1, 7.0)


@as_process
async def test_a_busy_server_leaves_room_for_others(node):
    """A server with a long queue lets other tasks run in between (P44)."""
    passes: list[int] = []
    handled = 0

    class Counts(GenServer):
        def handle_cast(self, request):
            nonlocal handled
            handled += 1

    async def watches():
        while handled < 5000:
            await trio.lowlevel.checkpoint()
            passes.append(handled)

    pid = await start(Counts)
    for _ in range(5000):
        cast_nowait(pid, None)
    spawn(watches)
    await call(pid, None) if False else await sys.get_state(pid, timeout=100)
    assert len({count for count in passes if 0 < count < 5000}) >= 20


# -- what is not there ---------------------------------------------------------------------------------


@as_process
async def test_an_unexpected_message_is_logged_and_dropped(node, caplog):
    """A server without `handle_info` logs what it did not expect, and lives (N22)."""
    pid = await start(GenServer)
    send_nowait(pid, "what is this?")
    await sys.get_state(pid)
    assert [r.getMessage() for r in caplog.records] == ["GenServer got 'what is this?' and has no handle_info for it"]
    assert is_alive(pid)


@pytest.mark.parametrize("way", ["call", "cast"])
@as_process
async def test_a_missing_handler_is_a_crash_that_says_so(node, way):
    """A call or cast that the class does not handle ends the server with a text that names it."""
    pid = await start(GenServer)
    if way == "call":
        with pytest.raises(CalleeExited) as caught:
            await call(pid, "who?")
        reason = caught.value.reason
    else:
        await cast(pid, "who?")
        reason = await end_of(pid)
    assert isinstance(reason, Crash)
    assert f"'who?' but has no handle_{way}" in str(reason.error)


@as_process
async def test_a_cast_never_fails_for_a_missing_server(node):
    """Casts to the dead and to free names vanish (N11)."""
    pid = await start(Plain)
    await sys.stop(pid)
    for destination in (pid, "nobody"):
        await cast(destination, 1)
        cast_nowait(destination, 1)
    assert await mail() == []


# -- bad returns ---------------------------------------------------------------------------------------

BAD = [0, "ok", False, Reply(1), Raise(ValueError("x")), [], Stop]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["cast", "info", "continue"])
@pytest.mark.parametrize("value", BAD, ids=repr)
@as_process
async def test_a_bad_return_ends_the_server(node, kind, where, value):
    """What a callback may not return is the reason of its end, after terminate (N16)."""
    pid = await start(kind, None, log := [])
    match where:
        case "cast":
            await cast(pid, lambda server: value)
        case "info":
            send_nowait(pid, lambda server: value)
        case "continue":
            await cast(pid, lambda server: Continue(lambda server: value))
    assert await end_of(pid) == BadReturn(value)
    assert log == [("terminate", BadReturn(value))]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["cast", "info", "continue", "continue of a call"])
@as_process
async def test_a_stop_with_a_reply_belongs_to_a_call(node, kind, where):
    """Where nobody waits for a reply, a Stop with one is a bad return, the whole of it (N16)."""
    pid = await start(kind, None, log := [])
    stop = Stop("asked to", "a reply")
    match where:
        case "cast":
            await cast(pid, lambda server: stop)
        case "info":
            send_nowait(pid, lambda server: stop)
        case "continue":
            await cast(pid, lambda server: Continue(lambda server: stop))
        case "continue of a call":
            with pytest.raises(CalleeExited) as caught:
                await call(pid, lambda server, caller: Continue(lambda server: stop))
            assert caught.value.reason == BadReturn(stop)
            assert log == [("terminate", BadReturn(stop))]
            return
    assert await end_of(pid) == BadReturn(stop)
    assert log == [("terminate", BadReturn(stop))]


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_an_exception_is_never_a_return_value(node, kind):
    """Python has no throw: what is raised ends the server, be it a value that could be returned (N2)."""

    class Carries(Exception):
        """An exception that bears what a callback might have returned."""

    def raises(server):
        raise Carries(Stop(NORMAL))

    pid = await start(kind, None, log := [])
    await cast(pid, raises)
    reason = await end_of(pid)
    assert isinstance(reason, Crash)
    assert isinstance(reason.error, Carries)
    assert log == [("terminate", reason)]


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_a_call_may_return_anything(node, kind):
    """A plain value is a reply; only directives mean something else (N12)."""
    pid = await start(kind)
    for value in (0, False, "", [], (), TIMEOUT, NORMAL):
        assert await call(pid, lambda server, caller, value=value: value) is value


# -- state ---------------------------------------------------------------------------------------------


@as_process
async def test_a_new_incarnation_has_a_new_instance(node):
    """State is the instance: nothing of it is shared between two processes of one class."""
    first, second = await start(Plain), await start(Plain)

    def remember(server, caller):
        server.kept = getattr(server, "kept", 0) + 1
        return server.kept

    assert [await call(pid, remember) for pid in (first, first, second)] == [1, 2, 1]


@as_process
async def test_what_a_server_has_in_hand_is_seen(node):
    """`process_info` names the type of the request in hand, and None when it is idle."""

    class Slow(GenServer):
        async def handle_call(self, request, caller):
            await trio.sleep(1)  # virtual

    pid = await start(Slow)
    spawn(call, pid, ("a", "request"))
    await trio.testing.wait_all_tasks_blocked()
    busy = process_info(pid)
    with trio.move_on_after(2):
        await trio.sleep_forever()
    free = process_info(pid)
    assert busy is not None
    assert free is not None
    assert (busy.handling, free.handling) == ("tuple", None)


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_crashes_show_what_a_server_allows_to_be_shown(node, kind, caplog):
    """`format_status` hides what must not be seen from crash reports (N29)."""

    class Discreet(kind):
        def format_status(self, value):
            return "<hidden>"

    pid = await start(Discreet)
    with pytest.raises(CalleeExited):
        await call(pid, _Secret())
    (report,) = [r.getMessage() for r in caplog.records]
    assert ("<hidden>" in report, "the cards" in report) == (True, False)


class _Secret:
    def __call__(self, server, caller):
        raise ValueError("crash")

    def __repr__(self):
        return "the cards"


@as_process
async def test_a_formatter_that_fails_does_not_hide_the_crash(node, caplog):
    """A crash is reported even if the application's formatter crashes too (N29)."""

    class Broken(Plain):
        def format_status(self, value):
            raise RuntimeError("cannot format")

    pid = await start(Broken)
    with pytest.raises(CalleeExited) as caught:
        await call(pid, _Secret())
    assert isinstance(caught.value.reason, Crash)
    assert ["<unprintable: RuntimeError>" in r.getMessage() for r in caplog.records] == [True]


def test_a_stop_without_a_reply_shows_the_same_each_time():
    """What is told of a `Stop` in logs and traces has no address in it, so that two runs of a seed agree."""
    assert repr(Stop("over")) == "Stop(reason='over', reply=MISSING)"
