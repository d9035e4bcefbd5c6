"""Family C: state machines; postponed and inserted events, timeouts, enter calls.

Time stands still but in `wait`. Left open by the format, and taken as the traces have it:

- `terminate` after a raise gets the bare reason there, and a `Crash` with it here.
- A machine that dies in its start: only that it is dead is compared, not of what.
- The replies of a step are sorted by when their calls were sent, not by when they were given.
"""

from __future__ import annotations

import math
from typing import Any

import trio
import trio.testing

from runtime import (
    Answer,
    CallFrom,
    Crash,
    EventTimeout,
    GenericTimeout,
    GenStatem,
    Init,
    KeepStateAndData,
    NamedTimeout,
    NextEvent,
    NextState,
    Pid,
    Postpone,
    RepeatStateAndData,
    ReplyTo,
    StateTimeout,
    Stop,
    StopAndReply,
    cast_nowait,
    is_alive,
    receive,
    send_nowait,
    send_request,
    spawn,
    start,
    sys,
)
from supervisors import Node

from .reasons import Raised, reason_in, reason_out
from .replay import settle
from .witness import Witness

# Longer than any timeout but those of 10,000 s.
A_WHILE = 0.45


class Recorder:
    """What the machine did in one step."""

    def __init__(self) -> None:
        self.cbs: list[list[Any]] = []
        self.replies: dict[str, Any] = {}
        # The labels of the calls, in the order in which they were sent.
        self.calls: list[str] = []

    def take(self) -> dict[str, Any]:
        """What has come since the last take."""
        cbs, self.cbs = self.cbs, []
        replies, self.replies = self.replies, {}
        return {"cbs": cbs, "replies": [[label, replies[label]] for label in self.calls if label in replies]}


class Scripted(GenStatem[str, None]):
    """The machine of a scenario: acts by its table, as long as it has fuel."""

    def init(self, recorder: Recorder, scenario: dict[str, Any]) -> Any:
        self.recorder = recorder
        self.table = scenario["table"]
        self.fuel = scenario["fuel"]
        recorder.cbs.append(["init"])
        return Init(scenario["init"]["to"], None, *_actions(scenario["init"]["do"], None))

    def handle_event(self, kind: Any, content: Any, state: str, data: None) -> Any:
        if kind == "enter":
            self.recorder.cbs.append(["enter", state, content])
            key = "enter"
        else:
            name = _name_of(kind)
            self.recorder.cbs.append(["event", state, name, content])
            key = f"{name}:{content}"
        if self.fuel == 0:
            return Stop("fuel")
        self.fuel -= 1
        entry = self.table.get(state, {}).get(key, {})
        to = entry.get("to")
        if to == "raise":
            raise Raised("bang")
        actions = _actions(entry.get("do", []), kind)
        match to:
            case None:
                return KeepStateAndData(*actions)
            case "repeat":
                return RepeatStateAndData(*actions)
            case ["stop", reason]:
                replies = [action for action in actions if isinstance(action, ReplyTo)]
                return StopAndReply(reason_in(reason), *replies) if replies else Stop(reason_in(reason))
        return NextState(to, data, *actions)

    def terminate(self, reason: Any, state: str, data: None) -> None:
        match reason:
            case Crash(Raised() as error):
                shown = error.args[0]
            case _:
                shown = reason_out(reason)
        self.recorder.cbs.append(["terminate", state, shown])


def machine_of(scenario: dict[str, Any]) -> type[Scripted]:
    """The class for a scenario, with a function for each state if its states are functions."""
    body: dict[str, Any] = {"state_enter": scenario["enter"]}
    if scenario["mode"] == "state_functions":
        body["callback_mode"] = "state_functions"
        entries = [entry for keys in scenario["table"].values() for entry in keys.values()]
        states = [scenario["init"]["to"], *scenario["table"], *(entry.get("to") for entry in entries)]
        body.update({state: _function(state) for state in states if isinstance(state, str)})
    return type("Machine", (Scripted,), body)


def _function(state: str) -> Any:
    def function(self: Scripted, kind: Any, content: Any, data: None) -> Any:
        return self.handle_event(kind, content, state, data)

    return function


def _name_of(kind: Any) -> str:
    match kind:
        case CallFrom():
            return "call"
        case NamedTimeout(name):
            return f"timeout_{name}"
        case _:
            return str(kind)


