"""A check for development: was a message changed after it was sent, and before it was received?

On the BEAM a message is copied. Here sender and receiver share it (P45), so a sender that goes on writing into a list
or an object that it has sent changes what the receiver will see. `Node(check_messages=True)` gives every process a
mailbox that takes a fingerprint of each message when it is put in (that of a timer is taken when the timer is set)
and looks again when it is taken out. Nothing of this exists while the check is off: not even a test of a flag.

Values that cannot change (numbers, text, pids, tuples and frozen records of such) are told at once and are not looked
at again. Containers, dataclasses and the application's own objects are followed to the ground; what belongs to Trio,
to Python's library or to an extension module is taken as it is.

What the check does not see: a change that is undone, or is made after the receiver has taken the message; the replies
to calls, which the caller takes without a mailbox.
"""

from __future__ import annotations

import dataclasses
import sys
import types
from collections import deque
from collections.abc import Hashable, Iterator
from enum import Enum
from itertools import islice
from typing import Any, final

from ..errors import BanyanError
from .ids import Pid, Ref
from .process import Process, here
from .signals import Uncounted

# What never changes. Everything below in this file is asked only for values of other types.
_ATOMS = frozenset(
    {
        *(int, float, complex, bool, str, bytes, range, slice, type(None), type(...), type(NotImplemented), type),
        *(types.FunctionType, types.BuiltinFunctionType, types.ModuleType, Pid, Ref),
    }
)
# Whose objects are handles to something, and may change by themselves; of our own packages all but the records.
_LIBRARIES = sys.stdlib_module_names | {"trio", "outcome"}
_OURS = ("runtime", "supervisors")
# Deeper than this nobody looks.
_DEEPEST = 100
_MANY = 5


class MutatedMessage(BanyanError):
    """A message was changed after it was sent: raised in the receiver, once, when it is about to take it.

    Attributes:
        message: the message as it is now.
        sender: who sent it; None if host code did.
        receiver: whose mailbox it lay in.
        place: `module:line` of the send, as far as it is known.
        changes: what has changed, each as a text like `Order.items[2]: was 1, is 5`.
    """

    def __init__(self, message: object, print_: _Print, receiver: Process, changes: list[str]) -> None:
        who = f"{print_.sender} ({print_.label})" if print_.sender is not None else "host code"
        super().__init__(
            f"a {type(message).__name__} that {who} sent to {receiver.pid} ({receiver.label}) at {print_.place} was "
            f"changed on its way: {'; '.join(changes)}. Processes share what they send: send a copy, or a frozen value"
        )
        self.message = message
        self.sender = print_.sender
        self.receiver = receiver.pid
        self.place = print_.place
        self.changes = changes


@final
class _Print:
    """A message as it was when it was sent, and who sent it where."""

    __slots__ = ("label", "place", "sender", "told", "was")

    def __init__(self, was: _Seen) -> None:
        found = here.get(None)
        process = found if type(found) is Process else None
        self.was = was
        self.sender = process.pid if process is not None else None
        self.label = process.label if process is not None else ""
        self.place = _place()
        # Whether the receiver has heard of a change; it then gets the message as it is.
        self.told = False


@final
class Sealed:
    """A message that was given away before it is put into a mailbox: by a timer."""

    __slots__ = ("message", "print_")

    def __init__(self, message: object, print_: _Print) -> None:
        self.message = message
        self.print_ = print_


def seal(message: object) -> object:
    """The message with its fingerprint, for a mailbox of this file; itself if it cannot change."""
    was = _look(message)
    return Sealed(message, _Print(was)) if was is not None else message


@final
class CheckedMailbox(deque[object]):
    """A mailbox that looks whether messages are taken out as they were put in.

    A changed one stays where it is when it is found, so that its caller, if it has one, learns of the receiver's end.
    """

    def __init__(self, process: Process) -> None:
        super().__init__()
        self._process = process
        # Invariant: one for each message, in the same order; None for one that cannot change.
        self._prints: deque[_Print | None] = deque()

    def append(self, message: object) -> None:
        message, print_ = _taken(message)
        self._prints.append(print_)
        super().append(message)

    def appendleft(self, message: object) -> None:
        message, print_ = _taken(message)
        self._prints.appendleft(print_)
        super().appendleft(message)

    def popleft(self) -> object:
        if self:
            self._check(0)
            self._prints.popleft()
        return super().popleft()

    def __delitem__(self, index: Any) -> None:
        self._check(index)
        del self._prints[index]
        super().__delitem__(index)

    def remove(self, message: object) -> None:
        """Drop a message unread."""
        index = next(index for index, one in enumerate(self) if one is message)
        del self._prints[index]
        super().__delitem__(index)

    def _check(self, index: int) -> None:
        print_ = self._prints[index]
        if print_ is not None and not print_.told:
            message = _inner(self[index])
            changes = list(islice(_changes(print_.was, type(message).__name__), _MANY))
            if changes:
                print_.told = True
                raise MutatedMessage(message, print_, self._process, changes)


