"""Moves of shards over the admin socket and in typed lines: who is asked what, and what a person reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runtime.observe.protocol import Code, Refusal
from supervisors.cli import completion, target
from supervisors.node import admin
from tests.unit.observe.talk import open_node, talk

MOVE = {
    "id": "m1",
    "shard": 3,
    "source": "a",
    "target": "b",
    "phase": "copying",
    "bytes": 10,
    "total": 20,
    "held": 1,
    "freeze_ms": None,
    "why": "",
    "started": 0.0,
    "ended": 0.0,
}
STANDING = {"node": "a", "draining": True, "owned": 4, "why": ""}


class Steered:
    """Notes what it is asked."""

    def __init__(self, table: object) -> None:
        pass

    async def moves(self, of: str | None) -> dict[str, Any]:
        return {"node": "a", "moves": [MOVE], "nodes": [STANDING], "silent": []}

    async def forecast(self, shard: int, node: str) -> dict[str, Any]:
        return {"forecast": [shard, node]}

    async def plan(self) -> dict[str, Any]:
        return {"moves": [], "silent": []}

    async def move(self, shard: int, node: str) -> dict[str, Any]:
        if node == "nobody":
            raise Refusal(f"shard {shard} was not moved", "there is no node 'nobody'", "banyan nodes", Code.NOT_FOUND)
        return {"move": "m1", "shard": shard, "source": "a", "target": node}

    async def abort(self, move: str) -> dict[str, Any]:
        return {**MOVE, "id": move}

    async def drain(self, node: str | None, *, on: bool) -> dict[str, Any]:
        return {**STANDING, "node": node or "test", "draining": on}

    async def adopt(self, node: str, *, undo: bool) -> dict[str, Any]:
        return {"node": node, "by": "a", "data": "/b", "shards": 0 if undo else 3}

    async def rebalance(self) -> dict[str, Any]:
        return {"asked": ["a"], "silent": ["b"]}


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a node listens that has somebody else to move its shards."""
    monkeypatch.setattr(admin, "ShardSteering", Steered)
    return tmp_path / "n.sock"


async def test_each_operation_is_asked_of_whoever_moves_shards(path):
    """With its own fields; half a plan is wrong usage, and what is refused has its three parts and its code."""
    async with open_node(path), talk(path) as client:
        assert (await client.ask("moves", of="b"))["moves"] == [MOVE]
        assert await client.ask("plan", shard=3, node="b") == {"forecast": [3, "b"]}
        assert await client.ask("plan") == {"moves": [], "silent": []}
        for half in ({"shard": 3}, {"node": "b"}):
            error = await client.ask("plan", **half)
            assert (error["code"], error["next"]) == (2, "name both, or neither")
        assert (await client.ask("move", shard=3, node="b"))["move"] == "m1"
        error = await client.ask("move", shard=3, node="nobody")
        assert (error["code"], error["why"]) == (4, "there is no node 'nobody'")
        assert (await client.ask("abort", move="m2"))["id"] == "m2"
        assert (await client.ask("adopt", node="b"))["shards"] == 3
        assert (await client.ask("adopt", node="b", undo=True))["shards"] == 0
        assert await client.ask("drain", node="b", undo=True) == {**STANDING, "node": "b", "draining": False}
        assert await client.ask("rebalance") == {"asked": ["a"], "silent": ["b"]}
        for fields in ({"shard": -1, "node": "b"}, {"shard": "3", "node": "b"}, {"shard": 3, "node": ""}, {"shard": 3}):
            assert (await client.ask("move", **fields))["code"] == 2


async def test_typed_lines_move_shards(path):
    """moves, move, abort and drain are there, named without a call they say what they do, and they answer in words."""
    async with open_node(path, allow_eval=True), talk(path) as client:

        async def typed(line: str) -> Any:
            return (await client.ask("eval", source=line))["value"]

        assert "m1      3  a     b   copying" in await typed("await moves()")
        assert (await typed("await move(3, 'b')")).startswith("m1: shard 3 goes from a to b")
        assert await typed("await abort('m1')") == "the move of shard 3 is given up; a serves it as before"
        assert (await typed("await drain()")).startswith("test gives its shards away, and has 4")
        assert (await typed("await drain('b', undo=True)")).startswith("b takes part again")
        assert (await typed("drain")).startswith("await drain(node: 'str | None' = None, *, undo: 'bool' = False)")
        assert "there is no node 'nobody'" in (await client.ask("eval", source="await move(3, 'nobody')"))["error"]


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["drain", "b"], ["bo", "boa"]),
        (["drain", ""], ["ape", "bo", "boa"]),
        (["move", "3", "a"], ["ape"]),
        (["moves", "--of", "bo"], ["bo", "boa"]),
        (["moves", "--abort", "m"], ["m1"]),
        (["moves", "--ab"], ["--abort"]),
        (["shards", "--of", "ap"], ["ape"]),
        (["mov"], ["move", "moves"]),
    ],
    ids=str,
)
def test_a_tab_offers_nodes_and_moves(monkeypatch, typed, offered):
    """Names of nodes where one is wanted, moves that run where one is to be given up."""

    def ask(_args: object, request: Any) -> dict[str, Any]:
        nodes = [{"name": name} for name in ("ape", "bo", "boa")]
        return {"nodes": nodes, "moves": [MOVE, {**MOVE, "id": "m2", "ended": 1.0}]}

    monkeypatch.setattr(target, "ask", ask)
    assert list(completion.words(typed)) == offered


def test_a_tab_without_a_node_offers_nothing(monkeypatch):
    """Nobody answers: nothing is offered, and nothing is raised."""

    def ask(_args: object, request: Any) -> dict[str, Any]:
        raise Refusal("no node runs", "none was found", "banyan start", Code.NOT_FOUND)

    monkeypatch.setattr(target, "ask", ask)
    assert list(completion.words(["drain", ""])) == []
    assert list(completion.words(["moves", "--abort", ""])) == []
