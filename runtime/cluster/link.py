"""A link: the one connection over which two nodes exchange frames, once each knows who the other is.

Nobody waits for a link. What is to go out is pushed into its outbox, and leaves with all else that gathered there
when the writer has its turn, in one piece of bytes and one record of TLS. What gathers within one turn of the loop
leaves in pieces that grow, so that the other side has something to do meanwhile. What comes in is taken as it comes,
all frames of a piece one after the other; the answers to them leave before the next piece is read.

Two bounds hold senders back, and drop nothing: the outbox (its own bytes that the network has not taken) and credit
(bytes of credited frames that the other node has taken, but not let go). With either used up `room` is False and
whoever has messages keeps them until told. Frames of other kinds need no credit, so that two nodes never wait for
each other. An outbox that grows on regardless, because the other side reads nothing, ends the link.

Whatever goes wrong here ends this one link, with a reason that is counted and logged: bytes that are no frame, a
value that cannot be decoded, a defect of this program's own.

Source: Erlang's distribution buffer (`dist_buf_busy_limit`); HTTP/2's flow control (RFC 9113, 5.2).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol, final

import trio

from ..errors import BanyanError
from ..kernel.parking import NOTHING, park, wake
from . import wire
from .handshake import Identity
from .health import Health, State
from .pipe import PIECE, Pipe
from .wire import CREDITED, HEADER_SIZE, Decoder, Frame, Kind, WireError

logger = logging.getLogger("banyan")

# Why a link ends, in a word that the other side is told, and in a sentence.
CLOSES: Final = {
    "left": "the other side ended the connection",
    "broken": "the connection broke",
    "closed": "the other side closed the link and said why",
    "malformed": "what came was no frame, or a value that cannot be decoded",
    "credit": "more came than there was credit for",
    "slow": "the outbox passed its last bound, because the other side does not read",
    "silent": "no heartbeat came in time",
    "replaced": "the other node has connected anew",
    "disconnected": "somebody here closed it",
    "stopping": "the node is stopping",
    "defect": "something failed that should not; the log tells what",
}


# So many bytes that have gathered leave without waiting for the writer's turn; then twice as many, up to a bound,
# which is also how many may leave so before everybody else has had a turn.
_EARLY: Final = 4 << 10
_EARLY_MOST: Final = 256 << 10
# Kinds below this one are a link's own. As a plain int: an enum's member is dear to compare with.
_FIRST_ABOVE: Final = int(Kind.SEND)
# Frames in one piece that was read.
_MANY: Final = 100


@final
@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of a link, in bytes.

    Attributes:
        frame: a payload's most.
        window: credited bytes that may be under way, or not be let go yet; at least twice `frame`.
        outbox: bytes in the outbox, from which on there is no room.
        outbox_most: bytes in the outbox at which the link is ended.
    """

    frame: int = wire.NODE_CAP
    window: int = 4 << 20
    outbox: int = 1 << 20
    outbox_most: int = 64 << 20


@final
class Counters:
    """What a link has done: pieces are what was read or written at once."""

    __slots__ = ("bytes_in", "bytes_out", "frames_in", "outbox_most", "pieces_in", "pieces_out", "pushes", "stops")

    def __init__(self) -> None:
        self.bytes_in = self.frames_in = self.pieces_in = 0
        self.bytes_out = self.pushes = self.pieces_out = 0
        self.outbox_most = self.stops = 0

    def to_json(self) -> dict[str, int]:
        """By name."""
        return {name: getattr(self, name) for name in self.__slots__}


class Above(Protocol):
    """Whoever gives the frames of all links their meaning. Nothing here may wait."""

    def up(self, link: Link) -> None:
        """A link with a node is up; there is never more than one."""

    def receive(self, link: Link, frame: Frame) -> bool:
        """A frame has come. False keeps its credit, until `link.release`. Whatever it raises ends the link."""

    def room(self, link: Link) -> None:
        """There is room again, after there was none."""

    def down(self, node: str, link: Link | None, reason: object) -> None:
        """A link is down; with None, a node that was wanted cannot be reached."""


