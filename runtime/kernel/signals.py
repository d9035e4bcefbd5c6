"""The messages that the runtime itself puts into a mailbox.

They are never counted against a mailbox's bound and never refused. All are plain values for `match`.
Source: rules P7 ('EXIT'), P22 ('DOWN'), T1 (timeout).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from .ids import Pid, Ref, Via


@final
@dataclass(frozen=True, slots=True)
class Exit:
    """A trapped exit signal: `source` ended with, or sent, `reason`. OTP's `{'EXIT', From, Reason}`."""

    source: Pid
    reason: object


@final
@dataclass(frozen=True, slots=True)
class Down:
    """A monitored process has ended, or never was (`NOPROC`). `monitored` is the pid or name given."""

    ref: Ref
    monitored: Pid | str | Via
    reason: object


@final
@dataclass(frozen=True, slots=True)
class Timeout:
    """A timer of `start_timer` is due. OTP's `{timeout, Ref, Message}`."""

    ref: Ref
    message: object


@final
@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a `send_request`: `value`, or the exit `reason` of a callee that never replied.

    `label` is what the sender called the request by; exactly one Answer comes for each request.
    """

    label: object
    value: object
    reason: object = None
    failed: bool = False


@final
class Uncounted:
    """The wrapping of whatever the runtime itself puts into a mailbox, which its bound does not count.

    An Exit or Down that a process passes on as its own message is counted like any other.
    """

    __slots__ = ("message",)

    def __init__(self, message: object) -> None:
        self.message = message


def content(message: object) -> object:
    """What a message in a mailbox says, without its wrapping."""
    return message.message if type(message) is Uncounted else message
