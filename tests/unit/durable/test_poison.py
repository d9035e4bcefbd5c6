"""Commands that crash their process again and again: set aside after a few times, listed, replayed once or given up."""

from __future__ import annotations

import logging

import pytest
import trio

from runtime import Delivery, Pid, Refused, Session, call, message, start, whereis
from runtime.backends.memory import MemoryJournal
from runtime.durable.commands import CommandSetAside, Numbered
from runtime.durable.durability import Kept, periodic
from runtime.durable.poison import KEY, NotPoisoned, discard_poisoned, poisoned, replay_poisoned
from runtime.durable.timers import DurableTimer
from runtime.durable.writer import RELAXED, WRITER, JournalWriter, writer_of
from runtime.errors import CalleeExited
from supervisors import Supervisor, child
from tests.support.processes import running_node

from .purse import Break, Purse, Read, Take, Taken, killed, settled


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.CRITICAL, "banyan")


class Mended(Purse):
    """The purse after somebody has taught it what to do with `Break`."""

    def handle(self, state, command):
        return (Taken(5), state - 5) if isinstance(command, Break) else super().handle(state, command)


async def crashed(pid: Pid | str, command, times, kind=Purse, *kept):
    """Send a command that crashes its process so often, starting it anew each time."""
    for _ in range(times):
        with pytest.raises(CalleeExited):
            await call(pid, command)
        await settled()
        pid = await start(kind, "purse", *kept, name="purse")
    return pid


async def test_after_three_crashes_a_command_is_set_aside(node):
    """It is refused by type from then on, the process lives and serves the others; the list says all about it."""
    pid = await start(Purse, "purse", name="purse")
    await call(pid, Take(3))
    pid = await crashed(pid, Numbered("ann", 1, Break()), 3)
    for _ in range(2):
        with pytest.raises(CommandSetAside) as caught:
            await call(pid, Numbered("ann", 1, Break()))
        assert (caught.value.sender, caught.value.number) == ("ann", 1)
    assert await call(pid, Numbered("ann", 2, Take(1))) == 6
    [one] = poisoned(node.journal)
    assert one.position == caught.value.position
    assert (one.key, one.sender, one.number, one.sequence, one.crashes) == ("purse", "ann", 1, 1, 3)
    assert (one.command, one.state, one.error, one.closed) == (Break(), 7, "ValueError: broken", "")


async def test_crashes_are_counted_over_kills_of_the_node(node):
    """The count and the verdict are in the store: a node that dies in between begins nothing anew."""
    disk = node.journal._disk
    pid = await start(Purse, "purse", name="purse")
    await crashed(pid, Numbered("ann", 1, Break()), 2)
    disk.crash()
    for times, refused in ((1, False), (0, True)):
        async with running_node("next") as other:
            journal = MemoryJournal(disk)
            other.table.services["journal"] = journal
            await start(JournalWriter, journal, name=WRITER)
            pid = await crashed(await start(Purse, "purse", name="purse"), Numbered("ann", 1, Break()), times)
            if refused:
                with pytest.raises(CommandSetAside):
                    await call(pid, Numbered("ann", 1, Break()))
            journal.close()


async def test_other_numbers_have_counts_of_their_own(node):
    """Two crashes each of three commands set none aside."""
    pid = await start(Purse, "purse", name="purse")
    for number in (1, 2, 3):
        pid = await crashed(pid, Numbered("ann", number, Break()), 2)
    assert poisoned(node.journal) == []
    pid = await crashed(pid, Numbered("ann", 2, Break()), 1)
    assert [one.number for one in poisoned(node.journal)] == [2]


async def test_a_class_says_how_many_crashes_it_takes(node):
    """`poison_after` is the class's; commands without a number are not counted."""

    class Once(Purse):
        poison_after = 1

    pid = await crashed(await start(Once, "purse", name="purse"), Break(), 3, Once)
    assert poisoned(node.journal) == []
    pid = await crashed(pid, Numbered("ann", 1, Break()), 1, Once)
    with pytest.raises(CommandSetAside):
        await call(pid, Numbered("ann", 1, Break()))


async def test_an_apply_that_raises_counts_too(node):
    """What happens with the events of a command is a part of handling it."""

    class Brittle(Purse):
        poison_after = 1

        def apply(self, state, event):
            if event.amount == 7:
                raise ArithmeticError("seven")
            return super().apply(state, event)

    pid = await crashed(await start(Brittle, "purse", name="purse"), Numbered("ann", 1, Take(7)), 1, Brittle)
    assert [one.error for one in poisoned(node.journal)] == ["ArithmeticError: seven"]
    assert await call(pid, Read()) == 10


async def test_a_mended_process_handles_it_once(node):
    """A replay is applied once however often it is tried, and the first sender gets its reply then."""
    pid = await crashed(await start(Purse, "purse", name="purse"), Numbered("ann", 1, Break()), 3)
    writer = writer_of(node.table)
    [one] = poisoned(node.journal)
    with pytest.raises(CalleeExited):
        await replay_poisoned(writer, one.position)
    await settled()
    assert poisoned(node.journal) == [one]
    pid = await start(Mended, "purse", name="purse")
    assert await replay_poisoned(writer, one.position) == 5
    with pytest.raises(NotPoisoned, match="replayed"):
        await replay_poisoned(writer, one.position)
    assert (poisoned(node.journal), [done.closed for done in poisoned(node.journal, closed=True)]) == ([], ["replayed"])
    for _ in range(2):
        assert await call(pid, Numbered("ann", 1, Break())) == 5
        await killed(pid)
        pid = await start(Mended, "purse", name="purse")
    assert await call(pid, Read()) == 5


