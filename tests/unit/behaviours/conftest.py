"""A node for every test of this room, under virtual time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.processes import make_time_virtual, running_node


def pytest_collection_modifyitems(items):
    make_time_virtual(items, Path(__file__).parent)


@pytest.fixture
async def node():
    """A running node; the test's own code is its host."""
    async with running_node() as node:
        yield node
