"""The alarm of a durable process: looks at its timers, and wakes it when the next one may be due."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, final

from ..kernel.process import Process
from ..kernel.timer import cancel_timer, send_after
from ..kernel.timers import Timer
from .timers import LONGEST_WAIT, DurableTimer, Fire, due_now

# The message that says: look at the timers.
DUE: Final = object()


@final
class Alarm:
    """One timer of the node's clock for all durable timers of a process.

    Args:
        process: who is told `DUE`.
        since: when it began to run, in seconds since the Unix epoch: what was due up to then was missed.
    """

    def __init__(self, process: Process, since: float) -> None:
        self._process = process
        self._since = since
        self._at: float | None = None
        self._timer: Timer | None = None
        # Whether DUE lies in the mailbox already.
        self._rings = False

    def ring(self) -> None:
        """Look at the timers as soon as what waits has been served."""
        if not self._rings:
            self._rings = True
            self._process.post(DUE)

    def look(self, timers: Iterable[DurableTimer], fired: Callable[[str], int], now: float, rang: bool) -> Fire | None:
        """What to handle now, if it `rang`; and set the alarm for what comes next.

        One at a time: what it does may cancel the others, and callers come in between.
        """
        if rang:
            self._at, self._rings = None, False
        fires, again = due_now(timers, fired, now, self._since)
        if fires:
            self.ring()
            return fires[0] if rang else None
        if again != self._at:
            self._stop()
            self._at = again
            if again is not None:
                self._start(min(max(0.0, again - now), LONGEST_WAIT))
        return None

    def again_after(self, seconds: float) -> None:
        """Look at the timers in so many seconds."""
        self._stop()
        self._at = None
        self._start(seconds)

    def _start(self, seconds: float) -> None:
        self._timer = send_after(seconds, self._process.pid, DUE)

    def _stop(self) -> None:
        if self._timer is not None:
            cancel_timer(self._timer)
            self._timer = None
