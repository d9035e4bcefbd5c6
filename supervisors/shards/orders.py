"""What a node's mover and its rebalancer are asked, and what they tell: records, and the refusal of a move.

They travel: whoever wants a shard moved asks the mover of the node that owns it, wherever he is himself.
"""

from __future__ import annotations

from typing import Final, final

from runtime.errors import BanyanError
from runtime.kernel.messages import Call, message

# The local names of who moves shards, and of who decides which.
MOVER: Final = "mover"
REBALANCER: Final = "rebalancer"
# The phase of a move that was given up; of one that was not even begun, because two others go out first.
VOID: Final = "void"
WAITING: Final = "waiting"


class MoveRefused(BanyanError):
    """A move was not begun: `why`. Nothing has changed; the shard is served as before."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@final
@message("move.move")
class Move(Call[str]):
    """Give a shard that this node owns to another; the move's id, as soon as it is begun. Raises MoveRefused."""

    shard: int
    target: str


@final
@message("move.abort")
class Abort(Call["MoveFact"]):
    """Give up a move of this node, by its id, if that is still to be had: until the seal. As it is then.

    Raises MoveRefused: there is none that runs under this id, or it is sealed and goes through.
    """

    move: str


@final
@message("move.moves")
class Moves(Call["tuple[MoveFact, ...]"]):
    """The moves of this node, from it and to it: those that run, and the last ones that ended; oldest first."""


@final
@message("move.predict")
class Predict(Call["Forecast"]):
    """What a move would carry, and how long it would take; nothing is changed. Raises MoveRefused."""

    shard: int
    target: str


@final
@message("move.fact")
class MoveFact:
    """One move, as one of its two nodes sees it.

    Attributes:
        id: unique for ever.
        phase: of `SourcePhase` or `TargetPhase`, by its value; or `WAITING`.
        bytes, total: of its records that were copied, and about how many there are.
        held: messages that wait for it while it is frozen.
        freeze_ms: from the freeze to the target's word that it serves; None before, and at the target.
        why: what it was given up for; "" as long as it was not.
        started, ended: seconds since the Unix epoch; 0.0: it has not ended, and what was decided is still being done.
    """

    id: str
    shard: int
    source: str
    target: str
    phase: str
    bytes: int
    total: int
    held: int
    freeze_ms: float | None
    why: str
    started: float
    ended: float = 0.0

    @property
    def over(self) -> bool:
        """Whether nothing more will happen."""
        return self.ended > 0.0


@final
@message("move.forecast")
class Forecast:
    """What a move would carry: keys and bytes of its stores, entities that run; and the freeze, in milliseconds."""

    shard: int
    source: str
    target: str
    keys: int
    bytes: int
    entities: int
    freeze_ms: float


# -- the rebalancer ------------------------------------------------------------------------------------


@final
@message("move.drain")
class Drain(Call["Standing"]):
    """Give all shards of this node away, and take none; or, with `on` False, take part again.

    Raises MoveRefused: no other node could take them, unless this one is `leaving` anyway. Nothing has changed then.
    """

    on: bool = True
    leaving: bool = False


@final
@message("move.rebalance")
class Rebalance(Call[None]):
    """Even out the load now, if there is anything to be evened out."""


@final
@message("move.plan")
class Plan(Call["tuple[tuple[int, str], ...]"]):
    """Which shards this node would move away now to even out the load, and where to; nothing is done."""


@final
@message("move.tell")
class Tell(Call["Told"]):
    """How this node stands, and its moves as of `Moves`."""


@final
@message("move.standing")
class Standing:
    """How a node stands.

    Attributes:
        draining: it gives all its shards away, and takes none.
        owned: how many shards it serves.
        why: what stands in the way of what it has to give away; "" if nothing does.
        creation: which life of it this is; 0 of one of older code.
    """

    node: str
    draining: bool
    owned: int
    why: str
    creation: int = 0


@final
@message("move.told")
class Told:
    """A node's standing and its moves."""

    standing: Standing
    moves: tuple[MoveFact, ...]
