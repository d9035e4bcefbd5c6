"""`banyan check`: what it prints, how it ends, and what it says where it cannot check."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from runtime.backends.lmdb import LmdbJournal
from supervisors.cli import progress
from supervisors.cli.main import main
from tests.unit.backends.stores import LmdbStore, entries, entry
from tests.unit.cli.running import Place


@pytest.fixture
def store(tmp_path: Path) -> LmdbStore:
    """A store with two processes."""
    store = LmdbStore(tmp_path / "data")
    journal = store.open(node="room")
    journal.commit([*entries("ann", 1, 30), *entries("bob", 1, 3)])
    journal.close()
    return store


def refused(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """The three parts on stderr; nothing is on stdout."""
    said = capsys.readouterr()
    assert said.out == ""
    return parts(said.err)


def parts(text: str) -> dict[str, str]:
    """An error's three parts, each with its further lines."""
    found: dict[str, str] = {}
    label = ""
    for line in text.splitlines():
        if not line.startswith(" "):
            label, _, line = line.partition(": ")
        found[label] = (found.get(label, "") + "\n" + line.strip()).strip()
    assert list(found) == ["what", "why", "next"]
    return found


def test_a_clean_store_is_said_to_be_clean(store: LmdbStore, capsys: pytest.CaptureFixture[str]) -> None:
    """One line for a person, one object for a script, and exit code 0."""
    assert main(["check", str(store.path)]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("clean: 2 processes, 33 entries, 0 snapshots, position 33, epoch 1, ")
    assert said.err == ""
    assert main(["check", str(store.path), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (found["clean"], found["found"], found["problems"], found["node"]) == (True, 0, [], "room")
    assert (found["keys"], found["entries"], found["position"]) == (2, 33, 33)


def test_damage_is_named(store: LmdbStore, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 5, each key and position that was hit, and the same in the object."""
    store.damage(entry("ann", 7))
    store.damage(entry("bob", 2))
    assert main(["check", str(store.path), "--json"]) == 5
    said = capsys.readouterr()
    found = json.loads(said.out.splitlines()[-1])
    assert (found["clean"], found["found"]) == (False, 4)
    assert [(one["key"], one["sequence"]) for one in found["problems"]][:2] == [("ann", 7), ("bob", 2)]
    told = parts(said.err)
    assert told["what"] == f"{store.path} is damaged"
    assert [line.split(":")[0] for line in told["why"].splitlines()[:2]] == ["'ann' record 7", "'bob' record 2"]
    assert told["why"].splitlines()[2:] == [f"no whole entry has position {n} of 33" for n in (7, 32)]
    assert "banyan restore" in told["next"]


def test_a_long_list_is_cut(store: LmdbStore, capsys: pytest.CaptureFixture[str]) -> None:
    """A person is told of the first twenty problems and of how many there are more."""
    for n in range(1, 27):
        store.damage(entry("ann", n))
    assert main(["check", str(store.path)]) == 5
    why = refused(capsys)["why"].splitlines()
    assert (len(why), why[-1]) == (21, "and 7 more")


def test_a_store_that_cannot_be_checked_is_refused(
    store: LmdbStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not there is 4, something else 5, and so is one in use, with what to do instead."""
    assert main(["check", str(tmp_path / "none")]) == 4
    assert "no node has made one" in refused(capsys)["why"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    assert main(["check", str(tmp_path / "other")]) == 4
    refused(capsys)
    journal = store.open()
    assert main(["check", str(store.path)]) == 5
    told = refused(capsys)
    assert "has it open" in told["why"]
    assert "banyan backup" in told["next"]
    journal.close()
    (store.path / "data.mdb").unlink()
    assert main(["check", str(store.path)]) == 5
    assert refused(capsys)["why"] == "data.mdb is gone"


@pytest.mark.processes
def test_a_node_s_own_directory(tmp_path: Path) -> None:
    """The directory of a running node is refused, backed up, and clean when the node has ended."""
    place = Place(tmp_path)
    with place.node("shop:Shop", "--name", "room", "--data", "data") as node:
        ended = place.run("check", "data")
        assert (ended.returncode, f"process {node.process.pid} has it open" in ended.stderr) == (5, True)
        made = place.json("backup", "data", "kept")
        assert (made["node"], made["epoch"]) == ("room", 1)
    restored = place.json("restore", "kept", "again")
    assert restored["epoch"] > 1_600_000_000
    assert place.json("check", "data")["clean"]
    assert place.json("check", "again")["epoch"] == restored["epoch"]
    with place.node("shop:Shop", "--name", "room", "--data", "again"):
        pass


def test_progress_is_for_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal gets one line that is written over, anything else nothing."""
    line = progress.ProgressLine()
    line("pages", 1 << 20, 5 << 20)
    line.end()
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "is_tty", lambda _: True)
    line = progress.ProgressLine()
    line("pages", 1 << 20, 5 << 20)
    line("pages", 2 << 20, 5 << 20)
    line("entries", 1234, 0)
    line.end()
    assert capsys.readouterr().err == "\r\x1b[Kpages: 1 of 5 MiB\r\x1b[Kentries: 1,234\r\x1b[K"


def test_a_checked_store_is_as_it_was(store: LmdbStore, capsys: pytest.CaptureFixture[str]) -> None:
    """A check changes no file, and the epoch is that of the last node."""
    before = {p.name: p.read_bytes() for p in store.path.iterdir()}
    assert main(["check", str(store.path)]) == 0
    assert {p.name: p.read_bytes() for p in store.path.iterdir()} == before
    journal = store.open()
    assert isinstance(journal, LmdbJournal)
    assert journal.epoch == 2
    journal.close()


@pytest.mark.parametrize("command", [("check",), ("backup", "kept")])
def test_a_store_that_may_not_be_looked_at_is_not_called_missing(
    store: LmdbStore, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A directory of another user is refused with the system's own reason, and exit code 5."""
    stat = os.stat

    def refusing(path: Any, *args: Any, **more: Any) -> os.stat_result:
        if isinstance(path, str | Path) and Path(path).parent == store.path:
            raise PermissionError(errno.EACCES, "Permission denied")
        return stat(path, *args, **more)

    word, *rest = command
    with monkeypatch.context() as patch:  # tests may run as root, who may look at everything
        patch.setattr(os, "stat", refusing)
        assert main([word, str(store.path), *(str(store.path.parent / one) for one in rest)]) == 5
    said = refused(capsys)
    assert (said["what"], said["why"]) == (f"cannot read the store {store.path}", "Permission denied")
