"""Servers whose callbacks do as they are told, once with plain and once with waiting callbacks.

Every request, cast, info and continue term is a function of the server; what it returns is what the callback
returns. So one test says what holds of both kinds, which take different ways through the runtime.
"""

from __future__ import annotations

from typing import Any

import trio

from runtime import GenServer


class Plain(GenServer):
    """All callbacks are plain functions. `log` is whatever list the test passed to `init`."""

    def init(self, first: Any = None, log: Any = None) -> Any:
        self.log = log if log is not None else []
        return first(self) if callable(first) else first

    def handle_call(self, request: Any, caller: Any) -> Any:
        return request(self, caller) if callable(request) else request

    def handle_cast(self, request: Any) -> Any:
        return self._do(request, "cast")

    def handle_info(self, message: Any) -> Any:
        return self._do(message, "info")

    def handle_continue(self, term: Any) -> Any:
        return self._do(term, "continue")

    def terminate(self, reason: object) -> Any:
        self.log.append(("terminate", reason))

    def _do(self, what: Any, where: str) -> Any:
        if callable(what):
            return what(self)
        self.log.append((where, what))
        return None


class Waits(Plain):
    """The same; each callback waits for a moment first."""

    async def init(self, first: Any = None, log: Any = None) -> Any:
        await trio.lowlevel.checkpoint()
        return super().init(first, log)

    async def handle_call(self, request: Any, caller: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return super().handle_call(request, caller)

    async def handle_cast(self, request: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return super().handle_cast(request)

    async def handle_info(self, message: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return super().handle_info(message)

    async def handle_continue(self, term: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return super().handle_continue(term)

    async def terminate(self, reason: object) -> Any:
        await trio.lowlevel.checkpoint()
        super().terminate(reason)


class PlainTrapping(Plain):
    trap_exit = True


class WaitsTrapping(Waits):
    trap_exit = True


KINDS = [Plain, Waits]
TRAPPING = [PlainTrapping, WaitsTrapping]
