"""Windows and intakes: exactly once and in order, whatever the network does and whoever is the owner.

Invariant hunted: a command is applied at most once per life of its entity's state, in its caller's order; its
caller hears once what came of it; after the faults everything is answered.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from supervisors.shards import window as windows
from supervisors.shards.frames import Carry, Open, Probe
from supervisors.shards.intake import Intake, Taken
from supervisors.shards.window import SLOTS, Command, Window, redirect
from tests.unit.supervisors.shards.cluster import CALLERS, KEYS, NODES, SENDERS, Broken, Cluster, drive

which = st.integers(0, 40)
senders, owners = st.sampled_from(SENDERS), st.sampled_from(NODES)


class Machine(RuleBasedStateMachine):
    """Hypothesis drives the cluster on paper."""

    durable = True

    def __init__(self) -> None:
        super().__init__()
        self.cluster = Cluster(durable=self.durable)

    @rule(node=senders, caller=st.sampled_from(CALLERS), key=st.sampled_from(KEYS))
    def submit(self, node: str, caller: str, key: str) -> None:
        self.cluster.submit(node, caller, key)

    @rule(step=st.sampled_from(["deliver", "deliver", "deliver", "double", "drop"]), which=which)
    def wire(self, step: str, which: int) -> None:
        getattr(self.cluster, step)(which)

    @rule(step=st.sampled_from(["probe", "tell", "cut"]), node=senders)
    def sender(self, step: str, node: str) -> None:
        getattr(self.cluster, step)(node)

    @rule(node=senders, which=which)
    def leave(self, node: str, which: int) -> None:
        self.cluster.leave(node, which)

    @rule(node=owners, which=which)
    def work(self, node: str, which: int) -> None:
        self.cluster.work(node, which)

    @rule(step=st.sampled_from(["freeze", "thaw", "crash", "move", "learn"]), node=owners)
    def owner(self, step: str, node: str) -> None:
        getattr(self.cluster, step)(node)

    @rule()
    def restart(self) -> None:
        self.cluster.restart()

    def teardown(self) -> None:
        self.cluster.settle()


class Volatile(Machine):
    """The same for entities that forget everything with their owner."""

    durable = False


@pytest.mark.parametrize("machine", [Machine, Volatile])
def test_every_command_is_applied_once_in_order_and_answered(machine):
    """Loss, duplication, reordering and changes of the owner: exactly once, in order, and all is answered."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=60, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


@pytest.mark.parametrize("durable", [True, False])
def test_long_runs_from_seeds_keep_every_promise(durable):
    """A hundred longer runs out of seeds end with every command answered."""
    assert sum(len(drive(seed, durable=durable).outcomes) for seed in range(100)) > 1000


# -- planted bugs ----------------------------------------------------------------------------------------


def no_numbers(patch):
    """The owner goes by no number: whatever comes is carried out."""

    def carry(self: Intake, frame: Carry) -> Taken:
        row = self._row(frame.sender, frame.node, frame.base)
        if (frame.epoch, frame.life) != (self.epoch, self.life) or frame.slot < 0:
            return Taken(open=self._open(frame.sender, row))
        row.expected = max(row.expected, frame.number + 1)
        row.running.add(frame.number)
        return Taken(run=True)

    patch.setattr(Intake, "carry", carry)


def dedup_forgotten_on_resend(patch):
    """A sender that asks again is a new one."""
    original = Intake.probe

    def probe(self: Intake, frame: Probe) -> Any:
        self.rows.pop(frame.sender, None)
        return original(self, frame)

    patch.setattr(Intake, "probe", probe)


def cache_never_invalidated(patch):
    """Who was the owner once is the owner for ever."""
    original = Window._at

    def at(self: Window, node: str, epoch: int) -> Any:
        return original(self, node, epoch) if self.owner is None else []

    patch.setattr(Window, "_at", at)


def hold_queue_drops(patch):
    """An owner without room counts a command as taken, and drops it."""
    original = Intake.carry

    def carry(self: Intake, frame: Carry) -> Taken:
        row = self._row(frame.sender, frame.node, frame.base)
        if self.under_way >= self.most and frame.number == row.expected:
            row.expected += 1
            return Taken()
        return original(self, frame)

    patch.setattr(Intake, "carry", carry)


