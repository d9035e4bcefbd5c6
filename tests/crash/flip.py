"""`python -m tests.crash.flip`: one bit of a store's file flips, and no answer may be wrong.

    --points N   so many flips; 200 by default
    --seed S     of the store and the bits; 1 by default

The store of one seeded life is opened with one bit of its data file flipped, anywhere in it, and everything is
read. It may be refused, as a whole or a process of it; the program may be ended by what LMDB meets; but what is
answered must be what was written. Exit 0 only if the last line says zero: `flip points=N ... damaged=0`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from random import Random

from runtime.backends.lmdb import LmdbJournal
from runtime.durable.journal import Journal, StoreError

from . import lives
from .bank import EVERYONE, NODE, Task, hurry
from .ledger import Verdict, recovered
from .look import STORE
from .power import live
from .shim import under_shim

COMMANDS = 12
DATA = "data.mdb"
# How a look at a flipped store ends, beside DONE and REFUSED.
WRONG = 4


def _answers(journal: Journal, key: str) -> object:
    """All that a store says of one process; from where on it recovers is its own affair."""
    return journal.head(key), recovered(key, *journal.load(key)), journal.read(key)


def _read(path: Path, truth: dict[str, object], _pipe: int) -> int:
    code = lives.DONE
    try:
        journal = LmdbJournal.open(path, wall=lambda: 1e9, node=NODE, read_only=True)
        for key in EVERYONE:
            try:
                if _answers(journal, key) != truth[key]:
                    return WRONG
            except StoreError:
                code = lives.REFUSED
    except StoreError:
        code = lives.REFUSED
    return code


def points(seed: int) -> Iterator[tuple[int, Verdict]]:
    """Flip after flip, for ever: one, and what was found."""
    for _, found in ends(seed):
        yield 1, found


def ends(seed: int) -> Iterator[tuple[str, Verdict]]:
    """Flip after flip, for ever: how the look ended, and what was found."""
    with lives.workspace(memory=True) as space:
        root = space / "disk"
        root.mkdir()
        live(root, Task(seed * 1000, 1, commands=COMMANDS), space / "log")
        journal = LmdbJournal.open(root / STORE, wall=lambda: 1e9, node=NODE, read_only=True)
        truth = {key: _answers(journal, key) for key in EVERYONE}
        journal.close()
        whole = (root / STORE / DATA).read_bytes()
        dice = Random(seed)
        while True:
            at, bit = dice.randrange(len(whole)), dice.randrange(8)
            copy = space / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(root / STORE, copy)
            with open(copy / DATA, "r+b") as file:
                os.pwrite(file.fileno(), bytes([whole[at] ^ 1 << bit]), at)
            code = lives.fork(partial(_read, copy, truth), quiet=True).text()[1]
            found = Verdict()
            if code == WRONG:
                found.damaged.append(f"bit {bit} of byte {at} is flipped, and what is answered is wrong")
            elif code not in (lives.DONE, lives.REFUSED) and code >= 0:
                found.damaged.append(f"bit {bit} of byte {at} is flipped, and the look ends with {code}")
            yield {lives.DONE: "served", lives.REFUSED: "refused"}.get(code, "ended"), found


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog="tests.crash.flip", description="flip one bit, N times")
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    under_shim("tests.crash.flip")
    hurry()
    how, found = Counter[str](), Verdict()
    for end, one in ends(options.seed):
        how[end] += 1
        one.tell()
        found.add(one)
        if how.total() >= options.points:
            break
    said = " ".join(f"{one}={how[one]}" for one in ("served", "refused", "ended"))
    print(f"flip points={how.total()} {said} damaged={len(found.damaged)}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
