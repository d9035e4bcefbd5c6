"""What stands in the place of a wallet or table whose record is damaged, so that all others play on.

Such an entity cannot be what its journal says, and a restart would find the same. So its start does not
fail, which its supervisor would answer with more starts until the whole room is down: a `SetAside` takes its
place and its name, says to everybody why, and keeps nothing. It is tried again when it is started again: with
its supervisor, or with the node. What it owed stays in the journal as it is, and what others owe it stays
owed: a transfer is never refused, for it may have arrived before the damage.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, final

from runtime import (
    Answer,
    Caller,
    Down,
    EventSourced,
    GenServer,
    MailboxFull,
    NoProcess,
    Numbered,
    Pid,
    Raise,
    Refused,
    monitor,
    self_pid,
    send_after,
    send_nowait,
    send_request,
)
from runtime.durable.history import ReplayFailed
from runtime.durable.journal import StoreDamaged
from supervisors import EntityRaised

from .messages import Credit, TakeChips, TellSetAside
from .places import is_spread, place

logger = logging.getLogger("banyan")

S = TypeVar("S")
E = TypeVar("E")

# The lobby's registered name.
LOBBY = "lobby"
# Before a lobby that is not there is told, in seconds.
PAUSE = 0.5


class Damaged(Refused):
    """Asked was an entity that is set aside; `reason` is like "table oak is damaged: record 7: ...".

    Nothing was changed by this request. Whether it was done when it was sent before is not known.
    """


def damage(error: object) -> str | None:
    """Why an entity is set aside, if that is what an error says; from another node it comes as its name and words."""
    if isinstance(error, Damaged):
        return error.reason
    if isinstance(error, EntityRaised) and error.error == Damaged.__name__:
        return error.words
    return None


@final
@dataclass(frozen=True, slots=True)
class WasSetAside:
    """To the lobby: the entity `key` is set aside, which `pid` stands in for as long as it lives."""

    key: str
    why: str
    pid: Pid


@final
@dataclass(frozen=True, slots=True)
class _TellAgain:
    """The pause is over."""


class Entity(EventSourced[S, E], Generic[S, E]):
    """A durable process of the room that is set aside if its record is damaged, or cannot be replayed.

    Its key is a kind and a name, like `table/oak`.
    """

    def init(self, key: str, *args: Any) -> Any:
        try:
            return super().init(key, *args)
        except (StoreDamaged, ReplayFailed) as error:
            if error.key != key:
                raise  # it is not ours alone
            # As new code is taken on: the process goes on as an instance of another class.
            self.__class__ = SetAside  # type: ignore[assignment]  # it shares no more than the process with ours
            return SetAside.init(self, key, error)  # type: ignore[arg-type]  # it is one now


@final
class SetAside(GenServer):
    """Answers every request with `Damaged`, and a transfer with an error after which it is repeated later."""

    def init(self, key: str, error: StoreDamaged | ReplayFailed) -> None:
        self.key, self._error, self._why = key, error, _why(key, error)
        logger.error("%s; it is set aside, and all others go on: banyan check tells more", self._why)
        self._tell()

    def _tell(self) -> None:
        if is_spread():
            send_request(place(LOBBY), TellSetAside(self.key, self._why, self_pid()), None, timeout=5.0)
            return
        try:
            send_nowait(LOBBY, WasSetAside(self.key, self._why, self_pid()))
        except (NoProcess, MailboxFull):
            send_after(PAUSE, self_pid(), _TellAgain())
        else:
            monitor(LOBBY)  # one that comes after it knows nothing of it

    def handle_call(self, request: Any, caller: Caller) -> Any:
        if isinstance(request, Numbered) and isinstance(request.command, (TakeChips, Credit)):
            return Raise(self._error)
        return Raise(Damaged(self._why))

    def handle_cast(self, request: Any) -> None:
        """What is not answered anyway is dropped."""

    def handle_info(self, message: Any) -> None:
        match message:
            case Down():
                send_after(PAUSE, self_pid(), _TellAgain())
            case _TellAgain():
                self._tell()
            case Answer(value=Pid() as lobby):
                monitor(lobby)
            case Answer():
                send_after(PAUSE, self_pid(), _TellAgain())

    def summary(self) -> str:
        """The detail of its line in the tree."""
        return self._why

    def state(self) -> object:
        return {"key": self.key, "damaged": self._why}


def _why(key: str, error: StoreDamaged | ReplayFailed) -> str:
    # Of what the class raised only the kind: its text may hold a card.
    found = error.found if isinstance(error, StoreDamaged) else f"replayed, it raised {type(error.error).__name__}"
    return f"{key.replace('/', ' ', 1)} is damaged: record {error.sequence}: {found}"
