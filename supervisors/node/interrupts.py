"""Breaking what holds the loop: an exception raised by a signal, in application code and nowhere else.

A callback that computes without ever waiting cannot be cancelled. Python runs signal handlers between two
steps of the main thread, and what a handler raises is raised there. That is safe only where the code that is
interrupted could have raised by itself. So `may_raise` lets it happen only

- where an application's own code runs innermost, or a library's that holds no locks;
- where nothing of the runtime or of Trio lies between that code and the place that called it as a callback,
  whose business it is that callbacks may raise: so never in a commit, an end, a supervisor's strategy, one of
  the runtime's own processes, nor in what Trio calls back in the middle of something of its own;
- where nothing of it was called by the interpreter itself, in the middle of whatever ran: a collector's callback,
  a weak reference's, the hook for what cannot be raised;
- where neither Trio nor the application protects itself (`trio.lowlevel.enable_ki_protection`), and no context
  manager of the application is being entered or left;
- not between the call of an async function and the `await` of what it gave: at the end of an `async with` the
  way out would be lost there, and Trio's nurseries and cancel scopes would never be closed.

Two ask for it: an operator, here, and the `stepper`, by itself. The process then ends with a Crash of that
`Broken`, and its supervisor starts it again.

Limits: the main thread only; one long call into C is broken when it returns; code that catches BaseException
and goes on is only broken again. Source: Python `signal`; Trio's KeyboardInterrupt protection.
"""

from __future__ import annotations

import dis
import gc
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, final

import trio

from runtime.kernel.exits import Broken
from runtime.kernel.process import Process, run
from runtime.kernel.stalls import running_in
from runtime.observe.backdoor import holder

# Taken by nobody else here, and ignored by default.
NUMBER = signal.SIGURG
# Seconds between two looks, how many must see the same, and how many tries there are to find it in its own code.
PAUSE = 0.05
LOOKS = 6
TRIES = 60

Taker = Callable[[int, FrameType | None], None]

# Where nothing is raised: these keep invariants between two steps ...
_OURS = frozenset({"runtime", "supervisors", "trio", "outcome"})
# ... and these do, or hold locks.
_LEFT_ALONE = _OURS | {
    *("lmdb", "cbor2", "msgspec", "structlog"),
    *(
        "logging",
        "threading",
        "queue",
        "contextlib",
        "importlib",
        "linecache",
        "weakref",
        "_weakrefset",
        "abc",
        "functools",
    ),
}
# Whose frames may be passed through: they run callbacks, and answer for whatever a callback raises.
_CALL_OUT = frozenset(
    {
        *(f"runtime.behaviours.{one}" for one in ("event_manager", "gen", "gen_server", "gen_statem", "system")),
        *(f"runtime.durable.{one}" for one in ("event_sourced", "hooks", "recovery", "snapshotted")),
        *(f"runtime.kernel.{one}" for one in ("api", "selective", "timer")),
        *(f"supervisors.tasks.{one}" for one in ("stream", "supervisor", "task")),
        *("runtime.edge.connection", "runtime.observe.repl"),
    }
)
# What is half done until it has returned.
_WHOLE = frozenset({"__enter__", "__exit__", "__aenter__", "__aexit__", "__del__"})
_PRECALL, _CALL, _AWAIT = (dis.opmap.get(name, -1) for name in ("PRECALL", "CALL", "GET_AWAITABLE"))
# Where a typed line begins.
_LINES = "runtime.observe.repl"


@final
class Interrupted(Broken):
    """An operator broke the code that held the loop."""

    def __init__(self) -> None:
        super().__init__("this held the loop without ever waiting, and an operator interrupted it")


_takers: list[Taker] = []
_before: Any = None


@contextmanager
def taken(taker: Taker) -> Iterator[None]:
    """While this is open, the signal goes to `taker`, and to others that have taken it; then it is given back.

    For the main thread; several may be open at once, and need not be closed in order.
    """
    global _before
    if not _takers:
        _before = signal.signal(NUMBER, _signalled)
    _takers.append(taker)
    try:
        yield
    finally:
        _takers.remove(taker)
        if not _takers:
            signal.signal(NUMBER, _before)
            _before = None


def _signalled(number: int, frame: FrameType | None) -> None:
    for taker in tuple(_takers):
        taker(number, frame)


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
        with taken(self._signalled):
            yield

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
        if self._looks < LOOKS or not may_raise(frame):
            return
        self._armed = False
        self._who = who
        self._done.set()
        raise Interrupted


def _turns(process: Process | None) -> int:
    return process.task._schedule_points if process is not None and process.task is not None else -1


def may_raise(frame: FrameType | None) -> bool:
    """Whether an exception may be raised in `frame`, the innermost one, by the signal handler that asks this."""
    return _may_raise(frame) and not trio.lowlevel.currently_ki_protected()


def _may_raise(frame: FrameType | None) -> bool:
    """Whether code that could have raised by itself runs innermost, and only what calls it as a callback below it."""
    if frame is None or _module(frame).partition(".")[0] in _LEFT_ALONE or _awaits(frame):
        return False
    outermost, intruders = _outermost(), _intruders()
    below: FrameType | None = frame
    while below is not None:
        name, code = _module(below), below.f_code
        if code is run.__code__ or below is outermost:
            return True
        if (name.partition(".")[0] in _OURS and name not in _CALL_OUT) or code.co_name in _WHOLE or code in intruders:
            return False
        if name == _LINES or code.co_name == "_behaviour_begin":
            return True  # what a start or a line raises goes no further than this
        below = below.f_back
    return True


def _intruders() -> set[object]:
    """The code that the interpreter calls in the middle of any other; what it raises is printed, and lost."""
    called = [*gc.callbacks, sys.unraisablehook]
    return {getattr(getattr(one, "func", one), "__code__", None) for one in called} - {None}


def _awaits(frame: FrameType) -> bool:
    """Whether a call in this frame has just returned what the next step awaits."""
    code, at = frame.f_code.co_code, frame.f_lasti
    if at < 0:
        return False
    called = code[at] == _PRECALL  # CPython 3.11 calls some functions there, and passes over the step that follows
    at = _next(code, at)
    if called and at < len(code) and code[at] == _CALL:
        at = _next(code, at)
    return at < len(code) and code[at] == _AWAIT


def _next(code: bytes, at: int) -> int:
    """Where the step after that at `at` stands: between them lie the places of its caches, which are 0."""
    at += 2
    while at < len(code) and code[at] == 0:
        at += 2
    return at


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _outermost() -> FrameType | None:
    """Where the running task begins: what is below it are Trio's own steps."""
    try:
        task = trio.lowlevel.current_task()
    except RuntimeError:
        return None
    return getattr(task.coro, "cr_frame", None)
