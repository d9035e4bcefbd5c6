"""A process that will not give way is ended: who, when, what of it is left, and who never is."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from runtime import (
    Answer,
    CalleeExited,
    Misuse,
    call,
    receive,
    send_request,
    start,
)
from supervisors import Node
from supervisors.node import stepper as mechanism
from supervisors.node.interrupts import NUMBER
from supervisors.node.stepper import Stepper, asleep

from .hogs import (
    Hog,
    Hogs,
    Waiting,
    anew,
    ends,
    is_runaway,
    on_node,
    spin,
)

# -- what becomes of it ------------------------------------------------------------------------------------


def test_a_runaway_crashes_alone_and_comes_back():
    """Its caller is told at once, its supervisor starts it again, and its sibling never noticed (P44)."""

    async def work(node: Node) -> None:
        told: list[str] = []
        reports: list[object] = []
        node.table.crash_listeners.append(lambda report: reports.append(report.reason))
        await node.start(Hogs, told)
        before, sibling = node.table.names["hog"].pid, node.table.names["sibling"].pid
        assert await call("sibling", None) == 1
        reason = await ends("hog", lambda hog: spin())
        assert is_runaway(reason)
        assert (reports, told) == ([reason], ["terminate Runaway"])
        await anew(node, "hog")
        assert node.table.names["hog"].pid != before
        assert (await call("hog", None), await call("sibling", None)) == (1, 2)
        assert node.table.names["sibling"].pid == sibling

    on_node(work)


def test_who_waits_in_the_mailbox_is_told_too():
    """All whose requests lie behind the one that never ends get CalleeExited, not a timeout."""

    async def work(node: Node) -> None:
        pid = await start(Hog)

        async def asks() -> list[object]:
            for request in (lambda hog: spin(), None, None):
                send_request(pid, request, None, timeout=60)
            return [(await receive(Answer)).reason for _ in range(3)]

        reasons = await call(await start(Waiting), asks, timeout=60)
        assert [is_runaway(one) for one in reasons] == [True] * 3

    on_node(work)


def swallow(hog: Hog) -> None:
    while True:
        try:
            spin()
        except Exception:
            hog.told.append("swallowed")


def test_an_application_that_catches_exceptions_does_not_catch_it():
    """A Runaway is no Exception: a loop around a handler does not swallow its end."""

    async def work(node: Node) -> None:
        told: list[str] = []
        assert is_runaway(await ends(await start(Hog, told), swallow))
        assert told == ["terminate Runaway"]

    on_node(work)


def catch_all(hog: Hog) -> None:
    for _ in range(3):
        try:
            spin()
        except BaseException:
            hog.told.append("caught")
    spin()


def test_who_catches_everything_is_broken_again():
    """Each time it has held the loop for as long again."""

    async def work(node: Node) -> None:
        told: list[str] = []
        assert is_runaway(await ends(await start(Hog, told), catch_all))
        assert told == [*["caught"] * 3, "terminate Runaway"]

    on_node(work)


class Clings(Hog):
    """A hog that holds the loop in its `finally` and in `terminate`, too."""

    def handle_call(self, request: Any, caller: Any) -> Any:
        try:
            spin()
        finally:
            self.told.append("finally")
            spin()

    def terminate(self, reason: object) -> None:
        self.told.append("terminate")
        spin()


def test_what_it_does_at_its_end_is_broken_as_well():
    """`finally` and `terminate` each have as much time as the handler had, and no more."""

    async def work(node: Node) -> None:
        told: list[str] = []
        assert is_runaway(await ends(await start(Clings, told), 1))
        assert told == ["finally", "terminate"]

    on_node(work)


# -- who is not --------------------------------------------------------------------------------------------


@trio.lowlevel.enable_ki_protection
def protected_until(pulses: list[int], count: int) -> None:
    while len(pulses) < count:
        pass


def test_a_section_that_is_protected_is_not_broken(monkeypatch):
    """An application may keep a part of its code whole: it is broken when it has left it."""
    pulses: list[int] = []
    original = Stepper.signalled

    def counted(self: Stepper, number: int, frame: Any) -> None:
        pulses.append(number)
        original(self, number, frame)

    monkeypatch.setattr(Stepper, "signalled", counted)

    def guarded(hog: Hog) -> None:
        protected_until(pulses, 12)  # three limits
        hog.told.append("left")
        spin()

    async def work(node: Node) -> None:
        told: list[str] = []
        assert is_runaway(await ends(await start(Hog, told), guarded))
        assert told == ["left", "terminate Runaway"]

    on_node(work)


class Pulsed:
    """A stepper that is signalled by hand, with a clock that the test moves."""

    def __init__(self, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = self.worked = 0.0
        self.stepper = Stepper(node.table, 1.0)
        self.stepper._clock = lambda: self.now
        monkeypatch.setattr(time, "thread_time", lambda: self.worked)

    def hold(self, seconds: float, *, worked: float = 0.0, pace: float = 0.05) -> None:
        """Hold the loop, with a signal every `pace` seconds; raises Runaway as the signal's handler does."""
        for _ in range(round(seconds / pace) + 1):
            self.stepper.signalled(NUMBER, sys._getframe())
            self.now += pace
            self.worked += worked


