"""One client's connection as a process: it reads frames, has them answered, and writes what it is given.

    child(f"connection/{number}", connection, stream, guest, bounds, doorkeeper, restart="temporary")

The client's first frames go to the guest's `enter`, until one of them opens a session; every later one is
read by `read` and carried out by `carry_out`, one after the other, so that a client has one command under
way at a time, and no more of its frames are taken from the network than it waits for.

It ends in order when the connection has ended, whoever ended it. It never touches another connection: what
goes wrong here, a defect of the guest included, ends this one process.

Source: ranch's protocol handlers; the acceptor and its connections in OTP's design principles.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Hashable
from dataclasses import dataclass, field
from typing import Any, Protocol, final

import trio

from ..behaviours.gen_server import GenServer, cast_nowait
from ..errors import CallFailed, MailboxFull
from ..kernel.api import call, demonitor, monitor, self_pid, trap_exit, world
from ..kernel.ids import Pid, Ref
from ..kernel.messages import Call
from ..kernel.selective import receive
from ..kernel.signals import Down, Exit
from ..kernel.table import Destination, current_table
from . import frames
from .client import Answered, Begin, Deliver, End, Join
from .frames import Refusal
from .limits import Census, TokenBucket
from .sessions import Written
from .websocket import Bounds, Gone, Wire, serve

logger = logging.getLogger("banyan")

# How often a session that ends in the moment of joining it is looked for anew.
_TRIES = 3
# HTTP, for whoever comes when there is no room: before the handshake there is no close code.
_NO_ROOM = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_NO_ROOM_SECONDS = 1.0


# -- the guest -----------------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Entry:
    """What a login or a resume has opened.

    Attributes:
        account: whose it is; connections are counted under it.
        session: the session's process.
        after: the last sequence number that the client has; None for nothing.
        more: what goes into the welcome.
    """

    account: str
    session: Pid
    after: int | None
    more: dict[str, Any] = field(repr=False)  # it holds the resume token


@final
@dataclass(frozen=True, slots=True)
class Request:
    """A frame that was read: its `id`, whether it is a command that may be repeated, and what it says."""

    id: int | None
    command: bool
    digest: Hashable
    body: Any


class Guest(Protocol):
    """What a gateway's guest knows of its clients' frames. Shared by all connections: it holds no state."""

    def enter(self, text: str) -> Awaitable[Entry]:
        """Open a session for a client's first frame; raises Refusal, or CallFailed if it cannot be told."""

    def read(self, text: str) -> Request:
        """Read a later frame; raises Refusal."""

    def carry_out(self, entry: Entry, request: Request) -> Awaitable[Any]:
        """Do it; returns what goes into the reply. A command must be numbered with its id.

        Raises: Refusal; CallFailed if it is not known whether it was done: the client may repeat it.
        """


# -- how many ------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class _Enter(Call[bool]):
    connection: Pid


@final
@dataclass(frozen=True, slots=True)
class _Name(Call[bool]):
    connection: Pid
    account: str


class Doorkeeper(GenServer):
    """Counts the connections: in all, and of each account.

    Args of its start: the most in all, and the most of one account. One that was displaced counts until it
    is gone.
    """

    def init(self, most: int, most_each: int) -> None:
        self._census = Census(most, most_each)

    def handle_call(self, request: Any, caller: Any) -> Any:
        match request:
            case _Enter(connection):
                if not self._census.enter(connection):
                    return False
                monitor(connection)
                return True
            case _Name(connection, account):
                return self._census.name(connection, account)
            case _:
                return super().handle_call(request, caller)

    def handle_info(self, message: Any) -> Any:
        if isinstance(message, Down):
            self._census.leave(message.monitored)
            return None
        return super().handle_info(message)

    def state(self) -> object:
        return {"connections": len(self._census), "most": self._census.most}

    def summary(self) -> str:
        return f"{len(self._census)} of {self._census.most} connections"


# -- the process ---------------------------------------------------------------------------------------


async def connection(stream: trio.abc.Stream, guest: Guest, bounds: Bounds, doorkeeper: Destination) -> None:
    """The life of one connection; the stream is closed at its end. See the module."""
    # Told to end by the supervisor, it still says goodbye.
    trap_exit(True)
    try:
        if not await call(doorkeeper, _Enter(self_pid())):
            current_table().counts.refused["connection", "no_room"] += 1
            await _turn_away(stream)
            return
        talk = _Conversation(guest, bounds, doorkeeper)
        cause = await serve(stream, bounds, talk.hold, written=talk.written)
        account = talk.entry.account if talk.entry is not None else "nobody"
        if cause is not None:
            talk.counts.refused["open connection", cause.reason] += 1
        why = cause.reason if cause is not None else "the client left"
        logger.info("connection %s of %s has ended: %s", self_pid(), account, why)
    finally:
        await trio.aclose_forcefully(stream)


async def _turn_away(stream: trio.abc.Stream) -> None:
    with trio.move_on_after(_NO_ROOM_SECONDS):
        try:
            # What has come is taken first: closing over unread bytes would reset the answer away.
            await stream.receive_some(4096)
            await stream.send_all(_NO_ROOM)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # it left by itself


