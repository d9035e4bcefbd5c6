"""The admin server: a node's door for the commands, the REPL and all other skins.

It listens on a unix socket that only its owner can reach, checks who connects, and answers requests of
`protocol`. It is a process under the node's supervision: whatever happens on a connection ends that
connection only, and what ends the server brings up a new one.

    child("admin.server", AdminServer, Door("unix:/run/user/1000/banyan/room-1.sock", root, facts))

It ends with Crash(OSError) if it cannot listen. It is up as soon as it listens. Do not offer it to anybody
but the node's operator: the level `act` may end every process.

Source: OTP's `remsh`, without its trust in whoever knows a cookie.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, final

import trio

from ..behaviours.gen import Ack, Behaviour
from ..kernel.process import Body, Process
from . import protocol
from .backdoor import back_door
from .connection import Connection
from .door import Door
from .listening import accept, serve_only_system
from .protocol import Code, Refusal
from .recorder import recorder_of
from .repl import routed_stdout

logger = logging.getLogger("banyan")


@final
class AdminServer(Behaviour):
    """Serves one `Door`."""

    _behaviour_scoped: ClassVar[bool] = True

    def __init__(self, door: Door, process: Process) -> None:
        self._door = door
        self._process = process
        self.connections = 0
        self.served = 0

    def state(self) -> object:
        return {
            "address": self._door.address,
            "level": self._door.level.describe(),
            "connections": self.connections,
            "served": self.served,
        }

    @classmethod
    def _behaviour_begin(cls, process: Process, ack: Ack, args: tuple[Any, ...]) -> tuple[Body, object]:
        (door,) = args
        process.behaviour = server = cls(door, process)
        recorder_of(process.table)  # from now on crashes are kept, also while this server is being restarted
        return server._live, ack

    async def _live(self, process: Process, ack: object) -> object:
        assert isinstance(ack, Ack)
        door = self._door
        async with process.table.world.transport.listen(door.address) as listener:
            with routed_stdout() if door.allow_eval else contextlib.nullcontext(), back_door(process.table, door):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(accept, listener, self._took(nursery), "admin server", name="admin accept")
                    ack.ok()
                    try:
                        return await serve_only_system(process, self, "an admin server is asked over its socket")
                    finally:
                        nursery.cancel_scope.cancel()
        raise AssertionError("unreachable")

    def _took(self, nursery: trio.Nursery) -> Callable[[trio.abc.Stream], Awaitable[None]]:
        async def took(stream: trio.abc.Stream) -> None:
            if self.connections >= self._door.limit:
                await self._turn_away(stream)
                return
            self.connections += 1
            nursery.start_soon(self._connection, stream, name="admin connection")

        return took

    async def _connection(self, stream: trio.abc.Stream) -> None:
        try:
            await self._talk(stream)
        except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as gone:
            logger.debug("an admin connection broke: %r", gone.exceptions[0])
        except* Exception as errors:  # the edge to foreign clients: a connection's failure is its own
            logger.warning("an admin connection failed", exc_info=errors)
        finally:
            self.connections -= 1
            self.served += 1
            await trio.aclose_forcefully(stream)

    async def _talk(self, stream: trio.abc.Stream) -> None:
        try:
            peer = self._door.admit(stream)
        except Refusal as refusal:
            logger.warning("an admin connection was refused: %s", refusal)
            await _say(stream, refusal)
            return
        await Connection(stream, peer, self._door, self._process).serve()

    async def _turn_away(self, stream: trio.abc.Stream) -> None:
        self._process.table.counts.refused["admin connection", "no_room"] += 1
        refusal = Refusal(
            "this node takes no more admin connections now",
            f"{self._door.limit} are open",
            "close one of them, or try again later",
            Code.REFUSED,
        )
        try:
            await _say(stream, refusal)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # it left by itself
        finally:
            await trio.aclose_forcefully(stream)


async def _say(stream: trio.abc.Stream, refusal: Refusal) -> None:
    """Say why, for at most a second: whoever just came has room for one line."""
    with trio.move_on_after(1.0):
        await stream.send_all(protocol.encode_error(None, refusal))
