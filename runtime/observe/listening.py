"""What the doors for people and machines have in common: a process that listens, and serves nothing by message."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

from ..behaviours.gen import Behaviour
from ..behaviours.sys import serve_system
from ..kernel.parking import park
from ..kernel.process import Process
from ..kernel.requests import Caller, SystemCaller
from ..kernel.world import Listener

logger = logging.getLogger("banyan")

# Seconds between two tries to accept, when the system is out of something.
ACCEPT_PAUSE = 0.1


async def serve_only_system(process: Process, behaviour: Behaviour, instead: str) -> object:
    """Serve system messages until one says to end, and drop all else; returns the exit reason.

    `instead` is what a process that calls is told.
    """
    task = process.task
    assert task is not None
    while True:
        mailbox = process.mailbox
        if not mailbox:
            task.custom_sleep_data = process
            await park()
            continue
        message = process.took(mailbox.popleft())
        if isinstance(message, SystemCaller):
            ending = await serve_system(process, behaviour, message)
            if ending is not None:
                return ending.reason
        elif isinstance(message, Caller):
            message.refuse(NotImplementedError(instead))


async def accept(listener: Listener, take: Callable[[trio.abc.Stream], Awaitable[None]], who: str) -> None:
    """Hand each stream that connects to `take`, until the listener is closed."""
    while True:
        try:
            async for stream in listener.connections():
                await take(stream)
            return
        except OSError as error:
            # Out of file numbers or memory: those who are here may leave, so this passes.
            logger.warning("the %s cannot accept: %s", who, error)
            await trio.sleep(ACCEPT_PAUSE)
