"""Event managers and their handlers: how these come, and what they are told and asked."""

from __future__ import annotations

import logging

import pytest
import trio

from runtime import (
    HIBERNATE,
    KILL,
    AlreadyStarted,
    BadReturn,
    CallingSelf,
    CallTimeout,
    Crash,
    EventHandler,
    GenEvent,
    MailboxFull,
    Misuse,
    NoProcess,
    StartFailed,
    call,
    cast,
    exit_with,
    gen_event,
    is_alive,
    self_pid,
    send,
    send_after,
    send_nowait,
    spawn,
    start,
    sys,
    whereis,
)
from supervisors import Supervisor, child
from tests.support.processes import as_process, exit_and_wait, mail
from tests.unit.behaviours.handlers import (
    ERROR,
    KINDS,
    Act,
    Given,
    Plain,
    Waits,
    ids,
    manager_with,
    raises,
    returns,
    why_of,
)

# -- the manager ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_all_handlers_run_in_the_managers_process_one_after_the_other(node, kind):
    """A handler is through with an event before the next one sees it, and all with it before the next event (E1)."""
    log = []
    events = await manager_with(log, "a", "b", kind=kind)
    places = []
    for name in ("a", "b"):
        await gen_event.sync_notify(events, Act(name, lambda _handler: places.append(self_pid())))
    assert places == [events, events]
    await gen_event.notify(events, 1)
    await gen_event.notify(events, 2)
    await gen_event.sync_notify(events, 3)
    assert log == [(name, "event", number) for number in (1, 2, 3) for name in ("b", "a")]


@as_process
async def test_a_manager_has_a_name_like_any_process(node):
    """It is started under a name and reached by it; a second one is refused with the first one's pid (N27)."""
    events = await start(GenEvent, name="events")
    await gen_event.add_handler("events", Plain, Given("a"))
    assert await gen_event.which_handlers("events") == [Plain]
    assert whereis("events") == events
    with pytest.raises(StartFailed) as error:
        await start(GenEvent, name="events")
    assert error.value.reason == AlreadyStarted(events)


@as_process
async def test_a_manager_takes_no_arguments(node):
    """Handlers are added, not given to the start: arguments are misuse, and say so."""
    with pytest.raises(StartFailed) as error:
        await start(GenEvent, Plain)
    assert isinstance(error.value.reason, Crash)
    assert isinstance(error.value.reason.error, Misuse)


@as_process
async def test_a_restarted_manager_has_no_handlers(node):
    """Under a supervisor a killed manager comes back, under its name, empty."""

    class Room(Supervisor):
        def init(self):
            return [child("events", GenEvent, name="room_events")]

    await start(Room)
    first = whereis("room_events")
    await gen_event.add_handler("room_events", Plain, Given("a"))
    await exit_and_wait(first, KILL)
    await mail()
    assert await gen_event.which_handlers("room_events") == []


@as_process
async def test_a_plain_call_of_a_manager_is_refused(node):
    """A request that names no handler is nobody's: the caller hears so, and the manager lives."""
    events = await start(GenEvent)
    with pytest.raises(Misuse, match=r"gen_event\.call"):
        await call(events, "how many")
    assert is_alive(events)


@as_process
async def test_the_tree_says_how_many_handlers_there_are(node):
    """A manager's summary is the number of its handlers."""
    events = await manager_with([], "a")
    assert events._process.behaviour.summary() == "1 handler"
    await gen_event.delete_handler(events, (Plain, "a"))
    assert events._process.behaviour.summary() == "0 handlers"


# -- coming --------------------------------------------------------------------------------------------


@as_process
async def test_the_newest_handler_is_called_first(node):
    """`add_handler` puts a handler before all others (E2)."""
    log = []
    events = await manager_with(log, "a", "b", "c")
    assert await gen_event.which_handlers(events) == ids("c", "b", "a")
    await gen_event.sync_notify(events, "!")
    assert log == [("c", "event", "!"), ("b", "event", "!"), ("a", "event", "!")]


@as_process
async def test_an_id_is_a_class_or_a_class_with_a_name(node):
    """A class and (class, id) are different handlers, each with a state of its own (E3)."""
    events = await start(GenEvent)
    await gen_event.add_handler(events, Plain, Given("bare"))
    await gen_event.add_handler(events, (Plain, 1), Given("one"))
    assert await gen_event.which_handlers(events) == [(Plain, 1), Plain]
    assert await gen_event.call(events, Plain, Act("bare", lambda handler: handler.name)) == "bare"
    assert await gen_event.call(events, (Plain, 1), Act("one", lambda handler: handler.name)) == "one"


@as_process
async def test_an_id_may_be_installed_twice_and_then_means_the_newest(node):
    """As in OTP nobody looks whether an id is there already (E3)."""
    events = await start(GenEvent)
    for name in ("old", "new"):
        await gen_event.add_handler(events, Plain, Given(name))
    assert await gen_event.which_handlers(events) == [Plain, Plain]
    assert await gen_event.delete_handler(events, Plain) == "last word of new"
    assert await gen_event.delete_handler(events, Plain) == "last word of old"


