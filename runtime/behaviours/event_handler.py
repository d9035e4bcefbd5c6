"""Event handlers: what they return, what they are told, and the base class. `gen_event` is the chapter on them.

Source: OTP `gen_event.erl`, its callbacks; rules E2-E8.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, TypeAlias, final

from ..errors import CallFailed, Misuse
from ..kernel.exits import Crash, shown
from ..kernel.ids import Pid
from ..kernel.requests import MISSING
from ..kernel.table import redacted

logger = logging.getLogger("banyan")

HandlerId: TypeAlias = "type[EventHandler] | tuple[type[EventHandler], object]"


# -- what a handler returns ---------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Remove:
    """Remove this handler, after `terminate(Removed())`. From `handle_call`, and only there, with a `reply`."""

    reply: object = MISSING


@final
@dataclass(frozen=True, slots=True)
class Swap:
    """Put the handler `new` in this one's place. From `handle_call`, and only there, with a `reply`.

    This one's `terminate` gets `old_argument`; what it returns goes to the new one's `init`, as
    `Inherited(new_argument, result)`. The client that supervises this one supervises the new one.
    """

    new: HandlerId
    old_argument: object = None
    new_argument: object = None
    reply: object = MISSING

    def __post_init__(self) -> None:
        check_handler(self.new)


@final
@dataclass(frozen=True, slots=True)
class Failed:
    """A handler failed, for the reason `why`; so `terminate` and its client are told, and it is removed (E5).

    `why` is `Crash(error)` for an exception, `BadReturn(value)` for a wrong return, the reason of an
    `exit_with`. A callback may return a `Failed` itself; from `init` it means: do not install me.
    """

    why: object


# -- what a handler and its client are told -----------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Inherited:
    """What `init` gets in a swap: its own argument, and what the old handler's `terminate` returned.

    `result` is NO_HANDLER if there was no old handler, and `Failed(why)` if its `terminate` failed.
    """

    argument: object
    result: object


@final
class NoHandlerType:
    """The type of NO_HANDLER."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "NO_HANDLER"


NO_HANDLER = NoHandlerType()


@final
@dataclass(frozen=True, slots=True)
class Removed:
    """To `terminate`: the handler asked to be removed (OTP: `remove_handler`)."""


@final
@dataclass(frozen=True, slots=True)
class Stopped:
    """To `terminate`: the manager ends (OTP: `stop`)."""


@final
@dataclass(frozen=True, slots=True)
class ClientExited:
    """To `terminate`: the client that supervised the handler ended with `reason` (OTP: `{stop, Reason}`)."""

    reason: object


@final
@dataclass(frozen=True, slots=True)
class Swapped:
    """The reason of an EventHandlerExit after a swap: who came, and the client that supervises that one now."""

    new: HandlerId
    client: Pid | None


@final
@dataclass(frozen=True, slots=True)
class EventHandlerExit:
    """A message to the client of `add_sup_handler`: its handler is no longer installed (OTP: `gen_event_EXIT`).

    `reason` is NORMAL (removed or deleted), SHUTDOWN (the manager ends), `Swapped(new, client)` or
    `Failed(why)`.
    """

    handler: HandlerId
    reason: object


class NoHandler(CallFailed):
    """No handler is installed under the id `handler` (OTP: `bad_module`, `module_not_found`)."""

    def __init__(self, destination: object, request: object, handler: HandlerId) -> None:
        text = f"no {name_of_handler(handler)} is installed in {destination}: was it removed, or never added?"
        super().__init__(text, destination, request)
        self.handler = handler


class HandlerFailed(CallFailed):
    """The handler failed in what was asked of it, and is not installed (any more); `reason` is why."""

    def __init__(self, destination: object, request: object, handler: HandlerId, reason: object) -> None:
        text = f"{name_of_handler(handler)} in {destination} failed: {shown(reason)}; it is not installed now"
        super().__init__(text, destination, request)
        self.handler = handler
        self.reason = reason
        if isinstance(reason, Crash):
            self.__cause__ = reason.error


# -- handlers -----------------------------------------------------------------------------------------


