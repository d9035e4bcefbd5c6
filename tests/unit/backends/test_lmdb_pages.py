"""The pages of a store's file, read and never mapped; and what stands on that: keys, and files cut short."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.backends import lmdb_boot as boot
from runtime.backends.lmdb import LmdbJournal
from runtime.backends.lmdb_pages import Pages
from runtime.durable.journal import StoreDamaged

from .stores import LmdbStore, entry

ROOT = Path(__file__).parents[3]
PAGE = 4096
KEYS = [f"key/{n:04}" for n in range(600)]


@pytest.fixture
def store(tmp_path: Path) -> LmdbStore:
    """Several leaves of heads; and a last commit whose pages end the file."""
    store = LmdbStore(tmp_path / "store")
    journal = store.open()
    assert isinstance(journal, LmdbJournal)
    journal.commit([entry(key, 1) for key in KEYS])
    journal.fold()
    journal.commit([entry("long", 1, payload=bytes(range(256)) * 400)])
    journal.close()
    return store


def test_the_keys_of_a_tree_are_read(store: LmdbStore) -> None:
    """All keys of a database, in order; none of one that is not there."""
    with Pages.reading(str(store.path / boot.DATA)) as pages:
        assert [key.decode() for key in pages.keys(b"heads")] == KEYS
        assert list(pages.keys(b"none")) == []
        assert pages.check(b"heads") == []


def test_free_pages_are_what_lmdb_says(store: LmdbStore) -> None:
    """No page is both free and in use, and some are free."""
    with Pages.reading(str(store.path / boot.DATA)) as pages:
        free = pages.free()
        used = set(pages._leaves(*pages._tree(pages._trees[b"heads"])))
    assert len(free) > 5
    assert len(used) > 5
    assert free.isdisjoint(used)


RUINED = """
import sys
from pathlib import Path
from runtime.durable.journal import StoreDamaged
from tests.unit.backends.stores import LmdbStore
from tests.unit.backends.test_lmdb_pages import KEYS, PAGE

path = Path(sys.argv[1])
data, lock = (path / "data.mdb").read_bytes(), (path / "banyan.lock").read_bytes()
found = 0
for page in range(2, len(data) // PAGE):
    (path / "data.mdb").write_bytes(data[: page * PAGE] + bytes(PAGE) + data[(page + 1) * PAGE :])
    (path / "banyan.lock").write_bytes(lock)
    try:
        journal = LmdbStore(path).open()
    except StoreDamaged:
        continue
    try:
        assert journal.keys() == [*KEYS, "long"]
    except StoreDamaged as error:
        found += "heads" in str(error)
    journal.close()
print(found)
"""


@pytest.mark.processes
def test_keys_are_whole_or_refused(store: LmdbStore) -> None:
    """With any page zeroed, the list of keys is right or refused; a cursor would end the program."""
    ended = subprocess.run(
        [sys.executable, "-c", RUINED, store.path], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert int(ended.stdout) >= 4


def test_a_value_that_lost_its_end_is_refused(store: LmdbStore) -> None:
    """A file cut within the pages of one long value is refused: to read that value would be a SIGBUS."""
    size = os.path.getsize(store.path / boot.DATA)
    for cut in (1, PAGE, 3 * PAGE + 7, 20 * PAGE):
        os.truncate(store.path / boot.DATA, size - cut)
        for read_only in (True, False):
            with pytest.raises(StoreDamaged, match="is in use"):
                store.open(read_only=read_only)


def test_a_circle_of_pages_has_an_end(store: LmdbStore) -> None:
    """A branch that names itself as its child is found, and not followed for ever."""
    with Pages.reading(str(store.path / boot.DATA)) as pages:
        root, depth = pages._tree(pages._trees[b"heads"])
    assert depth == 2
    data = bytearray((store.path / boot.DATA).read_bytes())
    place = int.from_bytes(data[root * PAGE + 16 : root * PAGE + 18], "little") + root * PAGE
    data[place : place + 2] = root.to_bytes(2, "little")
    (store.path / boot.DATA).write_bytes(data)
    with Pages.reading(str(store.path / boot.DATA)) as pages:
        assert root in pages.check(b"heads")
        assert len(list(pages.keys(b"heads"))) < len(KEYS)
