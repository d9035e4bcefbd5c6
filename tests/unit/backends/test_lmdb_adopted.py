"""A store that is opened in the place of its node: it must be there, and whoever finds it in use is told by whom."""

from __future__ import annotations

import os

import pytest

from runtime.backends.lmdb import LmdbJournal
from runtime.backends.lmdb_boot import LOCK
from runtime.durable.journal import StoreForeign, StoreInUse, StoreMissing


def opened(path, adopter="", node="b"):
    """The store, open."""
    return LmdbJournal.open(path, wall=lambda: 0.0, node=node, adopter=adopter)


@pytest.mark.parametrize("made", [False, True])
def test_nothing_is_made(tmp_path, made):
    """Where there is no store, none is adopted, and the directory is as it was."""
    path = tmp_path / "b"
    if made:
        path.mkdir()
    with pytest.raises(StoreMissing):
        opened(path, "a")
    assert not path.exists() or os.listdir(path) in ([], [LOCK])
    opened(path).close()


def test_whoever_comes_is_told_who_has_adopted_it(tmp_path):
    """As long as it is; the next owner's note says nothing of it."""
    opened(tmp_path / "b").close()
    adopted = opened(tmp_path / "b", "a")
    assert adopted.epoch == 2
    with pytest.raises(
        StoreInUse, match=r"node a has adopted it \(process \d+\); banyan adopt NODE --undo -n a"
    ) as caught:
        opened(tmp_path / "b")
    assert (caught.value.adopter, caught.value.pid) == ("a", os.getpid())
    adopted.close()
    own = opened(tmp_path / "b")
    with pytest.raises(StoreInUse) as caught:
        opened(tmp_path / "b", "c")
    assert (caught.value.adopter, caught.value.pid) == ("", os.getpid())
    own.close()


@pytest.mark.parametrize("name", ["n" * 200, "\u00e4" * 30])
def test_a_name_that_is_too_long_is_left_out(tmp_path, name):
    """The note is always as long, so that what a former owner wrote is never left behind it."""
    opened(tmp_path / "b").close()
    adopted = opened(tmp_path / "b", name)
    assert os.path.getsize(tmp_path / "b" / LOCK) == 128
    with pytest.raises(StoreInUse) as caught:
        opened(tmp_path / "b")
    assert (caught.value.adopter, caught.value.pid) == ("", os.getpid())
    adopted.close()


def test_it_is_the_named_nodes(tmp_path):
    """A store of another name is refused, as at any open."""
    opened(tmp_path / "b").close()
    with pytest.raises(StoreForeign):
        opened(tmp_path / "b", "a", node="c")
