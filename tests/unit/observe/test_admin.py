"""The admin server over a real unix socket: its answers, its refusals, and that nothing brings it down."""

from __future__ import annotations

import errno
import logging
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from runtime.observe import admin, connection, listening
from runtime.observe.connection import Door, Peer, peer_of
from runtime.observe.facts import Facts
from runtime.observe.protocol import REQUEST_LIMIT, Refusal
from supervisors import ChildRefused, child, start_child
from supervisors.node.boot import RealWorld
from tests.unit.observe.talk import Talk, open_node, talk, until_listening


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "n.sock"


# -- looking -------------------------------------------------------------------------------------------


async def test_the_tree_is_the_nodes_own(path):
    """`tree` answers what the node itself says, whole or from a process on."""
    async with open_node(path) as node, talk(path) as client:
        whole = node.tree().to_json()
        shop = whole["children"][1]
        assert await client.ask("tree") == whole
        assert await client.ask("tree", of="Shop") == shop
        assert await client.ask("tree", of=shop["children"][0]["pid"]) == shop["children"][0]


async def test_the_server_stands_under_the_systems_supervisor(path):
    """The admin server is supervised beside what the node itself is made of."""
    async with open_node(path) as node:
        system = node.tree().to_json()["children"][0]
        assert [(one["name"], [below["name"] for below in one["children"]]) for one in system["children"]] == [
            ("admin", ["admin.server"])
        ]


async def test_processes_and_the_node_are_told(path):
    """`ps` lists, `info` tells about the node or one process."""
    async with open_node(path) as node, talk(path) as client:
        listed = await client.ask("ps", limit=2)
        assert (len(listed["processes"]), listed["total"]) == (2, len(node.table.processes))
        assert (await client.ask("info", of="till"))["label"] == "Till"
        told = await client.ask("info")
        assert (told["name"], told["pid"], told["level"]) == ("test", 1, "view+trace+act")


async def test_a_missing_process_is_not_found(path):
    """A pid or name that nobody has is code 4, in every operation that takes one."""
    async with open_node(path), talk(path) as client:
        for op, field in (("tree", "of"), ("info", "of"), ("kill", "target")):
            error = await client.ask(op, **{field: "nobody"})
            assert (error["what"], error["code"]) == ("there is no process 'nobody'", 4)


async def test_only_the_owner_can_reach_the_socket(path):
    """The socket is 0600, and gone when the node has ended."""
    async with open_node(path):
        assert path.stat().st_mode & 0o777 == 0o600
    assert not path.exists()


async def test_a_connection_serves_many_requests_in_order(path):
    """Requests that come in one piece are answered one after the other, each under its id."""
    async with open_node(path), talk(path) as client:
        await client.say(*({"id": n, "op": "info", "of": "till"} for n in range(100)))
        assert [(await client.hear())["id"] for _ in range(100)] == list(range(100))


# -- acting --------------------------------------------------------------------------------------------


async def test_a_killed_child_comes_back(path, caplog):
    """`kill` by name or pid ends the process; its supervisor starts another. The audit log has a line."""
    caplog.set_level(logging.INFO, "banyan.audit")
    async with open_node(path) as node, talk(path) as client:
        for wanted in ("till", None):
            before = node.table.names["till"].pid
            target = wanted or repr(before)
            assert await client.ask("kill", target=target) == {
                "pid": repr(before),
                "name": "till",
                "reason": "kill",
            }
            while node.table.names.get("till") in (None, before._process) or before._process is not None:
                await trio.lowlevel.checkpoint()
            assert node.table.names["till"].pid != before
            assert f": kill {target!r} 'kill'" in caplog.text


