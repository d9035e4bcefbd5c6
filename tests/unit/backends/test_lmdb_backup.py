"""Backups beside a running node, and stores made from them as they were at any position."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.backends import lmdb_boot as boot
from runtime.backends import lmdb_restore
from runtime.backends.lmdb import LmdbJournal
from runtime.backends.lmdb_backup import MARKER, Backup, backup, read_marker
from runtime.backends.lmdb_check import check
from runtime.backends.lmdb_restore import restore
from runtime.durable.journal import (
    NotABackup,
    PositionGone,
    StoreDamaged,
    StoreError,
    StoreFailed,
    StoreForeign,
    StoreFull,
    StoreMissing,
    StoreNewer,
    StoreNotEmpty,
)

from .stores import LmdbStore, entry, snapshot

ROOT = Path(__file__).parents[3]
NOW = 2e9
# Of the store below: the keys in the order of their positions.
ORDER = ["ann", "bob", "ann", "ann", "bob", "cy", "ann", "bob", "cy", "ann"]


def filled(path: Path) -> LmdbJournal:
    """A store with ten entries, accepted a second after one another; some folded, with a snapshot of ann's."""
    journal = LmdbJournal.open(path, wall=lambda: 1e9, node="room")
    heads = dict.fromkeys(ORDER, 0)
    for position, key in enumerate(ORDER, 1):
        heads[key] += 1
        journal.commit(
            [entry(key, heads[key], wall=100.0 + position)],
            [snapshot("ann", 3, b"\x82\x60\x80")] if position == 4 else [],
        )
        if position == 5:
            journal.fold()
    return journal


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The store, closed."""
    filled(tmp_path / "store").close()
    return tmp_path / "store"


@pytest.fixture
def kept(store: Path, tmp_path: Path) -> Path:
    """A backup of it."""
    backup(str(store), str(tmp_path / "kept"), wall=NOW)
    return tmp_path / "kept"


HOLDER = """
import sys
from pathlib import Path
from tests.unit.backends.stores import entry
from tests.unit.backends.test_lmdb_backup import filled
journal = filled(Path(sys.argv[1]))
print("open", flush=True)
for n, line in enumerate(sys.stdin, 6):
    journal.commit([entry("ann", n)])
    freed = journal.check_readers()
    print(journal.head("ann"), "no active" in journal._store.environment.readers(), freed, flush=True)
"""


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has the store open; it commits an entry and tells of readers when it is written to."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path / "store"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert said(child) == "open"
        yield child
        child.kill()


def said(child: subprocess.Popen[str]) -> str:
    """A line of what a child says."""
    assert child.stdout is not None
    return child.stdout.readline().strip()


def asked(child: subprocess.Popen[str]) -> str:
    """Its answer to a line."""
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()
    return said(child)


def content(path: Path) -> dict[str, tuple[int, tuple[int, list[int]]]]:
    """By key: how many entries, and what a recovery reads: a snapshot, entries. The store is checked first."""
    assert check(str(path)).problems == []
    journal = LmdbJournal.open(path, wall=lambda: 1e9, read_only=True)
    found = {}
    for key in journal.keys():  # noqa: SIM118  # a Journal is no mapping
        saved, tail = journal.load(key)
        found[key] = len(journal.read(key)), (saved.sequence if saved else 0, [one.sequence for one in tail])
    journal.close()
    return found


@pytest.mark.processes
def test_a_backup_is_made_beside_the_node(owner: subprocess.Popen[str], tmp_path: Path) -> None:
    """A store that is open is copied as it is at one moment; the backup says what it holds and is private."""
    path = tmp_path / "deep" / "kept"
    made = backup(str(tmp_path / "store"), str(path), wall=NOW)
    assert (made.node, made.epoch, made.position, made.keys, made.entries, made.snapshots) == ("room", 1, 10, 3, 10, 1)
    assert read_marker(str(path)) == made
    assert {p.name: stat.S_IMODE(p.stat().st_mode) for p in path.iterdir()} == {MARKER: 0o600, "data.mdb": 0o600}
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert asked(owner) == "6 True 0"
    assert backup(str(tmp_path / "store"), str(tmp_path / "kept"), wall=NOW).position == 11
    restore(str(path), str(tmp_path / "new"), wall=NOW)
    assert content(tmp_path / "new")["ann"] == (5, (3, [4, 5]))


STUCK = """
import signal, sys
from runtime.backends import lmdb_boot as boot
environment = boot.environment(sys.argv[1], 1 << 30, read_only=True, beside=True)
txn = environment.begin()
print("reading", flush=True)
signal.pause()
"""


@pytest.mark.processes
def test_a_dead_reader_is_not_left_behind(owner: subprocess.Popen[str], tmp_path: Path) -> None:
    """A copier that is killed in its transaction stops keeping pages when its owner looks for readers."""
    with subprocess.Popen(
        [sys.executable, "-c", STUCK, tmp_path / "store"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as child:
        assert said(child) == "reading"
        assert asked(owner) == "6 False 0"
        child.kill()
        child.wait()
    assert asked(owner) == "7 True 1"


def test_a_copy_that_takes_too_long_is_given_up(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The read transaction is bounded: the copier is killed, and nothing is left in its place."""
    monkeypatch.setattr(boot, "environment", lambda *_, **__: signal.pause())
    with pytest.raises(StoreFailed, match=r"not done after 0\.05 s"):
        backup(str(store), str(tmp_path / "kept"), wall=NOW, limit=0.05)
    assert not (tmp_path / "kept").exists()


