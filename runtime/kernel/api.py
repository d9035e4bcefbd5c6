"""What a process can do: the verbs of the kernel, for the process whose code is running.

Delivery is at most once on one node: a message to a living process arrives, a message to a dead one is
dropped in silence (P32). Messages and signals from one sender to one receiver keep their order (P34);
between different senders there is none. Messages are shared, not copied: send frozen values.
Names are in `names`, timers in `timer`, `receive` is in `selective`.
Source: Erlang Reference Manual, "Processes"; rules P.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Literal, TypeVar, overload

import trio
from trio.lowlevel import current_task

from ..errors import Busy, CallingSelf, MailboxFull, Misuse, NoProcess
from . import process as mechanism
from .exits import KILL, KILLED, NOPROC, NORMAL, ProcessExit, checked_reason
from .ids import Pid, Ref, Via
from .messages import Call
from .parking import park
from .process import DEFAULT_LIMIT, Process, here
from .requests import Asker, Caller, Sender, brief, mailbox_full
from .signals import Answer
from .table import Destination, current_process, current_table
from .world import World

R = TypeVar("R")
M = TypeVar("M")

Matcher = Callable[[object], bool]
AliasMode = Literal["explicit_unalias", "demonitor", "reply_demonitor"]


# -- who am I -----------------------------------------------------------------------------------------


def self_pid() -> Pid:
    """The pid of the calling process (OTP: `self()`)."""
    return current_process().pid


def trap_exit(on: bool) -> bool:
    """Turn trapping of exit signals on or off; returns what it was (P19). Exits then come as `Exit` messages."""
    process = current_process()
    before, process.trap_exit = process.trap_exit, on
    return before


def world() -> World:
    """The World of the calling node: its time, randomness, disk and network."""
    return current_table().world


# -- births -------------------------------------------------------------------------------------------


def spawn(
    function: Callable[..., Awaitable[object]],
    *args: object,
    trap: bool = False,
    label: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Pid:
    """Start a process that runs `await function(*args)`: unsupervised, and it outlives the caller.

    Applications start processes under supervisors instead. It ends with NORMAL when the function
    returns; `trap` holds from birth; `limit` bounds its mailbox, in messages. Never waits.
    """
    return _spawn(function, args, trap, label, limit, linked=False).pid


def spawn_link(
    function: Callable[..., Awaitable[object]],
    *args: object,
    trap: bool = False,
    label: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Pid:
    """Like `spawn`, linked to the caller before it takes its first step (P31)."""
    current_process()
    return _spawn(function, args, trap, label, limit, linked=True).pid


def spawn_monitor(
    function: Callable[..., Awaitable[object]],
    *args: object,
    trap: bool = False,
    label: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> tuple[Pid, Ref]:
    """Like `spawn`, monitored by the caller before it takes its first step (P31)."""
    watcher = current_process()
    process = _spawn(function, args, trap, label, limit, linked=False)
    ref = watcher.table.new_ref()
    mechanism.monitor(watcher, ref, process.pid, process)
    return process.pid, ref


def _spawn(
    function: Callable[..., Awaitable[object]],
    args: tuple[object, ...],
    trap: bool,
    label: str | None,
    limit: int,
    linked: bool,
) -> Process:
    if not callable(function):
        raise Misuse(f"spawn wants an async function and its arguments, got {function!r}")
    if type(limit) is not int or limit < 1:
        raise Misuse(f"the limit of a mailbox is how many messages it holds, an int from 1 up, got {limit!r}")

    async def body(_process: Process, _argument: object) -> object:
        await function(*args)
        return NORMAL

    found = here.get(None)
    parent = found if type(found) is Process else None
    return current_table().spawn(
        body,
        label or str(getattr(function, "__qualname__", function)),
        parent=parent,
        linked=linked,
        trap_exit=trap,
        limit=limit,
    )


# -- sending ------------------------------------------------------------------------------------------


def send_nowait(destination: Destination, message: object) -> None:
    """Send without waiting.

    A dead pid swallows the message (P32). Raises MailboxFull, and NoProcess for a name nobody has (P33).
    """
    if type(destination) is Pid:
        process = destination._process
    elif type(destination) is Via:
        destination.registry.send(destination.name, message)
        return
    else:
        process = _named(destination)
    if process is not None and not process.offer(message):
        raise mailbox_full(process, "full")


async def send(destination: Destination, message: object, *, timeout: float = 5.0) -> None:
    """Send; while the receiver's mailbox is full, wait for room at most `timeout` seconds.

    A dead pid swallows the message (P32). Not a checkpoint unless it must wait.

    Raises:
        MailboxFull: there was no room in time; the message was not sent.
        NoProcess: nobody has that name (P33).
    """
    if type(destination) is Pid:
        process = destination._process
    elif type(destination) is Via:
        await send_via(destination, message, timeout)
        return
    else:
        process = _named(destination)
    if process is not None and not process.offer(message):
        if type(destination) is Ref:
            mechanism.use_up(destination)
        await wait_for_room(process, message, timeout)


async def send_via(via: Via, message: object, timeout: float) -> None:
    """Send by the registry's own `send` (R6); while the receiver's mailbox is full, wait for room."""
    try:
        via.registry.send(via.name, message)
        return
    except MailboxFull as full:
        process = full.pid._process if type(full.pid) is Pid else None
    if process is not None:
        await wait_for_room(process, message, timeout)


async def wait_for_room(process: Process, message: object, timeout: float) -> None:
    """The slow half of `send` and `cast`: queue up behind a full mailbox."""
    task = trio.lowlevel.current_task()
    waiting = Sender(message, task, process, timeout)
    if process.senders is None:
        process.senders = deque()
    process.senders.append(waiting)
    process.table.timers.watch(waiting, timeout)
    task.custom_sleep_data = waiting
    await park()


def _named(destination: Destination) -> Process | None:
    process = current_table().find(destination)
    if process is None and type(destination) is str:
        raise NoProcess(f"nobody has the name {destination!r}: was its process started, is it restarting?", destination)
    return process


# -- calling ------------------------------------------------------------------------------------------


@overload
async def call(destination: Destination, request: Call[R], *, timeout: float = 5.0) -> R: ...
@overload
async def call(destination: Destination, request: object, *, timeout: float = 5.0) -> object: ...
async def call(destination: Destination, request: object, *, timeout: float = 5.0) -> object:
    """Ask a process and wait for its reply, at most `timeout` seconds (math.inf: for ever).

    The request is handled at most once. Any answer but a reply is an exception, raised here and never
    in the callee.

    Raises:
        NoProcess: nobody lives under that pid or name.
        Busy: the callee's mailbox is full; the request was not accepted.
        CallTimeout: no reply in time; the request may still be carried out, its reply is dropped.
        CalleeExited: the callee ended before it replied, raised at once, with its exit reason.
        CallingSelf: a process called itself.
    """
    if type(timeout) is not float and not isinstance(timeout, (int, float)):
        raise Misuse(f"a timeout is seconds, or math.inf, got {timeout!r}")
    process = destination._process if type(destination) is Pid else current_table().find(destination)
    if process is None:
        raise NoProcess(f"{destination!r} is not alive: nobody can answer {brief(request)}", destination, request)
    task = current_task()
    if process.task is task:
        raise CallingSelf(
            f"{destination!r} called itself, which could only time out: call the method directly",
            destination,
            request,
        )
    caller = Caller(request, task, process, destination)
    if not process.offer(caller):
        raise Busy(
            f"{destination!r} ({process.label}) has {process.limit} messages waiting and took no more: "
            "wait a moment and try again",
            destination,
            request,
        )
    if timeout != math.inf:
        caller.timeout = timeout
        process.table.timers.watch(caller, timeout)
    task.custom_sleep_data = caller
    return await park()


def send_request(destination: Destination, request: object, label: object, *, timeout: float = math.inf) -> None:
    """Ask without waiting: exactly one `Answer(label, ...)` comes later as a message (OTP: `send_request`).

    The Answer says `failed`, with the reason, if the callee is missing (NOPROC), ends first, has a full
    mailbox ("busy") or does not reply within `timeout` seconds ("timeout").
    """
    owner = current_process()
    table = owner.table
    process = table.find(destination)
    if process is None:
        table.timers.soon(_fail_request, owner, label, NOPROC)
        return
    asker = Asker(request, process, destination, owner, label)
    if not process.offer(asker):
        table.timers.soon(_fail_request, owner, label, "busy")
        return
    table.timers.watch(asker, timeout)


def _fail_request(owner: Process, label: object, reason: object) -> None:
    if owner.alive:
        owner.post(Answer(label, None, reason, failed=True))


def reply(caller: Caller, value: object) -> None:
    """Answer a request, from any process; a caller that has left never sees it (N13)."""
    deferred = caller.callee.deferred
    if deferred is not None:
        deferred.pop(caller, None)
    caller.answer(value)


# -- links, monitors, exits ---------------------------------------------------------------------------


def link(pid: Pid) -> None:
    """Link the caller with `pid`: when one ends, the other gets an exit signal with its reason.

    Linking twice, or oneself, has no further effect. If `pid` is dead, a caller that traps exits finds
    `Exit(pid, NOPROC)` in its mailbox; any other gets NoProcess (P15).
    """
    if type(pid) is not Pid:
        raise Misuse(f"link wants a Pid, got {pid!r}: look a name up with whereis first")
    if not mechanism.link(current_process(), pid):
        raise NoProcess(f"cannot link to {pid!r}: it is not alive", pid)


def unlink(pid: Pid) -> None:
    """Remove the link with `pid`, if any: no exit signal of it arrives after this (P17)."""
    if type(pid) is not Pid:
        raise Misuse(f"unlink wants a Pid, got {pid!r}: look a name up with whereis first")
    mechanism.unlink(current_process(), pid)


def monitor(destination: Pid | str | Via, *, alias: AliasMode | None = None) -> Ref:
    """Be told once, by a `Down` message, when a process ends; each monitor has its own reference (P21).

    A dead pid or a free name gives a Down with NOPROC after the caller's next checkpoint (P23). A name
    is bound to the process that has it now (P24).

    Args:
        alias: make the reference an alias too, which lasts until `unalias` ("explicit_unalias"), until the
            Down or `demonitor` ("demonitor"), or until then or its first message, which also ends the
            monitor ("reply_demonitor") (P53). On oneself it makes none.
    """
    process = current_process()
    if alias is not None and alias not in ("explicit_unalias", "demonitor", "reply_demonitor"):
        raise Misuse(f"alias is explicit_unalias, demonitor or reply_demonitor, got {alias!r}")
    if type(destination) not in (Pid, str, Via):  # nor an alias, which would be used up
        raise Misuse(f"a destination is a Pid, a registered name or a Via, got {destination!r}: monitor takes no alias")
    ref = process.table.new_ref()
    target = process.table.find(destination)
    if alias is not None and target is not process:
        ref._owner, ref._mode = process, alias
    mechanism.monitor(process, ref, destination, target)
    return ref


def demonitor(ref: Ref, *, flush: bool = False) -> bool:
    """Stop a monitor; with `flush` a Down that is already queued goes too. Returns whether it was active."""
    return mechanism.demonitor(current_process(), ref, flush=flush)


def alias(*, reply: bool = False) -> Ref:
    """Make an address of the caller that can be given up: what is sent to it afterwards vanishes (P52).

    It lasts until `unalias`, with `reply` also until its first message, and never longer than the caller.
    """
    process = current_process()
    ref = process.table.new_ref()
    ref._owner, ref._mode = process, "reply" if reply else "explicit_unalias"
    return ref


def unalias(ref: Ref) -> bool:
    """Give up an alias of the caller; whether it was active (P54). Others' aliases stay as they are (P55)."""
    if ref._owner is not current_process():
        return False
    ref._owner = None
    return True


def exit(pid: Pid, reason: object) -> None:
    """Send an exit signal, as if a linked process had ended with `reason`; KILL cannot be trapped (P4-P10).

    From host code the signal comes from no process. Sent to oneself without trapping, it ends the
    caller at once (P11). To a dead pid it does nothing.
    """
    if type(pid) is not Pid:
        raise Misuse(f"exit wants a Pid and a reason, got {pid!r}: look a name up with whereis first")
    checked_reason(reason)
    target = pid._process
    if target is None:
        return
    found = here.get(None)
    source = found.pid if type(found) is Process else pid
    if target is found and (reason is KILL or not target.trap_exit):
        # A signal, though it takes effect at once: no terminate runs, and catching the exception saves nobody.
        target.interrupt(KILLED if reason is KILL else reason)
        raise ProcessExit(target.exiting)
    target.exit_signal(source, reason)


def is_alive(pid: Pid) -> bool:
    """Whether a process of this node lives; False from the moment its exit has begun (P41).

    Raises Misuse for one of another node, as OTP does: ask that process, or monitor it.
    """
    process = pid._process
    return process is not None and process.alive
