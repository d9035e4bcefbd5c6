"""One node's side of a move, from its being asked for until it is remembered only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, final

from runtime.cluster.membership import SERVICE as MEMBERSHIP
from runtime.cluster.membership import Membership
from runtime.cluster.nodes import nodes
from runtime.kernel.ids import Pid, Ref
from runtime.kernel.requests import Caller
from runtime.kernel.table import ProcessTable

from .handoff import Source, SourcePhase
from .handoff_frames import Frame, Taken, Void
from .handoff_target import Target, TargetPhase
from .mover_source import SourceWork
from .mover_target import TargetWork
from .orders import VOID, WAITING, MoveFact

# Phases of a move that a machine knows nothing of: what there is to move is being looked at; it is over, and what
# is left of it is being done here.
PREPARING: Final = "preparing"
ENDING: Final = "ending"
# Those in which nobody serves the shard.
RESTS: Final = (
    *(SourcePhase.FREEZING, SourcePhase.SEALING, SourcePhase.SEALED),
    *(TargetPhase.KEEPING, TargetPhase.COMMITTING, TargetPhase.SERVING),
)
# Why a move was given up of which no more is known.
NAMED_NO_MORE: Final = "its row does not name it any more"


@final
@dataclass(slots=True, eq=False)
class Side:
    """This node's side of one move; `number` counts those of a mover."""

    number: int
    id: str
    shard: int
    source: str
    target: str
    here: str
    work: SourceWork | TargetWork
    started: float
    machine: Source | Target | None = None
    # The last phase, when the machine is no more.
    end: str = ""
    carrier: Pid | None = None
    ended: float = 0.0
    why: str = ""
    # When the machine is to be told the time; whom to answer when the move has begun; the last word of a target.
    due: float | None = None
    asked: list[Caller] = field(default_factory=list)
    last: Frame | None = None
    watch: Ref | None = None
    # Since when the shard rests here: frozen, or sealed, or not served yet though the token has come.
    rests: float | None = None

    @property
    def peer(self) -> str:
        """The other node."""
        return self.source if self.target == self.here else self.target

    @property
    def phase(self) -> str:
        """See `MoveFact.phase`."""
        machine = self.machine
        if self.ended:
            return self.end or VOID
        if self.carrier is None:
            return WAITING
        if machine is None:
            return PREPARING
        return ENDING if machine.over else machine.phase.value

    @property
    def fact(self) -> MoveFact:
        """What is told of it."""
        work = self.work
        freeze = None if work.freeze_ms is None else round(work.freeze_ms, 3)
        why = self.why or (self.machine.why if self.machine is not None else None) or ""
        places = (self.id, self.shard, self.source, self.target, self.phase)
        return MoveFact(*places, work.bytes, work.total, work.held, freeze, why, self.started, self.ended)

    def note(self, now: float) -> None:
        """Something has happened to its machine."""
        if self.machine is None or self.machine.phase not in RESTS:
            self.rests = None
        elif self.rests is None:
            self.rests = now

    def over(self, wall: float, why: str) -> None:
        """Nothing is left to be done: keep what is told of it, and a target's last word."""
        self.why = self.fact.why or why
        self.end = self.machine.phase.value if self.machine is not None else VOID
        self.ended, self.machine, self.asked, self.rests = wall, None, [], None
        if not isinstance(self.last, (Taken, Void)):
            self.last = None


def settled(table: ProcessTable, side: Side) -> str:
    """What has ended a move that its shard's row names no more, before it was sealed: by who that is, and lives."""
    membership = table.services.get(MEMBERSHIP)
    if not isinstance(membership, Membership):
        return NAMED_NO_MORE
    row, source = membership.placement.row(side.shard)[1], membership.members().get(side.source)
    if row.owner not in (side.source, side.target):
        return f"{row.owner or 'nobody'} has shard {side.shard} now"
    # The id has the life of the source in which it was begun.
    life = side.id.removeprefix(f"{side.shard}-{side.source}.").partition(".")[0]
    if source is not None and side.source != side.here and life not in ("", str(source.creation)):
        return f"{side.source} was started again"
    return NAMED_NO_MORE


def refusal(membership: Membership, me: str, shard: int, target: str) -> str | None:
    """Why a shard cannot be moved from this node to another one now, as far as is known here; None: it can."""
    members = membership.members()
    member = members.get(target)
    if type(shard) is not int or not 0 <= shard < membership.cluster.shards:
        return f"there is no shard {shard}: they count from 0 to {membership.cluster.shards - 1}"
    if membership.serves(shard) is None:
        owner = membership.owner(shard)
        named = f"{owner[0]} does" if owner is not None and owner[0] != me else "nobody does now"
        return f"{me} does not serve shard {shard}: {named}"
    if target == me:
        return f"shard {shard} is {target}'s own already"
    if member is None:
        return f"no node named {target!r} was ever in the cluster"
    if member.state != "up":
        return f"{target} is {member.state}"
    if member.draining:
        return f"{target} is draining"
    if not member.store:
        return f"{target} keeps nothing: it has no data directory"
    if membership.placement.home(shard) not in ("", members[me].store):
        return f"shard {shard} lies in a store that {me} has adopted"
    if target not in nodes():
        return f"there is no link with {target}"
    return None
