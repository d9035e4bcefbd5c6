"""Players whose node goes: they are sent to another one's gateway, where their session goes on.

When a node is drained, or stopped in order, its usher asks the host of another node to take each session in. That one
starts a session of the same id, which watches the same tables, and gives a token that is good there; the client is told
both as its connection is ended. Nobody gives up a seat: the new session waits for its client as after a lost
connection. What a command has done is known by its number under the session's id, wherever it is repeated.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, final

import trio

from runtime import (
    Call,
    CallFailed,
    Exit,
    GenServer,
    NoProcess,
    Pid,
    ReceiveTimeout,
    at,
    call,
    exit_with,
    message,
    receive,
    trap_exit,
)
from runtime.cluster.membership import membership_of
from runtime.edge.acceptor import address_of
from runtime.edge.client import GoElsewhere
from runtime.edge.frames import Refusal
from runtime.kernel.table import current_table
from supervisors import which_children

from .player import WhatToTake

# The registered name of a node's host.
HOST: Final = "gateway.host"
# Seconds between two looks whether the node is drained, for another node's answer, and for all when it stops.
LOOK: Final = 0.25
PATIENCE: Final = 2.0
STOP_PATIENCE: Final = 3.0

TakeIn = Callable[[str, str, "tuple[str, ...]"], Awaitable[str]]


@final
@message("gateway.take_in")
class TakeInPlayer(Call["TakenIn | None"]):
    """Go on with a player's session, with these tables watched. The reply: None if that cannot be here."""

    player: str
    session: str
    tables: tuple[str, ...]


@final
@message("gateway.taken_in")
class TakenIn:
    """Where the client is to go, and the token that is good there."""

    gateway: str
    resume: str

    def __repr__(self) -> str:
        return f"TakenIn(gateway={self.gateway!r}, resume=<redacted>)"


@final
class Host(GenServer):
    """Takes in the players of other nodes.

    Args:
        take_in: starts a session, or finds it; see `game.gateway.CardRoomGuest.take_in`.
    """

    def init(self, take_in: TakeIn) -> None:
        self._take_in = take_in
        self._count = 0

    async def handle_call(self, request: Any, caller: Any) -> Any:
        if not isinstance(request, TakeInPlayer):
            return super().handle_call(request, caller)
        gateway = address_of(current_table())
        if gateway is None or is_draining():
            return None
        try:
            resume = await self._take_in(request.player, request.session, request.tables)
        except (Refusal, CallFailed):
            return None
        self._count += 1
        return TakenIn(gateway, resume)

    def state(self) -> object:
        return {"taken_in": self._count}

    def summary(self) -> str:
        return f"{self._count} players taken in"


async def usher(sessions: str) -> None:
    """Sends the players away while the node is drained, and once more when it is stopped.

    Args:
        sessions: the supervisor of their sessions.
    """
    trap_exit(True)
    while True:
        try:
            told = await receive(lambda message: isinstance(message, Exit), timeout=LOOK)
        except ReceiveTimeout:
            if is_draining():
                await send_away(sessions)
        else:
            assert isinstance(told, Exit)
            with trio.move_on_after(STOP_PATIENCE):
                await send_away(sessions)
            exit_with(told.reason)


def is_draining() -> bool:
    """Whether this node gives its shards away, for it will be stopped."""
    try:
        return membership_of(current_table()).draining
    except NoProcess:
        return False


def others() -> list[str]:
    """The nodes to which players may be sent, by name."""
    table = current_table()
    try:
        members = membership_of(table).members()
    except NoProcess:
        return []
    return sorted(
        name for name, one in members.items() if one.state == "up" and not one.draining and name != table.node
    )


async def send_away(sessions: str) -> int:
    """Send every player whose client is connected to another node, if there is one; how many went."""
    went = 0
    hosts = others()
    if hosts:
        for one in await which_children(sessions):
            if isinstance(one.pid, Pid):
                went += await _send_one(one.pid, hosts)
                hosts.append(hosts.pop(0))  # each node gets its share
    return went


async def _send_one(session: Pid, hosts: list[str]) -> bool:
    try:
        taken = await call(session, WhatToTake())
        if taken is None:
            return False
        for host in hosts:
            try:
                there = await call(at(HOST, host), TakeInPlayer(*taken), timeout=PATIENCE)
            except CallFailed:
                continue
            if there is not None:
                return await call(session, GoElsewhere(there.gateway, there.resume))
    except CallFailed:
        pass  # the session has ended by itself
    return False
