"""Histories of older and newer programs: brought up to date, or refused by name and position with nothing changed."""

from __future__ import annotations

import pytest
from msgspec import structs

from runtime import Call, EventSourced, Query, StartFailed, call, message, start
from runtime.durable.commands import Numbered
from runtime.durable.history import EventNewer, EventNotUpcast, ReplayFailed, SnapshotNewer, StateNotUpcast
from runtime.durable.hooks import Past
from runtime.durable.snapshotted import Snapshotted

from .purse import killed


@message("tests.versions.put")
class Put(Call[int]):
    amount: int


@message("tests.versions.look")
class Look(Query[object]):
    pass


def deposited(version):
    """The event's class as it was in a version; what is registered from now on."""

    @message("tests.versions.deposited", version=version)
    class First:
        __qualname__ = "Deposited"
        amount: int

    if version == 1:
        return First

    @message("tests.versions.deposited", version=version)
    class Second:
        __qualname__ = "Deposited"
        amount: int
        currency: str

    return Second


class Account(EventSourced):
    """The first version: a sum."""

    def initial(self, key):
        return 0

    def handle(self, state, command):
        return deposited(1)(command.amount), state + command.amount

    def apply(self, state, event):
        return state + event.amount

    def query(self, state, request):
        return state


class Often(Account):
    """One that keeps a snapshot of all."""

    snapshot_every = 1


class Newer(Account):
    """The second version: a sum for each currency, which knows nothing of the first."""

    schema = 2

    def initial(self, key):
        return {}

    def apply(self, state, event):
        return {**state, event.currency: state.get(event.currency, 0) + event.amount}

    def handle(self, state, command):
        return deposited(2)(command.amount, "eur"), state.get("eur", 0) + command.amount


class Upcasting(Newer):
    """The second version, which knows the events of the first."""

    def upcast(self, name, version, fields):
        match name, version:
            case "tests.versions.deposited", 1:
                return deposited(2)(*fields, "eur")
        return super().upcast(name, version, fields)


class Converting(Upcasting):
    """The second version, which knows the state of the first too."""

    def upcast_state(self, state, schema):
        assert schema == 1
        return {"eur": state, "converted": 1}


async def history(node, kind=Account, key="acc", commands=(3, 4)):
    """Write a history of the first version; returns what the store then holds."""
    deposited(1)
    pid = await start(kind, key, name=key)
    for number, amount in enumerate(commands, 1):
        await call(pid, Numbered("ann", number, Put(amount)))
    await killed(pid)
    deposited(2)
    return held(node, key)


def held(node, key="acc"):
    snapshot, _ = node.journal.load(key)
    return snapshot, node.journal.read(key), node.journal.head(key)


async def refused(kind, key="acc"):
    """Start what cannot start; the error that says why."""
    with pytest.raises(StartFailed) as caught:
        await start(kind, key, name=key)
    return caught.value.__cause__


async def test_an_event_of_an_older_version_without_an_upcaster_is_refused(node):
    """The error names event, version and position; the store is as it was, and others go on."""
    before = await history(node)
    error = await refused(Newer)
    assert isinstance(error, EventNotUpcast)
    assert (error.key, error.sequence, error.name, error.version, error.current) == (
        *("acc", 1, "tests.versions.deposited"),
        *(1, 2),
    )
    assert held(node) == before
    assert await call(await start(Newer, "other"), Put(1)) == 1


async def test_an_upcaster_brings_old_events_up_to_date(node):
    """Old events are applied as new ones, old replies are repeated, and new entries follow."""
    await history(node)
    pid = await start(Upcasting, "acc", name="acc")
    assert await call(pid, Look()) == {"eur": 7}
    assert await call(pid, Numbered("ann", 2, Put(4))) == 7
    assert await call(pid, Numbered("ann", 3, Put(5))) == 12
    await killed(pid)
    assert await call(await start(Upcasting, "acc"), Look()) == {"eur": 12}
    assert Upcasting.past(node.journal, "acc") == Past("acc", {"eur": 12}, 3, (("ann", 1), ("ann", 2), ("ann", 3)))


async def test_an_event_of_an_unknown_name_is_refused(node):
    """A record whose class is gone is refused with its name, unless the upcaster knows it."""
    await history(node)
    entry = node.journal.read("acc")[0]
    other = entry.payload.replace(b"tests.versions.deposited", b"tests.versions.thrown_up")
    node.journal.commit([structs.replace(entry, key="gone", epoch=node.journal.epoch, payload=other)])
    error = await refused(Upcasting, "gone")
    assert isinstance(error, EventNotUpcast)
    assert (error.name, error.version, error.current, error.sequence) == ("tests.versions.thrown_up", 1, None, 1)

    class Knowing(Upcasting):
        def upcast(self, name, version, fields):
            return super().upcast(name.replace("thrown_up", "deposited"), version, fields)

    assert await call(await start(Knowing, "gone"), Look()) == {"eur": 3}


