"""No view shows a hole card of a running hand, or a card that is still to come: every query, over a live room."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest
import trio

from game.app import application
from game.deal import Deal
from game.hand import Action, Hand
from game.messages import Acted, HandDealt, HandEnded
from game.table import Table
from runtime.observe import past
from runtime.observe.answers import Answers
from runtime.observe.door import Door
from runtime.observe.facts import Facts
from runtime.observe.protocol import OPERATIONS, Request
from runtime.observe.recorder import recorder_of
from supervisors import Node
from supervisors.node.steering import ShardSteering

pytest.importorskip("pokerkit", reason="the extra [game] is not installed")

# Not asked here: these change the room, end it, or run code, which may see everything.
ACTS = {"kill", "suspend", "resume", "restart", "stop", "record", "eval", "interrupt", "complete", "replay", "drop"}
ACTS |= {"move", "abort", "drain", "adopt", "rebalance"}
# And this has nothing to show here.
ACTS |= {"poisoned"}
OF_ONE = ("state", "mailbox", "stack", "info", "timers", "crashes")


class Dealt:
    """What is hidden at each table: the cards of hands that are dealt and have not ended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hidden: dict[str, tuple[str, ...]] = {}
        # The boards of those hands, with how many actions there were.
        self.boards: dict[str, tuple[Deal, list[Action]]] = {}
        # What ended hands have opened: by chance the same cards lie together again.
        self.open: set[str] = set()
        self.hands = 0
        apply = Table.apply
        dealt = self

        def watched(self: Table, state: Any, event: Any) -> Any:
            found = apply(self, state, event)
            if hasattr(self, "_given"):  # a living table, not a look into its past
                match event:
                    case HandDealt(deal=deal):
                        dealt.hidden[self.key] = deal.holes
                        dealt.boards[self.key] = (deal, [])
                        dealt.hands += 1
                    case Acted(action=action):
                        dealt.boards[self.key][1].append(action)
                    case HandEnded(result=result):
                        dealt.boards.pop(self.key, None)
                        dealt.open |= {*result.holes, *map(as_shown, pairwise(result.board))}
                        dealt.hidden.pop(self.key, None)
            return found

        monkeypatch.setattr(Table, "apply", watched)

    def check(self, answer: object, what: object) -> None:
        """Fail if a hole of a running hand stands in an answer."""
        text = msgspec.json.encode(answer).decode()
        for table, holes in self.hidden.items():
            for hole in holes:
                for form in {hole, f"{hole[:2]} {hole[2:]}", as_shown((hole[:2], hole[2:]))} - self.open:
                    assert hole in self.open or form not in text, (what, table)
        for table, (deal, actions) in self.boards.items():
            shown = len(Hand(deal, actions).view(None).board)
            for pair in pairwise(deal.board[max(0, shown - 1) :]):
                assert as_shown(pair) in self.open or as_shown(pair) not in text, (what, table)


def as_shown(pair: tuple[str, str]) -> str:
    """Two cards as they stand in the repr of a tuple, with all their quotes.

    The holes that an ended hand has opened stand side by side, as in ('KcJd', '2h7d'); that is no Jd with a 2h.
    """
    return "'" + "', '".join(pair) + "'"


async def ask_all(answers: Answers, node: Node, dealt: Dealt) -> None:
    """Every query of the protocol, of every process that it may be asked of."""
    everybody = [repr(process.pid) for process in node.table.processes.values()]
    for op, kind in OPERATIONS.items():
        if op in ACTS:
            continue
        asked: list[Request] = []
        match op:
            case "trace":
                asked = [kind(of=["table/*", "wallet/*", "lobby"], messages=5, seconds=0.5)]
            case "log" | "at":
                asked = [kind(of=key) for key in past.store(node.table, limit=1000).shown]
            case _ if op in OF_ONE:
                asked = [kind(of=one) for one in everybody]
            case _:
                asked = [kind()]
        for one in asked:
            of: Any = getattr(one, "of", None)
            if of in everybody and has_ended(node, of):
                continue
            request: Any = one
            dealt.check(await answers.answer(request), one)


def has_ended(node: Node, pid: str) -> bool:
    """Whether a process has ended since it was listed."""
    return all(repr(process.pid) != pid for process in node.table.processes.values())


async def test_no_query_shows_a_hole_card_of_a_running_hand(autojump_clock, monkeypatch):
    """Whatever is asked of whomever, while hands are played, tables crash and messages are kept."""
    dealt = Dealt(monkeypatch)
    async with Node("test", data=":memory:") as node:
        await recorder_of(node.table).keep(20)
        await node.ensure_all_started(application({"tables": "2", "think": "0.2", "pause": "0.1"}))
        server = node.table.names["lobby"]
        steering = ShardSteering(node.table)
        answers = Answers(Door("unix:nowhere", node.root, Facts(1, 0.0), steering=steering), server)
        seen = 0
        for round_ in range(12):
            await trio.sleep(0.31)
            seen += bool(dealt.hidden)
            await ask_all(answers, node, dealt)
            if round_ % 4 == 3:
                node.table.names["table/oak"].exit_signal(node.root, "planted")
                await trio.sleep(0.05)
        assert seen > 3
        assert dealt.hands > 3
        assert recorder_of(node.table).crashed >= 2


async def test_the_check_itself_finds_a_card(monkeypatch):
    """The test above would notice: a hole that stands in an answer fails it."""
    dealt = Dealt(monkeypatch)
    dealt.hidden["oak"] = ("AsKd",)
    for answer in ({"x": "holes=('AsKd',)"}, ["As Kd"], "('As', 'Kd')"):
        with pytest.raises(AssertionError):
            dealt.check(answer, "")
    dealt.check({"board": "As, 2c"}, "")
