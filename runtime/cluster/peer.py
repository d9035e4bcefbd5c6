"""What a node keeps of one other node: its link, who waits for it, and whom it connects.

A peer is made on first use and stays; its link comes and goes. What goes out while a link is being made waits in a
queue, in order. When the link is lost, or does not come, all that hung on it is told NOCONNECTION at once (D2), and
the next signal asks for a new link (D5). A pid of an earlier incarnation of the node is dead (D4).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol, final
from weakref import WeakValueDictionary

from ..errors import NoProcess
from ..kernel.elsewhere import Peers, RemoteProcess
from ..kernel.exits import NOCONNECTION, NOPROC
from ..kernel.ids import Pid, Ref, Via
from ..kernel.process import Process
from ..kernel.requests import Asker, Caller
from ..kernel.signals import Answer
from ..kernel.table import ProcessTable
from .wire import CREDITED, Frame, encode

# Bytes that may wait for a link that is being made; then there is no room.
QUEUE: Final = 1 << 20
# Calls in flight to one node, with its link taking messages and not taking any; then it is Busy.
CALLS: Final = 100_000
CALLS_WITHOUT_ROOM: Final = 64
# Stand-ins of names that are kept.
NAMES: Final = 1024
# Entries of the list of calls beyond twice the living ones are cleared away, but not before there are this many.
FEW: Final = 1024


class Link(Protocol):
    """One connection with another node, both sides of which know who the other is."""

    @property
    def node(self) -> str: ...
    @property
    def creation(self) -> int: ...
    @property
    def room(self) -> bool:
        """Whether it takes messages: it has credit, and its outbox is under its bound."""

    def push(self, data: bytes, credited: int = 0) -> None:
        """Append whole frames to the outbox; so many of the bytes are paid for by credit. Never refuses."""

    def release(self, size: int) -> None:
        """So many credited bytes that were held here are held no more."""

    def close(self, reason: str) -> None:
        """End the connection."""


class Links(Protocol):
    """Who makes connections."""

    def want(self, node: str) -> bool:
        """Connect with a node; `up` or `down` follows. False if nobody knows where it is: nothing follows."""


@final
class Port(RemoteProcess):
    """Where replies to one link go: the `owner` of the requests that came by it."""

    __slots__ = ("link", "peer", "write")

    def __init__(self, table: ProcessTable, peers: Peers, peer: Peer, link: Link, write: Callable[..., None]) -> None:
        super().__init__(table, peers, Pid(link.node, link.creation, 0))
        self.peer = peer
        self.link = link
        self.write = write

    @property
    def alive(self) -> bool:
        return self.peer.link is self.link

    def post(self, message: object, *, first: bool = False) -> None:
        assert type(message) is Answer
        self.write(self.link, message)


@final
class Peer:
    """Another node, as this one sees it."""

    def __init__(self, table: ProcessTable, links: Links, node: str) -> None:
        self.table = table
        self.links = links
        self.node = node
        # The newest incarnation that was ever seen; 0: none was.
        self.creation = 0
        self.link: Link | None = None
        self.port: Port | None = None
        # Whether a link is being made; what waits for it, and how many bytes.
        self.wanted = False
        self.queue: deque[tuple[int, Frame, Callable[[object], None] | None]] = deque()
        self.queued = 0
        # The stand-ins of its processes by creation and number, of its names (the last so many, because a name is
        # used again), and those that somebody waits at.
        self.stands: WeakValueDictionary[tuple[int, int], RemoteProcess] = WeakValueDictionary()
        self.names: dict[str, RemoteProcess] = {}
        self.blocked: dict[RemoteProcess, None] = {}
        # Our calls there, by their numbers.
        self.pending: dict[int, Caller] = {}
        self._most = FEW
        # The stand-ins that are linked with processes here; our monitors there, and theirs here, by the numbers of
        # their references.
        self.tied: dict[RemoteProcess, None] = {}
        self.watching: dict[int, tuple[Ref, RemoteProcess, Process, Pid | str | Via]] = {}
        self.watched: dict[int, tuple[Ref, RemoteProcess]] = {}

    def __repr__(self) -> str:
        return f"<Peer {self.node} {'up' if self.link is not None else 'down'}>"

    # -- out ------------------------------------------------------------------------------------------

    def carry(self, creation: int, frame: Frame, otherwise: Callable[[object], None] | None = None) -> None:
        """Send a frame, or let it wait for the link.

        Args:
            creation: of the process that it is for; 0 if it is for the node or for a name.
            otherwise: told, after the caller's next checkpoint, NOPROC or NOCONNECTION if it was not sent. Nobody
                is told of a frame that waited for a link that did not come: `lose` tells all.
        """
        link = self.link
        if link is not None and creation in (link.creation, 0):
            data = encode(frame)
            link.push(data, len(data) if frame.kind in CREDITED else 0)
        elif creation and creation < self.creation:
            if otherwise is not None:
                self.table.timers.soon(otherwise, NOPROC)
        elif link is None and self.connects():
            self.queue.append((creation, frame, otherwise))
            self.queued += len(frame.payload)
        elif otherwise is not None:
            self.table.timers.soon(otherwise, NOCONNECTION)

    def connects(self) -> bool:
        """Whether there is a link, or one is being made, which this begins (D1)."""
        if self.link is None and not self.wanted:
            self.wanted = self.links.want(self.node)
        return self.link is not None or self.wanted

    def roomy(self) -> bool:
        """Whether a message may go out now, or may wait for the link."""
        link = self.link
        return link.room if link is not None else self.queued < QUEUE

    def takes_calls(self) -> bool:
        """Whether one call more may go out. One mailbox that is full, and uses up the credit, stops no calls."""
        return len(self.pending) < (CALLS if self.roomy() else CALLS_WITHOUT_ROOM)

    def expect(self, number: int, caller: Caller) -> None:
        """A call goes out with this number."""
        pending = self.pending
        if len(pending) >= self._most:
            # Callers that have left: a reply of theirs may never come.
            self.pending = pending = {number: caller for number, caller in pending.items() if caller.waiting}
            self._most = max(FEW, 2 * len(pending))
        pending[number] = caller

    def unsent(self, number: int, reason: object) -> None:
        """A call could not go out, or not to that process."""
        caller = self.pending.pop(number, None)
        if caller is None:
            return
        if reason is NOPROC:
            no_process(caller)
        else:
            caller.fail(reason)

    def over(self, stand: RemoteProcess, pid: Pid, reason: object) -> None:
        """A link between a process here and one there has ended there, or could not be made."""
        self.untie(stand, pid)
        process = pid._process
        if process is not None and process.links is not None and stand.pid in process.links:
            process.link_ended(stand.pid, reason)

    def untie(self, stand: RemoteProcess, pid: Pid) -> None:
        """Forget a link."""
        stand.ties.pop(pid, None)
        if not stand.ties:
            self.tied.pop(stand, None)

    def down(self, number: int, reason: object) -> None:
        """A monitor of ours has fired, or could not be made."""
        found = self.watching.pop(number, None)
        if found is not None:
            ref, _, watcher, monitored = found
            watcher.watch_ended(ref, monitored, reason)

    # -- the link -------------------------------------------------------------------------------------

    def rise(self, link: Link, port: Port) -> None:
        """There is a link: what waited for it goes out."""
        self.link, self.port, self.wanted = link, port, False
        self.creation = max(self.creation, link.creation)
        queue, self.queue, self.queued = self.queue, deque(), 0
        for creation, frame, otherwise in queue:
            self.carry(creation, frame, otherwise)

    def lose(self) -> None:
        """The link is gone, or did not come: tell all who hung on it (D2)."""
        self.link, self.port, self.wanted = None, None, False
        self.queue, self.queued = deque(), 0
        pending, self.pending = self.pending, {}
        for caller in pending.values():
            caller.fail(NOCONNECTION)
        for stand in [*self.tied]:
            for pid in [*stand.ties]:
                self.over(stand, pid, NOCONNECTION)
        for number in [*self.watching]:
            self.down(number, NOCONNECTION)
        watched, self.watched = self.watched, {}
        for ref, stand in watched.values():
            target = (stand.monitors or {}).pop(ref, None)
            if target is not None:
                target.drop_watcher(ref)
        blocked, self.blocked = self.blocked, {}
        for stand in blocked:
            senders, stand.senders = stand.senders, None
            for sender in senders or ():
                sender.admit(None)

    def make_room(self) -> None:
        """Let those who wait for room send, first come, first served."""
        for stand in [*self.blocked]:
            while stand.senders and self.roomy():
                sender = stand.senders.popleft()
                if sender.waiting:
                    stand.peers.offer(stand, sender.message)
                    sender.admit(None)
            if stand.senders:
                return
            self.blocked.pop(stand, None)


def no_process(caller: Caller) -> None:
    """Tell a caller that nobody was there to be asked."""
    if type(caller) is Asker:
        caller.fail(NOPROC)
    else:
        text = f"{caller.destination!r} is not alive: nobody can answer"
        caller.refuse(NoProcess(text, caller.destination, caller.request))


__all__ = ["NAMES", "Link", "Links", "Peer", "Port", "no_process"]
