"""Back-off: how long a restart waits, if it is to wait at all. OTP restarts at once, and so does Banyan by default.

    class Feeds(Supervisor):
        intensity, period = 20, 60.0

        def init(self):
            return [child("prices", Prices, backoff=Backoff(first=0.5, limit=30.0))]

The wait changes nothing in how restarts are counted (S22): each counts when it is decided, before the wait.
But waits stretch restarts over time, so that fewer fall within the `period`; with waits longer than
`period / intensity` a supervisor never gives up, which for a child that needs somebody else's service is
often what one wants.

Source: the exponential back-off of TCP and of Kubernetes' restarts; AWS, "Exponential Backoff and Jitter".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from runtime.errors import Misuse


@final
@dataclass(frozen=True, slots=True)
class Backoff:
    """The n-th restart in a row waits `first * factor ** (n - 1)` seconds, at most `limit`, less some jitter.

    A child that was up for at least `limit` seconds starts from `first` again.

    Args:
        first: seconds before the first restart, from 0 up.
        factor: how much longer each wait is than the one before, from 1 to 100.
        limit: the longest wait, in seconds; not below `first`.
        jitter: which part of a wait may be left out, from 0 (none) to 1 (all of it); how much is drawn anew
            each time, from the World's randomness, so that children that fell together do not rise together.

    Raises:
        Misuse: one of these is out of its bounds.
    """

    first: float = 0.1
    factor: float = 2.0
    limit: float = 30.0
    jitter: float = 0.1

    def __post_init__(self) -> None:
        for name, low, high in (
            ("first", 0.0, math.inf),
            ("factor", 1.0, 100.0),
            ("limit", self.first, math.inf),
            ("jitter", 0.0, 1.0),
        ):
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not low <= value <= high or value == math.inf:
                bounds = f"from {low:g} up" if high == math.inf else f"from {low:g} to {high:g}"
                raise Misuse(f"a back-off's {name} is a number {bounds}, got {value!r}")

    def delay(self, attempt: int, roll: float) -> float:
        """Seconds that the `attempt`-th restart in a row waits (from 1 up), for a `roll` from 0 to 1."""
        whole = min(self.limit, self.first * self.factor ** min(attempt - 1, 64))
        return whole * (1.0 - self.jitter * roll)
