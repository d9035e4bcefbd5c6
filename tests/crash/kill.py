"""`python -m tests.crash.kill`: a real node is killed with SIGKILL again and again, and its store must stay whole.

    --cycles N   so many lives; 100 by default
    --seed S     of the commands and the moments; 1 by default

Each life is a process of its own: it opens the data directory of the one before, answers again what its
clients had been answered before, and works until it is killed: after a random number of answers, or after a
random time, which may be before it is up. After some lives one more comes to rest, and the whole store is
held against everything that clients were told. Exit 0 only if the last line says zero:
`kill cycles=N lost=0 doubled=0 damaged=0`.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from time import monotonic

import trio

from . import lives
from .bank import Life, Task, hurry
from .ledger import Ledger, Verdict, all_told
from .look import STORE, look_at

# Lives of one store before it is looked at as a whole.
LIVES = 20
# Seconds after which a node that says nothing is taken for hung, and one that settles.
PATIENCE = 60.0


def _live(path: Path, task: Task) -> lives.Child:
    def work(pipe: int) -> int:
        return lives.typed(lambda: trio.run(Life(task, lambda line: os.write(pipe, line)).run, str(path)))

    return lives.fork(work)


def _listen(child: lives.Child, ledger: Ledger, answers: int, seconds: float) -> bool:
    """Hear a node until it has said so many lines, the time is over, or it has ended; True if it said all."""
    rest, said = b"", 0
    patience = select.poll()
    patience.register(child.output, select.POLLIN)
    end = monotonic() + seconds  # allowed: the moment of a kill is drawn in real time
    while said < answers:
        left = end - monotonic()  # allowed: as above
        if left <= 0 or not patience.poll(left * 1000):
            break
        part = os.read(child.output, 1 << 16)
        if not part:
            return False
        whole, newline, rest = (rest + part).rpartition(b"\n")
        ledger.hear(whole + newline)
        said += whole.count(b"\n") + bool(newline)
    return True


def _kill(child: lives.Child, ledger: Ledger) -> int:
    """End a child with SIGKILL, and hear what it had said until then."""
    os.kill(child.pid, signal.SIGKILL)
    text, code = child.text()
    ledger.hear(text[: text.rfind(b"\n") + 1])
    return code


def cycles(seed: int, count: int) -> Iterator[tuple[int, Verdict]]:
    """Life after life: how many there were since the last word, and what has been found since."""
    life = done = 0
    while done < count:
        with lives.workspace(memory=False) as space:
            dice = Random(f"{seed}/{life}")
            ledger, broken = Ledger(seed * 1000 + life), Verdict()
            for _ in range(min(LIVES, count - done)):
                life += 1
                done += 1
                task = Task(ledger.seed, life, tuple(ledger.since), ledger.repeats(dice))
                child = _live(space / STORE, task)
                if dice.random() < 0.7:
                    spoke = _listen(child, ledger, dice.randint(1, 40), PATIENCE)
                else:
                    spoke = _listen(child, ledger, sys.maxsize, dice.uniform(0.0, 0.06))
                code = _kill(child, ledger)
                if not spoke and code != -signal.SIGKILL:
                    broken.damaged.append(f"life {life} ended by itself, with {code}")
                    break
                yield 1, Verdict()
            found = broken
            life += 1
            rest = Task(ledger.seed, life, tuple(ledger.since), ledger.repeats(dice), 1, settle=True)
            child = _live(space / STORE, rest)
            _listen(child, ledger, sys.maxsize, PATIENCE)
            code = _kill(child, ledger)
            if not ledger.ended:
                found.damaged.append(f"the last life of {life} does not come to rest (it ended with {code})")
            found.add(look_at(space / STORE, ledger=ledger, at_rest=ledger.ended))
            yield 0, found


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog="tests.crash.kill", description="kill a node N times")
    parser.add_argument("--cycles", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    hurry()
    done, found = all_told(cycles(options.seed, options.cycles))
    print(f"kill cycles={done} {found.counts()}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
