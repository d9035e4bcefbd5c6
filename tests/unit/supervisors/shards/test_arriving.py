"""Who runs anew where a shard has come: in which order they start, and what becomes of what they cannot take up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, ClassVar

import pytest
import trio

from runtime import Pid, call, exit, link, self_pid, spawn
from runtime.codec.errors import DecodeError
from runtime.errors import CallFailed, Misuse
from runtime.kernel.signals import Answer
from supervisors import EntityNotStarted, region
from supervisors.shards import packing
from supervisors.shards.luggage import DepartShard, PackShard, ThawShard, UnpackShard
from supervisors.shards.shard import STARTS, Entity, Shard
from tests.support.linked import settled
from tests.unit.supervisors.shards.entities import Deposit, Give
from tests.unit.supervisors.shards.movers import World, world
from tests.unit.supervisors.shards.travellers import Log, Nap, Traveller, Wait

travellers = region("traveller")
MANY = 60


class Starting(Traveller):
    """Says that it starts, and takes a while; or does not start."""

    begun: ClassVar[list[str]] = []
    seconds: ClassVar[float] = 0.0
    fails: ClassVar[bool] = False

    async def init(self, key: str) -> None:  # type: ignore[override]  # it may
        super().init(key)
        self.begun.append(key.partition("/")[2])
        await trio.sleep(self.seconds)  # virtual
        if self.fails:
            raise ValueError("not here")


@pytest.fixture(autouse=True)
def fresh():
    """Nobody has started."""
    Starting.begun, Starting.seconds, Starting.fails = [], 0.0, False


STARTING = region("traveller", Starting)


def keys_of(w: World, shard: int, count: int) -> list[str]:
    """So many keys that lie on a shard."""
    found: Any = w.net["a"].table.names["region/traveller"]
    keys = [key for key in map(str, range(count * 4)) if found.behaviour.outward.shard_of(key) == shard]
    return keys[:count]


async def kept(asked: Any, found: list[Any]) -> None:
    """Ask an entity for what it says only later."""
    try:
        found.append(await call(asked, Wait(), timeout=1000.0))
    except CallFailed as error:
        found.append(error)


async def test_who_is_asked_does_not_wait_for_all_the_others():
    """Of those whom nobody asks for a few are started at once; one who is asked comes next, and one with mail first."""
    async with world("ab", STARTING) as w, trio.open_nursery() as nursery:
        keys = keys_of(w, 0, MANY)
        for key in keys:
            await w.on("a", travellers.start, key)
        busy, wanted = keys[-2], keys[-1]
        nursery.start_soon(w.on, "a", travellers.call, busy, Nap(0.1))
        await settled()
        await w.on("a", travellers.cast, busy, Give(1))
        assert await w.freeze("a", 0)
        packed = await w.seal("a", 0)
        await w.copy("a", "b", 0)
        Starting.begun.clear()
        Starting.seconds = 1.0
        arrived: list[Any] = []

        async def arrives() -> None:
            arrived.append(await w.arrive("b", 0, packed))

        nursery.start_soon(arrives)
        await settled()
        assert len(Starting.begun) == 1  # a supervisor starts one after the other
        nursery.start_soon(w.on, "b", partial(travellers.call, timeout=1000.0), wanted, Deposit(2))
        await trio.sleep(MANY + 1.0)  # virtual
        assert Starting.begun[0] == busy
        assert Starting.begun.index(wanted) <= STARTS
        assert sorted(Starting.begun) == sorted(keys)
        assert sorted(key for key, _ in arrived[0]["traveller"]) == sorted(keys)
        await w.retire("a", 0, arrived[0])
        assert await w.on("a", travellers.call, busy, Log()) == (1,)
        assert await w.on("a", travellers.call, wanted, Log()) == (2,)


async def test_a_shard_that_goes_on_at_once_waits_for_those_who_start():
    """It is not at rest before all have what they came with; nothing of that stays behind."""
    async with world("abc", STARTING) as w, trio.open_nursery() as nursery:
        keys = keys_of(w, 0, 3 * STARTS)
        for number, key in enumerate(keys):
            await w.on("a", travellers.call, key, Deposit(number))
        Starting.seconds = 0.1
        nursery.start_soon(w.move, 0, "b")
        await trio.sleep(1.0)  # virtual
        assert w.net["b"].table.arrivals
        assert not await w.freeze("b", 0)
        assert await w.freeze("b", 0, budget=100.0)
        assert not w.net["b"].table.arrivals
        assert len(await w.ask("b", "traveller", PackShard(0))) > len(keys)
        await w.ask("b", "traveller", ThawShard(0))
        assert [await w.on("a", travellers.call, key, Log()) for key in keys] == [(one,) for one in range(len(keys))]


async def test_a_shard_that_goes_on_waits_for_one_that_is_to_be_started_again(monkeypatch):
    """One whose start is tried once more has not got what it came with yet."""
    original, tries = Shard._told_of, []

    def told_of(self: Shard, entity: Entity, what: str, answer: Any) -> None:
        if what == "start" and self.number == 0 and self.intake.node == "b":
            tries.append(entity.key)
            if len(tries) == 1:
                entity.asking = None
                answer = Answer(None, None, "busy", failed=True)
        original(self, entity, what, answer)

    async with world("ab", STARTING) as w, trio.open_nursery() as nursery:
        key = keys_of(w, 0, 1)[0]
        await w.on("a", travellers.call, key, Deposit(1))
        assert await w.freeze("a", 0)
        packed = await w.seal("a", 0)
        await w.copy("a", "b", 0)
        monkeypatch.setattr(Shard, "_told_of", told_of)
        Starting.fails = True
        nursery.start_soon(w.arrive, "b", 0, packed)
        while not tries:
            await trio.lowlevel.checkpoint()
        Starting.fails = False
        assert await w.freeze("b", 0)
        assert w.net["b"].table.arrivals == {}
        assert w.net["b"].table.names[f"traveller/{key}"].behaviour.got == [1]


async def test_an_exit_signal_waits_for_who_is_to_start():
    """One that has come and does not run yet is ended by nobody's silence: it hears what was sent to it."""
    async with world("ab", STARTING) as w, trio.open_nursery() as nursery:
        first, second = keys_of(w, 0, 2)
        await w.on("a", travellers.start, first)
        pid = await w.on("a", travellers.start, second)
        assert await w.freeze("a", 0)
        packed = await w.seal("a", 0)
        await w.copy("a", "b", 0)
        Starting.seconds = 1.0
        nursery.start_soon(w.arrive, "b", 0, packed)
        await settled()
        await w.ask("a", "traveller", DepartShard(0, "b", 2))

        async def ends() -> None:
            exit(pid, "over")

        await w.on("a", ends)
        await settled()
        assert f"traveller/{second}" not in w.net["b"].table.names
        await trio.sleep(3.0)  # virtual
        (got,) = await w.on("b", travellers.call, second, Log())
        assert got[0] == "exit"
        assert got[2] == "over"


