"""The walk through all that can happen to a move: a bounded part of it here, more by `python -m tests.models.moves`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.models.moves import MIXES, main, walk
from tests.models.planted import PLANTED, hunt

# The README's table of planted bugs.
ROWS = re.findall(r"^\| (\w+) \| (.*?) \| (I\d+) \| (\d+) \|$", (Path(__file__).parent / "README.md").read_text(), re.M)


@pytest.mark.parametrize("mix", MIXES)
def test_what_is_near_is_safe(mix: str) -> None:
    """In the states that are nearest to the beginning every promise is kept, and from each all comes to an end."""
    found = walk(*MIXES[mix], most=1_500)
    assert (found.wrong, found.way) == ("", ())
    assert found.whole or found.states == 1_500


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found(name: str) -> None:
    """Each rule is needed: without it a promise is broken, within so many states."""
    found = hunt(name)
    row = next(row for row in ROWS if row[0] == name)
    assert found.wrong.startswith(f"{row[2]}:")
    assert found.states <= int(row[3])
    assert found.way


def test_the_readme_lists_every_planted_bug() -> None:
    """The table of the README names each planted bug, in order, with what is wrong."""
    assert [(name, wrong) for name, wrong, *_ in ROWS] == [(name, plant.wrong) for name, plant in PLANTED.items()]
    assert len(PLANTED) >= 7


def test_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The last line says what was walked through; the exit code whether it was safe, with the way to what was not."""
    assert main(["--mix", "none", "--states", "500"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "model states=500 mixes=1 whole=0 safe"
    assert main(["--plant", "promotes"]) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[-1].startswith("model states=")
    assert told[-1].endswith("failed=1")
    assert "    a begins m1" in told
