"""System messages: look into any behaviour, hold it, let it go, watch it, give it new code, stop it.

    await sys.suspend("counter")
    await sys.change_code("counter", importlib.reload(counters))
    await sys.resume("counter")

They are served between two callbacks, never counted by a mailbox's bound, and a suspended process serves
nothing else. Every behaviour answers them; a plain function run as a process does not, so asking it times
out. Each function raises NoProcess for a dead or unknown destination, CalleeExited if it ends first,
CallTimeout if a callback runs longer than `timeout` seconds (5 unless said otherwise, Y10), and CallingSelf.

Source: OTP `sys.erl`; rules Y1-Y12.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from types import ModuleType
from typing import Any, Literal, cast, overload

import trio

from ..errors import CalleeExited, CallingSelf, Misuse, NoProcess
from ..kernel.exits import NORMAL, checked_reason
from ..kernel.parking import park
from ..kernel.process import Process
from ..kernel.requests import ExitWatch, SystemCaller
from ..kernel.table import Destination, current_process, current_table
from . import system
from .debug import DONE, KEPT_EVENTS, DebugFunction, In, Install, Out, Statistics
from .system import CallbackFailed, Ending, NotSuspended, Status, serve_system


async def _ask(destination: Destination, request: object, timeout: float) -> object:
    process = _find(destination, request)
    task = trio.lowlevel.current_task()
    caller = SystemCaller(request, task, process, destination)
    process.post(caller)
    caller.timeout = timeout
    process.table.timers.watch(caller, timeout)
    task.custom_sleep_data = caller
    return await park()


def _find(destination: Destination, request: object = None) -> Process:
    process = current_table().find(destination)
    if process is None:
        raise NoProcess(f"{destination!r} is not alive", destination, request)
    if process.remote:
        raise Misuse(
            f"{destination!r} lives on node {process.pid.node!r}: system messages are for processes of this node"
        )
    if process.task is trio.lowlevel.current_task():
        text = f"{destination!r} asked itself, which could only time out: use what it has at hand"
        raise CallingSelf(text, destination, request)
    return process


# -- look ----------------------------------------------------------------------------------------------


async def get_state(destination: Destination, *, timeout: float = 5.0) -> object:
    """The state of a process, as its `state` method shows it; works while suspended too (Y4).

    Raises: what `state` raises, and see the module.
    """
    return await _ask(destination, system.GetState(), timeout)


async def replace_state(destination: Destination, function: Callable[[Any], object], *, timeout: float = 5.0) -> object:
    """Give a process the state that `function` makes of its present one; returns the new one (Y5).

    For looking into and mending a running system only. `function` runs in the process. The states have the
    form that `get_state` shows: of a GenServer a dict of its public attributes, unless it has `state` and
    `replace_state` of its own. A function that changes the old state in place cannot be undone: make a new one.

    Raises: CallbackFailed if `function` raises or the state cannot be replaced, which then is unchanged.
    """
    if not callable(function):
        raise Misuse(f"replace_state wants a function from the old state to the new one, got {function!r}")
    return await _ask(destination, system.ReplaceState(function), timeout)


async def get_status(destination: Destination, *, timeout: float = 5.0) -> Status:
    """All about a process: see `Status`; the state passes through `format_status` (Y9, N29)."""
    return cast("Status", await _ask(destination, system.GetStatus(), timeout))


# -- hold and let go -----------------------------------------------------------------------------------


async def suspend(destination: Destination, *, timeout: float = 5.0) -> None:
    """Hold a process: it serves system messages only, the others wait in order (Y2). Idempotent (Y11)."""
    await _ask(destination, system.Suspend(), timeout)


async def resume(destination: Destination, *, timeout: float = 5.0) -> None:
    """Let a suspended process go on with its queue, in order (Y3)."""
    await _ask(destination, system.Resume(), timeout)


async def change_code(
    destination: Destination,
    code: type | ModuleType,
    old_vsn: object = None,
    extra: object = None,
    *,
    timeout: float = 5.0,
) -> None:
    """Let a suspended process go on as an instance of a newly loaded class (Y6).

    The process keeps its pid, links, mailbox and attributes. Its new class's `code_change(old_vsn, state,
    extra)` makes the new state out of the old one. A supervisor that restarts the process later uses the
    class in its child spec: change that too.

    Args:
        code: the class, or the reloaded module that has a class of the same name.
        old_vsn: what the callback is told of the version it comes from; anything.
        extra: anything else for the callback.

    Raises:
        NotSuspended: it is running; nothing was done.
        CallbackFailed: `code_change` is missing or raised; class and attributes are as before.
    """
    if not isinstance(code, type | ModuleType):
        raise Misuse(f"change_code wants the newly loaded class, or its module, got {code!r}")
    await _ask(destination, system.ChangeCode(code, old_vsn, extra), timeout)


# -- watch ---------------------------------------------------------------------------------------------


async def trace(destination: Destination, on: bool, *, timeout: float = 5.0) -> None:
    """Write each event of a process to the logger `banyan.trace`, at level INFO, or stop doing so (Y7)."""
    await _ask(destination, system.Trace(on), timeout)


@overload
async def log(destination: Destination, flag: Literal["get"], *, timeout: float = 5.0) -> list[object]: ...
@overload
async def log(destination: Destination, flag: Literal["print"], *, timeout: float = 5.0) -> list[str]: ...
@overload
async def log(destination: Destination, flag: bool | int, *, timeout: float = 5.0) -> None: ...
async def log(destination: Destination, flag: bool | int | str, *, timeout: float = 5.0) -> object:
    """Keep the last events of a process, or give back those that were kept, oldest first (Y7).

    Args:
        flag: True keeps 10, a number from 1 up as many, False or 0 none; "get" gives the events: `In(kind,
            message)`, `Out(value, to)`, or whatever else was reported; "print" gives them as lines of text,
            as `format_status` lets them be seen.
    """
    request: object
    if flag in ("get", "print"):
        request = system.Kept(flag == "print")
    elif isinstance(flag, bool):
        request = system.Keep(KEPT_EVENTS if flag else 0)
    elif isinstance(flag, int) and flag >= 0:
        request = system.Keep(flag)
    else:
        raise Misuse(f"log wants True, False, how many events to keep, 'get' or 'print', got {flag!r}")
    return await _ask(destination, request, timeout)


@overload
async def statistics(destination: Destination, flag: Literal["get"], *, timeout: float = 5.0) -> Statistics | None: ...
@overload
async def statistics(destination: Destination, flag: bool, *, timeout: float = 5.0) -> None: ...
async def statistics(destination: Destination, flag: bool | str, *, timeout: float = 5.0) -> object:
    """Count the messages of a process from now on (True), stop (False), or give what was counted ("get") (Y7).

    Returns: for "get" a Statistics, or None if nothing is counted (OTP: `no_statistics`).
    """
    if flag == "get":
        return await _ask(destination, system.Counted(), timeout)
    if not isinstance(flag, bool):
        raise Misuse(f"statistics wants True, False or 'get', got {flag!r}")
    return await _ask(destination, system.Count(flag), timeout)


async def install(
    destination: Destination,
    function: DebugFunction,
    state: object = None,
    *,
    id: Hashable = None,
    timeout: float = 5.0,
) -> None:
    """Show each event of a process to `function(state, event, pid)`, which returns its next state (Y7).

    It runs in the process, so it must be quick, and must not wait. It is removed when it returns `sys.DONE`
    or raises. One that is there already, under the same id, stays as it is.

    Args:
        id: tells several uses of one function apart; without it the function is its own id.
    """
    await _ask(destination, Install(function, state, id), timeout)


async def remove(destination: Destination, function: Hashable, *, timeout: float = 5.0) -> None:
    """Remove a debug function, by itself or by the id that it was given; one that is not there is fine (Y7)."""
    await _ask(destination, system.Remove(function), timeout)


async def no_debug(destination: Destination, *, timeout: float = 5.0) -> None:
    """Turn off all that watches a process: trace, log, statistics and functions (Y7)."""
    await _ask(destination, system.NoDebug(), timeout)


def handle_debug(event: object) -> None:
    """Report an event of the calling process to all that watches it; nothing happens if nothing does (Y7).

    For callbacks that have something to tell beyond what comes and goes. Never waits.
    """
    process = current_process()
    if process.debug is not None:
        process.debug.report(process, event)


# -- stop ----------------------------------------------------------------------------------------------


async def terminate(destination: Destination, reason: object = NORMAL, *, timeout: float = 5.0) -> None:
    """Tell a process to end with `reason`, also while suspended; returns as soon as it has accepted (Y8).

    Its `terminate` runs after that, and may replace the reason. `stop` is the form that waits and tells.
    """
    await _ask(destination, system.Terminate(checked_reason(reason)), timeout)


async def stop(destination: Destination, reason: object = NORMAL, *, timeout: float = math.inf) -> None:
    """End a process with `reason` and wait until it is gone (OTP: `gen_server:stop`, L10).

    Acts before messages that wait, also on a suspended process; `terminate` runs.

    Raises:
        NoProcess: it is not alive.
        CalleeExited: it ended with another reason, because `terminate` failed.
        CallTimeout: it did not end within `timeout` seconds.
        CallingSelf: a process told itself; it returns `Stop(reason)` instead.
    """
    checked_reason(reason)
    process = _find(destination)
    watch = ExitWatch(None, trio.lowlevel.current_task(), process, destination)
    if process.deferred is None:
        process.deferred = {}
    process.deferred[watch] = None
    process.post(SystemCaller(system.Terminate(reason), None, process, destination), first=True)
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


__all__ = [
    "DONE",
    "CallbackFailed",
    "Ending",
    "In",
    "Install",
    "NotSuspended",
    "Out",
    "Statistics",
    "Status",
    "change_code",
    "get_state",
    "get_status",
    "handle_debug",
    "install",
    "log",
    "no_debug",
    "remove",
    "replace_state",
    "resume",
    "serve_system",
    "statistics",
    "stop",
    "suspend",
    "terminate",
    "trace",
]
