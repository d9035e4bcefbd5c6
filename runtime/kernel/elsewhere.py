"""Processes of other nodes: a stand-in for each, so that every verb of the kernel works for them too.

`Pid._process` of a process elsewhere is a `RemoteProcess`: a `Process` that has no task and no mailbox, and hands
what it is offered to the node's `Peers`. So the verbs need not ask where a process lives, and cost here what they
always did.

A stand-in knows nothing of the life of its process: it outlives it, and a lost connection too, and the next signal
asks for the connection again (D5). The kernel knows no network: `runtime.cluster` puts its `Peers` into the table's
services.

Source: erts `external_pid` and `{Name, Node}`; rules D1-D5, P16, P24, P33.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from typing import ClassVar, Protocol, cast, final

from ..errors import Misuse
from .ids import Pid, Ref, Via
from .names import pass_on
from .process import DEFAULT_LIMIT, Process
from .requests import Caller
from .table import ProcessTable, current_table

SERVICE = "peers"

logger = logging.getLogger("banyan")


class Peers(Protocol):
    """Who carries signals to other nodes. None of these waits; those of one sender to one receiver keep order."""

    def offer(self, to: RemoteProcess, message: object, *, bounded: bool = True) -> bool:
        """Send a message, or a request with its caller; False if there is no room. Misuse if it cannot travel."""

    def exit(self, to: RemoteProcess, source: Pid, reason: object) -> None:
        """Send an exit signal, as by `exit`."""

    def add_link(self, to: RemoteProcess, pid: Pid) -> None:
        """A process of this node links itself."""

    def drop_link(self, to: RemoteProcess, pid: Pid) -> None:
        """A process of this node has removed its link, if there was one."""

    def link_ended(self, to: RemoteProcess, pid: Pid, reason: object) -> None:
        """A process of this node that may be linked has ended."""

    def add_watcher(self, to: RemoteProcess, ref: Ref, watcher: Process, monitored: Pid | str | Via) -> None:
        """A process of this node monitors it."""

    def drop_watcher(self, to: RemoteProcess, ref: Ref) -> None:
        """A monitor made here is to end."""

    def watch_ended(self, to: RemoteProcess, ref: Ref, reason: object) -> None:
        """A process of this node that it monitors has ended."""

    # Called with a node's name when a link with it has come (True) or gone.
    listeners: list[Callable[[str, bool], None]]

    def nodes(self) -> list[str]:
        """The nodes with which there is a link, sorted."""

    def named(self, node: str, name: str) -> RemoteProcess:
        """The stand-in for whoever has a local name on a node when a signal arrives there."""


class RemoteProcess(Process):
    """What stands here for a process of another node, or for who has a name there, or for an alias.

    `address` is None, or the name or alias by which the other side finds the receiver.
    """

    remote: ClassVar[bool] = True

    # Weak: it is kept by whoever has the pid, and by links and monitors.
    __slots__ = ("__weakref__", "address", "peers", "ties")

    def __init__(self, table: ProcessTable, peers: Peers, pid: Pid, address: str | Ref | None = None) -> None:
        label = f"on node {pid.node}"
        super().__init__(table, pid, label, parent=None, limit=DEFAULT_LIMIT, trap_exit=False, scoped=False)
        self.peers = peers
        self.address = address
        # Invariant: the processes of this node that it is linked with: by which links, ours and theirs; 0 for none.
        self.ties: dict[Pid, tuple[int, int]] = {}
        pid._process = self

    def __repr__(self) -> str:
        return f"<RemoteProcess {self.pid} on {self.pid.node}>"

    def offer(self, message: object) -> bool:
        return self.peers.offer(self, message)

    def post(self, message: object, *, first: bool = False) -> None:
        """A timer's message, which is never refused; one that cannot travel is lost, because no sender is left."""
        if isinstance(message, Caller):
            raise Misuse(
                f"{self.pid!r} lives on node {self.pid.node!r}: system messages are for processes of this node"
            )
        try:
            self.peers.offer(self, message, bounded=False)
        except Misuse:
            logger.exception("a message for %s is lost: it cannot travel", self.pid)

    def exit_signal(self, source: Pid, reason: object, *, linked: bool = False) -> None:
        self._must_be_a_process("exit")
        self.peers.exit(self, source, reason)

    def interrupt(self, reason: object) -> None:
        """Nothing here can be interrupted."""

    @property
    def alive(self) -> bool:
        raise Misuse(f"{self.pid!r} lives on node {self.pid.node!r}: ask it, or monitor it; nobody here can know")

    def add_link(self, peer: Pid) -> None:
        self._must_be_a_process("link")
        self.peers.add_link(self, peer)

    def _must_be_a_process(self, verb: str) -> None:
        if self.address is not None:
            raise Misuse(f"{verb} wants a Pid, got the address of {self.address!r}: ask for it with whereis_on first")

    def drop_link(self, peer: Pid) -> None:
        self.peers.drop_link(self, peer)

    def link_ended(self, peer: Pid, reason: object) -> None:
        self.peers.link_ended(self, peer, reason)

    def add_watcher(self, ref: Ref, watcher: Process, monitored: Pid | str | Via) -> None:
        self.peers.add_watcher(self, ref, watcher, monitored)

    def drop_watcher(self, ref: Ref) -> None:
        self.peers.drop_watcher(self, ref)

    def watch_ended(self, ref: Ref, monitored: Pid | str | Via, reason: object) -> None:
        self.peers.watch_ended(self, ref, reason)

    def end(self, reason: object) -> None:
        """A stand-in does not end."""


