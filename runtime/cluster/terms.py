"""What travels between nodes: all that the codec knows, and what means something between processes only.

Added to the codec's values are pids, references, names of another node (`at`), exit reasons, `Exit`, `Down` and
`Timeout` messages, and casts. A pid that comes home is the very pid again, and its process is found without a look-up
from then on; a reference that comes back is the same object while somebody holds it.

A crash travels as text: `Crash(RemoteError(...))`. An exception is code and data of the program that raised it, and
nothing from a wire may name a class. What cannot travel raises at the sender (`EncodeError`, a Misuse), except in an
exit reason, where nobody is there to be told: that becomes text.

All of it is decoded with every check on. Messages are shared on one node and copied between two: change nothing that
you have sent, and it makes no difference.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar, cast

from ..behaviours.event_manager import EventEnvelope
from ..behaviours.gen_server import CastEnvelope
from ..codec import cbor
from ..codec.carried import carry
from ..codec.enums import enumeration
from ..codec.errors import DecodeError, EncodeError
from ..errors import RemoteError
from ..kernel.elsewhere import NamesOf, RemoteProcess, at
from ..kernel.exits import Crash, ExitReason, Shutdown, shown
from ..kernel.ids import Pid, Ref, Via
from ..kernel.signals import Down, Exit, Timeout
from .wire import NODE_CAP

T = TypeVar("T")

# Characters of a traceback, or of an exit reason that became text.
MOST_TEXT: Final = 16_384


class Place(Protocol):
    """The node that encodes or decodes: it knows what a pid or a reference means here."""

    def pid_of(self, node: str, creation: int, number: int) -> Pid:
        """The pid with this identity: of a process here, or with a stand-in."""

    def ref_of(self, node: str, creation: int, number: int) -> Ref:
        """The reference with this identity."""

    def identity_of(self, ref: Ref) -> tuple[str, int, int]:
        """The node, creation and number of a reference, which can be found by them from now on."""


_place: Place | None = None
# Values of these types mean the same everywhere.
_EVERYWHERE: Final = frozenset({bytes, str, int, float, bool, type(None)})


def encode(place: Place, value: object, cap: int = NODE_CAP) -> bytes:
    """The bytes of a value, made at `place`.

    Raises:
        EncodeError: something in it cannot travel, or it has more than `cap` bytes.
    """
    global _place
    if type(value) in _EVERYWHERE:
        data = cbor.encode(value)
    else:
        before, _place = _place, place
        try:
            data = cbor.encode(value)
        finally:
            _place = before
    if len(data) > cap:
        raise EncodeError(f"a message of at most {cap} bytes", f"one of {len(data)}", "send it in parts")
    return data


def decode(place: Place, data: bytes) -> object:
    """The value of bytes that another node sent. Raises DecodeError; nothing is built from what it refuses."""
    global _place
    before, _place = _place, place
    try:
        return cbor.decode(data, checked=True)
    finally:
        _place = before


def encode_reason(place: Place, reason: object) -> bytes:
    """The bytes of an exit reason; of one that cannot travel, of its text."""
    try:
        return encode(place, reason)
    except EncodeError:
        pass
    if type(reason) is Shutdown:
        return encode(place, Shutdown(_text(shown(reason.detail))))
    return encode(place, _text(shown(reason)))


def told(error: BaseException) -> RemoteError:
    """What another node is told of an exception: its type's name, its text, its traceback, all as text."""
    if type(error) is RemoteError:
        return error
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    try:
        text = str(error)
    except Exception as failed:  # an application's own words
        text = f"<unprintable: {type(failed).__name__}>"
    try:
        trace = "".join(traceback.format_exception(error))
    except Exception as failed:  # likewise: a traceback quotes them
        trace = f"<no traceback: {type(failed).__name__}>"
    return RemoteError(_text(name), _text(text), _text(trace))


