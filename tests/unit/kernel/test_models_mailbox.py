"""A mailbox against a model of it: selective receive, the save queue, the bound, and who waits for room.

Hypothesis makes up programs. The model, a few lists, says what each step must give; when a program is
complete, the real runtime runs it in one go and is held to that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from runtime import (
    Exit,
    MailboxFull,
    ReceiveTimeout,
    exit,
    process_info,
    receive,
    send,
    send_nowait,
    spawn,
)
from tests.support.processes import run_virtually, running_node

LIMIT = 4
PATIENCE = 5.0

kinds = st.sampled_from(["red", "green", "blue"])


@dataclass(frozen=True)
class Letter:
    """An ordinary message; a signal has no number, so that it cannot be taken for one."""

    kind: str
    number: int


@dataclass
class Model:
    """What a mailbox is: messages in order, those who wait for room, and what its owner waits for."""

    mail: list[object] = field(default_factory=list)
    senders: list[Letter] = field(default_factory=list)
    wanted: str | None = None

    def counted(self) -> int:
        return sum(isinstance(one, Letter) for one in self.mail)

    def offer(self, letter: Letter) -> bool:
        """An ordinary message comes: whether there was room."""
        if self.counted() >= LIMIT:
            return False
        self.mail.append(letter)
        return True

    def take(self, kind: str) -> object:
        """The first that fits leaves, the others keep their places; room goes to who waits longest."""
        for index, one in enumerate(self.mail):
            if fits(kind)(one):
                del self.mail[index]
                while self.senders and self.counted() < LIMIT:
                    self.mail.append(self.senders.pop(0))
                return one
        return None

    def arrived(self) -> list[object]:
        """What the owner gets out of its wait, now that something has come."""
        if self.wanted is None:
            return []
        found = self.take(self.wanted)
        if found is None:
            return []
        self.wanted = None
        return [("received", found)]


def fits(kind: str) -> Callable[[object], bool]:
    """The matcher of a receive: any, signals only, or letters of one kind."""
    if kind == "any":
        return lambda message: True
    if kind == "signal":
        return lambda message: isinstance(message, str)
    return lambda message: isinstance(message, Letter) and message.kind == kind


def real(kind: str) -> Callable[[object], bool]:
    """The same on what really lies in a mailbox, where a signal is an Exit."""
    return lambda message: fits(kind)(plain(message))


def plain(message: object) -> object:
    """A message as the model has it."""
    return message.reason if isinstance(message, Exit) else message


class Stage:
    """A real process that receives what it is told to, and a log of all that happens."""

    def __init__(self) -> None:
        self.log: list[object] = []
        self.orders, self.inbox = trio.open_memory_channel[str | tuple[str]](100)
        self.pid = spawn(self.owner, trap=True, limit=LIMIT)

    async def owner(self) -> None:
        async for order in self.inbox:
            kind, timeout = (order, 0) if isinstance(order, str) else (order[0], float("inf"))
            try:
                self.log.append(("received", plain(await receive(real(kind), timeout=timeout))))
            except ReceiveTimeout:
                self.log.append("nothing")

    def send_nowait(self, letter: Letter) -> None:
        try:
            send_nowait(self.pid, letter)
        except MailboxFull:
            self.log.append(("full", letter.number))

    async def send(self, letter: Letter) -> None:
        try:
            await send(self.pid, letter, timeout=PATIENCE)
        except MailboxFull:
            self.log.append(("full", letter.number))

    def look(self) -> None:
        info = process_info(self.pid)
        assert info is not None
        self.log.append(("queue", info.queue))


Step = Callable[[Stage, trio.Nursery], Awaitable[None]]


class MailboxMachine(RuleBasedStateMachine):
    """Writes a program and what it must give; `teardown` runs it."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.program: list[tuple[Step, list[object]]] = []
        self.number = 0

    def step(self, real_step: Step, *expected: object) -> None:
        self.program.append((real_step, list(expected)))

    def letter(self, kind: str) -> Letter:
        self.number += 1
        return Letter(kind, self.number)

    @rule(kind=kinds)
    def send_at_once(self, kind: str) -> None:
        """In if there is room, else refused (P51); it may be what the owner waits for."""
        letter = self.letter(kind)

        async def act(stage: Stage, _nursery: trio.Nursery) -> None:
            stage.send_nowait(letter)

        self.step(act, *(self.model.arrived() if self.model.offer(letter) else [("full", letter.number)]))

    @rule(kind=kinds)
    def send_and_wait(self, kind: str) -> None:
        """In if there is room, else in the queue of those who wait for it."""
        letter = self.letter(kind)

        async def act(stage: Stage, nursery: trio.Nursery) -> None:
            nursery.start_soon(stage.send, letter)

        if self.model.offer(letter):
            self.step(act, *self.model.arrived())
        else:
            self.model.senders.append(letter)
            self.step(act)

    @rule(reason=st.sampled_from(["storm", "flood"]))
    def signal(self, reason: str) -> None:
        """A trapped signal always gets in, and is not counted."""

        async def act(stage: Stage, _nursery: trio.Nursery) -> None:
            exit(stage.pid, reason)

        self.model.mail.append(reason)
        self.step(act, *self.model.arrived())

    @precondition(lambda self: self.model.wanted is None)
    @rule(kind=st.sampled_from(["red", "green", "blue", "any", "signal"]))
    def look_once(self, kind: str) -> None:
        """The first that fits, or nothing; the others keep their order (P38, P39)."""

        async def act(stage: Stage, _nursery: trio.Nursery) -> None:
            await stage.orders.send(kind)

        found = self.model.take(kind)
        self.step(act, ("received", found) if found is not None else "nothing")

    @precondition(lambda self: self.model.wanted is None)
    @rule(kind=st.sampled_from(["red", "green", "blue", "any", "signal"]))
    def wait_for(self, kind: str) -> None:
        """The same, waiting: what does not fit meanwhile is saved in its place."""

        async def act(stage: Stage, _nursery: trio.Nursery) -> None:
            await stage.orders.send((kind,))

        self.model.wanted = kind
        self.step(act, *self.model.arrived())

    @rule()
    def let_time_pass(self) -> None:
        """Whoever still waits for room is told that there was none, and leaves the queue."""

        async def act(_stage: Stage, _nursery: trio.Nursery) -> None:
            await trio.sleep(PATIENCE + 1.0)  # virtual

        late, self.model.senders = self.model.senders, []
        self.step(act, *[("full", letter.number) for letter in late])

    @rule()
    def count(self) -> None:
        """The length that others see is that of all that waits."""

        async def act(stage: Stage, _nursery: trio.Nursery) -> None:
            stage.look()

        self.step(act, ("queue", len(self.model.mail)))

    def teardown(self) -> None:
        """Run the program on the real runtime; each step must give what the model said."""
        program = self.program

        async def main() -> None:
            async with running_node(), trio.open_nursery() as nursery:
                stage = Stage()
                for number, (act, expected) in enumerate(program):
                    await act(stage, nursery)
                    await trio.testing.wait_all_tasks_blocked()
                    # Who are told in one pass of the loop are told in any order.
                    assert sorted(map(repr, stage.log)) == sorted(map(repr, expected)), f"step {number}"
                    stage.log.clear()
                nursery.cancel_scope.cancel()

        run_virtually(main)


@pytest.mark.slow
def test_a_mailbox_is_what_its_model_is():
    """200 programs of sends, signals, receives and waits give what the model gives, step by step (P38, P39, P51)."""
    run_state_machine_as_test(
        MailboxMachine,
        settings=settings(
            max_examples=200, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
