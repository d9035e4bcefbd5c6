"""Type checkers infer the reply of a call from its message, and refuse what is wrong."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.source import ROOT

CALLS = Path(__file__).with_name("calls.py")
IGNORE = re.compile(r"  # type: ignore\[([\w-]+)\].*")
WRONG = {
    number: found[1] for number, line in enumerate(CALLS.read_text().splitlines(), 1) if (found := IGNORE.search(line))
}
# The second is the first with its own Node.js: nothing is fetched when it first runs.
NAMES = ("pyright", "basedpyright")
PLACES = (str(Path(sys.executable).parent), None)
PYRIGHT = next((path for place in PLACES for name in NAMES if (path := shutil.which(name, path=place))), None)


def mypy(path: Path) -> subprocess.CompletedProcess[str]:
    """Check one file as the whole project is checked."""
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--hide-error-context", str(path)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """The calls, with nothing that silences a checker."""
    path = tmp_path / "bare_calls.py"
    path.write_text(IGNORE.sub("", CALLS.read_text()))
    return path


@pytest.mark.slow
def test_mypy_infers_replies_and_refuses_what_is_wrong() -> None:
    """No type is other than asserted, and no ignore stands where mypy finds nothing wrong."""
    done = mypy(CALLS)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.slow
def test_mypy_refuses_exactly_the_wrong_lines(bare: Path) -> None:
    """Without the ignores each wrong line is an error by its rule, and no other line is."""
    found = re.findall(r"^.*?:(\d+): error: .* \[([\w-]+)\]$", mypy(bare).stdout, re.MULTILINE)
    assert {int(line): rule for line, rule in found} == WRONG
    assert len(WRONG) >= 10


@pytest.mark.slow
@pytest.mark.skipif(PYRIGHT is None, reason="neither pyright nor basedpyright is installed")
def test_pyright_infers_replies_and_refuses_exactly_the_wrong_lines(bare: Path, tmp_path: Path) -> None:
    """A second checker finds the same lines wrong, and every asserted type right."""
    assert PYRIGHT is not None
    settings = {
        "include": [bare.name],
        "extraPaths": [str(ROOT)],
        "typeCheckingMode": "standard",
        "pythonVersion": "3.11",
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [PYRIGHT, "--outputjson", "--pythonpath", sys.executable, "--project", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    if not done.stdout.lstrip().startswith("{"):
        pytest.skip(f"pyright cannot run here: {(done.stderr or done.stdout)[-200:]}")
    said = json.loads(done.stdout)["generalDiagnostics"]
    wrong = {d["range"]["start"]["line"] + 1 for d in said if d["severity"] == "error"}
    assert sorted(wrong) == sorted(WRONG), [d["message"] for d in said]
