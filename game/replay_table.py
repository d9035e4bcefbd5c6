"""Recorded hands at a real table: one process that brings them to it, a command at a time.

Every command's number follows from its place in the file (hand and step), so a driver that starts anew,
after a crash or on a restarted node, sends again what it may have sent before, and the receivers apply it
once. Where the table stands is asked of the table itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, final

import trio

from runtime import Call, Refused, Session

from .lobby import LOBBY
from .messages import (
    Act,
    BuyIn,
    CashOut,
    Grant,
    Join,
    Leave,
    Open,
    OpenTable,
    PlayHand,
    Progress,
    TableConfig,
    TableProgress,
)
from .places import is_spread, place
from .recorded import RecordedHand, compare
from .wallet import key_of

# Steps of one hand: up to 100 transfers before it, the deal, its actions, transfers after it.
STEPS = 8192
_FUND, _RETURN, _DEAL, _ACT, _SETTLE = 1, 100, 200, 201, 8000

Report = Callable[[str], None]


def grants(files: Sequence[Sequence[RecordedHand]]) -> dict[str, int]:
    """What each player's wallet is granted: all starting stacks of all its hands, so that it never runs dry."""
    total: dict[str, int] = {}
    for hands in files:
        for hand in hands:
            for player, stack in zip(hand.players, hand.stacks, strict=True):
                total[player] = total.get(player, 0) + stack
    return total


@final
class Driver:
    """Plays the hands of one file at one table.

    Args:
        name: the table's name, unique among the files.
        hands: in order.
        grants: for each of its players, the whole grant.
        report: takes one line for each thing that a checker must know; see `replay_report`.
    """

    def __init__(self, name: str, hands: Sequence[RecordedHand], grants: dict[str, int], report: Report) -> None:
        self.name = name
        self.hands = hands
        self.grants = grants
        self.report = report
        seats = max(len(hand.players) for hand in hands)
        self.config = TableConfig(name, hands[0].blinds, max(2, seats), turn_seconds=0.0, pause_seconds=-1.0)
        self.table = self.config.key
        self.session = Session(f"replay/{name}", patience=60.0, remembered=True)

    async def run(self) -> None:
        """Play all hands that are not played yet; returns when every transfer is acknowledged."""
        await self._command(LOBBY, OpenTable(self.config), 1)
        if is_spread():
            await self._command(self.table, Open(self.config), 1)
        for number, player in enumerate(sorted({p for hand in self.hands for p in hand.players})):
            await self._command(LOBBY, Join(player), 2 + number)
            house = Session("house", patience=60.0, remembered=True)
            await house.command(place(key_of(player)), Grant(self.grants[player]))
        progress = await self._progress()
        if progress.hands:
            self._check(progress.hands - 1, progress)
            await self._settle(progress.hands - 1, progress)
        for index in range(progress.hands, len(self.hands)):
            await self._play(index)
        while (await self._progress()).open_payouts:  # noqa: ASYNC110  # the table is another process: it is asked
            await trio.sleep(0.002)
        self.report(f"done {self.name}")

    async def _command(self, destination: str, command: Call[Any], number: int) -> None:
        self.session.number = number - 1
        await self.session.command(place(destination), command)
        if destination != LOBBY:  # what the lobby is asked may change nothing, and leave no entry
            self.report(f"ack {number} {self.name} {destination}")

    async def _progress(self) -> TableProgress:
        return await self.session.ask(place(self.table), Progress())

    async def _play(self, index: int) -> None:
        hand = self.hands[index]
        base = index * STEPS + 1000
        progress = await self._progress()
        if progress.hand is None:
            await self._fund(index, progress)
            await self._when_ready(PlayHand(hand.deal), base + _DEAL)
        for turn in range(progress.actions if progress.hand is not None else 0, len(hand.actions)):
            step = hand.actions[turn]
            await self._command(self.table, Act(step.player, hand.id, step.action), base + _ACT + turn)
        progress = await self._progress()
        self._check(index, progress)
        await self._settle(index, progress)

    async def _fund(self, index: int, progress: TableProgress) -> None:
        """Bring every seat to the stack with which the hand begins."""
        hand = self.hands[index]
        base = index * STEPS + 1000
        stacks = dict(progress.stacks)
        for seat, (player, wanted) in enumerate(zip(hand.players, hand.stacks, strict=True)):
            missing = wanted - stacks.get(player, 0)
            if missing > 0:
                await self._command(key_of(player), BuyIn(self.table, missing), base + _FUND + seat)
            elif missing < 0:
                await self._command(self.table, CashOut(player, -missing), base + _RETURN + seat)

    async def _when_ready(self, deal: PlayHand, number: int) -> None:
        """Deal as soon as the transfers have arrived; until then the table refuses."""
        deadline = trio.current_time() + 60.0
        while True:
            try:
                await self._command(self.table, deal, number)
                return
            except Refused:
                if trio.current_time() > deadline:
                    raise
                await trio.sleep(0.001)

    def _check(self, index: int, progress: TableProgress) -> None:
        """Hold the table's result against the file."""
        hand = self.hands[index]
        if progress.result is None or progress.result.hand != hand.id or progress.hands != index + 1:
            found = [f"hand {hand.id}: the table has played {progress.hands} hands and not this one last"]
        else:
            found = compare(hand, progress.result)
        self.report(f"hand {index} {len(found)} {len(hand.actions)} {self.name}")
        for text in found:
            self.report(f"differs {text}")

    async def _settle(self, index: int, progress: TableProgress) -> None:
        """Send what was won back to the wallets; who does not play the next hand leaves with all that is his."""
        hand = self.hands[index]
        stacks = dict(progress.stacks)
        staying = set(self.hands[index + 1].players if index + 1 < len(self.hands) else hand.players)
        for seat, (player, started) in enumerate(zip(hand.players, hand.stacks, strict=True)):
            if player not in stacks:
                continue  # has left: this driver is a later one, which takes it up where the last has died
            number = index * STEPS + 1000 + _SETTLE + seat
            if player not in staying:
                await self._command(self.table, Leave(player), number)
            elif stacks[player] > started:
                await self._command(self.table, CashOut(player, stacks[player] - started), number)
