"""Identities: pids name one incarnation of one process, references name one request, monitor or timer.

A pid is a value: equal pids mean the same incarnation, and a number is never used again while its node
lives (rule P47). The `creation` counts the node's own incarnations, so a pid of a node that was
restarted never names a process of its successor. Source: erts `external_pid` and `make_ref`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

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

    __slots__ = ("_mode", "_owner", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        # Invariant: the process that gets what is sent to this alias; None if it is none, or no more.
        self._owner: Process | None = None
        # How long it lasts: explicit_unalias, reply, demonitor, or reply_demonitor (P53).
        self._mode = ""

    def __repr__(self) -> str:
        return f"#ref<{self.number}>"
