"""Whom a person means: by pid, name, child's id, or the last word of a name."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from runtime import register, spawn
from runtime.observe.protocol import Refusal
from runtime.observe.targets import names, resolve
from supervisors import Node
from tests.unit.observe.bank import bank


@pytest.fixture
async def node(autojump_clock) -> AsyncIterator[Node]:
    async with bank() as node:
        yield node


async def test_all_ways_lead_to_one_process(node):
    """A pid with and without its brackets, a name, a child's id and the end of a name find the same process."""
    table = node.table.names["table/t-042"]
    ways = (table.pid, repr(table.pid), repr(table.pid).strip("<>"), "table/t-042", "t-042")
    assert [resolve(node.table, way) for way in ways] == [table] * len(ways)
    assert resolve(node.table, "ann") is node.table.names["account/ann"]


@pytest.mark.parametrize("target", ["", "nobody", "<1.999>", "9.1", "1.99999999999999999999", "/", "*", "a\x00b"])
async def test_a_stranger_is_not_found(node, target):
    """What nobody is called is code 4, and says where to look."""
    with pytest.raises(Refusal) as caught:
        resolve(node.table, target)
    assert (caught.value.what, caught.value.code) == (f"there is no process {target!r}", 4)


async def test_an_ambiguous_name_is_told_with_its_candidates(node):
    """If several end with the word, none is taken: code 4, with their names."""
    register("wallet/x", spawn(trio.sleep_forever))
    register("seat/x", spawn(trio.sleep_forever))
    with pytest.raises(Refusal) as caught:
        resolve(node.table, "x")
    assert (caught.value.why, caught.value.code) == ("2 fit: seat/x, wallet/x", 4)


async def test_names_and_pids_are_offered_for_completion(node):
    """Names come first, then pids; a prefix chooses, a limit cuts."""
    assert await names(node.table, "", 100) == sorted(node.table.names)
    assert await names(node.table, "w", 100) == ["wallet/p-7"]
    assert await names(node.table, "1.1", 2) == ["<1.1>"][:2]
    assert await names(node.table, "<1.", 3) == [repr(process.pid) for process in node.table.processes.values()][:3]
