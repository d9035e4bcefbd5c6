"""xoscar: actors in pools on asyncio."""

from __future__ import annotations

import asyncio  # noqa: TID251  # what this peer stands on
import importlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

# By name, so that the types do not depend on whether it is installed.
xoscar: Any = importlib.import_module("xoscar")


class Counter(xoscar.Actor):  # type: ignore[misc]  # of a type that is not known here
    def __init__(self) -> None:
        self.count = 0

    async def ask(self, message: Any) -> Any:
        return message

    async def add(self, _message: Any) -> None:
        self.count += 1


def run(body: Callable[[str], Awaitable[float]]) -> Callable[[], float]:
    """Run with a pool of one process."""

    async def main() -> float:
        pool = await xoscar.create_actor_pool("127.0.0.1", n_process=0)
        async with pool:
            return await body(pool.external_address)

    return lambda: asyncio.run(main())


async def call_one_pair(address: str) -> float:
    count = 5_000
    ref = await xoscar.create_actor(Counter, address=address)
    begun = time.perf_counter()
    for index in range(count):
        await ref.ask(index)
    return count / (time.perf_counter() - begun)


async def call_hundred_pairs(address: str) -> float:
    each = 100
    refs = [await xoscar.create_actor(Counter, address=address, uid=f"c{index}") for index in range(100)]

    async def one(ref: Any) -> None:
        for index in range(each):
            await ref.ask(index)

    begun = time.perf_counter()
    await asyncio.gather(*(one(ref) for ref in refs))
    return 100 * each / (time.perf_counter() - begun)


async def cast_counter(address: str) -> float:
    count = 20_000
    ref = await xoscar.create_actor(Counter, address=address)
    begun = time.perf_counter()
    for index in range(count):
        await ref.add.tell(index)
    await ref.ask(None)
    return count / (time.perf_counter() - begun)


async def start_stop(address: str) -> float:
    count = 1_000
    begun = time.perf_counter()
    for _ in range(count):
        await xoscar.destroy_actor(await xoscar.create_actor(Counter, address=address))
    return count / (time.perf_counter() - begun)


ROWS = {
    "call, sync handler, one pair": run(call_one_pair),
    "call, async handler, 100 pairs": run(call_hundred_pairs),
    "cast into a counter": run(cast_counter),
    "start + stop of a supervised process": run(start_stop),
}
