"""Who may do what: each level allows what stands up to it, and refuses the rest with what it needs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from runtime.observe import protocol
from runtime.observe.protocol import Level
from tests.unit.observe.talk import open_node, talk

# One request of each operation, that does nothing or little.
EACH: dict[str, dict[str, Any]] = {
    "info": {},
    "tree": {},
    "ps": {},
    "state": {"of": "till"},
    "mailbox": {"of": "till"},
    "stack": {"of": "till"},
    "timers": {},
    "crashes": {},
    "stalls": {},
    "log": {"of": "till"},
    "at": {"of": "till"},
    "store": {},
    "config": {},
    "nodes": {},
    "shards": {},
    "moves": {},
    "plan": {},
    "doctor": {},
    "names": {},
    "complete": {"text": "tr"},
    "poison": {},
    "poisoned": {"position": 1},
    "trace": {"of": ["till"], "seconds": 0.01},
    "record": {"messages": 0},
    "kill": {"target": "till", "reason": "normal"},
    "suspend": {"target": "till"},
    "resume": {"target": "till"},
    "restart": {"target": "till"},
    "replay": {"position": 1},
    "drop": {"position": 1},
    "move": {"shard": 1, "node": "b"},
    "abort": {"move": "m"},
    "drain": {"node": "b", "undo": True},
    "adopt": {"node": "b", "undo": True},
    "rebalance": {},
    "stop": {},
    "eval": {"source": "1"},
    "interrupt": {},
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "n.sock"


def test_every_operation_is_tried_here():
    """No operation is left out of this page's list."""
    assert set(EACH) == set(protocol.OPERATIONS)


@pytest.mark.parametrize("level", [Level.VIEW, Level.TRACE, Level.ACT])
async def test_a_level_refuses_what_is_above_it(path, level):
    """What needs more is refused with code 5 and the level it needs; nothing of it is done."""
    async with open_node(path, level=level) as node, talk(path) as client:
        till = node.table.names["till"]
        for op, fields in EACH.items():
            needed = protocol.OPERATIONS[op].level
            if needed <= level:
                continue
            error = await client.ask(op, **fields)
            assert (error["code"], error["what"]) == (5, f"this node does not do {op!r}")
            flag = "--allow-eval" if needed is Level.EVAL else f"--admin-level {needed.name.lower()}"
            assert error["next"].startswith(f"restart it with {flag}")
        assert node.table.names["till"] is till
        assert not till.suspended


@pytest.mark.parametrize("level", [Level.VIEW, Level.TRACE, Level.ACT])
async def test_a_level_allows_what_stands_up_to_it(path, level):
    """What needs no more is done, or refused for another reason."""
    async with open_node(path, level=level, stop=lambda: None), talk(path) as client:
        assert (await client.ask("info"))["level"] == level.describe()
        for op, fields in EACH.items():
            if protocol.OPERATIONS[op].level <= level:
                assert "this node does not do" not in str(await client.ask(op, **fields)), op


async def test_lines_allow_everything(path):
    """A node that runs typed lines does whatever there is."""
    async with open_node(path, allow_eval=True, level=Level.VIEW), talk(path) as client:
        assert (await client.ask("info"))["level"] == "view+trace+act+eval"
        assert (await client.ask("restart", target="till"))["name"] == "till"


async def test_every_act_is_in_the_audit_log(path, caplog):
    """Each request above view has a line before it is done, one that is refused too; looking has none."""
    caplog.set_level(logging.INFO, "banyan.audit")
    async with open_node(path, level=Level.TRACE), talk(path) as client:
        for op, fields in EACH.items():
            await client.ask(op, **fields)
    lines = [record.getMessage().partition(": ")[2] for record in caplog.records if record.name == "banyan.audit"]
    assert lines == [
        "trace 'till' 100 0.01",
        "record 0",
        "refused: kill 'till' 'normal'",
        "refused: suspend 'till'",
        "refused: resume 'till'",
        "refused: restart 'till'",
        "refused: replay 1",
        "refused: drop 1",
        "refused: move 1 'b'",
        "refused: abort 'm'",
        "refused: drain 'b' undo",
        "refused: adopt 'b' undo",
        "refused: rebalance",
        "refused: stop",
        "refused: eval '1'",
    ]


# -- acts ----------------------------------------------------------------------------------------------


async def test_a_process_is_held_and_let_go(path):
    """`suspend` returns when the process is held, `resume` when it goes on."""
    async with open_node(path) as node, talk(path) as client:
        till = node.table.names["till"]
        told = {"pid": repr(till.pid), "name": "till"}
        assert await client.ask("suspend", target="till") == {**told, "state": "suspended"}
        assert till.suspended
        assert (await client.ask("info", of="till"))["state"] == "suspended"
        assert await client.ask("resume", target=repr(till.pid)) == {**told, "state": "resumed"}
        assert not till.suspended


