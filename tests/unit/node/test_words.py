"""What callers and operators are told when a node is gone, or was started again: what has happened, and to whom."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from runtime.behaviours.gen import StartFailed
from runtime.kernel.exits import Crash, Shutdown
from runtime.observe.protocol import Code
from supervisors import BadSpec, NoOwner, region
from supervisors.cli.explain import explain
from supervisors.node.boot import RealWorld
from supervisors.shards.handoff_events import Effect
from supervisors.shards.mover_source import SourceWork
from supervisors.shards.rebalancer import facts_of
from supervisors.specs import check_spec
from supervisors.strategy import FailedToStart
from tests.unit.node.test_steering import TILLS, Room, in_room


@pytest.mark.parametrize("how", ["down", "left"])
def test_who_asks_for_what_a_lost_node_owns_is_told_so(how: str) -> None:
    """At the deadline: the shard, its owner, what has become of that, and what to do; it is a CallTimeout still."""

    async def scenario(room: Room) -> None:
        await room.open("a", "b")
        await room.pay("a")
        lost = room.owned("b")
        await (room.machines.kill("b") if how == "down" else room.machines.stop("b"))
        await room.machines.until(lambda: room.machines.states("a")["b"] == how)
        membership: Any = room.machines.nodes["a"].table.services["membership"]

        async def ask() -> NoOwner:
            till = region("till")
            key = next(one for one in TILLS if till.shard(one) in lost and membership.owner(till.shard(one))[0] == "b")
            with pytest.raises(NoOwner) as caught:
                await till.call(key, 1, timeout=3.0)
            assert caught.value.shard == till.shard(key)
            return caught.value

        error = await room.machines.at("a", ask)
        assert error.owner == "b"
        state = "is down" if how == "down" else "has left"
        assert f"shard {error.shard}, and that belongs to b, which {state}: " in str(error)
        assert "start it on its data directory again" in str(error)

    in_room(scenario)


def test_a_move_whose_source_has_died_is_told_as_the_end_that_it_had() -> None:
    """The target alone knows of it, under a phase of its own; whoever asks is told that it went through."""

    async def scenario(room: Room) -> None:
        await room.open("a", "b", "c")
        shard = room.owned("a")[0]
        await room.steer("c", lambda at: at.move(shard, "b"))
        await room.machines.until(lambda: any(one.over for one in facts_of(room.machines.nodes["a"].table)))
        await room.machines.until(lambda: any(one.over for one in facts_of(room.machines.nodes["b"].table)))
        await room.machines.kill("a")
        await room.machines.until(lambda: room.machines.states("c")["a"] == "down")
        (told,) = (await room.steer("c", lambda at: at.moves(None)))["moves"]
        assert (told["phase"], told["target"]) == ("retired", "b")

    in_room(scenario)


def test_a_move_whose_source_was_started_again_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The target hears of it by the row: it says who was started again, not that somebody has changed something."""
    original, frozen = SourceWork.do, []

    async def do(self: SourceWork, effect: Effect) -> Any:
        if type(effect).__name__ == "Freeze":
            frozen.append(effect)
            await trio.sleep_forever()
        return await original(self, effect)

    async def scenario(room: Room) -> None:
        await room.open("a", "b", "c")
        shard = room.owned("a")[0]
        await room.pay("a")
        monkeypatch.setattr(SourceWork, "do", do)
        await room.steer("c", lambda at: at.move(shard, "b"))
        await room.machines.until(lambda: frozen)
        await room.machines.kill("a")
        await room.open("a")
        await room.machines.until(lambda: all(one.over for one in facts_of(room.machines.nodes["b"].table)))
        (told,) = facts_of(room.machines.nodes["b"].table)
        assert (told.phase, told.why) == ("void", "a was started again")

    in_room(scenario)


def test_a_standing_says_of_which_life_of_its_node_it_is() -> None:
    """So that who waits for a drain can tell that it was undone from a start of the node."""

    async def scenario(room: Room) -> None:
        await room.open("a", "b")

        async def lives() -> dict[str, int]:
            told = (await room.steer("b", lambda at: at.moves(None)))["nodes"]
            return {one["node"]: one["creation"] for one in told}

        before = await lives()
        await room.machines.kill("a")
        await room.open("a")
        after = await lives()
        assert after["a"] > before["a"]
        assert after["b"] == before["b"]

    in_room(scenario)


def test_who_cannot_be_asked_is_told_in_plain_words() -> None:
    """A node that has just died, or whose mover is away: no object of the program is in the sentence."""

    async def scenario(room: Room) -> None:
        await room.open("a", "b", "c")
        shard = room.owned("b")[0]
        mover = room.machines.nodes["b"].table.names.pop("mover")
        refusal = await room.refused("a", lambda at: at.move(shard, "c"))
        assert (refusal.code, refusal.why) == (Code.UNREACHABLE, "the mover of b is being restarted")
        room.machines.nodes["b"].table.names["mover"] = mover
        await room.machines.kill("b")
        refusal = await room.refused("a", lambda at: at.move(shard, "c"))
        assert (refusal.code, refusal.why) == (Code.UNREACHABLE, "b cannot be reached from here")

    in_room(scenario)


async def test_an_address_that_is_taken_is_named() -> None:
    """The error has it, and what a person is told says who may have it."""
    transport = RealWorld().transport
    async with transport.listen("127.0.0.1:0") as listener:
        with pytest.raises(OSError, match=f"Address already in use: '{listener.address}'") as caught:
            async with transport.listen(listener.address):
                """Not reached."""
        told = explain(StartFailed("door", Shutdown(FailedToStart("links", Crash(caught.value)))))
        assert told.why == f"{listener.address} is in use: another program, or another node, listens there"
        assert told.next == "end that one, or give this node another address"


def test_the_face_of_a_region_is_no_child() -> None:
    """It is told what it lacks to be one."""
    with pytest.raises(
        BadSpec, match=r"got Region\(name='a'\): name the class of its entities too, region\(name, Class"
    ):
        check_spec(region("a"))
