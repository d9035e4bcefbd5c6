"""What can be seen of a process from outside, without asking it. Source: OTP `erlang:process_info`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from .ids import Pid
from .requests import ExitWatch
from .table import Destination, current_table


@final
@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """What is known of a living process from outside.

    Attributes:
        names: its registered names.
        label: what kind of process it is.
        state: running, suspended or stopping.
        queue: messages that wait in its mailbox.
        handling: the type of the request in hand, or None; it was accepted and is not answered yet.
        unanswered: how many requests it has taken and put off: they were accepted and are not answered yet.
        links, monitors, watchers: how many.
    """

    pid: Pid
    names: tuple[str, ...]
    label: str
    state: str
    queue: int
    handling: str | None
    unanswered: int
    links: int
    monitors: int
    watchers: int


def process_info(destination: Destination) -> ProcessInfo | None:
    """What is known of a process, read at once and without asking it; None if it is dead."""
    process = destination._process if type(destination) is Pid else current_table().find(destination)
    if process is None:
        return None
    request = getattr(process.current, "request", None)
    return ProcessInfo(
        pid=process.pid,
        names=tuple(process.names or ()),
        label=process.label,
        state="stopping" if process.exiting is not None else "suspended" if process.suspended else "running",
        queue=len(process.mailbox or ()),
        handling=type(request).__qualname__ if request is not None else None,
        unanswered=sum(1 for caller in process.deferred or () if type(caller) is not ExitWatch),
        links=len(process.links or ()),
        monitors=len(process.monitors or ()),
        watchers=len(process.watchers or ()),
    )
