"""A table that moves while it is played at: who watches it sees every change, in order, and nothing else."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import pytest
import trio

from game.app import open_tables
from game.lobby import damaged
from game.messages import NextHand, Progress, TableConfig
from game.places import place
from game.table import Table, look
from runtime import KILL, Session, call, cast, exit, whereis
from runtime.cluster.shards import shard_of
from runtime.durable.journal import StoreDamaged
from runtime.durable.writer import JournalWriter
from supervisors.shards.mover import mover_of
from supervisors.shards.orders import MOVER, REBALANCER, Drain, Move
from tests.support.clusters import Machines, clustered
from tests.unit.game.phones import OAK, SHARDS, House, connected, farewell, owner, playing, three
from tests.unit.game.players import Player, calling
from tests.unit.game.test_spread import Busy, until
from tests.unit.game.test_spread import three as spread

TABLE = "table/oak"


async def move(machines: Machines, target: str, key: str = TABLE) -> None:
    """Move the shard of an entity that runs, and wait until it has gone."""
    source = owner(machines, key)
    shard = shard_of(*key.split("/"), SHARDS)
    began = await machines.at(source, call, MOVER, Move(shard, target))

    def fact() -> Any:
        return next(one for one in mover_of(machines.nodes[source].table).facts() if one.id == began)

    await machines.until(lambda: fact().over)
    assert fact().phase == "retired", fact()
    await machines.until(lambda: owner(machines, key) == target)


async def deal(after: int, table: str = TABLE) -> None:
    """Have a table deal its next hand."""
    await cast(place(table), NextHand(after))


async def play_on(player: Player) -> None:
    """Call whenever it is one's turn, for ever."""
    while True:
        view = await player.until(lambda view: view["actor"] == player.name)
        await player.done("act", table="oak", hand=view["hand"], **calling(view))
        await player.until(lambda now, before=view: now["sequence"] > before["sequence"])  # type: ignore[misc]  # bound on purpose


async def deal_on(machines: Machines, player: Player) -> None:
    """Deal one hand after the other, for ever."""
    hands = 0
    while True:
        await machines.at("a", deal, hands)
        hands += 1
        await player.until(lambda view, hand=hands: (view["result"] or {}).get("hand") == hand)  # type: ignore[misc]  # bound on purpose


@pytest.mark.parametrize("seed", [1, 2])
def test_a_player_sees_nothing_of_a_move(seed: int) -> None:
    """Over moves in the middle of hands no push is lost, doubled or out of order, and nothing begins anew."""

    async def scenario(machines: Machines) -> None:
        await three(machines)
        chance = random.Random(seed)
        async with (
            playing(machines, "a", "ann", sit=50_000) as ann,
            playing(machines, "b", "bob", sit=50_000) as bob,
            playing(machines, "c", "eva") as eva,
        ):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(play_on, ann)
                nursery.start_soon(play_on, bob)
                nursery.start_soon(deal_on, machines, eva)
                for _ in range(2):
                    await trio.sleep(chance.random() / 4)  # virtual
                    before = eva.views["oak"]["sequence"]
                    await move(machines, chance.choice([name for name in "abc" if name != owner(machines, TABLE)]))
                    await machines.until(lambda before=before: eva.views["oak"]["sequence"] > before + 5)
                nursery.cancel_scope.cancel()
            now = await machines.at("a", look, TABLE)
            for player in (ann, bob, eva):
                await player.until(lambda view: view["sequence"] >= now.sequence)
                assert player.sequences == list(range(1, len(player.sequences) + 1))
                kinds = [text.split('"type":"')[1].split('"')[0] for text in player.frames]
                assert (kinds.count("absolute"), kinds.count("welcome"), kinds.count("gone")) == (1, 1, 0)
                shown = [view["sequence"] for _, view in player.shown]
                assert shown == list(range(shown[0], shown[0] + len(shown)))

    clustered(scenario, House, seed)


def test_the_clock_of_a_turn_goes_on() -> None:
    """Who thinks while the table moves has no more time than before, and is played for once."""
    elm = TableConfig("elm", blinds=(50, 100), seats=6, turn_seconds=10.0, pause_seconds=-1.0)

    async def scenario(machines: Machines) -> None:
        await three(machines)
        await machines.at("a", open_tables, (OAK, elm))
        async with playing(machines, "a", "ann") as ann, playing(machines, "b", "bob") as bob:
            for player in (ann, bob):
                await player.done("watch", table="elm")
                await player.done("sit", table="elm", amount=5_000)
            await machines.at("a", deal, 0, elm.key)
            view = await ann.until(lambda view: view["actor"] is not None, "elm")
            await trio.sleep(6)  # virtual
            await move(machines, next(name for name in "abc" if name != owner(machines, elm.key)), elm.key)
            assert (await machines.at("c", look, elm.key)).actor == view["actor"]
            with trio.fail_after(5):
                after = await ann.until(lambda now: now["sequence"] > view["sequence"], "elm")
            assert (after["actor"], after["result"]["hand"]) == (None, 1)
            await trio.sleep(30)  # virtual
            assert (await machines.at("c", look, elm.key)).sequence == after["sequence"]

    clustered(scenario, House)


