"""State machines: signals, system messages, other classes' callbacks, and supervisors."""

from __future__ import annotations

import pytest
import trio

from runtime import (
    KEEP_STATE_AND_DATA,
    KILL,
    KILLED,
    NORMAL,
    SHUTDOWN,
    BadAction,
    ChangeCallbackModule,
    GenericTimeout,
    GenStatem,
    Init,
    KeepState,
    KeepStateAndData,
    NextState,
    PopCallbackModule,
    Postpone,
    PushCallbackModule,
    ReplyTo,
    StartFailed,
    Stop,
    cast_nowait,
    exit_with,
    spawn,
    start,
    start_link,
    sys,
    whereis,
)
from runtime import exit as exit_signal
from supervisors import Supervisor, child
from tests.support.processes import as_process, exit_and_wait
from tests.unit.behaviours.statems import (
    ENTERED,
    KINDS,
    Functions,
    Plain,
    PlainEnter,
    Waits,
    end_by,
    fails,
    feed,
)

# -- signals and system messages ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_a_kill_runs_no_callback(node, kind):
    """A killed machine runs no `terminate`, and nothing that still waits in its mailbox (N19)."""
    pid = await start(kind, Init("a", 0), {}, log := [])
    assert await exit_and_wait(pid, KILL) is KILLED
    pid = await start(kind, Init("a", 0), {}, log)
    await sys.suspend(pid)
    cast_nowait(pid, "go")
    assert await exit_and_wait(pid, KILL) is KILLED
    assert log == []


@as_process
async def test_a_signal_reaches_every_async_callback(node):
    """A machine can be ended while `init`, an event or `terminate` waits (P43)."""
    held = []

    class Holds(Plain):
        async def init(self, where, *rest):
            self.where = where
            await self.hold("init")
            return super().init(*rest)

        async def handle_event(self, *args):
            await self.hold("event")
            return Stop("over")

        async def terminate(self, *args):
            await self.hold("terminate")

        async def hold(self, where):
            if where == self.where:
                held.append(where)
                await trio.sleep_forever()

    with pytest.raises(StartFailed) as failed:
        await start(Holds, "init", Init("a", 0), timeout=1.0)
    assert failed.value.reason == "timeout"
    for where in ("event", "terminate"):
        pid = await start(Holds, where, Init("a", 0))
        cast_nowait(pid, "go")
        await trio.testing.wait_all_tasks_blocked()
        assert await exit_and_wait(pid, "signal") == "signal"
    assert held == ["init", "event", "terminate"]


@as_process
async def test_a_signal_reaches_a_wait_that_its_class_does_not_show(node):
    """A plain machine has no scope until something waits in it after all, and none again afterwards (P43, M29)."""

    async def moment(*_args):
        await trio.lowlevel.checkpoint()
        return KEEP_STATE_AND_DATA

    async def forever(*_args):
        await trio.sleep_forever()

    pid = await start(Plain, Init("a", 0), {("a", "moment"): moment, ("a", "forever"): forever}, log := [])
    await feed(pid, "moment")
    assert pid._process.scope is None
    await feed(pid, "forever")
    assert await exit_and_wait(pid, "signal") == "signal"
    assert [entry[0] for entry in log] == ["a", "a"]


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_the_parents_exit_ends_a_trapping_machine(node, kind):
    """The exit of the parent never comes as an event; those of others are infos (N19, N20)."""

    class Trapping(kind):
        trap_exit = True

    log = []

    async def parent():
        pid = await start_link(Trapping, Init("a", 0), {}, log, name="machine")
        exit_signal(pid, "a word")
        exit_with("bye")

    spawn(parent)
    await trio.testing.wait_all_tasks_blocked()
    assert whereis("machine") is None
    assert [entry[0] for entry in log] == ["terminate"]
    pid = await start(Trapping, Init("a", 0), {}, log)
    exit_signal(pid, "a word")
    await sys.get_state(pid)
    assert log[-1][:2] == ("a", "info")


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_sys_stop_ends_a_machine_with_terminate(node, kind):
    """`sys.stop` acts on a suspended machine too, and before messages that wait (L10)."""
    pid = await start(kind, Init("a", 0), {}, log := [])
    await sys.suspend(pid)
    cast_nowait(pid, "waits")
    await sys.stop(pid, "enough")
    assert log == [("terminate", "enough", "a", 0)]


@pytest.mark.parametrize("kind", ENTERED)
async def test_replaced_state_and_data_are_no_change_of_state(node, kind):
    """State and data can be replaced from outside, as a pair; nothing is entered or retried by that (Y4, Y5)."""
    pid = await start(kind, Init("a", 0), {("a", "later"): KeepStateAndData(Postpone())}, log := [])
    await feed(pid, "later")
    assert await sys.replace_state(pid, lambda pair: ("b", pair[1] + 1)) == ("b", 1)
    await feed(pid, "now")
    assert log[2:] == [("b", "cast", "now")]
    with pytest.raises(sys.CallbackFailed):
        await sys.replace_state(pid, lambda _pair: "no pair")
    assert await sys.get_state(pid) == ("b", 1)


