"""What a region needs to know of its cluster: who owns a shard, and how to reach another node's region.

Both are found anew whenever they are asked for: in the node's services under `placement` and `neighbours`, or else
from its membership and its distribution. A node that is in no cluster owns all shards.
"""

from __future__ import annotations

from typing import Protocol, cast, final

from runtime.cluster.membership import SERVICE as MEMBERSHIP
from runtime.cluster.membership import Membership
from runtime.cluster.placement import SHARDS
from runtime.kernel.elsewhere import at
from runtime.kernel.table import Destination, ProcessTable

PLACEMENT = "placement"
NEIGHBOURS = "neighbours"


class Placement(Protocol):
    """Who owns which shard. Tell a region of changes with the cast `frames.Changed`; it also looks by itself."""

    @property
    def shards(self) -> int:
        """How many there are in this cluster."""

    def owner(self, shard: int, /) -> tuple[str, int] | None:
        """The owner's name and epoch; None if there is none, or this node may not serve it now. Must not wait."""


class Neighbours(Protocol):
    """How to reach the other nodes."""

    def reach(self, node: str, name: str, /) -> Destination | None:
        """The process of that name on another node, None if nobody knows a way there. Must not wait."""


@final
class Member:
    """The placement of a node's membership, which serves only as long as its lease holds.

    While that process is being restarted nobody is known to own anything.
    """

    def __init__(self, table: ProcessTable, shards: int) -> None:
        self._node = table.node
        self._services = table.services
        self._shards = shards

    @property
    def shards(self) -> int:
        return self._shards

    def owner(self, shard: int, /) -> tuple[str, int] | None:
        membership = self._services.get(MEMBERSHIP)
        if not isinstance(membership, Membership):
            return None
        epoch = membership.serves(shard)
        if epoch is not None:
            return (self._node, epoch)
        owner = membership.owner(shard)
        # Ours by the rows, and not served: the lease is over, or the store is not claimed yet.
        return owner if owner is not None and owner[0] != self._node else None


@final
class Alone:
    """The placement of a node that is in no cluster: all is here, for ever."""

    def __init__(self, node: str) -> None:
        self._owner = (node, 1)

    @property
    def shards(self) -> int:
        return SHARDS

    def owner(self, shard: int, /) -> tuple[str, int] | None:
        return self._owner


def placement_of(table: ProcessTable) -> Placement | None:
    """What a node knows of who owns what; None if it is in no cluster."""
    found = table.services.get(PLACEMENT)
    if found is not None:
        return cast("Placement", found)
    membership = table.services.get(MEMBERSHIP)
    return Member(table, membership.cluster.shards) if isinstance(membership, Membership) else None


def reach(table: ProcessTable, node: str, name: str) -> Destination | None:
    """The process of a name on another node."""
    found = table.services.get(NEIGHBOURS)
    if found is not None:
        return cast("Neighbours", found).reach(node, name)
    return at(name, node) if "peers" in table.services else None
