"""A player's session at the gateway: which tables the client watches, and what it is shown of them.

Each watched table tells this process of every change, as this player may see it and nobody else. The first
view of a table, and the first after its process has been restarted, is pushed as an absolute, every other
as the delta to the one before it. A table that moves to another node is none that was restarted: it goes on
telling, and what its two nodes have sent is shown in the order in which it happened.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, final

import msgspec
import trio

from runtime import (
    Answer,
    Call,
    Caller,
    CallFailed,
    Down,
    Name,
    Pid,
    Ref,
    Refused,
    call,
    demonitor,
    monitor,
    self_pid,
    send_after,
    send_request,
)
from runtime.edge.client import EXPIRED, ClientSession
from runtime.edge.deltas import diff

from .aside import Damaged, damage
from .messages import Leave, Moved, News, TableView, Unwatch, Watch, Where
from .news import InOrder
from .places import is_spread, place

# The pauses before a table that is not there is watched again, in seconds: doubled from first to last.
FIRST_PAUSE, LAST_PAUSE = 0.02, 1.0
# How long a player who did not come back is tried to be taken off a table, in seconds.
LEAVE_PATIENCE = 2.0
# How long news that is later than the next is kept back for that, in seconds: it may be lost with a node.
NEWS_PATIENCE = 1.0


def key_of_table(name: str) -> str:
    """The key, and registered name, of the table that clients call `name`."""
    return f"table/{name}"


@final
@dataclass(frozen=True, slots=True)
class StartWatching(Call[bool]):
    """Show a table to the client. The reply: whether there is room for one more."""

    table: str


@final
@dataclass(frozen=True, slots=True)
class StopWatching(Call[None]):
    """Show a table no more."""

    table: str


@final
@dataclass(frozen=True, slots=True)
class Seats(Call[tuple[str, ...]]):
    """The watched tables at which the player has a seat, as far as seen."""


@final
@dataclass(frozen=True, slots=True)
class WhichSession(Call[str]):
    """The session's id."""


@final
@dataclass(frozen=True, slots=True)
class WhatToTake(Call["tuple[str, str, tuple[str, ...]] | None"]):
    """What another node must know to go on with the session: player, id, and watched tables; None: nobody is there."""


@final
@dataclass(frozen=True, slots=True)
class _Watching:
    """The label of a request to watch: the `attempt`-th for this table."""

    table: str
    attempt: int


@final
@dataclass(frozen=True, slots=True)
class _Finding:
    """The label of a request where the table is."""

    table: str
    attempt: int


@final
@dataclass(frozen=True, slots=True)
class _Again:
    table: str
    attempt: int


@final
@dataclass(frozen=True, slots=True)
class _LookAgain:
    """A table that dropped us as too slow says nothing: from time to time all are asked."""


@final
@dataclass(frozen=True, slots=True)
class _Late:
    """News that lacked after the one with this number has not come for a while."""

    table: str
    attempt: int
    number: int


@final
class _Watched:
    """One table that the client watches."""

    __slots__ = ("attempt", "failures", "moves", "news", "process", "ref", "view", "waiting")

    def __init__(self) -> None:
        # What its process has told, in order, and how often that has moved.
        self.news = InOrder()
        self.moves = 0
        # Whether something that lacks is waited for.
        self.waiting = False
        # The last view as the client has it; None until there is one of the table's present process.
        self.view: dict[str, Any] | None = None
        # Invariant: the monitor of the table's process; None while a new attempt is waited for.
        self.ref: Ref | None = None
        # What is monitored, and asked to be watched.
        self.process: Name | Pid = ""
        self.attempt = 0
        self.failures = 0


