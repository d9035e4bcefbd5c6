"""Messages to another node when the receiver has no room: credit holds senders back, and order stays."""

from __future__ import annotations

import math

import pytest
import trio

from runtime import (
    Busy,
    Down,
    MailboxFull,
    call,
    exit_with,
    monitor,
    receive,
    register,
    self_pid,
    send,
    send_nowait,
    spawn,
    start,
)
from tests.support.linked import linked, seen_from, settled
from tests.support.processes import idle

from .counting import Counter


async def test_a_full_mailbox_elsewhere():
    """A message to a full mailbox waits at the receiver, a call is Busy, and credit bounds what may wait."""
    async with linked("a", "b", window=400) as net:

        async def begin():
            async def reader():
                got = [await receive(lambda m: m == "go")]
                while len(got) < 10:
                    got.append(await receive())
                register("done")
                assert got[1:] == list(range(9))
                await trio.sleep_forever()

            return spawn(reader, limit=2)

        pid = seen_from(net, "a", await net["b"].run(begin))

        async def body():
            sent = []

            async def sender():
                for index in range(9):
                    await send(pid, index, timeout=math.inf)
                    sent.append(index)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(sender)
                await settled()
                held = len(net["b"].table.processes[pid.number].senders)
                assert held > 0
                assert len(sent) == 9 or net["a"].dist.peers["b"].blocked
                with pytest.raises(Busy):
                    await call(pid, "count")
                net["b"].table.processes[pid.number].post("go")

        await net["a"].run(body)
        await settled()
        assert "done" in net["b"].table.names


async def test_credit_holds_senders_back():
    """With its credit used up a sender waits, and times out with MailboxFull; calls go on."""
    async with linked("a", "b", window=300) as net:

        async def begin():
            return spawn(idle, limit=1), await start(Counter)

        full, counter = await net["b"].run(begin)
        full, counter = seen_from(net, "a", full), seen_from(net, "a", counter)

        async def body():
            async def sender():
                for _ in range(100):
                    await send(full, "x" * 40, timeout=1)
                    await settled()

            with pytest.raises(MailboxFull):
                await sender()
            with pytest.raises(MailboxFull, match="node 'b'"):
                send_nowait(full, "x")
            assert await call(counter, "count") == 0
            net["b"].table.processes[full.number].interrupt("gone")
            await settled()
            send_nowait(full, "x")

        await net["a"].run(body)


async def test_signals_wait_behind_held_messages():
    """The Down of a process comes after all that it had sent, also when that had to wait for room (P35)."""
    async with linked("a", "b") as net:
        got = []

        async def begin():
            async def reader():
                who = await receive()
                ref = monitor(who)
                send_nowait(who, "start")
                await receive(lambda m: m == "go")
                while True:
                    message = await receive()
                    got.append(message)
                    if isinstance(message, Down):
                        assert message == Down(ref, who, "over")
                        break

            return spawn(reader, limit=2)

        pid = seen_from(net, "a", await net["b"].run(begin))

        async def body():
            async def talker():
                await send(pid, self_pid())
                await receive()
                for index in range(8):
                    await send(pid, index)
                exit_with("over")

            spawn(talker)
            await settled()
            net["b"].table.processes[pid.number].post("go")
            await settled()

        await net["a"].run(body)
        assert got[:-1] == list(range(8))
