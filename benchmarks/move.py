"""Shards that move between real nodes, over real sockets and with LMDB, while clients command their entities.

    python -m benchmarks move --json [--only pause] [--only drain] [--only join] [--size 1] [--size 64] [--size 512]

Two nodes have the shards, a third the clients; for `join` a fourth comes. A client has one entity, sends it a cast and
a call, and waits 10 ms; of the shard that is moved one client calls without a break. Each number of a client is looked
for in its entity at the end: what is missing is lost, what is there twice is doubled, what came after a higher one is
reordered.

The pause is from the moment at which the source begins to freeze the shard until the first reply of the target has come
to that client, who waits for one whenever that is. casty, which has such a thing too (`leave`), needs Python 3.12.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from .harness import Row
from .programs import free_port, running

# Megabytes of a shard, and how often it is moved.
SIZES = {1: 40, 64: 12, 512: 4}
EACH = 8
IDLE = 4.0
SHARDS = 16
# Of the node that is drained; entities of each of its shards.
DRAINED, OF_EACH = 64, 16
MANY = 100_000
# Seconds within which nodes are linked and have shared out the shards, and within which a rebalance comes to rest.
JOINED, RESTED = 60.0, 180.0
# Seconds without a change after which nodes are taken to be content.
QUIET = 8.0
KINDS = ("pause", "drain", "join")

Call = tuple[float, float, int, str]


class Member:
    """One node of the cluster: a program that is asked by a line, and answers with one."""

    def __init__(self, name: str, process: subprocess.Popen[str]) -> None:
        self.name = name
        self._process = process

    def tell(self, do: str, **more: Any) -> None:
        """Have it do something, without waiting for it."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **more}) + "\n")

    def answer(self) -> Any:
        """What came of the oldest thing that was told it."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"node {self.name} has ended")
        return json.loads(line)

    def ask(self, do: str, **more: Any) -> Any:
        """Have it do something, to its end."""
        self.tell(do, **more)
        return self.answer()


class Machine:
    """The nodes of a cluster on this machine, in a folder that goes at the end."""

    def __init__(self, stack: ExitStack, shards: int, *, rebalance: bool = False) -> None:
        self._stack = stack
        self._folder = stack.enter_context(tempfile.TemporaryDirectory())
        self._shards = shards
        self._rebalance = "yes" if rebalance else "no"
        self.members: dict[str, Member] = {}

    def start(self, name: str) -> Member:
        """Start a node; it is ready."""
        command = [sys.executable, "-m", "benchmarks.move_nodes", name, self._folder, str(free_port())]
        process = self._stack.enter_context(running([*command, str(self._shards), self._rebalance]))
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError(f"node {name} did not start")
        member = self.members[name] = Member(name, process)
        return member

    def settled(self) -> None:
        """Wait until all shards have owners, which all have as many."""
        begun = time.monotonic()
        asked = next(iter(self.members.values()))
        while True:
            owned = asked.ask("owners")
            counts = [owned.get(name, 0) for name in self.members]
            if sum(counts) == self._shards and max(counts) - min(counts) <= 1:
                return
            if time.monotonic() > begun + JOINED:
                raise RuntimeError(f"the shards are not shared out after {JOINED} s: {owned}")
            time.sleep(0.05)  # noqa: TID251  # no loop runs here

    def rested(self, newcomer: str) -> float:
        """Wait until a new node has had shards, and none has come or gone for a while; when the last one did."""
        asked = next(iter(self.members.values()))
        begun = last = time.monotonic()
        had: dict[str, int] = {}
        while True:
            owned = asked.ask("owners")
            if owned != had:
                last, had = time.monotonic(), owned
            if owned.get(newcomer) and time.monotonic() > last + QUIET:
                return last
            if time.monotonic() > begun + RESTED:
                raise RuntimeError(f"shards still come and go after {RESTED} s: {owned}")
            time.sleep(0.05)  # noqa: TID251  # as above

    def populate(self, count: int) -> None:
        """Have so many entities, which all nodes ask once at the same time."""
        members = list(self.members.values())
        part = -(-count // len(members))
        for place, member in enumerate(members):
            member.tell("many", first=place * part, count=part)
        for member in members:
            member.answer()


@contextmanager
def machine(names: str, shards: int, *, rebalance: bool = False) -> Iterator[Machine]:
    """A cluster of those nodes, which share its shards."""
    with ExitStack() as stack:
        found = Machine(stack, shards, rebalance=rebalance)
        for name in names:
            found.start(name)
        found.settled()
        yield found


def percentile(values: Sequence[float], part: float) -> float:
    """The value below which that part of them lies; nan of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(part * len(ordered)) - 1)] if ordered else math.nan


