"""What clients were told, held against what the store says: the one judgement of all these tools.

The store is read in two ways, as a whole history and as a recovery does it, from a snapshot on; both must tell
the same. Nothing is believed because it was answered: an answer only adds to what must be there.
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from runtime.durable.journal import Journal, StoreDamaged
from runtime.durable.record import Entry, Snapshot
from tests.simulation.inside import Replies, outcome_of, replayed, replies_of, state_of

from .bank import BELL, EVERYONE, PURSES, SESSIONS, Bell, Closed, Moved, Paid, Purse, Rung, command_of, name_of


@dataclass
class Verdict:
    """What is wrong; empty if nothing is. Each is a list of sentences."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    def add(self, other: Verdict) -> None:
        """Take over another one's findings."""
        self.lost += other.lost
        self.doubled += other.doubled
        self.damaged += other.damaged

    def tell(self) -> None:
        """Say what was found, for people; the first of it is enough."""
        for text in self.all()[:10]:
            print(text, file=sys.stderr)

    def all(self) -> list[str]:
        """Every sentence, with its kind in front."""
        found = [f"lost: {one}" for one in self.lost] + [f"doubled: {one}" for one in self.doubled]
        return found + [f"damaged: {one}" for one in self.damaged]

    def __bool__(self) -> bool:
        return bool(self.lost or self.doubled or self.damaged)

    def counts(self) -> str:
        """For the last line of a tool."""
        return f"lost={len(self.lost)} doubled={len(self.doubled)} damaged={len(self.damaged)}"


def all_told(steps: Iterable[tuple[int, Verdict]], most: float = math.inf) -> tuple[int, Verdict]:
    """Go through a tool's steps, and say of each what was found; how far it came, and all that was found.

    Args:
        most: where it is to end. It also ends after a hundred findings: more say nothing new.
    """
    done, found = 0, Verdict()
    for count, one in steps:
        done += count
        found.add(one)
        one.tell()
        if done >= most or len(found.all()) > 100:
            break
    return done, found


def recovered(key: str, snapshot: Snapshot | None, entries: list[Entry]) -> tuple[object, Replies]:
    """The state and the kept replies that a recovery makes of these, without running the process."""
    one = replayed(Bell if key == BELL else Purse, key, entries, snapshot)
    return state_of(one), replies_of(one)