@final
class Link:
    """One node, reached.

    Args:
        pipe: its connection; the link closes it.
        who: the other node.
        rest: bytes that came with the handshake.
        now: monotonic seconds.

    Attributes:
        node, creation: who it is, and in which life.
        reason, detail: why it has ended; "" while it has not.
        dialled: whether this node has dialled that one.
        since: when it came up, in monotonic seconds.
        health: what its heartbeats say; see `state`.
        heart_dialled: whether its heartbeat's connection is being dialled just now.
        room: whether credited frames may be pushed; others always may. Once it is lost, `Above.room` tells of it.
    """

    def __init__(self, pipe: Pipe, who: Identity, *, rest: bytes, now: float, limits: Limits, dialled: bool) -> None:
        self.who = who
        self.node = who.name
        self.creation = who.creation
        self.dialled = dialled
        self.since = now
        self.heart_dialled = False
        self.health = Health(now)
        self.reason = self.detail = ""
        self.counters = Counters()
        self._limits = limits
        self._pipe = pipe
        pipe.most = PIECE
        self._rest = rest
        self._scope = trio.CancelScope()
        self._above: Above | None = None
        self._decoder = Decoder(limits.frame)
        # -- out. Invariants: `_waiting` is the bytes of `_outbox` and what is `_under_way`; what is in the outbox
        # is written by `_take` at its end, or by the writer, who has been woken, or is at it.
        self.room = True
        self._outbox: deque[bytes] = deque()
        self._waiting = 0
        self._bound = min(limits.outbox, limits.outbox_most)
        # What gathers is written when so many bytes are waiting, `_step` more than before; by that way so many were
        # written in this turn.
        self._mark = self._step = _EARLY
        self._in_turn = 0
        # Whether what came last was one frame: what it leads to is not kept for others to gather with it.
        self._alone = False
        self._writer: trio.lowlevel.Task | None = None
        self._under_way = 0
        self._gathering = False
        self._spent = 0
        self._allowed = limits.window
        # -- in
        self._taken = 0
        self._released = 0
        self._granted = 0

    def __repr__(self) -> str:
        return f"<Link {self.node}.{self.creation} {self.reason or self.state.value}>"

    @property
    def state(self) -> State:
        """How the other node is, by its heartbeats."""
        return self.health.state

    def push(self, data: bytes, credited: int = 0) -> None:
        """Let bytes go out, in order, after all that was pushed before. Never waits; on an ended link, nothing.

        Args:
            data: one whole frame or several, as `wire.encode` made them.
            credited: how many of these bytes are of frames that need credit.
        """
        if self.reason:
            return
        outbox = self._outbox
        outbox.append(data)
        self._waiting += len(data)
        self._spent += credited
        if self._waiting >= self._bound or self._spent >= self._allowed:
            self._stop()
        if self._gathering:
            return
        if self._alone or self._waiting >= self._mark:
            self._write_early()
        elif not self._under_way and len(outbox) == 1:
            self._wake_writer()

    def _stop(self) -> None:
        """There is no room any more, or still none."""
        if self.room:
            self.room = False
            self.counters.stops += 1
        if self._waiting > self._limits.outbox_most:
            self.counters.outbox_most = self._waiting
            self.close("slow", f"{self._waiting >> 20} MiB wait to be read by {self.node!r}")

    def release(self, size: int) -> None:
        """Give credit back for frames that `Above.receive` kept: HEADER_SIZE and the payload's length of each."""
        self._released += size
        if self._released - self._granted >= self._limits.window // 4:
            self._granted = self._released
            self.push(wire.encode(Frame(Kind.CREDIT, number=self._granted)))

    def close(self, reason: str = "disconnected", detail: str = "") -> None:
        """End the link; the first reason stays. What the outbox holds is written as far as it can be at once."""
        if not self.reason:
            self.reason, self.detail = reason, detail or CLOSES.get(reason, "")
            self._scope.cancel()

    async def run(self, above: Above) -> None:
        """Carry frames until the link ends. Raises nothing of its own: `reason` says why."""
        self._above = above
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._guarded, self._write, name=f"writer of {self.node}")
                    await self._guarded(self._read)
        finally:
            self.close("stopping")
            self._last_words()
            with trio.CancelScope(shield=True):
                await self._pipe.aclose()

    # -- both directions -----------------------------------------------------------------------------

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        """One direction; its end is the link's."""
        try:
            await work()
        except Exception as error:  # allowed: a defect here or above must not end any other link
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        if isinstance(error, trio.ClosedResourceError):
            self.close("disconnected")
        elif isinstance(error, trio.BrokenResourceError):
            self.close("broken", str(error.__cause__ or error))
        elif isinstance(error, BanyanError):
            self.close("malformed", str(error))
        else:
            logger.error("the link with node %s has failed", self.node, exc_info=error)
            self.close("defect", f"{type(error).__name__}: {error}")

    def _last_words(self) -> None:
        """What is left, and why it ends: for whoever still reads."""
        if self.reason in ("left", "broken", "closed") or self._under_way:
            return
        said = self.reason.encode() + b": " + self.detail.encode("utf-8", "replace")[:200]
        try:
            self._pipe.offer(b"".join(self._outbox) + wire.encode(Frame(Kind.CLOSE, payload=said)))
        except (trio.BrokenResourceError, OSError):
            pass  # nobody reads

    # -- out -----------------------------------------------------------------------------------------

    def _wake_writer(self) -> None:
        task = self._writer
        if task is not None and task.custom_sleep_data is self:
            wake(task, NOTHING)

    async def _write(self) -> None:
        task = self._writer = trio.lowlevel.current_task()
        while True:
            self._step, self._in_turn = _EARLY, 0
            self._mark = self._waiting + _EARLY
            self._look_for_room()
            if self._under_way:
                await self._pipe.flush()
                self._wrote()
            elif self._outbox:
                self._write_now()
            elif self._in_turn:  # it was used up again by those who had waited: now the others
                await trio.lowlevel.checkpoint()
            else:
                task.custom_sleep_data = self
                await park()

    def _write_now(self) -> bool:
        """Write the whole outbox in one piece; False: the network has not taken all, and the writer has to flush."""
        outbox, counters = self._outbox, self.counters
        gathered = len(outbox)
        data = outbox[0] if gathered == 1 else b"".join(outbox)
        outbox.clear()
        self._under_way = len(data)
        counters.pushes += gathered
        counters.pieces_out += 1
        counters.bytes_out += len(data)
        if not self._pipe.offer(data):
            return False
        self._wrote()
        return True

    def _write_early(self) -> None:
        """Write what has gathered without waiting for the writer's turn; whoever pushes hears of no failure."""
        if self.reason:
            return
        before = self._waiting
        try:
            if self._under_way and self._pipe.go_on():
                self._wrote()
            if not self._under_way:
                self._write_now()
        except Exception as error:  # allowed: it ends the link, and not whoever has a message for it
            self._failed(error)
        if self._alone:
            self._alone = False
            if not self._under_way:
                return
        self._step = min(2 * self._step, _EARLY_MOST, self._bound // 4)
        self._mark = self._waiting + self._step
        self._in_turn += before - self._waiting
        if self._in_turn >= _EARLY_MOST and self.room:
            self.room = False  # nobody holds the loop for ever: the writer gives it back in its turn
            self.counters.stops += 1
        self._wake_writer()

    def _wrote(self) -> None:
        counters = self.counters
        counters.outbox_most = max(counters.outbox_most, self._waiting)
        self._waiting -= self._under_way
        self._under_way = 0
        self._look_for_room()

    def _look_for_room(self) -> None:
        if (
            not self.room
            and self._waiting <= self._limits.outbox // 2
            and self._spent < self._allowed
            and self._in_turn < _EARLY_MOST
        ):
            self.room = True
            if self._above is not None:
                self._above.room(self)

    # -- in ------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        data, self._rest = self._rest, b""
        while True:
            if data:
                self._take(data)
                if self.reason:
                    return
            data = await self._pipe.receive()
            if not data:
                self.close("left")
                return

    def _take(self, data: bytes) -> None:
        """Hand over all frames that are complete, then write what they have led to."""
        above = self._above
        assert above is not None
        counters = self.counters
        counters.pieces_in += 1
        counters.bytes_in += len(data)
        self._gathering = True
        try:
            frames = self._decoder.feed(data)
            counters.frames_in += len(frames)
            receive = above.receive
            taken = held = 0
            for frame in frames:
                kind = frame[0]
                if kind in CREDITED:
                    size = HEADER_SIZE + len(frame[3])
                    taken += size
                    if not receive(self, frame):
                        held += size
                elif kind >= _FIRST_ABOVE:
                    receive(self, frame)
                else:
                    self._own(frame)
                if self.reason:
                    return
            self._taken += taken
            if taken > held:
                self.release(taken - held)
            self._alone = len(frames) == 1
            # Many little ones: read fewer at once, so that who they are for has a turn before the next.
            self._pipe.most = PIECE if len(frames) < _MANY else PIECE // 4
        finally:
            self._gathering = False
        if self._taken - self._released > 2 * self._limits.window:
            self.close("credit", f"{self._taken - self._released} bytes have come that were not let go")
        elif self._under_way:
            pass  # the writer is at it, and takes the rest of the outbox too
        elif self._outbox and not self._write_now():
            self._wake_writer()

    def _own(self, frame: Frame) -> None:
        if frame.kind == Kind.CREDIT and self._allowed <= frame.number + self._limits.window and not frame.payload:
            if frame.number > self._spent:
                raise WireError(f"wanted credit for at most {self._spent} bytes, which were sent, got {frame.number}")
            self._allowed = frame.number + self._limits.window
            self._look_for_room()
        elif frame.kind == Kind.CLOSE:
            self.close("closed", f"node {self.node!r} says {frame.payload[:300].decode('utf-8', 'replace')!r}")
        else:
            raise WireError(f"wanted a frame of a link, got kind {frame.kind} or a credit that falls")
