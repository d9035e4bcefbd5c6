"""Which shard a key belongs to, for ever; and the row of a shard in the coordination store. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, final

from ..errors import Misuse
from ..kernel.messages import message

SHARDS: Final = 256
# What each node looks through every two seconds.
MAX_SHARDS: Final = 4096
_SHARD: Final = "shard/"


@final
@message("banyan.cluster.shard")
class Stored:
    """What is stored of a shard's row; one that names a move is a tuple of this, the move, its target, and that's life.

    So whoever knows of no moves reads every row that names none, and takes one that does for unchanged.
    """

    owner: str
    creation: int
    epoch: int
    home: str


@final
@dataclass(frozen=True, slots=True)
class Shard:
    """A shard's row.

    Attributes:
        owner: the node's name; "" for none.
        creation: the owner's life.
        epoch: rises by at least one with each claim; 0 before the first.
        home: the id of the store that holds its data, or will; "" for none.
        move: the id of the move that is under way; "" for none.
        target, target_creation: the node that it goes to, and that one's life when it was planned.
    """

    owner: str = ""
    creation: int = 0
    epoch: int = 0
    home: str = ""
    move: str = ""
    target: str = ""
    target_creation: int = 0

    def resting(self) -> Shard:
        """The same row without a move."""
        return Shard(self.owner, self.creation, self.epoch, self.home) if self.move else self

    def stored(self) -> object:
        """What is kept of it in the coordination store."""
        kept = Stored(self.owner, self.creation, self.epoch, self.home)
        return (kept, self.move, self.target, self.target_creation) if self.move else kept


UNCLAIMED: Final = Shard()


def shard_of(kind: str, key: str, shards: int = SHARDS) -> int:
    """The shard of an entity: the same for ever, on every machine and in every version.

    The first 8 bytes of BLAKE2b-64 over the kind's length in bytes (u16, big-endian), the kind and the key, both
    in UTF-8, as a big-endian number, modulo the count of shards.

    Args:
        kind: what the entity is, such as "table"; at most 65535 bytes.
        key: which one.
        shards: the cluster's count, from 1 to 4096.

    Raises: Misuse: the count is out of bounds.
    """
    if not 1 <= shards <= MAX_SHARDS:
        raise Misuse(f"wanted 1 to {MAX_SHARDS} shards, got {shards}")
    raw = kind.encode()
    digest = blake2b(len(raw).to_bytes(2, "big") + raw + key.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % shards


def shard_row(shard: int) -> str:
    """The name of a shard's row."""
    return f"{_SHARD}{shard:05d}"


def shards_of(rows: Iterable[tuple[str, int, object]]) -> dict[int, tuple[int, Shard]]:
    """The shards among (name, version, value) rows of the coordination store, by their numbers."""
    found = {}
    for name, version, value in rows:
        match value:
            case Stored(owner, creation, epoch, home):
                row = Shard(owner, creation, epoch, home)
            case (Stored(owner, creation, epoch, home), str(move), str(target), int(life)):
                row = Shard(owner, creation, epoch, home, move, target, life)
            case _:
                continue
        found[int(name[len(_SHARD) :])] = (version, row)
    return found
