"""What a node moves by itself: when it drains, when it stops, when others join, and when somebody will not have it."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from runtime import GenServer
from runtime.cluster.balance import Load
from runtime.cluster.membership import Membership, membership_of
from supervisors import Supervisor, region
from supervisors.shards.loads import Loads
from supervisors.shards.rebalancer import OUT, QUIET, STEADY, drained, facts_of
from tests.support.clusters import Machines, clustered
from tests.unit.node import test_steering
from tests.unit.node.test_steering import SHARDS, TILLS, Room, in_room


class Nothing(Supervisor):
    """An application without a region."""

    def init(self) -> Any:
        return []


async def leave(room: Room, name: str) -> str:
    """What a node finds that is to stop."""
    return await room.machines.at(name, drained, room.machines.nodes[name].table)


def test_a_node_that_stops_alone_gives_its_shards_away() -> None:
    """It waits until all are gone, never with more than two on their way, and nothing is lost."""

    async def scenario(room: Room) -> None:
        await room.open("a", "b", "c")
        await room.pay("b")
        table = room.machines.nodes["a"].table
        most = 0

        async def count() -> None:
            nonlocal most
            while True:
                most = max(most, sum(not fact.over for fact in facts_of(table)))
                await trio.sleep(0.01)  # virtual

        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            assert await leave(room, "a") == ""
            nursery.cancel_scope.cancel()
        assert room.owned("a") == []
        assert 0 < most <= OUT
        await room.machines.stop("a")
        assert await room.pay("b") == dict.fromkeys(TILLS, 2)

    in_room(scenario)


@pytest.mark.parametrize("who", ["membership", "mover", "rebalancer"])
def test_a_drain_outlives_whoever_crashes(who: str) -> None:
    """As long as the node lives it drains on, until it is empty; and so does one whose program is to end."""

    async def scenario(room: Room) -> None:
        await room.open("a", "b", "c")
        await room.pay("b")

        async def strike(name: str, after: float) -> None:
            await trio.sleep(after)  # virtual
            process = room.machines.nodes[name].table.services[who]._process  # type: ignore[attr-defined]  # each has one
            process.interrupt("struck")

        await room.steer("b", lambda at: at.drain("a", on=True))
        await strike("a", 0.2)
        await room.machines.until(lambda: room.owned("a") == [] and len(room.owned("b") + room.owned("c")) == SHARDS)
        assert membership_of(room.machines.nodes["a"].table).draining
        for after, name in ((0.0, "b"), (0.5, "a")):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(strike, name, after)
                assert await leave(room, name) == ""
            assert room.owned(name) == []
        assert await room.pay("b") == dict.fromkeys(TILLS, 2)

    in_room(scenario)


def test_a_node_that_has_no_more_time_begins_no_more_moves() -> None:
    """What was not given away by then stays, and waits for its next life; nothing is lost of either."""

    async def scenario(room: Room) -> None:
        await room.open("a", "b")
        await room.pay("b")
        table = room.machines.nodes["a"].table

        async def hurried() -> None:
            with trio.move_on_after(10.0) as time:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(drained, table)
                    while not facts_of(table):  # noqa: ASYNC110  # a move that begins rings no bell
                        await trio.sleep(0.01)  # virtual
                    time.cancel()

        await room.machines.at("a", hurried)
        await trio.sleep(5)  # virtual
        begun = len(facts_of(table))
        assert 0 < begun <= OUT
        assert all(fact.over for fact in facts_of(table))
        left = room.owned("a")
        assert left
        await room.machines.stop("a")
        await room.machines.start("a", data="a", shards=SHARDS, rebalance=False)
        await room.machines.until(lambda: room.owned("a") == left)
        assert await room.pay("b") == dict.fromkeys(TILLS, 2)

    in_room(scenario)


def test_nodes_that_stop_together_keep_what_they_have() -> None:
    """Each finds that all others drain, gives up at once, and no shard has moved: they are there at the next start."""

    async def scenario(room: Room) -> None:
        await room.open("a", "b", "c")
        await room.pay("b")
        before = {name: room.owned(name) for name in "abc"}
        found: dict[str, str] = {}

        async def stop(name: str, after: float) -> None:
            await trio.sleep(after)  # virtual
            found[name] = await leave(room, name)

        async with trio.open_nursery() as nursery:
            for number, name in enumerate("abc"):
                nursery.start_soon(stop, name, number * 0.05)
        assert set(found.values()) == {"there is no other node that is up and not draining"}
        assert {name: room.owned(name) for name in "abc"} == before
        assert [fact for name in "abc" for fact in facts_of(room.machines.nodes[name].table)] == []

    in_room(scenario)


def test_a_node_that_nobody_relieves_says_why() -> None:
    """A target that cannot serve a shard refuses it; it is tried again ever more rarely, and the reason is told."""

    async def scenario(room: Room) -> None:
        await room.open("a")
        await room.pay("a")
        await room.machines.start("b", data="b", shards=SHARDS, rebalance=False, application=Nothing)
        await room.machines.until(lambda: room.met("a", ("a", "b")) and room.met("b", ("a", "b")))
        mine = room.owned("a")
        await room.steer("b", lambda at: at.drain("a", on=True))
        await trio.sleep(40)  # virtual
        (stands,) = (await room.steer("b", lambda at: at.moves("a")))["nodes"]
        assert (stands["node"], stands["draining"]) == ("a", True)
        assert "b has no region till" in stands["why"]
        assert room.owned("a") == mine
        moves = (await room.steer("b", lambda at: at.moves("a")))["moves"]
        assert all(one["phase"] == "void" for one in moves)
        assert len(moves) <= 8 * len(mine)
        await room.steer("a", lambda at: at.drain("a", on=False))
        (stands,) = (await room.steer("b", lambda at: at.moves("a")))["nodes"]
        assert (stands["draining"], stands["why"]) == (False, "")
        assert (await room.pay("a"))[TILLS[0]] == 2

    in_room(scenario)


def test_a_node_that_does_not_even_out_does_so_when_it_is_told() -> None:
    """The plan says what would move; rebalancing does that, once."""

    async def scenario(room: Room) -> None:
        await room.open("a")
        await room.pay("a")
        await room.machines.start("b", data="b", shards=SHARDS, rebalance=False)
        await room.machines.until(lambda: room.met("a", ("a", "b")) and room.met("b", ("a", "b")))
        await trio.sleep(30)  # virtual
        had = len(room.owned("b"))
        planned = (await room.steer("b", lambda at: at.plan()))["moves"]
        assert {(one["source"], one["target"]) for one in planned} == {("a", "b")}
        assert await room.steer("b", lambda at: at.rebalance()) == {"asked": ["a", "b"], "silent": []}
        # Perhaps one more: what the other one carries is known better when it has some.
        await room.machines.until(lambda: len(room.owned("b")) >= had + len(planned))
        await trio.sleep(10)  # virtual
        assert (await room.steer("a", lambda at: at.plan()))["moves"] == []

    in_room(scenario)


def test_a_load_is_what_entities_run_and_hold() -> None:
    """A shard whose entities are asked a lot weighs more than one that is left alone; what is stored weighs too."""

    async def scenario(room: Room) -> None:
        await room.open("a")
        await room.pay("a")
        table = room.machines.nodes["a"].table
        served = room.owned("a")

        async def measured() -> dict[int, Load]:
            loads = Loads(table)
            await loads.measure(served)
            for _ in range(200):
                await region("till").call(TILLS[0], 1)
            await trio.sleep(5)  # virtual
            await loads.measure(served)
            busy = region("till").shard(TILLS[0])
            assert loads.total().commands >= loads.found()[busy].commands
            return {busy: loads.found()[busy], **loads.found()}

        loads = await room.machines.at("a", measured)
        busy, *others = loads
        assert loads[busy].commands >= 30
        assert max(loads[other].commands for other in others) <= 2
        assert all(one.bytes > 0 for one in loads.values())

    in_room(scenario)


class Bell(GenServer):
    """Keeps nothing."""

    def handle_call(self, request: Any, caller: Any) -> Any:
        return request


class Tower(Supervisor):
    """Of bells."""

    def init(self) -> Any:
        return [region("bell", Bell)]


def test_what_has_nothing_here_is_not_weighed() -> None:
    """A shard is weighed as long as entities run in it, written or not; then it is shared out by number again."""

    async def scenario(machines: Machines) -> None:
        await machines.start("a", data="a", shards=SHARDS)
        a = machines.nodes["a"].table

        async def ring() -> None:
            until = trio.current_time() + 20.0
            while trio.current_time() < until:
                await region("bell").call("high", 1)
                await trio.sleep(0.01)  # virtual

        await machines.at("a", ring)
        assert membership_of(a).members()["a"].load != Load()
        await machines.until(lambda: "bell/high" not in a.names, within=300.0)
        await trio.sleep(60.0)  # virtual
        assert membership_of(a).members()["a"].load == Load()

    clustered(scenario, Tower)


def test_a_newcomer_is_given_all_of_its_share_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three who have written everything give a fourth what is its share, or one less, without waiting in between."""
    monkeypatch.setattr(test_steering, "SHARDS", 32)

    async def scenario(room: Room) -> None:
        await room.open("a", "b", "c", rebalance=True)
        await room.machines.at("a", written, [f"t{number}" for number in range(150)])
        await room.machines.start("d", data="d", shards=32, rebalance=True)
        await trio.sleep(QUIET + 12)  # virtual
        assert sorted(len(room.owned(name)) for name in "abcd")[0] >= 7

    async def written(keys: list[str]) -> None:
        for key in keys:
            await region("till").call(key, 1)

    in_room(scenario)


