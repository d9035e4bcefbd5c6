"""What seems wrong: each kind of fault is planted and found, and a healthy node has none."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from runtime import CalleeExited, CallTimeout, GenServer, call, cast, send_nowait, start, sys
from runtime.errors import CallFailed
from runtime.kernel.stalls import Stall
from runtime.observe.doctor import Finding, doctor
from runtime.observe.recorder import recorder_of
from supervisors import Node, Supervisor, region
from supervisors.shards.ports import PLACEMENT
from tests.support.processes import inside
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
        for seconds in (0.5, 0.001):
            listener(Stall(node.table.world.wall(), safe.pid, "Safe", ("safe",), "int", seconds, ""))
    told = await findings(node)
    for one in [
        ("bad", "table/t-042", "has 2 of 4 messages waiting"),
        ("bad", "Bank", "has used 2 of 3 restarts in 5 s"),
        ("warn", "wallet/p-7", "is suspended, with 1 messages waiting"),
        ("warn", "safe", "crashed 2 times in the last 5 minutes"),
        ("warn", "safe", "held the loop for 0.50 s"),
    ]:
        assert one in told
    # What was shorter than a stall is none: the whole program stood still.
    assert len([one for one in told if "held the loop" in one[2]]) == 1
    for finding in (await doctor(node.table)).findings:
        parse(finding.next)  # it is a command that there is
    assert [one[0] for one in told] == sorted((one[0] for one in told), key=["bad", "warn", "note"].index)


def parse(command: str) -> argparse.Namespace:
    """What a command line says. Raises if there is no such command, or it takes no such words."""
    banyan, word, *rest = command.split()
    assert banyan == "banyan"
    parser = argparse.ArgumentParser(exit_on_error=False)
    importlib.import_module(f"supervisors.cli.{word}").configure(parser)
    said, unknown = parser.parse_known_args(rest)
    assert unknown == []
    return said


async def test_many_callers_of_one_are_counted(node):
    """One that keeps several others waiting for long is named with them."""
    for name in ("a", "b", "c"):
        await start(Knot, name=name)
    async with trio.open_nursery() as nursery:
        for name in ("a", "b", "c"):
            nursery.start_soon(ask, name, ("wallet/p-7", 1))
        await wait_all_tasks_blocked()
        assert await findings(node) == []
        await trio.sleep(1.5)  # virtual
        (told,) = [one for one in await findings(node) if "callers" in one[2]]
        assert told[:2] == ("warn", "wallet/p-7")
        assert told[2].startswith("keeps 3 callers waiting, the first for 1.5 s: ")
        nursery.cancel_scope.cancel()


class Slow(GenServer):
    """An entity that takes its time; or calls the first of some others, which is told of the rest."""

    def init(self, key: str) -> None:
        pass

    async def handle_call(self, request: Any, caller: object) -> object:
        if isinstance(request, tuple):
            return await region("slow").call(request[0], request[1:], timeout=500.0)
        await trio.sleep(request)  # virtual
        return None


class Entities(Supervisor):
    """A region of them."""

    def init(self) -> Any:
        return [region("slow", Slow)]


async def visit(key: str, request: object) -> None:
    """Call an entity, from a process of the node, and do without the answer."""
    try:
        await region("slow").call(key, request, timeout=500.0)
    except CallFailed:
        return


async def test_a_circle_through_a_region_is_found(node):
    """Entities that wait for each other are named, though each waits on its way through the region."""
    await node.start(Entities)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inside, visit, "a", ("b", "a"))
        await wait_all_tasks_blocked()
        (circle,) = [one for one in await findings(node) if "circle" in one[2]]
        assert [word for word in circle[2].split() if "/" in word] == ["slow/a", "slow/b", "slow/a"]
        nursery.cancel_scope.cancel()


async def test_a_router_keeps_nobody_waiting(node):
    """Calls that go through a region are those of its entities: one that is slow is named, and not the way to it."""
    await node.start(Entities)
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(inside, visit, "one", 60.0)
        await wait_all_tasks_blocked()
        assert await findings(node) == []
        await trio.sleep(2)  # virtual
        told = [one for one in await findings(node) if "callers" in one[2]]
        assert [one[:2] for one in told] == [("warn", "slow/one")]
        assert told[0][2].startswith("keeps 4 callers waiting, the first for 2.0 s: ")
        nursery.cancel_scope.cancel()


async def test_who_is_waited_for_elsewhere_is_named(node):
    """An entity that is not here is named alone, with the router that sends on to it."""
    node.table.services[PLACEMENT] = _Nobodys()
    await node.start(Entities)
    router = node.table.names["region/slow"]
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(inside, visit, "two", 60.0)
        await trio.sleep(2)  # virtual
        (told,) = [one for one in (await doctor(node.table)).findings if "callers" in one.what]
        assert (told.who, told.next) == ("slow/two", "banyan shards")
        assert told.why == f"it is not here: region/slow {router.pid!r} sends on to it what they ask"
        nursery.cancel_scope.cancel()


class _Nobodys:
    """Shards without an owner."""

    shards = 8

    def owner(self, shard: int, /) -> None:
        return None
