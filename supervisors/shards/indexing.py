"""Which keys of a store belong to which shard, in stores that were begun before that was noted with each write.

Such a store is looked through once, region by region, before the first of its shards moves: a key that nobody has
noted would be left behind. A named value of the durable store says what was looked through, and up to which life of
the node: in a life outside of any cluster, or under a former version, keys are written that nobody notes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast, final

from runtime.cluster.placement import shard_of
from runtime.durable.writer import JournalWriter
from runtime.kernel.table import ProcessTable

from .router import REGIONS
from .stores import Stores, Turn

# The named values, by store: the store's epoch, and the regions; "*" for one in which all keys were noted.
_NAMES: Final = {False: "shards.noted", True: "shards.noted.relaxed"}
_ALL: Final = "*"
# Keys that are noted in one commit.
_AT_ONCE: Final = 200


@final
class Indexing:
    """The noting of the keys of a node's stores.

    Args:
        shards: how many the cluster has.
    """

    def __init__(self, stores: Stores, shards: int, clock: Callable[[], float]) -> None:
        self._stores = stores
        self._shards = shards
        self._clock = clock

    def begin(self) -> None:
        """A life of the node begins, or of its mover: from now on each key is noted that is written."""
        main = self._stores.main
        for relaxed, name in _NAMES.items():
            found = (main.get_meta(name) or b"").decode()
            epoch, _, noted = found.partition(" ")
            if not epoch.isdecimal() or int(epoch) < main.epoch - 1:
                empty = relaxed not in self._stores.here() or not self._stores.of(relaxed).stats().keys
                noted = _ALL if empty else ""
            if (value := f"{main.epoch} {noted}") != found:
                main.set_meta(name, value.encode())

    async def complete(self, regions: list[str]) -> None:
        """Note the keys of these regions that nobody has noted; others have their turn meanwhile."""
        main = self._stores.main
        for relaxed in self._stores.here():
            noted = (main.get_meta(_NAMES[relaxed]) or b"").decode().partition(" ")[2].split(",")
            missing = [name for name in regions if name not in noted]
            if _ALL in noted or not missing:
                continue
            for region in missing:
                await self._note(relaxed, region)
            value = f"{main.epoch} {','.join([*filter(None, noted), *missing])}"
            main.set_meta(_NAMES[relaxed], value.encode())

    async def _note(self, relaxed: bool, region: str) -> None:
        journal, turn = self._stores.of(relaxed), Turn(self._clock)
        homes: dict[str, int] = {}
        for prefix in (f"{region}/", f"region/{region}/known/"):
            for key in journal.keys(prefix):
                homes[key] = self._home(region, key.removeprefix(prefix), prefix)
                if len(homes) >= _AT_ONCE:
                    journal.commit((), homes=homes)
                    homes.clear()
                await turn.over()
        if homes:
            journal.commit((), homes=homes)

    def _home(self, region: str, rest: str, prefix: str) -> int:
        if prefix.startswith("region/") and rest.isdecimal():
            return int(rest)
        return shard_of(region, rest, self._shards)


def set_aside_of(table: ProcessTable, writer: JournalWriter, shards: int) -> dict[int, set[str]]:
    """The keys of entities of which commands were set aside in a store, by shard.

    Not by what was noted: who crashed over the first command that he ever had has no records.
    """
    regions = cast("dict[str, None]", table.services.get(REGIONS, {}))
    found: dict[int, set[str]] = {}
    for key, _, _ in writer.set_asides.commands:
        region, slash, rest = key.partition("/")
        if slash and region in regions:
            found.setdefault(shard_of(region, rest, shards), set()).add(key)
    return found


def leave_set_asides(table: ProcessTable, stores: Stores, shard: int, shards: int) -> None:
    """What was set aside of a shard's commands is another node's business now. Raises as `SetAsides.leave`."""
    for relaxed in stores.here():
        writer = stores.writer(relaxed)
        writer.set_asides.leave(writer, set_aside_of(table, writer, shards).get(shard, ()))
