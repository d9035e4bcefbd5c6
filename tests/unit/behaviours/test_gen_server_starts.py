"""Starts that monitor, and starts that were not to be."""

from __future__ import annotations

import pytest
import trio

from runtime import (
    IGNORE,
    KILL,
    KILLED,
    NORMAL,
    AlreadyStarted,
    Continue,
    Crash,
    Down,
    NotAProcess,
    StartFailed,
    StartIgnored,
    Stop,
    exit_with,
    is_alive,
    register,
    self_pid,
    start,
    start_link,
    start_monitor,
    sys,
)
from tests.support.processes import as_process, exit_and_wait, mail
from tests.unit.behaviours.servers import KINDS, Plain, Waits


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_start_monitor_gives_a_pid_and_a_reference(node, kind):
    """The caller monitors the new process, without a link; it hears of its end once (N28)."""
    pid, ref = await start_monitor(kind, name="watched")
    assert (await sys.get_status("watched")).parent is None
    assert await exit_and_wait(pid, KILL) == KILLED
    assert await mail() == [Down(ref, pid, KILLED)]


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_start_monitor_tells_the_true_reason_of_an_early_end(node, kind):
    """A process that ends right after its `init` gives its own reason, never NOPROC (N28)."""
    pid, ref = await start_monitor(kind, lambda server: Continue(lambda server: Stop("at once")))
    assert await mail() == [Down(ref, pid, "at once")]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["stop", "raise", "exit", "ignore", "taken"])
@as_process
async def test_a_failed_start_leaves_no_down(node, kind, how):
    """When the start fails its error says all: no Down arrives (N28, L3)."""
    register("taken", self_pid())
    firsts = {
        "stop": lambda server: Stop("full"),
        "raise": lambda server: 1 / 0,
        "exit": lambda server: exit_with("gone"),
        "ignore": lambda server: IGNORE,
    }
    with pytest.raises(StartFailed) as caught:
        await start_monitor(kind, firsts.get(how), name="taken" if how == "taken" else None)
    reason = caught.value.reason
    assert reason in ("full", "gone", NORMAL, AlreadyStarted(self_pid())) or isinstance(reason, Crash)
    assert await mail() == []


@as_process
async def test_a_start_that_takes_too_long_leaves_no_down(node):
    """The same when `init` ran out of time, or the starter gave up (N28, L4)."""

    class Slow(Waits):
        async def init(self):
            await trio.sleep(10)  # virtual

    with pytest.raises(StartFailed) as caught:
        await start_monitor(Slow, timeout=3)
    assert caught.value.reason == "timeout"
    with trio.move_on_after(2):
        await start_monitor(Slow)
    assert (await mail(), trio.current_time()) == ([], 5.0)


async def test_only_a_process_can_monitor(node):
    """Host code has no mailbox for a Down (N28)."""
    with pytest.raises(NotAProcess):
        await start_monitor(Plain)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("starting", [start, start_link])
@as_process
async def test_to_be_ignored_is_told_from_a_failure(node, kind, starting):
    """`IGNORE` is StartIgnored; an `init` that ends with NORMAL by itself is a plain StartFailed (L5, N1)."""
    with pytest.raises(StartIgnored) as ignored:
        await starting(kind, lambda server: IGNORE)
    with pytest.raises(StartFailed) as failed:
        await starting(kind, lambda server: Stop(NORMAL))
    assert (ignored.value.reason, failed.value.reason) == (NORMAL, NORMAL)
    assert not isinstance(failed.value, StartIgnored)
    assert await mail() == []


@pytest.mark.parametrize("kind", KINDS)
@as_process
async def test_a_stop_with_a_reply_is_no_way_to_fail_a_start(node, kind):
    """`init` replies to nobody: a Stop with a reply is a bad return (N1, N16)."""
    with pytest.raises(StartFailed, match="BadReturn"):
        await start(kind, lambda server: Stop("full", "a reply"), name="free")
    assert is_alive(await start(kind, name="free"))
