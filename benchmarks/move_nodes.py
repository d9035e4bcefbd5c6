"""A node that `move` measures: `python -m benchmarks.move_nodes NAME FOLDER PORT SHARDS REBALANCE`.

It reads a JSON object a line from stdin, `{"do": ..., ...}`, and answers each with one on stdout. Times are of
`time.monotonic`, which is one for all processes of a machine.
"""

from __future__ import annotations

import gc
import itertools
import json
import logging
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import trio

from runtime import Call, EventSourced, Query, call, message, self_pid, spawn
from runtime.cluster.membership import membership_of
from runtime.kernel.table import current_table
from supervisors import Node, Supervisor, region
from supervisors.node.cluster import Cluster
from supervisors.shards.mover import mover_of
from supervisors.shards.mover_source import SourceWork
from supervisors.shards.orders import MOVER, REBALANCER, Drain, Move, Tell

# A record of the bulk that makes a shard large; how many entities share it, and how many fill it at once.
PIECE = 64 << 10
BULK = 32
# Seconds between a reply and the client's next command, and for one of them.
PAUSE = 0.01
PATIENCE = 60.0


@message("bench.move.count")
class Count(Call["tuple[str, int]"]):
    """The next of a client's numbers; the reply: on which node, and how many that makes."""

    number: int


@message("bench.move.audit")
class Audit(Query["tuple[int, int, int, int]"]):
    """How many were done, how many are missing below the highest, how many came twice, how many came late."""


@message("bench.move.counted")
class Counted:
    """One of a client's numbers."""

    number: int


@message("bench.move.tally")
class Tally:
    """What was done: how many, the highest, those missing below it, how many came twice, how many late."""

    done: int
    highest: int
    missing: tuple[int, ...]
    doubled: int
    late: int


class Counter(EventSourced[Tally, Counted]):
    """What one client commands: it knows which number comes next."""

    snapshot_every = 64

    def initial(self, key: str) -> Tally:
        return Tally(0, 0, (), 0, 0)

    def handle(self, state: Tally, command: Any) -> Any:
        return Counted(command.number), (self_pid().node, state.done + 1)

    def apply(self, state: Tally, event: Counted) -> Tally:
        number, missing, doubled, late = event.number, state.missing, state.doubled, state.late
        if number in missing:
            missing = tuple(one for one in missing if one != number)
            late += 1
        elif number <= state.highest:
            doubled += 1
        else:
            missing += tuple(range(state.highest + 1, number))
        return Tally(state.done + 1, max(state.highest, number), missing, doubled, late)

    def query(self, state: Tally, request: Any) -> tuple[int, int, int, int]:
        return state.done, len(state.missing), state.doubled, state.late


@message("bench.move.fill")
class Fill(Call[int]):
    """One more record of a size."""

    size: int


@message("bench.move.filled")
class Filled:
    """A record."""

    data: bytes


class Bulk(EventSourced[int, Filled]):
    """Has a long history and a small state."""

    snapshot_every = 8

    def initial(self, key: str) -> int:
        return 0

    def handle(self, state: int, command: Any) -> Any:
        return Filled(bytes(command.size)), state + 1

    def apply(self, state: int, event: Filled) -> int:
        return state + 1


class Regions(Supervisor):
    """What there is to be moved."""

    intensity = 1000

    def init(self) -> Any:
        return [region("counter", Counter), region("bulk", Bulk, idle=1.0)]


counters, bulk = region("counter"), region("bulk")

# When each move's last freeze began.
FROZE: dict[str, float] = {}


def note_freezes() -> None:
    """Note when a shard is frozen: no fact of a move tells that."""
    freeze = SourceWork._freeze

    async def noted(self: SourceWork, force: bool) -> Any:
        FROZE[self.move] = time.monotonic()
        return await freeze(self, force)

    SourceWork._freeze = noted  # type: ignore[method-assign]  # that it is noted is all that differs


# -- the load ----------------------------------------------------------------------------------------------


class Load:
    """Clients with one entity each: a cast and a call, then a pause, and so on; and some who call without a pause.

    Args:
        keys: of the first kind.
        waiting: of those who always wait for a reply: so there is one to be given first when a shard has moved.
    """

    def __init__(self, keys: list[str], waiting: list[str]) -> None:
        self.sent = dict.fromkeys([*keys, *waiting], 0)
        self.failed: list[str] = []
        # (begun, ended, shard, node) of each call.
        self.took: list[tuple[float, float, int, str]] = []
        self._stop = False
        # Those who only wait, in the same way.
        self.waited: list[tuple[float, float, int, str]] = []
        self._left = len(self.sent)
        self._stopped = trio.Event()
        for place, key in enumerate(keys):
            spawn(self._client, key, place / len(keys))
        for key in waiting:
            spawn(self._wait, key)

    async def _client(self, key: str, first: float) -> None:
        await trio.sleep(first * PAUSE)
        while not self._stop:
            try:
                await counters.cast(key, Count(self.sent[key] + 1), timeout=PATIENCE)
                self.sent[key] += 1
                await self._call(key, self.took)
            except Exception as error:  # what a client sees is what is measured
                self.failed.append(repr(error))
                break
            await trio.sleep(PAUSE)
        self._over()

    async def _wait(self, key: str) -> None:
        while not self._stop:
            try:
                await self._call(key, self.waited)
            except Exception as error:  # as above
                self.failed.append(repr(error))
                break
        self._over()

    async def _call(self, key: str, took: list[tuple[float, float, int, str]]) -> None:
        begun = time.monotonic()
        node, _ = await counters.call(key, Count(self.sent[key] + 1), timeout=PATIENCE)
        self.sent[key] += 1
        took.append((begun, time.monotonic(), counters.shard(key), node))

    def _over(self) -> None:
        self._left -= 1
        if not self._left:
            self._stopped.set()

    async def stop(self) -> dict[str, Any]:
        """End it; what was lost, doubled or reordered, as the entities know it."""
        self._stop = True
        await self._stopped.wait()
        lost = doubled = late = 0
        for key, sent in self.sent.items():
            done, missing, twice, after = await counters.call(key, Audit(), timeout=PATIENCE)
            doubled, late = doubled + twice, late + after
            lost += missing + max(0, sent - (done - twice) - missing)
        return {
            "sent": sum(self.sent.values()),
            "failed": self.failed,
            "lost": lost,
            "doubled": doubled,
            "reordered": late,
        }


