"""Moving a shard while it is used: the source copies, seals and gives a token; the target commits. Pure.

    source   PLANNING  OFFERED  COPYING  TAILING  FREEZING  SEALING  SEALED ............. RETIRED
    target             CHECKING RESERVING STAGING .................. KEEPING  COMMITTING  SERVING  OWN

The source writes the move into the shard's row, so that it moves once at a time, and goes on serving while it
copies: a copy that is read while it changes, and then, key by key, what has changed since. When little is left it
freezes: handlers end between two messages, and what comes waits. It reads the rest, **seals** its store for the
epoch, and only then sends the token with it. From the seal on it serves the shard again only under a higher epoch,
which it can get only by changing the row itself.

The target has put everything into its own store, where nobody can serve it yet, and has decoded all of it before
the cut. With the token it writes down that it has it, and **the target** sets the row from (source, epoch, move) to
(target, epoch + 1). Of the two that may want the row, one change wins: whoever sees its own has the shard, whoever
sees the other's has not. An answer that is lost is made up for by reading the row, never by a guess or a timeout.

Until the seal each side may give the move up and nothing has happened: what was staged is erased, who waited goes
on. Correctness rests on the senders, who repeat what has no outcome (`window`), and on the table of numbered
commands, which travels with each process; forwarding only saves time.

A machine gets events and says what is to be done next, as effects; what came of an effect is an event again. One
effect is under way at a time (`handoff_events`). `deadline` says when it wants a `Tick`. Of one shard a node has one
machine at a time; what comes for a move that has none is answered by `of_a_stranger`. `tests/models` walks through
all that can happen to the two. Source: the hand-off of Service Fabric and Slicer, and the commit by the receiver
of a token; the table of crashes in docs/moves.md.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, final

from runtime.kernel.ids import Pid

from .handoff_events import (
    Clear,
    Done,
    Effect,
    Event,
    Follow,
    Freeze,
    GiveUp,
    Heard,
    Linked,
    Look,
    Plan,
    Portion,
    Read,
    ReadLast,
    Rest,
    Resume,
    Retire,
    Row,
    Say,
    Seal,
    Start,
    TakeBack,
    Thaw,
    Tick,
    Unknown,
)
from .handoff_frames import Accept, Ask, Chunk, Frame, Got, Offer, Prepare, Ready, Taken, Token, Void

# Chunks that are sent and not in the target's store yet.
IN_FLIGHT: Final = 4
# Keys that have changed since they were sent, with which a freeze is tried; and after so many reads it is tried anyway.
FEW: Final = 64
ROUNDS: Final = 32
# Freezes over their budget before a running handler is ended; and before the move is given up.
VOIDED: Final = 3
MOST_VOIDED: Final = 6
# Seconds without a word from the other side, until it is asked, and until the move is given up.
ASK: Final = 1.0
SILENCE: Final = 10.0
# Seconds between two tries of what had no answer.
AGAIN: Final = 0.25
# How long a sealed source waits for the target's word before it reads the row; and how often, before it takes it back.
PATIENCE: Final = 1.0
TRIES: Final = 4


class SourcePhase(Enum):
    """Where a source is. RETIRED and VOID are ends; a retired one may still have to hear what became of whom."""

    PLANNING = "planning"
    OFFERED = "offered"
    COPYING = "copying"
    TAILING = "tailing"
    FREEZING = "freezing"
    SEALING = "sealing"
    SEALED = "sealed"
    CLEARING = "clearing"
    RETIRED = "retired"
    VOID = "void"


@final
class Source:
    """The owner's half of one move, in one life of its node.

    Args:
        offer: what the target is told first.
        target: the node that the shard is to go to.
        sealed: of a move whose mover has ended, on a node that lives on: whether the store is sealed for it.

    Attributes:
        phase: where it is.
        why: what the move was given up for; None as long as it is not.
        deadline: when it wants a `Tick`; None: never, until something else happens.
        voided: freezes that were over their budget.
    """

    def __init__(self, offer: Offer, target: str, *, sealed: bool | None = None) -> None:
        self.offer = offer
        self.target = target
        self.phase = SourcePhase.PLANNING
        self.why: str | None = None
        self.deadline: float | None = None
        self.voided = 0
        self._move = offer.move
        self._left_behind = sealed
        self._linked = True
        # Whether an effect is under way whose event will come.
        self._busy = False
        self._heard = 0.0
        # When the target is asked how far it is; and whether what it has not confirmed may be lost.
        self._ask_at = 0.0
        self._lost = False
        self._sent = 0
        # What is not known to be in the target's store, in order.
        self._unacked: dict[int, Chunk] = {}
        # Keys that are to be sent still; None: not known.
        self._left: int | None = None
        self._rounds = 0
        self._ready = False
        self._again = 0.0
        self._token: Token | None = None
        self._tries = 0
        self._follows = False
        # Whether the link was lost since the seal, and the target's processes with it, perhaps.
        self._parted = False

    @property
    def over(self) -> bool:
        """Whether nothing more will happen."""
        return self.phase is SourcePhase.VOID or (self.phase is SourcePhase.RETIRED and not self._follows)

    @property
    def sealed(self) -> bool:
        """Whether the store is sealed, or about to be: from here on only the row decides."""
        return self.phase in (SourcePhase.SEALING, SourcePhase.SEALED, SourcePhase.RETIRED)

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take an event; what is to be done."""
        if self.over:
            return []
        if isinstance(event, GiveUp):
            if self.why is None and not self.sealed:
                self.why = event.why
        elif isinstance(event, Linked):
            self._link(event, now)
        elif isinstance(event, Heard):
            if event.frame.move != self._move:
                return []
            self._heard, self._ask_at = now, now + ASK
            said = self._hear(event.frame, now)
            if said is not None:
                return said
        elif not isinstance(event, Tick):
            self._busy = False
            return self._came(event, now)
        return self._next(now)

    # -- what has happened ---------------------------------------------------------------------------

    def _link(self, link: Linked, now: float) -> None:
        self._heard = self._ask_at = now
        self._lost = True
        self._linked = link.up
        self._parted = self._parted or (self.sealed and not link.up and not link.mover_only)
        if self.phase is SourcePhase.SEALED and not self._busy:
            self.deadline = now

    def _hear(self, frame: Frame, now: float) -> list[Effect] | None:
        """A word of the target; None: go on."""
        phase = self.phase
        match frame:
            case Accept() if phase is SourcePhase.OFFERED:
                self.phase = SourcePhase.COPYING
                self._lost = False
            case Got() if phase in (SourcePhase.COPYING, SourcePhase.TAILING, SourcePhase.FREEZING):
                return self._got(frame, now)
            case Ready() if phase is SourcePhase.TAILING and not self._ready:
                # Meanwhile much may have changed.
                self._ready, self._left, self._rounds = True, None, 0
            case Taken(epoch=epoch, pids=pids, bare=bare) if phase is SourcePhase.SEALED:
                return [*self._retire(self.target, epoch, now, known=True), Follow(pids, bare)]
            case Taken(pids=pids, bare=bare) if phase is SourcePhase.RETIRED:
                return self._follow(pids, bare)
            case Void() if phase is SourcePhase.RETIRED:
                # The target's mover has forgotten the move. Its processes may live all the same: each stand-in asks.
                self._follows, self.deadline = False, None
                return [Follow((), tuple(region for region, _ in self.offer.regions))] if self._parted else []
            case Void(why=why) if phase is SourcePhase.SEALED:
                self.why = self.why or why
                return self._ask(TakeBack()) if not self._busy else []
            case Void(why=why):
                self.why = self.why or why
        return None

    def _got(self, got: Got, now: float) -> list[Effect]:
        for one in [one for one in self._unacked if one <= got.number]:
            del self._unacked[one]
        again: list[Effect] = []
        if self._lost and self._linked:
            self._lost = False
            again += [Say(chunk) for number, chunk in self._unacked.items() if number > got.have]
            if self.phase is SourcePhase.TAILING and not self._ready:
                again.append(Say(Prepare(self._move, self._sent)))
        return again + self._next(now)

    def _came(self, event: Event, now: float) -> list[Effect]:
        """What came of the effect that was under way."""
        match self.phase, event:
            case SourcePhase.PLANNING, Start():
                return self._start(now)
            case SourcePhase.PLANNING, Done(why=None):
                self.phase, self._heard, self._ask_at = SourcePhase.OFFERED, now, now + ASK
                return [Say(self.offer), *self._next(now)] if self.why is None else self._clear(self.why)
            case SourcePhase.PLANNING, Done(why=why):
                return self._clear(why or "")
            case ((SourcePhase.COPYING | SourcePhase.TAILING), Portion()):
                return self._send(event, now)
            case SourcePhase.FREEZING, Done(why=None):
                if self.why is None and self._linked:
                    return self._ask(ReadLast())
                return [Thaw(), *self._tail(now)]
            case SourcePhase.FREEZING, Done():
                return self._over_budget(now)
            case SourcePhase.FREEZING, Rest(why=None) if self.why is None and self._linked:
                self._token = Token(self._move, self._sent, event.last, event.digest, event.luggage)
                self.phase = SourcePhase.SEALING
                return self._ask(Seal())
            case SourcePhase.FREEZING, Rest(why=why):
                return [Thaw(), *(self._over_budget(now) if why is not None else self._tail(now))]
            case SourcePhase.SEALING, Done(why=None):
                self.phase, self.deadline = SourcePhase.SEALED, now + PATIENCE
                if self.why is not None or self._token is None:
                    return self._ask(TakeBack())
                return [Say(self._token)]
            case SourcePhase.SEALING, Done(why=why):
                return [Thaw(), *self._clear(why or "")]
            case SourcePhase.SEALED, Row():
                return self._judge(event, now)
            case SourcePhase.CLEARING, Done(why=None):
                self.phase, self.deadline = SourcePhase.VOID, None
                return []
            case ((SourcePhase.PLANNING | SourcePhase.SEALED | SourcePhase.CLEARING), (Unknown() | Done())):
                self.deadline = now + AGAIN
                return []
        raise AssertionError(f"a source that is {self.phase.value} got {event!r}")

    def _start(self, now: float) -> list[Effect]:
        self._heard = now
        if self._left_behind is None:
            return self._ask(Plan())
        self.why = "the mover of its source was started again"
        if not self._left_behind:
            return self._clear(self.why)
        self.phase = SourcePhase.SEALED
        return self._ask(Look())

    def _send(self, portion: Portion, now: float) -> list[Effect]:
        if self.why is not None:
            return self._next(now)
        effects: list[Effect] = []
        self._left = portion.left
        self._rounds += self._ready
        if portion.data:
            self._sent += 1
            chunk = Chunk(self._move, self._sent, portion.relaxed, portion.data)
            if not self._unacked:
                self._heard, self._ask_at = now, now + ASK
            self._unacked[self._sent] = chunk
            if self._linked and not self._lost:
                effects.append(Say(chunk))
        if self.phase is SourcePhase.COPYING and not portion.new:
            self.phase, self._heard, self._ask_at = SourcePhase.TAILING, now, now + ASK
            effects.append(Say(Prepare(self._move, self._sent)))
        return effects + self._next(now)

    def _over_budget(self, now: float) -> list[Effect]:
        self.voided += 1
        self._again = now + AGAIN * 2.0 ** min(self.voided, 4)
        if self.voided >= MOST_VOIDED:
            self.why = self.why or f"{self.voided} freezes were over their budget"
        return self._tail(now)

    def _tail(self, now: float) -> list[Effect]:
        self.phase, self._left, self._rounds = SourcePhase.TAILING, None, 0
        return self._next(now)

    def _judge(self, row: Row, now: float) -> list[Effect]:
        """The row of a sealed shard: it is ours under a new epoch, another's, or still to be decided."""
        if row.owner != self.offer.source:
            return self._retire(row.owner, row.epoch, now)
        if row.epoch > self.offer.epoch:
            self.phase, self.deadline = SourcePhase.VOID, None
            self.why = self.why or "the target did not take it"
            return [Resume(row.epoch), Say(Void(self._move, self.why))]
        self._tries += 1
        if self.why is None and self._linked and self._tries < TRIES and self._token is not None:
            self.deadline = now + PATIENCE
            return [Say(self._token)]
        self.why = self.why or f"{self.target} did not take it"
        return self._ask(TakeBack())

    def _retire(self, owner: str, epoch: int, now: float, *, known: bool = False) -> list[Effect]:
        self.phase, self.deadline = SourcePhase.RETIRED, None
        retire: list[Effect] = [Retire(owner, epoch)]
        if known:
            return retire
        if owner != self.target:
            return [*retire, Follow(None)]
        # It is the target's, whose word about the processes has not come.
        self._follows, self._heard, self._ask_at = True, now, now
        return retire + self._next(now)

    def _follow(self, pids: tuple[tuple[str, str, Pid], ...] | None, bare: tuple[str, ...] = ()) -> list[Effect]:
        self._follows, self.deadline = False, None
        return [Follow(pids, bare)]

    # -- what is to be done --------------------------------------------------------------------------

    def _ask(self, effect: Effect) -> list[Effect]:
        self._busy, self.deadline = True, None
        return [effect]

    def _clear(self, why: str) -> list[Effect]:
        self.why = self.why or why
        self.phase = SourcePhase.CLEARING
        return [Say(Void(self._move, self.why)), *self._ask(Clear())]

    def _next(self, now: float) -> list[Effect]:
        """The next step, if nothing is waited for."""
        if self._busy:
            return []
        due = self.deadline is not None and now >= self.deadline
        match self.phase:
            case SourcePhase.OFFERED | SourcePhase.COPYING | SourcePhase.TAILING:
                self.deadline = None
                return self._clear(self.why) if self.why is not None else self._go_on(now)
            case SourcePhase.PLANNING if due:
                return self._ask(Plan())
            case SourcePhase.SEALED if due:
                return self._ask(Look())
            case SourcePhase.CLEARING if due:
                return self._ask(Clear())
            case SourcePhase.RETIRED:
                return self._wait(Ask(self._move), now)
        return []

    def _go_on(self, now: float) -> list[Effect]:
        """Before the freeze: offer, copy, and send what has changed."""
        phase = self.phase
        tailing = phase is SourcePhase.TAILING
        effects: list[Effect] = []
        if phase is SourcePhase.OFFERED or self._unacked or self._lost or (tailing and not self._ready):
            effects = self._wait(self.offer if phase is SourcePhase.OFFERED else Ask(self._move), now)
        if self._busy or phase is SourcePhase.OFFERED or self._lost or len(self._unacked) >= IN_FLIGHT:
            return effects
        if tailing and now < self._again:
            self.deadline = self._again if self.deadline is None else min(self.deadline, self._again)
            return effects
        if not tailing or self._left is None or (self._left > FEW and self._rounds < ROUNDS):
            return effects + self._ask(Read())
        if self._unacked or not self._ready:
            return effects
        self.phase = SourcePhase.FREEZING
        return effects + self._ask(Freeze(self.voided >= VOIDED))

    def _wait(self, question: Frame, now: float) -> list[Effect]:
        """A word of the target is waited for: it is asked now and then, and not for ever."""
        if now >= self._heard + SILENCE:
            if self.phase is SourcePhase.RETIRED:
                return self._follow(None)
            return self._clear(f"{self.target} has said nothing for {SILENCE:g} seconds")
        self.deadline = self._heard + SILENCE
        if not self._linked:
            return []
        effects: list[Effect] = []
        if now >= self._ask_at:
            self._ask_at, self._lost = now + ASK, self.phase is not SourcePhase.OFFERED
            effects.append(Say(question))
        self.deadline = min(self.deadline, self._ask_at)
        return effects
