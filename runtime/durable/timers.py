"""Durable timers: commands that come at a time of the wall clock, also after crashes, as a process's state says.

    def timers(self, state):
        if state.turn_ends:
            yield DurableTimer("turn", state.turn_ends, TurnOver(state.turn))

An event that puts a time into the state sets a timer, one that takes it out cancels it, and nothing about it is
stored apart. When it is due, its command is handled like any other, numbered with the time at which it was
due: the entry that it makes says that it has fired, so that it never fires twice, whatever ends in between.
A refusal or a command without events makes an entry too, for the same reason.

What was due while nobody ran is missed, and `missed` says what becomes of it. Never early by the wall clock;
how late, nothing promises. A clock that is set back makes timers wait; one that is set forward is noticed
within LONGEST_WAIT.

Pure: it decides what is due; the behaviour fires. Source: Temporal's durable timers and the catch-up policies
of its schedules; Quartz's misfire instructions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal, final

from ..errors import Misuse

Missed = Literal["once", "all", "skip"]

# The sender of a timer's command is this and its name.
TIMER: Final = "@timer/"
# Seconds after which the wall clock is looked at again.
LONGEST_WAIT: Final = 60.0


@final
@dataclass(frozen=True, slots=True)
class DurableTimer:
    """A command to come.

    Args:
        name: unique in its process, at most 240 bytes. A timer of the same name and due time that has fired
            does not fire again, nor does one of an earlier time.
        due: when, in seconds since the Unix epoch, from 0 up.
        command: what the process then handles.
        every: seconds between two times, if it is due again and again; None for once.
        missed: of what was due while the process did not run: "once", the last time only; "all", each time;
            "skip", none.
    """

    name: str
    due: float
    command: object
    every: float | None = None
    missed: Missed = "once"

    def __post_init__(self) -> None:
        if not 0 <= self.due < math.inf or (self.every is not None and not 0.001 <= self.every < math.inf):
            raise Misuse(f"timer {self.name!r}: wanted a time from 0 up and a period from 0.001 s, got {self!r}")
        if self.missed not in ("once", "all", "skip"):
            raise Misuse(f"timer {self.name!r}: wanted missed 'once', 'all' or 'skip', got {self.missed!r}")


@final
@dataclass(frozen=True, slots=True)
class Fire:
    """A timer that is due now, and the number of its command."""

    timer: DurableTimer
    number: int

    @property
    def sender(self) -> str:
        """Who sends the command, as the table of numbered commands knows it."""
        return TIMER + self.timer.name


def number_of(due: float) -> int:
    """The number of a command that is due at a time: microseconds, above 0, so that numbers rise with times."""
    return round(due * 1e6) + 1


def next_fire(timer: DurableTimer, fired: int, now: float, since: float) -> tuple[Fire | None, float | None]:
    """What a timer does now: the command to handle, and when to look again; (None, None) if it is over.

    Args:
        fired: the highest number of this timer that was handled, 0 for none.
        now: seconds since the Unix epoch.
        since: when the process began to run: what was due up to then was missed.
    """
    turn = _first_after(timer, fired)
    if turn is None:
        return None, None
    if timer.missed == "skip" and _due(timer, turn) <= since:
        turn = _turn_after(timer, since)
        if turn is None:
            return None, None
    due = _due(timer, turn)
    if due > now:
        return None, due
    if timer.missed != "all" and timer.every is not None:
        last = _turn_after(timer, now)
        assert last is not None
        turn = max(turn, last - 1)
    return Fire(timer, number_of(_due(timer, turn))), now


def _due(timer: DurableTimer, turn: int) -> float:
    return timer.due + turn * (timer.every or 0.0)


def _first_after(timer: DurableTimer, fired: int) -> int | None:
    """The first turn whose number is above `fired`, None if there is none."""
    if number_of(timer.due) > fired:
        return 0
    if timer.every is None:
        return None
    turn = max(0, int((fired / 1e6 - timer.due) // timer.every) - 1)
    while number_of(_due(timer, turn)) <= fired:
        turn += 1
    return turn


def _turn_after(timer: DurableTimer, moment: float) -> int | None:
    """The first turn that is due after a moment, None if there is none."""
    if timer.due > moment:
        return 0
    if timer.every is None:
        return None
    turn = max(0, int((moment - timer.due) // timer.every) - 1)
    while _due(timer, turn) <= moment:
        turn += 1
    return turn


def due_now(
    timers: Iterable[DurableTimer], fired: Callable[[str], int], now: float, since: float
) -> tuple[list[Fire], float | None]:
    """Of all timers: what to handle now, in the order of their due times, and when to look again.

    Args:
        fired: by a timer's sender, the highest number handled.
    """
    fires: list[Fire] = []
    again: float | None = None
    for timer in timers:
        fire, look = next_fire(timer, fired(TIMER + timer.name), now, since)
        if fire is not None:
            fires.append(fire)
        if look is not None and (again is None or look < again):
            again = look
    fires.sort(key=lambda fire: (fire.number, fire.timer.name))
    return fires, again