@final
class _Conversation:
    """What one connection's tasks share."""

    def __init__(self, guest: Guest, bounds: Bounds, doorkeeper: Destination) -> None:
        now = world().now()
        self.guest = guest
        self.bounds = bounds
        self.doorkeeper = doorkeeper
        self.me = self_pid()
        self.counts = current_table().counts
        self.entry: Entry | None = None
        self.watch: Ref | None = None
        self.rate = TokenBucket(bounds.rate, bounds.burst, now)
        self.strikes = TokenBucket(bounds.strikes_rate, bounds.strikes, now)

    async def hold(self, wire: Wire) -> None:
        """Read in one task, write in another, and do here what comes by message."""
        wire.nursery.start_soon(self._read, wire, name="read")
        while True:
            match await receive():
                case Deliver(frame, counted):
                    wire.put(frame, counted=counted)
                case End(cause):
                    wire.end(cause)
                case Down(ref=ref):
                    if ref is self.watch:
                        wire.end(frames.SESSION_LOST)
                case Exit():
                    wire.end(frames.STOPPING)

    def written(self, total: int) -> None:
        """Tell the session how far its frames have been written."""
        if self.entry is not None:
            try:
                cast_nowait(self.entry.session, Written(self.me, total))
            except MailboxFull:
                pass  # the next report says the total again

    async def _read(self, wire: Wire) -> None:
        try:
            with trio.move_on_after(self.bounds.login_seconds) as patience:
                while self.entry is None:
                    await self._one(wire, self._enter)
            if patience.cancelled_caught:
                wire.end(frames.NO_LOGIN)
            while True:
                await self._one(wire, self._answer)
        except Gone:
            pass  # `serve` ends, and all of this with it

    async def _one(self, wire: Wire, answer: Any) -> None:
        """Take one frame and have it answered, or refuse it."""
        text = await wire.next()
        cause = frames.NONSENSE
        try:
            if not self.rate.take(world().now()):
                cause = frames.FLOOD
                raise _too_fast(strike=True)
            reply = await answer(wire, text)
        except Refusal as refusal:
            reply = self._refused(refusal)
            if refusal.strike and not self.strikes.take(world().now()):
                wire.end(cause)
        if reply is not None:
            await wire.reply(reply)

    def _refused(self, refusal: Refusal) -> bytes:
        self.counts.refused["frame", refusal.reason] += 1
        return frames.refused(refusal)

    # -- before the login ----------------------------------------------------------------------------

    async def _enter(self, wire: Wire, text: str) -> bytes | None:
        for _ in range(_TRIES):
            try:
                entry = await self.guest.enter(text)
            except CallFailed:
                break
            if not await call(self.doorkeeper, _Name(self.me, entry.account)):
                raise Refusal(
                    "too_many_connections",
                    "wanted fewer connections of one account: close the others, or wait for them to end",
                )
            self.watch = monitor(entry.session)
            # What it delivers is reported to it from the first frame on; so it is known before it is joined.
            self.entry = entry
            try:
                await call(entry.session, Join(self.me, entry.after, entry.more))
            except CallFailed:
                self._forget()  # it has just ended: the next one will be new
            else:
                return None  # the welcome is delivered by the session, before all else
        raise Refusal("unavailable", "the gateway cannot open a session now: try again in a moment")

    def _forget(self) -> None:
        if self.watch is not None:
            demonitor(self.watch, flush=True)
        self.watch = self.entry = None

    # -- after it ------------------------------------------------------------------------------------

    async def _answer(self, wire: Wire, text: str) -> bytes | None:
        entry = self.entry
        assert entry is not None
        request = self.guest.read(text)
        number = request.id if request.command else None
        try:
            known = await call(entry.session, Begin(number, request.digest))
        except CallFailed:
            # The session has ended: the message that says so is on its way, and ends the connection.
            wire.end(frames.SESSION_LOST)
            return None
        match known:
            case bytes():
                return known
            case None:
                raise _too_fast(request.id)
            case "old":
                raise Refusal("old_id", "wanted a higher id: the answer to this one is no longer kept", id=request.id)
            case "other":
                raise Refusal("id_reused", "wanted a new id: this one was another command's", id=request.id)
        try:
            answer = frames.reply(request.id, await self.guest.carry_out(entry, request))
        except Refusal as refusal:
            refusal.id = request.id
            answer = self._refused(refusal)
        except CallFailed:
            # Not kept: whether it was done is not known, and a repetition finds out.
            raise Refusal("unavailable", "no answer in time: send it again with the same id", id=request.id) from None
        if number is not None:
            try:
                cast_nowait(entry.session, Answered(number, request.digest, answer))
            except MailboxFull:
                pass  # a repetition is carried out again, under its number
        return answer


def _too_fast(number: int | None = None, *, strike: bool = False) -> Refusal:
    return Refusal("rate_limited", "wanted fewer frames a second: wait a moment", id=number, strike=strike)