def no_slots(patch):
    """All commands for an entity share one session, and nobody waits for an answer in it."""
    original = Window._frame
    patch.setattr(windows, "SLOTS", 10_000)
    patch.setattr(Window, "_frame", lambda *args: replace(original(*args), slot=min(0, original(*args).slot)))


def callers_do_not_wait(patch):
    """A caller's next command does not wait for the answer to the one before."""
    original = Window.submit

    def submit(self: Window, command: Command) -> Any:
        command.who = None
        return original(self, command)

    patch.setattr(Window, "submit", submit)


def answers_are_not_kept(patch):
    """What came of a command is told once."""
    original = Intake.finished

    def finished(self: Intake, sender: str, number: int, outcome: Any) -> Any:
        node = original(self, sender, number, outcome)
        self.rows[sender].outcomes.clear() if sender in self.rows else None
        return node

    patch.setattr(Intake, "finished", finished)


def any_answer_counts(patch):
    """The word of a former owner counts, also about what its successor was asked."""

    def done(self: Window, number: int, epoch: int, life: int) -> Any:
        command = self.pending.get(number)
        return original(self, number, *command.at) if command is not None and command.at else None

    original = Window.done
    patch.setattr(Window, "done", done)


def any_life_is_served(patch):
    """An owner serves what was meant for another life of it."""
    original = Intake.carry
    patch.setattr(Intake, "carry", lambda self, frame: original(self, replace(frame, epoch=self.epoch, life=self.life)))


def sent_backwards(patch):
    """A node that is not the owner sends on to whom it takes for the owner, whatever the sender knows."""
    patch.setattr(
        "tests.unit.supervisors.shards.cluster.redirect",
        lambda owner, here, epoch, shard, sender: redirect(owner, here, -1, shard, sender),
    )


def nothing_is_asked_again(patch):
    """A sender waits for an answer, and does not ask."""
    original = Window.probe
    asked: set[int] = set()

    def probe(self: Window) -> Any:
        if id(self) in asked:
            return []
        asked.add(id(self))
        return original(self)

    patch.setattr(Window, "probe", probe)


PLANTED = {
    no_numbers: ("doubled", "order", "reply", "lost", "bounds"),
    dedup_forgotten_on_resend: ("doubled", "liveness"),
    cache_never_invalidated: ("liveness",),
    hold_queue_drops: ("liveness", "lost"),
    no_slots: ("reply", "lost"),
    callers_do_not_wait: ("order",),
    answers_are_not_kept: ("liveness",),
    any_answer_counts: ("doubled",),
    any_life_is_served: ("doubled", "order", "reply", "lost"),
    sent_backwards: ("loop",),
    nothing_is_asked_again: ("liveness",),
}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_found(plant, monkeypatch):
    """Each mistake that could be made breaks a promise in one of 600 seeds, and the seed passes without it."""
    with monkeypatch.context() as patch:
        plant(patch)
        found = next(filter(None, (broken(seed, durable) for seed in range(600) for durable in (True, False))), None)
    assert found is not None
    text, seed, durable = found
    assert text.partition(":")[0] in PLANTED[plant], text
    drive(seed, durable=durable)


def broken(seed: int, durable: bool) -> tuple[str, int, bool] | None:
    """What a seed finds."""
    try:
        drive(seed, durable=durable)
    except Broken as error:
        return str(error), seed, durable
    return None


# -- one thing at a time ---------------------------------------------------------------------------------


def opened(window: Window, expected: int = 1, life: int = 1) -> list[Any]:
    """A window whose owner waits for a number."""
    assert window.owner is not None
    return window.opened(Open(1, window.epoch, window.owner, life, window.sender, expected))


def numbers(frames: list[Any]) -> list[int]:
    """Of which commands these frames are."""
    return [frame.number for frame in frames if isinstance(frame, Carry)]


def test_nothing_is_sent_before_an_owner_has_opened():
    """A window asks first, and sends what waits when it is told what is expected."""
    window = Window(1, "a", "a.1")
    assert window.submit(Command("oak", "call", 1)) == []
    assert window.placed(("b", 3)) == [Probe(1, 3, "a", "a.1", 1, 1)]
    assert numbers(opened(window)) == [1]
    assert numbers(window.submit(Command("elm", "call", 2))) == [2]


