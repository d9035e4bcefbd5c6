"""The plainest durable process there is: nothing of its class runs at a commit, so its writer lets the replies out."""

from __future__ import annotations

from typing import Any

from runtime import Call, EventSourced, Query, Refuse, message
from supervisors import Supervisor, child

KEYS = ("tally/odd", "tally/even")


@message("tests.simulation.add")
class Add(Call[int]):
    """Add to the sum; the reply is the sum."""

    amount: int


@message("tests.simulation.sum")
class Sum(Query[int]):
    """The sum."""


@message("tests.simulation.added")
class Added:
    """An amount was added."""

    amount: int


class Tally(EventSourced[int, Added]):
    """A sum that never grows beyond a thousand at once."""

    def initial(self, key: str) -> int:
        return 0

    def handle(self, state: int, command: Any) -> Any:
        match command:
            case Add(0):
                return None, state
            case Add(amount) if 0 < amount <= 1000:
                return [Added(1), Added(amount - 1)], state + amount
            case _:
                return Refuse(f"not {command!r}, at {state}")

    def apply(self, state: int, event: Added) -> int:
        return state + event.amount

    def query(self, state: int, request: Any) -> Any:
        return state


class Tallies(Supervisor):
    """Both of them, each restarted alone."""

    def init(self, intensity: int) -> Any:
        self.intensity = intensity  # type: ignore[misc]  # drawn by the run
        return [child(key, Tally, key, name=key) for key in KEYS]