class PlayerSession(ClientSession):
    """One player's session; see `runtime.edge.client`.

    Args of its start, after the session's id and the `Keeping`: the player's name, the most tables that may
    be watched, and the seconds after which all are asked again.
    """

    def begin(self, player: str, most: int, look_again: float) -> None:
        self.player = player
        self._most = most
        self._pause = look_again
        self._tables: dict[str, _Watched] = {}
        send_after(look_again, self_pid(), _LookAgain())

    def absolutes(self) -> Iterable[dict[str, Any]]:
        for name, table in self._tables.items():
            if table.view is not None:
                yield {"type": "absolute", "table": name, "view": table.view}

    def handle_request(self, request: Any, caller: Caller) -> Any:
        match request:
            case StartWatching(name):
                return self._start(name)
            case StopWatching(name):
                self._stop(name)
                return None
            case Seats():
                return tuple(self._seats())
            case WhichSession():
                return self.session
            case WhatToTake():
                return (self.player, self.session, tuple(self._tables)) if self.connected else None
            case _:
                return super().handle_request(request, caller)

    def handle_other(self, message: Any) -> Any:
        match message:
            case News(view, number):
                self._hear(view.table, number, view)
            case Moved(key, process, times):
                self._follow(key, process, times)
            case Answer(label=_Watching(name, attempt)):
                table = self._tables.get(name)
                if table is None or table.attempt != attempt or table.ref is None:
                    pass  # an answer to an attempt that was given up
                elif (why := damage(message.reason)) is not None:
                    self._lose(name, why)
                elif message.failed:
                    self._retry(name, table)
                elif isinstance(message.value, News):
                    table.failures = 0
                    self._show(name, table, table.news.asked(message.value.number, message.value.view))
            case Answer(label=_Finding(name, attempt)):
                table = self._tables.get(name)
                if table is None or table.attempt != attempt:
                    pass  # given up
                elif (why := damage(message.reason)) is not None:
                    self._lose(name, why)
                elif isinstance(message.value, Pid):
                    self._look_at(name, table, message.value)
                else:
                    self._retry(name, table)
            case Answer(label=None):
                pass  # of a request to send no more
            case Down(ref=ref):
                for name, table in self._tables.items():
                    if table.ref is ref:
                        self._retry(name, table)
            case _Again(name, attempt):
                table = self._tables.get(name)
                if table is not None and table.attempt == attempt and table.ref is None:
                    self._ask(name, table)
            case _Late(name, attempt, number):
                table = self._tables.get(name)
                if table is not None and table.attempt == attempt:
                    table.waiting = False
                    self._show(name, table, table.news.overdue(number))
            case _LookAgain():
                for name, table in self._tables.items():
                    if table.ref is not None and table.view is not None:
                        self._request(name, table)
                send_after(self._pause, self_pid(), _LookAgain())
            case _:
                return super().handle_other(message)
        return None

    async def farewell(self, reason: object) -> None:
        """Whoever does not come back gives up the seats, so that nobody has to wait for them."""
        if reason != EXPIRED:
            return
        with trio.move_on_after(LEAVE_PATIENCE):
            for name in list(self._seats()):
                while True:
                    try:
                        await call(place(key_of_table(name)), Leave(self.player))
                    except Refused:
                        pass  # no seat any more
                    except CallFailed:
                        await trio.sleep(LAST_PAUSE / 20)
                        continue
                    break

    def state(self) -> object:
        return {"player": self.player, "tables": sorted(self._tables), "session": super().state()}

    # -- watching ------------------------------------------------------------------------------------

    def _start(self, name: str) -> bool:
        table = self._tables.get(name)
        if table is not None:
            # Asked again, it gets an absolute again.
            if table.view is not None:
                self.push({"type": "absolute", "table": name, "view": table.view})
            return True
        if len(self._tables) >= self._most:
            return False
        table = self._tables[name] = _Watched()
        self._ask(name, table)
        return True

    def _stop(self, name: str) -> None:
        table = self._tables.pop(name, None)
        if table is not None and table.ref is not None:
            demonitor(table.ref, flush=True)
            # If it is lost, its news is not shown anyway.
            send_request(table.process, Unwatch(self_pid()), None, timeout=5.0)

    def _lose(self, name: str, why: str) -> None:
        """The table was set aside when it was to be restarted: that is the last the client hears of it."""
        self._stop(name)
        self.push(gone(name, Damaged(why)))

    def _ask(self, name: str, table: _Watched) -> None:
        """Watch the table's process of this moment, if there is one."""
        table.attempt += 1
        table.view = None
        table.news = InOrder()
        table.moves, table.waiting = 0, False
        if is_spread():
            send_request(place(key_of_table(name)), Where(), _Finding(name, table.attempt), timeout=5.0)
        else:
            self._look_at(name, table, key_of_table(name))

    def _look_at(self, name: str, table: _Watched, process: Name | Pid) -> None:
        table.process = process
        table.ref = monitor(process)
        self._request(name, table)

    def _request(self, name: str, table: _Watched) -> None:
        label = _Watching(name, table.attempt)
        send_request(table.process, Watch(self_pid(), self.player), label, timeout=5.0)

    def _retry(self, name: str, table: _Watched) -> None:
        """The table is gone or does not answer: try again in a moment."""
        if table.ref is not None:
            demonitor(table.ref, flush=True)
            table.ref = None
        pause = min(LAST_PAUSE, FIRST_PAUSE * 2.0**table.failures)
        table.failures = min(table.failures + 1, 16)
        send_after(pause, self_pid(), _Again(name, table.attempt))

    def _follow(self, key: str, process: Pid, times: int) -> None:
        """The table runs elsewhere now. It is watched there too, and with it we stay when its former node ends."""
        table = self._tables.get(key.removeprefix("table/"))
        if table is not None and table.ref is not None and times > table.moves:
            table.moves = times
            demonitor(table.ref, flush=True)
            table.process, table.ref = process, monitor(process)

    def _hear(self, key: str, number: int, view: TableView) -> None:
        name = key.removeprefix("table/")
        table = self._tables.get(name)
        # Otherwise it is no longer watched, or these are the last words of a process that has ended.
        if table is not None and table.ref is not None:
            self._show(name, table, table.news.told(number, view))

    def _show(self, name: str, table: _Watched, views: Iterable[TableView]) -> None:
        for view in views:
            self._show_one(name, table, view)
        if table.news.lacking and not table.waiting:
            table.waiting = True
            send_after(NEWS_PATIENCE, self_pid(), _Late(name, table.attempt, table.news.last))

    def _show_one(self, name: str, table: _Watched, view: TableView) -> None:
        body = _plain(view)
        if table.view is None:
            self.push({"type": "absolute", "table": name, "view": body})
        elif body["sequence"] < table.view["sequence"]:
            return
        else:
            changes = diff(table.view, body)
            if changes:
                self.push({"type": "delta", "table": name, "changes": changes})
        table.view = body

    def _seats(self) -> Iterable[str]:
        for name, table in self._tables.items():
            if table.view is not None and any(s["player"] == self.player for s in table.view["seats"]):
                yield name


def gone(name: str, damaged: Damaged) -> dict[str, Any]:
    """What is pushed of a table that is set aside while it is watched."""
    return {"type": "gone", "table": name, "reason": "damaged", "text": damaged.reason}


def _plain(view: TableView) -> dict[str, Any]:
    """A view as JSON has it. There and back, because deltas compare lists, and records hold tuples."""
    body: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(view))
    del body["table"]
    return body
