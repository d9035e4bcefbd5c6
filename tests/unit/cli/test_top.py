"""`banyan top` in front of a node: its first screen, and what it does when the node is gone, held or of odd size."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("textual", reason="textual is not installed: the extra [tui] brings it")

from textual.widgets import TabbedContent

from runtime import CallFailed, call
from runtime.observe.queries import Gauge, TreeNode
from supervisors.cli.top_screens.looking import folded
from supervisors.cli.top_screens.table import ProcessTable
from supervisors.cli.top_screens.tree import SHOWN, TreeView, gauge
from tests.unit.cli.front import Screen, served, watch
from tests.unit.cli.running import Place
from tests.unit.observe.bank import Bank, Deposit

# What an exported picture has around it, whatever is in it: its three buttons and its title.
FRAME = {"ff5f57", "febc2e", "28c840", "c5c8c6"}


async def evening() -> None:
    """Give an account a past, and have a safe crash."""
    for amount in (5, 7, 9):
        await call("account/ann", Deposit(amount))
    with pytest.raises(CallFailed):
        await call("safe", "break")


@pytest.fixture(scope="module")
def socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of a node with a bank, of which an account has a past and a safe has crashed."""
    with served(tmp_path_factory.mktemp("bank"), Bank) as node:
        node.do(evening)
        yield node.socket


# -- the table -------------------------------------------------------------------------------------------


def test_the_table_is_sorted_by_keys_and_mouse(socket):
    """s sorts by the next column, a click on a title by that one, w takes a window, and the table says so."""

    async def work(screen: Screen) -> None:
        await screen.until(lambda: len(screen.table()) >= 10)
        assert "one  up" in screen.text("#status")
        await screen.until(lambda: "MAILBOX▾" in screen.picture())
        await screen.press("s")
        await screen.until(lambda: "by oldest" in screen.text("#status"))
        # The second column begins behind the first, whose cells have a blank on either side.
        await screen.pilot.click(ProcessTable, offset=(10, 0))
        await screen.until(lambda: screen.table()[0][1] == "account/ann")
        assert "by name" in screen.text("#status")
        await screen.until(lambda: "NAME▾" in screen.picture())
        await screen.press("w")
        await screen.until(lambda: "what changed in 1 s" in screen.text("#status"))
        await screen.press("w", "w", "w")
        await screen.until(lambda: "what changed" not in screen.text("#status"))

    watch(socket, work)


def test_a_window_shows_what_has_changed(socket):
    """With a window the turns and the mailbox are shown as what they have changed by."""

    async def work(screen: Screen) -> None:
        await screen.until(lambda: screen.table() and screen.table()[0][6].startswith("+"))
        assert screen.table()[0][3].endswith("(+0)")

    watch(socket, work, window=0.01, sort="pid")


def test_a_click_opens_a_tab_and_a_process(socket):
    """The mouse does what the keys do: it opens tabs, chooses rows, and a chosen row opens its page."""

    async def work(screen: Screen) -> None:
        await screen.until(lambda: len(screen.table()) >= 10)
        await screen.pilot.click("#--content-tab-tree")
        await screen.until(lambda: len(screen.tree()) > 5)
        await screen.press("1")
        await screen.until(lambda: screen.app.screen.query_one(TabbedContent).active == "processes")
        await screen.pilot.click(ProcessTable, offset=(3, 1))
        await screen.until(lambda: screen.on_page_of("<1.1>"))
        await screen.back(2)
        assert screen.app.screen.query_one(TabbedContent).active == "processes"

    watch(socket, work, sort="pid")


def test_a_name_that_is_typed_fast_opens_its_page(socket):
    """What is typed behind g goes into the field, also when the keys come at once; Escape leaves it."""

    async def work(screen: Screen) -> None:
        await screen.until(screen.table)
        await screen.press("1", "g", *"ann", "enter")
        await screen.until(lambda: screen.on_page_of("account/ann"))
        await screen.back(2)
        await screen.press("g", "x", "escape")
        await screen.until(lambda: not screen.app.screen.query_one("#find").display)

    watch(socket, work)


def test_a_paused_screen_stays_as_it_is(socket):
    """p keeps what is seen and says so, and p goes on."""

    async def work(screen: Screen) -> None:
        await screen.until(screen.table)
        await screen.press("p")
        await screen.until(lambda: screen.text("#status").endswith("paused"))
        await screen.press("p")
        await screen.until(lambda: "paused" not in screen.text("#status"))

    watch(socket, work)


# -- the other tabs --------------------------------------------------------------------------------------


def test_the_tree_has_gauges_and_opens_pages(socket):
    """The tree shows each supervisor's restarts against what it bears; Enter opens the page of a line."""

    async def work(screen: Screen) -> None:
        await screen.press("2")
        await screen.until(lambda: len(screen.tree()) > 5)
        (bank,) = [line for line in screen.tree() if line.startswith("Bank")]
        assert "one_for_one" in bank
        assert "/3 in 5 s" in bank
        assert any(line.startswith("account/ann") and line.endswith("seq 3") for line in screen.tree())
        await screen.press("down", "enter")
        await screen.until(lambda: screen.on_page_of("<1.2>"))

    watch(socket, work)


