"""What holds of the shop. `node`, `virtual_clock` and `crash` come with Banyan (docs/testing.md).

python -m pytest examples/07_testing
"""

from __future__ import annotations

import pytest
import trio
from shop import OPEN_SECONDS, Left, Shop, Take
from trio.testing import MockClock

from runtime import call, whereis
from supervisors import Node
from supervisors.testing import Crasher


@pytest.fixture
async def shop(node: Node) -> None:
    """A shop that is open."""
    await node.start(Shop)


async def test_what_was_taken_stays_taken(shop: None, crash: Crasher) -> None:
    """The stock survives its crash: its state is in the store, not in the process."""
    assert await call("stock", Take()) == 9
    assert await crash("stock") == whereis("stock")
    assert await call("stock", Left()) == 9


async def test_the_others_notice_nothing(shop: None, crash: Crasher) -> None:
    """The till goes on as the same process when the stock crashes."""
    till = whereis("till")
    await crash("stock")
    assert whereis("till") == till


async def test_the_till_closes_after_its_hours(shop: None, virtual_clock: MockClock) -> None:
    """The eight hours pass at once, because time is virtual."""
    await trio.sleep(OPEN_SECONDS - 1)
    assert await call("till", "are you open?") == "open"
    await trio.sleep(2)
    assert whereis("till") is None
