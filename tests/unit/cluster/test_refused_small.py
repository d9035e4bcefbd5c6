"""What is refused at a node's door, or ended behind it, costs little memory, however much is sent with it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.refusals import ATTACKS, FLOOD, FLOODS, door, held_for, make_keys

# Bytes that may be kept of one connection that is refused.
MOST = 8 << 20


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.CRITICAL, "banyan"):
        yield


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
async def test_a_refusal_keeps_little(tls: bool, tmp_path: Path) -> None:
    """Each way to be refused, with 64 MiB behind it: refused and ended before an eighth of that was ever held."""
    assert len(FLOOD) * FLOODS == 8 * MOST
    tried = {name: attack for name, attack in ATTACKS.items() if (attack.keys is not None) == tls}
    assert len(tried) > 4
    async with door(make_keys(tmp_path) if tls else None) as node:
        held = {name: await held_for(node, attack) for name, attack in tried.items()}
    assert {name: size for name, size in held.items() if size >= MOST} == {}
