"""A supervision tree, printed before and after a crash: what depends on the dead one restarts with it.

You see the shop start in order. Then the printer dies. The strategy is `rest_for_one`, so the tills, which
were started after it because they need it, are stopped, last first, and all start again: they have new
pids. The stock was there before and notices nothing. At the end everything stops in reverse order. (The
crash report on stderr comes from `logging`.)

    python examples/04_a_tree.py
"""

from __future__ import annotations

import trio

from runtime import CalleeExited, Caller, GenServer, call, exit_with
from supervisors import ChildSpec, Node, Supervisor, child, count_children


class Part(GenServer):
    """Says when it starts and stops, and can do no more than die."""

    trap_exit = True  # so that terminate runs when its supervisor stops it

    def init(self, name: str) -> None:
        self.name = name
        print("    start", name)

    def handle_call(self, request: str, caller: Caller) -> None:
        exit_with(request)

    def terminate(self, reason: object) -> None:
        print(f"    stop {self.name}: {reason}")


class Tills(Supervisor):
    """The tills do not need each other: each is restarted alone."""

    def init(self) -> list[ChildSpec]:
        return [child("till-1", Part, "till-1"), child("till-2", Part, "till-2")]


class Shop(Supervisor):
    """Each child may need those before it, so they go down and come back together."""

    strategy, intensity, period = "rest_for_one", 3, 5.0

    def init(self) -> list[ChildSpec]:
        return [
            child("stock", Part, "stock", name="stock"),
            child("printer", Part, "printer", name="printer"),
            child("tills", Tills, name="tills"),
        ]


async def main() -> None:
    async with Node("shop") as node:
        shop = await node.start(Shop)
        print(node.tree())
        print("the printer dies")
        try:
            await call("printer", "out of paper")
        except CalleeExited:
            await count_children(shop)  # a supervisor answers when it has healed
        print(node.tree())
        print("the shop closes")


trio.run(main)
