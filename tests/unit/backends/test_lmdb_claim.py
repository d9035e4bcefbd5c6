"""A disk that fails while a store is claimed or made: told by name, and tried again it works."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from runtime.backends import lmdb_boot as boot
from runtime.backends.lmdb import LmdbJournal
from runtime.durable.journal import StoreFailed

from .stores import entry


def opened(path: Path) -> LmdbJournal:
    return LmdbJournal.open(path, wall=lambda: 1.7e9)


def test_a_note_that_cannot_be_read_is_told_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock file whose reading fails is a failed store, and the claim is given up."""
    opened(tmp_path / "store").close()

    def fail(*_: object) -> bytes:
        raise OSError(errno.EIO, "says the test")

    with monkeypatch.context() as patch:
        patch.setattr(boot.os, "pread", fail)
        with pytest.raises(StoreFailed):
            opened(tmp_path / "store")
    opened(tmp_path / "store").close()


def test_a_marker_that_is_written_in_parts_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that takes only a part of the marker is gone on with."""
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(boot.os, "write", lambda fd, data: write(fd, bytes(data)[:7]))
        journal = opened(tmp_path / "store")
        journal.commit([entry("a", 1)])
        journal.close()
    journal = opened(tmp_path / "store")
    assert journal.head("a") == 1
    journal.close()
