"""Frames that have come, and what the kernel does with them.

A payload is decoded only for a receiver who is there. What cannot be decoded, because nobody here knows a record in
it, harms nobody: a call is answered with a RemoteError that says so, a message is dropped and counted, the link
stays.
"""

from __future__ import annotations

import logging
from collections import deque
from enum import IntEnum
from typing import TYPE_CHECKING, cast, final

from ..behaviours.gen_server import CastEnvelope
from ..codec.errors import DecodeError, EncodeError
from ..errors import BanyanError, Busy
from ..kernel.exits import NOPROC, Crash, shown
from ..kernel.ids import Ref
from ..kernel.process import Process, by_alias, use_up
from ..kernel.requests import Asker, Caller, Sender
from ..kernel.signals import Answer
from . import serving, terms
from .peer import Link, Peer, no_process
from .wire import CREDITED, HEADER_SIZE, Frame, Kind, encode, header

if TYPE_CHECKING:
    from ..kernel.elsewhere import RemoteProcess
    from .dist import Dist

logger = logging.getLogger("banyan")


class Outcome(IntEnum):
    """What became of a call: `to` of its REPLY."""

    VALUE = 0
    EXITED = 1
    REFUSED = 2
    NOPROC = 3
    BUSY = 4


# As plain ints: on the path of every call an enum's members are dear.
VALUE, REPLY = int(Outcome.VALUE), int(Kind.REPLY)
# What waits behind messages of the same sender.
_SIGNALS = frozenset(map(int, (Kind.EXIT, Kind.LINK_EXIT, Kind.DOWN)))


@final
class Held:
    """A frame that waits for room in its receiver's mailbox, among the senders who wait for it."""

    __slots__ = ("frame", "inbound", "link", "message", "peer", "sender", "timeout")

    def __init__(self, inbound: Inbound, peer: Peer, link: Link, frame: Frame, sender: int, message: object) -> None:
        self.inbound = inbound
        self.peer = peer
        self.link = link
        self.frame = frame
        self.sender = sender
        self.message = message

    @property
    def waiting(self) -> bool:
        return True

    def admit(self, mailbox: deque[object] | None) -> None:
        """There is room, or nobody is left (None)."""
        if self.frame.kind in CREDITED:
            if mailbox is not None:
                mailbox.append(self.message)
            if self.peer.link is self.link:
                self.link.release(HEADER_SIZE + len(self.frame.payload))
        elif self.peer.link is self.link:
            self.inbound.handle(self.peer, self.link, self.frame, held=True)


