"""A node among others: what it is told of its cluster, and the processes that keep it there.

    cluster = Cluster(listen="unix:/run/room/a.link", clear=True, coordination="/srv/room/coordination")
    async with Node("a", data="/srv/room/a", cluster=cluster) as node: ...

The node joins before it does anything else, so that one that does not belong is refused and has changed nothing.
Then, below its system supervisor and before its applications:

    cluster          one_for_one
    |-- net_kernel   its links: it listens, dials, and hears the heartbeats of the others
    `-- members      rest_for_one
        |-- adopted      who writes to stores that it has adopted
        |-- membership   its lease, its view of the others, its shards
        |-- mover        moves its shards to others, and theirs to here
        |-- neighbours   has it linked with every member that lives, and tells those of news
        |-- rebalancer   decides which of its shards move
        `-- adopter      adopts the store of a dead node of this machine, and gives it back

Two witnesses tell how another node is. Its link says up, busy (its loop is held), suspect (silent: what is sent
waits) or down (silent for 8 s: calls fail with noconnection, watchers are told); its lease says whose its shards
are. A link that is down is dialled again as long as the lease says that the node lives. `runtime.cluster.view`
puts the two together for people.

Without a coordination store a node is linked with its peers, and owns no shards with them: its regions are its own.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, final

from runtime.behaviours.gen_server import GenServer
from runtime.cluster.dist import Dist
from runtime.cluster.handshake import Identity
from runtime.cluster.joining import Joined, join
from runtime.cluster.links import Links, LinkSettings
from runtime.cluster.members import LeaseLost
from runtime.cluster.membership import (
    SERVICE,
    Ceased,
    Fences,
    Leave,
    Membership,
    NodeChanged,
    ShardLost,
    ShardOwned,
    membership_of,
)
from runtime.cluster.multi import abcast
from runtime.cluster.net_kernel import NetKernel
from runtime.cluster.nodes import NodeUp, monitor_nodes, nodes
from runtime.cluster.tls import Clear, Keys, Security, check_address
from runtime.cluster.troubles import Troubles
from runtime.durable.journal import Journal
from runtime.errors import CallFailed, Misuse
from runtime.kernel.api import call
from runtime.kernel.table import ProcessTable, current_process
from runtime.kernel.timer import send_after
from runtime.kernel.world import World

from ..shards.mover import Mover
from ..shards.orders import MOVER, REBALANCER
from ..shards.ports import PLACEMENT, Member
from ..shards.rebalancer import Rebalancer
from ..specs import child
from ..supervisor import Supervisor
from .adoption import ADOPTED, ADOPTER, AdoptedStores, Adopter, Writers

NET_KERNEL: Final = "net_kernel"
MEMBERSHIP: Final = "membership"
NEIGHBOURS: Final = "neighbours"
# What neighbours tell one another; and the seconds for which it is gathered.
NEWS: Final = "news"
NEWS_SECONDS: Final = 0.02
# The id of a cluster that has no coordination store to keep one, unless it is given another.
NAMELESS: Final = "banyan"
# A coordination store that is the World's own, and no directory.
OWN: Final = ":memory:"
# Seconds that a good-bye may take.
GOOD_BYE: Final = 5.0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """How a node is part of a cluster.

    Attributes:
        listen: where other nodes reach it: `host:port` or `unix:PATH`; None: it is not reached, it only dials.
        advertise: the address that others are told, if they cannot dial the one at which it listens.
        peers: where other nodes are, by name; members of the cluster are known without.
        certs: the directory with its keys (`banyan certs`).
        clear: no keys: on this machine only, unless it is a `Clear` that says otherwise.
        coordination: the directory that all nodes of the cluster on this machine share; ":memory:" for what the
            World has; None: it is linked with its peers, and shares no shards with them.
        shards: how many the cluster has, 1 to 65536; None: as many as it was made with, 256 for a new one.
        id: the name of a cluster without a coordination store; only nodes of one cluster speak with each other.
        rebalance: whether the node evens out the load by itself: its shards move to others that carry less.
        grace: seconds, from 0 up, for which its store keeps, sealed, what was moved away from it.
    """

    listen: str | None = None
    advertise: str | None = None
    peers: Mapping[str, str] = field(default_factory=dict)
    certs: str | Path | None = None
    clear: bool | Clear = False
    coordination: str | Path | None = None
    shards: int | None = None
    id: str = ""
    rebalance: bool = True
    grace: float = 300.0

    def security(self, name: str) -> Security | None:
        """The keys of a node, or leave to go without. Raises BadKeys; Misuse if both were asked for."""
        if self.certs is not None:
            if self.clear:
                raise Misuse("wanted keys or clear text, got both: leave one of them out")
            return Keys(self.certs, name)
        return Clear() if self.clear is True else self.clear or None

    def check(self, name: str) -> LinkSettings:
        """How links are to be made. Raises NoKeys, BadKeys, and Misuse, for what can never work."""
        security = self.security(name)
        for address in (self.listen, self.advertise, *self.peers.values()):
            if address is not None:
                check_address(address, security, name)
        if not 0 <= self.grace < math.inf:
            raise Misuse(f"wanted a grace of a finite number of seconds, from 0 up, got {self.grace!r}")
        if self.coordination is None:
            if self.shards is not None:
                raise Misuse("wanted a coordination store beside the count of shards: it is kept there")
        elif self.id:
            raise Misuse("wanted no id beside a coordination store: the cluster's own is kept there")
        elif not self.address:
            raise Misuse("wanted an address at which the other members reach this node, got none: set `listen`")
        elif self.address.endswith(":0") or self.address.startswith(("0.0.0.0:", "[::]:")):
            raise Misuse(
                f"wanted an address that other members can dial, got {self.address!r}: name host and port, or the "
                "address to dial in `advertise`"
            )
        return LinkSettings(listen=self.listen, security=security)

    @property
    def address(self) -> str:
        """Where others reach the node, as they are told; "" if they do not."""
        return self.advertise or self.listen or ""


@asynccontextmanager
async def joining(
    cluster: Cluster, world: World, name: str, journal: Journal | None, data: str
) -> AsyncIterator[Place]:
    """Join, and stay joined while the block runs.

    Args:
        journal: the node's store, open; None if it keeps nothing.
        data: where that lies.

    Raises: what `Cluster.check` and `runtime.cluster.joining.join` raise; StoreError of the coordination store.
    """
    settings = cluster.check(name)
    with ExitStack() as stack:
        joined = None
        # A life without a store has nothing that counts it: the time tells it from those before.
        creation = journal.epoch if journal is not None else int(world.wall())
        if cluster.coordination is not None:
            if str(cluster.coordination) != OWN:
                stack.enter_context(world.open_coordination(str(cluster.coordination)))
            joined = await join(
                world, name=name, address=cluster.address, store=journal, data=data, shards=cluster.shards
            )
            creation = joined.creation
        place = Place(cluster, world, name, settings, creation, joined)
        stack.callback(place.adopted.close_all)
        yield place


@final
class Place:
    """A node's place in its cluster, in one life of it; made by `joining`.

    Attributes:
        creation: what its processes' pids bear.
        links, joined: how it reaches the others, and what it found when it joined; None without coordination.
        rebalance, grace: as of its `Cluster`.
        adopted: the stores of others that it has open.
        lost: called if the node may not go on.
        why_lost: because another life of it has its place; None while it has not.
    """

    def __init__(
        self, cluster: Cluster, world: World, name: str, settings: LinkSettings, creation: int, joined: Joined | None
    ) -> None:
        known = joined.cluster.id if joined is not None else cluster.id or NAMELESS
        me = Identity(known, name, creation, world.random.getrandbits(48))
        self.creation = creation
        self.joined = joined
        self.peers = dict(cluster.peers)
        self.rebalance = cluster.rebalance
        self.grace = cluster.grace
        self.links = Links(world, me, settings, self._address_of)
        self.fences: Fences | None = None
        self.adopted = AdoptedStores()
        self.lost: Callable[[], None] = _ignored
        self.why_lost: LeaseLost | None = None
        self._table: ProcessTable | None = None

    def attach(self, table: ProcessTable, fences: Fences | None) -> None:
        """Connect the processes of a table with those of the other nodes; before any of them is started."""
        self._table = table
        self.fences = fences
        self.links.above = Dist(table, self.links)
        Troubles(table)
        if self.joined is not None:
            # Known without the membership too: a region that starts while that is away must not think it is alone.
            table.services[PLACEMENT] = Member(table, self.joined.cluster.shards)
        for node in self.peers:
            self.links.keep(node)

    def _address_of(self, node: str) -> str | None:
        if node in self.peers:
            return self.peers[node]
        found = self._table.services.get(SERVICE) if self._table is not None else None
        member = found.nodes().get(node) if isinstance(found, Membership) else None
        return member[0] if member is not None else None

    def is_lost(self, why: str) -> None:
        """Another life of the node has its place: this one ends."""
        self.why_lost = LeaseLost(why)
        self.lost()

    async def leave(self) -> None:
        """Say good-bye, from inside the node: the others need not wait for the end of its lease."""
        if self.joined is None:
            return
        try:
            await call(MEMBERSHIP, Leave(), timeout=GOOD_BYE)
        except CallFailed:
            pass  # it cannot be told: its lease runs out


def _ignored() -> None:
    """Nobody is there yet to be told."""


@final
class Clustered(Supervisor):
    """What keeps a node in its cluster."""

    strategy, intensity, period = "one_for_one", 3, 5.0

    def init(self, place: Place) -> Any:
        children = [child("net_kernel", NetKernel, place.links, name=NET_KERNEL)]
        if place.joined is not None:
            children.append(child("members", Joint, place))
        return children


@final
class Joint(Supervisor):
    """Its membership, and who acts on what that tells."""

    strategy, intensity, period = "rest_for_one", 3, 5.0

    def init(self, place: Place) -> Any:
        return [
            # Before the membership, whose crash is no reason to end those who write.
            child("adopted", Writers, name=ADOPTED),
            # Ends in order when the node has left, and when another life has its place: neither is healed by a restart.
            child("membership", Membership, place.joined, place.fences, restart="transient", name=MEMBERSHIP),
            # Without a store there is nothing that could be moved, here or to here.
            *([child("mover", Mover, place.grace, name=MOVER)] if place.fences is not None else ()),
            child("neighbours", Neighbours, place, name=NEIGHBOURS),
            child("rebalancer", Rebalancer, place.rebalance, name=REBALANCER),
            child("adopter", Adopter, place.adopted, name=ADOPTER),
        ]


@final
class Neighbours(GenServer):
    """Has the node linked with every member that lives, and stops the node when it has lost its place.

    What the coordination store holds is read every few seconds. So that nobody waits so long, neighbours tell one
    another that there is something to be read: when they meet, and when one has won or lost shards.
    """

    def init(self, place: Place) -> None:
        self._place = place
        self._process = current_process()
        self._membership = membership_of(self._process.table)
        self._membership.subscribe(self._process.pid)
        self._news = False
        monitor_nodes()

    def handle_cast(self, request: Any) -> None:
        if request == NEWS:
            self._membership.look()

    def handle_info(self, message: Any) -> None:
        place = self._place
        match message:
            case NodeChanged(name=name, state="up" | "suspect"):
                place.links.keep(name)
            case NodeChanged(name=name) if name not in place.peers:
                place.links.forget(name)
            case Ceased(why=why, forever=True):
                place.is_lost(why)
            case NodeUp():
                self._membership.look()
                self._tell()
            case ShardOwned() | ShardLost():
                self._tell()
            case _Tell():
                self._news = False
                abcast(NEIGHBOURS, NEWS, nodes())

    def _tell(self) -> None:
        """Tell the others, once for all that is heard together."""
        if not self._news:
            self._news = True
            send_after(NEWS_SECONDS, self._process.pid, _Tell())


@final
class _Tell:
    """Now tell of all that was heard."""
