"""One connection to the admin server: requests in, replies out, one after the other.

Only a typed line runs beside the others, so that it can be interrupted. Nothing is queued: the next request
is read when the last one is answered, so a client that asks fast or reads slowly holds up itself alone, and
one that reads nothing for `PATIENCE` seconds is cut off. When the client leaves, its running line is
cancelled.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, assert_never, final

import trio

from ..kernel.api import process_info
from ..kernel.exits import KILL, NORMAL, SHUTDOWN
from ..kernel.ids import Pid
from ..kernel.process import Process
from ..kernel.table import ProcessTable
from . import protocol
from .facts import Facts, node_json
from .processes import find, process_json, ps, subtree
from .protocol import BadRequest, Code, Id, Level, Lines, Oversize, Refusal
from .repl import Session, matching
from .shell import AS_TEXT, Shell

logger = logging.getLogger("banyan")
audit = logging.getLogger("banyan.audit")

# Seconds for which a reply may wait for its client to read.
PATIENCE = 30.0
# Bytes taken from the socket at once.
CHUNK = 1 << 16
# Characters of a typed line in the audit log.
AUDITED = 2000

_REASONS: dict[str, object] = {"kill": KILL, "shutdown": SHUTDOWN, "normal": NORMAL}


@final
@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end, as the operating system says; `pid` 0 if it does not."""

    uid: int
    pid: int = 0