def _taken(message: object) -> tuple[object, _Print | None]:
    """A message without its seal, and its fingerprint."""
    if type(message) is Uncounted and type(message.message) is Sealed:
        sealed = message.message
        sealed.print_.told = False
        return Uncounted(sealed.message), sealed.print_
    was = _look(_inner(message))
    return message, _Print(was) if was is not None else None


def _inner(message: object) -> object:
    """What an envelope of the runtime carries: the message itself, a request, or an event."""
    if type(message) is Uncounted:
        message = message.message
    if type(message).__module__.startswith("runtime.") and not dataclasses.is_dataclass(message):
        for name in ("request", "event"):
            if hasattr(message, name):
                return getattr(message, name)
    return message


# -- fingerprints -------------------------------------------------------------------------------------


@final
class _Seen:
    """One value that can change, or holds one that can: its parts as they were.

    `parts` are the things it consists of, by index, key, element or attribute; `inner` those that can change.
    """

    __slots__ = ("inner", "parts", "value")

    def __init__(self, value: object, parts: dict[Hashable, object]) -> None:
        self.value = value
        self.parts = parts
        self.inner: dict[Hashable, _Seen] = {}


def _look(value: object, seen: dict[int, _Seen] | None = None, depth: int = 0) -> _Seen | None:
    """The fingerprint of a value; None if nothing of it can change."""
    kind = type(value)
    if kind in _ATOMS:
        return None
    if seen is None:
        seen = {}
    elif id(value) in seen:
        return None  # it is looked at already, from elsewhere in the message
    parts = _parts(value)
    if parts is None or depth > _DEEPEST:
        return None
    found = seen[id(value)] = _Seen(value, parts)
    for step, part in parts.items():
        inner = _look(part, seen, depth + 1)
        if inner is not None:
            found.inner[step] = inner
    return found if found.inner or not _is_frozen(kind) else None


def _is_frozen(kind: type) -> bool:
    """Whether its instances always consist of the same things."""
    if issubclass(kind, (tuple, frozenset)):
        return True
    params = getattr(kind, "__dataclass_params__", None)
    return bool(params is not None and params.frozen)


def _parts(value: object) -> dict[Hashable, object] | None:
    """What a value consists of now; None for one that is taken as it is."""
    match value:
        case list() | tuple() | deque():
            return dict(enumerate(value))
        case dict():
            return dict(value)
        case set() | frozenset():
            return {part: part for part in value}  # allowed: nobody sees in which order
        case bytearray():
            return {"bytes": bytes(value)}
        case Enum() | BaseException() | type():
            return None
    kind = type(value)
    package = kind.__module__.partition(".")[0]
    if package in _LIBRARIES:
        return None
    names = _fields(kind)
    if names is None:
        if package in _OURS or not kind.__flags__ & _MADE_IN_PYTHON:
            return None
        names = (*_slots(kind), *getattr(value, "__dict__", ()))
    found: dict[Hashable, object] = {name: getattr(value, name, _GONE) for name in names}
    return {name: part for name, part in found.items() if part is not _GONE}


def _step(value: object, key: object) -> str:
    """How a part is written behind the whole."""
    match value:
        case list() | tuple() | deque() | dict():
            return f"[{_brief(key)}]"
        case set() | frozenset():
            return f"{{{_brief(key)}}}"
    return f".{key}"


class _Gone:
    def __repr__(self) -> str:
        return "nothing"


_GONE = _Gone()


def _fields(kind: type) -> tuple[str, ...] | None:
    """The fields of a record: of a dataclass, or a class of msgspec or attrs."""
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    struct = getattr(kind, "__struct_fields__", None)
    if struct is not None:
        return tuple(struct)
    attrs = getattr(kind, "__attrs_attrs__", None)
    return tuple(one.name for one in attrs) if attrs is not None else None


def _slots(kind: type) -> list[str]:
    """The attributes for which a class has a place of its own."""
    names: list[str] = []
    for one in kind.__mro__:
        slots = vars(one).get("__slots__", ())
        names += (slots,) if isinstance(slots, str) else slots
    return [name for name in names if not name.startswith("__")]


# Py_TPFLAGS_HEAPTYPE: the class was made by a class statement.
_MADE_IN_PYTHON = 1 << 9


def _changes(was: _Seen, path: str) -> Iterator[str]:
    """What differs between a value as it was and as it is."""
    parts = _parts(was.value) or {}
    for key in {**was.parts, **parts}:
        before, now = was.parts.get(key, _GONE), parts.get(key, _GONE)
        if before is not now and not (type(before) in _ATOMS and type(before) is type(now) and before == now):
            yield f"{path}{_step(was.value, key)}: was {_brief(before)}, is {_brief(now)}"
        elif key in was.inner:
            yield from _changes(was.inner[key], f"{path}{_step(was.value, key)}")


def _brief(value: object) -> str:
    try:
        text = repr(value)
    except Exception as error:  # an object of the application, which is just being complained about
        return f"<a {type(value).__name__} whose repr raised {type(error).__name__}>"
    return text if len(text) <= 60 else text[:57] + "..."


def _place() -> str:
    """Where the code that is not the runtime's own has sent it."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if not module.startswith(("runtime.", "supervisors.", "collections")):
            return f"{module}:{frame.f_lineno}"
        frame = frame.f_back
    return "an unknown place"
