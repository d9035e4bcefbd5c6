"""Processes that rest without a task, when the room in which they would get one has closed."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
import trio.testing

from runtime import CalleeExited, call
from runtime.kernel.exits import KILLED, SHUTDOWN
from runtime.kernel.process import Process
from runtime.kernel.table import context_of
from supervisors import Node


async def _body(_process: Process, _argument: object) -> object:
    raise AssertionError("it gets no task any more")


@pytest.mark.parametrize(
    ("touch", "reason"),
    [
        (lambda one: one.offer("late"), SHUTDOWN),
        (lambda one: one.post("late"), SHUTDOWN),
        (lambda one: one.interrupt(KILLED), KILLED),
    ],
    ids=["offer", "post", "interrupt"],
)
async def test_who_signals_a_process_whose_room_has_closed_is_not_struck(touch: Any, reason: object) -> None:
    """It is ended by whoever closed the room; to its sender it is like any other that is about to end."""
    async with Node("n") as node:
        process = await _without_a_room(node)
        touch(process)
        node.table.end_resting([process])
        assert process.pid._process is None
        assert process.pid.number not in node.table.processes
        assert process.exiting is reason


async def test_who_calls_a_process_whose_room_has_closed_is_told_of_its_end() -> None:
    """A caller that came between the closing of the room and the end of those who rest in it does not wait for ever."""
    async with Node("n") as node:
        process = await _without_a_room(node)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def caller() -> None:
                with pytest.raises(CalleeExited) as told:
                    await call(process.pid, "late", timeout=math.inf)
                assert told.value.reason is SHUTDOWN

            await trio.testing.wait_all_tasks_blocked()
            node.table.end_resting([process])


async def _without_a_room(node: Node) -> Process:
    """A process that rests, and whose nursery has closed."""
    async with trio.open_nursery() as room:
        process = node.table.create("resting")
        node.table.begin(process, context_of(process), _body, nursery=room, rest=True)
    return process
