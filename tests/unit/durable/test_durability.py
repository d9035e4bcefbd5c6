"""The classes of durability: what each loses on a crash and on kill -9, and what is refused because it would lie."""

from __future__ import annotations

import pytest
import trio

from runtime import Delivery, Refused, StartFailed, call, monitor, receive, start, sys
from runtime.backends.lmdb import LmdbJournal
from runtime.durable.commands import Numbered
from runtime.durable.durability import (
    KeepEntries,
    Kept,
    OtherDurability,
    checked,
    keep_entries,
    keep_seconds,
    periodic,
)
from runtime.durable.journal import NoStore, SequenceConflict, StoreDamaged, StoreFull
from runtime.durable.writer import RELAXED, WRITER, writer_of
from runtime.errors import Misuse
from supervisors import Supervisor, child
from tests.support.processes import as_process, running_node

from .purse import Plain, Purse, Read, Take, asked, killed, settled

KINDS = pytest.mark.parametrize("kind", [Purse, Plain], ids=["events", "plain"])


async def on(kind, durability, key="purse"):
    return await start(kind, key, Kept(durability), name=key)


@KINDS
@pytest.mark.parametrize(
    ("durability", "left"), [("durable", 5), ("relaxed", 5), (periodic(2), 7), ("volatile", 10)], ids=str
)
async def test_what_a_crash_of_the_process_loses(node, kind, durability, left):
    """Three coins are taken and a save is due, then two more, then it dies: each class has lost what its table says."""
    pid = await on(kind, durability)
    assert await call(pid, Take(3)) == 7
    await trio.sleep(2.5)  # virtual
    assert await call(pid, Take(2)) == 5
    await killed(pid)
    pid = await on(kind, durability)
    assert await call(pid, Read()) == left
    assert await call(pid, Take(1)) == left - 1


@KINDS
@pytest.mark.parametrize(
    ("durability", "left"), [("durable", 5), ("relaxed", 5), (periodic(2), 7), ("volatile", 10)], ids=str
)
async def test_what_an_end_of_the_node_without_warning_loses(tmp_path, kind, durability, left):
    """A copy of the files while the node runs, which is what kill -9 leaves, holds what the table says."""
    async with running_node(data=tmp_path / "store"):
        pid = await on(kind, durability)
        await call(pid, Take(3))
        await trio.sleep(2.5)  # virtual
        await call(pid, Take(2))
        copy = tmp_path / "copy"
        for file in sorted((tmp_path / "store").rglob("*")):
            if file.is_file():
                target = copy / file.relative_to(tmp_path / "store")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())
    async with running_node(data=copy):
        assert await call(await on(kind, durability), Read()) == left


@pytest.mark.parametrize("durability", ["durable", "relaxed", periodic(1), "volatile"], ids=str)
async def test_numbered_commands_are_applied_once_in_every_class(node, durability):
    """While a process lives, a repeated number gets its reply again, whatever its class."""
    pid = await on(Purse, durability)
    for _ in range(3):
        assert await call(pid, Numbered("ann", 1, Take(3))) == 7
    assert await call(pid, Read()) == 7


async def test_state_and_numbers_are_lost_together(node):
    """After a loss the same number is new, because what it did is gone too."""
    pid = await on(Purse, periodic(5))
    assert await call(pid, Numbered("ann", 1, Take(3))) == 7
    await trio.sleep(6)  # virtual
    assert await call(pid, Numbered("ann", 2, Take(2))) == 5
    await killed(pid)
    pid = await on(Purse, periodic(5))
    assert await call(pid, Numbered("ann", 1, Take(3))) == 7
    assert await call(pid, Numbered("ann", 2, Take(2))) == 5
    assert await call(pid, Read()) == 5


async def test_a_reply_of_a_periodic_process_does_not_wait_for_the_disk(node):
    """Nobody waits for the writer, and no command makes an entry."""
    await sys.suspend(WRITER)
    for durability in (periodic(1), "volatile"):
        pid = await start(Purse, f"{durability}", Kept(durability))
        assert await call(pid, Take(3)) == 7
    await sys.resume(WRITER)
    assert node.journal.stats().entries == 0


