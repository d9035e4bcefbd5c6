"""One process from inside: what is told of it, and that nothing is told which it hides."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from runtime import call, cast, link, monitor, send_after, send_nowait, spawn, sys
from runtime.kernel.timer import apply_after
from runtime.observe import inside
from runtime.observe.processes import ps, ps_in_pieces, row_of
from runtime.observe.shown import Change, difference, fields_of
from supervisors import Node
from tests.unit.observe.bank import AccountState, Deposit, bank


@pytest.fixture
async def node(autojump_clock) -> AsyncIterator[Node]:
    async with bank() as node:
        yield node


async def ask(node: Node, nursery: trio.Nursery, request: object) -> None:
    """Ask the table, which asks its wallet, which does not answer."""

    async def one() -> None:
        try:
            await call("table/t-042", request, timeout=500.0)
        except Exception:  # the node ends before the answer
            return

    nursery.start_soon(one)
    await wait_all_tasks_blocked()


async def test_who_waits_for_whom_is_seen(node):
    """A row names what a process handles, whose reply it waits for, and how long its oldest message waits."""
    async with trio.open_nursery() as nursery:
        await ask(node, nursery, "a question")
        await ask(node, nursery, "another")
        await trio.sleep(3)  # virtual
        row = row_of(node.table.names["table/t-042"])
        assert (row.handling, row.waiting, row.mailbox) == ("str", "wallet/p-7", 1)
        assert row.oldest == pytest.approx(3, abs=0.1)
        assert row_of(node.table.names["wallet/p-7"]).handling == "str"
        nursery.cancel_scope.cancel()


async def test_a_window_tells_what_changed(node):
    """With a window the list is ordered by what came in it, and each row bears the change."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flood, node)
        listing = await ps_in_pieces(node.table, 1, "mailbox", 2.0)
    (row,) = listing.rows
    assert (row.name, row.mailbox, row.new_mailbox, listing.window) == ("safe", 5, 5, 2.0)
    by_turns = await ps_in_pieces(node.table, 100, "turns", 1.0)
    assert all(row.new_turns is not None for row in by_turns.rows)
    assert ps(node.table, 3, "pid").rows[0].pid == "<1.1>"
    assert [row.name for row in ps(node.table, 2, "name").rows] == ["account/ann", "journal.relaxed"]
    weights = [row.memory or 0 for row in ps(node.table, 100, "memory").rows]
    assert weights == sorted(weights, reverse=True)


async def flood(node: Node) -> None:
    await sys.suspend("safe")
    await trio.sleep(1)  # virtual
    for number in range(5):
        send_nowait("safe", number)


async def test_a_process_is_told_about_with_whom_it_is_bound(node):
    """Links, monitors, watchers, parent, class, key and stack are named."""

    async def friend() -> None:
        link(node.table.names["safe"].pid)
        monitor("account/ann")
        await trio.sleep_forever()

    pid = spawn(friend)
    await wait_all_tasks_blocked()
    safe = inside.about(node.table.names["safe"]).to_json()
    bank_pid = node.table.names["safe"].parent
    assert safe["parent"] == f"{bank_pid!r} Bank"
    assert set(safe["linked"]) == {f"{bank_pid!r} Bank", f"{pid!r} {pid._process.label}"}
    assert (safe["start"], safe["key"], safe["trap_exit"]) == ("tests.unit.observe.bank.Safe", None, False)
    ann = inside.about(node.table.names["account/ann"])
    assert (ann.key, ann.row.sequence, ann.summary) == ("account/ann", 0, "seq 0")
    assert ann.watched_by == (f"{pid!r} {pid._process.label}",)
    assert inside.about(pid._process).monitoring == (f"{ann.row.pid} account/ann",)
    functions = [frame.function for frame in inside.stack(pid._process)]
    assert functions[0] == "run"
    assert "test_a_process_is_told_about_with_whom_it_is_bound.<locals>.friend" in functions