async def test_a_reason_goes_with_the_signal(path):
    """`shutdown` ends a process in order; any other text is the exit reason itself."""
    async with open_node(path) as node, talk(path) as client:
        reports: list[object] = []
        node.table.crash_listeners.append(lambda report: reports.append(report.reason))
        for reason in ("shutdown", "because"):
            before = node.table.names["till"].pid
            await client.ask("kill", target="till", reason=reason)
            while before._process is not None or "till" not in node.table.names:
                await trio.lowlevel.checkpoint()
        assert reports == ["because"]


@pytest.mark.parametrize("target", ["admin.server", "admin"])
async def test_the_server_can_be_killed_through_itself(path, target):
    """Whoever kills the server, or its supervisor, gets the answer; then a new server listens."""
    async with open_node(path) as node:
        async with talk(path) as client:
            pid = (await client.ask("tree", of=target))["pid"]
            assert (await client.ask("kill", target=pid))["pid"] == pid
            assert await client.hear() is None
        await until_listening(path)
        assert node.table.names["admin.server"].label == "AdminServer"


async def test_stop_asks_the_host(path):
    """`stop` calls what the host gave; an embedded node, whose host gave nothing, refuses it."""
    asked: list[str] = []
    async with open_node(path, stop=lambda: asked.append("stop")), talk(path) as client:
        assert await client.ask("stop") == {"stopping": True}
        assert asked == ["stop"]
    async with open_node(path), talk(path) as client:
        assert (await client.ask("stop"))["code"] == 5


# -- typed lines ---------------------------------------------------------------------------------------


async def test_lines_are_refused_unless_allowed(path, caplog):
    """Without allow_eval no line runs; the refusal says how to allow it, the audit log that it was tried."""
    caplog.set_level(logging.INFO, "banyan.audit")
    async with open_node(path) as node, talk(path) as client:
        error = await client.ask("eval", source="node.table.services['hit'] = 1")
        assert (error["code"], error["next"]) == (5, "restart it with --allow-eval, or use tree, ps and info")
        assert (await client.ask("interrupt"))["code"] == 5
        assert "hit" not in node.table.services
        assert "refused: eval \"node.table.services['hit'] = 1\"" in caplog.text
        assert await client.ask("complete", text="tr") == {"start": 0, "matches": ["tree"]}
        assert await client.ask("complete", text="info ti") == {"start": 5, "matches": ["till"]}


def said(**fields: Any) -> dict[str, Any]:
    return {"more": False, "output": "", "value": None, "error": None, "interrupted": False, **fields}


async def test_lines_run_inside_the_node(path, caplog):
    """A line calls a process, awaits, prints; its names are those of the connection."""
    caplog.set_level(logging.INFO, "banyan.audit")
    async with open_node(path, allow_eval=True) as node, talk(path) as client:
        assert await client.ask("eval", source="await call('till', 3)") == said(value="3")
        assert await client.ask("eval", source="await state('till')") == said(value="{'count': 3}")
        assert await client.ask("eval", source="x = 1; print(x)\nx + 1") == said(output="1\n", value="2")
        assert await client.ask("eval", source="for x in y:") == said(more=True)
        assert await client.ask("eval", source="tree()") == said(value=str(node.tree()))
        assert await client.ask("eval", source="whereis('till') == pid('till')") == said(value="True")
        assert await client.ask("complete", text="exit_pr") == {"start": 0, "matches": ["exit_process"]}
        assert "eval \"await call('till', 3)\"" in caplog.text
        async with talk(path) as other:
            assert "NameError" in (await other.ask("eval", source="x"))["error"]


