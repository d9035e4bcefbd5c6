"""What a process does between two awaits is one slice, which nothing comes into (rules P43, P46)."""

from __future__ import annotations

import trio

from runtime import Down, exit, is_alive, monitor, process_info, receive, send_nowait, spawn
from tests.support.processes import as_process, idle, mail


@as_process
async def test_a_signal_acts_at_the_receivers_next_checkpoint(node):
    """One that may already go on does so up to its next wait, and is ended there (P43)."""
    gate, steps = trio.Event(), []

    async def victim():
        await gate.wait()
        steps.append("went on")
        await trio.lowlevel.checkpoint()
        steps.append("and on")

    pid = spawn(victim)
    await mail()
    ref = monitor(pid)
    gate.set()
    exit(pid, "boom")
    assert not is_alive(pid)
    assert (await mail(), steps) == ([Down(ref, pid, "boom")], ["went on"])


@as_process
async def test_what_a_slice_sends_is_there_at_once(node):
    """Message and exit mark are at the receiver before the sender's slice is over, and nobody has run yet (P46)."""
    ran = []

    async def receiver():
        ran.append(await receive())

    pid, other = spawn(receiver), spawn(idle)
    await mail()
    send_nowait(pid, "hello")
    send_nowait(other, "hello")
    exit(pid, "boom")
    info = process_info(other)
    assert info is not None
    assert (info.queue, is_alive(pid), ran) == (1, False, [])


@as_process
async def test_a_slice_is_undivided(node):
    """A hundred processes that read, send and write back lose nothing, because nobody comes between (P46)."""
    box = {"count": 0}
    sink = spawn(idle)

    async def adds():
        for _ in range(10):
            seen = box["count"]
            send_nowait(sink, seen)
            box["count"] = seen + 1
            await trio.lowlevel.checkpoint()

    for _ in range(100):
        spawn(adds)
    await mail()
    assert box["count"] == 1000
