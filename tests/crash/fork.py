"""`python -m tests.crash.fork`: a child that is forked from a node must not touch the node's store.

    --steps N   so many lives; 20 by default
    --seed S    of the commands; 1 by default

In each life, once its clients have been answered some commands, the node forks; the child asks and writes its
copy of the journal, closes it and ends, while the node goes on. Exit 0 only if the last line says zero:
`fork steps=N lost=0 doubled=0 damaged=0`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random

import trio
from msgspec import structs

from runtime.durable.journal import Journal, StoreClosed

from . import lives
from .bank import PURSES, Life, Task, hurry
from .ledger import Ledger, Verdict, all_told
from .look import STORE, look_at

COMMANDS = 6


def _trespass(journal: Journal) -> list[str]:
    """What a child can do with the journal of the node that it was forked from; nothing, if all is well."""
    head = journal.head(PURSES[0])

    def work(pipe: int) -> None:
        done = []
        deeds: dict[str, Callable[[], object]] = {
            "read": lambda: journal.load(PURSES[0]),
            "write": lambda: journal.commit([structs.replace(entry, sequence=head + 1) for entry in entries]),
        }
        for deed, do in deeds.items():
            try:
                do()
                done.append(f"a forked child can {deed} the store")
            except StoreClosed:
                pass
        journal.close()
        with os.fdopen(pipe, "w") as file:
            json.dump(done, file)

    entries = journal.read(PURSES[0])[-1:]
    text, code = lives.fork(work).text()
    return list(json.loads(text)) if not code else [f"the forked child ended with {code}"]


def steps(seed: int) -> Iterator[tuple[int, Verdict]]:
    """Life after life, for ever: one, and what was found in it."""
    with lives.workspace(memory=True) as space:
        ledger, life = Ledger(seed * 1000), 0
        while True:
            life += 1
            dice = Random(f"{seed}/{life}")
            task = Task(ledger.seed, life, tuple(ledger.since), ledger.repeats(dice), COMMANDS, kills=False)
            text, code = _live(space / STORE, task, dice.randint(1, 3 * COMMANDS)).text()
            found = Verdict(damaged=[f"a life ended with {code}"] if code else [])
            *lines, trespassed = text.splitlines(keepends=True)
            ledger.hear(b"".join(lines))
            found.damaged += json.loads(trespassed)
            found.add(look_at(space / STORE, ledger=ledger))
            yield 1, found


def _live(path: Path, task: Task, moment: int) -> lives.Child:
    """A life in whose middle the node forks; its last line is what the child could do."""

    def work(pipe: int) -> int:
        told, trespassed = 0, list[str]()

        def tell(line: bytes) -> None:
            nonlocal told
            told += 1
            os.write(pipe, line)
            if told == moment:
                trespassed.extend(_trespass(life.journal))

        life = Life(task, tell)
        code = lives.typed(lambda: trio.run(life.run, str(path)))
        os.write(pipe, json.dumps(trespassed).encode() + b"\n")
        return code

    return lives.fork(work)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog="tests.crash.fork", description="fork a node in the middle of its work")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    hurry()
    done, found = all_told(steps(options.seed), options.steps)
    print(f"fork steps={done} {found.counts()}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