async def test_a_state_is_shown_as_its_process_allows(node):
    """State, mailbox and in-hand message pass through `format_status`; nothing of the secret is left."""
    safe = node.table.names["safe"]
    view = inside.state(safe)
    assert view.fields == {"number": "'<redacted>'", "open": "False"}
    assert (view.busy, view.sequence) == (False, None)
    await sys.suspend("safe")
    await cast("safe", "5555-secret")
    letters = inside.mailbox(safe)
    assert [(one.kind, one.text) for one in letters.letters] == [("cast", "'<redacted>'")]
    assert (letters.total, letters.limit) == (1, 10_000)
    assert "secret" not in repr((view, letters))


async def test_a_busy_process_shows_its_state_at_once(node):
    """A process in the middle of a callback is read all the same, and marked as busy."""
    async with trio.open_nursery() as nursery:
        await ask(node, nursery, "a question")
        view = inside.state(node.table.names["wallet/p-7"])
        assert (view.busy, view.fields["served"]) == (True, "0")
        letters = inside.mailbox(node.table.names["wallet/p-7"])
        assert letters.handling is not None
        table = node.table.names["table/t-042"]
        assert (letters.handling.kind, letters.handling.sender) == ("call", f"{table.pid!r} table/t-042")
        nursery.cancel_scope.cancel()


async def test_a_durable_state_is_the_committed_one(node):
    """A durable process shows what is on the disk, with its position."""
    await call("account/ann", Deposit(5))
    view = inside.state(node.table.names["account/ann"])
    assert (view.fields, view.sequence) == ({"total": "5", "last": "5"}, 1)


async def test_a_plain_function_has_no_state_and_a_failing_one_is_told(node):
    """What cannot be shown is said in its place; nothing is raised."""
    pid = spawn(trio.sleep_forever)
    assert inside.state(pid._process).text == "a plain function has no state to show"
    node.table.names["safe"].behaviour.system_get_state = lambda: 1 / 0
    assert inside.state(node.table.names["safe"]).text == "<no state: ZeroDivisionError>"


async def test_timers_are_listed_the_next_first(node):
    """Each timer tells when, for whom and what; what a process hides stays hidden, arguments are not told."""
    send_after(50, "safe", "6666-secret")
    send_after(20, node.table.names["wallet/p-7"].pid, "ping")
    apply_after(70, print, "7777-secret")
    view = await inside.timers(node.table)
    assert [(round(one.due), one.kind, one.text) for one in view.timers] == [
        (20, "message", "'ping'"),
        (50, "message", "'<redacted>'"),
        (70, "function", "print"),
    ]
    assert (await inside.timers(node.table, node.table.names["safe"])).total == 1
    assert (await inside.timers(node.table, limit=1)).total == 3


# -- how values are shown ------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Hidden:
    """A record that hides a part behind a repr of its own."""

    card: str

    def __repr__(self) -> str:
        return "Hidden()"


@dataclasses.dataclass
class Half:
    """A record that leaves a part out of its repr."""

    shown: int
    card: str = dataclasses.field(repr=False)


def test_a_state_is_taken_apart_only_where_its_repr_is():
    """A record with a repr of its own is never taken apart, and a field that is not in the repr is not shown."""
    assert fields_of(Hidden("As")) == {}
    assert fields_of(Half(1, "As")) == {"shown": "1"}
    assert fields_of({"card": Hidden("As"), "n": 1}) == {"card": "Hidden()", "n": "1"}
    assert fields_of(AccountState(1, 2)) == {"total": "1", "last": "2"}
    assert fields_of([1, 2]) == {}


def test_a_difference_names_what_is_another_now():
    """Numbers are told as what was added, texts as before and after, parts that came or went with a dash."""
    changes: Any = difference({"a": "1", "b": "x", "c": "9"}, {"a": "51", "b": "y", "d": "2"})
    assert [str(one) for one in changes] == ["a +50", "b x -> y", "d - -> 2", "c 9 -> -"]
    assert changes[0] == Change("a", "1", "51")
