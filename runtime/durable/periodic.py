"""Saving a state every so many seconds: when, and what becomes of a save that fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from ..kernel.process import Process
from ..kernel.timer import send_after
from .journal import StoreFull

# The message that says that it is time.
SAVE: Final = object()


@final
class Saver:
    """Of one process: whether its state has changed since it was last handed over, and the clock for it.

    It is the author of the entries that mark a save: see `JournalWriter.append`.

    Args:
        seconds: between a change and the save that holds it.
        process: who is told `SAVE`.
        sequence: the last entry of its key.
        lost: called with the error of a save that failed for more than a lack of room.
    """

    def __init__(self, seconds: float, process: Process, sequence: int, lost: Callable[[Exception], None]) -> None:
        self.seconds = seconds
        self.changed = False
        # The last entry that was handed over, and the last one that is on the disk.
        self.sequence = self.saved = sequence
        self._process = process
        self._lost = lost
        self._waits = False

    def touch(self) -> None:
        """The state has changed."""
        self.changed = True
        if not self._waits:
            self._waits = True
            send_after(self.seconds, self._process.pid, SAVE)

    def take(self) -> bool:
        """It is time: whether there is anything to save; then `sequence` is the number of its entry."""
        self._waits = False
        if not self.changed:
            return False
        self.changed = False
        self.sequence += 1
        return True

    def _journal_settled(self, sequence: int) -> None:
        self.saved = sequence

    def _journal_lost(self, error: Exception) -> None:
        if self._process.exiting is not None:
            return
        if isinstance(error, StoreFull):
            # Nothing of it was written: with the next save, which is due in as many seconds.
            self.sequence = self.saved
            self.touch()
        else:
            self._lost(error)
