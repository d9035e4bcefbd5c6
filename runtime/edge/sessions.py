"""A client's session as a pure machine: what it is owed, in order, whoever carries it there.

A session outlives its connections. All that is pushed to the client gets a rising sequence number; the last
frames are kept, so that a client which comes back and says how far it had read is sent the rest. If what it
lacks is no longer kept, or the session is not the one it knew, the shell is asked to `Refresh`: to push an
absolute of everything, after which nothing from before is needed.

One connection carries a session at a time; a newer one displaces the older. To a connection at most `window`
frames are handed that it has not written yet: that is its outgoing queue, and its bound. The moment the
window is used up the client is *behind*, until half of it is free again; whoever is behind for `patience`
seconds is cut. So a client that reads a little now and then is cut as surely as one that has stopped. What
is pushed meanwhile is kept, and what is no longer kept is made good by a refresh: a slow client costs
bounded memory, and gets the present instead of the past.

One door: `machine.handle(event)` returns the effects, to be performed in order.
Source: TCP's send window; the resume of MQTT 5 and of Phoenix channels.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal, assert_never, final

from ..errors import Misuse

# -- events --------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Attach:
    """A connection takes the session over. `after`: the last number that its client has; None: nothing."""

    connection: Hashable
    after: int | None


@final
@dataclass(frozen=True, slots=True)
class Detach:
    """A connection is gone."""

    connection: Hashable


@final
@dataclass(frozen=True, slots=True)
class Push:
    """Something for the client: it gets the next sequence number, `machine.next`."""

    frame: bytes


@final
@dataclass(frozen=True, slots=True)
class Written:
    """A connection has written `total` frames, of all that were handed to it, to its socket."""

    connection: Hashable
    total: int


@final
@dataclass(frozen=True, slots=True)
class Overdue:
    """The alarm `alarm` has gone off."""

    alarm: int


Event = Attach | Detach | Push | Written | Overdue

# -- effects -------------------------------------------------------------------------------------------

CutReason = Literal["displaced", "slow"]


@final
@dataclass(frozen=True, slots=True)
class Welcome:
    """Tell a connection that it carries the session now.

    `resumed`: its client lacks nothing, the next frame is the one after its last. Otherwise what it knew is
    void: the next frame has the number after `sequence`, and absolutes of everything follow.
    """

    connection: Hashable
    resumed: bool
    sequence: int


@final
@dataclass(frozen=True, slots=True)
class Send:
    """Hand a frame to a connection."""

    connection: Hashable
    sequence: int
    frame: bytes


@final
@dataclass(frozen=True, slots=True)
class Refresh:
    """Push an absolute of everything now: one `Push` each, before any other event."""


@final
@dataclass(frozen=True, slots=True)
class Cut:
    """End a connection, for this reason. It carries the session no more."""

    connection: Hashable
    reason: CutReason


@final
@dataclass(frozen=True, slots=True)
class Alarm:
    """Come back with `Overdue(alarm)` after `seconds`."""

    seconds: float
    alarm: int


Effect = Welcome | Send | Refresh | Cut | Alarm

# -- the machine ---------------------------------------------------------------------------------------


@final
class Outgoing:
    """What one client is owed.

    Args:
        keep: how many frames are kept for a client that comes back, at least `window`.
        keep_bytes: and how many bytes they may have together; the newest frame is kept in any case.
        window: how many frames may be handed to a connection and not yet be written, at least 2.
        patience: seconds for which a client may be behind.
    """

    __slots__ = (
        "_alarm",
        "_begun",
        "_bytes",
        "_connection",
        "_frames",
        "_handed",
        "_total",
        "_written",
        "keep",
        "keep_bytes",
        "last",
        "patience",
        "window",
    )

    def __init__(self, *, keep: int, keep_bytes: int, window: int, patience: float) -> None:
        if not 2 <= window <= keep or keep_bytes < 1 or not patience > 0:
            raise Misuse(
                f"wanted 2 <= window <= keep, keep_bytes and patience above 0, got window={window!r}, "
                f"keep={keep!r}, keep_bytes={keep_bytes!r}, patience={patience!r}"
            )
        self.keep = keep
        self.keep_bytes = keep_bytes
        self.window = window
        self.patience = patience
        # The last sequence number that was given to a frame.
        self.last = 0
        # Invariant: `_frames` holds the frames `last - len(_frames) + 1` to `last`, `_bytes` their size.
        self._frames: deque[bytes] = deque()
        self._bytes = 0
        self._connection: Hashable = None
        # Invariant: the connection was handed, or needs no more, every frame up to `_handed`.
        self._handed = 0
        # Invariant: 0 <= _total - _written <= window: frames handed to this connection, and written by it.
        self._total = 0
        self._written = 0
        # Rises with every alarm; odd while the client is behind.
        self._alarm = 0
        # Whether anybody has carried the session yet: if not, no client can know anything of it.
        self._begun = False

    def __repr__(self) -> str:
        return f"<Outgoing at {self.last}, {len(self._frames)} kept>"

    @property
    def next(self) -> int:
        """The sequence number of the next frame."""
        return self.last + 1

    @property
    def connection(self) -> Hashable:
        """Who carries the session; None: nobody."""
        return self._connection

    @property
    def behind(self) -> bool:
        """Whether the client's window was used up and is not half free again."""
        return self._alarm % 2 == 1

    def handle(self, event: Event) -> list[Effect]:
        """What is to be done about an event, in order."""
        match event:
            case Push(frame):
                return self._push(frame)
            case Written(connection, total):
                return self._on_written(connection, total)
            case Attach(connection, after):
                return self._attach(connection, after)
            case Detach(connection):
                if connection == self._connection:
                    self._let_go()
                return []
            case Overdue(alarm):
                if alarm != self._alarm or not self.behind or self._connection is None:
                    return []
                slow = self._connection
                self._let_go()
                return [Cut(slow, "slow")]
            case _:
                assert_never(event)

    def _attach(self, connection: Hashable, after: int | None) -> list[Effect]:
        effects: list[Effect] = []
        if self._connection is not None and self._connection != connection:
            effects.append(Cut(self._connection, "displaced"))
        self._let_go()
        self._connection = connection
        self._total = self._written = 0
        resumed = self._begun and after is not None and self._first - 1 <= after <= self.last
        self._begun = True
        self._handed = after if resumed and after is not None else self.last
        effects.append(Welcome(connection, resumed, self._handed))
        if resumed:
            effects += self._hand_over()
        else:
            effects.append(Refresh())
        return effects

    def _let_go(self) -> None:
        self._connection = None
        self._catch_up()

    def _push(self, frame: bytes) -> list[Effect]:
        self.last += 1
        self._frames.append(frame)
        self._bytes += len(frame)
        while len(self._frames) > self.keep or (self._bytes > self.keep_bytes and len(self._frames) > 1):
            self._bytes -= len(self._frames.popleft())
        return self._hand_over()

    def _on_written(self, connection: Hashable, total: int) -> list[Effect]:
        if connection != self._connection or not self._written < total <= self._total:
            return []
        self._written = total
        if self.behind and self._total - self._written <= self.window // 2:
            self._catch_up()
        return self._hand_over()

    def _catch_up(self) -> None:
        if self.behind:
            self._alarm += 1

    def _hand_over(self) -> list[Effect]:
        """Hand over what there is room for, unless the client is behind."""
        if self._connection is None or self.behind:
            return []
        effects: list[Effect] = []
        if self._handed < self._first - 1:
            # What comes next is no longer kept: everything anew, from here on.
            self._handed = self.last
            return [Refresh()]
        while self._handed < self.last:
            if self._total - self._written >= self.window:
                self._alarm += 1
                effects.append(Alarm(self.patience, self._alarm))
                break
            self._handed += 1
            self._total += 1
            effects.append(Send(self._connection, self._handed, self._frames[self._handed - self._first]))
        return effects

    @property
    def _first(self) -> int:
        """The sequence number of the oldest frame that is kept; `last` + 1 if none is."""
        return self.last - len(self._frames) + 1