def test_only_a_difference_that_lasts_moves_anything() -> None:
    """A burst moves nothing; a node whose tills are asked all the time gives some away, a few at a time, and stops."""

    async def scenario(room: Room) -> None:
        await room.open("a", "b", rebalance=True)
        await room.pay("a")
        await trio.sleep(20)  # virtual
        tables = [room.machines.nodes[name].table for name in "ab"]

        def moves() -> int:
            return sum(len([one for one in facts_of(table) if one.source == table.node]) for table in tables)

        before, mine = moves(), room.owned("a")

        async def press(seconds: float) -> None:
            hot = [key for key in TILLS if region("till").shard(key) in mine]
            until = trio.current_time() + seconds
            while trio.current_time() < until:
                for key in hot:
                    await region("till").call(key, 1)
                await trio.sleep(0.5)  # virtual

        await room.machines.at("b", press, 5.0)
        await trio.sleep(20)  # virtual
        assert (moves(), room.owned("a")) == (before, mine)
        await room.machines.at("b", press, 45.0)
        assert 0 < len(room.owned("a")) < len(mine)
        assert moves() - before <= OUT * 45 / STEADY
        after = moves()
        await room.machines.at("b", press, 20.0)
        assert moves() - after <= 1

    in_room(scenario)


def test_while_a_newcomer_is_given_its_share_nothing_else_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said of what has just moved comes late: only who lacks shards is given any at once, and he gives none."""
    monkeypatch.setattr(test_steering, "SHARDS", 32)
    plan = Membership.moves_wanted

    def wanted(self: Membership, loads: Any, limit: int) -> list[tuple[int, str]]:
        """The plan, and before it two moves that late figures could ask for."""
        me = self._members.me.name
        odd = [(shard, "a" if me != "a" else "b") for shard in sorted(self.placement.served)[:2]]
        return [*odd, *plan(self, loads, limit)] if "d" in self.members() else plan(self, loads, limit)

    async def scenario(room: Room) -> None:
        await room.open("a", "b", "c", rebalance=True)
        await room.machines.at("a", written, [f"t{number}" for number in range(150)])
        monkeypatch.setattr(Membership, "moves_wanted", wanted)
        await room.machines.start("d", data="d", shards=32, rebalance=True)
        await room.machines.until(lambda: len(room.owned("d")) >= 6)
        moves = [fact for name in "abcd" for fact in facts_of(room.machines.nodes[name].table) if fact.source == name]
        assert {fact.target for fact in moves} == {"d"}

    async def written(keys: list[str]) -> None:
        for key in keys:
            await region("till").call(key, 1)

    in_room(scenario)
