"""Simulated clusters: a few seeds in every run of the tests, those that failed once for ever, and planted bugs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.simulation.cluster import simulate
from tests.simulation.cluster_config import MENU, draw
from tests.simulation.cluster_planted import PLANTED, hunt

HERE = Path(__file__).parent
KEPT = [
    (one["seed"], one.get("long", False)) for one in tomllib.loads((HERE / "seeds.toml").read_text()).get("cluster", [])
]
# The README's second table of planted bugs.
ROWS = re.findall(
    r"^\| (\w+) \| (.*?) \| (.*?) \| (\d+) \| (\d+) \|$",
    (HERE / "README.md").read_text().partition("## Planted bugs of a cluster")[2],
    re.M,
)


@pytest.mark.parametrize(("seed", "long"), KEPT)
def test_a_seed_that_failed_once_passes(seed: int, long: bool) -> None:
    """What a seed has found stays mended: nothing lost, doubled, reordered, served twice or left behind."""
    assert simulate(seed, long=long).findings == []


@pytest.mark.parametrize("seed", range(2001, 2005))
def test_a_few_seeds_pass(seed: int) -> None:
    """A cluster keeps its promises under a seed's faults."""
    assert simulate(seed).findings == []


def test_a_run_is_a_function_of_its_seed() -> None:
    """One seed with crashes, cuts and pauses takes the same steps in two processes with other hash seeds."""

    def told(hash_seed: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "tests.simulation.run", "--cluster", "--seed", "2005"],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
            cwd=HERE.parents[1],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        )
        return done.stdout

    one = told("1")
    assert told("2") == one
    assert re.search(r"seed 2005: [1-9]\d* steps, .* answers, [0-9a-f]{32}\n", one)
    assert re.fullmatch(r"simulation seeds=1 passed=1 failed=0 faults=\{.+\}", one.splitlines()[-1])


def test_seeds_draw_clusters_of_every_size_and_every_fault() -> None:
    """Between them a hundred long seeds have three to seven nodes, all faults, and runs without any."""
    drawn = [draw(seed, long=True) for seed in range(100)]
    assert {one.nodes for one in drawn} == {3, 4, 5, 6, 7}
    assert {kind for one in drawn for kind in one.menu} == MENU.keys()
    assert any(not one.menu for one in drawn)
    assert {one.settles for one in drawn} == {True, False}


@pytest.mark.parametrize("name", ["dedup_forgotten_at_resend", "callers_forgotten"])
def test_a_planted_bug_is_found(name: str) -> None:
    """A bug of each sort is found within the seeds that it may take: a region's, and a link's."""
    assert hunt(name) is not None


def test_the_readme_lists_every_planted_bug() -> None:
    """The table of the README names each planted bug, in order, with what is wrong, and that it was found."""
    assert [(name, wrong) for name, wrong, *_ in ROWS] == [(name, plant.wrong) for name, plant in PLANTED.items()]
    assert [name for name, _, by, seed, _ in ROWS if not by or int(seed) > PLANTED[name].seeds] == []
    assert len(PLANTED) >= 8
