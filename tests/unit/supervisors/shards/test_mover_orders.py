"""What a mover is asked, and what it refuses; what it does when it cannot go on."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from runtime import RemoteError, at, call, cast
from runtime.cluster.membership import membership_of
from runtime.errors import Misuse
from runtime.kernel.table import current_table
from supervisors import Supervisor, region
from supervisors.children import terminate_child, which_children
from supervisors.shards import handoff, mover_source
from supervisors.shards.handoff_events import Verify
from supervisors.shards.mover import mover_of
from supervisors.shards.mover_frames import Part, Told
from supervisors.shards.mover_target import TargetWork
from supervisors.shards.orders import MOVER, Abort, Forecast, Move, MoveFact, MoveRefused, Moves, Predict
from tests.support.clusters import Machines, clustered
from tests.unit.supervisors.shards.moved import (
    SHARDS,
    Books,
    Ledger,
    abort,
    begin,
    callers,
    deposit,
    fact,
    history,
    journal,
    keys_of,
    move,
    mover,
    over,
    owner,
    served,
    start,
)


async def refused(machines: Machines, node: str, request: object) -> str:
    """Why a mover refuses a request."""
    with pytest.raises(MoveRefused) as caught:
        await machines.at(node, call, MOVER, request)
    return caught.value.why


def test_what_cannot_be_moved_is_refused_with_the_reason() -> None:
    """Unknown shards and nodes, its own, one that is down, draining or keeps nothing, and what is another's."""

    async def scenario(machines: Machines) -> None:
        await start(machines, "a", "b")
        (mine, *_), (other, *_) = served(machines, "a"), served(machines, "b")
        assert await refused(machines, "a", Move(SHARDS, "b")) == "there is no shard 4: they count from 0 to 3"
        assert await refused(machines, "a", Move(-1, "b")) == "there is no shard -1: they count from 0 to 3"
        assert await refused(machines, "a", Move(mine, "a")) == f"shard {mine} is a's own already"
        assert await refused(machines, "a", Move(mine, "x")) == "no node named 'x' was ever in the cluster"
        assert await refused(machines, "a", Move(other, "b")) == f"a does not serve shard {other}: b does"
        assert await refused(machines, "a", Predict(other, "b")) == f"a does not serve shard {other}: b does"
        assert await refused(machines, "a", Abort("nothing")) == "no move nothing runs here"
        await machines.start("c", data=None, shards=SHARDS, rebalance=False)
        await machines.until(lambda: len(machines.states("a")) == 2)
        assert await refused(machines, "a", Move(mine, "c")) == "c keeps nothing: it has no data directory"
        membership_of(machines.nodes["b"].table).drain(True)
        members = membership_of(machines.nodes["a"].table).members
        await machines.until(lambda: members()["b"].draining)
        assert await refused(machines, "a", Move(mine, "b")) == "b is draining"
        await machines.kill("b")
        await machines.until(lambda: machines.states("a")["b"] == "down")
        assert await refused(machines, "a", Move(mine, "b")) == "b is down"

    clustered(scenario, Books)


def test_whoever_asks_from_elsewhere_is_told_too() -> None:
    """A move is ordered at its owner from any node; so is a refusal heard, as what another node raised."""

    async def scenario(machines: Machines) -> None:
        await start(machines, "a", "b")
        (mine, *_) = served(machines, "a")

        async def order(target: str) -> str:
            found = await call(at(MOVER, "a"), Move(mine, target))
            assert isinstance(found, str)
            return found

        with pytest.raises(RemoteError, match="own already"):
            await machines.at("b", order, "a")
        told = await over(machines, "a", await machines.at("b", order, "b"))
        assert told.phase == "retired"

    clustered(scenario, Books)


def test_a_shard_moves_once_at_a_time_and_two_leave_a_node() -> None:
    """The others wait, in order; one that waits can be called off; what moves already is refused."""

    async def scenario(machines: Machines) -> None:
        await machines.start("a", data="a", shards=8, rebalance=False)
        await machines.until(lambda: len(served(machines, "a")) == 8)
        for shard in range(8):
            await machines.at("a", deposit, keys_of(shard, 1, shards=8)[0], 1)
        await machines.start("b", data="b", shards=8, rebalance=False)
        await machines.until(lambda: machines.states("a") == {"b": "up"})
        moves = [await begin(machines, "a", shard, "b") for shard in range(6)]
        assert await refused(machines, "a", Move(1, "b")) == "shard 1 is moving already"
        phases = [fact(machines, "a", one).phase for one in moves]
        assert phases.count("waiting") >= 3
        off = await abort(machines, "a", moves[5])
        assert isinstance(off, MoveFact)
        assert (off.phase, off.why) == ("void", "it was called off")
        for one in moves[:5]:
            assert (await over(machines, "a", one)).phase == "retired"
        assert served(machines, "b") == [0, 1, 2, 3, 4]
        assert await refused(machines, "a", Move(1, "b")) == "a does not serve shard 1: b does"
        told = await machines.at("a", call, MOVER, Moves())
        assert [one.id for one in told] == moves
        assert machines.nodes["a"].table.counts.moves == {"out": 5, "void": 1}
        assert machines.nodes["b"].table.counts.moves == {"in": 5}
        assert machines.nodes["a"].table.counts.moved == machines.nodes["b"].table.counts.moved > 0

    clustered(scenario, Books)