def test_crashes_stalls_and_findings_have_tabs(socket):
    """The crash of a process is told with its state and where it was raised; nothing secret is among it."""

    async def work(screen: Screen) -> None:
        await screen.press("4")
        await screen.until(lambda: "ValueError('odd')" in screen.text("#crash-lines"))
        assert "in Safe.handle_call" in screen.text("#crash-lines")
        assert "4711" not in screen.text("#crash-lines")
        await screen.press("3")
        await screen.until(lambda: "safe" in screen.text("#findings"))
        await screen.press("5")
        await screen.until(lambda: screen.text("#stall-lines"))

    watch(socket, work)


# -- a narrow screen, a node that goes away --------------------------------------------------------------


def test_a_small_screen_shows_lines_to_their_end(socket):
    """In 80 columns a long line goes on below, and z gives one frame all the room until Escape."""

    async def work(screen: Screen) -> None:
        await screen.until(lambda: "changed:" in screen.text("#events"))
        await screen.until(lambda: "Crashes" in screen.picture())
        assert all(len(line) <= 80 for line in screen.lines())
        await screen.press("z")
        await screen.until(lambda: "Crashes" not in screen.picture() and "total  21" in screen.picture())
        await screen.press("escape")
        await screen.until(lambda: "Crashes" in screen.picture())
        assert len(screen.app.screen_stack) == 3

    watch(socket, work, of="ann", size=(80, 24))


def test_no_color_means_none(socket, monkeypatch):
    """Under NO_COLOR all that is drawn is grey, and says as much as in colour."""
    monkeypatch.setenv("NO_COLOR", "1")

    async def work(screen: Screen) -> None:
        await screen.until(lambda: "account/ann" in screen.picture())
        colours = set(re.findall(r'fill[:=] *"?#(\w{6})', screen.app.export_screenshot()))
        assert {one for one in colours if len({one[:2], one[2:4], one[4:]}) > 1} <= FRAME

    watch(socket, work)


@pytest.mark.slow
@pytest.mark.processes
def test_a_node_that_was_killed_is_found_again(tmp_path):
    """After SIGKILL the screen says what is wrong and keeps what it has; it goes on when the node is back."""
    place = Place(tmp_path)

    async def work(screen: Screen) -> None:
        await screen.until(screen.table)
        before = screen.looking.node["pid"]
        node.signal(signal.SIGKILL)
        node.end()
        await screen.until(lambda: screen.looking.trouble is not None)
        await screen.until(lambda: "Trying again" in screen.text("#status"))
        assert screen.table()
        with place.node("shop:Shop", "--name", "one") as again:
            await screen.until(lambda: screen.looking.trouble is None)
            assert screen.looking.node["pid"] == again.process.pid != before
            await screen.open("till")
            await screen.until(lambda: "count  0" in screen.text("#state"))

    with place.node("shop:Shop", "--name", "one") as node:
        watch(node.socket, work)


@pytest.mark.slow
@pytest.mark.processes
def test_a_node_that_is_held_up_says_by_whom(tmp_path):
    """While a process computes without ever waiting, the status line names it, told by the back door."""

    async def work(screen: Screen) -> None:
        await screen.until(lambda: "its loop is held by" in screen.text("#status"))
        assert "Hog" in screen.text("#status")

    with Place(tmp_path).node("shop:Hogs", "--name", "one", "--preempt", "off") as node:
        watch(node.socket, work, timeout=0.5)


# -- its parts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("used", "intensity", "shown"),
    [
        (0, 3, "▱▱▱ 0/3 in 5 s"),
        (1, 3, "▰▱▱ 1/3 in 5 s"),
        (3, 3, "▰▰▰ 3/3 in 5 s"),
        (1, 1000, "▰▱▱▱▱▱▱▱▱▱ 1/1000 in 5 s"),
        (0, 0, "▱ 0/0 in 5 s"),
    ],
)
def test_a_gauge_shows_the_first_restart_and_the_last(used, intensity, shown):
    """One restart of many is seen, and a full gauge is full."""
    assert str(gauge(Gauge(used, intensity, 5.0))) == shown


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("", [""]),
        ("  a  b", ["  a  b"]),
        ("  one two three", ["  one two", "    three"]),
        ("x" * 25, ["x" * 10, "  " + "x" * 8, "  " + "x" * 7]),
        (" " * 8 + "one two", ["one two"]),
    ],
)
def test_a_long_line_goes_on_a_little_further_in(line, shown):
    """What does not fit stands below, two further in than its line begins, and no part of it is lost."""
    assert folded(line, 10) == shown


def test_a_tree_of_many_is_cut(socket):
    """A supervisor's first children are shown and the others counted, also when the tree has changed."""

    def many(count: int) -> TreeNode:
        children = tuple(TreeNode(f"<1.{n}>", f"p[b]{n}", "worker", "running") for n in range(count))
        return TreeNode("<1.0>", "top", "supervisor", "running", "one_for_one", Gauge(0, 1, 5.0), children)

    async def work(screen: Screen) -> None:
        tree = TreeView(id="other")
        await screen.app.screen.mount(tree)
        for count, last in ((SHOWN + 5, "... and 5 more"), (SHOWN + 7, "... and 7 more"), (3, "p[b]2  <1.2>  running")):
            tree.tell(many(count))
            assert str(tree.root.children[-1].label) == last
            assert len(tree.root.children) == min(count, SHOWN + 1)

    watch(socket, work)
