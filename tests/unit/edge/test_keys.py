"""The key file: made once, private, whole; refused when it is not."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from runtime.edge.keys import FILE, BadKey, make_key, own_secret, read_key
from supervisors import Node

SECRET, OTHER = bytes(range(32)), bytes(32)


def test_no_file_is_no_key(tmp_path: Path) -> None:
    """A directory without a key has none, and gets none by looking."""
    assert read_key(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_key_is_made_once(tmp_path: Path) -> None:
    """The first secret is kept; later ones are left aside."""
    assert make_key(tmp_path, SECRET) == SECRET
    assert make_key(tmp_path, OTHER) == SECRET
    assert read_key(tmp_path) == SECRET
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_key_is_private_from_its_first_instant(tmp_path: Path) -> None:
    """Only its owner may read the file, whatever the umask says."""
    make_key(tmp_path, SECRET)
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


def test_what_a_killed_start_left_is_no_key(tmp_path: Path) -> None:
    """Half a file under the name of the making is thrown away."""
    (tmp_path / FILE).with_suffix(".new").write_text("00")
    assert make_key(tmp_path, SECRET) == SECRET


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    """A secret that others may read is none, and the refusal says what to do."""
    make_key(tmp_path, SECRET)
    (tmp_path / FILE).chmod(0o640)
    with pytest.raises(BadKey, match="chmod 600"):
        read_key(tmp_path)


@pytest.mark.parametrize("text", [b"", b"00", b"zz" * 32, b"\xff" * 64, b"00" * 33])
def test_a_file_that_is_no_key_is_refused(tmp_path: Path, text: bytes) -> None:
    """A damaged key is refused rather than used; the text shows nothing of it."""
    (tmp_path / FILE).write_bytes(text)
    (tmp_path / FILE).chmod(0o600)
    with pytest.raises(BadKey, match="remove it") as caught:
        make_key(tmp_path, SECRET)
    assert caught.value.path == tmp_path / FILE


async def test_a_node_keeps_its_secret_in_its_data_directory(tmp_path: Path) -> None:
    """A node that lives again on the same directory has the same secret."""
    found = []
    for _ in range(2):
        async with Node("keys", data=tmp_path / "store"):
            found.append(own_secret())
    assert found == [read_key(tmp_path / "store")] * 2


async def test_a_node_without_a_directory_has_a_secret_for_its_life() -> None:
    """Without a place to keep it a secret is drawn anew."""
    found = []
    for data in (None, ":memory:"):
        async with Node("keys", data=data):
            found.append(own_secret())
    assert [len(secret) for secret in found] == [32, 32]
    assert found[0] != found[1]
