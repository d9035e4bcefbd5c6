"""The seeded World's heart: each heartbeat's connection is two tasks, under the loop's own virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import final

import trio

from ..errors import BanyanError
from ..kernel.world import Carrier, Heart


@asynccontextmanager
async def beating(seconds: float) -> AsyncIterator[Heart]:
    """A heart that beats every so many seconds while the block runs."""
    async with trio.open_nursery() as nursery:
        yield _Heart(nursery, seconds)
        nursery.cancel_scope.cancel()


@final
class _Heart:
    """See `runtime.kernel.world.Heart`."""

    def __init__(self, nursery: trio.Nursery, seconds: float) -> None:
        self._nursery = nursery
        self._seconds = seconds
        self._scopes: dict[Carrier, trio.CancelScope] = {}

    def carry(self, stream: trio.abc.Stream, carrier: Carrier) -> None:
        scope = self._scopes[carrier] = trio.CancelScope()
        self._nursery.start_soon(self._live, stream, carrier, scope, name="heartbeat")

    def drop(self, carrier: Carrier) -> None:
        if carrier in self._scopes:
            self._scopes.pop(carrier).cancel()

    async def _live(self, stream: trio.abc.Stream, carrier: Carrier, scope: trio.CancelScope) -> None:
        why = "it was dropped"
        try:
            with scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._beat, stream, carrier, scope)
                    while data := await stream.receive_some():
                        carrier.heard(bytes(data))
                    why = "the other side ended it"
                    scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError, BanyanError) as errors:
            why = str(errors.exceptions[0])
        finally:
            await trio.aclose_forcefully(stream)
            if self._scopes.pop(carrier, None) is not None:
                carrier.lost(why)

    async def _beat(self, stream: trio.abc.Stream, carrier: Carrier, scope: trio.CancelScope) -> None:
        while True:
            await stream.send_all(carrier.beat(trio.current_time()))
            await trio.sleep(self._seconds)
