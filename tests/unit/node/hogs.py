"""What the tests of this room start: processes that will not give way, each in another way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from runtime import (
    Call,
    CalleeExited,
    EventHandler,
    EventSourced,
    GenServer,
    GenStatem,
    Init,
    Refuse,
    Runaway,
    call,
    message,
)
from runtime.durable.commands import Query
from runtime.kernel.exits import Crash
from supervisors import Node, Supervisor, child

# Seconds that a handler may hold the loop in these tests.
LIMIT = 0.1


def spin() -> None:
    """Compute for ever."""
    while True:
        pass


class Hog(GenServer):
    """Does what a message says, in its own code; notes what happens around it in `told`."""

    def init(self, told: list[str] | None = None) -> None:
        self.told = told if told is not None else []
        self.count = 0

    def handle_call(self, request: Callable[[Hog], object] | None, caller: Any) -> Any:
        if request is None:
            self.count += 1
            return self.count
        return request(self)

    def terminate(self, reason: object) -> None:
        assert isinstance(reason, Crash)
        self.told.append(f"terminate {type(reason.error).__name__}")


class Waiting(GenServer):
    """The same, with a callback that may wait."""

    async def handle_call(self, request: Callable[[], Awaitable[object]], caller: Any) -> Any:
        return await request()


class Hogs(Supervisor):
    """A hog and its sibling."""

    intensity = 100

    def init(self, told: list[str]) -> Any:
        return [child("hog", Hog, told, name="hog"), child("sibling", Hog, name="sibling")]


class Machine(GenStatem[str, None]):
    """A state machine whose one event never ends."""

    callback_mode = "state_functions"

    def init(self) -> Init[str, None]:
        return Init("idle", None)

    def idle(self, kind: Any, content: Any, data: None) -> Any:
        spin()


class Listener(EventHandler):
    """An event handler that computes for ever over an event that says so."""

    def init(self, seen: list[object]) -> None:
        self.seen = seen

    def handle_event(self, event: object) -> None:
        self.seen.append(event)
        if event == "spin":
            spin()


@message("tests.hogs.put")
class Put(Call[int]):
    amount: int


@message("tests.hogs.spin")
class Spin(Call[int]):
    where: str


@message("tests.hogs.read")
class Read(Query[int]):
    pass


@message("tests.hogs.was_put")
class WasPut:
    amount: int


class Purse(EventSourced[int, WasPut]):
    """A durable count, with commands that never end in `handle`, in `apply` or in `committed`."""

    spins_in = ""

    def initial(self, key: str) -> int:
        return 0

    def handle(self, state: int, command: Any) -> Any:
        match command:
            case Put(amount):
                return WasPut(amount), state + amount
            case Spin(where):
                if where == "handle":
                    spin()
                return WasPut(-1 if where == "apply" else 1000), state
        return Refuse("odd")

    def apply(self, state: int, event: WasPut) -> int:
        if event.amount < 0:
            spin()
        return state + event.amount

    def committed(self, state: int, events: tuple[WasPut, ...]) -> None:
        if events[0].amount == 1000:
            spin()

    def query(self, state: int, request: Any) -> int:
        return state


class Purses(Supervisor):
    """One purse."""

    intensity = 100

    def init(self) -> Any:
        return [child("purse", Purse, "purse", name="purse")]


def on_node(work: Callable[[Node], Awaitable[None]], **options: Any) -> None:
    """Run `work` with a node that breaks hogs: in a run of its own, because pytest's is protected from signals."""

    async def main() -> None:
        with trio.fail_after(60):
            async with Node("test", **{"preempt": LIMIT, **options}) as node:
                await work(node)

    trio.run(main)


def is_runaway(reason: object) -> bool:
    """Whether an exit reason is that of a process which held the loop, in a test of this room."""
    return isinstance(reason, Crash) and isinstance(reason.error, Runaway) and reason.error.limit == LIMIT


async def ends(destination: Any, request: object) -> object:
    """The reason with which a process ends over a call."""
    try:
        reply = await call(destination, request, timeout=60)
    except CalleeExited as ended:
        return ended.reason
    raise AssertionError(f"it lives, and replied {reply!r}")


async def anew(node: Node, name: str) -> None:
    """Wait until a name belongs to a living process."""
    while (process := node.table.names.get(name)) is None or not process.alive:
        await trio.lowlevel.checkpoint()
