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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, final

from ..behaviours.gen_server import GenServer, Stop
from ..errors import BanyanError, NoProcess
from ..kernel.exits import Shutdown
from ..kernel.ids import Pid
from ..kernel.messages import Call, message
from ..kernel.table import ProcessTable, current_process
from ..kernel.timer import send_after
from ..kernel.world import World
from .coordination import DEADLINE, Change, CoordinationUnreachable, Rows
from .joining import Joined
from .members import (
    RENEW_SECONDS,
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
from .placement import Claim, Lost, Own, Placement, Release, shard_row, shards_of
from .placement import Effect as PlacementEffect

logger = logging.getLogger("banyan")

SERVICE: Final = "membership"
_TICK: Final = object()
_LOOK: Final = object()
# Seconds until the next try after one that failed.
_AGAIN_SECONDS: Final = 0.5
# Shards that are sealed before others have their turn.
_AT_ONCE: Final = 16


class Fences(Protocol):
    """The fence of the stores of a node; it is kept to where the journal is known."""

    def claim(self, epochs: Mapping[int, int]) -> Sequence[int]:
        """Claim shards, durably; returns those that the store refused."""

    def seal(self, shard: int, epoch: int) -> bool:
        """Seal a shard, durably; whether it may be given away, because nothing of it is in the store."""

    def written(self, shard: int) -> bool:
        """Whether something of a shard is in the store."""


@final
class NoFences:
    """Of a node that keeps nothing."""

    def claim(self, epochs: Mapping[int, int]) -> Sequence[int]:
        return ()

    def seal(self, shard: int, epoch: int) -> bool:
        return True

    def written(self, shard: int) -> bool:
        return False


@final
@dataclass(frozen=True, slots=True)
class NodeChanged:
    """A node is seen in another state than `before` (None: it is new, or in a new life)."""

    name: str
    address: str
    creation: int
    state: State
    before: State | None


@final
@dataclass(frozen=True, slots=True)
class ShardOwned:
    """This node serves the shard under this epoch from now on.

    `home` is the id of the store that holds its data, if it is not the node's own: see `Membership.hold`.
    """

    shard: int
    epoch: int
    home: str = ""


@final
@dataclass(frozen=True, slots=True)
class ShardLost:
    """This node does not serve the shard under this epoch any more."""

    shard: int
    epoch: int


@final
@dataclass(frozen=True, slots=True)
class Ceased:
    """This node serves no shards until it can renew its lease; never again if `forever`."""

    why: str
    forever: bool


@final
@message("banyan.cluster.leave")
class Leave(Call[None]):
    """Leave the cluster in order: stop serving, set free what has no data, say good-bye."""


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

    def init(self, joined: Joined, fences: Fences | None = None) -> None:
        process = current_process()
        self._process = process
        self._world: World = process.table.world
        self._cluster = joined.cluster
        self._members = joined.members
        self._placement = joined.placement
        self._placement.ceased()  # what a former process of this life served
        self._fences: Fences = fences if fences is not None else NoFences()
        # Of other nodes' stores that this one holds, by their ids.
        self._held: dict[str, Fences] = {}
        self._rows = Rows(self._world.coordination)
        self._subscribers: list[Pid] = []
        self._unreachable = ""
        self._forever: Cease | None = None
        # Whether it was asked to look and has not done so yet.
        self._asked = False
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

    def owner(self, shard: int) -> tuple[str, int] | None:
        """The node that owns a shard, and its epoch, as far as this node has heard."""
        return self._placement.owner(shard)

    def serves(self, shard: int) -> int | None:
        """The epoch under which this node serves a shard now; None if it does not, or its lease is over."""
        return self._placement.serves(shard) if self.serving else None

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

    def hold(self, store: str, fences: Fences) -> None:
        """Adopt a dead node's store on this machine: from the next round on its shards are this node's.

        The lock on its directory is what makes this safe: it is free when the other's program is dead, and not
        when it is stopped or cut off.

        Args:
            store: its id (`store_id`). The caller has it open, and keeps it open until `give_up` has returned.
            fences: of that store.
        """
        self._held[store] = fences
        self._placement.held(store)

    def give_up(self, store: str) -> None:
        """Stop serving what has its data in an adopted store; then the caller may close it. Harmless if done twice."""
        if self._held.pop(store, None) is not None:
            self._place(self._placement.given_up(store))

    def look(self) -> None:
        """Look at the rows now, and not only when it is time to: somebody has heard that there is news."""
        if not self._asked:
            self._asked = True
            self._process.post(_LOOK)

    def fenced(self, shard: int, epoch: int) -> None:
        """A process was refused by the store under this epoch: what is served is claimed anew, if it is ours."""
        if self._placement.serves(shard) == epoch:
            self._place(self._placement.dropped(shard))

    # -- the process ---------------------------------------------------------------------------------

    async def handle_info(self, message: Any) -> Any:
        if message is not _TICK and message is not _LOOK:
            return None
        self._asked = False
        await self._round()
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

    async def _round(self) -> None:
        """Renew, look, and do what follows."""
        members, world = self._members, self._world
        row, sent = members.renewal(world.wall()), world.now()
        try:
            change = Change(member_row(row.name), members.version, row)
            if (await self._rows.change([change], deadline=self._deadline()))[0]:
                self._meet(members.renewed(row, sent, world.now()))
            began = world.now()
            found = await self._rows.read(deadline=self._deadline())
            rows = [(name, one.version, one.value) for name, one in found.items()]
            self._meet(members.looked(members_of(rows), began, world.now(), world.wall()))
            await self._settle(
                self._placement.looked(
                    shards_of(rows),
                    serving=members.serving,
                    up=members.alive(sure=True),
                    alive=members.alive(),
                    written=self._written,
                )
            )
        except BanyanError as error:  # of the coordination store, or of the node's own
            if not self._unreachable:
                logger.warning("%s: %s", self._members.me.name, error)
            self._unreachable = str(error)
            self._meet(members.tick(world.now()))
        else:
            self._unreachable = ""

    def _deadline(self) -> float:
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
        self._place([effect for effect in effects if isinstance(effect, Lost | Own)])
        claims = [effect for effect in effects if isinstance(effect, Claim)]
        if claims:
            made = await self._change([(one.shard, one.expected, one.row) for one in claims])
            self._meet(self._members.tick(self._world.now()))
            if not self._members.serving:
                return  # too late to serve: a later round claims them anew
            owned = [self._placement.claimed(claim) for claim, done in zip(claims, made, strict=True) if done]
            self._place([effect for effects in owned for effect in effects])
        await self._give([effect for effect in effects if isinstance(effect, Release)])

    async def _give(self, releases: Sequence[Release]) -> None:
        """Seal shards, then set them free; a few at a time, because each seal waits for the disk on the loop."""
        for first in range(0, len(releases), _AT_ONCE):
            await self._give_some(releases[first : first + _AT_ONCE])

    async def _give_some(self, releases: Sequence[Release]) -> None:
        sealed = []
        for release in releases:
            self._tell(ShardLost(release.shard, release.epoch))
            if self._fences_of(release.shard).seal(release.shard, release.epoch):
                sealed.append(release)
        if sealed:
            made = await self._change([(one.shard, one.expected, one.row) for one in sealed])
            for release, done in zip(sealed, made, strict=True):
                if done:
                    self._placement.released(release)

    async def _change(self, changes: Sequence[tuple[int, int, object]]) -> list[bool]:
        packed = [Change(shard_row(shard), expected, row) for shard, expected, row in changes]
        return await self._rows.change(packed, deadline=self._deadline())

    def _place(self, effects: Sequence[PlacementEffect]) -> None:
        """Tell of shards that were lost; claim the store for those that were won, and tell of them."""
        for effect in effects:
            if isinstance(effect, Lost):
                self._tell(ShardLost(effect.shard, effect.epoch))
        won: dict[str, dict[int, int]] = {}
        for effect in effects:
            if isinstance(effect, Own):
                won.setdefault(effect.home if effect.home in self._held else "", {})[effect.shard] = effect.epoch
        for home, epochs in won.items():
            self._claim(self._held.get(home, self._fences), epochs)

    def _claim(self, fences: Fences, epochs: Mapping[int, int]) -> None:
        try:
            refused = set(fences.claim(epochs))
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

    def _fences_of(self, shard: int) -> Fences:
        return self._held.get(self._placement.home(shard), self._fences) if self._held else self._fences

    def _written(self, shard: int) -> bool:
        return self._fences_of(shard).written(shard)

    async def _leave(self) -> None:
        effects = self._placement.leaving(self._written)
        self._place([effect for effect in effects if isinstance(effect, Lost)])
        try:
            await self._give([effect for effect in effects if isinstance(effect, Release)])
            row = self._members.renewal(self._world.wall(), left=True)
            sent = self._world.now()
            if (await self._rows.change([Change(member_row(row.name), self._members.version, row)]))[0]:
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