@final
class Inbound:
    """The receiving half of `Dist`."""

    def __init__(self, dist: Dist) -> None:
        self.dist = dist
        self.table = dist.table
        self._handlers = {
            int(Kind.SEND): self._send,
            int(Kind.CAST): self._send,
            int(Kind.CALL): self._call,
            int(Kind.REPLY): self._reply,
            int(Kind.EXIT): self._exit,
            int(Kind.LINK): self._link,
            int(Kind.UNLINK): self._unlink,
            int(Kind.LINK_EXIT): self._link_exit,
            int(Kind.MONITOR): self._monitor,
            int(Kind.DEMONITOR): self._demonitor,
            int(Kind.DOWN): self._down,
            int(Kind.ASK): self._ask,
        }

    def handle(self, peer: Peer, link: Link, frame: Frame, *, held: bool = False) -> bool:
        """Do what a frame says; False if it waits for room. Raises DecodeError for one that says nothing."""
        kind = frame.kind
        if kind in _SIGNALS and not held and self._behind(peer, link, frame):
            return True
        handler = self._handlers.get(kind)
        if handler is None:
            raise DecodeError("a frame between processes", f"kind {kind}")
        return handler(peer, link, frame) is not False

    def _behind(self, peer: Peer, link: Link, frame: Frame) -> bool:
        """Let a signal wait behind messages that its sender sent before, if any wait (P34, P35)."""
        sender, process = frame.number, self.table.processes.get(frame.to)
        if frame.kind == Kind.DOWN:
            found = peer.watching.get(frame.number)
            sender, process = frame.to, found[2] if found is not None else None
        elif process is not None and not process.trap_exit:
            return False  # it ends without reading what waits
        if process is None or not process.senders:
            return False
        senders = cast("deque[Sender | Held]", process.senders)
        if not any(type(one) is Held and one.peer is peer and one.sender == sender for one in senders):
            return False
        senders.append(Held(self, peer, link, frame, sender, None))
        return True

    def _stand(self, link: Link, number: int) -> RemoteProcess:
        return self.dist.stand(link.node, link.creation, number)

    # -- messages and calls ---------------------------------------------------------------------------

    def _find(self, frame: Frame) -> tuple[Process | None, Ref | None, object]:
        """For whom a frame is, the alias by which, if by one, and what it says."""
        if frame.to:
            process = self.table.processes.get(frame.to)
            return process, None, terms.decode(self.dist, frame.payload) if process is not None else None
        found = terms.decode(self.dist, frame.payload)
        if type(found) is not tuple or len(found) != 2 or type(found[0]) not in (str, Ref):
            raise DecodeError("a name or an alias, and a message", type(found).__qualname__)
        if type(found[0]) is Ref:
            return by_alias(found[0]), found[0], found[1]
        return self.table.names.get(cast("str", found[0])), None, found[1]

    def _send(self, peer: Peer, link: Link, frame: Frame) -> bool:
        try:
            process, alias, message = self._find(frame)
        except BanyanError as error:
            self.dist.drop("undecodable", peer.node, error)
            return True
        if process is None or process.remote:
            self.dist.drop("nobody", peer.node)
            return True
        if frame.kind == Kind.CAST:
            message = CastEnvelope(message)
        if process.offer(message):
            return True
        if alias is not None:
            use_up(alias)
        return self.hold(peer, link, frame, process, message)

    def hold(self, peer: Peer, link: Link, frame: Frame, process: Process, message: object) -> bool:
        """Let a message wait for room in its receiver's mailbox; False, because it keeps its credit."""
        if process.senders is None:
            process.senders = deque()
        held = Held(self, peer, link, frame, frame.number, message)
        cast("deque[Sender | Held]", process.senders).append(held)
        return False

    def _call(self, peer: Peer, link: Link, frame: Frame) -> None:
        try:
            process, _, request = self._find(frame)
        except BanyanError as error:
            self.dist.drop("undecodable", peer.node, error)
            self._tell(link, frame.number, Outcome.REFUSED, terms.told(error))
            return
        if process is None or process.remote:
            self._tell(link, frame.number, Outcome.NOPROC)
        elif not process.offer(Asker(request, process, process.pid, cast("Process", peer.port), frame.number)):
            self._tell(link, frame.number, Outcome.BUSY, (process.label, process.limit))

    def _ask(self, peer: Peer, link: Link, frame: Frame) -> None:
        serving.serve(self.dist, peer, link, frame)

    def reply(self, link: Link, answer: Answer) -> None:
        """Send what became of a request that came by a link."""
        number = cast("int", answer.label)
        if not answer.failed:
            self._tell(link, number, VALUE, answer.value)
        elif isinstance(answer.reason, Exception):
            self._tell(link, number, Outcome.REFUSED, terms.told(answer.reason))
        else:
            self._tell(link, number, Outcome.EXITED, answer.reason)

    def _tell(self, link: Link, number: int, outcome: int, value: object = None) -> None:
        if outcome is Outcome.EXITED:
            payload = terms.encode_reason(self.dist, value)
        else:
            try:
                payload = terms.encode(self.dist, value)
            except EncodeError as error:
                logger.warning("a reply to node %s cannot travel, its caller is told so: %s", link.node, error)
                outcome, payload = Outcome.REFUSED, terms.encode(self.dist, terms.told(error.with_traceback(None)))
        link.push(header(len(payload), REPLY, outcome, number) + payload)

    def _reply(self, peer: Peer, link: Link, frame: Frame) -> None:
        caller = peer.pending.pop(frame.number, None)
        if caller is None or not caller.waiting:
            return
        try:
            value = terms.decode(self.dist, frame.payload)
        except BanyanError as error:
            caller.refuse(error)
            return
        outcome = frame.to
        if outcome == VALUE:
            caller.answer(value)
        elif outcome == Outcome.EXITED:
            caller.fail(value)
        elif outcome == Outcome.NOPROC:
            no_process(caller)
        elif outcome == Outcome.BUSY:
            self._busy(caller)
        else:
            caller.refuse(value if isinstance(value, Exception) else DecodeError("why it was refused", shown(value)))

    def _busy(self, caller: Caller) -> None:
        if type(caller) is Asker:
            caller.fail("busy")
            return
        text = f"the mailbox of {caller.destination!r} is full, and took no more: wait a moment and try again"
        caller.refuse(Busy(text, caller.destination, caller.request))

    # -- exits, links, monitors -----------------------------------------------------------------------

    def _reason(self, frame: Frame, peer: Peer) -> object:
        """The reason in a frame; one that nobody here can read is told as that, because the end itself is true."""
        try:
            reason = terms.decode(self.dist, frame.payload)
        except BanyanError as error:
            self.dist.drop("undecodable", peer.node, error)
            return Crash(terms.told(error.with_traceback(None)))
        return reason if reason is not None else Crash(terms.told(DecodeError("an exit reason", "None")))

    def _exit(self, peer: Peer, link: Link, frame: Frame) -> None:
        process = self.table.processes.get(frame.to)
        if process is not None:
            source = self._stand(link, frame.number).pid if frame.number else process.pid
            process.exit_signal(source, self._reason(frame, peer))

    def _link(self, peer: Peer, link: Link, frame: Frame) -> None:
        theirs = _numbers(frame, 1)[0]
        stand, process = self._stand(link, frame.number), self.table.processes.get(frame.to)
        if process is None or process.exiting is not None:
            payload = terms.encode_reason(self.dist, NOPROC)
            link.push(encode(Frame(Kind.LINK_EXIT, frame.number, frame.to, payload)))
            return
        stand.ties[process.pid] = (stand.ties.get(process.pid, (0, 0))[0], theirs)
        peer.tied[stand] = None
        process.add_link(stand.pid)

    def _unlink(self, peer: Peer, link: Link, frame: Frame) -> None:
        theirs, ours = _numbers(frame, 2)
        stand, process = self._stand(link, frame.number), self.table.processes.get(frame.to)
        tie = stand.ties.get(process.pid) if process is not None else None
        if process is None or tie is None:
            return
        left = (0 if tie[0] == ours else tie[0], 0 if tie[1] == theirs else tie[1])
        if left == (0, 0):
            peer.untie(stand, process.pid)
            process.drop_link(stand.pid)
        else:
            stand.ties[process.pid] = left

    def _link_exit(self, peer: Peer, link: Link, frame: Frame) -> None:
        stand, process = self._stand(link, frame.number), self.table.processes.get(frame.to)
        if process is not None and process.pid in stand.ties:
            peer.over(stand, process.pid, self._reason(frame, peer))

    def _monitor(self, peer: Peer, link: Link, frame: Frame) -> None:
        watcher, name = _numbers(frame, 1, more=True)[0], _name(frame.payload[8:])
        process = self.table.processes.get(frame.to) if frame.to else self.table.names.get(name)
        if process is None or process.exiting is not None:
            payload = terms.encode_reason(self.dist, NOPROC)
            link.push(encode(Frame(Kind.DOWN, frame.to, frame.number, payload)))
            return
        self.watch(peer, link, process, watcher, frame.number)

    def watch(self, peer: Peer, link: Link, process: Process, watcher: int, number: int) -> None:
        """A process of the other node monitors one of this, by a reference with this number."""
        stand = self._stand(link, watcher)
        ref = self.dist.ref_of(link.node, link.creation, number)
        if number in peer.watched:
            raise DecodeError("a monitor of its own number", "one that is there")
        peer.watched[number] = (ref, stand)
        if stand.monitors is None:
            stand.monitors = {}
        stand.monitors[ref] = process
        process.add_watcher(ref, stand, process.pid)

    def _demonitor(self, peer: Peer, link: Link, frame: Frame) -> None:
        found = peer.watched.pop(frame.number, None)
        if found is not None:
            ref, stand = found
            target = (stand.monitors or {}).pop(ref, None)
            if target is not None:
                target.drop_watcher(ref)

    def _down(self, peer: Peer, link: Link, frame: Frame) -> None:
        if frame.number in peer.watching:
            peer.down(frame.number, self._reason(frame, peer))


def _numbers(frame: Frame, count: int, *, more: bool = False) -> list[int]:
    """The numbers of 8 bytes each of which a payload consists, or with which it begins."""
    payload = frame.payload
    if len(payload) < 8 * count or (len(payload) > 8 * count and not more):
        raise DecodeError(f"{count} numbers of 8 bytes", f"{len(payload)} bytes")
    return [int.from_bytes(payload[at : at + 8], "big") for at in range(0, 8 * count, 8)]


def _name(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise DecodeError("a name as UTF-8", "other bytes") from error


__all__ = ["Held", "Inbound", "Outcome"]