def test_a_restored_store_is_what_was_backed_up(store: Path, kept: Path, tmp_path: Path) -> None:
    """All keys read the same; the epoch is later than any that the lost store can have reached."""
    made = restore(str(kept), str(tmp_path / "new"), wall=NOW)
    assert (made.node, made.epoch, made.position, made.dropped) == ("room", int(NOW), 10, 0)
    assert content(tmp_path / "new") == content(store)
    again = LmdbJournal.open(tmp_path / "new", wall=lambda: NOW, node="room")
    assert again.epoch == int(NOW) + 1
    again.commit([entry("ann", 6)])
    assert again.read("ann", 5)[0].feed == 11
    again.close()
    with pytest.raises(StoreForeign):
        LmdbJournal.open(tmp_path / "new", wall=lambda: NOW, node="other")


def test_the_epoch_rises_whatever_the_clock_says(kept: Path, tmp_path: Path) -> None:
    """With a clock that was set back the epoch still rises."""
    assert restore(str(kept), str(tmp_path / "new"), wall=0.5).epoch > 1


@pytest.mark.parametrize("position", range(1, 11))
def test_a_store_can_be_restored_to_every_position(kept: Path, tmp_path: Path, position: int) -> None:
    """After a position nothing is left: no entry, no snapshot that knows of one, no key that began later."""
    made = restore(str(kept), str(tmp_path / "new"), wall=NOW, position=position)
    assert (made.position, made.dropped) == (position, 10 - position)
    heads = {key: ORDER[:position].count(key) for key in ORDER[:position]}
    found = content(tmp_path / "new")
    assert {key: count for key, (count, _) in found.items()} == heads
    saved = 3 if heads["ann"] >= 3 else 0
    assert found["ann"][1] == (saved, list(range(saved + 1, heads["ann"] + 1)))
    journal = LmdbJournal.open(tmp_path / "new", wall=lambda: NOW)
    journal.commit([entry("dot", 1)])
    assert journal.read("dot")[0].feed == position + 1
    journal.close()


def test_a_store_can_be_restored_to_a_time(kept: Path, tmp_path: Path) -> None:
    """What lies before the first entry after a time is kept; the entry of that very moment is, too."""
    for n, (until, position) in enumerate([(101.0, 1), (103.5, 3), (110.0, 10), (NOW, 10)]):
        assert restore(str(kept), str(tmp_path / f"new{n}"), wall=NOW, until=until).position == position


@pytest.mark.parametrize("asked", [{"position": 0}, {"position": 11}, {"until": 100.9}, {"until": NOW + 1}])
def test_a_point_that_never_was_is_refused(kept: Path, tmp_path: Path, asked: dict[str, float]) -> None:
    """A position or a time outside the backup is refused, and nothing is made."""
    with pytest.raises(PositionGone) as caught:
        restore(str(kept), str(tmp_path / "new"), wall=NOW, **asked)  # type: ignore[arg-type]  # one of the two
    assert caught.value.wanted.split()[0] in ("position", "the")
    assert not (tmp_path / "new").exists()


