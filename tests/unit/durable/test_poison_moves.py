"""Commands that were set aside, when their process goes to another node's store and comes back."""

from __future__ import annotations

import logging

import pytest

from runtime import CalleeExited, Refused, call, start, whereis
from runtime.codec.cbor import encode
from runtime.codec.errors import DecodeError
from runtime.durable.commands import CommandSetAside, Numbered
from runtime.durable.poison import KEY, NotPoisoned, SetAsides, discard_poisoned, poisoned, replay_poisoned
from runtime.durable.writer import writer_of
from tests.support.processes import running_node
from tests.unit.backends.stores import carry

from .conftest import virtual_wall
from .purse import Break, Purse, Take, killed, settled
from .test_poison import Mended, crashed

SHARD = 7


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.CRITICAL, "banyan")


class Once(Purse):
    """Gives a command up at its first crash."""

    poison_after = 1


async def gone(source):
    """Ann's command 1 is set aside at the source; its process ends there. What is to go along."""
    await crashed(await start(Purse, "purse", name="purse"), Numbered("ann", 1, Break()), 3)
    await call("purse", Take(1))
    source.journal.commit([], homes={"purse": SHARD})
    await killed(whereis("purse"))
    return writer_of(source.table).set_asides.of(["purse", "other"])


def move(source, target, epoch):
    """Bring the shard's records from one store into another."""
    while not target.erase(SHARD):
        pass
    target.reserve(SHARD, b"1")
    carry(source, target, SHARD)
    target.install(SHARD, [], claim=epoch)
    target.settle(SHARD)
    target.seal(SHARD, epoch)


class Many(frozenset[str]):
    """Keys that are too many to be gone through while a shard is frozen."""

    def __iter__(self):
        raise AssertionError("a million keys are gone through")


async def test_what_goes_along_is_found_by_what_was_set_aside(node):
    """The keys are asked for those few: how many they are costs nothing."""
    records = await gone(node)
    writer = writer_of(node.table)
    keys = Many({"purse", "other"})
    assert writer.set_asides.of(keys) == records
    writer.set_asides.leave(writer, keys)
    assert writer.set_asides.of(keys) == []


async def test_it_is_set_aside_at_the_other_store_too(node):
    """The command is refused there with its place in that list, listed as it was, and can be replayed, once."""
    records = await gone(node)
    [before] = poisoned(node.journal)
    async with running_node("b", data=":memory:", world=virtual_wall()) as other:
        move(node.journal, other.journal, 5)
        writer = writer_of(other.table)
        for _ in range(2):
            writer.set_asides.take(writer, records)
        [one] = poisoned(other.journal)
        assert (one.key, one.sender, one.number, one.command, one.state) == ("purse", "ann", 1, Break(), 10)
        assert (one.crashes, one.error, one.wall, one.sequence) == (3, before.error, before.wall, before.sequence)
        pid = await start(Purse, "purse", name="purse")
        with pytest.raises(CommandSetAside) as caught:
            await call(pid, Numbered("ann", 1, Break()))
        assert caught.value.position == one.position
        with pytest.raises(CalleeExited):
            await replay_poisoned(writer, one.position)
        await settled()
        pid = await start(Mended, "purse", name="purse")
        assert await replay_poisoned(writer, one.position) == 4
        assert await call(pid, Numbered("ann", 1, Break())) == 4
        with pytest.raises(NotPoisoned):
            await replay_poisoned(writer, one.position)