async def coming_slowly(w: World) -> tuple[str, Callable[[], Awaitable[None]]]:
    """A traveller whose shard comes to b, where he takes a second to start; and what brings it, which is refused."""
    key = keys_of(w, 0, 1)[0]
    await w.on("a", travellers.start, key)
    assert await w.freeze("a", 0)
    packed = await w.seal("a", 0)
    await w.copy("a", "b", 0)
    Starting.seconds = 1.0

    async def arrives() -> None:
        with pytest.raises(Misuse):
            await w.arrive("b", 0, packed)

    return key, arrives


async def test_who_asks_again_for_what_comes_hears_who_has_started():
    """Whoever brings a shard and is followed by another leaves nothing open."""
    async with world("ab", STARTING) as w, trio.open_nursery() as nursery:
        key, arrives = await coming_slowly(w)
        nursery.start_soon(arrives)
        await settled()
        assert [one for one, _ in await w.ask("b", "traveller", UnpackShard(0, 2, b""))] == [key]


async def test_callers_of_one_that_does_not_start_are_told():
    """They hear that it was not started, wherever they are, whether it had taken their request or not."""
    async with world("ab", STARTING) as w, trio.open_nursery() as nursery:
        found: dict[str, list[Any]] = {"a": [], "b": [], "pid": [], "mail": []}
        key = keys_of(w, 0, 1)[0]
        pid = await w.on("a", travellers.start, key)
        nursery.start_soon(w.on, "a", kept, travellers.entity(key), found["a"])
        nursery.start_soon(w.on, "b", kept, travellers.entity(key), found["b"])
        nursery.start_soon(w.on, "a", kept, pid, found["pid"])
        await settled()
        nursery.start_soon(w.on, "a", travellers.call, key, Nap(0.1))
        await settled()
        nursery.start_soon(w.on, "a", kept, pid, found["mail"])
        await settled()
        Starting.fails = True
        assert await w.move(0, "b")
        await trio.sleep(1.0)  # virtual
        assert {who: list(map(type, told)) for who, told in found.items()} == {who: [EntityNotStarted] for who in found}
        assert w.net["b"].table.arrivals == {}
        Starting.fails = False
        assert await w.on("a", travellers.call, key, Log()) == ()


