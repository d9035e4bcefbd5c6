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
    mine, one too many, and nothing of it here    seal it in my store, then set it free
    mine, and it names a move of nobody here      take the move out of the row

A shard has data as soon as something is written; then only its copy can be served elsewhere, which is a move: its
steps are in `moving`, and a claim by anybody makes it void. From the seal to its end a move has the shard **in
hand**: then this machine neither claims it nor gives it up. Claimed in the coordination store, a shard is claimed in
the node's own store next (`runtime.durable.fence`), and only then served.

Source: Slicer's and Kafka's assignments by generation; the balance rule of consistent hashing with bounded loads.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import final

from .balance import Load, excess, moves_for, share
from .shards import MAX_SHARDS, SHARDS, UNCLAIMED, Shard, shard_of, shard_row, shards_of

__all__ = [
    "MAX_SHARDS",
    "SHARDS",
    "UNCLAIMED",
    "Claim",
    "Clear",
    "Effect",
    "Lost",
    "Own",
    "Placement",
    "Release",
    "Settled",
    "Shard",
    "shard_of",
    "shard_row",
    "shards_of",
]


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
class Clear:
    """Effect: set the row of a shard that is served on from `expected` to `row`, which names no move."""

    shard: int
    expected: int
    row: Shard


@final
@dataclass(frozen=True, slots=True)
class Settled:
    """Effect: somebody else has ended a move in which this node has a part; tell whoever conducts it here."""

    shard: int
    move: str


@final
@dataclass(frozen=True, slots=True)
class Release:
    """Effect: stop serving the shard, seal it in the store, then set its row from `expected` to `row`."""

    shard: int
    epoch: int
    expected: int
    row: Shard


