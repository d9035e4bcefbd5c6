"""Moves of shards as an operator orders and sees them: each request goes to the node that it is about.

Any node can be asked. It finds the owner of a shard, or the node that is named, and asks the mover or the rebalancer
there; what concerns all is asked of all that are linked. What is refused says why, and what to do next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Final, TypeVar, cast, final

from runtime.cluster.membership import SERVICE, MemberFact, Membership
from runtime.cluster.multi import multi_call
from runtime.cluster.nodes import nodes
from runtime.errors import Busy, CalleeExited, CallTimeout, NoProcess, RemoteError
from runtime.kernel.api import call
from runtime.kernel.elsewhere import at
from runtime.kernel.messages import Call
from runtime.kernel.table import ProcessTable
from runtime.observe.protocol import Code, Refusal

from ..shards.handoff import SourcePhase
from ..shards.handoff_target import TargetPhase
from ..shards.orders import (
    MOVER,
    REBALANCER,
    Abort,
    Drain,
    Move,
    MoveFact,
    MoveRefused,
    Plan,
    Predict,
    Rebalance,
    Tell,
    Told,
)
from .adoption import ADOPTER, Adopt, GiveBack

R = TypeVar("R")

# Seconds for an answer of the node that something is about, and of each that is asked with all others.
PATIENCE: Final = 5.0
ALL_PATIENCE: Final = 1.0

_REFUSED: Final = f"{MoveRefused.__module__}.{MoveRefused.__qualname__}"


@final
class ShardSteering:
    """Moves the shards of a node's cluster; `runtime.observe.steering.Steering`.

    Args:
        table: of the node that is asked.
    """

    def __init__(self, table: ProcessTable) -> None:
        self._table = table

    # -- looking -------------------------------------------------------------------------------------

    async def moves(self, of: str | None) -> dict[str, Any]:
        """The moves that nodes know of, the oldest first, and how each node stands."""
        if of is not None:
            self._member(of, "no move was looked up")
        told, silent = await self._all(Tell())
        facts: dict[str, MoveFact] = {}
        for node, answer in told.items():
            for fact in cast("Told", answer).moves:
                # Both know of it, and who gives the shard away knows more.
                if fact.id not in facts or node == fact.source:
                    facts[fact.id] = fact
        shown = [_of_both(one) for one in facts.values() if of is None or of in (one.source, one.target)]
        return {
            "node": self._table.node,
            "moves": [asdict(one) for one in sorted(shown, key=lambda one: (one.started, one.id))],
            "nodes": [asdict(cast("Told", one).standing) for node, one in told.items() if of is None or node == of],
            "silent": silent,
        }

    async def forecast(self, shard: int, node: str) -> dict[str, Any]:
        """What a move would carry."""
        what = f"no move of shard {shard} can be planned"
        owner = self._checked(shard, node, what)
        return asdict(await self._ask(owner, MOVER, Predict(shard, node), what))

    async def plan(self) -> dict[str, Any]:
        """Which moves would even out the load now; none on a node that shares no shards."""
        plans, silent = await self._all(Plan())
        moves = [
            {"shard": shard, "source": source, "target": target}
            for source, plan in plans.items()
            for shard, target in cast("tuple[tuple[int, str], ...]", plan)
        ]
        return {"moves": moves, "silent": silent}

    # -- changing ------------------------------------------------------------------------------------

    async def move(self, shard: int, node: str) -> dict[str, Any]:
        """Begin a move; its id."""
        what = f"shard {shard} was not moved"
        owner = self._checked(shard, node, what)
        move = await self._ask(owner, MOVER, Move(shard, node), what)
        return {"move": move, "shard": shard, "source": owner, "target": node}

    async def abort(self, move: str) -> dict[str, Any]:
        """Give up a move."""
        what = f"move {move} was not given up"
        known = (await self.moves(None))["moves"]
        found = next((one for one in known if one["id"] == move), None)
        if found is None:
            raise Refusal(what, "no node knows of it", "banyan moves lists those there are", Code.NOT_FOUND)
        return asdict(await self._ask(found["source"], MOVER, Abort(move), what))

    async def drain(self, node: str | None, *, on: bool) -> dict[str, Any]:
        """Have a node give all its shards away, or take part again."""
        name = node if node is not None else self._table.node
        what = f"node {name} does not drain" if on else f"the drain of node {name} was not undone"
        member = self._member(name, what)
        if member.state in ("down", "left"):
            raise Refusal(what, f"it is {member.state}", "start it first", Code.REFUSED)
        return asdict(await self._ask(name, REBALANCER, Drain(on), what))

    async def rebalance(self) -> dict[str, Any]:
        """Have all nodes look now at whether the load is even."""
        self._membership("nothing was rebalanced")
        asked, silent = await self._all(Rebalance())
        return {"asked": sorted(asked), "silent": silent}

    async def adopt(self, node: str, *, undo: bool) -> dict[str, Any]:
        """Have this node serve the shards of one that is down out of that one's store, or give it back."""
        what = f"node {node} was not given back" if undo else f"node {node} was not adopted"
        self._membership(what)
        return asdict(await self._ask(self._table.node, ADOPTER, GiveBack(node) if undo else Adopt(node), what))

    # -- asking --------------------------------------------------------------------------------------

    def _membership(self, what: str) -> Membership:
        found = self._table.services.get(SERVICE)
        if not isinstance(found, Membership):
            why = "this node shares no shards with others"
            raise Refusal(what, why, "ask a node of a cluster: banyan nodes", Code.NOT_FOUND)
        return found

    def _member(self, node: str, what: str) -> MemberFact:
        members = self._membership(what).members()
        if node not in members:
            why = f"there is no node {node!r} in this cluster, but {', '.join(members)}"
            raise Refusal(what, why, "banyan nodes tells how they are", Code.NOT_FOUND)
        return members[node]

    def _checked(self, shard: int, node: str, what: str) -> str:
        """The shard's owner, if it might go to a node."""
        membership = self._membership(what)
        total = membership.cluster.shards
        if shard >= total:
            why = f"there is no shard {shard}: the cluster has {total}, from 0 to {total - 1}"
            raise Refusal(what, why, "banyan shards lists them", Code.NOT_FOUND)
        member = self._member(node, what)
        owner = membership.owner(shard)
        if owner is None:
            raise Refusal(what, "nobody owns it now", "banyan shards tells who owns which", Code.REFUSED)
        if owner[0] == node:
            why = f"{node} owns it already"
            raise Refusal(what, why, f"name another node; banyan shards --of {node} lists its shards", Code.REFUSED)
        if member.state != "up":
            raise Refusal(what, f"{node} is {member.state}", "banyan nodes tells who is up", Code.REFUSED)
        if member.draining:
            why = f"{node} is draining: it gives its shards away and takes none"
            raise Refusal(what, why, f"name another node, or banyan drain {node} --undo", Code.REFUSED)
        return owner[0]

    async def _ask(self, node: str, name: str, request: Call[R], what: str) -> R:
        """Ask a process of a node."""
        destination = name if node == self._table.node else at(name, node)
        try:
            return await call(destination, request, timeout=PATIENCE)
        except MoveRefused as error:
            raise _refused(what, error.why) from None
        except RemoteError as error:
            if error.type_name == _REFUSED:
                raise _refused(what, error.text) from None
            raise Refusal(what, f"{node} says: {error}", "the log of that node says more", Code.FAILED) from None
        except CallTimeout as error:
            raise Refusal(what, str(error), f"banyan doctor -n {node}", Code.TIMEOUT) from None
        except Busy as error:
            raise Refusal(what, str(error), "try again in a moment", Code.REFUSED) from None
        except (NoProcess, CalleeExited):
            linked = node == self._table.node or node in nodes()
            why = f"the {name} of {node} is being restarted" if linked else f"{node} cannot be reached from here"
            raise Refusal(what, why, "banyan nodes tells how it is; try again in a moment", Code.UNREACHABLE) from None

    async def _all(self, request: object) -> tuple[Mapping[str, object], list[str]]:
        """Ask the rebalancers of all nodes that live; what they say, and who says nothing."""
        found = self._table.services.get(SERVICE)
        members = found.members() if isinstance(found, Membership) else {}
        living = [name for name, one in members.items() if one.state in ("up", "suspect")]
        return await multi_call(REBALANCER, request, living, timeout=ALL_PATIENCE)


def _of_both(fact: MoveFact) -> MoveFact:
    """A move that only its target knows of, as its source would tell of it."""
    return replace(fact, phase=SourcePhase.RETIRED.value) if fact.phase == TargetPhase.OWN.value else fact


def _refused(what: str, why: str) -> Refusal:
    return Refusal(what, why, "nothing has changed; banyan moves and banyan nodes tell more", Code.REFUSED)
