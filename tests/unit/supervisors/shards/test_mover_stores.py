"""What of a shard's records moves, and what is left of it where it was."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from runtime import Call, Down, EventSourced, message, monitor, receive
from runtime.cluster.placement import shard_of
from runtime.durable.carriage import unpack_pieces
from runtime.durable.commands import CommandSetAside
from runtime.durable.poison import poisoned
from runtime.durable.writer import RELAXED
from runtime.errors import Misuse
from runtime.kernel.table import current_table
from supervisors import Supervisor, region
from supervisors.shards import copying, mover_source
from supervisors.shards.handoff_events import Portion, Retire
from tests.support.clusters import Machines, clustered
from tests.unit.supervisors.shards.moved import (
    SHARDS,
    Books,
    Ledger,
    begin,
    callers,
    deposit,
    history,
    journal,
    keys_of,
    ledger,
    move,
    mover,
    owner,
    served,
    start,
)


@message("stores.written")
class Written:
    text: str


@message("stores.write")
class Write(Call[int]):
    text: str


class Scroll(EventSourced[int, Written]):
    """Of large entries; its reply is how many it has."""

    snapshot_every = 1_000_000

    def initial(self, key: str) -> int:
        return 0

    def handle(self, state: int, command: Any) -> Any:
        if command.text == "poison":
            raise RuntimeError("poison")
        return Written(command.text), state + 1

    def apply(self, state: int, event: Written) -> int:
        return state + 1


class Loose(Ledger):
    """Kept in the relaxed store."""

    durability = "relaxed"


class Both(Supervisor):
    """Regions of the two stores."""

    def init(self) -> Any:
        return [region("ledger", Loose), region("scroll", Scroll)]


def test_what_is_larger_than_a_message_goes_in_parts() -> None:
    """A key of several chunks, whose entries are larger than a chunk, and one larger than a message."""

    async def scenario(machines: Machines) -> None:
        await start(machines, "a", "b")
        (shard, *_) = served(machines, "a")
        key = scroll_of(shard)
        for size in (10, 300_000, 600_000, 1_500_000, 10):
            await machines.at("a", write, key, "x" * size)
        assert (await move(machines, "a", shard, "b")).phase == "retired"
        assert journal(machines, "b").head(f"scroll/{key}") == 5
        assert await machines.at("a", write, key, "y") == 6

    clustered(scenario, Both)


async def write(key: str, text: str) -> int:
    """Append to a scroll."""
    reply = await region("scroll").call(key, Write(text))
    assert isinstance(reply, int)
    return reply


def test_the_copy_is_read_in_chunks_while_it_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard of many chunks moves while each of its keys is written to; nothing that was answered is missing."""
    chunks: list[int] = []
    monkeypatch.setattr(copying, "CHUNK", 4 << 10)
    original = mover_source.SourceWork.do

    async def do(self: Any, effect: Any) -> Any:
        found = await original(self, effect)
        if type(found) is Portion and found.data:
            chunks.append(len(unpack_pieces(found.data)))
            await trio.sleep(0.02)  # virtual
        return found

    async def scenario(machines: Machines) -> None:
        await start(machines, "a", "b")
        (mine, *_) = served(machines, "a")
        keys = keys_of(mine, 30)
        for key in keys:
            for amount in range(20):
                await machines.at("a", deposit, key, -amount)
        monkeypatch.setattr(mover_source.SourceWork, "do", do)
        async with callers(machines, {"a": keys[:10], "b": keys[10:]}):
            assert (await move(machines, "a", mine, "b")).phase == "retired"
        assert len(chunks) > 5

    clustered(scenario, Books)


def test_the_relaxed_store_moves_too() -> None:
    """What lies there goes into the other node's relaxed store, which is made for it."""

    async def scenario(machines: Machines) -> None:
        await start(machines, "a", "b")
        (mine, *_) = served(machines, "a")
        keys = keys_of(mine, 3)
        async with callers(machines, {"a": keys, "b": keys}):
            await trio.sleep(0.5)  # virtual
            assert (await move(machines, "a", mine, "b")).phase == "retired"
            await trio.sleep(0.5)  # virtual
        assert await machines.at("b", holds_relaxed, f"ledger/{keys[0]}")
        assert journal(machines, "b").head(f"ledger/{keys[0]}") == 0
        async with callers(machines, {"a": keys}):
            assert (await move(machines, "b", mine, "a")).phase == "retired"

    clustered(scenario, Both)


