"""The back door: a second socket, served from outside the loop, that answers while a process holds the loop.

The admin server is a process like any other, so it is silent while a callback computes without ever waiting.
Then a thread has to tell what is going on. It only looks: at the stacks of the program's threads, as the
interpreter knows them, and says whose code it is that runs. What it can do about it is to ask the host to
`interrupt` whoever holds the loop; an embedded node, whose host gave no way to do that, refuses.

It speaks the lines of `protocol`, with the two requests of its own, and checks its peers as the admin server
does. The thread is the World's, which calls `look` some times a second. Source: faulthandler; `py-spy dump`.
"""

from __future__ import annotations

import contextlib
import linecache
import logging
import os
import select
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import assert_never, final

from ..kernel.stalls import running_in
from ..kernel.table import ProcessTable
from . import protocol
from .door import Door, peer_of_socket
from .protocol import BadRequest, Code, Level, Lines, Oversize, Refusal
from .shown import FRAMES_LIMIT, Frame
from .targets import name_of

logger = logging.getLogger("banyan")
audit = logging.getLogger("banyan.audit")

# A thread outside the loop has no World to ask for a connection.
Plug = socket.socket  # allowed: it answers where no transport of the World's can, while the loop is held

# Seconds between two looks, and for which a reply may wait for its client to read.
INTERVAL = 0.05
PATIENCE = 1.0
# Connections at a time, and bytes of one request.
CLIENTS = 8
REQUEST_LIMIT = 4096


@final
@dataclass(frozen=True, slots=True)
class ThreadView:
    """One thread of the node's program: whether it runs the `loop`, and where it is, outermost call first."""

    name: str
    loop: bool
    stack: tuple[Frame, ...]


@final
@dataclass(frozen=True, slots=True)
class StacksView:
    """All threads, that of the loop first; `holder` is the process whose code runs in it now, or None."""

    holder: str | None
    threads: tuple[ThreadView, ...]


def stacks(loop: int) -> StacksView:
    """Where every thread of this program is; `loop` is the number of the one that runs the node."""
    frames = sys._current_frames()
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    views = [ThreadView(names.get(ident, str(ident)), ident == loop, _stack(one)) for ident, one in frames.items()]
    return StacksView(holder(frames.get(loop)), tuple(sorted(views, key=lambda one: not one.loop)))


def holder(frame: FrameType | None) -> str | None:
    """Whose code a stack of the loop is in, as a person says it: a process, a typed line, or nobody's."""
    process = running_in(frame)
    if process is not None:
        return f"{process.pid!r} {name_of(process)}"
    while frame is not None:
        if frame.f_code.co_filename.startswith("<remsh "):
            return f"the typed line {frame.f_code.co_filename}"
        frame = frame.f_back
    return None


def _stack(frame: FrameType | None) -> tuple[Frame, ...]:
    found: list[Frame] = []
    while frame is not None and len(found) < FRAMES_LIMIT:
        code = frame.f_code
        source = linecache.getline(code.co_filename, frame.f_lineno).strip()
        found.append(Frame(code.co_filename, frame.f_lineno, code.co_qualname, source))
        frame = frame.f_back
    return tuple(reversed(found))


@final
class BackDoor:
    """Serves one socket from a thread; make it in the thread of the loop."""

    def __init__(self, path: Path, door: Door) -> None:
        self._door = door
        self._loop = threading.get_ident()
        self._clients: dict[Plug, Lines] = {}
        # Served by a thread outside the loop, where a World has no transport.
        self._listener = _listen(path)
        self._path = path

    def close(self) -> None:
        """Take the socket away; a look that is under way ends by itself."""
        self._path.unlink(missing_ok=True)
        for plug in (self._listener, *list(self._clients)):
            plug.close()

    def look(self) -> None:
        """Serve whoever has come or asked since the last time; never raises."""
        try:
            ready, _, _ = select.select([self._listener, *self._clients], [], [], 0)
            for plug in ready:
                if plug is self._listener:
                    self._accept()
                else:
                    self._serve(plug)
        except (OSError, ValueError):
            pass  # it was closed meanwhile
        except Exception:  # our own mistake: it must not end the thread
            logger.exception("the back door failed")

    def _accept(self) -> None:
        plug, _ = self._listener.accept()
        plug.settimeout(PATIENCE)
        try:
            peer_of_socket(plug)
        except Refusal as refusal:
            logger.warning("a connection to the back door was refused: %s", refusal)
            self._send(plug, protocol.encode_error(None, refusal))
            plug.close()
            return
        if len(self._clients) >= CLIENTS:
            plug.close()
            return
        self._clients[plug] = Lines(REQUEST_LIMIT)

    def _serve(self, plug: Plug) -> None:
        try:
            data = plug.recv(REQUEST_LIMIT)
            lines = self._clients[plug].feed(data) if data else []
        except (OSError, Oversize):
            data, lines = b"", []
        for line in lines:
            self._send(plug, self._answer(plug, line))
        if not data:
            self._clients.pop(plug, None)
            plug.close()

    def _send(self, plug: Plug, line: bytes) -> None:
        try:
            plug.sendall(line)
        except OSError:
            self._clients.pop(plug, None)
            plug.close()

    def _answer(self, plug: Plug, line: bytes) -> bytes:
        request_id: protocol.Id = None
        try:
            request = protocol.decode_back_request(line)
            request_id = request.id
            self._note(plug, request)
            self._door.check(request)
            return protocol.encode_ok(request_id, self._do(request))
        except Refusal as refusal:
            if isinstance(refusal, BadRequest):
                request_id = refusal.request_id
            return protocol.encode_error(request_id, refusal)

    def _note(self, plug: Plug, request: protocol.BackRequest) -> None:
        if request.level > Level.VIEW:
            peer = peer_of_socket(plug)
            verdict = "" if request.level <= self._door.level else "refused: "
            audit.info("uid %s pid %s: %s%s", peer.uid, peer.pid, verdict, protocol.operation_of(request))

    def _do(self, request: protocol.BackRequest) -> object:
        match request:
            case protocol.Stacks():
                return stacks(self._loop)
            case protocol.Break():
                if self._door.interrupt is None:
                    why = "it is embedded in another program, and takes no signal of its own"
                    advice = "banyan stack tells where it is; that program may be ended"
                    raise Refusal("this node cannot be interrupted", why, advice, Code.REFUSED)
                who = self._door.interrupt()
                if who is None:
                    why = "no process and no typed line held it all the time, or it is in a call that cannot be broken"
                    raise Refusal("nothing was interrupted", why, "banyan stack tells where it is", Code.NOT_FOUND)
                return {"interrupted": who}
            case other:
                assert_never(other)


def _listen(path: Path) -> Plug:
    path.unlink(missing_ok=True)
    plug = Plug(socket.AF_UNIX)
    try:
        # The mask is the whole program's; nothing else runs before it is put back.
        mask = os.umask(0o177)
        try:
            plug.bind(str(path))
        finally:
            os.umask(mask)
        plug.listen(CLIENTS)
        plug.setblocking(False)
        return plug
    except BaseException:
        plug.close()
        raise


@contextlib.contextmanager
def back_door(table: ProcessTable, door: Door) -> Iterator[None]:
    """While this is open, `door.back` answers, if it is set; if it cannot be made, the log says so."""
    if door.back is None:
        yield
        return
    try:
        one = BackDoor(door.back, door)
    except OSError as error:
        logger.warning("the back door %s cannot be opened: %s", door.back, error)
        yield
        return
    try:
        with table.world.beside(one.look, INTERVAL):
            yield
    finally:
        one.close()
