"""Processes that rest without a task, when the room in which they would get one has closed."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from runtime.kernel.exits import KILLED
from runtime.kernel.process import Process
from runtime.kernel.table import context_of
from supervisors import Node


async def _body(_process: Process, _argument: object) -> object:
    raise AssertionError("it gets no task any more")


@pytest.mark.parametrize(
    "touch",
    [lambda one: one.offer("late"), lambda one: one.post("late"), lambda one: one.interrupt(KILLED)],
    ids=["offer", "post", "interrupt"],
)
async def test_who_signals_a_process_whose_room_has_closed_is_not_struck(touch: Any) -> None:
    """The process ends, as it was about to; to its sender it is like any other that has just ended."""
    async with Node("n") as node:
        async with trio.open_nursery() as room:
            process = node.table.create("resting")
            node.table.begin(process, context_of(process), _body, nursery=room, rest=True)
        touch(process)
        assert process.pid._process is None
        assert process.pid.number not in node.table.processes
