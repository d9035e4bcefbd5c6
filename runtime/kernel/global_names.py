"""Global names: one table for all nodes of a cluster; on one node, a second table beside the local names.

A global name is any hashable value, and a process may have a local and a global name at the same time; the two
tables know nothing of each other (R7). `global_name("x")` is a destination and a `name=`, OTP's `{global, x}`,
which is the same as `Via(global_names, "x")` (R6).

Until nodes can talk to each other a name is agreed upon by this node alone. Source: OTP `global`; rules R6-R8.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import final

from .ids import Pid, Via
from .names import pass_on
from .process import Process
from .table import ProcessTable, current_table

SERVICE = "global_names"


@final
class _Names:
    """The global names of one node."""

    def __init__(self, table: ProcessTable) -> None:
        self.table = table
        self.holders: dict[Hashable, Process] = {}
        # Invariant: the same turned round: the names that each process has, in the order of getting them.
        self.held: dict[Process, dict[Hashable, None]] = {}

    def give(self, name: Hashable, process: Process) -> None:
        self.holders[name] = process
        self.held.setdefault(process, {})[name] = None
        self.table.keep(process, self)

    def take(self, name: Hashable) -> None:
        process = self.holders.pop(name, None)
        if process is not None:
            held = self.held[process]
            del held[name]
            if not held:
                del self.held[process]
                self.table.keep_no_more(process, self)

    def release(self, process: Process) -> None:
        for name in self.held.pop(process, ()):
            del self.holders[name]


@final
class GlobalNames:
    """OTP's module `global`: the functions, and by them a registry for `Via`. There is one, `global_names`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "global_names"

    def register_name(self, name: Hashable, pid: Pid) -> bool:
        """Give a process a global name; False if it is taken, or the process has another one (R7, R8).

        A dead process is given the name, and loses it in the same instant (R8). Raises Misuse for anything but a
        pid of this node.
        """
        names = _names()
        process = names.table.own(pid)
        if name in names.holders or process in names.held:
            return False
        if process is not None:
            names.give(name, process)
        return True

    def re_register_name(self, name: Hashable, pid: Pid) -> bool:
        """Give a process a global name, taking it from whoever has it, who keeps its others (R8).

        Always True; only in this way has one process several global names. A dead process frees the name.
        """
        names = _names()
        process = names.table.own(pid)
        names.take(name)
        if process is not None:
            names.give(name, process)
        return True

    def unregister_name(self, name: Hashable) -> None:
        """Free a global name; nothing happens if nobody has it."""
        _names().take(name)

    def whereis_name(self, name: Hashable) -> Pid | None:
        """The pid under a global name, or None (R3)."""
        process = _names().holders.get(name)
        return process.pid if process is not None else None

    def send(self, name: Hashable, message: object) -> Pid:
        """Send to who has the name, and say who that was. Raises NoProcess and MailboxFull; never waits (R6)."""
        return pass_on(self.whereis_name(name), name, message)

    def registered_names(self) -> list[Hashable]:
        """All global names, in the order in which they were given."""
        return list(_names().holders)


global_names = GlobalNames()


def global_name(name: Hashable) -> Via:
    """A global name as a destination, or as the `name=` of a start (OTP: `{global, Name}`)."""
    return Via(global_names, name)


def _names() -> _Names:
    table = current_table()
    names = table.services.get(SERVICE)
    if names is None:
        names = table.services[SERVICE] = _Names(table)
    assert isinstance(names, _Names)
    return names
