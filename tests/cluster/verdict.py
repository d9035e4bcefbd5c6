"""The judgement of a run under real faults: the stores of all nodes against all that clients were told.

A register lies in one store, and its entries are its history: each bears the sender and the number of its command.
What was answered must be there, nothing twice, and there must be an order that explains what everybody saw.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, final

from runtime.testing.history import Applied, CommandId, History, Operation, doubled, lost, out_of_order, unequal_replies
from runtime.testing.linearizability import NEVER, Answered, Placed, not_linearizable
from supervisors.node.boot import open_store
from tests.simulation.inside import outcome_of

from .registers import REGISTERS, Put

# Seconds after a node's return in which it is looked at whether it has claimed its shards anew.
_SOON: Final = 10.0


@final
@dataclass(slots=True)
class Register:
    """A register as its entries make it: who wrote, what it held after so many of them, under which epochs."""

    home: str
    ids: list[CommandId] = field(default_factory=list)
    values: list[int] = field(default_factory=lambda: [0])
    replies: list[object] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    # By its node's wall clock.
    times: list[float] = field(default_factory=list)


@final
@dataclass(frozen=True, slots=True)
class Return:
    """A node that stood still for longer than its lease: whose, and until when, by its wall clock."""

    node: str
    stopped: float
    woken: float


@final
@dataclass(slots=True)
class Verdict:
    """What is wrong, in words, by kind."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    nonlinear: list[str] = field(default_factory=list)

    def all(self) -> list[str]:
        """Each of them."""
        return [*self.lost, *self.doubled, *self.nonlinear]


def registers_of(stores: Iterable[tuple[str, Path]]) -> tuple[dict[str, Register], list[str]]:
    """All registers, from the stores of nodes that have ended; and what is wrong with where they lie."""
    found: dict[str, Register] = {}
    wrong = []
    for node, path in stores:
        with closing(open_store(path, read_only=True)) as journal:
            for name in journal.keys(f"{REGISTERS}/"):
                key = name.partition("/")[2]
                entries = journal.read(name)
                if not entries:
                    continue
                if key in found:
                    wrong.append(f"owner: {key} was written by {found[key].home} and by {node}")
                found[key] = one = Register(node)
                for entry in entries:
                    events, reply = outcome_of(entry)
                    one.epochs.append(entry.epoch)
                    one.times.append(entry.wall)
                    for event in events:
                        assert isinstance(event, Put)
                        one.ids.append(CommandId(key, event.sender, event.number))
                        one.values.append(event.value)
                        one.replies.append(_plain(reply))
                if one.epochs != sorted(one.epochs):
                    wrong.append(f"fence: the epochs of {key} are {one.epochs}")
    return found, wrong


def judge(registers: dict[str, Register], history: History) -> Verdict:
    """Hold the registers against the history."""
    applied = [
        Applied(id, place, reply)
        for one in registers.values()
        for place, (id, reply) in enumerate(zip(one.ids, one.replies, strict=True), 1)
    ]
    verdict = Verdict(lost(history, applied), doubled(applied), unequal_replies(history, applied))
    asked: dict[CommandId, Operation] = {one.id: one for one in history.operations if one.id.number}
    verdict.doubled += [f"nobody asked for {id}" for id in {one.id for one in applied} if id not in asked]
    there = {one.id for one in applied}
    verdict.doubled += [
        f"{one.id} was refused ({one.refused}), and was applied"
        for one in asked.values()
        if one.refused is not None and one.id in there
    ]
    # Senders of sessions bear the key in their name: only they wait for each answer before they go on.
    verdict.nonlinear += out_of_order(one for one in applied if "/" in one.id.sender and one.id.sender[:5] != "probe")
    by_key: dict[str, list[Operation]] = {}
    for operation in history.operations:
        by_key.setdefault(operation.id.key, []).append(operation)
    for key, operations in by_key.items():
        verdict.nonlinear += _linear(key, registers.get(key) or Register(""), operations)
    return verdict


def _linear(key: str, register: Register, operations: list[Operation]) -> list[str]:
    places = {id: place for place, id in enumerate(register.ids, 1)}
    placed, answers = [], []
    for one in operations:
        place = places.get(one.id)
        if place is not None:
            placed.append(Placed(str(one.id), place, one.called, NEVER if one.answered is None else one.answered))
        elif one.answered is not None and (one.refused is not None or not one.id.number):
            told = one.refused if one.refused is not None else one.reply
            what = f"{one.request} of {one.id.sender}, answered {told}"
            answers.append(Answered(what, one.called, one.answered, _fits(register, one)))
    return not_linearizable(key, placed, answers, len(register.ids))


def _fits(register: Register, one: Operation) -> Any:
    request: Any = one.request
    values = register.values
    if request["op"] == "read":
        return lambda place: one.reply == (place, values[place])
    return lambda place: values[place] != request["wanted"]


def stale(registers: dict[str, Register], returns: Iterable[Return]) -> list[str]:
    """What a node has committed after its return under an epoch from before: its lease was over by then."""
    found = []
    for one in returns:
        for key, register in registers.items():
            if register.home != one.node:
                continue
            times, epochs = register.times, register.epochs
            for place, (at, epoch) in enumerate(zip(times, epochs, strict=True)):
                # No longer than that, since clocks jump in other rounds; all of it lies within a second.
                if one.woken <= at <= one.woken + _SOON:
                    before = [past for when, past in zip(times[:place], epochs, strict=False) if when <= one.stopped]
                    if epoch <= max(before, default=0):
                        found.append(f"stale: {key} was written {at - one.woken:.3f} s after {one.node} woke")
    return found


def _plain(reply: object) -> object:
    return tuple(reply) if isinstance(reply, list | tuple) else reply
