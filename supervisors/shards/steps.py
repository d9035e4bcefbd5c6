"""The steps of a shard's move, as requests to the router of each region on a node; `luggage` tells their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from runtime.kernel.ids import Pid
from runtime.kernel.messages import Call


@final
@dataclass(frozen=True, slots=True)
class SnapshotShard(Call[None]):
    """Have each entity that runs keep a snapshot, if it has many entries behind its last one; answered when all have.

    So that they recover quickly where they go. Before the freeze, so that the pause is none the longer.

    Args:
        since: this many entries are not many, from 0 up.
    """

    shard: int
    since: int = 16


@final
@dataclass(frozen=True, slots=True)
class FreezeShard(Call[bool]):
    """Bring the shard's entities here to rest, each between two messages, with all it has accepted committed.

    From then on nothing is begun: what comes is held, and beyond the bound its senders wait. True when all rest,
    also if there is no such shard here; False if they do not within `budget` seconds: then all goes on as before.

    The process that asks is monitored: if it ends before it has said how it goes on, the shard thaws, unless it is
    sealed in its store. To ask again for a frozen shard is no harm.

    Args:
        budget: seconds, from 0 up.
        force: a durable entity that does not come to rest is ended, without anybody being told; what it had in its
            hands is done again. True is then the answer, unless a volatile one does not rest.

    Raises CannotHandOver: the `hand_over` of an entity has raised; all goes on as before, also with `force`.
    """

    shard: int
    budget: float
    force: bool = False


@final
@dataclass(frozen=True, slots=True)
class ThawShard(Call[None]):
    """Go on with a frozen shard, with what was held, in order. Nothing happens if it is not frozen.

    Args:
        epoch: under which it is owned from now on; 0: the same as before. One that was sealed needs a higher one,
            which its store is claimed under already.
    """

    shard: int
    epoch: int = 0


@final
@dataclass(frozen=True, slots=True)
class PackShard(Call[bytes]):
    """What of a frozen shard is in memory, for `UnpackShard`. It changes nothing.

    Raises: Misuse: it is not frozen. CannotHandOver: what an entity gives cannot travel.
    """

    shard: int


@final
@dataclass(frozen=True, slots=True)
class DepartShard(Call[None]):
    """The shard belongs to `node` under `epoch`: who ran here has gone there, quietly, and what waits is passed on.

    No `terminate` runs, and no link or monitor is told; each pid leads to the entity from now on, wherever it is.
    An entity that cannot take what it knows with it (a volatile one without `hand_over`) ends, and that is told.
    A shard that is not frozen is given up as if it were lost.
    """

    shard: int
    node: str
    epoch: int


@final
@dataclass(frozen=True, slots=True)
class FollowShard(Call[None]):
    """Who the entities that departed are now, by key: links and monitors of the old pids end with the new ones.

    None: nobody knows, as their node cannot be reached: then they are told NOCONNECTION.

    Args:
        bare: what they had in memory did not arrive: who waits for a reply that one of them owed is told NOCONNECTION.
    """

    shard: int
    pids: tuple[tuple[str, Pid], ...] | None
    bare: bool = False


@final
@dataclass(frozen=True, slots=True)
class UnpackShard(Call[tuple[tuple[str, Pid], ...]]):
    """Serve a shard that has come here under `epoch`, with what was packed; the pids of who ran there, by key.

    It may be asked before the placement says that the shard is this node's: then it waits for that, and the shard
    is not served without it for a few seconds. The pids are known when all have started; senders are told at once.
    Raises Misuse if the shard is another's by then. What cannot be decoded raises DecodeError, and the shard is
    served without it.

    Args:
        luggage: what `PackShard` gave; b"": nothing.
    """

    shard: int
    epoch: int
    luggage: bytes