def _text(text: str) -> str:
    """Text that can travel: without lone surrogates, and not without end."""
    if len(text) > MOST_TEXT:
        text = text[: MOST_TEXT // 2] + "\n...\n" + text[-MOST_TEXT // 2 :]
    return text.encode("utf-8", "replace").decode()


# -- what the codec does not know -----------------------------------------------------------------------


def _here(what: str) -> None:
    if _place is None:
        raise EncodeError("a value that means something by itself", what, "keep a name instead")


def _there() -> Place:
    if _place is None:
        raise DecodeError("a value that means something by itself", "one that does between nodes only")
    return _place


def _is(kind: type[T], value: object) -> T:
    if type(value) is not kind:
        raise DecodeError(kind.__qualname__, type(value).__qualname__)
    return value


def _take_pid(pid: Pid) -> tuple[object, ...]:
    process = pid._process
    if isinstance(process, RemoteProcess) and process.address is not None:
        raise EncodeError("the pid of a process", f"the address of {process.address!r}", "send at(name, node)")
    return pid.node, pid.creation, pid.number


def _make_pid(node: object, creation: object, number: object) -> Pid:
    return _there().pid_of(*_identity(node, creation, number))


def _make_ref(node: object, creation: object, number: object) -> Ref:
    return _there().ref_of(*_identity(node, creation, number))


def _identity(node: object, creation: object, number: object) -> tuple[str, int, int]:
    if not 0 < len(_is(str, node)) <= 255:
        raise DecodeError("the name of a node", "text of another length")
    for one in (creation, number):
        if not 0 <= _is(int, one) < 1 << 64:
            raise DecodeError("a number of 64 bits", "another")
    return cast("str", node), cast("int", creation), cast("int", number)


def _take_via(via: Via) -> tuple[object, ...]:
    if type(via.registry) is not NamesOf:
        raise EncodeError("a name that every node understands", "a Via of another registry", "send its pid")
    return via.name, via.registry.node


def _make_via(name: object, node: object) -> Via:
    if not _is(str, name) or not _is(str, node):
        raise DecodeError("a name and a node", "an empty one")
    return at(cast("str", name), cast("str", node))


def _parts(error: RemoteError) -> tuple[object, ...]:
    return error.type_name, error.text, error.remote_traceback


def _make_error(name: object, text: object, trace: object) -> RemoteError:
    return RemoteError(_is(str, name), _is(str, text), _is(str, trace))


def _make_down(ref: object, monitored: object, reason: object) -> Down:
    if type(monitored) not in (Pid, str, Via):
        raise DecodeError("a pid or a name", type(monitored).__qualname__)
    return Down(_is(Ref, ref), cast("Pid | str | Via", monitored), reason)


def _carry(
    cls: type[T], name: str, count: int, take: Callable[[Any], tuple[object, ...]], make: Callable[..., T]
) -> None:
    """Let values of a class travel between nodes; a journal goes on refusing them."""

    def taken(value: Any) -> tuple[object, ...]:
        _here(f"{cls.__module__}.{cls.__qualname__}")
        return take(value)

    def made(*parts: object) -> T:
        _there()
        return make(*parts)

    carry(cls, name, count, taken, made)


enumeration("banyan.exit_reason")(ExitReason)
_carry(Pid, "banyan.pid", 3, _take_pid, _make_pid)
_carry(Ref, "banyan.ref", 3, lambda ref: _there().identity_of(ref), _make_ref)
_carry(Via, "banyan.at", 2, _take_via, _make_via)
_carry(Crash, "banyan.crash", 3, lambda crash: _parts(told(crash.error)), lambda *parts: Crash(_make_error(*parts)))
_carry(RemoteError, "banyan.error", 3, _parts, _make_error)
_carry(Shutdown, "banyan.shutdown", 1, lambda reason: (reason.detail,), Shutdown)
_carry(Exit, "banyan.exit", 2, lambda exit: (exit.source, exit.reason), lambda pid, why: Exit(_is(Pid, pid), why))
_carry(Down, "banyan.down", 3, lambda down: (down.ref, down.monitored, down.reason), _make_down)
_carry(Timeout, "banyan.timeout", 2, lambda it: (it.ref, it.message), lambda ref, what: Timeout(_is(Ref, ref), what))
_carry(CastEnvelope, "banyan.cast", 1, lambda envelope: (envelope.request,), CastEnvelope)
_carry(EventEnvelope, "banyan.event", 1, lambda envelope: (envelope.request,), EventEnvelope)
