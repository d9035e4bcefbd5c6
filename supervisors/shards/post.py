"""How a region's frames leave a node, and who its shards belong to: what both halves of a router share.

What is for the region itself takes no wire and waits in a queue, until the router is through with what it has in
hand. A frame that cannot be delivered counts as lost: whoever sent it asks again, see `window`. Nobody asks again for
a `Replied`: that goes past the bound of the link, as any reply does.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final, cast, final

from runtime.behaviours.gen_server import CastEnvelope, cast_nowait
from runtime.cluster.membership import SERVICE as MEMBERSHIP
from runtime.cluster.membership import Membership
from runtime.errors import MailboxFull, Misuse, NoProcess
from runtime.kernel.api import monitor
from runtime.kernel.ids import Ref
from runtime.kernel.process import Process
from runtime.kernel.requests import Caller
from runtime.kernel.timer import send_after

from .entities import RegionSpec
from .failures import OK, failed, packed
from .frames import Carry, Done, Replied
from .ports import Alone, placement_of, reach

# Pauses before something is tried again, in seconds.
FIRST_PAUSE: Final = 0.002
LONGEST_PAUSE: Final = 0.5

LIVES: Final = "region.lives"

Owner = tuple[str, int]


@final
class Post:
    """One incarnation of a region on one node.

    Attributes:
        id: of this incarnation; never used by another one, wherever it runs.
        life: the same as a number, which rises as long as the node lives.
        shards: how many there are.
        clustered: whether the node is in a cluster, whose placement its store knows.
        since: when it began, in seconds since the Unix epoch.
        mine: frames for this region itself.
    """

    def __init__(self, spec: RegionSpec, process: Process) -> None:
        self.spec = spec
        self.process = process
        self.table = table = process.table
        self.node = table.node
        placement = placement_of(table)
        self.clustered = placement is not None
        self._alone = Alone(table.node)
        self.shards = (placement or self._alone).shards
        self.since = table.world.wall()
        self.id = f"{spec.name}@{table.node}.{table.creation}.{table.world.random.getrandbits(48):012x}"
        # How many routers this node has had.
        self.life = cast("int", table.services.get(LIVES, 0)) + 1
        table.services[LIVES] = self.life
        self.mine: deque[object] = deque()
        # The last epoch that was agreed on, of a region that goes on without one.
        self._epochs: dict[int, int] = {}
        self._links: dict[str, Ref] = {}
        # Who has got a shard from here; believed until the placement knows of an epoch as high.
        self.left: dict[int, Owner] = {}

    def owner(self, shard: int) -> Owner | None:
        """Who owns a shard, as far as this region is concerned."""
        # Looked up anew: the membership may be restarted, and until it is back nobody is known to own anything.
        placement = placement_of(self.table) if self.clustered else self._alone
        owner = placement.owner(shard) if placement is not None else None
        left = self.left.get(shard)
        if left is not None and owner is not None:
            if owner[1] < left[1]:
                owner = left
            else:
                del self.left[shard]
        if self.spec.prefer == "availability":
            if owner is None:
                return (self.node, self._epochs.get(shard, 0))
            self._epochs[shard] = owner[1]
        return owner

    def state(self, node: str) -> str:
        """How a node of the cluster is, as `MemberFact.state`; "" if nobody knows here."""
        membership = self.table.services.get(MEMBERSHIP)
        member = membership.members().get(node) if isinstance(membership, Membership) else None
        return member.state if member is not None else ""

    def writer(self, shard: int) -> str:
        """Who writes to the store that has a shard's data, if that is none of this node's own; see `Owned`."""
        membership = self.table.services.get(MEMBERSHIP)
        return membership.writer(shard) if isinstance(membership, Membership) else ""

    def fenced(self, shard: int, epoch: int) -> None:
        """The store has refused a process of a shard: the membership claims it anew, if it is ours."""
        membership = self.table.services.get(MEMBERSHIP)
        if isinstance(membership, Membership):
            membership.fenced(shard, epoch)

    def to(self, node: str, frame: object) -> None:
        """Send a frame to the region of a node."""
        if node == self.node:
            self.mine.append(frame)
            return
        destination = reach(self.table, node, self.spec.router)
        if destination is None:
            return
        if node not in self._links:
            self._links[node] = monitor(cast("Any", destination))
        try:
            cast_nowait(destination, frame)
        except (MailboxFull, NoProcess):
            # As if it were lost on its way: a probe finds out.
            process = self.table.find(destination) if isinstance(frame, Replied) else None
            if process is not None:
                process.post(CastEnvelope(frame))
        except Misuse as error:
            self._unsendable(node, frame, error)

    def _unsendable(self, node: str, frame: object, error: Misuse) -> None:
        """What was asked or answered cannot travel: that is its outcome."""
        if isinstance(frame, Carry):
            self.mine.append(Done(frame.shard, frame.epoch, frame.life, self.id, frame.number, failed(error)))
        elif isinstance(frame, Done) and frame.outcome[0] == OK:
            place = (frame.shard, frame.epoch, frame.life, frame.sender, frame.number)
            self.to(node, Done(*place, packed(failed(error), self.spec.name)))
        elif isinstance(frame, Replied) and frame.outcome[0] == OK:
            self.to(node, Replied(frame.number, packed(failed(error), self.spec.name)))

    def reply(self, caller: Caller, value: object) -> None:
        """Answer a request of the router that was put off, or refuse it with an error."""
        deferred = self.process.deferred
        if deferred:
            deferred.pop(caller, None)
        if isinstance(value, Exception):
            caller.refuse(value)
        else:
            caller.answer(value)

    def link_down(self, ref: Ref) -> str | None:
        """A monitor has rung: the node that cannot be reached, if it was that of a link."""
        for node, watched in self._links.items():
            if watched is ref:
                del self._links[node]
                return node
        return None

    def after(self, failures: int, message: object) -> None:
        """Send the router a message after a pause, the longer the more failures there were."""
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures, 16))
        send_after(pause, self.process.pid, message)
