"""An event manager: a process that hands each event to every handler that is installed in it.

A complete example:

    >>> import trio
    >>> from runtime import Call, EventHandler, GenEvent, gen_event, message, start
    >>> from supervisors import Node
    >>> @message("docs.how_many")
    ... class HowMany(Call[int]):
    ...     pass
    >>> class Tally(EventHandler):                # counts what happens; its state is the instance
    ...     def init(self, argument):
    ...         self.seen = argument
    ...
    ...     def handle_event(self, event):
    ...         self.seen += 1
    ...         return gen_event.Remove() if event == "closed" else None
    ...
    ...     def handle_call(self, request):
    ...         match request:
    ...             case HowMany():
    ...                 return self.seen
    >>> async def main():
    ...     async with Node("docs"):
    ...         events = await start(GenEvent)
    ...         await gen_event.add_handler(events, Tally, 10)
    ...         await gen_event.add_handler(events, (Tally, "mine"), 0)
    ...         await gen_event.notify(events, "opened")
    ...         print(await gen_event.call(events, Tally, HowMany()))
    ...         print(await gen_event.call(events, (Tally, "mine"), HowMany()))
    ...         await gen_event.sync_notify(events, "closed")
    ...         print(await gen_event.which_handlers(events))
    >>> trio.run(main)
    11
    1
    []

**Handlers** are objects in the manager's process, not processes. Their id is the class, or `(class, id)` to
tell several of one class apart. The newest is called first, and each is through with an event before the
next one sees it. One id may be installed twice, as in OTP; what names an id then means the newest. A callback
is a plain function unless it must wait, and while one waits the whole manager does.

**Child spec**: `child("events", GenEvent, name="room_events")`; a subclass may set `mailbox_limit`. A
restarted manager has no handlers. So let whoever needs a handler install it with `add_sup_handler`, started
after the manager under `rest_for_one`: that links the two. If the client ends, its handlers end with
`ClientExited(reason)`; if a handler goes, for whatever reason, its client finds an
`EventHandlerExit(handler, reason)` in its mailbox:

    match message:
        case EventHandlerExit(handler, gen_event.Failed(why)):  # it crashed: install it again, or give up
            ...
        case EventHandlerExit(handler, gen_event.Swapped(new, client)):  # `new` came, `client` supervises it
            ...
        case EventHandlerExit(handler, reason):  # NORMAL: removed or deleted; SHUTDOWN: the manager ends
            ...

**Exits.** A handler that raises, exits, or returns what it may not is removed, and logged; the manager and
the other handlers go on. So the manager itself ends only by its parent's exit, `sys.stop`, or a kill. At its
end every handler's `terminate` gets `Stopped()`, and then its clients are told and unlinked; after a kill
nothing runs, and every linked client gets the exit signal. Because the state is the instance, `terminate`
after a failure sees what the callback had changed until then (OTP shows the state before the callback).

Do not use it where a crash must not lose the handler's state, where handlers are slow (each delays all of
them), or where each is a process of its own anyway: then a process group, or a table of watchers that a
server sends to, is simpler, and one watcher's failure or slowness is its own. Source: OTP `gen_event.erl`;
rules E1-E12.
"""

from __future__ import annotations

from typing import TypeVar, overload

from ..kernel.api import call as ask
from ..kernel.api import send, send_nowait
from ..kernel.messages import Call
from ..kernel.table import Destination, current_process
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
    check_handler,
)
from .event_manager import (
    AddHandler,
    CallHandler,
    DeleteHandler,
    EventEnvelope,
    GenEvent,
    SwapHandler,
    SyncNotify,
    WhichHandlers,
)

# All names of this chapter, wherever they are defined: `from runtime import gen_event`.
__all__ = [
    "NO_HANDLER",
    "ClientExited",
    "EventHandler",
    "EventHandlerExit",
    "Failed",
    "GenEvent",
    "HandlerFailed",
    "HandlerId",
    "HandlerState",
    "Inherited",
    "NoHandler",
    "Remove",
    "Removed",
    "Stopped",
    "Swap",
    "Swapped",
    "add_handler",
    "add_sup_handler",
    "call",
    "delete_handler",
    "notify",
    "notify_nowait",
    "swap_handler",
    "swap_sup_handler",
    "sync_notify",
    "which_handlers",
]

R = TypeVar("R")


async def notify(manager: Destination, event: object, *, timeout: float = 5.0) -> None:
    """Give an event to all handlers, without waiting for them; a dead pid swallows it (E4).

    Not a checkpoint, unless the manager's mailbox is full: then it waits for room, at most `timeout` seconds.

    Raises:
        MailboxFull: there was no room in time; nothing was sent.
        NoProcess: nobody has that name.
    """
    await send(manager, EventEnvelope(event), timeout=timeout)


