"""The client of the admin protocol: deadlines, late answers, broken connections, and which node is meant."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.observe import client as module
from runtime.observe import protocol
from runtime.observe.client import AdminClient, Running, TimedOut, Unreachable, find_node, nodes
from runtime.observe.places import private_directory, socket_of
from runtime.observe.protocol import Eval, Info, Refusal, Tree


class Peer:
    """The other end, played by the test itself: what a socket holds back needs no second thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.settimeout(10)
        self.listener.bind(str(path))
        self.listener.listen()
        self.taken: list[socket.socket] = []

    def accept(self) -> socket.socket:
        taken, _ = self.listener.accept()
        taken.settimeout(10)
        self.taken.append(taken)
        return taken

    def close(self) -> None:
        for one in [*self.taken, self.listener]:
            one.close()


@pytest.fixture
def peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Peer]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    peer = Peer(socket_of("peer", private_directory()))
    yield peer
    peer.close()


def reply(number: int, **said: object) -> bytes:
    return json.dumps({"id": number, **said}).encode() + b"\n"


def test_a_request_is_a_line_and_its_answer_is_returned(peer):
    """What is sent is one line of JSON; the answer with its number is what comes back."""
    with AdminClient(peer.path) as client:
        number = client.send(Tree(of="till"))
        server = peer.accept()
        assert json.loads(server.recv(1000)) == {"op": "tree", "id": 1, "of": "till"}
        server.sendall(reply(1, ok={"a": 1}))
        assert client.answer(number) == {"a": 1}


def test_an_answer_that_comes_late_is_dropped(peer):
    """After a timeout the next request gets its own answer, not the late one of the last."""
    with AdminClient(peer.path, timeout=0.05) as client:
        with pytest.raises(TimedOut) as caught:
            client.request(Info())
        assert (caught.value.code, caught.value.timeout) == (6, 0.05)
        server = peer.accept()
        server.sendall(reply(1, ok="late") + reply(2, ok="in time"))
        assert client.answer(client.send(Info())) == "in time"


def test_a_refusal_is_raised_with_its_parts(peer):
    """A node's no is an exception with what, why, next and the exit code."""
    with AdminClient(peer.path) as client:
        number = client.send(Eval(source="1"))
        said = {"what": "w", "why": "y", "next": "n", "code": 5}
        peer.accept().sendall(reply(number, error=said))
        with pytest.raises(Refusal) as caught:
            client.answer(number)
        found = caught.value
        assert {"what": found.what, "why": found.why, "next": found.next, "code": found.code} == said


def test_a_refusal_of_the_connection_is_raised_too(peer):
    """A refusal without a number is about the connection, and is what the next answer says."""
    with AdminClient(peer.path) as client:
        said = {"what": "full", "why": "y", "next": "n", "code": 5}
        server = peer.accept()
        server.sendall(json.dumps({"id": None, "error": said}).encode() + b"\n")
        server.close()
        with pytest.raises(Refusal, match="full"):
            client.request(Info())


@pytest.mark.parametrize("before", [b"", b'{"id": 1, "ok"'], ids=["nothing", "half a reply"])
def test_a_broken_connection_is_unreachable(peer, before):
    """A node that goes away in the middle is told with exit code 3."""
    with AdminClient(peer.path) as client:
        number = client.send(Info())
        server = peer.accept()
        server.sendall(before)
        server.close()
        with pytest.raises(Unreachable) as caught:
            client.answer(number)
        assert caught.value.code == 3


def test_what_answers_something_else_is_told(peer):
    """A socket behind which no node sits gives an error, not a traceback."""
    with AdminClient(peer.path) as client:
        client.send(Info())
        peer.accept().sendall(b"220 mail.example ESMTP\n")
        with pytest.raises(Refusal, match="the answer is no reply"):
            client.answer(1)


