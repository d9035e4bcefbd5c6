"""How a node's program ends: the first signal drains, the second ends it at once, and so does the deadline.

All three must work while a process computes without ever waiting, when no task of Trio's runs. So they are
handlers of the interpreter, not tasks: the first hands over to the loop by its token, the others exit. What
was acknowledged is on the disk by then, whatever is cut short.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import final

import trio

STOPPING = (signal.SIGINT, signal.SIGTERM)
# What else than Ctrl-C ends a command, without a word, unless it listens.
ENDING = (signal.SIGTERM, signal.SIGHUP)


@final
class Stopper:
    """Stops a program in order, or at once if that takes too long.

    Args:
        drain: begins the ordered stop; called once, in the loop.
        timeout: seconds for it.
        exit: ends the program without clean-up.
    """

    def __init__(self, drain: Callable[[], None], timeout: float, exit: Callable[[int], None]) -> None:
        self._drain = drain
        self._timeout = timeout
        self._exit = exit
        self._token = trio.lowlevel.current_trio_token()
        self.draining = False

    def begin(self) -> None:
        """Begin the ordered stop; does nothing if it has begun."""
        if self.draining:
            return
        self.draining = True
        if self._timeout > 0:
            signal.setitimer(signal.ITIMER_REAL, self._timeout)
            self._token.run_sync_soon(self._drain)
        else:
            self._give_up("it was given no time to stop")

    def _signalled(self, number: int, _frame: FrameType | None) -> None:
        if self.draining:
            self._give_up(f"a second signal came ({signal.Signals(number).name})")
        else:
            self.begin()

    def _late(self, _number: int, _frame: FrameType | None) -> None:
        self._give_up(f"it did not stop within {self._timeout:g} s")

    def _give_up(self, why: str) -> None:
        # Not by print or logging: the handler may have interrupted either.
        said = f"what: the node was ended before it had stopped\nwhy: {why}\n"
        said += "next: start it again; nothing that was acknowledged is lost\n"
        os.write(2, said.encode())
        self._exit(1)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While this is open, SIGINT and SIGTERM stop the program; afterwards all is as it was."""
        before = {number: signal.signal(number, self._signalled) for number in STOPPING}
        before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._late)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def endings_raised() -> Iterator[None]:
    """While this is open, SIGTERM and SIGHUP raise SystemExit with 128 plus their number.

    For a command that has started a node of its own, which must not outlive it: its `finally` runs.
    """

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
