"""Links, monitors and exit signals against a model of them: who dies of what, and who is told.

Hypothesis makes up programs for a handful of processes. The model says who is alive after each step and, in
the end, what lies in each mailbox; then the real runtime runs the program and is held to that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from runtime import (
    KILL,
    KILLED,
    NOPROC,
    NORMAL,
    SHUTDOWN,
    Down,
    Exit,
    NoProcess,
    ReceiveTimeout,
    demonitor,
    exit,
    exit_with,
    is_alive,
    link,
    monitor,
    process_info,
    receive,
    spawn,
    trap_exit,
    unlink,
)
from tests.support.processes import run_virtually, running_node

COUNT = 5

someone = st.integers(0, COUNT - 1)
reasons = st.sampled_from([NORMAL, SHUTDOWN, "boom", KILL])


@dataclass
class Actor:
    """A process of the model."""

    traps: bool
    alive: bool = True
    links: set[int] = field(default_factory=set)
    # Active monitors: which one, by its number, watches whom.
    monitors: dict[int, int] = field(default_factory=dict)
    mail: Counter[tuple[object, ...]] = field(default_factory=Counter)


class Model:
    """The rules P1-P30, as far as they can be seen when all signals have arrived."""

    def __init__(self, traps: list[bool]) -> None:
        self.actors = [Actor(one) for one in traps]

    def end(self, number: int, reason: object) -> None:
        """Die: links get the signal, watchers a Down; each process dies once (P48)."""
        actor = self.actors[number]
        if not actor.alive:
            return
        actor.alive = False
        for other in sorted(actor.links):
            self.actors[other].links.discard(number)
            self.signal(number, other, reason, linked=True)
        for watcher in self.actors:
            for ref in [ref for ref, watched in watcher.monitors.items() if watched == number]:
                del watcher.monitors[ref]
                watcher.mail["down", ref, number, reason] += 1
        actor.links, actor.monitors = set(), {}

    def signal(self, source: int, number: int, reason: object, *, linked: bool = False) -> None:
        """An exit signal arrives (P5-P9)."""
        actor = self.actors[number]
        if not actor.alive:
            return
        if reason is KILL and not linked:
            self.end(number, KILLED)
        elif actor.traps:
            actor.mail["exit", source, reason] += 1
        elif reason is not NORMAL:
            self.end(number, reason)

    def alive(self) -> list[bool]:
        return [actor.alive for actor in self.actors]


Deed = Callable[["Stage", int], None]


class Stage:
    """The same processes, real ones: each does what it is told to, one deed after the other."""

    def __init__(self, traps: list[bool]) -> None:
        self.refs: dict[int, object] = {}
        self.pids = []
        self.orders = []
        for one in traps:
            orders, inbox = trio.open_memory_channel[tuple[Deed, int]](10)
            self.orders.append(orders)
            self.pids.append(spawn(self.actor, inbox, trap=one))

    async def actor(self, inbox: trio.MemoryReceiveChannel[tuple[Deed, int]]) -> None:
        async for deed, number in inbox:
            deed(self, number)

    def number_of(self, pid: object) -> int:
        return self.pids.index(pid)

    def told(self, message: object) -> tuple[object, ...]:
        """A message as the model has it."""
        if isinstance(message, Exit):
            return ("exit", self.number_of(message.source), message.reason)
        assert isinstance(message, Down)
        ref = next(number for number, ref in self.refs.items() if ref is message.ref)
        return ("down", ref, self.number_of(message.monitored), message.reason)


class LinksMachine(RuleBasedStateMachine):
    """Writes a program for the actors and keeps the model up with it; `teardown` runs it."""

    def __init__(self) -> None:
        super().__init__()
        self.program: list[tuple[int, Deed, list[bool]]] = []
        self.refs: list[tuple[int, int]] = []

    @initialize(traps=st.lists(st.booleans(), min_size=COUNT, max_size=COUNT))
    def birth(self, traps: list[bool]) -> None:
        """Who traps exits, from birth."""
        self.traps = traps
        self.model = Model(traps)

    def step(self, by: int, deed: Deed) -> None:
        self.program.append((by, deed, self.model.alive()))

    def dead(self, number: int) -> bool:
        return not self.model.actors[number].alive

    @rule(by=someone, other=someone)
    def link(self, by: int, other: int) -> None:
        """With the living: both ways, once. With the dead: an Exit, or an error for one that does not trap (P15)."""
        if self.dead(by):
            return
        actor = self.model.actors[by]
        refused = self.dead(other) and not actor.traps
        if self.dead(other):
            if actor.traps:
                actor.mail["exit", other, NOPROC] += 1
        elif by != other:
            actor.links.add(other)
            self.model.actors[other].links.add(by)

        def deed(stage: Stage, _by: int) -> None:
            try:
                link(stage.pids[other])
            except NoProcess:
                assert refused
            else:
                assert not refused

        self.step(by, deed)

    @rule(by=someone, other=someone)
    def unlink(self, by: int, other: int) -> None:
        """Both ways again; no signal of the other arrives after it (P17)."""
        if self.dead(by):
            return
        self.model.actors[by].links.discard(other)
        self.model.actors[other].links.discard(by)
        self.step(by, lambda stage, _by: unlink(stage.pids[other]))

    @rule(by=someone, other=someone)
    def monitor(self, by: int, other: int) -> None:
        """Each monitor is one of its own; of the dead it fires at once, of oneself never (P21-P25)."""
        if self.dead(by):
            return
        ref = len(self.refs)
        self.refs.append((by, other))
        if self.dead(other):
            self.model.actors[by].mail["down", ref, other, NOPROC] += 1
        elif by != other:
            self.model.actors[by].monitors[ref] = other

        def deed(stage: Stage, _by: int) -> None:
            stage.refs[ref] = monitor(stage.pids[other])

        self.step(by, deed)

    @rule(which=st.integers(0, 30), flush=st.booleans())
    def demonitor(self, which: int, flush: bool) -> None:
        """No Down after it; with flush one that lies in the mailbox goes too (P27, P28)."""
        if which >= len(self.refs) or self.dead(self.refs[which][0]):
            return
        by, _ = self.refs[which]
        actor = self.model.actors[by]
        active = actor.monitors.pop(which, None) is not None
        if flush:
            for letter in [one for one in actor.mail if one[:2] == ("down", which)]:
                del actor.mail[letter]

        def deed(stage: Stage, _by: int) -> None:
            assert demonitor(stage.refs[which], flush=flush) is active

        self.step(by, deed)

    @rule(by=someone, other=someone, reason=reasons)
    def send_exit(self, by: int, other: int, reason: object) -> None:
        """A signal to another, or to oneself, where NORMAL ends one that does not trap (P4-P11)."""
        if self.dead(by):
            return
        actor = self.model.actors[by]
        if by == other and (reason is KILL or not actor.traps):
            self.model.end(by, KILLED if reason is KILL else reason)
        else:
            self.model.signal(by, other, reason)
        self.step(by, lambda stage, _by: exit(stage.pids[other], reason))

    @rule(by=someone, reason=st.sampled_from([NORMAL, SHUTDOWN, "boom"]))
    def end(self, by: int, reason: object) -> None:
        """It ends of itself, with exactly that reason (P2)."""
        if self.dead(by):
            return
        self.model.end(by, reason)
        self.step(by, lambda _stage, _by: exit_with(reason))

    @rule(by=someone, traps=st.booleans())
    def trap(self, by: int, traps: bool) -> None:
        """Trapping can be turned on and off (P19)."""
        if self.dead(by):
            return
        actor = self.model.actors[by]
        before, actor.traps = actor.traps, traps

        def deed(_stage: Stage, _by: int) -> None:
            assert trap_exit(traps) is before

        self.step(by, deed)

    def teardown(self) -> None:
        """Run the program on the real runtime, let all signals arrive after each step, then read all mail."""

        async def main() -> None:
            async with running_node():
                stage = Stage(self.traps)
                await trio.testing.wait_all_tasks_blocked()
                for number, (by, deed, alive) in enumerate(self.program):
                    await stage.orders[by].send((deed, by))
                    await trio.testing.wait_all_tasks_blocked()
                    assert [is_alive(pid) for pid in stage.pids] == alive, f"step {number}"
                await self.compare(stage)

        run_virtually(main)

    async def compare(self, stage: Stage) -> None:
        """The living know as much, and of the same, as the model says."""
        for number, actor in enumerate(self.model.actors):
            info = process_info(stage.pids[number])
            assert (info is not None) is actor.alive
            if info is None:
                continue
            assert info.links == len(actor.links)
            mail: Counter[tuple[object, ...]] = Counter()
            done = trio.Event()
            stage.orders[number].send_nowait((lambda _stage, _by, mail=mail, done=done: reader(mail, done), number))
            await trio.testing.wait_all_tasks_blocked()
            assert Counter(stage.told(one) for one in mail.elements()) == +actor.mail, f"mail of {number}"


def reader(mail: Counter[object], done: trio.Event) -> None:
    """Put all mail of the calling process into a list, without waiting: a receive that looks once never does."""
    while True:
        looking = receive(timeout=0)
        try:
            looking.send(None)
        except StopIteration as found:
            mail[found.value] += 1
        except ReceiveTimeout:
            done.set()
            return


@pytest.mark.slow
def test_links_and_monitors_are_what_their_model_is():
    """200 programs of links, monitors, signals and deaths end as the model says (P1-P30, P48)."""
    run_state_machine_as_test(
        LinksMachine,
        settings=settings(
            max_examples=200, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
