"""Room kept aside: a file that is given up when the disk is full, so that what makes room can still be written.

On a full disk even a deletion needs a few pages. So a store holds a file of a few megabytes that nobody needs;
when a write finds no room, the file goes, new entries are refused, and what is left of the work (snapshots,
deletions, small values) has the room that it took. When the disk has room again, the file comes back.
Source: the ballast files of CockroachDB and of Elasticsearch's operators.
"""

from __future__ import annotations

import os
from typing import Final, final

NAME: Final = "banyan.ballast"
SIZE: Final = 4 << 20  # bytes
# A disk with less room than this has none to keep aside.
_ROOMY: Final = 4 * SIZE
# Without ballast: room in which the small work of a store goes on; on a tiny disk, this part of it is.
_LEAST: Final = 1 << 20
_LEAST_PART: Final = 16


@final
class Ballast:
    """The file in one store's directory. It never fails: a store without it is a store all the same.

    `lacking` is set while the disk is known to be full; `path` is the directory.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.lacking = False
        self._name = os.path.join(path, NAME)
        self._held = False

    def hold(self) -> None:
        """Take the room, if there is plenty."""
        if self._held or self._room() < _ROOMY:
            return
        try:
            fd = os.open(self._name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                os.posix_fallocate(fd, 0, SIZE)
            finally:
                os.close(fd)
            self._held = True
        except OSError:
            self.drop()

    def drop(self) -> None:
        """Give the room back."""
        self._held = False
        try:
            os.unlink(self._name)
        except OSError:
            pass  # not there, or not to be had: the disk stays as full as it is

    def give_up(self) -> None:
        """The disk is full: make what room there is."""
        self.lacking = True
        self.drop()

    def recovered(self) -> bool:
        """Whether a full disk has room again; then the ballast is back, if there is room for it."""
        if self._room() < self._wanted():
            return False
        self.lacking = False
        self.hold()
        return True

    def _wanted(self) -> int:
        """Room with which a full disk counts as recovered: a large one has enough for the ballast, twice."""
        try:
            found = os.statvfs(self.path)
        except OSError:
            return _LEAST
        total = found.f_blocks * found.f_frsize
        return 2 * SIZE if total >= 2 * _ROOMY else min(_LEAST, total // _LEAST_PART)

    def _room(self) -> int:
        try:
            found = os.statvfs(self.path)
        except OSError:
            return 0
        return found.f_bavail * found.f_frsize
