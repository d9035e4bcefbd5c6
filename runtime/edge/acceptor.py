"""The gateway's open door: a process that listens, and hands each stream that connects to a starter.

It listens before its start is over, so that an address that is taken, or refused, fails the start. Where it
listens is told under the name `gateway` among the node's services, for whoever has to show or find it. If it
crashes, it opens the same port again.

Source: ranch's acceptors; OTP's `gen_tcp:controlling_process` is the hand-over.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from typing import Any, ClassVar, final

import trio

from ..behaviours.gen import Ack, Behaviour
from ..behaviours.system import serve_until_told
from ..errors import Misuse
from ..kernel.exits import is_orderly
from ..kernel.process import Body, Process
from ..kernel.table import ProcessTable
from ..kernel.world import Listener

SERVICE = "gateway"

logger = logging.getLogger("banyan")

# The system has run out of something that others will give back.
_SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
_PAUSE = 0.1

Starter = Callable[[trio.abc.Stream], Awaitable[object]]


class NotLoopback(Misuse):
    """A gateway was to listen beyond this machine without being told that it may; `address` is where."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"wanted a loopback address to listen on, got {address!r}: the gateway speaks without TLS, so "
            "others could read tokens and cards on the way. Listen on 127.0.0.1, behind a proxy that does "
            "TLS; or say that it may be remote, if the network is yours"
        )
        self.address = address


def check_address(address: str, *, remote: bool) -> str:
    """The address, if a gateway may listen on it.

    Args:
        address: `host:port`, or `unix:PATH`, which is local by nature. A host that is a name other than
            localhost counts as remote, whatever it resolves to.
        remote: whether addresses beyond this machine are allowed.

    Raises:
        Misuse: it is no such address.
        NotLoopback: it is beyond this machine and `remote` is not set.
    """
    if address.startswith("unix:"):
        return address
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise Misuse(f"wanted an address like 127.0.0.1:4000, got {address!r}")
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if not local and not remote:
        raise NotLoopback(address)
    return address


def address_of(table: ProcessTable) -> str | None:
    """Where the node's gateway listens; None if it has none."""
    found = table.services.get(SERVICE)
    return found if isinstance(found, str) else None


@final
class Acceptor(Behaviour):
    """Listens at an address and calls `starter(stream)` for each stream, one after the other.

    Child spec: `child("acceptor", Acceptor, "127.0.0.1:0", False, starter)`. The starter owns the stream from
    the moment it returns; what it raises closes the stream and ends the acceptor.

    Args:
        address: see `check_address`; port 0 takes a free one.
        remote: see `check_address`.
        starter: gives the stream to a process of its own.
    """

    trap_exit: ClassVar[bool] = True
    _behaviour_scoped: ClassVar[bool] = True

    def __init__(self, address: str, remote: bool, starter: Starter) -> None:
        self.address = check_address(address, remote=remote)
        self.accepted = 0
        self._starter = starter

    def state(self) -> object:
        return {"address": self.address, "accepted": self.accepted}

    def summary(self) -> str:
        return f"{self.address}, {self.accepted} accepted"

    @classmethod
    def _behaviour_begin(cls, process: Process, ack: Ack, args: tuple[Any, ...]) -> tuple[Body, object] | None:
        process.behaviour = acceptor = cls(*args)
        return acceptor._live, ack

    async def _live(self, process: Process, ack: Ack) -> object:
        table = process.table
        async with AsyncExitStack() as stack:
            listener = await _listen(table, self.address, stack)
            table.services[SERVICE] = self.address = listener.address
            ack.ok()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._accept, listener, name="accept")
                reason = await serve_until_told(process, self)
                nursery.cancel_scope.cancel()
        if is_orderly(reason):  # otherwise the successor looks the address up
            table.services.pop(SERVICE, None)
        return reason

    async def _accept(self, listener: Listener) -> None:
        while True:
            try:
                async with aclosing(listener.connections()) as connections:  # type: ignore[type-var]  # the port promises less than the generator is
                    async for stream in connections:
                        self.accepted += 1
                        try:
                            await self._starter(stream)
                        except BaseException:
                            await trio.aclose_forcefully(stream)
                            raise
            except OSError as error:
                if error.errno not in _SCARCE:
                    raise
                logger.warning("the gateway at %s cannot accept for now: %s", self.address, error)
                await trio.sleep(_PAUSE)


async def _listen(table: ProcessTable, address: str, stack: AsyncExitStack) -> Listener:
    transport = table.world.transport
    before = address_of(table)
    if before is not None and address.endswith(":0"):
        try:
            return await stack.enter_async_context(transport.listen(before))
        except OSError:
            pass  # somebody else has it by now: take another
    return await stack.enter_async_context(transport.listen(address))
