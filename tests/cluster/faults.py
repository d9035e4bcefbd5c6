"""`python -m tests.cluster.faults`: real nodes, real packets, real faults; what clients saw must have an order.

    --rounds N     so many faults, one after the other; each kind once before any comes again; 1 of each by default
    --seed S       of the order, of who is hit, and of what clients ask; 1 by default
    --fault NAME   only faults of this kind; may be given again
    --keep         the nodes' data and logs stay, and are named

Three nodes, each in a network namespace of its own, with TLS, agree in one coordination directory. Clients in each
namespace ask registers while one fault after the other is done to the nodes. Held against what they heard:

- lost, doubled, nonlinear: the stores of all nodes, once they have ended; see `verdict`;
- stale: a node that stood still for longer than its lease has committed under an epoch from before;
- early: a node was given up (noconnection) before it was down, or went down without having been suspect; or one that
  was away for a moment only was given up;
- hung: an answer, a link, a node's start or its end has not come about by a generous deadline.

How long it took until all were served again is printed, and not judged. Exit 0 only if the last line says zero:
`faults rounds=N lost=0 doubled=0 nonlinear=0 stale=0 early=0 hung=0 ...`; exit 5, with what is missing, where
namespaces cannot be made.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Final

import trio

from .clients import Crowd
from .hosts import DEADLINE, Hosts, NodeEnded, TooSlow, faketime, now, pause
from .kinds import FAULTS, Round, Run
from .net import NoNetwork, missing, network
from .verdict import judge, registers_of, stale

NAMES: Final = ("a", "b", "c")
# Clients in each namespace.
EACH: Final = 3
# What must be 0 in the last line.
WRONG: Final = ("lost", "doubled", "nonlinear", "stale", "early", "hung")
# Keys of each node that are asked to see whether it serves.
_PROBES: Final = 2


def check_witnesses(run: Run, round: Round) -> str:
    """Hold what the nodes have said of each other against what was done to them; what is to be told of it."""
    told = []
    for pair in round.silent:
        # What was so already when the fault began counts too: a node may be suspect since the one before.
        all_said = run.between(pair, 0.0)
        said = [one for one in all_said if one[0] >= round.began]
        first = {what: at for at, what, _, _ in reversed(said)}
        lost, down = first.get("noconnection"), first.get("down")
        wrong = []
        if lost is not None and (down is None or lost < down):
            wrong.append("noconnection before one was down")
        for at, what, one, _ in said:
            before = [
                was for when, was, who, _ in all_said if who == one and when <= at and was in ("suspect", "linked")
            ]
            if what == "down" and before[-1:] != ["suspect"]:
                wrong.append("down and not suspect before")
        if round.given_up and down is None:
            wrong.append("nobody was given up")
        if round.given_up is False and down is not None:
            wrong.append(f"given up after {round.over - round.began:.1f} s")
        run.early += [f"round {round.number} {round.kind}, {'-'.join(pair)}: {text}: {said}" for text in wrong]
        told += [f"{what} {first[what] - round.began:.1f}" for what in ("suspect", "down") if what in first]
    return ", ".join(told)


async def served(run: Run, crowd: Crowd, keys: dict[str, list[str]], round: Round) -> str:
    """Ask, at each door, for registers of each node, until all are served and all nodes have joined; how long it took.

    Raises TooSlow.
    """
    back: dict[str, float] = {}

    async def ask(owner: str) -> None:
        async with trio.open_nursery() as nursery:
            for host in run.hosts:
                for key in keys[owner]:
                    nursery.start_soon(crowd.probe, host, key)
        back[owner] = now() - round.over

    with trio.move_on_after(DEADLINE):
        async with trio.open_nursery() as nursery:
            for owner in keys:
                nursery.start_soon(ask, owner)
    late = sorted(set(keys) - set(back))
    if late:
        raise TooSlow(f"registers of {late} are not served by all doors")
    joined = await run.fleet.settled() - round.over
    times = " ".join(f"{owner} {seconds:.2f}" for owner, seconds in sorted(back.items()))
    return f"served again after {times} s, joined after {joined:.2f} s"


async def probes(run: Run, crowd: Crowd) -> dict[str, list[str]]:
    """Some keys of each node, with something written, so that they stay there."""
    keys: dict[str, list[str]] = {host.name: [] for host in run.hosts}
    number = 0
    while any(len(some) < _PROBES for some in keys.values()):
        number += 1
        owner = await crowd.owner(run.hosts[0], f"probe-{number}")
        if owner is not None and len(keys[owner]) < _PROBES:
            keys[owner].append(f"probe-{number}")
            await crowd.probe(run.hosts[0], f"probe-{number}")
    return keys


async def one_round(run: Run, crowd: Crowd, keys: dict[str, list[str]], round: Round) -> str:
    """Do one fault, and wait until all is well again; what is to be told. Raises TooSlow, NodeEnded."""
    before, owners = crowd.history.answers, await run.fleet.owners()
    told = []

    async def afterwards() -> None:
        await round.healed.wait()
        told.append(await served(run, crowd, keys, round))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(afterwards)
        await FAULTS[round.kind](run, round)
    now_owned = await run.fleet.owners()
    told.append(f"{sum(now_owned[shard] != owner for shard, owner in owners.items())} shards have another owner")
    parts = [round.note, check_witnesses(run, round), *told, f"{crowd.history.answers - before} acknowledged"]
    return f"round {round.number} {round.kind}: {'; '.join(part for part in parts if part)}"


async def serve(run: Run, crowd: Crowd, kinds: Sequence[str], say: Callable[[str], None]) -> int:
    """Start the nodes, do fault after fault, end the nodes; how many faults were done. What hangs ends it."""
    done = 0
    try:
        await run.fleet.start()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(crowd.run)
            keys = await probes(run, crowd)
            for number, kind in enumerate(kinds, 1):
                crowd.fresh = number
                await pause(0.5)
                say(await one_round(run, crowd, keys, Round(kind, number, now())))
                done = number
            crowd.over = True
            nursery.cancel_scope.deadline = trio.current_time() + DEADLINE
        if nursery.cancel_scope.cancelled_caught:
            raise TooSlow("a client has no answer yet")
    except* (TooSlow, NodeEnded) as errors:
        run.hung += [f"after {done} rounds: {error}" for error in leaves(errors)]
    for host in run.hosts:
        code = await host.end() if host.process is not None else 0
        if code and not run.hung:
            run.hung.append(f"{host.name} ended with {code}:\n{host.words()}")
    return done


def leaves(error: BaseException) -> list[BaseException]:
    """The errors in a group of groups."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for one in error.exceptions for leaf in leaves(one)]
    return [error]


