"""How values of processes are shown to a person: as their process allows, field by field, and cut.

Two rules keep secrets. A value passes its process's own `format_status` before anything else looks at it; and
it is taken apart only where its own repr would show the same parts: a record that hides something behind a
`__repr__` of its own is shown by that repr alone. Pure. Source: OTP `format_status`; rule N29.
"""

from __future__ import annotations

import dataclasses
import linecache
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import final

from ..kernel.exits import shown
from ..kernel.table import redacted

# Characters of one shown value, and of one field of a state.
VALUE_LIMIT = 1000
FIELDS_LIMIT = 200
# The first frames of a stack that are shown.
FRAMES_LIMIT = 100


def cut(text: str, limit: int = VALUE_LIMIT) -> str:
    """Text of at most `limit` characters, with an ellipsis for what is missing."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def seen(behaviour: object, value: object) -> str:
    """A message or a state as text, as its process allows it to be seen."""
    return redacted(behaviour, value) or "None"


def formatted(behaviour: object, value: object) -> object:
    """What a process allows to be seen of a value; raises what its `format_status` raises."""
    formatter = getattr(behaviour, "format_status", None)
    return formatter(value) if formatter is not None else value


def fields_of(value: object) -> dict[str, str]:
    """The parts of a formatted state, as text by their names; none if it shows itself as a whole."""
    parts: Iterable[tuple[object, object]]
    if type(value) is dict:
        parts = value.items()
    elif dataclasses.is_dataclass(value) and not isinstance(value, type) and _plain(type(value)):
        parts = [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value) if f.repr]
    else:
        return {}
    return {cut(str(name), 100): cut(shown(part)) for name, part in list(parts)[:FIELDS_LIMIT]}


def _plain(kind: type) -> bool:
    """Whether a dataclass shows itself by the repr that `dataclass` made, so that it hides nothing."""
    return hasattr(kind.__repr__, "__wrapped__")


@final
@dataclass(frozen=True, slots=True)
class Change:
    """One part of a state that is another one now; "" for a part that was not there, or is no more."""

    name: str
    before: str
    after: str

    def __str__(self) -> str:
        try:
            return f"{self.name} {int(self.after) - int(self.before):+,}"
        except ValueError:
            return f"{self.name} {self.before or '-'} -> {self.after or '-'}"


def difference(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[Change, ...]:
    """What two states differ in, part by part, in the order of the later one."""
    names = dict.fromkeys([*after, *before])
    return tuple(
        Change(name, before.get(name, ""), after.get(name, "")) for name in names if before.get(name) != after.get(name)
    )


@final
@dataclass(frozen=True, slots=True)
class Frame:
    """One call of a stack: the place and the line of source there; no value of any variable."""

    file: str
    line: int
    function: str
    source: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} in {self.function}" + (f"\n    {self.source}" if self.source else "")


def frames_of(found: Iterable[tuple[FrameType, int]]) -> tuple[Frame, ...]:
    """Frames as they are shown, outermost first, at most FRAMES_LIMIT."""
    frames: list[Frame] = []
    try:
        for frame, line in found:
            file = frame.f_code.co_filename
            frames.append(Frame(file, line, frame.f_code.co_qualname, linecache.getline(file, line).strip()))
            if len(frames) == FRAMES_LIMIT:
                break
    except TypeError:  # Trio cannot see into an awaitable of somebody else's making: what lies above it is shown
        pass
    return tuple(frames)
