"""State machines: modes, states, which event is next, and what actions do."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import pytest
import trio

from runtime import (
    IGNORE,
    KEEP_STATE_AND_DATA,
    KILL,
    CallFrom,
    GenStatem,
    Hibernate,
    Init,
    KeepState,
    KeepStateAndData,
    Misuse,
    NamedTimeout,
    NextEvent,
    NextState,
    Postpone,
    RepeatState,
    RepeatStateAndData,
    ReplyTo,
    StartFailed,
    StateTimeout,
    call,
    cast,
    cast_nowait,
    exit,
    is_alive,
    process_info,
    reply,
    send_nowait,
    spawn,
    start,
    sys,
)
from tests.support.processes import as_process
from tests.unit.behaviours.statems import ENTERED, KINDS, Plain, PlainEnter, answers, feed


def events(log):
    """What was called in a log, without its ends."""
    return [entry for entry in log if entry[0] != "terminate"]


# -- modes, start --------------------------------------------------------------------------------------


class Lamp(enum.Enum):
    OFF = enum.auto()
    ON = enum.auto()


class Switch(GenStatem[Lamp, int]):
    """A machine whose states are no strings."""

    def init(self, count):
        return Init(Lamp.OFF, count)

    def handle_event(self, kind, content, state, data):
        match kind, content, state:
            case "cast", "press", Lamp.OFF:
                return NextState(Lamp.ON, data + 1)
            case "cast", "press", Lamp.ON:
                return NextState(Lamp.OFF, data)


async def test_any_value_can_be_a_state_of_handle_event(node):
    """With one function for all events a state is any value; it is compared by its equality (M1)."""
    lamp = await start(Switch, 0)
    for _ in range(3):
        await cast(lamp, "press")
    assert await sys.get_state(lamp) == (Lamp.ON, 2)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_state_says_how_its_events_are_handled(node, kind):
    """In both modes an event reaches the callback of the present state (M1)."""
    pid = await start(kind, Init("a", 0), {("a", "go"): NextState("b", 1)}, log := [])
    await feed(pid, "go", "more")
    assert log == [("a", "cast", "go"), ("b", "cast", "more")]
    assert await sys.get_state(pid) == ("b", 1)


def test_an_unknown_callback_mode_is_misuse():
    """`callback_mode` is looked at when the class is made, before any process runs it (M1)."""
    with pytest.raises(Misuse, match="state_functions, got 'functions'"):

        class Wrong(GenStatem[str, None]):
            callback_mode = "functions"


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_actions_of_init_are_those_of_entering_its_state(node, kind):
    """What `init` asks for happens; a postpone has no event, and is ignored (M2)."""
    first = Init("a", 0, Postpone(), NextEvent("internal", "first"), StateTimeout(1.0, "late"))
    pid = await start(kind, first, {("a", "late"): NextState("b", 0)}, log := [])
    await sys.get_state(pid)
    assert log == [("a", "internal", "first")]
    await trio.sleep(2)  # virtual
    assert log == [("a", "internal", "first"), ("a", "state_timeout", "late")]


@pytest.mark.parametrize("kind", KINDS)
async def test_ignore_of_init_is_a_start_that_did_not_happen(node, kind):
    """`init` may return IGNORE, as that of a server may (M2, L5)."""
    with pytest.raises(StartFailed, match="asked to be ignored"):
        await start(kind, IGNORE)


@pytest.mark.parametrize("kind", ENTERED)
async def test_the_first_state_is_entered_too(node, kind):
    """With `state_enter` the first call is that of the first state, from itself (M3)."""
    pid = await start(kind, Init("a", 0, NextEvent("internal", "next")), {}, log := [])
    await sys.get_state(pid)
    assert log == [("a", "enter", "a"), ("a", "internal", "next")]


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_every_message_has_its_kind(node, kind):
    """Calls, casts and other messages come as the kinds of event that they are (M4)."""
    pid = await start(kind, Init("a", 0), {}, log := [])
    await feed(pid, "c", ("info", "i"), ("call", "q"))
    assert log == [("a", "cast", "c"), ("a", "info", "i"), ("a", "call", "q")]


# -- state changes and enter calls ----------------------------------------------------------------------


SAME = [
    NextState("a", 1),
    KeepState(1),
    KEEP_STATE_AND_DATA,
    RepeatState(1),
    RepeatStateAndData(),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("result", SAME)
async def test_the_same_state_is_no_change(node, kind, result):
    """No postponed event is retried, and no state timeout ends, unless the state becomes another (M5, M6)."""
    table = {("a", "later"): KeepStateAndData(Postpone()), ("a", "same"): result}
    pid = await start(kind, Init("a", 1, StateTimeout(1.0, "over")), table, log := [])
    await feed(pid, "later", "same")
    assert log == [("a", "cast", "later"), ("a", "cast", "same")]
    await trio.sleep(2)  # virtual
    assert log[2:] == [("a", "state_timeout", "over")]
    assert await sys.get_state(pid) == ("a", 1)


@pytest.mark.parametrize("kind", ENTERED)
@pytest.mark.parametrize("result", SAME)
async def test_only_a_repeat_enters_the_same_state_again(node, kind, result):
    """After `RepeatState` the enter call runs again, from the present state; after no other result (M5, M6)."""
    pid = await start(kind, Init("a", 1), {("a", "same"): result}, log := [])
    await feed(pid, "same")
    again = [("a", "enter", "a")] if isinstance(result, RepeatState | RepeatStateAndData) else []
    assert log == [("a", "enter", "a"), ("a", "cast", "same"), *again]


async def test_an_enter_call_may_repeat_itself(node):
    """A repeat in an enter call runs it again, from the same old state (M6)."""
    again = iter([RepeatState(2), KeepState(3)])
    table = {("a", "go"): NextState("b", 1), ("b", "enter"): lambda *_: next(again)}
    pid = await start(PlainEnter, Init("a", 0), table, log := [])
    await feed(pid, "go")
    assert log[2:] == [("b", "enter", "a"), ("b", "enter", "a")]
    assert await sys.get_state(pid) == ("b", 3)


@pytest.mark.parametrize("kind", ENTERED)
@as_process
async def test_an_enter_call_may_reply_and_set_timeouts(node, kind):
    """An enter call may reply to any call and set timeouts; what it does precedes all events (M7, M8)."""
    asked = []

    def ask(kind, *_):
        asked.append(kind.caller)
        return NextState("b", 0, NextEvent("internal", "next"))

    table = {
        ("a", "ask"): ask,
        ("b", "enter"): lambda *_: KeepStateAndData(ReplyTo(asked[0], "entered"), StateTimeout(0, "zero")),
    }
    pid = await start(kind, Init("a", 0), table, log := [])
    await feed(pid, ("call", "ask"), "more")
    assert log[1:] == [
        ("a", "call", "ask"),
        ("b", "enter", "a"),
        ("b", "internal", "next"),
        ("b", "state_timeout", "zero"),
        ("b", "cast", "more"),
    ]
    assert await answers() == {"ask": "entered"}


# -- which event is next -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_order_after_a_transition(node, kind):
    """Inserted events, then postponed ones, those still to be retried, zero timeouts, the mailbox (M9, M10)."""
    table = {
        ("a", "one"): KeepStateAndData(Postpone()),
        ("a", "two"): KeepStateAndData(Postpone()),
        ("a", "go"): NextState("b", 0, StateTimeout(0, "zero"), NextEvent("internal", 1), NextEvent("internal", 2)),
        ("b", 1): KeepStateAndData(NextEvent("internal", 3)),
    }
    pid = await start(kind, Init("a", 0), table, log := [])
    await feed(pid, "one", "two", "go", "mail")
    assert [content for _, _, content in log[3:]] == [1, 3, 2, "one", "two", "zero", "mail"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_postponed_event_may_be_postponed_again(node, kind):
    """Postponed events wait for a change of state, and may be put off again in the new one (M11)."""
    table = {
        ("a", "later"): KeepStateAndData(Postpone()),
        ("a", "go"): NextState("b", 0),
        ("b", "later"): KeepStateAndData(Postpone()),
        ("b", "go"): NextState("c", 0),
    }
    pid = await start(kind, Init("a", 0), table, log := [])
    await feed(pid, "later", "go", "other", "go")
    assert log == [
        ("a", "cast", "later"),
        ("a", "cast", "go"),
        ("b", "cast", "later"),
        ("b", "cast", "other"),
        ("b", "cast", "go"),
        ("c", "cast", "later"),
    ]


@pytest.mark.parametrize("kind", KINDS)
async def test_an_event_that_is_postponed_by_its_own_change_of_state(node, kind):
    """It is retried in the new state, after the inserted events, as the newest of those postponed (M30)."""
    table = {
        ("a", "old"): KeepStateAndData(Postpone()),
        ("a", "go"): NextState("b", 0, Postpone(), NextEvent("internal", "new")),
    }
    pid = await start(kind, Init("a", 0), table, log := [])
    await feed(pid, "old", "go", "mail")
    assert log[2:] == [("b", "internal", "new"), ("b", "cast", "old"), ("b", "cast", "go"), ("b", "cast", "mail")]


@pytest.mark.parametrize("kind", KINDS)
async def test_the_last_postpone_of_a_list_counts(node, kind):
    """Of several actions of one sort the last one counts (M12)."""
    table = {
        ("a", "off"): KeepStateAndData(Postpone(), Postpone(False)),
        ("a", "on"): KeepStateAndData(Postpone(False), Hibernate(), Postpone()),
        ("a", "go"): NextState("b", 0),
    }
    pid = await start(kind, Init("a", 0), table, log := [])
    await feed(pid, "off", "on", "go")
    assert log[3:] == [("b", "cast", "on")]


async def test_the_enter_call_has_the_last_word(node):
    """The actions of an event and of its enter call are one list, so an enter call may refuse a postpone (M12)."""
    table = {("a", "go"): NextState("b", 0, Postpone()), ("b", "enter"): KeepStateAndData(Postpone(False))}
    pid = await start(PlainEnter, Init("a", 0), table, log := [])
    await feed(pid, "go")
    assert log[2:] == [("b", "enter", "a")]


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_inserted_events_look_like_real_ones(node, kind):
    """An inserted event has the kind it was given, be it a call that can be answered (M25, M26)."""

    def ask(kind, *_):
        return KeepStateAndData(
            NextEvent("cast", 1),
            NextEvent("info", 2),
            NextEvent("internal", 3),
            NextEvent("timeout", 4),
            NextEvent(NamedTimeout("n"), 5),
            NextEvent(kind, "again"),
        )

    table = {("a", "ask"): ask, ("a", "again"): lambda kind, *_: KeepStateAndData(ReplyTo(kind.caller, "yes"))}
    pid = await start(kind, Init("a", 0), table, log := [])
    await feed(pid, ("call", "ask"))
    assert log[1:] == [
        ("a", "cast", 1),
        ("a", "info", 2),
        ("a", "internal", 3),
        ("a", "timeout", 4),
        ("a", ("timeout", "n"), 5),
        ("a", "call", "again"),
    ]
    assert await answers() == {"ask": "yes"}


# -- replies -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_a_call_may_be_answered_at_any_later_event(node, kind):
    """A reply is an action of any event, and any process may give one by `reply` (M20)."""
    asked = []

    def ask(kind, *_):
        asked.append(kind.caller)
        return KEEP_STATE_AND_DATA

    table = {
        ("a", "one"): ask,
        ("a", "two"): ask,
        ("a", "three"): ask,
        ("a", "go"): lambda *_: KeepStateAndData(ReplyTo(asked[1], 2), ReplyTo(asked[0], 1), ReplyTo(asked[0], "late")),
    }
    pid = await start(kind, Init("a", 0), table)
    await feed(pid, ("call", "one"), ("call", "two"), ("call", "three"), "go")
    assert list((await answers()).items()) == [("two", 2), ("one", 1)]
    reply(asked[2], 3)
    assert await answers() == {"three": 3}


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_a_postponed_call_keeps_its_caller(node, kind):
    """The caller waits while its call is put off, and is answered when it is handled (M21)."""
    table = {
        ("a", "ask"): KeepStateAndData(Postpone()),
        ("a", "go"): NextState("b", 0),
        ("b", "ask"): lambda kind, *_: KeepStateAndData(ReplyTo(kind.caller, "in b")),
    }
    pid = await start(kind, Init("a", 0), table)
    got = []

    async def asks():
        got.append(await call(pid, "ask"))

    spawn(asks)
    await feed(pid)
    assert got == []
    await feed(pid, "go")
    assert got == ["in b"]


# -- a process like any other --------------------------------------------------------------------------


SPIN = {("a", "spin"): KeepStateAndData(NextEvent("internal", "spin")), ("b", "enter"): RepeatStateAndData()}


@pytest.mark.parametrize("kind", [Plain, PlainEnter])
@pytest.mark.parametrize("spins", ["spin", "go"])
async def test_a_machine_that_keeps_itself_busy_lets_others_run(node, kind, spins):
    """Endless inserted events, or an enter call that repeats itself, let others run, and can be killed (P44)."""
    pid = await start(kind, Init("a", 0), {**SPIN, ("a", "go"): NextState("b", 0)}, log := [])
    other = await start(Plain, Init("a", 0), {}, heard := [])
    cast_nowait(pid, spins)
    send_nowait(other, "hello")
    await cast(other, "there")
    while len(heard) < 2:
        await trio.lowlevel.checkpoint()
    assert len(log) < 200
    exit(pid, KILL)
    await trio.testing.wait_all_tasks_blocked()
    assert not is_alive(pid)


async def test_what_is_seen_of_a_machine_from_outside(node):
    """A view of the tree shows the state; a request in hand is known by its type (Y4)."""
    pid = await start(Plain, Init("locked", 7), {})
    process = pid._process
    assert process.behaviour.summary() == "in state 'locked'"
    assert await sys.get_state(pid) == ("locked", 7)
    assert process_info(pid).handling is None


# -- records -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Odd:
    """Not a kind of event."""


@pytest.mark.parametrize(
    "make",
    [
        lambda: NextEvent("enter", 1),
        lambda: NextEvent(Odd(), 1),
        lambda: ReplyTo("c1", 1),
        lambda: StateTimeout(-1),
        lambda: StateTimeout(float("nan")),
        lambda: StateTimeout(True),
        lambda: StateTimeout("soon"),
    ],
)
def test_a_malformed_action_is_misuse_where_it_is_made(make):
    """An action that cannot be done is refused by its own constructor, before it is returned (M12)."""
    with pytest.raises(Misuse, match="got"):
        make()


def test_results_and_actions_are_values_for_match():
    """Results take their actions one by one, compare by value and can be taken apart."""
    match NextState("b", 1, Postpone(), NextEvent("cast", 2)):
        case NextState("b", data, (Postpone(on), NextEvent(kind, content))):
            assert (data, on, kind, content) == (1, True, "cast", 2)
    assert KeepState(1, Postpone()) == KeepState(1, Postpone())
    assert CallFrom.__match_args__ == ("caller",)
