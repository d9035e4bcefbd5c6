"""The simulation finds planted bugs: a few in every run of the tests, all with `run --planted`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.simulation.planted import PLANTED, hunt
from tests.simulation.room import simulate
from tests.support.planted import planted

ROWS = re.findall(
    r"^\| (\w+) \| (.*?) \| (.*?) \| (\d+) \| (\d+) \|$",
    Path(__file__).with_name("README.md").read_text().partition("# A cluster, out of one seed")[0],
    re.M,
)


@pytest.mark.parametrize("name", ["sync_forgotten", "dedup_forgotten_at_snapshot", "reply_before_commit", "stale_read"])
def test_a_planted_bug_is_found(name: str) -> None:
    """A bug of each sort is found within the seeds that it may take: a disk's, a snapshot's, a gate's, a read's."""
    assert hunt(name) is not None


def test_a_planted_bug_leaves_no_trace() -> None:
    """After a hunt the program is as it was."""
    before = simulate(1002).digest
    for plant in PLANTED.values():
        with planted(plant.patches):
            pass
    assert simulate(1002).digest == before


def test_the_readme_lists_every_planted_bug() -> None:
    """The table of the README names each planted bug, in order, with what is wrong, and that it was found."""
    assert [(name, wrong) for name, wrong, *_ in ROWS] == [(name, plant.wrong) for name, plant in PLANTED.items()]
    assert [name for name, _, by, seed, _ in ROWS if not by or int(seed) > PLANTED[name].seeds] == []
