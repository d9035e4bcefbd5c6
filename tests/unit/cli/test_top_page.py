"""`banyan top` in front of a node: the page of one process, its past, and that neither shows what is secret."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

pytest.importorskip("textual", reason="textual is not installed: the extra [tui] brings it")

from runtime import CallFailed, call, whereis
from supervisors import terminate_child
from supervisors.cli.top_screens.slider import Slider
from tests.unit.cli.front import Screen, served, watch
from tests.unit.cli.planted import Room
from tests.unit.observe.bank import Bank, Deposit


async def deposits(*amounts: int) -> None:
    """Give an account a past."""
    for amount in amounts:
        await call("account/ann", Deposit(amount))


async def broken() -> None:
    """Have a safe crash."""
    with pytest.raises(CallFailed):
        await call("safe", "break")


@pytest.fixture(scope="module")
def socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of a node with a bank, of which an account has a past and a safe has crashed."""
    with served(tmp_path_factory.mktemp("bank"), Bank) as node:
        node.do(deposits, 5, 7, 9)
        node.do(broken)
        yield node.socket


def test_a_page_joins_what_is_known_of_a_process(socket):
    """State, mailbox, stack, the last events with what each changed, and the journal's position are on one page."""

    async def work(screen: Screen) -> None:
        await screen.until(lambda: screen.text("#events").count("changed:") == 3)
        assert "account/ann  <1." in screen.text("#who")
        assert "journal account/ann at 3" in screen.text("#who")
        assert "total  21" in screen.text("#state")
        assert "0 of 10,000 messages wait" in screen.text("#mailbox")
        assert "\nstack\n" in screen.text("#mailbox")
        newest, _, rest = screen.text("#events").partition("changed: total +9, last +2")
        assert "Deposited(amount=9)" in newest
        assert "changed: total +7, last +2" in rest
        assert "since the node is watched" in screen.text("#crashes")
        parts = ("State", "Mailbox and stack", "Crashes", "live of 3", "total  21")
        await screen.until(lambda: all(part in screen.picture() for part in parts))

    watch(socket, work, of="ann")


def test_a_page_shows_what_waits_and_for_whom(tmp_path):
    """A mailbox shows its messages, the one in hand, and who has sent them; f goes to whom the process waits on."""

    async def work(screen: Screen) -> None:
        await screen.until(lambda: "Deposit(amount=1)" in screen.text("#mailbox"))
        assert "in hand: call Withdraw(table='table/t-042', amount=100)" in screen.text("#mailbox")
        assert "in Wallet.handle_call" in screen.text("#mailbox")
        await screen.press("f")
        await screen.until(lambda: screen.on_page_of("waiting on wallet/p-7"))
        await screen.back(3)
        await screen.press("u")
        await screen.until(lambda: "tests.unit.cli.planted.Room" in screen.text("#who"))
        await screen.press("f")
        await screen.until(lambda: "it waits for nobody's reply" in screen.told())

    with served(tmp_path, Room) as node:
        watch(node.socket, work, of="p-7")


def test_the_slider_goes_through_time_by_keys(socket):
    """Left and right go from entry to entry, Home before the first one, and End back to what is."""

    async def work(screen: Screen) -> None:
        await screen.until(lambda: screen.app.screen.query_one(Slider).last == 3)
        await screen.press("t", "left")
        await screen.until(lambda: "position 2 of 3" in screen.text("#state"))
        assert "changed: total +7, last +2" in screen.text("#state")
        await screen.press("home")
        await screen.until(lambda: "position 0 of 3" in screen.text("#state"))
        assert "total  0" in screen.text("#state")
        await screen.press("left", "right")
        await screen.until(lambda: "position 1 of 3" in screen.text("#state"))
        await screen.press("end")
        await screen.until(lambda: "total  21" in screen.text("#state"))
        assert "position 3\n" in screen.text("#state")

    watch(socket, work, of="account/ann")


