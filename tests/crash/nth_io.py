"""`python -m tests.crash.nth_io`: the 1st, 2nd, ... call on the store's files fails, until the script ends without.

    --seed S    of the script and of what the disk keeps; 1 by default
    --every N   only each N-th call; 1 by default

The script is one seeded life of a node on a store that has lived before. Each call of it fails once in each way:
EIO (of reads too), ENOSPC, and a write that is taken in part. The node may refuse, or stop by an error that
has a name; what it has answered, until then or afterwards, must be in the files as they are, and also in what
is left if the power goes there. Exit 0 only if the last line says zero: `nth_io steps=N lost=0 damaged=0`.
"""

from __future__ import annotations

import argparse
import errno
import itertools
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

from . import lives
from .bank import Task, hurry
from .image import Surface
from .ledger import Ledger, Verdict, all_told
from .look import STORE, look_at
from .power import follow, live
from .shim import FAILED, MARK, SHORT, parse, under_shim

WAYS = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC, "short": SHORT}
# Commands of each client, in the life before and in the script; directories drawn for a loss of power.
BEFORE, COMMANDS, IMAGES = 4, 4, 2


def steps(seed: int, every: int = 1) -> Iterator[tuple[int, Verdict]]:
    """Failure after failure: one, and what was found; of `every` so many calls one."""
    with lives.workspace(memory=True) as space:
        base, root, log = space / "base", space / "disk", space / "log"
        base.mkdir()
        for way in WAYS:
            for fresh in (True, False):
                # A store that is made, and one that has lived; its first life is not what is tested.
                shutil.rmtree(base)
                base.mkdir()
                before = Ledger(seed * 1000)
                if not fresh:
                    log.unlink(missing_ok=True)
                    live(base, Task(before.seed, 1, commands=BEFORE, kills=False), log)
                    for op in parse(log.read_bytes()):
                        if op.kind == MARK:
                            before.hear(op.data)
                for nth in itertools.count(every, every):
                    struck, found = _step(base, root, log, before, way, nth)
                    if struck or found:
                        yield 1, found
                    if not struck:
                        break


def _step(base: Path, root: Path, log: Path, before: Ledger, way: str, nth: int) -> tuple[bool, Verdict]:
    """Run the script with one call failing; whether it had so many, and what was found."""
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(base, root)
    log.unlink(missing_ok=True)
    task = Task(before.seed, 2, tuple(before.since), before.repeats(Random(nth)), COMMANDS, kills=False)
    code = live(root, task, log, nth=nth, how=WAYS[way])
    struck = [op.path for op in parse(log.read_bytes()) if op.kind == FAILED]
    if not struck:
        return False, Verdict(damaged=[f"{way}: nothing failed, and the script ends with {code}"] if code else [])
    found = _judge(base, root, log, before, f"{way}/{nth}")
    if code not in (lives.DONE, lives.REFUSED):
        found.damaged.append(f"{way}/{nth} on {struck[0]}: the node ended with {code}")
    return True, found


def _judge(base: Path, root: Path, log: Path, before: Ledger, name: str) -> Verdict:
    """Look at the files as they are, and at what is left if the power goes now."""
    ledger, surface = before.copy(), Surface(base)
    for op in parse(log.read_bytes()):
        follow(op, surface, ledger)
    stores = [root]
    for number in range(IMAGES):
        image = root.with_name(f"image{number}")
        shutil.rmtree(image, ignore_errors=True)
        image.mkdir()
        surface.image(image, Random(f"{name}/{number}"))
        stores.append(image)
    found = look_at(*(store / STORE for store in stores), ledger=ledger)
    return Verdict(*([f"{name}: {text}" for text in kind] for kind in (found.lost, found.doubled, found.damaged)))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog="tests.crash.nth_io", description="let each call on the store's files fail")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=int, default=1)
    options = parser.parse_args(arguments)
    under_shim("tests.crash.nth_io")
    hurry()
    done, found = all_told(steps(options.seed, options.every))
    print(f"nth_io steps={done} lost={len(found.lost)} damaged={len(found.doubled) + len(found.damaged)}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
