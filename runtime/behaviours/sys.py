"""System messages: look into any behaviour, hold it, let it go, stop it.

They are served between two callbacks, never counted by a mailbox's bound, and a suspended process
serves nothing else. Source: OTP `sys.erl`; rules Y1-Y12.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, final

import trio

from ..errors import CalleeExited, NoProcess
from ..kernel.exits import NORMAL, ProcessExit
from ..kernel.parking import park
from ..kernel.process import Process
from ..kernel.requests import ExitWatch, SystemCaller
from ..kernel.signals import Exit, content
from ..kernel.table import Destination, current_table


@final
@dataclass(frozen=True, slots=True)
class GetState:
    """Show the state."""


@final
@dataclass(frozen=True, slots=True)
class Suspend:
    """Serve system messages only, until resumed."""


@final
@dataclass(frozen=True, slots=True)
class Resume:
    """Go on."""


@final
@dataclass(frozen=True, slots=True)
class Terminate:
    """End with `reason`, after `terminate`, also while suspended (L10, Y8)."""

    reason: object


@final
@dataclass(frozen=True, slots=True)
class Ending:
    """What `serve_system` returns when the process is to end."""

    reason: object


class Shows(Protocol):
    """What can be looked into."""

    def state(self) -> object: ...


async def serve_system(process: Process, behaviour: Shows, caller: SystemCaller) -> Ending | None:
    """Serve one system request inside the process; while suspended, serve on until resumed."""
    ending = _serve(process, behaviour, caller)
    task = process.task
    assert task is not None
    while process.suspended and ending is None:
        found = _take_system(process)
        if found is None:
            if process.exiting is not None:
                raise ProcessExit(process.exiting)  # a signal that came while we ran could not wake us
            task.custom_sleep_data = process
            await park()
        elif isinstance(found, SystemCaller):
            ending = _serve(process, behaviour, found)
        else:
            ending = Ending(found.reason)
    return ending


def _serve(process: Process, behaviour: Shows, caller: SystemCaller) -> Ending | None:
    match caller.request:
        case GetState():
            try:
                shown = behaviour.state()
            except Exception as error:  # whoever looks gets the error; the process lives on (Y5)
                caller.refuse(error)
            else:
                caller.answer(shown)
        case Suspend():
            process.suspended = True
            caller.answer(True)
        case Resume():
            process.suspended = False
            caller.answer(True)
        case Terminate(reason):
            process.suspended = False
            caller.answer(True)
            return Ending(reason)
        case other:
            raise NotImplementedError(f"no such system request: {other!r}")
    return None


def _take_system(process: Process) -> SystemCaller | Exit | None:
    """The first system request, or exit signal of the parent, in the mailbox of a suspended process."""
    mailbox = process.mailbox or ()
    for index, raw in enumerate(mailbox):
        message = content(raw)
        if isinstance(message, SystemCaller) or (isinstance(message, Exit) and message.source == process.parent):
            assert process.mailbox is not None
            del process.mailbox[index]
            process.took(raw)
            return message
    return None


async def _ask(destination: Destination, request: object, timeout: float) -> object:
    process = current_table().find(destination)
    if process is None:
        raise NoProcess(f"{destination!r} is not alive", destination, request)
    task = trio.lowlevel.current_task()
    caller = SystemCaller(request, task, process, destination)
    process.post(caller)
    caller.timeout = timeout
    process.table.timers.watch(caller, timeout)
    task.custom_sleep_data = caller
    return await park()


async def get_state(destination: Destination, *, timeout: float = 5.0) -> object:
    """The state of a process, as its `state` method shows it; works while suspended too (Y4).

    Raises: NoProcess, CalleeExited, and CallTimeout if a callback runs longer than `timeout` seconds.
    """
    return await _ask(destination, GetState(), timeout)


async def suspend(destination: Destination, *, timeout: float = 5.0) -> None:
    """Hold a process: it serves system messages only, the others wait in order (Y2). Idempotent (Y11)."""
    await _ask(destination, Suspend(), timeout)


async def resume(destination: Destination, *, timeout: float = 5.0) -> None:
    """Let a suspended process go on with its queue, in order (Y3)."""
    await _ask(destination, Resume(), timeout)


async def stop(destination: Destination, reason: object = NORMAL, *, timeout: float = math.inf) -> None:
    """End a process with `reason` and wait until it is gone (OTP: `gen_server:stop`, L10).

    Acts before messages that wait, also on a suspended process; `terminate` runs.

    Raises:
        NoProcess: it is not alive.
        CalleeExited: it ended with another reason, because `terminate` failed.
        CallTimeout: it did not end within `timeout` seconds.
    """
    process = current_table().find(destination)
    if process is None:
        raise NoProcess(f"{destination!r} is not alive", destination)
    watch = ExitWatch(None, trio.lowlevel.current_task(), process, destination)
    if process.deferred is None:
        process.deferred = {}
    process.deferred[watch] = None
    process.post(SystemCaller(Terminate(reason), None, process, destination), first=True)
    watch.timeout = timeout
    process.table.timers.watch(watch, timeout)
    watch.task.custom_sleep_data = watch  # type: ignore[union-attr]  # made with a task above
    ended = await park()
    if ended != reason:
        raise CalleeExited(
            f"{destination!r} was told to stop with {reason!r} but ended with {ended!r}",
            destination,
            None,
            ended,
        )
