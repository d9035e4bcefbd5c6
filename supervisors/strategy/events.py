"""What goes into a supervisor's machine and what comes out of it: events and effects, as values.

Those that each start and stop of a child makes are structs, which cost a fifth of a frozen dataclass; they last for
one step, so the garbage collector need not know of them.

Source: OTP `supervisor.erl`; the names follow its words where it has any.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import final

import msgspec

from runtime.kernel.ids import Pid

from ..backoff import Backoff
from ..specs import ChildSpec

# -- events --------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Boot:
    """Start all children, in order."""


@final
class Exited(msgspec.Struct, frozen=True, gc=False):
    """A linked process has ended."""

    pid: Pid
    reason: object


@final
@dataclass(frozen=True, slots=True)
class Retry:
    """Try a failed restart again: it comes back from the end of the mailbox (S26)."""

    key: object


@final
@dataclass(frozen=True, slots=True)
class Wake:
    """The wait of a back-off is over; `ticket` says which one."""

    key: object
    ticket: int


@final
class Ask(msgspec.Struct, frozen=True, gc=False):
    """A request of `token`, who waits for the answer."""

    token: object
    request: object


@final
@dataclass(frozen=True, slots=True)
class Close:
    """End in order: stop all children, then end with `reason`."""

    reason: object


@final
class Done(msgspec.Struct, frozen=True, gc=False):
    """The outcome of the blocking effect: of a Launch a Pid, None (ignored) or Failed; of a Halt a reason."""

    outcome: object


Event = Boot | Exited | Retry | Wake | Ask | Close | Done


# -- effects -------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Failed:
    """A child did not start, for `reason`."""

    reason: object


@final
class Launch(msgspec.Struct, frozen=True, gc=False):
    """Blocking: start a child."""

    spec: ChildSpec


@final
class Halt(msgspec.Struct, frozen=True, gc=False):
    """Blocking: stop a child as its spec says; the outcome is the reason it ended with."""

    pid: Pid
    spec: ChildSpec


@final
@dataclass(frozen=True, slots=True)
class HaltAll:
    """Blocking: stop several at once, in parallel; the outcome is a list of reasons (S42)."""

    children: tuple[tuple[Pid, ChildSpec], ...]


@final
@dataclass(frozen=True, slots=True)
class Started:
    """All children are up: tell the starter."""


@final
@dataclass(frozen=True, slots=True)
class TryAgain:
    """Put a Retry to the end of the mailbox."""

    key: object


@final
@dataclass(frozen=True, slots=True)
class Wait:
    """Give back `Wake(key, ticket)` after the delay of `backoff` for the `attempt`-th restart in a row."""

    key: object
    ticket: int
    backoff: Backoff
    attempt: int


@final
class Answer(msgspec.Struct, frozen=True, gc=False):
    """Answer a request: with a value, or with a Refusal for the caller to raise."""

    token: object
    value: object


@final
class Report(msgspec.Struct, frozen=True, gc=False):
    """Something that people want to read: `what` happened to the child `key`, for `reason`."""

    what: str
    key: object
    reason: object


@final
@dataclass(frozen=True, slots=True)
class Finish:
    """End the supervisor with this reason; all children are gone."""

    reason: object


Effect = Launch | Halt | HaltAll | Started | TryAgain | Wait | Answer | Report | Finish
BLOCKING = frozenset({Launch, Halt, HaltAll})
Steps = Generator[Effect, object, None]
