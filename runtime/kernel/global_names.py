"""Global names: one table for all nodes of a cluster; on one node, a second table beside the local names.

A global name is any hashable value, and a process may have a local and a global name at the same time; the two
tables know nothing of each other (R7). `global_name("x")` is a destination and a `name=`, OTP's `{global, x}`,
which is the same as `Via(global_names, "x")` (R6).

Nodes that are linked with others agree on a name before anybody has it, which must wait: a start under a
`global_name` does, and so do `register_everywhere` and `re_register_everywhere`. The functions that never wait are for
a node without links. Reading never waits: every node has the whole table. Source: OTP `global`; rules R6-R10.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol, cast, final

from ..errors import Misuse
from .ids import Pid, Via
from .names import pass_on
from .process import Process
from .table import ProcessTable, current_table

SERVICE = "global_names"
# Where the node keeps who agrees with other nodes, if it has any: see `runtime.cluster.agreement`.
AGREEMENT = "global_agreement"


class Agreement(Protocol):
    """Who agrees on global names with the nodes that this one is linked with."""

    def needed(self) -> bool:
        """Whether there is another node to agree with."""

    async def register(self, name: Hashable, pid: Pid, *, over: bool) -> bool:
        """Give a process a name on all nodes; False if it is taken, unless it goes `over` whoever has it."""

    def freed(self, name: Hashable, pid: Pid) -> None:
        """A name is free here now: tell the others."""


@final
class GlobalTable:
    """The global names as one node knows them."""

    def __init__(self, table: ProcessTable) -> None:
        self.table = table
        self.holders: dict[Hashable, Process] = {}
        # Invariant: the same turned round: the names that each process has, in the order of getting them.
        self.held: dict[Process, dict[Hashable, None]] = {}

    def give(self, name: Hashable, process: Process) -> None:
        self.holders[name] = process
        self.held.setdefault(process, {})[name] = None
        if not process.remote:
            self.table.keep(process, self)

    def take(self, name: Hashable) -> None:
        process = self.holders.pop(name, None)
        if process is not None:
            held = self.held[process]
            del held[name]
            if not held:
                del self.held[process]
                if not process.remote:
                    self.table.keep_no_more(process, self)

    def release(self, process: Process) -> None:
        agreement = agreement_of(self.table)
        for name in self.held.pop(process, ()):
            del self.holders[name]
            if agreement is not None:
                agreement.freed(name, process.pid)


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
        names = names_alone()
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
        names = names_alone()
        process = names.table.own(pid)
        names.take(name)
        if process is not None:
            names.give(name, process)
        return True

    async def register_everywhere(self, name: Hashable, pid: Pid) -> bool:
        """As `register_name`, once all nodes that this one is linked with agree (R7).

        Raises CallTimeout if they do not agree on one order of asking within 5 s, and Misuse for a name that
        cannot travel.
        """
        agreement = agreement_of(current_table())
        if agreement is None or not agreement.needed():
            return self.register_name(name, pid)
        return await agreement.register(name, pid, over=False)

    async def re_register_everywhere(self, name: Hashable, pid: Pid) -> bool:
        """As `re_register_name`, on all nodes that this one is linked with. Always True; raises as above."""
        agreement = agreement_of(current_table())
        if agreement is None or not agreement.needed():
            return self.re_register_name(name, pid)
        return await agreement.register(name, pid, over=True)

    def unregister_name(self, name: Hashable) -> None:
        """Free a global name, a little later on other nodes too; nothing happens if nobody has it."""
        names = names_of(current_table())
        process, agreement = names.holders.get(name), agreement_of(names.table)
        names.take(name)
        if process is not None and agreement is not None:
            agreement.freed(name, process.pid)

    def whereis_name(self, name: Hashable) -> Pid | None:
        """The pid under a global name, or None (R3)."""
        process = names_of(current_table()).holders.get(name)
        return process.pid if process is not None else None

    def send(self, name: Hashable, message: object) -> Pid:
        """Send to who has the name, and say who that was. Raises NoProcess and MailboxFull; never waits (R6)."""
        return pass_on(self.whereis_name(name), name, message)

    def registered_names(self) -> list[Hashable]:
        """All global names, in the order in which they were given."""
        return list(names_of(current_table()).holders)


global_names = GlobalNames()


def global_name(name: Hashable) -> Via:
    """A global name as a destination, or as the `name=` of a start (OTP: `{global, Name}`)."""
    return Via(global_names, name)


def names_of(table: ProcessTable) -> GlobalTable:
    """The global names as a node knows them."""
    names = table.services.get(SERVICE)
    if names is None:
        names = table.services[SERVICE] = GlobalTable(table)
    assert isinstance(names, GlobalTable)
    return names


def names_alone() -> GlobalTable:
    """The global names of a node that need ask no other."""
    table = current_table()
    agreement = agreement_of(table)
    if agreement is not None and agreement.needed():
        raise Misuse("other nodes must agree: await register_everywhere, or re_register_everywhere, of global_names")
    return names_of(table)


def agreement_of(table: ProcessTable) -> Agreement | None:
    """Who agrees with other nodes, on a node that talks to any."""
    return cast("Agreement | None", table.services.get(AGREEMENT))
