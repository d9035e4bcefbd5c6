"""`banyan up`: what it says while its nodes have not joined, and how they end. None of them is started here."""

from __future__ import annotations

import logging
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
import trio

from runtime.kernel.exits import SHUTDOWN, ProcessExit
from runtime.observe.protocol import Code, Nodes, Refusal, Request
from supervisors.cli import up
from supervisors.cli.up import Berth, Fleet, missing

Answers = dict[str, tuple[list[dict[str, Any]], dict[str, Any]]]


def node(name: str, *, linked: bool = True, lease: str = "up") -> dict[str, Any]:
    """A node, as another tells of it."""
    return {"name": name, "linked": linked, "lease": lease}


def told(owners: list[str | None], served: int) -> dict[str, Any]:
    """What a node tells of shards."""
    rows = [{"shard": number, "owner": owner} for number, owner in enumerate(owners)]
    owned = sum(owner is not None for owner in owners)
    return {"total": len(owners), "owned": owned, "served": served, "shards": rows}


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """What nodes answer, by name; those that are not here do not."""
    found: Answers = {}

    class Client:
        def __init__(self, path: Path) -> None:
            self.name = path.name

        def __enter__(self) -> Client:
            if self.name not in found:
                raise Refusal(f"cannot reach the node at {self.name}", "it is not there", "start it", Code.UNREACHABLE)
            return self

        def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
            pass

        def request(self, request: Request) -> Any:
            nodes, shards = found[self.name]
            return {"nodes": nodes} if isinstance(request, Nodes) else shards

    monkeypatch.setattr(up, "AdminClient", Client)
    return found


BOTH = [node("ca-1"), node("ca-2")]
SOCKETS = [("ca-1", "ca-1"), ("ca-2", "ca-2")]


@pytest.mark.parametrize(
    ("nodes", "owners", "served", "says"),
    [
        (BOTH, ["ca-1", "ca-2"], 1, ""),
        ([BOTH[0], node("ca-2", linked=False)], ["ca-1", "ca-2"], 1, "ca-1 is not linked with ca-2"),
        (
            [*BOTH, node("ca-3", linked=False, lease="left"), node("ca-4", linked=False, lease="down")],
            ["ca-1", "ca-2", "ca-3", "ca-3", "ca-4"],
            1,
            "3 of 5 shards wait: 2 shards for ca-3, which has left; 1 shard for ca-4, which is down: "
            "start it on its data",
        ),
        (BOTH, ["ca-1", "ca-2", None, None], 1, "2 shards of 4 not claimed yet"),
        (BOTH, ["ca-1", "ca-2", "ca-2", "ca-2"], 1, "2 shards of 4 not served yet"),
    ],
)
def test_what_is_missing_is_told(
    answers: Answers, nodes: list[dict[str, Any]], owners: list[str | None], served: int, says: str
) -> None:
    """What keeps nodes from having joined: a link, who has left with its data, who serves nothing yet."""
    for name, _ in SOCKETS:
        answers[name] = (nodes, told(owners, served))
    assert missing(SOCKETS) == says


def test_a_node_that_does_not_answer_is_told(answers: Answers) -> None:
    """With the reason."""
    answers["ca-1"] = (BOTH, told(["ca-1", "ca-2"], 1))
    assert missing(SOCKETS) == "ca-2: cannot reach the node at ca-2; it is not there"


async def test_waiting_for_long_is_told_once(
    answers: Answers,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On stderr, each reason once; and when all have joined, that is said as ever."""
    monkeypatch.setattr(up, "LONG_SECONDS", 0.0)
    monkeypatch.setattr(up, "LOOK_SECONDS", 0.0)
    fleet = Fleet([Berth(name, ()) for name, _ in SOCKETS], 1.0)

    async def until(says: str) -> None:
        while says not in caplog.text + capsys.readouterr().out:  # what is logged rings no bell
            await trio.lowlevel.checkpoint()

    with caplog.at_level(logging.WARNING, "banyan"):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fleet.announce)
            await until("ca-1, ca-2 are not ready")
            fleet._ready["ca-1"] = "ca-1"
            await until("ca-2 is not ready")
            fleet._ready["ca-2"] = "ca-2"
            await until("cannot reach the node at ca-1")
            gone = [*BOTH, node("ca-3", linked=False, lease="left")]
            for name, _ in SOCKETS:
                answers[name] = (gone, told(["ca-1", "ca-2", "ca-3"], 1))
            await until("1 of 3 shards wait: 1 shard for ca-3, which has left: start it on its data")
            for name, _ in SOCKETS:
                answers[name] = (BOTH, told(["ca-1", "ca-2"], 1))
            await until("joined ca-1 ca-2\n")
            nursery.cancel_scope.cancel()
    texts = [record.getMessage().partition(" s: ")[2] for record in caplog.records]
    assert len(texts) == len(set(texts))


class Program:
    """One that ends by itself, and says nothing."""

    stdout = None

    async def wait(self) -> int:
        return 0

    def poll(self) -> int:
        return 0

    def terminate(self) -> None:
        pass


async def test_a_node_that_ends_first_as_all_stop_ends_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does what it was told before its supervisor comes to it: its end is that of a child that was shut down."""

    async def opened(*_: Any, **__: Any) -> Program:
        return Program()

    async def nothing(*_: Any) -> None:
        pass

    monkeypatch.setattr(trio.lowlevel, "open_process", opened)
    monkeypatch.setattr(Fleet, "_pass_on", nothing)
    fleet = Fleet([Berth("ca-1", ())], 1.0)
    fleet._stopping = True
    with pytest.raises(ProcessExit) as ended:
        await fleet.keep(fleet.berths[0])
    assert ended.value.reason is SHUTDOWN
    assert fleet.failure is None
