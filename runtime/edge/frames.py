"""Frames: what goes over a client's connection, as JSON text; how one is read, and how one is refused.

A frame is one JSON object. What a client sends has an `op`, what it gets has a `type`. The guest declares
what clients may send as a tagged union of msgspec structs and says what it has to tell; what is told about
the connection itself is here. Pure.

A command has a number, `id`, that rises from command to command of a session. It may be sent again, and
gets the same answer. Whatever else is asked may bear an `id` too, which is only repeated.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar, final

import msgspec

from ..errors import BanyanError

T = TypeVar("T")

# JavaScript's largest safe integer: what every JSON reader keeps whole.
MOST: Final = 2**53 - 1

encode = msgspec.json.Encoder().encode


class Refusal(BanyanError):
    """A frame that is refused; the connection stays.

    Attributes:
        reason: a word for programs.
        text: what was wanted, what came, and what to do, for people.
        id: the number of the frame, if it had one that could be read.
        strike: whether it is the client's own fault, of which it has only so many.
    """

    def __init__(self, reason: str, text: str, *, id: int | None = None, strike: bool = False) -> None:
        super().__init__(text)
        self.reason = reason
        self.text = text
        self.id = id
        self.strike = strike


@final
@dataclass(frozen=True, slots=True)
class Cause:
    """Why a connection is ended: a word for programs, a sentence for people, a code for WebSocket.

    `more`: what else the bye says.
    """

    reason: str
    text: str
    code: int
    more: dict[str, Any] = field(default_factory=dict, repr=False, hash=False)  # it may hold a resume token


# RFC 6455, 7.4: 1001 going away, 1008 policy violation, 1011 internal error, 1012 restart, 1013 try again.
BINARY: Final = Cause("binary", "wanted text frames with JSON, got a binary one", 1003)
DISPLACED: Final = Cause("displaced", "another connection has taken this session over", 4001)
# Its bye says where: see `draining`.
DRAINING: Final = Cause("draining", "this node is being drained: connect to `gateway` and resume there", 1012)
FLOOD: Final = Cause("flood", "too many frames in too short a time: send fewer", 1008)
NO_LOGIN: Final = Cause("no_login", "wanted a login in time: log in with the first frame", 1008)
NONSENSE: Final = Cause("nonsense", "too many frames that could not be accepted", 1008)
SESSION_LOST: Final = Cause("session_lost", "the session has ended: connect again and resume", 1012)
SILENT: Final = Cause("silent", "no pong in time: is the connection still there?", 1008)
SLOW: Final = Cause("slow", "frames were not read in time: connect again and resume", 1008)
STOPPING: Final = Cause("stopping", "the gateway is stopping: connect again later", 1001)


class _Identified(msgspec.Struct):
    id: int | None = None


_identified = msgspec.json.Decoder(_Identified)


def read(decoder: msgspec.json.Decoder[T], text: str) -> T:
    """A client's frame as one of the guest's structs.

    Raises:
        Refusal: `not_json`, `unknown_op` or `bad_frame`, each a strike. Its text quotes nothing of the frame
            but the names of fields, since a frame may hold a token.
    """
    try:
        return decoder.decode(text)
    except msgspec.ValidationError as error:
        if "`$.op`" in str(error) or "field `op`" in str(error):
            reason, wanted = "unknown_op", "wanted an op of this gateway in the field `op`"
        else:
            reason, wanted = "bad_frame", f"wanted a frame as documented: {_safe(error)}"
        raise Refusal(reason, wanted, id=_number(text), strike=True) from None
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        raise Refusal("not_json", "wanted one JSON object in a frame, got something else", strike=True) from None


def _safe(error: msgspec.ValidationError) -> str:
    # An invalid enum or tag is the only error whose text repeats a value.
    text = str(error)
    return "invalid value" + text[text.rfind(" - at ") :] if text.startswith("Invalid") else text[:200]


def _number(text: str) -> int | None:
    try:
        number = _identified.decode(text).id
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None
    return number if number is not None and 0 <= number <= MOST else None


def reply(number: int | None, ok: Any) -> bytes:
    """The answer to a frame that was carried out."""
    return encode({"type": "reply", "id": number, "ok": ok})


def refused(refusal: Refusal) -> bytes:
    """The answer to a frame that was not."""
    return encode({"type": "refused", "id": refusal.id, "reason": refusal.reason, "text": refusal.text})


def bye(cause: Cause) -> bytes:
    """The last frame before a connection is ended from here."""
    return encode({"type": "bye", "reason": cause.reason, "text": cause.text, **cause.more})


def draining(gateway: str, resume: str) -> Cause:
    """The cause of who is sent to another node: where its gateway listens, and the token that is good there."""
    return replace(DRAINING, more={"gateway": gateway, "resume": resume})


def welcome(resumed: bool, sequence: int, more: dict[str, Any]) -> bytes:
    """The answer to a login or resume that was accepted."""
    return encode({"type": "welcome", "resumed": resumed, "seq": sequence, **more})


def numbered(sequence: int, body: dict[str, Any]) -> bytes:
    """A push: `body` with its sequence number."""
    return encode({"seq": sequence, **body})
