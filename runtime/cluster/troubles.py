"""What seems wrong with a cluster, as one of its nodes sees it: told to the doctor (`runtime.observe.doctor.Telling`).

Three things are looked at: whether this node serves what is its own, whether the other nodes are well, and whether
there are shards that nobody can serve, because what is in them lies in the store of a node that is gone. Reads
memory only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final, Literal, cast, final

from ..kernel.table import ProcessTable
from .membership import SERVICE as MEMBERSHIP
from .membership import Membership
from .view import NodeFact, node_facts

Finding = tuple[Literal["bad", "warn", "note"], str, str, str, str]

SERVICE: Final = "troubles"
GONE: Final = {"down": "is down", "left": "has left"}


@final
class Troubles:
    """Those of a node's cluster; kept among its services from its start to its end.

    Args:
        table: of the node.
    """

    def __init__(self, table: ProcessTable) -> None:
        self._table = table
        table.services[SERVICE] = self

    def findings(self) -> list[Finding]:
        """What seems wrong now, each as the doctor tells it: how bad, who, what, why, and what to do next."""
        facts = node_facts(self._table)
        found = [one for fact in facts if fact.name != self._table.node for one in of_node(fact)]
        membership = self._table.services.get(MEMBERSHIP)
        if isinstance(membership, Membership):
            if membership.serving:
                found += _of_shards(membership, facts)
            else:  # what it knows of shards is stale
                found += _of_lease(membership, self._table.node)
        return found


def of_node(fact: NodeFact) -> Iterator[Finding]:
    """Another node that is not well."""
    more = f", and it has {so_many(fact.shards)}" if fact.shards else ""
    if fact.state == "busy":
        why = "something holds its loop: a callback computes, or it swaps"
        what = f"is busy: it lives, but does not come round{more}"
        yield "warn", fact.name, what, why, f"banyan doctor -n {fact.name}"
    elif fact.state == "suspect" and fact.linked:
        why = "its program stands still, or the way to it is broken: what is sent to it waits"
        yield "warn", fact.name, f"is suspect: nothing was heard of it for a while{more}", why, "banyan nodes"
    elif fact.state == "suspect" or (fact.state == "down" and fact.lease is None):
        why = f"it cannot be reached at {fact.address or 'any address'}, or has only just come or gone"
        yield "warn", fact.name, f"is not linked with this node{more}", why, "banyan nodes"
    elif fact.state == "up" and fact.lease in ("suspect", "down"):
        why = "its lease is not renewed, though it answers: it cannot reach the coordination store"
        yield "warn", fact.name, f"serves no shards, or not for long{more}", why, f"banyan doctor -n {fact.name}"


def _of_lease(membership: Membership, name: str) -> Iterator[Finding]:
    """A node that may not serve, though it has not left."""
    if membership.nodes()[name][2] == "left":
        return
    said = cast("dict[str, Any]", membership.state())["unreachable"]
    why = said or "it was not renewed in the coordination store in time"
    next = "look at the disk of the coordination store, and who holds its lock; then it serves again by itself"
    yield "bad", name, "serves no shards: it has no lease", why, next


def _of_shards(membership: Membership, facts: list[NodeFact]) -> Iterator[Finding]:
    """Shards that are in nobody's hands."""
    placement, members = membership.placement, membership.members()
    rows = [row for row in placement.rows().values() if row.owner]
    gone = {name: GONE[member.state] for name, member in members.items() if member.state in GONE}
    linked = {fact.name for fact in facts if fact.linked}
    # What is in a shard lies in its owner's store, or in another's from whom its owner has it, or had: `adopt`.
    homes = {member.store: name for name, member in members.items() if member.store}
    missed = Counter(
        homes.get(row.home, row.owner)
        for row in rows
        if row.home and row.home not in placement.stores and (row.owner in gone or row.owner == placement.name)
    )
    for name, count in sorted(missed.items()):
        if name in gone:
            how = "answers, but has lost its lease" if name in linked else gone[name]
            data = members[name].data
            why = "what is in them lies in its store" + (f", {data}" if data else "")
            next = f"start {name} on its data, or `banyan adopt {name}` on its machine"
            yield "bad", so_many(count), f"{'waits' if count == 1 else 'wait'} for {name}, which {how}", why, next
    free = membership.cluster.shards - len(rows)
    if free and all(member.draining or member.state != "up" for member in members.values()):
        why = "each node that lives gives its shards away, and takes none"
        yield "bad", so_many(free), f"{'is' if free == 1 else 'are'} nobody's", why, "banyan drain NODE --undo"


def so_many(count: int) -> str:
    """A count of shards in words."""
    return f"{count} shard{'s' * (count > 1)}"
