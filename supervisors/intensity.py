"""Restart intensity: how many restarts a supervisor allows within a sliding period.

Source: OTP `supervisor.erl`, `add_restart/1`; rules S22, S23. The window is exact to the clock, where
OTP counts whole seconds.
"""

from __future__ import annotations

from collections import deque
from typing import final


@final
class Intensity:
    """At most `limit` restarts within `period` seconds."""

    __slots__ = ("_times", "limit", "period")

    def __init__(self, limit: int, period: float) -> None:
        self.limit = limit
        self.period = period
        self._times: deque[float] = deque()

    def record(self, now: float) -> bool:
        """Count one restart at `now` (seconds); whether it is still allowed."""
        self._times.append(now)
        return self.used(now) <= self.limit

    def used(self, now: float) -> int:
        """How many restarts lie within the period that ends at `now`, its first instant included."""
        while self._times and self._times[0] < now - self.period:
            self._times.popleft()
        return len(self._times)