async def test_every_helper_works_and_says_what_it_does(path):
    """Each name that `h()` lists is there; named alone it explains itself; called, it does it."""
    lines = [
        ("h()", "tree()  tree("),
        ("tree('Shop')", "Shop  <1."),
        ("ps(1)", "PID "),
        ("top(1)", "PID "),
        ("mailbox('till')", "till  <1."),
        ("stack('till')", "  "),
        ("await trace('till', 't*', seconds=0.01)", ""),
        ("crashes()", "0 crashes since the node is watched"),
        ("await doctor()", "nothing seems wrong with "),
        ("log('till')", None),
        ("await at('till')", None),
        ("info()['name']", "'test'"),
        ("info('till').label", "'Till'"),
        ("await send('till', 'hello')", None),
        ("await suspend('till')", None),
        ("info('till').state", "'suspended'"),
        ("await resume('till')", None),
        ("await cast('till', 1)", None),
        ("await replace_state('till', lambda old: {**old, 'count': 41})", "{'count': 41"),
        ("await call('till', 1)", "42"),
        ("exit_process('till', SHUTDOWN)", None),
        ("state", "await state(of: "),
        ("[c.id for c in await which_children(node.root)]", "['Shop', 'system']"),
        ("tree('nobody')", None),
    ]
    async with open_node(path, allow_eval=True), talk(path) as client:
        for source, begins in lines:
            told = await client.ask("eval", source=source)
            assert (told["value"] or "").startswith(begins or ""), (source, told)
            refused = source in ("tree('nobody')", "log('till')", "await at('till')")
            assert (told["error"] is None) == (not refused), (source, told)


async def test_an_interrupt_ends_the_line_and_not_the_node(path):
    """While a line runs, others are answered; an interrupt ends it; a second line is refused meanwhile."""
    begun = trio.Event()
    async with open_node(path, allow_eval=True, names={"begun": begun}), talk(path) as client:
        await client.say({"id": 1, "op": "eval", "source": "begun.set(); await trio.sleep_forever()"})
        await begun.wait()
        assert (await client.ask("info"))["name"] == "test"
        assert (await client.ask("eval", source="1"))["what"] == "the line was not run"
        await client.say({"id": 2, "op": "interrupt"})
        replies = [await client.hear(), await client.hear()]
        assert sorted(replies, key=lambda reply: reply["id"]) == [
            {"id": 1, "ok": said(interrupted=True)},
            {"id": 2, "ok": {"interrupted": True}},
        ]
        assert await client.ask("interrupt") == {"interrupted": False}
        assert await client.ask("eval", source="1") == said(value="1")


async def test_an_interrupt_right_behind_its_line_is_not_lost(path):
    """A line and its interrupt may come in one piece."""
    async with open_node(path, allow_eval=True), talk(path) as client:
        line = {"id": 1, "op": "eval", "source": "await trio.sleep_forever()"}
        await client.say(line, {"id": 2, "op": "interrupt"})
        assert [(await client.hear())["ok"], (await client.hear())["ok"]] == [
            {"interrupted": True},
            said(interrupted=True),
        ]


async def test_a_line_ends_with_its_connection(path):
    """When the client leaves, what it was running is cancelled."""
    begun, ended = trio.Event(), trio.Event()
    source = "try:\n    begun.set(); await trio.sleep_forever()\nfinally:\n    ended.set()\n"
    async with open_node(path, allow_eval=True, names={"begun": begun, "ended": ended}):
        async with talk(path) as client:
            await client.say({"id": 1, "op": "eval", "source": source})
            await begun.wait()
        await ended.wait()


# -- bad input -----------------------------------------------------------------------------------------


async def test_a_malformed_line_costs_one_answer(path):
    """What is no request is refused under its id, and the connection goes on."""
    async with open_node(path), talk(path) as client:
        await client.say(b"nonsense", {"id": 1, "op": "tre"}, {"id": 2, "op": "kill"}, {"id": 3, "op": "info"})
        replies = [await client.hear() for _ in range(4)]
        assert [(reply["id"], reply.get("error", {}).get("code")) for reply in replies] == [
            (None, 2),
            (1, 2),
            (2, 2),
            (3, None),
        ]


async def until_broken(client: Talk, data: bytes) -> None:
    """Send the same again and again until the server has closed the connection."""
    while True:
        try:
            await client.stream.send_all(data)
        except trio.BrokenResourceError:
            return