def row(name: str, unit: str, values: Sequence[float], better: str = "lower") -> Row:
    """A row of one run for each value; `ours` is their median."""
    print(f"{name}: {statistics.median(values) if values else math.nan:,.2f} {unit}", file=sys.stderr)
    return Row(name, unit, better, runs=list(values))


def tails(name: str, values: Sequence[float]) -> list[Row]:
    """p50, p99 and the most of some times, in milliseconds."""
    wanted = (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
    return [row(f"{name}, {word}", "ms", [percentile(values, part) * 1e3]) for word, part in wanted if values]


def within(calls: Sequence[Call], begun: float, ended: float) -> list[float]:
    """How long the calls took that were begun then."""
    return [done - asked for asked, done, _, _ in calls if begun <= asked < ended]


class Books:
    """What the clients of all runs have found."""

    def __init__(self) -> None:
        self.found = dict.fromkeys(("sent", "failed", "lost", "doubled", "reordered"), 0)

    def add(self, told: dict[str, Any]) -> None:
        """Add a load's findings."""
        for name in self.found:
            self.found[name] += len(told[name]) if name == "failed" else told[name]
        if told["failed"]:
            print("failed:", *told["failed"][:3], sep="\n  ", file=sys.stderr)

    def rows(self, name: str) -> list[Row]:
        """A row for each."""
        better = {"sent": "higher"}
        return [
            row(f"{name}, {word}", "commands", [float(count)], better.get(word, "lower"))
            for word, count in self.found.items()
        ]


def pauses(megabytes: int, times: int) -> list[Row]:
    """One shard of a size, moved to and fro under load."""
    with machine("abc", SHARDS) as nodes:
        a, b, c = (nodes.members[name] for name in "abc")
        shard, beside = a.ask("shards")[:2]
        other = b.ask("shards")[0]
        a.ask("fill", shard=shard, megabytes=megabytes)
        waiting, *keys = c.ask("keys", shard=shard, many=1 + EACH)
        keys += [key for one in (beside, other) for key in c.ask("keys", shard=one, many=EACH)]
        c.ask("begin", keys=keys, waiting=[waiting])
        time.sleep(1.0)  # noqa: TID251  # as above: until its entities run
        idle = (time.monotonic(), time.monotonic() + IDLE)
        time.sleep(IDLE)  # noqa: TID251  # as above
        moves = []
        source, target = a, b
        for _ in range(times):
            moves.append(source.ask("move", shard=shard, target=target.name) | {"target": target.name})
            print(f"  {moves[-1]}", file=sys.stderr)
            if not moves[-1]["why"]:
                source, target = target, source
            time.sleep(0.2)  # noqa: TID251  # as above: what was moved away is erased before it comes back
        told = c.ask("end")
    return _pause_rows(f"{megabytes} MB", moves, told, idle)


def _pause_rows(name: str, moves: list[dict[str, Any]], told: dict[str, Any], idle: tuple[float, float]) -> list[Row]:
    calls: list[Call] = told["took"]
    waited: list[Call] = told["waited"]
    done = [move for move in moves if not move["why"]]
    paused, copied, during = [], [], []
    for move in done:
        first = [ended for _, ended, _, node in waited if node == move["target"] and ended > move["froze"]]
        if first:
            paused.append(min(first) - move["froze"])
        copied.append(move["bytes"] / (move["froze"] - move["asked"]) / 1e6)
        during += within(calls, move["asked"], move["froze"])
    rows = [
        *tails(f"move {name}, freeze to first reply", paused),
        row(f"move {name}, copy", "MB/s", copied, "higher"),
        *tails(f"command, idle, beside {name}", within(calls, *idle)),
        *tails(f"command, while {name} are copied", during),
        row(f"move {name}, moves", "moves", [float(len(done))], "higher"),
        row(f"move {name}, void", "moves", [float(len(moves) - len(done))]),
    ]
    books = Books()
    books.add(told)
    return rows + books.rows(f"move {name}")


def drains() -> list[Row]:
    """A node with 64 shards that have entities gives them all away, under load."""
    with machine("abc", 3 * DRAINED) as nodes:
        a, c = nodes.members["a"], nodes.members["c"]
        given = a.ask("shards")
        nodes.populate(3 * DRAINED * OF_EACH)
        c.ask("begin", keys=[key for shard in given[::2] for key in c.ask("keys", shard=shard, many=1)])
        time.sleep(1.0)  # noqa: TID251  # as above
        idle = (time.monotonic(), time.monotonic() + IDLE)
        time.sleep(IDLE)  # noqa: TID251  # as above
        drained = a.ask("drain")
        time.sleep(0.5)  # noqa: TID251  # as above
        told = c.ask("end")
    books = Books()
    books.add(told)
    return [
        row("drain, shards", "shards", [float(drained["had"])], "higher"),
        row("drain", "s", [drained["ended"] - drained["begun"]]),
        *tails("command, idle, before a drain", within(told["took"], *idle)),
        *tails("command, during a drain", within(told["took"], drained["begun"], drained["ended"])),
        *books.rows("drain"),
    ]


def joins() -> list[Row]:
    """A fourth node comes to three with 100,000 entities, under load, and gets its share."""
    with machine("abc", 64, rebalance=True) as nodes:
        c = nodes.members["c"]
        begun = time.monotonic()
        nodes.populate(MANY)
        print(f"{MANY} entities after {time.monotonic() - begun:.1f} s", file=sys.stderr)
        keys = [key for shard in range(0, 64, 2) for key in c.ask("keys", shard=shard, many=1)]
        c.ask("begin", keys=keys)
        time.sleep(1.0)  # noqa: TID251  # as above
        idle = (time.monotonic(), time.monotonic() + IDLE)
        time.sleep(IDLE)  # noqa: TID251  # as above
        came = time.monotonic()
        nodes.start("d")
        ready = time.monotonic()
        over = nodes.rested("d")
        told = c.ask("end")
        books = Books()
        books.add(told)
        shares = c.ask("owners")
    print(f"shards: {shares}", file=sys.stderr)
    return [
        row("join, until it is ready", "s", [ready - came]),
        row("join, from then until shards come to rest", "s", [over - ready]),
        row("join, its share", "shards", [float(shares.get("d", 0))], "higher"),
        *tails("command, idle, before a join", within(told["took"], *idle)),
        *tails("command, during a join", within(told["took"], came, over)),
        *books.rows("join"),
    ]


def rows(only: Sequence[str] = (), sizes: Sequence[int] = ()) -> list[Row]:
    """All figures, or some of them."""
    unknown = [one for one in only if one not in KINDS] + [one for one in sizes if one not in SIZES]
    if unknown:
        sys.exit(f"wanted rows of {', '.join(KINDS)} and sizes of {list(SIZES)}, got {unknown}")
    found: list[Row] = []
    if not only or "pause" in only:
        for size in sizes or SIZES:
            found += pauses(size, SIZES[size])
    if not only or "drain" in only:
        found += drains()
    if not only or "join" in only:
        found += joins()
    for one in found:
        one.peers["casty"] = None
    return found
