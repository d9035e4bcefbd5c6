"""`python -m tests.crash.power`: the power goes at any point of a node's life, and nothing acknowledged may be lost.

    --points N             so many points; 300 by default
    --seed S               of the commands, the points and what is lost; 1 by default
    --durability CLASS     durable, the default; relaxed, of which the last group may be lost, and no other; or
                           periodic, of which the last seconds may be

A node lives a whole, seeded life with every call on its files logged, together with what its clients were told.
At each point the directory is made that a loss of power there may leave; the store in it is opened and held
against everything that was told before. One of these directories is where the next life begins. Exit 0 only
if the last line says zero: `power points=N class=durable lost=0 damaged=0`. Where one group may be lost, what
counts is all that is lost beyond it; where some seconds may be, what is older.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from runtime.backends.coordination import LocalCoordination
from runtime.backends.lmdb import LmdbJournal
from runtime.backends.lmdb_check import RELAXED
from runtime.durable.durability import Durability, Periodic, periodic
from runtime.durable.record import Entry
from runtime.testing import SeededWorld, Trace, run_seeded

from . import lives
from .aged import AgedLedger
from .bank import Life, Task, Tell, clock, hurry
from .image import Surface
from .ledger import Ledger, Verdict, all_told
from .look import STORE, look, opened
from .shim import MARK, Op, Shim, parse, under_shim

CLASSES: dict[str, Durability] = {"durable": "durable", "relaxed": "relaxed", "periodic": periodic(0.05)}
# Points in one life, lives of one store, commands of each client in one life.
POINTS, LIVES, COMMANDS = 40, 4, 12
# What a ledger hears when the power goes.
POWER = b'["power", 0, 0, null]\n'


def followed(tell: Tell, durability: Durability, path: str, node: str) -> LmdbJournal:
    """Open a store; what each commit says of what may be lost is told.

    A commit to a relaxed one makes the group before it safe; where saves are periodic, its time counts.
    """
    journal = opened(path, node)
    commit = journal.commit
    if isinstance(durability, Periodic):

        def timed(*group: Any) -> None:
            tell(clock())
            commit(*group)

        journal.commit = timed  # type: ignore[method-assign]  # a final class, and nothing else of it differs
    if os.path.basename(path) != RELAXED:
        return journal

    def told(entries: Sequence[Entry], *more: Any) -> None:
        commit(entries, *more)
        group = [(entry.key, entry.sequence, entry.sender, entry.number) for entry in entries]
        tell(json.dumps(["group", 0, 0, group]).encode() + b"\n")

    journal.commit = told  # type: ignore[method-assign]  # a final class, and nothing else of it differs
    tell(json.dumps(["relaxed", 0, 0, journal.epoch]).encode() + b"\n")
    return journal


def live(root: Path, task: Task, log: Path, *, nth: int = 0, how: int = 0) -> int:
    """One seeded life of a node in a child, with all calls logged; how the child ended."""

    def work(_pipe: int) -> int:
        shim = Shim()
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        shim.arm(str(root), file, nth=nth, how=how)
        trace = Trace()
        world = SeededWorld(
            task.seed + task.life,
            open_store=partial(followed, shim.mark, task.durability),
            coordination=LocalCoordination(),
            trace=trace,
            activation=0.3 if task.kills else 0.0,
        )
        life = Life(task, shim.mark)
        return lives.typed(lambda: run_seeded(world.seed, life.run, str(root / STORE), world, trace=trace))

    return lives.fork(work, quiet=bool(nth)).text()[1]


class Points:
    """The points of one life: where in its log, and what each leaves behind."""

    def __init__(
        self, base: Path, log: bytes, ledger: Ledger, name: str, count: int, durability: Durability = "durable"
    ) -> None:
        self._base = base
        self._ops = list(parse(log))
        self._ledger = ledger
        self._name = name
        self._durability = durability
        rng = Random(name)
        self.places = sorted(rng.randint(0, len(self._ops)) for _ in range(count))

    def walk(self, first: int = 0) -> Iterator[tuple[int, Surface, Ledger]]:
        """Each point from `first` on: its number, the disk, and what was told by then."""
        surface, ledger, at = Surface(self._base), self._ledger.copy(), 0
        for number, place in enumerate(self.places):
            for op in self._ops[at:place]:
                follow(op, surface, ledger)
            at = place
            if number >= first:
                told = ledger.copy()
                told.hear(POWER)
                yield number, surface, told

    def rng(self, number: int) -> Random:
        """The dice of one point."""
        return Random(f"{self._name}/{number}")

    def check(self, work: Path) -> Verdict:
        """Lose the power at every point, and look; a look that dies is a finding too."""
        found, first = Verdict(), 0
        while first < len(self.places):
            child = lives.fork(partial(self._look, work, first))
            text, code = child.text()
            lines = text.splitlines()
            for line in lines:
                number, *kinds = json.loads(line)
                for kind, into in zip(kinds, (found.lost, found.doubled, found.damaged), strict=True):
                    into += [f"point {self._name}/{number}: {one}" for one in kind]
            first += len(lines)
            if code:
                found.damaged.append(f"point {self._name}/{first}: the look at it ended with {code}")
                first += 1
        return found

    def _look(self, work: Path, first: int, pipe: int) -> None:
        for number, surface, ledger in self.walk(first):
            rng = self.rng(number)
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            surface.image(work, rng)
            one = look(work / STORE, ledger, fold=rng.random() < 0.2, durability=self._durability)
            os.write(pipe, json.dumps([number, one.lost, one.doubled, one.damaged]).encode() + b"\n")

    def leave(self, number: int, root: Path) -> Ledger:
        """Make what a point leaves behind, for the next life; what was told by then."""
        for found, surface, ledger in self.walk(number):
            if found == number:
                shutil.rmtree(root)
                root.mkdir()
                surface.image(root, self.rng(number))
                return ledger
        raise IndexError(number)


def ledger_of(seed: int, durability: Durability) -> Ledger:
    """A new ledger for purses of a class."""
    return AgedLedger(seed, seconds=durability.seconds) if isinstance(durability, Periodic) else Ledger(seed)


def follow(op: Op, surface: Surface, ledger: Ledger) -> None:
    """Take one record of the log: a call goes to the disk, a mark to the ledger."""
    if op.kind == MARK:
        ledger.hear(op.data)
    else:
        surface.take(op)


def runs(seed: int, count: int = 1 << 60, durability: Durability = "durable") -> Iterator[tuple[int, Verdict]]:
    """Life after life, until there were so many points: how many each had, and what was found."""
    life = done = 0
    while done < count:
        with lives.workspace(memory=True) as space:
            root, base = space / "disk", space / "base"
            root.mkdir()
            ledger = ledger_of(seed * 1000 + life, durability)
            for _ in range(LIVES):
                if done >= count:
                    break
                life += 1
                shutil.rmtree(base, ignore_errors=True)
                shutil.copytree(root, base)
                log = space / "log"
                log.unlink(missing_ok=True)
                dice = Random(f"{seed}/{life}")
                since, repeats = tuple(ledger.since), ledger.repeats(dice)
                # A purse that is killed may lose its last seconds too, and tells nobody when.
                kills = not isinstance(durability, Periodic)
                task = Task(ledger.seed, life, since, repeats, COMMANDS, kills=kills, durability=durability)
                code = live(root, task, log)
                many = min(POINTS, count - done)
                points = Points(base, log.read_bytes(), ledger, f"{seed}/{life}", many, durability)
                done += len(points.places)
                found = points.check(space / "work")
                if code != lives.DONE:
                    found.damaged.append(f"life {seed}/{life} ended with {code}")
                yield len(points.places), found
                if found:
                    break  # what follows from ruins says nothing new
                ledger = points.leave(dice.randrange(len(points.places)), root)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog="tests.crash.power", description="lose the power at N points")
    parser.add_argument("--points", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--durability", default="durable")
    options = parser.parse_args(arguments)
    if options.durability not in CLASSES:
        parser.error(f"no process is {options.durability!r} yet; there is: {', '.join(CLASSES)}")
    under_shim("tests.crash.power")
    hurry()
    done, found = all_told(runs(options.seed, options.points, CLASSES[options.durability]))
    lost, damaged = len(found.lost), len(found.doubled) + len(found.damaged)
    print(f"power points={done} class={options.durability} lost={lost} damaged={damaged}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
