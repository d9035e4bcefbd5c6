"""What a test needs from outside the project, and what happens where it is missing.

`shared("hands")` is a folder that may lie beside the project; where it does not, the test is skipped with
a message, as it can be found nowhere else. `tool("strace")` is a program that the system's packages hold;
where it is missing the test is skipped, but in CI it fails, because `.ci/run setup` should have brought it.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from .source import ROOT

SHARED = ROOT.parent / "shared"


def shared(*parts: str) -> Path:
    """The path of a file or folder under ../shared; skips the test if it is not there."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs ../shared/{'/'.join(parts)}, which is not beside this checkout")
    return path


def tool(name: str) -> str:
    """The path of a program; without it the test is skipped, and under CI=true it fails."""
    found = shutil.which(name)
    if found is not None:
        return found
    if os.environ.get("CI") == "true":
        pytest.fail(f"needs the program {name!r}: add its package to the setup stage of .ci/run")
    pytest.skip(f"needs the program {name!r}: install it, or run .ci/run setup")
