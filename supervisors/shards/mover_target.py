"""What a node does to get a shard: the effects of a `Target`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, cast, final

import trio

from runtime.cluster import moving
from runtime.cluster.joining import store_id
from runtime.cluster.shards import Shard
from runtime.codec.cbor import decode, encode
from runtime.durable.carriage import Piece, unpack_pieces
from runtime.errors import BanyanError, CallFailed, Misuse
from runtime.kernel.api import call
from runtime.kernel.ids import Pid
from runtime.kernel.messages import message
from runtime.kernel.process import Process

from .carrier import Work
from .copying import chained
from .entities import RegionSpec
from .handoff_events import (
    Check,
    Commit,
    Done,
    Effect,
    Erase,
    Event,
    Install,
    Keep,
    Look,
    Reserve,
    Row,
    Serve,
    Served,
    Unknown,
    Verify,
)
from .handoff_frames import Chunk, Frame, Offer, Token
from .indexing import leave_set_asides
from .luggage import UnpackShard, expect, regions_here, verify, verify_pieces
from .mover_source import ASIDE, schemas
from .stores import Turn

logger = logging.getLogger("banyan")

# Bytes, and records, that are put in place in one commit: it holds the loop for some milliseconds, and waits for the
# disk once.
INSTALLED: Final = 512 << 10
RECORDS: Final = 1000
# Seconds until all entities that ran have started.
START: Final = 5.0


@final
@message("mover.staged")
class Staged:
    """The note of a shard that is staged: for which move, and whether the token is here."""

    offer: Offer
    kept: bool


def staged_of(note: bytes) -> Staged | None:
    """What a note says; None of a shard that is being erased, or whose note nobody can read any more."""
    try:
        found = decode(note) if note else None
    except BanyanError:
        return None
    return found if isinstance(found, Staged) else None


@final
class TargetWork(Work):
    """The target's side of one move.

    Args:
        offer: of the source.
        kept: of a move that a former life has left behind: whether the token was here.
    """

    def __init__(self, mover: Process, offer: Offer, say: Callable[[Frame], None], kept: bool | None = None) -> None:
        super().__init__(mover, offer.move, offer.shard, say)
        self.offer = offer
        self.total = offer.size
        self.wanted = True
        self._left_behind = kept is not None
        self._kept = bool(kept)
        self._tried = False
        self._verified = False
        self._digest = b""
        # What has come and is not in a store yet, of which store.
        self._gathered: list[Piece] = []
        self._gathered_of = False
        self._size = self._records = 0
        # Stores in which the shard is reserved.
        self._reserved: dict[bool, None] = {}

    async def do(self, effect: Effect) -> Event | None:
        match effect:
            case Check():
                return Done(self._check())
            case Reserve():
                return await self._reserve()
            case Install(chunk=chunk):
                await self._install(chunk)
                return Done()
            case Verify():
                await self._verify()
                return Done()
            case Keep(token=token):
                return Done(await self._keep(token))
            case Look():
                return self._told(await moving.look(self.membership, self.shard))
            case Commit():
                return await self._commit()
            case Serve(epoch=epoch, luggage=luggage):
                return await self._serve(epoch, dict(luggage))
            case Erase():
                return await self._erase()
        raise AssertionError(f"a target cannot do {effect!r}")

    def failed(self, effect: Effect, error: Exception) -> Event | None:
        match effect:
            case Look() | Commit():
                return Unknown()
            case Serve():
                raise error
        return Done(str(error))

    def close(self) -> None:
        self.wanted = False
        self._gathered = []

    # -- before the token ----------------------------------------------------------------------------

    def _check(self) -> str | None:
        """Why the shard cannot be served here; None: it can."""
        offer, membership, node = self.offer, self.membership, self.table.node
        if offer.shards != membership.cluster.shards:
            return f"{node} counts {membership.cluster.shards} shards, and not {offer.shards}"
        if membership.draining:
            return f"{node} is draining"
        here = dict(schemas(self.table))
        for region, schema in offer.regions:
            if region not in here:
                return f"{node} has no region {region}"
            if here[region] < schema:
                return f"region {region} of {node} is of schema {here[region]}, and cannot read {schema}"
        if any(self.stores.of(relaxed).stats().full for relaxed in self.stores.here()):
            return f"the store of {node} is full"
        return None

    async def _reserve(self) -> Done:
        self._check_served()
        if not await self.stores.erase(self.shard, lambda: self.wanted):
            return Done("it was called off")
        self._reserve_in(False)
        return Done()

    def _reserve_in(self, relaxed: bool) -> None:
        if relaxed not in self._reserved:
            self.stores.of(relaxed).reserve(self.shard, self._note(kept=False))
            self._reserved[relaxed] = None

    def _note(self, *, kept: bool) -> bytes:
        return encode(Staged(self.offer, kept))

    async def _install(self, chunk: Chunk) -> None:
        pieces = unpack_pieces(chunk.data)
        await self._gather(chunk.relaxed, pieces)
        self._digest = chained(self._digest, chunk.relaxed, chunk.data)
        self.bytes += len(chunk.data)
        self.total = max(self.total, self.bytes)
        if self._verified:
            await verify_pieces(self.table, pieces)

    async def _gather(self, relaxed: bool, pieces: list[Piece]) -> None:
        """Install pieces in commits that are worth their wait for the disk.

        What is not installed yet is in memory only. That is enough: before the token is kept nothing is promised.
        """
        if relaxed is not self._gathered_of:
            self._put_all()
        self._gathered_of = relaxed
        for piece in pieces:
            self._gathered.append(piece)
            self._size += piece.size
            self._records += len(piece.entries)
            if self._size >= INSTALLED or self._records >= RECORDS:
                self._put_all()
                await trio.lowlevel.checkpoint()

    def _put_all(self) -> None:
        pieces, self._gathered, self._size, self._records = self._gathered, [], 0, 0
        if pieces:
            self._reserve_in(self._gathered_of)
            self.stores.of(self._gathered_of).install(self.shard, pieces)

    async def _verify(self) -> None:
        self._put_all()
        turn = Turn(self.world.now)
        for relaxed in self.stores.here():
            journal = self.stores.of(relaxed)
            for page in self.stores.pages(relaxed, self.shard):
                await verify(self.table, journal, page)
                await turn.over()
        self._verified = True

    # -- the token, and after it ---------------------------------------------------------------------

    async def _keep(self, token: Token) -> str | None:
        """Put the last records in place and write down that the token is here, in one commit; why not."""
        digest = self._digest
        for relaxed, data in token.last:
            digest = chained(digest, relaxed, data)
        if digest != token.digest:
            return "the digest of what came is another than that of what was sent"
        self._put_all()
        last = [(relaxed, unpack_pieces(data)) for relaxed, data in token.last]
        epoch = self.offer.epoch + 1
        for relaxed in (True, False):
            mine = [pieces for of, pieces in last if of is relaxed]
            if relaxed and not mine and relaxed not in self._reserved:
                continue
            self._reserve_in(relaxed)
            journal = self.stores.of(relaxed)
            for pieces in mine[:-1]:
                journal.install(self.shard, pieces)
            # The durable store comes last: its note is what counts.
            if not relaxed:
                self._take_asides(dict(token.luggage).get(ASIDE, b""))
            journal.install(self.shard, mine[-1] if mine else [], self._note(kept=True), claim=epoch)
        self._kept = True
        return None

    def _take_asides(self, packed: bytes) -> None:
        """Keep what was set aside of the shard's commands."""
        if packed:
            for relaxed, records in cast("tuple[tuple[bool, tuple[bytes, ...]], ...]", decode(packed)):
                if records:
                    writer = self.stores.writer(relaxed)
                    writer.set_asides.take(writer, records)

    async def _commit(self) -> Row:
        self._tried = True
        won = await moving.commit(self.membership, self.shard, self.offer.epoch, self.move) == "won"
        if won:
            return self._told(self.membership.placement.row(self.shard)[1])
        return self._told(await moving.look(self.membership, self.shard))

    def _told(self, row: Shard) -> Row:
        """A row, as the machine hears of it: what lies in a store that was adopted is not what was brought here."""
        elsewhere = row.owner == self.table.node and not self.membership.placement.is_here(row)
        return Row("" if elsewhere else row.owner, row.epoch, row.move)

    async def _serve(self, epoch: int, luggage: dict[str, bytes]) -> Served:
        """Serve the shard with what came along; one of a former life is claimed anew by the membership."""
        if self._left_behind:
            # As long as it is staged nobody can claim it.
            self.stores.settle(self.shard)
        expect(self.table, self.shard, epoch)
        pids: dict[str, tuple[tuple[str, Pid], ...]] = {}

        async def unpack(region: str) -> None:
            request = UnpackShard(self.shard, epoch, luggage.get(region, b""))
            try:
                pids[region] = await call(RegionSpec.router_of(region), request, timeout=START)
            except (CallFailed, BanyanError) as error:
                # It is served without: its senders ask again.
                logger.warning("region %s serves shard %d without what came along: %s", region, self.shard, error)

        if self.membership.arrived(self.shard, epoch):
            async with trio.open_nursery() as nursery:
                for region in regions_here(self.table):
                    nursery.start_soon(unpack, region)
        self.stores.settle(self.shard)
        bare = tuple(region for region, _ in self.offer.regions if region not in pids or not luggage.get(region))
        return Served(tuple((region, key, pid) for region in sorted(pids) for key, pid in pids[region]), bare)

    def _check_served(self) -> None:
        """What is served from these stores is not erased, whoever wants it. Raises Misuse.

        One that is served from an adopted store has nothing in these but what was staged.
        """
        membership = self.membership
        own = membership.placement.home(self.shard) in ("", store_id(self.stores.main))
        if own and membership.serves(self.shard) is not None:
            raise Misuse(f"shard {self.shard} is served by {self.table.node}: nothing of it is erased")

    async def _erase(self) -> Done:
        self._check_served()
        if self._tried or self._kept:
            self.membership.gone(self.shard)
        if self._kept:
            # First of all: half a shard must never be taken for a whole one.
            self.stores.main.reserve(self.shard, self._note(kept=False))
            self._kept = False
        leave_set_asides(self.table, self.stores, self.shard, self.membership.cluster.shards)
        await self.stores.erase(self.shard, lambda: True)
        return Done()
