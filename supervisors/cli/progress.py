"""How far a long piece of work is: one line on stderr that is written over, and only for a person."""

from __future__ import annotations

import sys
import time
from typing import final

from .main import is_tty


@final
class ProgressLine:
    """A callable `(stage, done, total)`, bytes if `size`; writes at most ten times a second, and only to a terminal."""

    def __init__(self) -> None:
        self._shown = is_tty(sys.stderr)
        self._stage = ""
        self._next = 0.0

    def __call__(self, stage: str, done: int, total: int, *, size: bool = False) -> None:
        now = time.monotonic()
        if not self._shown or (now < self._next and stage == self._stage):
            return
        self._stage, self._next = stage, now + 0.1
        unit, each = (" MiB", 1 << 20) if size or stage in ("pages", "bytes") else ("", 1)
        of = f" of {total // each:,}" if total else ""
        print(f"\r\x1b[K{stage}: {done // each:,}{of}{unit}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Take the line away."""
        if self._shown and self._stage:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
