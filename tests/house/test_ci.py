"""The one door: .ci/run knows its stages, and all of them together end in time."""

from __future__ import annotations

import os
import re
import subprocess

from tests.support.source import ROOT

RUN = ROOT / ".ci" / "run"
STAGES = [
    *("setup", "lint", "types", "imports", "test", "conformance"),
    *("replay", "demo", "model", "simulation", "crash", "faults", "wheel"),
]


def door(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(RUN), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_the_door_can_be_run() -> None:
    """.ci/run bears the run bit."""
    assert os.access(RUN, os.X_OK)


def test_the_door_lists_its_stages() -> None:
    """`--list` prints every stage in the order in which they run."""
    assert door("--list").stdout.split() == STAGES


def test_an_unknown_stage_is_refused_before_any_work() -> None:
    """A stage that does not exist is exit 2, and nothing has run."""
    ended = door("lint", "nonsense")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "nonsense" in ended.stderr


def test_every_stage_has_a_limit_and_all_fit_into_90_minutes() -> None:
    """Even if every stage used its limit up, the whole would end within 90 minutes."""
    limits = {name: int(seconds) for name, seconds in re.findall(r"\[(\w+)\]=(\d+)", RUN.read_text())}
    assert list(limits) == STAGES
    assert sum(limits.values()) <= 90 * 60


def test_the_test_stage_is_the_command_of_the_readme() -> None:
    """Whoever runs `uv run pytest` runs what CI runs."""
    assert re.search(r"^stage_test\(\) \{ uv run pytest; \}$", RUN.read_text(), re.MULTILINE)
