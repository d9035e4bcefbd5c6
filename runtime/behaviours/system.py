"""The serving side of `sys`: what a process does with a system message, between two of its callbacks.

A behaviour that takes a `SystemCaller` out of its mailbox hands it to `serve_system`, which comes back when
the process may go on. Meanwhile a suspended process serves nothing else. What differs from one behaviour to
another, the `system_*` methods of `Behaviour`, is called from here and nowhere else.

Source: OTP `sys.erl`, `handle_system_msg` and the system callbacks; rules Y1-Y12.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, final

from ..errors import BanyanError, CallFailed, Misuse
from ..kernel.exits import Broken, Crash, ProcessExit, in_words, shown
from ..kernel.ids import Pid
from ..kernel.parking import park
from ..kernel.process import Process
from ..kernel.requests import SystemCaller
from ..kernel.signals import Exit, Uncounted
from .debug import Debug, Install, line

if TYPE_CHECKING:
    from .gen import Behaviour

logger = logging.getLogger("banyan")


# -- what a process is asked ----------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class GetState:
    """Show the state."""


@final
@dataclass(frozen=True, slots=True)
class ReplaceState:
    """Take on the state that `function` makes of the present one; the reply is the new one."""

    function: Callable[[Any], object]


@final
@dataclass(frozen=True, slots=True)
class GetStatus:
    """Tell all about the process; the reply is a Status."""


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
class HandOver:
    """Be suspended, and say what is to go on on another node; the reply is a `Handed`."""


@final
@dataclass(frozen=True, slots=True)
class Handed:
    """What a process takes with it: `value`, as its `hand_over` said, and `own`, which is its behaviour's."""

    value: object = None
    own: object = None


@final
@dataclass(frozen=True, slots=True)
class Terminate:
    """End with `reason`, after `terminate`, also while suspended (L10, Y8)."""

    reason: object


@final
@dataclass(frozen=True, slots=True)
class ChangeCode:
    """Take on newly loaded code."""

    code: type | ModuleType
    old_vsn: object
    extra: object


@final
@dataclass(frozen=True, slots=True)
class Trace:
    """Write events to the log, or not any more."""

    on: bool


@final
@dataclass(frozen=True, slots=True)
class Keep:
    """Keep the last `count` events; 0: none."""

    count: int


@final
@dataclass(frozen=True, slots=True)
class Kept:
    """The events that were kept; with `written`, as lines of text."""

    written: bool


@final
@dataclass(frozen=True, slots=True)
class Count:
    """Count messages, or not any more."""

    on: bool


@final
@dataclass(frozen=True, slots=True)
class Counted:
    """What was counted."""


@final
@dataclass(frozen=True, slots=True)
class Remove:
    """Remove the debug function of that id."""

    key: Hashable


@final
@dataclass(frozen=True, slots=True)
class NoDebug:
    """Remove all that watches."""


# -- what comes of it -----------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Status:
    """All about a process: what `sys.get_status` gives (Y9).

    `debug` names what watches it, `log` holds the events that were kept; `misc` is the state as
    `format_status` lets it be seen (N29). There is no process dictionary to show (P49).
    """

    pid: Pid
    module: type
    state: Literal["running", "suspended"]
    parent: Pid | None
    debug: tuple[str, ...]
    log: tuple[object, ...]
    misc: object


class NotSuspended(CallFailed):
    """Code can be changed only while the process is suspended (OTP: `unknown_system_msg`, Y6)."""


class CallbackFailed(CallFailed):
    """What was to run in the process raised, so nothing has changed there (OTP: `callback_failed`, Y5, Y6).

    `callback` names it: state, replace_state, code_change; `reason` is why, `Crash(error)` for an exception.
    """

    def __init__(self, destination: object, request: object, callback: str, reason: object) -> None:
        text = f"{callback} failed in {destination!r} and nothing has changed there: {shown(reason)}"
        super().__init__(text, destination, request)
        self.callback = callback
        self.reason = reason
        if isinstance(reason, Crash):
            self.__cause__ = reason.error


class CannotTakeOver(BanyanError):
    """A process could not go on with what it had where it was before; the cause is what `take_over` raised."""


