"""Event handlers that do as they are told, once with plain and once with waiting callbacks.

Each tells a log, a list of the test's, what it is asked. An `Act` is an event, message or request that the handler
named in it carries out: what its function returns is what the callback returns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import trio

from runtime import Crash, EventHandler, GenEvent, gen_event, start

ERROR = ValueError("on purpose")


@dataclass(frozen=True, slots=True)
class Given:
    """The argument of `init`: the handler's name, its log, and what its `init` and `terminate` do."""

    name: str
    log: list[Any] = field(default_factory=list)
    first: Callable[[Any], Any] = lambda _handler: None
    last: Callable[[Any], Any] = lambda handler: f"last word of {handler.name}"


@dataclass(frozen=True, slots=True)
class Act:
    """Something for the handler `name` to do; the others take no notice."""

    name: str
    function: Callable[[Any], Any]

    def __repr__(self) -> str:
        return "Act"


class Plain(EventHandler):
    """All callbacks are plain functions; `seen` counts what it was told."""

    def init(self, argument: Any) -> Any:
        inherited = isinstance(argument, gen_event.Inherited)
        self._given: Given = argument.argument if inherited else argument
        self.name, self.seen = self._given.name, 0
        self._tell("init", argument.result if inherited else None)
        return self._given.first(self)

    def handle_event(self, event: Any) -> Any:
        return self._do("event", event)

    def handle_info(self, message: Any) -> Any:
        return self._do("info", message)

    def handle_call(self, request: Any) -> Any:
        return self._do("call", request)

    def terminate(self, reason: Any) -> Any:
        self._tell("terminate", reason)
        return self._given.last(self)

    def _tell(self, kind: str, what: object) -> None:
        self._given.log.append((self.name, kind, what))

    def _do(self, kind: str, what: Any) -> Any:
        if isinstance(what, Act):
            return what.function(self) if what.name == self.name else None
        self._tell(kind, what)
        self.seen += 1
        return None


class Waits(Plain):
    """The same; each callback waits for a moment first."""

    async def init(self, argument: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return super().init(argument)

    async def handle_event(self, event: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return super().handle_event(event)

    async def handle_info(self, message: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return super().handle_info(message)

    async def handle_call(self, request: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return super().handle_call(request)

    async def terminate(self, reason: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return super().terminate(reason)


KINDS = [Plain, Waits]


def raises(*_args: object) -> Any:
    """What a handler does that crashes."""
    raise ERROR


def returns(value: object) -> Callable[[Any], Any]:
    """What a handler does that returns `value`."""
    return lambda _handler: value


async def manager_with(log, *names, kind=Plain):
    """A manager with handlers of these names, the first added first."""
    events = await start(GenEvent)
    for name in names:
        await gen_event.add_handler(events, (kind, name), Given(name, log))
    log.clear()
    return events


def ids(*names, kind=Plain):
    """The ids of handlers of these names."""
    return [(kind, name) for name in names]


def why_of(ending) -> object:
    """Why a handler failed, with the exception itself in the place of its Crash, whose identity says nothing."""
    assert isinstance(ending, gen_event.Failed)
    return ending.why.error if isinstance(ending.why, Crash) else ending.why
