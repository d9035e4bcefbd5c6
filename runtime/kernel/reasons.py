"""What an exception that leaves a process means: its exit reason, and what of it is the host's.

Beside `exits`, which knows nothing of Trio. Source: rules P1-P3, N18.
"""

from __future__ import annotations

import trio

from .exits import KILLED, SHUTDOWN, Broken, Crash, ProcessExit


def reason_of(error: BaseException) -> tuple[object, BaseException | None]:
    """The exit reason that an uncaught exception means, and what of it belongs to the host."""
    if isinstance(error, ProcessExit):
        return error.reason, None
    if isinstance(error, trio.TrioInternalError):
        return Crash(error), error
    if isinstance(error, BaseExceptionGroup):
        exits, rest = error.split(ProcessExit)
        if exits is not None:
            reason: object = _first(exits).args[0]
            _, passing = rest.split((Exception, Broken)) if rest is not None else (None, None)
            return reason, passing
        ours, passing = error.split(lambda e: isinstance(e, (Exception, Broken)) and not _is_internal(e))
        if ours is not None:
            broken = ours.subgroup(Broken)
            if broken is not None:
                return Crash(_first(broken)), passing
            return Crash(error if passing is None else ours), passing
        return SHUTDOWN, error
    if isinstance(error, (Exception, Broken)):
        return Crash(error), None
    # The host cancels (SHUTDOWN, no crash report), or ends the program.
    return SHUTDOWN if isinstance(error, trio.Cancelled) else KILLED, error


def _is_internal(error: BaseException) -> bool:
    return isinstance(error, (BaseExceptionGroup, trio.TrioInternalError))


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first
