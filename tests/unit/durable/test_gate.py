"""The output gate as a machine: what may leave when, and what comes back when a commit fails."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runtime.durable.commands import KEPT_REPLIES, AlreadyDone
from runtime.durable.gate import NEW, Gate


def gate() -> Gate[int]:
    return Gate(0)


def said(steps: list) -> list:
    return [(step.caller, step.error or step.reply) for step in steps]


def test_nothing_leaves_before_its_entry_is_settled() -> None:
    """Replies leave in order, each with the settling of its own entry."""
    it = gate()
    assert [it.accept(("e",), n, f"caller {n}", n) for n in (1, 2, 3)] == [1, 2, 3]
    assert (it.committed, it.speculative, it.settled, it.sequence) == (0, 3, 0, 3)
    assert said(it.settle(2)) == [("caller 1", 1), ("caller 2", 2)]
    assert (it.committed, it.speculative, it.settled) == (2, 3, 2)
    assert said(it.settle(2)) == []
    assert said(it.settle(3)) == [("caller 3", 3)]
    assert (it.committed, it.settled) == (3, 3)


def test_an_answer_without_an_entry_waits_for_what_is_under_way() -> None:
    """A refusal that follows from uncommitted events would tell of them; with nothing under way it leaves at once."""
    it = gate()
    refusal = ValueError("no")
    assert not it.hold("early", None, refusal)
    it.accept(("e",), 1, "first", 1)
    assert it.hold("second", None, refusal)
    assert it.hold("third", "same")
    assert said(it.settle(0)) == []
    assert said(it.settle(1)) == [("first", 1), ("second", refusal), ("third", "same")]


def test_a_failed_commit_gives_everything_back() -> None:
    """After `discard` the state, the next sequence and what is known of senders are as committed."""
    it = gate()
    it.accept(("e",), 1, "a", 1, "ann", 1)
    it.settle(1)
    it.accept(("e",), 2, "b", 2, "ann", 2)
    it.hold("c", "answer")
    assert [step.caller for step in it.discard()] == ["b", "c"]
    assert (it.speculative, it.sequence, it.known("ann", 1), it.known("ann", 2)) == (1, 1, 1, NEW)
    assert it.accept(("e",), 5, "d", 5, "ann", 2) == 2


def test_a_number_is_known_from_its_acceptance_on() -> None:
    """A repeated command gets the same reply whether its entry is under way, committed, or long ago."""
    it = gate()
    assert it.known("ann", 1) is NEW
    it.accept(("e",), 1, None, "one", "ann", 1)
    it.accept(("e",), 2, None, "two", "ann", 2)
    assert (it.known("ann", 1), it.known("ann", 2), it.known("ann", 3), it.known("bob", 1)) == ("one", "two", NEW, NEW)
    it.settle(1)
    assert (it.known("ann", 1), it.known("ann", 2)) == ("one", "two")
    it.settle(2)
    for number in range(3, KEPT_REPLIES + 3):
        it.settle(it.accept(("e",), number, None, number, "ann", number))
    assert (it.known("ann", 2), it.known("ann", 3)) == (AlreadyDone("ann", 2), 3)


def test_replies_hold_committed_outcomes_only() -> None:
    """A snapshot taken from the table must not say that something was applied which may still be lost."""
    it = gate()
    it.accept(("e",), 1, None, "one", "ann", 1)
    it.accept(("e",), 2, None, "two", "ann", 2)
    it.settle(1)
    assert (it.replies["ann"].highest, list(it.replies["ann"].kept)) == (1, [(1, "one")])


@given(st.lists(st.sampled_from(["accept", "hold", "settle", "discard"]), max_size=60), st.randoms())
def test_every_answer_is_given_once_and_in_order(moves: list[str], random) -> None:
    """Whatever happens, each accepted caller comes out exactly once, in order, and states stay in step."""
    it = gate()
    entered: list[int] = []
    left: list[int] = []
    for number, move in enumerate(moves):
        if move == "accept":
            it.accept(("e",), it.speculative + 1, number, None)
            entered.append(number)
        elif move == "hold":
            if it.hold(number, None):
                entered.append(number)
        elif move == "settle" and it.steps:
            left += [step.caller for step in it.settle(random.randint(it.settled, it.sequence))]
        elif move == "discard":
            left += [step.caller for step in it.discard()]
        assert it.committed == it.settled
        assert it.speculative == it.sequence
    left += [step.caller for step in it.settle(it.sequence)]
    assert left == entered
