"""One connection to the admin server: requests in, replies out, one after the other.

What may wait (a typed line, a trace) runs beside the others, one at a time, so that it can be interrupted.
Nothing is queued: the next request is read when the last one is answered, so a client that asks fast or reads
slowly holds up itself alone, and one that reads nothing for `PATIENCE` seconds is cut off. When the client
leaves, what still runs for it is cancelled.
"""

from __future__ import annotations

import logging
from typing import final

import trio

from ..kernel.process import Process
from . import protocol
from .answers import Answers
from .door import Door, Peer, peer_of
from .protocol import BadRequest, Code, Id, Level, Lines, Oversize, Refusal
from .repl import Session
from .shell import AS_TEXT, Shell

__all__ = ["Connection", "Door", "Peer", "peer_of"]

logger = logging.getLogger("banyan")
audit = logging.getLogger("banyan.audit")

# Seconds for which a reply may wait for its client to read.
PATIENCE = 30.0
# Bytes taken from the socket at once.
CHUNK = 1 << 16
# Characters of a typed line in the audit log.
AUDITED = 2000


@final
class Connection:
    """One client; `serve` lives as long as the connection does."""

    def __init__(self, stream: trio.abc.Stream, peer: Peer, door: Door, server: Process) -> None:
        self._stream = stream
        self._peer = peer
        self._door = door
        self._answers = Answers(door, server)
        # A reply must not be cut in two by another one: what waits answers from its own task.
        self._sending = trio.Lock()
        self._table = server.table
        self._session: Session | None = None
        # Invariant: set from the moment a request that waits is taken until its reply is on its way; so at
        # most one runs.
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
            if request.beside():
                self._start(request, nursery)
                return
        except Refusal as refusal:
            if isinstance(refusal, BadRequest):
                request_id = refusal.request_id
            await self._send(protocol.encode_error(request_id, refusal))
            return
        await self._do(request)

    async def _do(self, request: protocol.AnyRequest) -> None:
        """Do what is asked and say what came of it."""
        try:
            if isinstance(request, protocol.Eval):
                value: object = await self._evaluate(request)
            elif isinstance(request, protocol.Interrupt):
                value = {"interrupted": self._interrupt()}
            elif isinstance(request, protocol.Complete) and self._door.allow_eval:
                start, matches = self._lines().complete(request.text)
                value = {"start": start, "matches": matches}
            elif self._running is not None and request.beside():
                with self._running:
                    value = await self._answers.answer(request)
                if self._running.cancelled_caught:
                    raise Refusal("the request was interrupted", "its client sent 'interrupt'", "ask again", 1)
            else:
                value = await self._answers.answer(request)
            reply = protocol.encode_ok(request.id, value)
        except Refusal as refusal:
            reply = protocol.encode_error(request.id, refusal)
        except Exception as error:  # our own mistake in looking: it must cost the asker the answer only
            logger.warning("an admin request failed: %r", _described(request), exc_info=error)
            why = f"{type(error).__name__}: {error}"
            failed = Refusal("the request failed inside the node", why, "please report it", Code.FAILED)
            reply = protocol.encode_error(request.id, failed)
        if request.beside():
            self._running = None
        try:
            await self._send(reply)
        finally:
            afterwards, self._answers.afterwards = self._answers.afterwards, None
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

    def _check(self, request: protocol.AnyRequest) -> None:
        """Refuse what is above this node's level; note in the audit log whatever is more than looking."""
        allowed = request.level <= self._door.level
        if request.level > Level.VIEW and not isinstance(request, protocol.Interrupt):
            verdict = "" if allowed else "refused: "
            audit.info("uid %s pid %s: %s%s", self._peer.uid, self._peer.pid, verdict, _described(request))
        self._door.check(request)

    # -- what takes its time -------------------------------------------------------------------------

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

    def _start(self, request: protocol.AnyRequest, nursery: trio.Nursery) -> None:
        if self._running is not None:
            line = isinstance(request, protocol.Eval)
            raise Refusal(
                f"the {'line' if line else 'request'} was not run",
                "another line of this connection is running" if line else "another one of this connection is",
                "wait for its reply, or send 'interrupt'" if line else "wait for its reply, or connect once more",
                Code.REFUSED,
            )
        self._running = trio.CancelScope()
        nursery.start_soon(self._do, request, name=f"admin {protocol.operation_of(request)}")

    async def _evaluate(self, request: protocol.Eval) -> object:
        assert self._running is not None
        return (await self._lines().evaluate(request.source, self._running)).to_json()


def _described(request: protocol.AnyRequest) -> str:
    """A request in one line of the audit log; a text is quoted, so that it cannot look like another line."""
    match request:
        case protocol.Eval(source=source):
            return f"eval {source[:AUDITED]!r}" + ("..." if len(source) > AUDITED else "")
        case protocol.Kill(target=target, reason=reason):
            return f"kill {target[:AUDITED]!r} {reason[:AUDITED]!r}"
        case protocol.Suspend(target=target) | protocol.Resume(target=target) | protocol.Restart(target=target):
            return f"{protocol.operation_of(request)} {target[:AUDITED]!r}"
        case protocol.Trace(of=of, messages=messages, seconds=seconds):
            return f"trace {', '.join(repr(one) for one in of)[:AUDITED]} {messages} {seconds:g}"
        case protocol.Replay(position=position, relaxed=relaxed) | protocol.Drop(position=position, relaxed=relaxed):
            return f"{protocol.operation_of(request)} {position}{' relaxed' * relaxed}"
        case protocol.Record(messages=messages):
            return f"record {messages}"
        case protocol.Move(shard=shard, node=node):
            return f"move {shard} {node!r}"
        case protocol.Abort(move=move):
            return f"abort {move!r}"
        case protocol.Drain(node=node, undo=undo):
            return f"drain{f' {node!r}' if node is not None else ''}{' undo' * undo}"
        case protocol.Adopt(node=node, undo=undo):
            return f"adopt {node!r}{' undo' * undo}"
        case other:
            return protocol.operation_of(other)
