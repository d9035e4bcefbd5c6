"""Processes that are broken at random moments, thousands of times: what may be left behind, and what may not.

Run as a program it does so once, with parts of the protection left out as its arguments say, and prints what it
has found, one line each: `python -m tests.unit.node.stress BREAKS [everywhere|sections|awaits]`.

The invariants that it hunts: nothing is ever raised but in the application's own code; Trio's run stays whole and
ends; no name, link or lock belongs to the dead; what was acknowledged is in the journal, once; a section that the
application protects is whole.
"""

from __future__ import annotations

import logging
import random
import signal
import sys
from collections import Counter
from types import FrameType
from typing import Any

import trio

from runtime import (
    KILL,
    CallFailed,
    Continue,
    EventSourced,
    GenServer,
    Refuse,
    call,
    demonitor,
    exit,
    link,
    message,
    monitor,
    register,
    self_pid,
    spawn,
    unlink,
    unregister,
)
from runtime.durable.commands import Query
from runtime.durable.session import Session
from runtime.kernel.messages import Call
from supervisors import Node, Supervisor, child
from supervisors.node import interrupts, stepper
from supervisors.node.stepper import Stepper

# Seconds between two signals, at most.
PACE = 0.0005
OURS = ("runtime.", "supervisors.", "trio.", "outcome.")
WALKERS = 6


@message("tests.stress.add")
class Add(Call[int]):
    number: int


@message("tests.stress.added")
class Added:
    number: int


@message("tests.stress.all")
class All(Query[tuple[int, ...]]):
    pass


class Ledger(EventSourced[tuple[int, ...], Added]):
    """Keeps the numbers that it was told."""

    poison_after = 1_000_000

    def initial(self, key: str) -> tuple[int, ...]:
        return ()

    def handle(self, state: tuple[int, ...], command: Any) -> Any:
        match command:
            case Add(number):
                return Added(number), number
        return Refuse("odd")

    def apply(self, state: tuple[int, ...], event: Added) -> tuple[int, ...]:
        return (*state, event.number)

    def committed(self, state: tuple[int, ...], events: tuple[Added, ...]) -> None:
        sum(range(20))

    def query(self, state: tuple[int, ...], request: Any) -> tuple[int, ...]:
        return state


class Shared:
    """What all walkers use, and what is counted of them."""

    def __init__(self) -> None:
        self.lock = trio.Lock()
        self.waits: Counter[str] = Counter()
        self.left = self.right = 0

    @trio.lowlevel.enable_ki_protection
    def move(self) -> None:
        """Keep both sides the same: nobody may be broken in between."""
        self.left += 1
        for _ in range(50):
            pass
        self.right += 1


def work() -> None:
    """Code of the application's own, in which it may be broken."""
    for _ in range(100):
        pass


class Walker(GenServer):
    """Waits in all the ways that there are, one after the other, for ever."""

    def init(self, shared: Shared, number: int) -> Continue:
        self.shared, self.number = shared, number
        self.random = random.Random(number)
        return Continue("walk")

    async def handle_continue(self, term: object) -> None:
        steps = (self.give_way, self.cancel, self.nursery, self.hold, self.names, self.links, self.ask)
        while True:
            step = self.random.choice(steps)
            work()
            await step()
            self.shared.waits[step.__name__] += 1

    async def give_way(self) -> None:
        work()
        await trio.lowlevel.checkpoint()

    async def cancel(self) -> None:
        with trio.move_on_after(0), trio.CancelScope(shield=False) as inner:
            inner.cancel()
            await trio.sleep_forever()

    async def nursery(self) -> None:
        send, receive = trio.open_memory_channel[int](1)

        async def give() -> None:
            async with send:
                for number in range(3):
                    work()
                    await send.send(number)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(give)
            nursery.start_soon(self.give_way)
            assert [number async for number in receive] == [0, 1, 2]

    async def hold(self) -> None:
        async with self.shared.lock:
            self.shared.move()
            work()
            await trio.lowlevel.checkpoint()

    async def names(self) -> None:
        name = f"walker-{self.number}-{self.random.randrange(3)}"
        register(name, self_pid())
        await trio.lowlevel.checkpoint()
        unregister(name)

    async def links(self) -> None:
        other = spawn(trio.sleep_forever)
        ref = monitor(other)
        link(other)
        await trio.lowlevel.checkpoint()
        demonitor(ref, flush=True)
        unlink(other)
        exit(other, KILL)

    async def ask(self) -> None:
        try:
            await call("ledger", All(), timeout=1.0)
        except CallFailed:
            pass


