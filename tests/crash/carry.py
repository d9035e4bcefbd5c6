"""`python -m tests.crash.carry`: shards go from store to store, the power goes at any point, and calls fail.

    --points N    so many losses of power; 200 by default
    --every N     of the calls on the files, each N-th fails once in each way; 20 by default, 0: none
    --seed S      of the script, the points and what is lost; 1 by default

A seeded script has two stores on one disk and moves a shard to and fro between them, with all that its owner
goes on writing meanwhile; some moves are called off after the last pieces, as if the other had won. What a
coordination store would keep is told, and so is each commit. At each point both stores are opened: whoever
owns the shard by then must have all of it, and of the other's everything can be erased and stays away. Exit 0
only if the last line says zero: `carry steps=N lost=0 damaged=0`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from random import Random
from typing import Any

from runtime.backends.lmdb import LmdbJournal
from runtime.backends.lmdb_check import check
from runtime.codec.cbor import encode
from runtime.durable.journal import StoreError
from runtime.durable.record import Entry, Snapshot

from . import lives
from .bank import hurry
from .image import Surface
from .ledger import Verdict, all_told
from .nth_io import WAYS
from .shim import FAILED, MARK, Shim, parse, under_shim

SHARD = 7
NAMES = ("a", "b")
KEYS = ("R/a", "R/b", "R/c", "R/d")
# A key that each store has for itself.
OWN = "own"
MOVES = 4
# Every so many entries there is a snapshot, which drops all but the last few.
SAVED, KEPT = 5, 3
# Points in one run of the script; directories drawn for a call that fails.
POINTS, IMAGES = 100, 2


def opened(root: Path, name: str) -> LmdbJournal:
    return LmdbJournal.open(root / name, wall=lambda: 1e9, node=name)


def payload(key: str, sequence: int) -> bytes:
    """What entry `sequence` of a key holds."""
    dice = Random(f"{key} {sequence}")
    return dice.randbytes(dice.choice((10, 200, 3000)))


def state(key: str, sequence: int) -> bytes:
    """What its snapshot there holds."""
    return encode((f"{key} at {sequence}", ()))


class Script:
    """What happens; `tell` is heard by whoever judges."""

    def __init__(self, root: Path, seed: int, tell: Callable[..., None]) -> None:
        self._dice = Random(seed)
        self._tell = tell
        self._stores = {name: opened(root, name) for name in NAMES}

    def run(self) -> None:
        """A few moves."""
        here, there, epoch = *NAMES, 1
        self._stores[here].claim({SHARD: epoch})
        for key in KEYS * 4:
            self._write(here, epoch, key)
        for number in range(MOVES):
            epoch = self._move(here, there, epoch, void=number == 1)
            if number != 1:
                here, there = there, here
            for _ in range(6):
                self._write(here, epoch)
        for journal in self._stores.values():
            journal.close()

    def _write(self, name: str, epoch: int, key: str = "") -> None:
        """The owner commits an entry."""
        key, journal = key or self._dice.choice(KEYS), self._stores[name]
        sequence = journal.head(key) + 1
        entry = Entry(key, sequence, epoch, 1, "", 0, 1.5, 0, payload(key, sequence))
        saved = [Snapshot(key, sequence, epoch, 1, 1.5, state(key, sequence))] if sequence % SAVED == 0 else []
        floors = {key: sequence - KEPT + 1} if saved else {}
        journal.commit([entry], saved, floors, {SHARD: epoch}, {key: SHARD})
        self._tell("acked", key, sequence)

    def _own(self) -> None:
        """Both commit something of their own."""
        for name, journal in self._stores.items():
            sequence = journal.head(OWN) + 1
            journal.commit([Entry(OWN, sequence, journal.epoch, 1, "", 0, 1.5, 0, payload(OWN, sequence))])
            self._tell(OWN, name, sequence)

    def _move(self, here: str, there: str, epoch: int, *, void: bool) -> int:
        """One move, or one that is called off with its last step; the epoch after it."""
        source, target = self._stores[here], self._stores[there]
        target.reserve(SHARD, b"copying")
        for key in source.shard_keys(SHARD):
            self._carry(source, target, key)
            self._write(here, epoch)
        self._own()
        for key in source.shard_keys(SHARD):
            self._carry(source, target, key)
        self._write(here, epoch)
        source.seal(SHARD, epoch)
        self._tell("sealed", here, epoch)
        last = [source.piece(key, target.head(key), 1 << 20) for key in source.shard_keys(SHARD)]
        target.install(SHARD, last, b"kept", epoch + 1)
        epoch += 1
        if void:
            here, there = there, here
        # What the coordination store would say from now on.
        self._tell("won", there, epoch)
        if void:
            self._stores[there].claim({SHARD: epoch})
        else:
            target.settle(SHARD)
        self._write(there, epoch)
        while not self._stores[here].erase(SHARD, 3):
            self._own()
        return epoch

    def _carry(self, source: LmdbJournal, target: LmdbJournal, key: str) -> None:
        while True:
            piece = source.piece(key, target.head(key), 500)
            target.install(SHARD, [piece])
            if piece.last == source.head(key):
                return


class Told:
    """What was told up to a point: who owns the shard, and what each key has at least."""

    def __init__(self) -> None:
        self.owner, self.epoch = NAMES[0], 1
        self.acked: dict[str, int] = {}
        # What the copy that a store has given away must have, as long as it is not being erased.
        self.copies: dict[str, dict[str, int]] = {}
        self.own = dict.fromkeys(NAMES, 0)

    def hear(self, line: bytes) -> None:
        what, name, number = json.loads(line)
        if what == "acked":
            self.acked[name] = number
        elif what == OWN:
            self.own[name] = number
        elif what == "sealed":
            self.copies[name] = dict(self.acked)
        else:
            self.owner, self.epoch = name, number

    def judge(self, root: Path) -> Verdict:
        """Hold two stores against it; changes them."""
        found = Verdict()
        other = NAMES[1 - NAMES.index(self.owner)]
        try:
            with ExitStack() as stack:
                owner = stack.enter_context(closing(opened(root, self.owner)))
                self._owned(owner, found)
                for name in NAMES:
                    journal = owner if name == self.owner else stack.enter_context(closing(opened(root, name)))
                    self._history(journal, OWN, self.own[name], found)
                    if name == other:
                        self._copy(journal, found)
                        while not journal.erase(SHARD, 3):
                            pass
            with closing(opened(root, other)) as journal:
                if any(journal.head(key) for key in KEYS) or journal.shard_keys(SHARD) or journal.staged():
                    found.damaged.append(f"what was erased in {other} has come back")
            for name in NAMES:
                found.damaged += [f"{name}: {problem}" for problem in check(str(root / name)).problems]
        except StoreError as error:
            found.damaged.append(str(error))
        return found

    def _owned(self, journal: LmdbJournal, found: Verdict) -> None:
        note = journal.staged().get(SHARD)
        if note is not None:
            if note != b"kept":
                found.lost.append(f"{self.owner} has won, and its note is {note!r}")
            journal.settle(SHARD)
        fence = journal.fence(SHARD)
        if self.acked and not fence.written:
            found.lost.append(f"{self.owner} has won, and its fence is {fence}")
        for key, sequence in self.acked.items():
            self._history(journal, key, sequence, found)
        kept = [key for key in KEYS if journal.head(key)]
        if journal.shard_keys(SHARD) != kept:
            found.damaged.append(f"the index has {journal.shard_keys(SHARD)}, and there are {kept}")
        journal.claim({SHARD: self.epoch + 10})

    def _copy(self, journal: LmdbJournal, found: Verdict) -> None:
        """What the other store has is all of it, or nobody can take it for that."""
        heads = {key: journal.head(key) for key in KEYS}
        note = journal.staged().get(SHARD)
        # Its own from before it gave the shard away, or what came with the last pieces.
        wanted = self.copies.get(self.owner if note == b"kept" else Path(journal.path).name, {})
        whole = all(heads[key] >= last for key, last in wanted.items())
        if not whole and any(heads.values()) and note in (None, b"kept"):
            found.damaged.append(f"{journal.path} has half a shard, and says {note!r}: {heads}")

    def _history(self, journal: LmdbJournal, key: str, least: int, found: Verdict) -> None:
        snapshot, entries = journal.load(key)
        last = entries[-1].sequence if entries else snapshot.sequence if snapshot is not None else 0
        if last < least:
            found.lost.append(f"{journal.path}: {key} ends with {last}, and {least} was acknowledged")
        wrong = [one.sequence for one in entries if one.payload != payload(key, one.sequence)]
        if wrong or (snapshot is not None and snapshot.payload != state(key, snapshot.sequence)):
            found.damaged.append(f"{journal.path}: {key} does not say what was written: {wrong}")


def live(root: Path, log: Path, seed: int, *, nth: int = 0, how: int = 0) -> int:
    """Run the script in a child, with all calls logged; how it ended."""

    def work(_pipe: int) -> int:
        shim = Shim()
        shim.arm(str(root), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), nth=nth, how=how)

        def tell(*what: Any) -> None:
            shim.mark(json.dumps(what).encode())

        return lives.typed(lambda: Script(root, seed, tell).run())

    return lives.fork(work, quiet=bool(nth)).text()[1]


def judged(told: Told, roots: Sequence[Path], name: str) -> Verdict:
    """What is found in what a crash has left, in a child that may die of it."""

    def work(pipe: int) -> None:
        found = Verdict()
        for root in roots:
            found.add(told.judge(root))
        with os.fdopen(pipe, "w") as file:
            json.dump([found.lost, found.doubled, found.damaged], file)

    text, code = lives.fork(work).text()
    kinds = json.loads(text) if not code else ([], [], [f"a look at the stores ended with {code}"])
    return Verdict(*([f"{name}: {one}" for one in kind] for kind in kinds))


def _image(surface: Surface, root: Path, dice: Random) -> Path:
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    surface.image(root, dice)
    return root


def powers(seed: int, points: int) -> Iterator[tuple[int, Verdict]]:
    """The power goes at so many points of one run of the script."""
    with lives.workspace(memory=True) as space:
        base, root, log = space / "base", space / "disk", space / "log"
        base.mkdir()
        root.mkdir()
        code = live(root, log, seed)
        ops = list(parse(log.read_bytes()))
        dice = Random(f"{seed} points")
        surface, told, at = Surface(base), Told(), 0
        for place in sorted(dice.randint(0, len(ops)) for _ in range(points)):
            for op in ops[at:place]:
                told.hear(op.data) if op.kind == MARK else surface.take(op)
            at = place
            name = f"power {seed}/{place}"
            yield 1, judged(told, [_image(surface, space / "image", Random(name))], name)
        if code != lives.DONE:
            yield 1, Verdict(damaged=[f"the script ended with {code}"])


def failures(seed: int, every: int) -> Iterator[tuple[int, Verdict]]:
    """Each `every`-th call fails, once in each way; the files are looked at as they are, and without power."""
    with lives.workspace(memory=True) as space:
        base, root, log = space / "base", space / "disk", space / "log"
        base.mkdir()
        for way, how in WAYS.items():
            for nth in itertools.count(every, every):
                shutil.rmtree(root, ignore_errors=True)
                root.mkdir()
                log.unlink(missing_ok=True)
                code = live(root, log, seed, nth=nth, how=how)
                surface, told, struck = Surface(base), Told(), False
                for op in parse(log.read_bytes()):
                    struck = struck or op.kind == FAILED
                    told.hear(op.data) if op.kind == MARK else surface.take(op)
                if not struck:
                    break
                name = f"{way}/{nth}"
                images = [_image(surface, space / f"image{n}", Random(f"{name}/{n}")) for n in range(IMAGES)]
                found = judged(told, [root, *images], name)
                if code not in (lives.DONE, lives.REFUSED):
                    found.damaged.append(f"{name}: the script ended with {code}")
                yield 1, found


def steps(seed: int, points: int = 1 << 60, every: int = 20) -> Iterator[tuple[int, Verdict]]:
    """Losses of power, run after run, and then failures."""
    for number in itertools.count():
        if points <= number * POINTS:
            break
        yield from powers(seed + number, min(POINTS, points - number * POINTS))
    if every:
        yield from failures(seed, every)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog="tests.crash.carry", description="move shards while the disk fails")
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--every", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    under_shim("tests.crash.carry")
    hurry()
    done, found = all_told(steps(options.seed, options.points, options.every))
    print(f"carry steps={done} lost={len(found.lost)} damaged={len(found.doubled) + len(found.damaged)}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
