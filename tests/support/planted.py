"""Planted bugs: patches that are put into the running program and nowhere else, and those that several tools look for.

A tool that finds nothing says little, unless it is known what it would have found. Each tool has a list of its
own; what stands here are the mistakes that are on more than one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from msgspec import structs

from runtime import AlreadyDone, Refused
from runtime.durable.gate import NEW
from runtime.kernel.signals import Answer
from tests.simulation.inside import name

# Makes a method or function anew, given the one that there was.
Make = Callable[[Any], Any]
# Where a bug is put in: an object, the name of what is replaced, and by what.
Patch = tuple[Any, str, Make]


@contextmanager
def planted(patches: Sequence[Patch]) -> Iterator[None]:
    """The program with a bug in it."""
    with pytest.MonkeyPatch.context() as patch:
        for owner, attribute, make in patches:
            patch.setattr(owner, attribute, make(getattr(owner, attribute)))
        yield


def reply_first(original: Any) -> Any:
    """A reply leaves before its commit (`EventSourced.accept`)."""

    def accept(self: Any, outcome: Any, caller: Any, sender: str, number: int) -> bool:
        accepted: bool = original(self, outcome, caller, sender, number)
        if accepted and caller is not None:
            caller.answer(outcome[1])
        return accepted

    return accept


def never_hold(_original: Any) -> Any:
    """A repeated reply or a refusal does not wait for the commit (`Gate.hold`)."""
    return lambda *_: False


def snapshot_without_replies(original: Any) -> Any:
    """A snapshot leaves out the kept replies (`EventSourced.take_snapshot`)."""

    def take_snapshot(self: Any) -> None:
        gate = getattr(self, name("gate"))
        kept, gate.replies = gate.replies, {}
        original(self)
        gate.replies = kept

    return take_snapshot


def recover_without_numbers(original: Any) -> Any:
    """A replayed entry leaves no reply (`recovery.replay`)."""

    def replay(one: Any, gate: Any, state: Any, sequence: int, entries: Any) -> None:
        original(one, gate, state, sequence, [structs.replace(entry, sender="") for entry in entries])

    return replay


def forget_old_numbers(original: Any) -> Any:
    """A number whose reply is no longer kept counts as new (`Gate.known`)."""

    def known(self: Any, sender: str, number: int) -> object:
        reply = original(self, sender, number)
        return NEW if isinstance(reply, AlreadyDone) else reply

    return known


def settle_anyway(original: Any) -> Any:
    """A delivery without an answer counts as settled (`EventSourced.answered`)."""

    def answered(self: Any, answer: Answer, destination: str, number: int) -> None:
        if answer.failed and not isinstance(answer.reason, Refused):
            answer = Answer(answer.label, None)
        original(self, answer, destination, number)

    return answered


def snapshot_one_early(original: Any) -> Any:
    """A snapshot says that it is one entry older (`EventSourced.take_snapshot`)."""

    def take_snapshot(self: Any) -> None:
        gate = getattr(self, name("gate"))
        early = gate.settled > 1
        gate.settled -= early
        original(self)
        gate.settled += early

    return take_snapshot
