"""Whether another node is well, judged by its heartbeats. Pure.

Each node sends a beat a second to each node that it is linked with, from outside its loop and over a connection
of its own, so that neither a callback that computes nor a full link holds it up. A beat carries how long ago the
sender's loop last came round. So three things are told apart that look alike to whoever waits for an answer:

    up       beats come, and the loop goes round
    busy     beats come, but the loop has not come round for BUSY_SECONDS: somebody holds it
    suspect  SUSPECT_BEATS beats in a row have not come: the program is stopped, or the network is
    down     none has come for DOWN_SECONDS: it is given up, and stays so

Silence is counted only while somebody listens: a node that was itself stopped does not take the others for dead
when it wakes up.

Source: Erlang's `net_ticktime`; the phi detector's lesson that suspicion and death are two things; SWIM.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, final

from . import wire
from .wire import Decoder, Frame, Kind

# Seconds between two beats.
BEAT_SECONDS: Final = 1.0
# Seconds between two looks at who is well.
LOOK_SECONDS: Final = 0.5
# Seconds without a round of the loop, after which a node is busy.
BUSY_SECONDS: Final = 1.0
# Beats in a row that did not come, after which a node is suspect.
SUSPECT_BEATS: Final = 2
# Seconds of silence, after which a node is down.
DOWN_SECONDS: Final = 8.0


class State(Enum):
    """How another node is."""

    UP = "up"
    BUSY = "busy"
    SUSPECT = "suspect"
    DOWN = "down"


@final
@dataclass(frozen=True, slots=True)
class Beat:
    """A beat has come; `age` is how many seconds ago the sender's loop came round."""

    age: float


@final
@dataclass(frozen=True, slots=True)
class Look:
    """Somebody looks, as it is done every LOOK_SECONDS."""


@final
@dataclass(frozen=True, slots=True)
class Changed:
    """The node is in another state now."""

    before: State
    after: State


@final
class Health:
    """One linked node's. It is up at first, and has DOWN_SECONDS for its first beat.

    Args:
        now: monotonic seconds; the link came up then.
    """

    __slots__ = ("_looked", "age", "silence", "state")

    def __init__(self, now: float) -> None:
        self.state = State.UP
        self.silence = 0.0
        self.age = 0.0
        self._looked = now

    def handle(self, event: Beat | Look, now: float) -> list[Changed]:
        """What has changed with an event."""
        before = self.state
        if before is State.DOWN:
            return []
        if isinstance(event, Beat):
            self.silence, self.age = 0.0, event.age
        else:
            # No more than two looks' worth: what is more, nobody was there to hear.
            self.silence += min(max(0.0, now - self._looked), 2 * LOOK_SECONDS)
        self._looked = max(now, self._looked)
        self.state = self._judged()
        return [Changed(before, self.state)] if self.state is not before else []

    def _judged(self) -> State:
        if self.silence >= DOWN_SECONDS:
            return State.DOWN
        if self.silence >= SUSPECT_BEATS * BEAT_SECONDS:
            return State.SUSPECT
        return State.BUSY if self.age >= BUSY_SECONDS else State.UP


@final
class Beats:
    """The two directions of one heartbeat connection, as bytes.

    A beat is a frame of kind BEAT: `to` counts them, `number` is the age in milliseconds.
    """

    __slots__ = ("_decoder", "sent")

    def __init__(self) -> None:
        self.sent = 0
        self._decoder = Decoder(0, frozenset({int(Kind.BEAT)}))

    def beat(self, age: float) -> bytes:
        """The next beat; `age` is how many seconds ago this node's loop came round."""
        self.sent += 1
        return wire.encode(Frame(Kind.BEAT, self.sent, max(0, round(age * 1000))))

    def feed(self, data: bytes) -> list[Beat]:
        """The beats that have come; raises WireError for what is none."""
        return [Beat(frame.number / 1000) for frame in self._decoder.feed(data)]
