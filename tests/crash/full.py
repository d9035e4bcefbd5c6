"""`python -m tests.crash.full`: the disk of a real node is full for a while, and has room again.

    --steps N   so many times; 3 by default
    --seed S    of the commands; 1 by default

A small file system in memory is mounted, which takes root. In each life a node works on it while a file of
somebody else fills the disk; it has to refuse by name what it cannot keep, and to go on without a restart when
the file is gone. Exit 0 only if the last line says zero: `full steps=N lost=0 doubled=0 damaged=0`; exit 5
where nothing can be mounted.
"""

from __future__ import annotations

import argparse
import errno
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

import trio

from runtime import Refused, Session
from runtime.durable.journal import StoreFull
from runtime.errors import CallFailed

from . import lives
from .bank import EVERYONE, PURSES, Grant, Life, Task, hurry
from .ledger import Ledger, Verdict, all_told
from .look import STORE, look_at

SIZE = 6 << 20
# Commands of each client; lives on one disk, which its store would fill by itself in the end.
COMMANDS, LIVES = 6, 4


class CannotMount(Exception):
    """There is no small file system to be had; why."""


@contextmanager
def small_disk() -> Iterator[Path]:
    """A mounted file system of SIZE bytes; raises CannotMount."""
    with lives.workspace(memory=False) as space:
        command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(space)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except FileNotFoundError:
            raise CannotMount("there is no program called mount") from None
        except subprocess.CalledProcessError as error:
            raise CannotMount(f"mounting takes root: {error.stderr.strip()}") from None
        try:
            yield space
        finally:
            subprocess.run(["umount", "-l", str(space)], check=True)


def _fill(path: Path) -> None:
    """Take all the room that there is."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for size in (1 << 16, 1):
        try:
            while True:
                os.write(fd, bytes(size))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
    os.close(fd)


async def _until_full(filler: Path, life: int) -> bool:
    """Fill the disk and ask for changes until the store says that it is full; whether it did."""
    _fill(filler)
    sender = Session(f"until/{life}")
    for _ in range(2_000):
        try:
            await sender.command(PURSES[0], Grant(1), patience=0.2)
        except StoreFull:
            return True
        except CallFailed:
            continue  # it was late, or was killed: ask again
        _fill(filler)
    return False


def _live(path: Path, task: Task, filler: Path) -> lives.Child:
    """Work, fill the disk until the store refuses, make room, work on; both times all is answered."""

    def work(pipe: int) -> int:
        life = Life(task, lambda line: os.write(pipe, line), before_end=lambda: interlude(life))

        async def interlude(life: Life) -> None:
            if not await _until_full(filler, task.life):
                raise RuntimeError("the disk is full, and the store takes everything")
            os.unlink(filler)
            for purse in EVERYONE:
                # Refused for another reason is an answer too: the store is well again.
                try:
                    await Session(f"after/{task.life}").command(purse, Grant(1))
                except Refused:
                    pass

        return lives.typed(lambda: trio.run(life.run, str(path)))

    return lives.fork(work)


def steps(seed: int) -> Iterator[tuple[int, Verdict]]:
    """Life after life, for ever: one, and what was found in it. Raises CannotMount."""
    life = 0
    while True:
        with small_disk() as disk:
            ledger = Ledger(seed * 1000 + life)
            for _ in range(LIVES):
                life += 1
                dice = Random(f"{seed}/{life}")
                task = Task(ledger.seed, life, tuple(ledger.since), ledger.repeats(dice), COMMANDS)
                text, code = _live(disk / STORE, task, disk / "filler").text()
                ledger.hear(text)
                found = Verdict(damaged=[f"life {life} ended with {code}"] if code else [])
                found.add(look_at(disk / STORE, ledger=ledger))
                yield 1, found
                if found:
                    break


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog="tests.crash.full", description="fill a node's disk, N times")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    hurry()
    try:
        done, found = all_told(steps(options.seed), options.steps)
    except CannotMount as error:
        print(f"cannot make a small disk: {error}", file=sys.stderr)
        return 5
    print(f"full steps={done} {found.counts()}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
