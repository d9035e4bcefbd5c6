"""A node for every test of this room, under virtual time."""

from __future__ import annotations

import pytest

from tests.support.processes import running_node


@pytest.fixture
async def node(autojump_clock):
    """A running node; the test's own code is its host."""
    async with running_node() as node:
        yield node
