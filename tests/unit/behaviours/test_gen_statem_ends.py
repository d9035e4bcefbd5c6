"""State machines: how they end, and what `terminate` and their callers see of it."""

from __future__ import annotations

import pytest

from runtime import (
    KEEP_STATE_AND_DATA,
    BadAction,
    BadReplyAction,
    BadReturn,
    BadStateEnterAction,
    BadStateEnterReturn,
    CalleeExited,
    Crash,
    GenStatem,
    Init,
    KeepState,
    KeepStateAndData,
    NextEvent,
    NextState,
    PopCallbackModule,
    Postpone,
    ReplyTo,
    StartFailed,
    Stop,
    StopAndReply,
    call,
    exit_with,
    is_alive,
    start,
)
from tests.support.processes import as_process, end_of
from tests.unit.behaviours.statems import (
    ENTERED,
    KINDS,
    Functions,
    Plain,
    answers,
    end_by,
    fails,
)

# -- start ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (Stop("no"), "no"),
        (Stop("no", 1), BadReturn(Stop("no", 1))),
        (None, BadReturn(None)),
        ("a", BadReturn("a")),
        (lambda: exit_with("gone"), "gone"),
    ],
)
@as_process
async def test_a_failed_init_is_the_starters_to_hear(node, caplog, kind, first, reason):
    """`init` that stops, exits or returns nonsense fails the start, without `terminate` (M2, L3, N3)."""
    with pytest.raises(StartFailed) as failed:
        await start(kind, first, {}, log := [])
    assert failed.value.reason == reason
    assert log == []
    assert "in init, 0 queued" in caplog.text


@pytest.mark.parametrize("kind", ENTERED)
@as_process
async def test_a_machine_that_its_first_enter_call_ends_was_started(node, kind):
    """The starter is told after `init`, before the first enter call (M2)."""
    pid = await start(kind, Init("a", 0), {("a", "enter"): Stop("at once")}, log := [])
    assert is_alive(pid)
    assert await end_of(pid) == "at once"
    assert log == [("a", "enter", "a"), ("terminate", "at once", "a", 0)]


# -- stops ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_stop_and_reply_replies_first(node, kind):
    """Replies are given before `terminate` runs, in order, to any caller (M22)."""
    asked, order = [], []

    def ask(kind, *_):
        asked.append(kind.caller)
        return KEEP_STATE_AND_DATA

    class Last(kind):
        def terminate(self, reason, state, data):
            order.append((reason, state, data, [caller.waiting for caller in asked]))

    table = {
        ("a", "one"): ask,
        ("a", "two"): ask,
        ("a", "end"): lambda *_: StopAndReply("over", ReplyTo(asked[1], 2), ReplyTo(asked[0], 1), data="new"),
    }
    pid = await start(Last, Init("a", "old"), table)
    assert await end_by(pid, ("call", "one"), ("call", "two"), "end", "lost") == "over"
    assert order == [("over", "a", "new", [False, False])]
    assert list((await answers()).items()) == [("two", 2), ("one", 1)]


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_what_waits_is_lost_at_the_end(node, kind):
    """Postponed, queued and unread events are lost; callers get the exit reason (M24)."""
    table = {
        ("a", "later"): KeepStateAndData(Postpone()),
        ("a", "kept"): KEEP_STATE_AND_DATA,
        ("a", "end"): NextState("b", 1, NextEvent("internal", "stop")),
        ("b", "stop"): Stop("over"),
    }
    pid = await start(kind, Init("a", 0), table, log := [])
    reason = await end_by(pid, ("call", "later"), ("call", "kept"), "end", ("call", "unread"))
    assert reason == "over"
    assert log[-2:] == [("b", "internal", "stop"), ("terminate", "over", "b", 1)]
    failed = ("failed", "over")
    assert await answers() == {"later": failed, "kept": failed, "unread": failed}


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_an_exception_undoes_what_the_callback_was_about(node, kind):
    """`terminate` gets state and data from before, and the Crash that becomes the exit reason (M23).

    Python has no throw, so whatever a callback raises is a failure, even if it is a result (M27).
    """
    pid = await start(kind, Init("a", 0), {("a", "go"): NextState("b", 1), ("b", "bad"): fails}, log := [])
    reason = await end_by(pid, "go", "bad")
    assert isinstance(reason, Crash)
    assert str(reason.error) == "bang"
    assert log[-1] == ("terminate", reason, "b", 1)


