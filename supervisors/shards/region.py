"""A region: entities that are called by their keys, from any node, whether or not they run.

    class CardRoom(Supervisor):
        def init(self):
            return [region("wallet", Wallet), region("table", Table, remember=True)]

    await region("table").call("oak", Act("ann", 7, Fold()))

`region(name, Class, ...)` is the child spec of a region; every node that should run or call its entities has one
under a supervisor. `region(name)` is its face: call, cast, send and start by key, and `entity(key)`, a destination
for whoever takes one.

An entity is an ordinary process, started as `Class("NAME/KEY", *args)` under that local name by its shard's
supervisor: on its first request, and again after a crash. One that was idle for a while is ended, and started
again by the next request. Which node a shard belongs to is said by the cluster; on a node of its own all are here.

**What is promised.** Of what one process asks of one entity, everything is taken once and in order, also across
restarts of the entity, moves of its shard and broken links, as long as the asking node's region lives. A durable
entity takes it exactly once: what was asked is repeated until it is on the disk, and is told apart by its number.
A volatile entity that ends loses what it was told; who had a call under way gets CalleeExited.

**Who waits.** A request for a shard that nobody owns waits until its deadline and ends with NoOwner. Of one
shard 64 commands of a node are under way and 1,024 are held back; a call beyond that gets Busy, a cast or send
waits for room. What was taken is never dropped; a call whose caller has gone before it was sent is taken back.

Do not use it for processes that a node needs of its own (a supervisor's children), nor where entities must be told
of each other's end across nodes. Source: Akka Cluster Sharding; Orleans' virtual actors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar, final, overload

from runtime.behaviours.gen import Behaviour
from runtime.behaviours.gen_server import cast
from runtime.errors import CallTimeout
from runtime.kernel.api import call, send
from runtime.kernel.ids import Pid, Via
from runtime.kernel.messages import Call
from runtime.kernel.table import ProcessTable, current_table

from ..specs import BadSpec, ChildSpec, child
from ..supervisor import Supervisor
from .door import check_key, doors, find_router
from .entities import RegionSpec, Shards
from .failures import GONE, NoOwner
from .outward import StartEntity
from .router import Router, router_of

R = TypeVar("R")


@final
class RegionSupervisor(Supervisor):
    """A region on one node: its router and what that has started. Made by `region(name, Class)`."""

    strategy, intensity, period = "rest_for_one", 3, 5.0

    def init(self, spec: RegionSpec) -> Any:
        return [
            child("router", Router, spec, name=spec.router),
            child("shards", Shards, name=spec.shards),
        ]


@final
@dataclass(frozen=True, slots=True)
class Region:
    """The face of a region, by its name; good on every node that has the region. Made by `region(name)`."""

    name: str
    # For whoever gives this face to a supervisor.
    advice_as_child: ClassVar[str] = "name the class of its entities too, region(name, Class)"

    def entity(self, key: str) -> Via:
        """The entity as a destination: for `call`, `cast`, `send`, `send_request`, `monitor`, and a Session.

        A monitor of one that does not run here fires at once, with NOPROC. Raises BadKey.
        """
        return Via(doors, (self.name, check_key(self.name, key)))

    @overload
    async def call(self, key: str, request: Call[R], *, timeout: float = 5.0) -> R: ...
    @overload
    async def call(self, key: str, request: object, *, timeout: float = 5.0) -> object: ...
    async def call(self, key: str, request: object, *, timeout: float = 5.0) -> object:
        """Ask an entity and wait for its reply, at most `timeout` seconds; started if it does not run.

        Raises:
            NoOwner: nobody has owned its shard until then, or a node that is down or has left.
            CallTimeout: no reply in time; it may still be carried out.
            Busy: too many requests for its shard wait on this node; nothing was sent.
            CalleeExited: a volatile entity ended before it replied.
            EntityNotStarted: its start has failed.
            UnknownRegion: this node has no such region.
            BadKey: the key is none.
            What the entity refuses the request with; see `EntityRaised`.
        """
        entity = self.entity(key)
        self._check_region()
        try:
            return await call(entity, request, timeout=timeout)
        except CallTimeout as late:
            self._check_owner(key, request, timeout, late)
            raise

    async def cast(self, key: str, request: object, *, timeout: float = 5.0) -> None:
        """Give an entity something to do, without a reply; returns when it is taken, here.

        Raises:
            MailboxFull: there was no room within `timeout` seconds; nothing was sent.
            UnknownRegion, BadKey.
        """
        entity = self.entity(key)
        self._check_region()
        await cast(entity, request, timeout=timeout)

    async def send(self, key: str, message: object, *, timeout: float = 5.0) -> None:
        """Send an entity a plain message; errors as of `cast`."""
        await send(self.entity(key), message, timeout=timeout)

    async def start(self, key: str, *args: Any, timeout: float = 5.0) -> Pid:
        """See to it that an entity runs; its pid.

        Args:
            args: what this entity is started with, behind the arguments of the region. They are kept if the region
                remembers its entities, and then the first ones hold; otherwise they are good for this start only.

        Raises: as `call`.
        """
        pid = await self.call(key, StartEntity(args), timeout=timeout)
        assert isinstance(pid, Pid)
        return pid

    def shard(self, key: str) -> int:
        """The shard of a key. Raises UnknownRegion, BadKey."""
        return find_router(current_table(), self.name)[0].outward.shard_of(check_key(self.name, key))

    def _check_region(self) -> None:
        find_router(current_table(), self.name)

    def _check_owner(self, key: str, request: object, timeout: float, late: CallTimeout) -> None:
        process = current_table().names.get(RegionSpec.router_of(self.name))
        router = router_of(process)
        shard = router.outward.shard_of(key) if router is not None else 0
        if router is None:
            return
        owner = router.post.owner(shard)
        if owner is None:
            raise NoOwner(self.name, key, shard, request, timeout) from late
        state = router.post.state(owner[0])
        if state in GONE:
            raise NoOwner(self.name, key, shard, request, timeout, owner[0], state) from late


@overload
def region(name: str) -> Region: ...
@overload
def region(
    name: str,
    entity: type[Behaviour],
    *args: Any,
    idle: float = 120.0,
    remember: bool = False,
    rate: float = 200.0,
    intensity: int = 10,
    period: float = 5.0,
    prefer: Literal["consistency", "availability"] = "consistency",
) -> ChildSpec: ...
def region(name: str, entity: type[Behaviour] | None = None, *args: Any, **options: Any) -> Region | ChildSpec:
    """The face of a region; with a class the child spec of a region of such entities.

    Args:
        name: of letters, digits, "-", "_" and "."; the same on every node, and a part of its entities' names.
        entity: a behaviour's class, whose first argument is `NAME/KEY`.
        args: its further arguments, the same for all.
        idle: seconds without a request after which an entity is put to sleep; math.inf: never. One that is
            watched, linked, or that says so in `may_sleep`, is not.
        remember: start all that were ever asked anything when their shard is opened, and never put one to sleep.
            Needs a store.
        rate: so many of those a second, on each node.
        intensity, period: restarts allowed in so many seconds in one shard.
        prefer: what a shard does that nobody owns, as far as this node knows. consistency: it waits.
            availability, for volatile entities only: it is served here, so for a while there may be two of one
            entity.

    Raises:
        BadSpec: any of these is not what it must be.
    """
    if type(name) is not str or not name or not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise BadSpec(f"a region's name is letters, digits, '-', '_' and '.', got {name!r}: choose another")
    if entity is None:
        if args or options:
            raise BadSpec(f"region({name!r}, ...) has options but no class: give the class of its entities first")
        return Region(name)
    if not (isinstance(entity, type) and issubclass(entity, Behaviour)):
        raise BadSpec(f"the entities of region {name!r} are of a behaviour's class, got {entity!r}: name the class")
    spec = RegionSpec(name, entity, args, **options)
    _check(spec)
    return child(name, RegionSupervisor, spec)


def _check(spec: RegionSpec) -> None:
    whose = f"region {spec.name!r}: "
    if not spec.idle > 0:
        raise BadSpec(f"{whose}idle is seconds above 0, or math.inf, got {spec.idle!r}")
    if not 0 < spec.rate < math.inf:
        raise BadSpec(f"{whose}rate is how many entities are started a second, above 0, got {spec.rate!r}")
    if spec.prefer not in ("consistency", "availability"):
        raise BadSpec(f"{whose}prefer is consistency or availability, got {spec.prefer!r}")
    if spec.prefer == "availability" and spec.durable:
        raise BadSpec(
            f"{whose}{spec.entity.__qualname__} is {spec.entity.durability!r}, and two of it must not write: "  # type: ignore[attr-defined]  # it is durable
            "only volatile entities may choose availability"
        )


# -- what others see -----------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class ShardFact:
    """One shard of one region, as one node sees it.

    Attributes:
        owner, epoch: None and -1 if nobody owns it.
        entities: how many the shard has here, asleep ones not counted.
        waiting: commands that this node has sent, or took, and that have no outcome.
        held: commands of this node that are not sent yet, or that a frozen shard holds.
    """

    region: str
    shard: int
    owner: str | None
    epoch: int
    entities: int
    waiting: int
    held: int


def shard_facts(table: ProcessTable, *, all_shards: bool = False) -> list[ShardFact]:
    """What a node knows of the shards of its regions; reads memory only.

    Args:
        all_shards: also those that this node neither has nor sends to.
    """
    facts: list[ShardFact] = []
    for name in sorted(name for name in table.names if name.startswith("region/")):
        router = router_of(table.names[name])
        if router is None:
            continue
        post, windows, shards = router.post, router.outward.windows, router.inward.shards
        numbers = range(post.shards) if all_shards else sorted({*windows, *shards})
        for number in numbers:
            owner, epoch = post.owner(number) or (None, -1)
            window, shard = windows.get(number), shards.get(number)
            waiting = len(window.pending) if window is not None else 0
            held = window.held if window is not None else 0
            entities = 0
            if shard is not None:
                entities = sum(entity.name in table.names for entity in shard.entities.values())
                waiting = max(waiting, shard.intake.under_way)
                held += len(shard.intake.hold)
            facts.append(ShardFact(post.spec.name, number, owner, epoch, entities, waiting, held))
    return facts
