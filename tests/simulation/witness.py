"""What clients saw, held against the journal's order: every answer must follow from the entries before it.

Each entry whose command is known is decided once more in the state before it, and must bring about the same
events and the same reply. Each answer that left no entry must be what the state at its place answers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from game.messages import TableConfig
from game.table import Table
from runtime import Query, Refuse
from runtime.durable.event_sourced import EventSourced
from runtime.durable.journal import Journal
from runtime.testing import NEVER, Answered, History, Operation, Placed, not_linearizable

from .inside import outcome_of, stand_at

KindOf = Callable[[str], type[EventSourced[Any, Any]]]


def not_explained(journal: Journal, history: History, kind_of: KindOf, configs: dict[str, TableConfig]) -> list[str]:
    """What clients were answered and the journal does not explain."""
    asked: dict[str, list[Operation]] = {}
    for operation in history.operations:
        asked.setdefault(operation.id.key, []).append(operation)
    wrong: list[str] = []
    for key, operations in asked.items():
        wrong += _Past(key, kind_of(key), journal, configs.get(key)).check(operations)
    return wrong


class _Past:
    """One process's whole past: its state after each entry, and what it would have answered then."""

    def __init__(
        self, key: str, kind: type[EventSourced[Any, Any]], journal: Journal, config: TableConfig | None
    ) -> None:
        self.key = key
        self.one = kind()
        self.one.key = key
        if config is not None:
            self.one.setup(config)
        self.entries = journal.read(key)
        self.outcomes = [outcome_of(entry) for entry in self.entries]
        self.states = [self.one.initial(key)]
        for events, _ in self.outcomes:
            state = self.states[-1]
            for event in events:
                state = self.one.apply(state, event)
            self.states.append(state)

    def check(self, operations: list[Operation]) -> list[str]:
        """What is wrong with these operations."""
        places = {(one.sender, one.number): one.sequence for one in self.entries if one.sender}
        wrong: list[str] = []
        placed: list[Placed] = []
        answers: list[Answered] = []
        for one in operations:
            position = places.get((one.id.sender, one.id.number)) if one.refused is None else None
            what = f"{one.request!r}, number {one.id.number} of {one.id.sender}"
            if position is not None:
                placed.append(Placed(what, position, one.called, one.answered if one.answered is not None else NEVER))
                wrong += self._decided(what, one.request, position)
            elif one.answered is not None:
                said = f"refused with {one.refused!r}" if one.refused is not None else f"answered {one.reply!r}"
                answers.append(Answered(f"{what}, {said},", one.called, one.answered, self._fits(one)))
        return wrong + not_linearizable(self.key, placed, answers, len(self.entries))

    def _decided(self, what: str, command: Any, position: int) -> list[str]:
        events, reply = self._handle(command, position - 1)
        wanted, answered = self.outcomes[position - 1]
        if (events, reply) == (tuple(wanted), answered):
            return []
        return [
            f"decision: {what} is entry {position} of {self.key} as {wanted!r} with {answered!r}, "
            f"and was to be {events!r} with {reply!r}"
        ]

    def _fits(self, one: Operation) -> Callable[[int], bool]:
        request: Any = one.request
        if isinstance(request, Query):
            return lambda position: self._query(request, position, one.reply)
        wanted = (None, one.refused) if one.refused is not None else ((), one.reply)
        return lambda position: self._handle(request, position) == wanted

    def _query(self, request: Any, position: int, reply: Any) -> bool:
        # A view says of which entry it is, and is dear to make.
        if getattr(reply, "sequence", position) != position:
            return False
        self._forget()
        stand_at(self.one, self.states[position], position)
        return bool(self.one.query(self.states[position], request) == reply)

    def _handle(self, command: Any, position: int) -> tuple[Any, Any]:
        """The events and the reply of a command after so many entries; of a refusal None and its reason."""
        self._forget()
        outcome = self.one.handle(self.states[position], command)
        if isinstance(outcome, Refuse):
            return None, outcome.reason
        happened, reply = outcome
        if happened is None:
            return (), reply
        return tuple(happened) if isinstance(happened, (list, tuple)) else (happened,), reply

    def _forget(self) -> None:
        """A table's cards on the table are of another moment."""
        if isinstance(self.one, Table):
            self.one._hand = None
