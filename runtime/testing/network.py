"""A network in memory: byte streams between named hosts, with seeded delays, short reads, cuts and resets.

One `Network` joins the Worlds of all nodes of a run. A host's `transport` listens and connects as the World's
does. What a stream promises is what TCP does: bytes arrive in order and once, or the stream breaks. So a cut
loses nothing: it holds back, for as long as it lasts, all that is on its way in that direction, as the peer's
retransmissions would; neither end is told. A reset breaks the streams that are open and no others.

Addresses are `host:port`. A loopback address or a `unix:PATH` belongs to the host that names it.

Not simulated: loss after a time-out of the kernel's own, half-open streams after a crash without a reset,
bandwidth. Source: TigerBeetle's packet simulator; FoundationDB's `Sim2`.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import final

import trio

from ..errors import Misuse
from ..kernel.world import Listener
from .scheduler import Trace

LOOPBACKS = ("127.0.0.1", "localhost", "[::1]", "0.0.0.0")
# As many bytes may be on their way in one direction of a stream.
WINDOW = 64 << 10
# So long does a connect try to get through a cut, in seconds.
CONNECT_PATIENCE = 10.0
BACKLOG = 64


@final
@dataclass(frozen=True, slots=True)
class Weather:
    """What the network is like: `delay`, least and most, in seconds; the chance of `short_reads`."""

    delay: tuple[float, float] = (0.0001, 0.005)
    short_reads: float = 0.3


@final
class Network:
    """All hosts of one run, and what lies between them.

    Args:
        rng: decides delays and short reads.
        trace: told of connects, resets, and bytes sent and received.
        weather: delays and short reads; may be replaced while it runs.
    """

    def __init__(self, rng: random.Random, trace: Trace, weather: Weather | None = None) -> None:
        self.random = rng
        self.trace = trace
        self.weather = weather if weather is not None else Weather()
        self._doors: dict[str, _Door] = {}
        self._links: dict[int, _Link] = {}
        self._cuts: dict[tuple[str, str], None] = {}
        self._changed = trio.Event()
        self._last_link = 0
        self._last_port = 49151

    def transport(self, host: str) -> HostTransport:
        """The transport of one host, for its World."""
        return HostTransport(self, host)

    # -- faults --------------------------------------------------------------------------------------

    def cut(self, source: str, target: str) -> None:
        """Hold back all that `source` sends to `target`, until it is healed; the other way stays open."""
        self.trace.note("cut", source, target)
        self._cuts[source, target] = None

    def heal(self, source: str | None = None, target: str | None = None) -> None:
        """End the cut of one direction; without arguments all cuts."""
        self.trace.note("heal", source or "", target or "")
        if source is None or target is None:
            self._cuts.clear()
        else:
            self._cuts.pop((source, target), None)
        self._stir()

    def reset(self, one: str, other: str) -> int:
        """Break every stream between two hosts, at both ends; returns how many there were."""
        return self._reset({one, other} if one != other else {one}, both=True)

    def crash(self, host: str) -> int:
        """End a host: its doors are shut, its streams reset; returns how many streams there were."""
        for door in [door for door in self._doors.values() if door.host == host]:
            self._shut(door)
        return self._reset({host}, both=False)

    def _reset(self, hosts: set[str], *, both: bool) -> int:
        struck = [
            link
            for link in self._links.values()
            if (hosts == {link.client, link.server} if both else hosts & {link.client, link.server})
        ]
        for link in struck:
            self.trace.note("reset", link.number)
            self._forget(link)
            link.outward.break_off()
            link.homeward.break_off()
        return len(struck)

    def _stir(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()
        for link in self._links.values():
            link.outward.stir()
            link.homeward.stir()

    # -- what transports ask -------------------------------------------------------------------------

    def is_cut(self, source: str, target: str) -> bool:
        """Whether what `source` sends to `target` is held back now."""
        return (source, target) in self._cuts

    def delay(self) -> float:
        """How long the next thing is under way, in seconds."""
        return self.random.uniform(*self.weather.delay)

    def _open(self, host: str, address: str) -> _Door:
        address = self._with_port(address)
        server, full = _full(host, address)
        if server != host:
            raise OSError(99, f"cannot listen at {address} on host {host}: no such address here")
        if full in self._doors:
            raise OSError(98, f"address already in use: {full}")
        door = self._doors[full] = _Door(host, address, full)
        self.trace.note("listen", full)
        return door

    def _with_port(self, address: str) -> str:
        if not address.endswith(":0"):
            return address
        self._last_port += 1
        return f"{address.removesuffix(':0')}:{self._last_port}"

    def _shut(self, door: _Door) -> None:
        if self._doors.get(door.full) is door:
            del self._doors[door.full]
            door.send.close()

    async def _connect(self, host: str, address: str) -> _End:
        server, full = _full(host, address)
        with trio.move_on_after(CONNECT_PATIENCE) as patience:
            await trio.sleep(self.delay())
            while self.is_cut(host, server) or self.is_cut(server, host):
                await self._changed.wait()
        if patience.cancelled_caught:
            raise TimeoutError(110, f"no answer from {full}: connection timed out")
        door = self._doors.get(full)
        if door is None:
            raise ConnectionRefusedError(111, f"nobody listens at {full}: connection refused")
        self._last_link += 1
        link = _Link(self, self._last_link, host, door.host)
        try:
            door.send.send_nowait(_End(link, link.homeward, link.outward))
        except trio.WouldBlock:
            raise ConnectionRefusedError(111, f"the backlog of {full} is full: connection refused") from None
        self._links[link.number] = link
        self.trace.note("connect", link.number, host, full)
        return _End(link, link.outward, link.homeward)

    def _forget(self, link: _Link) -> None:
        self._links.pop(link.number, None)


@final
class HostTransport:
    """The World's transport, seen from one host; see `runtime.kernel.world.Transport`."""

    def __init__(self, network: Network, host: str) -> None:
        if not host or ":" in host or "/" in host:
            raise Misuse(f"a host's name has no ':' and no '/', got {host!r}")
        self.network = network
        self.host = host

    @asynccontextmanager
    async def listen(self, address: str) -> AsyncIterator[Listener]:
        """Open a door; port 0 chooses one. Raises OSError if the address is taken."""
        door = self.network._open(self.host, address)
        try:
            yield _OpenDoor(self.network, door)
        finally:
            self.network._shut(door)

    async def connect(self, address: str) -> trio.abc.Stream:
        """Connect to a door; raises OSError: refused if nobody listens, timed out through a lasting cut."""
        return await self.network._connect(self.host, address)


