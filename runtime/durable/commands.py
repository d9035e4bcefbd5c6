"""Numbered commands: how a sender asks a durable process to do something exactly once.

A sender has an id and numbers its commands, upwards, per receiver. The receiver keeps for each sender the
highest number it has applied and its last 64 replies, durably with the change itself. So a command may
be sent again after any failure: it is applied once, and its reply is repeated; a number too old to have
its reply kept is answered `AlreadyDone` (promise P2). A refusal changes nothing and uses up no number.

Send one command after the other: a later number that is applied first makes the earlier one old.
Source: Raft client sessions (Ongaro's thesis, 6.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar, final

import trio

from ..errors import BanyanError, Busy, CalleeExited, CallTimeout, NoProcess
from ..kernel.api import call
from ..kernel.messages import Call
from ..kernel.table import Destination
from .journal import StoreFull

R = TypeVar("R")

KEPT_REPLIES = 64


@final
@dataclass(frozen=True, slots=True)
class Numbered(Call[R], Generic[R]):
    """The envelope of a numbered command."""

    sender: str
    number: int
    command: Call[R]


@final
@dataclass(frozen=True, slots=True)
class AlreadyDone:
    """The answer to a command that was applied so long ago that its reply is no longer kept."""

    sender: str
    number: int


@final
@dataclass(frozen=True, slots=True)
class Refuse:
    """What `handle` returns to refuse a command: nothing is journalled, the sender gets `Refused(reason)`."""

    reason: str


class Refused(BanyanError):
    """A durable process refused a command; `reason` says why. Nothing was changed."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Query(Call[R], Generic[R]):
    """The base of a request that a durable process answers from its committed state, journalling nothing."""

    __slots__ = ()


@final
class Session:
    """A sender of numbered commands that repeats them until they are answered.

    Args:
        sender: its id, 1 to 255 bytes of UTF-8; no two living sessions share one.
        number: the number last used, 0 for a new sender; a sender that lives again goes on from there.
        patience: seconds for which a command is repeated by default.
    """

    def __init__(self, sender: str, *, number: int = 0, patience: float = 30.0) -> None:
        self.sender = sender
        self.number = number
        self.patience = patience

    async def command(
        self, destination: Destination, command: Call[R], *, patience: float | None = None
    ) -> R | AlreadyDone:
        """Send one command and return its reply, or AlreadyDone; applied exactly once if it returns.

        While the receiver is missing, restarting, busy or silent the same number is sent again.

        Raises:
            Refused: the receiver said no; nothing was changed and the number is free again.
            CallFailed, StoreFull: not answered within `patience` seconds; whether it was applied is not
                known, but a later command of this session will not apply it twice.
        """
        self.number += 1
        try:
            return await self._repeat(destination, Numbered(self.sender, self.number, command), patience)
        except Refused:
            self.number -= 1
            raise

    async def ask(self, destination: Destination, query: Query[R], *, patience: float | None = None) -> R:
        """Send a query, which changes nothing and bears no number, until it is answered; errors as above."""
        return await self._repeat(destination, query, patience)

    async def _repeat(self, destination: Destination, request: Call[R], patience: float | None) -> R:
        deadline = trio.current_time() + (self.patience if patience is None else patience)
        pause = 0.001
        while True:
            left = deadline - trio.current_time()
            try:
                return await call(destination, request, timeout=max(0.001, min(5.0, left)))
            except (NoProcess, CalleeExited, Busy, CallTimeout, StoreFull):
                left = deadline - trio.current_time()
                if left <= 0:
                    raise
                await trio.sleep(min(pause, left))
                pause = min(pause * 2, 0.1)
