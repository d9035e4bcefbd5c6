"""Each example runs by itself, as a reader would run it, and shows what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
FOUND = sorted(path.name for path in EXAMPLES.glob("0*.py"))


def _run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_there_are_six_examples() -> None:
    """The ladder has six steps, from hello to a guest of asyncio."""
    assert [name[:2] for name in FOUND] == ["01", "02", "03", "04", "05", "06"]


@pytest.mark.parametrize("name", [name for name in FOUND if not name.startswith("03")])
def test_an_example_runs_to_its_end(name: str) -> None:
    """An example ends by itself with 0, says something, and logs nothing that it did not cause."""
    done = _run(name)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_durable_counter_goes_on_after_sigkill(tmp_path: Path) -> None:
    """What was counted and acknowledged before kill -9 is there in the next run."""
    data = str(tmp_path / "counter")
    killed = _run("03_durable_counter.py", "--die", data)
    assert killed.returncode == -9, killed.stderr
    again = _run("03_durable_counter.py", data)
    assert again.returncode == 0, again.stderr
    assert "3" in killed.stdout
    assert "6" in again.stdout
    assert all(len(path.read_text().splitlines()) < 80 for path in EXAMPLES.glob("0*.py"))


def test_the_tested_application_passes_its_own_tests() -> None:
    """The project of the seventh step is run by pytest as its reader would, with Banyan's plugin."""
    command = [sys.executable, "-m", "pytest", "-p", "supervisors.testing", "-p", "no:cacheprovider", "07_testing"]
    done = subprocess.run(command, cwd=EXAMPLES, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
