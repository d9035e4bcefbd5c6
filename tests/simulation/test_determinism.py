"""A whole node is a function of its seed: the ground on which every simulated failure stands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def _hash(seed: int, hash_seed: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation.hashed", str(seed)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
    )
    return done.stdout.strip()


def test_the_same_seed_gives_the_same_trace_in_two_processes() -> None:
    """A node with tables, wallets and bots, run twice on one seed in two processes, has one trace hash."""
    first = _hash(7, "1")
    assert len(first) >= 32
    assert _hash(7, "2") == first


def test_another_seed_gives_another_trace() -> None:
    """The hash depends on what happened: another seed plays another game."""
    assert _hash(8, "1") != _hash(7, "1")