@dataclass
class Ledger:
    """All that the clients of one store were told, over all its lives.

    Attributes:
        seed: of their commands.
        answered: (client, number) to the reply.
        since: of each client the last number that was answered or refused.
        moves: of each purse and jar the most moves that anybody has seen.
        epoch: of the last life that was ready.
        relaxed: the last epoch of its relaxed store, 0 while there is none.
        group: what was committed last there, as (key, sequence, sender, number): a loss of power may take it.
        doubtful: which of `answered` such a loss may have taken.
        heard: all lines.
        wrong: what was wrong with the answers themselves.
        ended: whether the last life came to its end.
    """

    seed: int
    answered: dict[tuple[int, int], object] = field(default_factory=dict)
    since: list[int] = field(default_factory=lambda: [0] * SESSIONS)
    moves: Counter[str] = field(default_factory=Counter)
    epoch: int = 0
    relaxed: int = 0
    group: list[tuple[str, int, str, int]] = field(default_factory=list)
    doubtful: set[tuple[int, int]] = field(default_factory=set)
    heard: bytes = b""
    wrong: Verdict = field(default_factory=Verdict)
    ended: bool = False

    def hear(self, lines: bytes) -> None:
        """Take whole lines as `bank.Life` tells them."""
        self.heard += lines
        for line in lines.splitlines():
            self._hear(*json.loads(line))

    def copy(self) -> Ledger:
        """Another one that was told the same."""
        other = Ledger(self.seed)
        other.hear(self.heard)
        return other

    def _hear(self, what: str, who: int, number: int, reply: Any) -> None:
        match what:
            case "ready":
                if reply <= self.epoch:
                    self.wrong.damaged.append(f"life {self.epoch + 1} has epoch {reply}, which an earlier one had")
                self.epoch, self.ended = reply, False
            case "relaxed":
                if reply <= self.relaxed:
                    self.wrong.damaged.append(f"the relaxed store has epoch {reply} again")
                self.relaxed = reply
            case "group":
                self.group = [(key, sequence, sender, number) for key, sequence, sender, number in reply]
            case "power":
                self._doubt()
            case "look":
                self.moves[EVERYONE[who]] = max(self.moves[EVERYONE[who]], reply)
            case "end":
                self.ended = True
            case "refused":
                self.since[who] = max(self.since[who], number)
            case _:
                self._answer(who, number, reply)

    def _doubt(self) -> None:
        """The power went: of what is relaxed the last group may be gone, and nothing else."""
        clients = {name_of(who): who for who in range(SESSIONS)}
        for key, sequence, sender, number in self.group:
            self.moves[key] = min(self.moves[key], sequence - 1)
            if sender in clients and (clients[sender], number) in self.answered:
                self.doubtful.add((clients[sender], number))
        self.group = []

    def _answer(self, who: int, number: int, reply: object) -> None:
        known = self.answered.get((who, number))
        if reply == "done":
            if known is None:
                self.wrong.damaged.append(f"client {who} is told that {number} is old, and it was never answered")
            elif number == self._newest(who, number):
                self.wrong.damaged.append(f"the reply to client {who}'s last command {number} is forgotten")
            return
        if known is not None and known != reply and (who, number) not in self.doubtful:
            self.wrong.doubled.append(f"client {who} got {known!r} for {number}, and then {reply!r}")
        self.answered[who, number] = reply
        self.doubtful.discard((who, number))
        self.since[who] = max(self.since[who], number)

    def _newest(self, who: int, number: int) -> int:
        """The last number that a client was answered by the purse to which it sent this one."""
        purse = command_of(self.seed, who, number)[0]
        return max(
            other for one, other in self.answered if one == who and command_of(self.seed, who, other)[0] == purse
        )

    def repeats(self, rng: Random, most: int = 4) -> tuple[tuple[int, int], ...]:
        """Some answered commands to send again: the last ones above all, and one of any age."""
        if not self.answered:
            return ()
        told = list(self.answered)
        return tuple(sorted({*rng.sample(told[-8:], min(most - 1, len(told[-8:]))), rng.choice(told)}))

    # -- the store -----------------------------------------------------------------------------------

    def verdict(self, journal: Journal, relaxed: Journal | None = None, *, at_rest: bool = False) -> Verdict:
        """Hold the whole store against all that was told. Never raises for what it finds.

        Args:
            relaxed: the relaxed store, if it is the one that holds everything.
            at_rest: whether nothing may be under way any more.
        """
        found = Verdict(*map(list, (self.wrong.lost, self.wrong.doubled, self.wrong.damaged)))
        histories: dict[str, list[Entry]] = {}
        try:
            if journal.epoch <= self.epoch:
                found.damaged.append(f"the store is of epoch {journal.epoch}, after {self.epoch}")
            if relaxed is not None:
                journal = relaxed
                if journal.epoch <= self.relaxed:
                    found.damaged.append(f"the relaxed store is of epoch {journal.epoch}, after {self.relaxed}")
            for key in journal.keys(""):
                histories[key] = journal.read(key)
            for key, entries in histories.items():
                self._recovered(journal, key, entries, found)
        except StoreDamaged as error:
            found.damaged.append(str(error))
            return found
        self._told(histories, found)
        self._payments(histories, found, at_rest)
        rung = [event for entry in histories.get(BELL, ()) for event in outcome_of(entry)[0]].count(Rung("once"))
        if rung > 1:
            found.doubled.append(f"a timer for one time has fired {rung} times")
        if at_rest and not rung:
            found.lost.append("a timer that was due long ago has never fired")
        return found

    def _recovered(self, journal: Journal, key: str, entries: list[Entry], found: Verdict) -> None:
        """A snapshot and the entries after it say what all entries say."""
        if [entry.sequence for entry in entries] != list(range(1, journal.head(key) + 1)):
            found.damaged.append(f"{key} has {[entry.sequence for entry in entries]}, its head {journal.head(key)}")
        snapshot, tail = journal.load(key)
        whole, short = recovered(key, None, entries), recovered(key, snapshot, tail)
        where = f"snapshot {snapshot.sequence if snapshot else 0} and {len(tail)} entries"
        if whole[0] != short[0]:
            found.damaged.append(f"{key}: {where} say {short[0]}, all entries {whole[0]}")
        elif whole != short:
            found.damaged.append(f"{key}: {where} and all entries differ in the replies that are kept")

    def _told(self, histories: dict[str, list[Entry]], found: Verdict) -> None:
        applied: dict[tuple[str, str, int], object] = {}
        for key, entries in histories.items():
            last: Counter[str] = Counter()
            for entry in entries:
                if not entry.sender:
                    continue
                name = (key, entry.sender, entry.number)
                if name in applied:
                    found.doubled.append(f"{key} has number {entry.number} of {entry.sender} twice")
                elif entry.number <= last[entry.sender]:
                    found.damaged.append(f"{key} has {entry.number} of {entry.sender} after {last[entry.sender]}")
                last[entry.sender] = max(last[entry.sender], entry.number)
                applied.setdefault(name, outcome_of(entry)[1])
        for (who, number), reply in self.answered.items():
            if (who, number) in self.doubtful:
                continue
            key = command_of(self.seed, who, number)[0]
            stored = applied.get((key, name_of(who), number))
            if stored is None:
                found.lost.append(f"number {number} of client {who} was answered {reply!r} and is not in {key}")
            elif stored != reply:
                found.damaged.append(f"number {number} of client {who} was answered {reply!r}, {key} has {stored!r}")
        for key, moves in self.moves.items():
            if len(histories.get(key, ())) < moves:
                found.lost.append(f"{key} showed {moves} moves and has {len(histories.get(key, ()))}")

    def _payments(self, histories: dict[str, list[Entry]], found: Verdict, at_rest: bool) -> None:
        """What has left a purse arrives once, or comes back; and nothing arrives that has not left."""
        left: dict[tuple[str, str, int], int] = {}
        arrived: Counter[tuple[str, str, int]] = Counter()
        settled: dict[tuple[str, int], bool] = {}
        for key, entries in histories.items():
            for entry in entries:
                for event in outcome_of(entry)[0]:
                    match event:
                        case Paid(number, to, amount):
                            left[key, to, number] = amount
                        case Closed(number, back):
                            settled[key, number] = back
                        case Moved() if entry.sender in PURSES:
                            arrived[entry.sender, key, entry.number] += 1
        for name, times in arrived.items():
            if times > 1:
                found.doubled.append(f"payment {name} has arrived {times} times")
            if name not in left:
                found.lost.append(f"payment {name} has arrived, and never left")
        for (key, to, number), amount in left.items():
            came_back = settled.get((key, number))
            there = arrived[key, to, number]
            if came_back is False and not there:
                found.lost.append(f"payment {number} of {amount} from {key} counts as settled and is not in {to}")
            elif came_back and there:
                found.doubled.append(f"payment {number} of {amount} from {key} has arrived in {to} and come back")
            elif came_back is None and at_rest:
                found.lost.append(f"payment {number} of {amount} from {key} to {to} is still owed")
