"""What clients of periodic processes were told, and when: the judgement where the last seconds may be lost.

Such a process keeps no history, but its state, with the number of its moves and what each client was answered. So
after a loss of power each purse must be as it was at one moment, no longer ago than its seconds: what was answered
by then is in it, and of what was answered later neither the move nor the number.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from runtime.durable.journal import Journal, StoreDamaged
from tests.simulation.inside import Replies

from .bank import EVERYONE, Money, Rings, command_of, name_of
from .ledger import Ledger, Verdict, recovered

# Of a purse that showed so many moves: which, how many, when, and as the answer to whom; None for a look.
Seen = tuple[str, int, float, tuple[int, int] | None]
# What a sum of floats may be off by, in seconds.
ROUNDING = 1e-9


@dataclass
class AgedLedger(Ledger):
    """A ledger of purses and jars that are saved every so many seconds of the node's clock.

    Attributes:
        seconds: between a change and the save that holds it.
        now: by the node's clock, when the last line was told.
        seen: what this life has shown for the first time; what is safe of earlier ones is in `moves`.
    """

    seconds: float = 0.0
    now: float = 0.0
    seen: list[Seen] = field(default_factory=list)

    def copy(self) -> AgedLedger:
        other = AgedLedger(self.seed, seconds=self.seconds)
        other.hear(self.heard)
        return other

    def _hear(self, what: str, who: int, number: int, reply: Any) -> None:
        match what:
            case "clock":
                self.now = reply
            case "look":
                self.seen.append((EVERYONE[who], reply, self.now, None))
            case "answer" | "again":
                known = (who, number) not in self.doubtful and self.answered.get((who, number)) == reply
                if reply != "done" and not known:
                    key = command_of(self.seed, who, number)[0]
                    self.seen.append((key, reply, self.now, (who, number)))
                super()._hear(what, who, number, reply)
            case _:
                if what == "ready":
                    self.now, self.seen = 0.0, []
                super()._hear(what, who, number, reply)

    def _doubt(self) -> None:
        """The power went: what the last seconds have shown may be gone, and nothing that is older."""
        for key, moves, when, answer in self.seen:
            if when + self.seconds + ROUNDING < self.now:
                self.moves[key] = max(self.moves[key], moves)
            elif answer is not None:
                self.doubtful.add(answer)

    def verdict(self, journal: Journal, relaxed: Journal | None = None, *, at_rest: bool = False) -> Verdict:
        found = Verdict(*map(list, (self.wrong.lost, self.wrong.doubled, self.wrong.damaged)))
        if journal.epoch <= self.epoch:
            found.damaged.append(f"the store is of epoch {journal.epoch}, after {self.epoch}")
        saved: dict[str, tuple[int, Replies]] = {}
        try:
            for key in journal.keys(""):
                snapshot, entries = journal.load(key)
                if snapshot is None or entries:
                    found.damaged.append(f"{key} has {len(entries)} entries that no saved state stands for")
                    continue
                state, replies = recovered(key, snapshot, entries)
                if isinstance(state, Money):
                    saved[key] = state.moves, replies
                elif isinstance(state, Rings) and state.once > 1:
                    found.doubled.append(f"a timer for one time has fired {state.once} times")
        except StoreDamaged as error:
            found.damaged.append(str(error))
            return found
        self._kept(saved, found)
        self._whole(saved, found)
        return found

    def _kept(self, saved: dict[str, tuple[int, Replies]], found: Verdict) -> None:
        """What is older than the seconds is there."""
        for key, moves in self.moves.items():
            if saved.get(key, (0, {}))[0] < moves:
                found.lost.append(f"{key} showed {moves} moves long ago and has {saved.get(key, (0, {}))[0]}")
        for (who, number), reply in self.answered.items():
            if (who, number) in self.doubtful:
                continue
            key = command_of(self.seed, who, number)[0]
            highest, kept = saved.get(key, (0, {}))[1].get(name_of(who), (0, []))
            if number > highest:
                found.lost.append(f"number {number} of client {who} was answered {reply!r} and is not in {key}")
            elif dict(kept).get(number, reply) != reply:
                found.damaged.append(f"number {number} of client {who} was answered {reply!r}, {key} has another reply")

    def _whole(self, saved: dict[str, tuple[int, Replies]], found: Verdict) -> None:
        """A state and the numbers that are in it are lost together."""
        for key, moves, _, answer in self.seen:
            if answer is None:
                continue
            who, number = answer
            has, replies = saved.get(key, (0, {}))
            known = replies.get(name_of(who), (0, []))[0] >= number
            if known != (has >= moves):
                found.damaged.append(
                    f"{key} is as after {has} moves, and number {number} of client {who}, its move {moves}, is "
                    f"{'in it' if known else 'not in it'}"
                )
