"""How a task waits and is woken: one shared trap instead of a channel, event or cancel scope per wait.

Trio's `wait_task_rescheduled` builds a trap object on each call. Ours is built once, at import, by
running that coroutine to its first yield; a `types.coroutine` then yields the same object for ever.

`task.custom_sleep_data` is the parked marker. A task that parks sets it to the object it waits on, and
Trio clears it on every reschedule and every abort. "Is it still parked on my slot?" is therefore one
identity test, and no task can be rescheduled twice: whoever wakes it first clears the marker.

Whoever wakes a task hands over an object with an `unwrap` method (Trio's outcome protocol); a reply
slot is its own outcome, so that nothing is allocated. Source: trio `_core/_traps.py`.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Generator
from typing import Any, Protocol, cast

import trio


class Wakeable(Protocol):
    """What a parked task is woken with: `unwrap` gives the value of the wait, or raises."""

    def unwrap(self) -> object: ...


def _abort(_raise_cancel: object) -> trio.lowlevel.Abort:
    # Nothing to undo: a parked marker is cleared by Trio, and a slot whose task has left is skipped by
    # whoever holds it.
    return trio.lowlevel.Abort.SUCCEEDED


def _make_trap() -> object:
    waiting = trio.lowlevel.wait_task_rescheduled(_abort)  # noqa: ASYNC105  # run by hand to its first yield
    trap = waiting.send(None)
    waiting.close()
    return trap


TRAP = _make_trap()


@types.coroutine
def park() -> Generator[object, Wakeable, Any]:
    """Wait until somebody calls `wake` for this task; set its `custom_sleep_data` first.

    Returns what the waker's `unwrap` returns. A checkpoint: raises trio.Cancelled when cancelled.
    """
    return (yield TRAP).unwrap()


# Lets a parked task run on in the next pass; whoever calls it has checked the parked marker. Trio's own
# function, under the type of what it does here: a frame of ours around it would cost as much as it does.
wake = cast("Callable[[trio.lowlevel.Task, Wakeable], None]", trio.lowlevel.reschedule)


class Nothing:
    """An outcome that says only "look again"."""

    __slots__ = ()

    def unwrap(self) -> None:
        return None


NOTHING = Nothing()
