"""A whole node is a function of its seed: the ground on which every simulated failure stands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def _hashes(hash_seed: str, *seeds: int) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation.hashed", *map(str, seeds)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
    )
    return done.stdout.split()


def test_a_trace_is_a_function_of_its_seed() -> None:
    """A node with tables, wallets and bots, run on one seed in two processes, has one trace hash, and on another
    seed another one."""
    first, other = _hashes("1", 7, 8)
    assert len(first) >= 32
    assert _hashes("2", 7) == [first]
    assert other != first
