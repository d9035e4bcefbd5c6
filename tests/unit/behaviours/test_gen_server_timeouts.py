"""The timeout that a callback asks for: when it fires, what cancels it, what starts it anew."""

from __future__ import annotations

import math

import pytest
import trio

from runtime import (
    HIBERNATE,
    TIMEOUT,
    Continue,
    GenServer,
    NoReply,
    Reply,
    call,
    cast,
    cast_nowait,
    self_pid,
    send_nowait,
    spawn,
    start,
    start_timer,
    sys,
)
from tests.support.processes import as_process
from tests.unit.behaviours.servers import KINDS, Plain


def timed(seconds: float):
    """A callback's result: a timeout."""
    return lambda server, *_caller: NoReply(seconds)


async def fired(pid, seconds: float) -> list[tuple[float, object]]:
    """What a server has logged with its seconds after this many virtual seconds."""
    with trio.move_on_after(seconds):
        await trio.sleep_forever()
    state = await sys.get_state(pid)
    assert isinstance(state, dict)
    return state["log"]


class Clock(Plain):
    """Notes each message with the virtual second of its coming."""

    def _do(self, what, where):
        if callable(what):
            return what(self)
        self.log.append((trio.current_time(), what))
        return None


@pytest.mark.parametrize("where", ["init", "cast", "info", "continue", "call", "reply"])
@pytest.mark.parametrize("seconds", [0.001, 2.0])
@as_process
async def test_silence_gives_a_timeout(node, where, seconds):
    """After as many seconds without a message `handle_info(TIMEOUT)` runs, once (N21)."""
    pid = await start(Clock, timed(seconds) if where == "init" else None)
    match where:
        case "cast":
            await cast(pid, timed(seconds))
        case "info":
            send_nowait(pid, timed(seconds))
        case "continue":
            await cast(pid, lambda server: Continue(timed(seconds)))
        case "call":
            spawn(call, pid, timed(seconds))
        case "reply":
            await call(pid, lambda server, caller: Reply(1, timeout=seconds))
    assert await fired(pid, 100) == [(seconds, TIMEOUT)]


@as_process
async def test_any_message_cancels_a_timeout(node):
    """An ordinary message ends the timeout even if its callback returns none (N21)."""
    pid = await start(Clock, timed(5))
    for send in (lambda: send_nowait(pid, "info"), lambda: cast_nowait(pid, "cast")):
        await cast(pid, timed(5))
        with trio.move_on_after(3):
            await trio.sleep_forever()
        send()
        await trio.testing.wait_all_tasks_blocked()
    await cast(pid, timed(5))
    await call(pid, "a call")
    assert await fired(pid, 100) == [(3.0, "info"), (6.0, "cast")]


@as_process
async def test_a_timeout_may_be_set_again_by_each_message(node):
    """A callback that returns a timeout starts it anew (N21)."""
    pid = await start(Clock)
    for _ in range(3):
        await cast(pid, timed(5))
        with trio.move_on_after(4):
            await trio.sleep_forever()
    assert await fired(pid, 100) == [(13.0, TIMEOUT)]


@as_process
async def test_a_timeout_may_repeat(node):
    """`handle_info(TIMEOUT)` may ask for the next one (N21)."""

    class Ticks(GenServer):
        def init(self):
            self.log = []
            return NoReply(1)

        def handle_info(self, message):
            self.log.append((trio.current_time(), message))
            return NoReply(1) if len(self.log) < 3 else None

    assert await fired(await start(Ticks), 100) == [(1.0, TIMEOUT), (2.0, TIMEOUT), (3.0, TIMEOUT)]


@as_process
async def test_timeout_zero_fires_if_nothing_waits(node):
    """With 0 the timeout comes at once, unless a message is there (N21)."""
    pid = await start(Clock)
    await cast(pid, timed(0))
    assert await fired(pid, 1) == [(0.0, TIMEOUT)]
    await sys.suspend(pid)
    await cast(pid, timed(0))
    await cast(pid, "there")
    await sys.resume(pid)
    assert await fired(pid, 1) == [(0.0, TIMEOUT), (1.0, "there")]


@as_process
async def test_an_infinite_timeout_is_none(node):
    """math.inf means no timeout (N21)."""
    pid = await start(Clock, timed(math.inf))
    assert await fired(pid, 1e5) == []
    assert await call(pid, "alive") == "alive"


@as_process
async def test_a_system_message_starts_the_wait_anew(node):
    """Looking at a server restarts the whole wait of its timeout (N21)."""
    pid = await start(Clock, timed(5))
    for _ in range(2):
        assert await fired(pid, 3) == []
    assert await fired(pid, 100) == [(11.0, TIMEOUT)]


@as_process
async def test_a_suspended_servers_timeout_does_not_run(node):
    """While suspended no timeout fires; after resume the wait runs anew (N21)."""
    pid = await start(Clock, timed(5))
    await sys.suspend(pid)
    assert await fired(pid, 100) == []
    await sys.resume(pid)
    assert await fired(pid, 100) == [(105.0, TIMEOUT)]


@as_process
async def test_a_timer_of_the_server_is_a_message_like_any(node):
    """What `start_timer` sends is handled by `handle_info` and cancels a timeout (N21, T1)."""
    refs = []

    def sets(server):
        refs.append(start_timer(2, self_pid(), "ring")[1])
        return NoReply(5)

    pid = await start(Clock)
    await cast(pid, sets)
    log = await fired(pid, 100)
    assert [(at, type(m).__name__, m.ref, m.message) for at, m in log] == [  # type: ignore[attr-defined]  # a Timeout
        (2.0, "Timeout", refs[0], "ring")
    ]


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_hibernating_changes_nothing(node, kind):
    """HIBERNATE is taken wherever OTP takes `hibernate`, and does nothing: the next message is handled (N26)."""
    pid = await start(kind, NoReply(HIBERNATE), log := [])
    await trio.sleep(10)  # virtual
    assert await call(pid, lambda server, caller: Reply("rests", timeout=HIBERNATE)) == "rests"
    await cast(pid, lambda server: NoReply(HIBERNATE))
    await trio.sleep(10)  # virtual
    assert (await call(pid, "wakes"), log) == ("wakes", [])