def test_what_comes_in_waits_for_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two at a time come to a node, however many are sent there and however long it takes; who waits may give up."""
    original = TargetWork.do
    most = 0

    async def do(self: Any, effect: Any) -> Any:
        if isinstance(effect, Verify):
            await trio.sleep(15.0)  # virtual
        return await original(self, effect)

    async def scenario(machines: Machines) -> None:
        nonlocal most
        for name in "acd":
            await machines.start(name, data=name, shards=12, rebalance=False)
        await machines.until(lambda: [len(served(machines, name)) for name in "acd"] == [4, 4, 4])
        for shard in range(12):
            await machines.at("a", deposit, keys_of(shard, 1, shards=12)[0], 1)
        await machines.start("b", data="b", shards=12, rebalance=False)
        await machines.until(lambda: all(machines.states(name).get("b") == "up" for name in "acd"))
        monkeypatch.setattr(TargetWork, "do", do)
        moves = [
            (name, await begin(machines, name, shard, "b")) for name in "acd" for shard in served(machines, name)[:2]
        ]
        there = mover(machines, "b")
        await trio.sleep(5.0)  # virtual
        phases = [fact(machines, *one).phase for one in moves]
        assert phases.count("offered") == 4
        await abort(machines, *moves[-1])
        while any(not fact(machines, *one).ended for one in moves):
            most = max(most, sum(not one.ended for one in there.facts()))
            await trio.sleep(0.1)  # virtual
        assert [fact(machines, *one).phase for one in moves] == ["retired"] * 5 + ["void"]
        assert len(served(machines, "b")) == 5

    clustered(scenario, Books)
    assert most == 2


def test_a_forecast_says_what_would_move() -> None:
    """Keys, bytes and running entities; nothing is changed."""

    async def scenario(machines: Machines) -> None:
        await start(machines, "a", "b")
        (mine, *_) = served(machines, "a")
        for key in keys_of(mine, 3):
            await machines.at("a", deposit, key, 1)
        told = await machines.at("a", call, MOVER, Predict(mine, "b"))
        assert isinstance(told, Forecast)
        assert (told.shard, told.source, told.target, told.keys, told.entities) == (mine, "a", "b", 3, 3)
        assert told.bytes > 0
        assert told.freeze_ms > 0
        assert mover(machines, "a").facts() == ()

    clustered(scenario, Books)


class Others(Supervisor):
    """Another region than that of `Books`."""

    def init(self) -> Any:
        return [region("others", Ledger)]


class Newer(Ledger):
    """A later schema."""

    schema = 2

    def upcast_event(self, event: Any, schema: int) -> Any:
        return event

    def upcast_state(self, state: Any, schema: int) -> Any:
        return state


class NewBooks(Supervisor):
    """The same region, of a later schema."""

    def init(self) -> Any:
        return [region("ledger", Newer)]


async def two(machines: Machines, at_b: Any) -> int:
    """Start a with the books and b with something else; the number of a shard of a's that is written."""
    await start(machines, "a")
    for shard in range(SHARDS):
        await machines.at("a", deposit, keys_of(shard, 1)[0], 1)
    machines._application = at_b
    await machines.start("b", data="b", shards=SHARDS, rebalance=False)
    await machines.until(lambda: machines.states("a") == {"b": "up"})
    return 0


def test_a_node_without_the_region_takes_no_shard_of_it() -> None:
    """It says which is missing, and the shard is served as before."""

    async def scenario(machines: Machines) -> None:
        shard = await two(machines, Others)
        told = await move(machines, "a", shard, "b")
        assert (told.phase, told.why) == ("void", "b has no region ledger")
        assert await machines.at("a", deposit, keys_of(shard, 1)[0], 2) == 2

    clustered(scenario, Books)


def test_newer_code_takes_from_older_and_not_the_other_way() -> None:
    """What was written under an older schema is brought up to date before the cut; a newer one is refused."""

    async def scenario(machines: Machines) -> None:
        shard = await two(machines, NewBooks)
        (key,) = keys_of(shard, 1)
        assert (await move(machines, "a", shard, "b")).phase == "retired"
        await machines.until(lambda: owner(machines, shard) == "b")
        assert await machines.at("b", deposit, key, 2) == 2
        told = await move(machines, "b", shard, "a")
        assert (told.phase, told.why) == ("void", "region ledger of a is of schema 1, and cannot read 2")
        assert await machines.at("b", history, key) == (1, 2)

    clustered(scenario, Books)


