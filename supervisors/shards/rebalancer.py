"""The process that decides which shards of a node move: all of them when it is drained, else to even out the load.

Every few seconds it measures what its shards do and hold, tells the others by way of the membership, and asks the
plan that all nodes make of the same rows (`runtime.cluster.balance`) what this node should give away. It has at most
OUT moves under way at a time. So a node that joins takes its share, a node that drains is empty in the end, and one
whose drain is undone, or that is started again, takes part as before. Nobody decides for another node.

What nodes say of their load is a few seconds old. So it is followed at once only where the count of shards says the
same: somebody has less than half of his share, and from then on until he has about all of it, and only in what is
given to him. Otherwise what is to move must have been so for STEADY seconds, and after each OUT moves it is looked at
for so long again.

A node drains when it is told to (`Drain`), and when its program is to end and others stay (`drained`). Nodes that
are to end together all say first that they drain, and look again before they move anything: who finds nobody who
stays just stops.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Protocol, final, runtime_checkable

import trio

from runtime.behaviours.gen_server import NO_REPLY, GenServer, Raise
from runtime.cluster.membership import SERVICE as MEMBERSHIP
from runtime.cluster.membership import Membership, NodeChanged, membership_of
from runtime.cluster.multi import abcast
from runtime.errors import BanyanError, CallFailed
from runtime.kernel.api import call, send_request
from runtime.kernel.exits import shown
from runtime.kernel.signals import Answer
from runtime.kernel.table import ProcessTable, current_process
from runtime.kernel.timer import cancel_timer, send_after

from .loads import Loads
from .orders import MOVER, REBALANCER, VOID, Drain, Move, MoveFact, MoveRefused, Plan, Rebalance, Standing, Tell, Told
from .region import shard_facts
from .tally import Finding

# Moves from this node at a time.
OUT: Final = 2
# Seconds between two looks: when there is something to be moved, and when there is not.
SOON: Final = 0.05
LATER: Final = 2.0
# Seconds in which a node that comes or goes is not followed by another before the load is evened out.
QUIET: Final = 3.0
# Seconds for which a difference of loads must last.
STEADY: Final = 15.0
# Seconds for which a newcomer is given shards at once, if his count goes on to be too small.
WELCOME: Final = 120.0
# Seconds from the moment a node drains until it moves anything: those who end together have all said so by then.
TOGETHER: Final = 0.3
# Seconds until a shard whose move was refused or void is tried again: so long at first, twice as long each time.
AGAIN, AGAIN_MOST = 0.5, 8.0
# Seconds for a mover's word that a move is begun.
BEGIN: Final = 5.0
# Seconds in which a node that drains should have given a shard away.
STUCK: Final = 60.0
# What rebalancers tell one another: look at the rows now.
NEWS: Final = "news"
# Seconds within which a rebalancer that has crashed is there again.
RESTARTED: Final = 5.0
# Seconds for which a drained node stays to pass on what came late.
LATE: Final = 1.0


@runtime_checkable
class Moving(Protocol):
    """What the mover of a node offers here, in the node's services under MOVER."""

    def facts(self) -> tuple[MoveFact, ...]:
        """Its moves, as `orders.Moves`."""


def facts_of(table: ProcessTable) -> tuple[MoveFact, ...]:
    """The moves that a node's mover knows of; none if it is being restarted."""
    found = table.services.get(MOVER)
    return found.facts() if isinstance(found, Moving) else ()


@final
@dataclass(frozen=True, slots=True)
class _Begun:
    """What the mover was asked to begin."""

    shard: int
    target: str


@final
class _Look:
    """Time to look."""


@final
@dataclass(slots=True)
class _Later:
    """A shard whose move did not come about."""

    why: str
    pause: float
    due: float


