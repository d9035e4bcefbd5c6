"""The changes of a shard's row with which it moves: the plan, the target's commit, the source's abort.

    plan     by the source: (S, e) -> (S, e, move to T). The epoch stays, and S goes on serving.
    clear    by the source, before its seal: (S, e, move) -> (S, e).
    commit   by the target, with the token: (S, e, move) -> (T, e + 1), at home in T's store.
    abort    by the source, after its seal: (S, e, move) -> (S, e + 1).

Of a commit and an abort one wins, because each sets the row from the version that the other one wants too; so does
each from a claim by a new life of S, or by whoever holds S's store, which makes the move void. A change whose answer
was lost may have been made, or be made later, so nobody acts on it: what counts is a row that was read afterwards, or
the same change made again. A row that names a move which nobody conducts is cleared by its owner's next look.

They are for the process that conducts the moves of a node (`Membership.conduct`), and they change the node's own view
at once. Source: docs/moves.md; the compare-and-set of `coordination`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from .coordination import Change, CoordinationUnreachable
from .membership import Membership
from .placement import Shard, shard_row, shards_of


async def plan(membership: Membership, shard: int, move: str, target: str) -> str | None:
    """Write a move into the row of a shard that this node serves.

    Args:
        move: its id, unique for ever.
        target: the node that it goes to; the row names the life that it has now.

    Returns: None, and from now on this node's moves count this one among them, until `clear`, `abort`, `resumed` or
        `gone`; or why it cannot be.

    Raises: CoordinationUnreachable: there was no answer. If the row is changed all the same, it is cleared.
    """
    placement = membership.placement
    why = _refusal(membership, shard, target)
    if why is not None:
        return why
    version, row = placement.row(shard)
    planned = replace(row, move=move, target=target, target_creation=membership.members()[target].creation)
    placement.conduct(shard, move)
    made = False
    try:
        made = await _change(membership, shard, version, planned)
    finally:
        if not made:
            placement.conduct(shard, "")
    return None if made else f"the row of shard {shard} was changed by somebody else: try again"


def _refusal(membership: Membership, shard: int, target: str) -> str | None:
    """Why a shard cannot be planned to move."""
    placement, member = membership.placement, membership.members().get(target)
    if not 0 <= shard < placement.shards:
        return f"there is no shard {shard}: they count from 0 to {placement.shards - 1}"
    row = placement.row(shard)[1]
    if membership.serves(shard) is None:
        owner = f"{row.owner} does" if row.owner not in ("", placement.name) else "nobody does now"
        return f"{placement.name} does not serve shard {shard}: {owner}"
    if row.move or placement.conducts(shard) or placement.in_hand(shard):
        return f"shard {shard} is moving to {row.target or 'another node'} already"
    if placement.is_adopted(shard):
        return f"shard {shard} lies in a store that {placement.name} has adopted"
    if target == placement.name:
        return f"shard {shard} is {target}'s own already"
    if member is None:
        return f"no node named {target!r} was ever in the cluster"
    if member.state != "up":
        return f"{target} is {member.state}"
    if member.draining:
        return f"{target} is draining"
    return None


async def clear(membership: Membership, shard: int, move: str) -> None:
    """Take a move out of its shard's row; before the seal only. A row that does not name it is left alone.

    Raises: CoordinationUnreachable: there was no answer; the row is cleared in a later round.
    """
    placement = membership.placement
    if placement.conducts(shard) == move:
        placement.conduct(shard, "")
    version, row = placement.row(shard)
    while row.move == move and placement.is_ours(row):
        if await _change(membership, shard, version, row.resting()):
            return
        await look(membership, shard)
        version, row = placement.row(shard)


async def commit(membership: Membership, shard: int, epoch: int, move: str) -> Literal["won", "lost"]:
    """Take a shard for this node, which has the token and all its records durably, and its fence claimed.

    One compare-and-set and nothing else, if this node has seen the row since the plan (`look`). From here on the
    move has the shard in hand, until `arrived` or `gone`.

    Args:
        epoch: under which the source sealed it.

    Returns: "won": the shard and its records are this node's, see `Membership.arrived` for what may be served. "lost":
        they are not, nor will they be by this move.

    Raises: CoordinationUnreachable: it is not known; try again, or `look`.
    """
    placement = membership.placement
    placement.take(shard)
    fresh = False
    while True:
        version, row = placement.row(shard)
        if placement.is_here(row) and row.epoch > epoch:
            return "won"
        if (row.epoch, row.move, row.target) == (epoch, move, placement.name):
            _check_lease(membership, "commit a move")
            placement.try_for(shard, epoch + 1)
            if await _change(membership, shard, version, placement.claim_of(row)):
                return "won"
        elif fresh:
            membership.gone(shard)
            return "lost"
        await look(membership, shard)
        fresh = True


async def abort(membership: Membership, shard: int, epoch: int) -> int | None:
    """Take a sealed shard back for this node, which is its source.

    Args:
        epoch: under which it was sealed.

    Returns: the epoch under which it is this node's, see `Membership.resumed`; None if it is somebody else's, by
        the move or by a claim.

    Raises: CoordinationUnreachable: it is not known; try again, or `look`.
    """
    placement = membership.placement
    fresh = False
    while True:
        version, row = placement.row(shard)
        if placement.is_mine(row) and row.epoch == epoch:
            _check_lease(membership, "take a shard back")
            placement.try_for(shard, epoch + 1)
            back = replace(placement.claim_of(row), home=row.home)
            if await _change(membership, shard, version, back):
                return epoch + 1
        elif fresh:
            return row.epoch if placement.is_mine(row) else None
        await look(membership, shard)
        fresh = True


async def look(membership: Membership, shard: int) -> Shard:
    """A shard's row as it is now.

    Raises: CoordinationUnreachable: there was no answer in time.
    """
    name = shard_row(shard)
    found = (await membership.rows.read(name, deadline=membership.deadline())).get(name)
    if found is not None:
        for version, row in shards_of([(name, found.version, found.value)]).values():
            membership.seen(shard, version, row)
    return membership.placement.row(shard)[1]


async def _change(membership: Membership, shard: int, expected: int, row: Shard) -> bool:
    """Set a shard's row; whether it holds."""
    change = Change(shard_row(shard), expected, row.stored())
    made = (await membership.rows.change([change], deadline=membership.deadline()))[0]
    if made:
        membership.placement.changed(shard, expected + 1, row)
    return made


def _check_lease(membership: Membership, what: str) -> None:
    if not membership.serving:
        raise CoordinationUnreachable(what, "the lease of this node is over")