async def test_an_oversize_line_ends_its_connection_only(path):
    """A line over the cap is told so and cut off; another connection notices nothing."""
    async with open_node(path), talk(path) as other:
        async with talk(path) as client:
            await client.stream.send_all(b"x" * REQUEST_LIMIT)
            await until_broken(client, b"x" * 65536)
            reply = await client.hear()
            assert reply["error"]["why"] == f"a line has more than {REQUEST_LIMIT} bytes"
            assert await client.hear() is None
        assert (await other.ask("info"))["name"] == "test"


async def test_a_request_that_fails_inside_costs_one_answer(path, caplog):
    """Our own mistake while answering is told and logged, and the connection goes on."""

    class Broken:
        @property
        def addresses(self) -> object:
            raise ValueError("odd")

    async with open_node(path) as node, talk(path) as client:
        node.table.services["gateway"] = Broken()
        error = await client.ask("info")
        assert (error["what"], error["why"]) == ("the request failed inside the node", "ValueError: odd")
        assert "an admin request failed" in caplog.text
        assert (await client.ask("ps"))["total"] == len(node.table.processes)


async def leave_at_once(_client: Talk) -> None:
    """Say nothing."""


async def leave_in_a_line(client: Talk) -> None:
    """Half a request."""
    await client.stream.send_all(b'{"id": 1, "op"')


async def leave_before_the_answers(client: Talk) -> None:
    """Many requests whose answers nobody reads."""
    await client.say(*({"id": n, "op": "tree"} for n in range(500)))


async def leave_with_answers_unread(client: Talk) -> None:
    """Answers lie in the socket when it is closed."""
    await client.say(*({"id": n, "op": "tree"} for n in range(20)))
    await client.stream.receive_some(1)


async def leave_in_a_running_line(client: Talk) -> None:
    """A line that waits, and one that is about to answer."""
    await client.say({"id": 1, "op": "eval", "source": "await trio.sleep_forever()"})


async def leave_as_a_line_answers(client: Talk) -> None:
    """A line whose large value meets a closed socket."""
    await client.say({"id": 1, "op": "eval", "source": "await trio.lowlevel.checkpoint()\n'x' * 4000"})


async def leave_after_half_a_close(client: Talk) -> None:
    """No more requests, but still there."""
    await client.say({"id": 1, "op": "info"})
    await client.stream.send_eof()


@pytest.mark.parametrize(
    "leave",
    [
        leave_at_once,
        leave_in_a_line,
        leave_before_the_answers,
        leave_with_answers_unread,
        leave_in_a_running_line,
        leave_as_a_line_answers,
        leave_after_half_a_close,
    ],
)
async def test_a_client_may_go_away_at_any_moment(path, leave, caplog):
    """Whenever a client goes away, and however often, the server goes on, without so much as a warning."""
    async with open_node(path, allow_eval=True) as node:
        server = node.table.names["admin.server"]
        for _ in range(20):
            async with talk(path) as client:
                await leave(client)
        async with talk(path) as client:
            assert (await client.ask("info"))["name"] == "test"
        assert node.table.names["admin.server"] is server
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_client_that_does_not_read_is_cut_off(path, monkeypatch):
    """Whoever asks and never reads is cut off after a while, and holds up nobody else."""
    monkeypatch.setattr(connection, "PATIENCE", 0.05)
    async with open_node(path), talk(path) as client:
        await until_broken(client, b'{"op": "tree"}\n' * 100)
        async with talk(path) as other:
            assert (await other.ask("info"))["name"] == "test"


# -- who is let in -------------------------------------------------------------------------------------


