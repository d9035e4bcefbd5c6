"""Walk through all that can happen to a move: `python -m tests.models.moves [--states N] [--plant NAME]`.

Breadth first from the beginning of a world (`paper`), for each of several mixes of faults. Every state that is reached
has to keep the promises, and from every one of them the world without further faults has to come to a good end:
one node serves, nothing of a move is left, every command is answered. The last line says how many states there were;
exit 0 only if all were safe, 1 if one was not, after the way to it.
"""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import pytest

from .packed import handled
from .paper import SMALL, Broken, Budget, Paper, Rules, State

# The mixes of faults, each with its own space.
MIXES: Final[dict[str, tuple[Budget, Rules]]] = {
    "none": (Budget(moves=2), Rules(commands=2)),
    "two senders": (Budget(), Rules(senders=2)),
    "hurries": (Budget(hurries=2), Rules()),
    "crashes": (Budget(crashes=2), Rules()),
    "crash and doubt": (Budget(crashes=1, doubts=1, hurries=1), Rules()),
    "cuts": (Budget(cuts=1, resets=1), Rules()),
    "cut and doubt": (Budget(cuts=1, doubts=1, hurries=1), Rules()),
    "doubts": (Budget(doubts=2, hurries=1), Rules()),
    "failures": (Budget(failures=1, aborts=1, crashes=1), Rules()),
    "lapses": (Budget(lapses=1, doubts=1, restarts=1), Rules()),
    "lapses and restarts": (Budget(lapses=2, restarts=1), Rules()),
    "two moves": (Budget(moves=2, crashes=1, cuts=1), Rules()),
}
# A world without faults that has not come to its end after so many steps never will.
LONGEST: Final = 500


@dataclass(frozen=True)
class Found:
    """What a walk has come to.

    Attributes:
        states: how many were looked at.
        whole: whether there were no more.
        wrong: the promise that was not kept; "" if all were.
        way: the steps that lead there.
    """

    states: int
    whole: bool
    wrong: str = ""
    way: tuple[str, ...] = ()


class _Pool:
    """Gives equal things one number, so that a state is a few numbers."""

    def __init__(self) -> None:
        self.numbers: dict[Any, int] = {}
        self.things: list[Any] = []

    def number(self, thing: Any) -> int:
        found = self.numbers.setdefault(thing, len(self.things))
        if found == len(self.things):
            self.things.append(thing)
        return found


@contextmanager
def small() -> Iterator[None]:
    """The machines with small bounds."""
    with pytest.MonkeyPatch.context() as patch:
        for (module, name), value in SMALL.items():
            patch.setattr(module, name, value)
        handled.cache_clear()
        yield
    handled.cache_clear()


def walk(budget: Budget, rules: Rules, most: int) -> Found:
    """Look at up to `most` states of one mix of faults, the nearest first."""
    with small():
        return _walk(Paper(rules), budget, most)


def _walk(paper: Paper, budget: Budget, most: int) -> Found:
    pool = _Pool()

    def key(state: State) -> tuple[int, ...]:
        return tuple(map(pool.number, (*state.nodes, *state[1:])))

    def state_of(found: tuple[int, ...]) -> State:
        one, other, *rest = [pool.things[number] for number in found]
        return State((one, other), *rest)

    first = paper.first(budget)
    start = key(first)
    came: dict[tuple[int, ...], tuple[tuple[int, ...], str] | None] = {start: None}
    ends_well: set[tuple[int, ...]] = set()
    waiting = deque([start])

    def way(found: tuple[int, ...]) -> tuple[str, ...]:
        labels = []
        before = came[found]
        while before is not None:
            labels.append(before[1])
            before = came[before[0]]
        return tuple(reversed(labels))

    def ends(found: tuple[int, ...], state: State) -> None:
        """Go on without faults to an end, or to where that is known."""
        passed: dict[tuple[int, ...], str] = {}
        labels: list[str] = []
        while found not in ends_well:
            if found in passed or len(passed) > LONGEST:
                raise Broken(f"I10: it goes on for ever: {' / '.join(labels[-20:])}")
            passed[found] = ""
            step = paper.fair(state)
            if step is None:
                if not paper.settled(state):
                    raise Broken(f"I10: it has come to rest, and not to an end: {' / '.join(labels)}: {state}")
                break
            labels.append(step[0])
            # Without faults nothing comes late.
            state = step[1]._replace(late=frozenset())
            try:
                paper.check(state)
            except Broken as broken:
                raise Broken(f"{broken}: {' / '.join(labels)}") from None
            found = key(state._replace(budget=budget))
        ends_well.update(passed)

    at = start
    label = ""
    try:
        paper.check(first)
        while waiting:
            at = waiting.popleft()
            state = state_of(at)
            label = "(without faults)"
            ends(key(state._replace(budget=budget)), state)
            label = "(what comes next)"
            for label, after in paper.steps(state):
                paper.check(after)
                if len(came) >= most:
                    return Found(len(came), whole=False)
                there = key(after)
                if there not in came:
                    came[there] = (at, label)
                    waiting.append(there)
    except Broken as broken:
        return Found(len(came), whole=False, wrong=str(broken), way=(*way(at), label))
    return Found(len(came), whole=True)


def out(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    """The command line; the exit code."""
    from .planted import PLANTED

    parser = argparse.ArgumentParser(prog="python -m tests.models.moves", description="walk through a move")
    parser.add_argument("--states", type=int, default=20_000, metavar="N", help="of each mix at most (20000)")
    parser.add_argument("--mix", choices=list(MIXES), help="only this one")
    parser.add_argument("--plant", choices=list(PLANTED), help="with this planted bug")
    options = parser.parse_args(arguments)
    mixes = {name: mix for name, mix in MIXES.items() if options.mix in (None, name)}
    if options.plant:
        mixes = {options.plant: (PLANTED[options.plant].budget, PLANTED[options.plant].rules)}
    total, whole, failed = 0, 0, 0
    for name, (budget, rules) in mixes.items():
        found = walk(budget, rules, options.states)
        total, whole = total + found.states, whole + found.whole
        out(f"{name}: {found.states} states{' (all)' if found.whole else ''}")
        if found.wrong:
            failed += 1
            out(f"  {found.wrong}")
            for step in found.way:
                out(f"    {step}")
    out(f"model states={total} mixes={len(mixes)} whole={whole} {'safe' if not failed else f'failed={failed}'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
