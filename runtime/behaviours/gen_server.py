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
from dataclasses import dataclass
from typing import Any, ClassVar, final

import trio

from ..kernel.api import wait_for_room
from ..kernel.exits import NORMAL, ProcessExit
from ..kernel.ids import Pid
from ..kernel.parking import park
from ..kernel.process import Body, Process, reason_of
from ..kernel.requests import Asker, Caller, SystemCaller, mailbox_full
from ..kernel.signals import Exit
from ..kernel.table import Destination, current_table
from ..kernel.timers import Deadline
from .gen import IGNORE, Ack, Behaviour
from .sys import serve_system

logger = logging.getLogger("banyan")

# Messages taken without a checkpoint. More would starve others: see the scheduling budget in docs.
BATCH = 32


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


@final
@dataclass(frozen=True, slots=True)
class Raise:
    """Refuse a request: `error` is raised at the caller; the server itself goes on unharmed."""

    error: Exception


@final
class _Missing:
    __slots__ = ()


_MISSING = _Missing()


@final
@dataclass(frozen=True, slots=True)
class Stop:
    """End with `reason` after `terminate`; from `handle_call` the `reply`, if any, is sent after that (N14)."""

    reason: object
    reply: object = _MISSING


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
class CastEnvelope:
    """How a cast lies in a mailbox."""

    __slots__ = ("request",)

    def __init__(self, request: object) -> None:
        self.request = request


_DIRECTIVES = frozenset({Reply, NoReply, Raise, Stop, Continue})
_CALLBACKS = ("init", "handle_call", "handle_cast", "handle_info", "handle_continue", "terminate")


class GenServer(Behaviour):
    """The base of a server. Override the callbacks you need; see the module for an example."""

    __async: ClassVar[frozenset[str]] = frozenset()

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
        logger.warning("%s got %r and has no handle_info for it", type(self).__qualname__, message)

    def handle_continue(self, term: Any) -> Any:
        """Runs right after a callback that asked for it. Returns as handle_cast."""
        raise NotImplementedError(f"{type(self).__qualname__} continues with {term!r} but has no handle_continue")

    def terminate(self, reason: object) -> Any:
        """Runs before the end by Stop, exception, bad return, or the parent's exit signal while trapping (N19).

        Not after a kill. What it raises becomes the exit reason (N18).
        """
        return None

    def state(self) -> object:
        """The state as `sys.get_state` shows it: by default the instance's public attributes."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

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
        if type(first) is Stop:
            return first
        if first is not None and type(first) not in (Continue, NoReply):
            return Stop(BadReturn(first))
        ack.ok()
        return None

    async def __live(self, process: Process, result: Any) -> object:
        """Serve until something says stop, then run `terminate`; returns the exit reason.

        This frame lies under every idle server, so it is kept small and alone. `result` is what the last
        callback returned, other than a call that was plainly answered; at first, what `init` did.
        """
        task = process.task
        # The reply of a Stop: kept where a crash of terminate cannot lose it (N14).
        last_reply: tuple[Caller, object] | None = None
        timeout: float | None = None
        message: Any = None
        reason: object = NORMAL
        try:
            if type(result) is _Init:
                ended = self.__judge(result.ack, first := await self.init(*result.args))
                if ended is not None:
                    return ended.reason
                result = first
            handle_call, handle_cast = self.handle_call, self.handle_cast
            waits = self.__async
            call_waits = "handle_call" in waits
            budget = BATCH
            while True:
                while result is not None:
                    kind = type(result)
                    if kind is NoReply:
                        timeout, result = result.timeout, result.then
                    elif kind is Continue:
                        result = self.handle_continue(result.term)
                        if "handle_continue" in waits:
                            result = await result
                    elif kind is Stop:
                        break
                    else:
                        result = Stop(BadReturn(result))
                if result is not None:
                    reason = result.reason
                    break
                mailbox = process.mailbox
                if process.exiting is not None:
                    # A signal that came while we ran could not wake us: look before every wait.
                    raise ProcessExit(process.exiting)
                if not mailbox:
                    if timeout is None:
                        task.custom_sleep_data = process  # type: ignore[union-attr]  # it runs, so it has a task
                        await park()
                        budget = BATCH
                        continue
                    message = await self.__wait(process, timeout)
                    if message is None:
                        continue
                elif budget <= 0:
                    await trio.lowlevel.checkpoint()
                    budget = BATCH
                    continue
                else:
                    message = mailbox.popleft()
                    if process.uncounted or process.senders:
                        message = process.took(message)
                budget -= 1
                kind = type(message)
                if kind is Caller or kind is Asker:
                    process.current = message
                    answer = handle_call(message.request, message)
                    if call_waits:
                        answer = await answer
                    timeout = None
                    if type(answer) not in _DIRECTIVES:
                        process.current = None
                        message.answer(answer)
                        continue
                    result = self.__after_call(process, message, answer)
                    if type(result) is Stop and result.reply is not _MISSING:
                        last_reply = (message, result.reply)
                elif kind is CastEnvelope:
                    process.current = message
                    result = handle_cast(message.request)
                    if "handle_cast" in waits:
                        result = await result
                    timeout = None
                elif kind is SystemCaller:
                    # A system message leaves the timeout as it was: the wait starts anew (N21).
                    stop = await serve_system(process, self, message)
                    if stop is not None:
                        reason = stop.reason
                        break
                elif kind is Exit and message.source == process.parent:
                    reason = message.reason  # the parent's word: terminate and end (N20)
                    break
                else:
                    process.current = message
                    result = self.handle_info(message)
                    if "handle_info" in waits:
                        result = await result
                    timeout = None
                process.current = message = None
        except BaseException as error:  # a callback's failure is this process's exit reason
            if process.exiting is not None or process.current.__class__ is Ack:
                raise  # killed, or a signal took it, or it is not up yet (N3): no callback runs any more
            reason, passing = reason_of(error)  # what a callback raises is this process's exit reason
            if passing is not None:
                raise  # the host's
        return await self.__finish(process, reason, last_reply)

    async def __finish(self, process: Process, reason: object, last_reply: tuple[Caller, object] | None) -> object:
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

    async def __wait(self, process: Process, timeout: float) -> object:
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
        if caller.waiting:
            # Also with the reply of a Stop: if terminate is killed, our end tells the caller.
            if process.deferred is None:
                process.deferred = {}
            process.deferred[caller] = None
        return answer


async def cast(destination: Destination, request: object, *, timeout: float = 5.0) -> None:
    """Give a server something to do, without a reply; never fails for a missing one (N11).

    Not a checkpoint, unless the mailbox is full: then it waits for room, at most `timeout` seconds.

    Raises:
        MailboxFull: there was no room in time; nothing was sent.
    """
    process = destination._process if type(destination) is Pid else current_table().find(destination)
    if process is not None:
        envelope = CastEnvelope(request)
        if not process.offer(envelope):
            await wait_for_room(process, envelope, timeout)


def cast_nowait(destination: Destination, request: object) -> None:
    """Like `cast`, without waiting: raises MailboxFull at once. For plain callbacks."""
    process = destination._process if type(destination) is Pid else current_table().find(destination)
    if process is not None and not process.offer(CastEnvelope(request)):
        raise mailbox_full(process, "full")