async def test_a_snapshot_of_an_older_schema_is_converted(node):
    """`upcast_state` makes the state of today; entries after the snapshot are applied to it."""
    await history(node, Often)
    pid = await start(Converting, "acc", name="acc")
    assert await call(pid, Look()) == {"eur": 7, "converted": 1}
    assert await call(pid, Numbered("ann", 2, Put(4))) == 7


async def test_a_snapshot_of_an_older_schema_gives_way_to_its_events(node):
    """Without `upcast_state` the state is made anew from all events, if they are all there."""
    await history(node, Often)
    pid = await start(Upcasting, "acc", name="acc")
    assert await call(pid, Look()) == {"eur": 7}
    assert await call(pid, Numbered("ann", 2, Put(4))) == 7


async def test_a_snapshot_of_an_older_schema_without_its_events_is_refused(node):
    """If entries were dropped, the state cannot be made anew: refused, with what is there, and nothing changed."""

    class Short(Often):
        retain = None

    await history(node, Short)
    snapshot, _ = node.journal.load("acc")
    node.journal.commit([], [snapshot], {"acc": 2})
    error = await refused(Upcasting)
    assert isinstance(error, StateNotUpcast)
    assert (error.key, error.sequence, error.found, error.wanted, error.first) == ("acc", 2, 1, 2, 2)
    assert node.journal.load("acc") == (snapshot, [])
    assert await call(await start(Converting, "acc"), Look()) == {"eur": 7, "converted": 1}


@pytest.mark.parametrize(("kind", "error"), [(Account, EventNewer), (Often, SnapshotNewer)], ids=["entry", "snapshot"])
async def test_a_history_of_a_newer_schema_is_refused(node, kind, error):
    """An older program leaves what a newer one wrote alone, and says so."""

    class Future(kind):
        schema = 9

    await history(node, Future)
    deposited(1)
    before = held(node)
    found = await refused(kind)
    assert type(found) is error
    assert (found.key, found.sequence, found.name, found.found, found.supported) == (
        *("acc", 1 if kind is Account else 2),
        *("schema", 9, 1),
    )
    assert held(node) == before


@pytest.mark.parametrize(("kind", "error"), [(Account, EventNewer), (Often, SnapshotNewer)], ids=["entry", "snapshot"])
async def test_a_record_of_a_newer_version_is_refused(node, kind, error):
    """An event, or a reply in a snapshot, of a version to come is named with both versions."""

    class Event(kind):
        def handle(self, state, command):
            event = deposited(2)(command.amount, "eur")
            return event, event

    await history(node, Event)
    deposited(1)
    found = await refused(kind)
    assert type(found) is error
    assert (found.name, found.found, found.supported) == ("tests.versions.deposited", 2, 1)


async def test_an_apply_that_raises_stops_its_process_only(node):
    """The error names the position; the event is not skipped, and the next key is served."""

    class Broken(Account):
        def apply(self, state, event):
            if event.amount == 4:
                raise ZeroDivisionError("no fours")
            return state + event.amount

    before = await history(node)
    deposited(1)
    for _ in range(2):
        error = await refused(Broken)
        assert isinstance(error, ReplayFailed)
        assert (error.key, error.sequence, str(error.error)) == ("acc", 2, "no fours")
    assert held(node) == before
    assert await call(await start(Broken, "other"), Put(5)) == 5
    assert await call(await start(Account, "acc"), Look()) == 7


@pytest.mark.parametrize("where", ["upcast", "upcast_state"])
async def test_an_upcaster_that_raises_is_named(node, where):
    """What the class's own conversion raises is a failed replay with its position."""

    def bad(self, *args):
        raise LookupError("lost")

    kind = type("Bad", (Upcasting,), {where: bad, "__module__": __name__})
    await history(node, Often if where == "upcast_state" else Account)
    error = await refused(kind)
    assert isinstance(error, ReplayFailed)
    assert (error.key, error.sequence) == ("acc", 2 if where == "upcast_state" else 1)


async def test_a_snapshotted_process_converts_its_state(node):
    """Plain state of an older schema goes through `upcast_state`, in entries and in snapshots; else it is refused."""

    class Sum(Snapshotted):
        retain = None

        def initial(self, key):
            return 0

        def handle(self, state, command):
            return state + command.amount, state + command.amount

        def query(self, state, request):
            return state

    class Sums(Sum):
        schema = 2

        def initial(self, key):
            return {}

    class Converted(Sums):
        def upcast_state(self, state, schema):
            return {"eur": state}

    for key, every in (("entries", 64), ("snapshot", 1)):
        pid = await start(type("Kind", (Sum,), {"snapshot_every": every}), key, name=key)
        await call(pid, Put(3))
        await killed(pid)
        assert isinstance(await refused(Sums, key), StateNotUpcast)
        assert await call(await start(Converted, key), Look()) == {"eur": 3}
