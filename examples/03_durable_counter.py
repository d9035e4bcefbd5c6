"""A counter that survives kill -9: an acknowledged count is on the disk before anybody hears of it.

Run it twice. You see it count to 3; told to, it then kills its own program with SIGKILL, without any
clean-up. The next run finds everything that had been acknowledged and goes on counting.

    python examples/03_durable_counter.py --die
    python examples/03_durable_counter.py

The counter lives in a directory of its own, by default under the system's temporary one; name another as
the argument.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
from pathlib import Path

import trio

from runtime import Call, EventSourced, Query, Refuse, call, message
from supervisors import ChildSpec, Node, Supervisor, child


@message("example.count")
class Count(Call[int]):
    """Count one more. The reply is the new count."""


@message("example.read")
class Read(Query[int]):
    """The count, as it is."""


@message("example.counted")
class Counted:
    """What is journalled: one more was counted."""


class Counter(EventSourced[int, Counted]):
    def initial(self, key: str) -> int:
        return 0

    def handle(self, state: int, command: object) -> Refuse | tuple[Counted, int]:
        if isinstance(command, Count):
            return Counted(), state + 1  # the event, and the reply once it is committed
        return Refuse(f"a counter cannot do {command!r}")

    def apply(self, state: int, event: Counted) -> int:
        return state + 1  # pure: it runs again on recovery

    def query(self, state: int, request: Read) -> int:
        return state


class Shop(Supervisor):
    def init(self) -> list[ChildSpec]:
        return [child("counter", Counter, "counter", name="counter")]


async def main(data: Path, die: bool) -> None:
    async with Node("shop", data=data) as node:
        await node.start(Shop)
        print("found", await call("counter", Read()))
        for _ in range(3):
            print("counted", await call("counter", Count()))
        if die:
            print("and dies", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)


parser = argparse.ArgumentParser(description="Count to 3, and further when run again.")
parser.add_argument("data", nargs="?", type=Path, default=Path(tempfile.gettempdir(), "banyan-example"))
parser.add_argument("--die", action="store_true", help="end with kill -9")
args = parser.parse_args()
trio.run(main, args.data, args.die)
