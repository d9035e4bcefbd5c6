"""What the owner of a shard does to give it away: the effects of a `Source`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, cast, final

import trio

from runtime.behaviours.gen import Behaviour
from runtime.cluster import moving
from runtime.cluster.coordination import CoordinationUnreachable
from runtime.cluster.membership import SERVICE, Membership
from runtime.codec.cbor import encode
from runtime.durable.hooks import Hooks
from runtime.errors import BanyanError, CallFailed, Misuse
from runtime.kernel.api import call
from runtime.kernel.ids import Pid
from runtime.kernel.process import Process
from runtime.kernel.table import ProcessTable

from .carrier import Work
from .copying import Copying
from .entities import RegionSpec
from .failures import CannotHandOver
from .handoff_events import (
    Clear,
    Done,
    Effect,
    Event,
    Follow,
    Freeze,
    Look,
    Plan,
    Portion,
    Read,
    ReadLast,
    Rest,
    Resume,
    Retire,
    Row,
    Seal,
    TakeBack,
    Thaw,
    Unknown,
)
from .handoff_frames import Frame, Offer
from .indexing import Indexing, leave_set_asides, set_aside_of
from .luggage import DepartShard, FollowShard, FreezeShard, PackShard, SnapshotShard, ThawShard, regions_here
from .packing import follow_timers
from .router import router_of
from .stores import Turn

# Seconds that a freeze may take in all, with the last reading.
BUDGET: Final = 0.25
# Bytes of records that are read in a second, for one move.
BANDWIDTH: Final = 64 << 20
# Seconds for a router's answer, and until the next look at who has the shard.
PATIENCE: Final = 5.0
PAUSE: Final = 0.05
# Seconds that all who run may take to keep a snapshot; whoever takes longer has more to replay.
SNAPSHOTS: Final = 2.0
# Bytes that are sent with the token: whoever waits at the new owner waits for them, and after four seconds the source
# takes the shard back.
MOST: Final = 32 << 20
_SEALED: Final = "mover.sealed"
# In a token's luggage: what belongs to no region, but to the stores.
ASIDE: Final = ""


logger = logging.getLogger("banyan")


def sealed_by(table: ProcessTable) -> dict[int, tuple[Offer, str]]:
    """The moves for which shards of a node are sealed and not decided yet, in this life of it; each with its target.

    It outlives a mover that crashes, whose successor finds here what is still frozen.
    """
    return cast("dict[int, tuple[Offer, str]]", table.services.setdefault(_SEALED, {}))


def schemas(table: ProcessTable) -> tuple[tuple[str, int], ...]:
    """The regions of a node, each with the schema of its class; 0: it keeps nothing."""
    return tuple((name, _schema(spec)) for name in regions_here(table) if (spec := spec_of(table, name)) is not None)


def spec_of(table: ProcessTable, region: str) -> RegionSpec | None:
    """What a region of a node is; None if it is not there now."""
    router = router_of(table.names.get(RegionSpec.router_of(region)))
    return router.post.spec if router is not None else None


def _schema(spec: RegionSpec) -> int:
    kind: type[Behaviour] = spec.entity
    if issubclass(kind, Hooks) and kind.durability != "volatile":
        return kind.schema
    return 1 if spec.remember else 0


@final
class SourceWork(Work):
    """The source's side of one move.

    Args:
        target: the node that the shard goes to.
        bandwidth: bytes of records in a second at most.

    Attributes:
        offer: to be set before the first effect.
        left_behind: whether it was begun by a mover that has ended.
    """

    def __init__(
        self,
        mover: Process,
        move: str,
        shard: int,
        target: str,
        say: Callable[[Frame], None],
        bandwidth: float = BANDWIDTH,
    ) -> None:
        super().__init__(mover, move, shard, say)
        self.target = target
        self.offer: Offer | None = None
        self.left_behind = False
        self._bandwidth = bandwidth
        self._copying: Copying | None = None
        self._next_read = 0.0
        self._froze = 0.0
        self._snapshots = False
        self._regions: list[str] = []
        # Whose timers are followed.
        self._followed: list[Pid] = []

    async def prepare(self) -> Offer:
        """Look at what there is to be moved. Raises Misuse: this node does not serve the shard."""
        epoch = self.membership.serves(self.shard)
        if epoch is None:
            raise Misuse(f"{self.table.node} does not serve shard {self.shard} any more")
        shards = self.membership.cluster.shards
        durable = [name for name in regions_here(self.table) if (spec := spec_of(self.table, name)) and _schema(spec)]
        await Indexing(self.stores, shards, self.world.now).complete(durable)
        keys, self.total = await self.measure()
        return Offer(
            self.move,
            self.shard,
            epoch,
            self.table.node,
            shards,
            schemas(self.table),
            keys,
            self.total,
        )

    async def measure(self) -> tuple[int, int]:
        """How many keys the shard has, and about how many bytes."""
        turn = Turn(self.world.now)
        keys, size = 0, 0.0
        for relaxed in self.stores.here():
            stats = self.stores.of(relaxed).stats()
            here = 0
            for page in self.stores.pages(relaxed, self.shard):
                here += len(page)
                await turn.over()
            keys += here
            size += stats.bytes_used * here / max(stats.keys, 1)
        return keys, int(size)

    def running(self) -> int:
        """How many of the shard's entities run here."""
        return len(self._entities())

    def _entities(self) -> list[Process]:
        found: list[Process] = []
        names = self.table.names
        for name in regions_here(self.table):
            router = router_of(names.get(RegionSpec.router_of(name)))
            shard = router.inward.shards.get(self.shard) if router is not None else None
            if shard is not None:
                found += [process for entity in shard.entities.values() if (process := names.get(entity.name))]
        return found

    async def do(self, effect: Effect) -> Event | None:
        match effect:
            case Plan():
                return Done(await moving.plan(self.membership, self.shard, self.move, self.target))
            case Clear():
                self.close()
                await moving.clear(self.membership, self.shard, self.move)
                return Done()
            case Read():
                return await self._read()
            case Freeze(force=force):
                return await self._freeze(force)
            case Thaw():
                if self._copying is not None:
                    self._copying.undo()
                await self._thaw()
                return None
            case ReadLast():
                return await self._read_last()
            case Seal():
                return self._seal()
            case Look():
                row = await moving.look(self.membership, self.shard)
                return Row(row.owner, row.epoch, row.move)
            case TakeBack():
                return await self._take_back()
            case Resume(epoch=epoch):
                await self._resume(epoch)
                return None
            case Retire(owner=owner, epoch=epoch):
                await self._retire(owner, epoch)
                return None
            case Follow(pids=pids, bare=bare):
                await self._follow(pids, bare)
                return None
        raise AssertionError(f"a source cannot do {effect!r}")

    def failed(self, effect: Effect, error: Exception) -> Event | None:
        match effect:
            case Plan() if isinstance(error, CoordinationUnreachable):
                return Unknown()
            case Plan() | Freeze() | Seal():
                return Done(str(error))
            case Read():
                self.give_up(str(error))
                return Portion(False, b"", 0, False)
            case ReadLast():
                return Rest(why=str(error))
            case Clear() | Look() | TakeBack():
                return Unknown()
        raise error

    def close(self) -> None:
        self._unfollow()
        if self._copying is not None:
            self._copying.end()
            self._copying = None

    # -- copying -------------------------------------------------------------------------------------

    async def _read(self) -> Portion:
        now = self.world.now
        if self._copying is None:
            self._copying = Copying(self.stores, self.shard, now)
            self._copying.begin()
        copying = self._copying
        await trio.sleep(max(0.0, self._next_read - now()))
        began = now()
        relaxed, data = await copying.read()
        self._next_read = began + len(data) / self._bandwidth
        self.bytes, self.total = copying.bytes, max(self.total, copying.bytes)
        if not copying.new and not self._snapshots:
            # So that the other side has little to replay when those who run are started there, within the pause.
            self._snapshots = True
            await self._ask_all(regions_here(self.table), lambda _: SnapshotShard(self.shard), SNAPSHOTS)
        return Portion(relaxed, data, copying.left, copying.new)

    # -- the freeze ----------------------------------------------------------------------------------

    async def _freeze(self, force: bool) -> Done:
        self._followed.extend(await follow_timers(self.table, self._entities(), Turn(self.world.now)))
        self._froze, self.held = self.world.now(), 0
        self._regions = regions_here(self.table)
        answers = await self._ask_all(
            self._regions, lambda _: FreezeShard(self.shard, BUDGET, force), BUDGET + PATIENCE
        )
        late = [name for name, answer in answers.items() if answer is not True]
        if not late:
            return Done()
        await self._thaw()
        if why := self._stays(answers):
            return Done(why)
        return Done(f"entities of {', '.join(late)} did not come to rest within {BUDGET * 1000:g} ms")

    def _stays(self, answers: dict[str, object]) -> str:
        """Who keeps the shard here, because what it knows would be lost: the move is given up. "" if nobody does."""
        why = next((str(answer) for answer in answers.values() if isinstance(answer, CannotHandOver)), "")
        if why:
            self.give_up(why)
        return why

    async def _thaw(self, epoch: int = 0) -> None:
        self._unfollow()
        await self._ask_all(self._here(), lambda _: ThawShard(self.shard, epoch))

    def _unfollow(self) -> None:
        self.table.timers.unfollow(self._followed)
        self._followed = []

    def _late(self) -> str:
        """Why the freeze is to be given up; "" as long as it is within its budget."""
        now = self.world.now()
        return f"the freeze took {(now - self._froze) * 1000:.0f} ms" if now > self._froze + BUDGET else ""

    async def _read_last(self) -> Rest:
        copying = self._copying
        assert copying is not None
        last = copying.rest(self._froze + BUDGET)
        self.bytes, self.total = copying.bytes, max(self.total, copying.bytes)
        if late := self._late():
            return Rest(why=late)
        answers = await self._ask_all(self._regions, lambda _: PackShard(self.shard))
        if why := self._stays(answers):
            return Rest(why=why)
        luggage: list[tuple[str, bytes]] = []
        for name, packed in answers.items():
            if not isinstance(packed, bytes):
                return Rest(why=f"region {name} could not pack what it has")
            luggage.append((name, packed))
        asides = [(relaxed, self._set_asides(relaxed)) for relaxed in self.stores.here()]
        if any(records for _, records in asides):
            luggage.append((ASIDE, encode(tuple(asides))))
        self._note_held()
        size = sum(len(data) for _, data in (*last, *luggage))
        if size > MOST:
            why = (
                f"{size >> 20} MiB would go with the cut, and more than {MOST >> 20} MiB take too long: have its "
                "entities hand over less, or move it when less is written"
            )
            self.give_up(why)
            return Rest(why=why)
        if late := self._late():
            return Rest(why=late)
        return Rest(last, copying.digest, tuple(luggage))

    def _set_asides(self, relaxed: bool) -> tuple[bytes, ...]:
        writer = self.stores.writer(relaxed)
        keys = set_aside_of(self.table, writer, self.membership.cluster.shards)
        return tuple(writer.set_asides.of(keys.get(self.shard, ())))

    def _note_held(self) -> None:
        for name in self._regions:
            router = router_of(self.table.names.get(RegionSpec.router_of(name)))
            shard = router.inward.shards.get(self.shard) if router is not None else None
            if shard is not None:
                self.held += len(shard.intake.hold)

    # -- the seal, and after it ----------------------------------------------------------------------

    def _seal(self) -> Done:
        assert self.offer is not None
        epoch, membership = self.offer.epoch, self.membership
        if membership.serves(self.shard) != epoch:
            return Done(f"{self.table.node} does not serve shard {self.shard} any more")
        # Of a region that came up since the freeze, say: it is not in what was read.
        self.stores.flush()
        if self._copying is None or self._copying.changed:
            return Done("something was written while the shard was frozen")
        self.stores.seal(self.shard, epoch)
        sealed_by(self.table)[self.shard] = (self.offer, self.target)
        membership.sealing(self.shard, epoch)
        return Done()

    async def _take_back(self) -> Row:
        assert self.offer is not None
        epoch = await moving.abort(self.membership, self.shard, self.offer.epoch)
        if epoch is not None:
            return Row(self.table.node, epoch, "")
        row = await moving.look(self.membership, self.shard)
        return Row(row.owner, row.epoch, row.move)

    async def _resume(self, epoch: int) -> None:
        """Serve again under this epoch, or under the one that follows if the lease was over meanwhile."""
        self.close()
        if not self.left_behind:
            try:
                self.membership.resumed(self.shard, epoch)
            except BanyanError as error:  # the store has refused, or the membership is away: it is claimed anew
                logger.warning("shard %d is claimed anew: %s", self.shard, error)
        while (serves := self._serves()) is None:
            owner = self._owner()
            if owner is not None and owner[0] != self.table.node:
                await self._retire(*owner)
                return
            await trio.sleep(PAUSE)
        await self._thaw(serves)
        sealed_by(self.table).pop(self.shard, None)

    def _serves(self) -> int | None:
        found = self.table.services.get(SERVICE)
        return found.serves(self.shard) if isinstance(found, Membership) else None

    def _owner(self) -> tuple[str, int] | None:
        found = self.table.services.get(SERVICE)
        return found.owner(self.shard) if isinstance(found, Membership) else None

    async def _retire(self, owner: str, epoch: int) -> None:
        self._note_held()
        await self._ask_all(self._here(), lambda _: DepartShard(self.shard, owner, epoch))
        self.close()
        if self._froze:
            self.freeze_ms = (self.world.now() - self._froze) * 1000
        self.membership.gone(self.shard, owner, epoch)
        sealed_by(self.table).pop(self.shard, None)
        leave_set_asides(self.table, self.stores, self.shard, self.membership.cluster.shards)

    async def _follow(self, pids: tuple[tuple[str, str, Pid], ...] | None, bare: tuple[str, ...]) -> None:
        """Who was not started anew by a region that runs here is followed by itself when somebody asks for it."""
        known: dict[str, list[tuple[str, Pid]]] = {}
        for region, key, pid in pids or ():
            known.setdefault(region, []).append((key, pid))
        regions = self._here() if pids is None else list(dict.fromkeys((*known, *bare)))

        def follow(name: str) -> FollowShard:
            return FollowShard(self.shard, tuple(known.get(name, ())) if pids is not None else None, name in bare)

        await self._ask_all(regions, follow)

    def _here(self) -> list[str]:
        """The regions that were frozen; all of them, if that was in another life of the mover."""
        self._regions = self._regions or regions_here(self.table)
        return self._regions

    # -- regions -------------------------------------------------------------------------------------

    async def _ask_all(
        self, regions: list[str], request: Callable[[str], object], timeout: float = PATIENCE
    ) -> dict[str, object]:
        """Ask the routers of regions at once; their answers, the error of one that is away or has refused."""
        answers: dict[str, object] = dict.fromkeys(regions)

        async def ask(name: str) -> None:
            try:
                answers[name] = await call(RegionSpec.router_of(name), request(name), timeout=timeout)
            except (CallFailed, BanyanError) as error:
                answers[name] = error

        if len(regions) == 1:
            await ask(regions[0])
            return answers
        async with trio.open_nursery() as nursery:
            for name in regions:
                nursery.start_soon(ask, name)
        return answers
