"""The real World's heart: one thread that sends and takes the heartbeats of all links, whatever the loop does.

It owns its sockets: a stream that is handed over gives up its descriptor. It never waits for anybody, and asks the
loop for nothing but the time. A beat that the network does not take at once is left out: the other side has not read
the ones before it.
"""

from __future__ import annotations

import os
import selectors
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, final

import trio

from runtime.errors import BanyanError, Misuse
from runtime.kernel.world import Carrier, Heart

# Bytes that are read at once; a beat has a few dozen.
_PIECE: Final = 4096


@asynccontextmanager
async def beating(seconds: float) -> AsyncIterator[Heart]:
    """A heart that beats every so many seconds while the block runs; its thread starts with the first stream."""
    heart = ThreadHeart(seconds, trio.lowlevel.current_clock().current_time)
    try:
        yield heart
    finally:
        heart.stop()


@final
class ThreadHeart:
    """See `runtime.kernel.world.Heart`. `carry`, `drop` and `stop` belong to the loop, the rest to the thread."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        # What the loop asks for: a socket to carry, or None to drop the carrier's. A byte tells the thread of it,
        # which waits for sockets only.
        self._asked: list[tuple[Carrier, socket.socket | None]] = []
        self._lock = threading.Lock()
        self._near, self._far = socket.socketpair()
        self._near.setblocking(False)
        self._far.setblocking(False)
        self._sockets: dict[Carrier, socket.socket] = {}
        self._thread: threading.Thread | None = None
        self._over = False

    def carry(self, stream: trio.abc.Stream, carrier: Carrier) -> None:
        if not isinstance(stream, trio.SocketStream):
            raise Misuse(f"wanted a socket to carry heartbeats over, got {stream!r}: the real World has no other")
        # A number of its own, so that the loop can forget the stream without ending the connection.
        mine = socket.socket(fileno=os.dup(stream.socket.fileno()))
        stream.socket.close()
        self._ask(carrier, mine)
        if self._thread is None:
            # A daemon, as the watchman: it holds nothing, and must not hold up the end of the program.
            self._thread = threading.Thread(target=self._live, name="banyan heart", daemon=True)
            self._thread.start()

    def drop(self, carrier: Carrier) -> None:
        self._ask(carrier, None)

    def stop(self) -> None:
        """End the thread and all its connections."""
        self._over = True
        if self._thread is None:
            self._close()
        else:
            self._ring()

    # -- the thread's --------------------------------------------------------------------------------

    def _live(self) -> None:
        self._selector.register(self._far, selectors.EVENT_READ)
        due = self._clock() + self._seconds
        while not self._over:
            ready = self._selector.select(max(0.0, due - self._clock()))
            for key, _ in ready:
                if key.data is not None:
                    self._hear(key.data)
            self._obey()
            now = self._clock()
            if now >= due:
                due = max(due + self._seconds, now)
                for carrier in list(self._sockets):
                    self._beat(carrier, now)
        self._close()

    def _obey(self) -> None:
        try:
            self._far.recv(_PIECE)
        except BlockingIOError:
            return
        for carrier, mine in self._take():
            if mine is None:
                self._remove(carrier)
            else:
                self._add(carrier, mine)

    def _add(self, carrier: Carrier, mine: socket.socket) -> None:
        mine.setblocking(False)
        self._sockets[carrier] = mine
        self._selector.register(mine, selectors.EVENT_READ, carrier)
        self._beat(carrier, self._clock())

    def _remove(self, carrier: Carrier) -> None:
        mine = self._sockets.pop(carrier, None)
        if mine is not None:
            self._selector.unregister(mine)
            mine.close()

    def _lose(self, carrier: Carrier, why: str) -> None:
        if carrier in self._sockets:
            self._remove(carrier)
            carrier.lost(why)

    def _beat(self, carrier: Carrier, now: float) -> None:
        data = carrier.beat(now)
        try:
            if self._sockets[carrier].send(data) != len(data):
                self._lose(carrier, "half a beat was taken")
        except BlockingIOError:
            pass  # see the module
        except OSError as error:
            self._lose(carrier, str(error))

    def _hear(self, carrier: Carrier) -> None:
        try:
            data = self._sockets[carrier].recv(_PIECE)
            if data:
                carrier.heard(data)
            else:
                self._lose(carrier, "the other side ended it")
        except BlockingIOError:
            pass
        except (OSError, BanyanError) as error:
            self._lose(carrier, str(error))

    # -- both's --------------------------------------------------------------------------------------

    def _ask(self, carrier: Carrier, mine: socket.socket | None) -> None:
        with self._lock:
            self._asked.append((carrier, mine))
        self._ring()

    def _take(self) -> list[tuple[Carrier, socket.socket | None]]:
        with self._lock:
            asked, self._asked = self._asked, []
            return asked

    def _ring(self) -> None:
        try:
            self._near.send(b"!")
        except OSError:
            pass  # it rings already, or the thread is gone

    def _close(self) -> None:
        for mine in (*self._sockets.values(), *(mine for _, mine in self._take())):
            if mine is not None:
                mine.close()
        self._sockets.clear()
        self._selector.close()
        self._near.close()
        self._far.close()