async def test_a_periodic_process_saves_only_what_has_changed(node):
    """One entry, without its forerunners, and one snapshot for each time in which something changed."""
    pid = await on(Purse, periodic(1))
    for amount in (1, 0, 2):
        await call(pid, Take(amount))
        await trio.sleep(3)  # virtual
    assert (node.journal.head("purse"), node.journal.first("purse"), node.journal.stats().entries) == (2, 2, 1)
    assert node.journal.load("purse")[1] == []


async def test_an_orderly_end_of_a_periodic_process_saves(node):
    """`sys.stop` loses nothing."""
    pid = await on(Purse, periodic(1000))
    await call(pid, Take(4))
    await sys.stop(pid)
    assert await call(await on(Purse, periodic(1000)), Read()) == 6


async def test_a_shutdown_of_the_node_saves_who_traps_exits(tmp_path):
    """Its parent's exit runs `terminate` in a process that traps, and what it hands over then is still committed."""

    class Trapping(Purse):
        durability = periodic(1000)
        trap_exit = True

    class Room(Supervisor):
        def init(self):
            return [child("purse", Trapping, "purse", name="purse")]

    for left in (9, 8, 7):
        async with running_node(data=tmp_path / "store") as node:
            await node.start(Room)
            assert await call("purse", Take(1)) == left


async def test_a_save_that_finds_no_room_is_made_later(node):
    """A full disk costs a periodic process nothing but time."""
    pid = await on(Purse, periodic(1))
    node.journal._disk.full = True
    await call(pid, Take(4))
    await trio.sleep(5)  # virtual
    node.journal._disk.full = False
    await trio.sleep(2)  # virtual
    await killed(pid)
    assert await call(await on(Purse, periodic(1)), Read()) == 6


async def test_the_relaxed_store_is_made_when_it_is_first_needed(tmp_path):
    """A store of its own with metasync off; a node whose processes are all durable has none."""
    async with running_node(data=tmp_path / "store") as node:
        await call(await on(Purse, "durable", "ann"), Take(1))
        assert not (tmp_path / "store" / "relaxed").exists()
        await call(await on(Purse, "relaxed", "bob"), Take(2))
        relaxed = writer_of(node.table, RELAXED).journal
        assert isinstance(relaxed, LmdbJournal)
        flags = relaxed._store.environment.flags()
        assert (flags["metasync"], flags["sync"], flags["writemap"]) == (False, True, False)
        assert node.journal._store.environment.flags()["metasync"] is True
        assert (node.journal.keys(), relaxed.keys()) == (["ann"], ["bob"])
    async with running_node(data=tmp_path / "store"):
        assert await call(await on(Purse, "relaxed", "bob"), Read()) == 8


async def test_a_relaxed_group_does_not_wait_for_the_durable_writer(node):
    """Each store has its own writer: a group never mixes the two."""
    durable, relaxed = await on(Purse, "durable", "ann"), await on(Purse, "relaxed", "bob")
    await sys.suspend(WRITER)
    outcome = await asked(call, durable, Take(1))
    assert (await call(relaxed, Take(1)), outcome) == (9, [])
    await sys.resume(WRITER)
    await settled()
    assert outcome == [9]


@pytest.mark.parametrize(
    ("was", "now"),
    [
        *(("durable", "relaxed"), ("durable", "volatile"), ("relaxed", "durable"), ("relaxed", periodic(1))),
        *(("relaxed", "volatile"), (periodic(1), "relaxed"), (periodic(1), "volatile")),
    ],
    ids=str,
)
async def test_a_key_is_not_begun_anew_under_another_class(node, was, now):
    """A class whose store does not hold the key's history is refused, and the history is as it was."""
    pid = await on(Purse, was)
    await call(pid, Take(3))
    await trio.sleep(2)  # virtual
    await killed(pid)
    with pytest.raises(StartFailed) as caught:
        await on(Purse, now)
    assert type(caught.value.__cause__) is OtherDurability
    assert await call(await on(Purse, was), Read()) == 7


@pytest.mark.parametrize(("was", "now"), [("durable", periodic(1)), (periodic(1), "durable")], ids=str)
async def test_durable_and_periodic_may_follow_each_other(node, was, now):
    """Both lie in one store: nothing is lost by the change."""
    pid = await on(Purse, was)
    assert await call(pid, Numbered("ann", 1, Take(3))) == 7
    await trio.sleep(2)  # virtual
    await killed(pid)
    pid = await on(Purse, now)
    assert await call(pid, Numbered("ann", 1, Take(3))) == 7
    assert await call(pid, Take(1)) == 6
    await trio.sleep(2)  # virtual
    await killed(pid)
    assert await call(await on(Purse, was), Read()) == 6


