"""What a supervisor is asked, and what it answers, as values.

Source: OTP `supervisor:start_child/2` and its like; rules S43-S54.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

from runtime.kernel.ids import Pid

from ..specs import ChildSpec


@final
@dataclass(frozen=True, slots=True)
class StartChild:
    """Start one more child (S43)."""

    spec: ChildSpec


@final
@dataclass(frozen=True, slots=True)
class StartWith:
    """Start a child of a simple_one_for_one supervisor: `args` follow those of its template (S46)."""

    args: tuple[Any, ...]


@final
@dataclass(frozen=True, slots=True)
class TerminateChild:
    """Stop a child (S47)."""

    key: object


@final
@dataclass(frozen=True, slots=True)
class RestartChild:
    """Start a child again that is down (S49)."""

    key: object


@final
@dataclass(frozen=True, slots=True)
class DeleteChild:
    """Forget a child that is down (S50)."""

    key: object


@final
@dataclass(frozen=True, slots=True)
class WhichChildren:
    """List the children (S51)."""


@final
@dataclass(frozen=True, slots=True)
class CountChildren:
    """Count the children (S52)."""


@final
@dataclass(frozen=True, slots=True)
class GetChildSpec:
    """Show a child's spec (S53)."""

    key: object


@final
@dataclass(frozen=True, slots=True)
class Gauge:
    """How it stands with the restarts: strategy, used, intensity, period."""


@final
@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request was refused: already_started, already_present, bad_combination, start_failed, max_children,
    not_found, running, restarting, or not_offered. `detail` is the pid or the reason."""

    why: str
    detail: object = None


@final
@dataclass(frozen=True, slots=True)
class ChildInfo:
    """One line of `which_children`: state is up, down, restarting, or waiting (for a back-off)."""

    id: str
    pid: Pid | None
    state: str
    type: str


@final
@dataclass(frozen=True, slots=True)
class Counts:
    """What `count_children` answers (S52)."""

    specs: int
    active: int
    supervisors: int
    workers: int


@final
@dataclass(frozen=True, slots=True)
class GaugeReading:
    """Restarts used within the period, of the intensity allowed."""

    strategy: str
    used: int
    intensity: int
    period: float


@final
@dataclass(frozen=True, slots=True)
class FailedToStart:
    """The detail of the exit reason when child `id` did not start at the supervisor's own start (S9)."""

    id: str
    reason: object