def peers_if_any(table: ProcessTable) -> Peers | None:
    """Who carries signals to other nodes; None on a node that talks to none."""
    return cast("Peers | None", table.services.get(SERVICE))


def peers_of(table: ProcessTable) -> Peers:
    """As `peers_if_any`; raises Misuse on a node that talks to no others."""
    found = peers_if_any(table)
    if found is None:
        raise Misuse(f"node {table.node!r} talks to no other nodes: start it with an address to listen on, and peers")
    return found


@final
class NamesOf:
    """The local names of one node, as a registry: what `at` looks them up in."""

    __slots__ = ("node",)

    def __init__(self, node: str) -> None:
        self.node = node

    def __repr__(self) -> str:
        return f"the names of node {self.node!r}"

    def __eq__(self, other: object) -> bool:
        return type(other) is NamesOf and other.node == self.node

    def __hash__(self) -> int:
        return hash((NamesOf, self.node))

    def register_name(self, name: Hashable, pid: Pid) -> bool:
        """Only for processes of this very node: giving a name elsewhere must wait, see `register_on`."""
        table = current_table()
        if self.node != table.node:
            raise Misuse(f"a process gets a name of node {self.node!r} there: start it there, or use `register_on`")
        process = table.own(pid)
        if type(name) is not str or name in table.names or process is None:
            return False
        table.register(name, process)
        return True

    def unregister_name(self, name: Hashable) -> None:
        table = current_table()
        if self.node != table.node:
            raise Misuse(f"a name of node {self.node!r} is given up there, by `unregister_on`")
        if type(name) is str and name in table.names:
            table.unregister(name)

    def whereis_name(self, name: Hashable) -> Pid | None:
        """An address of whoever has the name when a signal arrives there; nobody here knows whether anybody has."""
        table = current_table()
        if type(name) is not str:
            return None
        if self.node == table.node:
            process = table.names.get(name)
            return process.pid if process is not None else None
        return peers_of(table).named(self.node, name).pid

    def send(self, name: Hashable, message: object) -> Pid:
        return pass_on(self.whereis_name(name), name, message)


def at(name: str, node: str) -> Via:
    """A local name of a node as a destination: OTP's `{Name, Node}`, for `send`, `cast`, `call`, `monitor`.

    Whoever has the name when the signal arrives is meant. A message to a name that nobody has there vanishes
    (P33), a call gets NoProcess, a monitor a Down with NOPROC. The name of this very node is a plain local name.
    """
    if type(name) is not str or not name or type(node) is not str or not node:
        raise Misuse(f"at wants a name and the name of a node, got {name!r} and {node!r}")
    return Via(NamesOf(node), name)


__all__ = ["SERVICE", "Peers", "RemoteProcess", "at", "peers_if_any", "peers_of"]