def _full(host: str, address: str) -> tuple[str, str]:
    """Whose an address is, and the address as the whole network knows it."""
    if address.startswith("unix:"):
        return host, f"{host}/{address}"
    name, _, port = address.rpartition(":")
    if not name or not port.isdigit():
        raise Misuse(f"wanted an address like alpha:4000 or unix:/path, got {address!r}")
    server = host if name in LOOPBACKS else name
    return server, f"{server}:{port}"


@final
class _Door:
    """A listening address: `address` as its host gave it, `full` as the network knows it."""

    def __init__(self, host: str, address: str, full: str) -> None:
        self.host = host
        self.address = address
        self.full = full
        self.send, self.receive = trio.open_memory_channel["_End"](BACKLOG)


@final
class _OpenDoor:
    """See `runtime.kernel.world.Listener`."""

    def __init__(self, network: Network, door: _Door) -> None:
        self.address = door.address
        self._network = network
        self._door = door

    async def connections(self) -> AsyncIterator[trio.abc.Stream]:
        async for end in self._door.receive:
            yield end
        # Whoever asks again and again, of a host that has crashed, lets the others go on.
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        self._network._shut(self._door)
        await trio.lowlevel.checkpoint()


@final
class _Link:
    """One connection: a pipe each way."""

    def __init__(self, network: Network, number: int, client: str, server: str) -> None:
        self.network = network
        self.number = number
        self.client = client
        self.server = server
        self.outward = _Pipe(self, client, server)
        self.homeward = _Pipe(self, server, client)