@pytest.mark.parametrize("handler", [object, "Plain", (Plain, 1, 2), (object, 1), (Plain, []), None])
@as_process
async def test_what_is_no_handler_is_misuse_at_the_caller(node, handler):
    """A wrong id is refused before anything is sent; it need not even be a class."""
    events = await start(GenEvent)
    for wrong in (
        lambda: gen_event.add_handler(events, handler),
        lambda: gen_event.call(events, handler, "?"),
        lambda: gen_event.swap_handler(events, Plain, handler),
    ):
        with pytest.raises(Misuse, match="EventHandler class"):
            await wrong()
    with pytest.raises(Misuse, match="EventHandler class"):
        gen_event.Swap(handler)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("first", "why"),
    [
        (raises, ERROR),
        (lambda _handler: exit_with("gone"), "gone"),
        (returns("nonsense"), BadReturn("nonsense")),
        (returns(gen_event.Failed("not today")), "not today"),
    ],
)
@as_process
async def test_a_handler_whose_init_fails_is_not_installed(node, kind, first, why):
    """The caller learns why; nobody's `terminate` runs, and the manager goes on (E5)."""
    log = []
    events = await start(GenEvent)
    with pytest.raises(gen_event.HandlerFailed) as error:
        await gen_event.add_handler(events, kind, Given("a", log, first))
    assert why_of(gen_event.Failed(error.value.reason)) == why
    assert error.value.handler is kind
    assert log == [("a", "init", None)]
    assert await gen_event.which_handlers(events) == []


# -- events --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_notify_does_not_wait_and_sync_notify_does(node, kind):
    """`notify` returns before a handler has run, `sync_notify` after the last one has (E4)."""
    log = []
    events = await manager_with(log, "a", "b", kind=kind)
    await gen_event.notify(events, 1)
    gen_event.notify_nowait(events, 2)
    assert log == []
    await gen_event.sync_notify(events, 3)
    assert log[-2:] == [("b", "event", 3), ("a", "event", 3)]
    assert len(log) == 6


@as_process
async def test_events_for_the_dead_vanish_but_a_free_name_is_an_error(node):
    """A dead pid swallows events; a name that nobody has is found out at once (E4, P33)."""
    events = await start(GenEvent)
    await sys.stop(events)
    await gen_event.notify(events, "!")
    gen_event.notify_nowait(events, "!")
    for wrong in (gen_event.notify, gen_event.sync_notify):
        with pytest.raises(NoProcess):
            await wrong("nobody", "!")
    with pytest.raises(NoProcess):
        gen_event.notify_nowait("nobody", "!")
    with pytest.raises(NoProcess):
        await gen_event.sync_notify(events, "!")


