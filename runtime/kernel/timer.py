"""Timers, as a process uses them: messages, exits and functions that come later, once or again and again.

All times are seconds of the node's own clock, `world().now()`, which no jump of the wall clock moves (T8).
A timer never comes early, those of different times come in order, and those of one instant in the order of
their making (T4). Nothing that a timer sends is counted or refused by a mailbox's bound.

Source: erts `erlang:send_after`, `start_timer`; OTP's module `timer`; rules T1-T8.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from ..errors import Misuse
from .checked import seal
from .exits import KILL, NORMAL, checked_reason
from .ids import Pid, Ref, Via
from .process import Process, here
from .signals import Timeout
from .table import Destination, ProcessTable, current_process, current_table
from .timers import Timer


@final
@dataclass(frozen=True, slots=True)
class TimerCancelled:
    """The answer to a `cancel_timer` that was not waited for: the seconds that were `left`, or None."""

    timer: Timer
    left: float | None


def send_after(seconds: float, destination: Destination, message: object, *, absolute: bool = False) -> Timer:
    """Send `message` later, never early; a name is looked up when it is due (T1-T5).

    The timer outlives the process that made it (T7), and goes with a destination that is a pid (T3).

    Args:
        seconds: from 0 up and finite; 0 comes after what was sent before (T5).
        destination: a Pid, a local name or a Via. If nobody has the name then, the message is lost.
        absolute: `seconds` is a time of `world().now()`; one that has passed is due at once (T6).

    Raises:
        Misuse: the time or the destination is none (T6).
    """
    table = current_table()
    return _set(Timer(table, _due(table, seconds, absolute), _checked(destination), _sealed(table, message)))


def start_timer(
    seconds: float, destination: Destination, message: object, *, absolute: bool = False
) -> tuple[Timer, Ref]:
    """Like `send_after`, but what arrives is `Timeout(ref, message)` (T1)."""
    ref = current_table().new_ref()
    return send_after(seconds, destination, Timeout(ref, message), absolute=absolute), ref


def cancel_timer(timer: Timer, *, asynchronous: bool = False) -> float | None:
    """Stop a timer, whoever set it; the seconds it had left (T2).

    None: it had fired, so that its message may be in the mailbox already, or was stopped, or went with its
    process. With `asynchronous` the answer is None and comes to the calling process as `TimerCancelled`.
    """
    left = read_timer(timer)
    timer.stop()
    if not asynchronous:
        return left
    process = current_process()
    process.post(TimerCancelled(timer, left))
    return None


def read_timer(timer: Timer) -> float | None:
    """The seconds a timer has left, or None if it is no more (T2)."""
    if not timer.waiting:
        return None
    return max(0.0, timer.due - timer.table.timers.clock())


# -- OTP's module `timer` -----------------------------------------------------------------------------


def send_interval(seconds: float, destination: Destination, message: object) -> Timer:
    """Send `message` every so many seconds (above 0), without drift, first after that time; until cancelled.

    It goes with a destination that is a pid. A round in which nobody has the name is lost.

    Raises Misuse: the time or the destination is none (T6).
    """
    table = current_table()
    return _set(_Interval(table, seconds, _checked(destination), _sealed(table, message)))


def exit_after(seconds: float, destination: Destination, reason: object) -> Timer:
    """Send an exit signal later, as `exit` would now: from the calling process, or from host code from no process.

    `seconds`, `destination` and Misuse are as of `send_after`.
    """
    table = current_table()
    found = here.get(None)
    source = found.pid if type(found) is Process else None
    return _set(_Signal(table, _due(table, seconds, False), _checked(destination), checked_reason(reason), source))


def kill_after(seconds: float, destination: Destination) -> Timer:
    """`exit_after` with KILL, which cannot be trapped."""
    return exit_after(seconds, destination, KILL)


def apply_after(seconds: float, function: Callable[..., object], *args: object) -> Timer:
    """Run `function(*args)` later, in a process of its own; if it is async, it is awaited there.

    `seconds` is from 0 up and finite, as of `send_after`; Misuse else.
    """
    table = current_table()
    return _set(_Apply(table, _due(table, seconds, False), None, _applied(function, args)))


def apply_interval(seconds: float, function: Callable[..., object], *args: object) -> Timer:
    """Run `function(*args)` every so many seconds (above 0), each time in a process of its own, until cancelled.

    A run that takes longer than the interval overlaps with the next one. Raises Misuse: the time is none (T6).
    """
    table = current_table()
    return _set(_ApplyInterval(table, seconds, None, _applied(function, args)))


class _Repeating(Timer):
    """A timer that sets itself again, before it does what it is for: that may stop it."""

    __slots__ = ("interval",)

    def __init__(self, table: ProcessTable, seconds: float, destination: object, message: object) -> None:
        self.interval = _seconds(seconds)
        if self.interval == 0:
            raise Misuse("an interval is a finite number of seconds above 0, got 0: it would never let others run")
        super().__init__(table, table.timers.clock() + self.interval, destination, message)

    def expire(self) -> None:
        self.due += self.interval
        self.table.timers.add(self)
        self.fire()


@final
class _Interval(_Repeating):
    __slots__ = ()


@final
class _Signal(Timer):
    __slots__ = ("source",)

    def __init__(
        self, table: ProcessTable, due: float, destination: object, reason: object, source: Pid | None
    ) -> None:
        super().__init__(table, due, destination, reason)
        self.source = source

    def fire(self) -> None:
        target = self.target()
        if target is not None:
            target.exit_signal(self.source if self.source is not None else target.pid, self.message)


@final
class _Apply(Timer):
    __slots__ = ()

    def fire(self) -> None:
        _run(self)


@final
class _ApplyInterval(_Repeating):
    __slots__ = ()

    def fire(self) -> None:
        _run(self)


def _run(timer: Timer) -> None:
    function = timer.message
    assert isinstance(function, functools.partial)
    label = str(getattr(function.func, "__qualname__", function.func))
    timer.table.spawn(functools.partial(_applying, function), label)


async def _applying(function: Callable[[], object], _process: Process, _argument: object) -> object:
    done = function()
    if inspect.isawaitable(done):
        await done
    return NORMAL


def _set(timer: Timer) -> Timer:
    timer.table.timers.add(timer)
    return timer


def _sealed(table: ProcessTable, message: object) -> object:
    return seal(message) if table.check_messages else message


def _applied(function: Callable[..., object], args: tuple[object, ...]) -> functools.partial[object]:
    if not callable(function):
        raise Misuse(f"wanted a function and its arguments, got {function!r}")
    return functools.partial(function, *args)


def _checked(destination: object) -> Destination:
    if type(destination) is Pid or type(destination) is str or type(destination) is Via:
        return destination
    raise Misuse(f"a timer's destination is a Pid, a registered name or a Via, got {destination!r}")


def _due(table: ProcessTable, seconds: float, absolute: bool) -> float:
    now = table.timers.clock()
    if not absolute:
        return now + _seconds(seconds)
    if isinstance(seconds, bool) or not math.isfinite(seconds):
        raise Misuse(f"an absolute time is a finite number of seconds of world().now(), got {seconds!r}")
    return float(seconds)


def _seconds(seconds: float) -> float:
    """A delay in seconds, from 0 up and finite (T6)."""
    if isinstance(seconds, bool) or not 0 <= seconds < math.inf:
        raise Misuse(f"a timer's delay is a finite number of seconds from 0 up, got {seconds!r}")
    return float(seconds)
