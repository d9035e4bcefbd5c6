"""A client of the admin protocol for commands, synchronous, with a deadline for every wait; which nodes run.

    with AdminClient(path) as node:
        print(node.request(Tree()))

Needs no event loop, and knows nothing of processes. Source: `docker`'s way of talking to its daemon.
"""

from __future__ import annotations

import dataclasses
import math
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final

import msgspec

from . import places, protocol
from .protocol import Code, Info, Interrupt, Lines, Oversize, Refusal, Request

CHUNK = 1 << 16
# Seconds after which a node that was asked how it is counts as busy.
LOOK_PATIENCE = 1.0


class Unreachable(Refusal):
    """Nobody answers at a node's socket, or the connection broke."""

    def __init__(self, what: str, why: str, next: str) -> None:
        super().__init__(what, why, next, Code.UNREACHABLE)


class TimedOut(Refusal):
    """The node did not answer within `timeout` seconds; whether it did what was asked is not known."""

    def __init__(self, what: str, timeout: float) -> None:
        why = f"it did not answer within {timeout:g} s"
        super().__init__(what, why, "a process may hold it up: `banyan stack` tells which, or try again", Code.TIMEOUT)
        self.timeout = timeout


@final
class AdminClient:
    """One connection to a node.

    Args:
        path: of its socket.
        timeout: seconds for the connection, and for each answer unless `request` says otherwise.

    Raises Unreachable if nobody listens there, TimedOut if the node does not take the connection.
    """

    def __init__(self, path: Path, *, timeout: float = 5.0) -> None:
        self.path = path
        self.timeout = timeout
        self._lines = Lines(protocol.REPLY_LIMIT)
        self._waiting: list[bytes] = []
        self._last = 0
        self._broken: OSError | None = None
        # A command is outside every node, and has no World.
        self._socket = socket.socket(socket.AF_UNIX)  # allowed: it has no World to ask for a connection
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(str(path))
        except TimeoutError:
            self._socket.close()
            raise TimedOut(f"cannot reach the node at {path}", timeout) from None
        except OSError as error:
            self._socket.close()
            raise Unreachable(
                f"cannot reach the node at {path}",
                error.strerror or str(error),
                "is it running? `banyan start` prints its socket when it is up",
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; a line that it is running is cancelled. Harmless if done twice."""
        self._socket.close()

    def request(self, request: Request, *, timeout: float | None = None) -> Any:
        """Ask, and wait for the answer, at most `timeout` seconds (math.inf: for ever).

        Raises:
            Refusal: the node said no, in three parts, with an exit code.
            Unreachable: the connection broke; whether the node did it is not known.
            TimedOut: no answer in time; when it comes later it is dropped.
        """
        return self.answer(self.send(request), timeout=timeout)

    def send(self, request: Request) -> int:
        """Ask without waiting; the number is for `answer`."""
        self._last += 1
        line = protocol.encode_request(msgspec.structs.replace(request, id=self._last))
        if len(line) > protocol.REQUEST_LIMIT:
            why = f"it has {len(line)} bytes, of {protocol.REQUEST_LIMIT} allowed"
            raise Refusal("the request was not sent", why, "send less at once", Code.USAGE)
        self._socket.settimeout(self.timeout)
        try:
            self._socket.sendall(line)
        except TimeoutError:
            raise TimedOut(f"the node at {self.path} does not listen", self.timeout) from None
        except OSError as error:
            # It may have said why before it closed: that is what `answer` will find.
            self._broken = error
        return self._last

    def interrupt(self) -> None:
        """Cancel the line that is running on this connection; its answer comes as ever."""
        self.send(Interrupt())

    def answer(self, number: int, *, timeout: float | None = None) -> Any:
        """The answer to what was sent under a number; answers to earlier ones are dropped. As `request`."""
        allowed = self.timeout if timeout is None else timeout
        deadline = self._now() + allowed
        while True:
            while self._waiting:
                answered, value, refusal = protocol.decode_reply(self._waiting.pop(0))
                # A refusal without an id is about the connection as a whole.
                if answered != number and not (answered is None and refusal is not None):
                    continue
                if refusal is not None:
                    raise refusal
                return value
            self._receive(deadline, allowed)

    def _receive(self, deadline: float, allowed: float) -> None:
        left = deadline - self._now()
        self._socket.settimeout(None if left == math.inf else max(left, 0.001))
        try:
            data = self._socket.recv(CHUNK)
            self._waiting += self._lines.feed(data)
        except TimeoutError:
            raise TimedOut(f"the node at {self.path} does not answer", allowed) from None
        except OSError as error:
            raise self._gone(error.strerror or str(error)) from error
        except Oversize as error:
            raise Refusal("the answer was not read", str(error), "ask for a part of it", Code.FAILED) from None
        if not data:
            raise self._gone("it closed the connection") from self._broken

    def _gone(self, why: str) -> Unreachable:
        advice = "it may have stopped: `banyan tree` tells whether it runs"
        return Unreachable(f"lost the node at {self.path}", why, advice)

    @staticmethod
    def _now() -> float:
        return time.monotonic()  # allowed: a deadline of a command, outside every node


# -- which nodes run -----------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Running:
    """A node that was found; `data` is its data directory, None if it has none or did not say so in time."""

    name: str
    socket: Path
    pid: int | None = None
    data: str | None = None


def nodes() -> list[Running]:
    """The running nodes of this user, by name. The sockets of dead nodes are removed on the way.

    A node that is alive but too busy to answer within a second is among them, without pid and data.
    """
    found = []
    for name, path in places.sockets():
        node = Running(name, path)
        try:
            with AdminClient(path, timeout=LOOK_PATIENCE) as client:
                said = client.request(Info())
                node = dataclasses.replace(node, pid=said["pid"], data=said["data"])
        except Unreachable:
            continue
        except TimedOut:
            pass
        found.append(node)
    return found


def find_node(name: str | None = None, data: str | None = None) -> Running:
    """The node that is meant: by name, by data directory, or the only one that runs.

    Raises Refusal: code 3 if the one that was named does not run; code 4 if none was named and not exactly one
    runs, with the names of those that do.
    """
    if name is not None:
        folder = places.existing_directory()
        path = places.socket_of(name, folder)
        if folder is not None and path.exists():
            return Running(name, path)
        raise Unreachable(f"node {name!r} cannot be reached", f"it has no socket at {path}", _others())
    running = nodes()
    if data is not None:
        wanted = Path(data).resolve()
        for node in running:
            if node.data is not None and Path(node.data).resolve() == wanted:
                return node
        raise Unreachable(f"the node of {data} cannot be reached", "no running node has that directory", _others())
    if len(running) == 1:
        return running[0]
    if not running:
        why, advice = "none of yours is running", "start one with `banyan start`"
        raise Refusal("there is no node to ask", why, advice, Code.NOT_FOUND)
    names = ", ".join(node.name for node in running)
    raise Refusal(
        "which node is meant is not clear",
        f"there are {len(running)}: {names}",
        "name one with -n",
        Code.NOT_FOUND,
    )


def _others() -> str:
    names = ", ".join(node.name for node in nodes())
    return f"name a running one: {names}" if names else "none of yours is running: start it with `banyan start`"
