"""The judgement of a run under real faults finds what is wrong, and only that."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.testing.history import CommandId, History

from .verdict import Register, Return, judge, stale


class Told:
    """One register, written by commands that were asked one after the other, and a history of them."""

    def __init__(self, *values: int) -> None:
        self.register = Register("a")
        self.history = History()
        for number, value in enumerate(values, 1):
            self.applied(number, value)
            self.add(number, (number, value))

    def applied(self, number: int, value: int) -> None:
        """An entry of the journal."""
        one = self.register
        one.ids.append(CommandId("k", "s", number))
        one.values.append(value)
        one.replies.append((len(one.ids), value))
        one.epochs.append(1)
        one.times.append(float(number))

    def add(self, number: int, reply: tuple[int, int] | None) -> None:
        """A client's command, and its answer, if there was one."""
        operation = self.history.called("k", "s", number, {"op": "add"})
        if reply is not None:
            self.history.answered(operation, reply)
            self.history.acked("k", "s", number, reply)

    def ask(self, reply: tuple[int, int]) -> None:
        """A client's question, with its answer."""
        self.history.answered(self.history.called("k", "s", 0, {"op": "read"}), reply)

    def swap(self, number: int, wanted: int) -> None:
        """A client's command that was refused."""
        operation = self.history.called("k", "s", number, {"op": "swap", "wanted": wanted})
        self.history.answered(operation, refused="it is another")

    @property
    def found(self) -> tuple[int, int, int]:
        """How much is lost, doubled and without an order."""
        verdict = judge({"k": self.register}, self.history)
        return len(verdict.lost), len(verdict.doubled), len(verdict.nonlinear)


def test_what_is_as_it_should_be_is_left_alone():
    """Answers, questions, refusals and commands that nobody heard of again have an order."""
    told = Told(5, 9)
    told.ask((2, 9))
    told.swap(3, 5)
    told.add(4, None)
    told.applied(4, 12)
    told.add(5, None)
    told.ask((3, 12))
    assert told.found == (0, 0, 0)


def spoil_lost(told: Told) -> None:
    """An answer that no entry bears out."""
    told.add(3, (3, 12))


def spoil_doubled(told: Told) -> None:
    """A command that left two entries."""
    told.applied(2, 13)


def spoil_unasked(told: Told) -> None:
    """An entry of a command that nobody sent."""
    told.applied(7, 13)


def spoil_refused(told: Told) -> None:
    """A command that was refused, and is there."""
    told.swap(3, 5)
    told.applied(3, 12)


def spoil_old(told: Told) -> None:
    """A question that is answered from before what was acknowledged."""
    told.ask((1, 5))


def spoil_reply(told: Told) -> None:
    """A second answer that differs from the first."""
    told.history.acked("k", "s", 2, (3, 14))


def spoil_swap(told: Told) -> None:
    """A refusal although the value was the wanted one."""
    told.swap(3, 9)


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (spoil_lost, (1, 0, 0)),
        (spoil_doubled, (0, 1, 1)),
        (spoil_unasked, (0, 1, 0)),
        (spoil_refused, (0, 1, 0)),
        (spoil_old, (0, 0, 1)),
        (spoil_reply, (0, 0, 1)),
        (spoil_swap, (0, 0, 1)),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_is_wrong_is_found(spoil: Any, found: tuple[int, int, int]):
    """Each thing that may be wrong counts where it belongs."""
    told = Told(5, 9)
    spoil(told)
    assert told.found == found


def test_a_commit_under_an_epoch_from_before_is_stale():
    """A node that stood still until its lease was over has to claim its shards anew before it commits."""
    told = Told(5, 9)
    assert stale({"k": told.register}, [Return("a", 1.5, 1.9)]) != []
    assert stale({"k": told.register}, [Return("b", 1.5, 1.9), Return("a", 2.5, 2.6)]) == []
    told.register.epochs[1] = 2
    assert stale({"k": told.register}, [Return("a", 1.5, 1.9)]) == []
