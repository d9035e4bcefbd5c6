"""The router of a region on one node: takes every request by its key, and carries out those that belong here.

It is the one process that touches the two halves, `outward` and `inward`; doors only read them. What this node
asks of its own shards takes the same way as what others ask, without a wire. The router never waits: all that it
asks comes back as a message, and whatever fails for now is tried again as long as somebody waits for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast, final

from runtime.behaviours.gen_server import NO_REPLY, GenServer, Raise
from runtime.cluster.membership import IN_USE, Ceased, Membership, NodeChanged, ShardLost, ShardOwned
from runtime.cluster.membership import SERVICE as MEMBERSHIP
from runtime.errors import BanyanError
from runtime.kernel.process import Process
from runtime.kernel.requests import Caller
from runtime.kernel.signals import Answer, Down
from runtime.kernel.table import current_process
from runtime.kernel.timer import send_after

from .arriving import Arriving, Owing
from .departed import departed_of
from .entities import RegionSpec
from .frames import Carry, Changed, Done, Moved, Open, Probe, Replied
from .freezing import Freezing, Over, Rested
from .inward import Inward, Restore
from .leaving import Leaving, Snapshots
from .outward import Outward, Routed
from .post import Post
from .shard import Job, Label
from .steps import DepartShard, FollowShard, FreezeShard, PackShard, SnapshotShard, ThawShard, UnpackShard

# The regions that this node has had, by name: a node may have 100,000 other names.
REGIONS: Final = "regions"
# Seconds between two looks at what waits, at the placement, and at who is idle.
TICK: Final = 0.25


@final
@dataclass(frozen=True, slots=True)
class Tick:
    """Time to look."""


@final
class Router(GenServer):
    """The first child of a region."""

    def init(self, spec: RegionSpec) -> None:
        self.post = Post(spec, current_process())
        self.outward = Outward(self.post)
        self.inward = Inward(self.post)
        self.freezing = Freezing(self.post, self.inward, self.outward)
        self.leaving = Leaving(self.post, self.inward, self.outward, self.freezing)
        self.arriving = Arriving(self.post, self.inward)
        self.inward.on_lost = self._lost
        self._ticking = False
        self._stands = departed_of(self.post.table).under_another_router(spec.name, self.post.process)
        cast("dict[str, None]", self.post.table.services.setdefault(REGIONS, {}))[spec.name] = None
        looks = cast("dict[str, Callable[[int], bool]]", self.post.table.services.setdefault(IN_USE, {}))
        looks[spec.name] = self.inward.in_use
        membership = self.post.table.services.get(MEMBERSHIP)
        if isinstance(membership, Membership):
            membership.subscribe(self.post.process.pid)
        self.inward.placed()
        self._tick_soon()

    def handle_info(self, message: Any) -> None:
        match message:
            case Routed():
                self.outward.enter(message)
            case Answer(label=Job() as job):
                job.shard.answered(job, message)
            case Answer(label=Label() as label):
                self.inward.told(label, message)
                self.freezing.again(label.shard.number)
                self.arriving.again(label.shard.number, label.entity)
            case Answer(label=Rested() as rested):
                self.freezing.rested(rested, message)
            case Over(freeze=freeze):
                self.freezing.over(freeze)
            case Snapshots():
                self.leaving.next_snapshots(message)
            case Answer(label=Owing() as owing):
                self.arriving.answered(owing, message)
            case Label(shard=shard, entity=entity):
                shard.again(entity)
            case Restore():
                self.inward.restore()
            case Tick():
                self._look()
            case ShardOwned(shard=number) | ShardLost(shard=number):
                self.arriving.again(number)
                self.inward.placed(number)
                self.outward.placed(number)
            case Down(ref=ref):
                node = self.post.link_down(ref)
                if node is not None:
                    self.outward.lost(node)
                else:
                    self.inward.ended(ref)
                    self.freezing.ended(ref)
            case NodeChanged() | Ceased():
                pass  # what it means for shards is told for each of them
            case _:
                super().handle_info(message)
        self._settle()

    def handle_call(self, request: Any, caller: Caller) -> Any:
        """What is asked by who moves a shard: see `luggage`."""
        self._settle()
        reply: object = None
        try:
            match request:
                case FreezeShard():
                    self.freezing.freeze(request, caller)
                    reply = NO_REPLY
                case SnapshotShard():
                    self.leaving.snapshot(request, caller)
                    reply = NO_REPLY
                case ThawShard(shard=shard, epoch=epoch):
                    self.freezing.thaw(shard, epoch)
                case PackShard(shard=shard):
                    reply = self.leaving.pack(shard)
                case DepartShard():
                    self.leaving.depart(request)
                    self._stands = True
                case FollowShard():
                    self.leaving.follow(request)
                case UnpackShard():
                    self.arriving.unpack(request, caller)
                    reply = NO_REPLY
                case _:
                    return super().handle_call(request, caller)
        except BanyanError as error:
            reply = Raise(error)
        self._settle()
        return reply

    def handle_cast(self, request: Any) -> None:
        """A frame of another node's region, or news of the placement."""
        if isinstance(request, Changed):
            self.arriving.look()
            self.inward.placed()
            self.outward.placed()
        else:
            self._take(request)
        self._settle()

    def _take(self, frame: object) -> None:
        if isinstance(frame, (Probe, Carry)):
            self.inward.take(frame)
        elif isinstance(frame, (Done, Open, Moved)):
            self.outward.take(frame)
        elif isinstance(frame, Replied):
            departed_of(self.post.table).replied(frame)

    def _lost(self, number: int) -> None:
        """A shard is given up."""
        self.freezing.lost(number)
        self.arriving.lost(number)

    def _settle(self) -> None:
        """Take what this region has sent to itself."""
        mine = self.post.mine
        while mine:
            self._take(mine.popleft())
        self._tick_soon()

    def _tick_soon(self) -> None:
        inward, outward = self.inward, self.outward
        needed = inward.shards or inward.expects or outward.windows or self.post.spec.remember or self._stands
        if not self._ticking and needed:
            self._ticking = True
            send_after(TICK, self.post.process.pid, Tick())

    def _look(self) -> None:
        self._ticking = False
        self.arriving.look()
        self.inward.placed()
        self.outward.placed()
        self.outward.look()
        now = self.post.table.timers.clock()
        self.inward.put_to_sleep(now)
        self._stands = departed_of(self.post.table).look(self.post.spec.name, now)

    def summary(self) -> str:
        shards = self.inward.shards
        return f"{len(shards)} shards here, {sum(len(one.entities) for one in shards.values())} entities"

    def state(self) -> object:
        return {"region": self.post.spec, "shards": sorted(self.inward.shards), "windows": sorted(self.outward.windows)}


def router_of(process: Process | None) -> Router | None:
    """The router that a process is, if it is one."""
    found = process.behaviour if process is not None else None
    return found if isinstance(found, Router) else None