# -- answers that can be repeated ----------------------------------------------------------------------

Verdict = Literal["new", "old", "other"]


@final
class Answers:
    """The last answers of a session, so that a command that is sent again gets the same one.

    A command is told by its number, which rises from command to command, and by a digest of what it says.

    Args:
        keep: how many answers are kept.
    """

    __slots__ = ("_kept", "highest", "keep")

    def __init__(self, keep: int) -> None:
        self.keep = keep
        self.highest = 0
        self._kept: OrderedDict[int, tuple[Hashable, bytes | None]] = OrderedDict()

    def begin(self, number: int, digest: Hashable) -> Verdict | bytes:
        """Look a command up: its answer; or what is known about it.

        Returns: the answer that was given; "new" if it is to be carried out (also one that was begun and
            never answered); "old" if its answer is not kept; "other" if the number meant something else.
        """
        found = self._kept.get(number)
        if found is None:
            if number <= self.highest:
                return "old"
            self.highest = number
            self._keep(number, digest, None)
            return "new"
        known, answer = found
        if known != digest:
            return "other"
        return "new" if answer is None else answer

    def answered(self, number: int, digest: Hashable, answer: bytes) -> None:
        """Keep an answer; the first one counts."""
        found = self._kept.get(number)
        if found is not None and found[0] == digest and found[1] is None:
            self._kept[number] = (digest, answer)

    def _keep(self, number: int, digest: Hashable, answer: bytes | None) -> None:
        self._kept[number] = (digest, answer)
        while len(self._kept) > self.keep:
            self._kept.popitem(last=False)
