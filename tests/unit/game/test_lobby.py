"""The lobby starts what is missing, also where a name is still taken for a moment."""

from __future__ import annotations

import pytest

from game import lobby
from game.wallet import Wallet
from runtime import AlreadyStarted, Pid
from supervisors import ChildRefused


class _Refusal:
    def __init__(self, why: str, detail: object) -> None:
        self.why = why
        self.detail = detail


def _starts(monkeypatch: pytest.MonkeyPatch, *outcomes: object) -> list[str]:
    """Let starts end as told, while nobody has the name until one succeeds; returns what was started."""
    started: list[str] = []
    left = list(outcomes)

    async def start_child(_supervisor: str, spec: object) -> None:
        outcome = left.pop(0)
        if outcome is not None:
            raise ChildRefused(spec, _Refusal("start_failed", outcome))  # type: ignore[arg-type]  # looks like one
        started.append("wallet/ann")

    monkeypatch.setattr(lobby, "start_child", start_child)
    monkeypatch.setattr(lobby, "whereis", lambda _name: object() if started else None)
    return started


async def test_a_name_that_was_taken_for_a_moment_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that is refused because a dying process had the name is made again; the lobby lives on."""
    started = _starts(monkeypatch, AlreadyStarted(Pid("test", 1, 9)), None)
    await lobby._ensure("wallets", "wallet/ann", Wallet, "wallet/ann")
    assert started == ["wallet/ann"]


async def test_any_other_refusal_ends_the_lobby(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wallet that cannot start is not tried for ever: the lobby's supervisor decides."""
    _starts(monkeypatch, "damaged")
    with pytest.raises(ChildRefused, match="damaged"):
        await lobby._ensure("wallets", "wallet/ann", Wallet, "wallet/ann")
