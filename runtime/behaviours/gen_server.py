"""A server: a process that handles one request after the other; its state is the instance.

A complete example:

    >>> from runtime import Call, GenServer, message
    >>> @message("docs.add")
    ... class Add(Call[int]):
    ...     amount: int
    >>> class Counter(GenServer):
    ...     def init(self, start: int) -> None:
    ...         self.count = start
    ...
    ...     def handle_call(self, request, caller):
    ...         match request:
    ...             case Add(amount):
    ...                 self.count += amount
    ...                 return self.count

`await start(Counter, 10)` gives its pid and `await call(pid, Add(5))` gives 15. Under a supervisor its
child spec is `child("counter", Counter, 10)`.

A callback is a plain function unless it must wait; an `async def` callback may wait and still runs one
at a time, to its end, before the next message is looked at (rule N23). What a callback raises ends the
process with `Crash(error)`, after `terminate`; what it returned wrongly ends it with `BadReturn(value)`.
Because the state is the instance, `terminate` after an exception sees what the callback had changed
until then (OTP shows the state before the callback, N17): a restarted process is a new instance.

Do not use it for state that must survive a crash (that is `EventSourced`), nor to run one piece of work
in the background. Source: OTP `gen_server.erl`; rules N1-N29.
"""

from __future__ import annotations

import inspect
import logging
import math
import types
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, final

import msgspec
import trio

from ..errors import Misuse, NoProcess
from ..kernel.api import send_via, wait_for_room
from ..kernel.exits import NORMAL, ProcessExit
from ..kernel.fairness import BATCH, give_way
from ..kernel.ids import Pid, Ref, Via
from ..kernel.parking import TRAP, park
from ..kernel.process import Body, Process, reason_of, use_up
from ..kernel.requests import MISSING, Asker, Caller, SystemAsker, SystemCaller, mailbox_full
from ..kernel.signals import Exit
from ..kernel.table import Destination, current_table, redacted
from ..kernel.timers import Deadline
from .debug import In, Out
from .gen import IGNORE, Ack, Behaviour
from .system import arrived, serve_system, take_over

logger = logging.getLogger("banyan")


@final
@dataclass(frozen=True, slots=True)
class Continue:
    """Run `handle_continue(term)` before the next message (N4, N5). In `handle_call`: no reply yet."""

    term: object


@final
@dataclass(frozen=True, slots=True)
class Reply:
    """A reply with more: `timeout` seconds of silence until `handle_info(TIMEOUT)` (N21), or `then`."""

    value: object
    timeout: float | None = None
    then: Continue | None = None


@final
@dataclass(frozen=True, slots=True)
class NoReply:
    """No reply now; `reply(caller, value)` may give one later. Also what other callbacks return for a timeout."""

    timeout: float | None = None
    then: Continue | None = None


NO_REPLY = NoReply()

# In the place of a timeout, for servers that come from OTP: it does nothing, an idle server is small already (N26).
HIBERNATE = math.inf


@final
@dataclass(frozen=True, slots=True)
class Raise:
    """Refuse a request: `error` is raised at the caller; the server itself goes on unharmed."""

    error: Exception


@final
@dataclass(frozen=True, slots=True)
class Stop:
    """End with `reason` after `terminate`; from `handle_call` the `reply`, if any, is sent after that (N14)."""

    reason: object
    reply: object = MISSING


@final
@dataclass(frozen=True, slots=True)
class BadReturn:
    """The exit reason after a callback returned what it may not (OTP: `{bad_return_value, X}`)."""

    value: object


@final
class TimeoutMessage:
    """What `handle_info` gets when the timeout of the last callback passed without a message."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "TIMEOUT"


TIMEOUT = TimeoutMessage()


@final
class _Init:
    """In the place of a first result: `init` waits, so it runs in the process's own task."""

    __slots__ = ("ack", "args")

    def __init__(self, ack: Ack, args: tuple[Any, ...]) -> None:
        self.ack = ack
        self.args = args


@final
class CastEnvelope(msgspec.Struct, eq=False, gc=False):
    """How a cast lies in a mailbox. One is made for each cast: a struct takes a third of the time of a class.

    It is not known to the garbage collector. No cycle is kept by that: a process that ends empties its mailbox.
    """

    request: Any


