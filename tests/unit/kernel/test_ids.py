"""Pids and references: values that name one incarnation, one monitor, one timer."""

from __future__ import annotations

import pytest
import trio

from runtime import NORMAL, Pid, monitor, self_pid, spawn, start_timer
from supervisors import Node
from tests.support.processes import as_process, end_of, idle, running_node


@as_process
async def test_a_pid_is_never_used_again(node):
    """No two processes of a node's life have equal pids, dead ones included (P47)."""
    pids = []
    for _ in range(50):
        pid = spawn(trio.lowlevel.checkpoint)
        pids.append(pid)
        assert await end_of(pid) is NORMAL
    assert len(set(pids)) == 50


async def test_equal_pids_mean_the_same_incarnation():
    """A pid is a value: node, creation and number decide equality, and equal ones hash alike (P47)."""
    pid = Pid("n", 1, 7)
    others = [Pid("m", 1, 7), Pid("n", 2, 7), Pid("n", 1, 8), "<1.7>", None]
    assert (pid, hash(pid), repr(pid)) == (Pid("n", 1, 7), hash(Pid("n", 1, 7)), "<1.7>")
    assert [pid == other for other in others] == [False] * 5


async def test_pids_of_two_nodes_differ():
    """Two nodes of one program count alone, and their pids are still different (P47)."""
    async with running_node("one"):
        first = spawn(idle)
        async with Node("two"):
            second = spawn(idle)
    assert (first.number, first.node, second.node) == (second.number, "one", "two")
    assert first != second


@as_process
async def test_each_reference_is_equal_to_itself_only(node):
    """Every monitor and timer has a reference of its own (P21)."""
    refs = [monitor(self_pid()), monitor(self_pid()), start_timer(1, self_pid(), None)[1]]
    assert len(set(refs)) == 3
    assert [one == other for one in refs for other in refs] == [one is other for one in refs for other in refs]


@pytest.mark.parametrize("field", ["node", "creation", "number"])
async def test_a_pid_says_of_whom_it_is(node, field):
    """A pid names its node, that node's incarnation and the process."""
    pid = spawn(idle)
    assert getattr(pid, field) == {"node": "test", "creation": 1, "number": pid.number}[field]
