"""Commands that were set aside: listed, shown with what they met, replayed once, dropped; refusals have codes."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from runtime import CalleeExited, call, start
from runtime.durable.commands import CommandSetAside, Numbered, Refused
from runtime.durable.durability import Kept
from runtime.observe import set_aside, text
from runtime.observe.doctor import doctor
from runtime.observe.protocol import Refusal
from supervisors import Node
from tests.unit.observe.bank import Account, Break, Deposit, bank


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.CRITICAL, "banyan")


@pytest.fixture
async def node(autojump_clock) -> AsyncIterator[Node]:
    async with bank() as node:
        await call("account/ann", Deposit(5))
        yield node


async def broken(key: str = "account/ann", sender: str = "bob", number: int = 1) -> None:
    """Have an account crash three times over one command."""
    for _ in range(3):
        with pytest.raises(CalleeExited):
            await call(key, Numbered(sender, number, Break("hello")))
        await wait_all_tasks_blocked()
        if key not in ("account/ann",):
            await start(Account, key, Kept("relaxed"), name=key)


async def test_a_command_is_listed_and_shown_with_what_it_met(node):
    """The list says whose, how often and why; one of them comes with its state and the entry before it."""
    assert set_aside.waiting(node.table).total == 0
    await broken()
    found = set_aside.waiting(node.table)
    (one,) = found.commands
    assert (one.store, one.key, one.sender, one.number, one.crashes) == ("durable", "account/ann", "bob", 1, 3)
    assert (one.error, one.closed, one.command) == ("ArithmeticError: odd", "", "Break(note='hello')")
    shown = set_aside.context(node.table, one.position)
    assert (shown.one, shown.sequence, shown.alive) == (one, 1, True)
    assert shown.fields == {"total": "5", "last": "5"}
    assert shown.entry is not None
    assert shown.entry.events == ("Deposited(amount=5)",)
    lines = list(text.poison(msgspec.to_builtins(found), str)) + list(text.poisoned(msgspec.to_builtins(shown), str))
    assert any("bob #1" in line and "Break(note='hello')" in line for line in lines)
    assert any(line.split() == ["total", "5"] for line in lines)
    (finding,) = [one for one in (await doctor(node.table)).findings if one.next == "banyan poison"]
    assert (finding.who, finding.what) == ("account/ann", "has 1 command set aside")
    assert node.table.counts.set_aside == 1


async def test_a_replay_is_applied_once(node, monkeypatch):
    """Until the class is mended it goes on waiting; then its sender gets the reply of the replay."""
    await broken()
    (one,) = set_aside.waiting(node.table).commands
    await trio.sleep(6.0)  # virtual: three restarts within five seconds are allowed
    with pytest.raises(Refusal, match="crashes") as caught:
        await set_aside.replay(node.table, one.position, 1.0)
    assert caught.value.code == 1
    await wait_all_tasks_blocked()
    monkeypatch.setattr(Account, "mended", True)
    said = await set_aside.replay(node.table, one.position, 1.0)
    assert said == {"position": one.position, "key": "account/ann", "reply": "12"}
    with pytest.raises(Refusal, match="replayed before") as caught:
        await set_aside.replay(node.table, one.position, 1.0)
    assert caught.value.code == 4
    assert set_aside.waiting(node.table).total == 0
    assert [one.closed for one in set_aside.waiting(node.table, closed=True).commands] == ["replayed"]
    assert set_aside.context(node.table, one.position).one.closed == "replayed"


async def test_what_is_dropped_is_refused(node):
    """After a drop its sender is refused, and there is nothing to replay."""
    await broken()
    (one,) = set_aside.waiting(node.table).commands
    with pytest.raises(CommandSetAside):
        await call("account/ann", Numbered("bob", 1, Break("hello")))
    assert set_aside.drop(node.table, one.position) == {"position": one.position, "closed": "discarded"}
    with pytest.raises(Refused):
        await call("account/ann", Numbered("bob", 1, Break("hello")))
    with pytest.raises(Refusal, match="discarded before") as caught:
        set_aside.drop(node.table, one.position)
    assert caught.value.code == 4


async def test_what_is_not_there_is_not_found(node):
    """A position that the list has not, a relaxed store that there is not, a node without a store: code 4."""
    for ask in (
        lambda: set_aside.context(node.table, 99),
        lambda: set_aside.drop(node.table, 99),
        lambda: set_aside.context(node.table, 1, relaxed=True),
    ):
        with pytest.raises(Refusal) as caught:
            ask()
        assert caught.value.code == 4
    async with Node("bare") as bare:
        with pytest.raises(Refusal, match="no journal") as caught:
            set_aside.waiting(bare.table)
        assert caught.value.code == 4


async def test_a_process_that_is_not_alive_cannot_replay(node):
    """What it said is still shown; a replay is code 4, and it goes on waiting."""
    await start(Account, "account/eve", Kept("relaxed"), name="account/eve")
    await broken("account/eve", "carl", 7)
    (one,) = set_aside.waiting(node.table).commands
    assert (one.store, one.key) == ("relaxed", "account/eve")
    node.table.names["account/eve"].exit_signal(node.root, "planted")
    await wait_all_tasks_blocked()
    shown = set_aside.context(node.table, one.position, relaxed=True)
    assert (shown.alive, shown.fields, shown.entry) == (False, {"total": "0", "last": "0"}, None)
    with pytest.raises(Refusal, match="account/eve") as caught:
        await set_aside.replay(node.table, one.position, 1.0, relaxed=True)
    assert caught.value.code == 4
    assert set_aside.waiting(node.table).total == 1


async def test_what_a_process_hides_is_hidden_here(node, monkeypatch):
    """`format_status` stands before commands and states that were set aside, too."""
    await broken()
    monkeypatch.setattr(Account, "format_status", lambda self, value: "<redacted>", raising=False)
    (one,) = set_aside.waiting(node.table).commands
    shown = set_aside.context(node.table, one.position)
    assert (one.command, shown.text, shown.fields) == ("'<redacted>'", "'<redacted>'", {})
