"""What a durable process chooses: how much of its state it may lose, and how long its history is kept.

| class | lost on its crash | on kill -9 of the node | on loss of power |
|---|---|---|---|
| `"durable"` | nothing acknowledged | nothing acknowledged | nothing acknowledged |
| `"relaxed"` | nothing acknowledged | nothing acknowledged | at most the last group |
| `periodic(n)` | up to n seconds | up to n seconds | up to n seconds |
| `"volatile"` | all since its start | all | all |

The table of numbered commands is a part of the state and shares its fate: after a loss, a command that was
lost may be sent again and is applied, once, to what is left. What would break another process's promise is
refused: only a durable process may owe deliveries, or take one, because the other side counts on its memory.

Pure. Source: promise P1 and the table of durability classes; Redis's `appendfsync` and `save`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, Literal, final

from ..errors import Misuse


@final
@dataclass(frozen=True, slots=True)
class Periodic:
    """Save the whole state every so many seconds if it has changed; made by `periodic`."""

    seconds: float

    def __repr__(self) -> str:
        return f"periodic({self.seconds:g})"


Durability = Literal["durable", "relaxed", "volatile"] | Periodic


def periodic(seconds: float) -> Periodic:
    """The class of a process whose state is saved every `seconds`, above 0 and finite.

    At an orderly end it saves first, if it runs `terminate`: so set `trap_exit` to lose nothing at a shutdown.

    Raises: Misuse.
    """
    if not 0 < seconds < math.inf:
        raise Misuse(f"wanted a finite time above 0 seconds between two snapshots, got {seconds!r}")
    return Periodic(float(seconds))


@final
@dataclass(frozen=True, slots=True)
class Kept:
    """At a start, behind the key: this process's durability, in place of its class's.

    `child("ann", Wallet, "ann", Kept("relaxed"), name="ann")`
    """

    durability: Durability


@final
@dataclass(slots=True)
class Owned:
    """At a start, behind the key and a `Kept`: the shard that the process belongs to, and the epoch of its owner.

    The epoch rises when a move of the shard was given up: then processes of it go on, and are restarted, under it.

    Its entries bear the shard's epoch, and are taken only as long as the node's store is claimed under it.
    `writer` is the service of another writer than the node's own, for a shard whose data are in an adopted store.
    """

    shard: int
    epoch: int
    writer: str = ""


def starting(durability: object, args: tuple[Any, ...]) -> tuple[Durability, Owned | None, tuple[Any, ...]]:
    """What a start's arguments behind the key say: durability, shard, and the rest, which is the class's own.

    Args:
        durability: the class's own.

    Raises: Misuse.
    """
    owned = None
    if args and isinstance(args[0], Kept):
        durability, args = args[0].durability, args[1:]
    if args and isinstance(args[0], Owned):
        owned, args = args[0], args[1:]
    return checked(durability), owned, args


def checked(durability: object) -> Durability:
    """A durability class as it was written, or Misuse."""
    if isinstance(durability, Periodic) or durability in ("durable", "relaxed", "volatile"):
        return durability
    raise Misuse(f"wanted 'durable', 'relaxed', periodic(seconds) or 'volatile', got {durability!r}")


@final
@dataclass(frozen=True, slots=True)
class KeepEntries:
    """Keep so many entries before the newest snapshot; made by `keep_entries`."""

    count: int


@final
@dataclass(frozen=True, slots=True)
class KeepSeconds:
    """Keep what was accepted within so many seconds; made by `keep_seconds`."""

    seconds: float


# None keeps all.
Retention = KeepEntries | KeepSeconds | None


def keep_entries(count: int) -> KeepEntries:
    """Of what a snapshot stands for, keep the last `count` entries, from 0 up. Raises: Misuse."""
    if type(count) is not int or count < 0:
        raise Misuse(f"wanted a whole number of entries from 0 up, got {count!r}")
    return KeepEntries(count)


def keep_seconds(seconds: float) -> KeepSeconds:
    """Of what a snapshot stands for, keep the entries of the last `seconds` by the wall clock. Raises: Misuse."""
    if not 0 <= seconds < math.inf:
        raise Misuse(f"wanted a finite time from 0 seconds up, got {seconds!r}")
    return KeepSeconds(float(seconds))


class OtherDurability(Misuse):
    """A key's history lies in another store than its durability says; `key`, `found`, `wanted`. Nothing changed."""

    def __init__(self, key: str, found: str, wanted: Durability) -> None:
        super().__init__(
            f"{key!r} was kept as {found} and is now to be {wanted!r}, which would begin without its history: "
            f"start it as {found}, or under another key"
        )
        self.key = key
        self.found = found
        self.wanted = wanted


# Seconds after which a sender that was not heard of is forgotten.
DEDUP_TTL: Final = 7 * 86400.0
