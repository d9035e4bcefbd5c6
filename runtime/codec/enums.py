"""Enums that may travel: a member goes by its enum's registered name and its own.

Like records (`@message`), enums are registered when they are declared and never looked up by what bytes say
about modules or classes.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, Flag
from typing import TypeVar

from ..errors import Misuse
from .errors import DecodeError, EncodeError

E = TypeVar("E", bound=type[Enum])

_enums: dict[str, type[Enum]] = {}
_names: dict[type, str] = {}


def enumeration(name: str) -> Callable[[E], E]:
    """Let the members of an enum travel.

    Args:
        name: unique among enums and never reused for another meaning, because journals outlive code. Members
            go by their names, so their values may change and their names may not.

    Raises:
        Misuse: the enum is a Flag, whose combinations have no name, or the name belongs to another enum.
    """

    def register(cls: E) -> E:
        if issubclass(cls, Flag):
            raise Misuse(f"wanted a plain Enum, got the Flag {cls.__qualname__}: send a frozenset of an Enum")
        other = _enums.get(name)
        if other is not None and (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
            raise Misuse(
                f"enum name {name!r} belongs to {other.__module__}.{other.__qualname__}; "
                f"give {cls.__module__}.{cls.__qualname__} another one"
            )
        _enums[name] = cls
        _names[cls] = name
        return cls

    return register


def enum_name(cls: type[Enum]) -> str:
    """The registered name of an enum; EncodeError if it has none."""
    name = _names.get(cls)
    if name is None:
        raise EncodeError("a registered enum", cls.__qualname__, "decorate it with @enumeration('...')")
    return name


def member(parts: tuple[object, ...]) -> Enum:
    """The member that `[enum's name, member's name]` means; DecodeError if there is none."""
    if len(parts) == 2 and isinstance(parts[0], str) and isinstance(parts[1], str):
        found = _enums.get(parts[0])
        named = found.__members__.get(parts[1]) if found is not None else None
        if named is not None:
            return named
    raise DecodeError("a member of a registered enum", "another name", "import the module that declares the enum")
