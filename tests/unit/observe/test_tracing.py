"""A bounded trace: what it tells, that it stops by itself, and that nothing is left behind."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from runtime import call, cast, send_nowait, spawn, sys
from runtime.observe import export
from runtime.observe.protocol import Refusal
from runtime.observe.tracing import TraceView, trace
from supervisors import Node
from tests.unit.observe.bank import bank


@pytest.fixture
async def node(autojump_clock) -> AsyncIterator[Node]:
    async with bank() as node:
        yield node


async def traced(node: Node, work, *names: str, messages: int = 100, seconds: float = 10.0) -> TraceView:
    """A trace during which `work` runs."""
    found: list[TraceView] = []

    async def watch() -> None:
        found.append(await trace(node.table, [node.table.names[name] for name in names], messages, seconds))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await wait_all_tasks_blocked()
        await work()
    return found[0]


async def test_a_trace_tells_who_said_what_to_whom(node):
    """Calls have their sender, replies their receiver; host code is outside."""
    node.table.names["wallet/p-7"].behaviour.gate.set()

    async def work() -> None:
        await call("table/t-042", "hello")

    view = await traced(node, work, "table/t-042", "wallet/p-7", messages=4)
    assert [(one.source, one.target, one.kind, one.text) for one in view.events] == [
        ("?", "table/t-042", "call", "'hello'"),
        ("table/t-042", "wallet/p-7", "call", "'hello'"),
        ("wallet/p-7", "table/t-042", "reply", "'hello'"),
        ("table/t-042", "?", "reply", "'hello'"),
    ]
    assert (view.stopped, view.watched) == ("messages", ("table/t-042", "wallet/p-7"))


async def test_enough_messages_end_it(node):
    """After so many events nothing more is watched, whatever still comes."""

    async def work() -> None:
        for number in range(50):
            send_nowait("safe", number)
        await wait_all_tasks_blocked()

    view = await traced(node, work, "safe", messages=7)
    assert (len(view.events), view.stopped) == (7, "messages")
    await wait_all_tasks_blocked()
    assert node.table.names["safe"].debug is None


async def test_time_ends_it(node):
    """Without messages it ends with its time, and leaves nothing in the process."""

    async def work() -> None:
        await trio.sleep(1)  # virtual

    view = await traced(node, work, "safe", seconds=3.0)
    assert (view.events, view.stopped) == ((), "seconds")
    assert view.seconds == pytest.approx(3.0, abs=0.1)
    await wait_all_tasks_blocked()
    assert node.table.names["safe"].debug is None


async def test_a_busy_process_is_left_clean_too(node):
    """One that could not be reached in time removes the watch at its first event after that."""
    await cast("table/t-042", "a")
    await wait_all_tasks_blocked()
    view = await traced(node, wait_all_tasks_blocked, "table/t-042", seconds=1.0)
    assert view.stopped == "seconds"
    node.table.names["wallet/p-7"].behaviour.gate.set()
    await wait_all_tasks_blocked()
    send_nowait("table/t-042", "b")
    await wait_all_tasks_blocked()
    assert node.table.names["table/t-042"].debug is None


async def test_two_traces_of_one_process_do_not_meet(node):
    """Each has what it asked for, and the one's end is not the other's."""
    async with trio.open_nursery() as nursery:
        views: dict[int, TraceView] = {}

        async def watch(messages: int) -> None:
            views[messages] = await trace(node.table, [node.table.names["safe"]], messages, 5.0)

        nursery.start_soon(watch, 1)
        nursery.start_soon(watch, 3)
        await wait_all_tasks_blocked()
        for number in range(3):
            await cast("safe", number)
            await wait_all_tasks_blocked()
    assert {messages: len(view.events) for messages, view in views.items()} == {1: 1, 3: 3}


async def test_the_end_of_all_is_told(node):
    """If all that were watched end, the trace ends with its time and says so."""

    async def work() -> None:
        await sys.stop("safe")

    pid = node.table.names["safe"].pid
    view = await traced(node, work, "safe", seconds=1.0)
    assert (view.stopped, pid._process) == ("ended", None)


async def test_a_trace_that_is_left_stops(node):
    """Whoever is cancelled in the middle leaves no watch behind."""
    with trio.move_on_after(0.5):
        await trace(node.table, [node.table.names["safe"]], 5, 100.0)
    await wait_all_tasks_blocked()
    assert node.table.names["safe"].debug is None


async def test_what_is_hidden_stays_hidden(node):
    """Traced texts pass through `format_status`, and are cut."""

    async def work() -> None:
        await call("safe", "8888-secret")

    view = await traced(node, work, "safe", messages=2)
    assert "secret" not in repr(view)
    assert len(view.events) == 2


async def test_a_plain_function_cannot_be_traced(node):
    """It does not report what it takes: code 5, before anything was watched."""
    pid = spawn(trio.sleep_forever)
    with pytest.raises(Refusal) as caught:
        await trace(node.table, [pid._process], 1, 1.0)
    assert caught.value.code == 5


EVENTS = [
    {"at": 0.0, "source": "?", "target": "a;b", "kind": "call", "text": 'say "x"\x1b'},
    {"at": 0.25, "source": "a;b", "target": "?", "kind": "reply", "text": "1"},
    {"at": 0.5, "source": "a;b", "target": "a;b", "kind": "event", "text": "('enter', 'up')"},
]


def test_a_trace_is_a_sequence_diagram():
    """Mermaid gets participants in order of appearance, arrows, and no character that has a meaning to it."""
    assert list(export.sequence(EVENTS)) == [
        "sequenceDiagram",
        "  participant p0 as outside",
        "  participant p1 as a#59;b",
        "  p0->>p1: call say #34;x#34;\\x1b",
        "  p1-->>p0: 1",
        "  Note over p1: ('enter', 'up')",
    ]


def test_a_trace_is_lines_of_text():
    """Each message is a line with its moment; a reply's arrow points back."""
    assert list(export.lines(EVENTS)) == [
        '   0.0000  ? --> a;b  call say "x"\\x1b',
        "   0.2500  ? <-- a;b  reply 1",
        "   0.5000  a;b  ('enter', 'up')",
    ]


async def test_a_trace_goes_over_the_wire(node):
    """A view is plain data."""
    view = await traced(node, wait_all_tasks_blocked, "safe", seconds=0.1)
    assert msgspec.json.decode(msgspec.json.encode(view))["stopped"] == "seconds"