def test_an_owner_of_an_older_epoch_is_not_believed():
    """The owner changes towards a higher epoch only, whoever says so."""
    window = Window(1, "a", "a.1")
    window.submit(Command("oak", "call", 1))
    window.placed(("b", 3))
    assert (window.moved("c", 2), window.moved("c", 3), window.owner) == ([], [], "b")
    assert window.moved("c", 4) == [Probe(1, 4, "a", "a.1", 1, 1)]
    assert redirect(("c", 4), "b", 4, 1, "a.1") is None


def test_a_new_owner_is_sent_all_that_is_not_answered():
    """After a change of the owner everything without an outcome is sent again, in order."""
    window = Window(1, "a", "a.1")
    window.placed(("b", 3))
    for number in range(3):
        window.submit(Command(KEYS[number % 2], "call", number))
    opened(window)
    assert window.done(1, 3, 1) is not None
    window.moved("c", 4)
    assert numbers(opened(window, life=9)) == [2, 3]
    assert window.done(2, 3, 1) is None
    assert window.done(2, 4, 9) is not None


def test_a_window_is_bounded_and_says_when_it_is_full():
    """As many are under way as the window's size, as many wait as its bound says; then it is full."""
    window = Window(1, "a", "a.1", size=2, held=3)
    window.placed(("b", 1))
    for number in range(5):
        assert not window.full
        window.submit(Command(f"key {number}", "call", number))
    assert (len(window.pending), window.held, window.full) == (2, 3, True)


def test_a_key_that_must_wait_holds_up_no_other():
    """A caller's second command for an entity waits for the first; other callers and keys pass."""
    window = Window(1, "a", "a.1")
    window.placed(("b", 1))
    for key, who in [("oak", "ann"), ("oak", "ann"), ("elm", "ann"), ("fir", "bob")]:
        window.submit(Command(key, "cast", None, who))
    assert numbers(opened(window)) == [1, 2, 3]
    assert window.held == 1
    window.done(1, 1, 1)
    assert numbers(window.more()) == [4]


def test_one_entity_has_so_many_sessions():
    """Of one entity no more commands are under way than there are slots."""
    window = Window(1, "a", "a.1")
    window.placed(("b", 1))
    for number in range(SLOTS + 2):
        window.submit(Command("oak", "call", number))
    assert (len(window.pending), window.held) == (SLOTS, 2)
    assert sorted(command.slot for command in window.pending.values()) == list(range(SLOTS))


def test_who_was_not_taken_is_told_when_there_is_room():
    """An intake without room takes nothing more, and its senders send again when it has."""
    intake = Intake(1, 1, "b", 1, most=2)
    frames = [Carry(1, 1, 1, "a", "a.1", 1, number, 0, "oak", "call", None, (), 0.0) for number in (1, 2, 3)]
    assert [intake.carry(frame).run for frame in frames] == [True, True, False]
    assert intake.finished("a.1", 1, ("ok", 1)) == "a"
    assert intake.room() == [("a", Open(1, 1, "b", 1, "a.1", 3))]
    assert intake.carry(frames[2]).run


def test_a_frozen_intake_holds_what_comes_in_order():
    """What is taken while an intake is frozen is there when it thaws, and a repeated command is there once."""
    intake = Intake(1, 1, "b", 1)
    intake.freeze()
    frames = [Carry(1, 1, 1, "a", "a.1", 1, number, 0, "oak", "call", None, (), 0.0) for number in (1, 2, 1)]
    for frame in frames:
        if intake.carry(frame).run:
            intake.hold.append(frame)
    assert intake.thaw() == frames[:2]
    assert not intake.frozen


def test_what_was_never_sent_can_be_taken_back():
    """A command that no owner was sent is taken back, numbered or not; one that was sent is not."""
    window = Window(1, "a", "a.1", size=1)
    first, second, third = (Command(f"key {number}", "call", number) for number in range(3))
    for command in (first, second, third):
        window.submit(command)
    assert window.withdraw(first)
    window.placed(("b", 1))
    assert window.more() == []  # it was asked to open, and is not asked again
    assert numbers(opened(window)) == [2]
    assert (window.withdraw(second), window.withdraw(third)) == (False, True)
    assert (second.at, window.held) == ((1, 1), 0)


def test_an_owner_is_asked_to_open_by_the_first_command():
    """An idle window that knows its owner asks it with the first command, not at the next tick."""
    window = Window(1, "a", "a.1")
    assert window.placed(("b", 1)) == []
    assert window.submit(Command("oak", "call", 1)) == [Probe(1, 1, "a", "a.1", 1, 1)]
    assert window.submit(Command("elm", "call", 2)) == []