@pytest.mark.parametrize("kind", ENTERED)
@as_process
async def test_a_failing_enter_call_is_one_of_the_new_state(node, kind):
    """If an enter call fails the state is already the new one, and so are the data (M23)."""
    pid = await start(kind, Init("a", 0), {("a", "go"): NextState("b", 1), ("b", "enter"): fails}, log := [])
    reason = await end_by(pid, "go")
    assert log[-2:] == [("b", "enter", "a"), ("terminate", reason, "b", 1)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [None, "nonsense", Stop("with", "a reply"), Init("a", 0)])
@as_process
async def test_a_wrong_return_ends_the_machine(node, kind, value):
    """What is no result ends it with BadReturn, after `terminate`, as an unhandled event does (M28, N16)."""
    pid = await start(kind, Init("a", 0), {("a", "bad"): lambda *_: value}, log := [])
    assert await end_by(pid, "bad") == BadReturn(value)
    assert log[-1] == ("terminate", BadReturn(value), "a", 0)


async def test_an_event_that_no_case_fits_ends_the_machine(node):
    """There is no default: a `match` without a case for an event returns None, which is no result (M28)."""

    class Door(GenStatem[str, None]):
        callback_mode = "state_functions"

        def init(self):
            return Init("shut", None)

        def shut(self, kind, content, data):
            match content:
                case "open":
                    return NextState("open", data)

    pid = await start(Door)
    with pytest.raises(CalleeExited) as ended:
        await call(pid, "slam")
    assert ended.value.reason == BadReturn(None)


@as_process
async def test_a_state_without_a_function_ends_the_machine(node):
    """A state that no method bears, or one of GenStatem's own, fails at its first event (M28)."""
    for state in ("nowhere", "terminate", 7):
        pid = await start(Functions, Init("a", 0), {("a", "go"): NextState(state, 0)}, log := [])
        reason = await end_by(pid, "go", "more")
        assert isinstance(reason.error, NotImplementedError)
        assert f"no function for the state {state!r}" in str(reason.error)
        assert log[-1][2:] == (state, 0)


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_a_bad_action_ends_the_machine_after_those_before_it(node, kind):
    """Replies before it in the list are given; state and data are the new ones (M12, M20)."""
    table = {("a", "ask"): lambda kind, *_: NextState("b", 1, ReplyTo(kind.caller, "yes"), [Postpone()])}
    pid = await start(kind, Init("a", 0), table, log := [])
    assert await end_by(pid, ("call", "ask")) == BadAction([Postpone()])
    assert log[-1] == ("terminate", BadAction([Postpone()]), "b", 1)
    assert await answers() == {"ask": "yes"}


@as_process
async def test_a_stop_replies_and_does_nothing_else(node):
    """Anything but a reply among the replies of a stop becomes the reason; those before it are given (M22)."""
    table = {("a", "ask"): lambda kind, *_: StopAndReply("over", ReplyTo(kind.caller, "yes"), Postpone())}
    pid = await start(Plain, Init("a", 0), table)
    assert await end_by(pid, ("call", "ask")) == BadReplyAction(Postpone())
    assert await answers() == {"ask": "yes"}


@pytest.mark.parametrize("kind", ENTERED)
@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (NextState("c", 2), BadStateEnterReturn(NextState("c", 2))),
        (KeepStateAndData(Postpone()), BadStateEnterAction(Postpone())),
        (KeepState(2, NextEvent("cast", 1)), BadStateEnterAction(NextEvent("cast", 1))),
        (KeepStateAndData(PopCallbackModule()), BadStateEnterAction(PopCallbackModule())),
        (KeepStateAndData("nonsense"), BadAction("nonsense")),
    ],
)
@as_process
async def test_what_an_enter_call_may_not_do(node, kind, result, reason):
    """An enter call may not change the state, postpone, insert events, or change classes (M7)."""
    pid = await start(kind, Init("a", 0), {("a", "go"): NextState("b", 1), ("b", "enter"): result}, log := [])
    assert await end_by(pid, "go") == reason
    assert log[-1][:3] == ("terminate", reason, "b")


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_what_terminate_raises_becomes_the_reason(node, kind):
    """A failing `terminate` replaces the reason (M22, N18)."""

    class Last(kind):
        def terminate(self, reason, state, data):
            exit_with(("instead of", reason))

    pid = await start(Last, Init("a", 0), {("a", "end"): Stop("over")})
    assert await end_by(pid, "end") == ("instead of", "over")
