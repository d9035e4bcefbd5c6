"""What a durable process lets in: itself, if its shard may be written, and commands, unless they were set aside."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..behaviours.gen_server import Raise
from ..errors import NoProcess
from .commands import CommandSetAside, Numbered, Refused, SessionExpired
from .durability import Durability, Owned
from .gate import MARGIN, NEW, Gate
from .journal import Fenced, StoreError
from .poison import REPLAY, Aside
from .timers import TIMER

if TYPE_CHECKING:
    from .writer import JournalWriter

logger = logging.getLogger("banyan")

SetAside = Mapping[tuple[str, str, int], Aside]


def turned_away(
    gate: Gate[Any], key: str, request: Numbered[Any], aside: SetAside, durability: Durability, wall: float
) -> Any:
    """What a number that is NEW is answered without being looked at further; None if nothing speaks against it.

    Args:
        aside: the commands of the store that were set aside.
        wall: the time, in seconds since the Unix epoch.
    """
    sender, number = request.sender, request.number
    if aside and (found := aside.get((key, sender, number))) is not None:
        reply = gate.known(found.replay, 1)
        if reply is not NEW:
            return reply
        if found.discarded:
            return Raise(Refused(f"it crashed {key!r} again and again, and was given up"))
        return Raise(CommandSetAside(key, sender, number, found.position))
    if sender not in gate.replies:
        since = request.since if request.since <= wall + MARGIN else 0.0
        if not (request.lasting or request.remembered) and gate.lapsed(sender, since):
            return Raise(SessionExpired(key, sender, number))
    if sender.startswith(TIMER):
        return Raise(Refused("a sender whose name begins like that of a timer is none"))
    if request.lasting and durability != "durable" and not sender.startswith(REPLAY):
        return Raise(Refused(f"{key!r} is {durability!r} and could forget a delivery: send it to a durable one"))
    return None


def blame(
    writer: Callable[[], JournalWriter],
    key: str,
    numbered: Numbered[Any],
    sequence: int,
    state: object,
    error: BaseException,
    after: int,
) -> None:
    """A numbered command has crashed a process: write that down, and set it aside if it was the last time.

    Args:
        sequence, state: the last entry before it, and the state that it met.
        after: crashes after which it is set aside.
    """
    try:
        keeper = writer()
        keeper.set_asides.note(keeper, key, numbered, sequence, state, error, after)
    except (StoreError, NoProcess) as failure:
        logger.warning("%s could not note a crash over a command: %s", key, failure)


def epoch_unless_leaving(writer: Callable[[], JournalWriter], owned: Owned | None) -> int | None:
    """The epoch that a process's entries bear; None while its shard is sealed, and on its way to another owner.

    Likewise if it lies in an adopted store that was given up.

    Raises: Fenced: the shard may not be written under that epoch.
    """
    try:
        return writer().epoch_for(owned)
    except NoProcess:
        if owned is None or not owned.writer:
            raise
        return None
    except Fenced as error:
        if error.found.sealed and error.found.epoch == error.epoch:
            return None
        raise
