"""Numbered commands: how a sender asks a durable process to do something exactly once.

A sender has an id and numbers its commands, upwards, per receiver. The receiver keeps for each sender the
highest number it has applied and its last 64 replies, durably with the change itself. So a command may
be sent again after any failure: it is applied once, and its reply is repeated; a number too old to have
its reply kept is answered `AlreadyDone` (promise P2). A refusal changes nothing and uses up no number.

Send one command after the other: a later number that is applied first makes the earlier one old. `session`
has a sender that does all this. Source: Raft client sessions (Ongaro's thesis, 6.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar, final

import msgspec

from ..errors import BanyanError
from ..kernel.messages import Call, message

R = TypeVar("R")

KEPT_REPLIES = 64


@final
class Numbered(msgspec.Struct, Call[R], Generic[R], frozen=True):
    """The envelope of a numbered command. A struct, as one is made for each.

    Attributes:
        sender: an id; those that begin with "@" are the runtime's own.
        number: 1 or more, and above all that the sender used before at this receiver.
        command: what is to be done.
        since: when the sender first sent this command, or first lived, in seconds since the Unix epoch; 0.0
            if it cannot say. Only asked for when the receiver may have forgotten the sender.
        lasting: whether it is a delivery, whose sender counts on it that what was answered is never forgotten.
        remembered: whether the sender is never forgotten though this is no delivery.
    """

    sender: str
    number: int
    command: Call[R]
    since: float = 0.0
    lasting: bool = False
    remembered: bool = False


@final
@message("durable.already_done")
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


class SessionExpired(BanyanError):
    """The receiver has forgotten the sender, or cannot tell it from one that it has; nothing was changed.

    `sender`, `number`. Whether earlier commands of it were applied, only the receiver's state can tell.
    """

    def __init__(self, receiver: str, sender: str, number: int) -> None:
        super().__init__(
            f"{receiver!r} has not heard of {sender!r} for so long that it has forgotten it, and does not apply its "
            f"command {number}, which may be an old one: look at the state, then go on under another id"
        )
        self.sender = sender
        self.number = number


class CommandSetAside(BanyanError):
    """The receiver crashed over this command again and again and does not try it any more; nothing was changed.

    It may still be applied, by `replay_poisoned`, and then its reply is given to who asks again.

    `position` is where it lies in the store's list of such commands: see `runtime.durable.poison`.
    """

    def __init__(self, receiver: str, sender: str, number: int, position: int) -> None:
        super().__init__(
            f"{receiver!r} crashed over command {number} of {sender!r} again and again and has set it aside "
            f"(number {position} of its store): mend the class, then replay it"
        )
        self.sender = sender
        self.number = number
        self.position = position


class Query(Call[R], Generic[R]):
    """The base of a request that a durable process answers from its committed state, journalling nothing."""

    __slots__ = ()
