"""What a durable process has done: its entries, its state at each position, and what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from runtime import Session, call, sys
from runtime.durable.durability import KeepEntries
from runtime.durable.event_sourced import EventSourced
from runtime.observe import past
from runtime.observe.protocol import Refusal
from runtime.observe.shown import Change
from supervisors import Node
from tests.unit.observe.bank import Account, Deposit, bank


@pytest.fixture
async def node(autojump_clock) -> AsyncIterator[Node]:
    async with bank() as node:
        yield node


async def test_the_last_entries_are_told_with_their_events(node):
    """Each entry has its position, its numbered command, its events and the reply; `before` looks further back."""
    await call("account/ann", Deposit(5))
    await Session("bob").command("account/ann", Deposit(7))
    view = past.log(node.table, "ann", 10)
    assert (view.key, view.last) == ("account/ann", 2)
    assert [(one.sequence, one.sender, one.number, one.events, one.reply) for one in view.entries] == [
        (1, "", 0, ("Deposited(amount=5)",), "5"),
        (2, "bob", 1, ("Deposited(amount=7)",), "12"),
    ]
    assert [one.sequence for one in past.log(node.table, "account/ann", 1).entries] == [2]
    assert [one.sequence for one in past.log(node.table, "account/ann", 5, before=2).entries] == [1]
    assert past.log(node.table, "account/ann", 5, before=1).entries == ()


async def test_the_state_at_each_position_is_what_it_was(node):
    """A position tells the state after its entry, and what that entry changed; negative ones count back."""
    for amount in range(1, 251):
        await call("account/ann", Deposit(amount))
    for position in (0, 1, 99, 100, 101, 200, 250):
        view = await past.at(node.table, "account/ann", position)
        total = position * (position + 1) // 2
        assert view.fields == {"total": str(total), "last": str(position)}
        assert (view.position, view.last) == (position, 250)
    view = await past.at(node.table, "account/ann")
    assert view.changes == (Change("total", "31125", "31375"), Change("last", "249", "250"))
    assert view.entry is not None
    assert view.entry.events == ("Deposited(amount=250)",)
    assert (await past.at(node.table, "account/ann", -1)).position == 249
    zero = await past.at(node.table, "account/ann", 0)
    assert (zero.entry, zero.changes) == (None, ())


async def test_dropped_entries_leave_what_the_snapshot_holds(node, monkeypatch):
    """Where the first entries were dropped, positions from the kept snapshot on can be told, earlier ones not."""
    monkeypatch.setattr(Account, "snapshot_every", 20)
    monkeypatch.setattr(Account, "retain", KeepEntries(1))
    for amount in range(1, 26):
        await call("account/ann", Deposit(amount))
    await call("account/ann", Deposit(1))
    journal = past.journal_of(node.table)
    first = journal.first("account/ann")
    assert first > 1
    assert (await past.at(node.table, "account/ann", 25)).fields == {"total": "325", "last": "25"}
    with pytest.raises(Refusal):
        await past.at(node.table, "account/ann", first - 2)
    assert past.log(node.table, "account/ann", 100).entries[0].sequence == first


@pytest.mark.parametrize("position", [1, -1, 99999, -99999, 2**53])
async def test_a_position_that_is_not_there_is_not_found(node, position):
    """An empty journal has position 0 only; any other is code 4, with the bounds."""
    with pytest.raises(Refusal) as caught:
        await past.at(node.table, "account/ann", position)
    assert (caught.value.code, caught.value.why) == (4, "its journal goes from 0 (before the first) to 0")


@pytest.mark.parametrize("target", ["safe", "nobody", "", "\x00", "ü" * 200, "a" * 5000, "\ud800"])
async def test_what_has_no_journal_is_not_found(node, target):
    """A process that is not durable, a name that nobody has, and what is no name at all are code 4."""
    with pytest.raises(Refusal) as log:
        past.log(node.table, target)
    with pytest.raises(Refusal) as at:
        await past.at(node.table, target)
    assert (log.value.code, at.value.code) == (4, 4)


async def test_a_key_whose_process_is_dead_has_its_log_and_no_state(node):
    """Entries can be read without their process; what they amount to, only its class knows."""
    await call("account/ann", Deposit(5))
    bank_pid = node.table.names["account/ann"].parent
    await sys.suspend(bank_pid)
    await sys.stop("account/ann")
    assert past.log(node.table, "account/ann").last == 1
    with pytest.raises(Refusal) as caught:
        await past.at(node.table, "account/ann")
    assert caught.value.code == 4


async def test_an_event_that_does_not_apply_is_told(node, monkeypatch):
    """If the class cannot apply what was journalled, the refusal says where; nothing else happens."""
    await call("account/ann", Deposit(5))
    monkeypatch.setattr(Account, "apply", lambda self, state, event: 1 / 0)
    with pytest.raises(Refusal) as caught:
        await past.at(node.table, "account/ann")
    assert caught.value.code == 1
    assert "ZeroDivisionError" in caught.value.why
    assert "account/ann" in node.table.names


async def test_what_a_class_hides_is_hidden_in_its_past(node, monkeypatch):
    """`format_status` stands before events, replies and states of the past as before those of now."""
    await call("account/ann", Deposit(4711))
    monkeypatch.setattr(EventSourced, "format_status", lambda self, value: "<redacted>")
    assert "4711" not in repr(past.log(node.table, "account/ann"))
    assert "4711" not in repr(await past.at(node.table, "account/ann"))


async def test_the_store_is_counted(node):
    """Keys with their positions, entries and commits; a node without a store says how to get one."""
    await call("account/ann", Deposit(5))
    view = past.store(node.table)
    assert (view.keys, view.entries, view.position, view.full) == (1, 1, 1, False)
    assert view.shown == {"account/ann": 1}
    assert past.store(node.table, "x").shown == {}
    assert past.store(node.table, limit=0).shown == {}
    async with Node("bare") as bare:
        with pytest.raises(Refusal) as caught:
            past.store(bare.table)
    assert (caught.value.code, caught.value.next) == (4, "start it with --data DIR")
