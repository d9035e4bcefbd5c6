"""Mistakes in a durable class: told when the class is made, or with the class and the event that it was about."""

from __future__ import annotations

from typing import Any

import pytest

from runtime import CalleeExited, EventSourced, Misuse, call, start
from tests.support.processes import as_process

from .purse import Purse, Take, Taken


@pytest.mark.parametrize("hook", ["initial", "handle", "apply", "query", "setup", "committed"])
def test_a_hook_that_waits_is_refused_with_its_class(hook: str) -> None:
    """The class is not made; the error names it, and says what to do."""

    async def waits(*_: object) -> None:
        """Nothing."""

    with pytest.raises(Misuse, match=rf"Account\.{hook} must not wait, and is async: make it a plain def"):
        type("Account", (EventSourced,), {hook: waits, "__qualname__": "Account"})


class Forgot(Purse):
    """Its `apply` returns nothing."""

    def apply(self, state, event):  # no types, as a newcomer writes it
        state - event.amount


class Partly(Purse):
    """Its `apply` says what it returns, and forgets one case."""

    def apply(self, state: int, event: Any) -> int:
        if not isinstance(event, Taken):
            return state
        return None  # type: ignore[return-value]  # the mistake that is meant


class Emptied(Purse):
    """None is a state of it."""

    def apply(self, state: int | None, event: Any) -> int | None:
        return None


class Untyped(Purse):
    """It may mean None: nobody says that it does not."""

    def apply(self, state, event):
        return state if event is None else None


@pytest.mark.parametrize("kind", [Forgot, Partly])
@as_process
async def test_an_apply_without_a_state_is_told_with_the_event(node, kind):
    """Nothing of it is written: the crash names the class and the event."""
    pid = await start(kind, "purse", name="purse")
    with pytest.raises(CalleeExited, match=rf"{kind.__name__}.apply returned None for Taken: return the state after"):
        await call(pid, Take(1))
    assert node.journal.head("purse") == 0


@pytest.mark.parametrize("kind", [Emptied, Untyped])
@as_process
async def test_none_may_be_a_state(node, kind):
    """Where `apply` says so, or does not say otherwise, None is taken as it is."""
    pid = await start(kind, "purse", name="purse")
    assert await call(pid, Take(1)) == 9
    assert node.journal.head("purse") == 1
