"""Holding: to suspend a process that only waits for its next message, without waking it, and let it go on.

`sys.suspend` asks a process to suspend itself, and the process answers; a thousand processes that do nothing would be
woken for that. One that waits in the runtime's own trap, with an empty mailbox, is between two messages anyway.
"""

from __future__ import annotations

from typing import Final

from .parking import NOTHING, wake
from .process import Process

# What a parked task says would wake it, while its process is held: nothing but a signal does.
_HELD: Final = object()


def hold(process: Process) -> bool:
    """Suspend a process here and now, if it only waits for its next message; or False.

    Until `let_go` it serves nothing, not even the system; signals end it as ever.
    """
    if process.exiting is not None or process.mailbox or process.suspended or not process.waits():
        return False
    process.suspended = True
    if process.task is not None:
        process.task.custom_sleep_data = _HELD
    return True


def let_go(process: Process) -> None:
    """Let a process go on that is held; nothing happens to any other."""
    task = process.task
    if not process.suspended or process.exiting is not None:
        return
    if task is None:
        process.suspended = False
        if process.mailbox and process.resting is not None:
            process.table.rouse(process)
    elif task.custom_sleep_data is _HELD:
        process.suspended = False
        task.custom_sleep_data = process
        if process.mailbox:
            wake(task, NOTHING)