class Walkers(Supervisor):
    """All of them."""

    intensity = 1_000_000

    def init(self, shared: Shared) -> Any:
        walkers = [child(f"walker {number}", Walker, shared, number) for number in range(WALKERS)]
        return [child("ledger", Ledger, "ledger", name="ledger"), *walkers]


class Signals:
    """Signals at random moments, each of which raises at once, where that may be done."""

    def __init__(self, node: Node, seed: int, most: int) -> None:
        self._random = random.Random(seed)
        self._stepper = Stepper(node.table, 1.0)
        self._stepper._limit = 0.0
        self.breaks = 0
        self._most = most
        self._loop = trio.lowlevel.current_trio_token()
        self._enough = trio.Event()
        self._busy = self._over = False
        # Places where something was raised, and must not be.
        self.wrong: Counter[str] = Counter()

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The handler; a signal that meets it at work does nothing: the real one is in the runtime's own code."""
        assert frame is not None
        if self._over or self._busy or frame.f_code is Signals.handle.__code__:
            return
        self._busy = True
        try:
            self._next()
            self._stepper.signalled(number, frame)
        except stepper.Runaway:
            self._count(frame)
            raise
        finally:
            self._busy = False

    def _count(self, frame: FrameType) -> None:
        self.breaks += 1
        place = f"{frame.f_globals['__name__']}.{frame.f_code.co_qualname}"
        if place.startswith(OURS):
            self.wrong[place] += 1
        if self.breaks >= self._most or self.wrong:
            self._loop.run_sync_soon(self._enough.set)

    async def until_enough(self) -> None:
        """Send them until `most` have raised.

        By a timer and not by a thread, which would have to wait until the loop gives up the interpreter.
        """
        before = signal.signal(signal.SIGALRM, self.handle)
        try:
            self._next()
            await self._enough.wait()
        finally:
            # Or one that has come, and is not handled yet, would start the timer again: the last ends the program.
            self._over = True
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def _next(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, PACE * (0.05 + self._random.random()), PACE)


def damage(node: Node, shared: Shared) -> list[str]:
    """What is not as it must be between two steps of the loop."""
    table, found = node.table, list[str]()
    for name, process in table.names.items():
        if process.pid._process is not process:
            found.append(f"the name {name} belongs to the dead")
    for process in table.processes.values():
        for peer in process.links or ():
            other = peer._process
            if other is None or process.pid not in (other.links or ()):
                found.append(f"{process} has a link to {peer}, which has none to it")
        for ref, target in (process.monitors or {}).items():
            if target is not None and ref not in (target.watchers or ()):
                found.append(f"{process} watches {target}, which does not know it")
    if shared.left != shared.right:
        found.append(f"a protected section was broken: {shared.left} and {shared.right}")
    return found


async def drive(acknowledged: list[int], over: trio.Event) -> None:
    """Give the ledger one number after the other, each again until it is acknowledged."""
    session = Session("driver")
    while not over.is_set():
        number = len(acknowledged)
        await session.command("ledger", Add(number), patience=60)
        acknowledged.append(number)


async def stress(breaks: int, seed: int = 1) -> tuple[Counter[str], list[str]]:
    """Break walkers so many times; what they have waited for, and what is damaged."""
    shared, acknowledged, over = Shared(), list[int](), trio.Event()
    async with Node("stress", data=":memory:") as node:
        await node.start(Walkers, shared)
        signals = Signals(node, seed, breaks)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drive, acknowledged, over)
            await signals.until_enough()
            over.set()
        found = [f"raised in {place}" for place in signals.wrong] + damage(node, shared)
        written = await call("ledger", All())
        if list(written) != acknowledged:
            found.append(f"{len(acknowledged)} were acknowledged, {len(written)} are written")
        with trio.fail_after(10):
            async with shared.lock:
                shared.waits["breaks"] = signals.breaks
    shared.waits["commands"] = len(acknowledged)
    return shared.waits, found


def leave_out(part: str) -> None:
    """Take a part of the protection away."""
    match part:
        case "everywhere":
            stepper.may_raise = lambda frame: True
        case "sections":
            stepper.may_raise = interrupts._may_raise
        case "awaits":
            interrupts._awaits = lambda frame: False


def main() -> None:
    logging.disable(logging.CRITICAL)
    breaks = int(sys.argv[1])
    for part in sys.argv[2:]:
        leave_out(part)
    waits, found = trio.run(stress, breaks)
    print(dict(waits))  # noqa: T201  # to whoever runs it
    for one in found:
        print("damage:", one)  # noqa: T201  # to whoever runs it


if __name__ == "__main__":
    main()
