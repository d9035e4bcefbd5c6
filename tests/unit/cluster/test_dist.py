"""Processes of other nodes by the kernel's verbs: messages, calls, exits, over links that carry real bytes."""

from __future__ import annotations

import math

import pytest
import trio

from runtime import (
    KILL,
    KILLED,
    NOCONNECTION,
    NOPROC,
    Answer,
    CalleeExited,
    CallTimeout,
    Down,
    Exit,
    Misuse,
    NoProcess,
    abcast,
    alias,
    call,
    cast,
    demonitor,
    exit,
    is_alive,
    link,
    monitor,
    multi_call,
    receive,
    register,
    self_pid,
    send,
    send_nowait,
    send_request,
    spawn,
    sys,
    unlink,
)
from runtime.cluster.asking import spawn_on, spawnable
from runtime.errors import RemoteError
from runtime.kernel.elsewhere import at
from tests.support.linked import linked, seen_from, settled, started
from tests.support.processes import idle, mail

from .counting import Counter


@spawnable("tests.idle")
async def _idle() -> None:
    await trio.sleep_forever()


async def test_a_call_to_another_node_is_answered():
    """A call to a process of another node gives its reply; the request and the reply are copies."""
    async with linked("a", "b") as net:
        pid = seen_from(net, "a", await started(net, "b", Counter))

        async def body():
            request = ["x", ("y", 1)]
            reply = await call(pid, request)
            assert reply == request
            assert reply is not request

        await net["a"].run(body)


async def test_casts_and_messages_arrive_in_order():
    """Casts to another node are handled in the order of sending, and a call after them sees all of them (P34)."""
    async with linked("a", "b") as net:
        pid = seen_from(net, "a", await started(net, "b", Counter))

        async def body():
            for _ in range(100):
                await cast(pid, 1)
            assert await call(pid, "count") == 100

        await net["a"].run(body)


async def test_a_pid_that_comes_home_is_the_same_object():
    """A pid sent to another node and back is the very object, and its process is found by it."""
    async with linked("a", "b") as net:
        pid = seen_from(net, "a", await started(net, "b", Counter))

        async def body():
            me = self_pid()
            assert await call(pid, me) is me
            assert await call(pid, pid) is pid

        await net["a"].run(body)


async def test_a_message_can_be_answered_by_its_pid():
    """Who gets a pid from another node can send to it."""
    async with linked("a", "b") as net:

        async def echo():
            who, text = await receive()
            send_nowait(who, text)

        async def begin():
            register("echo", spawn(echo))

        await net["b"].run(begin)

        async def body():
            await send(at("echo", "b"), (self_pid(), "hello"))
            assert await receive() == "hello"

        await net["a"].run(body)


async def test_what_cannot_travel_is_misuse_at_the_sender():
    """A value that cannot be encoded raises where it is sent, and nothing is sent."""
    async with linked("a", "b") as net:
        pid = seen_from(net, "a", await started(net, "b", Counter))

        async def body():
            with pytest.raises(Misuse, match="a value that can travel"):
                await send(pid, object())
            with pytest.raises(Misuse, match="a value that can travel"):
                await call(pid, object())
            with pytest.raises(Misuse, match="at most"):
                await send(pid, b"x" * (1 << 20))

        await net["a"].run(body)
        assert net.links == {}


async def test_a_reply_that_cannot_travel_is_told_to_the_caller():
    """The server that gives such a reply lives; its caller learns what was wrong."""
    async with linked("a", "b") as net:
        pid = seen_from(net, "a", await started(net, "b", Counter))

        async def body():
            with pytest.raises(RemoteError, match="a value that can travel"):
                await call(pid, "object")
            assert await call(pid, "count") == 0

        await net["a"].run(body)


async def test_a_refusal_comes_as_text():
    """An error with which a server refuses a call is a RemoteError elsewhere, with its type's name."""
    async with linked("a", "b") as net:
        pid = seen_from(net, "a", await started(net, "b", Counter))

        async def body():
            with pytest.raises(RemoteError) as caught:
                await call(pid, "fail")
            assert (caught.value.type_name, caught.value.text) == ("ValueError", "no")

        await net["a"].run(body)


