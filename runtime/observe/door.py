"""How a node's admin server is to be run: where it listens, what it tells, what it lets be done, and to whom."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import trio

from ..kernel.ids import Pid
from ..kernel.process import Process
from .cluster import Regions
from .facts import Facts
from .protocol import Code, Level, Refusal, Request, operation_of
from .steering import Steering


@final
@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end, as the operating system says; `pid` 0 if it does not."""

    uid: int
    pid: int = 0


def peer_of(stream: trio.abc.Stream) -> Peer:
    """The peer of a unix socket, if it is this user or root; raises Refusal for anybody else.

    Where the system tells no credentials (it is not Linux), the socket's directory, which only its owner may
    enter, is the whole guard.
    """
    plug = getattr(stream, "socket", None)
    return peer_of_socket(plug) if plug is not None else Peer(os.geteuid())


def peer_of_socket(plug: socket.socket) -> Peer:  # allowed: it looks at one that was made elsewhere
    """As `peer_of`, of a socket itself."""
    own = os.geteuid()
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return Peer(own)
    pid, uid, _gid = struct.unpack("3i", plug.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i")))
    if uid not in (own, 0):
        raise Refusal(
            "this node does not talk to you",
            f"you are user {uid}, the node belongs to user {own}",
            "ask as the node's own user, or as root",
            Code.REFUSED,
        )
    return Peer(uid, pid)


@final
@dataclass(frozen=True)
class Door:
    """How an admin server is to be run.

    Attributes:
        address: where it listens, `unix:PATH`.
        root: the root of the tree that it shows.
        facts: what it tells of the node.
        allow_eval: whether it runs typed lines; then it allows everything.
        names: what a typed line finds, beside the helpers.
        stop: asks the host to drain the node; None if nobody but the host stops it.
        admit: says who is at the other end of a stream; raises Refusal for whom it does not let in.
        limit: connections at a time.
        most: the most that a request may do, unless typed lines are allowed.
        restart: has the supervisor of a process end it and start it again; the text of its new pid. None if
            nobody here knows supervisors.
        back: where the back door is, which answers also while the loop is held; None for none.
        interrupt: breaks what holds the loop, asked from another thread; who it was, or None if nothing did.
        regions: what is known here of the shards of its regions; None if nobody here knows regions.
        steering: moves shards; None if nobody here can.
    """

    address: str
    root: Pid
    facts: Facts
    allow_eval: bool = False
    names: Mapping[str, object] = field(default_factory=dict)
    stop: Callable[[], None] | None = None
    admit: Callable[[trio.abc.Stream], Peer] = peer_of
    limit: int = 64
    most: Level = Level.ACT
    restart: Callable[[Process], Awaitable[str]] | None = None
    back: Path | None = None
    interrupt: Callable[[], str | None] | None = None
    regions: Regions | None = None
    steering: Steering | None = None

    @property
    def level(self) -> Level:
        """The most that a request may do here."""
        return Level.EVAL if self.allow_eval else min(self.most, Level.ACT)

    def check(self, request: Request) -> None:
        """Refuse what is above this node's level, with what it would need."""
        if request.level <= self.level:
            return
        what = f"this node does not do {operation_of(request)!r}"
        if request.level is Level.EVAL:
            why = "it was started without --allow-eval, so it runs no typed lines"
            raise Refusal(what, why, "restart it with --allow-eval, or use tree, ps and info", Code.REFUSED)
        needed, allowed = request.level.name.lower(), self.level.name.lower()
        why = f"that needs the level {needed!r}, and it was started with --admin-level {allowed}"
        raise Refusal(what, why, f"restart it with --admin-level {needed}", Code.REFUSED)
