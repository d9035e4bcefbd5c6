"""What an operator is told of moves beside the list of them: the figures, and what the doctor finds."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from runtime.cluster.coordination import CoordinationUnreachable
from runtime.cluster.membership import membership_of
from runtime.durable.journal import StoreFull
from runtime.observe.doctor import Finding, doctor
from runtime.observe.steering import under_way
from supervisors import Supervisor
from supervisors.shards.tally import REASONS, RECENT, RESTED, VOIDED, reason_of
from tests.support.clusters import Machines, clustered
from tests.unit.node.test_steering import Room, in_room
from tests.unit.supervisors.shards.moved import (
    SHARDS,
    Books,
    abort,
    begin,
    deposit,
    keys_of,
    move,
    over,
    served,
    start,
)
from tests.unit.supervisors.shards.test_mover_faults import Stop, hidden
from tests.unit.supervisors.shards.test_mover_orders import Others, two


async def findings(machines: Machines, name: str, who: str) -> list[Finding]:
    """What the doctor finds at a node about somebody."""
    table = machines.nodes[name].table
    return [one for one in (await machines.at(name, doctor, table)).findings if one.who == who]


@pytest.mark.parametrize(
    ("why", "word"),
    [
        ("it was called off", "called_off"),
        ("the store of b is full", "full"),
        (str(StoreFull("/srv/b", "its disk has no room")), "full"),
        (str(CoordinationUnreachable("read 'shard/00003'", "there was no answer in time")), "silent"),
        ("the digest of what came is another than that of what was sent", "damaged"),
        (
            "wanted pieces of a shard, got bytes that are none (their checksum is another): have them sent again",
            "damaged",
        ),
        ("b has no region wallet", "unfit"),
        ("region wallet of b is of schema 1, and cannot read 2", "unfit"),
        ("no shards are moved to b: it has no mover", "unfit"),
        ("b counts 256 shards, and not 64", "unfit"),
        ("till/ann cannot hand over: it raised ValueError", "stays"),
        ("6 freezes were over their budget", "budget"),
        ("b has said nothing for 10 seconds", "silent"),
        ("the source is silent", "silent"),
        ("b did not take it", "silent"),
        ("the target was started again", "ended"),
        ("the mover of its source was started again", "ended"),
        ("a does not serve shard 3 any more", "lost"),
        ("its row was changed by somebody else", "lost"),
        ("the row does not name this move", "lost"),
        ("something else", "other"),
    ],
)
def test_each_reason_has_a_word(why: str, word: str) -> None:
    """By which voids are counted; there are few, so that they can be labels."""
    assert reason_of(why) == word
    assert word in (*REASONS, "other")


def test_moves_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those under way by their way, those that were void by the reason, and how long each shard rested that went."""

    async def scenario(machines: Machines) -> None:
        await start(machines, "a", "b")
        shards = served(machines, "a")
        for shard in shards:
            await machines.at("a", deposit, keys_of(shard, 1)[0], 1)
        tables = {name: machines.nodes[name].table for name in "ab"}
        assert (under_way(tables["a"]), under_way(tables["b"])) == ({}, {})
        stop = Stop(monkeypatch, "Verify", after=False)
        first = await begin(machines, "a", shards[0], "b")
        await stop.reached.wait()
        assert (under_way(tables["a"]), under_way(tables["b"])) == ({"out": 1}, {"in": 1})
        await abort(machines, "a", first)
        stop.struck.set()
        await over(machines, "a", first)
        assert (await move(machines, "a", shards[0], "b")).phase == "retired"
        counts = tables["a"].counts
        assert (counts.moves, counts.void, counts.freezes.total()) == ({"out": 1, "void": 1}, {"called_off": 1}, 1)
        assert 0 <= counts.frozen < 1.0

    clustered(scenario, Books)


def test_a_shard_that_rests_for_long_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as the row cannot be read, at both nodes; when it can be, no more."""

    async def scenario(machines: Machines) -> None:
        await start(machines, "a", "b")
        (shard, *_) = served(machines, "a")
        await machines.at("a", deposit, keys_of(shard, 1)[0], 1)
        stop = Stop(monkeypatch, "Commit", after=False)
        ident = await begin(machines, "a", shard, "b")
        await stop.reached.wait()
        who = f"shard {shard}"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hidden, machines, 8.0)
            await trio.sleep(RESTED - 1)  # virtual
            assert await findings(machines, "a", who) == []
            await trio.sleep(2.0)  # virtual
            for name, phase in (("a", "sealed"), ("b", "committing")):
                (found,) = await findings(machines, name, who)
                assert (found.severity, found.next) == ("bad", f"banyan moves --of {name}")
                assert found.what.endswith("s, on its way from a to b")
                assert (
                    found.why == f"the move is {phase}: only the shard's row decides, and it is not changed or not read"
                )
        stop.struck.set()
        await over(machines, "a", ident)
        await over(machines, "b", ident)
        assert await findings(machines, "a", who) + await findings(machines, "b", who) == []

    clustered(scenario, Books)


def test_a_shard_that_cannot_be_moved_is_a_finding() -> None:
    """After some tries, with the last reason; until one succeeds, or nobody has tried for long."""

    async def scenario(machines: Machines) -> None:
        shard = await two(machines, Others)
        who = f"shard {shard}"
        for times in range(VOIDED):
            assert await findings(machines, "a", who) == [], times
            assert (await move(machines, "a", shard, "b")).phase == "void"
        wanted = Finding(
            "warn", who, f"was to move {VOIDED} times, and did not", "b has no region ledger", "banyan moves"
        )
        assert await findings(machines, "a", who) == [wanted]
        assert machines.nodes["a"].table.counts.void == {"unfit": VOIDED}
        await trio.sleep(RECENT)  # virtual
        assert await findings(machines, "a", who) == []
        for _ in range(VOIDED):
            await move(machines, "a", shard, "b")
        machines._application = Books
        await machines.start("c", data="c", shards=SHARDS, rebalance=False)
        await machines.until(lambda: machines.states("a").get("c") == "up")
        assert len(await findings(machines, "a", who)) == 1
        assert (await move(machines, "a", shard, "c")).phase == "retired"
        assert await findings(machines, "a", who) == []

    clustered(scenario, Books)


class Nothing(Supervisor):
    """An application without a region."""

    def init(self) -> Any:
        return []


def test_a_drain_that_does_not_come_forward_is_a_finding() -> None:
    """After a minute in which no shard has gone, with what stands in its way; undone it is none."""

    async def scenario(room: Room) -> None:
        await room.open("a")
        await room.pay("a")
        await room.machines.start("b", data="b", shards=8, rebalance=False, application=Nothing)
        await room.machines.until(lambda: room.met("a", ("a", "b")) and room.met("b", ("a", "b")))
        mine = len(room.owned("a"))
        await room.steer("b", lambda at: at.drain("a", on=True))
        await trio.sleep(55)  # virtual
        assert await findings(room.machines, "a", "a") == []
        await trio.sleep(10)  # virtual
        (found,) = await findings(room.machines, "a", "a")
        assert (found.severity, found.next) == ("warn", "banyan moves --of a --watch")
        assert found.what.startswith("drains, and has given no shard away for 6")
        assert found.what.endswith(f" s: it has {mine} still")
        assert "b has no region till" in found.why
        assert membership_of(room.machines.nodes["a"].table).draining
        await room.steer("b", lambda at: at.drain("a", on=False))
        await trio.sleep(3)  # virtual
        assert await findings(room.machines, "a", "a") == []

    in_room(scenario)
