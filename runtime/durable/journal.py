"""The journal's port: what a store of entries and snapshots promises, whoever keeps it.

A journal belongs to one node and has one owner at a time. Its only writing operation is `commit`: a group of
entries and snapshots of any processes, all of it or nothing. What `commit` returned from is durable: it
survives kill -9 and, on backends that keep files, power loss. A commit that raised StoreFull or
SequenceConflict left nothing behind; after StoreFailed the outcome is known only to the next open.

Each key has a dense sequence of entries from 1, and the journal is the referee: an entry that is not its
key's next one, or comes from an older epoch than the key has seen, is refused before anything is written, so
a process that lives twice by mistake cannot fork its history. Damage is found, not served: every read checks
the record's checksum, its key and its place.

The backends are `runtime.backends.memory` and `runtime.backends.lmdb`; one contract suite runs over both.
Source: the append-with-expected-version of event stores (Greg Young's EventStore); Kafka's epoch fence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Protocol, final, runtime_checkable

import msgspec

from ..errors import BanyanError, Misuse
from .carriage import Carriage
from .record import FORMAT, DamagedRecord, Entry, NewerRecord, Snapshot


class StoreError(BanyanError):
    """The root of what a store raises: what could not be done, why, and what to do next.

    `path` is the store's directory, or the name of one that lives in memory.
    """

    def __init__(self, path: str, what: str, why: str, advice: str) -> None:
        super().__init__(f"{what}: {why}; {advice}")
        self.path = path


class StoreInUse(StoreError):
    """Another owner has the store open.

    `pid` is its operating-system process, 0 if it left no number; `adopter` the node that has adopted it, or "".
    """

    def __init__(self, path: str, pid: int, adopter: str = "") -> None:
        owner = f"process {pid}" if pid else "another process"
        super().__init__(
            path,
            f"cannot open the store {path}",
            f"node {adopter} has adopted it ({owner})" if adopter else f"{owner} has it open",
            f"banyan adopt NODE --undo -n {adopter} has it given back"
            if adopter
            else "stop that node first, or name another data directory",
        )
        self.pid = pid
        self.adopter = adopter


class StoreMissing(StoreError):
    """A store that should only be read is not there."""

    def __init__(self, path: str) -> None:
        what, why = f"cannot read the store {path}", "no node has made one there"
        super().__init__(path, what, why, "check the name of the data directory")


class NoStore(Misuse):
    """A durable process was started on a node that keeps nothing; `process`, `node`."""

    def __init__(self, process: str, node: str) -> None:
        super().__init__(
            f"{process} is durable, but node {node!r} has no data directory: "
            "give it one (banyan start --data DIR, Node(data=...)), or data=':memory:' for a test"
        )
        self.process = process
        self.node = node


class StoreNotWritable(StoreError):
    """The directory cannot be made or written; `reason` is the operating system's."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, f"cannot write the store {path}", reason, "make the directory writable, or name another")
        self.reason = reason


class StoreNotReadable(StoreError):
    """A store that should only be read may not be; `reason` is the operating system's."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, f"cannot read the store {path}", reason, "ask as the user whose node it is")
        self.reason = reason


class StoreForeign(StoreError):
    """The directory holds something that is not this node's store; `found` names it. It was left alone."""

    def __init__(self, path: str, found: str) -> None:
        super().__init__(
            path,
            f"will not use {path} as a store",
            f"found {found}",
            "name an empty directory, or the one that belongs to this node",
        )
        self.found = found


class StoreNewer(StoreError):
    """The store, or a record in it, is of a later format: `found`, `supported`. It was left alone."""

    def __init__(self, path: str, found: int, supported: int = FORMAT) -> None:
        super().__init__(
            path,
            f"cannot read the store {path}",
            f"it is of format {found}, and this program reads up to {supported}",
            "use the program that wrote it, or a newer one",
        )
        self.found = found
        self.supported = supported


class StoreNotEmpty(StoreError):
    """A directory that should be filled holds something; `found` names it. Nothing was changed."""

    def __init__(self, path: str, found: str) -> None:
        super().__init__(path, f"will not write into {path}", f"it holds {found!r}", "name a new or an empty directory")
        self.found = found


class NotABackup(StoreError):
    """What should be restored is no whole backup; `reason`. Nothing was changed."""

    def __init__(self, path: str, reason: str, advice: str = "restore another backup") -> None:
        super().__init__(path, f"cannot restore from {path}", reason, advice)
        self.reason = reason


