"""The router of a region on one node: takes every request by its key, and carries out those that belong here.

It is the one process that touches the two halves, `outward` and `inward`; doors only read them. What this node
asks of its own shards takes the same way as what others ask, without a wire. The router never waits: all that it
asks comes back as a message, and whatever fails for now is tried again as long as somebody waits for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, final

from runtime.behaviours.gen_server import GenServer
from runtime.cluster.membership import SERVICE as MEMBERSHIP
from runtime.cluster.membership import Ceased, Membership, NodeChanged, ShardLost, ShardOwned
from runtime.kernel.process import Process
from runtime.kernel.signals import Answer, Down
from runtime.kernel.table import current_process
from runtime.kernel.timer import send_after

from .entities import RegionSpec
from .frames import Carry, Changed, Done, Moved, Open, Probe
from .inward import Inward, Restore
from .outward import Outward, Routed
from .post import Post
from .shard import Job, Label

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
        self._ticking = False
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
            case Label(shard=shard, entity=entity):
                shard.again(entity)
            case Restore():
                self.inward.restore()
            case Tick():
                self._look()
            case ShardOwned(shard=number) | ShardLost(shard=number):
                self.inward.placed(number)
                self.outward.placed(number)
            case Down(ref=ref):
                node = self.post.link_down(ref)
                if node is not None:
                    self.outward.lost(node)
                else:
                    self.inward.ended(ref)
            case NodeChanged() | Ceased():
                pass  # what it means for shards is told for each of them
            case _:
                super().handle_info(message)
        self._settle()

    def handle_cast(self, request: Any) -> None:
        """A frame of another node's region, or news of the placement."""
        if isinstance(request, Changed):
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

    def _settle(self) -> None:
        """Take what this region has sent to itself."""
        mine = self.post.mine
        while mine:
            self._take(mine.popleft())
        self._tick_soon()

    def _tick_soon(self) -> None:
        if not self._ticking and (self.inward.shards or self.outward.windows or self.post.spec.remember):
            self._ticking = True
            send_after(TICK, self.post.process.pid, Tick())

    def _look(self) -> None:
        self._ticking = False
        self.inward.placed()
        self.outward.placed()
        self.outward.look()
        self.inward.put_to_sleep(self.post.table.timers.clock())

    def summary(self) -> str:
        shards = self.inward.shards
        return f"{len(shards)} shards here, {sum(len(one.entities) for one in shards.values())} entities"

    def state(self) -> object:
        return {"region": self.post.spec, "shards": sorted(self.inward.shards), "windows": sorted(self.outward.windows)}


def router_of(process: Process | None) -> Router | None:
    """The router that a process is, if it is one."""
    found = process.behaviour if process is not None else None
    return found if isinstance(found, Router) else None
