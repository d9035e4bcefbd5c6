"""`python -m tests.simulation.run`: many seeded lives of a whole card room, in several processes.

    --seeds 1..100      run these seeds (also written 1-100), and a part of them twice, in two processes whose
                        hash seeds differ: both must take the same steps
    --seed 7 --verbose  run one seed, and show what it was made of and the last that happened
    --planted [NAME..]  patch each planted bug in, and run seeds until it is found
    --cluster           any of these, of a cluster of three to seven nodes (`cluster.py`); with --long of longer runs
    --jobs N            in so many processes; by default one for each processor

Exit 0 only if nothing was found (or, with --planted, if each bug was); the last line of stdout is
`simulation seeds=N passed=N failed=0 faults={...}`.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from runtime.testing import Trace

from . import cluster, cluster_config, cluster_planted, config, planted, room
from .planted import Detection, Plant
from .room import Outcome

# One seed in so many runs twice.
TWICE = 10
# So many seeds must between them strike every fault and reach every path.
ENOUGH = 100


@dataclass(frozen=True)
class Kind:
    """What can be simulated.

    Attributes:
        simulate, draw: runs a seed, and says what it is made of.
        menu, sites, paths: faults, buggify sites and `sometimes` that seeds must strike and reach between them.
        planted, hunt: the bugs that have to be found, and who finds one by its name.
        option: how the command is told.
    """

    simulate: Callable[..., Outcome]
    draw: Callable[[int], Any]
    menu: Iterable[str]
    sites: tuple[str, ...]
    paths: tuple[str, ...]
    planted: Mapping[str, Plant]
    hunt: Callable[[str], Detection | None]
    option: str = ""


ROOM = Kind(
    room.simulate,
    config.draw,
    config.MENU,
    ("event_sourced.accepted", "event_sourced.committed"),
    (
        "HandEnded happened",
        "TransferReturned happened",
        "a client ran out of patience",
        "a command was refused",
        "a crash of a commit staged",
        "a crash of a commit synced",
        "a crash of a commit torn",
        "a crash of a commit written",
        "a reply was repeated",
        "a reply was too old to be repeated",
        "recovered from a snapshot",
        "the node gave up",
        "the store could not be opened",
        "unsynced writes were lost",
    ),
    planted.PLANTED,
    planted.hunt,
)
CLUSTER = Kind(
    cluster.simulate,
    cluster_config.draw,
    cluster_config.MENU,
    cluster_config.SITES,
    cluster_config.PATHS,
    cluster_planted.PLANTED,
    cluster_planted.hunt,
    " --cluster",
)
LONG = Kind(
    partial(cluster.simulate, long=True),
    partial(cluster_config.draw, long=True),
    cluster_config.MENU,
    cluster_config.SITES,
    cluster_config.PATHS,
    cluster_planted.PLANTED,
    cluster_planted.hunt,
    " --cluster --long",
)


def seeds_of(text: str) -> range:
    """The seeds that `1..100`, `1-100` or `7` means; raises ValueError."""
    found = re.fullmatch(r"(\d+)(?:(?:\.\.|-)(\d+))?", text)
    if found is None or int(found[2] or found[1]) < int(found[1]):
        raise ValueError(f"wanted seeds like 1..100, got {text!r}")
    return range(int(found[1]), int(found[2] or found[1]) + 1)


@contextmanager
def _workers(count: int) -> Iterator[list[ProcessPoolExecutor]]:
    """Processes of one worker each, every one with a hash seed of its own."""
    before = os.environ.get("PYTHONHASHSEED")
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        workers = []
        try:
            for number in range(count):
                os.environ["PYTHONHASHSEED"] = str(number + 1)
                worker = stack.enter_context(ProcessPoolExecutor(1, mp_context=context, initializer=_quiet))
                worker.submit(os.getpid).result()  # it starts now, with this environment
                workers.append(worker)
        finally:
            if before is None:
                del os.environ["PYTHONHASHSEED"]
            else:
                os.environ["PYTHONHASHSEED"] = before
        yield workers


def _quiet() -> None:
    logging.disable(logging.CRITICAL)


def run_seeds(seeds: Sequence[int], jobs: int, kind: Kind = ROOM) -> int:
    """Run seeds and tell what was found; returns the exit code."""
    faults: Counter[str] = Counter()
    reached: Counter[str] = Counter()
    failed = steps = answers = 0
    with _workers(max(2, jobs)) as workers:
        running = [_submit(workers[index % jobs], seed, kind) for index, seed in enumerate(seeds)]
        twins = {
            seed: _submit(workers[(i * TWICE + 1) % len(workers)], seed, kind) for i, seed in enumerate(seeds[::TWICE])
        }
        for future in running:
            outcome = future.result()
            findings = list(outcome.findings)
            twin = twins.get(outcome.seed)
            if twin is not None and twin.result().digest != outcome.digest:
                findings.append(f"determinism: two runs have the hashes {outcome.digest} and {twin.result().digest}")
            failed += bool(findings)
            if findings:
                print(_line(outcome.seed, findings, kind), flush=True)
            faults += outcome.faults
            reached += outcome.reached
            steps, answers = steps + outcome.steps, answers + outcome.answers
    never: list[str] = []
    if len(seeds) >= ENOUGH:
        never = [*_never((*kind.menu, *kind.sites), faults), *_never(kind.paths, reached)]
    print(f"{steps} steps, {answers} answers; reached {_counts(reached)}")
    if never:
        print(f"never happened in {len(seeds)} seeds: {', '.join(never)}")
    print(f"simulation seeds={len(seeds)} passed={len(seeds) - failed} failed={failed} faults={_counts(faults)}")
    return 1 if failed or never else 0


def _submit(worker: ProcessPoolExecutor, seed: int, kind: Kind) -> Future[Outcome]:
    return worker.submit(kind.simulate, seed)


def _never(names: Iterable[str], counts: Counter[str]) -> list[str]:
    return [name for name in names if not counts[name]]


def _counts(counts: Counter[str]) -> str:
    return json.dumps(dict(sorted(counts.items())), separators=(",", ":"))


def _line(seed: int, findings: list[str], kind: Kind = ROOM) -> str:
    """One line for a seed that failed: the first finding, and how to see it again."""
    more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
    again = f"python -m tests.simulation.run{kind.option} --seed {seed} --verbose"
    return f"seed {seed}: {findings[0][:300]}{more}; again: {again}"


def run_one(seed: int, *, verbose: bool, kind: Kind = ROOM) -> int:
    """Run one seed here; returns the exit code."""
    trace = Trace(keep=200 if verbose else 0)
    outcome = kind.simulate(seed, trace=trace)
    if verbose:
        for name, value in asdict(kind.draw(seed)).items():
            print(f"{name}: {value}")
        print("the last that happened:", *trace.last, sep="\n  ")
        print(f"processes died of {_counts(outcome.crashes)}")
        print(f"reached {_counts(outcome.reached)}")
    for finding in outcome.findings:
        print(f"found {finding}")
    print(f"seed {seed}: {outcome.steps} steps, {outcome.seconds:.1f} s, {outcome.answers} answers, {outcome.digest}")
    failed = int(bool(outcome.findings))
    print(f"simulation seeds=1 passed={1 - failed} failed={failed} faults={_counts(outcome.faults)}")
    return failed


def run_planted(names: Sequence[str], jobs: int, kind: Kind = ROOM) -> int:
    """Look for planted bugs, one after the other on each worker; returns the exit code."""
    missed = 0
    print("| bug | what is wrong | found by | seed | steps |", "|---|---|---|---|---|", sep="\n")
    with _workers(jobs) as workers:
        running = [workers[index % jobs].submit(kind.hunt, name) for index, name in enumerate(names)]
        for name, future in zip(names, running, strict=True):
            found: Detection | None = future.result()
            missed += found is None
            if found is None:
                print(
                    f"| {name} | {kind.planted[name].wrong} | **missed in {kind.planted[name].seeds} seeds** | | |",
                    flush=True,
                )
            else:
                print(
                    f"| {name} | {kind.planted[name].wrong} | {', '.join(found.by)} | {found.seed} | {found.steps} |",
                    flush=True,
                )
    print(f"planted bugs={len(names)} found={len(names) - missed} missed={missed}")
    return 1 if missed else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.run", description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=seeds_of, metavar="A..B")
    parser.add_argument("--seed", type=int, metavar="N")
    parser.add_argument("--verbose", action="store_true")
    names = [*ROOM.planted, *CLUSTER.planted]
    parser.add_argument("--planted", nargs="*", choices=[*names, []], metavar="NAME")
    parser.add_argument("--cluster", action="store_true")
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    if chosen.jobs < 1:
        parser.error("--jobs is 1 or more")
    if chosen.long and not chosen.cluster:
        parser.error("--long is for --cluster")
    kind = LONG if chosen.long else CLUSTER if chosen.cluster else ROOM
    if chosen.planted is not None:
        if not kind.planted.keys() >= set(chosen.planted):
            parser.error("that bug is planted in the other simulation: say --cluster, or leave it out")
        return run_planted(chosen.planted or list(kind.planted), chosen.jobs, kind)
    if chosen.seed is not None:
        return run_one(chosen.seed, verbose=chosen.verbose, kind=kind)
    return run_seeds(chosen.seeds if chosen.seeds is not None else seeds_of("1..100"), chosen.jobs, kind)


if __name__ == "__main__":
    sys.exit(main())