def plug(uid: int, pid: int = 7) -> Any:
    """A stream whose socket says that a user is at the other end."""
    return SimpleNamespace(socket=SimpleNamespace(getsockopt=lambda *_: struct.pack("3i", pid, uid, 0)))


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="this system tells no credentials")
def test_only_the_same_user_and_root_are_let_in(monkeypatch):
    """The operating system says who connects: the node's own user and root pass, nobody else does."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert peer_of(plug(1000)) == Peer(1000, 7)
    assert peer_of(plug(0)) == Peer(0, 7)
    with pytest.raises(Refusal) as caught:
        peer_of(plug(1001))
    assert (caught.value.why, caught.value.code) == ("you are user 1001, the node belongs to user 1000", 5)


async def test_whoever_is_not_let_in_hears_why(path, tmp_path, caplog):
    """A refused peer gets the refusal and no answer to anything; the log has a line."""

    def nobody(_stream: trio.abc.Stream) -> Peer:
        raise Refusal("this node does not talk to you", "you are user 5", "ask as root", 5)

    closed = tmp_path / "closed.sock"
    async with open_node(path) as node:
        door = Door(f"unix:{closed}", node.root, Facts(1, 0.0), admit=nobody)
        await start_child(node.root, child("closed", admin.AdminServer, door))
        async with talk(closed) as client:
            reply = await client.hear()
            assert (reply["id"], reply["error"]["what"]) == (None, "this node does not talk to you")
            assert await client.hear() is None
    assert "an admin connection was refused" in caplog.text


async def test_connections_have_a_limit(path, tmp_path):
    """One connection over the limit is turned away with the reason; when one leaves, the next may come."""
    small = tmp_path / "small.sock"
    async with open_node(path) as node:
        door = Door(f"unix:{small}", node.root, Facts(1, 0.0), limit=2)
        await start_child(node.root, child("small", admin.AdminServer, door))
        async with talk(small) as one, talk(small) as two:
            await one.ask("info")
            await two.ask("info")
            async with talk(small) as three:
                assert (await three.hear())["error"]["why"] == "2 are open"
                assert await three.hear() is None
        await until_listening(small)


# -- the world's failures ------------------------------------------------------------------------------


async def test_a_socket_that_cannot_be_made_is_told_at_the_start(tmp_path):
    """A server that cannot listen does not start, and the starter hears why."""
    with pytest.raises(ChildRefused) as caught:
        async with open_node(tmp_path / "missing" / "n.sock"):
            pass
    assert caught.value.why == "start_failed"
    assert "No such file or directory" in str(caught.value)


class Flaky:
    """A transport whose first tries to accept fail, as they do when file numbers run out."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self._real = RealWorld().transport

    @asynccontextmanager
    async def listen(self, address: str) -> AsyncIterator[Any]:
        async with self._real.listen(address) as listener:
            self._listener = listener
            self.address = listener.address
            yield self

    async def connections(self) -> AsyncIterator[trio.abc.Stream]:
        while self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, "too many open files")
        async for stream in self._listener.connections():
            yield stream


async def test_running_out_of_files_passes(path, monkeypatch, caplog):
    """While the system has no file numbers nobody new comes in; the server waits, and goes on."""
    monkeypatch.setattr(listening, "ACCEPT_PAUSE", 0.001)
    world: Any = RealWorld()
    world.transport = Flaky(3)
    async with open_node(path, world), talk(path) as client:
        assert (await client.ask("info"))["name"] == "test"
    assert caplog.text.count("the admin server cannot accept") == 3


async def test_a_door_that_is_gone_for_good_leaves_the_node_alive(path, tmp_path, caplog):
    """If the server cannot come back, its supervisor gives up in order and the node lives on."""
    folder = tmp_path / "folder"
    folder.mkdir()
    async with open_node(folder / "n.sock") as node:
        for one in list(folder.iterdir()):
            one.unlink()
        folder.rmdir()
        server = node.table.names["admin.server"]
        server.exit_signal(server.pid, "gone")
        while "admin.server" in node.table.names or any(p.label == "admin" for p in node.table.processes.values()):
            await trio.lowlevel.checkpoint()
        assert "till" in node.table.names
        assert node.root._process is not None