def _actions(do: list[list[Any]], kind: Any) -> list[Any]:
    """The actions of an entry, for an event of this kind."""
    found: list[Any] = []
    for one in do:
        match one:
            case ["postpone", *on]:
                found.append(Postpone(*on))
            case ["next_event", of, content]:
                found.append(NextEvent(of, content))
            case ["reply", value]:
                if isinstance(kind, CallFrom):
                    found.append(ReplyTo(kind.caller, value))
            case ["state_timeout", time, content]:
                found.append(StateTimeout(_seconds(time), content))
            case ["timeout", time, content]:
                found.append(EventTimeout(_seconds(time), content))
            case ["generic", name, time, content]:
                found.append(GenericTimeout(name, _seconds(time), content))
            case ["cancel_state"]:
                found.append(StateTimeout("cancel"))
            case ["cancel_event"]:
                found.append(EventTimeout("cancel"))
            case ["cancel_generic", name]:
                found.append(GenericTimeout(name, "cancel"))
            case ["update_state", content]:
                found.append(StateTimeout("update", content))
            case ["update_generic", name, content]:
                found.append(GenericTimeout(name, "update", content))
            case _:
                raise AssertionError(f"no such action: {one}")
    return found


def _seconds(time: Any) -> float:
    return math.inf if time == "infinity" else time / 1000


async def client(recorder: Recorder, machine: Pid) -> None:
    """Sends the events it is told to, in one go, and collects the replies."""
    while True:
        match await receive():
            case Answer(label, value, failed=failed):
                if not failed:
                    recorder.replies[label] = ["reply", value]
            case events:
                for event in events:  # type: ignore[attr-defined]  # the driver sends nothing else
                    match event:
                        case ["cast", content]:
                            cast_nowait(machine, content)
                        case ["info", content]:
                            send_nowait(machine, content)
                        case ["call", content, label]:
                            recorder.calls.append(label)
                            send_request(machine, content, label)


async def replay(scenario: dict[str, Any], clock: trio.testing.MockClock) -> dict[str, Any]:
    """Play one scenario."""
    witness = Witness()
    recorder = Recorder()
    async with Node("c", world=witness):  # type: ignore[arg-type]  # the real World by delegation
        machine = await start(machine_of(scenario), recorder, scenario)
        by = spawn(client, recorder, machine)
        await settle()
        trace: dict[str, Any] = {"start": {"reply": ["ok"], "cbs": recorder.take()["cbs"]}, "steps": []}
        for action in scenario["actions"]:
            if not is_alive(machine):
                trace["steps"].append({"skipped": True})
                continue
            await _act(recorder, machine, by, action, clock)
            step = recorder.take()
            if not is_alive(machine):
                step["died"] = _reason(witness, machine)
            trace["steps"].append(step)
        if is_alive(machine):
            state, _ = await sys.get_state(machine)  # type: ignore[misc]  # what a state machine shows
            trace["final"] = ["alive", state]
        else:
            trace["final"] = ["dead", _reason(witness, machine)]
        return trace


def _reason(witness: Witness, machine: Pid) -> Any:
    return next(reason_out(reason) for pid, reason in witness.deaths if pid == machine)


async def _act(
    recorder: Recorder, machine: Pid, by: Pid, action: dict[str, Any], clock: trio.testing.MockClock
) -> None:
    match action["op"]:
        case "send":
            send_nowait(by, [action["ev"]])
        case "burst":
            await sys.suspend(machine)
            send_nowait(by, action["evs"])
            await settle()
            await sys.resume(machine)
        case "wait":
            # The clock runs by itself until nothing has happened for a while.
            clock.autojump_threshold = 0
            before = -1
            while before != len(recorder.cbs):
                before = len(recorder.cbs)
                await trio.sleep(A_WHILE)  # virtual
            clock.autojump_threshold = math.inf
    await settle()


def normal(trace: dict[str, Any], scenario: dict[str, Any]) -> Any:
    """Of a machine that died in its start, the recorder saw too late of what."""
    died_in_a_step = any("died" in step for step in trace["steps"])
    if trace["final"][0] == "dead" and not died_in_a_step:
        return {**trace, "final": ["dead"]}
    return trace