def test_an_answer_without_end_is_refused(peer, monkeypatch):
    """An answer over the cap is not collected for ever."""
    monkeypatch.setattr(protocol, "REPLY_LIMIT", 1000)
    with AdminClient(peer.path) as client:
        client.send(Info())
        peer.accept().sendall(b"x" * 2000)
        with pytest.raises(Refusal, match="the answer was not read"):
            client.answer(1)


def test_a_request_over_the_cap_is_not_sent(peer):
    """What the node would cut off is refused before it is sent."""
    with AdminClient(peer.path) as client, pytest.raises(Refusal, match="the request was not sent"):
        client.request(Eval(source="x" * protocol.REQUEST_LIMIT))


def test_nobody_at_the_socket_is_unreachable(tmp_path):
    """No socket, or one that nobody listens at, is exit code 3."""
    with pytest.raises(Unreachable):
        AdminClient(tmp_path / "nobody.sock")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "deaf.sock"))
        with pytest.raises(Unreachable) as caught:
            AdminClient(tmp_path / "deaf.sock")
    assert caught.value.code == 3


def test_a_mute_node_is_among_those_that_run(peer, monkeypatch):
    """A node that is too busy to answer is alive: it is listed, without what it did not say."""
    monkeypatch.setattr(module, "LOOK_PATIENCE", 0.05)
    assert nodes() == [Running("peer", peer.path)]
    assert find_node() == Running("peer", peer.path)


def test_a_node_is_found_by_name_without_asking_it(peer, monkeypatch):
    """A name is looked up by its socket alone, so a busy node is found at once."""
    monkeypatch.setattr(module, "LOOK_PATIENCE", 0.05)
    assert find_node("peer") == Running("peer", peer.path)
    with pytest.raises(Unreachable, match="'other' cannot be reached"):
        find_node("other")


def test_a_named_node_that_does_not_run_is_unreachable(tmp_path, monkeypatch):
    """With no node at all, one that is named cannot be reached: exit code 3; the way to start one is told."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    for question in ({"name": "a"}, {"data": "here"}):
        with pytest.raises(Unreachable) as caught:
            find_node(**question)
        assert "banyan start" in caught.value.next
        assert caught.value.code == 3


def test_nothing_running_is_not_found(tmp_path, monkeypatch):
    """With no node at all, and none named, there is none to take: exit code 4."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(Refusal) as caught:
        find_node()
    assert (caught.value.why, caught.value.code) == ("none of yours is running", 4)
    assert "banyan start" in caught.value.next


def test_several_nodes_are_ambiguous(monkeypatch):
    """Where several run and none is named, their names are told; exit code 4."""
    running = [Running("a", Path("a"), 1, "/data/a"), Running("b", Path("b"), 2, "/data/b")]
    monkeypatch.setattr(module, "nodes", lambda: running)
    with pytest.raises(Refusal) as caught:
        find_node()
    assert (caught.value.why, caught.value.code) == ("there are 2: a, b", 4)


def test_a_node_is_found_by_its_data_directory(tmp_path, monkeypatch):
    """The directory may be written in any way that leads to the same place."""
    room = tmp_path / "room"
    room.mkdir()
    (tmp_path / "link").symlink_to(room)
    running = [Running("a", Path("a"), 1, None), Running("b", Path("b"), 2, str(room))]
    monkeypatch.setattr(module, "nodes", lambda: running)
    monkeypatch.chdir(tmp_path)
    for written in ("room", str(room), "./x/../room", "link"):
        assert find_node(data=written) == running[1]
    with pytest.raises(Unreachable, match=r"name a running one: a, b"):
        find_node(data="other")


def test_a_foreign_directory_is_refused_before_anything_is_sent(tmp_path, monkeypatch):
    """A socket in a directory that others may enter is not talked to."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    private_directory()
    os.chmod(tmp_path / "banyan", 0o777)
    for question in ({}, {"name": "a"}, {"data": "here"}):
        with pytest.raises(Refusal, match="others may enter it"):
            find_node(**question)
