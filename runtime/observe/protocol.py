"""The admin protocol as values: refusals, and requests and replies as lines of bytes. Pure.

One line is one JSON object. A request is `{"id": 1, "op": "tree", ...}`, its reply bears the same id and is
either `{"id": 1, "ok": ...}` or `{"id": 1, "error": {"what", "why", "next", "code"}}`. Which requests there
are, `requests` says, whose names are the protocol's too.

Source: Jupyter's message protocol, without its five channels; the newline-delimited JSON of docker and
podman.
"""

from __future__ import annotations

import difflib
import enum
import json
from collections.abc import Iterable
from typing import Any, TypeVar, final

import msgspec

from ..errors import BanyanError
from .requests import (
    BACK_OPERATIONS,
    OPERATIONS,
    REQUESTS,
    Abort,
    Adopt,
    AnyRequest,
    At,
    BackRequest,
    Break,
    Complete,
    Config,
    Crashes,
    Doctor,
    Drain,
    Drop,
    Eval,
    Id,
    Info,
    Interrupt,
    Kill,
    Level,
    Log,
    Mailbox,
    Move,
    Moves,
    Names,
    Nodes,
    Plan,
    Poison,
    Poisoned,
    Ps,
    Rebalance,
    Record,
    Replay,
    Request,
    Restart,
    Resume,
    Shards,
    Stack,
    Stacks,
    Stalls,
    State,
    Stop,
    Store,
    Suspend,
    Timers,
    Trace,
    Tree,
    operation_of,
)

__all__ = [
    "BACK_OPERATIONS",
    "OPERATIONS",
    "REPLY_LIMIT",
    "REQUESTS",
    "REQUEST_LIMIT",
    "WORDS",
    "Abort",
    "Adopt",
    "AnyRequest",
    "At",
    "BackRequest",
    "BadRequest",
    "Break",
    "Code",
    "Complete",
    "Config",
    "Crashes",
    "Doctor",
    "Drain",
    "Drop",
    "Eval",
    "Id",
    "Info",
    "Interrupt",
    "Kill",
    "Level",
    "Lines",
    "Log",
    "Mailbox",
    "Move",
    "Moves",
    "Names",
    "Nodes",
    "Oversize",
    "Plan",
    "Poison",
    "Poisoned",
    "Ps",
    "Rebalance",
    "Record",
    "Refusal",
    "Replay",
    "Request",
    "Restart",
    "Resume",
    "Shards",
    "Stack",
    "Stacks",
    "Stalls",
    "State",
    "Stop",
    "Store",
    "Suspend",
    "Timers",
    "Trace",
    "Tree",
    "decode_back_request",
    "decode_reply",
    "decode_request",
    "encode_error",
    "encode_ok",
    "encode_request",
    "operation_of",
    "suggestion",
    "too_long",
]

# Bytes of one request, without its newline. Whoever sends more is cut off.
REQUEST_LIMIT = 1 << 20
# Bytes of one reply. A larger answer is refused, with the advice to ask for a part.
REPLY_LIMIT = 16 << 20
# What `banyan remsh` understands of a node that runs no typed lines.
WORDS = ("at", "crashes", "doctor", "help", "info", "log", "mailbox", "ps", "quit", "stack", "state", "top", "tree")


@final
class Code(enum.IntEnum):
    """Why something was refused, as the exit code of the command that asked."""

    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_FOUND = 4
    REFUSED = 5
    TIMEOUT = 6


class Refusal(BanyanError):
    """Something was not done: `what`, `why`, what to do `next`, and the exit `code` of a command."""

    def __init__(self, what: str, why: str, next: str, code: int) -> None:
        super().__init__(f"{what}: {why}; {next}")
        self.what = what
        self.why = why
        self.next = next
        self.code = code


@final
class BadRequest(Refusal):
    """A line that is no request. `request_id` is its id, if one could be read."""

    def __init__(self, what: str, why: str, next: str, request_id: Id = None) -> None:
        super().__init__(what, why, next, Code.USAGE)
        self.request_id = request_id


