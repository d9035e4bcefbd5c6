"""The door at which Prometheus reads a node's figures: as much HTTP as a scrape takes.

    child("metrics.server", MetricsServer, "127.0.0.1:9464", exposition)

One request for each connection, `GET /metrics` (or HEAD); anything else is told so and cut off. It is a process
under the node's supervision: what happens on a connection ends that connection only. It ends with Crash(OSError)
if it cannot listen, and is up as soon as it does. There is no password and no TLS: see docs/admin.md.

Source: RFC 9112, of which a scraper needs little; node_exporter.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Protocol, final

import trio

from ..behaviours.gen import Ack, Behaviour
from ..kernel.process import Body, Process
from ..kernel.table import ProcessTable
from .listening import accept, serve_only_system

logger = logging.getLogger("banyan")

# Under this name a node's services say where it listens.
SERVICE = "metrics"
# Connections at a time, bytes of a request's head, and seconds for a whole scrape.
MOST = 8
HEAD_LIMIT = 8192
PATIENCE = 10.0


class Told(Protocol):
    """What a scraper gets: see `metrics.Exposition`."""

    content_type: str

    async def text(self) -> bytes: ...

    def watching(self) -> AbstractContextManager[None]: ...


@final
class MetricsServer(Behaviour):
    """Serves the figures of its node at one address.

    Args:
        address: `host:port`; port 0 takes a free one.
        told: makes what is told, for a table of processes.
    """

    _behaviour_scoped: ClassVar[bool] = True

    def __init__(self, address: str, told: Callable[[ProcessTable], Told], process: Process) -> None:
        self.address = address
        self.scrapes = 0
        self._told = told(process.table)
        self._process = process
        self._open = 0

    def state(self) -> object:
        return {"address": self.address, "scrapes": self.scrapes}

    def summary(self) -> str:
        return f"{self.address}, {self.scrapes} scrapes"

    @classmethod
    def _behaviour_begin(cls, process: Process, ack: Ack, args: tuple[Any, ...]) -> tuple[Body, object]:
        address, told = args
        process.behaviour = server = cls(address, told, process)
        return server._live, ack

    async def _live(self, process: Process, ack: object) -> object:
        assert isinstance(ack, Ack)
        services = process.table.services
        async with process.table.world.transport.listen(self.address) as listener:
            services[SERVICE] = self.address = listener.address
            with self._told.watching():
                async with trio.open_nursery() as nursery:

                    async def took(stream: trio.abc.Stream) -> None:
                        self._open += 1
                        nursery.start_soon(self._connection, stream, name="metrics connection")

                    nursery.start_soon(accept, listener, took, "metrics server", name="metrics accept")
                    ack.ok()
                    try:
                        return await serve_only_system(process, self, "a metrics server is asked by HTTP")
                    finally:
                        nursery.cancel_scope.cancel()
        raise AssertionError("unreachable")

    async def _connection(self, stream: trio.abc.Stream) -> None:
        try:
            with trio.move_on_after(PATIENCE):
                await stream.send_all(await self._answer(stream))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # it left by itself
        except Exception:  # our own mistake in looking: it costs this scrape, which the scraper counts as down
            logger.warning("a scrape failed", exc_info=True)
        finally:
            self._open -= 1
            await trio.aclose_forcefully(stream)

    async def _answer(self, stream: trio.abc.Stream) -> bytes:
        if self._open > MOST:
            return self._refusal("503 Service Unavailable", "others are being told: try again in a moment")
        head = b""
        while b"\r\n\r\n" not in head and b"\n\n" not in head:
            if len(head) > HEAD_LIMIT:
                return self._refusal("431 Request Header Fields Too Large", "the request is too long")
            data = await stream.receive_some(4096)
            if not data:
                return b""
            head += data
        method, _, rest = head.split(b"\n", 1)[0].decode("latin-1").strip().partition(" ")
        path, _, version = rest.partition(" ")
        if not version.startswith("HTTP/1."):
            return self._refusal("400 Bad Request", "this is no HTTP/1 request")
        if method not in ("GET", "HEAD"):
            return self._refusal("405 Method Not Allowed", "there is only GET", "Allow: GET, HEAD\r\n")
        if path.partition("?")[0] != "/metrics":
            return self._refusal("404 Not Found", "there is only /metrics")
        text = await self._told.text()
        self.scrapes += 1
        return _reply("200 OK", self._told.content_type, text, method == "HEAD")

    def _refusal(self, status: str, why: str, more: str = "") -> bytes:
        self._process.table.counts.refused["scrape", status[:3]] += 1
        return _reply(status, "text/plain; charset=utf-8", f"{why}\n".encode(), more=more)


def _reply(status: str, kind: str, body: bytes, without_body: bool = False, more: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{more}\r\n"
    )
    return head.encode() + (b"" if without_body else body)
