"""The event manager's process: a list of handlers, and what happens to them. `gen_event` is the chapter on it.

What a handler does is never the manager's end: each callback runs in `__run`, which turns whatever it raises
into a `Failed` value. Requests come by `call`, so that their callers hear of the manager's end.

Source: OTP `gen_event.erl`, the server; rules E1-E12.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from types import CoroutineType, ModuleType
from typing import Any, final

from ..errors import Misuse
from ..kernel.exits import NORMAL, SHUTDOWN, Crash, ProcessExit, shown
from ..kernel.fairness import BATCH, give_way
from ..kernel.ids import Pid
from ..kernel.messages import Call
from ..kernel.parking import park
from ..kernel.process import Body, Process, link, reason_of, unlink
from ..kernel.requests import MISSING, Caller, SystemCaller, brief
from ..kernel.signals import Exit
from ..kernel.table import redacted
from .debug import In
from .event_handler import (
    NO_HANDLER,
    ClientExited,
    EventHandler,
    EventHandlerExit,
    Failed,
    HandlerFailed,
    HandlerId,
    HandlerState,
    Inherited,
    NoHandler,
    Remove,
    Removed,
    Stopped,
    Swap,
    Swapped,
    name_of_handler,
)
from .gen import Ack, Behaviour
from .gen_server import HIBERNATE, BadReturn, CastEnvelope
from .system import renew, serve_system

logger = logging.getLogger("banyan")


# -- what a manager is asked --------------------------------------------------------------------------


@final
class EventEnvelope:
    """How an event lies in a mailbox."""

    __slots__ = ("request",)

    def __init__(self, event: object) -> None:
        self.request = event


@final
@dataclass(frozen=True, slots=True)
class SyncNotify(Call[None]):
    """Hand an event to all handlers, then reply."""

    event: object


@final
@dataclass(frozen=True, slots=True)
class AddHandler(Call[None]):
    """Install a handler, supervised by `client` if there is one."""

    handler: HandlerId
    argument: object
    client: Pid | None


@final
@dataclass(frozen=True, slots=True)
class DeleteHandler(Call[object]):
    """Remove a handler; the reply is what its `terminate` returns."""

    handler: HandlerId
    argument: object


@final
@dataclass(frozen=True, slots=True)
class SwapHandler(Call[None]):
    """Replace one handler by another, supervised by `client`, or by who supervised the old one."""

    old: HandlerId
    new: HandlerId
    old_argument: object
    new_argument: object
    client: Pid | None


@final
@dataclass(frozen=True, slots=True)
class CallHandler(Call[object]):
    """Ask one handler."""

    handler: HandlerId
    request: object


@final
@dataclass(frozen=True, slots=True)
class WhichHandlers(Call[list[HandlerId]]):
    """List the ids of the handlers, newest first."""


@final
class _Installed:
    """A handler in its place in the list."""

    __slots__ = ("client", "handler", "id")

    def __init__(self, handler_id: HandlerId, client: Pid | None) -> None:
        self.id = handler_id
        # The process that is told when the handler goes, and with whose end it goes.
        self.client = client
        self.handler: EventHandler


# -- the manager --------------------------------------------------------------------------------------


class GenEvent(Behaviour):
    """The process that has the handlers. Started without arguments; it traps exits (E12)."""

    trap_exit = True
    # A handler that waits can be installed at any time, so a kill must always be able to end such a wait.
    _behaviour_scoped = True

    def __init__(self) -> None:
        # Newest first; changed by the manager's own process only, between two callbacks.
        self.__handlers: list[_Installed] = []
        self.__process: Process

    def system_get_state(self) -> list[HandlerState]:
        """A HandlerState for each handler, newest first (Y4)."""
        return [HandlerState(entry.id, entry.handler.state()) for entry in self.__handlers]

    def system_replace_state(self, function: Callable[[Any], object]) -> list[HandlerState]:
        """Give each handler the state that `function` makes of its HandlerState; returns all states after that.

        A handler for which `function` raises, or returns anything but a HandlerState of the same id, keeps its
        state (E3, Y5).
        """
        for entry in self.__handlers:
            try:
                made = function(HandlerState(entry.id, entry.handler.state()))
                if type(made) is HandlerState and made.handler == entry.id:
                    entry.handler.replace_state(made.state)
            except (Exception, ProcessExit) as error:  # the function is the asker's: things stay as they are
                logger.info("%s keeps its state: %s", name_of_handler(entry.id), shown(error))
        return self.system_get_state()

    def system_code_change(self, code: type | ModuleType, old_vsn: object, extra: object) -> None:
        """Give the handlers of a newly loaded class, or module, that class; all of them, or if one fails none (Y6)."""
        self.__renew([entry for entry in self.__handlers if _is_of(entry.handler, code)], code, old_vsn, extra)

    def __renew(self, entries: list[_Installed], code: type | ModuleType, old_vsn: object, extra: object) -> None:
        if not entries:
            return
        entry, *others = entries
        handler, old_id, before = entry.handler, entry.id, entry.handler.state()

        def convert() -> object:
            made = handler.code_change(old_vsn, before, extra)
            if type(made) is CoroutineType:
                return made  # refused by renew: it must not wait
            if made is not None:
                handler.replace_state(made)
            # Within, so that the failure of another one takes this one's change back too.
            self.__renew(others, code, old_vsn, extra)
            return None

        renew(handler, code, convert)
        entry.id = (type(handler), old_id[1]) if isinstance(old_id, tuple) else type(handler)

    def format_status(self, value: Any) -> object:
        """A handler decides what may be seen of its state and of requests to it, and each of other messages (N29)."""
        match value:
            case [HandlerState(), *_] if len(value) == len(self.__handlers):
                pairs = zip(self.__handlers, value, strict=True)
                return [HandlerState(one.handler, entry.handler.format_status(one.state)) for entry, one in pairs]
            case CallHandler(handler, request):
                entry = self.__find(handler)
                return CallHandler(handler, entry.handler.format_status(request)) if entry is not None else value
            case SyncNotify(event):
                return SyncNotify(self.format_status(event))
        for entry in self.__handlers:
            value = entry.handler.format_status(value)
        return value

    def summary(self) -> str:
        """How many handlers it has."""
        count = len(self.__handlers)
        return f"{count} handler{'' if count == 1 else 's'}"

    # -- the process ---------------------------------------------------------------------------------

    @classmethod
    def _behaviour_begin(cls, process: Process, ack: Ack, args: tuple[Any, ...]) -> tuple[Body, object] | None:
        if args:
            raise Misuse(f"an event manager is started without arguments, got {args!r}: add handlers afterwards")
        manager = cls()
        manager.__process = process
        process.behaviour = manager
        ack.ok()
        return manager.__live, None

    async def __live(self, process: Process, _argument: object) -> object:
        """Serve until something says stop, then end every handler; returns the exit reason."""
        task = process.task
        assert task is not None
        budget = BATCH
        while True:
            mailbox = process.mailbox
            if process.exiting is not None:
                # A signal that came while we ran could not wake us: look before every wait.
                raise ProcessExit(process.exiting)
            if not mailbox:
                task.custom_sleep_data = process
                await park()
                budget, process.since = process.budget, 0.0
                continue
            if budget <= 0:
                budget = await give_way(process)
                continue
            # It counts callbacks: a message costs as many as there are handlers.
            budget -= len(self.__handlers) or 1
            message = mailbox.popleft()
            if process.uncounted or process.senders:
                message = process.took(message)
            process.current = message
            kind = type(message)
            if process.debug is not None and kind is not SystemCaller:
                process.debug.report(process, _came(message))
            if kind is EventEnvelope:
                await self.__tell("handle_event", message.request)  # type: ignore[attr-defined]  # by its kind
            elif isinstance(message, SystemCaller):
                ending = await serve_system(process, self, message)
                if ending is not None:
                    return await self.__stop(ending.reason)
            elif isinstance(message, Caller):
                await self.__serve(message)
            elif isinstance(message, Exit):
                if message.source == process.parent:
                    return await self.__stop(message.reason)  # the parent's word (E12)
                await self.__client_exited(message)
                await self.__tell("handle_info", message)
            else:
                info = message.request if isinstance(message, CastEnvelope) else message
                await self.__tell("handle_info", info)
            process.current = message = None

    async def __serve(self, caller: Caller) -> None:
        """Do what is asked, and reply."""
        match caller.request:
            case SyncNotify(event):
                await self.__tell("handle_event", event)
                caller.answer(None)
            case CallHandler(handler, request):
                await self.__call(caller, handler, request)
            case AddHandler(handler, argument, client):
                if client is not None:
                    # Before init, so that a client that ends meanwhile is not missed (E10).
                    link(self.__process, client)
                await self.__install(caller, _Installed(handler, client), argument)
            case DeleteHandler(handler, argument):
                await self.__delete(caller, handler, argument)
            case SwapHandler() as swap:
                await self.__replace(caller, swap)
            case WhichHandlers():
                caller.answer([entry.id for entry in self.__handlers])
            case other:
                caller.refuse(
                    Misuse(
                        f"{caller.destination} is an event manager: ask a handler of it with gen_event.call, "
                        f"which handler is to answer {brief(other)}?"
                    )
                )

    async def __tell(self, callback: str, message: object) -> None:
        """Run a callback of every handler, newest first; one that comes by a swap does not see the message."""
        for entry in tuple(self.__handlers):
            result = await self.__run(getattr(entry.handler, callback), message)
            if result is None or result is HIBERNATE:
                continue
            match result:
                case Remove(reply) if reply is MISSING:
                    await self.__remove(entry, Removed(), NORMAL)
                case Swap(reply=reply) if reply is MISSING:
                    await self.__swap(entry, result)
                case Failed():
                    await self.__fail(entry, result, message)
                case _:
                    await self.__fail(entry, Failed(BadReturn(result)), message)

    async def __call(self, caller: Caller, handler: HandlerId, request: object) -> None:
        entry = self.__find(handler)
        if entry is None:
            caller.refuse(NoHandler(caller.destination, request, handler))
            return
        result = await self.__run(entry.handler.handle_call, request)
        match result:
            case Remove(reply) if reply is not MISSING:
                await self.__remove(entry, Removed(), NORMAL)
                caller.answer(reply)
            case Swap(reply=reply) if reply is not MISSING:
                await self.__swap(entry, result)
                caller.answer(reply)
            case Failed() | Remove() | Swap():
                failed = result if isinstance(result, Failed) else Failed(BadReturn(result))
                await self.__fail(entry, failed, request)
                caller.refuse(HandlerFailed(caller.destination, request, handler, failed.why))
            case _:
                caller.answer(result)

    async def __install(self, caller: Caller, entry: _Installed, argument: object) -> None:
        failed = await self.__init(entry, argument)
        if failed is None:
            self.__handlers.insert(0, entry)
            caller.answer(None)
        else:
            caller.refuse(HandlerFailed(caller.destination, caller.request, entry.id, failed.why))

    async def __delete(self, caller: Caller, handler: HandlerId, argument: object) -> None:
        entry = self.__find(handler)
        if entry is None:
            caller.refuse(NoHandler(caller.destination, caller.request, handler))
            return
        result = await self.__remove(entry, argument, NORMAL)
        if isinstance(result, Failed):
            caller.refuse(HandlerFailed(caller.destination, caller.request, handler, result.why))
        else:
            caller.answer(result)

    async def __replace(self, caller: Caller, swap: SwapHandler) -> None:
        """A client's swap: the new handler goes to the head, also if there was no old one (E7)."""
        client = swap.client
        result: object = NO_HANDLER
        entry = self.__find(swap.old)
        if entry is not None:
            client = client or entry.client
            result = await self.__remove(entry, swap.old_argument, Swapped(swap.new, client))
        if client is not None:
            link(self.__process, client)  # also with who supervised the old one, who may have unlinked itself since
        await self.__install(caller, _Installed(swap.new, client), Inherited(swap.new_argument, result))

    async def __swap(self, entry: _Installed, swap: Swap) -> None:
        """A swap that a handler asked for: the new one takes its place and its client (E7)."""
        result = await self.__end(entry, swap.old_argument, Swapped(swap.new, entry.client))
        successor = _Installed(swap.new, entry.client)
        failed = await self.__init(successor, Inherited(swap.new_argument, result))
        place = self.__handlers.index(entry)
        if failed is None:
            self.__handlers[place] = successor
        else:
            # The client believes in the new one since it was told of the swap. (OTP says only `crash`, E10.)
            del self.__handlers[place]
            self.__report(successor, failed, None)
            _inform(successor, failed)

    async def __client_exited(self, message: Exit) -> None:
        """End the handlers that the process supervised, if it was a client (E10)."""
        for entry in tuple(self.__handlers):
            if entry.client == message.source:
                await self.__remove(entry, ClientExited(message.reason), SHUTDOWN)

    async def __stop(self, reason: object) -> object:
        """End every handler, newest first, whatever the reason; then let go of their clients (E11)."""
        process = self.__process
        process.current = None
        for entry in self.__handlers:
            await self.__end(entry, Stopped(), SHUTDOWN)
        for entry in self.__handlers:
            if entry.client is not None and entry.client != process.parent:
                unlink(process, entry.client)
        return reason

    # -- one handler ---------------------------------------------------------------------------------

    def __find(self, handler: HandlerId) -> _Installed | None:
        return next((entry for entry in self.__handlers if entry.id == handler), None)

    async def __init(self, entry: _Installed, argument: object) -> Failed | None:
        def begin() -> Any:
            found = entry.id[0] if isinstance(entry.id, tuple) else entry.id
            entry.handler = found()
            return entry.handler.init(argument)

        result = await self.__run(begin)
        if result is None or result is HIBERNATE:
            return None
        return result if isinstance(result, Failed) else Failed(BadReturn(result))

    async def __fail(self, entry: _Installed, failed: Failed, message: object) -> None:
        self.__report(entry, failed, message)
        await self.__remove(entry, failed, failed)

    async def __remove(self, entry: _Installed, ending: object, told: object) -> object:
        result = await self.__end(entry, ending, told)
        self.__handlers.remove(entry)
        return result

    async def __end(self, entry: _Installed, ending: object, told: object) -> object:
        """Run `terminate` with `ending`, and tell the client; what it returned, or Failed."""
        result = await self.__run(entry.handler.terminate, ending)
        if isinstance(result, Failed):
            self.__report(entry, result, ending)
        _inform(entry, told)
        return result

    async def __run(self, callback: Callable[..., Any], *args: object) -> Any:
        """What a callback of a handler returns, or Failed if it does not."""
        process = self.__process
        if process.exiting is not None:
            raise ProcessExit(process.exiting)  # killed while another handler waited: no callback runs any more
        try:
            result = callback(*args)
            if type(result) is CoroutineType:
                result = await result
        except BaseException as error:  # the handler's failure is its own: the manager and the others go on (E5)
            if process.exiting is not None:
                raise
            why, passing = reason_of(error)
            if passing is not None:
                raise  # the host's
            return Failed(why)
        return result

    def __report(self, entry: _Installed, failed: Failed, message: object) -> None:
        last = redacted(getattr(entry, "handler", None), message)  # one whose class cannot be made has none
        error = failed.why.error if isinstance(failed.why, Crash) else None
        text = "%s: the event handler %s failed: %s%s"
        handler = name_of_handler(entry.id)
        with_last = f"; last message: {last}" if last else ""
        logger.warning(text, self.__process.pid, handler, shown(failed.why), with_last, exc_info=error)


def _came(message: object) -> In:
    """A message as those who watch the manager see it (Y7)."""
    if type(message) is EventEnvelope:
        return In("event", message.request)
    if isinstance(message, Caller):
        return In("call", message.request)
    return In("info", message.request if type(message) is CastEnvelope else message)


def _is_of(handler: EventHandler, code: type | ModuleType) -> bool:
    """Whether newly loaded code is a handler's: its class has the same name and module, or is of that module."""
    cls = type(handler)
    if isinstance(code, ModuleType):
        return cls.__module__ == code.__name__
    return (cls.__module__, cls.__qualname__) == (code.__module__, code.__qualname__)


def _inform(entry: _Installed, reason: object) -> None:
    """Tell the client of a handler, if it has one, that the handler is gone."""
    client = entry.client._process if entry.client is not None else None
    if client is not None:
        client.post(EventHandlerExit(entry.id, reason))
