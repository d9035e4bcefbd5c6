"""What the regions of one name say to each other, as records.

`sender` is the id of the incarnation of a region that sends commands. `epoch` and `life` are together the
incarnation of one that carries them out: a node counts those of its own, and a node that lives again owns nothing
under an epoch of before, so that the pair rises. `number` counts a sender's commands for one shard, from 1 up.
Every frame may be lost, come twice, or late: `window` says what is done then.
"""

from __future__ import annotations

from typing import Literal, final

from runtime.kernel.messages import message

Kind = Literal["call", "cast", "send", "start", "exit"]

# What became of a command: ("ok", reply), or the name of a failure and its arguments; see `failures`.
Outcome = tuple[object, ...]


@final
@message("region.probe")
class Probe:
    """To an owner: here is a sender whose numbers from `base` on are not answered, up to `last`. What do you have?"""

    shard: int
    epoch: int
    node: str
    sender: str
    base: int
    last: int


@final
@message("region.open")
class Open:
    """To a sender: I am the owner under this epoch, and wait for your number `expected`."""

    shard: int
    epoch: int
    node: str
    life: int
    sender: str
    expected: int


@final
@message("region.carry")
class Carry:
    """To an owner: one command.

    Attributes:
        slot: which of the sender's sessions with this entity it belongs to; see `window`.
        own: of a command that its caller has numbered itself: sender, number, since, lasting, remembered.
        since: when the sender first lived, in seconds since the Unix epoch.
    """

    shard: int
    epoch: int
    life: int
    node: str
    sender: str
    base: int
    number: int
    slot: int
    key: str
    kind: str
    request: object
    own: tuple[object, ...]
    since: float


@final
@message("region.done")
class Done:
    """To a sender: this became of a command, and is as lasting as its process is."""

    shard: int
    epoch: int
    life: int
    sender: str
    number: int
    outcome: tuple[object, ...]


@final
@message("region.moved")
class Moved:
    """To a sender: the shard belongs to that node, under that epoch."""

    shard: int
    sender: str
    node: str
    epoch: int


@final
@message("region.replied")
class Replied:
    """To a region: what became of a request that a process had taken there before it moved; `number` says which."""

    number: int
    outcome: tuple[object, ...]


@final
@message("region.changed")
class Changed:
    """To a region, from whoever keeps the placement: look again who owns what."""
