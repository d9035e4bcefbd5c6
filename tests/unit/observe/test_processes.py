"""Processes as a person asks for them."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator

import pytest
import trio.testing

from runtime import GenServer, send_nowait, spawn, sys
from runtime.observe.facts import Facts, addresses, node_json
from runtime.observe.processes import (
    find,
    printable,
    ps,
    subtree,
    table_lines,
    tree_from_json,
)
from runtime.observe.protocol import Level
from supervisors import Node, Supervisor, child


class Till(GenServer):
    """A worker."""

    def summary(self) -> str:
        return "3 coins"


class Shop(Supervisor):
    """A supervisor of one worker."""

    def init(self):
        return [child("till", Till, name="till"), child("twin", Twins), child("twins", Twins)]


class Twins(Supervisor):
    """A supervisor whose child has the same id under each of them."""

    def init(self):
        return [child("twin worker", Till)]


@pytest.fixture
async def node(autojump_clock: trio.testing.MockClock) -> AsyncIterator[Node]:
    async with Node("test") as node:
        await node.start(Shop)
        yield node


async def test_a_process_is_found_by_pid_text_or_name(node):
    """A pid, its text and a registered name find the same process; what is dead is not found."""
    process = node.table.names["till"]
    assert [find(node.table, x) for x in ("till", process.pid, repr(process.pid))] == [process] * 3
    missing = ("nobody", "<1.999>", "<2.1>", "<1.1", "", "<1.99999999999999999999>")
    assert [find(node.table, x) for x in missing] == [None] * len(missing)
    await sys.stop("till")
    assert find(node.table, process.pid) is None
    assert find(node.table, repr(process.pid)) is None


async def test_the_longest_mailbox_comes_first(node):
    """A list of processes is ordered by what waits, then by age, and cut at its limit."""
    await sys.suspend("till")
    send_nowait("till", "a message")
    listing = ps(node.table, 2)
    assert [(row.pid, row.mailbox) for row in listing.rows] == [
        (repr(node.table.names["till"].pid), 1),
        (repr(node.root), 0),
    ]
    assert listing.total == len(node.table.processes)
    till = node.table.names["till"]
    assert listing.to_json() == {
        "total": listing.total,
        "window": 0.0,
        "processes": [dataclasses.asdict(row) for row in listing.rows],
    }
    assert dataclasses.asdict(listing.rows[0]) == {
        "pid": repr(till.pid),
        "name": "till",
        "label": "Till",
        "state": "suspended",
        "mailbox": 1,
        "limit": 10_000,
        "oldest": None,
        "handling": None,
        "waiting": None,
        "turns": listing.rows[0].turns,
        "handled": None,
        "unanswered": 0,
        "links": 1,
        "monitors": 0,
        "watchers": 0,
        "sequence": None,
        "memory": listing.rows[0].memory,
        "new_turns": None,
        "new_mailbox": None,
    }
    assert (listing.rows[0].turns, listing.rows[0].memory) > (1, 1000)
    assert str(listing).splitlines()[-1] == f"... and {listing.total - 2} more"


def test_a_table_has_its_columns_in_line():
    """Texts stand left, numbers right, and control characters in a name are spelled out."""
    row = {
        "pid": "<1.2>",
        "name": "a\x1b[2J",
        "label": "Till",
        "state": "running",
        "mailbox": 12,
        "handling": None,
    }
    assert list(table_lines([row], 1)) == [
        "PID    NAME      KIND  STATE    MAILBOX  OLDEST  TURNS  MEMORY  IN HAND",
        r"<1.2>  a\x1b[2J  Till  running       12       -      -       -  -",
    ]
    assert printable("plain") == "plain"


async def test_a_part_of_the_tree_is_found_by_name_pid_or_id(node):
    """The tree below a supervisor is found by its pid, a registered name, or an id that only one has."""
    whole = subtree(node.table, node.root)
    shop = subtree(node.table, node.root, "Shop")
    assert whole == node.tree()
    assert shop is not None
    assert [one.name for one in shop.children] == ["till", "twin", "twins"]
    assert subtree(node.table, node.root, shop.pid) == shop
    assert subtree(node.table, node.root, "till") == shop.children[0]
    assert subtree(node.table, node.root, "twin worker") is None
    assert subtree(node.table, node.root, "nobody") is None


async def test_a_process_in_no_tree_stands_alone(node):
    """A process that nobody supervises is shown by itself, as the worker that it is."""
    pid = spawn(trio.sleep_forever)
    alone = subtree(node.table, node.root, repr(pid))
    assert alone is not None
    assert (alone.pid, alone.type, alone.state, alone.children) == (repr(pid), "worker", "running", ())


async def test_a_tree_survives_its_json(node):
    """What `to_json` writes is read as the same tree, details and all."""
    assert tree_from_json(node.tree().to_json()) == node.tree()


async def test_a_node_tells_about_itself(node, autojump_clock):
    """Name, data, uptime, gateways: all that a command shows of a node."""
    facts = Facts(pid=77, started=node.world.now(), version="1.2", data="room", application="a:b")
    await trio.sleep(5)
    node.table.services["gateway"] = ("127.0.0.1:7000",)
    assert node_json(node.table, facts, Level.ACT) == {
        "name": "test",
        "pid": 77,
        "version": "1.2",
        "data": "room",
        "application": "a:b",
        "uptime": pytest.approx(5),
        "processes": len(node.table.processes),
        "gateway": ["127.0.0.1:7000"],
        "level": "view+trace+act",
    }


class _Listening:
    addresses = ("a:1", "b:2")


def test_a_gateway_may_name_its_addresses_in_any_way():
    """A string, several, an object that has them, or nothing at all."""
    assert [addresses(x) for x in (None, "a:1", ("a:1", "b:2"), ["a:1"], _Listening(), 5)] == [
        [],
        ["a:1"],
        ["a:1", "b:2"],
        ["a:1"],
        ["a:1", "b:2"],
        ["5"],
    ]
