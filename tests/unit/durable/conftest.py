"""A node with a store in memory for every test of this room, under virtual time."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from supervisors.node.boot import RealWorld
from tests.support.processes import make_time_virtual, running_node


def virtual_wall() -> RealWorld:
    """The real World, but its wall clock goes with virtual time; a test may put another in the place of `wall`."""
    world = RealWorld()
    world.wall = lambda: 1e9 + trio.current_time()
    return world


def pytest_collection_modifyitems(items):
    make_time_virtual(items, Path(__file__).parent)


@pytest.fixture
async def node():
    """A running node with a store in memory; the test's own code is its host."""
    async with running_node(data=":memory:", world=virtual_wall()) as node:
        yield node