@final
class Oversize(BanyanError):
    """A line longer than the cap; the connection is of no more use. `limit` in bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"a line has more than {limit} bytes")
        self.limit = limit


# -- requests ------------------------------------------------------------------------------------------


class _Header(msgspec.Struct, frozen=True):
    id: Id = None
    op: str | None = None


_R = TypeVar("_R", bound=Request)

_headers = msgspec.json.Decoder(_Header)
_requests: msgspec.json.Decoder[AnyRequest] = msgspec.json.Decoder(AnyRequest)
_back_requests: msgspec.json.Decoder[BackRequest] = msgspec.json.Decoder(BackRequest)

_SHAPE = 'send one JSON object in a line, like {"id": 1, "op": "tree"}'


def decode_request(line: bytes) -> AnyRequest:
    """The request in a line; raises BadRequest for anything else."""
    return _decode(line, _requests, OPERATIONS)


def decode_back_request(line: bytes) -> BackRequest:
    """The request to the back door in a line; raises BadRequest for anything else."""
    return _decode(line, _back_requests, BACK_OPERATIONS)


def _decode(line: bytes, decoder: msgspec.json.Decoder[_R], operations: dict[str, type[Request]]) -> _R:
    try:
        return decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _bad_request(line, error, operations) from None


def _bad_request(line: bytes, error: Exception, operations: dict[str, type[Request]]) -> BadRequest:
    why = str(error) or type(error).__name__
    try:
        header = _headers.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return BadRequest("the line is no request", why, _SHAPE)
    there_are = f"there are: {', '.join(operations)}"
    if header.op is None:
        return BadRequest("the request names no operation", there_are, _SHAPE, header.id)
    if header.op not in operations:
        what = f"there is no operation {header.op[:100]!r}"
        return BadRequest(what, there_are, suggestion(header.op, operations), header.id)
    fields = [field.name for field in msgspec.structs.fields(operations[header.op]) if field.name != "id"]
    known = f"its fields are: {', '.join(fields)}" if fields else "it has no fields"
    return BadRequest(f"the request {header.op!r} is not as it should be", why, known, header.id)


def suggestion(word: str, known: Iterable[str]) -> str:
    """What to do about a word that nobody knows: the nearest one that somebody does."""
    close = difflib.get_close_matches(word[:100], list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else "use one of these"


# -- replies -------------------------------------------------------------------------------------------


def encode_ok(request_id: Id, value: object) -> bytes:
    """A reply as a line. An answer over the cap becomes a refusal."""
    line = _encode({"id": request_id, "ok": value})
    if len(line) <= REPLY_LIMIT:
        return line
    return encode_error(request_id, too_long(len(line)))


def too_long(size: int) -> Refusal:
    """An answer of so many bytes, or more, is not sent."""
    why = f"it has {size} bytes, of {REPLY_LIMIT} allowed"
    return Refusal("the answer is too long", why, "ask for a part of it", Code.FAILED)


def encode_error(request_id: Id, refusal: Refusal) -> bytes:
    """A refusal as a line."""
    error = {"what": refusal.what, "why": refusal.why, "next": refusal.next, "code": int(refusal.code)}
    return _encode({"id": request_id, "error": error})


def _encode(reply: dict[str, object]) -> bytes:
    try:
        return msgspec.json.encode(reply) + b"\n"
    except UnicodeEncodeError:  # half a surrogate pair, which UTF-8 cannot say: in a file's name, in a print
        return json.dumps(reply, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


class _Error(msgspec.Struct, frozen=True):
    what: str
    why: str
    next: str
    code: int


class _Reply(msgspec.Struct, frozen=True):
    id: Id = None
    ok: Any = None
    error: _Error | None = None


_replies = msgspec.json.Decoder(_Reply)


def encode_request(request: Request) -> bytes:
    """A request as a line."""
    return msgspec.json.encode(request) + b"\n"


def decode_reply(line: bytes) -> tuple[Id, Any, Refusal | None]:
    """The (id, value, refusal) of a reply; raises Refusal if the line is none."""
    try:
        reply = _replies.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        what, advice = "the answer is no reply", "is it a Banyan node of this version?"
        raise Refusal(what, str(error), advice, Code.FAILED) from None
    said = reply.error
    if said is None:
        return reply.id, reply.ok, None
    return reply.id, None, Refusal(said.what, said.why, said.next, said.code)


# -- lines ---------------------------------------------------------------------------------------------


@final
class Lines:
    """Bytes in, whole lines out. Holds less than `limit` bytes of an unfinished line."""

    def __init__(self, limit: int = REQUEST_LIMIT) -> None:
        self.limit = limit
        self._held: list[bytes] = []
        # Invariant: the sum of the lengths in `_held`, at most `limit`; none of them has a newline.
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, without their newlines; empty ones are left out.

        Raises:
            Oversize: a line is longer than the limit; the lines before it in `data` are lost too.
        """
        *whole, rest = data.split(b"\n")
        found: list[bytes] = []
        for part in whole:
            if self._size + len(part) > self.limit:
                raise Oversize(self.limit)
            line = b"".join([*self._held, part]).strip() if self._held else part.strip()
            self._held, self._size = [], 0
            if line:
                found.append(line)
        if self._size + len(rest) > self.limit:
            raise Oversize(self.limit)
        if rest:
            self._held.append(rest)
            self._size += len(rest)
        return found
