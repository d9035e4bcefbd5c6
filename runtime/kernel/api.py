"""What a process can do: the verbs of the kernel, for the process whose code is running.

Delivery is at most once on one node: a message to a living process arrives, a message to a dead one is
dropped in silence (P32). Messages and signals from one sender to one receiver keep their order (P34);
between different senders there is none. Messages are shared, not copied: send frozen values.
Source: Erlang Reference Manual, "Processes"; rules P, R and T.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import UnionType
from typing import Literal, TypeVar, final, overload

import trio

from ..errors import Busy, CallingSelf, CallTimeout, Misuse, NoProcess
from . import process as mechanism
from .exits import KILL, KILLED, NOPROC, NORMAL, ProcessExit
from .ids import Pid, Ref
from .messages import Call
from .parking import park
from .process import DEFAULT_LIMIT, Process, here
from .requests import Asker, Caller, Sender, brief, mailbox_full
from .signals import Answer, Timeout, Uncounted
from .table import Destination, current_process, current_table
from .timers import Deadline, Timer, check_delay
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
    process = _target(destination)
    if process is not None and not process.offer(message):
        raise mailbox_full(process, "full")


async def send(destination: Destination, message: object, *, timeout: float = 5.0) -> None:
    """Send; while the receiver's mailbox is full, wait for room at most `timeout` seconds.

    A dead pid swallows the message (P32). Not a checkpoint unless it must wait.

    Raises:
        MailboxFull: there was no room in time; the message was not sent.
        NoProcess: nobody has that name (P33).
    """
    process = _target(destination)
    if process is not None and not process.offer(message):
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


def _target(destination: Destination) -> Process | None:
    if type(destination) is Pid:
        return destination._process
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
    process = destination._process if type(destination) is Pid else current_table().find(destination)
    if process is None:
        raise NoProcess(f"{destination!r} is not alive: nobody can answer {brief(request)}", destination, request)
    task = trio.lowlevel.current_task()
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


# -- receiving ----------------------------------------------------------------------------------------


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
    deadline = Deadline(process)
    if 0 < timeout < math.inf:
        process.table.timers.watch(deadline, timeout)
    seen = 0
    try:
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
            if timeout <= 0 or deadline.passed:
                raise ReceiveTimeout(f"no message matched within {timeout:g} s", timeout)
            task.custom_sleep_data = process
            await park()
    finally:
        deadline.process = None


class ReceiveTimeout(CallTimeout):
    """Nothing matched within the `timeout` of a `receive`."""

    def __init__(self, text: str, timeout: float) -> None:
        super().__init__(text, None, None, timeout)


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


def monitor(destination: Pid | str, *, alias: AliasMode | None = None) -> Ref:
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
    """Whether a process lives; False from the moment its exit has begun (P41)."""
    process = pid._process
    return process is not None and process.alive


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
        links, monitors, watchers: how many.
    """

    pid: Pid
    names: tuple[str, ...]
    label: str
    state: str
    queue: int
    handling: str | None
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
        links=len(process.links or ()),
        monitors=len(process.monitors or ()),
        watchers=len(process.watchers or ()),
    )


# -- names --------------------------------------------------------------------------------------------


def register(name: str, pid: Pid | None = None) -> None:
    """Give a process (the caller by default) a local name; it is freed on its death, before any Down (P40)."""
    process = current_process() if pid is None else pid._process
    if process is None:
        raise Misuse(f"cannot give {pid!r} the name {name!r}: it is dead")
    process.table.register(name, process)


def unregister(name: str) -> None:
    """Free a name. Raises Misuse if nobody has it (R2)."""
    current_table().unregister(name)


def whereis(name: str) -> Pid | None:
    """The pid under a name, or None."""
    process = current_table().names.get(name)
    return process.pid if process is not None else None


def registered_names() -> list[str]:
    """All names of this node, sorted."""
    return sorted(current_table().names)


# -- timers -------------------------------------------------------------------------------------------


def send_after(seconds: float, destination: Destination, message: object) -> Timer:
    """Send `message` after `seconds` (0 or more), never early; a name is looked up when it is due (T1-T5).

    The timer outlives the process that made it (T7), and dies with a destination that is a pid (T3).
    """
    table = current_table()
    if type(destination) is not Pid and type(destination) is not str:
        raise Misuse(f"a timer's destination is a Pid or a registered name, got {destination!r}")
    timer = Timer(table, table.timers.clock() + check_delay(seconds), destination, message)
    table.timers.add(timer)
    return timer


def start_timer(seconds: float, destination: Destination, message: object) -> tuple[Timer, Ref]:
    """Like `send_after`, but what arrives is `Timeout(ref, message)`."""
    ref = current_table().new_ref()
    return send_after(seconds, destination, Timeout(ref, message)), ref


def cancel_timer(timer: Timer) -> float | None:
    """Stop a timer; the seconds it had left, or None if it had fired, was stopped, or lost its process (T2)."""
    left = read_timer(timer)
    timer.waiting = False
    return left


def read_timer(timer: Timer) -> float | None:
    """The seconds a timer has left, or None if it is no more."""
    if not timer.waiting or (type(timer.destination) is Pid and timer.destination._process is None):
        return None
    return max(0.0, timer.due - timer.table.timers.clock())
