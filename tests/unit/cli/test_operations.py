"""The walk of docs/operations.md, done as it stands there, on a node with the fault planted in it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.unit.cli.planted import PLAYERS
from tests.unit.cli.running import Place

pytestmark = pytest.mark.processes

PAGE = (Path(__file__).parents[3] / "docs" / "operations.md").read_text()


def steps() -> list[tuple[list[str], list[str]]]:
    """The commands of the walk, each with the lines that it shows."""
    found: list[tuple[list[str], list[str]]] = []
    for block in re.findall(r"^```console\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE):
        for line in block.splitlines():
            if line.startswith("$ banyan "):
                found.append((shlex.split(line)[2:], []))
            else:
                found[-1][1].append(line)
    return found


def plain(line: str) -> str:
    """A line without what differs from run to run: pids, counts, ages, sizes, places, and the width of columns."""
    line = re.sub(r"\S*/(?=\w+\.py:)", "", line)
    line = re.sub(r"\.py:\d+", ".py:N", line)
    line = re.sub(r"<\d+\.\d+>", "<pid>", line)
    line = re.sub(r"\d[\d.,]*", "N", line)
    return re.sub(r"\s+|(?<=N )[KM]iB|(?<=N )B(?= |$)", " ", line).strip()


def missing(shown: list[str], printed: str) -> list[str]:
    """The shown lines that were not printed, in their order."""
    lines = iter([plain(line) for line in printed.splitlines()])
    return [line for line in shown if plain(line) not in lines]


@pytest.mark.slow
def test_the_walk_finds_the_fault_and_mends_it(tmp_path):
    """Each command of the page shows the lines that stand below it, in that order, with other pids and times."""
    place = Place(tmp_path)
    with place.node("tests.unit.cli.planted:Room", "--name", "room-1"):
        # What waits for less than a second is no finding yet.
        assert any(f"has {PLAYERS} of" in place.run("doctor").stdout for _ in range(6000))
        for arguments, shown in steps():
            ended = place.run(*arguments)
            assert (ended.returncode, ended.stderr) == (0, ""), arguments
            assert missing(shown, ended.stdout) == [], (arguments, ended.stdout)


def test_the_page_shows_each_step_of_the_walk():
    """The walk looks before it acts: info, mailbox, stack, doctor; then restart, and whether that has helped."""
    assert [arguments[0] for arguments, _ in steps()] == [
        *("info", "mailbox", "stack", "doctor"),
        *("restart", "crashes", "ps"),
    ]
    assert all(shown for _, shown in steps())


def test_a_line_that_was_not_printed_is_found():
    """The comparison passes over numbers and places, and over nothing else; order counts."""
    printed = "a  <1.5>  7.5 s\n  /x/y/file.py:12 in f\nlast 2.0 KiB"
    assert missing(["a <9.99>  12.25 s", "/z/file.py:1 in f", "last 700 B"], printed) == []
    assert missing(["/z/file.py:1 in g"], printed) == ["/z/file.py:1 in g"]
    assert missing(["last 1 KiB", "a <1.1> 1 s"], printed) == ["a <1.1> 1 s"]
