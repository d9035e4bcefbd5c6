"""The composition root: the real World, and which backend stands behind each port.

The only place that knows everything; a simulation passes its own World to `Node` and nothing here runs.
"""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar, final

import trio

from runtime.backends import lmdb_backup, lmdb_check, lmdb_restore
from runtime.backends.coordination import LocalCoordination
from runtime.backends.coordination_lmdb import LmdbCoordination
from runtime.backends.lmdb import LmdbJournal
from runtime.backends.lmdb_backup import Backup
from runtime.backends.lmdb_check import Progress, Report
from runtime.backends.lmdb_restore import Restored
from runtime.backends.memory import MemoryJournal
from runtime.durable.journal import Journal
from runtime.errors import Misuse
from runtime.kernel.world import Coordination, Heart, Listener, Transport

from .heart import beating

T = TypeVar("T")

IN_MEMORY = ":memory:"


@final
class _SocketListener:
    """Sockets that listen; see `Listener`."""

    def __init__(self, address: str, listeners: list[trio.SocketListener]) -> None:
        self.address = address
        self._listeners = listeners

    async def connections(self) -> AsyncIterator[trio.abc.Stream]:
        (listener,) = self._listeners
        while True:
            yield await listener.accept()

    async def aclose(self) -> None:
        for listener in self._listeners:
            await listener.aclose()


@final
class SocketTransport:
    """Byte streams over TCP (`host:port`) and unix sockets (`unix:PATH`, mode 0600)."""

    @asynccontextmanager
    async def listen(self, address: str) -> AsyncIterator[Listener]:
        """Open a listener; a stale unix socket of a dead node is replaced."""
        if address.startswith("unix:"):
            path = Path(address.removeprefix("unix:"))
            listener = _listen_unix(path)
            door = _SocketListener(address, [listener])
            try:
                yield door
            finally:
                with trio.CancelScope(shield=True):
                    await door.aclose()
                path.unlink(missing_ok=True)  # noqa: ASYNC240  # one system call on a local name
            return
        host, port = _split(address)
        try:
            (listener, *others) = await trio.open_tcp_listeners(port, host=host)
        except OSError as error:
            raise OSError(error.errno, error.strerror or str(error), address) from error
        for other in others:
            await other.aclose()
        bound = listener.socket.getsockname()
        door = _SocketListener(f"{bound[0]}:{bound[1]}", [listener])
        try:
            yield door
        finally:
            with trio.CancelScope(shield=True):
                await door.aclose()

    async def connect(self, address: str) -> trio.abc.Stream:
        """Connect; raises OSError as the system gives it."""
        if address.startswith("unix:"):
            return await trio.open_unix_socket(address.removeprefix("unix:"))
        host, port = _split(address)
        return await trio.open_tcp_stream(host, port)


def _listen_unix(path: Path) -> trio.SocketListener:
    path.unlink(missing_ok=True)
    plug = socket.socket(socket.AF_UNIX)
    try:
        # The mask makes the socket 0600 from its first instant; a chmod after the bind would leave a gap. It
        # is the whole program's, so nothing may run before it is put back: no await between these lines.
        mask = os.umask(0o177)
        try:
            plug.bind(str(path))
        finally:
            os.umask(mask)
        plug.listen(64)
        plug.setblocking(False)
        return trio.SocketListener(trio.socket.from_stdlib_socket(plug))
    except BaseException:
        plug.close()
        raise


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise Misuse(f"wanted an address like 127.0.0.1:4000 or unix:/path, got {address!r}")
    return host.strip("[]"), int(port)


@final
class RealWorld:
    """Trio's clock, the system's wall clock, the system's randomness, LMDB, sockets."""

    def __init__(self) -> None:
        # Decks are shuffled with it, so it must not be guessable.
        self.random: random.Random = random.SystemRandom()
        self.transport: Transport = SocketTransport()
        self.coordination: Coordination = LocalCoordination()

    def now(self) -> float:
        return trio.current_time()

    def wall(self) -> float:
        return time.time()  # allowed: this is the World

    def open_store(self, path: str, node: str, *, relaxed: bool = False, adopter: str = "") -> Journal:
        """The LMDB journal under `path`, or with ":memory:" one that dies with the process.

        The relaxed one lies in the folder `relaxed` of the other's directory.
        """
        if path == IN_MEMORY:
            return MemoryJournal()
        if relaxed:
            return LmdbJournal.open(os.path.join(path, "relaxed"), node=node, wall=self.wall, relaxed=True)
        return LmdbJournal.open(path, node=node, wall=self.wall, adopter=adopter)

    @contextmanager
    def open_coordination(self, path: str) -> Iterator[None]:
        before = self.coordination
        self.coordination = store = LmdbCoordination.open(path, self.run_blocking)
        try:
            yield
        finally:
            self.coordination = before
            store.close()

    async def run_blocking(self, work: Callable[[], T], *, abandon: bool = False) -> T:
        return await trio.to_thread.run_sync(work, abandon_on_cancel=abandon)

    @contextmanager
    def beside(self, look: Callable[[], None], seconds: float) -> Iterator[None]:
        over = threading.Event()

        def watch() -> None:
            while not over.wait(seconds):
                look()

        # A daemon, and not waited for: it holds nothing, and must not hold up the end of the program.
        threading.Thread(target=watch, name="banyan watchman", daemon=True).start()
        try:
            yield
        finally:
            over.set()

    def heart(self, seconds: float) -> AbstractAsyncContextManager[Heart]:
        return beating(seconds)

    def exit(self, code: int) -> None:
        os._exit(code)

    def buggify(self, name: str, probability: float = 0.05) -> bool:
        return False

    @property
    def trace(self) -> None:
        return None

    def sometimes(self, name: str) -> None:
        return None


def open_store(path: str | Path, *, read_only: bool = False) -> Journal:
    """Open the journal under `path` while no node uses it: for checks and audits.

    Raises: a StoreError; see `runtime.durable.journal`.
    """
    return LmdbJournal.open(str(path), wall=time.time, read_only=read_only)


def check_store(path: str, progress: Progress) -> Report:
    """Check a store that no node has open, to its last record; see `lmdb_check.check`."""
    return lmdb_check.check(path, progress)


def back_up_store(path: str, destination: str, *, limit: float, progress: Progress) -> Backup:
    """Copy a store, which a node may have open; see `lmdb_backup.backup`."""
    wall = time.time()  # allowed: for a command, outside every node
    return lmdb_backup.backup(path, destination, wall=wall, limit=limit, progress=progress)


def restore_store(
    backup: str, path: str, *, position: int | None, until: float | None, progress: Progress
) -> tuple[Backup, Restored]:
    """Make a store from a backup, which is described as well; see `lmdb_restore.restore`."""
    kept = lmdb_backup.read_marker(backup)
    wall = time.time()  # allowed: for a command, outside every node
    return kept, lmdb_restore.restore(backup, path, wall=wall, position=position, until=until, progress=progress)
