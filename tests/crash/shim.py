"""The shim before the disk: built once for a run, loaded into this program anew, and its log read.

`under_shim()` is the first thing a tool does: it builds `shim.c` with cc and starts the program again with it
loaded, because a library can stand before others only from the start. Children are forked from there; each arms
the shim for its own directory. Source: the log of writes of ALICE and CrashMonkey; `LD_PRELOAD` of ld.so(8).
"""

from __future__ import annotations

import ctypes
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).with_name("shim.c")
_BUILT: Final = "BANYAN_CRASH_SHIM"
_RECORD: Final = struct.Struct("=IIIIQQ")

WRITE, SYNC, TRUNCATE, CREATE, RENAME, UNLINK, MKDIR, MARK, FAILED = range(1, 10)
SYNCHRONOUS, LOST = 1, 2
# How a call fails, beside an errno: a write takes the first half of what it was given.
SHORT: Final = -1


@dataclass(frozen=True, slots=True)
class Op:
    """One call on a file, or a mark of the program's own; FAILED stands before the call that was struck.

    Attributes:
        kind: WRITE and so on.
        flags: SYNCHRONOUS, LOST.
        path: the file, below the directory that was armed.
        offset: of a write its place, of a TRUNCATE the new size.
        data: the bytes; of a RENAME the new name.
    """

    kind: int
    flags: int
    path: str
    offset: int
    data: bytes


def parse(log: bytes) -> Iterator[Op]:
    """The calls of a log, in order."""
    at = 0
    while at < len(log):
        kind, flags, path, _, offset, size = _RECORD.unpack_from(log, at)
        at += _RECORD.size
        yield Op(kind, flags, os.fsdecode(log[at : at + path]), offset, log[at + path : at + path + size])
        at += path + size


def missing() -> str:
    """What the shim lacks on this machine, in words; "" if nothing."""
    if not sys.platform.startswith("linux"):
        return "the shim needs Linux, which lets a library stand before libc"
    return "" if shutil.which("cc") else "the shim needs a C compiler called cc"


def under_shim(module: str) -> None:
    """Go on only with the shim loaded: starts this program again unless it is. Ends with 5 if it cannot be."""
    built = os.environ.pop(_BUILT, "")
    if built:
        # Loaded by now; children of other programs need it no more.
        os.environ.pop("LD_PRELOAD", None)
        shutil.rmtree(os.path.dirname(built), ignore_errors=True)
        return
    lacks = missing()
    if lacks:
        print(f"cannot stand before the disk: {lacks}; install it and try again", file=sys.stderr)
        sys.exit(5)
    library = os.path.join(tempfile.mkdtemp(prefix="crash-shim-"), "shim.so")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, str(SOURCE), "-ldl"], check=True)
    environment = {**os.environ, "LD_PRELOAD": library, _BUILT: library}
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, "-m", module, *sys.argv[1:]], environment)


class Shim:
    """The shim of this process; there must be one, see `under_shim`."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        self._library.crash_mark.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
        self._library.crash_arm.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_long, ctypes.c_int]

    def arm(self, directory: str, log: int, *, nth: int = 0, how: int = 0) -> None:
        """Log everything below a directory to a file descriptor; let the `nth` call fail with errno `how`.

        An ENOSPC or SHORT strikes writes only, an EIO reads too. 0 lets none fail.
        """
        self._library.crash_arm(os.fsencode(directory), log, nth, how)

    def mark(self, line: bytes) -> None:
        """Put a record of one's own into the log."""
        self._library.crash_mark(line, len(line))