async def test_changed_code_is_asked_for_its_callback_mode(node):
    """`code_change` makes state and data of the new class; its mode and enter calls hold from then on (M1, Y6)."""

    class Newer(PlainEnter):
        callback_mode = "state_functions"

        def code_change(self, old_vsn, state, extra):
            return ("b", (old_vsn, state, extra))

        def b(self, kind, content, data):
            return self.act(kind, content, "b", data)

        def c(self, kind, content, data):
            return self.act(kind, content, "c", data)

    pid = await start(Plain, Init("a", 0), {("b", "go"): NextState("c", 1)}, log := [])
    await sys.suspend(pid)
    await sys.change_code(pid, Newer, 1, "more")
    await sys.resume(pid)
    assert await sys.get_state(pid) == ("b", (1, ("a", 0), "more"))
    await feed(pid, "go")
    assert log == [("b", "cast", "go"), ("c", "enter", "b")]


@as_process
async def test_a_machine_can_be_watched(node):
    """`sys.log` keeps the events that it handles, by their kinds, its enter calls and its replies (Y7)."""

    def act(kind, *_):
        return NextState("b", 0, ReplyTo(kind.caller, "yes"), GenericTimeout("n", 0, "zero"))

    pid = await start(PlainEnter, Init("a", 0), {("a", "ask"): act})
    await sys.get_state(pid)
    await sys.log(pid, True)
    await feed(pid, ("call", "ask"))
    asked, out, enter, zero = await sys.log(pid, "get")
    assert (asked, out.value) == (sys.In("call", "ask"), "yes")
    assert (enter, zero) == (("enter", "b"), sys.In("timeout 'n'", "zero"))


async def test_a_crash_report_says_where_the_machine_was(node, caplog):
    """The report names the state, what waited, and the event in hand, as `format_status` lets them be seen (N29)."""

    class Discreet(Plain):
        def format_status(self, value):
            return "secret" if value == "1234" else value

    table = {("1234", "later"): KeepStateAndData(Postpone()), ("1234", "bad"): fails}
    pid = await start(Discreet, Init("1234", 0), table)
    await feed(pid, "later", "bad")
    assert "in state 'secret', 0 queued, 1 postponed" in caplog.text
    assert "last message: 'bad'" in caplog.text


# -- callback modules ----------------------------------------------------------------------------------


class Other(GenStatem[str, int]):
    """Another class's callbacks: notes what it gets in the data."""

    state_enter = True
    log: list

    def handle_event(self, kind, content, state, data):
        self.log.append((state, kind, content))
        match content:
            case "back":
                return KeepStateAndData(PopCallbackModule())
            case "change":
                return NextState("b", data, ChangeCallbackModule(Functions))
            case "end":
                return Stop("over")
        return KEEP_STATE_AND_DATA

    def terminate(self, reason, state, data):
        self.log.append(("terminate", reason, state, data))


@pytest.fixture
def other():
    """`Other`, with a fresh log."""
    return type("Fresh", (Other,), {"log": []})


@pytest.mark.parametrize("kind", [Plain, Waits])
@as_process
async def test_a_pushed_class_rules_until_it_is_popped(node, kind, other):
    """State, data, events and timeouts stay; the enter call of the change is the new class's (M29)."""
    table = {
        ("a", "later"): KeepStateAndData(Postpone()),
        ("a", "push"): NextState("b", 1, PushCallbackModule(other)),
    }
    pid = await start(kind, Init("a", 0), table, log := [])
    await feed(pid, "later", "push", "more", "back", "home")
    assert other.log == [("b", "enter", "a"), ("b", "cast", "later"), ("b", "cast", "more"), ("b", "cast", "back")]
    assert log[2:] == [("b", "cast", "home")]
    assert await sys.get_state(pid) == ("b", 1)


@as_process
async def test_the_class_that_rules_is_the_one_that_terminates(node, other):
    """After a change of class there is no way back, and its `terminate` runs at the end (M29)."""
    pid = await start(Plain, Init("a", 0), {("a", "go"): KeepState(1, ChangeCallbackModule(other))}, log := [])
    assert await end_by(pid, "go", "back") == BadAction(PopCallbackModule())
    assert other.log[-1] == ("terminate", BadAction(PopCallbackModule()), "a", 1)
    assert log == [("a", "cast", "go")]


@as_process
async def test_a_class_that_is_no_state_machine_cannot_be_changed_to(node):
    """Only a GenStatem class can be pushed; anything else crashes the machine that asks for it (M29)."""
    pid = await start(Plain, Init("a", 0), {("a", "go"): KeepStateAndData(PushCallbackModule(dict))}, log := [])
    reason = await end_by(pid, "go")
    assert "a callback module is a GenStatem class, got <class 'dict'>" in str(reason.error)
    assert log[-1] == ("terminate", reason, "a", 0)


# -- supervised ----------------------------------------------------------------------------------------


class Room(Supervisor):
    """A supervisor with one machine."""

    def init(self, log):
        table = {("a", "go"): NextState("b", 0), ("b", "bad"): fails, ("b", "stop"): Stop(NORMAL)}
        trapping = type("Trapping", (Plain,), {"trap_exit": True})
        return [child("machine", trapping, Init("a", 0), table, log, name="machine")]


async def test_a_supervised_machine_starts_anew_and_is_stopped_in_order(node):
    """A restarted machine begins with `init`; a shutdown runs `terminate` (S17, S36)."""
    log = []
    top = await node.start(Room, log)
    first = whereis("machine")
    await feed(first, "go")
    cast_nowait(first, "bad")
    await trio.testing.wait_all_tasks_blocked()
    second = whereis("machine")
    assert second not in (None, first)
    assert await sys.get_state(second) == ("a", 0)
    await sys.stop(top, SHUTDOWN)
    assert log[-1] == ("terminate", SHUTDOWN, "a", 0)
