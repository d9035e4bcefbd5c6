"""Which node owns which shard, and under which epoch: a table, and what one node does about it. Pure.

A key belongs to a shard for ever (`shard_of`); a shard belongs to one owner at a time, by its row in the
coordination store. Rows change by compare-and-set only and an epoch is given once, so there are never two owners
under one epoch. Nobody decides for the others: each node looks at the same rows, claims what falls to it, and
gives up what it has too much of.

    free, and it falls to me by `share`           claim it: epoch + 1, mine
    mine, under the epoch of a claim of late      the claim's answer was lost: own it
    mine, of a former life, or after a pause      claim it anew: epoch + 1
    its data are in a store that I hold           claim it, whoever owned it: the store's lock is the fence
    its owner is gone, and it has no data         claim it, if it falls to me: nothing can be lost
    its owner is gone, and it has data elsewhere  it waits for whoever holds them
    mine, one too many, and nothing written yet   seal it in my store, then set it free

A shard has data as soon as something is written; then only its copy could be served elsewhere, and moves with
traffic are another chapter. Claimed in the coordination store, a shard is claimed in the node's own store next
(`runtime.durable.fence`), and only then served.

Source: Slicer's and Kafka's assignments by generation; the balance rule of consistent hashing with bounded loads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, final

from ..errors import Misuse
from ..kernel.messages import message

SHARDS: Final = 256
# What each node looks through every two seconds.
MAX_SHARDS: Final = 4096
_SHARD: Final = "shard/"


@final
@message("banyan.cluster.shard")
class Shard:
    """A shard's row.

    Attributes:
        owner: the node's name; "" for none.
        creation: the owner's life.
        epoch: rises by at least one with each claim; 0 before the first.
        home: the id of the store that holds its data, or will; "" for none.
    """

    owner: str = ""
    creation: int = 0
    epoch: int = 0
    home: str = ""


UNCLAIMED: Final = Shard()


def shard_of(kind: str, key: str, shards: int = SHARDS) -> int:
    """The shard of an entity: the same for ever, on every machine and in every version.

    The first 8 bytes of BLAKE2b-64 over the kind's length in bytes (u16, big-endian), the kind and the key, both
    in UTF-8, as a big-endian number, modulo the count of shards.

    Args:
        kind: what the entity is, such as "table"; at most 65535 bytes.
        key: which one.
        shards: the cluster's count, from 1 to 4096.

    Raises: Misuse: the count is out of bounds.
    """
    if not 1 <= shards <= MAX_SHARDS:
        raise Misuse(f"wanted 1 to {MAX_SHARDS} shards, got {shards}")
    raw = kind.encode()
    digest = blake2b(len(raw).to_bytes(2, "big") + raw + key.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % shards


def shard_row(shard: int) -> str:
    """The name of a shard's row."""
    return f"{_SHARD}{shard:05d}"


def shards_of(rows: Iterable[tuple[str, int, object]]) -> dict[int, tuple[int, Shard]]:
    """The shards among (name, version, value) rows of the coordination store, by their numbers."""
    return {int(name[len(_SHARD) :]): (version, value) for name, version, value in rows if isinstance(value, Shard)}


def share(owners: Mapping[int, str], free: Collection[int], nodes: Sequence[str]) -> dict[int, str]:
    """To which node each free shard falls: to the one that has the fewest then, by name among equals.

    All who look at the same rows come to the same answer.

    Args:
        owners: the shards that are not free, by number; those of others than `nodes` do not count.
        free: shards that have no owner now.
        nodes: who may own any, in order.
    """
    load = Counter(dict.fromkeys(nodes, 0))
    for owner in owners.values():
        if owner in load:
            load[owner] += 1
    given: dict[int, str] = {}
    for shard in sorted(free):
        if not nodes:
            break
        given[shard] = least = min(nodes, key=lambda name: load[name])
        load[least] += 1
    return given


def excess(owners: Mapping[int, str], free: int, nodes: Sequence[str], me: str, fixed: Collection[int]) -> list[int]:
    """Which of a node's shards are too many, so that all get the same number, or one more; the last ones first.

    Args:
        owners, nodes: as for `share`.
        free: how many shards are free.
        me: the node.
        fixed: those that it cannot give up.
    """
    mine = sorted(shard for shard, owner in owners.items() if owner == me)
    load = Counter(owner for owner in owners.values() if owner in nodes)
    if me not in nodes or len(nodes) < 2:
        return []
    least, more = divmod(sum(load.values()) + free, len(nodes))
    # Those that have most keep one more, so that the fewest shards move.
    rank = sorted(nodes, key=lambda name: (-load[name], name)).index(me)
    surplus = len(mine) - (least + (rank < more))
    return [shard for shard in reversed(mine) if shard not in fixed][: max(surplus, 0)]


