"""Selective receive: how a process that is a plain function takes its messages, in the order it likes.

Source: Erlang Reference Manual, "Receive"; rules P38, P39.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import UnionType
from typing import TypeVar, overload

import trio

from ..errors import CallTimeout, Misuse
from .fairness import give_way
from .parking import park
from .requests import Caller
from .signals import Uncounted
from .table import current_process
from .timers import Deadline

M = TypeVar("M")

Matcher = Callable[[object], bool]


def _any(_message: object) -> bool:
    return True


@overload
async def receive(matcher: type[M], *, timeout: float = math.inf) -> M: ...
@overload
async def receive(matcher: Matcher | None = None, *, timeout: float = math.inf) -> object: ...
async def receive(matcher: type | Matcher | None = None, *, timeout: float = math.inf) -> object:
    """Take the first message, in mailbox order, that matches; the others stay where they are (P38).

    Args:
        matcher: a type, a predicate, or None for any message. A request made by `call` arrives as a
            `Caller`, whose `request` says what is asked; answer it with `reply`.
        timeout: seconds, counted from entry (P39); 0 looks once and does not wait.

    Raises:
        ReceiveTimeout: nothing matched in time.
    """
    process = current_process()
    if matcher is None:
        accepts: Matcher = _any
    elif isinstance(matcher, (type, UnionType)):
        kind = matcher

        def accepts(message: object) -> bool:
            return isinstance(message, kind)
    elif callable(matcher):
        accepts = matcher
    else:
        raise Misuse(f"receive wants a type or a predicate as its matcher, got {matcher!r}")
    task = trio.lowlevel.current_task()
    if task is not process.task:
        raise Misuse("receive works in the process's own task only, not in a task that it started")
    deadline: Deadline | None = None
    if 0 < timeout < math.inf:
        deadline = Deadline(process)
        process.table.timers.watch(deadline, timeout)
    seen = 0
    try:
        if process.left > 0:
            process.left -= 1
        else:
            process.left = await give_way(process) - 1
        while True:
            mailbox = process.mailbox
            if mailbox:
                for index in range(seen, len(mailbox)):
                    raw = mailbox[index]
                    message = raw.message if type(raw) is Uncounted else raw
                    if accepts(message):
                        del mailbox[index]
                        if process.uncounted or process.senders:
                            process.took(raw)
                        if isinstance(message, Caller) and message.callee is process:
                            # Ours to answer from now on: if we end before, the caller learns of it.
                            if process.deferred is None:
                                process.deferred = {}
                            process.deferred[message] = None
                        return message
                # Only new messages can match now: nobody else takes from this mailbox while we wait.
                seen = len(mailbox)
            if timeout <= 0 or (deadline is not None and deadline.passed):
                raise ReceiveTimeout(f"no message matched within {timeout:g} s", timeout)
            task.custom_sleep_data = process
            await park()
            process.left, process.since = process.budget, 0.0
    finally:
        if deadline is not None:
            deadline.process = None


class ReceiveTimeout(CallTimeout):
    """Nothing matched within the `timeout` of a `receive`."""

    def __init__(self, text: str, timeout: float) -> None:
        super().__init__(text, None, None, timeout)
