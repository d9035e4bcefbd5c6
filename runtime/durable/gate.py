"""The output gate: a durable process goes on while its commits are under way, and nothing leaves before them.

A process decides its next command on its speculative state, which has every event it has accepted. What
that command gives to the outside - a reply, a refusal, a repeated reply, news for others - is a `Step` in one
queue, and leaves when the commit of everything accepted before it is on the disk. So nobody ever hears of
what might still be lost, and a process is not held up by the disk. If a commit fails, all steps behind it are
given back, and the speculative state is the committed one again: the same as a restart from the store.

Pure: it keeps states, steps and what each sender was answered; the behaviour journals, replies and sends.
Source: speculative execution behind an output commit (Nightingale et al., "Speculator"; Strom and
Yemini's optimistic recovery); Raft client sessions for the replies.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container
from typing import Any, Final, Generic, TypeVar, final

import msgspec

from .commands import KEPT_REPLIES, AlreadyDone

S = TypeVar("S")

# Seconds by which a sender's clock may be ahead of the receiver's.
MARGIN: Final = 86400.0
# Names of forgotten senders that a process keeps.
EXPIRED_KEPT: Final = 1024


@final
class _New:
    __slots__ = ()


NEW: Final = _New()


@final
class Replies:
    """What is kept of one sender: the highest number applied and its last replies.

    `heard` is when it was applied, by the receiver's wall clock; `lasting` says that it is never forgotten.
    """

    __slots__ = ("heard", "highest", "kept", "lasting")

    def __init__(
        self, highest: int = 0, kept: tuple[tuple[int, object], ...] = (), heard: float = 0.0, lasting: bool = False
    ) -> None:
        self.highest = highest
        self.kept: deque[tuple[int, object]] = deque(kept, maxlen=KEPT_REPLIES)
        self.heard = heard
        self.lasting = lasting


@final
class Step(msgspec.Struct, eq=False):
    """One thing that is said when all that was accepted before it, and itself, is on the disk.

    Attributes:
        sequence: the entry it waits for: its own, or the one before it if it has none.
        accepted: whether it has an entry of its own.
        events, state: what happened, and the state after it; () and None for a step without an entry.
        caller: who gets `reply`, or `error` if that is not None; None if nobody waits.
        sender, number: of a numbered command; "" and 0 otherwise.
        wall, lasting: when it was accepted, and whether its sender is never forgotten.
    """

    sequence: int
    caller: Any
    reply: Any
    error: Exception | None = None
    events: tuple[Any, ...] = ()
    state: Any = None
    sender: str = ""
    number: int = 0
    wall: float = 0.0
    lasting: bool = False
    accepted: bool = False


@final
class Gate(Generic[S]):
    """The committed state, the speculative one, and the steps between them.

    Invariants: steps lie in the order of their sequences; without steps both states are the same; `replies`
    holds committed outcomes only, so a snapshot taken from it at `settled` is whole; no sender is in
    `replies` and in `expired`, and every one that was ever forgotten for good was last heard before `horizon`.
    """

    __slots__ = (
        *("_ahead", "committed", "expired", "horizon", "replies", "sequence", "settled", "speculative"),
        "steps",
    )

    def __init__(self, state: S) -> None:
        self.committed = self.speculative = state
        # The last entry that is on the disk, and the last one that was accepted.
        self.settled = self.sequence = 0
        self.steps: deque[Step] = deque()
        self.replies: dict[str, Replies] = {}
        # Senders that were forgotten, with the time they were last heard of; and before which time others may be.
        self.expired: dict[str, float] = {}
        self.horizon = 0.0
        self._ahead: dict[str, int] = {}

    def recover(self, state: S, sequence: int) -> None:
        """Take over what the store says: a state and the last entry in it."""
        self.committed = self.speculative = state
        self.settled = self.sequence = sequence

    def remember(self, sender: str, number: int, reply: object, wall: float = 0.0, lasting: bool = False) -> None:
        """Keep the committed reply to a numbered command that was accepted at `wall`."""
        kept = self.replies.get(sender)
        if kept is None:
            kept = self.replies[sender] = Replies()
            self.expired.pop(sender, None)
        kept.highest = number
        kept.kept.append((number, reply))
        kept.heard = wall
        if lasting:
            kept.lasting = True

    def known(self, sender: str, number: int) -> object:
        """The reply to a numbered command that was accepted before, perhaps not yet committed; else NEW."""
        if number <= self._ahead.get(sender, 0):
            for step in self.steps:
                if step.number == number and step.sender == sender:
                    return step.reply
        kept = self.replies.get(sender)
        if kept is None or number > kept.highest:
            return NEW if number > self._ahead.get(sender, 0) else AlreadyDone(sender, number)
        for one, reply in kept.kept:
            if one == number:
                return reply
        return AlreadyDone(sender, number)

    def lapsed(self, sender: str, since: float) -> bool:
        """Whether a sender whose number is NEW may be one that was forgotten: then nothing of it is applied.

        Args:
            since: when it first sent this command or first lived, in seconds since the Unix epoch; 0.0 if it
                cannot say. Who began after all that was forgotten is no stranger.
        """
        if sender in self.replies or sender in self._ahead:
            return False
        heard = self.expired.get(sender)
        if heard is not None:
            return since <= heard + MARGIN
        return self.horizon > 0.0 and since <= self.horizon

    def highest(self, sender: str) -> int:
        """The highest number of a sender that was accepted, perhaps not yet committed; 0 for none."""
        row = self.replies.get(sender)
        return max(row.highest if row is not None else 0, self._ahead.get(sender, 0))

    def forget_all_but(self, prefix: str, names: Container[str]) -> None:
        """Forget the senders whose names begin with a prefix, unless what comes after it is among `names`."""
        start = len(prefix)
        for sender in [one for one in self.replies if one.startswith(prefix) and one[start:] not in names]:
            del self.replies[sender]

    def forget(self, before: float) -> None:
        """Forget the senders that were last heard before a time; what stays of all of them is bounded.

        A sender that lasts keeps its highest number, and loses its replies. Of others the name stays, for
        EXPIRED_KEPT of them; for those before, the horizon.
        """
        quiet = [(row.heard, sender) for sender, row in self.replies.items() if row.heard < before]
        if not quiet:
            return
        for heard, sender in sorted(quiet):
            if self.replies[sender].lasting:
                self.replies[sender].kept.clear()
            else:
                del self.replies[sender]
                self.expired[sender] = heard
        while len(self.expired) > EXPIRED_KEPT:
            oldest = next(iter(self.expired))
            self.horizon = max(self.horizon, self.expired.pop(oldest) + MARGIN)

    def accept(
        self,
        events: tuple[Any, ...],
        state: S,
        caller: Any,
        reply: object,
        sender: str = "",
        number: int = 0,
        wall: float = 0.0,
        lasting: bool = False,
    ) -> int:
        """Go on to `state`; the step waits for the entry whose sequence is returned."""
        self.sequence += 1
        self.speculative = state
        self.steps.append(Step(self.sequence, caller, reply, None, events, state, sender, number, wall, lasting, True))
        if sender:
            self._ahead[sender] = number
        return self.sequence

    def hold(self, caller: Any, reply: object, error: Exception | None = None) -> bool:
        """Whether an answer must wait for what is under way; if so it is kept."""
        if not self.steps:
            return False
        self.steps.append(Step(self.sequence, caller, reply, error))
        return True

    def settle(self, sequence: int) -> list[Step]:
        """Everything up to an entry is on the disk: the steps that may leave, in order."""
        steps, ahead = self.steps, self._ahead
        released: list[Step] = []
        while steps and steps[0].sequence <= sequence:
            step = steps.popleft()
            if step.accepted:
                self.committed = step.state
                self.settled = step.sequence
                sender = step.sender
                if sender:
                    number = step.number
                    self.remember(sender, number, step.reply, step.wall, step.lasting)
                    if ahead.get(sender) == number:
                        del ahead[sender]
            released.append(step)
        return released

    def discard(self) -> list[Step]:
        """A commit failed: back to the committed state; the steps that will not come true, in order."""
        lost = list(self.steps)
        self.steps.clear()
        self._ahead.clear()
        self.speculative, self.sequence = self.committed, self.settled
        return lost