async def without_mover() -> None:
    """End the calling node's mover, and do not start it again."""
    table = current_table()
    members = mover_of(table)._process.parent
    assert members is not None
    (spec,) = [one for one in await which_children(members) if one.id == "mover"]
    await terminate_child(members, spec.id)


def test_a_node_without_a_mover_takes_nothing() -> None:
    """As an older one, which has none: the move is void at once, and nothing has changed."""

    async def scenario(machines: Machines) -> None:
        await start(machines, "a", "b")
        (mine, *_) = served(machines, "a")
        await machines.at("b", without_mover)
        told = await move(machines, "a", mine, "b")
        assert (told.phase, told.why) == ("void", "no shards are moved to b: it has no mover")
        assert owner(machines, mine) == "a"

    clustered(scenario, Books)


def test_a_target_whose_disk_is_full_gives_up() -> None:
    """The move is void with the reason; nothing of it stays there, and it goes through when there is room."""

    async def scenario(machines: Machines) -> None:
        await start(machines, "a", "b")
        (mine, *_) = served(machines, "a")
        keys = keys_of(mine, 3)
        async with callers(machines, {"a": keys}):
            await trio.sleep(0.5)  # virtual
            machines.disks["b"].full = True
            told = await move(machines, "a", mine, "b")
            assert told.phase == "void"
            assert "no room" in told.why or "full" in told.why, told.why
            machines.disks["b"].full = False
            await machines.until(lambda: not journal(machines, "b").staged())
            assert journal(machines, "b").shard_keys(mine) == []
            assert (await move(machines, "a", mine, "b")).phase == "retired"

    clustered(scenario, Books)


def test_a_digest_that_differs_voids_the_move(monkeypatch: pytest.MonkeyPatch) -> None:
    """What came is not what was sent: the source takes the shard back and goes on with it."""

    async def scenario(machines: Machines) -> None:
        await start(machines, "a", "b")
        (mine, *_) = served(machines, "a")
        keys = keys_of(mine, 3)
        monkeypatch.setattr("supervisors.shards.mover_target.chained", lambda *_: b"another")
        async with callers(machines, {"a": keys, "b": keys}):
            await trio.sleep(0.3)  # virtual
            told = await move(machines, "a", mine, "b")
            assert (told.phase, told.why) == ("void", "the digest of what came is another than that of what was sent")
            assert owner(machines, mine) == "a"

    clustered(scenario, Books)


def test_a_damaged_chunk_voids_the_move(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not installed, whatever it is."""
    original = mover_source.SourceWork.do

    async def do(self: Any, effect: Any) -> Any:
        found = await original(self, effect)
        if type(found) is mover_source.Portion and found.data:
            damaged = bytes([*found.data[:-1], found.data[-1] ^ 1])
            return mover_source.Portion(found.relaxed, damaged, found.left, found.new)
        return found

    async def scenario(machines: Machines) -> None:
        await start(machines, "a", "b")
        (mine, *_) = served(machines, "a")
        for key in keys_of(mine, 3):
            await machines.at("a", deposit, key, 1)
        monkeypatch.setattr(mover_source.SourceWork, "do", do)
        told = await move(machines, "a", mine, "b")
        assert told.phase == "void"
        assert "checksum" in told.why
        assert await machines.at("b", history, keys_of(mine, 1)[0]) == (1,)

    clustered(scenario, Books)


def test_frames_that_nobody_has_asked_for_change_nothing() -> None:
    """An offer that was forged, and a token of no move."""

    async def scenario(machines: Machines) -> None:
        await start(machines, "a", "b")
        (mine, *_) = served(machines, "a")
        (key,) = keys_of(mine, 1)
        await machines.at("a", deposit, key, 1)
        told = await move(machines, "a", mine, "b")
        there = mover(machines, "b")
        offer = handoff.Offer("forged", mine, 1, "a", SHARDS, (), 0, 0)
        token = handoff.Token(told.id, 0, (), b"", ())
        frames = (offer, token, handoff.Token("forged", 0, (), b"", ()))
        for said in (*[Told("a", frame) for frame in frames], Part("a", "forged", 0, 2, b"x"), "nonsense"):
            await machines.at("a", cast, at(MOVER, "b"), said)
        await trio.sleep(0.1)  # virtual
        await machines.until(lambda: all(one.ended for one in there.facts()))
        assert owner(machines, mine) == "b"
        assert await machines.at("a", history, key) == (1,)
        with pytest.raises(Misuse):
            await machines.at("b", call, MOVER, "nonsense")

    clustered(scenario, Books)
