"""xoscar: actors in pools of two processes, over TCP in clear text; it has no TLS."""

from __future__ import annotations

import asyncio  # noqa: TID251  # what this peer stands on
import importlib
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

# By name, so that the types do not depend on whether it is installed.
xoscar: Any = importlib.import_module("xoscar")

SMALL, LARGE = b"x" * 100, b"x" * (64 << 10)
FLIGHT = 64


class Counter(xoscar.Actor):  # type: ignore[misc]  # of a type that is not known here
    def __init__(self) -> None:
        self.count = 0

    async def ask(self, message: Any) -> Any:
        return message

    async def add(self, _message: Any) -> None:
        self.count += 1


async def serve() -> None:
    """The other process: a pool with one actor, until stdin ends."""
    pool = await xoscar.create_actor_pool("127.0.0.1", n_process=0)
    async with pool:
        await xoscar.create_actor(Counter, address=pool.external_address, uid="counter")
        print(pool.external_address, flush=True)
        await asyncio.to_thread(sys.stdin.read)


def run(body: Callable[[Any], Awaitable[float]]) -> Callable[[], float]:
    """Run with an actor of another process."""

    async def main(address: str) -> float:
        pool = await xoscar.create_actor_pool("127.0.0.1", n_process=0)
        async with pool:
            return await body(await xoscar.actor_ref(address=address, uid="counter"))

    def measured() -> float:
        pipe = subprocess.PIPE
        args = [sys.executable, "-m", __name__]
        with subprocess.Popen(args, stdin=pipe, stdout=pipe, text=True) as other:
            assert other.stdin is not None and other.stdout is not None  # noqa: PT018  # both are pipes
            try:
                return asyncio.run(main(other.stdout.readline().strip()))
            finally:
                other.stdin.close()

    return measured


async def call_one(ref: Any) -> float:
    count = 2_000
    begun = time.perf_counter()
    for _ in range(count):
        await ref.ask(SMALL)
    return count / (time.perf_counter() - begun)


async def call_many(ref: Any) -> float:
    each = 50

    async def one() -> None:
        for _ in range(each):
            await ref.ask(SMALL)

    begun = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(FLIGHT)))
    return FLIGHT * each / (time.perf_counter() - begun)


def casts(message: bytes, count: int) -> Callable[[Any], Awaitable[float]]:
    """Casts, and a call behind them."""

    async def body(ref: Any) -> float:
        begun = time.perf_counter()
        for _ in range(count):
            await ref.add.tell(message)
        await ref.ask(None)
        return count / (time.perf_counter() - begun)

    return body


ROWS = {
    "remote call, 1 in flight, clear": run(call_one),
    "remote call, 64 in flight, clear": run(call_many),
    "remote cast, 100 B, clear": run(casts(SMALL, 5_000)),
    "remote cast, 64 KiB, clear": run(casts(LARGE, 1_000)),
}

if __name__ == "__main__":
    asyncio.run(serve())
