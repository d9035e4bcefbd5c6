"""The log of `banyan start`: each line bound to node, process and message, and nothing in it that a terminal obeys."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from runtime import GenServer, call, start
from runtime.durable.commands import Numbered
from supervisors import Node
from supervisors.cli.logs import set_up_logging

host = logging.getLogger("shop.till")


class Till(GenServer):
    """Writes a line by each way that an application may have."""

    def handle_call(self, request: Any, caller: Any) -> None:
        host.warning("standard")
        structlog.get_logger("shop.till").warning("structured", amount=5)
        host.warning("its own", extra={"name_": "x", "message_id": "mine"})


class Screen(io.StringIO):
    """A stream that may be a terminal."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Put back what the set-up changes for the whole program."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in ("banyan", "shop")}
    yield
    root.handlers[:], root.level = handlers, level
    for name, one in levels.items():
        logging.getLogger(name).setLevel(one)
    structlog.reset_defaults()


async def lines(monkeypatch: pytest.MonkeyPatch, *, terminal: bool, name: str = "till", sender: str = "ann") -> str:
    """What is logged while a till handles a numbered command."""
    screen = Screen(terminal)
    monkeypatch.setattr(sys, "stderr", screen)
    set_up_logging("info", "shop")
    async with Node("room-1"):
        pid = await start(Till, name=name)
        host.warning("host")
        await call(pid, Numbered(sender, 3, "secret"))
    return screen.getvalue()


async def test_each_line_says_whose_it_is(monkeypatch, autojump_clock):
    """By logging and by structlog alike: node, pid, name, message and its id; what a line says itself goes before."""
    said = [json.loads(line) for line in (await lines(monkeypatch, terminal=False)).splitlines()]
    by_event = {one["event"]: one for one in reversed(said)}
    assert by_event["host"]["node"] == "room-1"
    assert "pid" not in by_event["host"]
    for event in ("standard", "structured"):
        one = by_event[event]
        assert (one["node"], one["name"], one["message"], one["message_id"]) == ("room-1", "till", "str", "ann#3")
        assert one["pid"].startswith("<1.")
    assert by_event["structured"]["amount"] == 5
    assert by_event["its own"]["message_id"] == "mine"
    assert "secret" not in json.dumps(said)


async def test_a_terminal_obeys_nothing_of_it(monkeypatch, autojump_clock):
    """Names and ids may come from players: what a terminal would obey is spelled out, unless it is the colours'."""
    monkeypatch.setenv("NO_COLOR", "1")
    text = await lines(monkeypatch, terminal=True, name="till\x1b[2J", sender="ann\x07")
    assert "till\\x1b[2J" in text
    assert "ann\\x07#3" in text
    assert not any(one in text for one in ("\x1b", "\x07"))