class PositionGone(StoreError):
    """A backup cannot be restored to the point that was asked for: `wanted`, `reason`. Nothing was changed."""

    def __init__(self, path: str, wanted: str, reason: str) -> None:
        advice = "name another point, or leave it out to restore all of the backup"
        super().__init__(path, f"cannot restore {path} to {wanted}", reason, advice)
        self.wanted = wanted
        self.reason = reason


class StoreDamaged(StoreError):
    """What is stored is not what was written; `found` says what was met.

    `key` and `sequence` name the record if it is one record: then the store goes on serving the others.
    """

    def __init__(self, path: str, found: str, key: str = "", sequence: int = 0) -> None:
        if key:
            what = f"will not serve {key!r} from record {sequence} of the store {path}"
        else:
            what = f"will not serve the store {path}"
        super().__init__(path, what, f"it is damaged: {found}", "restore it from a backup, it was left as it is")
        self.found = found
        self.key = key
        self.sequence = sequence


class StoreFull(StoreError):
    """There is no room left; `reason`. Nothing of the commit was written; later ones may succeed."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, f"cannot write to the store {path}", reason, "make room on its disk, then send it again")
        self.reason = reason


class StoreFailed(StoreError):
    """A write or read failed in a way after which nothing can be trusted; `reason`.

    The journal serves nothing more. Whether the commit under way is durable is known only when the store is
    opened again: a retried fsync would lie.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, f"the store {path} has failed", reason, "check its disk, then start the node again")
        self.reason = reason


class StoreClosed(StoreError, Misuse):
    """The journal was closed, or belongs to the process that this one was forked from; `reason`."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, f"cannot use the store {path}", reason, "open it anew")
        self.reason = reason


class EntriesDropped(StoreError):
    """Entries were asked for that the key's retention has dropped; `key`, `asked` and `first`, the first one kept."""

    def __init__(self, path: str, key: str, asked: int, first: int) -> None:
        super().__init__(
            path,
            f"cannot read entry {asked} of {key!r}",
            f"what was before entry {first} was dropped, as its process's retention says",
            f"read from {first} on, or from its snapshot",
        )
        self.key = key
        self.asked = asked
        self.first = first


class SequenceConflict(StoreError):
    """An entry or snapshot is not its key's next one. Nothing was written.

    `key`; `wanted` and `came` are sequences, or epochs if `what` is "epoch"; for a "snapshot" `wanted` is the
    key's last sequence, for a "floor" the highest one that is allowed. Somebody else has written since: recover
    the process from the journal.
    """

    def __init__(self, key: str, wanted: int, came: int, what: str = "sequence", path: str = "") -> None:
        super().__init__(
            path,
            f"cannot append to {key!r}",
            f"its {'next' if what == 'sequence' else 'last'} {'epoch' if what == 'epoch' else 'sequence'} is "
            f"{wanted}, got {f'a {what} of ' if what in ('snapshot', 'floor') else ''}{came}",
            "recover the process from the journal and decide again",
        )
        self.key = key
        self.wanted = wanted
        self.came = came
        self.what = what


class Fenced(StoreError):
    """A shard's process came under an epoch that may not write here (any more). Nothing was written.

    `shard`; `epoch` is the one it came under, `found` what the store's own row says.
    """

    def __init__(self, path: str, shard: int, epoch: int, found: Fence, *, staged: bool = False) -> None:
        if staged:
            why = "it is staged: what is here of it is not whole, or not this node's yet"
        elif found.epoch == epoch and found.sealed:
            why = f"epoch {epoch} was sealed: the shard is on its way to another owner"
        elif found.epoch:
            why = f"it was claimed here under epoch {found.epoch}{' and sealed' if found.sealed else ''}"
        else:
            why = "it was never claimed here"
        super().__init__(
            path,
            f"cannot serve shard {shard} under epoch {epoch} in the store {path}",
            why,
            "ask the coordination store who owns it now",
        )
        self.shard = shard
        self.epoch = epoch
        self.found = found


# The floors of a commit that drops nothing.
NO_FLOORS: Final[Mapping[str, int]] = MappingProxyType({})
# The fences of a commit of processes that belong to no shard.
NO_FENCES: Final[Mapping[int, int]] = MappingProxyType({})
# The homes of a commit of keys that were noted before, or belong to no shard.
NO_HOMES: Final[Mapping[str, int]] = MappingProxyType({})


