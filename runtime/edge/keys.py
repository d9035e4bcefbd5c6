"""The gateway's secret: a file of its own in the data directory, made once.

The file is 0600 and holds 32 bytes from the World's randomness, in hex. Whoever can read it can log in as
anybody; that is how the node's own user gets a login token. It appears whole or not at all.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from ..errors import BanyanError
from ..kernel.table import current_table
from .tokens import SECRET_BYTES

FILE: Final = "gateway.key"


class BadKey(BanyanError):
    """The key file is not as it must be; `path` is where it lies."""

    def __init__(self, path: Path, why: str, next: str) -> None:
        super().__init__(f"the gateway's key {path} cannot be used: {why}; {next}")
        self.path = path


def read_key(directory: str | Path) -> bytes | None:
    """The secret in a data directory; None if there is none.

    Raises:
        BadKey: others may read it, or it is no key.
        OSError: it cannot be read.
    """
    path = Path(directory, FILE)
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0))
    except FileNotFoundError:
        return None
    with os.fdopen(file, "rb") as opened:
        mode = os.fstat(opened.fileno()).st_mode
        if os.name == "posix" and mode & 0o077:
            why = f"others may read it (mode {stat.S_IMODE(mode):o})"
            raise BadKey(path, why, f"remove it, so that a new one is made, or chmod 600 {path}")
        text = opened.read(4 * SECRET_BYTES)
    try:
        secret = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        secret = b""
    if len(secret) != SECRET_BYTES:
        raise BadKey(path, f"it does not hold {SECRET_BYTES} bytes in hex", "remove it: a new one is made")
    return secret


def make_key(directory: str | Path, secret: bytes) -> bytes:
    """Keep `secret` in a data directory, unless there is one; returns the one that is there then.

    Raises BadKey and OSError, as `read_key`.
    """
    found = read_key(directory)
    if found is not None:
        return found
    path = Path(directory, FILE)
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)  # of a start that was killed
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(file, "wb") as opened:
        opened.write(secret.hex().encode("ascii") + b"\n")
        opened.flush()
        os.fsync(opened.fileno())
    fresh.replace(path)
    return secret


def own_secret() -> bytes:
    """The secret of the caller's node: from its data directory, or for this life only if it has none.

    Raises BadKey and OSError, as `read_key`.
    """
    table = current_table()
    secret = table.world.random.randbytes(SECRET_BYTES)
    directory = getattr(table.services.get("journal"), "path", None)
    if not isinstance(directory, str) or not os.path.isdir(directory):
        return secret
    return make_key(directory, secret)
