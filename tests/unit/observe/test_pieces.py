"""Whatever goes through all processes lets all others run meanwhile, and says the same as what reads at once."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from runtime import GenServer, send_nowait, sys
from runtime.kernel.exits import KILL
from runtime.observe import pieces, protocol
from runtime.observe.answers import Answerable, Answers
from runtime.observe.door import Door
from runtime.observe.facts import Facts
from runtime.observe.pieces import PIECE, in_pieces, least, list_json
from runtime.observe.processes import ps, ps_in_pieces
from runtime.observe.queries import tree, tree_json
from supervisors import DynamicSupervisor, Node, child, start_child

# Processes of the node that is asked: enough for several pieces.
MANY = 5 * PIECE


class Idle(GenServer):
    """Does nothing."""


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async with Node("test", data=":memory:") as node:
        pid = await node.start(DynamicSupervisor)
        for number in range(MANY):
            await start_child(pid, child(f"till-{number}", Idle, name=f"till/{number:04}", restart="temporary"))
        yield node


def answers(node: Node) -> Answers:
    """What a connection to the node's admin server would ask."""
    root = node.root._process
    assert root is not None
    return Answers(Door("unix:nowhere", node.root, Facts(1, 0.0)), root)


class Beside:
    """Counts how often others had a turn."""

    def __init__(self) -> None:
        self.turns = 0

    async def run(self) -> None:
        while True:
            self.turns += 1
            await trio.lowlevel.checkpoint()


ASKED: list[Answerable] = [
    protocol.Tree(),
    protocol.Tree(of="till-7"),
    protocol.Ps(),
    protocol.Ps(limit=100_000, sort="name"),
    protocol.Ps(sort="memory"),
    protocol.Info(of="0007"),
    protocol.State(of="till-7"),
    protocol.Stack(of="0007"),
    protocol.Names(),
    protocol.Names(prefix="1."),
    protocol.Complete(text="state till/00"),
    protocol.Doctor(),
    protocol.Trace(of=["till/000*"], seconds=0.01),
    protocol.Kill(target="0007"),
    protocol.Record(messages=1),
]


@pytest.mark.parametrize("request_", ASKED, ids=str)
async def test_a_question_about_all_is_answered_in_pieces(node, request_):
    """While a large node is read, everybody else has turns: as many as there are pieces, at the least."""
    beside = Beside()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(beside.run)
        await trio.lowlevel.checkpoint()
        before = beside.turns
        await answers(node).answer(request_)
        assert beside.turns - before >= MANY // PIECE - 2
        nursery.cancel_scope.cancel()


async def test_a_tree_in_pieces_is_the_tree(node):
    """Where nothing happens meanwhile the pieces make up the tree that is read at once."""
    assert json.loads(bytes(await tree_json(node.table, node.root))) == tree(node.table, node.root).to_json()


async def test_a_tree_stays_one_while_processes_come_and_go(node):
    """Who ends or starts while it is read may be missing or told as gone; the answer is whole all the same."""
    (shop,) = [one for one in node.table.processes.values() if isinstance(one.behaviour, DynamicSupervisor)]

    async def churn() -> None:
        for number in range(MANY):
            victim = node.table.names.get(f"till/{MANY - 1 - number:04}")
            if victim is not None:
                victim.exit_signal(node.root, KILL)
            await start_child(shop.pid, child("late", Idle, restart="temporary"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(churn)
        for _ in range(3):
            said = json.loads(bytes(await tree_json(node.table, shop.pid)))
            assert {one["state"] for one in said["children"]} <= {"running", "stopping", "restarting", "down"}
            assert len(said["children"]) >= MANY - 1
            listed = await ps_in_pieces(node.table, 100_000)
            assert len({row.pid for row in listed.rows}) == len(listed.rows)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("sort", ["mailbox", "oldest", "turns", "name", "pid"])
@pytest.mark.parametrize("limit", [1, 7, 100_000])
async def test_a_list_in_pieces_is_the_list(node, sort, limit):
    """Runs that are put in order one by one, and merged, are in the order of the whole."""
    for number in (5, 900, 17):
        await sys.suspend(f"till/{number:04}")
        send_nowait(f"till/{number:04}", number)
    await wait_all_tasks_blocked()
    at_once, in_parts = ps(node.table, limit, sort), await ps_in_pieces(node.table, limit, sort)
    assert [row.pid for row in in_parts.rows] == [row.pid for row in at_once.rows]


@contextmanager
def short_runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(pieces, "RUN", 3)
        yield


async def test_the_least_are_in_order_and_equals_as_they_came(monkeypatch):
    """As `sorted` would have it, whatever the runs."""
    found = [(7 * number % 5, number) for number in range(50)]
    with short_runs(monkeypatch):
        for limit in (0, 1, 4, 49, 60):
            assert await least(in_pieces(found, 2), limit, _first) == sorted(found, key=_first)[:limit]


def _first(pair: tuple[int, int]) -> int:
    return pair[0]


async def test_a_list_too_long_for_a_reply_is_refused_early(monkeypatch):
    """What could not be sent is not made to its end."""
    monkeypatch.setattr(pieces, "REPLY_LIMIT", 1000)
    assert json.loads(bytes(await list_json([]))) == []
    assert json.loads(bytes(await list_json([1, "x"]))) == [1, "x"]

    class Never:
        """Fails if it is encoded."""

    with pytest.raises(protocol.Refusal, match="too long") as caught:
        await list_json([*["x" * 10] * PIECE, *[Never()] * PIECE])
    assert caught.value.code == 1


async def test_one_may_leave_in_the_middle():
    """Whoever has found what they looked for goes, and nothing is left behind that would complain."""
    seen: list[Any] = []
    async for one in in_pieces(range(1000), 3):
        seen.append(one)
        if one == 10:
            break
    assert seen == list(range(11))
