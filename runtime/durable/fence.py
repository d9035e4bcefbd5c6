"""The fence: which epoch of a shard may be written in a node's own store, and who a process writes for.

Who owns a shard, and under which epoch, stands in the coordination store; leases say when a claim is worth a
try. Neither can stop an owner that was paused and does not know that it is none any more. What can is a row
in the store that it writes to: (epoch, sealed, written), held against the epoch of each commit in the same transaction.
An owner claims its epoch here before it serves, and seals it here before it gives the shard away.

    name of the row   shard/00042, a value of `Journal.set_meta`'s kind
    value             u64 epoch, u8 flags: 1 sealed, 2 written; big-endian

The rules are pure; a backend applies them within its transaction. `seal_shard` keeps a node's two stores at one;
the relaxed one is claimed when the first process of the shard starts there. Source: promise P3; Kafka's producer
epochs; "fencing tokens" as in Kleppmann's "How to do distributed locking".
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, final

from ..errors import Misuse
from .journal import Fence, Fenced, Journal, StoreDamaged
from .record import Entry, Snapshot

if TYPE_CHECKING:
    from .writer import OnDemand

_ROW = struct.Struct(">QB")
MAX_SHARD: Final = 65535
MAX_EPOCH: Final = (1 << 64) - 1
_SEALED: Final = 1
_WRITTEN: Final = 2


def row_of(shard: int) -> str:
    """The name of a shard's row. Raises: Misuse: that is no shard's number."""
    if type(shard) is not int or not 0 <= shard <= MAX_SHARD:
        raise Misuse(f"wanted a shard's number from 0 to {MAX_SHARD}, got {shard!r}")
    return f"shard/{shard:05d}"


def pack_fence(fence: Fence) -> bytes:
    """The value of a shard's row."""
    return _ROW.pack(fence.epoch, fence.sealed * _SEALED | fence.written * _WRITTEN)


def unpack_fence(value: bytes | None, shard: int, path: str) -> Fence:
    """The fence in a row's value, that of a shard nobody has claimed if there is none; StoreDamaged."""
    if value is None:
        return Fence()
    if len(value) != _ROW.size or value[-1] > _SEALED | _WRITTEN:
        raise StoreDamaged(path, f"the row of shard {shard} does not hold what was written")
    epoch, flags = _ROW.unpack(value)
    return Fence(epoch, bool(flags & _SEALED), bool(flags & _WRITTEN))


def check_epoch(shard: int, epoch: int) -> None:
    """Raises: Misuse: it is no epoch."""
    if type(epoch) is not int or not 1 <= epoch <= MAX_EPOCH:
        raise Misuse(f"wanted an epoch from 1 to {MAX_EPOCH} for shard {shard}, got {epoch!r}")


def claimed(path: str, shard: int, epoch: int, found: Fence) -> Fence:
    """The row after a claim. Raises: Fenced: its epoch is not above the row's. Misuse: it is no epoch."""
    check_epoch(shard, epoch)
    if epoch <= found.epoch:
        raise Fenced(path, shard, epoch, found)
    return Fence(epoch, written=found.written)


def sealed(path: str, shard: int, epoch: int, found: Fence) -> Fence:
    """The row after a seal. Raises: Fenced: its epoch is not the row's."""
    if epoch != found.epoch or not epoch:
        raise Fenced(path, shard, epoch, found)
    return Fence(epoch, sealed=True, written=found.written)


def check_fence(path: str, shard: int, epoch: int, found: Fence) -> None:
    """Let a write through. Raises: Fenced: another epoch, or sealed."""
    if epoch != found.epoch or found.sealed or not epoch:
        raise Fenced(path, shard, epoch, found)


def written(path: str, shard: int, epoch: int, found: Fence) -> Fence:
    """The row with the first commit, and each later one, of a shard. Raises: as `check_fence`."""
    check_fence(path, shard, epoch, found)
    return Fence(epoch, written=True)


def judge_shards(
    journal: Journal, group: Iterable[tuple[Entry | Snapshot, int]]
) -> tuple[dict[int, int], dict[int, Fenced | None]]:
    """The fences for the commit of a group, and what bars each of its records, by id; None if nothing does.

    Asked before the commit, which asks again, so that a shard that was given away does not fail the others.

    Args:
        group: records of processes that belong to shards, and the shards.
    """
    fences: dict[int, int] = {}
    refused: dict[tuple[int, int], Fenced | None] = {}
    barred: dict[int, Fenced | None] = {}
    for record, shard in group:
        place = shard, record.epoch
        if place not in refused:
            try:
                check_fence(journal.path, *place, journal.fence(shard))
            except Fenced as error:
                refused[place] = error
            else:
                refused[place] = None
                fences[shard] = record.epoch
        barred[id(record)] = refused[place]
    return fences, barred


@final
class NodeFences:
    """The fences of a node's two stores as its membership asks for them (`runtime.cluster.membership.Fences`).

    Args:
        main, relaxed: the node's stores.
    """

    def __init__(self, main: Journal, relaxed: OnDemand | None = None) -> None:
        self._main = main
        self._relaxed = relaxed

    def claim(self, epochs: Mapping[int, int]) -> Sequence[int]:
        """Claim shards in one commit; those that the store refused. Raises what a write raises, but for Fenced."""
        try:
            self._main.claim(epochs)
        except Fenced:
            return [shard for shard, epoch in epochs.items() if not self._claim_one(shard, epoch)]
        return ()

    def _claim_one(self, shard: int, epoch: int) -> bool:
        try:
            self._main.claim({shard: epoch})
        except Fenced:
            return False
        return True

    def seal(self, shard: int, epoch: int) -> bool:
        """Seal a shard; False, and it stays open, if something of it is here or it is another epoch's."""
        if self.written(shard):
            return False
        try:
            seal_shard(self._main, self._relaxed, shard, epoch)
        except Fenced:
            return False
        return True

    def written(self, shard: int) -> bool:
        """Whether something of a shard is in either store."""
        relaxed = self._relaxed
        return self._main.fence(shard).written or (
            relaxed is not None and relaxed.made and relaxed.journal.fence(shard).written
        )


def seal_shard(main: Journal, relaxed: OnDemand | None, shard: int, epoch: int) -> None:
    """Seal a shard in a node's stores, durable when it returns. What was handed to a writer goes in before or never.

    Raises: Fenced: it is another epoch's. Whatever a write raises; then it may be sealed in part: seal it again.
    """
    main.seal(shard, epoch)
    if relaxed is not None and relaxed.made and relaxed.journal.fence(shard).epoch == epoch:
        relaxed.journal.seal(shard, epoch)