@final
@dataclass(frozen=True, slots=True)
class Ending:
    """What `serve_system` returns when the process is to end."""

    reason: object


# -- serving --------------------------------------------------------------------------------------------


async def serve_system(process: Process, behaviour: Behaviour, caller: SystemCaller) -> Ending | None:
    """Serve one system request inside the process; while suspended, serve on until resumed.

    When it returns None the process goes on; `process.debug` and the behaviour's class may have changed.
    """
    ending = _serve(process, behaviour, caller)
    task = process.task
    assert task is not None
    # How many of the runtime's own messages wait that are not for now: ordinary ones wake the process too, and
    # are not worth a look through a long queue (Y2).
    known = 0
    while process.suspended and ending is None:
        found = _take_system(process) if process.uncounted != known else None
        if found is None:
            known = process.uncounted
            if process.exiting is not None:
                raise ProcessExit(process.exiting)  # a signal that came while we ran could not wake us
            task.custom_sleep_data = process
            await park()
        elif isinstance(found, SystemCaller):
            ending = _serve(process, behaviour, found)
        else:
            ending = Ending(found.reason)
    return ending


async def serve_until_told(process: Process, behaviour: Behaviour) -> object:
    """The loop of a behaviour whose work is done by other tasks: it serves system messages and hears its parent.

    Returns the exit reason that the parent gives, or that of `sys.terminate`; all other messages are dropped.
    Raises ProcessExit when the process is to end by a signal. Source: OTP `proc_lib` processes that call
    `sys:handle_system_msg`; rules Y1, Y12.
    """
    task = process.task
    assert task is not None
    while True:
        if process.exiting is not None:
            raise ProcessExit(process.exiting)
        mailbox = process.mailbox
        if not mailbox:
            task.custom_sleep_data = process
            await park()
            continue
        message = mailbox.popleft()
        if process.uncounted or process.senders:
            message = process.took(message)
        if isinstance(message, SystemCaller):
            stop = await serve_system(process, behaviour, message)
            if stop is not None:
                return stop.reason
        elif isinstance(message, Exit) and message.source == process.parent:
            return message.reason


def _serve(process: Process, behaviour: Behaviour, caller: SystemCaller) -> Ending | None:
    request = caller.request
    match request:
        case GetState():
            try:
                found = behaviour.system_get_state()
            except Exception as error:  # whoever looks gets the error; the process lives on (Y5)
                caller.refuse(error)
            except Broken as broken:
                caller.refuse(CallbackFailed(caller.destination, request, "state", Crash(broken)))
            else:
                caller.answer(found)
        case ReplaceState(function):
            _run(caller, "replace_state", behaviour.system_replace_state, function)
        case GetStatus():
            _run(caller, "state", _status, process, behaviour)
        case Suspend():
            process.suspended = True
            caller.answer(True)
        case HandOver():
            process.suspended = True
            _run(caller, "hand_over", behaviour.system_hand_over)
        case Resume():
            process.suspended = False
            caller.answer(True)
        case Terminate(reason):
            process.suspended = False
            caller.answer(True)
            return Ending(reason)
        case ChangeCode() if not process.suspended:
            text = f"{caller.destination!r} is running: suspend it, change its code, then resume it"
            caller.refuse(NotSuspended(text, caller.destination, request))
        case ChangeCode(code, old_vsn, extra):
            _run(caller, "code_change", behaviour.system_code_change, code, old_vsn, extra)
        case _:
            _watch(process, caller)
    return None


def _run(caller: SystemCaller, callback: str, function: Callable[..., object], *args: object) -> None:
    """Answer with what `function` returns; what it raises is the asker's."""
    try:
        found = function(*args)
    except (Exception, ProcessExit, Broken) as error:  # the process lives on, as it was (Y5)
        reason = error.reason if isinstance(error, ProcessExit) else Crash(error)
        caller.refuse(CallbackFailed(caller.destination, caller.request, callback, reason))
    else:
        caller.answer(found)


