"""How the other nodes are, put together from the two who can tell: the link with a node, and its lease.

    up       it answers, and its lease holds
    busy     it answers, but somebody holds its loop
    suspect  nothing was heard of it for a while: what is sent to it waits
    down     it is given up: calls fail with noconnection, its shards wait or go to others
    left     it said good-bye

A link knows first, and knows only the way from here; a lease knows later, and what all agree on. So a node that is
linked is as its link says, whatever its lease does, and one that is not is at best suspect: it may live, but not for
this node. Reads memory only.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final, Literal, cast, final

from ..kernel.elsewhere import SERVICE as PEERS
from ..kernel.table import ProcessTable
from .dist import Dist
from .links import Links
from .membership import SERVICE as MEMBERSHIP
from .membership import Membership

Seen = Literal["up", "busy", "suspect", "down", "left"]
_SERVING: Final = ("up", "suspect")


@final
@dataclass(frozen=True, slots=True)
class NodeFact:
    """One node of the cluster, as this one sees it.

    Attributes:
        address: where it is; "" if nobody said.
        creation: which of its lives; 0 if it was never linked.
        linked: whether there is a link with it; of this node itself True.
        lease: what its lease says: up, suspect, down or left; None without a coordination store.
        shards: how many it owns.
        draining: it gives its shards away, and is given none.
        adopted: whether this node serves its shards out of its store.
    """

    name: str
    address: str
    creation: int
    state: Seen
    linked: bool
    lease: str | None
    shards: int
    draining: bool = False
    adopted: bool = False


def node_facts(table: ProcessTable) -> list[NodeFact]:
    """This node and all that it has heard of, by name."""
    membership, links = _membership(table), _links(table)
    members = membership.nodes() if membership is not None else {}
    owners = Counter(row.owner for row in membership.placement.rows().values()) if membership is not None else Counter()
    facts = membership.members() if membership is not None else {}
    # Who has left drains no more, though that was its last word.
    draining = {name for name, fact in facts.items() if fact.draining and fact.state != "left"}
    held = membership.placement.stores if membership is not None else ()
    adopted = {name for name, fact in facts.items() if fact.store in held and name != table.node}
    linked = {link.node: link for link in links.links()} if links is not None else {}
    found = []
    for name in sorted({*members, *linked, table.node, *(links.kept() if links is not None else ())}):
        address, creation, lease = members.get(name, ("", 0, None))
        link = linked.get(name)
        if name == table.node:
            state: Seen = "up" if lease is None else lease
            address, creation = address or (links.address if links is not None else ""), table.creation
        elif link is not None:
            state, creation = link.state.value, link.creation
        else:
            state = "suspect" if lease in _SERVING else cast("Seen", lease or "down")
        here = name == table.node or link is not None
        more = owners[name], name in draining, name in adopted
        found.append(NodeFact(name, address, creation, state, here, lease, *more))
    return found


def cluster_id(table: ProcessTable) -> str | None:
    """The id of the node's cluster; None if it is in none."""
    links = _links(table)
    return links.me.cluster if links is not None else None


def _membership(table: ProcessTable) -> Membership | None:
    found = table.services.get(MEMBERSHIP)
    return found if isinstance(found, Membership) else None


def _links(table: ProcessTable) -> Links | None:
    dist = table.services.get(PEERS)
    links = dist.links if isinstance(dist, Dist) else None
    return links if isinstance(links, Links) else None
