"""Bots: players that play by themselves, through the same commands as people.

A bot keeps nothing: it watches its table, acts when it is its turn, and buys in again when it is broke. One
that is restarted sits down where its player sits. In a cluster every node has all bots, and each plays where
its table is. Where its table is set aside it waits until that is tried
again; without its wallet it plays with what it has at the table.
"""

from __future__ import annotations

import math
from typing import Any

from runtime import (
    AlreadyDone,
    CallFailed,
    Down,
    Pid,
    ReceiveTimeout,
    Ref,
    Refused,
    Session,
    demonitor,
    monitor,
    receive,
    self_pid,
    send_request,
    whereis,
    world,
)
from supervisors import EntityRaised, Supervisor, child

from .action import Action, CheckOrCall, Fold, Legal, RaiseTo
from .aside import LOBBY, Damaged, damage
from .messages import Act, BuyIn, Grant, Join, Moved, News, TableConfig, TableView, UnderWay, Unwatch, Watch
from .places import is_spread, place
from .wallet import key_of

# Between two looks whether chips have arrived, in seconds.
ARRIVAL = 0.01
# Between two looks whether the table is on this node, in seconds.
LOOK = 0.25


async def bot(player: str, table: str, stack: int, think_seconds: float, grant: int) -> None:
    """The life of one bot.

    Args:
        player: its name.
        table: its table's key.
        stack: what it buys in for, in hundredths.
        think_seconds: how long it seems to think about each action, at most.
        grant: what the house gives it, once, in hundredths.
    """
    # A sender of its own for each life, so its numbers begin at 1; the house's grant is number 1 for ever.
    me = self_pid()
    session = Session(f"bot/{player}/{me.node}{me!r}", patience=math.inf)
    await _beside(table)
    await session.command(place(LOBBY), Join(player))
    try:
        house = Session(f"house/{player}", patience=math.inf, remembered=True)
        await house.command(place(key_of(player)), Grant(grant))
    except (Damaged, EntityRaised) as error:
        if damage(error) is None:
            raise
        # It is an old one, then, and has had it.
    beside: Pid | None = None
    while True:
        beside = await _beside(table, beside)
        ref = monitor(table)
        try:
            view = (await session.ask(place(table), Watch(self_pid(), player))).view
            await _play(session, player, table, stack, think_seconds, view)
        except Damaged:
            await _ended(ref)
        finally:
            demonitor(ref, flush=True)


async def _play(session: Session, player: str, table: str, stack: int, think_seconds: float, view: TableView) -> None:
    """Play until the table is gone, or is another node's."""
    while True:
        seat = next((one for one in view.seats if one.player == player), None)
        if view.hand is None and (seat is None or seat.stack == 0):
            await _buy_in(session, key_of(player), table, stack)
        elif view.actor == player and view.legal is not None and view.hand is not None:
            if think_seconds > 0:
                await _pause(think_seconds * world().random.random())
            action = decide(view.legal)
            try:
                await session.command(place(table), Act(player, view.hand, action), patience=5.0)
            except (Refused, CallFailed):
                pass  # too late, or the table is gone: the news will say
        news = await _latest()
        if news is None:
            return
        view = news


async def _beside(table: str, before: Pid | None = None) -> Pid | None:
    """Wait until a table is on this node; on a node of its own it always is, or is being started again.

    Args:
        before: its process that has ended or gone: its name may stay for a moment.
    """
    while (found := whereis(table)) in (None, before) and is_spread():
        await _pause(LOOK)
    return found


async def _ended(ref: Ref) -> None:
    """Wait for the end of what is monitored."""
    await receive(lambda message: isinstance(message, Down) and message.ref is ref)


async def _buy_in(session: Session, wallet: str, table: str, stack: int) -> None:
    """Buy in, and wait until the chips have arrived or come back: news of before would have it buy in again."""
    try:
        number = await session.command(place(wallet), BuyIn(table, stack))
        while not isinstance(number, AlreadyDone) and await session.ask(place(wallet), UnderWay(number)):
            await _pause(ARRIVAL)
    except Refused:
        return  # broke for good: it goes on watching
    except EntityRaised as error:
        if damage(error) is None:
            raise


async def _pause(seconds: float) -> None:
    try:
        await receive(lambda _message: False, timeout=seconds)
    except ReceiveTimeout:
        pass


async def _latest() -> TableView | None:
    """Wait for news and return the newest; None when the table has ended, or has moved away."""
    newest: TableView | None = None
    while True:
        try:
            message = await receive(timeout=math.inf if newest is None else 0)
        except ReceiveTimeout:
            return newest
        match message:
            case News(view):
                newest = view
            case Moved(_, process, _) if process.node != self_pid().node:
                # The bot of that node plays from now on.
                send_request(process, Unwatch(self_pid()), None, timeout=5.0)
                return None
            case Down():
                return None


def is_bot(player: str) -> bool:
    """Whether a name is one of those that are kept for bots, which are called like `ada-oak`."""
    name, hyphen, _ = player.partition("-")
    return bool(hyphen) and name in NAMES


def decide(legal: Legal) -> Action:
    """What a bot does: mostly calls, sometimes raises, folds what is dear. Draws from the World."""
    dice = world().random
    draw = dice.random()
    if legal.min_raise_to is not None and legal.max_raise_to is not None and draw < 0.15:
        most = min(legal.max_raise_to, legal.min_raise_to * 3)
        return RaiseTo(dice.randint(legal.min_raise_to, most))
    if legal.may_fold and draw > 0.65:
        return Fold()
    return CheckOrCall()


class Bots(Supervisor):
    """The bots of some tables, each restarted alone.

    Args:
        tables: who plays where.
        think_seconds: as for `bot`.
        grant: as for `bot`.
    """

    intensity = 20

    def init(self, tables: tuple[TableConfig, ...], think_seconds: float, grant: int) -> Any:
        return [
            child(
                f"bot {name} at {config.name}",
                bot,
                f"{name}-{config.name}",
                config.key,
                100 * config.blinds[1],
                think_seconds,
                grant,
            )
            for config in tables
            for name in NAMES[: config.seats - 1]
        ]


NAMES = ("ada", "bea", "cyd", "dov", "eli", "fay", "gus", "hal", "ivy")
