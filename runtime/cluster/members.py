"""Who belongs to the cluster and lives: each node's lease, and what it makes of the others'. Pure.

A node's row in the coordination store is its lease. It renews it every RENEW_SECONDS by compare-and-set; who
cannot for SERVE_SECONDS stops serving, before anybody may take it for dead:

    state     how the others see it
    up        its row keeps changing
    suspect   it has not changed for SUSPECT_SECONDS
    down      it has not changed for LEASE_SECONDS
    left      it said good-bye

What passes is counted by each node's own monotonic clock, from the moment it first saw a row as it is, so that
no clock that jumps makes anybody die. The row also says until when it holds by the writer's wall clock; a node
that has just come takes those that are over for suspect at once, and no more than that.

All this is a hint when to act. That nobody serves a shard twice does not rest on it: epochs rise by
compare-and-set, and the store that holds a shard's data refuses an older one (`runtime.durable.fence`).

A machine: events go in, effects come out. Source: Chubby's and etcd's leases; "time from the first sight of a
version" as in the DynamoDB lock client; OTP's `net_kernel` for the words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, final

from ..errors import BanyanError, Misuse
from ..kernel.messages import message

RENEW_SECONDS: Final = 2.0
LEASE_SECONDS: Final = 10.0
# From the sending of the last renewal that was made: a margin for clocks that do not run alike.
SERVE_SECONDS: Final = 8.0
SUSPECT_SECONDS: Final = 2 * RENEW_SECONDS + 1.0
CLUSTER: Final = "cluster"
_MEMBER: Final = "member/"

State = Literal["up", "suspect", "down", "left"]


@final
@message("banyan.cluster.cluster")
class Cluster:
    """What was fixed when the cluster was made: its id, and how many shards it has."""

    id: str
    shards: int


@final
@message("banyan.cluster.member")
class Member:
    """A node's row.

    Attributes:
        name: unique in the cluster.
        address: where others reach it.
        creation: which life of the node it is; rises.
        until: seconds since the Unix epoch until which it holds, by the writer's clock.
        left: whether it said good-bye.
        store: the id of its data; "" if it keeps nothing.
        data: where that lies on its machine; "" as well.
    """

    name: str
    address: str
    creation: int
    until: float
    left: bool = False
    store: str = ""
    data: str = ""


class JoinRefused(Misuse):
    """A node cannot be part of this cluster as it is; nothing was changed. The text says what to do."""


class NameTaken(JoinRefused):
    """Another living node bears the name; `other` is its row."""

    def __init__(self, other: Member, until: float) -> None:
        super().__init__(
            f"a node named {other.name!r} is in the cluster already, at {other.address} with the data in "
            f"{other.data or 'no directory'}: choose another name, or stop that one first; if it is dead, start again "
            f"in {max(until, 0.0):.0f} s"
        )
        self.other = other


class OtherCluster(JoinRefused):
    """The data belong to another cluster; `found` and `wanted` are the clusters' ids."""

    def __init__(self, found: str, wanted: str) -> None:
        super().__init__(
            f"the data belong to cluster {found}, and this coordination store is that of cluster {wanted}: name the "
            "data directory of a node of this cluster or an empty one, or the coordination store of the other cluster"
        )
        self.found = found
        self.wanted = wanted


class OtherShards(JoinRefused):
    """The cluster was made with another count of shards; `found`, `wanted`."""

    def __init__(self, found: int, wanted: int) -> None:
        super().__init__(
            f"the cluster was made with {found} shards, and {wanted} are configured: the count is fixed for ever, "
            f"so set it to {found}; for another count make a new cluster, and let the application copy its data"
        )
        self.found = found
        self.wanted = wanted


class LeaseLost(BanyanError):
    """The node does not serve: it could not renew its lease in time, or another life of it has. `why`."""

    def __init__(self, why: str) -> None:
        super().__init__(f"this node does not serve shards now: {why}")
        self.why = why


def member_row(name: str) -> str:
    """The name of a node's row."""
    return _MEMBER + name


def check_cluster(found: Cluster, shards: int | None, bound: str) -> None:
    """Let a node into a cluster.

    Args:
        shards: how many it is configured for; None for whatever the cluster has.
        bound: the id of the cluster that its data belong to; "" for none yet.

    Raises: OtherShards, OtherCluster.
    """
    if bound and bound != found.id:
        raise OtherCluster(bound, found.id)
    if shards is not None and shards != found.shards:
        raise OtherShards(found.shards, shards)


def check_join(me: Member, found: Member | None, wall: float) -> int:
    """Let a node take its row; returns its creation, above that of the last life that bore the name.

    The same data in the same place are the same node, whose former life is dead: it held their lock.

    Raises: NameTaken.
    """
    if found is None:
        return max(me.creation, 1)
    again = bool(me.store) and (me.store, me.data) == (found.store, found.data)
    if not again and not found.left and wall < found.until:
        raise NameTaken(found, found.until - wall)
    return max(me.creation, found.creation + 1)


@final
@dataclass(frozen=True, slots=True)
class Changed:
    """Effect: another node is seen in another state than before; `before` is None for one that is new."""

    member: Member
    state: State
    before: State | None


@final
@dataclass(frozen=True, slots=True)
class Serve:
    """Effect: the lease holds (again): the node may claim shards and serve them."""