# -- what is asked -----------------------------------------------------------------------------------------


class Answers:
    """What this node does when it is told to."""

    def __init__(self) -> None:
        self.load: Load | None = None

    async def owners(self) -> dict[str, int]:
        """How many shards each node owns."""
        members = membership_of(current_table())
        owned = [members.owner(shard) for shard in range(members.cluster.shards)]
        names = [found[0] if found is not None else "" for found in owned]
        return {name: names.count(name) for name in sorted(set(names))}

    async def shards(self) -> list[int]:
        """The shards that this node serves."""
        return sorted(membership_of(current_table()).placement.served)

    async def keys(self, shard: int, many: int) -> list[str]:
        """Keys of counters on a shard."""
        names = (f"k{number}" for number in itertools.count())
        return list(itertools.islice((key for key in names if counters.shard(key) == shard), many))

    async def fill(self, shard: int, megabytes: int) -> int:
        """Write so much into a shard."""
        names = (f"b{number}" for number in itertools.count())
        keys = list(itertools.islice((key for key in names if bulk.shard(key) == shard), BULK))
        left = megabytes * (1 << 20) // PIECE

        async def one(key: str) -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await bulk.call(key, Fill(PIECE), timeout=PATIENCE)

        async with trio.open_nursery() as nursery:
            for key in keys:
                nursery.start_soon(one, key)
        return megabytes

    async def many(self, first: int, count: int, at_once: int = 128) -> int:
        """Command so many entities once each, from that number on."""
        names = iter(range(first, first + count))

        async def some() -> None:
            for number in names:
                await counters.call(f"m{number}", Count(1), timeout=PATIENCE)

        async with trio.open_nursery() as nursery:
            for _ in range(at_once):
                nursery.start_soon(some)
        return count

    async def begin(self, keys: list[str], waiting: list[str] | None = None) -> int:
        """Begin the load."""
        gc.collect()
        self.load = Load(keys, waiting or [])
        return len(keys)

    async def end(self) -> Any:
        """End it, and tell what it found: its calls as (begun, ended, shard, node), too."""
        assert self.load is not None
        found = await self.load.stop()
        return found | {"took": self.load.took, "waited": self.load.waited}

    async def move(self, shard: int, target: str) -> Any:
        """Move a shard, to the end of it."""
        asked = time.monotonic()
        move = await call(MOVER, Move(shard, target), timeout=PATIENCE)
        while True:
            (fact,) = [one for one in mover_of(current_table()).facts() if one.id == move]
            if fact.over:
                break
            await trio.sleep(0.002)
        return {
            "asked": asked,
            "froze": FROZE.get(move),
            "ended": time.monotonic(),
            "phase": fact.phase,
            "why": fact.why,
            "bytes": fact.bytes,
            "total": fact.total,
            "held": fact.held,
            "freeze_ms": fact.freeze_ms,
        }

    async def drain(self) -> Any:
        """Give all shards away, until that is done."""
        begun, had = time.monotonic(), len(await self.shards())
        await call(REBALANCER, Drain(), timeout=PATIENCE)
        while (await call(REBALANCER, Tell(), timeout=PATIENCE)).standing.owned:  # noqa: ASYNC110  # it is to be asked
            await trio.sleep(0.01)
        return {"begun": begun, "ended": time.monotonic(), "had": had}


async def main(*arguments: str) -> None:
    name, folder, port, shards, rebalance = arguments
    logging.getLogger("banyan").setLevel(logging.ERROR)
    note_freezes()
    cluster = Cluster(
        listen=f"127.0.0.1:{port}",
        clear=True,
        coordination=str(Path(folder) / "coordination"),
        shards=int(shards),
        rebalance=rebalance == "yes",
        grace=1.0,
    )
    async with Node(name, data=str(Path(folder) / name), cluster=cluster) as node:
        await node.start(Regions)
        answers = Answers()
        done = trio.Event()

        async def serve() -> None:
            while line := await trio.to_thread.run_sync(sys.stdin.readline):
                asked = json.loads(line)
                work: Callable[..., Awaitable[Any]] = getattr(answers, asked.pop("do"))
                print(json.dumps(await work(**asked)), flush=True)
            done.set()

        print("ready", flush=True)
        spawn(serve)
        await done.wait()


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
