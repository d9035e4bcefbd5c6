"""What a node's membership tells whoever subscribed, what it is asked, and what it needs of the node's stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, final

from ..kernel.messages import Call, message
from .balance import Load
from .members import State


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
class MoveSettled:
    """To whoever conducts the moves of this node: by the shard's row somebody else has ended this one."""

    shard: int
    move: str


@final
@dataclass(frozen=True, slots=True)
class MemberFact:
    """A node of the cluster, as this one sees it.

    Attributes:
        address, creation, store, data: as in its row.
        draining: it gives its shards away, and is given none.
        load: what it said of late that it has to carry.
    """

    address: str
    creation: int
    state: State
    store: str
    draining: bool
    load: Load
    data: str = ""


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
