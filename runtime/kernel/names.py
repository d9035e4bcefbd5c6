"""Names: the local ones of a node, and the one that a process is started under, whoever keeps it.

A local name belongs to one process and is free in the instant of its death, before anybody can see that
death (P40). Names of one's own choice are kept by a `Via`. Source: erts `register`, OTP `gen:register_name`;
rules R1-R6.
"""

from __future__ import annotations

import logging

from ..errors import Misuse, NoProcess
from .ids import Name, Pid, Via
from .process import Process
from .requests import mailbox_full
from .table import ProcessTable, behind, current_process, current_table

logger = logging.getLogger("banyan")


def register(name: str, pid: Pid | None = None) -> None:
    """Give a process (the caller by default) a local name; it is freed on its death, before any Down (P40).

    Raises:
        Misuse: the name is taken or no name, or the process is dead or has a local name already (R1).
    """
    process = current_process() if pid is None else pid._process
    if process is None:
        raise Misuse(f"cannot give {pid!r} the name {name!r}: it is dead")
    process.table.register(name, process)


def unregister(name: str) -> None:
    """Free a local name, whoever has it (R4). Raises Misuse if nobody has it (R2)."""
    current_table().unregister(name)


def whereis(name: Name) -> Pid | None:
    """The pid under a local name or behind a Via, or None (R3). Misuse for `at` of another node: see `whereis_on`."""
    process = holder_of(current_table(), name)
    return process.pid if process is not None else None


def registered_names() -> list[str]:
    """All local names of this node, sorted (OTP: `registered`)."""
    return sorted(current_table().names)


# -- the name of a start ------------------------------------------------------------------------------


def check_name(name: object) -> None:
    """Raises Misuse unless `name` is one that a process can be started under."""
    if type(name) is not Via and (type(name) is not str or not name):
        raise Misuse(f"a name is a non-empty string or a Via, got {name!r}")


def holder_of(table: ProcessTable, name: Name) -> Process | None:
    """The living process that has a name now. Raises Misuse for one that only another node can look up."""
    if type(name) is not Via:
        return table.names.get(name)
    process = behind(name)
    if process is not None and process.pid.number == 0:
        raise Misuse(f"{name!r} is looked up and given on node {process.pid.node!r}: see whereis_on, register_on")
    return process


def claim(table: ProcessTable, name: Name, process: Process) -> Pid | None:
    """Give a process that starts its name; None, or who was faster (R5)."""
    if type(name) is str:
        table.register(name, process)
    elif type(name) is Via and not name.registry.register_name(name.name, process.pid):
        return name.registry.whereis_name(name.name) or process.pid
    return None


async def claim_agreed(table: ProcessTable, name: Name, process: Process) -> Pid | None:
    """As `claim`; waits for the agreement of other nodes if the name is a global one. No checkpoint else."""
    everywhere = getattr(name.registry, "register_everywhere", None) if type(name) is Via else None
    if everywhere is None:
        return claim(table, name, process)
    assert type(name) is Via
    if not await everywhere(name.name, process.pid):
        return name.registry.whereis_name(name.name) or process.pid
    return None


def give_up(name: Name, process: Process) -> None:
    """Take back the name of a process that does not start, so that the starter can try again at once (L6)."""
    if type(name) is str:
        if process.table.names.get(name) is process:
            process.table.unregister(name)
    elif type(name) is Via:
        try:
            # Nobody: to the registry its process is dead already, but the name may still be in its books.
            if name.registry.whereis_name(name.name) in (process.pid, None):
                name.registry.unregister_name(name.name)
        except Exception:  # a registry of the application's own: the start must end in any case
            logger.exception("the name %r of %s, which does not start, was not given up", name, process.pid)


def pass_on(pid: Pid | None, name: object, message: object) -> Pid:
    """The `send` of a registry: to who has the name, as `whereis_name` says. Never waits.

    Raises:
        NoProcess: nobody has it (R6).
        MailboxFull: there is no room.
    """
    process = pid._process if pid is not None else None
    if process is None:
        raise NoProcess(f"nobody has the name {name!r}: was its process started, is it restarting?", name)
    if not process.offer(message):
        raise mailbox_full(process, "full")
    return process.pid
