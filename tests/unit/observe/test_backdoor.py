"""The back door: it answers from a thread, tells stacks without values, and refuses as the front door does."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

import pytest
import trio

from runtime.observe import backdoor
from runtime.observe.client import AdminClient
from runtime.observe.protocol import Break, Info, Level, Refusal, Request, Stacks
from tests.unit.observe.talk import open_node


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "n.sock"


async def ask(path: Path, request: Request) -> object:
    """Ask the back door from a thread of its own, as a command would; its refusal is raised."""

    def one() -> object:
        with AdminClient(path.with_suffix(".oob")) as client:
            return client.request(request)

    return await trio.to_thread.run_sync(one)


async def test_the_stacks_of_all_threads_are_told(path):
    """Each thread has its name and its calls; the loop's is first; no value of a variable is there."""
    hidden = "9999-" + "secret"
    async with open_node(path):
        told = await ask(path, Stacks())
    assert isinstance(told, dict)
    first, *others = told["threads"]
    assert (first["name"], first["loop"], any(one["loop"] for one in others)) == ("MainThread", True, False)
    assert any(frame["function"] == "BackDoor.look" for one in others for frame in one["stack"])
    assert hidden not in str(told)


async def test_only_the_owner_can_reach_it_and_it_goes_with_its_node(path):
    """The socket is 0600, and gone when the node has ended."""
    back = path.with_suffix(".oob")
    async with open_node(path):
        assert back.stat().st_mode & 0o777 == 0o600
    assert not back.exists()


async def test_an_interrupt_is_the_hosts_to_do(path, caplog):
    """What the host says it has interrupted is told; without a host's way it is refused; both are in the audit log."""
    caplog.set_level(logging.INFO, "banyan.audit")
    async with open_node(path, interrupt=lambda: "<1.9> hog"):
        assert await ask(path, Break()) == {"interrupted": "<1.9> hog"}
    for options, code in (({"interrupt": lambda: None}, 4), ({}, 5), ({"level": Level.TRACE}, 5)):
        async with open_node(path, **options):
            with pytest.raises(Refusal) as caught:
                await ask(path, Break())
            assert caught.value.code == code
    lines = [record.getMessage().partition(": ")[2] for record in caplog.records if record.name == "banyan.audit"]
    assert lines == ["interrupt", "interrupt", "interrupt", "refused: interrupt"]


async def test_it_answers_its_own_requests_only(path):
    """Whatever else is asked is one refusal, with what there is."""
    async with open_node(path):
        with pytest.raises(Refusal) as caught:
            await ask(path, Info())
    assert (caught.value.code, caught.value.why) == (2, "there are: stacks, interrupt")


async def test_a_bad_client_costs_nobody_else(path, caplog):
    """Nonsense, too long a line, a client that leaves at once, or in the middle: the next one is answered."""

    def bother() -> None:
        for data in (b"", b"nonsense\n", b'{"op"', b"x" * 10_000, b"\xff\n" * 100):
            with socket.socket(socket.AF_UNIX) as plug:
                plug.connect(str(path.with_suffix(".oob")))
                plug.sendall(data)

    async with open_node(path):
        await trio.to_thread.run_sync(bother)
        assert isinstance(await ask(path, Stacks()), dict)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_stranger_is_turned_away(path, monkeypatch, caplog):
    """Who is not let in hears why, and is cut off."""

    def nobody(_plug: socket.socket) -> None:
        raise Refusal("this node does not talk to you", "you are user 5", "ask as root", 5)

    monkeypatch.setattr(backdoor, "peer_of_socket", nobody)
    async with open_node(path):
        with pytest.raises(Refusal) as caught:
            await ask(path, Stacks())
    assert caught.value.what == "this node does not talk to you"


async def test_a_door_that_cannot_be_made_costs_the_door_only(path, caplog):
    """Where the back door's socket cannot be made, the node lives and the log says so."""
    path.with_suffix(".oob").mkdir()
    async with open_node(path) as node:
        assert "admin.server" in node.table.names
    assert "cannot be opened" in caplog.text
