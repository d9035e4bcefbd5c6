"""A card room on several nodes: wallets, tables and the lobby are found from each, and no chip is lost between them."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio

from game.action import CheckOrCall
from game.app import Room, open_tables
from game.aside import LOBBY, Damaged, damage
from game.bots import Bots
from game.lobby import damaged, tables
from game.messages import (
    Act,
    Balance,
    BuyIn,
    CashOut,
    Grant,
    Join,
    Look,
    NextHand,
    Open,
    Progress,
    TableConfig,
    TableState,
    TakeChips,
    UnderWay,
)
from game.places import assembled, is_spread, place
from game.player import PlayerSession, StartWatching
from game.table import Table, look
from game.wallet import balance
from runtime import KILL, Refused, Session, call, cast, exit, receive, self_pid, start, whereis
from runtime.durable.journal import StoreDamaged
from runtime.durable.writer import JournalWriter
from runtime.edge.client import Deliver, Keeping
from runtime.edge.client import Join as Attach
from supervisors import EntityRaised, Node, Supervisor, child
from tests.support.clusters import Machines, clustered

SHARDS = 8
GRANT = 100_000
PLAYERS = ("ann", "bob", "cyd", "dov", "eva", "fay")
OAK = TableConfig("oak", blinds=(50, 100), seats=6, turn_seconds=0.0, pause_seconds=-1.0)
BUSY = tuple(TableConfig(name, blinds=(50, 100), seats=3, pause_seconds=0.5) for name in ("oak", "elm", "fir", "ash"))


class House(Supervisor):
    """A room, and if there are tables with bots, these."""

    intensity = 100

    def init(self, tables: tuple[TableConfig, ...] = ()) -> Any:
        return [
            child("room", Room, 100),
            child("house", open_tables, tables, 3, restart="transient"),
            child("bots", Bots, tables, 0.3, GRANT),
        ]


class Busy(House):
    """One with four tables of bots."""

    def init(self) -> Any:
        return super().init(BUSY)


async def three(machines: Machines) -> None:
    """Nodes a, b and c, each with a third of the shards."""
    for name in "abc":
        await machines.start(name, data=name, shards=SHARDS, rebalance=False)
    for number, name in enumerate("abc"):
        assert await machines.at(name, assembled, 3) == number


def here(machines: Machines, key: str) -> str:
    """The node where an entity runs now; "" if nowhere."""
    return "".join(name for name, node in sorted(machines.nodes.items()) if key in node.table.names)


async def until(true: Callable[[], Awaitable[object]]) -> None:
    """Ask again and again until it is true; in between time passes."""
    while not await true():  # noqa: ASYNC110  # what others have done is asked
        await trio.sleep(0.1)  # virtual


async def arrived(player: str) -> bool:
    """Whether a player's first transfer has come to its end."""
    return not await Session("test").ask(place(f"wallet/{player}"), UnderWay(1))


async def seat(players: tuple[str, ...], amount: int) -> None:
    """Have players come, and buy in at oak."""
    for player in players:
        session = Session(f"test/{player}")
        assert await session.command(place(LOBBY), Join(player)) is True
        assert await session.command(place(f"wallet/{player}"), Grant(GRANT)) == GRANT
        assert await session.command(place(f"wallet/{player}"), BuyIn("table/oak", amount)) == 1
    for player in players:
        await until(partial(arrived, player))


async def held(players: tuple[str, ...]) -> int:
    """What players have in their wallets, on their way and at oak, between two hands."""
    progress = await Session("test").ask(place("table/oak"), Progress())
    return sum(stack for _, stack in progress.stacks) + sum([await balance(player) for player in players])


async def deal(after: int) -> None:
    """Have oak deal its next hand."""
    await cast(place("table/oak"), NextHand(after))