@final
class Head(msgspec.Struct, frozen=True, gc=False):
    """Where a key stands: the sequence and the epoch of its last entry; (0, 0) before the first."""

    sequence: int = 0
    epoch: int = 0


@final
@dataclass(frozen=True, slots=True)
class Fence:
    """A shard's row in a node's own store: under which epoch it may be written here; (0, False) before a claim.

    `sealed`: under this epoch not any more either; only a claim under a higher epoch opens it again.
    `written`: something of the shard is kept here, or was, under whatever epoch.
    """

    epoch: int = 0
    sealed: bool = False
    written: bool = False


@final
@dataclass(frozen=True, slots=True)
class JournalStats:
    """Counts of one journal, read at one moment.

    Attributes:
        keys, entries, snapshots: how many are stored.
        commits: committed groups since this open, without empty ones.
        bytes_used: bytes that hold records, in the store's own terms.
        bytes_limit: bytes it can hold before it has to grow its map; 0 if it has none.
        position: of the last entry committed, counted over all keys from 1; 0 before the first.
        full: whether new entries are refused because there is no room.
    """

    keys: int
    entries: int
    snapshots: int
    commits: int
    bytes_used: int
    bytes_limit: int
    position: int = 0
    full: bool = False


@runtime_checkable
class Journal(Carriage, Protocol):
    """A node's store of entries and snapshots. Not for use from several threads at a time.

    Every operation raises StoreFailed once the store has failed, and StoreClosed after `close` or in a forked
    child. No operation waits for another process; each may wait for the disk.
    """

    @property
    def epoch(self) -> int:
        """The node's incarnation: one more, durably, at each open for writing; the last one when reading."""

    @property
    def path(self) -> str:
        """Where it is kept, for people."""

    def commit(
        self,
        entries: Sequence[Entry],
        snapshots: Sequence[Snapshot] = (),
        floors: Mapping[str, int] = NO_FLOORS,
        fences: Mapping[int, int] = NO_FENCES,
        homes: Mapping[str, int] = NO_HOMES,
    ) -> None:
        """Write entries, in their order, and snapshots; all or nothing; durable when it returns.

        Each entry is given its position (`Entry.feed`): one more than the last, over all keys and opens.

        Args:
            entries: of any keys; several of one key follow each other by sequence.
            snapshots: of any keys, up to the key's last entry, those of this commit included. Only a key's
                newest is kept; an older one than is stored is passed over.
            floors: by key, the first entry to keep: those below are read no more, and their room is used
                again in time. Each comes with a snapshot of its key, so that what is dropped is part of a
                state, and lies at most one beyond it; one below an earlier floor changes nothing.
            fences: the epoch by shard under which the group is written, for processes that belong to shards.
                Held against the shards' rows in the transaction that writes the group.
            homes: the shard of keys that are to be found by it (`shard_keys`), if they were not noted before.
                Of keys that have entries; a commit may have nothing else.

        Raises:
            Fenced: a shard's row has another epoch, or is sealed. Nothing was written.
            SequenceConflict: an entry's sequence is not its key's head + 1, its epoch is below the key's
                last, a snapshot lies beyond the head, or a floor beyond its snapshot. Nothing was written.
            Misuse: a record's value is out of its bounds, a key has a home and no entry, or the journal is
                read-only. Nothing was written.
            StoreFull: no room. Nothing was written, and no entries are taken until there is room again.
            StoreFailed: anything else; the journal is of no more use.
        """

    def head(self, key: str) -> int:
        """The sequence of a key's last entry, 0 if it has none."""

    def load(self, key: str) -> tuple[Snapshot | None, list[Entry]]:
        """A key's newest snapshot, if any, and all entries after it: what recovery needs.

        Raises:
            StoreDamaged: a record is damaged, missing or in another's place; names key and sequence.
            StoreNewer: a record is of a later format.
        """

    def first(self, key: str) -> int:
        """The first entry of a key that was not dropped, or would not be if it were there; 1 to begin with."""

    def read(self, key: str, after: int = 0, limit: int | None = None) -> list[Entry]:
        """A key's entries with sequences above `after`, in order, at most `limit`.

        Raises: as `load`, and EntriesDropped: entry `after` + 1 was dropped.
        """

    def keys(self, prefix: str = "") -> list[str]:
        """All keys with an entry that begin with `prefix`, ordered by their UTF-8 bytes."""

    def get_meta(self, name: str) -> bytes | None:
        """A small named value, or None."""

    def set_meta(self, name: str, value: bytes) -> None:
        """Keep a small named value (name 1 to 255 bytes, value at most 64 KiB); durable when it returns."""

    def claim(self, epochs: Mapping[int, int]) -> None:
        """From now on each of these shards (from 0 up) is written here under this epoch, and no other; durable.

        All or nothing. Whoever claims must own the shard under this epoch in the coordination store.

        Raises:
            Fenced: a shard was claimed here under this epoch or a higher one, or is staged; nothing was changed.
        """

    def seal(self, shard: int, epoch: int) -> None:
        """Nothing more is written here for a shard under this epoch; durable when it returns.

        Harmless if done twice. Raises: Fenced: the shard's row has another epoch.
        """

    def fence(self, shard: int) -> Fence:
        """A shard's row."""

    def stats(self) -> JournalStats:
        """Counts of what is stored."""

    def close(self) -> None:
        """Give the store free for another owner. Harmless if done twice."""