@final
class Rebalancer(GenServer):
    """Decides which shards of its node move; under the local name `rebalancer`.

    Args:
        evens: whether it evens out the load by itself; it drains, and does as it is told, in any case.
    """

    def init(self, evens: bool = True) -> None:
        self._process = current_process()
        self._table = self._process.table
        self._evens = evens
        self._loads = Loads(self._table)
        self._asking: dict[int, str] = {}
        self._later: dict[int, _Later] = {}
        # The moves whose ends were seen.
        self._ended: dict[str, None] = {}
        self._quiet = self._table.world.now() + QUIET
        # Whether all that is wanted moves now; and since when something is wanted.
        self._hurry = False
        self._since: float | None = None
        # Until when a newcomer is given his share.
        self._welcome = 0.0
        self._resting = False
        # While it drains: how many shards were left, and since when there are not fewer.
        self._left: tuple[int, float] | None = None
        self._timer = send_after(0, self._process.pid, _Look())
        membership = self._membership()
        if membership is not None:
            membership.subscribe(self._process.pid)
        self._table.services[REBALANCER] = self

    def state(self) -> object:
        standing = self.standing() if self._membership() is not None else None
        return {"standing": standing, "later": {shard: one.why for shard, one in self._later.items()}}

    def terminate(self, reason: object) -> None:
        if self._table.services.get(REBALANCER) is self:
            del self._table.services[REBALANCER]

    def rest(self) -> None:
        """Begin no more moves, because the node ends now."""
        self._resting = True

    # -- what it is asked ----------------------------------------------------------------------------

    def handle_call(self, request: Any, caller: Any) -> Any:
        try:
            match request:
                case Tell() if self._membership() is None:
                    return (
                        NO_REPLY  # nobody knows; who starts that one anew ends this one first, and its callers hear so
                    )
                case Tell():
                    return Told(self.standing(), facts_of(self._table))
                case Plan():
                    return tuple(membership_of(self._table).moves_wanted(self._loads.found(), 1 << 16))
                case Drain(on=on, leaving=leaving):
                    return self._drain(on, leaving)
                case Rebalance():
                    self._hurry = True
                    self._later.clear()
                    self._look_in(0)
                    return None
        except BanyanError as error:
            return Raise(error)
        return super().handle_call(request, caller)

    def handle_cast(self, request: Any) -> None:
        if request == NEWS:
            membership = self._membership()
            if membership is not None:
                membership.look()

    def standing(self) -> Standing:
        """How this node stands. Raises NoProcess while its membership is being restarted."""
        membership = membership_of(self._table)
        # Not by whether it is served: what a move has in hand is not given away yet.
        owned = sum(row.owner == self._table.node for row in membership.placement.rows().values())
        why = self._hindrance(membership)
        return Standing(self._table.node, membership.draining, owned, why, self._table.creation)

    def findings(self) -> list[Finding]:
        """A drain that does not come forward, for the doctor; without waiting."""
        membership, now = self._membership(), self._table.world.now()
        if membership is None or self._left is None or now - self._left[1] < STUCK:
            return []
        what = f"drains, and has given no shard away for {now - self._left[1]:.0f} s: it has {self._left[0]} still"
        why = self._hindrance(membership) or "its moves take long"
        node = self._table.node
        return [("warn", node, what, why, f"banyan moves --of {node} --watch")]

    def _note_left(self, membership: Membership) -> None:
        owned = self.standing().owned if membership.draining else 0
        if not owned:
            self._left = None
        elif self._left is None or owned < self._left[0]:
            self._left = owned, self._table.world.now()

    def _hindrance(self, membership: Membership) -> str:
        if not membership.serving:
            return "its lease is over: it cannot reach the coordination store"
        if membership.draining and not takers(self._table):
            return "there is no other node that is up and not draining"
        if self._later:
            return next(f"shard {shard}: {one.why}" for shard, one in sorted(self._later.items()))
        adopted = len(membership.placement.adopted) if membership.draining else 0
        return f"{adopted} shards lie in stores that it has adopted: give these back" if adopted else ""

    def _drain(self, on: bool, leaving: bool) -> Standing | Raise:
        membership = membership_of(self._table)
        if on and not leaving and not takers(self._table):
            return Raise(MoveRefused("there is no other node that is up and not draining"))
        self._later.clear()
        if on != membership.draining:
            membership.drain(on)
            self._quiet = self._table.world.now() + TOGETHER
            abcast(REBALANCER, NEWS)
        self._look_in(SOON)
        return self.standing()

    # -- looking -------------------------------------------------------------------------------------

    async def handle_info(self, message: Any) -> None:
        match message:
            case _Look():
                await self._look()
            case Answer(label=_Begun(shard=shard)):
                self._asking.pop(shard, None)
                if message.failed:
                    self._put_off(shard, _words(message.reason))
                self._look_in(SOON)
            case NodeChanged():
                self._quiet = max(self._quiet, self._table.world.now() + QUIET)

    async def _look(self) -> None:
        """Measure, and begin what is to be begun."""
        membership = self._membership()
        if membership is not None:
            self._note_left(membership)
        if membership is None or not membership.serving:
            self._look_in(LATER)
            return
        served = sorted(membership.placement.served)
        # What has nothing here is shared out by number, and so not weighed: else the two would trade to and fro.
        await self._loads.measure([shard for shard in served if membership.kept(shard)])
        membership.report(self._loads.total())
        self._note_ends()
        begun = self._begin(membership)
        busy = membership.draining and bool(served)
        self._look_in(SOON if busy or begun or self._asking or self._out() else LATER)

    def _begin(self, membership: Membership) -> bool:
        """Have the mover begin what there is room for; whether there is anything to be moved now."""
        now, room = self._table.world.now(), OUT - len(self._out()) - len(self._asking)
        off = {shard for shard, later in self._later.items() if later.due > now} | self._asking.keys()
        wanted = membership.moves_wanted(self._loads.found(), OUT + len(off))
        if not wanted:
            self._later.clear()
        if self._only_welcomes(membership, now):
            # What a newcomer carries is not known yet, so only who lacks shards is given any, and gives none.
            poor = _poor(membership)
            wanted = [] if self._table.node in poor else [move for move in wanted if move[1] in poor]
        if not self._is_time(membership, bool(wanted), now):
            return False
        for shard, target in [move for move in wanted if move[0] not in off][: max(room, 0)]:
            self._asking[shard] = target
            self._loads.gives(shard)
            send_request(MOVER, Move(shard, target), _Begun(shard, target), timeout=BEGIN)
        return bool(wanted)

    def _only_welcomes(self, membership: Membership, now: float) -> bool:
        """Whether moves that are not for a newcomer have to wait until a difference has lasted."""
        return not self._hurry and not membership.draining and self._evens and now < self._welcome

    def _is_time(self, membership: Membership, wanted: bool, now: float) -> bool:
        """Whether what is wanted is to be moved now."""
        lacking = _lacking(membership)
        if lacking > 0.5:
            self._welcome = now + WELCOME
        elif not lacking:
            self._welcome = 0.0
        if self._resting:
            return False
        if membership.draining:
            return now >= self._quiet
        if now < self._quiet or not wanted:
            self._since = None
            self._hurry = self._hurry and now < self._quiet
            return False
        if self._since is None:
            self._since = now
        if self._hurry or (self._evens and now < self._welcome):
            return True
        if not self._evens or now - self._since < STEADY:
            return False
        self._since = now
        return True

    def _note_ends(self) -> None:
        """Put off what came to nothing, forget what was put off and has gone."""
        facts = [fact for fact in facts_of(self._table) if fact.source == self._table.node and fact.over]
        for fact in facts:
            if fact.id not in self._ended:
                if fact.phase == VOID:
                    self._put_off(fact.shard, fact.why)
                else:
                    self._later.pop(fact.shard, None)
        self._ended = dict.fromkeys(fact.id for fact in facts)

    def _put_off(self, shard: int, why: str) -> None:
        before = self._later.get(shard)
        pause = min(before.pause * 2, AGAIN_MOST) if before is not None else AGAIN
        self._later[shard] = _Later(why, pause, self._table.world.now() + pause)

    def _out(self) -> list[MoveFact]:
        return [fact for fact in facts_of(self._table) if fact.source == self._table.node and not fact.over]

    def _look_in(self, seconds: float) -> None:
        cancel_timer(self._timer)
        self._timer = send_after(seconds, self._process.pid, _Look())

    def _membership(self) -> Membership | None:
        found = self._table.services.get(MEMBERSHIP)
        return found if isinstance(found, Membership) else None


