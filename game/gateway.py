"""The card room's gateway: players over WebSocket, in a supervision subtree of its own.

    gateway             rest_for_one
    |-- doorkeeper      counts the connections
    |-- sessions        dynamic: a session for each player, which outlives connections
    |-- connections     dynamic: a process for each connection
    |-- acceptor        listens
    |-- host            in a cluster: takes in the players of a node that goes
    `-- usher           in a cluster: sends ours to another node when this one goes

Put it beside the room as `child("gateway", Gateway, GatewaySettings())`. Where it listens is among the node's
services as `gateway`. It never sees what nodes say to each other, and touches the room only through the
commands that everybody uses: a client's command is numbered with the id that the client gave it, under the
session's id, so that it is applied once however often it is sent. docs/gateway.md has the protocol.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, assert_never, final

import trio

from runtime import (
    AlreadyDone,
    Call,
    CallFailed,
    Pid,
    Refused,
    Session,
    call,
    sys,
    whereis,
    world,
)
from runtime.edge import frames
from runtime.edge.acceptor import Acceptor, check_address
from runtime.edge.client import DISPLACED, Keeping
from runtime.edge.connection import Doorkeeper, Entry, Request, connection
from runtime.edge.frames import Refusal
from runtime.edge.keys import own_secret
from runtime.edge.tokens import Signer, Token, TokenError
from runtime.edge.websocket import Bounds
from supervisors import ChildRefused, DynamicSupervisor, EntityRaised, Supervisor, child, start_child

from .aside import LOBBY, Damaged, damage
from .bots import is_bot
from .messages import (
    Act,
    Balance,
    BuyIn,
    Grant,
    Join,
    Leave,
    Look,
    Progress,
    TableConfig,
    Tables,
    UnderWay,
)
from .places import is_spread, place
from .player import (
    PlayerSession,
    Seats,
    StartWatching,
    StopWatching,
    WhichSession,
    key_of_table,
)
from .protocol import (
    AnyLater,
    LeaveTable,
    Login,
    Resume,
    ShowBalance,
    ShowLobby,
    Sit,
    TakeTurn,
    UnwatchTable,
    WatchTable,
    first,
    later,
)
from .usher import HOST, STOP_PATIENCE, Host, usher
from .wallet import key_of

DOORKEEPER = "gateway.doorkeeper"
SESSIONS = "gateway.sessions"
CONNECTIONS = "gateway.connections"

# How long a table is asked who sits there, in seconds; of a page of them, all together.
_LOBBY_PATIENCE = 1.0


@final
@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """How a gateway is run.

    Attributes:
        listen: where; port 0 takes a free one.
        remote: whether it may listen beyond this machine, where others could read along.
        secret: signs the tokens, at least 32 bytes; None: the one in the node's data directory.
        grant: hundredths that the house gives each new player, once; 0: none.
        connections, connections_each: how many there may be, in all and of one player.
        watched: how many tables a client may watch.
        patience: seconds for which a command is repeated while its table or wallet is away.
        resume_token_seconds: how long a resume token is good for.
        look_again: seconds after which watched tables are asked for what was missed.
        bounds: what one connection may cost.
        keeping: what is kept for one player.
    """

    listen: str = "127.0.0.1:0"
    remote: bool = False
    secret: bytes | None = field(default=None, repr=False)
    grant: int = 1_000_000
    connections: int = 1000
    connections_each: int = 4
    watched: int = 8
    patience: float = 5.0
    resume_token_seconds: float = 12 * 3600.0
    look_again: float = 15.0
    bounds: Bounds = field(default_factory=Bounds)
    keeping: Keeping = field(default_factory=Keeping)


class Gateway(Supervisor):
    """Players over WebSocket. Its start fails if it may not, or cannot, listen where it is told to."""

    strategy, intensity, period = "rest_for_one", 5, 10.0

    def init(self, settings: GatewaySettings) -> Any:
        check_address(settings.listen, remote=settings.remote)
        secret = settings.secret if settings.secret is not None else own_secret()
        guest = CardRoomGuest(settings, Signer(secret))
        most = (settings.connections, settings.connections_each)
        children = [
            child("doorkeeper", Doorkeeper, *most, name=DOORKEEPER),
            child("sessions", _Clients, name=SESSIONS),
            child("connections", _Clients, name=CONNECTIONS),
            child("acceptor", Acceptor, settings.listen, settings.remote, _starter(guest, settings.bounds)),
        ]
        if is_spread():
            children.append(child("host", Host, guest.take_in, name=HOST))
            children.append(child("usher", usher, SESSIONS, shutdown=2 * STOP_PATIENCE))
        return children


class _Clients(DynamicSupervisor):
    """Sessions, or connections: temporary all, so a crash costs nobody a restart."""


def _starter(guest: CardRoomGuest, bounds: Bounds) -> Callable[[trio.abc.Stream], Awaitable[object]]:
    count = itertools.count(1)

    async def start(stream: trio.abc.Stream) -> None:
        name = f"connection/{next(count)}"
        # The one thing handed on here that means nothing elsewhere: a stream, to the process that owns it.
        spec = child(name, connection, stream, guest, bounds, DOORKEEPER, restart="temporary", shutdown=3.0)
        await start_child(CONNECTIONS, spec)

    return start


@final
class CardRoomGuest:
    """What the card room knows of its clients' frames: a `runtime.edge.connection.Guest`."""

    def __init__(self, settings: GatewaySettings, signer: Signer) -> None:
        self._settings = settings
        self._signer = signer
        # Tables that the lobby has told of, and that do not run on this node: none is ever closed.
        self._elsewhere: set[str] = set()

    # -- login and resume ----------------------------------------------------------------------------

    async def enter(self, text: str) -> Entry:
        frame = frames.read(first, text)
        now = world().wall()
        try:
            match frame:
                case Login(token):
                    said, after = self._signer.verify(token, "login", now), None
                case Resume(token, after):
                    said = self._signer.verify(token, "resume", now)
                case _:
                    assert_never(frame)
        except TokenError as error:
            raise Refusal(_WORDS[type(error).__name__], str(error), strike=True) from None
        player, session = said.subject, said.session
        if not _is_name(player):
            raise Refusal("bad_name", "wanted a name of 1 to 64 bytes that can be printed", strike=True)
        if is_bot(player):
            raise Refusal("reserved_name", f"{player!r} is a bot's name: wanted one of your own", strike=True)
        if not session:
            session = world().random.randbytes(8).hex()
            await self._settle(player)
        pid = await self._session(player, session, isinstance(frame, Login))
        return Entry(player, pid, after, {"player": player, "session": session, "resume": self._token(player, session)})

    def _token(self, player: str, session: str) -> str:
        expires = world().wall() + self._settings.resume_token_seconds
        return self._signer.sign(Token("resume", player, expires, session))

    async def take_in(self, player: str, session: str, tables: tuple[str, ...]) -> str:
        """Go on with a session of another node, whose client will come; the token with which it can.

        Raises: Refusal: another login has the player's place here. CallFailed: it cannot be told.
        """
        pid = await self._session(player, session, False)
        for name in tables:
            await call(pid, StartWatching(name))
        return self._token(player, session)

    async def _settle(self, player: str) -> None:
        """Have the room know the player: a wallet, and once the house's grant."""
        patience = self._settings.patience
        # A sender for each player and purpose, number 1 for ever: both are done once, and cheap to repeat.
        await Session(f"gateway/{player}", patience=patience, remembered=True).command(place(LOBBY), Join(player))
        if self._settings.grant:
            house = Session(f"house/{player}", patience=patience, remembered=True)
            try:
                await house.command(place(key_of(player)), Grant(self._settings.grant))
            except (Damaged, EntityRaised) as error:
                if damage(error) is None:
                    raise
                # It is no new one; what is at the tables can still be played with.

    async def _session(self, player: str, session: str, fresh: bool) -> Pid:
        """The session's process: one that lives, or a new one. `fresh` displaces any other of the player."""
        settings = self._settings
        name = f"player/{player}"
        while True:
            pid = whereis(name)
            if pid is not None and not fresh:
                if await call(pid, WhichSession()) != session:
                    raise Refusal("displaced", "another login has taken your place: log in anew")
                return pid
            if pid is not None:
                try:
                    await sys.stop(pid, DISPLACED, timeout=settings.patience)
                except CallFailed:
                    pass  # it ended by itself, or is stuck; then the start says so
            spec = child(
                name,
                PlayerSession,
                session,
                settings.keeping,
                player,
                settings.watched,
                settings.look_again,
                restart="temporary",
                name=name,
            )
            try:
                started = await start_child(SESSIONS, spec)
            except ChildRefused:
                if whereis(name) is None:
                    raise
                fresh = False  # somebody else was faster: theirs is the newer login
                continue
            assert started is not None, "a session is never ignored"
            return started

    # -- frames --------------------------------------------------------------------------------------

    def read(self, text: str) -> Request:
        frame = frames.read(later, text)
        if isinstance(frame, TakeTurn):
            frame.chosen()
        return Request(frame.id, frame.command, frame, frame)

    async def carry_out(self, entry: Entry, request: Request) -> Any:
        frame: AnyLater = request.body
        try:
            match frame:
                case ShowLobby():
                    return await self._lobby(entry.account, frame)
                case ShowBalance():
                    return {"balance": await self._ask(key_of(entry.account), Balance())}
                case WatchTable(name):
                    await self._served(name)
                    if not await call(entry.session, StartWatching(name)):
                        most = self._settings.watched
                        raise Refusal("too_many_tables", f"wanted at most {most} tables watched: unwatch one")
                    return {"table": name}
                case UnwatchTable(name):
                    await call(entry.session, StopWatching(name))
                    return {"table": name}
                case Sit():
                    return await self._sit(entry, frame)
                case TakeTurn():
                    await self._known(frame.table)
                    act = Act(entry.account, frame.hand, frame.chosen())
                    done = await self._command(entry, frame.id, key_of_table(frame.table), act)
                    return {"actions": None if isinstance(done, AlreadyDone) else done}
                case LeaveTable():
                    name = frame.table if frame.table is not None else await self._only_seat(entry)
                    await self._known(name)
                    await self._command(entry, frame.id, key_of_table(name), Leave(entry.account))
                    return {"table": name}
                case _:
                    assert_never(frame)
        except (Refused, EntityRaised) as error:
            why = damage(error)
            if why is not None:
                raise Refusal("damaged", why) from None
            if isinstance(error, EntityRaised):
                raise
            raise _typed(error.reason) from None

    async def _command(self, entry: Entry, number: int, destination: str, command: Call[Any]) -> Any:
        """Send a command under the number that the client gave it, until it is answered."""
        sender = f"gateway/{entry.account}/{entry.more['session']}"
        session = Session(sender, number=number - 1, patience=self._settings.patience)
        return await session.command(place(destination), command)

    async def _ask(self, destination: str, query: Any) -> Any:
        return await Session("gateway", patience=self._settings.patience).ask(place(destination), query)

    async def _known(self, name: str) -> None:
        """Refuse a table that was never opened; one that is only away will come back."""
        if whereis(key_of_table(name)) is None and name not in self._elsewhere:
            tables: tuple[TableConfig, ...] = await self._ask(LOBBY, Tables())
            if all(config.name != name for config in tables):
                raise Refusal("no_such_table", "wanted the name of a table: the lobby has them")
            self._elsewhere.add(name)

    async def _served(self, name: str) -> None:
        """Refuse a table that was never opened, or that is set aside; one that is only away will come back."""
        await self._known(name)
        await _players(key_of_table(name), _LOBBY_PATIENCE)

    async def _lobby(self, player: str, frame: ShowLobby) -> Any:
        configs: tuple[TableConfig, ...] = await self._ask(LOBBY, Tables())
        shown = sorted((one for one in configs if one.name > frame.after), key=lambda one: one.name)
        page = shown[: frame.limit]
        tables = []
        until = trio.current_time() + _LOBBY_PATIENCE
        for config in page:
            shown_now = {
                "table": config.name,
                "blinds": config.blinds,
                "seats": config.seats,
                "turn_seconds": config.turn_seconds,
                "taken": None,
                "seated": None,
                "damaged": None,
            }
            try:
                there = await _players(config.key, until - trio.current_time())
                if there is not None:
                    shown_now |= {"taken": len(there), "seated": player in there}
            except (Damaged, EntityRaised) as error:
                shown_now["damaged"] = damage(error)
            tables.append(shown_now)
        return {"tables": tables, "more": len(shown) > len(page)}

    async def _sit(self, entry: Entry, frame: Sit) -> Any:
        # Chips are not sent to where they could not arrive.
        await self._served(frame.table)
        wallet, table = key_of(entry.account), key_of_table(frame.table)
        number = await self._command(entry, frame.id, wallet, BuyIn(table, frame.amount))
        if isinstance(number, AlreadyDone):
            return {"table": frame.table, "transfer": None, "stack": None}
        # The chips are on their way; whether they arrive or come back is known in a moment.
        deadline = trio.current_time() + self._settings.patience
        pause = 0.002
        while await self._ask(wallet, UnderWay(number)):
            if trio.current_time() > deadline:
                return {"table": frame.table, "transfer": number, "stack": None}
            await trio.sleep(pause)
            pause = min(2 * pause, 0.1)
        view = await self._ask(table, Look(entry.account))
        for seat in view.seats:
            if seat.player == entry.account:
                return {"table": frame.table, "transfer": number, "stack": seat.stack}
        raise Refusal("no_seat", "the table did not take the chips: is it full? They are back in your wallet")

    async def _only_seat(self, entry: Entry) -> str:
        seats = await call(entry.session, Seats())
        if len(seats) != 1:
            raise Refusal("which_table", f"wanted the table to leave: you watch {len(seats)} where you sit")
        return seats[0]


