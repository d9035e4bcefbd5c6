"""A counter that crashes, and the supervisor that heals it.

You see it count, then meet a request that it cannot handle. Only the one who asked hears of that, as
`CalleeExited`; the program goes on. The supervisor has started a new counter meanwhile: it has another pid
and begins at 0, because its state was in memory. (The crash report on stderr comes from `logging`.)

    python examples/02_supervised_counter.py
"""

from __future__ import annotations

import trio

from runtime import Call, CalleeExited, Caller, GenServer, call, message, whereis
from supervisors import ChildSpec, Node, Supervisor, child, count_children


@message("example.add_part")
class AddPart(Call[int]):
    """Add the `parts`-th part of 100. The reply is the new count."""

    parts: int


class Counter(GenServer):
    def init(self) -> None:
        self.count = 0

    def handle_call(self, request: AddPart, caller: Caller) -> int:
        self.count += 100 // request.parts  # nobody checks for 0: let it crash
        return self.count


class Shop(Supervisor):
    strategy, intensity, period = "one_for_one", 3, 5.0

    def init(self) -> list[ChildSpec]:
        return [child("counter", Counter, name="counter")]


async def add_part(parts: int) -> int:
    """The counter's interface: others call this and never build its messages."""
    return await call("counter", AddPart(parts))


async def main() -> None:
    async with Node("shop") as node:
        shop = await node.start(Shop)
        print("count", await add_part(4), "by", whereis("counter"))
        print("count", await add_part(2), "by", whereis("counter"))
        try:
            await add_part(0)
        except CalleeExited as ended:
            print("the counter died of", ended.reason)
        await count_children(shop)  # a supervisor answers when it has healed
        print("count", await add_part(10), "by", whereis("counter"))
        print(node.tree())


trio.run(main)