def test_a_point_that_is_gone_is_refused(store: Path, tmp_path: Path) -> None:
    """Where a key's entries were dropped behind its snapshot, no point before that can be had."""
    journal = LmdbJournal.open(store, wall=lambda: 1e9)
    journal.commit([], [snapshot("ann", 5, b"\x82\x60\x80")], {"ann": 5})
    journal.close()
    backup(str(store), str(tmp_path / "kept"), wall=NOW)
    for position in range(1, 10):
        with pytest.raises(PositionGone, match="'ann'"):
            restore(str(tmp_path / "kept"), str(tmp_path / "new"), wall=NOW, position=position)
        assert not (tmp_path / "new").exists()
    made = restore(str(tmp_path / "kept"), str(tmp_path / "new"), wall=NOW, position=10)
    assert made.dropped == 0


@pytest.mark.parametrize("name", ["other", MARKER, boot.MARKER])
def test_nothing_is_ever_overwritten(kept: Path, store: Path, tmp_path: Path, name: str) -> None:
    """A directory that holds anything takes neither a backup nor a store."""
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / name).write_bytes(b"mine")
    with pytest.raises(StoreNotEmpty, match=name):
        backup(str(store), str(tmp_path / "taken"), wall=NOW)
    with pytest.raises(StoreNotEmpty, match=name):
        restore(str(kept), str(tmp_path / "taken"), wall=NOW)
    assert {p.name: p.read_bytes() for p in (tmp_path / "taken").iterdir()} == {name: b"mine"}


def cut(path: Path) -> None:
    os.truncate(path / "data.mdb", (path / "data.mdb").stat().st_size - 4096)


