"""State machines whose callbacks do as they are told, in each mode, with plain and with waiting callbacks.

What an event brings about stands in a table, by (state, content), for enter calls by (state, "enter"): the
result itself, or a function of (kind, content, state, data) that gives it. Without an entry nothing changes.
`log` gets what was called: (state, kind, content), and ("terminate", reason, state, data).
"""

from __future__ import annotations

from typing import Any

import trio

from runtime import (
    KEEP_STATE_AND_DATA,
    Answer,
    CallFrom,
    Down,
    GenStatem,
    NamedTimeout,
    Pid,
    cast_nowait,
    monitor,
    receive,
    send_nowait,
    send_request,
    sys,
)
from tests.support.processes import mail


class Plain(GenStatem[Any, Any]):
    """One function for all events."""

    def init(self, first: Any, table: dict[Any, Any] | None = None, log: list[Any] | None = None) -> Any:
        self.table = table if table is not None else {}
        self.log = log if log is not None else []
        return first() if callable(first) else first

    def act(self, kind: Any, content: Any, state: Any, data: Any) -> Any:
        self.log.append((state, name_of(kind), content))
        found = self.table.get((state, "enter" if kind == "enter" else content), KEEP_STATE_AND_DATA)
        return found(kind, content, state, data) if callable(found) else found

    def handle_event(self, kind: Any, content: Any, state: Any, data: Any) -> Any:
        return self.act(kind, content, state, data)

    def terminate(self, reason: object, state: Any, data: Any) -> Any:
        self.log.append(("terminate", reason, state, data))


class Waits(Plain):
    """The same; each callback waits for a moment first."""

    async def init(self, *args: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return super().init(*args)

    async def handle_event(self, *args: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return self.act(*args)

    async def terminate(self, *args: Any) -> Any:
        await trio.lowlevel.checkpoint()
        super().terminate(*args)


class Functions(Plain):
    """A function for each state."""

    callback_mode = "state_functions"

    def a(self, kind: Any, content: Any, data: Any) -> Any:
        return self.act(kind, content, "a", data)

    def b(self, kind: Any, content: Any, data: Any) -> Any:
        return self.act(kind, content, "b", data)

    async def c(self, kind: Any, content: Any, data: Any) -> Any:
        return self.act(kind, content, "c", data)


class PlainEnter(Plain):
    state_enter = True


class WaitsEnter(Waits):
    state_enter = True


class FunctionsEnter(Functions):
    state_enter = True


KINDS = [Plain, Waits, Functions]
ENTERED = [PlainEnter, WaitsEnter, FunctionsEnter]


def name_of(kind: Any) -> Any:
    """A kind of event, short enough for a log: "call" without its caller, a generic timeout as its name."""
    match kind:
        case CallFrom():
            return "call"
        case NamedTimeout(name):
            return ("timeout", name)
    return kind


async def feed(machine: Pid, *events: Any) -> None:
    """Put events into the mailbox before the first is handled, then wait until all are.

    An event is the content of a cast; or ("info", content); or ("call", content), whose label is the content.
    """
    await sys.suspend(machine)
    for event in events:
        match event:
            case ("info", content):
                send_nowait(machine, content)
            case ("call", content):
                send_request(machine, content, content)
            case content:
                cast_nowait(machine, content)
    await sys.resume(machine)
    await trio.testing.wait_all_tasks_blocked()


async def answers() -> dict[Any, Any]:
    """The replies that came to the calls of `feed`, by label; for one that failed, ("failed", reason)."""
    return {
        answer.label: ("failed", answer.reason) if answer.failed else answer.value
        for answer in await mail()
        if isinstance(answer, Answer)
    }


def fails(*_args: Any) -> Any:
    """A callback's work: fail."""
    raise ValueError("bang")


async def end_by(machine: Pid, *events: Any) -> object:
    """Feed events; the exit reason of the machine that they end."""
    ref = monitor(machine)
    await feed(machine, *events)
    down = await receive(lambda message: isinstance(message, Down) and message.ref is ref)
    assert isinstance(down, Down)
    return down.reason