async def holds_relaxed(key: str) -> bool:
    """Whether the calling node's relaxed store has a key."""
    found: Any = current_table().services[RELAXED]
    return bool(found.holds(key))


def test_what_was_set_aside_goes_along() -> None:
    """A poison command is answered as before at the new owner, and listed there; at the old one it is no more."""

    async def scenario(machines: Machines) -> None:
        await start(machines, "a", "b")
        (mine, *_) = served(machines, "a")
        key = scroll_of(mine)
        await machines.at("a", write, key, "fine")
        await machines.at("a", poison, key)
        assert [one.key for one in poisoned(journal(machines, "a"))] == [f"scroll/{key}"]
        assert (await move(machines, "a", mine, "b")).phase == "retired"
        assert [one.key for one in poisoned(journal(machines, "b"))] == [f"scroll/{key}"]
        assert poisoned(journal(machines, "a")) == []
        assert await machines.at("a", write, key, "fine") == 2

    clustered(scenario, Both)


def test_what_was_set_aside_of_an_entity_without_records_goes_along() -> None:
    """Who crashed over his first command has nothing else in the store; that one is listed at the new owner too."""

    async def scenario(machines: Machines) -> None:
        await start(machines, "a", "b")
        (mine, *_) = served(machines, "a")
        key = scroll_of(mine)
        await machines.at("a", poison, key)
        assert (await move(machines, "a", mine, "b")).phase == "retired"
        assert [one.key for one in poisoned(journal(machines, "b"))] == [f"scroll/{key}"]
        assert poisoned(journal(machines, "a")) == []

    clustered(scenario, Both)