async def test_a_callee_that_crashes_tells_its_reason():
    """The caller gets CalleeExited at once; the crash came as text, with its traceback."""
    async with linked("a", "b") as net:
        pid = seen_from(net, "a", await started(net, "b", Counter))

        async def body():
            with pytest.raises(CalleeExited) as caught:
                await call(pid, "crash")
            error = caught.value.reason.error
            assert isinstance(error, RemoteError)
            assert error.type_name == "KeyError"
            assert "raise KeyError" in error.remote_traceback
            with pytest.raises(NoProcess):
                await call(pid, "count")
            await send(pid, "vanishes")  # P32

        await net["a"].run(body)


async def test_a_call_whose_node_is_lost_fails_with_noconnection():
    """A call across a lost connection ends with NOCONNECTION at once, and so does a send_request (N10)."""
    async with linked("a", "b") as net:
        pid = seen_from(net, "a", await started(net, "b", Counter))

        async def body():
            assert await call(pid, "count") == 0
            send_request(pid, "never", "mine")
            async with trio.open_nursery() as nursery:

                async def cut():
                    await settled()
                    net.cut("a", "b")

                nursery.start_soon(cut)
                with pytest.raises(CalleeExited) as caught:
                    await call(pid, "never", timeout=math.inf)
            assert caught.value.reason is NOCONNECTION
            assert await receive() == Answer("mine", None, NOCONNECTION, failed=True)

        await net["a"].run(body)


async def test_a_late_reply_is_dropped():
    """A caller that has timed out never sees the reply, and nothing is left of its call (N7)."""
    async with linked("a", "b") as net:
        pid = seen_from(net, "a", await started(net, "b", Counter))

        async def body():
            await call(pid, "count")
            net.pause()
            with pytest.raises(CallTimeout):
                await call(pid, "late", timeout=1)
            net.resume()
            assert await call(pid, "count") == 0
            assert await mail() == []

        await net["a"].run(body)
        assert net["a"].dist.peers["b"].pending == {}


async def test_an_exit_signal_reaches_another_node():
    """`exit` ends a process elsewhere, and says from whom; KILL cannot be trapped (P5-P8)."""
    async with linked("a", "b") as net:

        async def begin():
            async def trapping():
                register("seen")
                message = await receive()
                assert isinstance(message, Exit)
                await send(message.source, ("got", message.reason))
                await trio.sleep_forever()

            return spawn(idle), spawn(trapping, trap=True)

        plain, trapping = (seen_from(net, "a", pid) for pid in await net["b"].run(begin))

        async def body():
            ref = monitor(plain)
            exit(plain, ("any", 1))
            assert await receive() == Down(ref, plain, ("any", 1))
            exit(trapping, "well")
            assert await receive() == ("got", "well")
            ref = monitor(trapping)
            exit(trapping, KILL)
            assert await receive() == Down(ref, trapping, KILLED)

        await net["a"].run(body)


async def test_an_exit_reason_that_cannot_travel_becomes_text():
    """Nobody is there to be told that an exit reason cannot be encoded."""
    async with linked("a", "b") as net:

        async def begin():
            return spawn(idle)

        pid = seen_from(net, "a", await net["b"].run(begin))

        async def body():
            ref = monitor(pid)
            exit(pid, {1, 2})
            assert await receive() == Down(ref, pid, "{1, 2}")

        await net["a"].run(body)


async def test_whether_a_process_elsewhere_lives_cannot_be_asked():
    """`is_alive` is for processes of this node, as in OTP (P41)."""
    async with linked("a", "b") as net:
        pid = seen_from(net, "a", await started(net, "b", Counter))

        async def body():
            with pytest.raises(Misuse, match="monitor it"):
                is_alive(pid)
            with pytest.raises(Misuse, match="register_on"):
                register("mine", pid)
            with pytest.raises(Misuse, match="system messages"):
                await sys.get_state(pid)
            with pytest.raises(Misuse, match="system messages"):
                await sys.stop(pid)

        await net["a"].run(body)


