"""The processes that `remote` measures: two nodes, or two bare Trio programs for the floors.

    python -m benchmarks.remote_nodes node|floor a|b PORT KEYS    # "-" for KEYS: clear text

b listens and serves. a connects, says that it is ready, and for each line `WORK<TAB>COUNT` does so much of it and
prints how many a second that were.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import trio

from runtime import GenServer, Pid, at, call, cast, receive, self_pid, send_nowait, spawn, start
from runtime.cluster.tls import Keys
from supervisors import Node
from supervisors.node.cluster import Cluster

from .harness import now

CLEAR = "-"
SMALL, LARGE = b"x" * 100, b"x" * (64 << 10)
FLIGHT = 64
ONE_CALL, CALLS, CASTS, LARGE_CASTS = "call, 1 in flight", "call, 64 in flight", "cast, 100 B", "cast, 64 KiB"
PIECE = 65536


async def until_told() -> None:
    """Say that one is ready; return at the end of stdin."""
    print("ready", flush=True)
    await trio.to_thread.run_sync(sys.stdin.read)


async def asked(work: Mapping[str, Callable[[int], Awaitable[None]]]) -> None:
    """Do what each line of stdin says, until they end."""
    print("ready", flush=True)
    while line := await trio.to_thread.run_sync(sys.stdin.readline):
        name, _, count = line.partition("\t")
        gc.collect()
        begun = now()
        await work[name](int(count))
        print(int(count) / (now() - begun), flush=True)


# -- two nodes ---------------------------------------------------------------------------------------------


class Sync(GenServer):
    def init(self) -> None:
        self.count = 0

    def handle_call(self, request: Any, caller: Any) -> Any:
        return self_pid() if request == "pid" else request

    def handle_cast(self, request: Any) -> None:
        self.count += 1
        if type(request) is Pid:
            send_nowait(request, self.count)


def node(name: str, keys: str, **more: Any) -> Node:
    """A node with its keys, or with none."""
    certs = None if keys == CLEAR else keys
    return Node(name, cluster=Cluster(certs=certs, clear=keys == CLEAR, id="bench", **more))


async def node_b(port: int, keys: str) -> None:
    async with node("b", keys, listen=f"127.0.0.1:{port}"):
        await start(Sync, name="sync")
        await until_told()


async def node_a(port: int, keys: str) -> None:
    async with node("a", keys, peers={"b": f"127.0.0.1:{port}"}):
        pid = await call(at("sync", "b"), "pid")
        done = trio.Event()

        async def process() -> None:
            await asked({name: partial(work, pid) for name, work in NODE_WORK.items()})
            done.set()

        spawn(process)
        await done.wait()


async def call_one(pid: Any, count: int) -> None:
    for _ in range(count):
        await call(pid, SMALL)


async def call_many(pid: Any, count: int) -> None:
    """Processes with one call in flight each."""
    mine = self_pid()

    async def one() -> None:
        await call_one(pid, count // FLIGHT)
        send_nowait(mine, "done")

    for _ in range(FLIGHT):
        spawn(one)
    for _ in range(FLIGHT):
        await receive()


async def casts(message: bytes, pid: Any, count: int) -> None:
    """Casts; the last of them asks for a word. (A call would be Busy where a mailbox is full.)"""
    for _ in range(count):
        await cast(pid, message, timeout=60.0)
    await cast(pid, self_pid(), timeout=60.0)
    await receive()


NODE_WORK: dict[str, Callable[[Any, int], Awaitable[None]]] = {
    ONE_CALL: call_one,
    CALLS: call_many,
    CASTS: partial(casts, SMALL),
    LARGE_CASTS: partial(casts, LARGE),
}


# -- two bare Trio programs --------------------------------------------------------------------------------


async def floor_b(port: int, keys: str) -> None:
    """Sends back what comes; of large pieces, which begin with their count, it only says that all have come."""

    async def serve(stream: Any) -> None:
        if keys != CLEAR:
            stream = trio.SSLStream(stream, Keys(keys, "b").listening, server_side=True)
        left = 0
        with suppress(trio.BrokenResourceError):  # how the other side ends
            while data := await stream.receive_some(PIECE):
                if not left and data[:1] != SMALL[:1]:
                    left = int.from_bytes(data[:4], "big") * len(LARGE)
                if not left:
                    await stream.send_all(data)
                    continue
                left -= len(data)
                if not left:
                    await stream.send_all(b".")

    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.serve_tcp, serve, port, host="127.0.0.1"))
        await until_told()
        nursery.cancel_scope.cancel()


async def floor_a(port: int, keys: str) -> None:
    stream: Any = await trio.open_tcp_stream("127.0.0.1", port)
    if keys != CLEAR:
        stream = trio.SSLStream(stream, Keys(keys, "a").dialling)

    async def echoed(data: bytes, count: int) -> None:
        for _ in range(count):
            await stream.send_all(data)
            left = len(data)
            while left:
                left -= len(await stream.receive_some(PIECE))

    async def one_way(count: int) -> None:
        data = count.to_bytes(4, "big") + LARGE[4:]
        for _ in range(count):
            await stream.send_all(data)
        await stream.receive_some(1)

    calls: dict[str, Callable[[int], Awaitable[None]]] = {
        ONE_CALL: partial(echoed, SMALL),
        CALLS: lambda count: echoed(SMALL * FLIGHT, count // FLIGHT),
        LARGE_CASTS: one_way,
    }
    await asked(calls)


PROGRAMS = {("node", "a"): node_a, ("node", "b"): node_b, ("floor", "a"): floor_a, ("floor", "b"): floor_b}

if __name__ == "__main__":
    trio.run(PROGRAMS[sys.argv[1], sys.argv[2]], int(sys.argv[3]), sys.argv[4])
