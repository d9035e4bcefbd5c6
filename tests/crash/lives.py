"""Children: each life of a node, and each look at its store, is a process of its own, forked from one that is warm.

The parent has imported everything, and never runs Trio or opens a store itself: so a fork is a fresh program in
a millisecond, and a look at a ruined store may die of SIGBUS without taking the tool along.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import BanyanError

# Ends of a child: in order, by an error that the product names, by any other exception.
DONE, REFUSED, BROKEN = 0, 3, 70


@dataclass(frozen=True)
class Child:
    """A process of ours: its number, and what it says."""

    pid: int
    output: int

    def text(self) -> tuple[bytes, int]:
        """All that it says until its end, and how it ended: its exit code, or a signal as a negative number."""
        parts = []
        while part := os.read(self.output, 1 << 16):
            parts.append(part)
        return b"".join(parts), self.end()

    def end(self) -> int:
        """Wait for it; see `text`."""
        os.close(self.output)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def fork(work: Callable[[int], int | None], *, quiet: bool = False) -> Child:
    """Run `work` in a child, with a pipe to write to; its exit code is what `work` returns, or BROKEN.

    Args:
        quiet: what the child says on stderr is thrown away: it is meant to fail.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    output, pipe = os.pipe()
    pid = os.fork()
    if pid:
        os.close(pipe)
        return Child(pid, output)
    code = BROKEN
    try:
        os.close(output)
        if quiet:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        code = work(pipe) or DONE
    except BaseException:  # the child has nobody above it; it says what it died of
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def typed(run: Callable[[], object]) -> int:
    """Run a node: how it ends is an exit code. What has no name is raised."""
    try:
        run()
    except BaseException as error:
        if not all(isinstance(one, BanyanError) for one in _leaves(error)):
            raise
        print(*_leaves(error), sep="\n", file=sys.stderr)
        return REFUSED
    return DONE


@contextmanager
def workspace(*, memory: bool) -> Iterator[Path]:
    """A directory for one run of a tool; in memory if that is to be fast, and the system has such a place."""
    fast = "/dev/shm"
    where = fast if memory and os.access(fast, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="crash-", dir=where, ignore_cleanup_errors=True) as path:
        yield Path(path)


def _leaves(error: BaseException) -> list[BaseException]:
    """The errors in a group, or the error itself."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for one in error.exceptions for leaf in _leaves(one)]
    return [error]
