"""What each shard of a node has to do and to hold, by what can be had cheaply: an estimate.

Commands are taken for what the tasks of its entities have run, which costs nothing while they run; one that takes
several messages in a turn counts less. Bytes are its share of the keys of each store, which are gone through in
slices, and the more rarely the more there are.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, final

import trio

from runtime.cluster.balance import Load
from runtime.durable.journal import Journal
from runtime.durable.writer import RELAXED, SERVICE, OnDemand
from runtime.kernel.table import ProcessTable

from .entities import RegionSpec
from .luggage import regions_here
from .router import router_of

# Seconds between two looks at who has run, and at what is stored.
RUN_SECONDS: Final = 4.0
STORED_SECONDS: Final = 60.0
# Where there are many entities, or keys, they are looked at more rarely: a second later for each so many.
_FOR_A_SECOND: Final = 10_000
# Seconds for which the load of a shard that was given away is known here: until its new owner tells of it.
_GIVEN_SECONDS: Final = 15.0
# Entities, or keys, between two of which others have their turn.
_SLICE: Final = 250


@final
class Loads:
    """The loads of the shards that are here, as measured of late."""

    def __init__(self, table: ProcessTable) -> None:
        self._table = table
        self._turns: Counter[int] = Counter()
        self._since = self._stored = float("-inf")
        self._rest, self._rest_stored = RUN_SECONDS, STORED_SECONDS
        self._commands: dict[int, float] = {}
        self._bytes: dict[int, int] = {}
        self._served: set[int] = set()
        # What was given away of late: its load, and until when that is kept.
        self._given: dict[int, tuple[Load, float]] = {}

    def found(self) -> dict[int, Load]:
        """What was measured, by shard, also of those that were given away of late; what is not there does nothing."""
        now = self._table.world.now()
        self._given = {shard: one for shard, one in self._given.items() if one[1] > now}
        return {shard: load for shard, (load, _) in self._given.items()} | self._measured()

    def _measured(self) -> dict[int, Load]:
        # What was measured last when it was still here says nothing any more.
        known = sorted(self._served & {*self._commands, *self._bytes})
        return {shard: Load(self._commands.get(shard, 0.0), self._bytes.get(shard, 0)) for shard in known}

    def gives(self, shard: int) -> None:
        """A shard begins to move away."""
        load = self._measured().get(shard)
        if load is not None:
            self._given[shard] = (load, self._table.world.now() + _GIVEN_SECONDS)

    def total(self) -> Load:
        """The sum of what is here."""
        found = self._measured().values()
        return Load(sum(one.commands for one in found), sum(one.bytes for one in found))

    async def measure(self, shards: list[int]) -> None:
        """Look again at these shards, which are served here, if it is time to. Others have their turns meanwhile."""
        now = self._table.world.now()
        self._served = set(shards)
        if now - self._since >= self._rest:
            turns = await self._count()
            if self._since > float("-inf"):
                # One that has come, or whose entities were started anew, begins with nothing.
                passed = now - self._since
                self._commands = {shard: max(0, turns[shard] - self._turns[shard]) / passed for shard in shards}
            self._turns, self._since = turns, now
            come = [shard for shard in shards if shard not in self._bytes]
            self._bytes |= await self._weigh(come)
        if now - self._stored >= self._rest_stored:
            self._bytes = await self._weigh(shards)
            self._stored = now
            keys = sum(journal.stats().keys for journal in self._journals())
            self._rest_stored = STORED_SECONDS + keys / _FOR_A_SECOND

    async def _count(self) -> Counter[int]:
        """How often the tasks of entities have run, by shard."""
        names, turns, seen = self._table.names, Counter[int](), 0
        for name in regions_here(self._table):
            router = router_of(names.get(RegionSpec.router_of(name)))
            for number, shard in list(router.inward.shards.items()) if router is not None else ():
                for entity in list(shard.entities.values()):
                    process = names.get(entity.name)
                    if process is not None and process.task is not None:
                        turns[number] += process.task._schedule_points
                    seen += 1
                    if seen % _SLICE == 0:
                        await trio.lowlevel.checkpoint()
        self._rest = RUN_SECONDS + seen / _FOR_A_SECOND
        return turns

    async def _weigh(self, shards: list[int]) -> dict[int, int]:
        """How many bytes each shard has, if all keys of a store have the same."""
        found = dict.fromkeys(shards, 0)
        for journal in self._journals() if shards else ():
            stats = journal.stats()
            each = stats.bytes_used // stats.keys if stats.keys else 0
            for shard in shards if each else ():
                after = ""
                while keys := journal.shard_keys(shard, after, _SLICE):
                    found[shard] += each * len(keys)
                    after = keys[-1]
                    await trio.lowlevel.checkpoint()
        return found

    def _journals(self) -> list[Journal]:
        main, relaxed = self._table.services.get(SERVICE), self._table.services.get(RELAXED)
        found = [main] if isinstance(main, Journal) else []
        return [*found, relaxed.journal] if isinstance(relaxed, OnDemand) and relaxed.opened else found