def test_bots_go_on_beside_their_table() -> None:
    """The bots of the node that a table has left give way to those of the new one, who play on."""

    def watchers(machines: Machines) -> list[str]:
        table = machines.nodes[owner(machines, TABLE)].table.names[TABLE].behaviour
        assert isinstance(table, Table)
        return [pid.node for pid in table._watchers]

    async def hands() -> int:
        return (await Session("test").ask(place(TABLE), Progress())).hands

    async def scenario(machines: Machines) -> None:
        await spread(machines)
        await machines.until(lambda: owner(machines, TABLE) and len(watchers(machines)) == 2)
        for target in [name for name in "abc" if name != owner(machines, TABLE)]:
            await move(machines, target)
            await machines.until(lambda target=target: watchers(machines) == [target] * 2)
            before = await machines.at("a", hands)
            await machines.at("a", until, partial(above, before))

    async def above(before: int) -> bool:
        return await hands() > before + 1

    clustered(scenario, Busy)


def test_the_lobby_takes_along_who_is_set_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is damaged is known after the lobby's move, and so is, when it is mended, that it is not any more."""
    load = JournalWriter.load

    def damaged_load(writer: JournalWriter, key: str) -> Any:
        if key == TABLE:
            raise StoreDamaged("store", "zeros", key, 4)
        return load(writer, key)

    async def known() -> bool:
        return bool(await damaged())

    async def mended() -> bool:
        return not await damaged()

    async def strike() -> None:
        table = whereis(TABLE)
        assert table is not None
        exit(table, KILL)

    async def scenario(machines: Machines) -> None:
        await three(machines)
        table, lobby = owner(machines, TABLE), owner(machines, "room/lobby")
        monkeypatch.setattr(JournalWriter, "load", damaged_load)
        await machines.at(table, strike)
        await machines.at("a", until, known)
        monkeypatch.setattr(JournalWriter, "load", load)
        for target in ("a", "b", "c"):
            if target != lobby:
                await move(machines, target, "room/lobby")
                assert await machines.at("a", damaged) == {TABLE: "table oak is damaged: record 4: zeros"}
                lobby = target
        await machines.at(table, strike)
        await machines.at("a", until, mended)

    clustered(scenario, House)


def test_a_node_is_drained_while_hands_are_played() -> None:
    """Its table moves away, and its player is sent on and plays the same hand; those at other nodes see no break."""

    async def scenario(machines: Machines) -> None:
        await three(machines)
        node = owner(machines, TABLE)
        other = next(name for name in "abc" if name != node)
        async with playing(machines, other, "bob", sit=50_000) as bob:
            async with playing(machines, node, "ann", sit=50_000) as ann, trio.open_nursery() as nursery:
                nursery.start_soon(play_on, bob)
                await machines.at(other, deal, 0)
                while (view := await ann.until(lambda view: view["actor"] == "ann"))["street"] != "flop":
                    await ann.done("act", table="oak", hand=1, action="call")
                    await ann.until(lambda now, before=view: now["sequence"] > before["sequence"])
                await machines.at(node, call, REBALANCER, Drain(on=True))
                bye = await farewell(ann)
                await machines.until(lambda: owner(machines, TABLE) not in ("", node))
                async with connected(machines, bye["gateway"], "ann") as back:
                    await back.send(op="resume", token=bye["resume"], after=ann.sequences[-1])
                    view = await back.until(lambda view: view["actor"] == "ann")
                    assert (view["hand"], view["street"], len(back.views["oak"]["board"])) == (1, "flop", 3)
                    await back.done("act", id=9, table="oak", hand=1, action="raise", to=500)
                    await back.until(lambda view: view["pot"] >= 1_000)
                nursery.cancel_scope.cancel()
            assert sum("absolute" in text for text in bob.frames) == 1
            assert bob.sequences == list(range(1, len(bob.sequences) + 1))

    clustered(scenario, House)


def test_the_node_that_a_table_has_left_may_die() -> None:
    """Who watches the table is with its new node: no absolute, no gap; when that one dies too it begins anew."""

    async def scenario(machines: Machines) -> None:
        await three(machines)
        first = owner(machines, TABLE)
        second, third = (name for name in "abc" if name != first)
        async with playing(machines, third, "eva") as eva, playing(machines, third, "ann") as ann:
            await move(machines, second)
            await machines.kill(first)
            await machines.until(lambda: machines.states(third)[first] == "down")
            await machines.start(first, data=first, shards=SHARDS, rebalance=False)
            await ann.done("sit", table="oak", amount=500)
            await eva.until(lambda view: bool(view["seats"]))
            assert sum("absolute" in text for text in eva.frames) == 1
            assert eva.sequences == list(range(1, len(eva.sequences) + 1))
            await machines.kill(second)
            await machines.start(second, data=second, shards=SHARDS, rebalance=False)
            await eva.until(lambda _view: sum("absolute" in text for text in eva.frames) == 2)
            assert [seat["player"] for seat in eva.views["oak"]["seats"]] == ["ann"]

    clustered(scenario, House)
