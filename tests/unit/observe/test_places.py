"""Where nodes are found: a private directory, a socket for each, and a lock that says who lives."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from runtime.observe import places
from runtime.observe.places import claim, directory, private_directory, socket_of, sockets
from runtime.observe.protocol import Refusal


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test meets the nodes of this machine's user."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(places, "CLAIM_PATIENCE", 0.05)
    return tmp_path / "banyan"


def dead_node(name: str) -> Path:
    """The socket that a killed node left behind, with its lock, which nobody holds."""
    path = socket_of(name, private_directory())
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
    path.with_suffix(".lock").touch()
    return path


def test_the_directory_is_the_runtime_directory_or_one_in_tmp(tmp_path):
    """$XDG_RUNTIME_DIR is used if it is an absolute path of a directory, else /tmp/banyan-UID."""
    fallback = Path(f"/tmp/banyan-{os.geteuid()}")
    assert directory() == tmp_path / "banyan"
    for stale in ("", "relative", str(tmp_path / "gone")):
        assert directory({"XDG_RUNTIME_DIR": stale}) == fallback
    assert directory({}) == fallback


def test_the_directory_is_made_for_its_owner_alone(own_directory):
    """It is made with mode 0700, and used again as it is."""
    assert private_directory() == own_directory
    assert own_directory.stat().st_mode & 0o777 == 0o700
    assert private_directory() == own_directory


def test_a_directory_that_others_may_enter_is_refused(own_directory):
    """A directory with any right for others is refused, with the command that mends it."""
    own_directory.mkdir()
    own_directory.chmod(0o750)
    with pytest.raises(Refusal) as caught:
        private_directory()
    assert (caught.value.why, caught.value.next, caught.value.code) == (
        "others may enter it (mode 750)",
        f"chmod 700 {own_directory}",
        5,
    )


def test_a_link_to_a_directory_is_refused(own_directory, tmp_path):
    """A symbolic link could lead into anybody's directory."""
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    own_directory.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refusal, match="it is no directory"):
        private_directory()


def test_a_directory_of_another_user_is_refused(own_directory, monkeypatch):
    """What belongs to somebody else is not trusted, whatever its mode."""
    own_directory.mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(Refusal, match="it belongs to user"):
        private_directory()


def test_a_directory_that_cannot_be_made_is_refused(own_directory, tmp_path):
    """Where a file is in the way, the refusal says so."""
    own_directory.touch()
    with pytest.raises(Refusal) as caught:
        private_directory()
    assert caught.value.code == 5


def test_a_socket_path_has_at_most_107_bytes(tmp_path):
    """A path that just fits is given; one byte more is refused with both lengths."""
    room = places.PATH_LIMIT - len(str(tmp_path)) - len("/.sock")
    assert len(str(socket_of("n" * room, tmp_path))) == 107
    with pytest.raises(Refusal) as caught:
        socket_of("n" * (room + 1), tmp_path)
    assert caught.value.code == 2
    assert caught.value.why.startswith("its path would have 108 bytes, and a socket's path has at most 107: ")


def test_a_claimed_name_is_taken():
    """While one holds a name nobody else gets it; afterwards it is free and nothing is left."""
    with claim("a") as path:
        assert path == directory() / "a.sock"
        with pytest.raises(Refusal) as caught, claim("a"):
            pass
        assert (caught.value.what, caught.value.code) == ("the name 'a' is taken", 5)
        with claim("b"):
            pass
    with claim("a"):
        pass
    assert list(directory().iterdir()) == []


def test_a_name_is_free_again_after_a_kill():
    """What a killed node left does not keep its name, and its socket is out of the way."""
    path = dead_node("a")
    with claim("a") as claimed:
        assert claimed == path
        assert not path.exists()


def test_the_sockets_of_the_dead_are_removed():
    """Looking for nodes finds those whose lock is held, and clears away what the dead have left."""
    dead = dead_node("dead")
    with claim("alive") as alive:
        alive.touch()
        assert sockets() == [("alive", alive)]
    assert sockets() == []
    private_directory().joinpath("early.lock").touch()  # of a node that died before it had a socket
    assert sockets() == []
    assert not dead.exists()
    assert list(directory().iterdir()) == []


def test_a_socket_without_a_lock_is_let_be():
    """A program's own door, which claimed no name, is found and never removed."""
    path = socket_of("other", private_directory())
    path.touch()
    assert sockets() == [("other", path)]
    assert path.exists()


def test_a_lock_counts_only_on_the_file_that_bears_the_name(own_directory):
    """Whoever locks a file that was removed meanwhile has nothing: the name's new lock decides."""
    with claim("a"):
        (own_directory / "a.lock").unlink()
        (own_directory / "a.lock").touch()
        # The old lock is no longer that of the name; a new node takes the new file.
        with claim("a"):
            pass


def test_no_directory_means_no_nodes(own_directory):
    """Where nothing was ever started there is nothing, and looking makes nothing."""
    assert sockets() == []
    assert not own_directory.exists()