@pytest.mark.parametrize("end", ["replayed", "discarded"])
async def test_what_became_of_it_goes_along(node, end):
    """A command that was replayed is answered with its reply elsewhere, one that was given up is refused."""
    await gone(node)
    writer = writer_of(node.table)
    [one] = poisoned(node.journal)
    if end == "replayed":
        await start(Mended, "purse", name="purse")
        assert await replay_poisoned(writer, one.position) == 4
        await killed(whereis("purse"))
    else:
        discard_poisoned(writer, one.position)
    records = writer.set_asides.of({"purse"})
    async with running_node("b", data=":memory:", world=virtual_wall()) as other:
        move(node.journal, other.journal, 5)
        writer = writer_of(other.table)
        writer.set_asides.take(writer, records)
        assert poisoned(other.journal) == []
        assert [one.closed for one in poisoned(other.journal, closed=True)] == [end]
        pid = await start(Mended, "purse", name="purse")
        if end == "replayed":
            assert await call(pid, Numbered("ann", 1, Break())) == 4
        else:
            with pytest.raises(Refused, match="given up"):
                await call(pid, Numbered("ann", 1, Break()))
        again = SetAsides(other.journal)
        assert again.commands == writer.set_asides.commands


async def test_it_comes_back_as_it_was_left_there(node):
    """While it is elsewhere the first store does not list it as waiting; when it is back, what was decided holds."""
    records = await gone(node)
    writer = writer_of(node.table)
    asides = writer.set_asides
    asides.leave(writer, {"purse"})
    head = node.journal.head(KEY)
    asides.leave(writer, {"purse", "nobody"})
    assert node.journal.head(KEY) == head
    assert (poisoned(node.journal), asides.of({"purse"})) == ([], [])
    assert [one.closed for one in poisoned(node.journal, closed=True)] == ["moved"]
    with pytest.raises(NotPoisoned, match="moved"):
        discard_poisoned(writer, 3)
    asides.take(writer, records)
    [one] = poisoned(node.journal)
    assert (one.position, one.number) == (head + 1, 1)
    assert SetAsides(node.journal).commands == asides.commands
    discard_poisoned(writer, one.position)
    assert [one.closed for one in poisoned(node.journal, closed=True)] == ["moved", "discarded"]


async def test_a_decision_that_comes_later_is_taken_over(node):
    """The same command again, closed meanwhile, closes it here; what is closed here stays so."""
    records = await gone(node)
    writer = writer_of(node.table)
    discard_poisoned(writer, 3)
    closed = writer.set_asides.of({"purse"})
    async with running_node("b", data=":memory:", world=virtual_wall()) as other:
        writer = writer_of(other.table)
        for some, waiting in ((records, 1), (closed, 0), (records, 0)):
            writer.set_asides.take(writer, some)
            assert len(poisoned(other.journal)) == waiting
        assert [one.closed for one in poisoned(other.journal, closed=True)] == ["discarded"]


async def test_replays_of_two_stores_are_told_apart(node):
    """A place in the list that another store has given to the same process's replay is not taken for it."""
    await gone(node)
    writer = writer_of(node.table)
    await start(Mended, "purse", name="purse")
    assert await replay_poisoned(writer, 3) == 4
    await killed(whereis("purse"))
    records = writer.set_asides.of({"purse"})
    async with running_node("b", data=":memory:", world=virtual_wall()) as other:
        move(node.journal, other.journal, 5)
        writer = writer_of(other.table)
        writer.set_asides.take(writer, records)
        # Position 1 is what came, 2 another purse's, and 3 the place of the purse's command in the other store.
        with pytest.raises(CalleeExited):
            await call(await start(Once, "other"), Numbered("ann", 1, Break()))
        await settled()
        pid = await crashed(await start(Once, "purse", name="purse"), Numbered("ann", 2, Break()), 1, Once)
        [_, one] = poisoned(other.journal)
        assert (one.position, one.number, one.replay) == (3, 2, "@poisoned/3/")
        with pytest.raises(CommandSetAside):
            await call(pid, Numbered("ann", 2, Break()))
        await killed(pid)
        await start(Mended, "purse", name="purse")
        assert await replay_poisoned(writer, one.position) == -1


@pytest.mark.parametrize("record", [b"nonsense", encode(7), encode("text")])
async def test_other_bytes_are_refused(node, record):
    """Nothing is written of a list in which one record is none."""
    records = await gone(node)
    writer = writer_of(node.table)
    writer.set_asides.leave(writer, {"purse"})
    with pytest.raises(DecodeError):
        writer.set_asides.take(writer, [*records, record])
    assert poisoned(node.journal) == []