async def test_a_shard_that_is_lost_while_they_start():
    """Whoever brought it is told that not all have started: so nobody is left to wait for what they had."""
    async with world("ab", STARTING) as w, trio.open_nursery() as nursery:
        _, arrives = await coming_slowly(w)
        async with trio.open_nursery() as arriving:
            arriving.start_soon(arrives)
            await settled()
            del w.views["b"].rows[0]
            w.tell()
        assert w.net["b"].table.arrivals == {}
        nursery.cancel_scope.cancel()


async def test_mail_outlives_a_value_that_cannot_be_read(monkeypatch):
    """One who begins anew because nobody can read what it had gets its mail all the same."""
    original = packing.decoded

    def decoded(table: Any, data: bytes, case: Any = None) -> Any:
        if case is not None:
            raise DecodeError("what is known here", "something newer")
        return original(table, data)

    async with world("ab", STARTING) as w, trio.open_nursery() as nursery:
        key = keys_of(w, 0, 1)[0]
        nursery.start_soon(w.on, "a", travellers.call, key, Nap(0.1))
        await settled()
        await w.on("a", travellers.cast, key, Give(1))
        assert await w.freeze("a", 0)
        packed = await w.seal("a", 0)
        monkeypatch.setattr(packing, "decoded", decoded)
        await w.copy("a", "b", 0)
        await w.retire("a", 0, await w.arrive("b", 0, packed))
        assert await w.on("a", travellers.call, key, Log()) == (1,)


async def test_an_exit_signal_finds_its_process():
    """Signals of linked peers, and of `exit`, reach the process where it is, from whom they came."""

    async def sleep() -> None:
        await trio.sleep_forever()

    async def peer(pid: Pid) -> Pid:
        async def linked() -> None:
            link(pid)
            await trio.sleep_forever()

        return spawn(linked)

    async def end(pid: Pid, reason: str) -> Pid:
        exit(pid, reason)
        return self_pid()

    async with world("abc", STARTING) as w:
        pid = await w.on("a", travellers.start, "x")
        peers = {node: await w.on(node, peer, w.net[node].dist.pid_of("a", 1, pid.number)) for node in "abc"}
        await settled()
        for shard in range(w.placement.shards):
            assert await w.move(shard, "b")
        got: list[object] = []
        for node in "abc":
            await w.on(node, end, peers[node], "enough")
            await settled()
            got.append(("exit", peers[node], "enough"))
        source = await w.on("a", end, pid, "please")
        await settled()
        got.append(("exit", source, "please"))
        assert list(await w.on("b", travellers.call, "x", Log())) == got
