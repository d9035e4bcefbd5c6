"""State machines: state, event and generic timeouts; when they come, what ends them, in which order."""

from __future__ import annotations

import gc
import math
import weakref

import pytest
import trio

from runtime import (
    EventTimeout,
    GenericTimeout,
    Init,
    KeepStateAndData,
    NextEvent,
    NextState,
    Postpone,
    StateTimeout,
    cast_nowait,
    start,
    sys,
)
from tests.support.processes import as_process
from tests.unit.behaviours.statems import ENTERED, KINDS, Plain, feed


def contents(log):
    """What the events of a log brought."""
    return [content for _, kind, content in log if kind != "enter"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_state_timeout_ends_with_its_state(node, kind):
    """A change of state cancels the state timeout; one that is set again starts anew (M13)."""
    table = {
        ("a", "set"): KeepStateAndData(StateTimeout(3.0, "set")),
        ("a", "go"): NextState("b", 0),
        ("b", "set"): KeepStateAndData(StateTimeout(3.0, "b is over")),
    }
    pid = await start(kind, Init("a", 0, StateTimeout(1.0, "init")), table, log := [])
    await feed(pid, "set")
    await trio.sleep(2)  # virtual
    await feed(pid, "go")
    await trio.sleep(10)  # virtual
    await feed(pid, "set")
    begun = trio.current_time()
    while len(log) < 4:
        await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(0.5)  # virtual
    assert log == [("a", "cast", "set"), ("a", "cast", "go"), ("b", "cast", "set"), ("b", "state_timeout", "b is over")]
    assert trio.current_time() - begun >= 3.0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ends", ["mail", ("info", "mail"), ("call", "mail")])
@as_process
async def test_any_event_ends_an_event_timeout(node, kind, ends):
    """The event timeout comes only if nothing else does, of whatever kind (M14)."""
    pid = await start(kind, Init("a", 0, EventTimeout(1.0, "silence")), {}, log := [])
    await feed(pid, ends)
    await trio.sleep(2)  # virtual
    assert contents(log) == ["mail"]


@pytest.mark.parametrize("kind", KINDS)
async def test_an_inserted_or_retried_event_ends_an_event_timeout(node, kind):
    """Events from inside end it too, so one that is set beside them never comes; silence lets it come (M14)."""
    table = {
        ("a", "insert"): KeepStateAndData(NextEvent("internal", 1), EventTimeout(1.0, "never")),
        ("a", "later"): KeepStateAndData(Postpone()),
        ("a", "go"): NextState("b", 0, EventTimeout(1.0, "never")),
        ("b", "quiet"): KeepStateAndData(EventTimeout(1.0, "silence")),
    }
    pid = await start(kind, Init("a", 0), table, log := [])
    await feed(pid, "insert")
    await trio.sleep(2)  # virtual
    await feed(pid, "later", "go")
    await trio.sleep(2)  # virtual
    await feed(pid, "quiet")
    await trio.sleep(2)  # virtual
    assert contents(log) == ["insert", 1, "later", "go", "later", "quiet", "silence"]
    assert log[-1] == ("b", "timeout", "silence")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_generic_timeout_outlives_states_and_events(node, kind):
    """Timeouts by name go on through events and changes of state; each name has one (M15, M25)."""
    table = {
        ("a", "set"): KeepStateAndData(GenericTimeout("n", 1.0, "old"), GenericTimeout("m", 2.0, "m is over")),
        ("a", "go"): NextState("b", 0, GenericTimeout("n", 3.0, ("n", "is over"))),
    }
    pid = await start(kind, Init("a", 0), table, log := [])
    await feed(pid, "set", "go", "mail")
    await trio.sleep(5)  # virtual
    assert log[3:] == [("b", ("timeout", "m"), "m is over"), ("b", ("timeout", "n"), ("n", "is over"))]


@pytest.mark.parametrize("kind", KINDS)
async def test_zero_timeouts_come_before_the_mailbox_in_order(node, kind):
    """A timeout of 0 needs no clock: it comes when no event is queued, in the order of the actions (M16)."""
    table = {
        ("a", "go"): KeepStateAndData(
            StateTimeout(0, 1), GenericTimeout("n", 0, 2), NextEvent("internal", 0), GenericTimeout("m", 0, 3)
        ),
        ("a", 1): KeepStateAndData(StateTimeout(0, 4)),
    }
    pid = await start(kind, Init("a", 0), table, log := [])
    await feed(pid, "go", "mail")
    assert contents(log) == ["go", 0, 1, 2, 3, 4, "mail"]


@pytest.mark.parametrize("stop", ["cancel", math.inf])
@pytest.mark.parametrize("make", [StateTimeout, lambda *how: GenericTimeout("n", *how)])
async def test_a_cancelled_timeout_never_comes(node, make, stop):
    """Cancelled, or set to infinity, a timeout brings nothing, even if it had expired into the mailbox (M17)."""
    table = {("a", "stop"): KeepStateAndData(make(stop))}
    pid = await start(Plain, Init("a", 0, make(1.0, "never")), table, log := [])
    await feed(pid)
    await sys.suspend(pid)
    cast_nowait(pid, "stop")
    await trio.sleep(2)  # virtual
    await sys.resume(pid)
    await feed(pid, "mail")
    assert contents(log) == ["stop", "mail"]


@pytest.mark.parametrize("kind", KINDS)
async def test_update_changes_what_a_running_timeout_brings(node, kind):
    """An update leaves the time as it is; with nothing to update, it is a timeout of 0 (M18)."""
    table = {
        ("a", "change"): KeepStateAndData(StateTimeout("update", "new")),
        ("a", "start"): KeepStateAndData(GenericTimeout("n", "update", "at once")),
        ("a", "zero"): KeepStateAndData(GenericTimeout("n", 0, "one"), GenericTimeout("m", 0, "two")),
        ("a", "one"): KeepStateAndData(GenericTimeout("m", "update", "three")),
    }
    pid = await start(kind, Init("a", 0, StateTimeout(1.0, "old")), table, log := [])
    await feed(pid, "change", "start", "mail", "zero")
    await trio.sleep(2)  # virtual
    assert contents(log) == ["change", "start", "at once", "mail", "zero", "one", "three", "new"]


@pytest.mark.parametrize("kind", ENTERED)
async def test_timeouts_of_a_change_belong_to_the_new_state(node, kind):
    """A state timeout that is set with the change, or in the enter call, is that of the new state (M19)."""
    table = {
        ("a", "go"): NextState("b", 0, StateTimeout(1.0, "of b")),
        ("b", "go"): NextState("c", 0, StateTimeout(1.0, "of c")),
        ("c", "enter"): KeepStateAndData(StateTimeout(1.0, "of its enter call")),
    }
    pid = await start(kind, Init("a", 0, StateTimeout(5.0, "of a")), table, log := [])
    await feed(pid, "go")
    await trio.sleep(2)  # virtual
    await feed(pid, "go")
    await trio.sleep(10)  # virtual
    assert contents(log) == ["go", "of b", "go", "of its enter call"]


@pytest.mark.parametrize("kind", KINDS)
async def test_only_the_last_word_on_a_timeout_counts(node, kind):
    """Set, update and cancel are one sort: those before the last one have no effect at all (M12)."""
    table = {
        ("a", "update"): KeepStateAndData(GenericTimeout("n", "cancel"), GenericTimeout("n", "update", "new")),
        ("a", "cancel"): KeepStateAndData(GenericTimeout("n", 0, "never"), GenericTimeout("n", "cancel")),
        ("a", "order"): KeepStateAndData(
            GenericTimeout("x", 0, "never"), GenericTimeout("y", 0, "y"), GenericTimeout("x", 0, "x")
        ),
    }
    pid = await start(kind, Init("a", 0, GenericTimeout("n", 1.0, "old")), table, log := [])
    await feed(pid, "update")
    await trio.sleep(2)  # virtual
    await feed(pid, "cancel", "order")
    assert contents(log) == ["update", "new", "cancel", "order", "y", "x"]


async def test_an_absolute_time_is_a_moment_of_the_clock(node):
    """With `absolute` the time is one of `trio.current_time()`; one that has passed comes at once (M15)."""
    now = trio.current_time()
    first = Init("a", 0, GenericTimeout("n", now + 5, "n", absolute=True), StateTimeout(now - 5, "past", absolute=True))
    await start(Plain, first, {}, log := [])
    await trio.sleep(1)  # virtual
    assert contents(log) == ["past"]
    await trio.sleep(4.5)  # virtual
    assert contents(log) == ["past", "n"]


@pytest.mark.parametrize("kind", KINDS)
async def test_timeouts_run_while_a_machine_is_suspended(node, kind):
    """A suspended machine's timeouts expire into its mailbox, in their place among the events (M31)."""
    pid = await start(kind, Init("a", 0, StateTimeout(1.0, "over")), {}, log := [])
    await feed(pid)
    await sys.suspend(pid)
    await trio.sleep(2)  # virtual
    cast_nowait(pid, "mail")
    await trio.testing.wait_all_tasks_blocked()
    assert log == []
    await sys.resume(pid)
    await sys.get_state(pid)
    assert contents(log) == ["over", "mail"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_running_timeout_takes_the_place_of_a_zero_one(node, kind):
    """OTP 25's defect is not copied: the zero one is gone, the running one comes as what it is (M32)."""
    table = {
        ("a", "go"): KeepStateAndData(StateTimeout(0, "zero"), NextEvent("internal", "then")),
        ("a", "then"): KeepStateAndData(StateTimeout(1.0, "running")),
    }
    pid = await start(kind, Init("a", 0), table, log := [])
    await feed(pid, "go")
    assert contents(log) == ["go", "then"]
    await trio.sleep(2)  # virtual
    assert log[2:] == [("a", "state_timeout", "running")]


async def test_a_cancelled_timeout_is_not_kept_alive(node):
    """The clock may know a cancelled timeout until it would have been due, but not what it would bring (M13)."""

    class Heavy:
        """Something that can be watched."""

    heavy = Heavy()
    gone = weakref.ref(heavy)
    table = {("a", "go"): NextState("b", 0)}
    pid = await start(Plain, Init("a", 0, StateTimeout(1000.0, heavy)), table)
    del heavy
    await feed(pid, "go")
    gc.collect()
    assert gone() is None