@final
@dataclass(frozen=True, slots=True)
class Claim:
    """Effect: set the shard's row from `expected` to `row`; then tell `Placement.claimed`."""

    shard: int
    expected: int
    row: Shard


@final
@dataclass(frozen=True, slots=True)
class Own:
    """Effect: the shard is this node's: claim it in the store that holds its data, then serve it."""

    shard: int
    epoch: int
    home: str


@final
@dataclass(frozen=True, slots=True)
class Lost:
    """Effect: stop serving the shard under this epoch."""

    shard: int
    epoch: int


@final
@dataclass(frozen=True, slots=True)
class Release:
    """Effect: stop serving the shard, seal it in the store, then set its row from `expected` to `row`."""

    shard: int
    epoch: int
    expected: int
    row: Shard


Effect = Claim | Own | Lost | Release


@final
class Placement:
    """The table as one node sees it, and what it owns; the machine behind `runtime.cluster.membership`.

    Args:
        name, creation: this node and its life.
        shards: how many there are.
        store: the id of its data; "" if it keeps nothing.
        floor: every epoch that it claims is above this; its store's own epoch, so that what was written there
            without shards goes on in one.
    """

    def __init__(self, name: str, creation: int, shards: int, *, store: str = "", floor: int = 0) -> None:
        self.name = name
        self.shards = shards
        self.stores = {store} if store else set()
        self._creation = creation
        self._store = store
        self._floor = floor
        self._rows: dict[int, tuple[int, Shard]] = {}
        # What is served; and the epochs of claims since the lease began whose outcome is not known.
        self._served: dict[int, int] = {}
        self._tried: dict[int, int] = {}

    # -- questions -----------------------------------------------------------------------------------

    def owner(self, shard: int) -> tuple[str, int] | None:
        """The node that owns a shard and its epoch, as far as this node has heard; None for nobody."""
        row = self._rows.get(shard, (0, UNCLAIMED))[1]
        return (row.owner, row.epoch) if row.owner else None

    def serves(self, shard: int) -> int | None:
        """The epoch under which this node serves a shard now; None if it does not."""
        return self._served.get(shard)

    @property
    def served(self) -> dict[int, int]:
        """The epochs of all shards that this node serves now."""
        return dict(self._served)

    def home(self, shard: int) -> str:
        """The id of the store that holds a shard's data; "" for none."""
        return self._row(shard).home

    def rows(self) -> dict[int, Shard]:
        """The whole table."""
        return {shard: row for shard, (_, row) in sorted(self._rows.items())}

    # -- events --------------------------------------------------------------------------------------

    def looked(
        self,
        rows: Mapping[int, tuple[int, Shard]],
        *,
        serving: bool,
        up: Sequence[str],
        alive: Sequence[str],
        written: Callable[[int], bool] = lambda _: True,
    ) -> list[Effect]:
        """The shards' rows, by number.

        Args:
            serving: whether this node's lease holds.
            up, alive: the nodes that may be given shards, and those that may keep them.
            written: whether something of a shard is in this node's store, so that it must stay.
        """
        for shard, found in rows.items():
            # A row never goes back: an older answer may come after a change of our own.
            if found[0] >= self._rows.get(shard, (0, UNCLAIMED))[0]:
                self._rows[shard] = found
        effects: list[Effect] = []
        for shard, epoch in list(self._served.items()):
            if not serving or not self._is_mine(self._row(shard)) or self._row(shard).epoch != epoch:
                del self._served[shard]
                effects.append(Lost(shard, epoch))
        if not serving:
            return effects
        claims = self._claims(up, alive)
        for shard in claims:
            version, row = self._rows.get(shard, (0, UNCLAIMED))
            if self._is_found(shard, row):
                effects.append(self._own(shard, row))
            elif shard not in self._served:
                epoch = self._tried[shard] = max(row.epoch, self._floor) + 1
                home = row.home or self._store
                effects.append(Claim(shard, version, Shard(self.name, self._creation, epoch, home)))
        # One thing after the other: first all that is to be had, and only while nobody is in doubt.
        if list(up) == list(alive) and not any(isinstance(one, Claim) for one in effects):
            effects += self._releases(alive, written)
        return effects

    def claimed(self, claim: Claim) -> list[Effect]:
        """A claim's change was made."""
        self._rows[claim.shard] = (claim.expected + 1, claim.row)
        return [self._own(claim.shard, claim.row)]

    def held(self, store: str) -> None:
        """This node holds another store now, whose lock it has: the shards that have their data there are its own."""
        self.stores.add(store)

    def given_up(self, store: str) -> list[Effect]:
        """It will hold a store no longer: stop serving what has its data there, and only then let go of the lock."""
        self.stores.discard(store)
        lost: list[Effect] = []
        for shard, epoch in sorted(self._served.items()):
            if self._row(shard).home == store:
                del self._served[shard]
                lost.append(Lost(shard, epoch))
        return lost

    def released(self, release: Release) -> None:
        """A release's change was made."""
        self._rows[release.shard] = (release.expected + 1, release.row)

    def ceased(self) -> list[Effect]:
        """The lease is over: nothing is served any more."""
        lost: list[Effect] = [Lost(shard, epoch) for shard, epoch in self._served.items()]
        self._served.clear()
        # Whoever took this node for dead may be about to act on it: only a newer version stops them.
        self._tried.clear()
        return lost

    def dropped(self, shard: int) -> list[Effect]:
        """The store has refused to be claimed for a shard, or its processes were fenced: it is claimed anew."""
        epoch = self._served.pop(shard, None)
        return [] if epoch is None else [Lost(shard, epoch)]

    def leaving(self, written: Callable[[int], bool]) -> list[Effect]:
        """The node says good-bye: it serves nothing more, and sets free what has no data."""
        given: list[Effect] = []
        for shard, epoch in sorted(self._served.items()):
            given.append(Lost(shard, epoch) if written(shard) else self._release(shard, epoch))
        self._served.clear()
        return given

    # -- rules ---------------------------------------------------------------------------------------

    def _row(self, shard: int) -> Shard:
        return self._rows.get(shard, (0, UNCLAIMED))[1]

    def _is_mine(self, row: Shard) -> bool:
        return row.owner == self.name and row.creation == self._creation

    def _is_found(self, shard: int, row: Shard) -> bool:
        """Whether a row is a claim of this node's whose answer was lost."""
        return self._is_mine(row) and row.epoch == self._tried.get(shard)

    def _own(self, shard: int, row: Shard) -> Own:
        self._served[shard] = row.epoch
        self._tried.pop(shard, None)
        return Own(shard, row.epoch, row.home)

    def _claims(self, up: Sequence[str], alive: Sequence[str]) -> list[int]:
        """The shards that should be this node's and that it does not serve."""
        owners: dict[int, str] = {}
        free: list[int] = []
        mine: list[int] = []
        for shard in range(self.shards):
            row = self._row(shard)
            if row.owner == self.name and (not row.home or row.home in self.stores):
                owners[shard] = self.name
                if shard not in self._served:
                    mine.append(shard)
            elif row.home:
                owners[shard] = row.owner
                # Whoever holds the data is who can serve; and while we hold them nobody else does.
                if row.home in self.stores:
                    mine.append(shard)
            elif row.owner in alive and row.owner != self.name:
                owners[shard] = row.owner
            else:
                free.append(shard)
        falls = share(owners, free, up)
        return sorted(mine + [shard for shard in free if falls.get(shard) == self.name])

    def _releases(self, alive: Sequence[str], written: Callable[[int], bool]) -> list[Effect]:
        """What this node has too much of and may give up, once all is claimed."""
        owners = {shard: row.owner for shard, (_, row) in self._rows.items() if row.owner}
        unowned = self.shards - len(owners)
        given: list[Effect] = []
        candidates = excess(owners, unowned, alive, self.name, ())
        if candidates:
            fixed = {shard for shard in self._served if written(shard)}
            for shard in excess(owners, unowned, alive, self.name, fixed):
                epoch = self._served.pop(shard, None)
                if epoch is not None:
                    given.append(self._release(shard, epoch))
        return given

    def _release(self, shard: int, epoch: int) -> Release:
        version, row = self._rows[shard]
        return Release(shard, epoch, version, Shard("", 0, row.epoch, ""))
