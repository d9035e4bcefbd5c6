"""A player's end of the gateway's socket: one session that outlives its connections, and a seat at a table.

Two tasks: one keeps a connection and takes what comes over it, resuming when it is lost; the other does what
the person types. A command that was not answered is sent again over the next connection, with the same id.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, final

import trio
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.trio.client import ClientConnection, connect, unix_connect

from runtime.edge.deltas import apply
from runtime.errors import BanyanError

from .action import chips
from .play_screen import Screen, Unseen
from .play_words import HELP, Unclear, View, is_out, narrate, offer, seat_of, turn_of, understand

# How long a lost connection is tried to be had again, in seconds, and the pause between two tries.
COMING_BACK, PAUSE = 20.0, 0.25
UNREACHABLE, NOT_FOUND, REFUSED = 3, 4, 5

# What to do about a damaged record.
MEND = "look at it with banyan check, or play at another table"
# What a line may hold, in bytes: what is longer is cut into several.
MOST_OF_A_LINE = 4096

Lines = Callable[[], Awaitable[str | None]]
Where = Callable[[], Awaitable[str]]


class _Again(Exception):
    """The gateway is there and cannot help just now."""


class Stopped(BanyanError):
    """The game cannot go on: `what`, `why`, what to do `next`, and the exit `code`."""

    def __init__(self, what: str, why: str, next: str, code: int) -> None:
        super().__init__(f"{what}: {why}; {next}")
        self.what = what
        self.why = why
        self.next = next
        self.code = code


@final
class Seat:
    """One person's game.

    Args:
        where: tells where the gateway listens now, as `host:port` or `unix:PATH`, whenever a connection is
            needed. Raises OSError if it cannot say now, Stopped if it never will.
        token: to log in with.
        player: whose token it is.
        screen: where the game is shown.
        lines: gives the next typed line, None when there will be no more.
        patient: whether an action that is typed too early waits for its turn, as one from a pipe must.
    """

    def __init__(self, where: Where, token: str, player: str, screen: Screen, lines: Lines, *, patient: bool) -> None:
        self.where = where
        self.player = player
        self.screen = screen
        self.lines = lines
        self.patient = patient
        self.table = ""
        self.view: View | None = None
        self._hello: dict[str, Any] = {"op": "login", "token": token}
        self._resume = ""
        # Where the session goes on, once its node has sent us to another.
        self._elsewhere = ""
        self._sequence = 0
        self._last_id = 0
        self._socket: ClientConnection | None = None
        # Invariant: what was asked and is not answered, by its id, in the order of asking.
        self._asked: dict[int, dict[str, Any]] = {}
        self._answers: dict[int, dict[str, Any]] = {}
        self._news = trio.lowlevel.ParkingLot()
        self._offered: tuple[int, int] | None = None
        # Whether the player has not said that they leave.
        self._staying = True
        self._failure: Stopped | Unseen | None = None

    async def play(self, table: str | None, stack: int) -> None:
        """Sit down with `stack` hundredths, at a table with a free seat or the one named; play until they leave.

        Without a name their own seat comes first, if they have one. Raises Stopped if it cannot be, or the
        gateway is lost for good; Unseen if nobody looks any more.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._guarded, self._keep_connected, nursery.cancel_scope)
            nursery.start_soon(self._guarded, self._game, nursery.cancel_scope, table, stack)
        if self._failure is not None:
            raise self._failure

    async def _guarded(self, work: Callable[..., Awaitable[None]], scope: trio.CancelScope, *args: object) -> None:
        """Run one of the two tasks; its end is the end of both."""
        try:
            await work(*args)
        except (Stopped, Unseen) as failure:
            self._failure = failure
        scope.cancel()

    # -- the connection --------------------------------------------------------------------------------

    async def _keep_connected(self) -> None:
        until = trio.current_time() + COMING_BACK
        while True:
            try:
                async with _connect(self._elsewhere or await self.where()) as socket:
                    await self._listen(socket)
            except (OSError, InvalidHandshake, ConnectionClosed, _Again):
                pass  # not there, full, lost, or just healing: try again
            if self._socket is not None:
                # We had been let in: the time for coming back begins anew.
                until = trio.current_time() + COMING_BACK
                self.screen.complain("the connection was lost: coming back")
            self._socket = None
            if trio.current_time() > until:
                why = f"it did not answer for {COMING_BACK:g} s"
                raise Stopped("lost the gateway", why, "look at the node: banyan tree", UNREACHABLE)
            await trio.sleep(PAUSE)

    async def _listen(self, socket: ClientConnection) -> None:
        await socket.send(json.dumps(self._hello))
        while True:
            self._take(socket, json.loads(await socket.recv()))
            if self._socket is socket:
                continue
            # Just welcomed: what was asked before goes out again, under the same ids.
            self._socket = socket
            again = [{"op": "watch", "table": self.table}] if self.table and self.view is None else []
            for frame in [*again, *self._asked.values()]:
                await socket.send(json.dumps(frame))

    def _take(self, socket: ClientConnection, frame: dict[str, Any]) -> None:
        match frame["type"]:
            case "welcome":
                self._resume = frame["resume"]
                if not frame["resumed"]:
                    self.view = None
                    self._sequence = frame["seq"]
            case "absolute" | "delta":
                self._sequence = frame["seq"]
                if frame["table"] == self.table:
                    self._show(frame)
            case "gone":
                self._sequence = frame["seq"]
                if frame["table"] == self.table:
                    raise Stopped(f"the game at {self.table!r} cannot go on", frame["text"], MEND, REFUSED)
            case "reply" | "refused" if frame["id"] in self._asked:
                del self._asked[frame["id"]]
                self._answers[frame["id"]] = frame
            case "refused" if self._socket is not socket:
                if frame["reason"] == "unavailable":
                    raise _Again
                misnamed = frame["reason"] in ("bad_name", "reserved_name")
                advice = "choose another with --name" if misnamed else "log in anew"
                raise Stopped("the gateway does not let you in", frame["text"], advice, REFUSED)
            case "bye" if frame["reason"] == "draining":
                self._elsewhere, self._resume = frame["gateway"], frame["resume"]
            case "bye" if frame["reason"] == "displaced":
                why = "you have logged in somewhere else"
                raise Stopped("this game has ended", why, "go on there, or log in here again", REFUSED)
        if self._resume:  # once let in, only what is lacking is asked for
            self._hello = {"op": "resume", "token": self._resume, "after": self._sequence}
        self._news.unpark_all()

    def _show(self, frame: dict[str, Any]) -> None:
        before, view = self.view, frame.get("view")
        if view is not None:
            # What lies between is not told, so the table is shown as it is, and a turn is offered again.
            before = self._offered = None
        elif before is not None:
            view = apply(frame["changes"], before)
        else:
            return  # a delta to what we never had
        seated = self.view is not None and seat_of(self.view, self.player) is not None
        self.view = view
        for line in narrate(before, view, self.player):
            self.screen.say(line)
        if seated and self._staying and seat_of(view, self.player) is None:
            why = "it had been given up in the middle of a hand, which is over now"
            raise Stopped(f"your seat at {self.table!r} is gone", why, "play again to take another", REFUSED)
        turn = turn_of(view)
        if offer(view, self.player) is not None and self._offered != turn:
            self._offered = turn
            self.screen.ask(view, self.player)
            self.screen.prompt()

    # -- asking ----------------------------------------------------------------------------------------

    async def _ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """Ask, over as many connections as it takes; the reply or refusal."""
        self._last_id += 1
        number = self._last_id
        until = trio.current_time() + COMING_BACK
        while True:
            frame = self._asked[number] = {"op": op, "id": number, **fields}
            socket = self._socket
            if socket is not None:
                try:
                    await socket.send(json.dumps(frame))
                except ConnectionClosed:
                    pass  # it goes out with the next connection
            # No deadline: the gateway answers within its own, and a lost one ends the game.
            while number not in self._answers:
                await self._news.park()
            answer = self._answers.pop(number)
            if answer.get("reason") not in ("unavailable", "rate_limited") or trio.current_time() > until:
                return answer
            # It may have been done or not: asked again under its id, it is done once.
            await trio.sleep(PAUSE)

    async def _need(self, what: str, op: str, **fields: Any) -> Any:
        """What is in the reply; without it there is no game."""
        frame = await self._ask(op, **fields)
        if frame["type"] == "reply":
            return frame["ok"]
        missing = frame["reason"] == "no_such_table"
        advice = "name another one with --table" if missing else "try another table, or fewer chips with --stack"
        if frame["reason"] == "damaged":
            advice = MEND
        raise Stopped(what, frame["text"], advice, NOT_FOUND if missing else REFUSED)

    # -- the game --------------------------------------------------------------------------------------

    async def _game(self, table: str | None, stack: int) -> None:
        self.table = table if table is not None else await self._find_table()
        await self._need(f"cannot watch table {self.table!r}", "watch", table=self.table)
        while self.view is None:
            await self._news.park()
        if is_out(self.view, self.player):
            sat = await self._need(f"cannot sit down at {self.table!r}", "sit", table=self.table, amount=stack)
            while sat["stack"] is not None and (self.view is None or seat_of(self.view, self.player) is None):
                await self._news.park()
            self.screen.say(f"{self.player}, you are at {self.table} with {chips(stack)}. You can: {HELP}")
        else:
            await self._keep_seat(stack)
            self.screen.say(f"{self.player}, you are back in your seat at {self.table}. You can: {HELP}")
        # The wait for a person has no deadline, for the table's own clock plays for whoever is too slow.
        while await self._line():
            pass
        self._staying = False
        frame = await self._ask("leave", table=self.table)
        if frame["type"] == "reply":
            self.screen.say(f"you leave {self.table}; your chips go back to your wallet")
            self.table = ""  # that is the last word: news that has just come is not shown
        else:
            self.screen.complain(frame["text"])

    async def _keep_seat(self, stack: int) -> None:
        """Sit down again where the seat is being given up, which keeps it; only told if that cannot be."""
        view = self.view
        seat = seat_of(view, self.player) if view is not None else None
        if view is None or seat is None or not seat["leaving"]:
            return
        amount = max(view["blinds"][1], stack - seat["stack"] - seat["bet"])
        frame = await self._ask("sit", table=self.table, amount=amount)
        if frame["type"] == "refused":
            self.screen.complain(f"your seat is given up when this hand ends: {frame['text']}")

    async def _find_table(self) -> str:
        tables = (await self._need("cannot see the lobby", "lobby"))["tables"]
        free = [one for one in tables if one["taken"] is not None and one["taken"] < one["seats"]]
        chosen = [one for one in tables if one["seated"]] + free
        if chosen:
            return str(chosen[0]["table"])
        why = "no table of the lobby has one" if tables else "the lobby has no table"
        raise Stopped("there is no free seat", why, "try again later, or start a node of your own", REFUSED)

    async def _line(self) -> bool:
        """Do what is typed next; False when the player leaves."""
        line = await self.lines()
        if line is None:
            return False
        self.screen.typed()
        match line.lower().split():
            case []:
                return True
            case ["leave" | "quit" | "exit" | "q"]:
                return False
            case ["help" | "h" | "?"]:
                self.screen.say(f"you can: {HELP}")
                return True
        try:
            await self._act(line)
        except Unclear as unclear:
            self.screen.complain(str(unclear))
            if self.view is not None and self.view["legal"] is not None:
                self.screen.prompt()
        return True

    async def _act(self, line: str) -> None:
        if self.patient:
            await self._my_turn()
        meant = understand(line, self.view, self.player)
        now = self.view["sequence"] if self.view is not None else 0
        frame = await self._ask("act", table=self.table, **meant)
        if frame["type"] == "refused":
            self.screen.complain(frame["text"])
            return
        # The next line is about the table as it is after this one.
        while self.view is not None and self.view["sequence"] <= now:
            await self._news.park()

    async def _my_turn(self) -> None:
        """Wait until the player is to act, or cannot play any more."""
        while self.view is None or self.view["legal"] is None:
            if self.view is not None and is_out(self.view, self.player):
                raise Unclear("you have no chips at this table any more: leave")
            await self._news.park()


def _connect(address: str) -> connect:
    # A game on this machine: no proxy, and nothing to be gained by compression.
    if address.startswith("unix:"):
        return unix_connect(address.removeprefix("unix:"), proxy=None, compression=None)
    return connect(f"ws://{address}", proxy=None, compression=None)


def lines_of(read: Callable[[], Awaitable[bytes]]) -> Lines:
    """Typed lines out of chunks of bytes."""
    waiting: deque[str] = deque()
    held = b""
    ended = False

    async def line() -> str | None:
        nonlocal held, ended
        while not waiting:
            if ended:
                return None
            chunk = await read()
            ended = not chunk
            *whole, held = (held + chunk).split(b"\n")
            if held and (ended or len(held) > MOST_OF_A_LINE):
                whole, held = [*whole, held], b""
            waiting.extend(one.decode("utf-8", "replace").strip() for one in whole)
        return waiting.popleft()

    return line