def test_a_room_is_the_same_from_every_node() -> None:
    """What was opened, granted and bought in on one node is there on all; a hand is played from three of them."""

    async def play(player: str) -> bool:
        view = await look("table/oak", player)
        if view.hand is not None and view.actor == player:
            await call(place("table/oak"), Act(player, view.hand, CheckOrCall()))
        return view.hand is not None

    async def scenario(machines: Machines) -> None:
        await three(machines)
        await machines.at("a", open_tables, (OAK,))
        await machines.at("b", open_tables, (OAK,))
        for name, some in zip("abc", (PLAYERS[:2], PLAYERS[2:4], PLAYERS[4:]), strict=True):
            await machines.at(name, seat, some, 10_000)
            assert await machines.at(name, tables) == (OAK,)
            assert await machines.at(name, held, some) >= len(some) * (GRANT - 10_000)
        assert {here(machines, f"wallet/{player}") for player in PLAYERS} > {here(machines, "table/oak")}
        assert [len(here(machines, key)) for key in ("room/lobby", "table/oak", "wallet/ann")] == [1, 1, 1]
        await machines.at("c", deal, 0)
        while await machines.at("a", play, PLAYERS[0]):
            for number, player in enumerate(PLAYERS):
                await machines.at("abc"[number // 2], play, player)
        assert (await machines.at("b", look, "table/oak")).result is not None
        assert await machines.at("b", held, PLAYERS) == len(PLAYERS) * GRANT

    clustered(scenario, House)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_chip_is_lost_between_nodes_that_die(seed: int) -> None:
    """Transfers go on over deaths of the wallet's and of the table's node, and arrive once; nothing stays open."""

    async def move(rounds: int) -> None:
        for player in PLAYERS:
            session = Session(f"move/{player}/{self_pid()!r}", patience=60.0)
            for _ in range(rounds):
                await session.command(place(f"wallet/{player}"), BuyIn("table/oak", 300))
                try:
                    await session.command(place("table/oak"), CashOut(player, 200))
                except Refused:
                    pass  # the chips are on their way

    async def at_rest() -> bool:
        progress = await Session("test", patience=60.0).ask(place("table/oak"), Progress())
        wallets = [await Session("test", patience=60.0).ask(place(f"wallet/{one}"), Balance()) for one in PLAYERS]
        chips = sum(wallets) + sum(stack for _, stack in progress.stacks)
        return chips == len(PLAYERS) * GRANT and not progress.open_payouts

    async def scenario(machines: Machines) -> None:
        await three(machines)
        await machines.at("a", open_tables, (OAK,))
        await machines.at("a", seat, PLAYERS, 5_000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(machines.at, "c", move, 12)
            for name in ("a", "b", "a"):
                await trio.sleep(0.3)  # virtual
                await machines.kill(name)
                await machines.start(name, data=name, shards=SHARDS, rebalance=False)
        await until(partial(machines.at, "c", at_rest))

    clustered(scenario, House, seed)


def test_a_table_that_nobody_has_opened_takes_no_chips() -> None:
    """What is sent to it comes back; once opened it stays as it was opened first, also in its node's next life."""

    async def closed() -> None:
        await seat(("ann",), 500)
        assert await balance("ann") == GRANT
        view = await look("table/oak")
        assert (view.seats, view.blinds) == ((), (0, 0))
        with pytest.raises(Refused, match="table/oak is not open"):
            await call(place("table/oak"), TakeChips("ann", 500))

    async def opened() -> None:
        await open_tables((OAK,))
        other = TableConfig("oak", blinds=(1, 2))
        await call(place("table/oak"), Open(other))
        assert (await look("table/oak")).blinds == OAK.blinds

    async def scenario(machines: Machines) -> None:
        await three(machines)
        await machines.at("a", closed)
        await machines.at("b", opened)
        name = here(machines, "table/oak")
        await machines.kill(name)
        await machines.start(name, data=name, shards=SHARDS, rebalance=False)
        await machines.until(lambda: here(machines, "table/oak") == name)  # remembered: nobody asks for it
        assert (await machines.at("c", look, "table/oak")).blinds == OAK.blinds

    clustered(scenario, House)


def test_a_damaged_table_is_told_of_on_every_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lobby knows of it wherever it is, and whoever asks from another node gets to know why."""
    load, why = JournalWriter.load, "table oak is damaged: record 4: zeros"

    def damaged_load(writer: JournalWriter, key: str) -> Any:
        if key == "table/oak":
            raise StoreDamaged("store", "zeros", key, 4)
        return load(writer, key)

    async def known() -> bool:
        return await damaged() == {"table/oak": why}

    async def mended() -> bool:
        return await damaged() == {}

    async def strike() -> None:
        exit(whereis("table/oak"), KILL)

    async def ask() -> str | None:
        try:
            await call(place("table/oak"), Look(None))
        except (Damaged, EntityRaised) as error:
            return damage(error)
        return None

    async def scenario(machines: Machines) -> None:
        await three(machines)
        await machines.at("a", open_tables, (OAK,))
        monkeypatch.setattr(JournalWriter, "load", damaged_load)
        await machines.at(here(machines, "table/oak"), strike)
        for name in "abc":
            await machines.at(name, until, known)
            assert await machines.at(name, ask) == why
        monkeypatch.setattr(JournalWriter, "load", load)
        await machines.at(here(machines, "table/oak"), strike)
        await machines.at("a", until, mended)
        assert await machines.at("a", ask) is None

    clustered(scenario, House)
    assert damage(EntityRaised("table/oak", "Refused", "no")) is None


def test_a_table_of_another_node_is_watched() -> None:
    """A player is shown each change of it, and after its node's death an absolute again."""

    async def watcher(name: str, seen: list[dict[str, Any]]) -> None:
        session = await start(PlayerSession, "s", Keeping(), "ann", 8, 15.0)
        await call(session, Attach(self_pid(), None, {}))
        assert await call(session, StartWatching("oak"))
        while True:
            frame = await receive(lambda message: isinstance(message, Deliver))
            seen.append(json.loads(frame.frame))

    async def scenario(machines: Machines) -> None:
        await three(machines)
        await machines.at("a", open_tables, (OAK,))
        owner = here(machines, "table/oak")
        other = next(name for name in "abc" if name != owner)
        seen: list[dict[str, Any]] = []
        absolutes = lambda: [one for one in seen if one["type"] == "absolute"]  # noqa: E731  # asked again and again
        async with trio.open_nursery() as nursery:
            nursery.start_soon(machines.at, other, watcher, "ann", seen)
            await machines.until(absolutes)
            assert absolutes()[0]["view"]["seats"] == []
            await machines.at(other, seat, PLAYERS[:2], 5_000)
            await machines.at(other, deal, 0)
            await machines.until(lambda: any("hole" in json.dumps(one) for one in seen if one["type"] == "delta"))
            await machines.kill(owner)
            await machines.start(owner, data=owner, shards=SHARDS)
            await machines.until(lambda: len(absolutes()) > 1)
            view = absolutes()[-1]["view"]
            assert [(one["player"], bool(one["hole"])) for one in view["seats"]] == [("ann", True), ("bob", False)]
            nursery.cancel_scope.cancel()

    clustered(scenario, House)


def test_bots_play_where_their_tables_are() -> None:
    """Four tables on three nodes play; when a node dies only its own pause, and they go on when it is back."""

    async def hands() -> dict[str, int]:
        patient = Session("test", patience=60.0)
        return {one.key: (await patient.ask(place(one.key), Progress())).hands for one in BUSY}

    async def above(before: dict[str, int]) -> bool:
        return all(played > before[key] for key, played in (await hands()).items())

    async def scenario(machines: Machines) -> None:
        await three(machines)
        owners = {}
        for config in BUSY:
            await machines.until(lambda key=config.key: here(machines, key))
            owners[config.key] = here(machines, config.key)
        assert len(set(owners.values())) > 1
        await machines.at("a", until, partial(above, dict.fromkeys(owners, 1)))
        lost = owners["table/oak"]
        before = await machines.at("a", hands)
        await machines.kill(lost)
        await trio.sleep(30)  # virtual
        await machines.start(lost, data=lost, shards=SHARDS, rebalance=False)
        back = await machines.at("a", hands)
        for key, name in owners.items():
            assert (back[key] > before[key] + 3) is (name != lost)
        await machines.at("a", until, partial(above, back))

    clustered(scenario, Busy)


async def test_a_node_of_its_own_has_no_entities() -> None:
    """Without a cluster a key is its registered name, as it always was."""
    async with Node("room", data=":memory:") as node:
        await node.start(House)
        assert not is_spread()
        assert (place("wallet/ann"), place(LOBBY)) == ("wallet/ann", LOBBY)
        assert await assembled(1) == 0
        await open_tables((OAK,))
        assert (await Session("test").ask("table/oak", Progress())).hands == 0
        assert [name for name in node.table.names if name.startswith("region/")] == []


def test_a_state_from_before_is_read() -> None:
    """A snapshot of a table that was written before tables could be opened by a command."""
    before = Table().initial("table/oak")
    fields = tuple(getattr(before, name) for name in TableState.__dataclass_fields__)[:-1]
    assert Table().upcast("table.state", 1, fields) == before