def test_the_slider_goes_through_time_by_mouse(socket):
    """A click on the line goes to that position, and l back to what is."""

    async def work(screen: Screen) -> None:
        await screen.until(lambda: "of 3" in screen.picture())
        await screen.pilot.click(Slider, offset=(0, 0))
        await screen.until(lambda: "position 0 of 3" in screen.text("#state"))
        await screen.pilot.click(Slider, offset=(20, 0))
        await screen.until(lambda: "position 1 of 3" in screen.text("#state"))
        await screen.press("l")
        await screen.until(lambda: "total  21" in screen.text("#state"))

    watch(socket, work, of="account/ann")


def test_a_page_follows_its_process_through_a_crash(tmp_path):
    """A page of a name shows the crash, then the restarted process, and no secret of either."""

    async def work(screen: Screen) -> None:
        await screen.until(lambda: "safe  <1." in screen.text("#who"))
        assert "it keeps no journal" in screen.text("#events")
        assert not screen.app.screen.query_one(Slider).display
        before = screen.text("#who")
        node.do(broken)
        await screen.until(lambda: "in Safe.handle_call" in screen.text("#crashes"))
        await screen.until(lambda: "safe  <1." in screen.text("#who") != before)
        assert "ValueError('odd')" in screen.text("#crashes")
        assert "<redacted>" in screen.text("#state")
        assert "4711" not in screen.picture()

    with served(tmp_path, Bank) as node:
        watch(node.socket, work, of="safe")


def test_what_was_seen_of_an_ended_process_stays(tmp_path):
    """When a process is gone for good, a page keeps its last state, and its journal is still read."""

    async def end() -> None:
        bank = whereis("account/ann")
        assert bank is not None
        assert bank._process is not None
        assert bank._process.parent is not None
        await terminate_child(bank._process.parent, "ann")

    async def work(screen: Screen) -> None:
        await screen.until(lambda: "total  5" in screen.text("#state") and "changed" in screen.text("#events"))
        node.do(end)
        await screen.until(lambda: "account/ann is not alive" in screen.text("#who"))
        assert "total  5" in screen.text("#state")
        assert "Deposited" in screen.text("#events")
        await screen.press("t", "home")
        await screen.until(lambda: "its process is not alive" in screen.text("#state"))

    with served(tmp_path, Bank) as node:
        node.do(deposits, 5)
        watch(node.socket, work, of="ann")


def test_a_process_that_is_not_there_is_told(socket):
    """A page of nobody says so, is no trouble with the node, and none of its keys does anything."""

    async def work(screen: Screen) -> None:
        await screen.until(lambda: "nobody is not alive" in screen.text("#who"))
        assert screen.looking.trouble is None
        await screen.press("f", "u", "t", "left", "K")
        await screen.until(lambda: "choose a living process first" in screen.told())

    watch(socket, work, of="nobody")


def test_a_table_shows_no_card_that_is_not_open(tmp_path):
    """The page of a card table in the middle of a hand, now and in its past, shows neither holes nor the board."""
    pytest.importorskip("pokerkit", reason="the extra [game] is not installed")
    from game.app import application

    async def dealt() -> tuple[str, ...]:
        """The cards that nobody may see: of each hand the two together, and each two neighbours of the board."""
        table = whereis("table/oak")
        assert table is not None
        assert table._process is not None
        deal = table._process.behaviour.state().hand
        return (*deal.holes, *map("', '".join, pairwise(deal.board)), *map("".join, pairwise(deal.board)))

    async def work(screen: Screen) -> None:
        await screen.until(lambda: "HandDealt(" in screen.text("#events") and "changed:" in screen.text("#events"))
        await screen.until(lambda: "holes=<redacted>, board=<redacted>" in screen.text("#state"))
        hidden = node.do(dealt)
        assert len(hidden) == 2 + 4 + 4
        await screen.press("t", "left", "right")
        await screen.until(lambda: "HandDealt(" in screen.text("#state"))
        frames = [screen.text(one) for one in ("#who", "#state", "#mailbox", "#events", "#crashes")]
        assert [cards for cards in hidden for frame in frames if cards in frame] == []

    # Its bots think for so long that the first hand is still running.
    room = application({"tables": "1", "seats": "3", "think": "600", "turn": "0"})
    with served(tmp_path, room) as node:
        watch(node.socket, work, of="table/oak")
