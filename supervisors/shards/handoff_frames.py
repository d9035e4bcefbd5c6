"""What the movers of two nodes say to each other about one move of a shard, as records.

Each frame names the move, which is unique for ever. From one mover to the other frames keep their order; any number
of the last ones may be lost with a link, and each may come twice. `handoff` says what is done then.
"""

from __future__ import annotations

from typing import final

from runtime.kernel.ids import Pid
from runtime.kernel.messages import message


@final
@message("move.offer")
class Offer:
    """To the target: this shard is to be yours. The row of the shard names the move already.

    Attributes:
        epoch: under which the source owns the shard.
        source: the node that owns it.
        shards: how many the cluster has.
        regions: whose entities may be in it, each with the schema of its class.
        keys, size: about so many keys and bytes will come.
    """

    move: str
    shard: int
    epoch: int
    source: str
    shards: int
    regions: tuple[tuple[str, int], ...]
    keys: int
    size: int


@final
@message("move.accept")
class Accept:
    """To the source: there is room, send."""

    move: str


@final
@message("move.chunk")
class Chunk:
    """To the target: records; `number` counts from 1. `data` are packed pieces, `relaxed` says of which store."""

    move: str
    number: int
    relaxed: bool
    data: bytes


@final
@message("move.got")
class Got:
    """To the source: chunks up to `number` are in the target's store, those up to `have` have come."""

    move: str
    number: int
    have: int


@final
@message("move.prepare")
class Prepare:
    """To the target: all that there was has been sent, up to this chunk. Can you serve it?"""

    move: str
    number: int


@final
@message("move.ready")
class Ready:
    """To the source: every record up to there was decoded and brought up to date."""

    move: str


@final
@message("move.token")
class Token:
    """To the target: the source has sealed the shard and serves it no more; it is yours by compare-and-set.

    Attributes:
        number: the last chunk before this.
        last: the last records, each as a chunk's `relaxed` and `data`.
        digest: of all chunks and the last records, as they were sent.
        luggage: what the processes had in memory, by region.
    """

    move: str
    number: int
    last: tuple[tuple[bool, bytes], ...]
    digest: bytes
    luggage: tuple[tuple[str, bytes], ...]


@final
@message("move.taken")
class Taken:
    """To the source: the target owns the shard under this epoch; what became of its processes.

    Attributes:
        pids: who they are now, by region and key.
        bare: the regions that serve it without what came along.
    """

    move: str
    epoch: int
    pids: tuple[tuple[str, str, Pid], ...]
    bare: tuple[str, ...] = ()


@final
@message("move.void")
class Void:
    """To the other side: this move is void; nothing of it is or will be kept here, and this is why."""

    move: str
    why: str


@final
@message("move.ask")
class Ask:
    """To the target, from a source that may have missed something: how far are you?"""

    move: str


def of_a_stranger(frame: Frame) -> Void | None:
    """What a node says to a frame of a move that it does not know, or not any more; None: nothing."""
    return None if isinstance(frame, (Offer, Taken, Void)) else Void(frame.move, "this move is not known here")


Frame = Offer | Accept | Chunk | Got | Prepare | Ready | Token | Taken | Void | Ask