async def test_a_restart_is_its_supervisors(path):
    """`restart` answers with the new pid when it is up; it counts as a restart."""
    async with open_node(path) as node, talk(path) as client:
        before = node.table.names["till"].pid
        told = await client.ask("restart", target="till")
        after = node.table.names["till"].pid
        assert told == {"pid": repr(after), "before": repr(before), "name": "till"}
        assert (await client.ask("tree", of="Shop"))["restarts"]["used"] == 1


async def test_a_restart_that_would_not_come_back_is_refused(path):
    """Without a supervisor, or where one more restart would end it, nothing is done: code 5."""
    async with open_node(path) as node, talk(path) as client:
        assert (await client.ask("restart", target=repr(node.root)))["code"] == 5
        shop = node.table.names["till"].parent
        assert shop is not None
        error = await client.ask("restart", target="Shop")
        assert (error["code"], "it would give up" in error["why"]) == (5, True)
        assert shop._process is not None


@pytest.mark.parametrize("op", ["suspend", "restart"])
async def test_the_server_does_not_hold_itself(path, op):
    """What carries the connection is neither held nor restarted by it: code 5."""
    async with open_node(path), talk(path) as client:
        for target in ("admin.server", "admin", "system", "root"):
            assert (await client.ask(op, target=target))["code"] in (4, 5)
        assert (await client.ask("info"))["name"] == "test"


async def test_a_busy_process_is_told_later(path):
    """One that does not take the message in time is code 6, with its stack as the next look."""
    async with open_node(path, allow_eval=True) as node, talk(path) as client:
        pid = await client.ask("eval", source="from runtime import spawn; spawn(trio.sleep_forever)")
        error = await client.ask("suspend", target=pid["value"], timeout=0.01)
        assert (error["code"], error["next"].startswith("banyan stack")) == (6, True)
        assert len(node.table.processes) > 5


# -- what waits ----------------------------------------------------------------------------------------


async def test_a_trace_runs_beside_what_comes_after_it(path):
    """While one is under way others are answered, a second one that waits is refused, and it ends by itself."""
    async with open_node(path, allow_eval=True) as node, talk(path) as client:
        await client.say({"id": "t", "op": "trace", "of": ["till"], "messages": 1, "seconds": 60})
        assert (await client.ask("info"))["name"] == "test"
        assert (await client.ask("ps", window=1))["what"] == "the request was not run"
        await wait_all_tasks_blocked()
        async with talk(path) as other:
            await other.ask("eval", source="await call('till', 3)")
        reply = await client.hear()
        assert (reply["id"], reply["ok"]["stopped"], len(reply["ok"]["events"])) == ("t", "messages", 1)
        assert node.table.names["till"].debug is None


async def test_an_interrupt_ends_a_trace(path):
    """What waits can be interrupted, and says so."""
    async with open_node(path, allow_eval=True), talk(path) as client:
        await client.say({"id": "t", "op": "trace", "of": ["till"], "seconds": 60}, {"id": "i", "op": "interrupt"})
        replies = {reply["id"]: reply for reply in [await client.hear(), await client.hear()]}
        assert replies["i"]["ok"] == {"interrupted": True}
        assert replies["t"]["error"]["what"] == "the request was interrupted"


async def test_a_trace_ends_with_its_connection(path):
    """When the client leaves, nothing is watched any more."""
    async with open_node(path) as node:
        async with talk(path) as client:
            await client.say({"op": "trace", "of": ["till", "t*"], "seconds": 60})
            await client.ask("info")
            await wait_all_tasks_blocked()
            assert node.table.names["till"].debug is not None
        while node.table.names["till"].debug is not None:
            await trio.lowlevel.checkpoint()


@pytest.mark.parametrize(
    ("op", "fields", "code"),
    [
        ("state", {"of": "nobody"}, 4),
        ("state", {"of": "<1.99999>"}, 4),
        ("kill", {"target": "1.99999"}, 4),
        ("tree", {"of": "9.1"}, 4),
        ("poison", {}, 4),
        ("poisoned", {"position": 0}, 2),
        ("replay", {"position": 1, "timeout": 1e9}, 2),
        ("trace", {"of": ["nobody*"]}, 4),
        ("trace", {"of": []}, 2),
        ("trace", {"of": ["till"], "seconds": 0}, 2),
        ("trace", {"of": ["till"], "messages": 10**9}, 2),
        ("ps", {"sort": "size"}, 2),
        ("ps", {"window": -1}, 2),
        ("ps", {"window": 1e9}, 2),
        ("at", {"of": "till", "position": 1.5}, 2),
        ("at", {"of": "till"}, 4),
        ("store", {}, 4),
        ("mailbox", {"of": "till", "limit": 0}, 2),
        ("record", {"messages": 101}, 2),
        ("restart", {"target": "nobody"}, 4),
        ("timers", {"of": "nobody"}, 4),
    ],
)
async def test_bad_input_is_one_clear_refusal(path, op, fields, code):
    """A stranger, a value out of its bounds, and what the node has not: three parts and a code, no harm."""
    async with open_node(path), talk(path) as client:
        error = await client.ask(op, **fields)
        assert error["code"] == code
        assert all(error[part] for part in ("what", "why", "next"))
        assert (await client.ask("info"))["name"] == "test"