async def test_names_of_another_node():
    """`at` reaches who has the name there now: a message to a free one vanishes, a call gets NoProcess (P33)."""
    async with linked("a", "b") as net:
        await started(net, "b", Counter, name="counter")

        async def body():
            counter = at("counter", "b")
            await cast(counter, 5)
            assert await call(counter, "count") == 5
            await send(at("nobody", "b"), "vanishes")
            await cast(at("nobody", "b"), 1)
            with pytest.raises(NoProcess):
                await call(at("nobody", "b"), "count")
            ref = monitor(at("nobody", "b"))
            assert await receive() == Down(ref, at("nobody", "b"), NOPROC)
            ref = monitor(counter)
            with pytest.raises(CalleeExited):
                await call(counter, "crash")
            down = await receive()
            assert (down.ref, down.monitored) == (ref, counter)

        await net["a"].run(body)


async def test_an_alias_is_an_address_for_other_nodes():
    """What is sent to an alias from elsewhere arrives until it is given up, then vanishes (P52)."""
    async with linked("a", "b") as net:
        pid = seen_from(net, "a", await started(net, "b", Counter))

        async def begin():
            async def echo():
                while True:
                    to, text = await receive()
                    await send(to, text)

            return spawn(echo)

        echo = seen_from(net, "a", await net["b"].run(begin))

        async def body():
            once, always = alias(reply=True), alias()
            assert await call(pid, once) is once
            for to in (once, once, always, always):
                await send(echo, (to, "text"))
            await call(pid, "count")
            assert await mail() == ["text", "text", "text"]

        await net["a"].run(body)


async def test_unlink_and_demonitor_elsewhere():
    """After unlink and demonitor nothing comes of a death elsewhere (P17, P27)."""
    async with linked("a", "b") as net:

        async def body():
            pid = await spawn_on("b", "tests.idle")
            link(pid)
            ref = monitor(pid)
            link(pid)
            unlink(pid)
            assert demonitor(ref) is True
            assert demonitor(ref) is False
            exit(pid, "gone")
            await settled()
            assert await mail() == []

        await net["a"].run(body)
        for host in (net["a"], net["b"]):
            for peer in host.dist.peers.values():
                assert (peer.tied, peer.watching, peer.watched, peer.pending) == ({}, {}, {}, {})


async def test_a_multi_call_asks_several_nodes():
    """The replies by node, and the nodes that did not reply in time or have nobody of that name (N25, N11)."""
    async with linked("a", "b", "c", "d") as net:
        for name in "ab":
            await started(net, name, Counter, name="counter")

        async def body():
            async def silent():
                register("counter")
                await trio.sleep_forever()

            async def begin():
                spawn(silent)

            await net["d"].run(begin)
            abcast("counter", 2, "abcd")
            replies, missing = await multi_call("counter", "count", ["d", "b", "c", "a", "x"], timeout=1)
            assert (replies, missing) == ({"b": 2, "a": 2}, ["d", "c", "x"])
            assert await multi_call("counter", "count", timeout=1) == ({"a": 2, "b": 2}, ["c", "d"])
            with pytest.raises(Misuse):
                await multi_call("counter", object(), ["b"])

        await net["a"].run(body)


async def test_an_alias_of_a_node_that_nobody_knows():
    """What is sent to it vanishes, as to any address that is over."""
    async with linked("a", "b") as net:
        unknown = net["a"].dist.ref_of("elsewhere", 1, 5)

        async def body():
            assert net["a"].dist.ref_of("elsewhere", 1, 5) is unknown
            send_nowait(unknown, "vanishes")
            with pytest.raises(CalleeExited):
                await call(unknown, "anything")
            for number in range(3000):
                await cast(at(f"name {number}", "b"), 1)

        await net["a"].run(body)
        assert len(net["a"].dist.peers["b"].names) <= 1024