async def test_a_damaged_relaxed_store_stops_no_durable_process(tmp_path):
    """Who has a durable history starts; a new key, which might have lain there, does not."""
    store = tmp_path / "store"
    async with running_node(data=store):
        await call(await on(Purse, "durable", "ann"), Take(1))
        await call(await on(Purse, "relaxed", "bob"), Take(1))
    (store / "relaxed" / "data.mdb").write_bytes(b"")
    async with running_node(data=store):
        assert await call(await on(Purse, "durable", "ann"), Read()) == 9
        for kind, key in (("relaxed", "bob"), ("durable", "cat")):
            with pytest.raises(StartFailed) as caught:
                await on(Purse, kind, key)
            assert type(caught.value.__cause__) is StoreDamaged


@as_process
async def test_a_stale_periodic_process_saves_nothing(node):
    """Somebody else has saved the same key: the save is refused with its snapshot, and the process ends."""
    stale = await on(Purse, periodic(3))
    monitor(stale)
    await call(stale, Take(1))
    await trio.sleep(1)  # virtual
    other = await start(Purse, "purse", Kept(periodic(1)))
    await call(other, Take(5))
    await trio.sleep(1.5)  # virtual
    down = await receive()
    assert (down.monitored, type(down.reason.error)) == (stale, SequenceConflict)
    assert await call(await on(Purse, periodic(1)), Read()) == 5


class Owing(Purse):
    """One that owes something."""

    def pending(self, state):
        return [Delivery(10 - state, "other", Take(1), Take(0))] if state < 10 else []


@pytest.mark.parametrize("durability", ["relaxed", periodic(1), "volatile"], ids=str)
async def test_only_a_durable_process_owes_deliveries(node, durability):
    """One that may forget would use a delivery's number again, for something else."""
    with pytest.raises(StartFailed) as caught:
        await on(Owing, durability)
    assert type(caught.value.__cause__) is Misuse


@pytest.mark.parametrize("durability", ["relaxed", periodic(1), "volatile"], ids=str)
async def test_only_a_durable_process_takes_deliveries(node, durability):
    """One that may forget would settle a debt that it then knows nothing of: its sender is refused."""
    pid = await on(Purse, durability, "other")
    with pytest.raises(Refused, match="could forget"):
        await call(pid, Numbered("somebody", 1, Take(1), lasting=True))
    await call(await on(Owing, "durable"), Take(2))
    await trio.sleep(5)  # virtual
    assert await call(pid, Read()) == 10


async def test_a_volatile_process_needs_no_store():
    """On a node without data only volatile processes start."""
    async with running_node():
        assert await call(await on(Purse, "volatile"), Take(1)) == 9
        with pytest.raises(StartFailed) as caught:
            await on(Purse, "relaxed", "other")
        assert type(caught.value.__cause__) is NoStore


async def test_a_full_relaxed_disk_is_a_refusal(node):
    """What holds for the durable store holds for the relaxed one."""
    pid = await on(Purse, "relaxed")
    writer_of(node.table, RELAXED).journal._disk.full = True
    with pytest.raises(StoreFull):
        await call(pid, Take(1))
    assert (await call(pid, Read()), node.journal.keys()) == (10, [])


async def test_a_class_says_its_durability(node):
    """The class attribute is what holds without a `Kept`; nonsense is Misuse."""

    class Forgetful(Purse):
        durability = "volatile"

    class Wrong(Purse):
        durability = "solid"

    pid = await start(Forgetful, "purse", name="purse")
    await call(pid, Take(1))
    assert node.journal.keys() == []
    with pytest.raises(StartFailed) as caught:
        await start(Wrong, "purse")
    assert type(caught.value.__cause__) is Misuse


@pytest.mark.parametrize("make", [lambda: periodic(0), lambda: periodic(float("inf")), lambda: keep_entries(-1)])
def test_nonsense_is_misuse(make):
    """Times and counts have bounds."""
    with pytest.raises(Misuse):
        make()
    with pytest.raises(Misuse):
        keep_seconds(-1)
    assert (checked(periodic(3)), repr(periodic(3)), keep_entries(2)) == (periodic(3), "periodic(3)", KeepEntries(2))