def peer_of(stream: trio.abc.Stream) -> Peer:
    """The peer of a unix socket, if it is this user or root; raises Refusal for anybody else.

    Where the system tells no credentials (it is not Linux), the socket's directory, which only its owner may
    enter, is the whole guard.
    """
    own = os.geteuid()
    option = getattr(socket, "SO_PEERCRED", None)
    plug = getattr(stream, "socket", None)
    if option is None or plug is None:
        return Peer(own)
    pid, uid, _gid = struct.unpack("3i", plug.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i")))
    if uid not in (own, 0):
        raise Refusal(
            "this node does not talk to you",
            f"you are user {uid}, the node belongs to user {own}",
            "ask as the node's own user, or as root",
            Code.REFUSED,
        )
    return Peer(uid, pid)


@final
@dataclass(frozen=True)
class Door:
    """How an admin server is to be run.

    Attributes:
        address: where it listens, `unix:PATH`.
        root: the root of the tree that it shows.
        facts: what it tells of the node.
        allow_eval: whether it runs typed lines.
        names: what a typed line finds, beside the helpers.
        stop: asks the host to drain the node; None if nobody but the host stops it.
        admit: says who is at the other end of a stream; raises Refusal for whom it does not let in.
        limit: connections at a time.
    """

    address: str
    root: Pid
    facts: Facts
    allow_eval: bool = False
    names: Mapping[str, object] = field(default_factory=dict)
    stop: Callable[[], None] | None = None
    admit: Callable[[trio.abc.Stream], Peer] = peer_of
    limit: int = 64

    @property
    def level(self) -> Level:
        """The most that a request may do here."""
        return Level.EVAL if self.allow_eval else Level.ACT


@final
class Connection:
    """One client; `serve` lives as long as the connection does."""

    def __init__(self, stream: trio.abc.Stream, peer: Peer, door: Door, server: Process) -> None:
        self._stream = stream
        self._peer = peer
        self._door = door
        self._server = server
        self._table: ProcessTable = server.table
        # A reply must not be cut in two by another one: a line that runs answers from its own task.
        self._sending = trio.Lock()
        self._session: Session | None = None
        # To be done when the reply in hand is on its way: an end that would take the reply along.
        self._afterwards: Callable[[], None] | None = None
        # Invariant: set from the moment a line is taken until its reply is on its way; so at most one runs.
        self._running: trio.CancelScope | None = None

    async def serve(self) -> None:
        """Answer until the client leaves or breaks the rules of lines.

        Raises: trio.BrokenResourceError and OSError, as the connection does.
        """
        lines = Lines()
        async with trio.open_nursery() as nursery:
            try:
                while data := await self._stream.receive_some(CHUNK):
                    for line in lines.feed(bytes(data)):
                        await self._answer(line, nursery)
            except Oversize as error:
                refusal = Refusal(
                    "the connection is closed", str(error), "send shorter lines, or fewer at once", Code.USAGE
                )
                await self._send(protocol.encode_error(None, refusal))
            finally:
                nursery.cancel_scope.cancel()
                if self._session is not None:
                    self._session.close()

    async def _answer(self, line: bytes, nursery: trio.Nursery) -> None:
        request_id: Id = None
        try:
            request = protocol.decode_request(line)
            request_id = request.id
            self._check(request)
            if isinstance(request, protocol.Eval):
                self._start(request, nursery)
                return
            reply = protocol.encode_ok(request_id, self._do(request))
        except Refusal as refusal:
            if isinstance(refusal, BadRequest):
                request_id = refusal.request_id
            reply = protocol.encode_error(request_id, refusal)
        except Exception as error:  # our own mistake in looking: it must cost the asker the answer only
            logger.warning("an admin request failed: %r", line[:200], exc_info=error)
            why = f"{type(error).__name__}: {error}"
            failed = Refusal("the request failed inside the node", why, "please report it", Code.FAILED)
            reply = protocol.encode_error(request_id, failed)
        try:
            await self._send(reply)
        finally:
            afterwards, self._afterwards = self._afterwards, None
            if afterwards is not None:
                afterwards()

    async def _send(self, line: bytes) -> None:
        async with self._sending:
            with trio.move_on_after(PATIENCE) as waiting:
                await self._stream.send_all(line)
        if waiting.cancelled_caught:
            logger.info("an admin client (pid %s) read nothing for %g s and was cut off", self._peer.pid, PATIENCE)
            await trio.aclose_forcefully(self._stream)

    # -- who may do what -----------------------------------------------------------------------------

    def _check(self, request: protocol.Any_Request) -> None:
        """Refuse what is above this node's level; note in the audit log whatever is more than looking."""
        allowed = request.level <= self._door.level
        if request.level > Level.VIEW and not isinstance(request, protocol.Interrupt):
            verdict = "" if allowed else "refused: "
            audit.info("uid %s pid %s: %s%s", self._peer.uid, self._peer.pid, verdict, _described(request))
        if not allowed:
            raise Refusal(
                f"this node does not do {protocol.operation_of(request)!r}",
                "it was started without --allow-eval, so it runs no typed lines",
                "restart it with --allow-eval, or use tree, ps and info",
                Code.REFUSED,
            )

    # -- what is asked -------------------------------------------------------------------------------

    def _do(self, request: protocol.Any_Request) -> object:
        """Everything but a typed line: done at once, without waiting."""
        match request:
            case protocol.Info(of=None):
                return node_json(self._table, self._door.facts, self._door.level)
            case protocol.Info(of=str(target)):
                found = process_info(self._find(target).pid)
                assert found is not None
                return process_json(found)
            case protocol.Tree(of=target):
                part = subtree(self._table, self._door.root, target)
                if part is None:
                    raise _nobody(str(target))
                return part.to_json()
            case protocol.Ps(limit=limit):
                return ps(self._table, limit).to_json()
            case protocol.Kill(target=target, reason=reason):
                return self._kill(self._find(target), reason)
            case protocol.Stop():
                return self._stop()
            case protocol.Complete(text=text):
                return self._complete(text)
            case protocol.Interrupt():
                return {"interrupted": self._interrupt()}
            case protocol.Info() | protocol.Eval():
                raise AssertionError(request)  # the one has a text or None, the other was taken before
            case other:
                assert_never(other)

    def _find(self, target: str) -> Process:
        process = find(self._table, target)
        if process is None:
            raise _nobody(target)
        return process

    def _kill(self, process: Process, reason: str) -> dict[str, Any]:
        signal = _REASONS.get(reason, reason)
        found = process_info(process.pid)
        assert found is not None
        if process in self._storeys():
            self._afterwards = partial(process.exit_signal, self._server.pid, signal)
        else:
            process.exit_signal(self._server.pid, signal)
        return {
            "pid": repr(found.pid),
            "name": found.names[0] if found.names else found.label,
            "reason": reason,
        }

    def _storeys(self) -> list[Process]:
        """This server and those above it: their end is ours."""
        found = [self._server]
        while (parent := found[-1].parent) is not None and parent._process is not None:
            found.append(parent._process)
        return found

    def _stop(self) -> dict[str, Any]:
        if self._door.stop is None:
            raise Refusal(
                "this node cannot be stopped from here",
                "it is embedded in another program, which alone ends it",
                "stop that program",
                Code.REFUSED,
            )
        self._door.stop()
        return {"stopping": True}

    def _complete(self, text: str) -> dict[str, Any]:
        if self._door.allow_eval:
            start, matches = self._lines().complete(text)
        else:
            # Without typed lines: a word and the name of a process.
            before, space, word = text.rpartition(" ")
            start = len(before) + len(space)
            words = self._table.names if space else dict.fromkeys(("help", "info", "ps", "quit", "tree"))
            matches = matching(word, words)
        return {"start": start, "matches": matches}

    # -- typed lines ---------------------------------------------------------------------------------

    def _interrupt(self) -> bool:
        if self._running is None:
            return False
        self._running.cancel()
        return True

    def _lines(self) -> Session:
        if self._session is None:
            shell = Shell(self._table, self._door.root, self._door.facts)
            self._session = Session(self._table, shell.names(self._door.names), AS_TEXT)
        return self._session

    def _start(self, request: protocol.Eval, nursery: trio.Nursery) -> None:
        if self._running is not None:
            raise Refusal(
                "the line was not run",
                "another line of this connection is running",
                "wait for its reply, or send 'interrupt'",
                Code.REFUSED,
            )
        self._running = trio.CancelScope()
        nursery.start_soon(self._run_line, request, self._running, name="remsh line")

    async def _run_line(self, request: protocol.Eval, scope: trio.CancelScope) -> None:
        try:
            outcome = await self._lines().evaluate(request.source, scope)
        finally:
            self._running = None
        await self._send(protocol.encode_ok(request.id, outcome.to_json()))


def _described(request: protocol.Any_Request) -> str:
    """A request in one line of the audit log; a text is quoted, so that it cannot look like another line."""
    match request:
        case protocol.Eval(source=source):
            return f"eval {source[:AUDITED]!r}" + ("..." if len(source) > AUDITED else "")
        case protocol.Kill(target=target, reason=reason):
            return f"kill {target[:AUDITED]!r} {reason[:AUDITED]!r}"
        case other:
            return protocol.operation_of(other)


def _nobody(target: str) -> Refusal:
    return Refusal(
        f"there is no process {target[:200]!r}",
        "no living process has that pid or name",
        "ps and tree list those there are",
        Code.NOT_FOUND,
    )
