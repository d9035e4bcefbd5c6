"""Records: the frozen values that travel between processes, into the journal and over the wire.

A record has a registered name and a version, and only registered names are ever decoded: nothing that
comes from a disk or a socket can name code. A request says what its reply is by deriving from
`Call[Reply]`; `call` then infers the reply's type.

    >>> @message("docs.deposit")
    ... class Deposit(Call[int]):
    ...     amount: int
    >>> Deposit(5)
    Deposit(amount=5)
    >>> name_of(Deposit)
    ('docs.deposit', 1)

Source: Erlang's records and tuples as messages; Temporal's registered payload types.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Generic, TypeVar, dataclass_transform

from ..errors import Misuse

T = TypeVar("T")
Reply_co = TypeVar("Reply_co", covariant=True)

_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")

# Every record type by its registered name. Filled at import, never from data.
_registered: dict[str, type] = {}


class Call(Generic[Reply_co]):
    """The base of a request whose reply is a `Reply_co`."""

    __slots__ = ()


class Cast:
    """The base of a request that has no reply."""

    __slots__ = ()


class UnknownMessage(Misuse):
    """A name that no imported module has registered; `name` is it."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"wanted a registered message, got {name!r}, which nobody has registered: "
            "import the module that declares it, or add an upcaster if it was renamed"
        )
        self.name = name


@dataclass_transform(frozen_default=True)
def message(name: str, *, version: int = 1) -> Callable[[type[T]], type[T]]:
    """Make a class a record: a frozen, slotted dataclass under a registered name.

    Args:
        name: dotted lower-case words, `"wallet.deposit"`; unique in the program and never reused for
            another meaning, because journals outlive code.
        version: from 1 up; raised when the fields change.

    Raises:
        Misuse: the name is malformed, the version is below 1, or the name belongs to another class.
    """
    given: object = name
    if not isinstance(given, str):
        what = getattr(given, "__qualname__", repr(given))
        raise Misuse(f"@message needs a name, got {what}: write @message('wallet.deposit') above the class")
    if not _NAME.fullmatch(name):
        raise Misuse(f"a message's name is dotted lower-case words like 'wallet.deposit', got {name!r}")
    if version < 1:
        raise Misuse(f"message {name!r}: versions count from 1, got {version}")

    def register(cls: type[T]) -> type[T]:
        made = dataclasses.dataclass(frozen=True, slots=True)(cls)
        other = _registered.get(name)
        if other is not None and (other.__module__, other.__qualname__) != (
            made.__module__,
            made.__qualname__,
        ):
            raise Misuse(
                f"message name {name!r} belongs to {other.__module__}.{other.__qualname__}; "
                f"give {made.__module__}.{made.__qualname__} another one"
            )
        made.__message__ = (name, version)  # type: ignore[attr-defined]  # a class attribute no field may carry
        _registered[name] = made
        return made

    return register


def name_of(record: type) -> tuple[str, int]:
    """The (name, version) under which a record type is registered; raises Misuse for any other class."""
    found: tuple[str, int] | None = record.__dict__.get("__message__")
    if found is None:
        raise Misuse(f"{record.__qualname__} is not a message: decorate it with @message('...')")
    return found


def registered(name: str) -> type:
    """The record type registered under `name`; raises UnknownMessage."""
    try:
        return _registered[name]
    except KeyError:
        raise UnknownMessage(name) from None
