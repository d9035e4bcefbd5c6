"""Where the nodes of a user are found: a directory that only the user may enter, a socket for each node.

The directory is `banyan` below $XDG_RUNTIME_DIR, or `/tmp/banyan-UID` where there is none. A node that is to
be found holds a lock on `NAME.lock` for as long as it lives; whoever gets that lock knows that the node is
dead, and may take its name and remove its socket. A lock file is removed by its holder alone, and a lock
counts only on the file that bears the name: so two cannot hold "the same" lock.

This is for programs outside a node: it waits for the disk. Source: the XDG Base Directory Specification;
flock(2), unix(7).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from .protocol import Code, Refusal

# Bytes of a unix socket's path, without its closing zero: sun_path of unix(7).
PATH_LIMIT = 107
# Seconds that a new node waits for whoever looks whether the name's lock is free.
CLAIM_PATIENCE = 1.0
SUFFIX = ".sock"
LOCK = ".lock"
# The back door, beside the socket.
BACK = ".oob"


def directory(environ: Mapping[str, str] | None = None) -> Path:
    """The directory of this user's sockets; it may not exist yet."""
    base = (os.environ if environ is None else environ).get("XDG_RUNTIME_DIR", "")
    # The specification wants absolute paths only; a stale one (su, a container) is as good as none.
    if base.startswith("/") and Path(base).is_dir():
        return Path(base, "banyan")
    return Path("/tmp", f"banyan-{os.geteuid()}")


def private_directory() -> Path:
    """The directory of this user's sockets, made if it is missing.

    Raises Refusal if it cannot be made, or if anybody else could enter it.
    """
    path = directory()
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        what = f"cannot make {path}, the directory of the nodes' sockets"
        advice = "set XDG_RUNTIME_DIR to a directory of your own"
        raise Refusal(what, error.strerror or str(error), advice, Code.REFUSED) from error
    what = f"will not use {path} for the nodes' sockets"
    if not stat.S_ISDIR(found.st_mode):
        raise Refusal(what, "it is no directory", "remove it", Code.REFUSED)
    if found.st_uid != os.geteuid():
        why = f"it belongs to user {found.st_uid}"
        raise Refusal(what, why, "set XDG_RUNTIME_DIR to a directory of your own", Code.REFUSED)
    if found.st_mode & 0o077:
        why = f"others may enter it (mode {stat.S_IMODE(found.st_mode):o})"
        raise Refusal(what, why, f"chmod 700 {path}", Code.REFUSED)
    return path


def existing_directory() -> Path | None:
    """The directory of this user's sockets, None if it is missing; raises Refusal if it is not private."""
    return private_directory() if directory().exists() else None


def socket_of(name: str, folder: Path | None = None) -> Path:
    """The socket of a node; raises Refusal if its path is too long for the operating system."""
    path = (directory() if folder is None else folder) / f"{name}{SUFFIX}"
    length = len(os.fsencode(path))
    if length > PATH_LIMIT:
        raise Refusal(
            f"the socket of node {name[:60]!r} cannot be made",
            f"its path would have {length} bytes, and a socket's path has at most {PATH_LIMIT}: {path}",
            "give the node a shorter name, or set XDG_RUNTIME_DIR to a shorter path",
            Code.USAGE,
        )
    return path


@contextlib.contextmanager
def claim(name: str) -> Iterator[Path]:
    """Hold a node's name while the block runs; gives the path of its socket, at which nothing is left.

    Raises Refusal if a living node of this user has the name, or the place is not as it should be.
    """
    folder = private_directory()
    path = socket_of(name, folder)
    lock_path = folder / f"{name}{LOCK}"
    lock = _take(lock_path, CLAIM_PATIENCE)
    if lock is None:
        raise Refusal(
            f"the name {name!r} is taken",
            "another node of yours is running under it",
            "give this one another name (--name), or stop the other one first",
            Code.REFUSED,
        )
    try:
        path.unlink(missing_ok=True)
        yield path
    finally:
        path.unlink(missing_ok=True)
        path.with_suffix(BACK).unlink(missing_ok=True)
        lock_path.unlink(missing_ok=True)
        os.close(lock)


def _take(path: Path, patience: float) -> int | None:
    """The lock of a name, as the number of its open file; None if somebody keeps it."""
    tries = max(1, int(patience / 0.01))
    for left in reversed(range(tries)):
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(file), path.stat()):
                return file
        except (BlockingIOError, FileNotFoundError):
            pass
        # Somebody holds it, or has just removed it.
        os.close(file)
        if left:
            time.sleep(0.01)  # noqa: TID251  # allowed: a command waits here, before its node lives
    return None


def sockets() -> list[tuple[str, Path]]:
    """The (name, socket) of every node that seems to live here, by name; what the dead left is removed.

    A socket without a lock is some program's own door, which never claimed its name: it is let be.
    Raises Refusal if the directory is not private: nothing in it could be trusted.
    """
    folder = existing_directory()
    if folder is None:
        return []
    locks = [path.name.removesuffix(LOCK) for path in folder.glob(f"*{LOCK}")]
    names = [path.name.removesuffix(SUFFIX) for path in folder.glob(f"*{SUFFIX}")]
    buried = [name for name in locks if _buried(folder / f"{name}{LOCK}", folder / f"{name}{SUFFIX}")]
    return [(name, folder / f"{name}{SUFFIX}") for name in sorted(names) if name not in buried]


def _buried(lock_path: Path, path: Path) -> bool:
    """Whether the node of this lock is dead; then its socket and its lock have been removed."""
    try:
        lock = _take(lock_path, 0)
    except OSError:
        return False
    if lock is None:
        return False
    try:
        path.unlink(missing_ok=True)
        path.with_suffix(BACK).unlink(missing_ok=True)
        lock_path.unlink(missing_ok=True)
    finally:
        os.close(lock)
    return True