def _status(process: Process, behaviour: Behaviour) -> Status:
    debug = process.debug
    return Status(
        pid=process.pid,
        module=type(behaviour),
        state="suspended" if process.suspended else "running",
        parent=process.parent,
        debug=debug.what if debug is not None else (),
        log=tuple(debug.kept) if debug is not None else (),
        misc=behaviour.format_status(behaviour.system_get_state()),
    )


def _watch(process: Process, caller: SystemCaller) -> None:
    """Serve what is about the watching of the process (Y7)."""
    debug = process.debug if process.debug is not None else Debug()
    wall = process.table.world.wall
    answer: object = None
    match caller.request:
        case Trace(on):
            debug.trace(on)
        case Keep(count):
            debug.keep(count)
        case Kept(written):
            answer = [line(process, event) for event in debug.kept] if written else debug.kept
        case Count(on):
            debug.count(wall() if on else None)
        case Counted():
            answer = debug.counted(wall())
        case Install() as option:
            debug.install(option)
        case Remove(key):
            debug.remove(key)
        case NoDebug():
            debug = Debug()
        case other:
            raise NotImplementedError(f"no such system request: {other!r}")
    process.debug = debug or None
    caller.answer(answer)


def _take_system(process: Process) -> SystemCaller | Exit | None:
    """The first system request, or exit signal of the parent, in the mailbox of a suspended process."""
    mailbox = process.mailbox
    assert mailbox is not None
    for index, raw in enumerate(mailbox):
        if type(raw) is not Uncounted:
            continue
        message = raw.message
        if isinstance(message, SystemCaller) or (isinstance(message, Exit) and message.source == process.parent):
            del mailbox[index]
            process.took(raw)
            return message
    return None


def arrived(process: Process) -> Handed | None:
    """What a process that starts had on the node from which it came, if it did; its timers and monitors are set."""
    arrivals = process.table.arrivals
    if not arrivals or not process.names:
        return None
    arrival = arrivals.pop(process.names[0], None)
    return arrival(process) if arrival is not None else None


def take_over(behaviour: Behaviour, process: Process, value: object, *, journal: bool = False) -> None:
    """Have a process that starts go on with what it had where it was before; else its start fails, and says so.

    Args:
        journal: whether it has kept one.
    """
    run: Callable[[object], object] = behaviour.take_over
    try:
        at_once(run(value), "take_over")
    except Exception as error:  # allowed: the class's own code; its start fails with it
        name = process.names[0] if process.names else process.label
        left = "only what its journal says" if journal else "none of it"
        said = f"{name} cannot take over what it had where it was before, and has {left}: {in_words(error)}"
        logger.error("%s", said)
        raise CannotTakeOver(said) from error


def at_once(found: object, callback: str) -> object:
    """What a callback has returned that must not wait; raises Misuse if it would."""
    if inspect.iscoroutine(found):
        found.close()
        raise Misuse(f"{callback} returned a coroutine: it must not wait, so make it a plain def")
    return found


# -- newly loaded code ----------------------------------------------------------------------------------


def renewed(old: type, code: type | ModuleType) -> type | None:
    """The class that takes the place of `old`: `code` itself, or in a module the one of the same name."""
    if isinstance(code, type):
        return code
    found: object = code
    for name in old.__qualname__.split("."):
        found = getattr(found, name, None)
    return found if isinstance(found, type) else None


def renew(one: object, code: type | ModuleType, convert: Callable[[], object]) -> None:
    """Give `one` a newly loaded class, then run `convert`; if that raises, all attributes are as before.

    Raises: Misuse, and whatever `convert` raises.
    """
    old, kept = type(one), dict(vars(one))
    new = renewed(old, code)
    if new is None:
        raise Misuse(f"{shown(code)} has no class {old.__qualname__}: change the code to a class, or to its module")
    try:
        one.__class__ = new
    except TypeError as error:
        raise Misuse(f"a {old.__qualname__} cannot become {new!r}: {error}") from None
    try:
        result = convert()
        if inspect.iscoroutine(result):
            result.close()
            raise Misuse(f"code_change of {new.__qualname__} must not wait: make it a plain function")
    except BaseException:
        one.__class__ = old
        vars(one).clear()
        vars(one).update(kept)
        raise
