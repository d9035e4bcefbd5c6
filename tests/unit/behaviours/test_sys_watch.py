"""Watching a process: its events traced, kept, counted, or shown to functions; nothing when nobody watches."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio

from runtime import (
    NO_REPLY,
    NORMAL,
    TIMEOUT,
    Continue,
    GenServer,
    Misuse,
    NoReply,
    Reply,
    Stop,
    call,
    cast,
    exit_with,
    is_alive,
    process_info,
    reply,
    send_nowait,
    start,
    start_link,
    sys,
)
from tests.support.processes import as_process
from tests.unit.behaviours.servers import KINDS


def collect(seen: list[Any], event: Any, pid: Any) -> list[Any]:
    """A debug function whose state is the list of what it has seen."""
    return [*seen, event]


def into(seen: list[Any]) -> Any:
    """A debug function that appends to a list."""

    def watch(_state: Any, event: Any, _pid: Any) -> None:
        seen.append(event)

    return watch


def only(kind: type, events: list[Any]) -> list[Any]:
    return [event for event in events if type(event) is kind]


# -- log -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_log_keeps_what_comes_and_what_leaves(node, kind):
    """`log` keeps each message before its callback and each reply after it, in order (Y7)."""
    pid = await start(kind)
    await sys.log(pid, True)
    assert await call(pid, "ping") == "ping"
    await call(pid, lambda server, caller: Reply("more", then=Continue("next")))
    await cast(pid, "do")
    send_nowait(pid, "tell")
    first, _, second, *rest = await sys.log(pid, "get")
    assert first == sys.In("call", "ping")
    assert second.kind == "call"
    assert [event.value if isinstance(event, sys.Out) else event for event in rest] == [
        "more",
        ("continue", "next"),
        sys.In("cast", "do"),
        sys.In("info", "tell"),
    ]


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_log_keeps_as_many_as_it_is_told(node, kind):
    """True keeps the last ten, a number as many, with those kept before; False and 0 none (Y7)."""
    pid = await start(kind)
    assert await sys.log(pid, "get") == []
    await sys.log(pid, True)
    for number in range(12):
        await cast(pid, number)
    kept = [event.message for event in only(sys.In, await sys.log(pid, "get"))]
    assert kept == list(range(2, 12))
    await sys.log(pid, 3)
    assert [event.message for event in only(sys.In, await sys.log(pid, "get"))] == [9, 10, 11]
    for off in (False, 0):
        await sys.log(pid, 5)
        await sys.log(pid, off)
        assert await sys.log(pid, "get") == []


@as_process
async def test_a_printed_log_hides_what_the_server_hides(node):
    """ "print" gives lines of text, which pass through `format_status` (Y7, N29)."""

    class Vault(GenServer):
        def handle_call(self, request, caller):
            return "the gold"

        def handle_cast(self, request):
            sys.handle_debug(("opened", "secret"))

        def format_status(self, value):
            return "hidden"

    pid = await start(Vault, debug=["log"])
    await call(pid, "secret")
    await cast(pid, "secret")
    lines = await sys.log(pid, "print")
    assert lines == [
        f"{pid} got call 'hidden'",
        f"{pid} sent 'hidden' to its caller",
        f"{pid} got cast 'hidden'",
        f"{pid} event 'hidden'",
    ]


# -- trace ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_trace_writes_to_the_log(node, kind, caplog):
    """`trace` writes each event to `banyan.trace`, until it is turned off (Y7)."""
    pid = await start(kind)
    with caplog.at_level(logging.INFO, "banyan.trace"):
        await cast(pid, "before")
        await sys.trace(pid, True)
        await cast(pid, "during")
        await call(pid, "ask")
        await sys.trace(pid, False)
        await cast(pid, "after")
        await sys.get_state(pid)
    lines = [record.getMessage() for record in caplog.records if record.name == "banyan.trace"]
    assert lines == [f"{pid} got cast 'during'", f"{pid} got call 'ask'", f"{pid} sent 'ask' to its caller"]


# -- statistics ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_statistics_count_messages(node, kind):
    """What came in and left is counted from the moment of asking; None when nothing is counted (Y7)."""
    pid = await start(kind)
    assert await sys.statistics(pid, "get") is None
    await sys.statistics(pid, True)
    for number in range(3):
        await cast(pid, number)
    await call(pid, "one")
    await sys.statistics(pid, True)  # goes on counting
    counted = await sys.statistics(pid, "get")
    assert (counted.messages_in, counted.messages_out) == (4, 1)
    assert counted.start_time <= counted.current_time
    await sys.statistics(pid, False)
    assert await sys.statistics(pid, "get") is None


# -- functions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_an_installed_function_sees_each_event(node, kind):
    """It gets its own state, the event and the pid; what it returns is its next state (Y7)."""
    pid = await start(kind)
    seen: list[Any] = []

    def watch(count, event, whose):
        seen.append((count, event.message, whose))
        return count + 1

    await sys.install(pid, watch, 1)
    await sys.install(pid, watch, 100)  # is there already: changes nothing
    for word in ("a", "b"):
        await cast(pid, word)
    await sys.get_state(pid)
    assert seen == [(1, "a", pid), (2, "b", pid)]


@pytest.mark.parametrize("end", [lambda: sys.DONE, lambda: 1 / 0, lambda: exit_with("gone")])
@as_process
async def test_a_function_that_is_done_or_fails_is_removed(node, end):
    """DONE, an exception or an exit removes the function; the server does not notice (Y7)."""
    pid = await start(KINDS[0])
    seen: list[Any] = []

    def watch(_state, event, _pid):
        seen.append(event)
        return end()

    await sys.install(pid, watch)
    assert [await call(pid, number) for number in range(2)] == [0, 1]
    assert (seen, is_alive(pid)) == ([sys.In("call", 0)], True)
    assert (await sys.get_status(pid)).debug == ()


@as_process
async def test_functions_are_removed_by_themselves_or_by_id(node):
    """`remove` takes the function or the id it was installed under; an unknown one is fine (Y7)."""
    pid = await start(KINDS[0])
    first, second = [], []
    watch = into(first)
    await sys.install(pid, watch)
    await sys.install(pid, into(second), id="second")
    assert (await sys.get_status(pid)).debug == ("into.<locals>.watch", "'second'")
    await cast(pid, 1)
    await sys.remove(pid, watch)
    await sys.remove(pid, "nobody")
    await cast(pid, 2)
    await sys.remove(pid, "second")
    await cast(pid, 3)
    await sys.get_state(pid)
    assert (first, second) == ([sys.In("cast", 1)], [sys.In("cast", 1), sys.In("cast", 2)])


@as_process
async def test_no_debug_turns_everything_off(node):
    """After `no_debug` nothing watches (Y7)."""
    seen: list[Any] = []
    pid = await start(KINDS[0], debug=["trace", "statistics", ("log", 5), sys.Install(into(seen))])
    assert (await sys.get_status(pid)).debug[:3] == ("trace", "log", "statistics")
    await sys.no_debug(pid)
    await call(pid, 1)
    assert (seen, (await sys.get_status(pid)).debug, await sys.log(pid, "get")) == ([], (), [])


# -- what is reported ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_debug_at_start_sees_the_first_message(node, kind):
    """`debug=` watches from the start, before anybody can send (Y7)."""
    seen: list[Any] = []
    pid = await start_link(kind, lambda server: Continue("first"), debug=[sys.Install(into(seen))])
    await call(pid, "second")
    assert seen[:2] == [("continue", "first"), sys.In("call", "second")]


@as_process
async def test_every_kind_of_message_is_reported(node):
    """Timeouts, deferred replies and stops are told too; a reply that is given later is not (Y7)."""
    seen: list[Any] = []

    class Various(GenServer):
        def handle_call(self, request, caller):
            match request:
                case "later":
                    reply(caller, "given")
                    return NO_REPLY
                case "stop":
                    return Stop(NORMAL, "stopped")
            return Reply("soon", timeout=1)

        def handle_info(self, message):
            return None

    pid = await start(Various, debug=[sys.Install(into(seen))])
    await call(pid, "soon")
    await trio.sleep(2)  # virtual
    await call(pid, "later")
    await call(pid, "stop")
    assert [event.message for event in only(sys.In, seen)] == ["soon", TIMEOUT, "later", "stop"]
    assert [event.value for event in only(sys.Out, seen)] == ["soon", "stopped"]


@as_process
async def test_a_callback_reports_events_of_its_own(node):
    """`handle_debug` reports from inside a callback, and does nothing when nobody watches (Y7)."""

    class Tells(GenServer):
        def handle_cast(self, request):
            sys.handle_debug(("counted", request))

    pid = await start(Tells)
    await cast(pid, 1)
    await sys.log(pid, True)
    await cast(pid, 2)
    assert await sys.log(pid, "get") == [sys.In("cast", 2), ("counted", 2)]


@as_process
async def test_a_server_can_be_watched_while_its_timeout_runs(node):
    """Watching leaves a callback's timeout as it was: its wait starts anew (N21, Y7)."""
    seen: list[Any] = []

    class Waiting(GenServer):
        def init(self):
            return NoReply(timeout=3)

        def handle_info(self, message):
            seen.append((message, trio.current_time()))

    pid = await start(Waiting)
    await trio.sleep(2)  # virtual
    await sys.log(pid, True)
    await trio.sleep(10)  # virtual
    assert seen == [(TIMEOUT, 5.0)]


@as_process
async def test_a_function_may_turn_itself_off_while_it_runs(node):
    """The last watcher that goes leaves the process as if nobody had ever looked (Y7)."""
    pid = await start(KINDS[0])
    await sys.install(pid, lambda *_: sys.DONE)
    await call(pid, 1)
    process = pid._process
    assert process.debug is None
    assert process_info(pid).state == "running"


# -- misuse --------------------------------------------------------------------------------------------


@as_process
async def test_misuse_is_told_to_the_caller(node):
    """What cannot be meant is Misuse before anything is sent or started (Y7)."""
    pid = await start(KINDS[0])
    for wrong in (-1, "all", 1.5, None):
        with pytest.raises(Misuse):
            await sys.log(pid, wrong)
    with pytest.raises(Misuse):
        await sys.statistics(pid, "all")
    with pytest.raises(Misuse):
        await sys.install(pid, "no function")
    for wrong in ("everything", ("log", 0), ("log", "many"), 3):
        with pytest.raises(Misuse, match="debug takes"):
            await start(KINDS[0], name="free", debug=[wrong])
    assert await call(await start(KINDS[0], name="free"), 1) == 1