def flip(path: Path) -> None:
    data = bytearray((path / "data.mdb").read_bytes())
    data[len(data) // 2] ^= 1
    (path / "data.mdb").write_bytes(data)


def newer(path: Path) -> None:
    said = json.loads((path / MARKER).read_text())
    (path / MARKER).write_text(json.dumps(said | {"format": 99}))


@pytest.mark.parametrize(
    ("ruin", "error", "text"),
    [
        (lambda path: (path / MARKER).unlink(), NotABackup, "it is none, or it was cut"),
        (lambda path: (path / MARKER).write_bytes(b"{}"), NotABackup, "does not hold what was written"),
        (lambda path: (path / MARKER).write_bytes(b"["), NotABackup, "does not hold what was written"),
        (lambda path: (path / "data.mdb").unlink(), NotABackup, "it was cut"),
        (cut, NotABackup, "it was cut"),
        (flip, NotABackup, "sha256"),
        (newer, StoreNewer, "format 99"),
    ],
)
def test_what_is_no_whole_backup_is_refused(
    kept: Path, tmp_path: Path, ruin: Callable[[Path], None], error: type[StoreError], text: str
) -> None:
    """A backup that was cut, changed, or made by a later program makes no store."""
    ruin(kept)
    with pytest.raises(error, match=text):
        restore(str(kept), str(tmp_path / "new"), wall=NOW)
    assert not (tmp_path / "new").exists()


def test_a_store_is_no_backup_and_a_backup_no_store(kept: Path, store: Path, tmp_path: Path) -> None:
    """Each is refused in the other's place, and so is nothing at all."""
    with pytest.raises(NotABackup, match="banyan backup"):
        restore(str(store), str(tmp_path / "new"), wall=NOW)
    with pytest.raises(StoreForeign):
        LmdbJournal.open(kept, wall=lambda: NOW)
    for nothing in (kept, tmp_path / "none"):
        with pytest.raises(StoreMissing):
            backup(str(nothing), str(tmp_path / "new"), wall=NOW)
    with pytest.raises(StoreMissing):
        restore(str(tmp_path / "none"), str(tmp_path / "new"), wall=NOW)
    assert not (tmp_path / "new").exists()


def test_a_damaged_store_gives_no_backup(store: Path, tmp_path: Path) -> None:
    """The copy is checked; one with damage in it is taken away again, and the damage named."""
    LmdbStore(store).damage(entry("bob", 2, wall=105.0))
    with pytest.raises(StoreDamaged, match="'bob' record 2"):
        backup(str(store), str(tmp_path / "kept"), wall=NOW)
    assert not (tmp_path / "kept").exists()
    assert sorted(os.listdir(tmp_path)) == ["store"]


def test_a_restore_that_was_cut_off_makes_no_store(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a killed restore leaves is refused by name; one that fails leaves nothing."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(lmdb_restore, "_bring", fail)
    with pytest.raises(StoreFull):
        restore(str(kept), str(tmp_path / "new"), wall=NOW)
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr(lmdb_restore, "undo", lambda *_: None)
    with pytest.raises(StoreFull):
        restore(str(kept), str(tmp_path / "new"), wall=NOW)
    for read_only in (True, False):
        with pytest.raises(StoreDamaged, match="it was being restored"):
            LmdbJournal.open(tmp_path / "new", wall=lambda: NOW, read_only=read_only)


def test_what_a_backup_says_is_plain_json(kept: Path) -> None:
    """The marker can be read by anyone, and names the checksum that `sha256sum` gives."""
    said = json.loads((kept / MARKER).read_text())
    assert said.pop("backup") == "banyan journal"
    assert set(said) == set(Backup.__dataclass_fields__)
    assert (said["wall"], said["bytes"]) == (NOW, (kept / "data.mdb").stat().st_size)


# -- with a relaxed store --------------------------------------------------------------------------------


@pytest.fixture
def both(store: Path) -> Path:
    """The store, and beside it a relaxed one with an entry at every second second."""
    journal = LmdbJournal.open(store, wall=lambda: 1e9)
    journal.set_meta("relaxed", b"1")
    journal.close()
    journal = LmdbJournal.open(store / "relaxed", wall=lambda: 1e9, node="room", relaxed=True)
    for n in range(1, 6):
        journal.commit([entry("eve", n, wall=100.5 + 2 * n)])
    journal.close()
    return store


def test_a_relaxed_store_goes_along(both: Path, tmp_path: Path) -> None:
    """It is backed up, restored and checked with the other; the counts of a check are those of both."""
    made = backup(str(both), str(tmp_path / "kept"), wall=NOW)
    assert made.relaxed is not None
    assert (made.position, made.relaxed.position, made.relaxed.keys) == (10, 5, 1)
    assert read_marker(str(tmp_path / "kept")) == made
    restore(str(tmp_path / "kept"), str(tmp_path / "new"), wall=NOW)
    report = check(str(tmp_path / "new"))
    assert (report.found, report.keys, report.entries, report.relaxed) == (0, 4, 15, True)
    assert content(tmp_path / "new" / "relaxed") == content(both / "relaxed")


@pytest.mark.parametrize(
    ("asked", "position", "eve"), [({"position": 5}, 5, 2), ({"until": 107.6}, 7, 3), ({"position": 1}, 1, 0)]
)
def test_a_relaxed_store_goes_back_to_the_same_time(
    both: Path, tmp_path: Path, asked: dict[str, float], position: int, eve: int
) -> None:
    """To restore to a position is, for the relaxed store, to restore to that entry's time."""
    backup(str(both), str(tmp_path / "kept"), wall=NOW)
    made = restore(str(tmp_path / "kept"), str(tmp_path / "new"), wall=NOW, **asked)  # type: ignore[arg-type]  # one of the two
    assert (made.position, made.dropped) == (position, 10 - position + 5 - eve)
    found = content(tmp_path / "new" / "relaxed")
    assert {key: count for key, (count, _) in found.items()} == ({"eve": eve} if eve else {})


def test_a_relaxed_store_that_is_gone_or_cut_is_found(both: Path, tmp_path: Path) -> None:
    """A check names what is wrong in the relaxed store, and that it is missing; a cut backup of it is refused."""
    backup(str(both), str(tmp_path / "kept"), wall=NOW)
    (tmp_path / "kept" / "relaxed" / "data.mdb").unlink()
    with pytest.raises(NotABackup, match="it was cut"):
        restore(str(tmp_path / "kept"), str(tmp_path / "new"), wall=NOW)
    assert not (tmp_path / "new").exists()
    LmdbStore(both / "relaxed").damage(entry("eve", 2, wall=104.5))
    assert str(check(str(both)).problems[0]).startswith("relaxed 'eve' record 2: ")
    shutil.rmtree(both / "relaxed")
    assert [str(one) for one in check(str(both)).problems] == ["its relaxed store is gone"]