def notify_nowait(manager: Destination, event: object) -> None:
    """Like `notify`, without waiting: raises MailboxFull at once. For plain callbacks."""
    send_nowait(manager, EventEnvelope(event))


async def sync_notify(manager: Destination, event: object, *, timeout: float = 5.0) -> None:
    """Give an event to all handlers and wait until the last one is through with it (E4).

    Raises: as `runtime.call` does. A handler that fails is not the caller's concern.
    """
    await ask(manager, SyncNotify(event), timeout=timeout)


async def add_handler(
    manager: Destination, handler: HandlerId, argument: object = None, *, timeout: float = 5.0
) -> None:
    """Install a handler, before all others (E2); its `init` gets `argument`.

    Args:
        manager: its pid or name.
        handler: an EventHandler class, or (class, id) with any hashable id. One that is installed
            already is installed again (E3).
        timeout: seconds for `init`, and for what the manager is at.

    Raises:
        HandlerFailed: `init` failed, for `reason`; it was not installed.
        Others as `runtime.call` does. After CallTimeout it may still be installed.
    """
    await ask(manager, AddHandler(check_handler(handler), argument, None), timeout=timeout)


async def add_sup_handler(
    manager: Destination, handler: HandlerId, argument: object = None, *, timeout: float = 5.0
) -> None:
    """Like `add_handler`, supervised by the calling process: the two are linked.

    When the caller ends, `terminate` gets `ClientExited(reason)`. When the handler goes, the caller gets an
    `EventHandlerExit`. The link is made before `init` and stays when the handler is gone, also if `init`
    failed; there is one for all handlers of a client (E10).
    """
    client = current_process().pid
    await ask(manager, AddHandler(check_handler(handler), argument, client), timeout=timeout)


async def delete_handler(
    manager: Destination, handler: HandlerId, argument: object = None, *, timeout: float = 5.0
) -> object:
    """Remove a handler; its `terminate` gets `argument`, and what that returns is returned here (E9).

    Raises:
        NoHandler: there is no such handler.
        HandlerFailed: `terminate` failed, for `reason`; the handler is gone all the same.
        Others as `runtime.call` does.
    """
    return await ask(manager, DeleteHandler(check_handler(handler), argument), timeout=timeout)


async def swap_handler(
    manager: Destination,
    old: HandlerId,
    new: HandlerId,
    *,
    old_argument: object = None,
    new_argument: object = None,
    timeout: float = 5.0,
) -> None:
    """Replace a handler by another, with nothing in between; the new one comes before all others (E7).

    The old one's `terminate` gets `old_argument`; the new one's `init` gets `Inherited(new_argument, result)`
    with what that returned. Without an old one the new one is installed all the same, with NO_HANDLER. Who
    supervised the old one supervises the new one.

    Raises:
        HandlerFailed: the new one's `init` failed, for `reason`; neither is installed now.
        Others as `runtime.call` does.
    """
    asked = SwapHandler(check_handler(old), check_handler(new), old_argument, new_argument, None)
    await ask(manager, asked, timeout=timeout)


async def swap_sup_handler(
    manager: Destination,
    old: HandlerId,
    new: HandlerId,
    *,
    old_argument: object = None,
    new_argument: object = None,
    timeout: float = 5.0,
) -> None:
    """Like `swap_handler`, but the calling process supervises the new handler, as with `add_sup_handler`.

    The link of whoever supervised the old one stays.
    """
    client = current_process().pid
    asked = SwapHandler(check_handler(old), check_handler(new), old_argument, new_argument, client)
    await ask(manager, asked, timeout=timeout)


@overload
async def call(manager: Destination, handler: HandlerId, request: Call[R], *, timeout: float = 5.0) -> R: ...
@overload
async def call(manager: Destination, handler: HandlerId, request: object, *, timeout: float = 5.0) -> object: ...
async def call(manager: Destination, handler: HandlerId, request: object, *, timeout: float = 5.0) -> object:
    """Ask one handler and wait for its reply, at most `timeout` seconds (E8). OTP: `gen_event:call`.

    Raises:
        NoHandler: there is no such handler.
        HandlerFailed: it failed over the request, for `reason`, and was removed.
        Others as `runtime.call` does.
    """
    return await ask(manager, CallHandler(check_handler(handler), request), timeout=timeout)


async def which_handlers(manager: Destination, *, timeout: float = 5.0) -> list[HandlerId]:
    """The ids of the installed handlers, newest first. Raises: as `runtime.call` does."""
    return await ask(manager, WhichHandlers(), timeout=timeout)