@pytest.mark.parametrize("ends", ["mover", "node"])
def test_what_was_set_aside_is_listed_once_whoever_ends_after_the_cut(
    ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source's mover, or the source, ends before it has said so: whoever comes after it says so."""
    original = mover_source.SourceWork.do
    reached = trio.Event()

    async def do(self: Any, effect: Any) -> Any:
        if type(effect) is Retire and not reached.is_set():
            reached.set()
            await trio.sleep_forever()
        return await original(self, effect)

    async def scenario(machines: Machines) -> None:
        await start(machines, "a", "b")
        (mine, *_) = served(machines, "a")
        key = scroll_of(mine)
        await machines.at("a", write, key, "fine")
        await machines.at("a", poison, key)
        monkeypatch.setattr(mover_source.SourceWork, "do", do)
        await begin(machines, "a", mine, "b")
        await reached.wait()
        if ends == "mover":
            mover(machines, "a")._process.interrupt("struck")
        else:
            await machines.kill("a")
            await machines.start("a", data="a", shards=SHARDS, rebalance=False)
        await machines.until(lambda: poisoned(journal(machines, "a")) == [])
        assert [one.key for one in poisoned(journal(machines, "b"))] == [f"scroll/{key}"]

    clustered(scenario, Both)


def scroll_of(shard: int) -> str:
    """The key of a scroll that lies on a shard."""
    return next(key for n in range(100) if shard_of("scroll", key := f"s{n}", SHARDS) == shard)


async def poison(key: str) -> None:
    """Give a scroll what it cannot read."""
    with pytest.raises(CommandSetAside):
        await write(key, "poison")


def test_a_sealed_copy_is_kept_for_a_while_and_then_erased() -> None:
    """As long as the grace period lasts it is there; a shard that comes back before that erases it itself."""

    async def scenario(machines: Machines) -> None:
        await start(machines, "a", "b", grace=20.0)
        (mine, *_) = served(machines, "a")
        (key,) = keys_of(mine, 1)
        for amount in range(40):
            await machines.at("a", deposit, key, amount)
        for source, target in (("a", "b"), ("b", "a"), ("a", "b")):
            assert (await move(machines, source, mine, target)).phase == "retired"
            assert journal(machines, source).shard_keys(mine) == [f"ledger/{key}"]
            assert journal(machines, source).fence(mine).sealed
        await trio.sleep(10.0)  # virtual
        assert journal(machines, "a").head(f"ledger/{key}") == 40
        await machines.until(lambda: not journal(machines, "a").shard_keys(mine), 40.0)
        assert journal(machines, "a").head(f"ledger/{key}") == 0
        assert not journal(machines, "a").staged()
        assert await machines.at("a", history, key) == tuple(range(40))
        assert (await move(machines, "b", mine, "a")).phase == "retired"
        assert await machines.at("b", history, key) == tuple(range(40))

    clustered(scenario, Books)


def test_what_came_back_is_not_erased() -> None:
    """An erasure that was begun for a shard is forgotten when that is served here again; others go on."""

    async def scenario(machines: Machines) -> None:
        await start(machines, "a", "b", grace=1.0)
        mine, other, *_ = served(machines, "a")
        (key,), (far,) = keys_of(mine, 1), keys_of(other, 1)
        for amount in range(3):
            await machines.at("a", deposit, key, amount)
            await machines.at("a", deposit, far, amount)
        left = mover(machines, "a")._leftovers
        # As a life finds it of whose former one a part was erased from the relaxed store only.
        left.begun(mine)
        assert (await move(machines, "a", other, "b")).phase == "retired"
        await trio.sleep(12.0)  # virtual
        assert await machines.at("a", holds_relaxed, f"ledger/{key}")
        assert not await machines.at("a", holds_relaxed, f"ledger/{far}")
        with pytest.raises(Misuse, match="is served from"):
            await machines.at("a", left._stores.erase, mine, lambda: True)
        assert await machines.at("b", history, key) == (0, 1, 2)
        assert await machines.at("a", history, far) == (0, 1, 2)

    clustered(scenario, Both)


def test_keys_from_before_there_was_an_index_move_too() -> None:
    """A store that was written by a former version is looked through before its first shard moves."""

    async def scenario(machines: Machines) -> None:
        await start(machines, "a", "b")
        (mine, *_) = served(machines, "a")
        keys = keys_of(mine, 3)
        for key in keys:
            await machines.at("a", deposit, key, 1)
        disk = machines.disks["a"]
        disk.homes.clear()
        disk.meta["shards.noted"] = b"0 *"
        await machines.stop("a")
        await machines.start("a", data="a", shards=SHARDS, rebalance=False)
        await machines.until(lambda: mine in served(machines, "a") and machines.states("a") == {"b": "up"})
        assert (await move(machines, "a", mine, "b")).phase == "retired"
        for key in keys:
            assert await machines.at("b", deposit, key, 2) == 2

    clustered(scenario, Books)


def test_nobody_who_watches_is_told_of_a_move() -> None:
    """A monitor of an entity fires when that really ends, wherever it is then, and not before."""

    async def scenario(machines: Machines) -> None:
        await start(machines, "a", "b", "c")
        (mine, *_) = served(machines, "a")
        (key,) = keys_of(mine, 1)
        told: list[object] = []
        watching = trio.Event()

        async def watch() -> None:
            pid = await ledger.start(key)
            ref = monitor(pid)
            watching.set()
            found = await receive(Down)
            assert found.ref is ref
            told.append(found.reason)

        async with trio.open_nursery() as nursery:
            for name in ("a", "b", "c"):
                nursery.start_soon(machines.at, name, watch)
            await watching.wait()
            await trio.sleep(0.5)  # virtual
            for target in ("b", "c", "a", "b"):
                assert (await move(machines, owner(machines, mine), mine, target)).phase == "retired"
                await trio.sleep(5.0)  # virtual
                assert told == []
            process = machines.nodes["b"].table.names[f"ledger/{key}"]
            process.interrupt("ended")
            await machines.until(lambda: len(told) == 3)
        assert told == ["ended"] * 3

    clustered(scenario, Books)
