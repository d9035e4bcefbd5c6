"""System messages to an event manager, which go to its handlers."""

from __future__ import annotations

import sys as interpreter
from types import ModuleType

import pytest

from runtime import EventHandler, GenEvent, NoProcess, gen_event, send, start, sys
from tests.support.processes import as_process, mail
from tests.unit.behaviours.handlers import Act, Given, Plain, ids, manager_with, raises


@as_process
async def test_get_state_lists_the_handlers(node):
    """A HandlerState each, newest first, of what its `state` shows; also while suspended (Y4)."""
    events = await start(GenEvent)
    for name in ("a", "b"):
        await gen_event.add_handler(events, (Plain, name), Given(name))
    await gen_event.sync_notify(events, "!")
    states = [gen_event.HandlerState((Plain, name), {"name": name, "seen": 1}) for name in ("b", "a")]
    assert await sys.get_state(events) == states
    await sys.suspend(events)
    assert await sys.get_state(events) == states


@as_process
async def test_a_suspended_manager_keeps_its_messages_in_order(node):
    """Events and infos wait until it is resumed (Y2, Y3); a stop acts at once, before them (L10)."""
    log = []
    events = await start(GenEvent)
    await gen_event.add_handler(events, Plain, Given("a", log))
    log.clear()
    await sys.suspend(events)
    await gen_event.notify(events, 1)
    await send(events, 2)
    await gen_event.notify(events, 3)
    await mail()
    assert log == []
    await sys.resume(events)
    await mail()
    assert log == [("a", "event", 1), ("a", "info", 2), ("a", "event", 3)]
    log.clear()
    await sys.suspend(events)
    await gen_event.notify(events, 4)
    await sys.stop(events)
    assert log == [("a", "terminate", gen_event.Stopped())]
    with pytest.raises(NoProcess):
        await sys.get_state(events)


def showing(name, seen):
    return gen_event.HandlerState((Plain, name), {"name": name, "seen": seen})


@as_process
async def test_replace_state_is_run_for_each_handler(node):
    """A handler for which the function raises, or gives nonsense, keeps its state; the caller gets all (E3, Y5)."""
    events = await manager_with([], "a", "b", "c", "d", "e")

    def replace(one):
        match one.handler[1]:
            case "a" | "d":
                return gen_event.HandlerState(one.handler, {**one.state, "seen": 100})
            case "b":
                return gen_event.HandlerState((Plain, "another"), {"seen": 100})
            case "c":
                return {"seen": 100}
            case _:
                raise ValueError(one)

    states = [showing("e", 0), showing("d", 100), showing("c", 0), showing("b", 0), showing("a", 100)]
    assert await sys.replace_state(events, replace) == states
    assert await sys.get_state(events) == states
    assert await gen_event.call(events, (Plain, "a"), Act("a", lambda handler: handler._given.name)) == "a"


@as_process
async def test_replace_state_reaches_both_handlers_of_one_id(node):
    """An id that is installed twice is asked about twice (E3)."""
    events = await manager_with([], "a", "a")
    replace = lambda one: gen_event.HandlerState(one.handler, {"name": "a", "seen": 5})  # noqa: E731  # short
    assert await sys.replace_state(events, replace) == [showing("a", 5), showing("a", 5)]


@pytest.mark.parametrize("state", [None, 5, {"_hidden": 1}, {"not a name": 1}])
@as_process
async def test_a_state_that_is_none_leaves_a_handler_as_it_was(node, state):
    """By default a state is a dict of public attributes; one with a `state` of its own has its own way back (Y5)."""

    class Own(EventHandler):
        count = 0

        def state(self):
            return self.count

    events = await manager_with([], "a")
    await gen_event.add_handler(events, Own)
    kept = [gen_event.HandlerState(Own, 0), showing("a", 0)]
    assert await sys.replace_state(events, lambda one: gen_event.HandlerState(one.handler, state)) == kept


def version(number, **members):
    """A handler's class as its module would have it in some version."""
    return type("Versioned", (EventHandler,), {"version": number, "__module__": "the.module", **members})