MAX_META = 64 << 10  # bytes of a named value


def advance(
    heads: dict[str, Head],
    entries: Sequence[Entry],
    snapshots: Sequence[Snapshot],
    path: str = "",
    floors: Mapping[str, int] = NO_FLOORS,
) -> None:
    """Move `heads` past a group, or refuse it: the one judgement that all backends share. Pure.

    Args:
        heads: the head of every key in the group; changed in place.

    Raises:
        SequenceConflict: as `Journal.commit`; then `heads` is of no more use.
    """
    for entry in entries:
        key, sequence, epoch = entry.key, entry.sequence, entry.epoch
        head = heads[key]
        if sequence != head.sequence + 1:
            raise SequenceConflict(key, head.sequence + 1, sequence, path=path)
        if epoch < head.epoch:
            raise SequenceConflict(key, head.epoch, epoch, "epoch", path)
        heads[key] = Head(sequence, epoch)
    for snapshot in snapshots:
        head = heads[snapshot.key]
        if not 1 <= snapshot.sequence <= head.sequence:
            raise SequenceConflict(snapshot.key, head.sequence, snapshot.sequence, "snapshot", path)
    for key, floor in floors.items():
        highest = max((snapshot.sequence + 1 for snapshot in snapshots if snapshot.key == key), default=0)
        if not 1 <= floor <= highest:
            raise SequenceConflict(key, highest, floor, "floor", path)


def touched(entries: Sequence[Entry], snapshots: Sequence[Snapshot]) -> list[str]:
    """The keys in a group, once each, in the order of their first appearance."""
    return list(dict.fromkeys([entry.key for entry in entries] + [snapshot.key for snapshot in snapshots]))


def newest(snapshots: Sequence[Snapshot]) -> dict[str, Snapshot]:
    """The newest snapshot of each key in a group."""
    kept: dict[str, Snapshot] = {}
    for snapshot in snapshots:
        other = kept.get(snapshot.key)
        if other is None or snapshot.sequence >= other.sequence:
            kept[snapshot.key] = snapshot
    return kept


def checked_entry(data: bytes, key: str, sequence: int, path: str) -> Entry:
    """The entry in `data`, which lies in the place of `key` and `sequence`; errors as for `Journal.load`."""
    try:
        return Entry.unpack(data, key=key, sequence=sequence)
    except DamagedRecord as error:
        raise StoreDamaged(path, f"wanted {error.wanted}, found {error.found}", key, sequence) from error
    except NewerRecord as error:
        raise StoreNewer(path, error.found) from error


def checked_snapshot(data: bytes, key: str, path: str) -> Snapshot:
    """The snapshot in `data`, which lies in the place of `key`; errors as for `Journal.load`."""
    try:
        return Snapshot.unpack(data, key=key)
    except DamagedRecord as error:
        raise StoreDamaged(
            path, f"its snapshot: wanted {error.wanted}, found {error.found}", key, error.sequence
        ) from error
    except NewerRecord as error:
        raise StoreNewer(path, error.found) from error


def check_meta(name: str, value: bytes) -> bytes:
    """A named value's key in the store; Misuse if the name or the value is too long."""
    raw = name.encode()
    if not 1 <= len(raw) <= 255 or len(value) > MAX_META:
        raise Misuse(
            f"wanted a name of 1 to 255 bytes and a value of at most {MAX_META}, got {len(raw)} and "
            f"{len(value)}: keep what is larger in a process"
        )
    return raw
