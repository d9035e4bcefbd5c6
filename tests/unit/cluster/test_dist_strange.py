"""What nobody understands comes from another node: records and frames are counted and dropped, the link stays."""

from __future__ import annotations

import pytest

from runtime import (
    call,
    message,
)
from runtime.cluster import terms
from runtime.cluster.wire import Frame, Kind, encode
from runtime.errors import RemoteError
from runtime.kernel import messages
from tests.support.linked import linked, seen_from, started

from .counting import Adder


async def test_a_record_that_is_not_known_there():
    """A call with it is answered by a RemoteError, a cast is dropped and counted, and the link stays."""
    async with linked("a", "b") as net:
        pid = seen_from(net, "a", await started(net, "b", Adder))

        @message("tests.strange")
        class Strange:
            one: int

        async def body():
            await call(pid, "sum")
            with pytest.MonkeyPatch.context() as patch:
                encoded = terms.encode(net["a"].dist, Strange(1))
                patch.delitem(messages._registered, "tests.strange")
                linked_ = net["a"].dist.peers["b"].link
                linked_.push(encode(Frame(Kind.SEND, pid.number, 0, encoded)))
                send_request = call(pid, Strange(2))
                with pytest.raises(RemoteError, match=r"tests\.strange"):
                    await send_request
            assert await call(pid, "sum") == 0
            assert net["a"].dist.peers["b"].link is linked_

        await net["a"].run(body)
        assert net["b"].dist.dropped["undecodable"] == 2
        messages._registered.pop("tests.strange")


async def test_frames_that_say_nothing_are_dropped():
    """Malformed payloads of every kind are counted, and the link goes on."""
    async with linked("a", "b") as net:
        pid = seen_from(net, "a", await started(net, "b", Adder))

        async def body():
            await call(pid, "sum")
            line = net["a"].dist.peers["b"].link
            for kind in (*range(16, 27), 5):
                for to in (0, pid.number, 2**64 - 1):
                    for payload in (b"", b"\xff", b"\x82\x61x\x01", bytes(9), b"\xc4\x82\x01\x01"):
                        if (kind, to) != (Kind.EXIT, pid.number):
                            line.push(encode(Frame(kind, to, 2**63, payload)))
            assert await call(pid, "sum") == 0

        await net["a"].run(body)
        assert net["b"].dist.dropped.keys() == {"malformed", "undecodable", "nobody"}
