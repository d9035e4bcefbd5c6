"""Two real faults, done to nodes in network namespaces of their own; for all: `python -m tests.cluster.faults`."""

from __future__ import annotations

import pytest

from tests.support.outside import tool

from .faults import WRONG, try_faults
from .net import missing

pytestmark = [pytest.mark.processes, pytest.mark.slow]


def test_a_kill_and_a_cut_lose_nothing_and_double_nothing():
    """Each register's history has an order that explains what every client saw, and all are served again (D3)."""
    for program in ("ip", "iptables"):
        tool(program)
    lacking = missing()
    if lacking is not None:
        pytest.skip(f"needs network namespaces; missing: {lacking}")
    said: list[str] = []
    found = try_faults(["kill", "cut-short"], 1, say=said.append)
    assert {name: found[name] for name in WRONG} == dict.fromkeys(WRONG, 0), "\n".join(said)
    assert found["rounds"] == 2
    assert found["acknowledged"] > 0
