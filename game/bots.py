"""Bots: players that play by themselves, through the same commands as people.

A bot keeps nothing: it watches its table, acts when it is its turn, and buys in again when it is broke. One
that is restarted sits down where its player sits.
"""

from __future__ import annotations

import math
from typing import Any

from runtime import (
    CallFailed,
    Down,
    ReceiveTimeout,
    Refused,
    Session,
    demonitor,
    monitor,
    receive,
    self_pid,
    world,
)
from supervisors import Supervisor, child

from .action import Action, CheckOrCall, Fold, Legal, RaiseTo
from .lobby import LOBBY
from .messages import Act, BuyIn, Grant, Join, News, TableConfig, TableView, Watch
from .wallet import key_of

# How long a bot that cannot play now waits before it looks again, in seconds.
IDLE = 1.0


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
    session = Session(f"bot/{player}/{self_pid()!r}", patience=math.inf)
    await session.command(LOBBY, Join(player))
    await Session(f"house/{player}", patience=math.inf).command(key_of(player), Grant(grant))
    while True:
        ref = monitor(table)
        view = await session.ask(table, Watch(self_pid(), player))
        try:
            await _play(session, player, table, stack, think_seconds, view)
        finally:
            demonitor(ref, flush=True)


async def _play(session: Session, player: str, table: str, stack: int, think_seconds: float, view: TableView) -> None:
    """Play until the table is gone."""
    while True:
        seat = next((one for one in view.seats if one.player == player), None)
        if view.hand is None and (seat is None or seat.stack == 0):
            try:
                await session.command(key_of(player), BuyIn(table, stack))
            except Refused:
                pass  # broke for good: it goes on watching
        elif view.actor == player and view.legal is not None and view.hand is not None:
            if think_seconds > 0:
                await _pause(think_seconds * world().random.random())
            action = decide(view.legal)
            try:
                await session.command(table, Act(player, view.hand, action), patience=5.0)
            except (Refused, CallFailed):
                pass  # too late, or the table is gone: the news will say
        news = await _latest()
        if news is None:
            return
        view = news


async def _pause(seconds: float) -> None:
    try:
        await receive(lambda _message: False, timeout=seconds)
    except ReceiveTimeout:
        pass


async def _latest() -> TableView | None:
    """Wait for news and return the newest; None when the table has ended."""
    newest: TableView | None = None
    while True:
        try:
            message = await receive(timeout=math.inf if newest is None else 0)
        except ReceiveTimeout:
            return newest
        match message:
            case News(view):
                newest = view
            case Down():
                return None


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
