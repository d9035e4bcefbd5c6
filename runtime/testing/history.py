"""What the clients of a run were told, and whether the journal bears it out.

A `History` is filled while the run goes on: each command that was answered, with its reply. Afterwards the
checkers hold it against what the journal says was applied. They look at the final state, not at the answers
alone: a checker of answers misses a command that was applied twice. Each returns one text for each thing that
is wrong, and an empty list if nothing is.

Pure; it knows no application: what a command is called, what a reply is, and which quantities must be
conserved is said by whoever calls. Source: Jepsen's histories and set checkers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True, slots=True, order=True)
class CommandId:
    """What identifies a numbered command: the receiver's key, the sender, the number."""

    key: str
    sender: str
    number: int

    def __str__(self) -> str:
        return f"number {self.number} of {self.sender} to {self.key}"


@final
@dataclass(frozen=True, slots=True)
class Applied:
    """One entry of a journal that a numbered command has left: where it lies, and the reply that is kept."""

    id: CommandId
    sequence: int
    reply: object


@final
@dataclass(frozen=True, slots=True)
class Conserved:
    """A quantity that must stay the same: `made` is all that was ever put in, `held` all that is there."""

    name: str
    made: int
    held: int


@final
@dataclass(slots=True)
class Operation:
    """One request of a client, from its first sending to its answer.

    Attributes:
        id: its receiver, sender and number; number 0 for a query.
        request: what was asked.
        called: the moment of its first sending.
        answered: the moment of its answer, or None.
        reply, refused: what was answered; `refused` is the reason of a refusal.
    """

    id: CommandId
    request: object
    called: int
    answered: int | None = None
    reply: object = None
    refused: str | None = None


@final
class History:
    """What was asked and answered, in order; a command that was answered more than once has all its replies here.

    Attributes:
        answers: how many replies came.
        operations: all requests, in the order of their sending.
    """

    def __init__(self) -> None:
        self._replies: dict[CommandId, list[object]] = {}
        self.answers = 0
        self.operations: list[Operation] = []
        self._moment = 0

    def called(self, key: str, sender: str, number: int, request: object) -> Operation:
        """A client sends a request, for the first time."""
        self._moment += 1
        operation = Operation(CommandId(key, sender, number), request, self._moment)
        self.operations.append(operation)
        return operation

    def answered(self, operation: Operation, reply: object = None, refused: str | None = None) -> None:
        """A request has its answer."""
        self._moment += 1
        operation.answered, operation.reply, operation.refused = self._moment, reply, refused

    def acked(self, key: str, sender: str, number: int, reply: object) -> None:
        """A command that left a journal entry, as its reply says, was answered with `reply`."""
        self.answers += 1
        self._replies.setdefault(CommandId(key, sender, number), []).append(reply)

    @property
    def replies(self) -> Mapping[CommandId, Sequence[object]]:
        """Each answered command's replies, in the order in which they came."""
        return self._replies


def lost(history: History, applied: Iterable[Applied]) -> list[str]:
    """Commands that were answered and are not in the journal (promise P1)."""
    there = {one.id for one in applied}
    return [f"lost: {id} was answered and is not in the journal" for id in history.replies if id not in there]


def doubled(applied: Iterable[Applied]) -> list[str]:
    """Commands that the journal holds more than once (promise P2)."""
    counts = Counter(one.id for one in applied)
    return [f"doubled: {id} was applied {times} times" for id, times in counts.items() if times > 1]


def unequal_replies(history: History, applied: Iterable[Applied]) -> list[str]:
    """Commands of which one answer differs from another, or from the reply in the journal (promise P2)."""
    kept = {one.id: one.reply for one in applied}
    wrong = []
    for id, replies in history.replies.items():
        wanted = kept.get(id, replies[0])
        wrong += [f"reply: {id} was answered {got!r}, and also {wanted!r}" for got in replies if got != wanted]
    return wrong


def out_of_order(applied: Iterable[Applied]) -> list[str]:
    """Senders whose commands one receiver has applied in another order than they were numbered."""
    last: dict[tuple[str, str], Applied] = {}
    wrong = []
    for one in sorted(applied, key=lambda a: (a.id.key, a.sequence)):
        before = last.get((one.id.key, one.id.sender))
        # A number that comes twice is `doubled`'s business.
        if before is not None and one.id.number < before.id.number:
            wrong.append(f"order: {one.id} is entry {one.sequence}, {before.id.number} was entry {before.sequence}")
        last[one.id.key, one.id.sender] = one
    return wrong


def unbalanced(quantities: Iterable[Conserved]) -> list[str]:
    """Quantities of which there is more or less than was put in."""
    return [
        f"conservation: {one.held} {one.name} are there, {one.made} were put in"
        for one in quantities
        if one.made != one.held
    ]


def left_over(tasks: Iterable[str], processes: Iterable[str]) -> list[str]:
    """What is still there although its node has ended: names of tasks and processes."""
    return [*(f"left: task {name}" for name in tasks), *(f"left: process {name}" for name in processes)]
