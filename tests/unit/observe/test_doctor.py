"""What seems wrong: each kind of fault is planted and found, and a healthy node has none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from runtime import CalleeExited, CallTimeout, GenServer, call, cast, send_nowait, start, sys
from runtime.kernel.stalls import Stall
from runtime.observe.doctor import Finding, doctor
from runtime.observe.recorder import recorder_of
from supervisors import Node
from tests.unit.observe.bank import bank


@pytest.fixture
async def node(autojump_clock) -> AsyncIterator[Node]:
    async with bank() as node:
        recorder_of(node.table)
        yield node


async def findings(node: Node) -> list[tuple[str, str, str]]:
    """Severity, first word of who, and what, of all that is found."""
    found = (await doctor(node.table)).findings
    return [(one.severity, one.who.partition(" ")[0], one.what) for one in found]


async def test_a_healthy_node_has_no_findings(node):
    """Nothing is said where nothing is wrong."""
    assert (await doctor(node.table)).findings == ()


async def test_a_row_of_callers_is_traced_to_its_cause(node):
    """A mailbox that grows is told with what its process waits on, down to the one at the bottom."""
    async with trio.open_nursery() as nursery:
        for number in range(15):
            nursery.start_soon(ask, "table/t-042", number)
        await trio.sleep(3)  # virtual
        found = (await doctor(node.table)).findings
        wallet = node.table.names["wallet/p-7"].pid
        table = node.table.names["table/t-042"].pid
        assert found[0] == Finding(
            "bad",
            f"table/t-042 {table!r}",
            "has 14 of 10000 messages waiting, the oldest for 3.0 s",
            f"it is handling int, and waits on wallet/p-7 {wallet!r} for that",
            "banyan mailbox table/t-042",
        )
        nursery.cancel_scope.cancel()


async def ask(name: str, request: object) -> None:
    """Ask, and do without the answer."""
    try:
        await call(name, request, timeout=500.0)
    except (CallTimeout, CalleeExited):
        return


class Knot(GenServer):
    """Calls whomever it is told to."""

    def init(self, *args: Any) -> None:
        pass

    async def handle_call(self, request: Any, caller: object) -> object:
        return await call(request[0], request[1:], timeout=100.0)


async def test_a_circle_of_calls_is_found(node):
    """Processes that wait for each other are named in their order, once."""
    for name in ("a", "b", "c"):
        await start(Knot, name=name)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, "a", ("b", "c", "a"))
        await wait_all_tasks_blocked()
        circles = [one for one in await findings(node) if "circle" in one[2]]
        names = {name: node.table.names[name].pid for name in "abc"}
        a, b, c = (f"{name} {pid!r}" for name, pid in names.items())
        assert circles == [("bad", "a", f"is in a circle of calls: {a} -> {b} -> {c} -> {a}")]
        nursery.cancel_scope.cancel()


async def test_suspended_full_and_failing_are_told(node):
    """A held process, a full mailbox, used restarts, a recent crash and a stall each have their line."""
    await sys.suspend("wallet/p-7")
    await sys.suspend("safe")
    node.table.names["table/t-042"].limit = 4
    await cast("table/t-042", 0)
    await wait_all_tasks_blocked()
    for number in range(2):
        send_nowait("table/t-042", number)
    await sys.resume("safe")
    for _ in range(2):
        with pytest.raises(CalleeExited):
            await call("safe", "break")
        await wait_all_tasks_blocked()
    safe = node.table.names["safe"]
    for listener in node.table.stall_listeners:
        listener(Stall(node.table.world.wall(), safe.pid, "Safe", ("safe",), "int", 0.5, ""))
    told = await findings(node)
    for one in [
        ("bad", "table/t-042", "has 2 of 4 messages waiting"),
        ("bad", "Bank", "has used 2 of 3 restarts in 5 s"),
        ("warn", "wallet/p-7", "is suspended, with 1 messages waiting"),
        ("warn", "safe", "crashed 2 times in the last 5 minutes"),
        ("warn", "safe", "held the loop for 0.50 s"),
    ]:
        assert one in told
    assert [one[0] for one in told] == sorted((one[0] for one in told), key=["bad", "warn", "note"].index)


async def test_many_callers_of_one_are_counted(node):
    """One that keeps several others waiting is named with them."""
    for name in ("a", "b", "c"):
        await start(Knot, name=name)
    async with trio.open_nursery() as nursery:
        for name in ("a", "b", "c"):
            nursery.start_soon(ask, name, ("wallet/p-7", 1))
        await wait_all_tasks_blocked()
        (told,) = [one for one in await findings(node) if "callers" in one[2]]
        assert told[:2] == ("warn", "wallet/p-7")
        assert told[2].startswith("keeps 3 callers waiting: ")
        nursery.cancel_scope.cancel()
