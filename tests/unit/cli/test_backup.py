"""`banyan backup` and `banyan restore`: what they print, and how they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from supervisors.cli.main import main
from tests.unit.backends.stores import LmdbStore, entry
from tests.unit.cli.test_check import refused


@pytest.fixture
def paths(tmp_path: Path) -> tuple[str, str, str]:
    """A store of ten entries, accepted at 1970-01-01T00:01:41 and a second after one another; where a backup and
    a new store will be."""
    journal = LmdbStore(tmp_path / "data").open()
    for n in range(1, 11):
        journal.commit([entry("ann", n, wall=100.0 + n)])
    journal.close()
    return str(tmp_path / "data"), str(tmp_path / "kept"), str(tmp_path / "new")


def test_a_store_goes_to_a_backup_and_back(paths: tuple[str, str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """Each says in a line what it did, up to which position."""
    data, kept, new = paths
    assert main(["backup", data, kept]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"backup {kept}: 1 processes, 10 entries up to position 10, ")
    assert said.out.endswith(", checked\n")
    assert main(["restore", kept, new]) == 0
    assert capsys.readouterr().out.startswith(f"restored {new}: up to position 10 of 10, epoch ")
    journal = LmdbStore(Path(new)).open()
    assert [one.wall for one in journal.read("ann")] == [100.0 + n for n in range(1, 11)]
    journal.close()


def test_they_say_it_to_scripts(paths: tuple[str, str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """With --json the last line is an object."""
    data, kept, new = paths
    assert main(["backup", data, kept, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["path"], made["position"], made["keys"], made["entries"]) == (kept, 10, 1, 10)
    assert main(["restore", kept, new, "--to", "7", "--json"]) == 0
    restored = json.loads(capsys.readouterr().out)
    assert (restored["path"], restored["position"], restored["dropped"]) == (new, 7, 3)
    assert restored["backup"]["sha256"] == made["sha256"]


@pytest.mark.parametrize(
    ("at", "position"),
    [("1970-01-01T00:01:43Z", 3), ("1970-01-01T01:01:43+01:00", 3), ("1970-01-01T00:01:43", 3), ("104.5", 4)],
)
def test_a_time_can_be_written_in_many_ways(
    paths: tuple[str, str, str], capsys: pytest.CaptureFixture[str], at: str, position: int
) -> None:
    """A time with its zone, in UTC, or in seconds."""
    data, kept, new = paths
    assert main(["backup", data, kept]) == 0
    assert main(["restore", kept, new, "--at", at]) == 0
    assert f"up to position {position} of 10, {10 - position} entries after it left out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--to", "11"], 5, "it holds the positions 1 to 10"),
        (["--to", "0"], 5, "it holds the positions 1 to 10"),
        (["--at", "100"], 5, "nothing had been committed by then"),
        (["--at", "2999-01-01"], 5, "it was made at"),
        (["--at", "noon"], 2, "'noon' is no time such as"),
        (["--to", "x"], 2, "invalid int value"),
        (["--to", "1", "--at", "1"], 2, "not allowed with"),
    ],
)
def test_a_point_that_is_none_is_refused(
    paths: tuple[str, str, str], capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, says: str
) -> None:
    """What was never reached is refused with 5, what is no point at all with 2; nothing is made."""
    data, kept, new = paths
    assert main(["backup", data, kept]) == 0
    capsys.readouterr()
    try:
        ended = main(["restore", kept, new, *arguments])
    except SystemExit as exit:
        ended = int(str(exit.code))
    assert (ended, says in refused(capsys)["why"]) == (code, True)
    assert not Path(new).exists()


def test_what_is_there_is_never_overwritten(paths: tuple[str, str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """A second backup or restore into the same directory is refused with 5."""
    data, kept, new = paths
    for command in (["backup", data, kept], ["restore", kept, new]):
        assert main(command) == 0
        capsys.readouterr()
        assert main(command) == 5
        assert refused(capsys)["next"] == "name a new or an empty directory"


def test_what_is_no_backup_is_refused(paths: tuple[str, str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """A store, a cut backup and nothing: each is told by its name."""
    data, kept, new = paths
    assert main(["restore", data, new]) == 5
    assert "it is a store, not a backup" in refused(capsys)["why"]
    assert main(["restore", kept, new]) == 4
    refused(capsys)
    assert main(["backup", kept, new]) == 4
    refused(capsys)
    assert main(["backup", data, kept]) == 0
    capsys.readouterr()
    cut = Path(kept, "data.mdb")
    cut.write_bytes(cut.read_bytes()[:-1])
    assert main(["restore", kept, new]) == 5
    assert refused(capsys)["why"].endswith("it was cut")
    assert not Path(new).exists()
