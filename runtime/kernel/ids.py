"""Identities: pids name one incarnation of one process, references one request or monitor, a Via a name somewhere.

A pid is a value: equal pids mean the same incarnation, and a number is never used again while its node
lives (rule P47). The `creation` counts the node's own incarnations, so a pid of a node that was
restarted never names a process of its successor. Source: erts `external_pid` and `make_ref`; OTP's
`{via, Module, Name}`, rule R6.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, final

from ..errors import Misuse

if TYPE_CHECKING:
    from .process import Process


@final
class Pid:
    """The identity of one process. Compare and hash it freely; send it to anyone.

    `node` is the node's name, `creation` which incarnation of that node, `number` which process of it.
    """

    __slots__ = ("_process", "creation", "node", "number")

    def __init__(self, node: str, creation: int, number: int, process: Process | None = None) -> None:
        self.node = node
        self.creation = creation
        self.number = number
        # Invariant: the process while it lives here, else None; cleared in the instant of its death, so
        # that a dead pid holds nothing in memory and is known as dead without a table.
        self._process = process

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if type(other) is not Pid:
            return NotImplemented
        return (self.number, self.creation, self.node) == (other.number, other.creation, other.node)

    def __hash__(self) -> int:
        return hash((self.number, self.creation))

    def __repr__(self) -> str:
        return f"<{self.creation}.{self.number}>"


@final
class Ref:
    """A unique reference: what `monitor`, `alias` and the timers return. Equal only to itself.

    One that was made as an alias is also a destination for messages, until it is given up.
    """

    # Weak: the same reference that comes back over a connection is the same object, while somebody holds it.
    __slots__ = ("__weakref__", "_mode", "_owner", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        # Invariant: the process that gets what is sent to this alias; None if it is none, or no more.
        self._owner: Process | None = None
        # How long it lasts: explicit_unalias, reply, demonitor, or reply_demonitor (P53).
        self._mode = ""

    def __repr__(self) -> str:
        return f"#ref<{self.number}>"


class NameRegistry(Protocol):
    """Who keeps names: OTP's four functions (R6). A module or any object may be one; none of them may wait."""

    def register_name(self, name: Hashable, pid: Pid, /) -> bool:
        """Give a process a name; False if it is taken. Runs before the `init` of a process that starts."""

    def unregister_name(self, name: Hashable, /) -> object:
        """Free a name; nothing happens if nobody has it."""

    def whereis_name(self, name: Hashable, /) -> Pid | None:
        """Who has the name now, or None."""

    def send(self, name: Hashable, message: object, /) -> object:
        """Pass a message on without waiting. Raises NoProcess if nobody has the name, and MailboxFull."""


_FUNCTIONS = ("register_name", "unregister_name", "whereis_name", "send")


@final
@dataclass(frozen=True, slots=True)
class Via:
    """A name in a registry of one's choice: a destination, and a `name=` to start under (R6).

    OTP's `{via, Module, Name}`. Whoever has the name when the Via is used is meant.

    Args:
        registry: an object with OTP's four functions; see `NameRegistry`.
        name: any hashable value that this registry takes for a name.

    Raises:
        Misuse: `registry` lacks one of the four, or `name` cannot be hashed.
    """

    registry: NameRegistry
    name: Hashable

    def __post_init__(self) -> None:
        missing = [name for name in _FUNCTIONS if not callable(getattr(self.registry, name, None))]
        if missing:
            raise Misuse(f"a Via wants a registry with {', '.join(_FUNCTIONS)}, got {self.registry!r}: no {missing[0]}")
        if not isinstance(self.name, Hashable):
            raise Misuse(f"a Via wants a name that can be hashed, got {self.name!r}")


Name = str | Via
