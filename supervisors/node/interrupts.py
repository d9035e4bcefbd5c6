"""Breaking what holds the loop: an exception raised by a signal, in application code and nowhere else.

A callback that computes without ever waiting cannot be cancelled. Python runs signal handlers between two
steps of the main thread, and what a handler raises is raised there. That is safe only where the code that is
interrupted could have raised by itself: so the handler raises if the innermost frame belongs to a process's or
a typed line's own code, never in the runtime, Trio, or a library that holds locks, never where Trio protects
itself, and only if the same process has run all the time and has not given way once. The process then ends
with `Crash(Interrupted)`, and its supervisor starts it again.

Limits: the main thread only; one long call into C is broken when it returns; code that catches `Exception`
around its loop catches this too. Source: Python `signal`; Trio's KeyboardInterrupt protection.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import final

import trio

from runtime.errors import BanyanError
from runtime.kernel.process import Process
from runtime.kernel.stalls import running_in
from runtime.observe.backdoor import holder

# Taken by nobody else here, and ignored by default.
NUMBER = signal.SIGURG
# Seconds between two looks, how many must see the same, and how many tries there are to find it in its own code.
PAUSE = 0.05
LOOKS = 6
TRIES = 60

# Packages in whose code nothing is raised: they keep invariants or locks between two steps.
_LEFT_ALONE = frozenset(
    {
        *("runtime", "supervisors", "trio", "outcome", "lmdb", "cbor2", "msgspec", "structlog"),
        *("logging", "threading", "queue", "contextlib", "importlib", "linecache", "weakref", "abc", "functools"),
    }
)
# And none where these stand below: half of an end, or of a commit, is none.
_WHOLE = frozenset({("runtime.kernel.process", "end"), ("runtime.kernel.table", "crashed")})


class Interrupted(BanyanError):
    """An operator broke the code that held the loop."""

    def __init__(self) -> None:
        super().__init__("this held the loop without ever waiting, and an operator interrupted it")


@final
class Interrupter:
    """Breaks what holds the loop of this program's main thread."""

    def __init__(self) -> None:
        self._one_at_a_time = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.main_thread().ident
        # What the handler saw last: whom, and how often that one had given way.
        self._seen: tuple[object, int] | None = None
        self._looks = 0
        self._who = ""
        self._armed = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While this is open, `interrupt` works; the signal's handler is put back afterwards."""
        before = signal.signal(NUMBER, self._signalled)
        try:
            yield
        finally:
            signal.signal(NUMBER, before)

    def interrupt(self) -> str | None:
        """Break what holds the loop; call it from any other thread. Who it was, or None if nothing did."""
        assert self._thread is not None
        with self._one_at_a_time:
            self._done.clear()
            self._seen, self._looks, self._armed = None, 0, True
            try:
                for _ in range(TRIES):
                    signal.pthread_kill(self._thread, NUMBER)
                    if self._done.wait(PAUSE):
                        return self._who
            finally:
                self._armed = False
            return None

    def _signalled(self, _number: int, frame: FrameType | None) -> None:
        if not self._armed:
            return
        who = holder(frame)
        process = running_in(frame)
        seen = (process if process is not None else who, _turns(process))
        if who is None or seen != self._seen:
            self._seen, self._looks = (seen, 1) if who is not None else (None, 0)
            return
        self._looks += 1
        if self._looks < LOOKS or not _may_raise(frame) or trio.lowlevel.currently_ki_protected():
            return
        self._armed = False
        self._who = who
        self._done.set()
        raise Interrupted


def _turns(process: Process | None) -> int:
    return process.task._schedule_points if process is not None and process.task is not None else -1


def _may_raise(frame: FrameType | None) -> bool:
    """Whether code that could have raised by itself runs innermost, and nothing that must be whole below it."""
    if frame is None or frame.f_globals.get("__name__", "").partition(".")[0] in _LEFT_ALONE:
        return False
    below: FrameType | None = frame
    while below is not None:
        name = below.f_globals.get("__name__", "")
        if (name, below.f_code.co_name) in _WHOLE or name.startswith(("runtime.backends", "runtime.durable.writer")):
            return False
        below = below.f_back
    return True