Effect = Claim | Own | Lost | Clear | Settled | Release


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
        # The moves from here that somebody here conducts, by shard; and the shards that a move has in hand: from
        # here between the seal and the end, to here from the first try to commit.
        self._moves: dict[int, str] = {}
        self._in_hand: set[int] = set()

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

    def owners(self) -> dict[int, str]:
        """The owners by shard, as they will be when the moves that are under way have come to their end."""
        return {shard: row.target or row.owner for shard, (_, row) in self._rows.items() if row.owner}

    def wanted(
        self,
        sure: Sequence[str],
        draining: Collection[str],
        kept: Collection[int],
        loads: Mapping[int, Load],
        others: Mapping[str, Load],
        limit: int,
    ) -> list[tuple[int, str]]:
        """What this node should move away now, and where to; see `balance.moves_for`.

        Args:
            kept: the shards served here of which something is here, in the store or in memory.
        """
        moving = {shard: row.target for shard, (_, row) in self._rows.items() if row.move}
        fixed = {shard for shard in self._served if shard not in kept or self.is_adopted(shard)} | self._in_hand
        owners = {shard: row.owner for shard, (_, row) in self._rows.items() if row.owner}
        # What is free, or will be set free here, is somebody's soon.
        free = set(range(self.shards)) - owners.keys() | set(self._surplus(sure, draining, kept))
        kept = {shard: owner for shard, owner in self.owners().items() if shard not in free}
        owners |= share(kept, free, [name for name in sure if name not in draining])
        return moves_for(owners, loads, sure, draining, self.name, limit, others=others, moving=moving, fixed=fixed)

    def home(self, shard: int) -> str:
        """The id of the store that holds a shard's data; "" for none."""
        return self._row(shard).home

    def rows(self) -> dict[int, Shard]:
        """The whole table."""
        return {shard: row for shard, (_, row) in sorted(self._rows.items())}

    def row(self, shard: int) -> tuple[int, Shard]:
        """A shard's row as it was seen last, and its version; (0, UNCLAIMED) for none."""
        return self._rows.get(shard, (0, UNCLAIMED))

    def claim_of(self, row: Shard) -> Shard:
        """The row that gives a shard to this node, in its own store, under the next epoch."""
        return Shard(self.name, self._creation, row.epoch + 1, self._store)

    def is_mine(self, row: Shard) -> bool:
        """Whether a row gives a shard to this life of this node."""
        return row.owner == self.name and row.creation == self._creation

    def is_ours(self, row: Shard) -> bool:
        """Whether a row gives a shard to this node, in whatever life, and its data lie here."""
        return row.owner == self.name and (not row.home or row.home in self.stores)

    def is_here(self, row: Shard) -> bool:
        """Whether a row gives a shard to this node, in whatever life, and its data lie in the node's own store."""
        return row.owner == self.name and row.home in ("", self._store)

    @property
    def adopted(self) -> list[int]:
        """The shards that this node serves out of other stores than its own."""
        return [shard for shard in self._served if self.is_adopted(shard)]

    def is_adopted(self, shard: int) -> bool:
        """Whether a shard's data lie in another store that this node holds."""
        home = self.home(shard)
        return home != self._store and home in self.stores

    # -- events --------------------------------------------------------------------------------------

    def looked(
        self,
        rows: Mapping[int, tuple[int, Shard]],
        *,
        serving: bool,
        up: Sequence[str],
        alive: Sequence[str],
        kept: Callable[[int], bool] = lambda _: True,
        draining: Collection[str] = (),
    ) -> list[Effect]:
        """The shards' rows, by number.

        Args:
            serving: whether this node's lease holds.
            up, alive: the nodes that may be given shards, and those that may keep them.
            kept: whether something of a shard is here, in the store or in memory, so that it stays until it is moved.
            draining: the nodes that are given nothing, and give up what they can.
        """
        effects: list[Effect] = []
        for shard, found in rows.items():
            effects += self.found(shard, *found)
        for shard, epoch in list(self._served.items()):
            mine = self.is_mine(self._row(shard)) and self._row(shard).epoch == epoch
            if not serving or (not mine and shard not in self._in_hand):
                del self._served[shard]
                effects.append(Lost(shard, epoch))
        if not serving:
            return effects
        effects += self._strays()
        claims = self._claims([name for name in up if name not in draining], alive)
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
            effects += self._releases(alive, kept, draining)
        return effects

    def found(self, shard: int, version: int, row: Shard) -> list[Effect]:
        """A shard's row was read. It never goes back: an older answer may come after a change of our own."""
        before_version, before = self.row(shard)
        if version < before_version:
            return []
        self._rows[shard] = (version, row)
        if shard in self._in_hand and shard not in self._served and not self.is_ours(row) and row.target != self.name:
            self._in_hand.discard(shard)
        if before.move and before.move != row.move and self.name in (before.owner, before.target):
            return [Settled(shard, before.move)]
        return []

    def claimed(self, claim: Claim) -> list[Effect]:
        """A claim's change was made."""
        self.changed(claim.shard, claim.expected + 1, claim.row)
        # An adopted store may have been given up meanwhile.
        here = not claim.row.home or claim.row.home in self.stores
        return [self._own(claim.shard, claim.row)] if here and self._row(claim.shard) == claim.row else []

    def held(self, store: str) -> None:
        """This node holds another store now, whose lock it has: the shards that have their data there are its own."""
        self.stores.add(store)

    def forsaken(self) -> None:
        """Whoever has adopted stores for this node has to say so anew."""
        self.stores = {self._store} if self._store else set()

    def given_up(self, store: str) -> list[Effect]:
        """It will hold a store no longer: stop serving what has its data there, and only then let go of the lock."""
        self.stores.discard(store)
        lost: list[Effect] = []
        for shard, epoch in sorted(self._served.items()):
            if self._row(shard).home == store:
                del self._served[shard]
                lost.append(Lost(shard, epoch))
        return lost

    def released(self, release: Release | Clear) -> None:
        """A change was made that gives a shard or a move up."""
        self.changed(release.shard, release.expected + 1, release.row)

    def ceased(self) -> list[Effect]:
        """The lease is over: nothing is served any more."""
        lost: list[Effect] = [Lost(shard, epoch) for shard, epoch in self._served.items()]
        self._served.clear()
        # Whoever took this node for dead may be about to act on it: only a newer version stops them.
        self._tried.clear()
        return lost

    # -- moves, as `moving` says ---------------------------------------------------------------------

    def changed(self, shard: int, version: int, row: Shard) -> None:
        """This node has changed the row to this one."""
        if version > self.row(shard)[0]:
            self._rows[shard] = (version, row)

    def conducts(self, shard: int) -> str:
        """The move of a shard from here that somebody here conducts; "" for none."""
        return self._moves.get(shard, "")

    def in_hand(self, shard: int) -> bool:
        """Whether a move has the shard in hand."""
        return shard in self._in_hand

    def conduct(self, shard: int, move: str) -> None:
        """A move from here begins; with "" there is none any more."""
        if move:
            self._moves[shard] = move
        else:
            self._moves.pop(shard, None)

    def take(self, shard: int) -> None:
        """A move has the shard in hand from now on."""
        self._in_hand.add(shard)

    def try_for(self, shard: int, epoch: int) -> None:
        """A move is about to set the row to this node and this epoch."""
        self._tried[shard] = epoch

    def won(self, shard: int, epoch: int) -> list[Effect]:
        """A move has given the shard to this node under this epoch, and all is ready to serve it.

        Returns: `Own`, or nothing if it may not be served under that epoch, because the lease was over since the
            row was set: then it is claimed anew in the next round.
        """
        self.conduct(shard, "")
        self._in_hand.discard(shard)
        row = self._row(shard)
        if row.epoch == epoch and self._is_found(shard, row):
            return [self._own(shard, row)]
        return self.dropped(shard)

    def gone(self, shard: int) -> list[Effect]:
        """A move is over, and the shard is not this node's."""
        self.conduct(shard, "")
        self._in_hand.discard(shard)
        self._tried.pop(shard, None)
        return self.dropped(shard)

    def abandoned(self) -> list[Effect]:
        """Whoever conducted the moves is no more: what they had in hand is claimed anew, and the others are void."""
        lost = [one for shard in sorted(self._in_hand) for one in self.gone(shard)]
        self._moves.clear()
        return lost

    # -- the end -------------------------------------------------------------------------------------

    def dropped(self, shard: int) -> list[Effect]:
        """The store has refused to be claimed for a shard, or its processes were fenced: it is claimed anew."""
        epoch = self._served.pop(shard, None)
        return [] if epoch is None else [Lost(shard, epoch)]

    def leaving(self, written: Callable[[int], bool]) -> list[Effect]:
        """The node says good-bye: it serves nothing more, and sets free what has no data."""
        given: list[Effect] = []
        for shard, epoch in sorted(self._served.items()):
            if shard in self._in_hand or written(shard):
                given.append(Lost(shard, epoch))
                if self._row(shard).move and shard not in self._in_hand:
                    given.append(self._clear(shard))
            else:
                given.append(self._release(shard, epoch))
        self._served.clear()
        return given

    # -- rules ---------------------------------------------------------------------------------------

    def _row(self, shard: int) -> Shard:
        return self.row(shard)[1]

    def _is_found(self, shard: int, row: Shard) -> bool:
        """Whether a row is a claim of this node's whose answer was lost."""
        return self.is_mine(row) and row.epoch == self._tried.get(shard)

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
            if self.is_ours(row):
                owners[shard] = row.target or self.name
                if shard not in self._served:
                    mine.append(shard)
            elif row.home:
                owners[shard] = row.target or row.owner
                # Whoever holds the data is who can serve; and while we hold them nobody else does.
                if row.home in self.stores:
                    mine.append(shard)
            elif row.owner in alive and row.owner != self.name:
                owners[shard] = row.target or row.owner
            else:
                free.append(shard)
        falls = share(owners, free, up)
        mine += [shard for shard in free if falls.get(shard) == self.name]
        return sorted(shard for shard in mine if shard not in self._in_hand)

    def _strays(self) -> list[Effect]:
        """Moves in rows of this node that nobody conducts: they were written after they had been given up."""
        return [
            self._clear(shard)
            for shard in self._served
            if shard not in self._in_hand and self._row(shard).move not in ("", self.conducts(shard))
        ]

    def _releases(self, alive: Sequence[str], kept: Callable[[int], bool], draining: Collection[str]) -> list[Effect]:
        """What this node has too much of and may give up, once all is claimed."""
        given: list[Effect] = []
        if self._surplus(alive, draining, ()):
            fixed = {shard for shard in self._served if kept(shard)}
            for shard in self._surplus(alive, draining, fixed):
                epoch = self._served.pop(shard, None)
                if epoch is not None:
                    given.append(self._release(shard, epoch))
        return given

    def _surplus(self, alive: Sequence[str], draining: Collection[str], kept: Collection[int]) -> list[int]:
        """The shards that this node should set free."""
        owners = self.owners()
        takers = [name for name in alive if name not in draining]
        fixed = {shard for shard in self._served if self._row(shard).move or shard in self._in_hand} | set(kept)
        if self.name in draining:
            return [shard for shard in self._served if shard not in fixed] if takers else []
        return excess(owners, self.shards - len(owners), takers, self.name, fixed)

    def _clear(self, shard: int) -> Clear:
        version, row = self._rows[shard]
        return Clear(shard, version, row.resting())

    def _release(self, shard: int, epoch: int) -> Release:
        version, row = self._rows[shard]
        return Release(shard, epoch, version, Shard("", 0, row.epoch, ""))
