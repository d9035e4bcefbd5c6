"""The completion scripts in the shells they are for: living names and pids are offered at a Tab."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.outside import tool as needed
from tests.unit.cli.running import LIMIT, Place

pytestmark = pytest.mark.processes

# What each shell does at a Tab, with the words that were typed as its arguments; it prints what it would offer.
TAB = {
    "bash": """
        eval "$(banyan completion bash)"
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _banyan
        printf '%s\\n' "${COMPREPLY[@]}"
    """,
    "zsh": """
        compdef() { }
        compadd() { shift; print -rl -- "${(@P)1}" }
        eval "$(banyan completion zsh)"
        words=("$@") CURRENT=$#
        _banyan
    """,
    "fish": """
        banyan completion fish | source
        complete -C (string join ' ' -- $argv) | string split -f 1 \\t
    """,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A node with a bank, and a folder in which `banyan` is a command."""
    place = Place(tmp_path_factory.mktemp("place"))
    tool = place.folder / "bin" / "banyan"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m supervisors.cli.main "$@"\n')
    tool.chmod(0o755)
    with place.node("tests.unit.observe.bank:Bank", "--name", "one", "--data", "store"):
        yield place


@pytest.mark.slow
@pytest.mark.parametrize("shell", TAB)
def test_a_tab_offers_what_lives(place, shell):
    """Commands, options, names and pids go on where a word ends; a name with a slash is one word."""
    program = needed(shell)

    def offered(*typed: str) -> list[str]:
        words = ["banyan", *typed]
        call = ["-c", TAB[shell], *words] if shell == "fish" else ["-c", TAB[shell], shell, *words]
        environ = {**place.environ, "PATH": os.pathsep.join((str(place.folder / "bin"), os.environ["PATH"]))}
        environ["HOME"] = str(Path(place.folder))
        ended = subprocess.run(
            [program, *call], cwd=place.folder, env=environ, capture_output=True, text=True, timeout=LIMIT, check=False
        )
        assert ended.stderr == ""
        return ended.stdout.split()

    assert offered("state", "wal") == ["wallet/p-7"]
    assert offered("poison", "--rel") == ["--relaxed"]
    assert offered("state", "1.1")[0] == "1.1"