class EventHandler:
    """The base of a handler. Override the callbacks you need; see the module for an example.

    `handle_event` and `handle_info` return None, `Remove()`, `Swap(...)` or `Failed(why)`. HIBERNATE is as good
    as None (N26).
    """

    def init(self, argument: Any) -> Any:
        """Runs first, with the argument of `add_handler`, or in a swap with an `Inherited(argument, result)`.

        Returns: None; `Failed(why)` not to be installed.
        """
        return None

    def handle_event(self, event: Any) -> Any:
        """Runs for each event of `notify` and `sync_notify`."""
        raise NotImplementedError(f"{type(self).__qualname__} got the event {event!r} but has no handle_event")

    def handle_call(self, request: Any) -> Any:
        """Runs for each `call_handler`. Returns the reply, or Remove or Swap with a reply, or Failed."""
        raise NotImplementedError(f"{type(self).__qualname__} was called with {request!r} but has no handle_call")

    def handle_info(self, message: Any) -> Any:
        """Runs for every other message of the manager: plain sends, Exit, Down, timers."""
        logger.warning("%s got %s and has no handle_info for it", type(self).__qualname__, redacted(self, message))

    def terminate(self, reason: Any) -> Any:
        """Runs before the handler goes: Removed, Stopped, ClientExited, Failed, or what a delete or swap gave.

        What it returns is the result of `delete_handler`, and goes to the new handler's `init` in a swap.
        """
        return None

    def state(self) -> object:
        """The state as `sys.get_state` shows it: by default the instance's public attributes."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def replace_state(self, state: Any) -> Any:
        """Take on a state of the form in which `state` shows it (Y5). Override the two together.

        Look at all of `state` before changing anything.
        """
        mine = type(self)
        if mine.state is not EventHandler.state:
            raise Misuse(f"{mine.__qualname__} shows a state of its own making: override replace_state as well")
        if not isinstance(state, dict) or not all(type(n) is str and n.isidentifier() and n[0] != "_" for n in state):
            raise Misuse(f"the state of a {mine.__qualname__} is a dict of its public attributes, got {state!r}")
        hidden = {name: value for name, value in vars(self).items() if name.startswith("_")}
        vars(self).clear()
        vars(self).update(hidden, **state)

    def code_change(self, old_vsn: Any, state: Any, extra: Any) -> Any:
        """Runs in the newly loaded class when a suspended manager's handler takes it on (Y6). Must not wait.

        Args: as of a server's: `old_vsn` and `extra` come from `sys.change_code`, `state` is what the old class
            showed.

        Returns: the new state, as `replace_state` takes it; None if `self` is as it should be. What it raises
            undoes the change, of all handlers.
        """
        raise NotImplementedError(f"{type(self).__qualname__} has no code_change")

    def format_status(self, value: object) -> object:
        """Hide what must not be seen of a message in logs (N29). By default it is shown as it is."""
        return value


@final
@dataclass(frozen=True, slots=True)
class HandlerState:
    """One handler of a manager, as `sys.get_state` lists it, and `sys.replace_state` asks for it."""

    handler: HandlerId
    state: object


def check_handler(handler: object) -> HandlerId:
    """The id itself; raises Misuse if it is none."""
    found = handler[0] if isinstance(handler, tuple) and len(handler) == 2 else handler
    if not (isinstance(found, type) and issubclass(found, EventHandler)):
        raise Misuse(f"a handler is an EventHandler class, or (class, id), got {shown(handler)}")
    try:
        hash(handler)  # what can be hashed can be compared: the manager does so, and must not fail over it
    except TypeError:
        raise Misuse(
            f"a handler is an EventHandler class, or (class, id) with a hashable id, got {shown(handler)}"
        ) from None
    return handler  # type: ignore[return-value]  # looked at above, deeper than mypy follows


def name_of_handler(handler: HandlerId) -> str:
    """A handler's id as a person reads it."""
    return f"({handler[0].__qualname__}, {shown(handler[1])})" if isinstance(handler, tuple) else handler.__qualname__
