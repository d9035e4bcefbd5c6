"""How a replay has shards moved: asked of any node, as many at a time as it may be, until so many have gone."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from game import replay_moves
from game.replay_moves import AT_ONCE, LOST, Movement
from runtime.observe.client import TimedOut, Unreachable
from runtime.observe.protocol import Code, Move, Moves, Refusal, Request

NODES = ("north", "south")


class Fleet:
    """The nodes of a replay, as far as who moves shards wants to know."""

    def __init__(self) -> None:
        self.ready = {name: (0, name) for name in NODES}


class Client:
    """A connection to a node that answers as the test says."""

    # By move: its phase; moves that a node does not know are not here.
    phases: dict[str, str] = {}  # noqa: RUF012  # each test has its own, by the fixture
    asked: list[Request] = []  # noqa: RUF012  # likewise
    answers: list[Any] = []  # noqa: RUF012  # what is answered before all else

    def __init__(self, _path: object) -> None:
        self._waiting: Request | None = None

    def send(self, request: Request) -> int:
        self.asked.append(request)
        self._waiting = request
        return len(self.asked)

    def answer(self, number: int, *, timeout: float) -> Any:
        assert (number, timeout) == (len(self.asked), 0.0)
        if self.answers:
            raise self.answers.pop(0)
        if isinstance(self._waiting, Moves):
            return {"moves": [{"id": move, "phase": phase} for move, phase in self.phases.items()]}
        move = f"m{number}"
        self.phases[move] = "copying"
        return {"move": move}

    def close(self) -> None:
        self._waiting = None


@pytest.fixture
def movement(monkeypatch: pytest.MonkeyPatch) -> Movement:
    """Six moves, one after each hand."""
    for name in ("phases", "asked", "answers"):
        monkeypatch.setattr(Client, name, type(getattr(Client, name))())
    monkeypatch.setattr(replay_moves, "AdminClient", Client)
    return Movement(Fleet(), {3, 5}, range(1, 7), random.Random(1))  # type: ignore[arg-type]  # nobody else is asked


# Between two steps a second goes by.
seconds = map(float, itertools.count())


def moves() -> list[Move]:
    return [one for one in Client.asked if isinstance(one, Move)]


def test_moves_are_asked_for_when_they_are_due(movement: Movement) -> None:
    """None before its hand, no more than may be at a time; one that was void is asked for again; then all are done."""
    for _ in range(4):
        movement.step(0, next(seconds))
    assert Client.asked == []
    for _ in range(20):
        movement.step(6, next(seconds))
    assert len(moves()) == AT_ONCE
    assert {(one.shard, one.node) for one in moves()} <= {(shard, name) for shard in (3, 5) for name in NODES}
    assert movement.nodes == sorted({one.node for one in moves()})
    Client.phases.update(dict.fromkeys(Client.phases, "retired"))
    for move in list(Client.phases)[:1]:
        Client.phases[move] = "void"
    for _ in range(20):
        movement.step(6, next(seconds))
    assert movement.done == AT_ONCE - 1
    Client.phases.update(dict.fromkeys(Client.phases, "own"))
    for _ in range(40):
        movement.step(6, next(seconds))
        Client.phases.update(dict.fromkeys(Client.phases, "own"))
    assert (movement.done, movement.over, movement.nodes) == (6, True, [])
    assert len(moves()) == 7


def test_what_a_node_does_not_answer_is_asked_of_another(movement: Movement) -> None:
    """One that is gone, or refuses, or knows of a move no more: it is asked for again, and counted once."""
    Client.answers += [
        TimedOut("late", 0.0),
        Unreachable("gone", "it was killed", "wait"),
        Refusal("no", "north owns it already", "name another", Code.REFUSED),
    ]
    for _ in range(20):
        movement.step(1, next(seconds))
    assert len(moves()) == 3
    Client.phases.clear()  # both nodes have been killed
    for _ in range(int(4 * LOST)):
        movement.step(1, next(seconds))
    assert len(moves()) > 3
    Client.phases.update(dict.fromkeys(Client.phases, "own"))
    for _ in range(9):
        movement.step(1, next(seconds))
    assert (movement.done, movement.over) == (1, False)
    movement.close()
    movement.step(1, next(seconds))
    assert movement.done == 1
