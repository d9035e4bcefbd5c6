"""One client's WebSocket: frames in, a bounded queue of frames out, and an end with a reason.

`serve` speaks WebSocket over a stream that somebody else has accepted and closes it at its end. Around it
everything is bounded: the time of the opening handshake, the size of a frame, the frames that wait to be
written, the time that a pong may take, and the time that a goodbye may take. Whatever the other side does,
resets included, ends in a return of `serve`, never in an exception.

    async def talk(wire):
        while True:
            await wire.reply(answer_to(await wire.next()))

    await serve(stream, Bounds(), talk)

A cut never interrupts a frame that is being written: the writer finishes it, drops what waits behind it,
writes the bye and the close frame. If that takes longer than `close_seconds`, as it does when the client has
stopped reading, the stream is closed without more words.

Compression is off: it costs 300 KiB a connection, and lets a small frame become a large one.
Source: `websockets.trio`, RFC 6455; its server accepts connections by itself and keeps their tasks in its own
nursery, so only its connection is used here, and the tasks stay in the process that serves the client.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, final

import trio
from websockets.exceptions import ConnectionClosed
from websockets.frames import DATA_OPCODES, Frame
from websockets.protocol import Event, State
from websockets.server import ServerProtocol
from websockets.trio.server import Server, ServerConnection

from . import frames
from .frames import Cause
from .limits import TokenBucket

LOCAL_ORIGIN = re.compile(r"https?://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?")


@final
@dataclass(frozen=True, slots=True)
class Bounds:
    """What one connection may cost.

    Attributes:
        max_frame: bytes of a client's frame; more ends the connection with code 1009.
        queue: frames that may wait to be written, a third of them answers.
        open_seconds: for the opening handshake.
        login_seconds: until a login has been accepted.
        ping_seconds: between two pings.
        pong_seconds: for a pong, for a frame to be written, for an answer to find room in the queue.
        close_seconds: for the goodbye.
        rate, burst: a client's frames a second, and at once; more are refused, and more pings end it.
        strikes, strikes_rate: how many refused frames are forgiven at once, and a second.
        origins: the web pages that may connect, as patterns of their origin; clients that are no browser
            send none and are not asked. Pages of this machine by default.
    """

    max_frame: int = 64 * 1024
    queue: int = 96
    open_seconds: float = 10.0
    login_seconds: float = 10.0
    ping_seconds: float = 20.0
    pong_seconds: float = 20.0
    close_seconds: float = 2.0
    rate: float = 50.0
    burst: float = 100.0
    strikes: float = 8.0
    strikes_rate: float = 0.2
    origins: tuple[re.Pattern[str], ...] = (LOCAL_ORIGIN,)


class _Discreet(logging.LoggerAdapter[logging.Logger]):
    """The library's log without its lower levels, which print whole frames, and so tokens and cards."""

    def isEnabledFor(self, level: int) -> bool:
        return level >= logging.ERROR and super().isEnabledFor(level)


_logger = _Discreet(logging.getLogger("banyan.edge"), {})


@final
class _Socket(ServerConnection):
    """The library's connection, which answers pings by itself; we want to know how many."""

    on_control: Callable[[], None] | None = None

    def process_event(self, event: Event) -> None:
        try:
            super().process_event(event)
        except EOFError:
            return  # it was closed while this was on its way; the library would log an internal error
        if self.on_control is not None and isinstance(event, Frame) and event.opcode not in DATA_OPCODES:
            self.on_control()


_Kind = Literal["counted", "reply", "control"]


class Gone(Exception):
    """The connection has ended; raised to whoever waits for its next frame."""


