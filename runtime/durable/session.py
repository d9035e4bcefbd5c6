"""A sender of numbered commands: it repeats each until it is answered, whatever happens to the receiver.

Source: Raft client sessions (Ongaro's thesis, 6.3); `commands` says what the receiver keeps.
"""

from __future__ import annotations

from typing import TypeVar, final

import trio

from ..errors import Busy, CalleeExited, CallTimeout, NoProcess
from ..kernel.api import call
from ..kernel.messages import Call
from ..kernel.table import Destination
from .commands import AlreadyDone, Numbered, Query, Refused
from .journal import StoreFull

R = TypeVar("R")


@final
class Session:
    """A sender of numbered commands that repeats them until they are answered.

    Args:
        sender: its id, 1 to 255 bytes of UTF-8; no two living sessions share one.
        number: the number last used, 0 for a new sender; a sender that lives again goes on from there.
        patience: seconds for which a command is repeated by default.
        since: when this id was first used, in seconds since the Unix epoch (`world().wall()` for a new one);
            0.0: it may have been used at any time. A receiver that has forgotten many senders may refuse one
            that cannot say.
        remembered: whether a receiver is never to forget it, which costs that one a number for ever. For an id
            that stands for something the receiver keeps anyway, such as a player in a lobby.
    """

    def __init__(
        self, sender: str, *, number: int = 0, patience: float = 30.0, since: float = 0.0, remembered: bool = False
    ) -> None:
        self.sender = sender
        self.remembered = remembered
        self.number = number
        self.patience = patience
        self.since = since

    async def command(
        self, destination: Destination, command: Call[R], *, patience: float | None = None
    ) -> R | AlreadyDone:
        """Send one command and return its reply, or AlreadyDone; applied exactly once if it returns.

        While the receiver is missing, restarting, busy or silent the same number is sent again.

        Raises:
            Refused: the receiver said no. Nothing was changed, as far as all tries went by one node. The number is
                free again if there was but one try; else it stays taken, since another may still be on its way.
            CommandSetAside: it crashed its receiver too often; the number stays taken.
            SessionExpired: the receiver has forgotten this sender, or cannot tell; nothing was changed.
            CallFailed, StoreFull: not answered within `patience` seconds; whether it was applied is not
                known, but a later command of this session will not apply it twice.
        """
        self.number += 1
        numbered = Numbered(self.sender, self.number, command, self.since, False, self.remembered)
        return await self._repeat(destination, numbered, patience)

    async def ask(self, destination: Destination, query: Query[R], *, patience: float | None = None) -> R:
        """Send a query, which changes nothing and bears no number, until it is answered; errors as above."""
        return await self._repeat(destination, query, patience)

    async def _repeat(self, destination: Destination, request: Call[R], patience: float | None) -> R:
        if patience is None:
            patience = self.patience
        left = patience
        deadline = trio.current_time() + left
        pause = 0.001
        alone = True
        while True:
            try:
                return await call(destination, request, timeout=5.0 if left > 5.0 else max(0.001, left))
            except Refused:
                if alone and isinstance(request, Numbered):
                    self.number -= 1
                raise
            except (NoProcess, CalleeExited, Busy, CallTimeout, StoreFull):
                left = deadline - trio.current_time()
                if left <= 0:
                    raise
                alone = False
                await trio.sleep(min(pause, left))
                pause = min(pause * 2, 0.1)
                left = deadline - trio.current_time()
