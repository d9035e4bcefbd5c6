"""The owner's half of the way of commands to a shard: see `window`, which is the sender's. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, final

from .frames import Carry, Done, Open, Outcome, Probe

TAKEN: Final = 1024
# Incarnations of one node that an intake keeps apart; it has no more than one at a time.
LIVES: Final = 4

# A number and its outcome.
Answered = tuple[int, Outcome]
# What is known of a sender, for another owner: its name, its node, the number that is expected, those that are
# under way, and those that are answered.
Row = tuple[str, str, int, Iterable[int], Iterable[Answered]]


@final
class _Row:
    """What an intake knows of one sender."""

    __slots__ = ("expected", "node", "outcomes", "running", "told")

    def __init__(self, node: str, expected: int) -> None:
        self.node = node
        self.expected = expected
        self.running: set[int] = set()
        self.outcomes: dict[int, Outcome] = {}
        # What it was last told unasked, so that a burst of frames out of place is answered once.
        self.told: tuple[object, ...] = ()

    def go_on(self) -> None:
        """Pass over what is expected no more; behind it there may be what a former owner has taken."""
        while self.expected in self.running or self.expected in self.outcomes:
            self.expected += 1

    def tell(self, *what: object) -> bool:
        """Whether it has not been told the same before. If that is lost, the sender asks by itself."""
        before, self.told = self.told, what
        return before != what


@final
@dataclass(slots=True)
class Taken:
    """What to do about a `Carry`.

    Attributes:
        run: carry it out, or hold it if the intake is frozen.
        repeat: its outcome, which is known.
        open: what the sender is told, whose frame was not expected.
    """

    run: bool = False
    repeat: Outcome | None = None
    open: Open | None = None


@final
@dataclass(slots=True)
class Intake:
    """An owner's half, for one shard: all its senders.

    Args:
        shard, epoch: what is owned, and under which epoch.
        node, life: of the region that owns it; `life` is which of the node's.
        most: so many commands may be under way, or held.

    Attributes:
        frozen: while it is set, what is taken is to be put into `hold`.
    """

    shard: int
    epoch: int
    node: str
    life: int
    most: int = TAKEN
    frozen: bool = False
    hold: deque[Carry] = field(default_factory=deque)
    rows: dict[str, _Row] = field(default_factory=dict)
    under_way: int = 0
    # Senders that were not taken for lack of room, to be told when there is some.
    _withheld: dict[str, None] = field(default_factory=dict)

    def probe(self, frame: Probe) -> tuple[Open, list[tuple[int, Outcome]]]:
        """A sender asks: what it is told is expected, and the outcomes of what it has no answer to."""
        row = self._row(frame.sender, frame.node, frame.base)
        row.told = ()
        return self._open(frame.sender, row), list(row.outcomes.items())

    def carry(self, frame: Carry) -> Taken:
        """A command comes. One that is run gets its outcome by `finished`."""
        sender, number = frame.sender, frame.number
        row = self._row(sender, frame.node, frame.base)
        if (frame.epoch, frame.life) != (self.epoch, self.life):
            return self._tell(sender, row, frame.epoch, frame.life)
        if number < row.expected:
            return Taken(repeat=row.outcomes.get(number))
        if sender in self._withheld and self.under_way >= self.most:
            return Taken()
        if number > row.expected:
            return self._tell(sender, row, row.expected)
        if frame.slot < 0:
            row.expected += 1
            row.go_on()
            return Taken()
        if self.under_way >= self.most:
            # It stays in its sender's window, and is sent again when there is room.
            self._withheld[sender] = None
            return Taken()
        row.running.add(number)
        row.go_on()
        self.under_way += 1
        return Taken(run=True)

    def finished(self, sender: str, number: int, outcome: Outcome) -> str | None:
        """What became of a command that was run; the node to be told, None if it is not waited for any more."""
        row = self.rows.get(sender)
        if row is None or number not in row.running:
            return None
        row.running.discard(number)
        self.under_way -= 1
        row.outcomes[number] = outcome
        return row.node

    def done(self, sender: str, number: int, outcome: Outcome) -> Done:
        """The frame that tells a sender what became of a command."""
        return Done(self.shard, self.epoch, self.life, sender, number, outcome)

    def room(self) -> list[tuple[str, Open]]:
        """Whom to tell that there is room again, each with its node; ask after `finished`."""
        if not self._withheld or self.under_way > self.most // 2:
            return []
        waiting, self._withheld = list(self._withheld), {}
        rows = [(sender, self.rows[sender]) for sender in waiting if sender in self.rows]
        return [(row.node, self._open(sender, row)) for sender, row in rows]

    def freeze(self) -> None:
        """From now on nothing new is begun: what is taken is held."""
        self.frozen = True

    def thaw(self) -> list[Carry]:
        """Begin again, with what was held, in order."""
        self.frozen = False
        held, self.hold = list(self.hold), deque()
        return held

    def packed(self, begun: Mapping[str, Container[int]]) -> list[Row]:
        """The rows as another owner is to have them: sender, node, expected, what is under way, what is answered.

        Args:
            begun: by sender, the numbers under way that go on there; all others are expected anew.
        """
        rows: list[Row] = []
        for sender, row in self.rows.items():
            running = tuple(sorted(one for one in row.running if one in begun.get(sender, ())))
            anew = [one for one in row.running if one not in running]
            rows.append((sender, row.node, min([row.expected, *anew]), running, list(row.outcomes.items())))
        return rows

    def unpacked(self, rows: Iterable[Row]) -> list[tuple[str, Open]]:
        """Begin with the rows of the owner before; what to tell whose node: that the shard is here now."""
        told = []
        for sender, node, expected, running, outcomes in rows:
            row = self.rows[sender] = _Row(node, expected)
            row.running.update(running)
            row.outcomes.update(outcomes)
            self.under_way += len(row.running)
            row.go_on()
            told.append((node, self._open(sender, row)))
        return told

    def opens(self) -> list[tuple[str, Open]]:
        """What to tell the node of each sender, when the epoch has changed and nothing else."""
        return [(row.node, self._open(sender, row)) for sender, row in self.rows.items()]

    def _open(self, sender: str, row: _Row) -> Open:
        return Open(self.shard, self.epoch, self.node, self.life, sender, row.expected)

    def _tell(self, sender: str, row: _Row, *why: object) -> Taken:
        return Taken(open=self._open(sender, row) if row.tell(*why) else None)

    def _row(self, sender: str, node: str, base: int) -> _Row:
        row = self.rows.get(sender)
        if row is None:
            # Whatever is below `base` was answered, perhaps by another owner.
            row = self.rows[sender] = _Row(node, base)
            self._forget(node)
        if base > row.expected:
            row.expected = base
            row.go_on()
        for number in [one for one in row.outcomes if one < base]:
            del row.outcomes[number]
        return row

    def _forget(self, node: str) -> None:
        """A node has a few incarnations at most whose frames may still come; nothing of older ones is kept."""
        known = [sender for sender, row in self.rows.items() if row.node == node and not row.running]
        for sender in known[: max(0, len(known) - LIVES)]:
            del self.rows[sender]
            self._withheld.pop(sender, None)
