"""How handlers leave an event manager: removed, deleted, failed, or replaced by another."""

from __future__ import annotations

import logging

import pytest

from runtime import (
    NORMAL,
    BadReturn,
    EventHandler,
    GenEvent,
    exit_with,
    gen_event,
    send,
    start,
)
from tests.support.processes import as_process
from tests.unit.behaviours.handlers import (
    ERROR,
    KINDS,
    Act,
    Given,
    Plain,
    ids,
    manager_with,
    raises,
    returns,
    why_of,
)

# -- going ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("act", "why"),
    [
        (raises, ERROR),
        (lambda _handler: exit_with(NORMAL), NORMAL),
        (returns("nonsense"), BadReturn("nonsense")),
        (returns(gen_event.Remove("a reply")), BadReturn(gen_event.Remove("a reply"))),
        (returns(gen_event.Failed("on purpose")), "on purpose"),
    ],
)
@as_process
async def test_a_handler_that_fails_is_removed_and_the_others_go_on(node, kind, act, why, caplog):
    """A raise, an exit or a wrong return ends that handler only, by `terminate(Failed(why))`, and is logged (E5)."""
    log = []
    events = await manager_with(log, "a", "b", "c", kind=kind)
    with caplog.at_level(logging.WARNING, "banyan"):
        await gen_event.sync_notify(events, Act("b", act))
    ((name, what, ending),) = log
    assert (name, what, why_of(ending)) == ("b", "terminate", why)
    assert await gen_event.which_handlers(events) == ids("c", "a", kind=kind)
    assert [record.message.count("'b') failed: ") for record in caplog.records] == [1]


@as_process
async def test_a_failing_terminate_harms_nobody(node, caplog):
    """What `terminate` raises is logged; the handler is gone and the manager lives (E5)."""
    log = []
    events = await start(GenEvent)
    await gen_event.add_handler(events, Plain, Given("a", log, last=raises))
    with caplog.at_level(logging.WARNING, "banyan"):
        await gen_event.sync_notify(events, Act("a", returns(gen_event.Remove())))
    assert await gen_event.which_handlers(events) == []
    assert "on purpose" in caplog.text


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_a_handler_may_ask_to_be_removed(node, kind):
    """`Remove()` from an event or info, `Remove(reply)` from a call: `terminate` gets `Removed()` (E6)."""
    log = []
    events = await manager_with(log, "a", "b", "c", kind=kind)
    await gen_event.sync_notify(events, Act("c", returns(gen_event.Remove())))
    await send(events, Act("b", returns(gen_event.Remove())))
    assert await gen_event.call(events, (kind, "a"), Act("a", returns(gen_event.Remove("bye")))) == "bye"
    assert log == [(name, "terminate", gen_event.Removed()) for name in ("c", "b", "a")]
    assert await gen_event.which_handlers(events) == []


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_delete_handler_gives_what_terminate_returns(node, kind):
    """`terminate` gets the argument of `delete_handler`, and its value comes back (E9)."""
    log = []
    events = await manager_with(log, "a", kind=kind)
    assert await gen_event.delete_handler(events, (kind, "a"), "go") == "last word of a"
    assert log == [("a", "terminate", "go")]
    assert await gen_event.which_handlers(events) == []


@as_process
async def test_delete_handler_raises_what_terminate_raised(node):
    """The handler is gone all the same (E9)."""
    events = await start(GenEvent)
    await gen_event.add_handler(events, Plain, Given("a", last=raises))
    with pytest.raises(gen_event.HandlerFailed) as error:
        await gen_event.delete_handler(events, Plain)
    assert error.value.__cause__ is ERROR
    assert await gen_event.which_handlers(events) == []


# -- swaps ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_a_client_swaps_a_handler_for_one_at_the_head(node, kind):
    """The old one's `terminate` result reaches the new one's `init`, which comes before all others (E7)."""
    log = []
    events = await manager_with(log, "a", "b", kind=kind)
    await gen_event.swap_handler(events, (kind, "a"), kind, old_argument="out", new_argument=Given("new", log))
    assert log == [("a", "terminate", "out"), ("new", "init", "last word of a")]
    assert await gen_event.which_handlers(events) == [kind, (kind, "b")]


@as_process
async def test_a_swap_installs_the_new_handler_also_without_an_old_one(node):
    """Its `init` then inherits NO_HANDLER, and `Failed(why)` from a `terminate` that failed (E7)."""
    log = []
    events = await start(GenEvent)
    new = Given("new", log, last=raises)
    await gen_event.swap_handler(events, (Plain, "no such"), Plain, new_argument=new)
    await gen_event.swap_handler(events, Plain, Plain, new_argument=Given("newer", log))
    assert log[:2] == [("new", "init", gen_event.NO_HANDLER), ("new", "terminate", None)]
    ((name, what, inherited),) = log[2:]
    assert (name, what, why_of(inherited)) == ("newer", "init", ERROR)
    assert repr(gen_event.NO_HANDLER) == "NO_HANDLER"


@as_process
async def test_a_swap_whose_new_handler_fails_leaves_neither(node):
    """The old handler is gone, the caller learns why the new one is not there (E7)."""
    events = await manager_with([], "a", "b")
    with pytest.raises(gen_event.HandlerFailed) as error:
        await gen_event.swap_handler(events, (Plain, "a"), Plain, new_argument=Given("new", first=raises))
    assert error.value.__cause__ is ERROR
    assert await gen_event.which_handlers(events) == ids("b")


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_a_handler_swaps_itself_in_its_place(node, kind):
    """The new one has the old one's place in the list and does not see the event in hand (E7)."""
    log = []
    events = await manager_with(log, "a", "b", "c", kind=kind)
    swap = gen_event.Swap((kind, "new"), "out", Given("new", log))
    await gen_event.sync_notify(events, Act("b", returns(swap)))
    assert log == [("b", "terminate", "out"), ("new", "init", "last word of b")]
    assert await gen_event.which_handlers(events) == ids("c", "new", "a", kind=kind)
    swap = gen_event.Swap((kind, "last"), "out", Given("last", log), reply="done")
    assert await gen_event.call(events, (kind, "a"), Act("a", returns(swap))) == "done"
    assert await gen_event.which_handlers(events) == ids("c", "new", "last", kind=kind)


@as_process
async def test_a_handlers_own_swap_may_fail(node, caplog):
    """Then both are gone, which is logged; a call still gets its reply (E7)."""
    events = await manager_with([], "a", "b")
    swap = gen_event.Swap(Plain, "out", Given("new", first=raises), reply="done")
    with caplog.at_level(logging.WARNING, "banyan"):
        assert await gen_event.call(events, (Plain, "a"), Act("a", returns(swap))) == "done"
    assert await gen_event.which_handlers(events) == ids("b")
    assert "Plain failed: Crash(ValueError('on purpose'))" in caplog.text


@as_process
async def test_a_handler_whose_class_cannot_be_made_is_a_failure_like_any(node):
    """Also an `__init__` that raises, or wants arguments, does not reach the manager (E5)."""

    class Wants(EventHandler):
        def __init__(self, what):
            self.what = what

    events = await start(GenEvent)
    with pytest.raises(gen_event.HandlerFailed) as error:
        await gen_event.add_handler(events, Wants)
    assert isinstance(error.value.__cause__, TypeError)
    with pytest.raises(gen_event.HandlerFailed):
        await gen_event.swap_handler(events, Plain, Wants)
    assert await gen_event.which_handlers(events) == []
