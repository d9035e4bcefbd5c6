"""Distribution: the kernel's signals to frames and back, so that its verbs reach processes of other nodes.

    a process --offer--> its receiver's stand-in --frame--> link ~~~ link --frame--> `inbound` --> the receiver

`Dist` is the node's `Peers`: it turns what a stand-in is offered into frames, and the frames of its links into what
the kernel does anyway. A call takes a number with it, under which its caller waits here; over there it is a request
whose owner is the link, so that servers answer it as any `send_request`. A link has an identity on either side, so
that an unlink that crosses a new link on its way removes the old one only.

Order: frames of one link are handled in the order in which they were pushed, so signals of one process to another
keep theirs (P34). A message for a full mailbox waits at its receiver, holding the credit that it came with; what its
sender signals to that receiver afterwards waits behind it. Calls do not wait: they are Busy. Replies, exits and Downs
are never refused.

Delivery is at most once. When the link is lost, an end of what was sent is lost with it, never a part before
something that arrived (P37); who hung on it is told NOCONNECTION (D2).

Nothing here waits. Source: erts `dist.c`, OTP `net_kernel`; rules D1-D6.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import final
from weakref import WeakValueDictionary

from ..behaviours.gen_server import CastEnvelope
from ..codec.errors import DecodeError
from ..errors import BanyanError, Misuse
from ..kernel.elsewhere import SERVICE, RemoteProcess
from ..kernel.exits import NOCONNECTION
from ..kernel.ids import Pid, Ref, Via
from ..kernel.process import Process, here
from ..kernel.requests import Asker, Caller
from ..kernel.table import ProcessTable
from . import terms
from .agreement import GlobalAgreement
from .inbound import Inbound
from .peer import NAMES, Link, Links, Peer, Port
from .terms import decode, encode
from .wire import CREDITED, Frame, Kind, header

logger = logging.getLogger("banyan")

# As plain ints: on the path of every message an enum's members are dear.
SEND, CAST, CALL = int(Kind.SEND), int(Kind.CAST), int(Kind.CALL)


@final
class Dist:
    """The processes of other nodes, as this node reaches them.

    Args:
        table: this node's.
        links: who makes connections. They tell of them by `up`, `receive`, `room` and `down`.
    """

    def __init__(self, table: ProcessTable, links: Links) -> None:
        self.table = table
        self.links = links
        self.peers: dict[str, Peer] = {}
        # What was dropped, by why: "undecodable", "nobody", "malformed".
        self.dropped: Counter[str] = Counter()
        # Called with a node's name when it has come (True) or gone.
        self.listeners: list[Callable[[str, bool], None]] = []
        # The last number of a call or a link.
        self._numbers = 0
        # Each reference that has crossed a link, while somebody here holds it.
        self._refs: WeakValueDictionary[tuple[str, int, int], Ref] = WeakValueDictionary()
        self.inbound = Inbound(self)
        table.services[SERVICE] = self
        self.agreement = GlobalAgreement(self)

    def __repr__(self) -> str:
        return f"<Dist {self.table.node} {len(self.nodes())} nodes>"

    def nodes(self) -> list[str]:
        """The nodes with which there is a link, sorted."""
        return sorted(node for node, peer in self.peers.items() if peer.link is not None)

    # -- the links' side ------------------------------------------------------------------------------

    def up(self, link: Link) -> None:
        """There is a link with a node, both sides of which know who the other is."""
        peer = self.peer(link.node)
        if peer.link is not None:
            self.down(link.node, peer.link)
        peer.rise(link, Port(self.table, self, peer, link, self.inbound.reply))
        for listener in [*self.listeners]:
            listener(link.node, True)

    def receive(self, link: Link, frame: Frame) -> bool:
        """Handle a frame; False if it is held, until `link.release`."""
        peer = self.peers.get(link.node)
        if peer is None or peer.link is not link:
            return True
        kind, to, _, payload = frame
        if to and kind in CREDITED:
            # The common case of what `inbound` does, in line.
            process = self.table.processes.get(to)
            if process is not None:
                try:
                    message = decode(self, payload)
                except BanyanError as error:
                    self.drop("undecodable", peer.node, error)
                    return True
                if kind == CAST:
                    message = CastEnvelope(message)
                return process.offer(message) or self.inbound.hold(peer, link, frame, process, message)
        try:
            return self.inbound.handle(peer, link, frame)
        except DecodeError as error:
            self.drop("malformed", link.node, error)
            return True

    def room(self, link: Link) -> None:
        """A link takes messages again, after it had no room."""
        peer = self.peers.get(link.node)
        if peer is not None and peer.link is link:
            peer.make_room()

    def down(self, node: str, link: Link | None, reason: object = NOCONNECTION) -> None:
        """A link is gone; None: one that was wanted did not come. Who hung on it is told NOCONNECTION."""
        peer = self.peer(node)
        if peer.link is not link:
            return  # it was replaced, and everybody was told then
        peer.lose()
        for listener in [*self.listeners]:
            listener(node, False)

    def drop(self, why: str, node: str, error: object = None) -> None:
        """Count something that is dropped, and log the first of its kind."""
        self.dropped[why] += 1
        if self.dropped[why] == 1 and error is not None:
            logger.warning(
                "a message from node %s is dropped (%s; more of these are only counted): %s", node, why, error
            )

    # -- who is who -----------------------------------------------------------------------------------

    def peer(self, node: str) -> Peer:
        """What is kept of another node."""
        found = self.peers.get(node)
        if found is None:
            found = self.peers[node] = Peer(self.table, self.links, node)
        return found

    def stand(self, node: str, creation: int, number: int) -> RemoteProcess:
        """The stand-in for a process of another node; there is one for each."""
        stands = self.peer(node).stands
        found = stands.get((creation, number))
        if found is None:
            found = stands[creation, number] = RemoteProcess(self.table, self, Pid(node, creation, number))
        return found

    def named(self, node: str, name: str) -> RemoteProcess:
        names = self.peer(node).names
        found = names.get(name)
        if found is None:
            if len(names) >= NAMES:
                names.clear()
            found = names[name] = RemoteProcess(self.table, self, Pid(node, 0, 0), name)
        return found

    def pid_of(self, node: str, creation: int, number: int) -> Pid:
        table = self.table
        if node != table.node:
            return self.stand(node, creation, number).pid
        process = table.processes.get(number) if creation == table.creation else None
        return process.pid if process is not None else Pid(node, creation, number)

    def ref_of(self, node: str, creation: int, number: int) -> Ref:
        found = self._refs.get((node, creation, number))
        if found is None:
            found = self._refs[node, creation, number] = Ref(number)
            if node != self.table.node:
                # Never known to be over: what goes by it vanishes there, if it is.
                self.peer(node)
                found._owner = RemoteProcess(self.table, self, Pid(node, creation, 0), found)
                found._mode = "elsewhere"
        return found

    def identity_of(self, ref: Ref) -> tuple[str, int, int]:
        owner = ref._owner
        if ref._mode == "elsewhere" and owner is not None:
            return owner.pid.node, owner.pid.creation, ref.number
        identity = (self.table.node, self.table.creation, ref.number)
        self._refs[identity] = ref
        return identity

    def adopt(self, node: str, creation: int, number: int) -> Ref:
        """A new reference of this node, that what other nodes send under this identity means as long as it is held."""
        ref = self._refs[node, creation, number] = self.table.new_ref()
        return ref

    def new_number(self) -> int:
        """A number that no other call and no other link of this node has."""
        self._numbers += 1
        return self._numbers

    # -- the kernel's side: `Peers` -------------------------------------------------------------------

    def offer(self, to: RemoteProcess, message: object, *, bounded: bool = True) -> bool:
        kind = type(message)
        if kind is CastEnvelope:
            frame_kind, message = CAST, message.request  # type: ignore[attr-defined]  # mypy does not narrow by `type(...) is`
        elif kind is Caller or kind is Asker:
            return self._call(to, message)  # type: ignore[arg-type]  # likewise
        elif isinstance(message, Caller):
            raise Misuse(f"{message!r} cannot travel: system messages are for processes of this node")
        else:
            frame_kind = SEND
        payload = encode(self, message if to.address is None else (to.address, message))
        pid = to.pid
        found = here.get(None)
        sender = found.pid.number if type(found) is Process else 0
        peer = self.peers[pid.node]
        link = peer.link
        if link is not None and link.creation == pid.creation and (link.room or not bounded):
            # The common case of what `carry` does, in line: it is the path of every message.
            data = header(len(payload), frame_kind, pid.number, sender) + payload
            link.push(data, len(data))
            return True
        if bounded and not peer.roomy() and peer.connects():
            peer.blocked[to] = None
            return False
        peer.carry(pid.creation, Frame(frame_kind, pid.number, sender, payload))
        return True

    def _call(self, to: RemoteProcess, caller: Caller) -> bool:
        request = caller.request
        payload = encode(self, request if to.address is None else (to.address, request))
        pid = to.pid
        peer = self.peers[pid.node]
        if not peer.takes_calls():
            return False
        number = self.new_number()
        peer.expect(number, caller)
        link = peer.link
        if link is not None and link.creation == pid.creation:
            link.push(header(len(payload), CALL, pid.number, number) + payload)  # likewise
        else:
            frame = Frame(Kind.CALL, pid.number, number, payload)
            peer.carry(pid.creation, frame, lambda reason: peer.unsent(number, reason))
        return True

    def exit(self, to: RemoteProcess, source: Pid, reason: object) -> None:
        number = source.number if source is not to.pid else 0
        pid = to.pid
        self.peers[pid.node].carry(
            pid.creation, Frame(Kind.EXIT, pid.number, number, terms.encode_reason(self, reason))
        )

    def add_link(self, to: RemoteProcess, pid: Pid) -> None:
        if pid in to.ties:
            return
        peer, ours = self.peers[to.pid.node], self.new_number()
        to.ties[pid] = (ours, 0)
        peer.tied[to] = None

        def otherwise(reason: object) -> None:
            if to.ties.get(pid, (0, 0))[0] == ours:
                peer.over(to, pid, reason)

        frame = Frame(Kind.LINK, to.pid.number, pid.number, ours.to_bytes(8, "big"))
        peer.carry(to.pid.creation, frame, otherwise)

    def drop_link(self, to: RemoteProcess, pid: Pid) -> None:
        tie = to.ties.get(pid)
        if tie is None:
            return
        peer = self.peers[to.pid.node]
        peer.untie(to, pid)
        payload = b"".join(one.to_bytes(8, "big") for one in tie)
        peer.carry(to.pid.creation, Frame(Kind.UNLINK, to.pid.number, pid.number, payload))

    def link_ended(self, to: RemoteProcess, pid: Pid, reason: object) -> None:
        if pid in to.ties:
            peer = self.peers[to.pid.node]
            peer.untie(to, pid)
            payload = terms.encode_reason(self, reason)
            peer.carry(to.pid.creation, Frame(Kind.LINK_EXIT, to.pid.number, pid.number, payload))

    def add_watcher(self, to: RemoteProcess, ref: Ref, watcher: Process, monitored: Pid | str | Via) -> None:
        peer, number = self.peers[to.pid.node], ref.number
        peer.watching[number] = (ref, to, watcher, monitored)
        payload = watcher.pid.number.to_bytes(8, "big")
        if to.address is not None:
            payload += str(to.address).encode()
        frame = Frame(Kind.MONITOR, to.pid.number, number, payload)
        peer.carry(to.pid.creation, frame, lambda reason: peer.down(number, reason))

    def drop_watcher(self, to: RemoteProcess, ref: Ref) -> None:
        peer = self.peers[to.pid.node]
        if peer.watching.pop(ref.number, None) is not None:
            peer.carry(to.pid.creation, Frame(Kind.DEMONITOR, to.pid.number, ref.number))

    def watch_ended(self, to: RemoteProcess, ref: Ref, reason: object) -> None:
        target = (to.monitors or {}).pop(ref, None)
        peer = self.peers[to.pid.node]
        if target is not None and peer.watched.pop(ref.number, None) is not None:
            payload = terms.encode_reason(self, reason)
            peer.carry(to.pid.creation, Frame(Kind.DOWN, target.pid.number, ref.number, payload))


__all__ = ["Dist", "Link", "Links"]