def by_hand(monkeypatch: pytest.MonkeyPatch, work: Callable[[Pulsed], Awaitable[None]]) -> None:
    async def main(node: Node) -> None:
        await work(Pulsed(node, monkeypatch))

    on_node(main, preempt=None)


def test_the_limit_is_for_one_message(monkeypatch):
    """A turn of many messages, each short, may last longer than one of them may."""

    async def work(pulsed: Pulsed) -> None:
        pid = await start(Hog)
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(call, pid, lambda hog: pulsed.hold(0.9))
        assert pulsed.now > 4
        with pytest.raises(CalleeExited):
            await call(pid, lambda hog: pulsed.hold(1.2))

    by_hand(monkeypatch, work)


def test_who_gives_way_is_left_alone(monkeypatch):
    """However long a callback takes in all: each of its waits begins the time anew."""

    async def work(pulsed: Pulsed) -> None:
        async def polite() -> str:
            for _ in range(5):
                pulsed.hold(0.9)
                await trio.lowlevel.checkpoint()
            return "done"

        assert await call(await start(Waiting), polite) == "done"

    by_hand(monkeypatch, work)


def test_a_gap_breaks_nobody(monkeypatch):
    """A program that was stopped for an hour has not held its loop; one that worked meanwhile has."""

    async def work(pulsed: Pulsed) -> None:
        pid = await start(Hog)
        assert await call(pid, lambda hog: pulsed.hold(7200, pace=3600)) is None
        with pytest.raises(CalleeExited):
            await call(pid, lambda hog: pulsed.hold(7200, pace=3600, worked=0.7))

    by_hand(monkeypatch, work)


def test_nobody_is_signalled_while_the_loop_comes_round_or_sleeps(monkeypatch):
    """A look asks the loop for a sign of life; only if none has come at the next look is there a signal."""
    sent: list[int] = []
    monkeypatch.setattr(signal, "pthread_kill", lambda thread, number: sent.append(number))

    async def work(pulsed: Pulsed) -> None:
        stepper = pulsed.stepper
        for _ in range(3):
            stepper.look()
            await trio.testing.wait_all_tasks_blocked()
        assert sent == []
        stepper.look()
        stepper.look()
        assert sent == [NUMBER]
        await trio.testing.wait_all_tasks_blocked()
        monkeypatch.setattr(mechanism, "asleep", lambda frame: True)
        for _ in range(3):
            stepper.look()
        assert sent == [NUMBER]

    by_hand(monkeypatch, work)


def test_a_loop_that_waits_is_asleep():
    """Told by where it is: in its own wait for something to happen."""
    found: list[bool] = []

    async def main() -> None:
        loop, thread = trio.lowlevel.current_trio_token(), threading.get_ident()
        done = trio.Event()

        def look() -> None:
            while not asleep(sys._current_frames()[thread]):
                pass
            found.append(True)
            loop.run_sync_soon(done.set)

        looking = threading.Thread(target=look)
        looking.start()
        with trio.fail_after(60):
            await done.wait()
        looking.join(60)

    trio.run(main)
    assert (found, asleep(sys._getframe())) == ([True], False)


# -- the signal --------------------------------------------------------------------------------------------


def test_an_embedded_node_touches_no_signal():
    """By default nothing is taken."""

    async def work(node: Node) -> None:
        assert signal.getsignal(NUMBER) is signal.SIG_DFL

    on_node(work, preempt=None)


def test_the_signal_is_given_back():
    """Two nodes may live at once and end in any order; then the signal is the host's again."""

    async def main() -> None:
        first, second = Node("one", preempt=1), Node("two", preempt=1)
        ended = trio.Event()

        async def live_shortly() -> None:
            async with first:
                await trio.lowlevel.checkpoint()
            ended.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(live_shortly)
            async with second:
                await ended.wait()
                assert signal.getsignal(NUMBER) is not mine

    def mine(number: int, frame: object) -> None:
        raise AssertionError("nobody holds the loop")

    before = signal.signal(NUMBER, mine)
    try:
        trio.run(main)
        assert signal.getsignal(NUMBER) is mine
    finally:
        signal.signal(NUMBER, before)


def test_each_node_breaks_its_own_processes():
    """Of two nodes in one program the one that was not told to breaks nobody."""

    async def work(node: Node) -> None:
        async with Node("other", preempt=10):
            foreign = await start(Hog)
        del foreign
        assert is_runaway(await ends(await start(Hog), lambda hog: spin()))

    on_node(work)


def test_outside_the_main_thread_it_is_misuse():
    """Python handles signals in the main thread only, so a node elsewhere is refused, in words, before it lives."""
    raised: list[BaseException] = []

    async def main() -> None:
        async with Node("test", preempt=1.0):
            raise AssertionError("it lives")

    def elsewhere() -> None:
        try:
            trio.run(main)
        except Misuse as error:
            raised.append(error)

    thread = threading.Thread(target=elsewhere, name="elsewhere")
    thread.start()
    thread.join(60)
    (error,) = raised
    assert str(error).startswith("a node with preempt= runs in the program's main thread")
    assert "'elsewhere'" in str(error)


@pytest.mark.parametrize("preempt", [0, -1.0, float("inf"), float("nan"), "1"])
def test_a_limit_that_is_none_is_misuse(preempt):
    """Seconds above 0, or None."""
    with pytest.raises(Misuse, match="preempt is a finite number of seconds above 0"):
        Node("test", preempt=preempt)
