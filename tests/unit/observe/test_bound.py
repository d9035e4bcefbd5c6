"""Whose line of the log it is: node, pid, name, message and its id; nothing of what a message says."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import pytest

from runtime import GenServer, call, cast, start, sys
from runtime.durable.commands import Numbered
from runtime.observe.bound import whose
from supervisors import Node
from tests.unit.observe.bank import Account, Deposit, bank


@pytest.fixture
async def node(autojump_clock) -> AsyncIterator[Node]:
    async with bank() as node:
        yield node


class Tells(GenServer):
    """Answers with whose line a line of its own would be."""

    def handle_call(self, request, caller):
        return whose()

    def handle_cast(self, request):
        self.told = whose()

    def state(self):
        return self.told


async def test_a_process_is_named_with_what_it_handles(node):
    """In a callback the process and the type of the request are known, and nothing of what it says."""
    pid = await start(Tells, name="tells")
    who = {"node": "test", "pid": repr(pid), "name": "tells"}
    assert await call(pid, Deposit(4711)) == who | {"message": "Deposit"}
    assert "4711" not in repr(await call(pid, Deposit(4711)))
    unnamed = await start(Tells)
    assert await call(unnamed, 1) == {"node": "test", "pid": repr(unnamed), "message": "int"}
    await cast(pid, Deposit(4711))
    assert await sys.get_state(pid) == who | {"message": "Deposit"}


async def test_a_numbered_command_has_its_id(node, monkeypatch):
    """The id of a durable command is its sender and number, the same in whatever log it passes."""
    found = []
    handle = Account.handle

    def watched(self, state, command):
        found.append(whose())
        return handle(self, state, command)

    monkeypatch.setattr(Account, "handle", watched)
    await call("account/ann", Numbered("bob", 17, Deposit(1)))
    (said,) = found
    assert said == {
        "node": "test",
        "pid": repr(node.table.names["account/ann"].pid),
        "name": "account/ann",
        "message": "Deposit",
        "message_id": "bob#17",
    }


async def test_host_code_is_its_nodes(node):
    """Beside the processes there is the node alone."""
    assert whose() == {"node": "test"}


def test_outside_every_node_there_is_nobody():
    """Code that runs in no node has nothing bound to it."""
    assert whose() == {}


async def test_a_node_sets_up_no_logging(autojump_clock):
    """An embedded node leaves handlers, levels and loggers as its host has them."""

    def setting() -> list[object]:
        found: list[object] = []
        for name in (None, "banyan", "banyan.audit", "banyan.trace"):
            logger = logging.getLogger(name)
            found.append((name, logger.level, tuple(logger.handlers), tuple(logger.filters), logger.propagate))
        return found

    before = setting()
    async with bank() as node:
        await call("account/ann", Deposit(1))
        assert setting() == before
        assert node.table.names
    assert setting() == before
