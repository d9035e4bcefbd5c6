"""The audit: read a card room out of its journal, after its node has ended, and count every chip.

It uses the whole history of each process, no snapshot and no cache, so it also checks those.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, final

from runtime import Journal, Past
from runtime.cluster.shards import shard_of
from runtime.errors import BanyanError

from .messages import TableState, Transfer, WalletState
from .table import Table
from .wallet import Wallet

# (receiver, sender, number): what identifies a numbered command.
CommandId = tuple[str, str, int]


@final
class TwoHomes(BanyanError):
    """The stores of a cluster do not agree whose a record is; `key`, and in how many it may be written."""

    def __init__(self, key: str, homes: int) -> None:
        found = "none of the stores" if not homes else f"{homes} stores at once"
        super().__init__(f"the record of {key} may be written in {found}: wanted it in one")
        self.key = key
        self.homes = homes


@final
@dataclass(frozen=True, slots=True)
class Audit:
    """What the journal says.

    Attributes:
        granted: chips that the house gave to wallets, in hundredths.
        held: chips in wallets, at tables, in hands and on their way.
        commands: journalled numbered commands.
        entries: journal entries of wallets and tables.
        hands: hands that have ended.
        lost: acknowledged commands that are not in the journal.
        doubled: commands that were applied more than once.
    """

    granted: int
    held: int
    commands: int
    entries: int
    hands: int
    lost: tuple[CommandId, ...] = field(repr=False)
    doubled: tuple[CommandId, ...] = field(repr=False)


def homes(stores: Sequence[Journal], shards: int, prefix: str) -> dict[str, Journal]:
    """Which store holds the record of each key that begins with `prefix`, in a cluster of so many shards.

    A shard that has moved leaves a sealed copy behind for a while; one that is on its way is staged. Neither counts.

    Raises:
        TwoHomes: a record may be written in no store, or in several.
    """
    staged = [frozenset(journal.staged()) for journal in stores]
    found: dict[str, list[Journal]] = {}
    for journal, coming in zip(stores, staged, strict=True):
        for key in journal.keys(prefix):
            kind, _, name = key.partition("/")
            shard = shard_of(kind, name, shards)
            fence = journal.fence(shard)
            there = found.setdefault(key, [])
            if fence.epoch and not fence.sealed and shard not in coming:
                there.append(journal)
    for key, there in found.items():
        if len(there) != 1:
            raise TwoHomes(key, len(there))
    return {key: there[0] for key, there in found.items()}


def audit(journals: Journal | Sequence[Journal], acknowledged: Iterable[CommandId] = (), *, shards: int = 0) -> Audit:
    """Count the chips of a room and look for its commands.

    Args:
        journals: opened while no node uses it; those of all nodes of a cluster.
        acknowledged: commands whose senders got a reply.
        shards: how many the cluster has; 0: it is the store of a node of its own.

    Raises:
        StoreDamaged: a record is damaged.
        TwoHomes: a record has more than one owner, or none.
    """
    stores = journals if isinstance(journals, Sequence) else (journals,)

    def of(kind: str) -> dict[str, Journal]:
        if shards:
            return homes(stores, shards, kind)
        return {key: journal for journal in stores for key in journal.keys(kind)}

    wallets = [Wallet.past(journal, key) for key, journal in of("wallet/").items()]
    tables = [Table.past(journal, key) for key, journal in of("table/").items()]
    everyone: list[Past[Any]] = [*wallets, *tables]
    applied: Counter[CommandId] = Counter(
        (past.key, sender, number) for past in everyone for sender, number in past.commands
    )
    held = sum(_in_wallet(past.key, past.state, applied) for past in wallets)
    held += sum(_at_table(past.key, past.state, applied) for past in tables)
    lost = tuple(one for one in acknowledged if one not in applied)
    return Audit(
        granted=sum(past.state.granted for past in wallets),
        held=held,
        commands=sum(applied.values()),
        entries=sum(past.sequence for past in everyone),
        hands=sum(past.state.hands for past in tables),
        lost=lost,
        doubled=tuple(one for one, times in applied.items() if times > 1),
    )


def _in_wallet(key: str, state: WalletState, applied: Counter[CommandId]) -> int:
    return state.balance + _under_way(key, state.open, applied)


def _at_table(key: str, state: TableState, applied: Counter[CommandId]) -> int:
    in_hand = sum(state.hand.stacks) if state.hand is not None else 0
    seats = sum(seat.stack for seat in state.seats)
    return seats + in_hand + _under_way(key, state.payouts, applied)


def _under_way(key: str, transfers: Iterable[Transfer], applied: Counter[CommandId]) -> int:
    """Chips of transfers that have left here and not arrived yet."""
    return sum(one.amount for one in transfers if (one.to, key, one.number) not in applied)
