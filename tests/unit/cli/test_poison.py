"""`banyan poison` and `banyan start --metrics` with a real node: what is said, and the exit codes."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator

import pytest

from tests.unit.cli.running import LIMIT, Place, Running

pytestmark = pytest.mark.processes

BREAK = """
import trio
from runtime import CalleeExited
from runtime.durable.commands import Numbered
from tests.unit.observe.bank import Break
for _ in range(3):
    try:
        await call('account/ann', Numbered('bob', 1, Break('hello')))
    except CalleeExited:
        while whereis('account/ann') is None:
            await trio.sleep(0)

"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("place"))


@pytest.fixture(scope="module")
def node(place: Place) -> Iterator[Running]:
    """A node whose bank has a command set aside, and which shows its figures."""
    options = ("--name", "one", "--data", "store", "--allow-eval", "--metrics", "127.0.0.1:0")
    with place.node("tests.unit.observe.bank:Bank", *options) as node:
        ended = place.run("eval", BREAK)
        assert ended.returncode == 0, ended.stderr + ended.stdout
        yield node


@pytest.mark.slow
def test_a_command_that_was_set_aside_is_found_and_replayed(place, node):
    """It is listed, shown with what it met, replayed when its class is mended; each refusal has its exit code."""
    (one,) = place.json("poison")["commands"]
    assert (one["key"], one["sender"], one["number"], one["crashes"]) == ("account/ann", "bob", 1, 3)
    position = str(one["position"])
    listed = place.run("poison").stdout
    assert "bob #1" in listed
    assert "Break(note='hello')" in listed
    assert place.json("poison", "show", position)["fields"] == {"total": "0", "last": "0"}
    shown = place.run("poison", "show", position).stdout
    assert "ArithmeticError: odd" in shown
    assert "banyan poison" in place.run("doctor").stdout
    assert place.run("eval", "from tests.unit.observe.bank import Account\nAccount.mended = True").returncode == 0
    assert place.json("poison", "replay", position) == {"position": int(position), "key": "account/ann", "reply": "7"}
    assert place.run("poison").stdout == "no command is set aside\n"
    assert [one["closed"] for one in place.json("poison", "--closed")["commands"]] == ["replayed"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("show", "99"), 4),
        (("replay", "99"), 4),
        (("drop", "99"), 4),
        (("drop", "1", "--relaxed"), 4),
        (("show",), 2),
        (("list", "3"), 2),
        (("show", "0"), 2),
        (("nonsense",), 2),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, tuple) else str(one),
)
def test_what_is_not_there_says_so(place, node, arguments, code):
    """A number that the list has not, and wrong usage, have their exit codes; stdout stays empty."""
    ended = place.run("poison", *arguments)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert ended.stderr


def test_the_figures_are_served_where_the_log_says(place, node):
    """A scraper finds the node's figures at the address in its log."""
    pytest.importorskip("prometheus_client", reason="the extra [metrics] is not installed")
    found = re.search(r"figures for Prometheus at (http://127\.0\.0\.1:\d+/metrics)", node.log)
    assert found is not None
    with urllib.request.urlopen(found[1], timeout=LIMIT) as answer:
        text = answer.read().decode()
    assert 'banyan_node_info{name="one"' in text
    assert "\nbanyan_commands_set_aside_total 1.0\n" in text
    assert place.json("config")["metrics"] == "127.0.0.1:0"


def test_figures_beyond_this_machine_must_be_meant(place):
    """Without --metrics-remote such an address is wrong usage, and nothing runs."""
    pytest.importorskip("prometheus_client", reason="the extra [metrics] is not installed")
    ended = place.run("start", "shop:Shop", "--name", "two", "--metrics", "0.0.0.0:0")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "--metrics-remote" in ended.stderr