def init(self, argument):
    self.count = argument


def code_change(self, old_vsn, state, extra):
    return {"total": state["count"], "old": old_vsn, "extra": extra}


@pytest.mark.parametrize("by_module", [False, True])
@as_process
async def test_a_suspended_manager_takes_on_new_code_for_its_handlers(node, by_module):
    """Handlers of the class, or of the module, become instances of the new one, under its id; others stay (Y6)."""
    old, new = version(1, init=init), version(2, code_change=code_change)
    module = ModuleType("the.module")
    module.Versioned = new
    events = await manager_with([], "other")
    await gen_event.add_handler(events, old, 1)
    await gen_event.add_handler(events, (old, "mine"), 2)
    with pytest.raises(sys.NotSuspended):
        await sys.change_code(events, new)
    await sys.suspend(events)
    await sys.change_code(events, module if by_module else new, "v1", "more")
    await sys.resume(events)
    assert await sys.get_state(events) == [
        gen_event.HandlerState((new, "mine"), {"total": 2, "old": "v1", "extra": "more"}),
        gen_event.HandlerState(new, {"total": 1, "old": "v1", "extra": "more"}),
        showing("other", 0),
    ]


async def waits(self, old_vsn, state, extra):
    raise AssertionError("it is never run")


def fails_later(self, old_vsn, state, extra):
    self.count = -1
    if state["count"] == 1:
        raise ValueError("on purpose")


@pytest.mark.parametrize("members", [{}, {"code_change": raises}, {"code_change": waits}, {"code_change": fails_later}])
@as_process
async def test_new_code_that_fails_changes_no_handler(node, members):
    """If one `code_change` is missing, raises or wants to wait, all handlers are as they were (Y6)."""
    old = version(1, init=init)
    events = await start(GenEvent)
    for count in (1, 2):
        await gen_event.add_handler(events, (old, count), count)
    await sys.suspend(events)
    with pytest.raises(sys.CallbackFailed):
        await sys.change_code(events, version(2, **members))
    await sys.resume(events)
    assert await sys.get_state(events) == [gen_event.HandlerState((old, n), {"count": n}) for n in (2, 1)]
    assert await gen_event.which_handlers(events) == [(old, 2), (old, 1)]


@as_process
async def test_new_code_that_no_handler_has_changes_nothing(node):
    """As in OTP that is no error (Y6)."""
    events = await manager_with([], "a")
    await sys.suspend(events)
    await sys.change_code(events, version(2))
    await sys.change_code(events, interpreter)
    assert await sys.get_state(events) == [showing("a", 0)]


@as_process
async def test_events_infos_and_requests_are_watched(node):
    """A log shows what came to the manager, as event, call or info; replies are not reported, as in OTP (Y7)."""
    events = await manager_with([], "a")
    await sys.log(events, True)
    await gen_event.notify(events, 1)
    await send(events, 2)
    assert await gen_event.which_handlers(events) == ids("a")
    event, info, request = await sys.log(events, "get")
    assert (event, info, request.kind) == (sys.In("event", 1), sys.In("info", 2), "call")


@as_process
async def test_handlers_decide_what_is_shown(node):
    """Of its state and the requests to it each handler decides, of an event every one of them (N29, Y9)."""

    class Secret(Plain):
        def format_status(self, value):
            return "hidden"

    events = await manager_with([], "a")
    status = await sys.get_status(events)
    assert status.misc == [showing("a", 0)]
    await gen_event.add_handler(events, Secret, Given("s"))
    status = await sys.get_status(events)
    assert status.misc == [gen_event.HandlerState(Secret, "hidden"), showing("a", 0)]
    await sys.log(events, True)
    await gen_event.sync_notify(events, "password")
    await gen_event.call(events, Secret, "password")
    await gen_event.call(events, (Plain, "a"), "harmless")
    await send(events, ["a", "list"])
    lines = await sys.log(events, "print")
    assert [line.count("hidden") for line in lines] == [1, 1, 0, 1]
    assert "harmless" in lines[2]
    assert not [line for line in lines if "password" in line]
