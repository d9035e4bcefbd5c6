"""The process that keeps a node in its cluster: its lease, its view of the others, and its shards.

A node joins before it starts (`joining`), so that it is refused before it does anything. Then `Membership` runs
under its system supervisor: every RENEW_SECONDS it renews the lease, reads all rows, and does what the machines
in `members` and `placement` say. It tells whoever subscribed, by ordinary messages:

    NodeChanged   another node is up, suspect, down or has left
    ShardOwned    this node owns a shard under an epoch, and the store is claimed for it: serve it
    ShardLost     it does not any more: stop what belongs to it; a commit under that epoch may be refused
    Ceased        it serves no shards at all, because it could not renew its lease; ShardLost came for each

A process that keeps nothing may go on after ShardLost if it prefers to be there over being the only one; one
that commits cannot: the store refuses it as soon as another epoch is claimed.

What the machines ask for is done in one order: the row of a shard is claimed before the store, the store before
anybody serves; a shard is served no more before it is sealed, and sealed before its row is free.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast, final

from ..behaviours.gen_server import GenServer, Stop
from ..errors import BanyanError, NoProcess
from ..kernel.exits import Shutdown
from ..kernel.ids import Pid
from ..kernel.table import ProcessTable, current_process
from ..kernel.timer import send_after
from ..kernel.world import World
from .balance import Load
from .coordination import DEADLINE, Change, CoordinationUnreachable, Rows
from .joining import Joined
from .members import (
    RENEW_SECONDS,
    SERVE_SECONDS,
    Cease,
    Changed,
    Cluster,
    LeaseLost,
    Serve,
    State,
    member_row,
    members_of,
)
from .members import Effect as MemberEffect
from .news import Ceased, Fences, Leave, MemberFact, MoveSettled, NodeChanged, NoFences, ShardLost, ShardOwned
from .placement import Claim, Clear, Lost, Own, Placement, Release, Settled, Shard, shard_row, shards_of
from .placement import Effect as PlacementEffect

__all__ = [
    "SERVICE",
    "Ceased",
    "Fences",
    "Leave",
    "MemberFact",
    "Membership",
    "MoveSettled",
    "NoFences",
    "NodeChanged",
    "ShardLost",
    "ShardOwned",
    "membership_of",
]

logger = logging.getLogger("banyan")

SERVICE: Final = "membership"
# In `table.services`: by whoever serves shards, a function that says whether something of a shard is in memory now.
IN_USE: Final = "shards in use"
_TICK: Final = object()
_LOOK: Final = object()
# Seconds until the next try after one that failed.
_AGAIN_SECONDS: Final = 0.5
# Shards that are sealed before others have their turn: each waits for the disk.
_AT_ONCE: Final = 4


def membership_of(table: ProcessTable) -> Membership:
    """The membership of a node. Raises: NoProcess: it is in no cluster, or that process is not alive."""
    found = table.services.get(SERVICE)
    if not isinstance(found, Membership):
        raise NoProcess("this node is in no cluster, or its membership is being restarted", SERVICE)
    return found


@final
class Membership(GenServer):
    """Keeps a node in its cluster; reached by `membership_of`.

    Args:
        joined: what `join` gave.
        fences: of the node's stores; see `Fences`.

    Ends with `Shutdown(LeaseLost)` when another life of the node has taken its place. Restarted after a crash it
    claims all shards anew; who subscribed has to monitor it, and to subscribe again.
    """

    trap_exit = True

    _conductor: Pid | None = None  # of this node's moves

    def init(self, joined: Joined, fences: Fences | None = None) -> None:
        process = current_process()
        self._process = process
        self._world: World = process.table.world
        self._cluster = joined.cluster
        self._members = joined.members
        self._reports = joined.reports
        self._placement = joined.placement
        self._placement.ceased()  # what a former process of this life served, or had in hand
        self._placement.abandoned()
        self._placement.forsaken()
        self._fences: Fences = fences if fences is not None else NoFences()
        self._held: dict[str, tuple[Fences, str]] = {}  # of others' stores that this one holds, with their writers
        self._in_use = cast("dict[str, Callable[[int], bool]]", process.table.services.setdefault(IN_USE, {}))
        self.rows = Rows(self._world.coordination)
        self._subscribers: list[Pid] = []
        self._unreachable = ""
        self._forever: Cease | None = None
        self._asked = False  # to look, without having done so yet
        process.table.services[SERVICE] = self
        send_after(0, process.pid, _TICK)

    def state(self) -> object:
        states = {name: state for name, (_, state) in self._members.nodes().items()}
        return {"nodes": states, "serves": len(self._placement.served), "unreachable": self._unreachable}

    # -- questions, without waiting ------------------------------------------------------------------

    @property
    def cluster(self) -> Cluster:
        """What is fixed for the whole cluster."""
        return self._cluster

    @property
    def placement(self) -> Placement:
        """Who owns what; to be read only."""
        return self._placement

    @property
    def serving(self) -> bool:
        """Whether this node's lease holds."""
        return self._members.serving and self._world.now() < self._members.lease_end

    def nodes(self) -> dict[str, tuple[str, int, State]]:
        """All that were ever members, this node too: (address, creation, state) by name."""
        found = self._members.nodes()
        return {name: (member.address, member.creation, state) for name, (member, state) in found.items()}

    def members(self) -> dict[str, MemberFact]:
        """All that were ever members, this node too, by name."""
        return self._reports.facts(self._members.nodes())

    @property
    def draining(self) -> bool:
        """Whether this node gives its shards away; see `drain`."""
        return self._reports.mine.draining

    def owner(self, shard: int) -> tuple[str, int] | None:
        """The node that owns a shard, and its epoch, as far as this node has heard."""
        return self._placement.owner(shard)

    def serves(self, shard: int) -> int | None:
        """The epoch under which this node serves a shard now; None if it does not, or its lease is over."""
        return self._placement.serves(shard) if self.serving else None

    def written(self, shard: int) -> bool:
        """Whether something of a shard is in the store of this node that has its data: such a one stays, or moves."""
        return self._fences_at(self._placement.home(shard)).written(shard)

    def kept(self, shard: int) -> bool:
        """Whether something of a shard is here, in the store or in memory only: it is not to be set free, but moved.

        A node without a store can move nothing: there only what is written counts.
        """
        if self.written(shard) or not self._placement.stores:
            return self.written(shard)
        return any(in_use(shard) for in_use in self._in_use.values())

    def subscribe(self, pid: Pid) -> None:
        """Send a process of this node NodeChanged, ShardOwned, ShardLost and Ceased from now on, until it ends.

        It is told what is so already: each other node, and each shard that this node serves.
        """
        self._process.table.own(pid)
        if pid not in self._subscribers:
            self._subscribers.append(pid)
        for name, (member, state) in self._members.nodes().items():
            if name != self._members.me.name:
                self._post(pid, NodeChanged(name, member.address, member.creation, state, None))
        for shard, epoch in self._placement.served.items():
            self._post(pid, self._owned(shard, epoch))

    def hold(self, store: str, fences: Fences, writer: str = "") -> None:
        """Adopt a dead node's store on this machine: from the next round on its shards are this node's.

        The lock on its directory makes this safe: it is free when the other's program is dead, and only then. A
        membership that was restarted has to be told again.

        Args:
            store: its id (`store_id`). The caller has it open, and keeps it open until `give_up` has returned.
            fences, writer: of that store; who writes to it, as `Owned.writer`.
        """
        self._held[store] = (fences, writer)
        self._placement.held(store)

    def writer(self, shard: int) -> str:
        """Who writes to the adopted store in which a shard's data lie; "" if they lie in this node's own."""
        return self._held.get(self._placement.home(shard), (None, ""))[1]

    def give_up(self, store: str) -> None:
        """Stop serving what has its data in an adopted store; then the caller may close it. Harmless if done twice."""
        if self._held.pop(store, None) is not None:
            self._place(self._placement.given_up(store))

    def drain(self, on: bool = True) -> None:
        """Have this node given no shards from now on, and those of its own of which nothing is here set free.

        It goes on serving all that it has; of what something is here has to be moved away (`moves_wanted`). A new life
        of the node begins without.
        """
        if self._reports.drain(on):
            self.look()

    def report(self, load: Load) -> None:
        """What this node carries in sum: told to the others with the next renewal of its lease."""
        self._reports.carry(load)

    def moves_wanted(self, loads: Mapping[int, Load], limit: int) -> list[tuple[int, str]]:
        """Which shards this node should move away now, and to whom; the most urgent first.

        What has nothing here (`kept`) is none of it: it is set free by itself. While a node is in doubt only one that
        is draining moves anything.

        Args:
            loads: of the shards that are served and kept here; those that are missing do nothing.
            limit: at most so many.
        """
        sure = self._members.alive(sure=True)
        if not self.serving or (sure != self._members.alive() and not self.draining):
            return []
        others = {name: member.load for name, member in self.members().items()}
        kept = {shard for shard in self._placement.served if self.kept(shard)}
        return self._placement.wanted(sure, self._draining(), kept, loads, others, limit)

    # -- for whoever conducts moves, by `moving` -----------------------------------------------------

    def conduct(self, pid: Pid) -> None:
        """A process of this node conducts its moves from now on, and is told `MoveSettled`.

        Whatever a former one had under way is void; what it had in hand is claimed anew.
        """
        self._process.table.own(pid)
        self._conductor = pid
        self._place(self._placement.abandoned())
        self.look()

    def sealing(self, shard: int, epoch: int) -> bool:
        """A move is about to seal a shard of this node; False if it is not served under that epoch, and must not be.

        From now on the move has it in hand: it is neither claimed nor given up until `resumed` or `gone`. It counts
        as served, so that whoever is frozen stays where he is, but what is committed for it is refused by the store.
        """
        if self.serves(shard) != epoch:
            return False
        self._placement.take(shard)
        return True

    def resumed(self, shard: int, epoch: int) -> bool:
        """A move is void after its seal: serve the shard under the epoch that `moving.abort` gave.

        False if it may not be served under that one, because the lease was over since: it is claimed anew.
        """
        if self._won(shard, epoch):
            self._place([Own(shard, epoch, self._placement.home(shard))])
        return self._placement.serves(shard) == epoch

    def arrived(self, shard: int, epoch: int) -> bool:
        """A move has brought a shard, and the store is claimed for it: serve it under the epoch that it won.

        False if it may not be served under that one, because the lease was over since: it is claimed anew, and
        `ShardOwned` says when.
        """
        if self._won(shard, epoch):
            self._tell(self._owned(shard, epoch))
        return self._placement.serves(shard) == epoch

    def _won(self, shard: int, epoch: int) -> bool:
        """Whether the shard is served under that epoch from now on, and was not before."""
        before = self._placement.serves(shard)
        if before == epoch:
            self._placement.conduct(shard, "")
            return False
        effects = self._placement.won(shard, epoch) if self.serving else self._placement.gone(shard)
        if before is not None:
            self._tell(ShardLost(shard, before))
        if not any(isinstance(effect, Own) for effect in effects):
            self.look()  # it is claimed anew
            return False
        return True

    def gone(self, shard: int, owner: str = "", epoch: int = 0) -> None:
        """A move is over, and the shard is not this node's. Harmless if it never was.

        Args:
            owner, epoch: whose it is, if that is known: then `owner` says so at once.
        """
        version, row = self._placement.row(shard)
        member = self.members().get(owner)
        if member is not None and epoch > row.epoch:
            self._placement.changed(shard, version + 1, Shard(owner, member.creation, epoch, member.store))
        self._place(self._placement.gone(shard))

    def seen(self, shard: int, version: int, row: Shard) -> None:
        """A shard's row was read."""
        self._place(self._placement.found(shard, version, row))

    def look(self) -> None:
        """Look at the rows now, and not only when it is time to: somebody has heard that there is news."""
        if not self._asked:
            self._asked = True
            self._process.post(_LOOK)

    def fenced(self, shard: int, epoch: int) -> None:
        """A process was refused by the store under this epoch: what is served is claimed anew, if it is ours."""
        # In the hands of a move it is sealed, which is no reason to claim it anew.
        if self._placement.serves(shard) == epoch and not self._placement.in_hand(shard):
            self._place(self._placement.dropped(shard))

    # -- the process ---------------------------------------------------------------------------------

    async def handle_info(self, message: Any) -> Any:
        if message is not _TICK and message is not _LOOK:
            return None
        self._asked = False
        await self._round(renew=message is _TICK)
        if self._forever is not None:
            return Stop(Shutdown(LeaseLost(self._forever.why)))
        if message is _LOOK:
            return None
        pause = _AGAIN_SECONDS if self._unreachable else RENEW_SECONDS
        left = self._members.lease_end - self._world.now()
        send_after(min(pause, left) if left > 0 else pause, self._process.pid, _TICK)
        return None

    async def handle_call(self, request: Any, caller: Any) -> Any:
        if isinstance(request, Leave):
            await self._leave()
            return Stop(Shutdown("left"), None)
        return None

    def terminate(self, reason: object) -> None:
        if self._process.table.services.get(SERVICE) is self:
            del self._process.table.services[SERVICE]

    async def _round(self, *, renew: bool = True) -> None:
        """Renew, look, and do what follows. A look alone waits for nobody's disk, so it renews only what is due."""
        members, world = self._members, self._world
        row, sent = members.renewal(world.wall()), world.now()
        try:
            if renew or self._reports.urgent or members.lease_end - sent < SERVE_SECONDS - RENEW_SECONDS:
                changes = [Change(member_row(row.name), members.version, row), *self._reports.change()]
                if (await self.rows.change(changes, deadline=self.deadline()))[0]:
                    self._meet(members.renewed(row, sent, world.now()))
            began = world.now()
            found = await self.rows.read(deadline=self.deadline())
            rows = [(name, one.version, one.value) for name, one in found.items()]
            self._meet(members.looked(members_of(rows), began, world.now(), world.wall()))
            self._reports.looked(rows)
            await self._settle(
                self._placement.looked(
                    shards_of(rows),
                    serving=members.serving,
                    up=members.alive(sure=True),
                    alive=members.alive(),
                    kept=self.kept,
                    draining=self._draining(),
                )
            )
        except BanyanError as error:  # of the coordination store, or of the node's own
            if not self._unreachable:
                logger.warning("%s: %s", self._members.me.name, error)
            self._unreachable = str(error)
            self._meet(members.tick(world.now()))
        else:
            self._unreachable = ""

    def _draining(self) -> list[str]:
        return [name for name, member in self.members().items() if member.draining]

    def deadline(self) -> float:
        """Seconds for one operation: not beyond the end of the lease, so that its end is noticed."""
        left = self._members.lease_end - self._world.now()
        return min(DEADLINE, left) if left > 0 else DEADLINE

    def _meet(self, effects: Sequence[MemberEffect]) -> None:
        for effect in effects:
            match effect:
                case Changed(member, state, before):
                    self._tell(NodeChanged(member.name, member.address, member.creation, state, before))
                case Cease(why, forever):
                    self._place(self._placement.ceased())
                    logger.warning("%s: %s", self._members.me.name, LeaseLost(why))
                    self._tell(Ceased(why, forever))
                    self._forever = effect if forever else self._forever
                case Serve():
                    logger.info("%s serves in cluster %s", self._members.me.name, self._cluster.id)

    async def _settle(self, effects: Sequence[PlacementEffect]) -> None:
        """Do what the placement asks for; whatever was not made is looked at again in the next round."""
        self._place([effect for effect in effects if isinstance(effect, Lost | Own | Settled)])
        claims = [effect for effect in effects if isinstance(effect, Claim)]
        if claims:
            made = await self._change([(one.shard, one.expected, one.row) for one in claims])
            self._meet(self._members.tick(self._world.now()))
            if not self._members.serving:
                return  # too late to serve: a later round claims them anew
            owned = [self._placement.claimed(claim) for claim, done in zip(claims, made, strict=True) if done]
            self._place([effect for effects in owned for effect in effects])
        await self._set_free([effect for effect in effects if isinstance(effect, Clear)])
        await self._give([effect for effect in effects if isinstance(effect, Release)])

    async def _set_free(self, given: Sequence[Release | Clear]) -> None:
        made = await self._change([(one.shard, one.expected, one.row) for one in given])
        for one, done in zip(given, made, strict=True):
            if done:
                self._placement.released(one)

    async def _give(self, releases: Sequence[Release]) -> None:
        """Seal shards, then set them free; a few at a time, because each seal waits for the disk on the loop."""
        for first in range(0, len(releases), _AT_ONCE):
            await self._give_some(releases[first : first + _AT_ONCE])

    async def _give_some(self, releases: Sequence[Release]) -> None:
        sealed = []
        for release in releases:
            self._tell(ShardLost(release.shard, release.epoch))
            if self._fences_at(self._placement.home(release.shard)).seal(release.shard, release.epoch):
                sealed.append(release)
        await self._set_free(sealed)

    async def _change(self, changes: Sequence[tuple[int, int, Shard]]) -> list[bool]:
        packed = [Change(shard_row(shard), expected, row.stored()) for shard, expected, row in changes]
        return await self.rows.change(packed, deadline=self.deadline())

    def _place(self, effects: Sequence[PlacementEffect]) -> None:
        """Tell of shards that were lost; claim the store for those that were won, and tell of them."""
        for effect in effects:
            if isinstance(effect, Lost):
                self._tell(ShardLost(effect.shard, effect.epoch))
            elif isinstance(effect, Settled) and self._conductor is not None:
                self._post(self._conductor, MoveSettled(effect.shard, effect.move))
        won: dict[str, dict[int, int]] = {}
        for effect in effects:
            if isinstance(effect, Own):
                won.setdefault(effect.home if effect.home in self._held else "", {})[effect.shard] = effect.epoch
        for home, epochs in won.items():
            self._claim(home, epochs)

    def _claim(self, home: str, epochs: Mapping[int, int]) -> None:
        try:
            refused = set(self._fences_at(home).claim(epochs))
        except BanyanError:
            for shard in epochs:
                self._placement.dropped(shard)
            raise
        for shard, epoch in epochs.items():
            if shard in refused:
                self._placement.dropped(shard)
            else:
                self._tell(self._owned(shard, epoch))

    def _owned(self, shard: int, epoch: int) -> ShardOwned:
        home = self._placement.home(shard)
        return ShardOwned(shard, epoch, home if home in self._held else "")

    def _fences_at(self, home: str) -> Fences:
        return self._held[home][0] if home in self._held else self._fences

    async def _leave(self) -> None:
        effects = self._placement.leaving(self.written)
        self._place([effect for effect in effects if isinstance(effect, Lost)])
        try:
            await self._set_free([effect for effect in effects if isinstance(effect, Clear)])
            await self._give([effect for effect in effects if isinstance(effect, Release)])
            row = self._members.renewal(self._world.wall(), left=True)
            sent = self._world.now()
            if (await self.rows.change([Change(member_row(row.name), self._members.version, row)]))[0]:
                self._members.renewed(row, sent, self._world.now())
        except CoordinationUnreachable as error:
            logger.warning("%s left without a good-bye: %s", self._members.me.name, error)

    # -- telling -------------------------------------------------------------------------------------

    def _tell(self, message: object) -> None:
        self._subscribers = [pid for pid in self._subscribers if pid._process is not None]
        for pid in self._subscribers:
            self._post(pid, message)

    @staticmethod
    def _post(pid: Pid, message: object) -> None:
        # Past the bound of its mailbox, like any signal: whoever missed one would serve for ever.
        process = pid._process
        if process is not None:
            process.post(message)
