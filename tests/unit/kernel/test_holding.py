"""Holding: a process that only waits is suspended without being woken, and goes on with all that has come."""

from __future__ import annotations

import trio

from runtime import KILL, GenServer, call, exit, send, start
from runtime.behaviours import sys
from runtime.kernel.holding import hold, let_go
from tests.support.linked import settled
from tests.support.processes import as_process


class Keeps(GenServer):
    """Keeps what it gets."""

    def init(self):
        self.got = []

    def handle_info(self, message):
        self.got.append(message)

    def handle_call(self, request, caller):
        return list(self.got)


class Waits(Keeps):
    """One that may wait within a callback."""

    async def handle_info(self, message):
        await trio.lowlevel.checkpoint()
        self.got.append(message)


@as_process
async def test_who_is_held_serves_nothing_until_it_is_let_go(node):
    """Whether it has a task already or none yet: what comes waits, in order, and is served afterwards."""
    for woken in (False, True):
        pid = await start(Keeps)
        if woken:
            assert await call(pid, "what?") == []
        process = pid._process
        assert hold(process)
        assert not hold(process)
        for number in range(3):
            await send(pid, number)
        await settled()
        assert process.behaviour.got == []
        let_go(process)
        let_go(process)
        assert await call(pid, "what?") == [0, 1, 2]


@as_process
async def test_who_is_at_something_is_not_held(node):
    """One that has mail, is suspended, or may be in the middle of a callback is to be asked instead."""
    pid = await start(Keeps)
    await send(pid, 1)
    assert not hold(pid._process)
    await settled()
    await sys.suspend(pid)
    assert not hold(pid._process)
    let_go(pid._process)
    assert pid._process.suspended
    waits = await start(Waits)
    await call(waits, "what?")
    assert not hold(waits._process)


@as_process
async def test_a_signal_ends_who_is_held(node):
    """A kill does not wait until a process is let go."""
    for woken in (False, True):
        pid = await start(Keeps)
        if woken:
            await call(pid, "what?")
        process = pid._process
        assert hold(process)
        exit(pid, KILL)
        await settled()
        assert pid._process is None
        let_go(process)