async def _players(key: str, patience: float) -> list[str] | None:
    """Who sits at a table; None if it cannot say in time. Raises what `damage` knows if it is set aside."""
    if patience <= 0:
        return None
    try:
        return [player for player, _ in (await call(place(key), Progress(), timeout=patience)).stacks]
    except CallFailed as error:
        if damage(error) is not None:
            raise
        return None


def _is_name(player: str) -> bool:
    return 0 < len(player.encode("utf-8", "replace")) <= 64 and player.isprintable() and player == player.strip()


_WORDS = {
    "MalformedToken": "malformed_token",
    "ForgedToken": "forged_token",
    "MisusedToken": "wrong_token",
    "ExpiredToken": "expired_token",
}

# What the wallet's and the table's refusals begin with, and the word for it.
_REFUSALS = (
    ("not enough chips", "not_enough_chips"),
    ("no hand is being played", "no_hand"),
)


def _typed(reason: str) -> Refusal:
    """A refusal of the room's with a word for programs: an illegal action brings its own."""
    word, colon, text = reason.partition(": ")
    if colon and word.isidentifier() and word.islower():
        return Refusal(word, text)
    for beginning, known in _REFUSALS:
        if reason.startswith(beginning):
            return Refusal(known, reason)
    return Refusal("refused", reason)