# What is no reply; a coroutine is a mistake.
_DIRECTIVES = frozenset({Reply, NoReply, Raise, Stop, Continue, types.CoroutineType})
_CALLBACKS = ("init", "handle_call", "handle_cast", "handle_info", "handle_continue", "terminate")


class GenServer(Behaviour):
    """The base of a server. Override the callbacks you need; see the module for an example."""

    __async: ClassVar[frozenset[str]] = frozenset()
    _behaviour_rests = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.__async = frozenset(n for n in _CALLBACKS if inspect.iscoroutinefunction(getattr(cls, n, None)))
        cls._behaviour_scoped = bool(cls.__async)

    # -- callbacks -----------------------------------------------------------------------------------

    def init(self, *args: Any) -> Any:
        """Runs first, with the arguments of the start; the starter waits for it.

        Returns: None; `Continue(term)`; `NoReply(timeout=...)`; `Stop(reason)` to fail; `IGNORE`.
        """
        return None

    def handle_call(self, request: Any, caller: Caller) -> Any:
        """Runs for each `call`. Returns the reply, or Reply, NO_REPLY, Raise, Continue, Stop."""
        raise NotImplementedError(f"{type(self).__qualname__} was called with {request!r} but has no handle_call")

    def handle_cast(self, request: Any) -> Any:
        """Runs for each `cast`. Returns None, NoReply, Continue or Stop."""
        raise NotImplementedError(f"{type(self).__qualname__} got the cast {request!r} but has no handle_cast")

    def handle_info(self, message: Any) -> Any:
        """Runs for every other message: plain sends, Exit, Down, timers, TIMEOUT. Returns as handle_cast."""
        logger.warning("%s got %s and has no handle_info for it", type(self).__qualname__, redacted(self, message))

    def handle_continue(self, term: Any) -> Any:
        """Runs right after a callback that asked for it. Returns as handle_cast."""
        raise NotImplementedError(f"{type(self).__qualname__} continues with {term!r} but has no handle_continue")

    def terminate(self, reason: object) -> Any:
        """Runs before the end by Stop, exception, bad return, or the parent's exit signal while trapping (N19).

        Not after a kill. What it raises becomes the exit reason (N18).
        """
        return None

    # -- the process ---------------------------------------------------------------------------------

    @classmethod
    def _behaviour_begin(cls, process: Process, ack: Ack, args: tuple[Any, ...]) -> tuple[Body, object] | None:
        server = cls()
        process.behaviour = server
        if "init" in cls.__async:
            return server.__live, _Init(ack, args)
        first = server.init(*args)
        ended = server.__judge(ack, first)
        if ended is not None:
            process.end(ended.reason)
            return None
        return server.__live, first

    def __judge(self, ack: Ack, first: object) -> Stop | None:
        """What `init` has returned: tell the starter; a Stop if the process is to end."""
        if first is IGNORE:
            ack.ignore()
            return Stop(NORMAL)
        if type(first) is Stop and first.reply is MISSING:
            return first
        if first is not None and type(first) not in (Continue, NoReply):
            return Stop(BadReturn(first))
        assert ack.process is not None
        handed = arrived(ack.process)
        if handed is not None and handed.value is not None:
            take_over(self, ack.process, handed.value)
        ack.ok()
        return None

    @types.coroutine
    def __live(self, process: Process, result: Any) -> Generator[Any, Any, object]:
        """Serve until something says stop, then run `terminate`; returns the exit reason.

        This frame lies under every idle server, so it is kept small and alone, and waits in the trap itself, by
        `yield`: a frame less. `result` is what the last callback returned, other than a call that was plainly
        answered; at first, what `init` did.
        """
        # The reply of a Stop: kept where a crash of terminate cannot lose it (N14).
        last_reply: tuple[Caller, object] | None = None
        timeout: float | None = None
        message: Any = None
        reason: object = NORMAL
        try:
            if type(result) is _Init:
                ended = self.__judge(result.ack, first := (yield from self.init(*result.args)))
                if ended is not None:
                    return ended.reason
                result = first
            waits = self.__async
            # Where the callbacks are: here, unless somebody watches them.
            on: Any = self if process.debug is None else _Watched(self, process, waits)
            call_waits = "handle_call" in waits
            budget = BATCH
            while True:
                while result is not None:
                    kind = type(result)
                    if kind is NoReply:
                        timeout, result = result.timeout, result.then
                    elif kind is Continue:
                        result = on.handle_continue(result.term)
                        if "handle_continue" in waits:
                            result = yield from result
                    elif kind is Stop:
                        break
                    else:
                        result = Stop(BadReturn(result))
                if result is not None:
                    # Only a call has somebody to whom a Stop could reply (N16).
                    misplaced = last_reply is None and result.reply is not MISSING
                    reason = BadReturn(result) if misplaced else result.reason
                    break
                mailbox = process.mailbox
                if process.exiting is not None:
                    # A signal that came while we ran could not wake us: look before every wait.
                    raise ProcessExit(process.exiting)
                if not mailbox:
                    if timeout is None:
                        process.task.custom_sleep_data = process  # type: ignore[union-attr]  # it runs, so it has one
                        (yield TRAP).unwrap()
                        budget, process.since = process.budget, 0.0
                        continue
                    message = yield from self.__wait(process, timeout)
                    if message is None:
                        continue
                elif budget <= 0:
                    budget = yield from give_way(process)
                    continue
                else:
                    message = mailbox.popleft()
                    if process.uncounted or process.senders:
                        message = process.took(message)
                budget -= 1
                kind = type(message)
                if kind is Caller or kind is Asker:
                    process.current = message
                    answer = on.handle_call(message.request, message)
                    if call_waits:
                        answer = yield from answer
                    timeout = None
                    if type(answer) not in _DIRECTIVES:
                        process.current = None
                        message.answer(answer)
                        continue
                    result = self.__after_call(process, message, answer)
                    if type(result) is Stop and result.reply is not MISSING:
                        last_reply = (message, result.reply)
                elif kind is CastEnvelope:
                    process.current = message
                    result = on.handle_cast(message.request)
                    if result is not None and "handle_cast" in waits:
                        result = yield from result
                    timeout = None
                elif kind is SystemCaller or kind is SystemAsker:
                    # A system message leaves the timeout as it was: the wait starts anew (N21).
                    stop = yield from serve_system(process, self, message)
                    if stop is not None:
                        reason = stop.reason
                        break
                    waits = self.__async  # its class may be another one now (Y6)
                    if waits and not process.scoped:
                        return (yield from self.__live_scoped(process, NoReply(timeout)))
                    on = self if process.debug is None else _Watched(self, process, waits)
                    call_waits = "handle_call" in waits
                elif kind is Exit and message.source == process.parent:
                    reason = message.reason  # the parent's word: terminate and end (N20)
                    break
                else:
                    process.current = message
                    result = on.handle_info(message)
                    if "handle_info" in waits:
                        result = yield from result
                    timeout = None
                process.current = message = None
        except BaseException as error:  # a callback's failure is this process's exit reason
            if process.exiting is not None or process.current.__class__ is Ack:
                raise  # killed, or a signal took it, or it is not up yet (N3): no callback runs any more
            reason, passing = reason_of(error)  # what a callback raises is this process's exit reason
            if passing is not None:
                raise  # the host's
        return (yield from self.__finish(process, reason, last_reply))

    async def __live_scoped(self, process: Process, result: NoReply) -> Any:
        """Live on with a cancel scope, which new code needs whose callbacks wait: so that a signal can end a wait."""
        process.scoped = True
        with trio.CancelScope() as process.scope:
            return await self.__live(process, result)
        return process.exiting

    async def __finish(self, process: Process, reason: object, last_reply: tuple[Caller, object] | None) -> Any:
        """Run `terminate`, whose failure replaces the reason (N18), then give the reply of a Stop."""
        try:
            done = self.terminate(reason)
            if "terminate" in self.__async:
                await done
        except BaseException as error:  # a failing terminate replaces the reason
            if process.exiting is not None:
                raise
            reason, passing = reason_of(error)  # the exit reason from now on
            if passing is not None:
                raise
        if last_reply is not None:
            caller, value = last_reply
            process.current = None
            caller.answer(value)
        return reason

    async def __wait(self, process: Process, timeout: float) -> Any:
        """Wait for the mailbox; TIMEOUT if the callback's timeout passed first, else None."""
        task = process.task
        assert task is not None
        if timeout == math.inf:
            task.custom_sleep_data = process
            await park()
        elif timeout <= 0:
            await trio.lowlevel.checkpoint()
            if not process.mailbox:
                return TIMEOUT
        else:
            deadline = Deadline(process)
            process.table.timers.watch(deadline, timeout)
            try:
                while not process.mailbox:
                    if deadline.passed:
                        return TIMEOUT
                    task.custom_sleep_data = process
                    await park()
            finally:
                deadline.process = None
        return None

    def __after_call(self, process: Process, caller: Caller, answer: Any) -> Any:
        """Do what a directive of `handle_call` says about the reply; returns what is left of it."""
        kind = type(answer)
        if kind is Reply:
            caller.answer(answer.value)
            return NoReply(answer.timeout, answer.then)
        if kind is Raise:
            caller.refuse(answer.error)
            return None
        if kind is types.CoroutineType:
            answer.close()
            what = f"handle_call of {type(self).__qualname__} returned a coroutine"
            caller.refuse(Misuse(f"{what}: make it async def, or await it"))
            return None
        if caller.waiting:
            # Also with the reply of a Stop: if terminate is killed, our end tells the caller.
            if process.deferred is None:
                process.deferred = {}
            process.deferred[caller] = None
        return answer