@final
class Wire:
    """A client's open WebSocket. Made by `serve`.

    Args:
        socket: the library's connection.
        bounds: what it may cost.
        nursery: where its tasks live.
        written: called with how many of the frames of `put` have been written, in all; not for each one,
            but at the latest when a quarter of the queue or the last of it has been written.
    """

    def __init__(
        self,
        socket: _Socket,
        bounds: Bounds,
        nursery: trio.Nursery,
        written: Callable[[int], None],
    ) -> None:
        self.bounds = bounds
        self.nursery = nursery
        # Why we ended it; None while it lives, or if the other side ended it.
        self.cause: Cause | None = None
        self._socket = socket
        self._report = written
        # Invariant: at most `bounds.queue` frames, of which `_replies` are answers.
        self._queue: deque[tuple[bytes, _Kind]] = deque()
        self._replies = 0
        self._news = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()
        self._written = self._reported = 0
        self._pings = 0
        # Since when the frame in hand is being written; None while there is none.
        self._writing: float | None = None
        self._listening = False
        self._control = TokenBucket(bounds.rate, bounds.burst, trio.current_time())
        socket.on_control = self._controlled

    def __repr__(self) -> str:
        return f"<Wire {len(self._queue)} waiting>"

    async def next(self) -> str:
        """Wait for the client's next frame. Raises Gone when there will be none."""
        if self.cause is not None:
            raise Gone
        self._listening = True
        try:
            data = await self._socket.recv()
        except ConnectionClosed:
            raise Gone from None
        finally:
            self._listening = False
        if isinstance(data, bytes):
            self.end(frames.BINARY)
        if self.cause is not None:
            raise Gone
        return data  # type: ignore[return-value]  # the one other type has ended it above

    def put(self, frame: bytes, *, counted: bool = False) -> None:
        """Queue a frame. Whoever puts bounds what waits: a queue that is full nevertheless is `slow`."""
        self._put(frame, "counted" if counted else "control")

    async def reply(self, frame: bytes) -> None:
        """Queue the answer to a frame, once there is room: a client is asked no faster than it reads.

        No room within `pong_seconds` is `slow`.
        """
        with trio.move_on_after(self.bounds.pong_seconds) as patience:
            while self._replies * 3 >= self.bounds.queue and self.cause is None:
                await self._room.park()
        if patience.cancelled_caught:
            self.end(frames.SLOW)
        else:
            self._put(frame, "reply")

    def _put(self, frame: bytes, kind: _Kind) -> None:
        if self.cause is not None:
            return
        if len(self._queue) >= self.bounds.queue:
            self.end(frames.SLOW)
            return
        self._queue.append((frame, kind))
        self._replies += kind == "reply"
        self._news.unpark()

    def _controlled(self) -> None:
        if not self._control.take(trio.current_time()):
            self.end(frames.FLOOD)

    def end(self, cause: Cause) -> None:
        """Say goodbye and close. The first cause counts; never waits."""
        if self.cause is not None:
            return
        self.cause = cause
        self._queue.clear()
        self._news.unpark_all()
        self._room.unpark_all()
        self.nursery.start_soon(self._last_resort)

    async def _last_resort(self) -> None:
        await trio.sleep(self.bounds.close_seconds)
        await trio.aclose_forcefully(self._socket.stream)
        self.nursery.cancel_scope.cancel()

    async def write(self) -> None:
        """Write what is queued, for ever: a task."""
        try:
            while self.cause is None:
                if not self._queue:
                    await self._news.park()
                    continue
                frame, kind = self._queue.popleft()
                self._writing = trio.current_time()
                await self._socket.send(frame, text=True)
                self._writing = None
                if kind == "counted":
                    self._written += 1
                elif kind == "reply":
                    self._replies -= 1
                    self._room.unpark()
                waiting = self._written - self._reported
                if waiting and (not self._queue or waiting * 4 >= self.bounds.queue):
                    self._reported = self._written
                    self._report(self._written)
            await self._socket.send(frames.bye(self.cause), text=True)
            await self._socket.aclose(self.cause.code, self.cause.text)
        except ConnectionClosed:
            pass  # `watch` sees it too

    async def ping(self) -> None:
        """Ask the client from time to time whether it is there, for ever: a task."""
        while True:
            await trio.sleep(self.bounds.ping_seconds)
            self._pings += 1
            with trio.move_on_after(self.bounds.pong_seconds) as patience:
                try:
                    # The payload is ours, because the library would draw one from the global `random`.
                    await (await self._socket.ping(str(self._pings), ack_on_close=True)).wait()
                except ConnectionClosed:
                    return
            # While we are busy with its last frame we do not read, so a pong may be waiting unread.
            if patience.cancelled_caught and self._listening:
                self.end(frames.SILENT)
                return

    async def hurry(self) -> None:
        """End a connection that takes too long over one frame, for ever: a task.

        While a frame is stuck the library may wait behind it with what it has read, so nothing else would
        notice soon.
        """
        while True:
            await trio.sleep(self.bounds.pong_seconds / 4)
            since = self._writing
            if since is not None and trio.current_time() - since > self.bounds.pong_seconds:
                self.end(frames.SLOW)
                return

    async def watch(self) -> None:
        """Stop everything when the connection has ended, whoever ended it: a task."""
        await self._socket.wait_closed()
        self.nursery.cancel_scope.cancel()


Talk = Callable[[Wire], Awaitable[object]]


async def serve(
    stream: trio.abc.Stream,
    bounds: Bounds,
    talk: Talk,
    *,
    written: Callable[[int], None] = lambda _total: None,
) -> Cause | None:
    """Speak WebSocket over `stream` until the connection has ended; the stream is closed then.

    Args:
        talk: run in the caller's task with the open `Wire`, and cancelled when the connection ends. If it
            returns, the connection is closed normally; what it raises goes on to the caller.
        written: see `Wire`.

    Returns: why the connection was ended from here; None if it was not.
    """
    wire: Wire | None = None
    try:
        async with trio.open_nursery() as nursery:
            socket = _socket(nursery, stream, bounds)
            with trio.move_on_after(bounds.open_seconds):
                try:
                    await socket.handshake(server_header=None)
                except ConnectionClosed:
                    pass  # it is not open then
            if socket.state is State.OPEN:
                wire = Wire(socket, bounds, nursery, written)
                for task in (wire.write, wire.hurry, wire.ping, wire.watch):
                    nursery.start_soon(task)
                await talk(wire)
                await socket.aclose()
            nursery.cancel_scope.cancel()
    finally:
        # Closes at once, without waiting for anybody, so it may stand in a `finally`.
        await trio.aclose_forcefully(stream)
    return wire.cause if wire is not None else None


def _socket(nursery: trio.Nursery, stream: trio.abc.Stream, bounds: Bounds) -> _Socket:
    protocol = ServerProtocol(origins=[None, *bounds.origins], max_size=bounds.max_frame, logger=_logger)
    # The library asks its server only whether it is closing.
    server = Server([], _never)
    return _Socket(
        nursery,
        stream,
        protocol,
        server,
        ping_interval=None,
        ping_timeout=None,
        close_timeout=bounds.close_seconds,
        max_queue=4,
    )


async def _never(_stream: Any) -> NoReturn:
    raise AssertionError("this server accepts nobody: streams are accepted by runtime.edge.acceptor")