def takers(table: ProcessTable) -> list[str]:
    """The other nodes to which shards may go, which are up and do not drain. Raises NoProcess as `membership_of`."""
    members = membership_of(table).members()
    return [n for n, one in members.items() if n != table.node and one.state == "up" and not one.draining]


def _counts(membership: Membership) -> dict[str, int]:
    """How many shards each node has that may be given some."""
    members = membership.members()
    counts = {name: 0 for name, one in members.items() if one.state == "up" and not one.draining}
    for row in membership.placement.rows().values():
        owner = row.target or row.owner
        if owner in counts:
            counts[owner] += 1
    return counts


def _lacking(membership: Membership) -> float:
    """What part of its share by count the node with the fewest shards has not, from 0 to 1; 0 if it is one at most."""
    counts = _counts(membership)
    if not counts:
        return 0.0
    share, least = sum(counts.values()) / len(counts), min(counts.values())
    return (share - least) / share if share - least > 1 else 0.0


def _poor(membership: Membership) -> set[str]:
    """Who lacks more than one shard of its share by count."""
    counts = _counts(membership)
    share = sum(counts.values()) / max(len(counts), 1)
    return {name for name, count in counts.items() if share - count > 1}


def _words(reason: object) -> str:
    return str(reason) if isinstance(reason, BanyanError) else shown(reason)


async def drained(table: ProcessTable) -> str:
    """Give all shards of a node away, because its program is to end, and wait until they are gone; from host code.

    It does not try if nobody is there who stays. Cancel it when that takes too long: what is not given away then
    waits for the node's next life, as ever. When it ends, however that comes about, no more moves are begun.

    Returns: why shards stay; "" if none does.
    """
    try:
        why = await _given_away(table)
        if not why:
            # Whoever sent here before has to be passed on, or told where to go.
            with trio.move_on_after(LATE):
                while any(fact.waiting or fact.held for fact in shard_facts(table)):  # noqa: ASYNC110  # windows ring no bell
                    await trio.sleep(SOON)
        return why
    finally:
        found = table.services.get(REBALANCER)
        if isinstance(found, Rebalancer):
            found.rest()


async def _given_away(table: ProcessTable) -> str:
    standing: Standing | None = None
    asked = table.world.now()
    while standing is None or standing.owned:
        try:
            draining = standing is not None and standing.draining
            standing = (
                (await call(REBALANCER, Tell())).standing if draining else await call(REBALANCER, Drain(leaving=True))
            )
            membership = membership_of(table)
            # What lies in an adopted store does not move: it waits for its own node.
            stays = standing.owned <= len(membership.placement.adopted)
            if standing.owned and (stays or not takers(table) or not membership.serving):
                return standing.why
            asked = table.world.now()
        except CallFailed as error:
            # Who decides, or the membership below, has crashed: what comes after it goes on.
            standing = None
            if table.world.now() > asked + RESTARTED:
                return str(error)
        await trio.sleep(SOON)
    return ""