@final
class _Pipe:
    """One direction of a connection: what was sent and is not received yet."""

    def __init__(self, link: _Link, source: str, target: str) -> None:
        self.link = link
        self.source = source
        self.target = target
        # (when it arrives, bytes); empty bytes are the end. Invariant: the times never fall.
        self.chunks: deque[tuple[float, bytes]] = deque()
        self.under_way = 0
        self.broken = False
        self.reader_gone = self.writer_gone = False
        self._last_due = 0.0
        self._changed = trio.Event()

    def stir(self) -> None:
        """Let all who wait look again."""
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    def break_off(self) -> None:
        """A reset: what is under way is lost, both ends find out at their next step."""
        self.broken = True
        self.chunks.clear()
        self.under_way = 0
        self.stir()

    def put(self, data: bytes) -> None:
        """Send on its way; empty bytes are the end."""
        self._last_due = max(self._last_due, trio.current_time() + self.link.network.delay())
        self.chunks.append((self._last_due, data))
        self.under_way += len(data)
        self.link.network.trace.note("sent", self.link.number, self.source, len(data))
        self.stir()

    def end(self) -> None:
        """Nothing more is sent: the reader finds the end after what is under way."""
        if self.broken:
            self.stir()
        else:
            self.put(b"")

    async def room(self) -> None:
        """Wait until something may be sent; raises BrokenResourceError if it cannot arrive."""
        while True:
            if self.writer_gone:
                raise _closed()
            if self.broken or self.reader_gone:
                raise trio.BrokenResourceError(f"the stream to {self.target} is broken: connect again")
            if self.under_way < WINDOW:
                return
            await self._changed.wait()

    async def take(self, most: int) -> bytes:
        """The next bytes that have arrived, at most `most`; b"" at the end."""
        while True:
            if self.reader_gone:
                raise _closed()
            if self.broken:
                raise trio.BrokenResourceError(f"the stream from {self.source} was reset: connect again")
            changed = self._changed
            if not self.chunks or self.link.network.is_cut(self.source, self.target):
                await changed.wait()
                continue
            due, data = self.chunks[0]
            if due <= trio.current_time():
                return self._taken(data, most)
            with trio.move_on_at(due):
                await changed.wait()

    def _taken(self, data: bytes, most: int) -> bytes:
        if not data:
            return b""  # the end stays where it is: who reads again finds it again
        network = self.link.network
        size = min(most, len(data))
        if size > 1 and network.random.random() < network.weather.short_reads:
            size = network.random.randint(1, size)
        due, _ = self.chunks.popleft()
        if size < len(data):
            self.chunks.appendleft((due, data[size:]))
        self.under_way -= size
        network.trace.note("received", self.link.number, self.target, size)
        self.stir()
        return data[:size]


def _closed() -> trio.ClosedResourceError:
    return trio.ClosedResourceError("this end of the stream was closed")


@final
class _End(trio.abc.Stream):
    """One end of a connection."""

    def __init__(self, link: _Link, out: _Pipe, into: _Pipe) -> None:
        self._link = link
        self._out = out
        self._into = into
        self._sending = self._receiving = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        self._sending = True
        try:
            await trio.lowlevel.checkpoint()
            left = bytes(data)
            await self._out.room()
            while left:
                await self._out.room()
                size = WINDOW - self._out.under_way
                self._out.put(left[:size])
                left = left[size:]
        finally:
            self._sending = False

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()
        try:
            await self._out.room()
        except trio.BrokenResourceError:
            return  # `send_all` would not block: it would raise

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if max_bytes is not None and max_bytes < 1:
            raise ValueError(f"wanted to receive 1 byte or more, got max_bytes={max_bytes}")
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving on this stream")
        self._receiving = True
        try:
            await trio.lowlevel.checkpoint()
            return await self._into.take(max_bytes if max_bytes is not None else WINDOW)
        finally:
            self._receiving = False

    async def aclose(self) -> None:
        if not self._out.writer_gone:
            self._out.writer_gone = self._into.reader_gone = True
            self._into.stir()
            self._out.end()
            if self._out.reader_gone:
                self._link.network._forget(self._link)
        await trio.lowlevel.checkpoint()
