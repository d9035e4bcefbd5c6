"""A client's session as a process: it outlives connections, and ends when nobody has come back in time.

The base of a guest's own: a subclass pushes with `push`, and says in `absolutes` what a client needs that
knows nothing. All the order and the bounds are in `sessions.Outgoing`, whose effects it performs.

    class Player(ClientSession):
        def begin(self, player): self.player = player
        def absolutes(self): return [{"type": "absolute", "view": ...}]

It is a temporary child: if it crashes, its connection is ended with `session_lost`, the client connects
again with its resume token, and a new session begins under the same id. Commands are numbered by the client
under that id, so one that was under way is repeated and applied once.

Ends: with Shutdown("expired") after `resume_seconds` without a connection; with Shutdown("moved") when its client
was sent to another node; stop it with Shutdown("displaced") when another login takes its place.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, assert_never, final

from ..behaviours.gen_server import Continue, GenServer, Stop
from ..errors import MailboxFull
from ..kernel.api import monitor, self_pid, send_nowait, world
from ..kernel.exits import SHUTDOWN, Shutdown
from ..kernel.ids import Pid
from ..kernel.messages import Call
from ..kernel.requests import Caller
from ..kernel.signals import Down
from ..kernel.timer import cancel_timer, send_after
from ..kernel.timers import Timer
from . import frames
from .frames import Cause
from .limits import TokenBucket
from .sessions import (
    Alarm,
    Answers,
    Attach,
    Cut,
    Detach,
    Effect,
    Event,
    Outgoing,
    Overdue,
    Push,
    Refresh,
    Send,
    Verdict,
    Welcome,
    Written,
)

EXPIRED = Shutdown("expired")
MOVED = Shutdown("moved")
DISPLACED = Shutdown("displaced")

# -- what a session is asked ---------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Join(Call[None]):
    """The calling connection takes the session over; the welcome comes as a `Deliver`, before all else.

    `after`: the last sequence number that its client has, None for nothing; `more`: goes into the welcome.
    """

    connection: Pid
    after: int | None
    more: dict[str, Any] = field(repr=False)  # it holds the resume token


@final
@dataclass(frozen=True, slots=True)
class Begin(Call[Verdict | bytes | None]):
    """A client's frame: may it be carried out? `number` None: it is no command, and may be asked anew.

    The reply is as of `Answers.begin`, or None if the account asks too much.
    """

    number: int | None
    digest: Hashable


@final
@dataclass(frozen=True, slots=True)
class GoElsewhere(Call[bool]):
    """The session lives on another node too: its client is sent there, and it ends here.

    The reply: whether there was a client to be told. Without one nothing is done, for it comes back to here.
    """

    gateway: str
    resume: str = field(repr=False)


@final
@dataclass(frozen=True, slots=True)
class Answered:
    """A cast: this is the answer to a command."""

    number: int
    digest: Hashable
    answer: bytes


# -- what a session tells its connection ---------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Deliver:
    """A frame to be written; `counted` in what the connection reports with `Written`."""

    frame: bytes = field(repr=False)
    counted: bool


@final
@dataclass(frozen=True, slots=True)
class End:
    """The connection is to be ended."""

    cause: Cause


@final
@dataclass(frozen=True, slots=True)
class Keeping:
    """What is kept for a client.

    Attributes:
        keep, keep_bytes, window, patience: as of `sessions.Outgoing`.
        answers: how many answers can be repeated.
        resume_seconds: how long a session waits for its client to come back.
        rate, burst: frames a second, and at once, of one account, over whatever connections.
    """

    keep: int = 256
    keep_bytes: int = 256 * 1024
    window: int = 64
    patience: float = 10.0
    answers: int = 64
    resume_seconds: float = 60.0
    rate: float = 50.0
    burst: float = 100.0


@final
@dataclass(frozen=True, slots=True)
class _Overdue:
    alarm: int


@final
@dataclass(frozen=True, slots=True)
class _Expired:
    absence: int


class ClientSession(GenServer):
    """The base of a guest's session process.

    Args of its start: the session's id, a `Keeping`, and what `begin` takes.
    """

    trap_exit = True

    # -- what a subclass says ------------------------------------------------------------------------

    def begin(self, *args: Any) -> None:
        """Runs first, with the arguments of the start after the first two. Must not wait."""

    def absolutes(self) -> Iterable[dict[str, Any]]:
        """Everything that a client needs that knows nothing, as bodies of pushes."""
        return ()

    def handle_other(self, message: Any) -> Any:
        """Runs for every message that is not the session's own. Returns as `handle_info`."""
        return super().handle_info(message)

    def handle_request(self, request: Any, caller: Caller) -> Any:
        """Runs for every call that is not the session's own. Returns as `handle_call`."""
        return super().handle_call(request, caller)

    async def farewell(self, reason: object) -> None:
        """Runs before the end, as `terminate`; `EXPIRED` means that the client did not come back."""

    # -- what a subclass uses ------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether a client is there."""
        return self.__outgoing.connection is not None

    def push(self, body: dict[str, Any]) -> None:
        """Push something to the client, now or when it comes back. `body` gets its sequence number."""
        outgoing = self.__outgoing
        self.__perform(outgoing.handle(Push(frames.numbered(outgoing.next, body))))

    # -- the process ---------------------------------------------------------------------------------

    def init(self, session: str, keeping: Keeping, *args: Any) -> Any:
        self.session = session
        self.keeping = keeping
        self.__outgoing = Outgoing(
            keep=keeping.keep,
            keep_bytes=keeping.keep_bytes,
            window=keeping.window,
            patience=keeping.patience,
        )
        self.__answers = Answers(keeping.answers)
        self.__bucket = TokenBucket(keeping.rate, keeping.burst, world().now())
        self.__more: dict[str, Any] = {}
        # Rises whenever a connection comes or goes, so that an old timer can be told.
        self.__absence = 0
        self.__timer: Timer | None = None
        self.begin(*args)
        self.__wait_for_client()

    def handle_call(self, request: Any, caller: Caller) -> Any:
        match request:
            case Join(connection, after, more):
                self.__come(connection)
                self.__more = more
                self.__handle(Attach(connection, after))
                return None
            case Begin(number, digest):
                if not self.__bucket.take(world().now()):
                    return None
                return "new" if number is None else self.__answers.begin(number, digest)
            case GoElsewhere(gateway, resume):
                return self.__send_away(gateway, resume)
            case _:
                return self.handle_request(request, caller)

    def handle_cast(self, request: Any) -> Any:
        match request:
            case Written():
                self.__handle(request)
            case Answered(number, digest, answer):
                self.__answers.answered(number, digest, answer)
            case _:
                return super().handle_cast(request)
        return None

    def handle_info(self, message: Any) -> Any:
        match message:
            case Down(monitored=pid) if isinstance(pid, Pid):
                # Every connection that ever joined is watched; only the present one matters.
                if pid == self.__outgoing.connection:
                    self.__handle(Detach(pid))
                    self.__wait_for_client()
            case _Overdue(alarm):
                self.__handle(Overdue(alarm))
            case _Expired(absence):
                if absence == self.__absence and self.__outgoing.connection is None:
                    return Stop(EXPIRED)
            case _:
                return self.handle_other(message)
        return None

    async def terminate(self, reason: object) -> None:
        # After a crash nobody is told: the connection is watching, and its client may resume.
        connection = self.__outgoing.connection
        if isinstance(connection, Pid) and (reason == DISPLACED or reason is SHUTDOWN):
            _tell(connection, End(frames.DISPLACED if reason == DISPLACED else frames.STOPPING))
        await self.farewell(reason)

    def state(self) -> object:
        outgoing = self.__outgoing
        return {
            "session": self.session,
            "connection": outgoing.connection,
            "sequence": outgoing.last,
            "behind": outgoing.behind,
        }

    def summary(self) -> str:
        outgoing = self.__outgoing
        return f"seq {outgoing.last}" + ("" if outgoing.connection is not None else ", away")

    def __send_away(self, gateway: str, resume: str) -> Any:
        connection = self.__outgoing.connection
        if connection is None:
            return False
        _tell(connection, End(frames.draining(gateway, resume)))
        return Stop(MOVED, True)

    def __come(self, connection: Pid) -> None:
        self.__absence += 1
        if self.__timer is not None:
            cancel_timer(self.__timer)
            self.__timer = None
        monitor(connection)

    def __wait_for_client(self) -> None:
        self.__absence += 1
        self.__timer = send_after(self.keeping.resume_seconds, self_pid(), _Expired(self.__absence))

    def __handle(self, event: Event) -> None:
        self.__perform(self.__outgoing.handle(event))

    def __perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(connection, _, frame):
                    _tell(connection, Deliver(frame, counted=True))
                case Welcome(connection, resumed, sequence):
                    _tell(connection, Deliver(frames.welcome(resumed, sequence, self.__more), counted=False))
                case Refresh():
                    for body in self.absolutes():
                        self.push(body)
                case Cut(connection, reason):
                    _tell(connection, End(frames.DISPLACED if reason == "displaced" else frames.SLOW))
                    if self.__outgoing.connection is None:
                        self.__wait_for_client()
                case Alarm(seconds, alarm):
                    send_after(seconds, self_pid(), _Overdue(alarm))
                case _:
                    assert_never(effect)


def _tell(connection: Hashable, message: Deliver | End) -> None:
    assert isinstance(connection, Pid)
    try:
        send_nowait(connection, message)
    except MailboxFull:
        pass  # its bound is far above what the machine hands over; whoever is so far behind is cut for it


__all__ = [
    "DISPLACED",
    "EXPIRED",
    "MOVED",
    "Answered",
    "Begin",
    "ClientSession",
    "Continue",
    "Deliver",
    "End",
    "GoElsewhere",
    "Join",
    "Keeping",
    "Written",
]
