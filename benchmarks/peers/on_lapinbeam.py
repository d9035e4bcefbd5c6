"""lapinbeam: actors on asyncio with a core in Rust."""

from __future__ import annotations

import asyncio  # noqa: TID251  # what this peer stands on
import importlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

# By name, so that the types do not depend on whether it is installed.
lapinbeam: Any = importlib.import_module("lapinbeam")


def counter(name: str) -> Any:
    """An actor's class; names are unique in a node."""

    @lapinbeam.actor(name=name)
    class Counter:
        def __init__(self) -> None:
            self.count = 0

        async def receive(self, message: Any) -> None:
            self.count += 1
            meta = lapinbeam.current_message()
            if meta is not None and meta.reply_to is not None:
                await meta.reply(message)

    return Counter


def run(body: Callable[[Any], Awaitable[float]]) -> Callable[[], float]:
    """Run with a node and a supervisor."""

    async def main() -> float:
        node = lapinbeam.Node("bench@127.0.0.1:0")
        await node.start()
        supervisor = lapinbeam.Supervisor("one_for_one", node)
        try:
            return await body(supervisor)
        finally:
            await supervisor.shutdown()
            await node.stop()

    return lambda: asyncio.run(main())


async def call_one_pair(supervisor: Any) -> float:
    count = 5_000
    ref = supervisor.spawn(counter("one"))
    begun = time.perf_counter()
    for index in range(count):
        await ref.ask(index)
    return count / (time.perf_counter() - begun)


async def call_hundred_pairs(supervisor: Any) -> float:
    each = 100
    refs = [supervisor.spawn(counter(f"c{index}")) for index in range(100)]

    async def one(ref: Any) -> None:
        for index in range(each):
            await ref.ask(index)

    begun = time.perf_counter()
    await asyncio.gather(*(one(ref) for ref in refs))
    return 100 * each / (time.perf_counter() - begun)


async def cast_counter(supervisor: Any) -> float:
    count = 50_000
    ref = supervisor.spawn(counter("one"))
    begun = time.perf_counter()
    for index in range(count):
        await ref.send(index)
    await ref.ask(None, timeout=60.0)
    return count / (time.perf_counter() - begun)


ROWS = {
    "call, sync handler, one pair": run(call_one_pair),
    "call, async handler, 100 pairs": run(call_hundred_pairs),
    "cast into a counter": run(cast_counter),
}
