"""What a disk may hold after the power went: everything that was synced, and any part of the rest.

`Surface` follows a log of writes and knows, of each file, what is safe and what is only written; `image` draws
one of the directories that a loss of power may leave behind. What is only written is lost or kept by the
sector of 512 bytes, whatever came later; names are kept in their order, up to any point, until their directory
is synced. A failed sync has saved any part of what was written, and the rest is never written again, though
reading shows it: so do Linux's file systems. Source: Pillai et al., "All File Systems Are Not Created Equal"
(OSDI 2014); Rebello et al., "Can Applications Recover from fsync Failures?" (ATC 2020).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from . import shim
from .shim import LOST, SYNCHRONOUS, TRUNCATE, WRITE, Op

SECTOR = 512


@dataclass(eq=False)
class _File:
    """One file, whatever its name: what is safe, and what is only written."""

    safe: bytearray = field(default_factory=bytearray)
    written: list[Op] = field(default_factory=list)

    def sync(self) -> None:
        for op in self.written:
            if not op.flags & LOST:
                _apply(self.safe, op)
        self.written.clear()

    def forget(self) -> None:
        """A sync has failed: what was only written is not written again."""
        for at, op in enumerate(self.written):
            if not op.flags & SYNCHRONOUS:
                self.written[at] = Op(op.kind, LOST, op.path, op.offset, op.data)

    def content(self, rng: Random, kept: float, torn: bool) -> bytearray:
        """What a loss of power leaves of it."""
        data = bytearray(self.safe)
        for op in self.written:
            if op.flags & SYNCHRONOUS and not op.flags & LOST:
                _apply(data, op)
            elif torn and op.kind == WRITE:
                for start in range(0, len(op.data), SECTOR):
                    if rng.random() < kept:
                        part = op.data[start : start + SECTOR]
                        _apply(data, Op(WRITE, 0, op.path, op.offset + start, part))
            elif rng.random() < kept:
                _apply(data, op)
        return data


def _apply(data: bytearray, op: Op) -> None:
    if op.kind == TRUNCATE:
        del data[op.offset :]
        data.extend(bytes(op.offset - len(data)))
        return
    if len(data) < op.offset:
        data.extend(bytes(op.offset - len(data)))
    data[op.offset : op.offset + len(op.data)] = op.data


# A name and what it stands for: a file, a directory (True), or nothing any more (None).
_Names = dict[str, "_File | bool | None"]


class Surface:
    """A directory on a disk, from what it held on, as a log of calls changes it."""

    def __init__(self, root: Path) -> None:
        self._names: _Names = {}
        for path in sorted(root.rglob("*")):
            name = str(path.relative_to(root))
            self._names[name] = True if path.is_dir() else _File(bytearray(path.read_bytes()))
        self._safe: _Names = dict(self._names)
        # Names given or taken whose directory is not synced, in order: each a set of changes made at once.
        self._renamed: list[tuple[str, _Names]] = []

    def take(self, op: Op) -> None:
        """Follow one call."""
        match op.kind:
            case shim.WRITE | shim.TRUNCATE:
                file = self._names.get(op.path)
                if isinstance(file, _File):
                    file.written.append(op)
            case shim.SYNC:
                self._sync(op)
            case shim.CREATE:
                self._name({op.path: _File()})
            case shim.MKDIR:
                self._name({op.path: True})
            case shim.UNLINK:
                self._name({op.path: None})
            case shim.RENAME:
                self._name({op.path: None, os.fsdecode(op.data): self._names.get(op.path)})

    def _name(self, change: _Names) -> None:
        self._names.update(change)
        self._renamed.append((os.path.dirname(next(iter(change))), change))

    def _sync(self, op: Op) -> None:
        file = self._names.get(op.path)
        if isinstance(file, _File):
            if op.flags & LOST:
                file.forget()
            else:
                file.sync()
        elif not op.flags & LOST:
            directory = "" if op.path == "." else op.path
            for where, change in self._renamed:
                if where == directory:
                    self._safe.update(change)
            self._renamed = [one for one in self._renamed if one[0] != directory]

    def image(self, root: Path, rng: Random) -> None:
        """Make what a loss of power may leave behind, below a directory that is empty."""
        kept, torn = rng.choice((0.0, 0.1, 0.5, 0.5, 0.9, 1.0)), rng.random() < 0.5
        names = dict(self._safe)
        until = {where: rng.random() < kept for where, _ in self._renamed}
        for where, change in self._renamed:
            # In their order: after the first that is lost, so are all of this directory.
            until[where] = until[where] and rng.random() < max(kept, 0.5)
            if until[where]:
                names.update(change)
        for name in sorted(names):
            found = names[name]
            if found is None or not (root / name).parent.is_dir():
                continue
            if found is True:
                (root / name).mkdir(0o700)
            elif isinstance(found, _File):
                (root / name).write_bytes(found.content(rng, kept, torn))
