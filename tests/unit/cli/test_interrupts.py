"""Breaking what holds the loop: the process that does, nobody else, and never where something must be whole."""

from __future__ import annotations

import functools
import gc
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest
import trio

from runtime import GenServer, cast, start
from runtime.kernel.exits import Crash
from runtime.observe.recorder import recorder_of
from supervisors import Node, Supervisor, child
from supervisors.node import interrupts
from supervisors.node.interrupts import Interrupted, Interrupter, _awaits, _may_raise


class Hog(GenServer):
    """Computes for ever when it is told to; says so first."""

    def init(self, begun: threading.Event) -> None:
        self.begun = begun

    def handle_cast(self, request: object) -> None:
        self.begun.set()
        while True:
            pass


class Hogs(Supervisor):
    """One hog."""

    def init(self, begun: threading.Event) -> Any:
        return [child("hog", Hog, begun, name="hog")]


@pytest.fixture
def interrupter(monkeypatch: pytest.MonkeyPatch) -> Iterator[Interrupter]:
    monkeypatch.setattr(interrupts, "PAUSE", 0.01)
    one = Interrupter()
    with one.listening():
        yield one


def test_who_holds_the_loop_crashes_and_comes_back(interrupter):
    """The process ends with Interrupted, its supervisor has another one, and the interrupter says who it was."""
    trio.run(hold_and_break, interrupter)  # not pytest's own run, in which Trio protects all code from signals


async def hold_and_break(interrupter: Interrupter) -> None:
    begun, told = threading.Event(), list[str | None]()

    def operator() -> None:
        begun.wait()
        told.append(interrupter.interrupt())

    with trio.fail_after(60):
        async with Node("test") as node:
            recorder_of(node.table)
            reasons: list[object] = []
            node.table.crash_listeners.append(lambda report: reasons.append(report.reason))
            await node.start(Hogs, begun)
            before = node.table.names["hog"].pid
            # Not a thread of Trio's, which would be started by the loop that is about to be held.
            thread = threading.Thread(target=operator)
            thread.start()
            await cast("hog", 1)
            while before._process is not None:
                await trio.lowlevel.checkpoint()
            thread.join(60)
            assert told == [f"{before!r} hog"]
            (reason,) = reasons
            assert isinstance(reason, Crash)
            assert isinstance(reason.error, Interrupted)
            while "hog" not in node.table.names:
                await trio.lowlevel.checkpoint()
            assert node.table.names["hog"].pid != before


def test_who_gives_way_is_left_alone(interrupter, monkeypatch):
    """A process that is busy, but lets others run, is not interrupted, however often one looks."""
    monkeypatch.setattr(interrupts, "TRIES", 30)
    trio.run(give_way_and_look, interrupter)


async def give_way_and_look(interrupter: Interrupter) -> None:
    told: list[str | None] = []

    class Busy(GenServer):
        async def handle_cast(self, request: object) -> None:
            while not told:
                sum(range(2000))
                await trio.lowlevel.checkpoint()

    with trio.fail_after(60):
        async with Node("test"):
            pid = await start(Busy)
            await cast(pid, 1)
            told.append(await trio.to_thread.run_sync(interrupter.interrupt))
            assert (told, pid._process is not None) == ([None], True)


def frame_in(*modules: str) -> FrameType:
    """The innermost frame of calls through functions of these modules, outermost first."""
    call: Callable[[], FrameType] = sys._getframe
    for module in reversed(modules):
        space: dict[str, Any] = {"__name__": module, "call": call}
        # A function that lives in a module of that name.
        exec("def end():\n    return call()", space)
        call = space["end"]
    return call()


@pytest.mark.parametrize(
    ("modules", "allowed"),
    [
        (("room.table",), True),
        (("runtime.behaviours.gen_server", "room.table"), True),
        (("runtime.behaviours.gen_server", "room.table", "json.decoder"), True),
        (("room.table", "runtime.kernel.api"), False),
        (("room.table", "trio._core._run"), False),
        (("room.table", "logging"), False),
        (("room.table", "threading"), False),
        (("runtime.kernel.process", "room.table"), False),
        (("runtime.backends.lmdb", "room.table"), False),
        (("runtime.durable.writer", "room.table"), False),
        (("runtime.durable.event_sourced", "runtime.durable.hooks", "room.table"), True),
        (("runtime.observe.inside", "runtime.durable.event_sourced", "room.table"), False),
        (("runtime.observe.connection", "runtime.observe.repl", "__remsh__"), True),
        (("supervisors.supervisor", "room.tree"), False),
        (("room.table", "trio._core._run", "room.table"), False),
    ],
    ids=lambda one: " > ".join(one) if isinstance(one, tuple) else "",
)
def test_only_an_applications_own_code_is_broken(modules, allowed):
    """Nothing is raised in the runtime, Trio or what holds locks, nor above an end or a commit."""
    assert _may_raise(frame_in(*modules)) is allowed


def test_a_signal_that_nobody_asked_for_does_nothing(interrupter):
    """The signal is one that others may send too."""
    interrupter._signalled(0, sys._getframe())


class Entered:
    """A context manager that says whether it may be broken while it is entered and left."""

    def __init__(self) -> None:
        self.said: list[bool] = []

    def __enter__(self) -> None:
        self.said.append(_may_raise(sys._getframe()))

    def __exit__(self, *_: object) -> None:
        self.said.append(_may_raise(sys._getframe()))


def test_a_way_in_or_out_is_not_broken():
    """Half of an __exit__ is none."""
    entered = Entered()
    with entered:
        entered.said.append(_may_raise(sys._getframe()))
    assert entered.said == [False, True, False]


def test_what_the_interpreter_calls_is_not_broken(monkeypatch):
    """A collection may begin anywhere, and what its callbacks raise is printed and lost; so too in that hook."""
    said: list[bool] = []

    def look(*_: object) -> None:
        said.append(_may_raise(sys._getframe()))

    look()
    gc.callbacks.append(look)
    try:
        gc.collect()
    finally:
        gc.callbacks.remove(look)
    monkeypatch.setattr(sys, "unraisablehook", functools.partial(look, 1))
    sys.unraisablehook(None)  # type: ignore[arg-type]  # it is ours
    assert said == [True, False, False, False]


async def test_nothing_is_raised_between_a_call_and_its_await():
    """What an async function gave would never be awaited: at the end of an `async with` nothing would be closed."""
    said: list[bool] = []

    async def nothing() -> None:
        await trio.lowlevel.checkpoint()

    def look(frame: FrameType) -> Any:
        said.append(_awaits(frame))
        return nothing()

    class Room:
        async def __aenter__(self) -> None:
            await nothing()

        def __aexit__(self, *_: object) -> Any:
            return look(sys._getframe(1))

    later = look(sys._getframe())
    await look(sys._getframe())
    async with Room():
        await later
    assert said == [False, True, True]
