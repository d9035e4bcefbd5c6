"""Processes that are broken at random moments, again and again: nothing is left behind that should not be."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
import trio

from .stress import stress

BREAKS = 300


def test_thousands_of_waits_are_broken_without_damage(caplog):
    """Trio's run stays whole, nothing belongs to the dead, and the journal holds what was acknowledged, once."""
    caplog.set_level(logging.CRITICAL, "banyan")
    waits, damage = trio.run(stress, BREAKS)
    assert (damage, waits.pop("breaks") >= BREAKS, waits.pop("commands") > 0) == ([], True, True)
    assert sorted(waits) == ["ask", "cancel", "give_way", "hold", "links", "names", "nursery"]
    assert waits.total() > 1000


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize("part", ["everywhere", "sections", "awaits"])
def test_without_a_part_of_the_protection_damage_is_found(part):
    """Raised anywhere, in a protected section, or before an `await`: the same run tells, or never ends."""
    command = [sys.executable, "-m", "tests.unit.node.stress", "600", part]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return  # Trio's run was damaged so that nothing wakes it any more
    assert run.returncode != 0 or "damage:" in run.stdout