class _Watched:
    """A server's callbacks, each of which reports what comes and goes to those who watch the process (Y7)."""

    def __init__(self, server: GenServer, process: Process, waits: frozenset[str]) -> None:
        self.process = process
        for kind in ("call", "cast", "info", "continue"):
            name = f"handle_{kind}"
            around = self._around_waiting if name in waits else self._around
            setattr(self, name, partial(around, kind, getattr(server, name)))

    def _around(self, kind: str, callback: Callable[..., Any], message: object, *caller: Caller) -> Any:
        self._report(("continue", message) if kind == "continue" else In(kind, message))
        result = callback(message, *caller)
        self._report_reply(result, caller)
        return result

    async def _around_waiting(self, kind: str, callback: Callable[..., Any], message: object, *caller: Caller) -> Any:
        self._report(("continue", message) if kind == "continue" else In(kind, message))
        result = await callback(message, *caller)
        self._report_reply(result, caller)
        return result

    def _report_reply(self, result: Any, caller: tuple[Caller, ...]) -> None:
        for to in caller:
            kind = type(result)
            if kind not in _DIRECTIVES:
                self._report(Out(result, to))
            elif kind is Reply:
                self._report(Out(result.value, to))
            elif kind is Stop and result.reply is not MISSING:
                self._report(Out(result.reply, to))

    def _report(self, event: object) -> None:
        debug = self.process.debug
        if debug is not None:
            debug.report(self.process, event)


async def cast(destination: Destination, request: object, *, timeout: float = 5.0) -> None:
    """Give a server something to do, without a reply; never fails for a missing one (N11).

    Not a checkpoint, unless the mailbox is full: then it waits for room, at most `timeout` seconds.

    Raises:
        MailboxFull: there was no room in time; nothing was sent.
    """
    if type(destination) is Pid:
        process = destination._process
    elif type(destination) is Via:
        try:
            await send_via(destination, CastEnvelope(request), timeout)
        except NoProcess:
            pass
        return
    else:
        process = current_table().find(destination)
    if process is not None:
        envelope = CastEnvelope(request)
        if not process.offer(envelope):
            if type(destination) is Ref:
                use_up(destination)
            await wait_for_room(process, envelope, timeout)


def cast_nowait(destination: Destination, request: object) -> None:
    """Like `cast`, without waiting: raises MailboxFull at once. For plain callbacks."""
    if type(destination) is Pid:
        process = destination._process
    elif type(destination) is Via:
        try:
            destination.registry.send(destination.name, CastEnvelope(request))
        except NoProcess:
            pass
        return
    else:
        process = current_table().find(destination)
    if process is not None and not process.offer(CastEnvelope(request)):
        raise mailbox_full(process, "full")
