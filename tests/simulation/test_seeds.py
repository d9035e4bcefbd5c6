"""Some seeds in every run of the tests, and those that failed once for ever."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.simulation import run
from tests.simulation.room import simulate

HERE = Path(__file__).parent
KEPT = [one["seed"] for one in tomllib.loads((HERE / "seeds.toml").read_text())["seed"]]


@pytest.mark.parametrize("seed", KEPT)
def test_a_seed_that_failed_once_passes(seed: int) -> None:
    """What a seed has found stays mended: nothing lost, doubled, reordered, made up or left behind."""
    assert simulate(seed).findings == []


@pytest.mark.parametrize("seed", range(1001, 1007))
def test_a_few_seeds_pass(seed: int) -> None:
    """A whole card room keeps its promises under a seed's faults."""
    assert simulate(seed).findings == []


def _run(*arguments: str, hash_seed: str = "1") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.simulation.run", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=HERE.parents[1],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
    )


def test_a_run_under_faults_is_a_function_of_its_seed() -> None:
    """One seed with crashes, losses of power and kills takes the same steps in two processes with other hash seeds."""
    one, other = _run("--seed", "1001"), _run("--seed", "1001", hash_seed="2")
    assert one.stdout == other.stdout
    assert re.search(r"seed 1001: [1-9]\d* steps, .* answers, [0-9a-f]{32}\n", one.stdout)


def test_the_last_line_is_as_the_contract_says() -> None:
    """A run of some seeds ends with one line that scripts read, and exits 0 if all passed."""
    done = _run("--seeds", "1001-1002")
    assert re.fullmatch(r"simulation seeds=2 passed=2 failed=0 faults=\{.*\}", done.stdout.splitlines()[-1])
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("text", "seeds"), [("1..3", range(1, 4)), ("1-3", range(1, 4)), ("7", range(7, 8)), ("007..9", range(7, 10))]
)
def test_seeds_are_read(text: str, seeds: range) -> None:
    """A range of seeds is written with two dots or a hyphen, and ends with its last."""
    assert run.seeds_of(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "3..1", "1..", "-1", "1...3"])
def test_other_seeds_are_refused(text: str) -> None:
    """What is no range of seeds is a misuse."""
    with pytest.raises(ValueError, match="wanted seeds"):
        run.seeds_of(text)


def test_a_seed_that_fails_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever sees a failure sees how to have it again."""
    print(run._line(7, ["lost: x", "doubled: y"]))
    assert capsys.readouterr().out == (
        "seed 7: lost: x (and 1 more); again: python -m tests.simulation.run --seed 7 --verbose\n"
    )