@contextmanager
def workplace(keep: bool) -> Iterator[Path]:
    """A directory for the nodes; with short names, as sockets lie in it."""
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    try:
        yield folder
    finally:
        if keep:
            print(f"kept: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def try_faults(
    kinds: Sequence[str], seed: int, *, keep: bool = False, say: Callable[[str], None] = print
) -> dict[str, int]:
    """Do these faults to a new cluster; what is wrong, by kind, and how much there was of what.

    Raises NoNetwork.
    """
    dice = Random(seed)
    with workplace(keep) as folder, network(NAMES) as net, Hosts(NAMES, folder, net) as hosts:
        run = Run(net, hosts, dice)
        crowd = Crowd(hosts.all, EACH, dice)
        done = trio.run(serve, run, crowd, kinds, say)
        registers, wrong = registers_of((host.name, host.data) for host in hosts.all)
    verdict = judge(registers, crowd.history)
    verdict.nonlinear += wrong
    late = stale(registers, run.returns)
    for text in [*verdict.all(), *late, *run.early, *run.hung][:100]:
        say(text)
    say(f"nobody could tell, at first: {dict(crowd.errors.most_common())}")
    return {
        "rounds": done,
        "lost": len(verdict.lost),
        "doubled": len(verdict.doubled),
        "nonlinear": len(verdict.nonlinear),
        "stale": len(late),
        "early": len(run.early),
        "hung": len(run.hung),
        "answered": sum(one.answered is not None for one in crowd.history.operations),
        "acknowledged": crowd.history.answers,
        "open": sum(one.answered is None for one in crowd.history.operations),
        "registers": len(registers),
    }


def plan(kinds: Sequence[str], rounds: int, dice: Random) -> list[str]:
    """So many faults: each kind once, in any order, before one comes again."""
    found: list[str] = []
    while len(found) < rounds:
        found += dice.sample(kinds, len(kinds))
    return found[:rounds]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog="tests.cluster.faults", description="do faults to real nodes")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fault", action="append", choices=FAULTS, dest="faults")
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args(arguments)
    lacking = missing()
    if lacking is None and faketime() is None and "clock" in (options.faults or ()):
        lacking = "libfaketime (package faketime)"
    if lacking is not None:
        print(f"no faults can be made; missing: {lacking}", file=sys.stderr)
        return 5
    kinds = options.faults or [kind for kind in FAULTS if kind != "clock" or faketime() is not None]
    if not options.faults and len(kinds) < len(FAULTS):
        print("without clock: libfaketime is missing (package faketime)", file=sys.stderr)
    planned = plan(kinds, options.rounds or len(kinds), Random(options.seed))
    # SIGTERM ends it as Ctrl-C does: nodes, namespaces and rules go.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        found = try_faults(planned, options.seed, keep=options.keep, say=lambda text: print(text, flush=True))
    except NoNetwork as error:
        print(f"no faults can be made: {error}", file=sys.stderr)
        return 5
    except (KeyboardInterrupt, BaseExceptionGroup) as error:
        if not any(isinstance(leaf, KeyboardInterrupt) for leaf in leaves(error)):
            raise
        print("interrupted", file=sys.stderr)
        return 130
    print("faults", *(f"{name}={count}" for name, count in found.items()))
    return 1 if any(found[name] for name in WRONG) else 0


if __name__ == "__main__":
    sys.exit(main())
