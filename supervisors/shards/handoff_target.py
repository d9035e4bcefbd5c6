"""The receiver's half of a move: it stages what comes, and takes the shard by the token; see `handoff`. Pure."""

from __future__ import annotations

from enum import Enum
from typing import final

from .handoff import AGAIN, IN_FLIGHT, SILENCE, TRIES
from .handoff_events import (
    Check,
    Commit,
    Done,
    Effect,
    Erase,
    Event,
    GiveUp,
    Heard,
    Install,
    Keep,
    Linked,
    Look,
    Reserve,
    Row,
    Say,
    Serve,
    Served,
    Start,
    Tick,
    Unknown,
    Verify,
)
from .handoff_frames import Accept, Ask, Chunk, Frame, Got, Offer, Prepare, Ready, Taken, Token, Void


class TargetPhase(Enum):
    """Where a target is. OWN and VOID are ends."""

    CHECKING = "checking"
    RESERVING = "reserving"
    STAGING = "staging"
    VERIFYING = "verifying"
    KEEPING = "keeping"
    COMMITTING = "committing"
    SERVING = "serving"
    ERASING = "erasing"
    OWN = "own"
    VOID = "void"


@final
class Target:
    """The receiver's half of one move, in one life of its node.

    Args:
        offer: what the source has said first.
        node: this one.
        kept: of a move that a former life of this node, or of its mover, has left behind: whether it had the token.

    Attributes: as of a `Source`.
    """

    def __init__(self, offer: Offer, node: str, *, kept: bool | None = None) -> None:
        self.offer = offer
        self.node = node
        self.phase = TargetPhase.CHECKING
        self.why: str | None = None
        self.deadline: float | None = None
        self._move = offer.move
        self._left_behind = kept
        self._busy = False
        self._heard = 0.0
        self._silent = 0
        # Chunks that are in the store, and that have come, without a gap; those between that are not at work.
        self._installed = 0
        self._have = 0
        self._chunks: dict[int, Chunk] = {}
        self._prepare: int | None = None
        self._verified = False
        self._token: Token | None = None
        self._epoch = 0
        self._taken: Taken | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more will happen, but for an answer to who asks."""
        return self.phase in (TargetPhase.OWN, TargetPhase.VOID)

    @property
    def committed(self) -> bool:
        """Whether the token is there, or about to be written down: from here on only the row decides."""
        return self.phase in (TargetPhase.KEEPING, TargetPhase.COMMITTING, TargetPhase.SERVING, TargetPhase.OWN)

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take an event; what is to be done."""
        if isinstance(event, Heard):
            if event.frame.move != self._move:
                return self._hear_other(event.frame, now)
            self._heard, self._silent = now, 0
            return self._hear(event.frame, now)
        if self.over:
            return []
        if isinstance(event, GiveUp):
            if not self.committed:
                self.why = self.why or event.why
        elif isinstance(event, Linked):
            self._heard = now
        elif not isinstance(event, Tick):
            self._busy = False
            return self._came(event, now)
        return self._next(now)

    # -- what has happened ---------------------------------------------------------------------------

    def _hear_other(self, frame: Frame, now: float) -> list[Effect]:
        """A word of another move: if the source has begun one, this one is void or ours. The offer has to wait."""
        if self.over or not isinstance(frame, Offer):
            return []
        if not self.committed:
            self.why = self.why or "its source has begun another move"
        elif self.deadline is not None:
            self.deadline = now
        return self._next(now)

    def _hear(self, frame: Frame, now: float) -> list[Effect]:
        """A word of the source."""
        if self.phase is TargetPhase.OWN:
            return [Say(self._taken)] if isinstance(frame, (Token, Ask)) and self._taken is not None else []
        if self.phase in (TargetPhase.VOID, TargetPhase.ERASING):
            return [] if isinstance(frame, Void) else [Say(Void(self._move, self.why or "it was given up"))]
        staging = self.phase in (TargetPhase.STAGING, TargetPhase.VERIFYING)
        said: list[Effect] = []
        match frame:
            case Offer():
                said.append(Say(Accept(self._move) if staging else self._got()))
            case Chunk(number=number) if staging and number == self._have + 1 and len(self._chunks) < IN_FLIGHT:
                self._chunks[number] = frame
                self._have = number
            case Prepare(number=number) if staging:
                self._prepare = max(number, self._prepare or 0)
                if self._verified:
                    said.append(Say(Ready(self._move)))
            case Ask() if staging:
                said.append(Say(self._got()))
                if self._verified:
                    said.append(Say(Ready(self._move)))
            case Token() if staging:
                self._token = frame
            case Void(why=why) if not self.committed:
                self.why = self.why or why
        return said + self._next(now)

    def _got(self) -> Got:
        return Got(self._move, self._installed, self._have)

    def _came(self, event: Event, now: float) -> list[Effect]:
        """What came of the effect that was under way."""
        match self.phase, event:
            case TargetPhase.CHECKING, Start():
                self._heard = now
                if self._left_behind is None:
                    return self._ask(Check(self.offer))
                if not self._left_behind:
                    return self._give_up("the target was started again")
                self.phase = TargetPhase.COMMITTING
                return self._ask(Look())
            case TargetPhase.CHECKING, Done(why=None):
                return self._ask(Look())
            case TargetPhase.CHECKING, Done(why=why):
                return self._refuse(why or "")
            case TargetPhase.CHECKING, Row():
                return self._reserve(event)
            case TargetPhase.CHECKING, Unknown():
                return self._refuse("the coordination store does not answer")
            case TargetPhase.RESERVING, Done(why=None):
                self.phase = TargetPhase.STAGING
                return [Say(Accept(self._move)), *self._next(now)]
            case TargetPhase.STAGING, Done(why=None):
                self._installed += 1
                return [Say(self._got()), *self._next(now)]
            case TargetPhase.VERIFYING, Done(why=None):
                self.phase, self._verified = TargetPhase.STAGING, True
                return [Say(Ready(self._move)), *self._next(now)]
            case TargetPhase.STAGING, (Row() | Unknown()):
                return self._waited(event, now)
            case TargetPhase.KEEPING, Done(why=None):
                self.phase = TargetPhase.COMMITTING
                return self._ask(Commit())
            case (
                (TargetPhase.RESERVING | TargetPhase.STAGING | TargetPhase.VERIFYING | TargetPhase.KEEPING),
                Done(why=why),
            ):
                return self._give_up(why or "")
            case TargetPhase.COMMITTING, Row():
                return self._judge(event)
            case TargetPhase.COMMITTING, Unknown():
                self.deadline = now + AGAIN
                return []
            case TargetPhase.SERVING, Served(pids=pids, bare=bare):
                self.phase, self.deadline = TargetPhase.OWN, None
                self._taken = Taken(self._move, self._epoch, pids, bare)
                return [Say(self._taken)]
            case TargetPhase.ERASING, Done(why=None):
                self.phase, self.deadline = TargetPhase.VOID, None
                return []
            case TargetPhase.ERASING, (Done() | Unknown()):
                self.deadline = now + AGAIN
                return []
        raise AssertionError(f"a target that is {self.phase.value} got {event!r}")

    def _reserve(self, row: Row) -> list[Effect]:
        """Only a move that the row names: an old offer must not erase what is served here by now."""
        if (row.owner, row.epoch, row.move) != (self.offer.source, self.offer.epoch, self._move):
            return self._refuse("the row does not name this move")
        if self.why is not None:
            return self._refuse(self.why)
        self.phase = TargetPhase.RESERVING
        return self._ask(Reserve())

    def _waited(self, event: Event, now: float) -> list[Effect]:
        """The source is silent: what the row says of the move."""
        self._silent += 1
        if isinstance(event, Row) and event.move != self._move:
            return self._give_up("the row does not name the move any more")
        if self._silent > TRIES:
            return self._give_up("the source is silent")
        self._heard = now
        return self._next(now)

    def _judge(self, row: Row) -> list[Effect]:
        """The row of a shard whose token is here: it is ours, still to be decided, or not ours."""
        if row.owner == self.node and row.epoch > self.offer.epoch:
            self.phase, self._epoch = TargetPhase.SERVING, row.epoch
            return self._ask(Serve(row.epoch, self._token.luggage if self._token is not None else ()))
        if (row.owner, row.epoch, row.move) == (self.offer.source, self.offer.epoch, self._move):
            return self._ask(Commit())
        return self._give_up("the source has taken it back")

    # -- what is to be done --------------------------------------------------------------------------

    def _ask(self, effect: Effect) -> list[Effect]:
        self._busy, self.deadline = True, None
        return [effect]

    def _refuse(self, why: str) -> list[Effect]:
        self.phase, self.deadline, self.why = TargetPhase.VOID, None, why
        return [Say(Void(self._move, why))]

    def _give_up(self, why: str) -> list[Effect]:
        self.why = self.why or why
        self.phase = TargetPhase.ERASING
        self._chunks.clear()
        return [Say(Void(self._move, self.why)), *self._ask(Erase())]

    def _next(self, now: float) -> list[Effect]:
        """The next step, if nothing is waited for."""
        if self._busy:
            return []
        match self.phase:
            case TargetPhase.STAGING:
                return self._stage(now)
            case TargetPhase.COMMITTING if self.deadline is not None and now >= self.deadline:
                return self._ask(Look())
            case TargetPhase.ERASING if self.deadline is not None and now >= self.deadline:
                return self._ask(Erase())
        return []

    def _stage(self, now: float) -> list[Effect]:
        if self.why is not None:
            return self._give_up(self.why)
        chunk = self._chunks.pop(self._installed + 1, None)
        if chunk is not None:
            return self._ask(Install(chunk))
        token = self._token
        if token is not None and token.number == self._installed and self._verified:
            self.phase = TargetPhase.KEEPING
            return self._ask(Keep(token))
        if self._prepare is not None and not self._verified and self._installed >= self._prepare:
            self.phase = TargetPhase.VERIFYING
            return self._ask(Verify())
        if now >= self._heard + SILENCE:
            return self._ask(Look())
        self.deadline = self._heard + SILENCE
        return []