@as_process
async def test_a_full_manager_makes_notify_wait_and_then_fail(node):
    """The mailbox of a manager is bounded as any: `notify` waits for room, `notify_nowait` does not (P51)."""

    class Small(GenEvent):
        mailbox_limit = 1

    log = []
    events = await start(Small)
    await gen_event.add_handler(events, Plain, Given("a", log))
    await sys.suspend(events)
    await gen_event.notify(events, 1)
    with pytest.raises(MailboxFull):
        gen_event.notify_nowait(events, 2)
    with pytest.raises(MailboxFull):
        await gen_event.notify(events, 2, timeout=1.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(gen_event.notify, events, 3)
        await trio.testing.wait_all_tasks_blocked()
        await sys.resume(events)
    await mail()
    assert log == [("a", "init", None), ("a", "event", 1), ("a", "event", 3)]


@as_process
async def test_other_messages_come_to_handle_info_of_all(node):
    """Plain messages, timers and casts are infos (E12); `handle_info` may do what `handle_event` may."""
    log = []
    events = await manager_with(log, "a", "b")
    await send(events, "plain")
    await cast(events, "cast")
    send_after(1.0, events, "later")
    await trio.sleep(2.0)  # virtual
    assert log == [(name, "info", what) for what in ("plain", "cast", "later") for name in ("b", "a")]
    send_nowait(events, Act("a", returns(gen_event.Remove())))
    assert await gen_event.which_handlers(events) == ids("b")


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_to_hibernate_is_to_go_on(node, kind):
    """HIBERNATE from `init`, an event or an info does nothing (N26)."""
    events = await start(GenEvent)
    await gen_event.add_handler(events, (kind, "a"), Given("a", first=returns(HIBERNATE)))
    await gen_event.sync_notify(events, Act("a", returns(HIBERNATE)))
    await send(events, Act("a", returns(HIBERNATE)))
    assert await gen_event.which_handlers(events) == ids("a", kind=kind)


@as_process
async def test_a_handler_without_handle_info_logs_and_goes_on(node, caplog):
    """A message that a handler does not care for is logged, as its `format_status` lets it be shown (N22, N29)."""

    class Silent(EventHandler):
        def format_status(self, value):
            return "a secret"

    events = await start(GenEvent)
    await gen_event.add_handler(events, Silent)
    with caplog.at_level(logging.WARNING, "banyan"):
        await send(events, "password")
        assert await gen_event.which_handlers(events) == [Silent]
    assert "'a secret'" in caplog.text
    assert "password" not in caplog.text


@as_process
async def test_a_handler_may_notify_its_own_manager(node):
    """The new event waits its turn behind those that are there; a call of oneself fails at once (N9)."""
    log = []
    events = await manager_with(log, "a")
    await gen_event.notify(events, Act("a", lambda _handler: gen_event.notify_nowait(events, "second")))
    await gen_event.sync_notify(events, "first")
    await mail()
    assert log == [("a", "event", "first"), ("a", "event", "second")]

    class Asks(Plain):
        async def handle_event(self, event):
            with pytest.raises(CallingSelf):
                await gen_event.which_handlers(events)
            return gen_event.Remove()

    await gen_event.add_handler(events, Asks, Given("b", log))
    await gen_event.sync_notify(events, "ask")
    assert log[-2:] == [("b", "terminate", gen_event.Removed()), ("a", "event", "ask")]


@as_process
async def test_a_busy_manager_lets_others_run(node):
    """A long queue of events is handled with pauses, the more of them the more handlers there are (P44)."""
    log, seen = [], []
    events = await manager_with(log, *"abcdefgh")

    async def bystander():
        for _ in range(5):
            await trio.lowlevel.checkpoint()
            seen.append(len(log))

    for number in range(1000):
        gen_event.notify_nowait(events, number)
    spawn(bystander)
    await mail()
    assert len(log) == 8000
    assert [count for count in seen if 0 < count < 8000] != []


# -- calls ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_a_call_goes_to_one_handler_only(node, kind):
    """Its `handle_call` returns the reply; the others hear nothing (E8)."""
    log = []
    events = await manager_with(log, "a", "b", kind=kind)
    assert await gen_event.call(events, (kind, "a"), Act("a", returns(17))) == 17
    assert await gen_event.call(events, (kind, "a"), "what?") is None
    assert log == [("a", "call", "what?")]


@as_process
async def test_a_call_of_a_handler_that_is_not_there_says_so(node):
    """OTP's bad_module and module_not_found are `NoHandler` (E8, E9)."""
    events = await manager_with([], "a")
    for wrong in (
        lambda: gen_event.call(events, (Plain, "b"), "?"),
        lambda: gen_event.call(events, Plain, "?"),
        lambda: gen_event.delete_handler(events, (Waits, "a")),
    ):
        with pytest.raises(gen_event.NoHandler, match="was it removed"):
            await wrong()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("act", "why"),
    [
        (raises, ERROR),
        (lambda _handler: exit_with("gone"), "gone"),
        (returns(gen_event.Failed("on purpose")), "on purpose"),
        (returns(gen_event.Remove()), BadReturn(gen_event.Remove())),
        (returns(gen_event.Swap(Plain)), BadReturn(gen_event.Swap(Plain))),
    ],
)
@as_process
async def test_a_handler_that_fails_in_a_call_is_removed(node, kind, act, why):
    """The caller gets `HandlerFailed`, `terminate` gets the same reason; manager and others live (E5, E8)."""
    log = []
    events = await manager_with(log, "a", "b", kind=kind)
    with pytest.raises(gen_event.HandlerFailed) as error:
        await gen_event.call(events, (kind, "a"), Act("a", act))
    ((name, what, ending),) = log
    assert (name, what, why_of(ending)) == ("a", "terminate", why)
    assert why_of(gen_event.Failed(error.value.reason)) == why
    assert error.value.__cause__ is (ERROR if why is ERROR else None)
    assert await gen_event.which_handlers(events) == ids("b", kind=kind)


@as_process
async def test_a_handler_without_handle_call_fails_in_one(node):
    """A callback that is needed and missing is a failure of that handler (E8)."""
    events = await start(GenEvent)
    await gen_event.add_handler(events, EventHandler)
    with pytest.raises(gen_event.HandlerFailed) as error:
        await gen_event.call(events, EventHandler, "?")
    assert isinstance(error.value.__cause__, NotImplementedError)
    assert await gen_event.which_handlers(events) == []


@as_process
async def test_a_call_of_a_busy_manager_runs_into_its_timeout(node):
    """While one handler waits the manager serves nobody; the late reply is dropped (N6, N7)."""

    class Slow(Plain):
        async def handle_event(self, event):
            await trio.sleep(10)  # virtual

    events = await start(GenEvent)
    await gen_event.add_handler(events, Slow, Given("a"))
    await gen_event.notify(events, "work")
    with pytest.raises(CallTimeout):
        await gen_event.call(events, Slow, "?", timeout=1.0)
    await trio.sleep(20)  # virtual
    assert await mail() == []