async def test_a_replay_that_was_cut_short_is_not_applied_again(node):
    """A crash between the replay's entry and the note of it: trying again gives the same reply."""
    await crashed(await start(Purse, "purse", name="purse"), Numbered("ann", 1, Break()), 3)
    [one] = poisoned(node.journal)
    await killed(whereis("purse"))
    pid = await start(Mended, "purse", name="purse")
    assert await call(pid, Numbered(f"@poisoned/{one.position}", 1, Break(), lasting=True)) == 5
    assert await replay_poisoned(writer_of(node.table), one.position) == 5
    assert await call(pid, Read()) == 5


async def test_a_command_that_was_given_up_is_refused(node):
    """After `discard_poisoned` its sender is refused, for good."""
    pid = await crashed(await start(Purse, "purse", name="purse"), Numbered("ann", 1, Break()), 3)
    [one] = poisoned(node.journal)
    discard_poisoned(writer_of(node.table), one.position)
    for _ in range(2):
        with pytest.raises(Refused, match="given up"):
            await call(pid, Numbered("ann", 1, Break()))
        await killed(pid)
        pid = await start(Purse, "purse", name="purse")
    with pytest.raises(NotPoisoned, match="discarded"):
        discard_poisoned(writer_of(node.table), one.position)
    with pytest.raises(NotPoisoned, match="there is none"):
        await replay_poisoned(writer_of(node.table), 99)


@message("tests.poison.returned")
class Returned(Break):
    reason: str = ""


class Owing(Purse):
    """Owes a `Break` for each coin that was taken, takes one back if it is refused."""

    def handle(self, state, command):
        match command:
            case Returned(reason):
                return Taken(-1), reason
            case _:
                return super().handle(state, command)

    def pending(self, state):
        return [Delivery(1, "purse", Break(), Take(1), Returned())] if state == 9 else []


class Room(Supervisor):
    """Keeps a purse alive through any number of crashes."""

    intensity, period = 100, 1.0

    def init(self):
        return [child("purse", Purse, "purse", name="purse")]


@pytest.mark.parametrize(("end", "owes", "purse"), [("replay", 8, 5), ("discard", 10, 10)])
async def test_a_delivery_waits_for_a_decision(node, end, owes, purse):
    """A debt whose delivery is set aside stays a debt: not settled, not returned, until it is replayed or given up."""
    room = await node.start(Room)
    owing = await start(Owing, "owing", name="owing")
    await call(owing, Take(1))
    await trio.sleep(30)  # virtual
    assert (await call("purse", Read()), await call(owing, Read())) == (10, 9)
    [one] = poisoned(node.journal)
    assert (one.sender, one.number, one.crashes) == ("owing", 1, 3)
    if end == "replay":
        await node.stop("Room")
        await start(Mended, "purse", name="purse")
        await replay_poisoned(writer_of(node.table), one.position)
    else:
        discard_poisoned(writer_of(node.table), one.position)
    await trio.sleep(30)  # virtual
    assert (await call("purse", Read()), await call(owing, Read())) == (purse, owes)
    assert room is not None


async def test_a_timer_that_crashes_its_process_is_set_aside(node):
    """It is passed over from then on, and the timers after it fire."""

    class Alarmed(Purse):
        def timers(self, state):
            yield DurableTimer("bad", 1e9 + 10, Break())
            yield DurableTimer("good", 1e9 + 20, Take(4))

    class Guarded(Room):
        def init(self):
            return [child("purse", Alarmed, "purse", name="purse")]

    await node.start(Guarded)
    await trio.sleep(30)  # virtual
    assert await call("purse", Read()) == 6
    assert [(one.sender, one.crashes) for one in poisoned(node.journal)] == [("@timer/bad", 3)]


async def test_a_session_hears_of_it_and_goes_on(node):
    """A session gets the typed error, its number stays taken, and its next command works."""
    await node.start(Room)
    session = Session("ann")
    with pytest.raises(CommandSetAside):
        await session.command("purse", Break())
    assert (session.number, await session.command("purse", Take(1))) == (1, 9)


@pytest.mark.parametrize(("durability", "store"), [("relaxed", RELAXED), (periodic(1), WRITER)], ids=str)
async def test_it_is_written_down_where_the_process_is_kept(node, durability, store):
    """Relaxed and periodic processes have it too; a volatile one begins anew, and is not counted."""
    pid = await start(Purse, "purse", Kept(durability), name="purse")
    await crashed(pid, Numbered("ann", 1, Break()), 3, Purse, Kept(durability))
    journal = writer_of(node.table, store).journal
    assert [one.number for one in poisoned(journal)] == [1]
    await killed(whereis("purse"))
    pid = await start(Purse, "other", Kept("volatile"))
    with pytest.raises(CalleeExited):
        await call(pid, Numbered("ann", 1, Break()))
    assert journal.head(KEY) == 3


async def test_a_full_disk_counts_nothing_and_harms_nothing(node):
    """If the note finds no room the process ends as it would have."""
    pid = await start(Purse, "purse", name="purse")
    node.journal._disk.full = True
    pid = await crashed(pid, Numbered("ann", 1, Break()), 4)
    node.journal._disk.full = False
    assert await call(pid, Take(1)) == 9