@final
@dataclass(frozen=True, slots=True)
class Cease:
    """Effect: stop serving all shards now. Only `Serve` undoes it, and nothing if it is `forever`."""

    why: str
    forever: bool = False


Effect = Changed | Serve | Cease


@final
class _Seen:
    """A member's row as it was first seen in this version."""

    __slots__ = ("member", "renewals", "since", "state", "version")

    def __init__(self, member: Member, version: int, since: float) -> None:
        self.member = member
        self.version = version
        self.since = since
        # How often this node has seen it change.
        self.renewals = 0
        self.state: State | None = None


@final
class Members:
    """One node's view of the cluster; the machine behind `runtime.cluster.membership`.

    Times are seconds of the node's monotonic clock, `wall` seconds since the Unix epoch.

    Args:
        me: this node's row, with the creation that `check_join` gave it.
        version: of the row that was written at the join.
        sent: when that was sent.
    """

    def __init__(self, me: Member, version: int, sent: float) -> None:
        self.me = me
        self.version = version
        self._sent = sent
        self._serving = False
        self._superseded = False
        self._seen: dict[str, _Seen] = {}

    @property
    def serving(self) -> bool:
        """Whether shards may be claimed and served, as far as was decided at the last event."""
        return self._serving

    @property
    def lease_end(self) -> float:
        """When this node has to stop serving, unless it renews before."""
        return self._sent + SERVE_SECONDS

    def nodes(self) -> dict[str, tuple[Member, State]]:
        """All that were ever members and what they are now, this node too."""
        found = {name: (seen.member, seen.state or "up") for name, seen in self._seen.items()}
        found[self.me.name] = (self.me, "up" if self._serving else "left" if self.me.left else "suspect")
        return dict(sorted(found.items()))

    def alive(self, *, sure: bool = False) -> list[str]:
        """The nodes that may own shards, in order: those up or, unless `sure`, suspect; this one if it serves."""
        states = ("up",) if sure else ("up", "suspect")
        me = self.me.name
        return [name for name, (_, state) in self.nodes().items() if state in states and (name != me or self._serving)]

    def renewal(self, wall: float, *, left: bool = False) -> Member:
        """The row to be written next, under `version`."""
        me = self.me
        return Member(me.name, me.address, me.creation, wall + LEASE_SECONDS, left, me.store, me.data)

    def renewed(self, row: Member, sent: float, now: float) -> list[Effect]:
        """The row was written; the lease runs from the moment at which that was sent.

        If it was over meanwhile, it was over, also if nobody has noticed: others may have acted on it.
        """
        lapsed = self.tick(now)
        self.version += 1
        self.me = row
        self._sent = max(self._sent, sent)
        if self._superseded:
            return lapsed
        if row.left:
            return lapsed + self._cease("it has left the cluster")
        if now < self.lease_end and not self._serving:
            self._serving = True
            return [*lapsed, Serve()]
        return lapsed + self.tick(now)

    def tick(self, now: float) -> list[Effect]:
        """Time has passed, or a renewal was not made."""
        if now >= self.lease_end:
            return self._cease(f"its lease was not renewed for {SERVE_SECONDS:g} s")
        return []

    def looked(self, rows: Mapping[str, tuple[int, Member]], began: float, now: float, wall: float) -> list[Effect]:
        """The members' rows, by the nodes' names, as they were at a moment between `began` and `now`.

        A node that was stopped while it looked blames nobody for the time.
        """
        effects: list[Effect] = []
        mine = rows.get(self.me.name)
        if mine is not None:
            effects += self._look_at_mine(*mine)
        for name, (version, member) in sorted(rows.items()):
            if name == self.me.name:
                continue
            seen = self._seen.get(name)
            if seen is None:
                seen = self._seen[name] = _Seen(member, version, now)
            elif seen.version != version:
                if seen.member.creation != member.creation:
                    seen.state = None  # a new life: told of as a new node
                seen.member, seen.version, seen.since = member, version, now
                seen.renewals += 1
            state = self._state(seen, began, wall)
            if state != seen.state:
                effects.append(Changed(member, state, seen.state))
                seen.state = state
        return effects + self.tick(now)

    def _look_at_mine(self, version: int, row: Member) -> list[Effect]:
        if row.creation != self.me.creation:
            self._superseded = True
            return self._cease(
                f"another node of this name has taken its place, at {row.address} (creation {row.creation})",
                forever=True,
            )
        # A renewal whose answer was lost. It does not count for the lease, since nobody knows when it was made.
        self.version = version
        return []

    @staticmethod
    def _state(seen: _Seen, began: float, wall: float) -> State:
        if seen.member.left:
            return "left"
        unchanged = began - seen.since
        if unchanged >= LEASE_SECONDS:
            return "down"
        stale = seen.renewals == 0 and wall >= seen.member.until
        return "suspect" if stale or unchanged >= SUSPECT_SECONDS else "up"

    def _cease(self, why: str, *, forever: bool = False) -> list[Effect]:
        if not self._serving and not forever:
            return []
        self._serving = False
        return [Cease(why, forever)]


def members_of(rows: Iterable[tuple[str, int, object]]) -> dict[str, tuple[int, Member]]:
    """The members among (name, version, value) rows of the coordination store, by the nodes' names."""
    return {value.name: (version, value) for _, version, value in rows if isinstance(value, Member)}
